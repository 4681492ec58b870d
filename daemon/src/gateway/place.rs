//! Where a view is seen: the directory of the share. Beneath it, when no view is mounted, nobody can read or write
//! anything, so that a share without its view takes no file in the clear: root owns it, it is empty, has no permissions,
//! and is immutable where the file system knows that, which holds up root (and with it `admin users` of a share) too.
//! A view that a killed daemon left is taken away first.

use crate::view::Mount;
use rustix::fs::{Mode, OFlags, ResolveFlags, fchmod, fstat, openat2};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// A place that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to use {path} as the mount point of a view: {why}")]
pub struct PlaceError {
    /// The directory.
    pub path: PathBuf,
    /// Why not.
    pub why: String,
}

/// One mount point, made safe.
#[derive(Debug)]
pub(super) struct Place {
    at: PathBuf,
    private: PathBuf,
}

impl Place {
    /// Takes away what an earlier run left and closes the directory beneath. `number` is the view's own in `views`.
    pub(super) fn prepare(at: &Path, views: &Path, number: usize) -> Result<Self, PlaceError> {
        let private = views.join(number.to_string());
        let fail = |path: &Path, why: String| PlaceError { path: path.to_owned(), why };
        for path in [at, &private] {
            take_away(path).map_err(|why| fail(path, why))?;
        }
        close(at).map_err(|why| fail(at, why))?;
        make_private(views).and_then(|()| make_private(&private)).map_err(|why| fail(&private, why))?;
        Ok(Self { at: at.to_owned(), private })
    }

    /// Where the share finds the view.
    pub(super) fn at(&self) -> &Path {
        &self.at
    }

    /// Where the view is mounted, out of everybody's reach.
    pub(super) fn private(&self) -> &Path {
        &self.private
    }

    /// Shows what is mounted.
    pub(super) fn show(&self) -> io::Result<()> {
        Ok(mount_bind(&self.private, &self.at)?)
    }

    /// Shows it no more, even if the share has files open there.
    pub(super) fn hide(&self) -> io::Result<()> {
        Ok(unmount(&self.at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
    }
}

fn make_private(path: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let directory = open(path)?;
            let stat = fstat(&directory).map_err(|error| error.to_string())?;
            if stat.st_uid != 0 {
                return Err(String::from("it belongs to somebody else than root"));
            }
            fchmod(&directory, Mode::RWXU).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn open(path: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(
        rustix::fs::CWD,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(|error| match error {
        Errno::LOOP => String::from("a symbolic link leads there"),
        error => error.to_string(),
    })
}

/// Nobody writes into, or reads, the directory itself.
fn close(path: &Path) -> Result<(), String> {
    let stat = fstat(open(path)?).map_err(|error| error.to_string())?;
    if stat.st_uid != 0 {
        return Err(String::from("it must belong to root"));
    }
    // What lay there would be hidden by the view, and is not sealed.
    Mount::prepare(path).map_err(|error| error.to_string())
}

/// Unmounts views that are still there from a daemon that was killed, however many lie on each other.
fn take_away(path: &Path) -> Result<(), String> {
    let table = std::fs::read("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    for what in mounted_at(&table, path) {
        if !matches!(what.as_str(), "fuse tobari" | "fuse.tobari tobari") {
            return Err(format!("something else is mounted there ({what})"));
        }
        tracing::warn!(path = %path.display(), "a view of an earlier run is taken away");
        unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What is mounted at a path, kind and source, from `mountinfo` (proc(5)), the uppermost first.
fn mounted_at(table: &[u8], path: &Path) -> Vec<String> {
    let mut mounted: Vec<String> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let point = unescape(fields.nth(4)?);
            let mut after = fields.skip_while(|field| *field != b"-").skip(1);
            let (kind, source) = (after.next()?, after.next()?);
            let text = |field| String::from_utf8_lossy(field).into_owned();
            (point == path).then(|| format!("{} {}", text(kind), text(source)))
        })
        .collect();
    mounted.reverse();
    mounted
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn mounts_are_found_by_their_unescaped_path() {
        let table = b"22 1 0:21 / /proc rw - proc proc rw\n\
            40 22 0:50 / /srv/a\\040b\\134c rw,nosuid shared:7 - fuse tobari rw\n\
            41 22 8:1 / /srv/a\\040b\\134c rw - ext4 /dev/sda1 rw\nshort\n";
        let path = PathBuf::from(OsStr::from_bytes(b"/srv/a b\\c"));
        assert_eq!(mounted_at(table, &path), ["ext4 /dev/sda1", "fuse tobari"]);
        assert!(mounted_at(table, Path::new("/srv")).is_empty());
    }

    #[test]
    fn only_an_empty_directory_of_root_becomes_a_mount_point() {
        if !rustix::process::geteuid().is_root() {
            return crate::testing::skipped("not root: mount points belong to root");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["full", "others", "good"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("full").join("a"), "left").unwrap();
        std::os::unix::fs::chown(path("others"), Some(1), None).unwrap();
        std::os::unix::fs::symlink(path("good"), path("link")).unwrap();
        let views = path("views");
        for (name, why) in
            [("full", "not empty"), ("others", "belong to root"), ("link", "link"), ("none", "")]
        {
            let error = Place::prepare(&path(name), &views, 0).unwrap_err();
            assert!(error.to_string().contains(why), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }

        let good = path("good");
        let place = Place::prepare(&good, &views, 0).unwrap();
        let again = Place::prepare(&good, &views, 0).map(drop);
        let directory = open(&good).unwrap();
        let flags = ioctl_getflags(&directory);
        let locked = flags.is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE));
        let written = fs::write(good.join("a"), "plain");
        let mode = fstat(&directory).unwrap().st_mode & 0o7777;
        let (private, views_mode) = (fs::metadata(place.private()), fs::metadata(&views));
        // Undone before anything can fail: a temporary directory must be removable.
        if locked {
            let flags = ioctl_getflags(&directory).unwrap();
            ioctl_setflags(&directory, flags - IFlags::IMMUTABLE).unwrap();
        }
        again.unwrap();
        assert_eq!(mode, 0);
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(private.unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(views_mode.unwrap().permissions().mode() & 0o777, 0o700);
        if locked {
            assert!(written.is_err(), "not even root writes beneath a view");
        } else {
            crate::testing::skipped("this file system knows no immutable directories");
        }
    }
}

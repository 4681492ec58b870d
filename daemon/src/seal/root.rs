//! A designated folder, held by descriptors: everything in it is reached from here, beneath here, without
//! following a symbolic link and without leaving the file system.
//!
//! The control directory `.tobari` at its top is ours alone (0700): envelopes in the making and
//! the journal lie there, on the same file system as the files, out of users' sight.

use super::exchange::Exchange;
use super::facts::Facts;
use super::stop::Stop;
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, ResolveFlags, fchmod, flock, fremovexattr, fstatfs,
    mkdirat, openat, openat2, unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::proto::control::UnsealedReason;

/// Name of the control directory at the top of each designated folder.
pub const CONTROL: &str = ".tobari";

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_MAGICLINKS);

/// File systems on which leases, and so the whole protocol, do not see what other hosts do.
const REMOTE: [(u32, &str); 12] = [
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];

/// Why a folder cannot be worked on now.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The path is not absolute, or is the root of the system.
    #[error("{0:?} is not a folder that can be designated: an absolute path below the root is needed")]
    BadPath(PathBuf),
    /// It cannot be opened.
    #[error("cannot open the folder: {0}")]
    Open(#[source] Errno),
    /// The path leads through a symbolic link.
    #[error("the folder's path leads through a symbolic link; give its real path")]
    Symlink,
    /// A network file system.
    #[error(
        "the folder lies on {0}, where writers on other hosts cannot be seen; run the daemon on the host that stores it"
    )]
    Remote(&'static str),
    /// `.tobari` is not ours.
    #[error("{CONTROL} in the folder is not a directory of the daemon: {0}; remove it")]
    ForeignControl(&'static str),
    /// `.tobari` cannot be made or opened.
    #[error("cannot prepare {CONTROL} in the folder: {0}")]
    Control(#[source] Errno),
    /// Another daemon works on it.
    #[error("another daemon works on this folder")]
    Locked,
}

/// A directory, and the path by which it was opened.
pub(crate) type Parent = (PathBuf, Arc<OwnedFd>);

/// An open designated folder.
#[derive(Debug)]
pub struct FolderRoot {
    path: PathBuf,
    top: OwnedFd,
    control: OwnedFd,
    facts: Facts,
    control_facts: Facts,
    pending: Mutex<Vec<Exchange>>,
}

impl FolderRoot {
    /// Opens the folder at `path` and its control directory, making that where it is missing.
    ///
    /// # Errors
    /// When the folder is missing, remote, or its control directory is somebody else's.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        if !path.is_absolute() || path.parent().is_none() {
            return Err(FolderError::BadPath(path.to_owned()));
        }
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let top = openat2(CWD, path, directory, Mode::empty(), no_links).map_err(|errno| match errno {
            Errno::LOOP => FolderError::Symlink,
            errno => FolderError::Open(errno),
        })?;
        refuse_remote(&top)?;
        let facts = Facts::of(&top).map_err(FolderError::Open)?;
        let (control, control_facts) = open_control(&top, directory)?;
        Ok(Self { path: path.to_owned(), top, control, facts, control_facts, pending: Mutex::default() })
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads here and the control directory is still in its place.
    pub fn is_in_place(&self) -> bool {
        let same_top = Facts::at(CWD, self.path.as_os_str()).is_ok_and(|now| now.same_file(&self.facts));
        same_top
            && Facts::at(&self.top, OsStr::new(CONTROL)).is_ok_and(|now| now.same_file(&self.control_facts))
    }

    /// The control directory.
    pub(crate) fn control(&self) -> &OwnedFd {
        &self.control
    }

    /// Device of the folder, major and minor; the numbers hold until it is unmounted.
    pub(crate) fn device(&self) -> (u32, u32) {
        self.facts.device
    }

    /// The control directory, opened anew: its own view of the file system's write errors.
    pub(crate) fn reopen_control(&self) -> Result<OwnedFd, Errno> {
        openat(&self.control, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Exchanges that could not be ended because somebody uses one of the files.
    pub(crate) fn pending(&self) -> MutexGuard<'_, Vec<Exchange>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`FolderRoot::open_directory`], for the directory of a file to seal.
    pub(crate) fn open_parent(&self, relative: &Path) -> Result<OwnedFd, Stop> {
        self.open_directory(relative).map_err(|errno| match errno {
            // Moved, removed, or replaced by a symbolic link, which may lead anywhere.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE => Stop::Vanished,
            Errno::XDEV => {
                Stop::refused(UnsealedReason::OtherFileSystem, "another file system is mounted there")
            }
            errno => errno.into(),
        })
    }

    /// The directory of the file `relative`, which is the `last` one if that was opened by the same path: files that are sealed
    /// together mostly lie together.
    pub(crate) fn directory_of(
        &self,
        relative: &Path,
        last: &mut Option<Parent>,
    ) -> Result<Arc<OwnedFd>, Stop> {
        let path = relative.parent().unwrap_or(Path::new(""));
        if let Some((_, directory)) = last.as_ref().filter(|(of, _)| of == path) {
            return Ok(Arc::clone(directory));
        }
        let directory = Arc::new(self.open_parent(path)?);
        *last = Some((path.to_owned(), Arc::clone(&directory)));
        Ok(directory)
    }

    /// Opens a directory in the folder by its path relative to the top (empty for the top itself).
    pub(crate) fn open_directory(&self, relative: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
        if relative.as_os_str().is_empty() {
            return openat(&self.top, c".", flags.difference(OFlags::NOFOLLOW), Mode::empty());
        }
        openat2(&self.top, relative, flags, Mode::empty(), BENEATH)
    }
}

/// Opens a directory entry for reading if it is a regular file, and says what it is. A FIFO, device or socket is never
/// opened, not even when it takes the file's place meanwhile: the second open goes through the first
/// descriptor (`O_PATH`, which opens nothing) and so to the same inode.
///
/// Fails with `EAGAIN` when another program holds a lease on it.
pub(crate) fn open_regular(directory: impl AsFd, name: &OsStr) -> Result<(File, Facts), Stop> {
    let (path, facts) = probe(directory, name)?;
    open_probed(&path, facts)
}

/// As [`open_regular`], for what [`probe`] found.
pub(crate) fn open_probed(path: &OwnedFd, facts: Facts) -> Result<(File, Facts), Stop> {
    if facts.file_type() != FileType::RegularFile {
        return Err(Stop::Vanished);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let through = format!("/proc/self/fd/{}", path.as_raw_fd());
    let file = match openat(CWD, through.as_str(), flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner and CAP_FOWNER may leave the access time alone.
        Err(Errno::PERM) => openat(CWD, through.as_str(), flags, Mode::empty())?,
        other => other?,
    };
    Ok((File::from(file), facts))
}

/// What a directory entry is, without opening it.
pub(crate) fn probe(directory: impl AsFd, name: &OsStr) -> Result<(OwnedFd, Facts), Stop> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = BENEATH.difference(ResolveFlags::NO_SYMLINKS);
    let path = openat2(directory, name, flags, Mode::empty(), resolve).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE => Stop::Vanished,
        Errno::XDEV => Stop::refused(UnsealedReason::OtherFileSystem, "another file system is mounted there"),
        errno => errno.into(),
    })?;
    let facts = Facts::of(&path)?;
    Ok((path, facts))
}

/// Whether `relative` is a path that may be used: names only, no `..`, not empty.
pub(crate) fn is_plain(relative: &Path) -> bool {
    !relative.as_os_str().is_empty() && relative.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Whether `relative` is the control directory or lies in it.
pub(crate) fn is_control(relative: &Path) -> bool {
    relative.components().next() == Some(Component::Normal(OsStr::new(CONTROL)))
}

fn refuse_remote(top: &OwnedFd) -> Result<(), FolderError> {
    let kind = fstatfs(top).map_err(FolderError::Open)?.f_type;
    // The field's type differs between architectures; all magic numbers fit in 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "magic numbers are 32 bits")]
    let kind = kind as u32;
    REMOTE.iter().find(|(magic, _)| *magic == kind).map_or(Ok(()), |(_, name)| Err(FolderError::Remote(name)))
}

fn open_control(top: &OwnedFd, directory: OFlags) -> Result<(OwnedFd, Facts), FolderError> {
    let mode = Mode::RWXU;
    match mkdirat(top, CONTROL, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(FolderError::Control(errno)),
    }
    let control = openat2(top, CONTROL, directory, Mode::empty(), BENEATH).map_err(|errno| match errno {
        Errno::LOOP | Errno::NOTDIR => FolderError::ForeignControl("it is not a directory"),
        Errno::XDEV => FolderError::ForeignControl("it is on another file system"),
        errno => FolderError::Control(errno),
    })?;
    let facts = Facts::of(&control).map_err(FolderError::Control)?;
    if facts.uid != rustix::process::geteuid().as_raw() {
        return Err(FolderError::ForeignControl("it belongs to somebody else"));
    }
    match flock(&control, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Err(FolderError::Locked),
        Err(errno) => return Err(FolderError::Control(errno)),
    }
    // A default ACL of the folder would be inherited by the directory and then by each envelope in it.
    match fremovexattr(&control, c"system.posix_acl_default") {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(FolderError::Control(errno)),
    }
    match fremovexattr(&control, c"system.posix_acl_access") {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(FolderError::Control(errno)),
    }
    fchmod(&control, mode).map_err(FolderError::Control)?;
    let facts = Facts::of(&control).map_err(FolderError::Control)?;
    Ok((control, facts))
}

/// Removes an entry of a directory; that it is not there is no error.
pub(crate) fn remove(directory: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

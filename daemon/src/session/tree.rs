//! The session's root, put together from nothing: the system's folders read-only, the views of designated folders at
//! their own paths, the user's home under an overlay that is thrown away, private temporary folders — and what is not named
//! here is not there.
//!
//! What users can write to is never shown as it is, but as the lower layer of an overlay: a socket that somebody outside
//! binds there has another inode in the overlay, so that connecting to it is refused. A plain read-only mount would
//! let it through. Everything that is written lies in memory which the kernel is asked not to swap.

use super::owners;
use super::spec::Spec;
use crate::sys::namespaces::{Attributes, own_mounts, set_attributes};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, chownat, fstat, mkdirat, openat,
    openat2, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, open_tree, unmount,
};
use rustix::process::{fchdir, pivot_root};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Folders that hold the system: only root can write to them, so that they are shown as they are.
const SYSTEM: [&str; 10] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt", "nix"];
/// State of the system's services, with whatever sockets lie there.
const STATE: &str = "/var";
/// What becomes `/dev/shm` when bubblewrap has made `/dev`.
pub(super) const SHARED_MEMORY: &str = "/.shm";

/// Puts the root together and enters it. Gives the places in it where things may be written.
///
/// # Errors
/// What the kernel or a file system cannot do, by its name.
pub(super) fn build(spec: &Spec) -> Result<Vec<PathBuf>> {
    own_mounts().context("a mount namespace")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("private mounts")?;
    let tree = Tree::new(&spec.work)?;
    let owners = owners::shown(spec.user, spec.session).context("a user namespace for idmapped mounts")?;
    let runtime = PathBuf::from(format!("/run/user/{}", spec.user));

    tree.system()?;
    for path in [STATE].into_iter().map(Path::new).chain(spec.visible.iter().map(PathBuf::as_path)) {
        tree.shown(path).with_context(|| format!("showing {}", path.display()))?;
    }
    for (path, mode) in [("/run", 0o755), ("/tmp", 0o1777), ("/var/tmp", 0o1777), (SHARED_MEMORY, 0o1777)] {
        attach(&memory(mode)?, &tree.folder(Path::new(path))?)
            .with_context(|| format!("a private {path}"))?;
    }
    own(&tree.folder(&runtime)?, spec, 0o700)?;
    tree.home(spec, owners.as_fd()).with_context(|| format!("the home {}", spec.home.display()))?;
    if let Some(name) = &spec.name {
        tree.account(name, spec).context("the user's line in /etc/passwd")?;
    }
    let mut writable = vec![spec.home.clone(), runtime];
    writable.extend(["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from));
    for view in &spec.views {
        let mounted = open_tree(CWD, &view.mounted, CLONE).and_then(|mount| {
            set_attributes(&mount, Attributes::default()).map_err(|_| Errno::INVAL)?;
            Ok(mount)
        });
        mounted
            .map_err(anyhow::Error::from)
            .and_then(|mount| attach(&mount, &tree.folder(&view.at)?))
            .with_context(|| format!("the view of {}", view.at.display()))?;
        writable.push(view.at.clone());
    }
    for socket in &spec.sockets {
        tree.socket(&socket.path, socket.own.then_some((spec.user, owners.as_fd())))
            .with_context(|| format!("the socket {}", socket.path.display()))?;
    }
    tree.enter().context("entering the session's root (pivot_root)")?;
    Ok(writable)
}

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// The root in the making.
struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// An empty root in memory. The process's folder becomes `work`, where layers of overlays lie.
    fn new(work: &Path) -> Result<Self> {
        let place = openat(CWD, work, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        attach(&memory(0o700)?, &place).context("a tmpfs")?;
        // Opened anew: now it is what was mounted.
        fchdir(openat(CWD, work, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)?;
        for name in ["root", "lower", "upper", "scratch", "empty"] {
            mkdirat(CWD, name, Mode::from_raw_mode(0o755))?;
        }
        attach(&memory(0o755)?, &open_folder(CWD, Path::new("root"))?)?;
        Ok(Self { root: open_folder(CWD, Path::new("root"))? })
    }

    /// The system's folders, and what the kernel shows. bubblewrap mounts its own over the latter.
    fn system(&self) -> Result<()> {
        for name in SYSTEM {
            let path = Path::new("/").join(name);
            match std::fs::symlink_metadata(&path) {
                Ok(found) if found.is_symlink() => symlinkat(std::fs::read_link(&path)?, &self.root, name)?,
                Ok(found) if found.is_dir() => {
                    let mount = open_tree(CWD, &path, CLONE | OpenTreeFlags::AT_RECURSIVE)?;
                    let attributes = Attributes { read_only: true, recursive: true, owners: None };
                    set_attributes(&mount, attributes).context("mount_setattr (Linux 5.12)")?;
                    attach(&mount, &self.folder(&path)?)?;
                }
                _ => {}
            }
        }
        for path in ["/proc", "/dev"].map(Path::new) {
            let mount = open_tree(CWD, path, CLONE | OpenTreeFlags::AT_RECURSIVE)?;
            attach(&mount, &self.folder(path)?)?;
        }
        Ok(())
    }

    /// A folder of the host to be read, without the sockets in it and without what is mounted in it.
    fn shown(&self, path: &Path) -> Result<()> {
        let source = open_host_folder(path)?;
        let lower = lower_layer(&source, None)?;
        let layers = [("lowerdir", format!("empty:{lower}"))];
        attach(&overlay(&layers)?, &self.folder(path)?)
    }

    /// The user's home: what is there, as if it belonged to the session; what is written is thrown away with it.
    fn home(&self, spec: &Spec, owners: BorrowedFd<'_>) -> Result<()> {
        if !spec.home_shown {
            return own(&self.folder(&spec.home)?, spec, 0o700);
        }
        let source = open_host_folder(&spec.home)?;
        ensure!(fstat(&source)?.st_uid == spec.user, "it does not belong to uid {}", spec.user);
        let lower = lower_layer(&source, Some(owners))
            .context("its file system cannot show other owners (idmapped mounts); [session] home = \"empty\" does without")?;
        let upper = String::from("upper/home");
        mkdirat(CWD, &upper, Mode::RWXU)?;
        mkdirat(CWD, "scratch/home", Mode::RWXU)?;
        own(&open_folder(CWD, Path::new(&upper))?, spec, fstat(&source)?.st_mode & 0o7777)?;
        let layers = [
            ("lowerdir", lower),
            ("upperdir", upper),
            ("workdir", String::from("scratch/home")),
            // So that a folder of the home can be renamed.
            ("redirect_dir", String::from("on")),
        ];
        let mount = overlay(&layers).context("an overlay (CONFIG_OVERLAY_FS, Linux 5.19)")?;
        set_attributes(&mount, Attributes::default())?;
        attach(&mount, &self.folder(&spec.home)?)
    }

    /// Lets the session find its own user by name, as programs expect, where the host asks a directory for it.
    fn account(&self, name: &str, spec: &Spec) -> Result<()> {
        let (user, group, home) = (spec.user, spec.group, spec.home.to_string_lossy());
        let lines = [
            ("passwd", format!("{name}:x:{user}:{group}::{home}:/bin/sh\n"), user),
            ("group", format!("{name}:x:{group}:\n"), group),
        ];
        for (file, line, number) in lines {
            let mut text = std::fs::read_to_string(Path::new("/etc").join(file))?;
            if text.lines().any(|line| line.split(':').nth(2) == Some(number.to_string().as_str())) {
                continue;
            }
            text.push_str(if text.ends_with('\n') { "" } else { "\n" });
            text.push_str(&line);
            std::fs::write(file, text)?;
            std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
            let mount = open_tree(CWD, file, CLONE)?;
            set_attributes(&mount, Attributes { read_only: true, ..Attributes::default() })?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            attach(&mount, &openat(self.folder(Path::new("/etc"))?, file, flags, Mode::empty())?)?;
        }
        Ok(())
    }

    /// A socket of the host. One of the user's own is shown as the session's.
    fn socket(&self, path: &Path, own: Option<(u32, BorrowedFd<'_>)>) -> Result<()> {
        let source = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let found = fstat(&source)?;
        ensure!(FileType::from_raw_mode(found.st_mode) == FileType::Socket, "it is not a socket");
        let mount = open_tree(&source, c"", CLONE | OpenTreeFlags::AT_EMPTY_PATH)?;
        let owners = match own {
            Some((user, owners)) if found.st_uid == user => Some(owners),
            _ => None,
        };
        set_attributes(&mount, Attributes { owners, ..Attributes::default() })
            .context("its file system cannot show other owners (tmpfs: Linux 6.3)")?;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { bail!("it has no name") };
        let folder = self.folder(folder)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        match openat(&folder, name, flags, Mode::from_raw_mode(0o600)) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        attach(
            &mount,
            &openat(&folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?,
        )
    }

    /// A folder of the root, made where it is missing. The user's own links are not followed.
    fn folder(&self, path: &Path) -> Result<OwnedFd> {
        let mut folder = self.root.try_clone()?;
        for component in path.components() {
            let name = match component {
                Component::RootDir => continue,
                Component::Normal(name) => name,
                _ => bail!("the path {} is not plain", path.display()),
            };
            match mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                // A read-only file system may not say first that it is there.
                Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
                Err(error) => return Err(error).with_context(|| format!("a place for {}", path.display())),
            }
            folder = open_folder(&folder, Path::new(name))
                .with_context(|| format!("a place for {}", path.display()))?;
        }
        Ok(folder)
    }

    /// Makes it the root of this process, and leaves the host's.
    fn enter(self) -> Result<()> {
        fchdir(&self.root)?;
        pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        Ok(rustix::process::chdir("/")?)
    }
}

/// A folder below `at`, which may be a mount point, but through no link.
fn open_folder(at: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(at, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?)
}

fn open_host_folder(path: &Path) -> Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn own(folder: &OwnedFd, spec: &Spec, mode: u32) -> Result<()> {
    let (user, group) = (Uid::from_raw(spec.session), Gid::from_raw(spec.group));
    chownat(folder, c"", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
    Ok(chmodat(CWD, proc_path(folder), Mode::from_raw_mode(mode), AtFlags::empty())?)
}

/// A descriptor that stands for a place only, as a path.
fn proc_path(folder: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// Puts a mount that hangs nowhere in its place.
fn attach(mount: &OwnedFd, place: &OwnedFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", place, c"", flags)?)
}

/// An empty file system in memory, kept out of swap where the kernel can (Linux 6.4).
fn memory(mode: u32) -> Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", format!("{mode:o}"))?;
    let _where_it_is_known = fsconfig_set_flag(&context, "noswap");
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A folder of the host as a layer; gives its path from the process's folder.
fn lower_layer(source: &OwnedFd, owners: Option<BorrowedFd<'_>>) -> Result<String> {
    let mount = open_tree(source, c"", CLONE | OpenTreeFlags::AT_EMPTY_PATH)?;
    set_attributes(&mount, Attributes { read_only: true, recursive: false, owners })?;
    let number = std::fs::read_dir("lower")?.count();
    let path = format!("lower/{number}");
    mkdirat(CWD, &path, Mode::RWXU)?;
    attach(&mount, &open_folder(CWD, Path::new(&path))?)?;
    Ok(path)
}

fn overlay(options: &[(&str, String)]) -> Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        fsconfig_set_string(&context, *name, value.as_str()).with_context(|| format!("{name}={value}"))?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

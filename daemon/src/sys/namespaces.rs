//! Namespaces, mount attributes and descriptors, for the stages that start a session. Their processes have one thread each.

use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// `CLOSE_RANGE_CLOEXEC`.
const CLOEXEC: libc::c_uint = 1 << 2;

/// Gives the process a mount namespace of its own.
///
/// # Errors
/// As `unshare(2)`.
pub(crate) fn own_mounts() -> io::Result<()> {
    // SAFETY: only CLONE_FILES is what makes this call unsafe; it is not asked for.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Gives the process a user namespace of its own. It must have one thread.
///
/// # Errors
/// As `unshare(2)`.
pub(crate) fn own_users() -> io::Result<()> {
    // SAFETY: as above.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }?)
}

/// Lets every descriptor but 0, 1 and 2 be closed by the next `exec`.
///
/// # Errors
/// As `close_range(2)`.
pub(crate) fn close_others_on_exec() -> io::Result<()> {
    // SAFETY: three integers; nothing is closed, only the flag is set.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the descriptor with this number, which the stage before left open for us.
///
/// # Errors
/// `EBADF` when it is not open.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no argument and touches no memory.
    super::check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and its number came in the arguments of this process, of which nothing else made an owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What a mount shall be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes<'a> {
    /// Nothing in it can be written.
    pub(crate) read_only: bool,
    /// With everything that is mounted in it.
    pub(crate) recursive: bool,
    /// Owners are shown as this user namespace maps them.
    pub(crate) owners: Option<BorrowedFd<'a>>,
}

/// Changes a mount that `tree` stands for. Devices and set-user-id bits in it mean nothing from then on.
///
/// # Errors
/// As `mount_setattr(2)`; `EINVAL` where the file system cannot show other owners.
pub(crate) fn set_attributes(tree: impl AsFd, attributes: Attributes<'_>) -> io::Result<()> {
    let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if attributes.read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let mut users = 0;
    if let Some(owners) = attributes.owners {
        set |= libc::MOUNT_ATTR_IDMAP;
        users = u64::try_from(owners.as_raw_fd()).unwrap_or(u64::MAX);
    }
    let argument = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: users };
    let recursive = if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptors are open for the whole call because they are borrowed; the path is an empty C string, and
    // the argument is a `mount_attr` of the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const argument,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

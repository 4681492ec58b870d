//! System calls that `rustix` does not wrap: file leases and input/output priority here, fanotify in [`fanotify`], what sessions need
//! in [`namespaces`]. The only module of the crate with
//! `unsafe`.
//!
//! A lease tells its holder when somebody else opens the file, and holds that somebody up. The kernel
//! announces the break with a signal, by default SIGIO, whose default action ends the process. We poll with [`lease`]
//! instead, so each leased descriptor is first told (`F_SETSIG`) to announce with SIGURG, which is ignored by
//! default: no handler, no mask and no process-wide state is needed, and children are not affected.
#![expect(
    unsafe_code,
    reason = "fcntl lease commands have no safe wrapper; every call carries a SAFETY note"
)]

pub(crate) mod fanotify;
pub(crate) mod namespaces;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `F_SETSIG`, the same number on every Linux architecture; the libc crate does not export it.
const F_SETSIG: libc::c_int = 10;

/// What is leased on an open file description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    /// Nothing; also what a lease that is being broken by a writer (or, for [`Lease::Write`], that
    /// must end altogether) is reported as.
    None,
    /// Nobody has the file open for writing.
    Read,
    /// Nobody else has the file open at all. An `O_PATH` descriptor does not count.
    Write,
}

/// `fsync`, by the C library and not by `rustix`: programs that take syncs out, which our tests use to see that the syncs matter, stand
/// between a program and the C library.
///
/// # Errors
/// Those of `fsync`.
pub(crate) fn fsync(file: impl AsFd) -> io::Result<()> {
    // SAFETY: takes a descriptor that is open as long as `file` is, and no pointers.
    check(unsafe { libc::fsync(file.as_fd().as_raw_fd()) }).map(drop)
}

/// `syncfs`, as [`fsync`].
///
/// # Errors
/// Those of `syncfs`.
pub(crate) fn syncfs(file: impl AsFd) -> io::Result<()> {
    // SAFETY: as above.
    check(unsafe { libc::syncfs(file.as_fd().as_raw_fd()) }).map(drop)
}

/// The UUID of the file system on which `path` lies; none where it has none. Linux 6.9 and newer tell it.
///
/// # Errors
/// What `open` and `ioctl` say; `ENOTTY` where the kernel or the file system does not tell.
pub(crate) fn file_system_uuid(path: &std::path::Path) -> io::Result<Option<[u8; 16]>> {
    /// `struct fsuuid2` of `linux/fs.h`.
    #[repr(C)]
    #[derive(Default)]
    struct Told {
        length: u8,
        uuid: [u8; 16],
    }
    /// `_IOR(0x15, 0, struct fsuuid2)`.
    const FS_IOC_GETFSUUID: u32 = 0x8011_1500;
    let folder = std::fs::File::open(path)?;
    let mut told = Told::default();
    // SAFETY: the descriptor is open as long as `folder` is, and the kernel writes one `struct fsuuid2` to `told`.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_GETFSUUID as _, &raw mut told) })?;
    Ok((told.length == 16).then_some(told.uuid))
}

/// Takes, changes or (with [`Lease::None`]) gives up the lease of `file`.
///
/// # Errors
/// `EAGAIN` when somebody has the file open in a way that the lease forbids, or waits in `open` for it;
/// `EACCES` when the process neither owns the file nor has `CAP_LEASE`; `EINVAL` where the file system has no leases.
pub(crate) fn set_lease(file: impl AsFd, lease: Lease) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    let kind = match lease {
        Lease::None => libc::F_UNLCK,
        Lease::Read => libc::F_RDLCK,
        Lease::Write => libc::F_WRLCK,
    };
    if lease != Lease::None {
        // SAFETY: `fd` is open for the whole call because `file` is borrowed; F_SETSIG takes an int by value and
        // touches no memory of ours.
        check(unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) })?;
    }
    // SAFETY: as above; F_SETLEASE takes an int by value.
    check(unsafe { libc::fcntl(fd, libc::F_SETLEASE, kind) })?;
    Ok(())
}

/// The lease that `file` holds, or, while it is being broken, the one that it must fall back to.
///
/// # Errors
/// As `fcntl(2)`.
pub(crate) fn lease(file: impl AsFd) -> io::Result<Lease> {
    // SAFETY: the descriptor is open for the whole call because `file` is borrowed; F_GETLEASE takes no argument.
    let kind = check(unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_GETLEASE) })?;
    Ok(match kind {
        libc::F_WRLCK => Lease::Write,
        libc::F_RDLCK => Lease::Read,
        _ => Lease::None,
    })
}

/// Gives the calling thread the lowest best-effort input/output priority. Not the idle class: what an idle thread writes may
/// have to wait for ever, and others may have to wait for it.
///
/// # Errors
/// As `ioprio_set(2)`.
pub(crate) fn lower_io_priority() -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const BEST_EFFORT_LOWEST: libc::c_int = (2 << 13) | 7;
    // SAFETY: all three arguments are integers; 0 means the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT_LOWEST) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the process have as many descriptors open as its hard limit allows; says how many.
pub(crate) fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.and_then(|now| usize::try_from(now).ok()).unwrap_or(usize::MAX)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes what is mounted at `path` out of sight; it ends when the last user is gone.
///
/// # Errors
/// As `umount2(2)`.
pub(crate) fn detach(path: &std::path::Path) -> io::Result<()> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))?;
    // SAFETY: `path` is a string that ends in zero and outlives the call.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) })?;
    Ok(())
}

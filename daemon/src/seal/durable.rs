//! Syncs that are believed only when the file system says afterwards that it still works.
//!
//! XFS that has shut down (after a write error, or by somebody's hand) has nothing left to wait for, and says yes to an
//! `fsync` of a directory whose changes never reached the disk. It says no to `statx`, and never comes back from there: so a sync
//! counts when a `statx` after it works.

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;

/// Makes the content of a file, or the names in a directory, durable.
///
/// # Errors
/// `EIO` also when the file system shut down meanwhile.
pub(crate) fn sync(file: impl AsFd) -> Result<(), Errno> {
    errno(crate::sys::fsync(&file))?;
    works(file)
}

/// Makes all durable that was written to the file system of `file`. Reports an error of the disk once for each open
/// descriptor.
///
/// # Errors
/// As [`sync`].
pub(crate) fn sync_disk(file: impl AsFd) -> Result<(), Errno> {
    errno(crate::sys::syncfs(&file))?;
    works(file)
}

fn errno(result: io::Result<()>) -> Result<(), Errno> {
    result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn works(file: impl AsFd) -> Result<(), Errno> {
    rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map(drop)
}

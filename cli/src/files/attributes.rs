//! Owner, mode, times and extended attributes (POSIX ACLs among them), copied from one file to another.

use crate::error::{Action, Error};
use rustix::fs::{Timespec, Timestamps};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Longest list of attribute names, and longest value, that Linux knows.
const LIMIT: usize = 64 << 10;

/// Gives `to` the attributes of `from`. Times last, since the others touch them.
///
/// # Errors
/// [`Error::Io`] naming `path`, when one of them cannot be kept: dropping an access list in silence would open
/// a file to the wrong people.
pub fn copy(from: &File, to: &File, path: &Path) -> Result<(), Error> {
    copy_all(from, to).map_err(Action::Attributes.failed(path))
}

fn copy_all(from: &File, to: &File) -> io::Result<()> {
    let metadata = from.metadata()?;
    let current = to.metadata()?;
    if (metadata.uid(), metadata.gid()) != (current.uid(), current.gid()) {
        std::os::unix::fs::fchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    to.set_permissions(std::fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    copy_extended(from, to)?;
    copy_times(&metadata, to)
}

/// Gives `to` the access and modification times of `metadata`.
///
/// # Errors
/// As the system says.
pub fn copy_times(metadata: &std::fs::Metadata, to: &File) -> io::Result<()> {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

fn copy_extended(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0_u8; LIMIT];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let mut value = vec![0_u8; LIMIT];
    for name in
        names.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty())
    {
        let name = std::ffi::OsStr::from_bytes(name);
        let size = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        let content = value.get(..size).unwrap_or_default();
        match rustix::fs::fsetxattr(to, name, content, rustix::fs::XattrFlags::empty()) {
            Ok(()) => {}
            // Set by the system itself for the new file, and not the user's to copy.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS) if is_the_systems(name.as_bytes()) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn is_the_systems(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}

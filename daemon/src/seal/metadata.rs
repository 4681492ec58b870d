//! Making the envelope look like the file it replaces: owner, mode, access control lists, extended attributes, times.

use super::facts::Facts;
use super::stop::Stop;
use rustix::fs::{
    Gid, Mode, Timestamps, Uid, XattrFlags, fchmod, fchown, fgetxattr, flistxattr, fremovexattr, fsetxattr,
    futimens,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

/// All extended attributes of a file that belong to it rather than to its bytes. POSIX ACLs are among them
/// (`system.posix_acl_access`), and Samba's NT ACLs (`security.NTACL`).
pub(crate) type Attributes = BTreeMap<CString, Vec<u8>>;

/// Kernel signatures over the content, wrong for any other content.
const OF_CONTENT: [&CStr; 2] = [c"security.ima", c"security.evm"];

/// Reads the attributes of `file`.
pub(crate) fn attributes(file: impl AsFd) -> Result<Attributes, Stop> {
    let file = file.as_fd();
    let names = match grown(|buffer| flistxattr(file, buffer)) {
        Ok(names) => names,
        // A file system without extended attributes.
        Err(Errno::OPNOTSUPP) => return Ok(Attributes::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut all = Attributes::new();
    for name in
        names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
    {
        if OF_CONTENT.contains(&name) {
            continue;
        }
        match grown(|buffer| fgetxattr(file, name, buffer)) {
            Ok(value) => drop(all.insert(name.to_owned(), value)),
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(all)
}

/// Gives `envelope` the owner, mode and attributes of the original. The times come last, by [`apply_times`].
pub(crate) fn apply(envelope: impl AsFd, original: &Facts, wanted: &Attributes) -> Result<(), Stop> {
    let envelope = envelope.as_fd();
    // The owner first: changing it clears the set-id bits and file capabilities.
    fchown(envelope, Some(Uid::from_raw(original.uid)), Some(Gid::from_raw(original.gid)))?;
    let present = attributes(envelope)?;
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        match fremovexattr(envelope, name.as_c_str()) {
            // A security module's own label cannot be taken off, only replaced.
            Ok(()) | Err(Errno::NODATA | Errno::ACCESS | Errno::PERM | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    fchmod(envelope, Mode::from_raw_mode(original.mode.into()))?;
    for (name, value) in wanted {
        if present.get(name) != Some(value) {
            fsetxattr(envelope, name.as_c_str(), value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Gives `envelope` the access and modification time of the original.
pub(crate) fn apply_times(envelope: impl AsFd, original: &Facts) -> Result<(), Stop> {
    let times = Timestamps {
        last_access: original.accessed.timespec(),
        last_modification: original.modified.timespec(),
    };
    Ok(futimens(envelope, &times)?)
}

/// Calls `read` with larger buffers until the value fits.
fn grown(mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    // The kernel's limit for a value, and for a list, is 64 KiB.
    for size in [512, 1 << 16] {
        let mut buffer = vec![0; size];
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::RANGE)
}

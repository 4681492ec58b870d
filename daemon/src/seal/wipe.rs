//! Overwriting a displaced plaintext before its blocks are freed (`wipe = "overwrite"`).
//!
//! The file is first renamed to `ID.wipe`: from then on it is given up, and a restart goes on overwriting instead of putting
//! it back. What this cannot do is in docs/spec/sealing.md, "Residue".

use super::durable::sync;
use super::facts::{Facts, PERMISSIONS};
use super::root::remove;
use super::stop::Stop;
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fchmod, openat, seek};
use rustix::io::Errno;
use serde::Deserialize;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use tobari_core::crypto::random_bytes;

/// What happens to the blocks of a displaced plaintext.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wipe {
    /// They are freed as they are.
    #[default]
    None,
    /// They are overwritten and synced first.
    Overwrite,
}

/// Overwrites the entry `name` of `directory`, syncs and removes it; that it is not there is no error. Nobody, this process
/// included, may hold a lease on it. Whoever made another name for it gets the mode back that it had `before`.
pub(crate) fn overwrite(directory: impl AsFd, name: &OsStr, before: Option<&Facts>) -> Result<(), Stop> {
    let directory = directory.as_fd();
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let facts = Facts::of(&file)?;
    if facts.file_type() == FileType::RegularFile && facts.links == 1 {
        overwrite_data(&file, facts.size)?;
        sync(&file)?;
    } else {
        tracing::warn!(?name, "not overwritten: the displaced file has another name by now");
    }
    remove(directory, name)?;
    let now = Facts::of(&file)?;
    if let Some(before) = before
        && now.links > 0
        && now.mode & PERMISSIONS == 0
    {
        fchmod(&file, Mode::from_raw_mode(before.mode.into()))?;
    }
    Ok(sync(directory)?)
}

/// Holes stay holes: filling them would take space, and there is nothing in them.
fn overwrite_data(file: &File, size: u64) -> Result<(), Stop> {
    // Not zeros, which some storage does not write.
    let noise = random_bytes::<{ 64 << 10 }>();
    let mut end = 0;
    while end < size {
        let mut at = match seek(file, SeekFrom::Data(end)) {
            Ok(start) => start,
            // No data up to the end.
            Err(Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        end = seek(file, SeekFrom::Hole(at))?.min(size);
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(noise.len());
            file.write_all_at(noise.get(..length).unwrap_or(&noise), at)?;
            at += length as u64;
        }
    }
    Ok(())
}

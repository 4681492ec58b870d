//! A new header for the same DEK: another label, or other recipients, in time that does not depend on the size of
//! the file. `docs/spec/envelope.md`, "Relabel and rewrap".
//!
//! This does not take anything from somebody who already has the DEK; where that matters, the contents are sealed
//! anew.

use super::body::Unlocked;
use super::epoch::Epoch;
use super::error::{SealError, WriteError};
use super::header::Header;
use super::policy::FilePolicy;
use super::spare;
use super::storage::Storage;
use crate::crypto::Dek;

/// Gives a file a new policy, for the recipients of `epoch`. Body and slots are not touched, so a writer of the contents, or what
/// an interrupted one left, is of no concern. At every moment, for every reader and after a power cut, the header is the old or the
/// new one. Nobody else may change the header meanwhile.
///
/// # Errors
/// See [`WriteError`]; [`SealError::HeaderFull`] within it if the new header, or a copy of it, does not fit into the region of
/// the old one. The file then opens with the old header, or with the new one where the disk failed too late.
pub fn relabel(
    storage: &dyn Storage,
    header: &Header,
    dek: &Dek,
    policy: FilePolicy,
    epoch: &Epoch,
) -> Result<Header, WriteError> {
    spare::settle(storage, dek)?;
    let unlocked = Unlocked::without_size(storage, header, dek)?;
    let geometry = unlocked.geometry;
    if !spare::fits(geometry, header.wire_bytes().len()) {
        return Err(SealError::HeaderFull.into());
    }
    let new = Header::build(
        header.file_id(),
        dek,
        &unlocked.keys,
        &policy,
        epoch,
        geometry.chunk_log2(),
        Some(header.header_size()),
    )?;
    if let Err(error) = spare::copy(storage, &new) {
        // The old header stands. Better that nobody sees the new one; but both are whole, so failing again is no harm.
        let _ = spare::blank(storage, geometry);
        return Err(error);
    }
    spare::replace(storage, &new)?;
    Ok(new)
}

/// Gives a file other recipients, or the same with new keys, under its own policy; `generation` is that of the label
/// key among them. As [`relabel`] otherwise.
///
/// # Errors
/// As [`relabel`].
pub fn rewrap(
    storage: &dyn Storage,
    header: &Header,
    dek: &Dek,
    generation: u32,
    epoch: &Epoch,
) -> Result<Header, WriteError> {
    let policy = FilePolicy { generation, ..header.policy().clone() };
    relabel(storage, header, dek, policy, epoch)
}

//! A new header for the same DEK: another label, or other recipients, in time that does not depend on the size of
//! the file. `docs/spec/envelope.md`, "Relabel and rewrap".
//!
//! This does not take anything from somebody who already has the DEK; where that matters, the contents are sealed
//! anew.

use super::body::Unlocked;
use super::epoch::Epoch;
use super::error::WriteError;
use super::header::Header;
use super::journal::{Sync, clear, encode_header, recover, write_header};
use super::policy::FilePolicy;
use super::storage::Storage;
use crate::crypto::Dek;

/// Gives a file a new policy, for the recipients of `epoch`. Body and slots are not touched; after a power cut the
/// header is the old or the new one. Nobody else may write the file meanwhile.
///
/// # Errors
/// See [`WriteError`]; [`SealError::HeaderFull`](super::SealError::HeaderFull) within it if the new header
/// does not fit into the region of the old one.
pub fn relabel(
    storage: &dyn Storage,
    journal: &dyn Storage,
    header: &Header,
    dek: &Dek,
    policy: FilePolicy,
    epoch: &Epoch,
) -> Result<Header, WriteError> {
    recover(storage, journal, dek)?;
    let unlocked = Unlocked::new(storage, header, dek)?;
    let geometry = unlocked.geometry;
    let new = Header::build(
        header.file_id(),
        dek,
        &unlocked.keys,
        &policy,
        epoch,
        geometry.chunk_log2(),
        Some(header.header_size()),
    )?;
    let entry = encode_header(&unlocked.keys, &new);
    if let Err(error) = journal.write_all_at(&entry, 0) {
        // The entry may be whole all the same, and would be replayed some day.
        clear(journal, Sync::Yes)?;
        return Err(WriteError::Journal(error));
    }
    journal.sync_data().map_err(WriteError::Journal)?;
    write_header(storage, &new)?;
    clear(journal, Sync::Yes)?;
    Ok(new)
}

/// Gives a file other recipients, or the same with new keys, under its own policy; `generation` is that of the label
/// key among them. As [`relabel`] otherwise.
///
/// # Errors
/// As [`relabel`].
pub fn rewrap(
    storage: &dyn Storage,
    journal: &dyn Storage,
    header: &Header,
    dek: &Dek,
    generation: u32,
    epoch: &Epoch,
) -> Result<Header, WriteError> {
    let policy = FilePolicy { generation, ..header.policy().clone() };
    relabel(storage, journal, header, dek, policy, epoch)
}

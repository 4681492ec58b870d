//! The redo journal: what a commit is about to write over, so that after a power cut each chunk is old or new. `docs/spec/envelope.md`, "Journal".
//!
//! The journal is a storage of its own beside the file; the caller keeps the two together, and makes the
//! journal's directory entry durable before the first change. One entry at a time lies in it, authentic under a key
//! derived from the DEK; anything else in it is the rest of an interrupted write, and means nothing.

use super::body::Unlocked;
use super::error::{Reason, WriteError};
use super::header::Header;
use super::layout::{CHUNK_OVERHEAD, Geometry, MAC_SIZE, field, span};
use super::slot::{COVERED, Selected, State, slot_offset};
use super::spare::settle;
use super::storage::{ReadAt, Storage};
use crate::crypto::{Dek, FileKeys};
use crate::ids::FileId;

/// What [`recover`] found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing was interrupted.
    Clean,
    /// A writer was interrupted before its commit; this many stored bytes behind the end were cut off.
    Cut(u64),
    /// A commit was interrupted and has been completed.
    Replayed,
    /// The replacement of the header was interrupted and has been completed or undone; nothing else was.
    HeaderSettled,
}

/// Completes or undoes what a power cut interrupted; can be repeated, and interrupted itself.
///
/// # Errors
/// See [`WriteError`]; the file and its journal are then as recoverable as before.
pub fn recover(storage: &dyn Storage, journal: &dyn Storage, dek: &Dek) -> Result<Recovery, WriteError> {
    let bytes = read(journal).map_err(WriteError::Journal)?;
    let entry = bytes.as_deref().and_then(|bytes| Entry::decode(bytes, dek).ok());
    let settled = settle(storage, dek)?;
    let header = Header::read(storage)?;
    let unlocked = Unlocked::without_size(storage, &header, dek)?;
    let mut outcome = if settled { Recovery::HeaderSettled } else { Recovery::Clean };
    match entry {
        Some(Entry { file, base, target, chunks })
            if file == header.file_id() && base == unlocked.selected.state.generation =>
        {
            apply(storage, &unlocked, &target, &chunks)?;
            outcome = Recovery::Replayed;
        }
        _ => {
            let unlocked = Unlocked::new(storage, &header, dek)?;
            let state = unlocked.selected.state;
            if state.dirty {
                let size = unlocked.geometry.file_size(state.length)?;
                storage.set_len(size).map_err(WriteError::Storage)?;
                storage.sync_data().map_err(WriteError::Storage)?;
                let clean = State { generation: state.generation + 1, dirty: false, ..state };
                put_slot(storage, unlocked.geometry, &unlocked.keys, &unlocked.selected, &clean)?;
                outcome = Recovery::Cut(unlocked.tail);
            }
        }
    }
    if bytes.is_some() {
        clear(journal, Sync::Yes)?;
    }
    Ok(outcome)
}

/// The entry for a commit: chunks (sealed) to be written over, and the state that is valid then.
pub(super) fn encode_chunks(
    keys: &FileKeys,
    file: FileId,
    base: u64,
    target: &State,
    chunks: &[(u64, Vec<u8>)],
) -> Vec<u8> {
    let chunks = chunks.iter().map(|(index, stored)| (*index, stored.as_slice()));
    encode(keys, file, base, &target.covered(), chunks)
}

/// Writes what a commit writes in place: chunks, size, sync, slot, sync.
pub(super) fn apply(
    storage: &dyn Storage,
    unlocked: &Unlocked,
    target: &State,
    chunks: &[(u64, Vec<u8>)],
) -> Result<Selected, WriteError> {
    let geometry = unlocked.geometry;
    let size = geometry.file_size(target.length)?;
    let fits = |(index, stored): &(u64, Vec<u8>)| {
        let length = geometry.chunk_length(target.length, *index);
        length > 0 && stored.len() == length + CHUNK_OVERHEAD
    };
    if !chunks.iter().all(fits) {
        return Err(Reason::Length.into());
    }
    for (index, stored) in chunks {
        storage.write_all_at(stored, geometry.offset(*index)).map_err(WriteError::Storage)?;
    }
    storage.set_len(size).map_err(WriteError::Storage)?;
    storage.sync_data().map_err(WriteError::Storage)?;
    put_slot(storage, geometry, &unlocked.keys, &unlocked.selected, target)
}

/// Writes `state` to the slot that does not count, and syncs; then it counts.
pub(super) fn put_slot(
    storage: &dyn Storage,
    geometry: Geometry,
    keys: &FileKeys,
    selected: &Selected,
    state: &State,
) -> Result<Selected, WriteError> {
    let slot = 1 - selected.slot;
    let offset = slot_offset(geometry, slot) as u64;
    storage.write_all_at(&state.encode(keys), offset).map_err(WriteError::Storage)?;
    storage.sync_data().map_err(WriteError::Storage)?;
    Ok(Selected { state: *state, slot, other_damaged: false })
}

/// Whether emptying the journal has to be durable at once.
#[derive(PartialEq, Eq)]
pub(super) enum Sync {
    /// The entry does not say by itself that it is done: it would be replayed over later headers.
    Yes,
    /// The entry names the generation that it follows, and is void after its commit.
    No,
}

/// Empties the journal.
pub(super) fn clear(journal: &dyn Storage, sync: Sync) -> Result<(), WriteError> {
    journal.set_len(0).map_err(WriteError::Journal)?;
    if sync == Sync::Yes {
        journal.sync_data().map_err(WriteError::Journal)?;
    }
    Ok(())
}

/// "\x89TBJ" and the guards of the envelope's magic, version 1.
const PREFIX: [u8; 10] = *b"\x89TBJ\r\n\x1a\n\x01\0";
const KIND_CHUNKS: u16 = 1;
/// Bytes before the first entry.
const FIXED: usize = 48 + COVERED;
/// More than any writer makes.
const MAX_SIZE: u64 = 64 << 20;

fn encode<'a>(
    keys: &FileKeys,
    file: FileId,
    base: u64,
    covered: &[u8; COVERED],
    entries: impl Iterator<Item = (u64, &'a [u8])> + Clone,
) -> Vec<u8> {
    let count = entries.clone().count() as u32;
    let size = FIXED + MAC_SIZE + entries.clone().map(|(_, bytes)| 12 + bytes.len()).sum::<usize>();
    let mut journal = Vec::with_capacity(size);
    journal.extend_from_slice(&PREFIX);
    journal.extend_from_slice(&KIND_CHUNKS.to_le_bytes());
    journal.extend_from_slice(&count.to_le_bytes());
    journal.extend_from_slice(file.as_bytes());
    journal.extend_from_slice(&(size as u64).to_le_bytes());
    journal.extend_from_slice(&base.to_le_bytes());
    journal.extend_from_slice(covered);
    for (index, bytes) in entries {
        journal.extend_from_slice(&index.to_le_bytes());
        journal.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        journal.extend_from_slice(bytes);
    }
    let mac = keys.journal_mac(&journal);
    journal.extend_from_slice(&mac);
    journal
}

/// The journal's bytes; `None` if it is empty. More than any writer makes is rubbish, like all that does not parse.
fn read(journal: &dyn ReadAt) -> std::io::Result<Option<Vec<u8>>> {
    let size = journal.len()?;
    if size == 0 {
        return Ok(None);
    }
    let mut bytes = vec![0; size.min(MAX_SIZE) as usize];
    journal.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// A journal's fields, not authentic yet.
struct Raw<'a> {
    kind: u16,
    file: FileId,
    base: u64,
    covered: &'a [u8],
    entries: Vec<(u64, &'a [u8])>,
    authenticated: &'a [u8],
    mac: &'a [u8],
}

impl<'a> Raw<'a> {
    /// Parses a journal ("Journal"). Bytes behind its length are of an older one.
    fn parse(bytes: &'a [u8]) -> Result<Self, Reason> {
        if field::<10>(bytes, 0)? != PREFIX {
            return Err(Reason::Magic);
        }
        let size = usize::try_from(u64::from_le_bytes(field(bytes, 32)?)).map_err(|_| Reason::Length)?;
        let end = size.checked_sub(MAC_SIZE).ok_or(Reason::Length)?;
        let (authenticated, mac) = (span(bytes, 0, end)?, span(bytes, end, size)?);
        let mut entries = Vec::new();
        let mut rest = authenticated.get(FIXED..).ok_or(Reason::Length)?;
        for _ in 0..u32::from_le_bytes(field(bytes, 12)?) {
            let index = u64::from_le_bytes(field(rest, 0)?);
            let length = u32::from_le_bytes(field(rest, 8)?) as usize;
            entries.push((index, span(rest, 12, 12 + length)?));
            rest = rest.get(12 + length..).ok_or(Reason::Length)?;
        }
        if !rest.is_empty() {
            return Err(Reason::Length);
        }
        Ok(Self {
            kind: u16::from_le_bytes(field(bytes, 10)?),
            file: FileId::from_bytes(field(bytes, 16)?),
            base: u64::from_le_bytes(field(bytes, 40)?),
            covered: span(bytes, 48, FIXED)?,
            entries,
            authenticated,
            mac,
        })
    }
}

/// A journal that somebody with the DEK wrote to its end.
struct Entry {
    file: FileId,
    base: u64,
    target: State,
    chunks: Vec<(u64, Vec<u8>)>,
}

impl Entry {
    /// Parses and authenticates a journal ("Journal").
    fn decode(bytes: &[u8], dek: &Dek) -> Result<Self, Reason> {
        let raw = Raw::parse(bytes)?;
        let keys = FileKeys::new(dek, &raw.file).map_err(|_| Reason::Library)?;
        if !keys.journal_mac_fits(raw.authenticated, raw.mac) {
            return Err(Reason::HeaderMac);
        }
        if raw.kind != KIND_CHUNKS {
            return Err(Reason::Version);
        }
        // Any geometry will do: the length is checked against the file's own before it is used.
        let target = State::decode(raw.covered, Geometry::new(4096, 20)?)?;
        let chunks = raw.entries.iter().map(|(index, stored)| (*index, stored.to_vec())).collect();
        Ok(Self { file: raw.file, base: raw.base, target, chunks })
    }
}

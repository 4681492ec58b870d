//! The redo journal: what a commit is about to write over, so that after a power cut each chunk is old or new. `docs/spec/envelope.md`, "Journal".
//!
//! The journal is a storage of its own beside the file; the caller keeps the two together, and makes the
//! journal's directory entry durable before the first change. One entry at a time lies in it, authentic under a key
//! derived from the DEK; anything else in it is the rest of an interrupted write, and means nothing.

use super::body::Unlocked;
use super::error::{Reason, WriteError};
use super::header::Header;
use super::layout::{CHUNK_OVERHEAD, Geometry, MAC_SIZE, NONCE_SIZE, TAG_SIZE, field, span};
use super::slot::{COVERED, Selected, State, slot_offset};
use super::spare::settle;
use super::storage::{ReadAt, Storage};
use crate::crypto::{Dek, FileKeys};
use crate::ids::FileId;
use std::ops::Range;

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
            let chunks = chunks.iter().map(|(index, stored)| (*index, stored.as_slice()));
            apply(storage, &unlocked, &target, chunks)?;
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
        clear(journal)?;
    }
    Ok(outcome)
}

/// Writes what a commit writes in place: chunks, size, sync, slot, sync.
pub(super) fn apply<'a>(
    storage: &dyn Storage,
    unlocked: &Unlocked,
    target: &State,
    chunks: impl Iterator<Item = (u64, &'a [u8])> + Clone,
) -> Result<Selected, WriteError> {
    let geometry = unlocked.geometry;
    let size = geometry.file_size(target.length)?;
    let fits = |(index, stored): (u64, &[u8])| {
        let length = geometry.chunk_length(target.length, index);
        length > 0 && stored.len() == length + CHUNK_OVERHEAD
    };
    if !chunks.clone().all(fits) {
        return Err(Reason::Length.into());
    }
    for (index, stored) in chunks {
        storage.write_all_at(stored, geometry.offset(index)).map_err(WriteError::Storage)?;
    }
    if storage.len().map_err(WriteError::Read)? != size {
        storage.set_len(size).map_err(WriteError::Storage)?;
    }
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

/// Empties the journal, and makes that durable.
///
/// Not needed after a commit: its entry names the generation that it follows, and is void. It is written over by the next.
pub(super) fn clear(journal: &dyn Storage) -> Result<(), WriteError> {
    journal.set_len(0).map_err(WriteError::Journal)?;
    journal.sync_data().map_err(WriteError::Journal)
}

/// "\x89TBJ" and the guards of the envelope's magic, version 1.
const PREFIX: [u8; 10] = *b"\x89TBJ\r\n\x1a\n\x01\0";
const KIND_CHUNKS: u16 = 1;
/// Bytes before the first entry.
const FIXED: usize = 48 + COVERED;
/// Bytes before each chunk.
const ENTRY_FIXED: usize = 12;
/// More than any writer makes.
const MAX_SIZE: u64 = 64 << 20;

/// The entry for a commit while it is being made, in one buffer: chunks that are to be written over, which are sealed where they
/// lie, and at last the state that is valid then.
pub(super) struct Draft {
    bytes: Vec<u8>,
    /// Indices of the chunks, and where they lie in `bytes`.
    chunks: Vec<(u64, Range<usize>)>,
}

impl Draft {
    /// For changes that follow the generation `base`, with room for `count` chunks of `stored` bytes at most.
    pub(super) fn new(file: FileId, base: u64, count: usize, stored: usize) -> Self {
        let mut bytes = Vec::with_capacity(FIXED + MAC_SIZE + count * (ENTRY_FIXED + stored));
        bytes.extend_from_slice(&PREFIX);
        bytes.extend_from_slice(&KIND_CHUNKS.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(file.as_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&base.to_le_bytes());
        bytes.extend_from_slice(&[0; COVERED]);
        Self { bytes, chunks: Vec::with_capacity(count) }
    }

    /// Adds a chunk; where it is to be sealed: `plain` already lies where its ciphertext will be.
    pub(super) fn add(&mut self, index: u64, plain: &[u8]) -> &mut [u8] {
        let length = plain.len() + CHUNK_OVERHEAD;
        self.bytes.extend_from_slice(&index.to_le_bytes());
        self.bytes.extend_from_slice(&(length as u32).to_le_bytes());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; NONCE_SIZE]);
        self.bytes.extend_from_slice(plain);
        self.bytes.extend_from_slice(&[0; TAG_SIZE]);
        self.chunks.push((index, start..start + length));
        self.bytes.get_mut(start..).unwrap_or_default()
    }

    /// Completes the entry: after it the file will have the state `target`.
    pub(super) fn finish(&mut self, keys: &FileKeys, target: &State) {
        let size = (self.bytes.len() + MAC_SIZE) as u64;
        self.put(12, &(self.chunks.len() as u32).to_le_bytes());
        self.put(32, &size.to_le_bytes());
        self.put(48, &target.covered());
        let mac = keys.journal_mac(&self.bytes);
        self.bytes.extend_from_slice(&mac);
    }

    /// The whole entry.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its chunks.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, &[u8])> + Clone {
        let stored = |place: &Range<usize>| self.bytes.get(place.clone()).unwrap_or_default();
        self.chunks.iter().map(move |(index, place)| (*index, stored(place)))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn put(&mut self, at: usize, field: &[u8]) {
        self.bytes.iter_mut().skip(at).zip(field).for_each(|(byte, field)| *byte = *field);
    }
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

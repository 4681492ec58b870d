//! Random access for writing: `docs/spec/envelope.md`, "Writing".
//!
//! Changes collect in memory, up to 16 MiB, and become durable together in a commit ([`Writer::sync`], or when
//! memory is full). Chunks behind the committed end are written at once, for nothing refers to them yet; those
//! before it go through the journal. The DIRTY slot is on the disk before the first change.

mod commit;

use super::body::Unlocked;
use super::error::{Reason, WriteError};
use super::header::Header;
use super::journal::{Recovery, recover};
use super::layout::{CHUNK_OVERHEAD, NONCE_SIZE, RESEAL_CHUNKS};
use super::plaintext::{Plaintext, copy};
use super::seal::Sealed;
use super::storage::Storage;
use super::verify::{Tag, load_tags};
use crate::crypto::Dek;
use std::collections::BTreeMap;

/// Plaintext of one chunk that is to be written.
type Chunk = Plaintext;

/// An open file that can be changed. One at a time for each file, and no reader beside it. What was not synced
/// when it is dropped may be lost, as in any file.
pub struct Writer<S, J> {
    storage: S,
    journal: J,
    /// Keys, and the state that counts on the disk.
    unlocked: Unlocked,
    recovery: Recovery,
    /// Plaintext bytes, with what is not committed.
    length: u64,
    /// Committed chunks before this one still belong to the contents; later ones were cut off since.
    live: u64,
    /// Changed chunks in memory.
    cache: BTreeMap<u64, Chunk>,
    /// Full chunks behind the committed end that were already written, with their tags.
    appended: BTreeMap<u64, Tag>,
    /// Tags of the committed chunks, as far as the root is kept.
    tags: Option<Vec<Tag>>,
    /// How many more chunks the DIRTY slot's generation allows to seal.
    budget: u64,
    /// How many a DIRTY slot before a commit will allow.
    next_budget: u64,
    /// Something was written to the storage since its last sync.
    unsynced: bool,
    /// An error left it open what is on the disk.
    failed: bool,
    #[cfg(test)]
    pub(super) test_only_skip_journal_sync: bool,
}

/// Changed chunks are kept up to this many bytes, or four chunks.
const CACHE_SIZE: usize = 16 << 20;
/// When chunks are written before a commit, the DIRTY slot allows for this many; if they do not suffice, the next one
/// for twice as many, up to the second number.
const FIRST_BUDGET: u64 = 256;
const LAST_BUDGET: u64 = 65536;

impl<S, J> std::fmt::Debug for Writer<S, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("length", &self.length).finish_non_exhaustive()
    }
}

impl<S: Storage, J: Storage> Writer<S, J> {
    /// Opens a file for writing, after [recovering](recover) it. `journal` is a storage beside the file that is
    /// used for nothing else; its directory entry MUST be durable.
    ///
    /// # Errors
    /// See [`WriteError`]. If the recovery replaced the header, this one is refused: read it again.
    pub fn open(storage: S, journal: J, header: &Header, dek: &Dek) -> Result<Self, WriteError> {
        let recovery = recover(&storage, &journal, dek)?;
        let unlocked = Unlocked::new(&storage, header, dek)?;
        let tags = load_tags(&storage, &unlocked)?;
        Ok(Self::new(storage, journal, unlocked, recovery, tags))
    }

    /// Opens a file that was sealed just now, from an empty source, and not touched since, with a `journal` that is empty: there is
    /// nothing to recover and nothing to read.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn born(storage: S, journal: J, sealed: &Sealed) -> Result<Self, WriteError> {
        if sealed.length != 0 {
            return Self::open(storage, journal, &sealed.header, &sealed.dek);
        }
        let unlocked = Unlocked::born(sealed)?;
        Ok(Self::new(storage, journal, unlocked, Recovery::Clean, Some(Vec::new())))
    }

    fn new(storage: S, journal: J, unlocked: Unlocked, recovery: Recovery, tags: Option<Vec<Tag>>) -> Self {
        let length = unlocked.length();
        Self {
            live: unlocked.geometry.chunks(length),
            storage,
            journal,
            unlocked,
            recovery,
            length,
            cache: BTreeMap::new(),
            appended: BTreeMap::new(),
            tags,
            budget: 0,
            next_budget: FIRST_BUDGET,
            unsynced: false,
            failed: false,
            #[cfg(test)]
            test_only_skip_journal_sync: false,
        }
    }

    /// The journal.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// What opening found to recover.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Whether an error left it open what is on the disk: nothing can be written any more, and opening the file again
    /// finds out.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// Plaintext bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads from `offset` until `buffer` is full or the file ends; returns the number of bytes. Sees every
    /// change made before.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, WriteError> {
        let wanted = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut rest = buffer.get_mut(..wanted).unwrap_or_default();
        let mut position = offset;
        while !rest.is_empty() {
            let (index, within) = self.unlocked.geometry.locate(position);
            let loaded;
            let chunk = match self.cache.get(&index) {
                Some(chunk) => chunk,
                None => {
                    loaded = self.load(index)?;
                    &loaded
                }
            };
            let plaintext = chunk.get(within..).unwrap_or_default();
            let (place, left) = rest.split_at_mut(plaintext.len().min(rest.len()));
            if place.is_empty() {
                return Err(Reason::Chunk.into());
            }
            copy(plaintext, place);
            position += place.len() as u64;
            rest = left;
        }
        Ok(wanted)
    }

    /// Writes all of `data` at `offset`; a gap behind the end becomes zeros.
    ///
    /// # Errors
    /// See [`WriteError`]. Some of the data may have been taken; a full disk can be tried again.
    pub fn write_at(&mut self, data: &[u8], offset: u64) -> Result<(), WriteError> {
        self.check_length(offset.checked_add(data.len() as u64))?;
        if data.is_empty() {
            return Ok(());
        }
        if offset > self.length {
            self.extend(offset)?;
        }
        let geometry = self.unlocked.geometry;
        let (mut rest, mut position) = (data, offset);
        while !rest.is_empty() {
            let (index, within) = geometry.locate(position);
            let whole = self.append(index, within, rest)?;
            if whole > 0 {
                position += whole as u64;
                rest = rest.get(whole..).unwrap_or_default();
                continue;
            }
            let (part, left) = rest.split_at(rest.len().min(geometry.chunk_size() - within));
            let current = geometry.chunk_length(self.length, index);
            let mut chunk = if within == 0 && part.len() >= current {
                self.cache.remove(&index).unwrap_or_else(|| self.new_chunk())
            } else {
                self.take(index)?
            };
            if chunk.len() < within + part.len() {
                chunk.resize(within + part.len(), 0);
            }
            copy(part, chunk.get_mut(within..).unwrap_or_default());
            position += part.len() as u64;
            self.put(index, chunk, position.max(self.length))?;
            rest = left;
        }
        Ok(())
    }

    /// Cuts to, or extends with zeros to, `length` bytes. Extending seals the zeros, and takes as long.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn set_len(&mut self, length: u64) -> Result<(), WriteError> {
        self.check_length(Some(length))?;
        if length >= self.length {
            return self.extend(length);
        }
        let geometry = self.unlocked.geometry;
        let (index, within) = geometry.locate(length);
        if within > 0 {
            let mut chunk = self.take(index)?;
            chunk.truncate(within);
            self.appended.remove(&index);
            self.cache.insert(index, chunk);
        }
        let chunks = geometry.chunks(length);
        drop(self.cache.split_off(&chunks));
        drop(self.appended.split_off(&chunks));
        self.live = self.live.min(chunks);
        self.length = length;
        Ok(())
    }

    /// Makes all changes durable, together: after a power cut the file has all of them, or none since the last
    /// commit.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.commit()
    }

    /// [Syncs](Self::sync) and ends.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn close(mut self) -> Result<(), WriteError> {
        self.commit()
    }

    fn check_length(&self, length: Option<u64>) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        let geometry = self.unlocked.geometry;
        match length.map(|length| geometry.chunks(length)) {
            Some(chunks) if chunks <= RESEAL_CHUNKS => Ok(()),
            _ => Err(WriteError::TooLong),
        }
    }

    /// Appends zeros up to `length`.
    fn extend(&mut self, length: u64) -> Result<(), WriteError> {
        let geometry = self.unlocked.geometry;
        while self.length < length {
            let (index, within) = geometry.locate(self.length);
            let mut chunk = if within == 0 { self.new_chunk() } else { self.take(index)? };
            chunk.resize(geometry.chunk_length(length, index), 0);
            let end = geometry.start(index) + chunk.len() as u64;
            self.put(index, chunk, end)?;
        }
        Ok(())
    }

    /// An empty chunk with room for all that it may get.
    fn new_chunk(&self) -> Chunk {
        Chunk::with_capacity(self.unlocked.geometry.chunk_size())
    }

    /// A chunk for changing it: out of the cache or from the disk. On an error nothing has changed.
    fn take(&mut self, index: u64) -> Result<Chunk, WriteError> {
        match self.cache.remove(&index) {
            Some(chunk) => Ok(chunk),
            None => self.load(index),
        }
    }

    /// Puts a changed chunk into the cache, after which the file has `length` bytes.
    fn put(&mut self, index: u64, chunk: Chunk, length: u64) -> Result<(), WriteError> {
        self.appended.remove(&index);
        self.cache.insert(index, chunk);
        self.length = length;
        let limit = CACHE_SIZE.max(4 * self.unlocked.geometry.chunk_size());
        if self.cache.len() * self.unlocked.geometry.chunk_size() > limit { self.evict() } else { Ok(()) }
    }

    /// Reads a chunk that is not in the cache. Its stored length is that of the contents: whatever changes a
    /// chunk's length puts it into the cache.
    fn load(&self, index: u64) -> Result<Chunk, WriteError> {
        let geometry = self.unlocked.geometry;
        let length = geometry.chunk_length(self.length, index);
        let known = match self.appended.get(&index) {
            Some(tag) => Some(tag),
            None if index < self.live => self.tags.as_ref().and_then(|tags| tags.get(index as usize)),
            None => return Err(Reason::Chunk.into()),
        };
        let mut chunk = Chunk::with_capacity(length.max(geometry.chunk_size()) + CHUNK_OVERHEAD);
        chunk.resize(length + CHUNK_OVERHEAD, 0);
        self.storage.read_exact_at(&mut chunk, geometry.offset(index)).map_err(WriteError::Read)?;
        let opened = self.unlocked.cipher.open(index, &mut chunk)?;
        if known.is_some_and(|tag| *tag != opened.tag) {
            return Err(Reason::Root.into());
        }
        // What is left is the plaintext.
        chunk.copy_within(NONCE_SIZE..NONCE_SIZE + length, 0);
        chunk.truncate(length);
        Ok(chunk)
    }
}

//! Random access for reading: `docs/spec/envelope.md`, "Opening".

use super::body::Unlocked;
use super::error::{OpenError, Reason};
use super::header::Header;
use super::layout::CHUNK_OVERHEAD;
use super::pipeline::segment_chunks;
use super::plaintext::{Plaintext, copy};
use super::storage::ReadAt;
use super::verify::{Tag, load_tags};
use crate::crypto::Dek;

/// An open file. The end of the file is authentic before a byte is served, each chunk before any of its bytes is. In
/// a file with a root of at most 1,024 chunks an old chunk put back is refused too; for longer ones that takes
/// [`open_stream`](super::open_stream) or [`verify`](super::verify). Can be read from several threads.
pub struct Reader<S> {
    storage: S,
    unlocked: Unlocked,
    tags: Option<Vec<Tag>>,
}

impl<S> std::fmt::Debug for Reader<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("length", &self.unlocked.length()).finish_non_exhaustive()
    }
}

impl<S: ReadAt> Reader<S> {
    /// Opens a file. A journal beside it has to be [recovered](super::recover) first.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(storage: S, header: &Header, dek: &Dek) -> Result<Self, OpenError> {
        let unlocked = Unlocked::new(&storage, header, dek)?;
        let tags = load_tags(&storage, &unlocked)?;
        Ok(Self { storage, unlocked, tags })
    }

    /// Plaintext bytes.
    pub fn len(&self) -> u64 {
        self.unlocked.length()
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Set if a writer was interrupted: stored bytes behind the authenticated end.
    pub fn interrupted_tail(&self) -> Option<u64> {
        self.unlocked.selected.state.dirty.then_some(self.unlocked.tail)
    }

    /// Reads from `offset` until `buffer` is full or the file ends; returns the number of bytes.
    ///
    /// # Errors
    /// See [`OpenError`]; `buffer` then holds nothing of a chunk that is not authentic.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, OpenError> {
        let geometry = self.unlocked.geometry;
        let length = self.len();
        let wanted = length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut rest = buffer.get_mut(..wanted).unwrap_or_default();
        let mut position = offset;
        let mut stored = Plaintext::default();
        while !rest.is_empty() {
            let (first, mut within) = geometry.locate(position);
            let chunks = (within + rest.len()).div_ceil(geometry.chunk_size()).min(segment_chunks(geometry));
            let from = geometry.offset(first);
            let to = geometry.offset(first + chunks as u64).min(geometry.file_size(length)?);
            // No later part is longer than the first.
            stored.resize((to - from) as usize, 0);
            self.storage.read_exact_at(&mut stored, from).map_err(OpenError::Storage)?;
            for (index, chunk) in (first..).zip(stored.chunks_mut(geometry.stored_chunk_size())) {
                let available = chunk.len().saturating_sub(CHUNK_OVERHEAD + within);
                let opened = self.unlocked.cipher.open(index, chunk)?;
                if self.tags.as_ref().is_some_and(|tags| tags.get(index as usize) != Some(&opened.tag)) {
                    return Err(Reason::Root.into());
                }
                let (place, left) = rest.split_at_mut(available.min(rest.len()));
                let plaintext = opened.plaintext.get(within..).unwrap_or_default();
                copy(plaintext, place);
                position += place.len() as u64;
                (rest, within) = (left, 0);
            }
        }
        Ok(wanted)
    }
}

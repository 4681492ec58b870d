//! The body: chunks, each authentic for its place in its file. `docs/spec/envelope.md`, "Body".

use super::error::{OpenError, Reason};
use super::header::{Header, read_region, read_region_once};
use super::layout::{CHUNK_OVERHEAD, Geometry, NONCE_SIZE, TAG_SIZE};
use super::seal::Sealed;
use super::slot::{Selected, select};
use super::storage::ReadAt;
use crate::crypto::{Aead, CryptoError, Dek, FileKeys, Provider, bulk, fill_random};
use crate::ids::FileId;

/// A file whose header, state and size were checked with its DEK.
pub(super) struct Unlocked {
    pub(super) keys: FileKeys,
    pub(super) geometry: Geometry,
    pub(super) selected: Selected,
    pub(super) cipher: ChunkCipher,
    /// Bytes behind the authenticated length, left by an interrupted writer; 0 unless DIRTY.
    pub(super) tail: u64,
}

impl Unlocked {
    /// Checks all that can be checked before the first chunk is read ("Opening").
    pub(super) fn new(storage: &dyn ReadAt, header: &Header, dek: &Dek) -> Result<Self, OpenError> {
        let unlocked = Self::without_size(storage, header, dek)?;
        let size = storage.len().map_err(OpenError::Storage)?;
        let state = unlocked.selected.state;
        let expected = unlocked.geometry.file_size(state.length)?;
        let tail = size.checked_sub(expected).ok_or(Reason::Size)?;
        if tail != 0 && !state.dirty {
            return Err(Reason::Size.into());
        }
        Ok(Self { tail, ..unlocked })
    }

    /// The same but for the size: a journal may have to set it right first.
    pub(super) fn without_size(storage: &dyn ReadAt, header: &Header, dek: &Dek) -> Result<Self, OpenError> {
        let keys = FileKeys::new(dek, &header.file_id()).map_err(|_| Reason::Library)?;
        header.authenticate_with(&keys)?;
        // One look is enough if it shows exactly this header; otherwise it may just be changing.
        let mut region = read_region_once(storage)?;
        if header.check_region(&region).is_err() {
            region = read_region(storage)?;
            header.check_region(&region)?;
        }
        let geometry = header.geometry();
        let selected = select(&region, geometry, &keys)?;
        let cipher = ChunkCipher::new(&keys, bulk(), header.file_id(), geometry);
        Ok(Self { keys, geometry, selected, cipher, tail: 0 })
    }

    /// Of a file that was sealed just now.
    pub(super) fn born(sealed: &Sealed) -> Result<Self, Reason> {
        let keys = FileKeys::new(&sealed.dek, &sealed.file_id).map_err(|_| Reason::Library)?;
        let geometry = sealed.header.geometry();
        let selected = Selected { state: sealed.state, slot: 0, other_damaged: false };
        let cipher = ChunkCipher::new(&keys, bulk(), sealed.file_id, geometry);
        Ok(Self { keys, geometry, selected, cipher, tail: 0 })
    }

    /// Plaintext bytes.
    pub(super) fn length(&self) -> u64 {
        self.selected.state.length
    }
}

/// Seals and opens the chunks of one file.
pub(super) struct ChunkCipher {
    aead: Box<dyn Aead>,
    file_id: FileId,
    geometry: Geometry,
}

impl ChunkCipher {
    pub(super) fn new(keys: &FileKeys, provider: &dyn Provider, file_id: FileId, geometry: Geometry) -> Self {
        Self { aead: keys.content_aead(provider), file_id, geometry }
    }

    /// Seals the consecutive chunks of which `stored` has the plaintext at the place of the ciphertext, the first
    /// being chunk `first`. Returns their tags ("Body").
    pub(super) fn seal(&self, first: u64, stored: &mut [u8]) -> Result<Vec<u8>, CryptoError> {
        let size = self.geometry.stored_chunk_size();
        let count = stored.len().div_ceil(size);
        let mut nonces = vec![0; count * NONCE_SIZE];
        fill_random(&mut nonces);
        let mut tags = Vec::with_capacity(count * TAG_SIZE);
        let nonces = nonces.as_chunks::<NONCE_SIZE>().0.iter();
        for ((index, chunk), nonce) in (first..).zip(stored.chunks_mut(size)).zip(nonces) {
            let (place, data, tag) = parts(chunk).ok_or(CryptoError::Library)?;
            *place = *nonce;
            *tag = self.aead.seal(nonce, &self.additional_data(index), data)?;
            tags.extend_from_slice(tag);
        }
        Ok(tags)
    }

    /// Opens chunk `index` in place; the plaintext is served only once the tag was checked ("Body").
    pub(super) fn open<'a>(&self, index: u64, stored: &'a mut [u8]) -> Result<Opened<'a>, Reason> {
        let (nonce, data, tag) = parts(stored).ok_or(Reason::Chunk)?;
        self.aead.open(nonce, &self.additional_data(index), data, tag).map_err(|_| Reason::Chunk)?;
        Ok(Opened { plaintext: data, tag: *tag })
    }

    pub(super) fn file_id(&self) -> FileId {
        self.file_id
    }

    fn additional_data(&self, index: u64) -> [u8; 24] {
        let mut bytes = [0; 24];
        let fields = self.file_id.as_bytes().iter().copied().chain(index.to_le_bytes());
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }
}

/// A chunk that is authentic.
pub(super) struct Opened<'a> {
    pub(super) plaintext: &'a [u8],
    pub(super) tag: [u8; TAG_SIZE],
}

/// Nonce, data and tag of a stored chunk.
fn parts(stored: &mut [u8]) -> Option<(&mut [u8; NONCE_SIZE], &mut [u8], &mut [u8; TAG_SIZE])> {
    if stored.len() <= CHUNK_OVERHEAD {
        return None;
    }
    let (nonce, rest) = stored.split_first_chunk_mut()?;
    let (data, tag) = rest.split_last_chunk_mut()?;
    Some((nonce, data, tag))
}

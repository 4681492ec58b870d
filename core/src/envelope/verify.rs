//! Checking a whole file without giving out its contents: `docs/spec/envelope.md`, "Opening".

use super::body::Unlocked;
use super::error::{OpenError, Reason};
use super::header::Header;
use super::layout::{NONCE_SIZE, TAG_SIZE};
use super::open::for_each_chunk;
use super::storage::ReadAt;
use crate::crypto::Dek;

/// A file of which every byte was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Plaintext bytes.
    pub length: u64,
    /// Chunks.
    pub chunks: u64,
    /// Generation of the state.
    pub generation: u64,
    /// Whether the file has a root, which then agreed: no chunk is of an older state of the file.
    pub rooted: bool,
    /// Set if a writer was interrupted: stored bytes behind the authenticated end.
    pub interrupted_tail: Option<u64>,
    /// The state slot that does not count is not authentic: torn, or damaged at rest.
    pub spare_slot_damaged: bool,
}

/// Checks header, state, every chunk and the root.
///
/// # Errors
/// See [`OpenError`].
pub fn verify(
    storage: &dyn ReadAt,
    header: &Header,
    dek: &Dek,
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, OpenError> {
    let unlocked = Unlocked::new(storage, header, dek)?;
    for_each_chunk(storage, &unlocked, &mut |plaintext, position| {
        progress(position + plaintext.len() as u64);
        Ok(())
    })?;
    let state = unlocked.selected.state;
    Ok(Verified {
        length: state.length,
        chunks: unlocked.geometry.chunks(state.length),
        generation: state.generation,
        rooted: state.root.is_some(),
        interrupted_tail: state.dirty.then_some(unlocked.tail),
        spare_slot_damaged: unlocked.selected.other_damaged,
    })
}

/// Files up to this many chunks have their tags loaded and checked against the root when they are opened for random
/// access: about a millisecond. Longer ones would make changing one byte a matter of the file's size.
const LOADED_TAGS: u64 = 1024;

/// A chunk's tag.
pub(super) type Tag = [u8; TAG_SIZE];

/// All tags of a file that has a root and few enough chunks, checked against the root ("Opening").
pub(super) fn load_tags(storage: &dyn ReadAt, unlocked: &Unlocked) -> Result<Option<Vec<Tag>>, OpenError> {
    let geometry = unlocked.geometry;
    let length = unlocked.length();
    let chunks = geometry.chunks(length);
    let Some(expected) = unlocked.selected.state.root.filter(|_| chunks <= LOADED_TAGS) else {
        return Ok(None);
    };
    let mut root = unlocked.keys.root();
    let mut tags = Vec::with_capacity(chunks as usize);
    for index in 0..chunks {
        let offset = geometry.offset(index) + (NONCE_SIZE + geometry.chunk_length(length, index)) as u64;
        let mut tag = Tag::default();
        storage.read_exact_at(&mut tag, offset).map_err(OpenError::Storage)?;
        root.update(&tag);
        tags.push(tag);
    }
    if root.finish() == expected { Ok(Some(tags)) } else { Err(Reason::Root.into()) }
}

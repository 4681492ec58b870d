//! Opening by stream: `docs/spec/envelope.md`, "Opening".

use super::body::Unlocked;
use super::error::{OpenError, Reason};
use super::header::Header;
use super::pipeline::segment_chunks;
use super::storage::ReadAt;
use crate::crypto::Dek;
use std::io::Write;
use zeroize::Zeroizing;

/// A file that was opened to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Plaintext bytes written.
    pub bytes: u64,
    /// Set if a writer was interrupted: how many stored bytes lie behind the authenticated end and were left out.
    pub interrupted_tail: Option<u64>,
}

/// Opens all of a file into `sink`. No byte of a chunk is written before its tag was checked; success means that the
/// root agreed too, if the file has one. `progress` is told the bytes written so far.
///
/// # Errors
/// See [`OpenError`]. The sink may then have got some whole authentic chunks, from the start.
pub fn open_stream(
    storage: &dyn ReadAt,
    header: &Header,
    dek: &Dek,
    sink: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Opened, OpenError> {
    let unlocked = Unlocked::new(storage, header, dek)?;
    for_each_chunk(storage, &unlocked, &mut |plaintext, position| {
        sink.write_all(plaintext).map_err(OpenError::Sink)?;
        progress(position + plaintext.len() as u64);
        Ok(())
    })?;
    sink.flush().map_err(OpenError::Sink)?;
    let interrupted_tail = unlocked.selected.state.dirty.then_some(unlocked.tail);
    Ok(Opened { bytes: unlocked.length(), interrupted_tail })
}

/// Takes a chunk's plaintext and its position.
pub(super) type Visit<'a> = dyn FnMut(&[u8], u64) -> Result<(), OpenError> + 'a;

/// Gives every chunk, once authentic, to `visit` in order, then checks the root ("Opening").
pub(super) fn for_each_chunk(
    storage: &dyn ReadAt,
    unlocked: &Unlocked,
    visit: &mut Visit<'_>,
) -> Result<(), OpenError> {
    let (geometry, length) = (unlocked.geometry, unlocked.length());
    let chunks = geometry.chunks(length);
    let step = segment_chunks(geometry) as u64;
    let end = geometry.file_size(length)?;
    let mut root = unlocked.keys.root();
    let mut buffer = Zeroizing::new(Vec::new());
    let mut first = 0;
    while first < chunks {
        let from = geometry.offset(first);
        let to = geometry.offset(first + step).min(end);
        buffer.resize((to - from) as usize, 0);
        storage.read_exact_at(&mut buffer, from).map_err(OpenError::Storage)?;
        for (index, stored) in (first..).zip(buffer.chunks_mut(geometry.stored_chunk_size())) {
            let chunk = unlocked.cipher.open(index, stored)?;
            root.update(&chunk.tag);
            visit(chunk.plaintext, geometry.start(index))?;
        }
        first += step;
    }
    match unlocked.selected.state.root {
        Some(expected) if expected != root.finish() => Err(Reason::Root.into()),
        _ => Ok(()),
    }
}

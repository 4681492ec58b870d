//! Sealing by stream: `docs/spec/envelope.md`, "Sealing".
//!
//! Constant memory for any size. A small file is one write; of a large one the header comes last, so that
//! an interrupted seal does not look like an envelope. Nothing is synced here: the caller decides when.

use super::body::ChunkCipher;
use super::epoch::Epoch;
use super::error::SealError;
use super::header::Header;
use super::layout::{
    CHUNK_OVERHEAD, DEFAULT_CHUNK_LOG2, Geometry, NONCE_SIZE, RESEAL_CHUNKS, SLOTS_SIZE, TAG_SIZE,
};
use super::pipeline::{SMALL, ordered, read_full, segment_chunks, workers};
use super::policy::FilePolicy;
use super::slot::State;
use super::storage::Storage;
use crate::crypto::{Dek, FileKeys, RootMac, bulk};
use crate::ids::FileId;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

/// How to seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealOptions {
    /// Logarithm of the chunk size: 12 (4 KiB) to 20 (1 MiB).
    pub chunk_log2: u8,
    /// Worker threads for files over 1 MiB; 0 for one on each core.
    pub threads: usize,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self { chunk_log2: DEFAULT_CHUNK_LOG2, threads: 0 }
    }
}

/// A file that was sealed.
pub struct Sealed {
    /// Its id.
    pub file_id: FileId,
    /// Plaintext bytes.
    pub length: u64,
    /// The root over its chunks.
    pub root: [u8; 32],
    /// Its header.
    pub header: Header,
    /// Its key, for reading it back; drop it then.
    pub dek: Dek,
    /// What its first slot says.
    pub(super) state: State,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed")
            .field("file_id", &self.file_id)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Seals all of `source` into `sink`, which MUST be empty, for the recipients of `epoch`. `progress` is told
/// the number of plaintext bytes sealed so far, on the calling thread.
///
/// # Errors
/// See [`SealError`]. The sink then holds rubbish; the source was only read.
pub fn seal(
    source: &mut (dyn Read + Send),
    sink: &dyn Storage,
    epoch: &Epoch,
    policy: FilePolicy,
    options: &SealOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Sealed, SealError> {
    if !(12..=20).contains(&options.chunk_log2) {
        return Err(SealError::ChunkSize);
    }
    if !sink.is_empty().map_err(SealError::Storage)? {
        return Err(SealError::Storage(io::ErrorKind::AlreadyExists.into()));
    }
    let (file_id, dek) = (FileId::generate(), Dek::generate());
    let keys = FileKeys::new(&dek, &file_id)?;
    let header = Header::build(file_id, &dek, &keys, &policy, epoch, options.chunk_log2, None)?;
    let geometry = header.geometry();
    let cipher = ChunkCipher::new(&keys, bulk(), file_id, geometry);

    // The first MiB is sealed here, behind room for the header: most files end there.
    let region = geometry.header_size();
    let mut start = vec![0; region];
    let most = (SMALL / geometry.chunk_size()).max(1);
    let head = fill(source, &mut start, region, geometry, most).map_err(SealError::Source)?;
    start.truncate(region + head.stored);
    let (_, body) = start.split_at_mut(region);
    let mut totals = Totals { root: keys.root(), length: 0 };
    totals.add(head.plain, &cipher.seal(0, body)?);
    progress(totals.length);

    if !head.ended {
        sink.write_all_at(body, region as u64).map_err(SealError::Storage)?;
        start.truncate(region);
        seal_rest(source, sink, &cipher, geometry, most as u64, options.threads, &mut totals, progress)?;
    }

    let Totals { root, length } = totals;
    let root = root.finish();
    let state = State { generation: geometry.chunks(length) + 1, length, dirty: false, root: Some(root) };
    let slots = region - SLOTS_SIZE;
    let fields = header.wire_bytes();
    start.iter_mut().zip(fields).for_each(|(byte, field)| *byte = *field);
    start.iter_mut().skip(slots).zip(state.encode(&keys)).for_each(|(byte, field)| *byte = field);
    sink.write_all_at(&start, 0).map_err(SealError::Storage)?;
    Ok(Sealed { file_id, length, root, header, dek, state })
}

/// Seals what follows the first `first` chunks, on several cores.
#[expect(clippy::too_many_arguments, reason = "the second half of one function, split for its length")]
fn seal_rest(
    source: &mut (dyn Read + Send),
    sink: &dyn Storage,
    cipher: &ChunkCipher,
    geometry: Geometry,
    first: u64,
    threads: usize,
    totals: &mut Totals,
    progress: &mut dyn FnMut(u64),
) -> Result<(), SealError> {
    let chunks = segment_chunks(geometry);
    let input = Mutex::new(Input { source, next: 0, ended: false });
    let worker = || {
        let mut buffer = Vec::new();
        let input = &input;
        move || {
            let (number, filled) = {
                let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
                if input.ended {
                    return Ok(None);
                }
                // Whatever happens below, no other worker reads behind an error.
                input.ended = true;
                let number = input.next;
                if first + (number + 1) * chunks as u64 > RESEAL_CHUNKS {
                    return Err(SealError::TooLong);
                }
                let filled =
                    fill(input.source, &mut buffer, 0, geometry, chunks).map_err(SealError::Source)?;
                input.next += 1;
                input.ended = filled.ended;
                (number, filled)
            };
            let index = first + number * chunks as u64;
            let stored = buffer.get_mut(..filled.stored).unwrap_or_default();
            let tags = cipher.seal(index, stored)?;
            sink.write_all_at(stored, geometry.offset(index)).map_err(SealError::Storage)?;
            Ok(Some((number, (filled.plain, tags))))
        }
    };
    ordered(workers(threads), 0, worker, |(plain, tags)| {
        totals.add(plain, &tags);
        progress(totals.length);
    })
}

/// The source, and the number of the segment that is read next.
struct Input<'a> {
    source: &'a mut (dyn Read + Send),
    next: u64,
    ended: bool,
}

/// What is summed over the chunks in order.
struct Totals {
    root: RootMac,
    length: u64,
}

impl Totals {
    fn add(&mut self, plain: usize, tags: &[u8]) {
        self.root.update(tags);
        self.length += plain as u64;
    }
}

/// How much of the source came into a buffer.
struct Filled {
    /// Plaintext bytes.
    plain: usize,
    /// Bytes with nonces and tags.
    stored: usize,
    /// The source has no more.
    ended: bool,
}

/// Reads up to `chunks` chunks of plaintext to where their ciphertext will be, from `at` in `buffer`, which grows as
/// far as needed.
fn fill(
    source: &mut dyn Read,
    buffer: &mut Vec<u8>,
    at: usize,
    geometry: Geometry,
    chunks: usize,
) -> io::Result<Filled> {
    let mut filled = Filled { plain: 0, stored: 0, ended: false };
    for _ in 0..chunks {
        let from = at + filled.stored;
        let to = from + geometry.stored_chunk_size();
        if buffer.len() < to {
            buffer.resize(to, 0);
        }
        let place = buffer.get_mut(from + NONCE_SIZE..to - TAG_SIZE).unwrap_or_default();
        let count = read_full(source, place)?;
        filled.plain += count;
        filled.ended = count < geometry.chunk_size();
        if count > 0 {
            filled.stored += count + CHUNK_OVERHEAD;
        }
        if filled.ended {
            break;
        }
    }
    Ok(filled)
}

//! The second decoder: reads an envelope back after sealing and compares it with its source, before the source is
//! given up. `docs/spec/envelope.md`, "Reading back".
//!
//! It shares no parsing code and, through the given provider, no cipher, MAC or key derivation with what
//! sealed: a fault in either is seen as a difference. It accepts only what a fresh seal makes (slot 0 clean with a root,
//! slot 1 blank), which is less than a reader accepts.

use super::error::{ReadBackError, Reason};
use super::pipeline::{SMALL, ordered, read_full, workers};
use super::storage::ReadAt;
use crate::crypto::{Aead, Dek, FileKeys, Provider, constant_time_equal};
use crate::ids::FileId;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// Plaintext bytes that a worker compares at once, unless one chunk is larger.
const SEGMENT: usize = 256 * 1024;

/// Checks that `sealed` is a whole envelope of exactly the bytes of `source`, with `provider` (the
/// [second](crate::crypto::second), unless a test compares both).
///
/// # Errors
/// See [`ReadBackError`]; on any of them the source MUST be kept.
pub fn read_back(
    sealed: &dyn ReadAt,
    dek: &Dek,
    source: &mut (dyn Read + Send),
    provider: &'static dyn Provider,
) -> Result<(), ReadBackError> {
    let body = Body::read(sealed, dek, provider)?;
    let per_segment = (SEGMENT / body.chunk_size).max(1);
    let threads = if body.length <= SMALL as u64 { 1 } else { workers(0) };
    let input = Mutex::new((source, 0_u64));
    let worker = || {
        let (input, body) = (&input, &body);
        let mut plain = Zeroizing::new(Vec::new());
        let mut stored = Zeroizing::new(Vec::new());
        move || {
            let (number, position) = {
                let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
                let (source, next) = &mut *input;
                let number = *next;
                let position = number * (per_segment * body.chunk_size) as u64;
                if position >= body.length {
                    return Ok(None);
                }
                // Another worker that comes here after an error below compares other bytes; both fail.
                *next += 1;
                let expected = (body.length - position).min((per_segment * body.chunk_size) as u64);
                plain.resize(expected as usize, 0);
                let count = read_full(*source, &mut plain).map_err(ReadBackError::Source)?;
                if count < plain.len() {
                    return Err(ReadBackError::Differs(position + count as u64));
                }
                (number, position)
            };
            let first = number * per_segment as u64;
            let chunks = plain.len().div_ceil(body.chunk_size);
            stored.resize(plain.len() + chunks * 28, 0);
            let offset = body.start + first * (body.chunk_size as u64 + 28);
            sealed.read_exact_at(&mut stored, offset).map_err(ReadBackError::Storage)?;
            let tags = body.compare(first, position, &plain, &mut stored)?;
            Ok(Some((number, tags)))
        }
    };
    let mut root = body.keys.root();
    ordered(threads, 0, worker, |tags: Vec<u8>| root.update(&tags))?;
    if !constant_time_equal(&root.finish(), &body.root) {
        return Err(Reason::Root.into());
    }
    let mut more = [0];
    let (source, _) = input.into_inner().unwrap_or_else(PoisonError::into_inner);
    match read_full(source, &mut more).map_err(ReadBackError::Source)? {
        0 => Ok(()),
        _ => Err(ReadBackError::Differs(body.length)),
    }
}

/// What the second decoder takes from the header region.
struct Body {
    keys: FileKeys,
    aead: Box<dyn Aead>,
    file_id: [u8; 16],
    start: u64,
    chunk_size: usize,
    length: u64,
    root: [u8; 32],
}

impl Body {
    /// Parses the header region of a fresh envelope ("Header", "State slots"), front to back.
    fn read(sealed: &dyn ReadAt, dek: &Dek, provider: &'static dyn Provider) -> Result<Self, ReadBackError> {
        let mut region = vec![0; 4096];
        sealed.read_exact_at(&mut region, 0).map_err(ReadBackError::Storage)?;
        let size = Cursor { rest: &region }.region_size()?;
        if size > region.len() {
            region.resize(size, 0);
            sealed.read_exact_at(&mut region, 0).map_err(ReadBackError::Storage)?;
        }

        let mut cursor = Cursor { rest: &region };
        cursor.expect(b"\x89TBR\r\n\x1a\n\x01\0\0\0", Reason::Magic)?;
        cursor.take::<4>()?;
        let chunk_log2 = u32::from_le_bytes(cursor.take()?);
        cursor.expect(&[0; 4], Reason::Version)?;
        let file_id = cursor.take::<16>()?;
        let policy = u32::from_le_bytes(cursor.take()?) as usize;
        let recipients = u32::from_le_bytes(cursor.take()?) as usize;
        cursor.skip(policy)?;
        cursor.skip(recipients)?;
        let covered = region.len() - cursor.rest.len();
        let mac = cursor.take::<32>()?;
        let padding = cursor.rest.len().checked_sub(1024).ok_or(Reason::Length)?;
        cursor.zeros(padding)?;
        let slot = cursor.rest;
        let generation = u64::from_le_bytes(cursor.take()?);
        let length = u64::from_le_bytes(cursor.take()?);
        cursor.expect(&[2, 0, 0, 0, 0, 0, 0, 0], Reason::SlotContents)?;
        let root = cursor.take::<32>()?;
        let slot_mac = cursor.take::<32>()?;
        cursor.zeros(512 - 88)?;
        cursor.zeros(512)?;

        let keys = FileKeys::with_provider(provider, dek, &FileId::from_bytes(file_id))
            .map_err(|_| Reason::Library)?;
        if !keys.header_mac_fits(region.get(..covered).ok_or(Reason::Length)?, &mac) {
            return Err(Reason::HeaderMac.into());
        }
        if !keys.state_mac_fits(slot.get(..56).ok_or(Reason::Length)?, &slot_mac) {
            return Err(Reason::Slots.into());
        }
        if !(12..=20).contains(&chunk_log2) {
            return Err(Reason::Length.into());
        }
        let chunk_size = 1_usize << chunk_log2;
        let chunks = length.div_ceil(chunk_size as u64);
        let expected = chunks.checked_mul(28).and_then(|extra| extra.checked_add(length));
        let expected = expected.and_then(|body| body.checked_add(region.len() as u64));
        if generation != chunks + 1 || expected != Some(sealed.len().map_err(ReadBackError::Storage)?) {
            return Err(Reason::Size.into());
        }
        let aead = keys.content_aead(provider);
        Ok(Self { keys, aead, file_id, start: region.len() as u64, chunk_size, length, root })
    }

    /// Opens the chunks in `stored`, the first of which has index `first`, and compares them with `plain`. Returns
    /// their tags.
    fn compare(
        &self,
        first: u64,
        position: u64,
        plain: &[u8],
        stored: &mut [u8],
    ) -> Result<Vec<u8>, ReadBackError> {
        let mut tags = Vec::new();
        let pairs = plain.chunks(self.chunk_size).zip(stored.chunks_mut(self.chunk_size + 28));
        for (index, (expected, chunk)) in (first..).zip(pairs) {
            let (nonce, rest) = chunk.split_first_chunk_mut::<12>().ok_or(Reason::Length)?;
            let (data, tag) = rest.split_last_chunk_mut::<16>().ok_or(Reason::Length)?;
            let mut additional = self.file_id.to_vec();
            additional.extend_from_slice(&index.to_le_bytes());
            self.aead.open(nonce, &additional, data, tag).map_err(|_| Reason::Chunk)?;
            if *data != *expected {
                let within = data.iter().zip(expected).take_while(|(left, right)| left == right).count();
                let chunk_start = position + (index - first) * self.chunk_size as u64;
                return Err(ReadBackError::Differs(chunk_start + within as u64));
            }
            tags.extend_from_slice(tag);
        }
        Ok(tags)
    }
}

/// Takes fields from the front.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn region_size(&mut self) -> Result<usize, Reason> {
        self.skip(12)?;
        let size = u32::from_le_bytes(self.take()?) as usize;
        if size.is_multiple_of(4096) && (4096..=65536).contains(&size) {
            Ok(size)
        } else {
            Err(Reason::Length)
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(Reason::Length)?;
        self.rest = rest;
        Ok(*field)
    }

    fn skip(&mut self, count: usize) -> Result<(), Reason> {
        self.rest = self.rest.get(count..).ok_or(Reason::Length)?;
        Ok(())
    }

    fn expect(&mut self, bytes: &[u8], reason: Reason) -> Result<(), Reason> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(reason)?;
        Ok(())
    }

    fn zeros(&mut self, count: usize) -> Result<(), Reason> {
        let (zeros, rest) = self.rest.split_at_checked(count).ok_or(Reason::Length)?;
        self.rest = rest;
        if zeros.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(Reason::Padding) }
    }
}

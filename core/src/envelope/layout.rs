//! Sizes and positions of an envelope: `docs/spec/envelope.md`, "Layout". No I/O, no keys.

use super::error::Reason;

/// The first eight bytes of every envelope: ".TBR" with the line-ending guards that PNG uses.
pub const MAGIC: [u8; 8] = [0x89, b'T', b'B', b'R', 0x0D, 0x0A, 0x1A, 0x0A];

/// Chunks of 16 KiB unless configured.
pub const DEFAULT_CHUNK_LOG2: u8 = 14;

/// Most recipients of one envelope.
pub const MAX_RECIPIENTS: usize = 16;

/// Bytes before the policy.
pub(super) const FIXED_SIZE: usize = 48;
/// The bytes, from the start, that a wrapped DEK is bound to.
pub(super) const BOUND_SIZE: usize = 40;
/// Length of a MAC or root.
pub(super) const MAC_SIZE: usize = 32;
/// The header region is a multiple of this, and at least this.
pub(super) const HEADER_UNIT: usize = 4096;
/// Largest header region.
pub(super) const MAX_HEADER_SIZE: usize = 65536;
/// Length of a state slot.
pub(super) const SLOT_SIZE: usize = 512;
/// Both slots, at the end of the header region.
pub(super) const SLOTS_SIZE: usize = 2 * SLOT_SIZE;
/// Nonce before a chunk's ciphertext.
pub(super) const NONCE_SIZE: usize = 12;
/// Tag after a chunk's ciphertext.
pub(super) const TAG_SIZE: usize = 16;
/// What a chunk takes beyond its plaintext.
pub(super) const CHUNK_OVERHEAD: usize = NONCE_SIZE + TAG_SIZE;
/// Most chunks of a body: what a content key may seal in its life.
pub(super) const MAX_CHUNKS: u64 = 1 << 32;
/// Past this many chunks sealed under one content key, the file has to be resealed.
pub(super) const RESEAL_CHUNKS: u64 = 1 << 31;

/// Whether a file that begins with `prefix` claims to be an envelope. Eight bytes are enough; a shorter
/// prefix is not one.
pub fn looks_sealed(prefix: &[u8]) -> bool {
    prefix.starts_with(&MAGIC)
}

/// A fixed-size field at `offset`.
pub(super) fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Reason> {
    bytes.get(offset..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(Reason::Length)
}

/// `bytes[from..to]`, refused instead of a panic.
pub(super) fn span(bytes: &[u8], from: usize, to: usize) -> Result<&[u8], Reason> {
    bytes.get(from..to).ok_or(Reason::Length)
}

/// Where the chunks of a file lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    header_size: u32,
    chunk_log2: u8,
}

impl Geometry {
    /// Geometry from header fields that were checked.
    pub(super) fn new(header_size: u32, chunk_log2: u8) -> Result<Self, Reason> {
        let units = header_size as usize;
        if !units.is_multiple_of(HEADER_UNIT)
            || !(HEADER_UNIT..=MAX_HEADER_SIZE).contains(&units)
            || !(12..=20).contains(&chunk_log2)
        {
            return Err(Reason::Length);
        }
        Ok(Self { header_size, chunk_log2 })
    }

    /// H.
    pub(super) fn header_size(self) -> usize {
        self.header_size as usize
    }

    /// C.
    pub(super) fn chunk_size(self) -> usize {
        1 << self.chunk_log2
    }

    /// log2 C.
    pub(super) fn chunk_log2(self) -> u8 {
        self.chunk_log2
    }

    /// C + 28.
    pub(super) fn stored_chunk_size(self) -> usize {
        self.chunk_size() + CHUNK_OVERHEAD
    }

    /// Number of chunks of `length` bytes of plaintext.
    pub(super) fn chunks(self, length: u64) -> u64 {
        length.div_ceil(self.chunk_size() as u64)
    }

    /// Chunk that holds plaintext byte `position`, and the position in it.
    pub(super) fn locate(self, position: u64) -> (u64, usize) {
        (position >> self.chunk_log2, (position & (self.chunk_size() as u64 - 1)) as usize)
    }

    /// Plaintext position at which chunk `index` begins.
    pub(super) fn start(self, index: u64) -> u64 {
        index << self.chunk_log2
    }

    /// Plaintext bytes of chunk `index` in a file of `length` bytes; 0 behind the end.
    pub(super) fn chunk_length(self, length: u64, index: u64) -> usize {
        length.saturating_sub(self.start(index)).min(self.chunk_size() as u64) as usize
    }

    /// Position of chunk `index` in the file. Correct up to [`MAX_CHUNKS`].
    pub(super) fn offset(self, index: u64) -> u64 {
        u64::from(self.header_size) + index * self.stored_chunk_size() as u64
    }

    /// Size of an envelope with `length` bytes of plaintext: H + length + 28 × chunks.
    pub(super) fn file_size(self, length: u64) -> Result<u64, Reason> {
        let chunks = self.chunks(length);
        if chunks > MAX_CHUNKS {
            return Err(Reason::Length);
        }
        Ok(u64::from(self.header_size) + length + chunks * CHUNK_OVERHEAD as u64)
    }
}

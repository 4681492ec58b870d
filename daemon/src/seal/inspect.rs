//! What a file holds: plaintext, an envelope of ours, or something that only claims to be one.
//!
//! There is no key here, so an envelope is recognised by its form: a header that parses, this organisation,
//! a size that fits. Whoever forges that only leaves their own file unsealed under a false label; no key
//! server opens it, and the coverage scan of a terminal with grants finds it.

use super::stop::Stop;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use tobari_core::envelope::{Header, MAGIC, OpenError, looks_sealed};
use tobari_core::ids::OrganisationId;

/// Size of a state slot; two of them end the header region (docs/spec/envelope.md, "Layout").
const SLOT: u64 = 512;
/// Nonce and tag of a chunk.
const CHUNK_OVERHEAD: u64 = 28;
/// Slot flag: a writer was at work, the body may be longer than the length says.
const DIRTY: u32 = 1;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Anything that is not an envelope.
    Plain,
    /// An envelope of this organisation.
    Sealed,
    /// It begins as an envelope does, but is damaged or of another organisation; why.
    Foreign(String),
}

/// Looks at the first bytes of `file`, which has `size` bytes, and at the header if there is one.
pub(crate) fn inspect(file: &File, size: u64, organisation: OrganisationId) -> Result<Content, Stop> {
    let mut prefix = [0; MAGIC.len()];
    if size < MAGIC.len() as u64 {
        return Ok(Content::Plain);
    }
    match file.read_exact_at(&mut prefix, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Content::Plain),
        Err(error) => return Err(error.into()),
    }
    if !looks_sealed(&prefix) {
        return Ok(Content::Plain);
    }
    let foreign = |why: &str| Ok(Content::Foreign(why.to_owned()));
    let header = match Header::read(file) {
        Ok(header) => header,
        Err(OpenError::Storage(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(error.into());
        }
        Err(_) => return foreign("it begins as a sealed file does, but its header is damaged"),
    };
    if header.policy().organisation != organisation {
        return foreign("it is sealed by another organisation");
    }
    if !size_fits(file, &header, size)? {
        return foreign("it is a sealed file whose size does not fit: cut, or written to without unsealing");
    }
    Ok(Content::Sealed)
}

/// Whether `size` is what one of the two state slots says.
fn size_fits(file: &File, header: &Header, size: u64) -> Result<bool, Stop> {
    let region = u64::from(header.header_size());
    let chunk = u64::from(header.chunk_size());
    for number in [2, 1] {
        let mut slot = [0; 24];
        match file.read_exact_at(&mut slot, region.saturating_sub(number * SLOT)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let [_generation, length, flags] = slot.as_chunks::<8>().0 else { continue };
        let length = u64::from_le_bytes(*length);
        let dirty = u64::from_le_bytes(*flags) & u64::from(DIRTY) != 0;
        let body =
            length.div_ceil(chunk).checked_mul(CHUNK_OVERHEAD).and_then(|extra| extra.checked_add(length));
        let Some(expected) = body.and_then(|body| body.checked_add(region)) else { continue };
        if size == expected || (dirty && size > expected) {
            return Ok(true);
        }
    }
    Ok(false)
}

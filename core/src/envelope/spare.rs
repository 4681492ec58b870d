//! The header that an envelope is about to get: a copy in the header region, whole and synced before the header itself is
//! written over. So a header change is atomic for every reader of the file alone, wherever it was cut short.
//! `docs/spec/envelope.md`, "Header copy".

use super::header::{Header, read_region};
use super::layout::{BOUND_SIZE, Geometry, MAC_SIZE, SLOTS_SIZE, field, span};
use super::slot::select;
use super::storage::{ReadAt, Storage};
use super::{OpenError, WriteError};
use crate::crypto::{Dek, FileKeys, sha256};
use std::ops::Range;

/// "\x89TBN" and the guards of the envelope's magic.
const MAGIC: [u8; 8] = *b"\x89TBN\r\n\x1a\n";
/// Bytes before the copied header: magic, size, zeros, SHA-256.
pub(super) const SPARE_FIXED: usize = 16 + MAC_SIZE;

/// Where the copy lies: the second half of what is before the slots. A multiple of 512 at both ends.
pub(super) fn place(geometry: Geometry) -> Range<usize> {
    let end = geometry.header_size() - SLOTS_SIZE;
    end / 2..end
}

/// Whether a header of so many bytes, and a copy of one as large, fit into the region.
pub(super) fn fits(geometry: Geometry, wire_size: usize) -> bool {
    wire_size + SPARE_FIXED <= place(geometry).start
}

/// The whole copy in a header region, if there is one. It counts before what is stored as the header. No key is
/// needed to tell: a torn write has another hash. Whether it is authentic is another question, as with any header.
pub(super) fn find(region: &[u8], geometry: Geometry) -> Option<Header> {
    let bytes = region.get(place(geometry))?;
    if field::<8>(bytes, 0).ok()? != MAGIC || field::<4>(bytes, 12).ok()? != [0; 4] {
        return None;
    }
    let size = u32::from_le_bytes(field(bytes, 8).ok()?) as usize;
    let wire = span(bytes, SPARE_FIXED, SPARE_FIXED.checked_add(size)?).ok()?;
    // What file it is and where its parts lie never changes, so it is whole in the stored header too.
    let same_file = wire.get(..BOUND_SIZE)? == region.get(..BOUND_SIZE)?;
    if !same_file || !fits(geometry, size) || field::<MAC_SIZE>(bytes, 16).ok()? != sha256(&[wire]) {
        return None;
    }
    Header::parse_wire(wire).ok()
}

/// The bytes of the place with a copy of `header` in it.
fn encode(header: &Header) -> Vec<u8> {
    let wire = header.wire_bytes();
    let place = place(header.geometry());
    let mut bytes = Vec::with_capacity(place.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&(wire.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&sha256(&[wire]));
    bytes.extend_from_slice(wire);
    bytes.resize(place.len(), 0);
    bytes
}

/// Whether a header change was begun and not ended; then [`settle`] ends it. The file opens all the same.
///
/// # Errors
/// [`OpenError::Refused`] when it is no envelope; [`OpenError::Storage`].
pub fn header_change_pending(storage: &dyn ReadAt) -> Result<bool, OpenError> {
    let (region, header) = Header::read_with_region(storage)?;
    let used = fits(header.geometry(), header.wire_bytes().len());
    Ok(used
        && span(&region, place(header.geometry()).start, place(header.geometry()).end)?
            .iter()
            .any(|byte| *byte != 0))
}

/// Ends a header change that was interrupted: the new header is put in its place if its copy is whole, and the copy is
/// removed. Can be repeated, and interrupted itself. Whether there was something to do.
///
/// # Errors
/// See [`WriteError`]; the file then opens as before.
pub fn settle(storage: &dyn Storage, dek: &Dek) -> Result<bool, WriteError> {
    if !header_change_pending(storage)? {
        return Ok(false);
    }
    let header = Header::read(storage)?;
    let keys = FileKeys::new(dek, &header.file_id()).map_err(|_| super::error::Reason::Library)?;
    header.authenticate_with(&keys)?;
    let region = read_region(storage)?;
    select(&region, header.geometry(), &keys)?;
    match find(&region, header.geometry()) {
        // The copy is written once more: an error of a sync may have left it in memory alone.
        Some(copy) => put(storage, &copy)?,
        None => blank(storage, header.geometry())?,
    }
    Ok(true)
}

/// Replaces the header, which has to [fit](fits). At every point the file has one whole header: first the old one, then the
/// copy, then the new one.
pub(super) fn put(storage: &dyn Storage, header: &Header) -> Result<(), WriteError> {
    copy(storage, header)?;
    replace(storage, header)
}

/// The first step: the copy, whole and synced.
pub(super) fn copy(storage: &dyn Storage, header: &Header) -> Result<(), WriteError> {
    let place = place(header.geometry());
    storage.write_all_at(&encode(header), place.start as u64).map_err(WriteError::Storage)?;
    storage.sync_data().map_err(WriteError::Storage)
}

/// The second and third: the header in its place, synced, and the copy removed.
pub(super) fn replace(storage: &dyn Storage, header: &Header) -> Result<(), WriteError> {
    let place = place(header.geometry());
    let mut bytes = header.wire_bytes().to_vec();
    bytes.resize(place.start, 0);
    storage.write_all_at(&bytes, 0).map_err(WriteError::Storage)?;
    storage.sync_data().map_err(WriteError::Storage)?;
    blank(storage, header.geometry())
}

/// Removes the copy. The stored header has to be whole on the disk.
pub(super) fn blank(storage: &dyn Storage, geometry: Geometry) -> Result<(), WriteError> {
    let place = place(geometry);
    storage.write_all_at(&vec![0; place.len()], place.start as u64).map_err(WriteError::Storage)?;
    storage.sync_data().map_err(WriteError::Storage)
}

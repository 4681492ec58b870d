//! The header: who may open a file, under which policy. `docs/spec/envelope.md`, "Header".
//!
//! A [`Header`] is well-formed, not authentic: that takes the DEK ([`Header::authenticate`],
//! [`Header::unwrap`]). Nothing in it chooses an algorithm, except the kind of a stanza.

use super::cbor::encode_stanzas;
use super::epoch::Epoch;
use super::error::{OpenError, Reason, Refused, SealError};
use super::layout::{
    BOUND_SIZE, CHUNK_OVERHEAD, FIXED_SIZE, Geometry, HEADER_UNIT, MAC_SIZE, MAGIC, MAX_HEADER_SIZE,
    SLOTS_SIZE, field, span,
};
use super::policy::FilePolicy;
use super::spare::{self, SPARE_FIXED};
use super::stanza::{Stanza, decode_recipients};
use super::storage::ReadAt;
use crate::crypto::{Dek, FileKeys, SharedSecret, WrapContext, constant_time_equal, sha256};
use crate::ids::FileId;
use std::io;

/// A parsed header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    geometry: Geometry,
    file_id: FileId,
    policy: FilePolicy,
    stanzas: Vec<Stanza>,
    policy_hash: [u8; 32],
    wire: Vec<u8>,
}

impl Header {
    /// Parses a header ("Header"): either its wire form (magic to header MAC, nothing more), or the whole
    /// header region or more of a file. There the padding is checked too, and a whole header copy counts before what it is
    /// about to replace ("Header copy").
    ///
    /// # Errors
    /// [`Refused`] if it is not the canonical encoding of a header of version 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        if let Ok(geometry) = Fixed::geometry(bytes)
            && let Some(copy) = spare::find(bytes, geometry)
        {
            return Ok(copy);
        }
        let fixed = Fixed::parse(bytes)?;
        if bytes.len() != fixed.wire_size && !padding(bytes, &fixed)?.iter().all(|byte| *byte == 0) {
            return Err(Reason::Padding.into());
        }
        Ok(Self::parse_wire(span(bytes, 0, fixed.wire_size)?)?)
    }

    /// Parses the wire form.
    pub(super) fn parse_wire(wire: &[u8]) -> Result<Self, Reason> {
        let fixed = Fixed::parse(wire)?;
        if wire.len() != fixed.wire_size {
            return Err(Reason::Length);
        }
        let policy = span(wire, FIXED_SIZE, FIXED_SIZE + fixed.policy_size)?;
        let recipients = span(wire, FIXED_SIZE + fixed.policy_size, fixed.wire_size - MAC_SIZE)?;
        Ok(Self {
            geometry: fixed.geometry,
            file_id: fixed.file_id,
            policy: FilePolicy::decode(policy)?,
            stanzas: decode_recipients(recipients)?,
            policy_hash: sha256(&[span(wire, 0, BOUND_SIZE)?, policy]),
            wire: wire.to_vec(),
        })
    }

    /// Reads the header of a file ("Header"), also while it is being replaced.
    ///
    /// # Errors
    /// [`OpenError::Refused`] as [`Self::parse`]; [`OpenError::Storage`].
    pub fn read(storage: &dyn ReadAt) -> Result<Self, OpenError> {
        Ok(Self::read_with_region(storage)?.1)
    }

    pub(super) fn read_with_region(storage: &dyn ReadAt) -> Result<(Vec<u8>, Self), OpenError> {
        let region = read_region(storage)?;
        let header = Self::parse(&region)?;
        Ok((region, header))
    }

    /// The file's id.
    pub fn file_id(&self) -> FileId {
        self.file_id
    }

    /// The policy.
    pub fn policy(&self) -> &FilePolicy {
        &self.policy
    }

    /// The recipients, 1 to 16.
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Plaintext bytes of a full chunk.
    pub fn chunk_size(&self) -> u32 {
        1 << self.geometry.chunk_log2()
    }

    /// Bytes of the header region, before the body.
    pub fn header_size(&self) -> u32 {
        self.geometry.header_size() as u32
    }

    /// The bytes from the magic through the header MAC: what travels to the key server.
    pub fn wire_bytes(&self) -> &[u8] {
        &self.wire
    }

    /// Checks that this header was made by somebody who has `dek` ("Header").
    ///
    /// # Errors
    /// [`Refused`] if not.
    pub fn authenticate(&self, dek: &Dek) -> Result<(), Refused> {
        let keys = FileKeys::new(dek, &self.file_id).map_err(|_| Reason::Library)?;
        Ok(self.authenticate_with(&keys)?)
    }

    /// Opens `stanza` with the secret of its encapsulation and checks the header with the DEK that it
    /// holds ("Recipients").
    ///
    /// # Errors
    /// [`Refused`] if the stanza is not one of this header, or was not made for this file id and policy, or the
    /// header is not authentic.
    pub fn unwrap(&self, stanza: &Stanza, secret: &SharedSecret) -> Result<Dek, Refused> {
        if !self.stanzas.contains(stanza) {
            return Err(Reason::ForeignStanza.into());
        }
        let context = WrapContext {
            kind: stanza.kind,
            key_id: &stanza.key_id,
            encapsulation_hash: &stanza.encapsulation_hash(),
            file: &self.file_id,
            policy_hash: &self.policy_hash,
        };
        let dek = secret.unwrap_dek(&context, &stanza.wrapped_dek).map_err(|_| Reason::Wrap)?;
        self.authenticate(&dek)?;
        Ok(dek)
    }

    pub(super) fn authenticate_with(&self, keys: &FileKeys) -> Result<(), Reason> {
        let end = self.wire.len().saturating_sub(MAC_SIZE);
        let fits = keys.header_mac_fits(span(&self.wire, 0, end)?, span(&self.wire, end, self.wire.len())?);
        if fits { Ok(()) } else { Err(Reason::HeaderMac) }
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Checks that `region`, a header region as stored, has this header ("Header").
    pub(super) fn check_region(&self, region: &[u8]) -> Result<(), Reason> {
        let geometry = Fixed::geometry(region).map_err(|_| Reason::HeaderChanged)?;
        if let Some(copy) = spare::find(region, geometry) {
            let same = constant_time_equal(&copy.wire, &self.wire);
            return if same { Ok(()) } else { Err(Reason::HeaderChanged) };
        }
        let fixed = Fixed::parse(region).map_err(|_| Reason::HeaderChanged)?;
        let stored = span(region, 0, fixed.wire_size).map_err(|_| Reason::HeaderChanged)?;
        if !padding(region, &fixed)?.iter().all(|byte| *byte == 0) {
            return Err(Reason::Padding);
        }
        // What is the same bytes as this header needs not be parsed again.
        if constant_time_equal(stored, &self.wire) { Ok(()) } else { Err(Reason::HeaderChanged) }
    }

    /// Makes a header for `dek`, of which `keys` are derived, and the recipients of `epoch`. `header_size` keeps the
    /// size of an existing region; without it the smallest one is taken.
    pub(super) fn build(
        file_id: FileId,
        dek: &Dek,
        keys: &FileKeys,
        policy: &FilePolicy,
        epoch: &Epoch,
        chunk_log2: u8,
        header_size: Option<u32>,
    ) -> Result<Self, SealError> {
        epoch.take()?;
        let policy = policy.encode()?;
        let mut stanzas = epoch.blank_stanzas();
        let recipients_size = encode_recipients(&stanzas)?.len();
        let wire_size = FIXED_SIZE + policy.len() + recipients_size + MAC_SIZE;
        // With room for a copy, so that the header can be replaced.
        let needed = 2 * (wire_size + SPARE_FIXED) + SLOTS_SIZE;
        let region = header_size.map_or(needed.next_multiple_of(HEADER_UNIT), |size| size as usize);
        if needed > region || region > MAX_HEADER_SIZE {
            return Err(SealError::HeaderFull);
        }
        let mut wire = Vec::with_capacity(wire_size);
        wire.extend_from_slice(&MAGIC);
        wire.extend_from_slice(&VERSION_AND_FLAGS);
        wire.extend_from_slice(&(region as u32).to_le_bytes());
        wire.extend_from_slice(&u32::from(chunk_log2).to_le_bytes());
        wire.extend_from_slice(&[0; 4]);
        wire.extend_from_slice(file_id.as_bytes());
        let policy_hash = sha256(&[&wire, &policy]);
        epoch.wrap(&mut stanzas, &file_id, &policy_hash, dek)?;
        wire.extend_from_slice(&(policy.len() as u32).to_le_bytes());
        wire.extend_from_slice(&(recipients_size as u32).to_le_bytes());
        wire.extend_from_slice(&policy);
        wire.extend_from_slice(&encode_recipients(&stanzas)?);
        let mac = keys.header_mac(&wire);
        wire.extend_from_slice(&mac);
        // A header that its own parser refuses must never reach a file.
        Self::parse_wire(&wire).map_err(|_| SealError::Policy)
    }
}

/// Plaintext bytes of a file of `stored` bytes that begins with `prefix` ("Layout"): by its size alone, which takes no key. None if
/// it does not begin like an envelope. [`PREFIX_SIZE`] bytes are enough. Not authentic, and too much where a writer was
/// interrupted; opening finds the true length.
pub fn plaintext_length(prefix: &[u8], stored: u64) -> Option<u64> {
    let geometry = Fixed::geometry(prefix).ok()?;
    let body = stored.checked_sub(geometry.header_size() as u64)?;
    let chunk = geometry.stored_chunk_size() as u64;
    let rest = (body % chunk).saturating_sub(CHUNK_OVERHEAD as u64);
    Some(body / chunk * geometry.chunk_size() as u64 + rest)
}

/// Bytes that [`plaintext_length`] looks at.
pub const PREFIX_SIZE: usize = 24;

/// The id of a file that begins like an envelope: the same as long as it is the same file, whatever happens to its header. Not
/// authentic.
///
/// # Errors
/// [`OpenError::Refused`] when it does not begin like one; [`OpenError::Storage`].
pub fn stored_file_id(storage: &dyn ReadAt) -> Result<FileId, OpenError> {
    let mut prefix = [0; BOUND_SIZE];
    match storage.read_exact_at(&mut prefix, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Reason::Length.into()),
        other => other.map_err(OpenError::Storage)?,
    }
    Fixed::geometry(&prefix)?;
    Ok(FileId::from_bytes(field(&prefix, BOUND_SIZE - 16)?))
}

/// What has to be zero behind a header in its region: up to the place of the copy, where the rest of a torn copy may
/// lie; up to the slots when the header leaves no such place.
fn padding<'a>(region: &'a [u8], fixed: &Fixed) -> Result<&'a [u8], Reason> {
    let copy = spare::place(fixed.geometry);
    let end = if spare::fits(fixed.geometry, fixed.wire_size) { copy.start } else { copy.end };
    // The slots' place is checked to be there, too.
    span(region, copy.end, fixed.geometry.header_size())?;
    span(region, fixed.wire_size, end)
}

/// Reads the header region with both slots, and nothing of the body.
///
/// Twice, until both are the same: a header that is being written meanwhile may be read half old and half new, and its copy
/// a moment later no more.
pub(super) fn read_region(storage: &dyn ReadAt) -> Result<Vec<u8>, OpenError> {
    let mut last = read_region_once(storage)?;
    for _ in 0..REREADS {
        let next = read_region_once(storage)?;
        // Slots are written one sector at a time, by writers that readers are never beside.
        if next == last {
            break;
        }
        last = next;
    }
    Ok(last)
}

/// A header changes a few times in its life; more than this many differences are somebody's play, and refused later.
const REREADS: usize = 16;

pub(super) fn read_region_once(storage: &dyn ReadAt) -> Result<Vec<u8>, OpenError> {
    let read = |region: &mut [u8]| match storage.read_exact_at(region, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Reason::Length.into()),
        other => other.map_err(OpenError::Storage),
    };
    let mut region = vec![0; HEADER_UNIT];
    read(&mut region)?;
    let size = Fixed::geometry(&region)?.header_size();
    if size > HEADER_UNIT {
        region.resize(size, 0);
        read(&mut region)?;
    }
    Ok(region)
}

/// Version 1, no flags.
const VERSION_AND_FLAGS: [u8; 4] = [1, 0, 0, 0];

/// The first 48 bytes, checked.
struct Fixed {
    geometry: Geometry,
    file_id: FileId,
    policy_size: usize,
    /// Magic to header MAC.
    wire_size: usize,
}

impl Fixed {
    /// Parses the fields that no change of the header changes ("Header").
    fn geometry(bytes: &[u8]) -> Result<Geometry, Reason> {
        if field::<8>(bytes, 0).map_err(|_| Reason::Magic)? != MAGIC {
            return Err(Reason::Magic);
        }
        if field::<4>(bytes, 8)? != VERSION_AND_FLAGS || field::<4>(bytes, 20)? != [0; 4] {
            return Err(Reason::Version);
        }
        let number = |offset| field::<4>(bytes, offset).map(u32::from_le_bytes);
        let chunk_log2 = u8::try_from(number(16)?).map_err(|_| Reason::Length)?;
        Geometry::new(number(12)?, chunk_log2)
    }

    /// Parses the fixed fields ("Header").
    fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let geometry = Self::geometry(bytes)?;
        let number = |offset| field::<4>(bytes, offset).map(u32::from_le_bytes);
        let (policy_size, recipients_size) = (number(40)? as usize, number(44)? as usize);
        let room = geometry.header_size() - FIXED_SIZE - MAC_SIZE - SLOTS_SIZE;
        if policy_size > room || recipients_size > room - policy_size {
            return Err(Reason::Length);
        }
        let wire_size = FIXED_SIZE + policy_size + recipients_size + MAC_SIZE;
        Ok(Self { geometry, file_id: FileId::from_bytes(field(bytes, 24)?), policy_size, wire_size })
    }
}

fn encode_recipients(stanzas: &[Stanza]) -> Result<Vec<u8>, SealError> {
    let fields: Vec<_> = stanzas.iter().map(Stanza::fields).collect();
    encode_stanzas(&fields).map_err(|_| SealError::HeaderFull)
}

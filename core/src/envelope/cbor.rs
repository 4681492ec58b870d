//! The little CBOR that envelopes hold: `docs/spec/envelope.md`, "Encoding". Canonical means that encoding
//! the decoded value again gives the same bytes; nothing is accepted that does not.

use super::error::Reason;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder, encode};
use std::convert::Infallible;

/// Most entries of a policy map.
const MAX_ENTRIES: u64 = 64;

/// A value that an entry may have in version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// An unsigned integer.
    Unsigned(u64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A text string.
    Text(&'a str),
}

/// One entry of a map. A negative key is critical.
pub(super) type Entry<'a> = (i64, Value<'a>);

/// The fields of one stanza: kind, key id, encapsulation, wrapped DEK.
pub(super) type StanzaFields<'a> = (&'a str, &'a [u8], &'a [u8], &'a [u8]);

/// Decodes a canonical map with integer keys ("Encoding").
pub(super) fn decode_map(bytes: &[u8]) -> Result<Vec<Entry<'_>>, Reason> {
    let mut decoder = Decoder::new(bytes);
    let count = decoder.map()?.filter(|count| *count <= MAX_ENTRIES).ok_or(Reason::Encoding)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let key = decoder.i64()?;
        let value = match decoder.datatype()? {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => Value::Unsigned(decoder.u64()?),
            Type::Bytes => Value::Bytes(decoder.bytes()?),
            Type::String => Value::Text(decoder.str()?),
            _ => return Err(Reason::Encoding),
        };
        entries.push((key, value));
    }
    // Bytewise order of the encoded keys: 0, 1, 2, …, then −1, −2, …
    let ascending = entries.is_sorted_by(|(left, _), (right, _)| {
        (*left < 0, left.unsigned_abs()) < (*right < 0, right.unsigned_abs())
    });
    if ascending && encode_map(&entries)? == bytes { Ok(entries) } else { Err(Reason::Encoding) }
}

/// Encodes a map whose entries are in order.
pub(super) fn encode_map(entries: &[Entry<'_>]) -> Result<Vec<u8>, Reason> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.map(entries.len() as u64)?;
    for (key, value) in entries {
        encoder.i64(*key)?;
        match value {
            Value::Unsigned(number) => encoder.u64(*number)?,
            Value::Bytes(bytes) => encoder.bytes(bytes)?,
            Value::Text(text) => encoder.str(text)?,
        };
    }
    Ok(encoder.into_writer())
}

/// Decodes a canonical array of at most `most` stanzas ("Encoding").
pub(super) fn decode_stanzas(bytes: &[u8], most: usize) -> Result<Vec<StanzaFields<'_>>, Reason> {
    let mut decoder = Decoder::new(bytes);
    let count = decoder.array()?.filter(|count| (1..=most as u64).contains(count)).ok_or(Reason::Length)?;
    let mut stanzas = Vec::new();
    for _ in 0..count {
        if decoder.array()? != Some(4) {
            return Err(Reason::Encoding);
        }
        stanzas.push((decoder.str()?, decoder.bytes()?, decoder.bytes()?, decoder.bytes()?));
    }
    if encode_stanzas(&stanzas)? == bytes { Ok(stanzas) } else { Err(Reason::Encoding) }
}

/// Encodes stanzas.
pub(super) fn encode_stanzas(stanzas: &[StanzaFields<'_>]) -> Result<Vec<u8>, Reason> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.array(stanzas.len() as u64)?;
    for (kind, key_id, encapsulation, wrapped) in stanzas {
        encoder.array(4)?.str(kind)?.bytes(key_id)?.bytes(encapsulation)?.bytes(wrapped)?;
    }
    Ok(encoder.into_writer())
}

impl From<minicbor::decode::Error> for Reason {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Encoding
    }
}

/// Writing to memory does not fail; the type says that it could.
impl From<encode::Error<Infallible>> for Reason {
    fn from(_: encode::Error<Infallible>) -> Self {
        Self::Encoding
    }
}

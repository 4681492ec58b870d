//! The policy of a file, as its header carries it in clear: `docs/spec/envelope.md`, "Policy".

use super::cbor::{Value, decode_map, encode_map};
use super::error::{Reason, SealError};
use crate::ids::{GroupId, LabelId, OrganisationId, TerminalId};
use crate::policy::MAX_NAME_BYTES;
use jiff::Timestamp;

/// What a sealed file says about itself. Public, but it cannot be changed: the header MAC covers it and every
/// wrapped DEK is bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePolicy {
    /// The organisation that sealed the file.
    pub organisation: OrganisationId,
    /// The label.
    pub label: LabelId,
    /// The label's level when the file was sealed.
    pub label_level: u16,
    /// The label's name when the file was sealed, for display only; at most 255 bytes.
    pub label_name: String,
    /// The group that owns the file.
    pub owner_group: Option<GroupId>,
    /// When the file was sealed or relabelled; milliseconds count, finer parts are dropped.
    pub sealed_at: Timestamp,
    /// The terminal that sealed or relabelled it.
    pub sealer: TerminalId,
    /// The generation of the label key for which it was sealed.
    pub generation: u32,
}

const ORGANISATION: i64 = 1;
const LABEL: i64 = 2;
const LABEL_LEVEL: i64 = 3;
const LABEL_NAME: i64 = 4;
const OWNER_GROUP: i64 = 5;
const SEALED_AT: i64 = 6;
const SEALER: i64 = 7;
const GENERATION: i64 = 8;

impl FilePolicy {
    /// The canonical encoding ("Policy").
    pub(super) fn encode(&self) -> Result<Vec<u8>, SealError> {
        let sealed_at = u64::try_from(self.sealed_at.as_millisecond()).map_err(|_| SealError::Policy)?;
        if self.label_name.len() > MAX_NAME_BYTES {
            return Err(SealError::Policy);
        }
        let mut entries = vec![
            (ORGANISATION, Value::Bytes(self.organisation.as_bytes())),
            (LABEL, Value::Bytes(self.label.as_bytes())),
            (LABEL_LEVEL, Value::Unsigned(self.label_level.into())),
            (LABEL_NAME, Value::Text(&self.label_name)),
        ];
        if let Some(group) = &self.owner_group {
            entries.push((OWNER_GROUP, Value::Bytes(group.as_bytes())));
        }
        entries.push((SEALED_AT, Value::Unsigned(sealed_at)));
        entries.push((SEALER, Value::Bytes(self.sealer.as_bytes())));
        entries.push((GENERATION, Value::Unsigned(self.generation.into())));
        encode_map(&entries).map_err(|_| SealError::Policy)
    }

    /// Parses a policy ("Policy"). Unknown entries are ignored unless their key is negative.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let entries = decode_map(bytes)?;
        let known = |key| entries.iter().find(|(found, _)| *found == key).map(|(_, value)| *value);
        if entries.iter().any(|(key, _)| *key < 0) {
            return Err(Reason::Critical);
        }
        let name = match known(LABEL_NAME) {
            Some(Value::Text(text)) if text.len() <= MAX_NAME_BYTES => text.to_owned(),
            _ => return Err(Reason::Encoding),
        };
        let millisecond = i64::try_from(number::<u64>(known(SEALED_AT))?).map_err(|_| Reason::Encoding)?;
        Ok(Self {
            organisation: OrganisationId::from_bytes(id(known(ORGANISATION))?),
            label: LabelId::from_bytes(id(known(LABEL))?),
            label_level: number(known(LABEL_LEVEL))?,
            label_name: name,
            owner_group: match known(OWNER_GROUP) {
                None => None,
                present => Some(GroupId::from_bytes(id(present)?)),
            },
            sealed_at: Timestamp::from_millisecond(millisecond).map_err(|_| Reason::Encoding)?,
            sealer: TerminalId::from_bytes(id(known(SEALER))?),
            generation: number(known(GENERATION))?,
        })
    }
}

fn id(value: Option<Value<'_>>) -> Result<[u8; 16], Reason> {
    match value {
        Some(Value::Bytes(bytes)) => bytes.try_into().map_err(|_| Reason::Encoding),
        _ => Err(Reason::Encoding),
    }
}

fn number<T: TryFrom<u64>>(value: Option<Value<'_>>) -> Result<T, Reason> {
    match value {
        Some(Value::Unsigned(number)) => T::try_from(number).map_err(|_| Reason::Encoding),
        _ => Err(Reason::Encoding),
    }
}

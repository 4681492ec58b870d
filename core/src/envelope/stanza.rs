//! A recipient of a file: `docs/spec/envelope.md`, "Recipients".

use super::cbor::{StanzaFields, decode_stanzas};
use super::error::Reason;
use super::layout::MAX_RECIPIENTS;
use crate::crypto::{KeyId, RecipientKind, WRAPPED_DEK_SIZE, sha256};

/// One way to the DEK: an encapsulation for one recipient, and the DEK wrapped under what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    /// Kind of the recipient.
    pub kind: RecipientKind,
    /// Which key it is for.
    pub key_id: KeyId,
    /// The encapsulation; files of one sealing epoch share it.
    pub encapsulation: Vec<u8>,
    /// The wrapped DEK, bound to file id, policy, recipient and encapsulation.
    pub wrapped_dek: [u8; WRAPPED_DEK_SIZE],
}

/// Ciphertext sizes of RSA-2048, -3072 and -4096, and of ML-KEM-768.
const RSA_SIZES: [usize; 3] = [256, 384, 512];
const MLKEM_SIZE: usize = 1088;

impl Stanza {
    /// SHA-256 of the encapsulation: what a key server caches the decapsulated secret under.
    pub fn encapsulation_hash(&self) -> [u8; 32] {
        sha256(&[&self.encapsulation])
    }

    pub(super) fn fields(&self) -> StanzaFields<'_> {
        (self.kind.name(), self.key_id.as_bytes(), &self.encapsulation, &self.wrapped_dek)
    }

    fn from_fields(fields: StanzaFields<'_>) -> Result<Self, Reason> {
        let (kind, key_id, encapsulation, wrapped) = fields;
        let kind = RecipientKind::from_name(kind).ok_or(Reason::Stanza)?;
        let rsa_size = match kind {
            RecipientKind::RsaOaep => Some(encapsulation.len()),
            RecipientKind::RsaOaepMlkem768 => encapsulation.len().checked_sub(MLKEM_SIZE),
        };
        if !rsa_size.is_some_and(|size| RSA_SIZES.contains(&size)) {
            return Err(Reason::Stanza);
        }
        Ok(Self {
            kind,
            key_id: KeyId::from_bytes(key_id.try_into().map_err(|_| Reason::Stanza)?),
            encapsulation: encapsulation.to_vec(),
            wrapped_dek: wrapped.try_into().map_err(|_| Reason::Stanza)?,
        })
    }
}

/// Parses the recipients of a header ("Recipients"): 1 to 16, each key id once.
pub(super) fn decode_recipients(bytes: &[u8]) -> Result<Vec<Stanza>, Reason> {
    let stanzas = decode_stanzas(bytes, MAX_RECIPIENTS)?
        .into_iter()
        .map(Stanza::from_fields)
        .collect::<Result<Vec<_>, _>>()?;
    let mut key_ids: Vec<_> = stanzas.iter().map(|stanza| stanza.key_id).collect();
    key_ids.sort_unstable();
    if key_ids.is_sorted_by(|left, right| left < right) { Ok(stanzas) } else { Err(Reason::Stanza) }
}

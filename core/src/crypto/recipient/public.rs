//! The public half of a recipient: makes encapsulations.

use super::{KeyId, MLKEM_PUBLIC_SIZE, RecipientKind};
use crate::crypto::{CryptoError, SharedSecret, random_bytes, sha256};
use crate::proto::bulletin::PublicKey;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::kem::{EncapsulationKey, ML_KEM_768};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};
use rsa::traits::PublicKeyParts;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A recipient's public key, checked: RSA of 2048, 3072 or 4096 bits with exponent 65537 in canonical DER,
/// and a well-formed ML-KEM-768 encapsulation key if there is one. Cheap to clone.
#[derive(Clone)]
pub struct RecipientPublicKey(Arc<Parts>);

struct Parts {
    kind: RecipientKind,
    key_id: KeyId,
    spki: Vec<u8>,
    mlkem: Option<(Vec<u8>, EncapsulationKey)>,
    rsa: OaepPublicEncryptingKey,
}

impl RecipientPublicKey {
    /// From DER SubjectPublicKeyInfo and, for the hybrid kind, the ML-KEM-768 encapsulation key (1184 bytes).
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] for any other key, size, exponent or encoding.
    pub fn from_parts(spki_der: &[u8], mlkem768: Option<&[u8]>) -> Result<Self, CryptoError> {
        check_rsa(spki_der)?;
        let rsa = PublicEncryptingKey::from_der(spki_der).map_err(|_| CryptoError::InvalidKey)?;
        let rsa = OaepPublicEncryptingKey::new(rsa).map_err(|_| CryptoError::InvalidKey)?;
        let mlkem = match mlkem768 {
            None => None,
            Some(bytes) if bytes.len() == MLKEM_PUBLIC_SIZE => {
                let key = EncapsulationKey::new(&ML_KEM_768, bytes).map_err(|_| CryptoError::InvalidKey)?;
                // The library checks the coefficients (FIPS 203, 7.2) only when it uses the key.
                key.encapsulate().map_err(|_| CryptoError::InvalidKey)?;
                Some((bytes.to_vec(), key))
            }
            Some(_) => return Err(CryptoError::InvalidKey),
        };
        Ok(Self(Arc::new(Parts {
            kind: if mlkem.is_some() { RecipientKind::RsaOaepMlkem768 } else { RecipientKind::RsaOaep },
            key_id: KeyId::from_bytes(sha256(&[spki_der, mlkem768.unwrap_or_default()])),
            spki: spki_der.to_vec(),
            mlkem,
            rsa,
        })))
    }

    /// The kind of its stanzas.
    pub fn kind(&self) -> RecipientKind {
        self.0.kind
    }

    /// Its key id.
    pub fn key_id(&self) -> KeyId {
        self.0.key_id
    }

    /// The RSA key as DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// The ML-KEM-768 encapsulation key of a hybrid recipient.
    pub fn mlkem768(&self) -> Option<&[u8]> {
        self.0.mlkem.as_ref().map(|(bytes, _)| bytes.as_slice())
    }

    /// The form in which it travels.
    pub fn to_proto(&self) -> PublicKey {
        PublicKey {
            rsa_spki: self.spki_der().to_vec().into(),
            mlkem768: self.mlkem768().map(|bytes| bytes.to_vec().into()),
        }
    }

    /// A fresh secret and its encapsulation for this recipient.
    ///
    /// # Errors
    /// [`CryptoError::Library`] if the library fails.
    pub fn encapsulate(&self) -> Result<(Vec<u8>, SharedSecret), CryptoError> {
        let classical = Zeroizing::new(random_bytes::<32>());
        let mut encapsulation = vec![0; self.0.rsa.ciphertext_size()];
        self.0
            .rsa
            .encrypt(&OAEP_SHA256_MGF1SHA256, classical.as_slice(), &mut encapsulation, None)
            .map_err(|_| CryptoError::Library)?;
        let Some((_, mlkem)) = &self.0.mlkem else {
            return Ok((encapsulation, SharedSecret::from_parts(&classical, None)));
        };
        let (ciphertext, post_quantum) = mlkem.encapsulate().map_err(|_| CryptoError::Library)?;
        encapsulation.extend_from_slice(ciphertext.as_ref());
        let post_quantum = post_quantum.as_ref().try_into().map_err(|_| CryptoError::Library)?;
        Ok((encapsulation, SharedSecret::from_parts(&classical, Some(post_quantum))))
    }

    /// From the public half of a private key of the library.
    pub(super) fn from_library(
        rsa: &PublicEncryptingKey,
        mlkem768: Option<&[u8]>,
    ) -> Result<Self, CryptoError> {
        let spki = rsa.as_der().map_err(|_| CryptoError::InvalidKey)?;
        Self::from_parts(spki.as_ref(), mlkem768)
    }
}

impl TryFrom<&PublicKey> for RecipientPublicKey {
    type Error = CryptoError;
    fn try_from(key: &PublicKey) -> Result<Self, CryptoError> {
        Self::from_parts(key.rsa_spki.as_ref(), key.mlkem768.as_ref().map(AsRef::as_ref))
    }
}

impl PartialEq for RecipientPublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki_der() == other.spki_der() && self.mlkem768() == other.mlkem768()
    }
}

impl Eq for RecipientPublicKey {}

impl fmt::Debug for RecipientPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecipientPublicKey({}, {})", self.0.kind.name(), self.0.key_id)
    }
}

/// Refuses what OAEP would accept but this format does not. Canonical DER matters because the key id is a
/// hash of the encoding: one key must not have two ids.
fn check_rsa(spki_der: &[u8]) -> Result<(), CryptoError> {
    let key = rsa::RsaPublicKey::from_public_key_der(spki_der).map_err(|_| CryptoError::InvalidKey)?;
    let canonical = key.to_public_key_der().map_err(|_| CryptoError::InvalidKey)?;
    let bits = key.n().bits();
    if canonical.as_bytes() != spki_der
        || !matches!(bits, 2048 | 3072 | 4096)
        || *key.e() != rsa::BoxedUint::from(65537_u32)
    {
        return Err(CryptoError::InvalidKey);
    }
    Ok(())
}

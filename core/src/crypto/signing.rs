//! Ed25519 signatures of the organisation: bulletins and, later, leases.

use super::CryptoError;
use super::secret::{SecretBytes, boxed, random};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use std::fmt;
use zeroize::Zeroizing;

/// A private signing key.
pub struct SigningKey {
    seed: SecretBytes,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A fresh key from the operating system's generator.
    ///
    /// # Errors
    /// [`CryptoError::Library`] if there is no memory.
    pub fn generate() -> Result<Self, CryptoError> {
        Self::import(random().as_slice()).map_err(|_| CryptoError::Library)
    }

    /// The key's 32-byte seed (RFC 8032), for storing it under the root key.
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.seed.to_vec())
    }

    /// The key with this seed.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if it is not 32 bytes.
    pub fn import(seed: &[u8]) -> Result<Self, CryptoError> {
        let seed = boxed(seed)?;
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| CryptoError::InvalidKey)?;
        Ok(Self { seed, pair })
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        VerifyingKey(bytes)
    }

    /// The 64-byte signature over `context ‖ 0 ‖ payload`. The context says what is signed, such as
    /// `"tobari/1 bulletin"`, so that no signature can be passed off as one of another kind.
    pub fn sign(&self, context: &str, payload: &[u8]) -> Vec<u8> {
        self.pair.sign(&message(context, payload)).as_ref().to_vec()
    }

    /// The 64-byte signature over a text as it is, as signed notes have it. What [`SigningKey::sign`] signs has a zero byte
    /// after its context; a text has none, so that neither can be passed off as the other: zero bytes are left out of
    /// what is signed, and such a text does not verify.
    pub fn sign_text(&self, text: &str) -> Vec<u8> {
        self.pair.sign(text.replace('\0', "").as_bytes()).as_ref().to_vec()
    }
}

/// The public half of a [`SigningKey`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// The key with these bytes (RFC 8032).
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if they are not a point's 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let bytes = bytes.try_into().map_err(|_| CryptoError::InvalidKey)?;
        UnparsedPublicKey::new(&ED25519, bytes).parse().map_err(|_| CryptoError::InvalidKey)?;
        Ok(Self(bytes))
    }

    /// The key's 32 bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Checks a signature made by [`SigningKey::sign`].
    ///
    /// # Errors
    /// [`CryptoError::Refused`] if it does not fit key, context and payload.
    pub fn verify(&self, context: &str, payload: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(&message(context, payload), signature)
            .map_err(|_| CryptoError::Refused)
    }

    /// Checks a signature made by [`SigningKey::sign_text`].
    ///
    /// # Errors
    /// [`CryptoError::Refused`] if it does not fit key and text, or the text holds a zero byte.
    pub fn verify_text(&self, text: &str, signature: &[u8]) -> Result<(), CryptoError> {
        if text.contains('\0') {
            return Err(CryptoError::Refused);
        }
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(text.as_bytes(), signature)
            .map_err(|_| CryptoError::Refused)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

fn message(context: &str, payload: &[u8]) -> Vec<u8> {
    [context.as_bytes(), &[0], payload].concat()
}

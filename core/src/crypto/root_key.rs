//! The key server's root key, under which its database keeps every other secret.

use super::provider::bulk;
use super::{CryptoError, random_bytes, secret};
use zeroize::Zeroizing;

/// AES-256-GCM key over stored secrets. Sealed form: version byte 1, 12 random bytes of nonce, ciphertext,
/// 16 bytes of tag. Random nonces allow 2^32 seals, far more than a database of keys ever makes.
pub struct RootKey(secret::SecretBytes);

impl RootKey {
    /// A fresh key from the operating system's generator.
    pub fn generate() -> Self {
        Self(secret::random())
    }

    /// The key with these bytes, as read from where the operator keeps it.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// The key with these bytes.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if they are not 32.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, CryptoError> {
        secret::boxed(bytes).map(Self)
    }

    /// The key that follows from `secret` and `salt`, for `purpose`. It is as hard to guess as `secret` is.
    ///
    /// # Errors
    /// [`CryptoError::Library`] if the library fails.
    pub fn derive(secret: &[u8], salt: &[u8], purpose: &str) -> Result<Self, CryptoError> {
        let kdf = bulk().kdf(secret, salt);
        Self::from_slice(kdf.expand(&[purpose.as_bytes()])?.as_slice())
    }

    /// The key's bytes, for storing it where the operator says.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(**self.0)
    }

    /// Seals `plaintext`; `aad` names what it is (table, column, row), so that sealed values cannot be
    /// moved between rows.
    ///
    /// # Errors
    /// [`CryptoError::Library`] if `plaintext` is longer than the cipher allows.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let nonce: [u8; NONCE_SIZE] = random_bytes();
        let mut body = Zeroizing::new(plaintext.to_vec());
        let tag = bulk().aead(&self.0).seal(&nonce, aad, body.as_mut_slice())?;
        let mut sealed = Vec::with_capacity(1 + NONCE_SIZE + body.len() + tag.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens what [`RootKey::seal`] made with the same `aad`.
    ///
    /// # Errors
    /// [`CryptoError::Refused`], whatever does not fit.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let (&version, rest) = sealed.split_first().ok_or(CryptoError::Refused)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_SIZE>().ok_or(CryptoError::Refused)?;
        let (body, tag) = rest.split_last_chunk::<16>().ok_or(CryptoError::Refused)?;
        if version != VERSION {
            return Err(CryptoError::Refused);
        }
        let mut plaintext = Zeroizing::new(body.to_vec());
        bulk().aead(&self.0).open(nonce, aad, plaintext.as_mut_slice(), tag)?;
        Ok(plaintext)
    }
}

const VERSION: u8 = 1;
const NONCE_SIZE: usize = 12;

//! Two independent implementations of the symmetric primitives behind one small trait.

mod aws_lc;
mod rust_crypto;

use super::CryptoError;
use zeroize::Zeroizing;

/// An implementation of the symmetric part of the suite.
pub trait Provider: Send + Sync {
    /// The implementation's name, for logs and errors.
    fn name(&self) -> &'static str;

    /// AES-256-GCM under `key`; expand the key once for each file, not for each chunk.
    fn aead(&self, key: &[u8; 32]) -> Box<dyn Aead>;

    /// A running HMAC-SHA-256 under `key`.
    fn mac(&self, key: &[u8]) -> Box<dyn Mac>;

    /// HKDF-SHA-256, extracted from `secret` and `salt`, ready to expand.
    fn kdf(&self, secret: &[u8], salt: &[u8]) -> Box<dyn Kdf>;

    /// SHA-256 of the concatenation of `parts`.
    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32];
}

/// AES-256-GCM with a 96-bit nonce and a 128-bit tag, in place.
pub trait Aead: Send + Sync {
    /// Encrypts `data` in place and returns the tag. A nonce MUST NOT be used twice under one key.
    ///
    /// # Errors
    /// [`CryptoError::Library`] if `data` are longer than the cipher allows (64 GiB).
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], data: &mut [u8]) -> Result<[u8; 16], CryptoError>;

    /// Checks the tag and decrypts `data` in place. After an error the contents of `data` are
    /// unspecified and MUST NOT be used.
    ///
    /// # Errors
    /// [`CryptoError::Refused`] if `data`, `aad`, `nonce` or `tag` are not what was sealed.
    fn open(&self, nonce: &[u8; 12], aad: &[u8], data: &mut [u8], tag: &[u8; 16]) -> Result<(), CryptoError>;
}

/// A running HMAC-SHA-256.
pub trait Mac: Send {
    /// Takes more of the message.
    fn update(&mut self, data: &[u8]);

    /// The 32-byte code.
    fn finish(self: Box<Self>) -> [u8; 32];
}

/// An extracted HKDF-SHA-256 key.
pub trait Kdf: Send + Sync {
    /// 32 bytes for the concatenation of `info`.
    ///
    /// # Errors
    /// [`CryptoError::Library`], which neither implementation gives for 32 bytes.
    fn expand(&self, info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, CryptoError>;
}

/// The fast implementation, which seals and opens: aws-lc-rs.
pub fn bulk() -> &'static dyn Provider {
    &aws_lc::AwsLc
}

/// The independent implementation, which reads back what the first one sealed: RustCrypto.
pub fn second() -> &'static dyn Provider {
    &rust_crypto::RustCrypto
}

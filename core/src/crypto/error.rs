//! What can go wrong in cryptography, kept so small that an attacker learns nothing from it.

/// A cryptographic operation that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// Data are not authentic, or were made for another key, file or policy. Every failed open, unwrap,
    /// decapsulation and verification is this one value, whatever its cause.
    #[error("the data are not authentic or the key does not fit")]
    Refused,
    /// Bytes that should hold a key do not hold one of the supported kind and size.
    #[error("the bytes are not a supported key")]
    InvalidKey,
    /// The cryptographic library refused to seal or sign; too long an input or no memory.
    #[error("the cryptographic library failed")]
    Library,
}

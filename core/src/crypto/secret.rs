//! The two secrets of an envelope: the key of one file, and what an encapsulation carries.

use super::CryptoError;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The key from which all keys of one sealed file are derived.
pub struct Dek(SecretBytes);

impl Dek {
    /// A fresh key from the operating system's generator.
    pub fn generate() -> Self {
        Self(random())
    }

    /// A second handle to the same key, wiped on its own. Named so that copies are seen in review.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Result<Self, CryptoError> {
        boxed(bytes).map(Self)
    }
}

/// What an encapsulation carries: `s` (32 bytes), or `s ‖ t` (64 bytes) for the hybrid kind.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret(Box<[u8]>);

impl SharedSecret {
    /// A second handle to the same secret, wiped on its own. Named so that copies are seen in review.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// From `s` and, for the hybrid kind, `t`; each MUST be 32 bytes.
    pub(super) fn from_parts(classical: &[u8; 32], post_quantum: Option<&[u8; 32]>) -> Self {
        // Reserved at once, so that growing leaves no unwiped copy behind.
        let mut bytes = Vec::with_capacity(if post_quantum.is_some() { 64 } else { 32 });
        bytes.extend_from_slice(classical);
        if let Some(second) = post_quantum {
            bytes.extend_from_slice(second);
        }
        Self(bytes.into_boxed_slice())
    }
}

/// 32 secret bytes that stay where they are when their owner moves, and are wiped on drop.
pub(super) type SecretBytes = Box<Zeroizing<[u8; 32]>>;

/// Exactly 32 bytes, copied to the heap without passing through an unwiped array.
pub(super) fn boxed(bytes: &[u8]) -> Result<SecretBytes, CryptoError> {
    if bytes.len() != 32 {
        return Err(CryptoError::InvalidKey);
    }
    let mut copy = SecretBytes::default();
    copy.copy_from_slice(bytes);
    Ok(copy)
}

/// 32 bytes from the operating system's generator.
pub(super) fn random() -> SecretBytes {
    let mut bytes = SecretBytes::default();
    super::fill_random(bytes.as_mut_slice());
    bytes
}

/// 32 derived bytes that are wiped on drop.
pub(super) type DerivedKey = Zeroizing<[u8; 32]>;

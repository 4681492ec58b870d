//! Recipients of a sealed file: RSA-OAEP, alone or together with ML-KEM-768.

mod private;
mod public;

pub use private::RecipientPrivateKey;
pub(super) use private::{oaep_decrypt, oaep_private};
pub use public::RecipientPublicKey;

use data_encoding::HEXLOWER;
use std::fmt;

/// The kind of a recipient stanza: the one algorithm choice that a file can express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecipientKind {
    /// RSA-OAEP with SHA-256 and MGF1-SHA-256.
    RsaOaep,
    /// The same together with ML-KEM-768; both are needed to open.
    RsaOaepMlkem768,
}

impl RecipientKind {
    /// The name in files and key derivations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaOaep => "rsa-oaep",
            Self::RsaOaepMlkem768 => "rsa-oaep+mlkem768",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::RsaOaep, Self::RsaOaepMlkem768].into_iter().find(|kind| kind.name() == name)
    }

    /// Length in bytes of what an encapsulation of this kind carries.
    pub(super) const fn secret_size(self) -> usize {
        match self {
            Self::RsaOaep => 32,
            Self::RsaOaepMlkem768 => 64,
        }
    }
}

/// Which key a stanza is for: SHA-256 of the SubjectPublicKeyInfo, followed by the ML-KEM encapsulation
/// key for the hybrid kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The key id with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Sizes of ML-KEM-768 (FIPS 203) in bytes.
const MLKEM_PUBLIC_SIZE: usize = 1184;
const MLKEM_PRIVATE_SIZE: usize = 2400;
const MLKEM_CIPHERTEXT_SIZE: usize = 1088;
/// Where a decapsulation key holds its encapsulation key.
const MLKEM_PUBLIC_OFFSET: usize = 1152;

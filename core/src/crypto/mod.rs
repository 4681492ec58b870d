//! Keys and the primitives that use them. The only module that touches primitive crates.
//!
//! One fixed suite (AES-256-GCM, HKDF-SHA-256, HMAC-SHA-256, RSA-OAEP with SHA-256, ML-KEM-768, Ed25519,
//! HPKE over P-256) in two independent implementations behind [`Provider`]: [`bulk`] (aws-lc-rs) seals,
//! [`second`] (RustCrypto) reads back what was sealed and cross-checks at start ([`self_check`]).
//! RSA private operations run on aws-lc-rs alone, because it is the constant-time one.
//!
//! Secrets are newtypes without `Debug`, `Clone` or serde, on the heap so that moving them leaves no copy,
//! wiped on drop, and opened only inside this module. Where a secret must be stored or sent, its type has
//! an `export` that says so. Next: [`crate::envelope`], which lays these pieces out in a file.

mod error;
mod file_keys;
mod hpke;
mod provider;
mod recipient;
mod root_key;
mod secret;
mod self_check;
pub mod shares;
mod signing;
#[cfg(test)]
mod tests;
mod wrap;

pub use error::CryptoError;
pub use file_keys::{FileKeys, RootMac};
pub use hpke::{GrantKeyPair, GrantOpener, GrantSealer};
pub use provider::{Aead, Kdf, Mac, Provider, bulk, second};
pub use recipient::{KeyId, RecipientKind, RecipientPrivateKey, RecipientPublicKey};
pub use root_key::RootKey;
pub use secret::{Dek, SharedSecret};
pub use self_check::{SelfCheckError, self_check};
pub use signing::{SigningKey, VerifyingKey};
pub use wrap::{WRAPPED_DEK_SIZE, WrapContext};

/// `N` random bytes from the operating system's generator.
///
/// # Panics
/// Never on Linux: `getrandom` cannot fail once the system is up.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// Fills `bytes` from the operating system's generator: many nonces for one system call.
///
/// # Panics
/// Never on Linux: `getrandom` cannot fail once the system is up.
#[expect(
    clippy::expect_used,
    reason = "without randomness no key can be made; there is nothing to fall back to"
)]
pub fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system's random generator answers");
}

/// SHA-256 of the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    bulk().sha256(parts)
}

/// Whether two public values are equal, in time that depends on their lengths alone.
pub fn constant_time_equal(left: &[u8], right: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    left.ct_eq(right).into()
}

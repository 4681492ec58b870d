//! A terminal's wrapping key and counter in a TPM 2.0.
//!
//! The key is sealed to the TPM: what lies on the disk can be opened by this chip alone, and it counts no failed tries. The counter is
//! an NV index that goes up by one and never back, not even when it is removed and made again. Each call connects anew, so that the
//! TPM is free for others between them.
//!
//! What this does not do: the key is bound to the chip, not to what the machine booted, so whoever is root on the machine can have it
//! unsealed; and sessions with the chip are not salted, so whoever listens on its bus can read along.
//!
//! The crate is empty without the feature `device`, which links the TPM's libraries (Debian: libtss2-dev).
#![forbid(unsafe_code)]

#[cfg(feature = "device")]
mod device;

#[cfg(feature = "device")]
pub use device::{Sealed, Tpm, TpmError};

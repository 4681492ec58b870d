//! The wrapping key and the counter in a TPM 2.0 ([`tobari_tpm`]). Which TPM: the environment variable `TCTI`, in the form of the TPM
//! libraries, else the kernel's resource manager where there is one.

use super::{Anchor, Counter, Guard, ProtectError, Wrapped};
use std::path::Path;
use std::sync::Arc;
use tobari_core::crypto::RootKey;
use tobari_core::policy::Protection;
use tobari_core::proto::base64::Base64;
use tobari_tpm::{Sealed, Tpm, TpmError};
use zeroize::Zeroizing;

/// The kernel's way to the TPM that several programs can use.
const DEVICE: &str = "/dev/tpmrm0";
/// Names another TPM, as `swtpm:host=127.0.0.1,port=2321`.
const TCTI: &str = "TCTI";

fn find() -> Result<Option<Tpm>, TpmError> {
    match std::env::var(TCTI) {
        Ok(name) => Tpm::new(&name).map(Some),
        Err(_) if Path::new(DEVICE).exists() => Tpm::new(&format!("device:{DEVICE}")).map(Some),
        Err(_) => Ok(None),
    }
}

fn failed(error: TpmError) -> ProtectError {
    ProtectError::Tpm(error.to_string())
}

/// Whether a TPM answers.
pub(super) fn is_there() -> bool {
    find().is_ok_and(|tpm| tpm.is_some_and(|tpm| tpm.seal(&[0; 32]).is_ok()))
}

/// A fresh wrapping key, sealed by the TPM; none where there is no TPM that does it.
pub(super) fn create(directory: &Path) -> Result<Option<Guard>, ProtectError> {
    let Some(tpm) = find().map_err(failed)? else { return Ok(None) };
    let key = RootKey::generate();
    let made = tpm.seal(&key.to_bytes()).and_then(|sealed| {
        let secret = secret(&key).map_err(|_| TpmError::Answer("the counter's secret cannot be derived"))?;
        let index = tpm.make_counter(&secret)?;
        Ok((sealed, index, tpm.counter(index, &secret)?))
    });
    match made {
        Ok((sealed, counter, first)) => {
            let (public, private) = (Base64(sealed.public), Base64(sealed.private));
            Guard::store(directory, Wrapped::Tpm { public, private, counter, first })?;
            guard(tpm, key, counter, first).map(Some)
        }
        Err(error) => {
            tracing::warn!(%error, "there is a TPM, but it cannot be used; keys are not sealed by it");
            Ok(None)
        }
    }
}

/// The wrapping key that the TPM sealed.
pub(super) fn open(
    public: Vec<u8>,
    private: Vec<u8>,
    counter: u32,
    first: u64,
) -> Result<Guard, ProtectError> {
    let missing = || ProtectError::Tpm(format!("a TPM seals them, and there is none ({DEVICE})"));
    let tpm = find().map_err(failed)?.ok_or_else(missing)?;
    let key = tpm.unseal(&Sealed { public, private }).map_err(failed)?;
    guard(tpm, RootKey::from_slice(key.as_slice())?, counter, first)
}

fn guard(tpm: Tpm, key: RootKey, index: u32, first: u64) -> Result<Guard, ProtectError> {
    let counter = OfTpm { tpm, index, secret: secret(&key)? };
    let anchor = Anchor { counter: Arc::new(counter), first };
    Ok(Guard { key: Some(Arc::new(key)), protection: Protection::Tpm, anchor: Some(anchor) })
}

/// What only this terminal counts with.
fn secret(key: &RootKey) -> Result<Zeroizing<[u8; 32]>, ProtectError> {
    Ok(RootKey::derive(key.to_bytes().as_slice(), b"", "tobari/1 counter")?.to_bytes())
}

/// A counter of a TPM.
struct OfTpm {
    tpm: Tpm,
    index: u32,
    secret: Zeroizing<[u8; 32]>,
}

impl Counter for OfTpm {
    fn read(&self) -> Result<u64, String> {
        self.tpm.counter(self.index, &self.secret).map_err(|error| error.to_string())
    }

    fn increment(&self) -> Result<(), String> {
        self.tpm.count(self.index, &self.secret).map_err(|error| error.to_string())
    }
}

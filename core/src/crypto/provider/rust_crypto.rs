//! RustCrypto: aes-gcm, hmac, hkdf, sha2.

use super::{Aead, Kdf, Mac, Provider};
use crate::crypto::CryptoError;
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use hmac::Mac as _;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub(super) struct RustCrypto;

impl Provider for RustCrypto {
    fn name(&self) -> &'static str {
        "RustCrypto"
    }

    fn aead(&self, key: &[u8; 32]) -> Box<dyn Aead> {
        Box::new(AesGcm(Aes256Gcm::new(key.into())))
    }

    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    fn mac(&self, key: &[u8]) -> Box<dyn Mac> {
        let mac = hmac::Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        Box::new(Hmac(mac))
    }

    fn kdf(&self, secret: &[u8], salt: &[u8]) -> Box<dyn Kdf> {
        Box::new(Hkdf(hkdf::Hkdf::new(Some(salt), secret)))
    }

    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        hash.finalize().into()
    }
}

struct AesGcm(Aes256Gcm);

impl Aead for AesGcm {
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], data: &mut [u8]) -> Result<[u8; 16], CryptoError> {
        let tag = self.0.encrypt_inout_detached(nonce.into(), aad, data.into());
        tag.map(Into::into).map_err(|_| CryptoError::Library)
    }

    fn open(&self, nonce: &[u8; 12], aad: &[u8], data: &mut [u8], tag: &[u8; 16]) -> Result<(), CryptoError> {
        let opened = self.0.decrypt_inout_detached(nonce.into(), aad, data.into(), tag.into());
        opened.map_err(|_| CryptoError::Refused)
    }
}

struct Hmac(hmac::Hmac<Sha256>);

impl Mac for Hmac {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finish(self: Box<Self>) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

struct Hkdf(hkdf::Hkdf<Sha256>);

impl Kdf for Hkdf {
    fn expand(&self, info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
        let mut key = Zeroizing::new([0; 32]);
        self.0.expand_multi_info(info, key.as_mut_slice()).map_err(|_| CryptoError::Library)?;
        Ok(key)
    }
}

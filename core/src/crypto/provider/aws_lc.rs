//! aws-lc-rs.

use super::{Aead, Kdf, Mac, Provider};
use crate::crypto::CryptoError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac};
use zeroize::Zeroizing;

pub(super) struct AwsLc;

impl Provider for AwsLc {
    fn name(&self) -> &'static str {
        "aws-lc-rs"
    }

    #[expect(clippy::expect_used, reason = "a 32-byte key is always a key of AES-256")]
    fn aead(&self, key: &[u8; 32]) -> Box<dyn Aead> {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key");
        Box::new(AesGcm(LessSafeKey::new(key)))
    }

    fn mac(&self, key: &[u8]) -> Box<dyn Mac> {
        Box::new(Hmac(hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key))))
    }

    fn kdf(&self, secret: &[u8], salt: &[u8]) -> Box<dyn Kdf> {
        Box::new(Hkdf(hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret)))
    }

    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(part);
        }
        first_32(context.finish().as_ref())
    }
}

struct AesGcm(LessSafeKey);

impl Aead for AesGcm {
    fn seal(&self, nonce: &[u8; 12], aad: &[u8], data: &mut [u8]) -> Result<[u8; 16], CryptoError> {
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), data)
            .map_err(|_| CryptoError::Library)?;
        tag.as_ref().try_into().map_err(|_| CryptoError::Library)
    }

    fn open(&self, nonce: &[u8; 12], aad: &[u8], data: &mut [u8], tag: &[u8; 16]) -> Result<(), CryptoError> {
        self.0
            .open_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), tag, data)
            .map(|_| ())
            .map_err(|_| CryptoError::Refused)
    }
}

struct Hmac(hmac::Context);

impl Mac for Hmac {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finish(self: Box<Self>) -> [u8; 32] {
        first_32(self.0.sign().as_ref())
    }
}

struct Hkdf(hkdf::Prk);

impl Kdf for Hkdf {
    fn expand(&self, info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
        let mut key = Zeroizing::new([0; 32]);
        self.0
            .expand(info, hkdf::HKDF_SHA256)
            .and_then(|output| output.fill(key.as_mut_slice()))
            .map_err(|_| CryptoError::Library)?;
        Ok(key)
    }
}

/// The library hands SHA-256 results out as slices; they are 32 bytes long.
fn first_32(bytes: &[u8]) -> [u8; 32] {
    let mut result = [0; 32];
    for (to, from) in result.iter_mut().zip(bytes) {
        *to = *from;
    }
    result
}

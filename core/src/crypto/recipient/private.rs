//! The private half of a recipient: opens encapsulations. RSA keys are made and encoded by the `rsa` crate
//! and used by aws-lc-rs, which decrypts in constant time.

use super::{
    MLKEM_CIPHERTEXT_SIZE, MLKEM_PRIVATE_SIZE, MLKEM_PUBLIC_OFFSET, MLKEM_PUBLIC_SIZE, RecipientKind,
    RecipientPublicKey,
};
use crate::crypto::{CryptoError, SharedSecret, constant_time_equal};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, ML_KEM_768};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use rsa::pkcs8::EncodePrivateKey;
use zeroize::Zeroizing;

/// A recipient's private key.
pub struct RecipientPrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    rsa: OaepPrivateDecryptingKey,
    mlkem: Option<(Zeroizing<Vec<u8>>, DecapsulationKey)>,
    public: RecipientPublicKey,
}

impl RecipientPrivateKey {
    /// A fresh key: RSA-2048 and, for the hybrid kind, ML-KEM-768. Takes about 0.1 s.
    ///
    /// # Errors
    /// [`CryptoError::Library`] if a library fails.
    pub fn generate(kind: RecipientKind) -> Result<Self, CryptoError> {
        let rsa =
            rsa::RsaPrivateKey::new(&mut UnwrapErr(SysRng), RSA_BITS).map_err(|_| CryptoError::Library)?;
        let pkcs8 = rsa.to_pkcs8_der().map_err(|_| CryptoError::Library)?.to_bytes();
        let mlkem = match kind {
            RecipientKind::RsaOaep => None,
            RecipientKind::RsaOaepMlkem768 => {
                let key = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| CryptoError::Library)?;
                let bytes = key.key_bytes().map_err(|_| CryptoError::Library)?;
                Some(Zeroizing::new(bytes.as_ref().to_vec()))
            }
        };
        Self::from_parts(pkcs8, mlkem)
    }

    /// The public half.
    pub fn public(&self) -> &RecipientPublicKey {
        &self.public
    }

    /// The key's bytes, for storing it under the root key or writing it out once as the recovery key:
    /// `"TBRK"`, version byte 1, kind byte (1 `rsa-oaep`, 2 `rsa-oaep+mlkem768`), length of the RSA key
    /// (u32, little-endian), RSA key as DER PKCS#8, and for kind 2 the 2400 bytes of the ML-KEM-768
    /// decapsulation key (FIPS 203).
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        let kind = match self.public.kind() {
            RecipientKind::RsaOaep => KIND_RSA,
            RecipientKind::RsaOaepMlkem768 => KIND_HYBRID,
        };
        let length = u32::try_from(self.pkcs8.len()).unwrap_or(u32::MAX);
        // Reserved at once, so that growing leaves no unwiped copy behind.
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(PREFIX_SIZE + self.pkcs8.len() + MLKEM_PRIVATE_SIZE));
        bytes.extend_from_slice(EXPORT_MAGIC);
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.pkcs8);
        if let Some((key, _)) = &self.mlkem {
            bytes.extend_from_slice(key);
        }
        bytes
    }

    /// What [`RecipientPrivateKey::export`] gave.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if the bytes are malformed or the key's halves do not belong together.
    pub fn import(bytes: &[u8]) -> Result<Self, CryptoError> {
        let rest = bytes.strip_prefix(EXPORT_MAGIC).ok_or(CryptoError::InvalidKey)?;
        let (&kind, rest) = rest.split_first().ok_or(CryptoError::InvalidKey)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(CryptoError::InvalidKey)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| CryptoError::InvalidKey)?;
        let (pkcs8, mlkem) = rest.split_at_checked(length).ok_or(CryptoError::InvalidKey)?;
        let mlkem = match (kind, mlkem.len()) {
            (KIND_RSA, 0) => None,
            (KIND_HYBRID, MLKEM_PRIVATE_SIZE) => Some(Zeroizing::new(mlkem.to_vec())),
            _ => return Err(CryptoError::InvalidKey),
        };
        Self::from_parts(Zeroizing::new(pkcs8.to_vec()), mlkem)
    }

    /// The secret that an encapsulation for this key carries.
    ///
    /// # Errors
    /// [`CryptoError::Refused`], whatever does not fit.
    pub fn decapsulate(&self, encapsulation: &[u8]) -> Result<SharedSecret, CryptoError> {
        let (classical, post_quantum) =
            encapsulation.split_at_checked(self.rsa.key_size_bytes()).ok_or(CryptoError::Refused)?;
        match (&self.mlkem, post_quantum.len()) {
            (None, 0) => Ok(SharedSecret::from_parts(&*self.open_classical(classical)?, None)),
            (Some((_, key)), MLKEM_CIPHERTEXT_SIZE) => {
                let shared =
                    key.decapsulate(Ciphertext::from(post_quantum)).map_err(|_| CryptoError::Refused)?;
                let shared = shared.as_ref().try_into().map_err(|_| CryptoError::Refused)?;
                Ok(SharedSecret::from_parts(&*self.open_classical(classical)?, Some(shared)))
            }
            _ => Err(CryptoError::Refused),
        }
    }

    fn open_classical(&self, ciphertext: &[u8]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
        let plaintext = oaep_decrypt(&self.rsa, ciphertext)?;
        let mut secret = Zeroizing::new([0; 32]);
        if plaintext.len() != secret.len() {
            return Err(CryptoError::Refused);
        }
        secret.copy_from_slice(&plaintext);
        Ok(secret)
    }

    pub(in crate::crypto) fn from_parts(
        pkcs8: Zeroizing<Vec<u8>>,
        mlkem: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Self, CryptoError> {
        let private = PrivateDecryptingKey::from_pkcs8(&pkcs8).map_err(|_| CryptoError::InvalidKey)?;
        let mlkem = match mlkem {
            None => None,
            Some(bytes) => {
                let key = DecapsulationKey::new(&ML_KEM_768, &bytes).map_err(|_| CryptoError::InvalidKey)?;
                Some((bytes, key))
            }
        };
        let mlkem_public = mlkem
            .as_ref()
            .map(|(bytes, _)| {
                bytes
                    .get(MLKEM_PUBLIC_OFFSET..MLKEM_PUBLIC_OFFSET + MLKEM_PUBLIC_SIZE)
                    .ok_or(CryptoError::InvalidKey)
            })
            .transpose()?;
        let public = RecipientPublicKey::from_library(&private.public_key(), mlkem_public)?;
        let rsa = OaepPrivateDecryptingKey::new(private).map_err(|_| CryptoError::InvalidKey)?;
        let key = Self { pkcs8, rsa, mlkem, public };
        key.check_pair()?;
        Ok(key)
    }

    /// A stored key whose halves no longer fit would lose every file sealed under it, and ML-KEM does not
    /// say so by itself: a damaged key decapsulates to another secret.
    fn check_pair(&self) -> Result<(), CryptoError> {
        let (encapsulation, sent) = self.public.encapsulate().map_err(|_| CryptoError::InvalidKey)?;
        let received = self.decapsulate(&encapsulation).map_err(|_| CryptoError::InvalidKey)?;
        if constant_time_equal(sent.expose(), received.expose()) {
            Ok(())
        } else {
            Err(CryptoError::InvalidKey)
        }
    }
}

/// RSA private key in DER PKCS#8, for decryption by aws-lc-rs.
pub(in crate::crypto) fn oaep_private(pkcs8: &[u8]) -> Result<OaepPrivateDecryptingKey, CryptoError> {
    PrivateDecryptingKey::from_pkcs8(pkcs8)
        .map_err(|_| CryptoError::InvalidKey)
        .and_then(|key| OaepPrivateDecryptingKey::new(key).map_err(|_| CryptoError::InvalidKey))
}

/// RSA-OAEP decryption; every failure is the same.
pub(in crate::crypto) fn oaep_decrypt(
    key: &OaepPrivateDecryptingKey,
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let mut buffer = Zeroizing::new(vec![0; key.min_output_size()]);
    let length = key
        .decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut buffer, None)
        .map_err(|_| CryptoError::Refused)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

const RSA_BITS: usize = 2048;
const EXPORT_MAGIC: &[u8] = b"TBRK\x01";
const KIND_RSA: u8 = 1;
const KIND_HYBRID: u8 = 2;
const PREFIX_SIZE: usize = EXPORT_MAGIC.len() + 1 + 4;

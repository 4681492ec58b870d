//! DEKs on their way from the key server to a terminal: HPKE (RFC 9180), base mode,
//! DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. One context carries all DEKs of a response,
//! each under its own sequence number, so that they open only in the order in which they were sealed.

use super::provider::bulk;
use super::{CryptoError, Dek, RootKey};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkeOpener, HpkePrivateKey, HpkePublicKey, HpkeSealer};
use zeroize::Zeroizing;

/// A terminal's key pair, to which grants are sealed.
pub struct GrantKeyPair {
    public: Vec<u8>,
    private: HpkePrivateKey,
}

impl GrantKeyPair {
    /// A fresh key pair.
    ///
    /// # Errors
    /// [`CryptoError::Library`] if the library cannot make one.
    pub fn generate() -> Result<Self, CryptoError> {
        let (public, private) = SUITE.generate_key_pair().map_err(|_| CryptoError::Library)?;
        Ok(Self { public: public.0, private })
    }

    /// The public key: 65 bytes, uncompressed point (SEC 1).
    pub fn public(&self) -> Vec<u8> {
        self.public.clone()
    }

    /// Public key (65 bytes) and private scalar (32 bytes), for the terminal's state directory.
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        // Reserved at once, so that growing leaves no unwiped copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(PUBLIC_SIZE + PRIVATE_SIZE));
        bytes.extend_from_slice(&self.public);
        bytes.extend_from_slice(self.private.secret_bytes());
        bytes
    }

    /// What [`GrantKeyPair::export`] gave.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if the halves are malformed or do not belong together.
    pub fn import(bytes: &[u8]) -> Result<Self, CryptoError> {
        let (public, private) = bytes.split_at_checked(PUBLIC_SIZE).ok_or(CryptoError::InvalidKey)?;
        if private.len() != PRIVATE_SIZE {
            return Err(CryptoError::InvalidKey);
        }
        let pair = Self { public: public.to_vec(), private: HpkePrivateKey::from(private.to_vec()) };
        let probe = Dek::generate();
        let opened = GrantSealer::new(&pair.public, PAIR_CHECK)
            .and_then(|(encapsulated, mut sealer)| Ok((encapsulated, sealer.seal(&[], &probe)?)))
            .and_then(|(encapsulated, sealed)| {
                GrantOpener::new(&pair, &encapsulated, PAIR_CHECK)?.open(&[], &sealed)
            })
            .map_err(|_| CryptoError::InvalidKey)?;
        if !super::constant_time_equal(opened.expose(), probe.expose()) {
            return Err(CryptoError::InvalidKey);
        }
        Ok(pair)
    }
}

/// Seals DEKs to one terminal.
pub struct GrantSealer(Box<dyn HpkeSealer>);

impl GrantSealer {
    /// The encapsulated key, which travels along, and the sealer. `info` binds all to their occasion
    /// (terminal, session, request).
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if `public` is not a terminal's public key.
    pub fn new(public: &[u8], info: &[u8]) -> Result<(Vec<u8>, Self), CryptoError> {
        let (encapsulated, sealer) =
            SUITE.setup_sealer(info, &HpkePublicKey(public.to_vec())).map_err(|_| CryptoError::InvalidKey)?;
        Ok((encapsulated.0, Self(sealer)))
    }

    /// Seals the next DEK; `aad` names its file.
    ///
    /// # Errors
    /// [`CryptoError::Library`] if the library fails.
    pub fn seal(&mut self, aad: &[u8], dek: &Dek) -> Result<Vec<u8>, CryptoError> {
        self.0.seal(aad, dek.expose()).map_err(|_| CryptoError::Library)
    }
}

/// Opens what a [`GrantSealer`] sealed, in the same order.
pub struct GrantOpener(Box<dyn HpkeOpener>);

impl GrantOpener {
    /// The opener for an encapsulated key and the same `info`.
    ///
    /// # Errors
    /// [`CryptoError::Refused`] if the encapsulated key is malformed.
    pub fn new(pair: &GrantKeyPair, encapsulated: &[u8], info: &[u8]) -> Result<Self, CryptoError> {
        SUITE
            .setup_opener(&EncapsulatedSecret(encapsulated.to_vec()), info, &pair.private)
            .map(Self)
            .map_err(|_| CryptoError::Refused)
    }

    /// Opens the next DEK, sealed with the same `aad`.
    ///
    /// # Errors
    /// [`CryptoError::Refused`], whatever does not fit.
    pub fn open(&mut self, aad: &[u8], sealed: &[u8]) -> Result<Dek, CryptoError> {
        let dek = Zeroizing::new(self.0.open(aad, sealed).map_err(|_| CryptoError::Refused)?);
        Dek::from_slice(&dek).map_err(|_| CryptoError::Refused)
    }
}

impl GrantKeyPair {
    /// A key that only who has this pair can derive, for what the terminal keeps for itself under `purpose`.
    ///
    /// # Errors
    /// [`CryptoError::Library`] if the library fails.
    pub fn local_key(&self, purpose: &str) -> Result<RootKey, CryptoError> {
        let kdf = bulk().kdf(self.private.secret_bytes(), LOCAL_KEY);
        RootKey::from_slice(kdf.expand(&[purpose.as_bytes()])?.as_slice())
    }
}

const LOCAL_KEY: &[u8] = b"tobari/1 terminal";
const PUBLIC_SIZE: usize = 65;
const PRIVATE_SIZE: usize = 32;
const PAIR_CHECK: &[u8] = b"tobari/1 key pair check";

//! The keys of one sealed file: `docs/spec/envelope.md`, "Layout".

use super::provider::{Aead, Mac, Provider, bulk};
use super::secret::{Dek, DerivedKey};
use super::{CryptoError, constant_time_equal};
use crate::ids::FileId;

/// Keys derived from a DEK and the file id; each `HKDF(DEK, salt = file id, info)`.
///
/// The provider that derives them also computes their codes, so that a read-back with the second provider
/// shares nothing with the code that sealed.
pub struct FileKeys {
    provider: &'static dyn Provider,
    content: DerivedKey,
    header: DerivedKey,
    state: DerivedKey,
    journal: DerivedKey,
}

impl FileKeys {
    /// The keys of the file, with the bulk provider.
    ///
    /// # Errors
    /// [`CryptoError::Library`], which does not happen for these lengths.
    pub fn new(dek: &Dek, file: &FileId) -> Result<Self, CryptoError> {
        Self::with_provider(bulk(), dek, file)
    }

    /// The keys of the file, derived and used by `provider`.
    ///
    /// # Errors
    /// [`CryptoError::Library`], which does not happen for these lengths.
    pub fn with_provider(
        provider: &'static dyn Provider,
        dek: &Dek,
        file: &FileId,
    ) -> Result<Self, CryptoError> {
        let kdf = provider.kdf(dek.expose(), file.as_bytes());
        Ok(Self {
            provider,
            content: kdf.expand(&[b"tobari/1 content"])?,
            header: kdf.expand(&[b"tobari/1 header"])?,
            state: kdf.expand(&[b"tobari/1 state"])?,
            journal: kdf.expand(&[b"tobari/1 journal"])?,
        })
    }

    /// The cipher of the body's chunks, by `provider`; make it once for each file.
    pub fn content_aead(&self, provider: &dyn Provider) -> Box<dyn Aead> {
        provider.aead(&self.content)
    }

    /// The header MAC over `bytes` (all bytes of the header before it).
    pub fn header_mac(&self, bytes: &[u8]) -> [u8; 32] {
        self.code(&self.header, bytes)
    }

    /// Whether `mac` is the header MAC of `bytes`; constant time.
    pub fn header_mac_fits(&self, bytes: &[u8], mac: &[u8]) -> bool {
        constant_time_equal(&self.header_mac(bytes), mac)
    }

    /// The MAC of a state slot over `bytes` (its first 56 bytes).
    pub fn state_mac(&self, bytes: &[u8]) -> [u8; 32] {
        self.code(&self.state, bytes)
    }

    /// Whether `mac` is the MAC of the state slot `bytes`; constant time.
    pub fn state_mac_fits(&self, bytes: &[u8], mac: &[u8]) -> bool {
        constant_time_equal(&self.state_mac(bytes), mac)
    }

    /// The MAC of a redo journal over all its bytes before it.
    pub fn journal_mac(&self, bytes: &[u8]) -> [u8; 32] {
        self.code(&self.journal, bytes)
    }

    /// Whether `mac` is the MAC of the journal `bytes`; constant time.
    pub fn journal_mac_fits(&self, bytes: &[u8], mac: &[u8]) -> bool {
        constant_time_equal(&self.journal_mac(bytes), mac)
    }

    /// A running root over the body: HMAC under the state key over all chunk tags in order.
    ///
    /// A root and a slot MAC cannot be taken for each other although they share a key: the message of a
    /// slot has 56 bytes, that of a root a multiple of 16.
    pub fn root(&self) -> RootMac {
        RootMac(self.provider.mac(self.state.as_slice()))
    }

    fn code(&self, key: &DerivedKey, bytes: &[u8]) -> [u8; 32] {
        let mut mac = self.provider.mac(key.as_slice());
        mac.update(bytes);
        mac.finish()
    }
}

/// The root of a body while it is being computed.
pub struct RootMac(Box<dyn Mac>);

impl RootMac {
    /// Takes the next chunk's tag; or the tags of several chunks in order, one after the other.
    pub fn update(&mut self, tags: &[u8]) {
        self.0.update(tags);
    }

    /// The root.
    pub fn finish(self) -> [u8; 32] {
        self.0.finish()
    }
}

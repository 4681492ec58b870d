//! The bulletin in force: verified under the organisation's signing key, never replaced by a lower number, and
//! cached so that sealing goes on while the key server is away. The cache is verified again when it is loaded: whoever
//! can write the file cannot add a key to it.

use crate::files;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tobari_core::crypto::VerifyingKey;
use tobari_core::ids::OrganisationId;
use tobari_core::proto::bulletin::{Bulletin, SignedBulletin};

/// What is signed: this, a zero byte and the payload.
pub const CONTEXT: &str = "tobari/1 bulletin";
/// Version of [`Bulletin`] that this program reads.
const VERSION: u32 = 1;

/// Why a bulletin was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BulletinError {
    /// Not signed by the organisation's key.
    #[error("the bulletin's signature does not verify")]
    BadSignature,
    /// Signed, but not what this program reads.
    #[error("the bulletin cannot be read: {0}")]
    Malformed(String),
    /// Of another organisation.
    #[error("the bulletin is of organisation {0}")]
    OtherOrganisation(OrganisationId),
    /// An older one, or another one with the same number.
    #[error("the bulletin {offered} is not newer than the bulletin {held} in force")]
    GoesBack {
        /// Its number.
        offered: u64,
        /// The number in force.
        held: u64,
    },
    /// It could not be kept.
    #[error("failed to keep the bulletin: {0}")]
    Io(#[from] std::io::Error),
}

/// Checks signature, version and organisation.
///
/// # Errors
/// [`BulletinError`], never `GoesBack`.
pub fn verify(
    signed: &SignedBulletin,
    key: &VerifyingKey,
    organisation: OrganisationId,
) -> Result<Bulletin, BulletinError> {
    key.verify(CONTEXT, signed.payload.as_ref(), signed.signature.as_ref())
        .map_err(|_| BulletinError::BadSignature)?;
    let bulletin: Bulletin = serde_json::from_slice(signed.payload.as_ref())
        .map_err(|error| BulletinError::Malformed(error.to_string()))?;
    if bulletin.version != VERSION {
        return Err(BulletinError::Malformed(format!("its version is {}, not {VERSION}", bulletin.version)));
    }
    if bulletin.organisation != organisation {
        return Err(BulletinError::OtherOrganisation(bulletin.organisation));
    }
    Ok(bulletin)
}

/// The bulletin in force, and its cache.
pub struct Bulletins {
    key: VerifyingKey,
    organisation: OrganisationId,
    cache: (PathBuf, &'static str),
    held: RwLock<Arc<Bulletin>>,
    /// Serialises [`Bulletins::accept`]: number check, cache and publication are one step.
    accepting: Mutex<Vec<u8>>,
}

impl std::fmt::Debug for Bulletins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bulletins").field("number", &self.current().number).finish_non_exhaustive()
    }
}

impl Bulletins {
    /// Loads and verifies the cached bulletin. Enrolment always leaves one.
    ///
    /// # Errors
    /// When it is missing or does not verify.
    pub fn load(
        key: VerifyingKey,
        organisation: OrganisationId,
        cache: (PathBuf, &'static str),
    ) -> Result<Self, BulletinError> {
        let bytes = std::fs::read(cache.0.join(cache.1))?;
        let signed: SignedBulletin =
            serde_json::from_slice(&bytes).map_err(|error| BulletinError::Malformed(error.to_string()))?;
        Self::with(key, organisation, cache, signed)
    }

    /// Starts from a bulletin that the key server just sent, because the cached one was lost or damaged.
    ///
    /// # Errors
    /// When it does not verify or cannot be kept.
    pub fn start_over(
        key: VerifyingKey,
        organisation: OrganisationId,
        cache: (PathBuf, &'static str),
        signed: SignedBulletin,
    ) -> Result<Self, BulletinError> {
        let bytes =
            serde_json::to_vec(&signed).map_err(|error| BulletinError::Malformed(error.to_string()))?;
        let held = Self::with(key, organisation, cache, signed)?;
        files::replace(&held.cache.0, held.cache.1, &bytes)?;
        Ok(held)
    }

    fn with(
        key: VerifyingKey,
        organisation: OrganisationId,
        cache: (PathBuf, &'static str),
        signed: SignedBulletin,
    ) -> Result<Self, BulletinError> {
        let bulletin = verify(&signed, &key, organisation)?;
        Ok(Self {
            key,
            organisation,
            cache,
            held: RwLock::new(Arc::new(bulletin)),
            accepting: Mutex::new(signed.payload.0),
        })
    }

    /// The bulletin in force.
    pub fn current(&self) -> Arc<Bulletin> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a bulletin from the key server. Gives the new one, or none when it is the one already in force.
    ///
    /// # Errors
    /// When it does not verify, goes back, or cannot be kept; the one in force then stays.
    pub fn accept(&self, signed: &SignedBulletin) -> Result<Option<Arc<Bulletin>>, BulletinError> {
        let bulletin = verify(signed, &self.key, self.organisation)?;
        let mut held_payload = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.current().number;
        if bulletin.number == held && *held_payload == signed.payload.0 {
            return Ok(None);
        }
        if bulletin.number <= held {
            return Err(BulletinError::GoesBack { offered: bulletin.number, held });
        }
        let bytes =
            serde_json::to_vec(signed).map_err(|error| BulletinError::Malformed(error.to_string()))?;
        files::replace(&self.cache.0, self.cache.1, &bytes)?;
        let bulletin = Arc::new(bulletin);
        *held_payload = signed.payload.0.clone();
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&bulletin);
        Ok(Some(bulletin))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use jiff::Timestamp;
    use std::path::Path;
    use tobari_core::crypto::SigningKey;
    use tobari_core::proto::base64::Base64;
    use tobari_core::proto::bulletin::{PublicKey, Revocations};

    pub(crate) const ORGANISATION: OrganisationId = OrganisationId::from_bytes([9; 16]);

    pub(crate) fn bulletin(number: u64) -> Bulletin {
        Bulletin {
            version: VERSION,
            organisation: ORGANISATION,
            organisation_name: String::from("みほん市"),
            number,
            issued_at: Timestamp::UNIX_EPOCH,
            labels: Vec::new(),
            recovery: PublicKey { rsa_spki: Base64(Vec::new()), mlkem768: None },
            groups: Vec::new(),
            folders: Vec::new(),
            revocations: Revocations::default(),
            gateways: Vec::new(),
        }
    }

    pub(crate) fn signed(key: &SigningKey, bulletin: &Bulletin) -> SignedBulletin {
        let payload = serde_json::to_vec(bulletin).unwrap();
        let signature = key.sign(CONTEXT, &payload);
        SignedBulletin { payload: Base64(payload), signature: Base64(signature) }
    }

    fn cached(directory: &Path, signed: &SignedBulletin) -> (PathBuf, &'static str) {
        std::fs::write(directory.join("b"), serde_json::to_vec(signed).unwrap()).unwrap();
        (directory.to_owned(), "b")
    }

    #[test]
    fn a_newer_bulletin_is_taken_and_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let cache = cached(directory.path(), &signed(&key, &bulletin(3)));
        let held = Bulletins::load(key.verifying_key(), ORGANISATION, cache.clone()).unwrap();
        assert!(held.accept(&signed(&key, &bulletin(3))).unwrap().is_none());
        assert_eq!(held.accept(&signed(&key, &bulletin(5))).unwrap().unwrap().number, 5);
        assert_eq!(held.current().number, 5);
        let again = Bulletins::load(key.verifying_key(), ORGANISATION, cache).unwrap();
        assert_eq!(again.current().number, 5);
    }

    #[test]
    fn an_older_or_forked_bulletin_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let cache = cached(directory.path(), &signed(&key, &bulletin(3)));
        let held = Bulletins::load(key.verifying_key(), ORGANISATION, cache).unwrap();
        let older = held.accept(&signed(&key, &bulletin(2)));
        assert!(matches!(older, Err(BulletinError::GoesBack { offered: 2, held: 3 })));
        let mut fork = bulletin(3);
        fork.organisation_name = String::from("other");
        assert!(matches!(held.accept(&signed(&key, &fork)), Err(BulletinError::GoesBack { .. })));
        assert_eq!(held.current().organisation_name, "みほん市");
    }

    #[test]
    fn forged_and_foreign_bulletins_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let other = SigningKey::generate().unwrap();
        let cache = cached(directory.path(), &signed(&key, &bulletin(3)));
        let held = Bulletins::load(key.verifying_key(), ORGANISATION, cache).unwrap();
        let forged = signed(&other, &bulletin(9));
        assert!(matches!(held.accept(&forged), Err(BulletinError::BadSignature)));
        let mut changed = signed(&key, &bulletin(9));
        changed.payload = signed(&key, &bulletin(10)).payload;
        assert!(matches!(held.accept(&changed), Err(BulletinError::BadSignature)));
        let mut foreign = bulletin(9);
        foreign.organisation = OrganisationId::from_bytes([1; 16]);
        assert!(matches!(held.accept(&signed(&key, &foreign)), Err(BulletinError::OtherOrganisation(_))));
        let mut future = bulletin(9);
        future.version = 2;
        assert!(matches!(held.accept(&signed(&key, &future)), Err(BulletinError::Malformed(_))));

        let cache = cached(directory.path(), &signed(&other, &bulletin(3)));
        let tampered = Bulletins::load(key.verifying_key(), ORGANISATION, cache);
        assert!(matches!(tampered, Err(BulletinError::BadSignature)));
    }
}

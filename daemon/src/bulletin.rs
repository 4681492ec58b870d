//! The bulletin in force: verified under the organisation's signing key, never replaced by a lower number, and
//! cached so that sealing goes on while the key server is away. The cache is verified again when it is loaded: whoever
//! can write the file cannot add a key to it.

use crate::files;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tobari_core::crypto::VerifyingKey;
use tobari_core::ids::OrganisationId;
use tobari_core::proto::bulletin::{Bulletin, STAMP_CONTEXT, SignedBulletin, SignedStamp, Stamp};

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

/// Checks signature, version and organisation of a stamp.
fn verify_stamp(
    signed: &SignedStamp,
    key: &VerifyingKey,
    organisation: OrganisationId,
) -> Result<Stamp, BulletinError> {
    key.verify(STAMP_CONTEXT, signed.payload.as_ref(), signed.signature.as_ref())
        .map_err(|_| BulletinError::BadSignature)?;
    let stamp: Stamp = serde_json::from_slice(signed.payload.as_ref())
        .map_err(|error| BulletinError::Malformed(error.to_string()))?;
    if stamp.version != VERSION {
        return Err(BulletinError::Malformed(format!("its version is {}, not {VERSION}", stamp.version)));
    }
    if stamp.organisation != organisation {
        return Err(BulletinError::OtherOrganisation(stamp.organisation));
    }
    Ok(stamp)
}

/// A stamp is written to the disk when the one there is older by this; it is in memory at once.
const STAMP_INTERVAL: SignedDuration = SignedDuration::from_mins(10);

/// The latest confirmation.
#[derive(Clone)]
struct Kept {
    stamp: Stamp,
    signed: SignedStamp,
}

/// The bulletin in force, and its cache.
pub struct Bulletins {
    key: VerifyingKey,
    organisation: OrganisationId,
    cache: (PathBuf, &'static str),
    held: RwLock<Arc<Bulletin>>,
    /// Serialises [`Bulletins::accept`]: number check, cache and publication are one step.
    accepting: Mutex<Accepted>,
    stamp: RwLock<Option<Kept>>,
}

/// What is in force, as it is in the cache.
struct Accepted {
    signed: SignedBulletin,
    /// Of the stamp there.
    stamped_at: Option<Timestamp>,
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
        // One that does not verify confirms nothing.
        let stamp = signed.stamp.as_ref().and_then(|signed| {
            let stamp = verify_stamp(signed, &key, organisation).ok()?;
            Some(Kept { stamp, signed: signed.clone() })
        });
        let stamped_at = stamp.as_ref().map(|kept| kept.stamp.confirmed_at);
        Ok(Self {
            key,
            organisation,
            cache,
            held: RwLock::new(Arc::new(bulletin)),
            accepting: Mutex::new(Accepted { signed, stamped_at }),
            stamp: RwLock::new(stamp),
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
        let mut accepted = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.current().number;
        if bulletin.number == held && accepted.signed.payload == signed.payload {
            drop(accepted);
            if let Some(stamp) = &signed.stamp {
                self.confirm(stamp)?;
            }
            return Ok(None);
        }
        if bulletin.number <= held {
            return Err(BulletinError::GoesBack { offered: bulletin.number, held });
        }
        let mut signed = signed.clone();
        if let Some(stamp) = &signed.stamp {
            self.keep(stamp)?;
        }
        // The latest, whichever it came with.
        let kept = self.stamp.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stamped_at = kept.as_ref().map(|kept| kept.stamp.confirmed_at);
        signed.stamp = kept.map(|kept| kept.signed);
        self.write(&signed)?;
        let bulletin = Arc::new(bulletin);
        *accepted = Accepted { signed, stamped_at };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&bulletin);
        Ok(Some(bulletin))
    }
}

impl Bulletins {
    /// Takes a confirmation. An older one than the one in hand changes nothing.
    ///
    /// # Errors
    /// When it does not verify, or cannot be kept.
    pub fn confirm(&self, signed: &SignedStamp) -> Result<(), BulletinError> {
        if !self.keep(signed)? {
            return Ok(());
        }
        let mut accepted = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.stamp.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(kept) = kept else { return Ok(()) };
        let at = kept.stamp.confirmed_at;
        if accepted.stamped_at.is_none_or(|before| at.duration_since(before) >= STAMP_INTERVAL) {
            let signed = SignedBulletin { stamp: Some(kept.signed), ..accepted.signed.clone() };
            self.write(&signed)?;
            *accepted = Accepted { signed, stamped_at: Some(at) };
        }
        Ok(())
    }

    /// When the organisation said last that what is in force here is all: with the bulletin itself, or with a stamp of it or of one
    /// before it, after which it came. A stamp of a later bulletin says that something is missing here.
    pub fn confirmed_at(&self) -> Timestamp {
        let bulletin = self.current();
        let stamp = self.stamp.read().unwrap_or_else(PoisonError::into_inner);
        let stamped = stamp.as_ref().filter(|kept| kept.stamp.number <= bulletin.number);
        stamped.map_or(bulletin.issued_at, |kept| kept.stamp.confirmed_at.max(bulletin.issued_at))
    }

    /// Whether it is later than the one in hand, which it then replaces.
    fn keep(&self, signed: &SignedStamp) -> Result<bool, BulletinError> {
        let stamp = verify_stamp(signed, &self.key, self.organisation)?;
        let mut kept = self.stamp.write().unwrap_or_else(PoisonError::into_inner);
        let later = kept.as_ref().is_none_or(|kept| kept.stamp.confirmed_at < stamp.confirmed_at);
        if later {
            *kept = Some(Kept { stamp, signed: signed.clone() });
        }
        Ok(later)
    }

    fn write(&self, signed: &SignedBulletin) -> Result<(), BulletinError> {
        let bytes =
            serde_json::to_vec(signed).map_err(|error| BulletinError::Malformed(error.to_string()))?;
        Ok(files::replace(&self.cache.0, self.cache.1, &bytes)?)
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
        SignedBulletin { payload: Base64(payload), signature: Base64(signature), stamp: None }
    }

    pub(crate) fn stamped(key: &SigningKey, number: u64, at: &str) -> SignedStamp {
        let stamp =
            Stamp { version: VERSION, organisation: ORGANISATION, number, confirmed_at: at.parse().unwrap() };
        let payload = serde_json::to_vec(&stamp).unwrap();
        SignedStamp { signature: Base64(key.sign(STAMP_CONTEXT, &payload)), payload: Base64(payload) }
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

    #[test]
    fn a_confirmation_is_kept_and_an_older_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let cache = cached(directory.path(), &signed(&key, &bulletin(3)));
        let held = Bulletins::load(key.verifying_key(), ORGANISATION, cache.clone()).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(held.confirmed_at(), Timestamp::UNIX_EPOCH, "by itself");
        held.confirm(&stamped(&key, 3, "2026-06-01T00:00:00Z")).unwrap();
        assert_eq!(held.confirmed_at(), at("2026-06-01T00:00:00Z"));
        // An old one again, as somebody sends it who has kept it.
        held.confirm(&stamped(&key, 3, "2026-05-01T00:00:00Z")).unwrap();
        assert_eq!(held.confirmed_at(), at("2026-06-01T00:00:00Z"));
        let old = SignedBulletin {
            stamp: Some(stamped(&key, 3, "2026-05-01T00:00:00Z")),
            ..signed(&key, &bulletin(3))
        };
        assert!(held.accept(&old).unwrap().is_none());
        assert_eq!(held.confirmed_at(), at("2026-06-01T00:00:00Z"));
        // After a start, too, but for the last minutes: those are not written each time.
        held.confirm(&stamped(&key, 3, "2026-06-01T00:05:00Z")).unwrap();
        assert_eq!(held.confirmed_at(), at("2026-06-01T00:05:00Z"));
        let again = Bulletins::load(key.verifying_key(), ORGANISATION, cache.clone()).unwrap();
        assert_eq!(again.confirmed_at(), at("2026-06-01T00:00:00Z"));
        held.confirm(&stamped(&key, 3, "2026-06-01T00:11:00Z")).unwrap();
        let again = Bulletins::load(key.verifying_key(), ORGANISATION, cache.clone()).unwrap();
        assert_eq!(again.confirmed_at(), at("2026-06-01T00:11:00Z"));

        // That a later bulletin is in force confirms nothing of this one, until it is here.
        held.confirm(&stamped(&key, 4, "2026-06-02T00:00:00Z")).unwrap();
        assert_eq!(held.confirmed_at(), Timestamp::UNIX_EPOCH);
        held.accept(&signed(&key, &bulletin(4))).unwrap().unwrap();
        assert_eq!(held.confirmed_at(), at("2026-06-02T00:00:00Z"));
        let again = Bulletins::load(key.verifying_key(), ORGANISATION, cache).unwrap();
        assert_eq!(again.confirmed_at(), at("2026-06-02T00:00:00Z"));
    }

    #[test]
    fn forged_confirmations_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let cache = cached(directory.path(), &signed(&key, &bulletin(3)));
        let held = Bulletins::load(key.verifying_key(), ORGANISATION, cache).unwrap();
        let later = "2026-06-01T00:00:00Z";
        let other = stamped(&SigningKey::generate().unwrap(), 3, later);
        let mut moved = stamped(&key, 3, later);
        moved.payload = stamped(&key, 3, "2027-06-01T00:00:00Z").payload;
        // The signature of the bulletin's own text is none of a stamp, nor the other way round.
        let text = serde_json::to_vec(&serde_json::json!({
            "version": 1, "organisation": ORGANISATION, "number": 3, "confirmed_at": later,
        }));
        let text = text.unwrap();
        let crossed = SignedStamp { signature: Base64(key.sign(CONTEXT, &text)), payload: Base64(text) };
        for bad in [other, moved, crossed] {
            assert!(matches!(held.confirm(&bad), Err(BulletinError::BadSignature)));
            let with = SignedBulletin { stamp: Some(bad), ..signed(&key, &bulletin(4)) };
            assert!(held.accept(&with).is_err());
        }
        assert_eq!((held.confirmed_at(), held.current().number), (Timestamp::UNIX_EPOCH, 3));
    }
}

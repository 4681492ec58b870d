//! A lease in hand: its document, what its person created under it, and what has become of it.

use super::store::{Bound, Created, Store};
use super::{Course, broken};
use crate::failure::Failure;
use jiff::Timestamp;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use tobari_core::crypto::{CryptoError, Dek, GrantKeyPair};
use tobari_core::lease::{LeaseBinding, Lent, Refused, ValidLease, Wish};
use tobari_core::policy::Right;
use tobari_core::proto::base64::Base64;

pub(super) struct Held {
    pub(super) lease: ValidLease,
    /// Files that its person created under it. Each says to what its key is bound, so they outlive the document.
    pub(super) created: Vec<Created>,
    pub(super) course: Arc<Course>,
}

impl Held {
    pub(super) fn new(lease: ValidLease, store: &Store) -> Self {
        let id = lease.lease().id;
        let narrowed = store.state().narrowed.iter().filter(|narrowing| narrowing.lease == id).copied();
        let course = Course { over: AtomicBool::new(false), narrowed: RwLock::new(narrowed.collect()) };
        // Only leases of labels have any.
        let mut created = if lease.lease().label.is_some() { store.created(id) } else { Vec::new() };
        // Those of before leases were refilled are bound to what the document says: it is the one of then.
        created.retain_mut(|one| {
            one.bound = one.bound.or_else(|| {
                let wish = Wish {
                    person: lease.lease().person,
                    file: one.file,
                    label: one.label,
                    owner_group: one.owner_group,
                    right: Right::View,
                };
                let LeaseBinding { rights, ends_at, .. } = lease.binds_created(&wish).ok()?;
                Some(Bound { rights, ends_at })
            });
            one.bound.is_some()
        });
        Self { lease, created, course: Arc::new(course) }
    }

    /// The file that `wish` is about, if it was created under this lease.
    fn created(&self, wish: &Wish) -> Option<(&Created, LeaseBinding)> {
        let same = |one: &&Created| {
            (one.file, one.label, one.owner_group) == (wish.file, wish.label, wish.owner_group)
        };
        let created = self.created.iter().find(same)?;
        let (Bound { rights, ends_at }, lease) = (created.bound?, self.lease.lease());
        let binding = LeaseBinding {
            file: created.file,
            label: created.label,
            owner_group: created.owner_group,
            person: lease.person,
            rights,
            starts_at: lease.term.starts_at,
            ends_at,
        };
        Some((created, binding))
    }

    /// Whether it is of the person and the file, whatever the time and the right.
    pub(super) fn covers(&self, wish: &Wish) -> Result<(), Refused> {
        match self.lease.covers(wish) {
            Err(Refused::OtherFile) if self.created(wish).is_some() => Ok(()),
            covered => covered.map(|_| ()),
        }
    }

    pub(super) fn permits(&self, wish: &Wish, used: u32, now: Timestamp) -> Result<Lent<'_>, Refused> {
        let narrowed = self.course.narrowed();
        match (self.lease.permits(wish, used, now, &narrowed), self.created(wish)) {
            (Err(Refused::OtherFile), Some((_, binding))) => {
                self.lease.permits_created(binding, wish, used, now, &narrowed)
            }
            (permitted, _) => permitted,
        }
    }

    pub(super) fn dek(&self, lent: &Lent<'_>, wish: &Wish, key: &GrantKeyPair) -> Result<Dek, CryptoError> {
        match self.created(wish) {
            Some((created, _)) if self.lease.covers(wish).is_err() => {
                lent.created_dek(key, created.encapsulated_key.as_ref(), created.sealed_dek.as_ref())
            }
            _ => lent.dek(key),
        }
    }

    /// The key of a file that was just created, sealed so that it opens under this lease; none where the lease is not good for it.
    pub(super) fn create(
        &self,
        key: &GrantKeyPair,
        wish: &Wish,
        dek: &Dek,
        now: Timestamp,
    ) -> Result<Option<Created>, Failure> {
        let Ok(binding) = self.lease.binds_created(wish) else { return Ok(None) };
        // Whether openings are left does not matter: they are counted when it is opened.
        let narrowed = self.course.narrowed();
        let Ok(lent) = self.lease.permits_created(binding, wish, 0, now, &narrowed) else { return Ok(None) };
        let (encapsulated, sealed) =
            lent.seal_created(key, dek).map_err(|error| broken(error.to_string()))?;
        Ok(Some(Created {
            file: wish.file,
            label: wish.label,
            owner_group: wish.owner_group,
            bound: Some(Bound { rights: binding.rights, ends_at: binding.ends_at }),
            encapsulated_key: Base64(encapsulated),
            sealed_dek: Base64(sealed),
        }))
    }
}

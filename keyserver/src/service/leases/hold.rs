//! Holding leases back for a moment. A change that takes leases is written only if no lease was issued since it looked at all of them. On one
//! server that is so by itself; where another one issues leases all the time, it would never be written. So the second attempt says first
//! that leases are held: that is a version of its own, on which no lease is issued, by whichever server.

use crate::service::{Changing, Service, ServiceError};
use crate::store::{Basis, Change, Tables};
use jiff::{SignedDuration, Timestamp};
use tobari_core::ids::SessionId;

/// The setting: until when, as microseconds since 1970; empty when they are not held.
pub(in crate::service) const HOLD: &str = "lease-hold";
/// A server that fails in between holds leases no longer than this.
const LONGEST: SignedDuration = SignedDuration::from_secs(15);

/// Whether leases are held now.
pub(super) fn is_held(tables: &Tables, now: Timestamp) -> bool {
    let until = tables.settings.get(HOLD).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    until.is_some_and(|until: i64| now.as_microsecond() < until)
}

/// That they are not held any more, where they are. Whoever changes something says so: who held them has lost the race then, and begins anew.
pub(in crate::service) fn released(tables: &Tables) -> Option<Change> {
    let held = tables.settings.get(HOLD).is_some_and(|value| !value.is_empty());
    held.then(|| Change::PutSetting(HOLD.to_owned(), Vec::new()))
}

impl Service {
    /// Holds leases on all servers, until the next change or for [`LONGEST`].
    ///
    /// # Errors
    /// [`ServiceError::Moved`] when something else was changed meanwhile; the store.
    pub(in crate::service) async fn hold_leases(
        &self,
        changing: &Changing<'_>,
        session: Option<SessionId>,
    ) -> Result<(), ServiceError> {
        let until = self.clock.now().checked_add(LONGEST).unwrap_or(Timestamp::MAX);
        let hold = Change::PutSetting(HOLD.to_owned(), until.as_microsecond().to_string().into_bytes());
        let basis = Basis::new(self.directory.load().version, session);
        self.audit.commit_on(basis, vec![hold], &[]).await?;
        self.catch_up(changing).await
    }
}

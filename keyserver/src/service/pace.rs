//! Overload: whoever asks too fast is told so before anything is done for them, and the server takes in no more than it can
//! work on, so that what it takes in is answered in time. `GET /v1/changes` waits and does no work; it does not count.
//!
//! Two parts: token buckets for each terminal and each person, and places for requests that are worked on. Both are apart for
//! files, administration and everything else: however many files are asked for, an administrator is answered, be it on the
//! terminal that asks too fast. Who is turned away is told a moment later, so that saying no does not take the time of those
//! who were let in.

use super::caller::Call;
use super::limits::Limits;
use super::{Service, ServiceError};
use crate::store::Digest;
use governor::clock::MonotonicClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tobari_core::crypto::sha256;
use tobari_core::ids::PersonId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Refusals that wait at one time; more are given at once.
const REFUSALS: usize = 4096;
/// With so many more that wait, the wait is longer by its first length.
const CROWD: usize = 128;
/// Longest wait, in first lengths. A client gives up after 15 s.
const LONGEST_WAIT: u32 = 4;
/// Bytes of a body that are worth one more place.
const BYTES_PER_PLACE: u64 = 128 * 1024;

/// What a request is about, for the places that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Decisions and grants.
    Files,
    /// The administration.
    Administration,
    /// Logging in, enrolment, bulletins.
    Other,
}

type Buckets<K> = RateLimiter<(K, Kind), HashMapStateStore<(K, Kind)>, MonotonicClock>;

/// Buckets and places.
pub(super) struct Pace {
    terminals: Buckets<Digest>,
    people: Buckets<PersonId>,
    files: Arc<Semaphore>,
    administration: Arc<Semaphore>,
    other: Arc<Semaphore>,
    refusals: Semaphore,
    most: u32,
}

fn buckets<K: Hash + Eq + Clone>(per_second: u32, burst: u32) -> Buckets<K> {
    let positive = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::per_second(positive(per_second)).allow_burst(positive(burst));
    RateLimiter::new(quota, HashMapStateStore::default(), MonotonicClock)
}

impl Pace {
    pub(super) fn new(limits: &Limits) -> Self {
        let places = |number: u32| Arc::new(Semaphore::new(usize::try_from(number).unwrap_or(usize::MAX)));
        Self {
            terminals: buckets(limits.terminal_requests_per_second, limits.terminal_burst),
            people: buckets(limits.person_requests_per_second, limits.person_burst),
            files: places(limits.file_places),
            administration: places(limits.other_places),
            other: places(limits.other_places),
            refusals: Semaphore::new(REFUSALS),
            most: limits.file_places.min(limits.other_places).max(1),
        }
    }

    /// Forgets whose buckets are full again.
    pub(super) fn tidy(&self) {
        self.terminals.retain_recent();
        self.people.retain_recent();
    }
}

/// A request's place, until it is answered.
pub(crate) struct Admitted(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Service {
    /// Lets a request in, or not. Nothing is asked of the store and nothing is recorded.
    ///
    /// # Errors
    /// [`ServiceError::TooManyRequests`].
    pub(crate) fn admit(&self, call: &Call, kind: Kind, length: u64) -> Result<Admitted, ServiceError> {
        let refuse = |why: &'static str| {
            metrics::counter!("tobari_turned_away_total", "why" => why).increment(1);
            ServiceError::TooManyRequests
        };
        if let Some(peer) = &call.peer {
            self.pace.terminals.check_key(&(peer.fingerprint, kind)).map_err(|_| refuse("terminal"))?;
        }
        if let Some(bearer) = &call.bearer
            && let Some(person) = self.sessions.person(&sha256(&[bearer.0.as_bytes()]))
        {
            self.pace.people.check_key(&(person, kind)).map_err(|_| refuse("person"))?;
        }
        let places = match kind {
            Kind::Files => &self.pace.files,
            Kind::Administration => &self.pace.administration,
            Kind::Other => &self.pace.other,
        };
        let wanted = u32::try_from(1 + length / BYTES_PER_PLACE).unwrap_or(u32::MAX).min(self.pace.most);
        let place = Arc::clone(places).try_acquire_many_owned(wanted).map_err(|_| refuse("server"))?;
        Ok(Admitted(place))
    }

    /// Waits before a request is turned away; the longer, the more wait already, so that ten times too many requests cost little more
    /// than a few too many.
    pub(crate) async fn before_refusal(&self) {
        if let Ok(_waits) = self.pace.refusals.try_acquire() {
            let waiting = REFUSALS.saturating_sub(self.pace.refusals.available_permits());
            tokio::time::sleep(wait(self.limits.refusal_wait, waiting)).await;
        }
    }
}

/// How long who is turned away waits, being one of so many.
fn wait(first: Duration, waiting: usize) -> Duration {
    let times = u32::try_from(1 + waiting / CROWD).unwrap_or(LONGEST_WAIT);
    first.saturating_mul(times.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_wait_the_longer_but_not_longer_than_a_client_waits() {
        let waits = [1, CROWD - 1, CROWD, 3 * CROWD - 1, 3 * CROWD, REFUSALS, usize::MAX / 2]
            .map(|waiting| wait(Duration::from_secs(2), waiting).as_secs());
        assert_eq!(waits, [2, 2, 4, 6, 8, 8, 8]);
    }
}

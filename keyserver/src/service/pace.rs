//! Overload: whoever asks too fast is told so before anything is done for them, and the server takes in no more than it can
//! work on, so that what it takes in is answered in time. `GET /v1/changes` waits and does no work; it does not count.
//!
//! Three parts: token buckets for each terminal and each person; room for bodies that are on their way, which may be slow; and
//! places for requests that are there as a whole and are worked on. Buckets and places are apart for files, news, administration and
//! everything else: however many files are asked for, an administrator is answered, be it on the terminal that asks too fast.
//! Nobody has all of the room or all places; whoever is no terminal that may ask has a few of their own. Who is turned away
//! is told a moment later, so that saying no does not take the time of those who were let in.

use super::caller::{Call, Peer, no_certificate};
use super::limits::Limits;
use super::{Service, ServiceError};
use crate::store::Digest;
use governor::clock::MonotonicClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tobari_core::crypto::sha256;
use tobari_core::ids::PersonId;
use tokio::sync::Semaphore;

/// Refusals that wait at one time; more are given at once.
const REFUSALS: usize = 4096;
/// With so many more that wait, the wait is longer by its first length.
const CROWD: usize = 128;
/// Longest wait, in first lengths. A client gives up after 15 s.
const LONGEST_WAIT: u32 = 4;
/// Bytes of a body that are worth one more place.
const BYTES_PER_PLACE: u64 = 128 * 1024;
/// Bytes of a body that are worth one more request.
const BYTES_PER_REQUEST: u64 = 16 * 1024;
/// Bytes of bodies that are on their way, of everybody and of one terminal; of those that are none together as of one.
const ROOM: u64 = 64 * 1024 * 1024;
const ROOM_OF_ONE: u64 = ROOM / 4;
/// Connections at one time, more wait in the kernel's queue; half of them for one terminal at most.
pub(crate) const CONNECTIONS: usize = 4096;
/// Requests of those that are no terminal, which enrol, and of terminals that must not ask any more.
const PLACES_OF_STRANGERS: u64 = 16;

/// What a request is about, for the places that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Grants.
    Files,
    /// Decisions and bulletins: what all terminals ask at once after a change, and what costs little.
    News,
    /// The administration.
    Administration,
    /// Logging in, leases.
    Other,
    /// Whatever it is, of somebody who is no terminal that may ask.
    Stranger,
}

/// Something of which nobody has all: who has how much of it.
struct Shares<K> {
    all: u64,
    of_one: u64,
    taken: Mutex<(u64, HashMap<K, u64>)>,
}

/// What somebody has of it, until it is dropped.
pub(crate) struct Share<K: Hash + Eq> {
    shares: Arc<Shares<K>>,
    whose: K,
    amount: u64,
}

impl<K: Hash + Eq + Copy> Shares<K> {
    fn new(all: u64, of_one: u64) -> Arc<Self> {
        Arc::new(Self { all, of_one, taken: Mutex::default() })
    }

    /// `amount`, or as much as one can have at all; none where so much is not left.
    fn take(self: &Arc<Self>, whose: K, amount: u64) -> Option<Share<K>> {
        let amount = amount.min(self.of_one);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, of) = &mut *taken;
        let of_one = of.get(&whose).copied().unwrap_or(0);
        if self.all.saturating_sub(*all) < amount.max(1) || self.of_one.saturating_sub(of_one) < amount {
            return None;
        }
        *all += amount;
        of.insert(whose, of_one + amount);
        Some(Share { shares: Arc::clone(self), whose, amount })
    }

    fn is_full(&self) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).0 >= self.all
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, of) = &mut *taken;
        *all -= self.amount;
        if let Some(of_one) = of.get_mut(&self.whose) {
            *of_one -= self.amount;
            if *of_one == 0 {
                of.remove(&self.whose);
            }
        }
    }
}

type Buckets<K> = RateLimiter<(K, Kind), HashMapStateStore<(K, Kind)>, MonotonicClock>;

/// Buckets and places.
pub(super) struct Pace {
    terminals: Buckets<Digest>,
    people: Buckets<PersonId>,
    connections: Arc<Shares<Digest>>,
    room: Arc<Shares<Option<Digest>>>,
    files: Arc<Shares<Digest>>,
    news: Arc<Shares<Digest>>,
    administration: Arc<Shares<Digest>>,
    other: Arc<Shares<Digest>>,
    strangers: Arc<Shares<()>>,
    refusals: Semaphore,
}

fn buckets<K: Hash + Eq + Clone>(per_second: u32, burst: u32) -> Buckets<K> {
    let positive = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::per_second(positive(per_second)).allow_burst(positive(burst));
    RateLimiter::new(quota, HashMapStateStore::default(), MonotonicClock)
}

impl Pace {
    pub(super) fn new(limits: &Limits) -> Self {
        // A quarter is left to others.
        let places = |number: u32| {
            let all = u64::from(number);
            Shares::new(all, all - all / 4)
        };
        Self {
            terminals: buckets(limits.terminal_requests_per_second, limits.terminal_burst),
            people: buckets(limits.person_requests_per_second, limits.person_burst),
            files: places(limits.file_places),
            news: places(limits.news_places),
            administration: places(limits.other_places),
            other: places(limits.other_places),
            strangers: Shares::new(PLACES_OF_STRANGERS, PLACES_OF_STRANGERS),
            connections: Shares::new(CONNECTIONS as u64, CONNECTIONS as u64 / 2),
            room: Shares::new(ROOM, ROOM_OF_ONE),
            refusals: Semaphore::new(REFUSALS),
        }
    }

    /// Forgets whose buckets are full again.
    pub(super) fn tidy(&self) {
        self.terminals.retain_recent();
        self.people.retain_recent();
    }
}

/// A terminal's connection, until it is closed.
pub(crate) struct Connected(#[expect(dead_code, reason = "held, not read")] Share<Digest>);

/// A request that may be read.
pub(crate) struct Knocked {
    kind: Kind,
    peer: Option<Digest>,
    room: Option<Share<Option<Digest>>>,
}

/// A request's place, until it is answered.
pub(crate) struct Admitted(#[expect(dead_code, reason = "held, not read")] Place);

#[expect(dead_code, reason = "held, not read")]
enum Place {
    Terminal(Share<Digest>),
    Stranger(Share<()>),
}

impl Service {
    /// Lets a terminal connect once more, unless it has too many connections.
    pub(crate) fn connect(&self, peer: &Peer) -> Option<Connected> {
        self.pace.connections.take(peer.fingerprint, 1).map(Connected)
    }

    /// Lets a request's body come, or not. Nothing is asked of the store and nothing is recorded. `enrols`: whoever has no certificate may
    /// ask this.
    ///
    /// # Errors
    /// [`ServiceError::TooManyRequests`], [`ServiceError::TerminalNotAccepted`].
    pub(crate) fn knock(
        &self,
        call: &Call,
        kind: Kind,
        enrols: bool,
        length: u64,
    ) -> Result<Knocked, ServiceError> {
        if call.peer.is_none() && !enrols {
            return Err(no_certificate());
        }
        if let Some(peer) = &call.peer {
            let bucket = &self.pace.terminals;
            pour(bucket, (peer.fingerprint, kind), self.limits.terminal_burst, length)
                .map_err(|()| turned_away("terminal"))?;
        }
        if let Some(bearer) = &call.bearer
            && let Some(person) = self.sessions.person(&sha256(&[bearer.0.as_bytes()]))
        {
            pour(&self.pace.people, (person, kind), self.limits.person_burst, length)
                .map_err(|()| turned_away("person"))?;
        }
        // As far as is known here; whether it may is decided later, with what other servers know.
        let known = self.terminal_in(&self.directory.load(), call).is_ok();
        let kind = if known { kind } else { Kind::Stranger };
        let full = match kind {
            Kind::Files => self.pace.files.is_full(),
            Kind::News => self.pace.news.is_full(),
            Kind::Administration => self.pace.administration.is_full(),
            Kind::Other => self.pace.other.is_full(),
            Kind::Stranger => self.pace.strangers.is_full(),
        };
        let peer = call.peer.filter(|_| known).map(|peer| peer.fingerprint);
        let room = self.pace.room.take(peer, length);
        if full || (room.is_none() && length > 0) {
            return Err(turned_away("server"));
        }
        Ok(Knocked { kind, peer, room })
    }

    /// A place for a request whose body is there.
    ///
    /// # Errors
    /// [`ServiceError::TooManyRequests`].
    pub(crate) fn admit(&self, knocked: Knocked, length: u64) -> Result<Admitted, ServiceError> {
        let Knocked { kind, peer, room } = knocked;
        drop(room);
        let wanted = 1 + length / BYTES_PER_PLACE;
        let places = match kind {
            Kind::Files => Some(&self.pace.files),
            Kind::News => Some(&self.pace.news),
            Kind::Administration => Some(&self.pace.administration),
            Kind::Other => Some(&self.pace.other),
            Kind::Stranger => None,
        };
        let place = match (places, peer) {
            (Some(places), Some(peer)) => places.take(peer, wanted).map(Place::Terminal),
            _ => self.pace.strangers.take((), wanted).map(Place::Stranger),
        };
        place.map(Admitted).ok_or_else(|| turned_away("server"))
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

fn turned_away(why: &'static str) -> ServiceError {
    metrics::counter!("tobari_turned_away_total", "why" => why).increment(1);
    ServiceError::TooManyRequests
}

/// Takes a request out of a bucket; more where its body is long.
fn pour<K: Hash + Eq + Clone>(
    buckets: &Buckets<K>,
    key: (K, Kind),
    burst: u32,
    length: u64,
) -> Result<(), ()> {
    let worth = u32::try_from(1 + length / BYTES_PER_REQUEST).unwrap_or(u32::MAX).min(burst);
    let worth = NonZeroU32::new(worth).unwrap_or(NonZeroU32::MIN);
    match buckets.check_key_n(&key, worth) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(()),
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
    fn nobody_has_all_and_all_comes_back() {
        let shares = Shares::new(8, 6);
        let four = shares.take("a", 4).unwrap();
        assert!(shares.take("a", 3).is_none(), "seven of six");
        let two = shares.take("a", 2).unwrap();
        assert!(shares.take("b", 3).is_none(), "nine of eight");
        let rest = shares.take("b", 2).unwrap();
        assert!(shares.is_full() && shares.take("c", 0).is_none());
        drop((four, two, rest));
        // Who wants more than one can have gets that.
        let most = shares.take("a", 100).unwrap();
        assert!(shares.take("a", 1).is_none() && shares.take("b", 2).is_some());
        drop(most);
        assert!(shares.taken.lock().unwrap().1.is_empty());
        assert!(Shares::new(0, 0).take("a", 1).is_none());
    }

    #[test]
    fn the_more_wait_the_longer_but_not_longer_than_a_client_waits() {
        let waits = [1, CROWD - 1, CROWD, 3 * CROWD - 1, 3 * CROWD, REFUSALS, usize::MAX / 2]
            .map(|waiting| wait(Duration::from_secs(2), waiting).as_secs());
        assert_eq!(waits, [2, 2, 4, 6, 8, 8, 8]);
    }
}

//! Leases on this terminal: opening without the key server, and telling it afterwards. `docs/spec/lease.md` is normative;
//! what a lease permits is decided in `tobari_core::lease`.
//!
//! [`Leases`] is what the rest of the daemon sees. Its state lies in `enrolment/leases` (`store`), sealed under a key that is
//! derived from the terminal's grant key. An opening is written down before its key is used. The time comes from
//! `clocks`: a wall clock that was set back opens nothing. Keys leave through [`crate::grants::Granted::key_for`] alone.

mod clocks;
mod confirmed;
mod held;
mod login;
mod store;
mod sync;

pub use clocks::{Clocks, SystemClocks};

use crate::failure::Failure;
use crate::grants::Wanted;
use crate::protect::Anchor;
use crate::sessions::Login;
use clocks::Time;
use confirmed::Confirmed;
use held::Held;
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use store::{Holding, Store};
use tobari_core::audit::LogKey;
use tobari_core::crypto::{CryptoError, Dek, GrantKeyPair, VerifyingKey};
use tobari_core::envelope::Header;
use tobari_core::ids::{GroupId, LabelId, LeaseId, OrganisationId, PersonId, TerminalId};
use tobari_core::lease::{ClockFault, Reading, Refused, ValidLease, Wish, chain};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::bulletin::{Bulletin, Revocations};
use tobari_core::proto::control::{HeldFile, HeldLease};
use tobari_core::proto::lease::{MAX_FILES, Narrowing, OfflineAct, OfflineRecord, SignedLease};
use tobari_core::proto::problem::{Problem, ProblemCode};

/// Longest file name in a record, in bytes.
const MAX_NAME: usize = 4096;

/// What a terminal needs to hold leases.
pub struct Identity {
    /// The organisation.
    pub organisation: OrganisationId,
    /// This terminal.
    pub terminal: TerminalId,
    /// Key that signs leases.
    pub signing_key: VerifyingKey,
    /// Key to which their keys are sealed.
    pub grant_key: GrantKeyPair,
    /// What signs the log in which each release must be.
    pub log: LogKey,
}

/// A key that a lease lends.
pub struct LeaseKey {
    /// What may be done.
    pub rights: Rights,
    /// Until when.
    pub ends_at: Timestamp,
    /// The key.
    pub dek: Dek,
    /// Ends before that when the lease is taken back or the clock set back.
    pub limit: Limit,
}

/// For how long one opening lasts: a program that opens the same file again within it, for the same right in the same
/// session, opens it once. Programs open a document several times to show it once.
const OPENING: SignedDuration = SignedDuration::from_mins(5);

/// What the holder of a lent key asks each time that it is used.
#[derive(Clone)]
pub struct Limit {
    person: PersonId,
    label: LabelId,
    owner_group: Option<GroupId>,
    right: Right,
    opened_at: Timestamp,
    ends_at: Timestamp,
    course: Arc<Course>,
    time: Arc<Time>,
    confirmed: Arc<Confirmed>,
}

/// What has become of a lease in hand, for the keys that are in use under it.
#[derive(Debug, Default)]
struct Course {
    /// It was taken back or returned.
    over: AtomicBool,
    /// What a stricter policy has left of it.
    narrowed: RwLock<Vec<Narrowing>>,
}

impl Course {
    fn narrowed(&self) -> Vec<Narrowing> {
        self.narrowed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Limit {
    /// Whether the key may still be used for `right`.
    ///
    /// # Errors
    /// `LeaseRefused`, and why.
    pub fn check(&self, right: Right) -> Result<(), Failure> {
        if self.course.over.load(Ordering::Acquire) {
            return Err(refused("ended", "the lease was taken back or returned"));
        }
        let mut ends_at = self.ends_at;
        for narrowing in self.course.narrowed.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if (narrowing.label, narrowing.owner_group) == (self.label, self.owner_group) {
                ends_at = ends_at.min(narrowing.ends_at);
                if !narrowing.rights.contains(right) {
                    return Err(Refused::RightNotLent(right).into());
                }
            }
        }
        let (now, _) = self.time.now()?;
        if now >= ends_at {
            return Err(refused("ended", format!("the lease ended at {ends_at}")));
        }
        self.confirmed.check(self.label, now)
    }

    /// Whether another opening of the file by the same person, now, is part of this one.
    pub fn is_one_opening(&self) -> bool {
        let until = self.opened_at.checked_add(OPENING).unwrap_or(self.opened_at);
        self.check(self.right).is_ok() && self.time.now().is_ok_and(|(now, _)| now < until)
    }

    /// Whose lease it is.
    pub fn person(&self) -> PersonId {
        self.person
    }
}

/// All leases of this terminal.
pub struct Leases {
    identity: Identity,
    time: Arc<Time>,
    confirmed: Arc<Confirmed>,
    inner: Mutex<Inner>,
    logins: login::OfflineLogins,
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases").field("held", &self.inner().held.len()).finish_non_exhaustive()
    }
}

struct Inner {
    store: Store,
    held: Vec<Held>,
    /// What the bulletin in force stops.
    stopped: Revocations,
}

/// A refusal whose reason clients know as `field`.
pub(crate) fn refused(field: &str, detail: impl Into<String>) -> Failure {
    let mut failure = Failure::new(ProblemCode::LeaseRefused, detail);
    failure.problem.field = Some(field.to_owned());
    failure
}

impl From<ClockFault> for Failure {
    fn from(fault: ClockFault) -> Self {
        refused("clock", fault.to_string())
    }
}

impl From<Refused> for Failure {
    fn from(reason: Refused) -> Self {
        let field = match reason {
            Refused::OtherPerson => "person",
            Refused::OtherFile | Refused::OtherLabel => "file",
            Refused::NotBegun(_) => "not-begun",
            Refused::Ended(_) => "ended",
            Refused::UsedUp(_) => "used-up",
            Refused::RightNotLent(_) => "right",
        };
        let mut failure = refused(field, reason.to_string());
        if let Refused::RightNotLent(right) = reason {
            failure.particulars.right = Some(right);
        }
        failure
    }
}

/// A lease that the state does not vouch for, or another thing that must not be.
fn broken(detail: impl Into<String>) -> Failure {
    refused("state", detail)
}

/// Whether a lease must prove that the release of its keys is in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// When it comes from the key server.
    Needed,
    /// When it lies on the disk: those of before there were proofs have none.
    IfThere,
}

impl Identity {
    /// A lease of this terminal, signed, and with the record of each key's release.
    fn checked(&self, signed: &SignedLease, proof: Proof) -> Result<ValidLease, String> {
        let lease = ValidLease::check(signed, &self.signing_key, self.organisation, self.terminal)
            .map_err(|error| error.to_string())?;
        if proof == Proof::Needed || signed.receipt.is_some() {
            lease.is_recorded(signed.receipt.as_ref(), &self.log).map_err(|fault| fault.to_string())?;
        }
        Ok(lease)
    }
}

impl Leases {
    /// Loads what lies in `directory`. What cannot be believed there opens nothing, and says so at each use; the rest of the
    /// daemon is not concerned.
    ///
    /// # Errors
    /// When the key for the state cannot be derived.
    pub fn load(directory: &Path, identity: Identity, clocks: Arc<dyn Clocks>) -> Result<Self, CryptoError> {
        Self::load_anchored(directory, identity, clocks, None)
    }

    /// The same, with a counter that never goes back and refuses what is older than the last state.
    ///
    /// # Errors
    /// As above.
    pub fn load_anchored(
        directory: &Path,
        identity: Identity,
        clocks: Arc<dyn Clocks>,
        anchor: Option<Anchor>,
    ) -> Result<Self, CryptoError> {
        let store = Store::load(directory, identity.grant_key.local_key("leases")?, anchor);
        if let Some(why) = store.fault() {
            tracing::error!(why, "leases of this terminal are refused until it is enrolled again");
        }
        let mut held = Vec::new();
        for (id, signed) in store.documents() {
            match identity.checked(&signed, Proof::IfThere) {
                Ok(lease) if lease.lease().id == id => {
                    held.push(Held::new(lease, &store));
                }
                Ok(_) => {
                    tracing::error!(lease = %id, "a stored lease lies under another one's name and is refused")
                }
                Err(why) => tracing::error!(lease = %id, why, "a stored lease is refused"),
            }
        }
        let time = Arc::new(Time::new(clocks, store.state().clock));
        Ok(Self {
            identity,
            time,
            confirmed: Arc::default(),
            inner: Mutex::new(Inner { store, held, stopped: Revocations::default() }),
            logins: login::OfflineLogins::default(),
        })
    }

    /// Whether the person holds a lease here that can be used now.
    pub fn holds(&self, person: PersonId) -> bool {
        self.of(person).0.iter().any(|lease| lease.usable)
    }

    /// Whether [`Leases::open`] would open all of these now. Nothing is counted.
    pub fn would_open<'a>(
        &self,
        login: &Login,
        wanted: impl IntoIterator<Item = &'a Wanted>,
        right: Right,
    ) -> bool {
        let inner = self.inner();
        let mut used = inner.store.state().used();
        let mut opens = |wanted: &Wanted| inner.decide(self, login.session.person, wanted, right, &mut used);
        wanted.into_iter().all(|wanted| opens(wanted).is_some_and(|outcome| outcome.is_ok()))
    }

    /// Opens what leases of the person of `login` cover; none for what they do not. Each opening is on the disk before
    /// this returns.
    pub fn open(
        &self,
        login: &Login,
        wanted: &[&Wanted],
        right: Right,
    ) -> Vec<Option<Result<LeaseKey, Failure>>> {
        let mut inner = self.inner();
        let mut used = inner.store.state().used();
        let mut records = Vec::new();
        let mut outcomes: Vec<Option<Result<LeaseKey, Failure>>> = Vec::with_capacity(wanted.len());
        for item in wanted {
            let outcome = inner.decide(self, login.session.person, item, right, &mut used);
            outcomes.push(outcome.map(|decided| {
                let (key, record) = decided?;
                records.push(record);
                Ok(key)
            }));
        }
        if records.is_empty() {
            return outcomes;
        }
        let clock = self.time.clock();
        if let Err(failure) = inner.store.note(records, clock, used) {
            // Nothing was written down, so nothing opens.
            for outcome in outcomes.iter_mut().flatten() {
                *outcome = Err(failure.clone());
            }
        }
        outcomes
    }

    /// What the person of `login` may do with a file under a lease now, without opening it.
    pub fn rights(&self, login: &Login, header: &Header) -> Option<Result<Rights, Failure>> {
        let inner = self.inner();
        let wish = wish(login.session.person, header, Right::View);
        let held = inner.held.iter().find(|held| held.covers(&wish).is_ok())?;
        Some(inner.store.sound().and_then(|()| {
            let (now, _) = self.time.now()?;
            self.confirmed.check(wish.label, now)?;
            let used = inner.store.state().used_of(held.lease.lease().id);
            // Whichever right: what is asked for is all of them.
            let mut refusal = Refused::RightNotLent(Right::View);
            for right in Right::ALL {
                match held.permits(&Wish { right, ..wish }, used, now) {
                    Ok(lent) => return Ok(lent.rights()),
                    Err(why) => refusal = why,
                }
            }
            Err(refusal.into())
        }))
    }

    /// Keeps the key of a file that the person of `login` has just created, where a lease of its label is good for it: it opens
    /// under that lease then, as long as the lease lasts.
    ///
    /// # Errors
    /// When it cannot be kept; the file then opens with the key server alone.
    pub fn keep_created(&self, login: &Login, header: &Header, dek: &Dek) -> Result<(), Failure> {
        let mut inner = self.inner();
        let Inner { store, held, .. } = &mut *inner;
        if store.sound().is_err() || held.iter().all(|held| held.lease.lease().label.is_none()) {
            return Ok(());
        }
        let (now, _) = self.time.now()?;
        let wish = wish(login.session.person, header, Right::View);
        for held in held.iter_mut().filter(|held| held.created.len() < MAX_FILES) {
            let Some(created) = held.create(&self.identity.grant_key, &wish, dek, now)? else { continue };
            store.add_created(held.lease.lease().id, &created)?;
            held.created.push(created);
        }
        Ok(())
    }

    /// The leases of a person, and how many acts the key server has not heard of.
    pub fn of(&self, person: PersonId) -> (Vec<HeldLease>, u64) {
        let inner = self.inner();
        let state = inner.store.state();
        let now = inner.store.sound().and_then(|()| Ok(self.time.now()?.0));
        let leases = inner
            .held
            .iter()
            .map(|held| held.lease.lease())
            .filter(|lease| lease.person == person)
            .map(|lease| {
                let used = state.used_of(lease.id);
                let narrowed = &state.narrowed;
                let why_not = match &now {
                    Err(failure) => Some(failure.problem.detail.clone()),
                    Ok(now) => not_now(lease, used, *now),
                };
                HeldLease {
                    id: lease.id,
                    label: lease.label,
                    issued_at: lease.issued_at,
                    term: lease.term,
                    opens: lease.opens,
                    used,
                    usable: why_not.is_none(),
                    why_not,
                    files: lease
                        .files
                        .iter()
                        .map(|file| {
                            let whole = Narrowing {
                                lease: lease.id,
                                label: file.label,
                                owner_group: file.owner_group,
                                rights: file.rights,
                                ends_at: file.ends_at,
                            };
                            let left =
                                narrowed.iter().filter(|one| one.is_of(&whole)).fold(whole, Narrowing::and);
                            HeldFile {
                                file: file.file,
                                name: file.name.clone(),
                                rights: left.rights,
                                ends_at: left.ends_at,
                            }
                        })
                        .collect(),
                }
            })
            .collect();
        (leases, state.unreported())
    }

    /// Gives a lease of `person` back: its keys are gone from here, and the return is written down for the key server.
    ///
    /// # Errors
    /// `NotFound`; when it cannot be written down.
    pub fn give_back(&self, person: PersonId, id: LeaseId) -> Result<(), Failure> {
        let mut inner = self.inner();
        let mine = |held: &Held| held.lease.lease().id == id && held.lease.lease().person == person;
        if !inner.held.iter().any(mine) {
            let mut problem =
                Problem::local(ProblemCode::NotFound, "no such lease of yours on this terminal");
            problem.field = Some(String::from("lease"));
            return Err(problem.into());
        }
        // The clock may be wrong by now, and returning must still be possible: the record says what it shows.
        let wall = self.time.reading()?.wall;
        let now = self
            .time
            .now()
            .map_or_else(|_| self.time.clock().map_or(wall, |clock| clock.latest()), |(now, _)| now);
        let record = OfflineRecord {
            act: OfflineAct::Return,
            file: None,
            file_name: None,
            lease: id,
            person,
            right: None,
            sequence: 0,
            time: now,
            version: chain::VERSION,
            wall,
        };
        let used = inner.store.state().used();
        inner.store.note(vec![record], self.time.clock(), used)?;
        inner.give_up(&[id])
    }

    /// Gives up what the bulletin revokes, and narrows what it narrows.
    pub fn revoke(&self, revocations: &Revocations) {
        let mut inner = self.inner();
        inner.stopped = revocations.clone();
        if let Err(failure) = inner.obey(self.identity.terminal) {
            tracing::error!(why = failure.problem.detail, "revoked leases were not removed from the disk");
        }
    }

    /// Which bulletin is in force, and when the organisation confirmed that last.
    pub fn confirm(&self, bulletin: &Bulletin, at: Timestamp) {
        self.confirmed.set(bulletin, at);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_now(lease: &tobari_core::proto::lease::Lease, used: u32, now: Timestamp) -> Option<String> {
    use tobari_core::proto::lease::Opens;
    if now < lease.term.starts_at {
        return Some(Refused::NotBegun(lease.term.starts_at).to_string());
    }
    if now >= lease.term.ends_at {
        return Some(Refused::Ended(lease.term.ends_at).to_string());
    }
    match lease.opens {
        Opens::AtMost { count } if used >= count.get() => Some(Refused::UsedUp(count).to_string()),
        Opens::AtMost { .. } | Opens::Unlimited => None,
    }
}

fn wish(person: PersonId, header: &Header, right: Right) -> Wish {
    let policy = header.policy();
    Wish { person, file: header.file_id(), label: policy.label, owner_group: policy.owner_group, right }
}

/// A key and the record of its use.
type Decided = Result<(LeaseKey, OfflineRecord), Failure>;

impl Inner {
    fn decide(
        &self,
        leases: &Leases,
        person: PersonId,
        wanted: &Wanted,
        right: Right,
        used: &mut Holding,
    ) -> Option<Decided> {
        let header = Header::parse(&wanted.header).ok().filter(|header| header.file_id() == wanted.file)?;
        let wish = wish(person, &header, right);
        // A lease for the file that does not cover this header is said to be so, rather than that the server is away.
        let of_file =
            |held: &&Held| !matches!(held.covers(&wish), Err(Refused::OtherPerson | Refused::OtherFile));
        let mut refusal = None;
        for held in self.held.iter().filter(of_file) {
            match self.permit(leases, held, &wish, wanted, used) {
                Ok(decided) => return Some(Ok(decided)),
                Err(failure) => refusal = Some(failure),
            }
        }
        refusal.map(Err)
    }

    fn permit(
        &self,
        leases: &Leases,
        held: &Held,
        wish: &Wish,
        wanted: &Wanted,
        used: &mut Holding,
    ) -> Decided {
        self.store.sound()?;
        let stopped = &self.stopped;
        if stopped.labels.contains(&wish.label)
            || stopped.files.contains(&wish.file)
            || stopped.frozen.contains(&leases.identity.terminal)
        {
            return Err(refused("ended", "the file, its label or this terminal is revoked for now"));
        }
        let (now, Reading { wall, .. }) = leases.time.now()?;
        leases.confirmed.check(wish.label, now)?;
        let id = held.lease.lease().id;
        let count =
            used.get(&id).copied().ok_or_else(|| broken("the lease is not in the terminal's state"))?;
        let lent = held.permits(wish, count, now)?;
        let dek = held
            .dek(&lent, wish, &leases.identity.grant_key)
            .map_err(|_| broken("the lease's key is not sealed to this terminal"))?;
        used.insert(id, count.saturating_add(1));
        let record = OfflineRecord {
            act: OfflineAct::Open,
            file: Some(wish.file),
            file_name: Some(cut(&wanted.name)),
            lease: id,
            person: wish.person,
            right: Some(wish.right),
            sequence: 0,
            time: now,
            version: chain::VERSION,
            wall,
        };
        let limit = Limit {
            person: wish.person,
            label: wish.label,
            owner_group: wish.owner_group,
            right: wish.right,
            opened_at: now,
            ends_at: lent.ends_at(),
            course: Arc::clone(&held.course),
            time: Arc::clone(&leases.time),
            confirmed: Arc::clone(&leases.confirmed),
        };
        Ok((LeaseKey { rights: lent.rights(), ends_at: lent.ends_at(), dek, limit }, record))
    }

    /// Does what the bulletin in force says of the leases in hand.
    fn obey(&mut self, terminal: TerminalId) -> Result<(), Failure> {
        let revocations = &self.stopped;
        let all = revocations.terminals.contains(&terminal);
        let gone: Vec<LeaseId> = self
            .held
            .iter()
            .map(|held| held.lease.lease())
            .filter(|lease| {
                all || revocations.leases.contains(&lease.id) || revocations.people.contains(&lease.person)
            })
            .map(|lease| lease.id)
            .collect();
        let narrowed = revocations.narrowed.clone();
        self.give_up(&gone).and(self.narrow(&narrowed))
    }

    /// Narrows leases in hand, also keys in use. What was narrowed before stays so.
    fn narrow(&mut self, narrowings: &[Narrowing]) -> Result<(), Failure> {
        let mut after = self.store.state().narrowed.clone();
        for narrowing in narrowings {
            let Some(held) = self.held.iter().find(|held| held.lease.lease().id == narrowing.lease) else {
                continue;
            };
            add_narrowing(&mut after, narrowing);
            // In force first: what cannot be written down counts all the same.
            let mut here = held.course.narrowed.write().unwrap_or_else(PoisonError::into_inner);
            add_narrowing(&mut here, narrowing);
        }
        if after == self.store.state().narrowed {
            return Ok(());
        }
        self.store.change(|state| state.narrowed = after)
    }

    /// Removes leases, here and on the disk. Keys in use end at once. What was opened under them stays counted.
    fn give_up(&mut self, gone: &[LeaseId]) -> Result<(), Failure> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut ends = Vec::new();
        self.held.retain(|held| {
            let lease = held.lease.lease();
            let over = gone.contains(&lease.id);
            if over {
                held.course.over.store(true, Ordering::Release);
                ends.push((lease.id, lease.term.ends_at));
            }
            !over
        });
        self.store.remove(&ends)
    }
}

/// Adds a narrowing to those that there are; of two of the same files what both leave is left.
fn add_narrowing(all: &mut Vec<Narrowing>, one: &Narrowing) {
    match all.iter_mut().find(|there| there.is_of(one)) {
        Some(there) => *there = there.and(one),
        None => all.push(*one),
    }
}

fn cut(name: &str) -> String {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;

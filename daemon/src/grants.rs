//! Grants: keys that the key server releases to this terminal for a person who is logged in here.
//!
//! Each answer is taken apart strictly: one outcome for each item in order, each key sealed to our grant key and bound to
//! file, person, rights and expiry. What an opening may do is decided in one place, [`Granted::key_for`].
//! Grants to view or edit are kept until they expire, so that reading a file twice asks once; those to release
//! or send are asked for each time, so that each release is in the audit log.

use crate::failure::Failure;
use crate::lease::{Leases, Limit};
use crate::sessions::{Login, Token};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::audit::{CheckedReceipt, LogKey, Occasion, Released, check_receipt};
use tobari_core::clock::Clock;
use tobari_core::crypto::{Dek, GrantKeyPair, GrantOpener, sha256};
use tobari_core::envelope::Header;
use tobari_core::ids::{FileId, LabelId, OrganisationId, PersonId, SessionId, TerminalId};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::api::{
    Grant, GrantItem, GrantOutcome, GrantRequest, GrantResponse, MAX_BATCH, grant_aad, grant_info,
};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::control::Particulars;
use tobari_core::proto::problem::{Problem, ProblemCode};

/// Most header bytes in one batch; with base64 and names it stays well below the server's limit for a body.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// A key server that was not reached is not asked again for so many seconds about files that leases cover, so that nobody who
/// works without it waits for it at each file.
const AWAY: i64 = 15;
/// Most grants kept; more are asked for again when needed.
const MAX_KEPT: usize = 65_536;
/// Most of them that are kept with their headers, and how long these may be: 32 MiB.
const MAX_HEADERS: usize = 8192;
const MAX_HEADER: usize = 4096;

/// Who answers batches of grants: the key server, or a test.
pub trait GrantSource: Send + Sync {
    /// Sends `POST /v1/grants` in the session of `token`.
    ///
    /// # Errors
    /// When there is no answer, or the server refuses the whole batch.
    fn request(&self, token: &Token, request: &GrantRequest) -> Result<GrantResponse, Problem>;
}

/// A file to be opened.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its identity, as its header claims.
    pub file: FileId,
    /// Its header from the magic through the header MAC.
    pub header: Vec<u8>,
    /// Its name for the audit record.
    pub name: String,
    /// The label that it is to get, for the audit record.
    pub new_label: Option<LabelId>,
}

/// A released key and what it is good for.
pub struct Granted {
    file: FileId,
    rights: Rights,
    expires_at: Timestamp,
    dek: Dek,
    /// Of a key that a lease lends: what else ends it.
    limit: Option<Limit>,
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted")
            .field("file", &self.file)
            .field("rights", &self.rights)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Granted {
    /// The key, if this grant allows to do `right` with `file` at the time `now`. No other way leads to it.
    ///
    /// # Errors
    /// `RightRefused` when it does not, or not any more.
    pub fn key_for(&self, file: FileId, right: Right, now: Timestamp) -> Result<&Dek, Failure> {
        let refused = |detail: String| Failure {
            rights: Some(self.rights),
            particulars: Particulars { right: Some(right), ..Particulars::default() },
            ..Failure::new(ProblemCode::RightRefused, detail)
        };
        if file != self.file {
            return Err(refused(String::from("the grant is for another file")));
        }
        if !self.is_current(now) {
            return Err(refused(format!("the grant ended at {}", self.expires_at)));
        }
        if !self.rights.contains(right) {
            return Err(refused(format!("the grant does not include the right '{right}'")));
        }
        if let Some(limit) = &self.limit {
            limit.check(right)?;
        }
        Ok(&self.dek)
    }

    /// What it allows.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Whether it has not ended.
    pub fn is_current(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    /// Whether it is of a lease.
    pub fn is_lent(&self) -> bool {
        self.limit.is_some()
    }

    /// Whether a lease lent it to this person: that some grant was forgotten meanwhile does not concern it, and asking again would
    /// count another opening. What ends it is asked for by [`Granted::key_for`].
    pub fn is_lent_to(&self, person: PersonId) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.person() == person)
    }

    /// Whether whoever opens the file again is given this one.
    fn serves_again(&self, now: Timestamp) -> bool {
        self.is_current(now) && self.limit.as_ref().is_none_or(Limit::is_one_opening)
    }
}

/// By session and header.
type Born = HashMap<(SessionId, [u8; 32]), Arc<Granted>>;

/// Session, header, and what it was asked for.
type Kept = (SessionId, [u8; 32], Right);

/// Whether grants for this right are kept. Each release and each sending is asked for, so that each is in the audit log.
fn is_kept(right: Right) -> bool {
    matches!(right, Right::View | Right::Edit)
}

/// A grant that is kept.
struct Held {
    granted: Arc<Granted>,
    /// The header, to ask again what it may be used for. Without it the grant is forgotten when that has to be asked.
    header: Option<Box<[u8]>>,
}

/// A grant that is kept, as far as it takes to ask for its decision again.
pub(crate) struct UnderReview {
    digest: [u8; 32],
    /// What it was asked for.
    pub(crate) right: Right,
    /// What it allows.
    pub(crate) rights: Rights,
    /// The file's header.
    pub(crate) header: Box<[u8]>,
}

/// All grants of this terminal.
pub struct Grants {
    source: Arc<dyn GrantSource>,
    key: GrantKeyPair,
    info: Vec<u8>,
    terminal: TerminalId,
    /// What signs the log in which each release must be.
    log: LogKey,
    clock: Arc<dyn Clock>,
    /// What opens while the key server is away.
    leases: Option<Arc<Leases>>,
    /// When the key server was not reached, in seconds since 1970.
    away_since: AtomicI64,
    kept: Mutex<HashMap<Kept, Held>>,
    /// Files that people created here, under their session and header ([`Grants::born`]).
    born: Mutex<Born>,
    /// Counts, under the lock of `kept`, how often something was forgotten.
    forgotten: AtomicU64,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grants").field("kept", &self.kept().len()).finish_non_exhaustive()
    }
}

impl Grants {
    /// No grants yet; `source` will be asked, and keys are sealed to `key`. A release counts when its record is in the log
    /// that `log` signed.
    pub fn new(
        source: Arc<dyn GrantSource>,
        key: GrantKeyPair,
        organisation: OrganisationId,
        terminal: TerminalId,
        clock: Arc<dyn Clock>,
        log: LogKey,
    ) -> Self {
        let info = grant_info(organisation, terminal);
        Self {
            source,
            key,
            info,
            terminal,
            log,
            clock,
            leases: None,
            away_since: AtomicI64::new(i64::MIN),
            kept: Mutex::default(),
            born: Mutex::default(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// The same, with leases for when the key server is away.
    #[must_use]
    pub fn with_leases(mut self, leases: Arc<Leases>) -> Self {
        self.leases = Some(leases);
        self
    }

    /// Grants to do `right` with each of `wanted`, in order, for the person of `login`. A file that is refused fails
    /// alone.
    ///
    /// # Errors
    /// When the key server is not reached, refuses the batch, or its answer does not hold together.
    pub fn obtain(
        &self,
        login: &Login,
        wanted: &[Wanted],
        right: Right,
    ) -> Result<Vec<Result<Arc<Granted>, Failure>>, Problem> {
        self.obtain_some(login, wanted, right, usize::MAX)
    }

    /// As [`Grants::obtain`], where only the first is needed now: leases are not used up for the others, which then fail.
    ///
    /// # Errors
    /// As there.
    pub fn obtain_ahead(
        &self,
        login: &Login,
        wanted: &[Wanted],
        right: Right,
    ) -> Result<Vec<Result<Arc<Granted>, Failure>>, Problem> {
        self.obtain_some(login, wanted, right, 1)
    }

    /// `needed`: for how many of `wanted`, from the first, leases may be used.
    fn obtain_some(
        &self,
        login: &Login,
        wanted: &[Wanted],
        right: Right,
        needed: usize,
    ) -> Result<Vec<Result<Arc<Granted>, Failure>>, Problem> {
        let mut outcomes: Vec<Option<Result<Arc<Granted>, Failure>>> =
            wanted.iter().map(|item| self.find(login, item, right).map(Ok)).collect();
        let missing: Vec<(usize, &Wanted)> = wanted
            .iter()
            .enumerate()
            .filter(|(index, _)| matches!(outcomes.get(*index), Some(None)))
            .collect();
        for batch in batches(&missing) {
            for ((index, _), outcome) in batch.iter().zip(self.ask_or_borrow(login, batch, right, needed)?) {
                if let Some(place) = outcomes.get_mut(*index) {
                    *place = Some(outcome);
                }
            }
        }
        // `ask` gives one outcome for each item, so none is left out.
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// A grant for one file.
    ///
    /// # Errors
    /// The refusal, or that the key server is not reached.
    pub fn obtain_one(&self, login: &Login, wanted: &Wanted, right: Right) -> Result<Arc<Granted>, Failure> {
        self.obtain(login, std::slice::from_ref(wanted), right)?
            .pop()
            .unwrap_or_else(|| Err(broken("no outcome").into()))
    }

    /// Whether asking for this would not ask the key server.
    pub fn has(&self, login: &Login, wanted: &Wanted, right: Right) -> bool {
        self.find(login, wanted, right).is_some()
    }

    /// Remembers the key of a file that the person of `login` has just created: programs save by making a new file in the old one's place,
    /// and who works under leases could not open what they saved before the key server is back. Good in this login, under this
    /// header, while the key server is away and the person holds a lease.
    pub fn born(&self, login: &Login, header: &Header, dek: &Dek) {
        let Some(leases) = &self.leases else { return };
        if let Err(failure) = leases.keep_created(login, header, dek) {
            tracing::warn!(why = failure.problem.detail, "the key of a new file is not kept for the lease");
        }
        let holds = leases.holds(login.session.person);
        let mut born = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds || born.len() >= MAX_KEPT {
            return;
        }
        let granted = Granted {
            file: header.file_id(),
            rights: [Right::View, Right::Edit].into_iter().collect(),
            expires_at: login.session.expires_at,
            dek: dek.duplicate(),
            limit: None,
        };
        born.insert((login.session.id, sha256(&[header.wire_bytes()])), Arc::new(granted));
    }

    fn created(&self, leases: &Leases, login: &Login, wanted: &Wanted, right: Right) -> Option<Arc<Granted>> {
        let key = (login.session.id, sha256(&[&wanted.header]));
        let granted = self.born.lock().unwrap_or_else(PoisonError::into_inner).get(&key).map(Arc::clone)?;
        let good =
            is_kept(right) && leases.holds(login.session.person) && granted.is_current(self.clock.now());
        good.then_some(granted)
    }

    /// Forgets the grants of a session.
    pub fn forget(&self, session: SessionId) {
        self.born.lock().unwrap_or_else(PoisonError::into_inner).retain(|(owner, _), _| *owner != session);
        let mut kept = self.kept();
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        kept.retain(|(owner, ..), _| *owner != session);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.born.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut kept = self.kept();
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        kept.clear();
    }

    /// Something has changed at the organisation: no grant is kept from here on that was asked for before. Gives the sessions
    /// of which grants are kept.
    pub(crate) fn begin_review(&self) -> BTreeSet<SessionId> {
        let mut kept = self.kept();
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        let now = self.clock.now();
        kept.retain(|_, held| held.granted.is_current(now));
        kept.keys().map(|(session, ..)| *session).collect()
    }

    /// The grants of a session whose decisions are to be asked for again, in batches. Those whose headers are not known are
    /// forgotten.
    pub(crate) fn under_review(&self, session: SessionId) -> Vec<Vec<UnderReview>> {
        let mut kept = self.kept();
        kept.retain(|(owner, ..), held| *owner != session || held.header.is_some());
        let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        for ((owner, digest, right), held) in kept.iter() {
            let Some(header) = held.header.as_ref().filter(|_| *owner == session) else { continue };
            if batch.len() >= MAX_BATCH || bytes + header.len() > MAX_BATCH_BYTES {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += header.len();
            let rights = held.granted.rights;
            batch.push(UnderReview { digest: *digest, right: *right, rights, header: header.clone() });
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        batches
    }

    /// Forgets one grant of a session.
    pub(crate) fn forget_one(&self, session: SessionId, grant: &UnderReview) {
        self.kept().remove(&(session, grant.digest, grant.right));
    }

    /// Has everything that is open look for its grant again.
    pub(crate) fn end_review(&self) {
        let _kept = self.kept();
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes whenever something is forgotten: a grant that was given before may not be good any more, and is to be asked for
    /// again.
    pub fn epoch(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    fn find(&self, login: &Login, wanted: &Wanted, right: Right) -> Option<Arc<Granted>> {
        if !is_kept(right) {
            return None;
        }
        let key = (login.session.id, sha256(&[&wanted.header]), right);
        let mut kept = self.kept();
        let held = kept.get(&key)?;
        if held.granted.serves_again(self.clock.now()) {
            return Some(Arc::clone(&held.granted));
        }
        kept.remove(&key);
        None
    }

    /// Keeps a grant, unless something was forgotten since it was asked for: it may be of before the change that was
    /// the reason.
    fn keep(&self, login: &Login, wanted: &Wanted, right: Right, granted: &Arc<Granted>, forgotten: u64) {
        let mut kept = self.kept();
        if self.forgotten.load(Ordering::Relaxed) != forgotten {
            return;
        }
        if kept.len() >= MAX_KEPT {
            let now = self.clock.now();
            kept.retain(|_, held| held.granted.serves_again(now));
        }
        if kept.len() < MAX_KEPT {
            let header = (kept.len() < MAX_HEADERS && wanted.header.len() <= MAX_HEADER)
                .then(|| wanted.header.clone().into_boxed_slice());
            let held = Held { granted: Arc::clone(granted), header };
            kept.insert((login.session.id, sha256(&[&wanted.header]), right), held);
        }
    }

    /// Asks the key server; while it is away, or does not know the session, leases answer for what they cover.
    fn ask_or_borrow(
        &self,
        login: &Login,
        batch: &[(usize, &Wanted)],
        right: Right,
        needed: usize,
    ) -> Result<Vec<Result<Arc<Granted>, Failure>>, Problem> {
        let Some(leases) = &self.leases else { return self.ask(login, batch, right) };
        if self.was_away() && leases.would_open(login, needed_of(batch, needed), right) {
            let away =
                Problem::local(ProblemCode::KeyServerUnreachable, "the key server was not reached just now");
            return self.borrow(leases, login, batch, right, needed, &away);
        }
        let away = if login.offline {
            crate::service::began_offline()
        } else {
            match self.ask(login, batch, right) {
                Err(problem) if problem.code == ProblemCode::KeyServerUnreachable => problem,
                asked => return asked,
            }
        };
        self.away_since.store(self.clock.now().as_second(), Ordering::Relaxed);
        self.borrow(leases, login, batch, right, needed, &away)
    }

    /// Whether the key server was not reached a moment ago.
    fn was_away(&self) -> bool {
        let since = self.clock.now().as_second().saturating_sub(self.away_since.load(Ordering::Relaxed));
        (0..AWAY).contains(&since)
    }

    fn borrow(
        &self,
        leases: &Leases,
        login: &Login,
        batch: &[(usize, &Wanted)],
        right: Right,
        needed: usize,
        away: &Problem,
    ) -> Result<Vec<Result<Arc<Granted>, Failure>>, Problem> {
        let forgotten = self.epoch();
        let wanted: Vec<&Wanted> = needed_of(batch, needed).collect();
        // What was created in this login uses no opening up.
        let created: Vec<Option<Arc<Granted>>> =
            wanted.iter().map(|wanted| self.created(leases, login, wanted, right)).collect();
        let lent: Vec<&Wanted> =
            wanted.iter().zip(&created).filter(|(_, born)| born.is_none()).map(|(one, _)| *one).collect();
        let mut opened = leases.open(login, &lent, right).into_iter();
        let outcomes: Vec<_> =
            created.iter().map(|born| if born.is_none() { opened.next().flatten() } else { None }).collect();
        let nothing = outcomes.iter().all(Option::is_none) && created.iter().all(Option::is_none);
        if nothing && !wanted.is_empty() {
            return Err(away.clone());
        }
        let mut opened = outcomes.into_iter().zip(created);
        Ok(batch
            .iter()
            .map(|(index, wanted)| {
                let outcome = if *index < needed { opened.next() } else { None };
                let key = match outcome {
                    Some((None, Some(created))) => return Ok(created),
                    None | Some((None, None)) => return Err(Failure::from(away.clone()).about(&wanted.name)),
                    Some((Some(outcome), _)) => outcome.map_err(|failure| failure.about(&wanted.name))?,
                };
                let granted = Arc::new(Granted {
                    file: wanted.file,
                    rights: key.rights,
                    expires_at: key.ends_at,
                    dek: key.dek,
                    limit: Some(key.limit),
                });
                if is_kept(right) {
                    self.keep(login, wanted, right, &granted, forgotten);
                }
                Ok(granted)
            })
            .collect())
    }

    fn ask(
        &self,
        login: &Login,
        batch: &[(usize, &Wanted)],
        right: Right,
    ) -> Result<Vec<Result<Arc<Granted>, Failure>>, Problem> {
        let items = batch
            .iter()
            .map(|(_, wanted)| GrantItem {
                header: Base64(wanted.header.clone()),
                right,
                name: Some(wanted.name.clone()),
                new_label: wanted.new_label,
            })
            .collect();
        let forgotten = self.forgotten.load(Ordering::Relaxed);
        let response = self.source.request(&login.token, &GrantRequest { items })?;
        if response.outcomes.len() != batch.len() {
            return Err(broken("it has another number of outcomes than the request has items"));
        }
        let mut opener = None;
        let mut proved = None;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (place, ((_, wanted), outcome)) in batch.iter().zip(response.outcomes).enumerate() {
            outcomes.push(match outcome {
                GrantOutcome::Refused(refusal) => Err(Failure::from(refusal).about(&wanted.name)),
                GrantOutcome::Granted(grant) => {
                    let proved: &CheckedReceipt<'_> = match &mut proved {
                        Some(proved) => proved,
                        None => proved.insert(
                            check_receipt(response.receipt.as_ref(), &self.log)
                                .map_err(|fault| broken(&fault.to_string()))?,
                        ),
                    };
                    let released = Released {
                        file: wanted.file,
                        person: login.session.person,
                        terminal: self.terminal,
                        occasion: Occasion::Grant(right),
                    };
                    proved
                        .covers(place, grant.audit, &released)
                        .map_err(|fault| broken(&fault.to_string()))?;
                    let opener = match &mut opener {
                        Some(opener) => opener,
                        None => opener.insert(
                            GrantOpener::new(&self.key, response.encapsulated_key.as_ref(), &self.info)
                                .map_err(|_| broken("its keys are not sealed to this terminal"))?,
                        ),
                    };
                    let granted = Arc::new(unseal(opener, login.session.person, wanted, &grant)?);
                    if is_kept(right) {
                        self.keep(login, wanted, right, &granted, forgotten);
                    }
                    Ok(granted)
                }
            });
        }
        Ok(outcomes)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Kept, Held>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unseal(
    opener: &mut GrantOpener,
    person: PersonId,
    wanted: &Wanted,
    grant: &Grant,
) -> Result<Granted, Problem> {
    if grant.file != wanted.file {
        return Err(broken("it grants another file than the one asked for"));
    }
    let aad = grant_aad(grant.file, person, grant.rights, grant.expires_at);
    let dek = opener
        .open(&aad, grant.sealed_dek.as_ref())
        .map_err(|_| broken("a key in it is not bound to this file, person, rights and expiry"))?;
    Ok(Granted { file: grant.file, rights: grant.rights, expires_at: grant.expires_at, dek, limit: None })
}

/// Those of a batch that are needed now.
fn needed_of<'a>(batch: &[(usize, &'a Wanted)], needed: usize) -> impl Iterator<Item = &'a Wanted> {
    batch.iter().filter(move |(index, _)| *index < needed).map(|(_, wanted)| *wanted)
}

fn broken(why: &str) -> Problem {
    Problem::local(ProblemCode::Internal, format!("the key server's grant cannot be trusted: {why}"))
}

/// Splits by the number of items and the bytes of their headers.
fn batches<'a, 'b>(items: &'b [(usize, &'a Wanted)]) -> impl Iterator<Item = &'b [(usize, &'a Wanted)]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let length = rest
            .iter()
            .take(MAX_BATCH)
            .take_while(|(_, wanted)| {
                bytes += wanted.header.len() + wanted.name.len();
                bytes <= MAX_BATCH_BYTES
            })
            .count()
            .max(1);
        let (batch, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(batch)
    })
}

#[cfg(test)]
pub(crate) mod tests;

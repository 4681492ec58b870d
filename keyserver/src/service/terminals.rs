//! Enrolment of terminals, the bulletin that they fetch, their last contacts, and what they tell of themselves.

use super::caller::{Call, Peer};
use super::follow::ATTEMPTS;
use super::{Service, ServiceError};
use crate::audit::{Act, Record, Who};
use crate::store::{Change, NextCertificate, TerminalRow};
use jiff::{SignedDuration, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tobari_core::crypto::{GrantSealer, sha256};
use tobari_core::ids::TerminalId;
use tobari_core::proto::api::{EnrolRequest, EnrolResponse, RenewRequest, RenewResponse};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::{STAMP_CONTEXT, SignedBulletin, SignedStamp, Stamp};
use tobari_core::proto::problem::ProblemCode;
use tobari_core::proto::terminal::{MAX_VERSION, Reported, TerminalReport};

/// A contact is noted again only after this.
const CONTACT_STEP: SignedDuration = SignedDuration::from_secs(10);

/// Refused enrolments in a minute, for the whole server.
const REFUSALS: u32 = 30;
const REFUSAL_WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// When each terminal was last heard of, and what it told then of itself.
#[derive(Debug)]
pub(crate) struct Contacts(Mutex<HashMap<TerminalId, Contact>>, Mutex<Reports>);

#[derive(Debug)]
struct Reports {
    last: HashMap<TerminalId, Reported>,
    /// Those that the store does not know yet.
    unwritten: HashSet<TerminalId>,
}

#[derive(Debug, Clone, Copy)]
struct Contact {
    at: Timestamp,
    written: bool,
}

impl Contacts {
    pub(crate) fn new(
        written: HashMap<TerminalId, Timestamp>,
        reports: HashMap<TerminalId, Reported>,
    ) -> Self {
        let contacts = written.into_iter().map(|(terminal, at)| (terminal, Contact { at, written: true }));
        Self(Mutex::new(contacts.collect()), Mutex::new(Reports { last: reports, unwritten: HashSet::new() }))
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, terminal: TerminalId, reported: Reported) {
        let mut reports = self.reports();
        reports.last.insert(terminal, reported);
        reports.unwritten.insert(terminal);
    }

    pub(crate) fn reported(&self, terminal: TerminalId) -> Option<Reported> {
        self.reports().last.get(&terminal).cloned()
    }

    /// The reports that the store does not know yet.
    pub(crate) fn take_reports(&self) -> Vec<(TerminalId, Reported)> {
        let mut reports = self.reports();
        let unwritten = std::mem::take(&mut reports.unwritten);
        unwritten.into_iter().filter_map(|id| reports.last.get(&id).cloned().map(|one| (id, one))).collect()
    }

    pub(crate) fn touch(&self, terminal: TerminalId, now: Timestamp) {
        let mut contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let contact = contacts.get(&terminal);
        if contact.is_none_or(|contact| now.duration_since(contact.at) >= CONTACT_STEP) {
            contacts.insert(terminal, Contact { at: now, written: false });
        }
    }

    pub(crate) fn last(&self, terminal: TerminalId) -> Option<Timestamp> {
        let contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contacts.get(&terminal).map(|contact| contact.at)
    }

    /// What the store does not know yet.
    pub(crate) fn take(&self) -> Vec<(TerminalId, Timestamp)> {
        let mut contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contacts
            .iter_mut()
            .filter(|(_, contact)| !contact.written)
            .map(|(terminal, contact)| {
                contact.written = true;
                (*terminal, contact.at)
            })
            .collect()
    }
}

/// Refused enrolments of the current minute. Anybody can ask to enrol, and each refusal is a record: without
/// a limit a stranger could fill the audit log. Good tokens are not held up by it.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<(Timestamp, u32)>);

impl Refusals {
    pub(crate) fn new() -> Self {
        Self(Mutex::new((Timestamp::MIN, 0)))
    }

    /// Counts one more, unless there were too many in this minute.
    fn count(&self, now: Timestamp) -> Result<(), ServiceError> {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now < minute.0 || now.duration_since(minute.0) >= REFUSAL_WINDOW {
            *minute = (now, 0);
        }
        if minute.1 >= REFUSALS {
            return Err(ServiceError::TooManyRequests);
        }
        minute.1 += 1;
        Ok(())
    }
}

impl Service {
    /// `POST /v1/terminals/enrol`.
    ///
    /// # Errors
    /// A token that is not good; a request or key that is malformed, which leaves the token unused.
    pub async fn enrol(&self, call: &Call, request: EnrolRequest) -> Result<EnrolResponse, ServiceError> {
        super::admin::check_name("name", &request.name)?;
        // What a sealer cannot be made for could never be granted anything.
        if GrantSealer::new(&request.grant_key.0, b"").is_err() {
            return Err(ServiceError::invalid("grant_key", "not an uncompressed P-256 point"));
        }
        let now = self.clock.now();
        let hash = sha256(&[request.token.trim().as_bytes()]);
        let Some(token) = self.store.token(hash).await?.filter(|token| token.expires_at > now) else {
            return self.refuse_enrolment(call, now, &request.name).await;
        };
        let id = TerminalId::generate();
        let certificate =
            self.identity.authority.terminal(id, &request.csr_pem, self.limits.certificate_life, now)?;
        let row = TerminalRow {
            id,
            name: request.name.trim().to_owned(),
            zone: token.zone,
            tags: token.tags,
            revoked: false,
            fingerprint: certificate.fingerprint,
            certificate_expires_at: certificate.expires_at,
            grant_key: request.grant_key.0,
            enrolled_at: now,
            gateway: false,
            frozen: false,
            next: None,
            protection: request.protection,
        };
        let who = Who { terminal: Some(id), request: Some(call.request), ..Who::default() };
        let record = Record::new(Act::Enrolment, now, who)
            .about("terminal", id)
            .detail(format!("{}, keys kept by {}", row.name, row.protection));
        let changes = [Change::UseToken(hash), Change::PutTerminal(row)];
        for attempt in 1.. {
            let changing = self.begin_small_change().await;
            match self.change(&changing, changes.to_vec(), record.clone()).await {
                Ok(()) => break,
                // A new terminal builds on nothing that another server could have changed.
                Err(ServiceError::Moved) if attempt < ATTEMPTS => {}
                // Somebody else was faster with the same token.
                Err(ServiceError::Conflict { .. }) => {
                    drop(changing);
                    return self.refuse_enrolment(call, now, &request.name).await;
                }
                Err(error) => return Err(error),
            }
        }
        tracing::info!(terminal = %id, request = %call.request, "terminal enrolled");
        Ok(EnrolResponse {
            terminal: id,
            certificate_pem: certificate.pem,
            ca_pem: self.identity.authority.pem().to_owned(),
            organisation: self.identity.organisation,
            signing_key: Base64(self.identity.signing_key.verifying_key().to_bytes().to_vec()),
            bulletin: self.directory.load().signed_bulletin.clone(),
        })
    }

    /// `POST /v1/terminals/renew`: a certificate for a new key. The one that was shown stays good until it ends or the new one is
    /// used.
    ///
    /// # Errors
    /// The terminal is not accepted, more than half of its certificate's life is left, or the request is malformed.
    pub async fn renew(&self, call: &Call, request: RenewRequest) -> Result<RenewResponse, ServiceError> {
        for _ in 0..ATTEMPTS {
            let terminal = self.terminal(call).await?;
            let now = self.clock.now();
            let life = self.limits.certificate_life;
            if terminal.certificate_expires_at.duration_since(now) > life / 2 {
                return Err(ServiceError::conflict("certificate", "more than half of its life is left"));
            }
            let issued = self.identity.authority.terminal(terminal.id, &request.csr_pem, life, now)?;
            let changing = self.begin_small_change().await;
            // As it is now: a name or tag that was changed meanwhile stays.
            let before = self.terminal_in(&self.directory.load(), call)?;
            let next = NextCertificate { fingerprint: issued.fingerprint, expires_at: issued.expires_at };
            let protection = request.protection;
            let row = TerminalRow { next: Some(next), protection, ..before.as_ref().clone() };
            let record = self.record_of_terminal(call, before.id, now).detail(format!(
                "certificate renewed until {}, keys kept by {protection}",
                issued.expires_at
            ));
            match self.change(&changing, vec![Change::PutTerminal(row)], record).await {
                Ok(()) => {
                    tracing::info!(terminal = %before.id, request = %call.request, "certificate renewed");
                    return Ok(RenewResponse { certificate_pem: issued.pem });
                }
                Err(ServiceError::Moved) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ServiceError::TimedOut)
    }

    /// `POST /v1/terminals/report`: what a terminal says of itself. How it keeps its keys counts from the answer on.
    ///
    /// # Errors
    /// The terminal is not accepted, or the version is malformed.
    pub async fn report(&self, call: &Call, report: TerminalReport) -> Result<(), ServiceError> {
        let mut terminal = self.terminal(call).await?;
        let TerminalReport { version, protection, coverage } = report;
        if !(1..=MAX_VERSION).contains(&version.len())
            || !version.chars().all(|letter| letter.is_ascii_graphic())
        {
            let why = format!("must be 1 to {MAX_VERSION} visible ASCII characters");
            return Err(ServiceError::invalid("version", why));
        }
        let now = self.clock.now();
        for attempt in 1.. {
            if terminal.protection == protection {
                break;
            }
            let changing = self.begin_small_change().await;
            terminal = self.terminal_in(&self.directory.load(), call)?;
            let row = TerminalRow { protection, ..terminal.as_ref().clone() };
            let record = self
                .record_of_terminal(call, terminal.id, now)
                .detail(format!("keys kept by {protection}, before by {}", terminal.protection));
            match self.change(&changing, vec![Change::PutTerminal(row)], record).await {
                Ok(()) => break,
                Err(ServiceError::Moved) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        self.contacts.report(terminal.id, Reported { at: now, version, coverage });
        Ok(())
    }

    /// A terminal shows its renewed certificate: from now on the one before is refused.
    pub(super) async fn begin_to_use(&self, call: &Call, peer: &Peer) -> Result<(), ServiceError> {
        for _ in 0..ATTEMPTS {
            let changing = self.begin_small_change().await;
            let before = self.terminal_in(&self.directory.load(), call)?;
            let Some(next) = before.next.filter(|next| next.fingerprint == peer.fingerprint) else {
                // Another request of the same terminal was faster.
                return Ok(());
            };
            let row = TerminalRow {
                fingerprint: next.fingerprint,
                certificate_expires_at: next.expires_at,
                next: None,
                ..before.as_ref().clone()
            };
            let record = self
                .record_of_terminal(call, before.id, self.clock.now())
                .detail(format!("renewed certificate in use until {}", next.expires_at));
            match self.change(&changing, vec![Change::PutTerminal(row)], record).await {
                Err(ServiceError::Moved) => {}
                result => return result,
            }
        }
        Err(ServiceError::TimedOut)
    }

    fn record_of_terminal(&self, call: &Call, terminal: TerminalId, now: Timestamp) -> Record {
        let who = Who { terminal: Some(terminal), request: Some(call.request), ..Who::default() };
        Record::new(Act::Update, now, who).about("terminal", terminal)
    }

    async fn refuse_enrolment<T>(&self, call: &Call, now: Timestamp, name: &str) -> Result<T, ServiceError> {
        self.refusals.count(now)?;
        let who = Who { request: Some(call.request), ..Who::default() };
        let mut record = Record::new(Act::EnrolmentFailed, now, who).detail(name);
        record.code = Some(ProblemCode::BadEnrolmentToken);
        self.audit.commit(Vec::new(), &[record]).await?;
        Err(ServiceError::BadEnrolmentToken)
    }

    /// `GET /v1/bulletin`: the signed bulletin and its number.
    ///
    /// # Errors
    /// The terminal is not accepted.
    pub async fn bulletin(&self, call: &Call) -> Result<(u64, SignedBulletin), ServiceError> {
        self.terminal(call).await?;
        // First, so that the bulletin is not older than what is confirmed.
        let stamp = self.stamp().await;
        let directory = self.directory.load();
        Ok((directory.bulletin.number, SignedBulletin { stamp, ..directory.signed_bulletin.clone() }))
    }

    /// Confirms which bulletin is in force now; nothing where the store does not say what other servers have changed.
    pub(super) async fn stamp(&self) -> Option<SignedStamp> {
        // Read before the store is asked: what is changed after this time is not denied by the stamp.
        let confirmed_at = self.clock.now();
        self.refresh().await.ok()?;
        let stamp = Stamp {
            version: 1,
            organisation: self.identity.organisation,
            number: self.directory.load().bulletin.number,
            confirmed_at,
        };
        let payload = serde_json::to_vec(&stamp).ok()?;
        let signature = self.identity.signing_key.sign(STAMP_CONTEXT, &payload);
        Some(SignedStamp { payload: Base64(payload), signature: Base64(signature) })
    }
}

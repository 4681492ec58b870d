//! Deciding on a lease and making it. The steps are those of a grant: decide, unwrap, record durably, release; then the whole is
//! signed and stored. Without the record no key is in the lease; without the stored lease no terminal gets it.

use super::request::{narrowed, record};
use super::second_person::{Approved, weighty};
use super::stricter::cases_of;
use super::sync::LEASE_STATE;
use super::{LEASES, by_label, check_term};
use crate::audit::{Act, Audited, Record, Who};
use crate::service::decide::{Allowed, Asked, Question, read_header, unreadable};
use crate::service::directory::Directory;
use crate::service::follow::ATTEMPTS;
use crate::service::judge;
use crate::service::release::{Occasion, release};
use crate::service::unwrap::{Unwrapped, secret_name, stanza, unwrap};
use crate::service::{Call, Caller, Changing, Service, ServiceError};
use crate::store::{Basis, Change, LeaseFileRow, LeaseRow};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use tobari_core::audit::Released;
use tobari_core::crypto::GrantSealer;
use tobari_core::envelope::Header;
use tobari_core::ids::{GroupId, LabelId, LeaseId, PersonId};
use tobari_core::lease::{LeaseBinding, lease_info, sign};
use tobari_core::policy::Rights;
use tobari_core::proto::api::Refusal;
use tobari_core::proto::base64::Base64;
use tobari_core::proto::lease::{
    Lease, LeaseEnding, LeaseFile, LeaseIssue, LeaseRecord, LeaseState, Narrowing,
};
use tobari_core::proto::problem::ProblemCode;

/// Format of the lease.
const VERSION: u32 = 1;

/// A file that may be lent.
struct Decided {
    header: Header,
    name: Option<String>,
    asked: Asked,
    allowed: Allowed,
}

/// A file whose key is at hand.
struct Ready {
    label: LabelId,
    owner_group: Option<GroupId>,
    name: Option<String>,
    asked: Asked,
    allowed: Allowed,
    unwrapped: Unwrapped,
}

/// What a record says of a lease.
pub(super) fn in_words(row: &LeaseRow) -> String {
    let body = &row.body;
    format!(
        "person {}, terminal {}, {} files, {}, {} to {}, reason: {}",
        row.person,
        row.terminal,
        row.file_count,
        body.rights,
        body.term.starts_at,
        body.term.ends_at,
        body.reason
    )
}

/// What may be lent of a file: what was approved, less what a stricter policy has taken of the lease. That stays taken, whatever the
/// policy gives now.
fn still_lent(directory: &Directory, row: &LeaseRow, header: &Header) -> Narrowing {
    let policy = header.policy();
    let whole = Narrowing {
        lease: row.id,
        label: policy.label,
        owner_group: policy.owner_group,
        rights: row.body.rights,
        ends_at: row.body.term.ends_at,
    };
    narrowed(directory, row.id).iter().filter(|one| one.is_of(&whole)).fold(whole, Narrowing::and)
}

/// The refusal of a file of which nothing is left.
fn taken() -> Refusal {
    Refusal {
        code: ProblemCode::RightRefused,
        detail: String::from(
            "a stricter policy has taken such files from this lease for good: ask for a new one",
        ),
        right: None,
        label_name: None,
        rights: Rights::NONE,
        reasons: Vec::new(),
    }
}

fn refusal_record(
    refusal: &Refusal,
    asked: Asked,
    name: Option<String>,
    row: &LeaseRow,
    now: Timestamp,
    who: Who,
) -> Record {
    Record {
        code: Some(refusal.code),
        file: asked.file,
        file_name: name,
        label: asked.label,
        right: refusal.right,
        rights: asked.rights,
        rules: asked.rules,
        ..Record::new(Act::Refusal, now, who).about("lease", row.id)
    }
}

impl Service {
    /// The policy on every file of a lease, for its person on its terminal at its beginning. One refusal refuses all; it is recorded.
    async fn decided(
        &self,
        directory: &Directory,
        row: &LeaseRow,
        now: Timestamp,
        who: Who,
    ) -> Result<Vec<Decided>, ServiceError> {
        let person = directory.tables.people.get(&row.person).filter(|person| !person.disabled);
        let person = person.ok_or_else(|| ServiceError::conflict("person", "is gone or shut out"))?;
        let terminal = directory.tables.terminals.get(&row.terminal).filter(|terminal| !terminal.revoked);
        let terminal = terminal.ok_or_else(|| ServiceError::conflict("terminal", "is gone or revoked"))?;
        if self.store.lease_terminal(terminal.id).await?.is_some_and(|state| state.blocked) {
            // It would never be sent there.
            let why = "the lease state of this terminal was refused: enrol the terminal anew before";
            return Err(ServiceError::conflict(LEASE_STATE, why));
        }
        let term = row.body.term;
        if term.ends_at > terminal.certificate_expires_at {
            let end = terminal.certificate_expires_at;
            let why = format!("the terminal's certificate ends at {end}: a lease cannot outlast it");
            return Err(ServiceError::invalid("term.ends_at", why));
        }
        if let Some(label) = row.body.label {
            by_label(directory, label, "label")?;
        }
        let at = now.max(term.starts_at);
        let question = Question::about(directory, person, terminal, row.body.second_factor, at, term.ends_at);
        let mut decided = Vec::with_capacity(row.files.len());
        for (index, file) in row.files.iter().enumerate() {
            let header = file
                .header
                .as_ref()
                .and_then(|header| read_header(&header.0, self.identity.organisation, directory));
            let (asked, outcome) = match &header {
                None => (Asked::default(), Err(unreadable())),
                Some(header) => {
                    let Narrowing { rights, ends_at, .. } = still_lent(directory, row, header);
                    if rights.is_empty() || ends_at <= at {
                        let (file, label) = (Some(file.file), Some(file.label));
                        (Asked { file, label, ..Asked::default() }, Err(taken()))
                    } else {
                        question.lend(header, rights, ends_at)
                    }
                }
            };
            match (outcome, header) {
                (Ok(allowed), Some(header)) => {
                    decided.push(Decided { header, name: file.name.clone(), asked, allowed });
                }
                (Err(refusal), _) => {
                    let entry = refusal_record(&refusal, asked, file.name.clone(), row, now, who);
                    self.audit.commit(Vec::new(), &[entry]).await?;
                    return Err(refused(index, file, refusal));
                }
                (Ok(_), None) => {
                    return Err(ServiceError::Internal(String::from("allowed without a header")));
                }
            }
        }
        Ok(decided)
    }

    /// Whether the lease would be given now.
    pub(super) async fn decide_lease(
        &self,
        directory: &Directory,
        row: &LeaseRow,
        now: Timestamp,
        who: Who,
    ) -> Result<(), ServiceError> {
        self.decided(directory, row, now, who).await.map(|_| ())
    }

    async fn keys_of_lease(
        &self,
        directory: &Directory,
        row: &LeaseRow,
        now: Timestamp,
        who: Who,
    ) -> Result<Vec<Ready>, ServiceError> {
        let decided = self.decided(directory, row, now, who).await?;
        let mut wanted = HashMap::new();
        for file in &decided {
            if let Some(stanza) = stanza(&file.header, directory) {
                wanted.entry(secret_name(stanza)).or_insert_with(|| stanza.encapsulation.clone());
            }
        }
        let secrets = self.secrets(wanted).await?;
        let mut ready = Vec::with_capacity(decided.len());
        for (index, Decided { header, name, asked, allowed }) in decided.into_iter().enumerate() {
            let opened = stanza(&header, directory).and_then(|stanza| {
                let secret = secrets.get(&secret_name(stanza))?;
                unwrap(&allowed, &header, stanza, secret)
            });
            let Some(unwrapped) = opened else {
                let entry = refusal_record(&unreadable(), asked, name, row, now, who);
                self.audit.commit(Vec::new(), &[entry]).await?;
                let field = format!("files[{index}]");
                return Err(ServiceError::conflict(field, unreadable().detail));
            };
            let (label, owner_group) = (header.policy().label, header.policy().owner_group);
            ready.push(Ready { label, owner_group, name, asked, allowed, unwrapped });
        }
        Ok(ready)
    }

    /// Makes the lease. `before` is the state that the stored lease must still have; none for a new one.
    async fn make(
        &self,
        row: LeaseRow,
        before: Option<LeaseState>,
        call: &Call,
        caller: Caller,
    ) -> Result<LeaseRecord, ServiceError> {
        let mut caller = caller;
        for _ in 0..ATTEMPTS {
            match self.make_on(row.clone(), before, &caller).await {
                // What it was decided on has changed on another server: once more, on what is so now.
                Err(ServiceError::Moved) => caller = self.administrator(call, LEASES).await?,
                result => return result,
            }
        }
        Err(ServiceError::TimedOut)
    }

    /// One attempt: records each key, releases it into the document, signs and stores that. Both commits hold only if what was
    /// decided on is still so on every server.
    async fn make_on(
        &self,
        row: LeaseRow,
        before: Option<LeaseState>,
        caller: &Caller,
    ) -> Result<LeaseRecord, ServiceError> {
        // No policy changes here between the decision and the end of this.
        let changing = self.begin_change().await;
        let made = self.make_within(&changing, row, before, caller, None).await;
        drop(changing);
        made
    }

    /// The same, while nothing else is changed, and with a second person's approval or without.
    pub(super) async fn make_within(
        &self,
        changing: &Changing<'_>,
        mut row: LeaseRow,
        before: Option<LeaseState>,
        caller: &Caller,
        approved: Option<Approved<'_>>,
    ) -> Result<LeaseRecord, ServiceError> {
        let (now, who) = (self.clock.now(), caller.who());
        let directory = self.directory.load_full();
        check_term("", row.body.term, now)?;
        let alone = approved.is_none() && judge::second_person(&directory.tables);
        if alone && !weighty(&directory, &row).is_empty() {
            return Err(ServiceError::SecondPersonNeeded);
        }
        let basis = Basis::new(directory.version, Some(caller.session.row.id));
        row.state = LeaseState::Issued;
        row.body.decided_by = Some(caller.person.id);
        row.body.decided_at = Some(now);
        let row = self.lent(&directory, row, (now, now), who, &basis).await?;
        let entry = Record::new(Act::LeaseIssue, now, who).about("lease", row.id).detail(in_words(&row));
        let change = match before {
            None => Change::PutLease(Box::new(row.clone())),
            Some(before) => Change::MoveLease(before, Box::new(row.clone())),
        };
        let cases = Change::PutLeaseCases(cases_of(&row)?);
        match approved {
            None => {
                self.audit.commit_on(basis, vec![change, cases], &[entry]).await?;
            }
            Some(Approved { done, warrant }) => {
                let (request, by) = warrant
                    .approval
                    .ok_or_else(|| ServiceError::Internal(String::from("nobody approved it")))?;
                let words = format!("{}; request {request}, approved by {by}", in_words(&row));
                let entry = entry.detail(words);
                self.change_on(changing, vec![change, cases, done], entry, warrant).await?;
            }
        }
        metrics::counter!("tobari_leases_issued_total").increment(1);
        Ok(record(&directory, row))
    }

    /// The lease with its keys in it, signed at `issued_at`: each decided, recorded and released. What it lends counts once it is stored.
    pub(super) async fn lent(
        &self,
        directory: &Directory,
        mut row: LeaseRow,
        (now, issued_at): (Timestamp, Timestamp),
        who: Who,
        basis: &Basis,
    ) -> Result<LeaseRow, ServiceError> {
        let ready = self.keys_of_lease(directory, &row, now, who).await?;
        let records: Vec<Record> = ready
            .iter()
            .map(|file| Record {
                file: file.asked.file,
                file_name: file.name.clone(),
                label: file.asked.label,
                rights: Some(file.allowed.rights),
                rules: file.asked.rules.clone(),
                ..Record::new(Act::LeaseKey, now, who)
                    .about("lease", row.id)
                    .detail(Released::lent_to(row.person, row.terminal))
            })
            .collect();
        let (audited, receipt) = self.audit.commit_with_receipt(basis.clone(), Vec::new(), &records).await?;
        let lease = self.document(directory, &row, ready, audited, issued_at)?;
        let mut signed = sign(&lease, &self.identity.signing_key)
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        signed.receipt = receipt;
        row.files = lease
            .files
            .iter()
            .map(|file| LeaseFileRow {
                file: file.file,
                label: file.label,
                name: file.name.clone(),
                rights: file.rights,
                header: None,
            })
            .collect();
        let document =
            serde_json::to_vec(&signed).map_err(|error| ServiceError::Internal(error.to_string()))?;
        row.document = Some(document);
        Ok(row)
    }

    fn document(
        &self,
        directory: &Directory,
        row: &LeaseRow,
        ready: Vec<Ready>,
        audited: Vec<Audited>,
        issued_at: Timestamp,
    ) -> Result<Lease, ServiceError> {
        let gone = || ServiceError::Internal(String::from("the lease's person or terminal is gone"));
        if audited.len() != ready.len() {
            return Err(ServiceError::Internal(String::from("a record is missing")));
        }
        let person = directory.tables.people.get(&row.person).ok_or_else(gone)?;
        let terminal = directory.tables.terminals.get(&row.terminal).ok_or_else(gone)?;
        let organisation = self.identity.organisation;
        let info = lease_info(organisation, terminal.id, row.id);
        let (encapsulated, mut sealer) = GrantSealer::new(&terminal.grant_key, &info)?;
        let mut files = Vec::with_capacity(ready.len());
        for (file, audited) in ready.into_iter().zip(audited) {
            let Ready { label, owner_group, name, allowed, unwrapped, .. } = file;
            let binding = LeaseBinding {
                file: allowed.file,
                label,
                owner_group,
                person: person.id,
                rights: allowed.rights,
                starts_at: row.body.term.starts_at,
                ends_at: allowed.expires_at,
            };
            let grant = release(&mut sealer, allowed, unwrapped, audited, Occasion::Lease(&binding))?;
            files.push(LeaseFile {
                file: grant.file,
                label,
                owner_group,
                name,
                rights: grant.rights,
                ends_at: grant.expires_at,
                audit: grant.audit,
                sealed_dek: grant.sealed_dek,
            });
        }
        Ok(Lease {
            version: VERSION,
            id: row.id,
            organisation,
            terminal: terminal.id,
            person: person.id,
            login: person.login.clone(),
            name: person.name.clone(),
            issued_at,
            term: row.body.term,
            opens: row.body.opens,
            label: row.body.label,
            encapsulated_key: Base64(encapsulated),
            files,
        })
    }

    /// `POST /v1/admin/leases`: lends without having been asked. Nobody lends to themselves.
    ///
    /// # Errors
    /// No administrator of leases; something is not allowed; the policy refuses.
    pub async fn issue_lease(
        self: &Arc<Self>,
        call: &Call,
        issue: LeaseIssue,
    ) -> Result<LeaseRecord, ServiceError> {
        let caller = self.administrator(call, LEASES).await?;
        let directory = self.directory.load_full();
        second_person(&caller, issue.person)?;
        let row = self.row_to_issue(&directory, LeaseId::generate(), &issue, (caller.person.id, false))?;
        let service = Arc::clone(self);
        service.make(row, None, call, caller).await
    }

    /// `POST /v1/admin/leases/{id}/approve`.
    ///
    /// # Errors
    /// No administrator of leases; the lease is not waiting; it is the approver's own; the policy refuses.
    pub async fn approve_lease(
        self: &Arc<Self>,
        call: &Call,
        id: LeaseId,
    ) -> Result<LeaseRecord, ServiceError> {
        let caller = self.administrator(call, LEASES).await?;
        let row = self.waiting_lease(id).await?;
        second_person(&caller, row.person)?;
        self.make(row, Some(LeaseState::Requested), call, caller).await
    }

    /// `POST /v1/admin/leases/{id}/refuse`.
    ///
    /// # Errors
    /// No administrator of leases; the lease is not waiting.
    pub async fn refuse_lease(
        &self,
        call: &Call,
        id: LeaseId,
        ending: LeaseEnding,
    ) -> Result<LeaseRecord, ServiceError> {
        let caller = self.administrator(call, LEASES).await?;
        let row = self.waiting_lease(id).await?;
        let now = self.clock.now();
        let before = row.state;
        let row = ended(row, LeaseState::Refused, Some(caller.person.id), now);
        let entry = Record::new(Act::LeaseRefuse, now, caller.who()).about("lease", id).detail(ending.reason);
        self.audit.commit(vec![Change::MoveLease(before, Box::new(row.clone()))], &[entry]).await?;
        Ok(record(&self.directory.load(), row))
    }

    /// `POST /v1/admin/leases/{id}/revoke`: the bulletin says so until the lease would have ended.
    ///
    /// # Errors
    /// No administrator of leases; the lease is not issued.
    pub async fn revoke_lease(
        &self,
        call: &Call,
        id: LeaseId,
        ending: LeaseEnding,
    ) -> Result<LeaseRecord, ServiceError> {
        let caller = self.administrator(call, LEASES).await?;
        let changing = self.begin_change().await;
        let row = self.store.lease(id).await?.ok_or(ServiceError::NotFound("lease"))?;
        if row.state != LeaseState::Issued {
            return Err(ServiceError::conflict("lease", "only a lease that is issued can be revoked"));
        }
        let now = self.clock.now();
        let row = ended(row, LeaseState::Revoked, Some(caller.person.id), now);
        let entry = Record::new(Act::LeaseRevoke, now, caller.who()).about("lease", id).detail(ending.reason);
        // What ended long ago needs no revocation; a day of grace for terminals whose clock is slow.
        let long_ago = now.checked_sub(jiff::SignedDuration::from_hours(24)).unwrap_or(now);
        let changes = vec![
            Change::ForgetLeaseRevocations(long_ago),
            Change::MoveLease(LeaseState::Issued, Box::new(row.clone())),
            Change::RevokeLease(id, row.body.term.ends_at),
        ];
        self.change(&changing, changes, entry).await?;
        Ok(record(&self.directory.load(), row))
    }

    pub(super) async fn waiting_lease(&self, id: LeaseId) -> Result<LeaseRow, ServiceError> {
        let row = self.store.lease(id).await?.ok_or(ServiceError::NotFound("lease"))?;
        if row.state != LeaseState::Requested {
            return Err(ServiceError::conflict("lease", "it has been decided on already"));
        }
        Ok(row)
    }
}

/// The lease as it stands after its end. Headers and document are not needed any more.
pub(super) fn ended(mut row: LeaseRow, state: LeaseState, by: Option<PersonId>, now: Timestamp) -> LeaseRow {
    row.state = state;
    if row.body.decided_by.is_none() {
        row.body.decided_by = by;
        row.body.decided_at = Some(now);
    }
    row.body.ended_at = Some(now);
    row.document = None;
    for file in &mut row.files {
        file.header = None;
    }
    row
}

fn second_person(caller: &Caller, person: tobari_core::ids::PersonId) -> Result<(), ServiceError> {
    if caller.person.id == person {
        return Err(lends_to_themselves());
    }
    Ok(())
}

pub(super) fn lends_to_themselves() -> ServiceError {
    ServiceError::conflict("person", "nobody lends to themselves: another administrator decides")
}

fn refused(index: usize, file: &LeaseFileRow, refusal: Refusal) -> ServiceError {
    let name = file.name.as_deref().unwrap_or_default();
    let rights: Rights = refusal.rights;
    ServiceError::RightRefused {
        field: format!("files[{index}]"),
        detail: format!(
            "{name}: {}; a lease needs 'offline' and each right that it lends (given: {rights})",
            refusal.detail
        ),
    }
}

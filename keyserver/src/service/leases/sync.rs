//! A terminal's own call: it brings what was done under its leases, and fetches what was lent. What it brings must continue what it
//! brought before, to the bit: a counter that goes back, a gap or another history is a state that was copied or
//! restored, and from then on the terminal's leases are over.

use super::request::narrowed;
use crate::audit::{Act, Record, Who};
use crate::service::{Call, Service, ServiceError};
use crate::store::{Change, LeaseFilter, LeaseRecordRow, LeaseRow, LeaseTerminalRow};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};
use tobari_core::ids::{LeaseId, RequestId, TerminalId};
use tobari_core::lease::chain::{Head, follow};
use tobari_core::lease::read_unchecked;
use tobari_core::proto::api::AuditReceipt;
use tobari_core::proto::lease::{
    Lease, LeaseOpened, LeaseState, LeaseSync, LeaseSyncAnswer, MAX_RECORDS, OfflineAct, OfflineRecord,
    SignedLease,
};

/// What a refusal names when what a terminal says of its leases is not believed.
pub(super) const LEASE_STATE: &str = "lease-state";
/// Leases in one answer.
const MAX_SENT: usize = 8;

impl Service {
    /// `POST /v1/terminals/leases`.
    ///
    /// # Errors
    /// No accepted terminal; too many records; a report that does not continue the one before it.
    pub async fn sync_leases(&self, call: &Call, sync: LeaseSync) -> Result<LeaseSyncAnswer, ServiceError> {
        let terminal = self.terminal(call).await?.id;
        if sync.records.len() > MAX_RECORDS || sync.held.len() > MAX_RECORDS {
            return Err(ServiceError::TooLarge(format!(
                "at most {MAX_RECORDS} records and leases in one call"
            )));
        }
        let now = self.clock.now();
        let filter = LeaseFilter { terminal: Some(terminal), issued: true, ..LeaseFilter::default() };
        let leases: BTreeMap<LeaseId, LeaseRow> =
            self.store.leases(filter).await?.into_iter().map(|row| (row.id, row)).collect();
        let stored = self.store.lease_terminal(terminal).await?.unwrap_or(LeaseTerminalRow {
            terminal,
            counter: 0,
            sequence: Head::START.sequence,
            hash: Head::START.hash,
            blocked: false,
        });
        if stored.blocked {
            return Err(blocked(
                "the lease state of this terminal was refused before: enrol the terminal again",
            ));
        }
        let accepted = match self.continued(&stored, &leases, &sync).await? {
            Ok(new) => self.take(terminal, &stored, sync.counter, new, &leases, now, call.request).await?,
            Err(why) => {
                self.block(stored, &why, now, call.request).await?;
                return Err(blocked(&why));
            }
        };
        self.answer_sync(terminal, &sync, accepted, now).await
    }

    /// The records that are new, if the report continues what is stored; else why it does not.
    async fn continued(
        &self,
        stored: &LeaseTerminalRow,
        leases: &BTreeMap<LeaseId, LeaseRow>,
        sync: &LeaseSync,
    ) -> Result<Result<Vec<New>, String>, ServiceError> {
        if sync.counter < stored.counter {
            let why = format!("its counter went back from {} to {}", stored.counter, sync.counter);
            return Ok(Err(why));
        }
        if sync.after > stored.sequence {
            return Ok(Err(format!("records {} to {} are missing", stored.sequence + 1, sync.after)));
        }
        let Ok(after_hash) = <[u8; 32]>::try_from(sync.after_hash.as_ref()) else {
            return Err(ServiceError::invalid("after_hash", "must have 32 bytes"));
        };
        let start = Head { sequence: sync.after, hash: after_hash };
        let payloads = sync.records.iter().map(|payload| payload.0.as_slice());
        let (records, head) = match follow(start, payloads) {
            Ok(followed) => followed,
            Err(fault) => return Ok(Err(fault.to_string())),
        };
        // Both at the point from which the terminal reports, and at the end of what is stored, the histories must be one.
        let at_start = if sync.after == 0 {
            Head::START
        } else {
            let rows = self.store.lease_records_of(stored.terminal, sync.after - 1, 1).await?;
            rows.first().map_or(Head::START, |row| Head { sequence: row.sequence, hash: row.hash })
        };
        let end = Head { sequence: stored.sequence, hash: stored.hash };
        let same_end = start.is(&end) || records.iter().any(|(_, head)| head.is(&end));
        if !at_start.is(&start) || !same_end {
            let why = if head.sequence < stored.sequence {
                format!("its records end at {}, but {} were reported before", head.sequence, stored.sequence)
            } else {
                String::from("its records are not those that were reported before")
            };
            return Ok(Err(why));
        }
        let mut new = Vec::new();
        for ((record, head), payload) in records.into_iter().zip(&sync.records) {
            if head.sequence <= stored.sequence {
                continue;
            }
            let known = leases.get(&record.lease).filter(|lease| lease.person == record.person);
            if known.is_none() {
                return Ok(Err(format!("record {} is of a lease that was not given to it", head.sequence)));
            }
            new.push(New { record, head, payload: payload.0.clone() });
        }
        Ok(Ok(new))
    }

    /// Stores new records, each also in the audit log. Gives the sequence number up to which all is stored.
    #[expect(clippy::too_many_arguments, reason = "one step of one call, cut out to be read")]
    async fn take(
        &self,
        terminal: TerminalId,
        stored: &LeaseTerminalRow,
        counter: u64,
        new: Vec<New>,
        leases: &BTreeMap<LeaseId, LeaseRow>,
        now: Timestamp,
        request: RequestId,
    ) -> Result<u64, ServiceError> {
        if new.is_empty() && counter == stored.counter {
            return Ok(stored.sequence);
        }
        let head = new.last().map_or(Head { sequence: stored.sequence, hash: stored.hash }, |last| last.head);
        let mut entries = Vec::with_capacity(new.len());
        let mut rows = Vec::with_capacity(new.len());
        let mut returned = HashSet::new();
        for New { record, head, payload } in new {
            entries.push(entry(&record, terminal, request, now));
            if record.act == OfflineAct::Return {
                returned.insert(record.lease);
            }
            let (sequence, hash) = (head.sequence, head.hash);
            rows.push((
                record.act == OfflineAct::Open,
                LeaseRecordRow { terminal, sequence, lease: record.lease, payload, hash },
            ));
        }
        let after = LeaseTerminalRow { counter, sequence: head.sequence, hash: head.hash, ..*stored };
        let mut changes =
            vec![Change::AppendLeaseRecords { before: (stored.counter, stored.sequence), after, rows }];
        for id in returned {
            let still = leases.get(&id).is_some_and(|lease| lease.state == LeaseState::Issued);
            if still && let Some(mut row) = self.store.lease(id).await? {
                row.state = LeaseState::Returned;
                row.body.ended_at = Some(now);
                row.document = None;
                changes.push(Change::MoveLease(LeaseState::Issued, Box::new(row)));
            }
        }
        self.audit.commit(changes, &entries).await?;
        Ok(head.sequence)
    }

    /// The receipt of a lease that was issued before leases had one, from the log as it is now.
    async fn receipt_of(&self, lease: &Lease) -> Result<AuditReceipt, ServiceError> {
        let missing = || ServiceError::Internal(format!("the records of the lease {} are missing", lease.id));
        let first = lease.files.first().map(|file| file.audit).ok_or_else(missing)?;
        let count = u32::try_from(lease.files.len()).map_err(|_| missing())?;
        self.receipt_from_log(first, count).await?.ok_or_else(missing)
    }

    async fn block(
        &self,
        stored: LeaseTerminalRow,
        why: &str,
        now: Timestamp,
        request: RequestId,
    ) -> Result<(), ServiceError> {
        let who = Who { terminal: Some(stored.terminal), request: Some(request), ..Who::default() };
        let entry = Record::new(Act::LeaseStateRefused, now, who).detail(why);
        let before = (stored.counter, stored.sequence);
        let after = LeaseTerminalRow { blocked: true, ..stored };
        let change = Change::AppendLeaseRecords { before, after, rows: Vec::new() };
        self.audit.commit(vec![change], &[entry]).await?;
        Ok(())
    }

    async fn answer_sync(
        &self,
        terminal: TerminalId,
        sync: &LeaseSync,
        accepted: u64,
        now: Timestamp,
    ) -> Result<LeaseSyncAnswer, ServiceError> {
        let filter = LeaseFilter {
            terminal: Some(terminal),
            state: Some(LeaseState::Issued),
            ends_after: Some(now),
            ..LeaseFilter::default()
        };
        let issued = self.store.leases(filter).await?;
        let directory = self.directory.load_full();
        let active: HashSet<LeaseId> = issued
            .iter()
            .filter(|row| directory.tables.people.get(&row.person).is_some_and(|person| !person.disabled))
            .map(|row| row.id)
            .collect();
        let held: HashMap<LeaseId, Timestamp> =
            sync.held.iter().map(|held| (held.lease, held.issued_at)).collect();
        // Of what it holds it lacks a later document, when there is one.
        let lacks = |row: &LeaseRow| {
            let refilled = row.body.refilled.map(|refilled| refilled.at);
            held.get(&row.id).is_none_or(|at| refilled.is_some_and(|refilled| refilled > *at))
        };
        let mut missing = issued.iter().filter(|row| active.contains(&row.id) && lacks(row));
        let (mut leases, mut opened, mut narrowings) = (Vec::new(), Vec::new(), Vec::new());
        for row in issued.iter().filter(|row| active.contains(&row.id) && held.contains_key(&row.id)) {
            narrowings.extend(narrowed(&directory, row.id));
        }
        let mut fetched = Vec::new();
        for row in missing.by_ref().take(MAX_SENT) {
            let document = self.store.lease(row.id).await?.and_then(|row| row.document);
            let Some(document) = document else { continue };
            let damaged = || ServiceError::Internal(format!("the stored lease {} is damaged", row.id));
            let mut signed: SignedLease = serde_json::from_slice(&document).map_err(|_| damaged())?;
            if signed.receipt.is_none() {
                let lease = read_unchecked(&signed).map_err(|_| damaged())?;
                signed.receipt = Some(self.receipt_of(&lease).await?);
            }
            leases.push(signed);
            opened.push(LeaseOpened { lease: row.id, count: row.opened });
            if !held.contains_key(&row.id) {
                narrowings.extend(narrowed(&directory, row.id));
            }
            if row.fetched_at.is_none() {
                fetched.push((row.id, now));
            }
        }
        let more = missing.next().is_some();
        if !fetched.is_empty() {
            self.audit.commit(vec![Change::FetchedLeases(fetched)], &[]).await?;
        }
        let ended = sync.held.iter().map(|held| held.lease).filter(|id| !active.contains(id)).collect();
        Ok(LeaseSyncAnswer { time: now, accepted, leases, opened, narrowed: narrowings, ended, more })
    }
}

/// A record that was not reported before.
struct New {
    record: OfflineRecord,
    head: Head,
    payload: Vec<u8>,
}

fn blocked(why: &str) -> ServiceError {
    ServiceError::conflict(LEASE_STATE, why)
}

fn entry(record: &OfflineRecord, terminal: TerminalId, request: RequestId, now: Timestamp) -> Record {
    let act = match record.act {
        OfflineAct::Open => Act::LeaseOpen,
        OfflineAct::Return => Act::LeaseReturn,
    };
    let who = Who {
        person: Some(record.person),
        terminal: Some(terminal),
        request: Some(request),
        ..Who::default()
    };
    Record {
        file: record.file,
        file_name: record.file_name.clone(),
        right: record.right,
        ..Record::new(act, now, who)
            .about("lease", record.lease)
            .detail(format!("record {} of the terminal, at {} by its clock", record.sequence, record.time))
    }
}

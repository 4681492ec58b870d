//! Asking for a lease, and looking at leases.

use super::{asked, check};
use crate::audit::{Act, Record};
use crate::service::directory::Directory;
use crate::service::{Call, Service, ServiceError};
use crate::store::{Basis, Change, LeaseFilter, LeaseRow};
use std::sync::Arc;
use tobari_core::ids::{LabelId, LeaseId};
use tobari_core::proto::lease::{LeaseRecord, LeaseRequest, LeaseState, LeasedFile, Narrowing};

/// Requests that may wait for a decision at a time, for each person.
const MAX_WAITING: u32 = 100;
/// Most leases in one list.
const MAX_LISTED: u32 = 1000;

/// The lease as it is shown.
pub(super) fn record(directory: &Directory, row: LeaseRow) -> LeaseRecord {
    let tables = &directory.tables;
    LeaseRecord {
        id: row.id,
        state: row.state,
        person: row.person,
        login: tables
            .people
            .get(&row.person)
            .map_or_else(|| row.person.to_string(), |person| person.login.clone()),
        terminal: row.terminal,
        terminal_name: tables
            .terminals
            .get(&row.terminal)
            .map_or_else(|| row.terminal.to_string(), |terminal| terminal.name.clone()),
        term: row.body.term,
        opens: row.body.opens,
        rights: row.body.rights,
        reason: row.body.reason,
        label: row.body.label,
        file_count: row.file_count,
        files: row
            .files
            .into_iter()
            .map(|file| LeasedFile {
                file: file.file,
                label: file.label,
                name: file.name,
                rights: file.rights,
            })
            .collect(),
        requested_at: row.body.requested_at,
        decided_by: row.body.decided_by,
        decided_at: row.body.decided_at,
        refilled_at: row.body.refilled.map(|refilled| refilled.at),
        fetched_at: row.fetched_at,
        ended_at: row.body.ended_at,
        opened: row.opened,
        narrowed: narrowed(directory, row.id),
    }
}

/// What a stricter policy has left of a lease.
pub(super) fn narrowed(directory: &Directory, lease: LeaseId) -> Vec<Narrowing> {
    let first = (lease, LabelId::from_bytes([0; 16]), None);
    let of_it = directory.tables.narrowed_leases.range(first..).take_while(|((id, ..), _)| *id == lease);
    of_it.map(|(_, (narrowing, _))| *narrowing).collect()
}

impl Service {
    /// `POST /v1/leases`: the person who is logged in asks for a lease on the terminal where they are.
    ///
    /// # Errors
    /// Nobody is logged in; something is not allowed; the policy does not give `offline` and each right asked for.
    pub async fn request_lease(
        self: &Arc<Self>,
        call: &Call,
        request: LeaseRequest,
    ) -> Result<LeaseRecord, ServiceError> {
        let caller = self.caller(call).await?;
        let now = self.clock.now();
        let directory = self.directory.load_full();
        let checked = check("", &request, self.identity.organisation, &directory, now)?;
        let filter = LeaseFilter {
            person: Some(caller.person.id),
            state: Some(LeaseState::Requested),
            ends_after: Some(now),
            limit: Some(MAX_WAITING),
            ..LeaseFilter::default()
        };
        if self.store.leases(filter).await?.len() >= usize::try_from(MAX_WAITING).unwrap_or(0) {
            return Err(ServiceError::conflict(
                "lease",
                "too many requests of this person wait for a decision",
            ));
        }
        let by = (caller.person.id, caller.session.row.second_factor);
        let row =
            asked(LeaseId::generate(), caller.person.id, caller.terminal.id, by, checked, &request, now);
        // Asked now, so that nobody waits for an approval that cannot come. It is asked again when it counts.
        self.decide_lease(&directory, &row, now, caller.who()).await?;
        // It gives nothing away, so of what it was decided on only the session has to be there still.
        let basis = Basis { version: None, sessions: vec![caller.session.row.id] };
        let entry = Record::new(Act::LeaseRequest, now, caller.who())
            .about("lease", row.id)
            .detail(super::issue::in_words(&row));
        self.audit.commit_on(basis, vec![Change::PutLease(Box::new(row.clone()))], &[entry]).await?;
        Ok(record(&directory, row))
    }

    /// `GET /v1/leases`: the caller's own, newest first; at most 1000.
    ///
    /// # Errors
    /// Nobody is logged in.
    pub async fn own_leases(&self, call: &Call) -> Result<Vec<LeaseRecord>, ServiceError> {
        let caller = self.caller(call).await?;
        let filter = LeaseFilter { person: Some(caller.person.id), ..LeaseFilter::default() };
        self.lease_records(filter).await
    }

    /// `GET /v1/admin/leases`: newest first; at most the newest 1000 that fit.
    ///
    /// # Errors
    /// No administrator.
    pub async fn leases(&self, call: &Call, filter: LeaseFilter) -> Result<Vec<LeaseRecord>, ServiceError> {
        self.any_administrator(call).await?;
        self.lease_records(filter).await
    }

    /// `GET /v1/admin/leases/{id}`: with its files.
    ///
    /// # Errors
    /// No administrator, no such lease.
    pub async fn lease(&self, call: &Call, id: LeaseId) -> Result<LeaseRecord, ServiceError> {
        self.any_administrator(call).await?;
        let row = self.store.lease(id).await?.ok_or(ServiceError::NotFound("lease"))?;
        Ok(record(&self.directory.load(), row))
    }

    async fn lease_records(&self, filter: LeaseFilter) -> Result<Vec<LeaseRecord>, ServiceError> {
        let limit = filter.limit.map_or(MAX_LISTED, |limit| limit.min(MAX_LISTED));
        let filter = LeaseFilter { limit: Some(limit), ..filter };
        let rows = self.store.leases(filter).await?;
        let directory = self.directory.load();
        Ok(rows.into_iter().map(|row| record(&directory, row)).collect())
    }
}

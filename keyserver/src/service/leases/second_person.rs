//! Leases that take a second person: files of the highest label, and many files to be unsealed. They are decided by whoever asks for
//! it, a second person agrees (`service/admin/requests.rs`), and then they are made as all others are.

use super::issue::in_words;
use super::request::record;
use super::{LEASES, asked, check};
use crate::audit::Act;
use crate::service::admin::{Acting, Deed, Plan};
use crate::service::directory::Directory;
use crate::service::judge::{self, Warrant};
use crate::service::{Caller, Changing, Service, ServiceError};
use crate::store::{Change, LeaseRow};
use tobari_core::ids::{LabelId, LeaseId};
use tobari_core::policy::Right;
use tobari_core::proto::lease::{LeaseIssue, LeaseRecord, LeaseState};
use tobari_core::proto::policy::Widening;

/// Why a lease takes a second person where that rule is on.
pub(super) fn weighty(directory: &Directory, row: &LeaseRow) -> Vec<Widening> {
    let tables = &directory.tables;
    let highest = tables.labels.values().map(|row| row.label.level).max();
    let level = |label: &LabelId| tables.labels.get(label).map(|row| row.label.level);
    let mut why = Vec::new();
    let of_files = row.files.iter().map(|file| file.label);
    if of_files.chain(row.body.label).any(|label| level(&label) == highest) {
        why.push(Widening::Lease);
    }
    let lent = row.body.refilled.map_or(row.file_count, |refilled| refilled.lent);
    let many = judge::unseal_limit(tables).is_some_and(|most| lent > most);
    if row.body.rights.contains(Right::Decrypt) && many {
        why.push(Widening::Unsealing);
    }
    why
}

/// A lease on its way through a request.
pub(super) struct Approved<'a> {
    /// That the request is done, in the commit that makes the lease.
    pub(super) done: Change,
    pub(super) warrant: &'a Warrant,
}

impl Service {
    /// The approval of a lease that was asked for, as it waits.
    pub(in crate::service) async fn plan_lease_approval(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: LeaseId,
    ) -> Result<Plan<LeaseRecord>, ServiceError> {
        let row = self.waiting_lease(id).await?;
        let seen = serde_json::to_string(&(row.id, row.person, row.terminal, &row.body, &row.files))
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        self.plan_lease(acting, directory, row, seen).await
    }

    /// A lease that nobody asked for.
    pub(in crate::service) async fn plan_lease_issue(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: LeaseId,
        issue: &LeaseIssue,
    ) -> Result<Plan<LeaseRecord>, ServiceError> {
        let by = acting.who.person.ok_or(ServiceError::NotLoggedIn)?;
        let row = self.row_to_issue(directory, id, issue, (by, false))?;
        // The request holds all of it.
        self.plan_lease(acting, directory, row, id.to_string()).await
    }

    async fn plan_lease(
        &self,
        acting: &Acting,
        directory: &Directory,
        row: LeaseRow,
        seen: String,
    ) -> Result<Plan<LeaseRecord>, ServiceError> {
        if acting.who.person == Some(row.person) {
            return Err(super::issue::lends_to_themselves());
        }
        self.decide_lease(directory, &row, self.clock.now(), acting.who).await?;
        let entry = self.acted(Act::LeaseIssue, acting, "lease", row.id).detail(in_words(&row));
        let widens = weighty(directory, &row);
        let plan = Plan::new(Vec::new(), entry, record(directory, row));
        Ok(Plan { widens, seen, ..plan })
    }

    /// The row of a lease that an administrator issues unasked.
    pub(super) fn row_to_issue(
        &self,
        directory: &Directory,
        id: LeaseId,
        issue: &LeaseIssue,
        by: (tobari_core::ids::PersonId, bool),
    ) -> Result<LeaseRow, ServiceError> {
        let now = self.clock.now();
        let LeaseIssue { person, terminal, lease } = issue;
        if !directory.tables.people.contains_key(person) {
            return Err(ServiceError::invalid("person", "no such person"));
        }
        if !directory.tables.terminals.contains_key(terminal) {
            return Err(ServiceError::invalid("terminal", "no such terminal"));
        }
        let checked = check("lease.", lease, self.identity.organisation, directory, now)?;
        Ok(asked(id, *person, *terminal, by, checked, lease, now))
    }

    /// Makes a lease to which a second person agreed; the commit that makes it also says that the request is done.
    pub(in crate::service) async fn make_lease_on_request(
        &self,
        changing: &Changing<'_>,
        caller: &Caller,
        deed: &Deed,
        done: Change,
        warrant: &Warrant,
    ) -> Result<LeaseRecord, ServiceError> {
        let directory = self.directory.load_full();
        let (row, before) = match deed {
            Deed::ApproveLease(id) => (self.waiting_lease(*id).await?, Some(LeaseState::Requested)),
            Deed::IssueLease(id, issue) => {
                (self.row_to_issue(&directory, *id, issue, (caller.person.id, false))?, None)
            }
            _ => return Err(ServiceError::Internal(String::from("no deed of leases"))),
        };
        if caller.person.id == row.person {
            return Err(super::issue::lends_to_themselves());
        }
        debug_assert!(deed.roles() == LEASES);
        self.make_within(changing, row, before, caller, Some(Approved { done, warrant })).await
    }
}

//! Changes that need a second person: request → approve → apply. A request holds the very change and what it gives and takes;
//! whoever approves agrees to that, on the version of the policy that it names. When the policy has moved on and the change would do
//! something else by now, the approval is void and the request waits again, with the new comparison.

use super::Part;
use super::plan::{Acting, Deed};
use super::policy::check_reason;
use crate::audit::{Act, Who};
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::{self, Judged, Warrant};
use crate::service::{Call, Caller, Changing, Service};
use crate::store::{Change, ChangeRequestRow, PersonRow, RequestState, Tables};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use tobari_core::ids::{ChangeRequestId, PersonId};
use tobari_core::proto::policy::{ChangeInput, ChangeRequest, PolicyDiff, ReasonInput, RequestProgress};

/// Most requests that wait at one time.
const MAX_WAITING: usize = 100;
/// Requests that are over are forgotten after this.
const FORGET: SignedDuration = SignedDuration::from_hours(24 * 30);

fn shown(tables: &Tables, row: &ChangeRequestRow, now: Timestamp) -> ChangeRequest {
    let login = |id: PersonId| tables.people.get(&id).map(|row| row.login.clone());
    let (state, decided) = match &row.state {
        RequestState::Pending => (RequestProgress::Pending, None),
        RequestState::Approved { by, reason, .. } => {
            (RequestProgress::Approved, Some((*by, Some(reason.clone()))))
        }
        RequestState::Refused { by, reason, .. } => {
            (RequestProgress::Refused, Some((*by, Some(reason.clone()))))
        }
        RequestState::Applied { by, .. } => (RequestProgress::Applied, Some((*by, None))),
    };
    let open = matches!(state, RequestProgress::Pending | RequestProgress::Approved);
    ChangeRequest {
        id: row.id,
        state: if open && now >= row.expires_at { RequestProgress::Expired } else { state },
        summary: row.summary.clone(),
        requested_by: row.requested_by,
        requested_by_login: login(row.requested_by).unwrap_or_default(),
        requested_at: row.requested_at,
        reason: row.reason.clone(),
        expires_at: row.expires_at,
        decided_by: decided.as_ref().map(|(by, _)| *by),
        decided_by_login: decided.as_ref().and_then(|(by, _)| login(*by)),
        decision_reason: decided.and_then(|(_, reason)| reason),
        diff: row.diff.clone(),
    }
}

fn needs_reason(reason: &str) -> Result<(), ServiceError> {
    check_reason(reason)?;
    if reason.trim().is_empty() {
        return Err(ServiceError::invalid("reason", "must not be empty"));
    }
    Ok(())
}

fn deed(row: &ChangeRequestRow) -> Result<Deed, ServiceError> {
    serde_json::from_str(&row.act)
        .map_err(|_| ServiceError::Internal(String::from("a stored request is damaged")))
}

/// The requester as of now: still there, with the roles that count.
fn requester(tables: &Tables, row: &ChangeRequestRow, who: Who) -> Result<Acting, ServiceError> {
    let person: Option<&Arc<PersonRow>> = tables.people.get(&row.requested_by).filter(|row| !row.disabled);
    let person =
        person.ok_or_else(|| ServiceError::conflict("request", "the requester is no longer there"))?;
    Ok(Acting { who, roles: person.roles.clone() })
}

impl Service {
    /// `GET /v1/admin/requests`: all in the order of their times, or a part in the order of their ids.
    ///
    /// # Errors
    /// No administrator, a limit out of range.
    pub async fn change_requests(
        &self,
        call: &Call,
        part: Part<ChangeRequestId>,
    ) -> Result<Vec<ChangeRequest>, ServiceError> {
        let tables = self.read_tables(call).await?;
        let now = self.clock.now();
        let rows = part.of(&tables.change_requests, |_| true)?;
        let mut list: Vec<ChangeRequest> = rows.into_iter().map(|row| shown(&tables, row, now)).collect();
        if part.limit.is_none() {
            list.sort_by_key(|request| request.requested_at);
        }
        Ok(list)
    }

    /// `GET /v1/admin/requests/{id}`.
    ///
    /// # Errors
    /// No administrator, no such request.
    pub async fn change_request(
        &self,
        call: &Call,
        id: ChangeRequestId,
    ) -> Result<ChangeRequest, ServiceError> {
        let tables = self.read_tables(call).await?;
        let row = tables.change_requests.get(&id).ok_or(ServiceError::NotFound("request"))?;
        Ok(shown(&tables, row, self.clock.now()))
    }

    /// `POST /v1/admin/requests`.
    ///
    /// # Errors
    /// Not the roles that the change needs, no reason, or the change itself would be refused.
    pub async fn create_request(
        &self,
        call: &Call,
        change: ChangeInput,
    ) -> Result<ChangeRequest, ServiceError> {
        needs_reason(&change.reason)?;
        let caller = self.any_administrator(call).await?;
        let reason = change.reason.trim().to_owned();
        let deed = self.deed(change).await?;
        self.holds(&caller, deed.roles()).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let now = self.clock.now();
        let waits = |row: &Arc<ChangeRequestRow>| {
            matches!(row.state, RequestState::Pending | RequestState::Approved { .. }) && now < row.expires_at
        };
        if directory.tables.change_requests.values().filter(|row| waits(row)).count() >= MAX_WAITING {
            return Err(ServiceError::conflict("request", format!("{MAX_WAITING} requests wait already")));
        }
        let plan = self.plan(&Acting::from(&caller), &directory, &deed).await?;
        let Judged { diff, digest } = self.judge_plan(&directory, &plan).await?;
        let leases = self.foreseen(&directory, plan.after(&directory.tables)).await?;
        let diff = PolicyDiff { leases, ..diff };
        let object = plan.record.object.clone().unwrap_or_default();
        let detail = plan.record.detail.clone().unwrap_or_default();
        let row = ChangeRequestRow {
            id: ChangeRequestId::generate(),
            requested_by: caller.person.id,
            requested_at: now,
            reason,
            expires_at: now
                .checked_add(self.limits.request_life)
                .map_err(|error| ServiceError::Internal(error.to_string()))?,
            act: serde_json::to_string(&deed).map_err(|error| ServiceError::Internal(error.to_string()))?,
            summary: format!("{object}: {detail}"),
            diff,
            digest,
            state: RequestState::Pending,
        };
        let old = |row: &&Arc<ChangeRequestRow>| now.duration_since(row.expires_at) > FORGET;
        let forgotten = directory.tables.change_requests.values().filter(old);
        let mut changes: Vec<Change> = forgotten.map(|row| Change::DeleteChangeRequest(row.id)).collect();
        changes.push(Change::PutChangeRequest(row.clone()));
        let record = self
            .admin_record(Act::Request, &caller, "request", row.id)
            .detail(format!("{}; reason: {}", row.summary, row.reason));
        self.change(&changing, changes, record).await?;
        Ok(shown(&self.directory.load().tables, &row, now))
    }

    /// The request, if it still waits for something.
    fn waiting(&self, directory: &Directory, id: ChangeRequestId) -> Result<ChangeRequestRow, ServiceError> {
        let row = directory.tables.change_requests.get(&id).ok_or(ServiceError::NotFound("request"))?;
        match row.state {
            RequestState::Applied { .. } | RequestState::Refused { .. } => {
                Err(ServiceError::conflict("request", "the request is over"))
            }
            RequestState::Pending | RequestState::Approved { .. } if self.clock.now() >= row.expires_at => {
                Err(ServiceError::conflict("request", "the request has expired"))
            }
            RequestState::Pending | RequestState::Approved { .. } => Ok(row.as_ref().clone()),
        }
    }

    /// Compares again what a request would do. When that is not what it says, it waits again and says what is so now.
    async fn compare_again(
        &self,
        changing: &Changing<'_>,
        caller: &Caller,
        row: &ChangeRequestRow,
        judged: Judged,
        (directory, after): (&Directory, Tables),
    ) -> Result<(), ServiceError> {
        if judged.digest == row.digest {
            return Ok(());
        }
        let version = judged.diff.policy_version;
        let leases = self.foreseen(directory, after).await?;
        let row = ChangeRequestRow {
            diff: PolicyDiff { leases, ..judged.diff },
            digest: judged.digest,
            state: RequestState::Pending,
            ..row.clone()
        };
        let record = self
            .admin_record(Act::Update, caller, "request", row.id)
            .detail(format!("compared again with version {version}: it does something else now"));
        self.change(changing, vec![Change::PutChangeRequest(row)], record).await?;
        Err(ServiceError::conflict(
            "request",
            "the policy has moved on and the change would do something else by now: look at it and approve it again",
        ))
    }

    /// `POST /v1/admin/requests/{id}/approve`, by a second person with a fresh code.
    ///
    /// # Errors
    /// The requester, somebody without the role, no fresh code, no reason; the policy has moved on.
    pub async fn approve_request(
        &self,
        call: &Call,
        id: ChangeRequestId,
        input: ReasonInput,
    ) -> Result<ChangeRequest, ServiceError> {
        needs_reason(&input.reason)?;
        let caller = self.any_administrator(call).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let row = self.waiting(&directory, id)?;
        if row.requested_by == caller.person.id {
            return Err(ServiceError::conflict("request", "who asks does not approve"));
        }
        let deed = deed(&row)?;
        if !caller.roles().contains(&tobari_core::proto::admin::Role::Policy) {
            self.holds(&caller, deed.roles()).await?;
        }
        if self.beneficiary(&deed).await? == Some(caller.person.id) {
            return Err(ServiceError::conflict("request", "whom it is for does not approve"));
        }
        self.stepped_up(&caller).await?;
        if matches!(row.state, RequestState::Approved { .. }) {
            return Err(ServiceError::conflict("request", "it is approved already"));
        }
        let acting = requester(&directory.tables, &row, caller.who())?;
        let plan = self.plan(&acting, &directory, &deed).await?;
        // By the requester, as when it is applied.
        let judged = self.judge_as(&directory, &plan, row.requested_by).await?;
        let after = plan.after(&directory.tables);
        self.compare_again(&changing, &caller, &row, judged, (&directory, after)).await?;
        let approved = |by, at, reason| RequestState::Approved { by, at, reason };
        self.conclude(&changing, &caller, row, Act::Approve, approved, &input).await
    }

    /// Stores and records what somebody decided on a request.
    async fn conclude(
        &self,
        changing: &Changing<'_>,
        caller: &Caller,
        row: ChangeRequestRow,
        act: Act,
        state: impl FnOnce(PersonId, Timestamp, String) -> RequestState,
        input: &ReasonInput,
    ) -> Result<ChangeRequest, ServiceError> {
        let now = self.clock.now();
        let reason = input.reason.trim().to_owned();
        let record = self
            .admin_record(act, caller, "request", row.id)
            .detail(format!("{}; reason: {reason}", row.summary));
        let row = ChangeRequestRow { state: state(caller.person.id, now, reason), ..row };
        self.change(changing, vec![Change::PutChangeRequest(row.clone())], record).await?;
        Ok(shown(&self.directory.load().tables, &row, now))
    }

    async fn judge_as<T>(
        &self,
        directory: &Directory,
        plan: &super::plan::Plan<T>,
        by: PersonId,
    ) -> Result<Judged, ServiceError> {
        let (before, after) = (directory.tables.clone(), plan.after(&directory.tables));
        let now = self.clock.now();
        let judged =
            crate::service::grants::compute(move || judge::judge(&before, &after, Some(by), now)).await??;
        Ok(judged.with(&directory.tables, &plan.widens, &plan.seen))
    }

    /// For whom a deed is done, where that is somebody: they do not agree to it themselves.
    async fn beneficiary(&self, deed: &Deed) -> Result<Option<PersonId>, ServiceError> {
        Ok(match deed {
            Deed::UnsealWindow(person, _) => Some(*person),
            Deed::IssueLease(_, issue) => Some(issue.person),
            Deed::ApproveLease(id) => self.store.lease(*id).await?.map(|row| row.person),
            _ => None,
        })
    }

    /// `POST /v1/admin/requests/{id}/refuse`: a second person does not agree, or the requester takes it back.
    ///
    /// # Errors
    /// No administrator, no reason, or the request is over.
    pub async fn refuse_request(
        &self,
        call: &Call,
        id: ChangeRequestId,
        input: ReasonInput,
    ) -> Result<ChangeRequest, ServiceError> {
        needs_reason(&input.reason)?;
        let caller = self.any_administrator(call).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let row = self.waiting(&directory, id)?;
        if row.requested_by != caller.person.id
            && !caller.roles().contains(&tobari_core::proto::admin::Role::Policy)
        {
            self.holds(&caller, deed(&row)?.roles()).await?;
        }
        let refused = |by, at, reason| RequestState::Refused { by, at, reason };
        self.conclude(&changing, &caller, row, Act::Refuse, refused, &input).await
    }

    /// `POST /v1/admin/requests/{id}/apply`, by the requester with a fresh code. Answers as the object's own route does.
    ///
    /// # Errors
    /// Somebody else, no fresh code, not approved, expired, an approver who is no longer one; the policy has moved on.
    pub async fn apply_request(
        &self,
        call: &Call,
        id: ChangeRequestId,
    ) -> Result<serde_json::Value, ServiceError> {
        let caller = self.any_administrator(call).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let row = self.waiting(&directory, id)?;
        if row.requested_by != caller.person.id {
            return Err(ServiceError::conflict("request", "who asked applies it"));
        }
        let deed = deed(&row)?;
        self.holds(&caller, deed.roles()).await?;
        let RequestState::Approved { by, .. } = &row.state else {
            return Err(ServiceError::conflict("request", "nobody has approved it yet"));
        };
        let by = *by;
        self.stepped_up(&caller).await?;
        let still = |person: &Arc<PersonRow>| {
            !person.disabled
                && (person.roles.contains(&tobari_core::proto::admin::Role::Policy)
                    || deed.roles().iter().all(|role| person.roles.contains(role)))
        };
        if !directory.tables.people.get(&by).is_some_and(still) {
            return Err(ServiceError::conflict("request", "who approved it is no longer an administrator"));
        }
        let mut plan = self.plan(&Acting::from(&caller), &directory, &deed).await?;
        let judged = self.judge_as(&directory, &plan, caller.person.id).await?;
        let after = plan.after(&directory.tables);
        self.compare_again(&changing, &caller, &row, judged, (&directory, after)).await?;
        let warrant = Warrant { reason: row.reason.clone(), approval: Some((id, by)) };
        if deed.is_of_leases() {
            let state = RequestState::Applied { by, at: self.clock.now() };
            let done = Change::PutChangeRequest(ChangeRequestRow { state, ..row });
            let lease = self.make_lease_on_request(&changing, &caller, &deed, done, &warrant).await?;
            return serde_json::to_value(&lease).map_err(|error| ServiceError::Internal(error.to_string()));
        }
        let detail = plan.record.detail.take().unwrap_or_default();
        plan.record.detail = Some(format!("{detail}; request {id}, approved by {by}"));
        let state = RequestState::Applied { by, at: self.clock.now() };
        plan.changes.push(Change::PutChangeRequest(ChangeRequestRow { state, ..row }));
        self.settle(&changing, plan, &warrant).await
    }
}

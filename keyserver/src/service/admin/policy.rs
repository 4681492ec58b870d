//! Policy at work: explaining a decision, looking at a change before it is made, versions and the way back.

use super::plan::{Acting, MAX_REASON};
use crate::audit::{Act, Record};
use crate::service::error::ServiceError;
use crate::service::judge::{self, Warrant};
use crate::service::{Call, Caller, Service, totp};
use crate::store::{Change, PolicyVersionRow};
use jiff::{SignedDuration, Timestamp};
use tobari_core::policy::{Context, Requester, Subject};
use tobari_core::proto::admin::Role;
use tobari_core::proto::api::Reason;
use tobari_core::proto::policy::{
    ChangeInput, ExplainRequest, Explanation, PolicyAt, PolicyDiff, PolicyStatus, PolicyVersion,
    StepUpRequest, SteppedUp,
};
use zeroize::Zeroizing;

/// How long a fresh code counts.
const STEP_UP_LIFE: SignedDuration = SignedDuration::from_mins(5);
/// Most versions in an answer.
const MAX_PAGE: u32 = 200;

pub(super) fn check_reason(reason: &str) -> Result<(), ServiceError> {
    if reason.len() > MAX_REASON {
        return Err(ServiceError::invalid("reason", format!("must be at most {MAX_REASON} bytes")));
    }
    if reason.chars().any(char::is_control) {
        return Err(ServiceError::invalid("reason", "must not contain control characters"));
    }
    Ok(())
}

fn shown(row: PolicyVersionRow) -> PolicyVersion {
    PolicyVersion {
        version: row.version,
        at: row.at,
        login: row.login,
        act: row.act,
        object: row.object,
        detail: row.detail,
        reason: row.reason,
        request: row.request,
        approved_by: row.approved_by,
    }
}

impl Service {
    /// `POST /v1/admin/explain`: the decision that a grant would be made on, by the same function.
    ///
    /// # Errors
    /// No administrator, no such person or label.
    pub async fn explain(&self, call: &Call, asked: ExplainRequest) -> Result<Explanation, ServiceError> {
        self.any_administrator(call).await?;
        let directory = self.directory.load_full();
        let tables = &directory.tables;
        let person = tables.people.get(&asked.person).ok_or(ServiceError::NotFound("person"))?;
        let label = tables.labels.get(&asked.label).ok_or(ServiceError::NotFound("label"))?;
        let requester = Requester { person: person.id, memberships: person.memberships.clone() };
        let subject = Subject { label: asked.label, owner_group: asked.owner_group };
        let context = Context {
            now: asked.at.unwrap_or_else(|| self.clock.now()),
            zone: asked.zone,
            terminal_tags: asked.terminal_tags,
            second_factor: asked.second_factor,
            protection: asked.protection,
        };
        let decision = directory.policy.decide(&requester, &subject, &context);
        let reasons = decision.reasons_for(asked.right).map(|reason| Reason {
            rule: reason.rule,
            effect: reason.effect,
            rights: reason.rights,
            membership: directory.membership_words(&reason.membership),
            note: tables.rules.get(&reason.rule).map(|rule| rule.note.clone()).unwrap_or_default(),
        });
        Ok(Explanation {
            allowed: !person.disabled && decision.allows(asked.right),
            rights: decision.rights,
            reasons: reasons.collect(),
            disabled: person.disabled,
            login: person.login.clone(),
            label_name: label.label.name.clone(),
            policy_version: tables.policy_version,
        })
    }

    /// `GET /v1/admin/policy`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn policy_status(&self, call: &Call) -> Result<PolicyStatus, ServiceError> {
        let tables = self.read_tables(call).await?;
        Ok(PolicyStatus {
            version: tables.policy_version,
            second_person: judge::second_person(&tables),
            set: judge::second_person_set(&tables).is_some(),
            approvers: judge::approvers(&tables) as u64,
            unseal_files: judge::unseal_limit(&tables),
            unseal_windows: self.unseal_windows(&tables),
        })
    }

    /// `POST /v1/admin/policy/diff`: what a change would give and take. Changes nothing.
    ///
    /// # Errors
    /// Not the roles that the change needs, or the change itself would be refused.
    pub async fn policy_diff(&self, call: &Call, change: ChangeInput) -> Result<PolicyDiff, ServiceError> {
        check_reason(&change.reason)?;
        let caller = self.any_administrator(call).await?;
        let deed = self.deed(change).await?;
        self.holds(&caller, deed.roles()).await?;
        let directory = self.directory.load_full();
        let plan = self.plan(&Acting::from(&caller), &directory, &deed).await?;
        let diff = self.judge_plan(&directory, &plan).await?.diff;
        let leases = self.foreseen(&directory, plan.after(&directory.tables)).await?;
        Ok(PolicyDiff { leases, ..diff })
    }

    /// `POST /v1/admin/policy/changes`: makes a change, with its reason. Answers as the object's own route does.
    ///
    /// # Errors
    /// As the object's own route.
    pub async fn make_change(
        &self,
        call: &Call,
        change: ChangeInput,
    ) -> Result<serde_json::Value, ServiceError> {
        check_reason(&change.reason)?;
        let caller = self.any_administrator(call).await?;
        let warrant = Warrant { reason: change.reason.clone(), approval: None };
        let deed = self.deed(change).await?;
        self.holds(&caller, deed.roles()).await?;
        if deed.is_of_leases() {
            // A lease has its own routes; here it can be looked at and asked for.
            return Err(ServiceError::invalid(
                "collection",
                "a lease is approved or issued by its own route",
            ));
        }
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan(&Acting::from(&caller), &directory, &deed).await?;
        self.settle(&changing, plan, &warrant).await
    }

    /// Whether a caller has all of the roles; without them the attempt is recorded.
    pub(super) async fn holds(&self, caller: &Caller, roles: &[Role]) -> Result<(), ServiceError> {
        match roles.iter().find(|role| !caller.roles().contains(role)) {
            None => Ok(()),
            Some(missing) => self.refuse_administrator(caller, *missing).await.map(|_| ()),
        }
    }

    /// `GET /v1/admin/policy/versions`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn policy_versions(
        &self,
        call: &Call,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<PolicyVersion>, ServiceError> {
        self.any_administrator(call).await?;
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(ServiceError::invalid("limit", format!("must be 1 to {MAX_PAGE}")));
        }
        let rows = self.store.policy_versions(before.unwrap_or(u64::MAX), limit).await?;
        Ok(rows.into_iter().map(shown).collect())
    }

    /// `GET /v1/admin/policy/versions/{version}`.
    ///
    /// # Errors
    /// No administrator, no such version.
    pub async fn policy_at(&self, call: &Call, version: u64) -> Result<PolicyAt, ServiceError> {
        self.any_administrator(call).await?;
        let missing = || ServiceError::NotFound("version");
        let next = version.checked_add(1).ok_or_else(missing)?;
        let row = self.store.policy_versions(next, 1).await?.into_iter().next();
        let row = row.filter(|row| row.version == version).ok_or_else(missing)?;
        let policy = self.store.policy_of(version).await?.ok_or_else(missing)?;
        Ok(PolicyAt { version: shown(row), policy })
    }

    /// `POST /v1/admin/step-up`: a fresh code, which counts for five minutes in this session.
    ///
    /// # Errors
    /// No administrator, or the code is wrong, was used before, or the person has no authenticator.
    pub async fn step_up(&self, call: &Call, request: StepUpRequest) -> Result<SteppedUp, ServiceError> {
        let code = Zeroizing::new(request.totp);
        let caller = self.any_administrator(call).await?;
        let login_key = caller.person.login_key.clone();
        let _entered = self.lockout.enter(&login_key).await;
        let now = self.clock.now();
        let step = self.fresh_step(&caller, &code, &login_key, now).await?;
        let session = caller.session.row.id;
        let changes = vec![Change::AdvanceTotpStep(caller.person.id, step), Change::StepUp(session, now)];
        let record = Record::new(Act::StepUp, now, caller.who());
        self.audit.commit(changes, &[record]).await.map_err(|error| match error {
            // Somebody was faster with the same code.
            crate::audit::AuditError::Refused(crate::store::StoreError::Stale) => {
                ServiceError::BadCredentials
            }
            error => error.into(),
        })?;
        let until =
            now.checked_add(STEP_UP_LIFE).map_err(|error| ServiceError::Internal(error.to_string()))?;
        Ok(SteppedUp { until })
    }

    /// The time step of a code that is good now. Wrong ones count as failed logins do.
    async fn fresh_step(
        &self,
        caller: &Caller,
        code: &str,
        login_key: &str,
        now: Timestamp,
    ) -> Result<i64, ServiceError> {
        let failures =
            crate::service::lockout::failures(self.store.as_ref(), &self.limits, login_key, now).await?;
        if let Some(retry_after_seconds) = crate::service::lockout::locked_for(failures.as_ref(), now) {
            return Err(ServiceError::LockedOut { retry_after_seconds });
        }
        if let Some(sealed) = &caller.person.sealed_totp {
            let secret = self
                .identity
                .root_key
                .open(&crate::service::identity::totp_aad(caller.person.id), sealed)
                .map_err(|_| ServiceError::Internal(String::from("a stored TOTP secret does not open")))?;
            let used = self.store.totp_step(caller.person.id).await?;
            if let Some(step) = totp::step(&secret, code, now.as_second())?
                && used.is_none_or(|used| step > used)
            {
                return Ok(step);
            }
        }
        let delay = self.count_failure(failures, login_key.to_owned(), now, caller.who()).await?;
        tokio::time::sleep(delay).await;
        Err(ServiceError::BadCredentials)
    }

    /// Refuses unless the session has a code that is fresh.
    pub(super) async fn stepped_up(&self, caller: &Caller) -> Result<(), ServiceError> {
        let at = self.store.step_up(caller.session.row.id).await?;
        let age = at.map(|at| self.clock.now().duration_since(at));
        match age {
            Some(age) if age >= SignedDuration::ZERO && age <= STEP_UP_LIFE => Ok(()),
            _ => Err(ServiceError::StepUpNeeded),
        }
    }
}

//! Rules.

use super::POLICY;
use super::plan::{Acting, Plan};
use crate::audit::Act;
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::Warrant;
use crate::service::{Call, Service};
use crate::store::Change;
use tobari_core::ids::RuleId;
use tobari_core::policy::Rule;
use tobari_core::proto::admin::RuleInput;

/// Longest remark, in bytes.
pub(super) const MAX_NOTE: usize = 1024;

pub(super) fn rule(id: RuleId, input: RuleInput) -> Rule {
    Rule {
        id,
        label: input.label,
        groups: input.groups,
        posts: input.posts,
        conditions: input.conditions,
        effect: input.effect,
        rights: input.rights,
        note: input.note,
    }
}

/// The rule as the record shows it: its own JSON.
fn words(rule: &Rule) -> String {
    serde_json::to_string(rule).unwrap_or_default()
}

impl Service {
    /// `GET /v1/admin/rules`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn rules(&self, call: &Call) -> Result<Vec<Rule>, ServiceError> {
        let tables = self.read_tables(call).await?;
        Ok(tables.rules.values().map(|rule| rule.as_ref().clone()).collect())
    }

    /// `GET /v1/admin/rules/{id}`.
    ///
    /// # Errors
    /// No administrator, no such rule.
    pub async fn rule(&self, call: &Call, id: RuleId) -> Result<Rule, ServiceError> {
        let tables = self.read_tables(call).await?;
        tables.rules.get(&id).map(|rule| rule.as_ref().clone()).ok_or(ServiceError::NotFound("rule"))
    }

    /// `POST /v1/admin/rules`.
    ///
    /// # Errors
    /// No policy administrator, or fields that are not allowed.
    pub async fn create_rule(&self, call: &Call, input: RuleInput) -> Result<Rule, ServiceError> {
        self.put_rule(call, None, input).await
    }

    /// `PUT /v1/admin/rules/{id}`.
    ///
    /// # Errors
    /// No policy administrator, no such rule, or fields that are not allowed.
    pub async fn replace_rule(
        &self,
        call: &Call,
        id: RuleId,
        input: RuleInput,
    ) -> Result<Rule, ServiceError> {
        self.put_rule(call, Some(id), input).await
    }

    async fn put_rule(
        &self,
        call: &Call,
        id: Option<RuleId>,
        input: RuleInput,
    ) -> Result<Rule, ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        if id.is_some_and(|id| !directory.tables.rules.contains_key(&id)) {
            return Err(ServiceError::NotFound("rule"));
        }
        let id = id.unwrap_or_else(RuleId::generate);
        let plan = self.plan_rule(&Acting::from(&caller), &directory, id, input)?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) fn plan_rule(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: RuleId,
        input: RuleInput,
    ) -> Result<Plan<Rule>, ServiceError> {
        if input.note.len() > MAX_NOTE {
            return Err(ServiceError::invalid("note", format!("must be at most {MAX_NOTE} bytes")));
        }
        let act = if directory.tables.rules.contains_key(&id) { Act::Update } else { Act::Create };
        let rule = rule(id, input);
        let record = self.acted(act, acting, "rule", rule.id).detail(words(&rule));
        Ok(Plan::new(vec![Change::PutRule(rule.clone())], record, rule))
    }

    /// `DELETE /v1/admin/rules/{id}`.
    ///
    /// # Errors
    /// No policy administrator, no such rule.
    pub async fn delete_rule(&self, call: &Call, id: RuleId) -> Result<(), ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_no_rule(&Acting::from(&caller), &directory, id)?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) fn plan_no_rule(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: RuleId,
    ) -> Result<Plan<()>, ServiceError> {
        let rule = directory.tables.rules.get(&id).ok_or(ServiceError::NotFound("rule"))?;
        let record = self.acted(Act::Delete, acting, "rule", id).detail(words(rule));
        Ok(Plan::new(vec![Change::DeleteRule(id)], record, ()))
    }
}

//! Invariants of the policy: what no change may ever bring.

use super::plan::{Acting, Plan};
use super::{POLICY, check_name, check_names};
use crate::audit::Act;
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::Warrant;
use crate::service::{Call, Service};
use crate::store::{Change, Tables};
use tobari_core::ids::InvariantId;
use tobari_core::policy::{GroupScope, Invariant, LabelScope, PostScope, fold_name};
use tobari_core::proto::policy::InvariantInput;

fn check(tables: &Tables, id: InvariantId, input: &InvariantInput) -> Result<(), ServiceError> {
    check_name("name", &input.name)?;
    check_names("zones", &input.zones)?;
    if input.rights.is_empty() {
        return Err(ServiceError::invalid("rights", "an invariant needs at least one right"));
    }
    if let LabelScope::This { label } = input.labels
        && !tables.labels.contains_key(&label)
    {
        return Err(ServiceError::invalid("labels.label", "no such label"));
    }
    if let GroupScope::Subtree { group } = input.groups
        && !tables.groups.contains_key(&group)
    {
        return Err(ServiceError::invalid("groups.group", "no such group"));
    }
    if let PostScope::This { post } | PostScope::Below { post } = input.posts
        && !tables.posts.contains_key(&post)
    {
        return Err(ServiceError::invalid("posts.post", "no such post"));
    }
    let same = |other: &Invariant| other.id != id && fold_name(&other.name) == fold_name(&input.name);
    if tables.invariants.values().any(|other| same(other)) {
        return Err(ServiceError::conflict("name", "already taken"));
    }
    Ok(())
}

impl Service {
    /// `GET /v1/admin/invariants`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn invariants(&self, call: &Call) -> Result<Vec<Invariant>, ServiceError> {
        let tables = self.read_tables(call).await?;
        Ok(tables.invariants.values().map(|one| one.as_ref().clone()).collect())
    }

    /// `GET /v1/admin/invariants/{id}`.
    ///
    /// # Errors
    /// No administrator, no such invariant.
    pub async fn invariant(&self, call: &Call, id: InvariantId) -> Result<Invariant, ServiceError> {
        let tables = self.read_tables(call).await?;
        tables.invariants.get(&id).map(|one| one.as_ref().clone()).ok_or(ServiceError::NotFound("invariant"))
    }

    /// `POST /v1/admin/invariants`.
    ///
    /// # Errors
    /// No policy administrator, fields that are not allowed, or the policy breaks it already.
    pub async fn create_invariant(
        &self,
        call: &Call,
        input: InvariantInput,
    ) -> Result<Invariant, ServiceError> {
        self.put_invariant(call, None, input).await
    }

    /// `PUT /v1/admin/invariants/{id}`.
    ///
    /// # Errors
    /// As [`Service::create_invariant`], and no such invariant.
    pub async fn replace_invariant(
        &self,
        call: &Call,
        id: InvariantId,
        input: InvariantInput,
    ) -> Result<Invariant, ServiceError> {
        self.put_invariant(call, Some(id), input).await
    }

    async fn put_invariant(
        &self,
        call: &Call,
        id: Option<InvariantId>,
        input: InvariantInput,
    ) -> Result<Invariant, ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        if id.is_some_and(|id| !directory.tables.invariants.contains_key(&id)) {
            return Err(ServiceError::NotFound("invariant"));
        }
        let id = id.unwrap_or_else(InvariantId::generate);
        let plan = self.plan_invariant(&Acting::from(&caller), &directory, id, input)?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) fn plan_invariant(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: InvariantId,
        input: InvariantInput,
    ) -> Result<Plan<Invariant>, ServiceError> {
        check(&directory.tables, id, &input)?;
        let act = if directory.tables.invariants.contains_key(&id) { Act::Update } else { Act::Create };
        let InvariantInput { name, labels, groups, posts, rights, zones, without_second_factor } = input;
        let name = name.trim().to_owned();
        let invariant = Invariant { id, name, labels, groups, posts, rights, zones, without_second_factor };
        let words = serde_json::to_string(&invariant).unwrap_or_default();
        let record = self.acted(act, acting, "invariant", id).detail(words);
        Ok(Plan::new(vec![Change::PutInvariant(invariant.clone())], record, invariant))
    }

    /// `DELETE /v1/admin/invariants/{id}`.
    ///
    /// # Errors
    /// No policy administrator, no such invariant.
    pub async fn delete_invariant(&self, call: &Call, id: InvariantId) -> Result<(), ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_no_invariant(&Acting::from(&caller), &directory, id)?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) fn plan_no_invariant(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: InvariantId,
    ) -> Result<Plan<()>, ServiceError> {
        let invariant = directory.tables.invariants.get(&id).ok_or(ServiceError::NotFound("invariant"))?;
        let record =
            self.acted(Act::Delete, acting, "invariant", id).detail(format!("name {}", invariant.name));
        Ok(Plan::new(vec![Change::DeleteInvariant(id)], record, ()))
    }
}

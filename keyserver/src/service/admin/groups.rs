//! Groups.

use super::POLICY;
use super::plan::{Acting, Plan};
use crate::audit::Act;
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::Warrant;
use crate::service::{Call, Service};
use crate::store::{Change, Tables};
use tobari_core::ids::GroupId;
use tobari_core::policy::{Group, GroupSelector};
use tobari_core::proto::admin::GroupInput;

pub(super) fn user(tables: &Tables, id: GroupId) -> Option<String> {
    let child = || {
        tables
            .groups
            .values()
            .find(|group| group.parent == Some(id))
            .map(|group| format!("group {}", group.name))
    };
    let person = || {
        let belongs =
            |memberships: &[tobari_core::policy::Membership]| memberships.iter().any(|held| held.group == id);
        tables
            .people
            .values()
            .find(|row| belongs(&row.memberships))
            .map(|row| format!("person {}", row.login))
    };
    let rule = || {
        let names = |selector: GroupSelector| match selector {
            GroupSelector::This { group } | GroupSelector::Subtree { group } => group == id,
            GroupSelector::Any | GroupSelector::Owner | GroupSelector::OwnerSubtree => false,
        };
        tables.rules.values().find(|rule| names(rule.groups)).map(|rule| format!("rule {}", rule.id))
    };
    let folder = || {
        tables
            .folders
            .values()
            .find(|folder| folder.owner_group == Some(id))
            .map(|folder| format!("folder {}", folder.path))
    };
    let invariant = || {
        let names = |one: &&std::sync::Arc<tobari_core::policy::Invariant>| one.names_group(id);
        tables.invariants.values().find(names).map(|one| format!("invariant {}", one.name))
    };
    child().or_else(person).or_else(rule).or_else(folder).or_else(invariant)
}

impl Service {
    /// `GET /v1/admin/groups`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn groups(&self, call: &Call) -> Result<Vec<Group>, ServiceError> {
        let tables = self.read_tables(call).await?;
        Ok(tables.groups.values().map(|group| group.as_ref().clone()).collect())
    }

    /// `GET /v1/admin/groups/{id}`.
    ///
    /// # Errors
    /// No administrator, no such group.
    pub async fn group(&self, call: &Call, id: GroupId) -> Result<Group, ServiceError> {
        let tables = self.read_tables(call).await?;
        tables.groups.get(&id).map(|group| group.as_ref().clone()).ok_or(ServiceError::NotFound("group"))
    }

    /// `POST /v1/admin/groups`.
    ///
    /// # Errors
    /// No policy administrator, or fields that are not allowed.
    pub async fn create_group(&self, call: &Call, input: GroupInput) -> Result<Group, ServiceError> {
        self.put_group(call, None, input).await
    }

    /// `PUT /v1/admin/groups/{id}`.
    ///
    /// # Errors
    /// No policy administrator, no such group, or fields that are not allowed.
    pub async fn replace_group(
        &self,
        call: &Call,
        id: GroupId,
        input: GroupInput,
    ) -> Result<Group, ServiceError> {
        self.put_group(call, Some(id), input).await
    }

    async fn put_group(
        &self,
        call: &Call,
        id: Option<GroupId>,
        input: GroupInput,
    ) -> Result<Group, ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        if id.is_some_and(|id| !directory.tables.groups.contains_key(&id)) {
            return Err(ServiceError::NotFound("group"));
        }
        let id = id.unwrap_or_else(GroupId::generate);
        let plan = self.plan_group(&Acting::from(&caller), &directory, id, input);
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) fn plan_group(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: GroupId,
        input: GroupInput,
    ) -> Plan<Group> {
        let act = if directory.tables.groups.contains_key(&id) { Act::Update } else { Act::Create };
        let group = Group { id, name: input.name.trim().to_owned(), parent: input.parent };
        let parent = group.parent.map(|parent| format!(", parent {parent}")).unwrap_or_default();
        let record = self.acted(act, acting, "group", id).detail(format!("name {}{parent}", group.name));
        Plan::new(vec![Change::PutGroup(group.clone())], record, group)
    }

    /// `DELETE /v1/admin/groups/{id}`.
    ///
    /// # Errors
    /// No policy administrator, no such group, or still in use.
    pub async fn delete_group(&self, call: &Call, id: GroupId) -> Result<(), ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_no_group(&Acting::from(&caller), &directory, id)?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) fn plan_no_group(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: GroupId,
    ) -> Result<Plan<()>, ServiceError> {
        let group = directory.tables.groups.get(&id).ok_or(ServiceError::NotFound("group"))?;
        Self::refuse_reference("group", user(&directory.tables, id))?;
        let record = self.acted(Act::Delete, acting, "group", id).detail(format!("name {}", group.name));
        Ok(Plan::new(vec![Change::DeleteGroup(id)], record, ()))
    }
}

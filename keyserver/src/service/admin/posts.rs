//! Posts.

use super::POLICY;
use super::plan::{Acting, Plan};
use crate::audit::Act;
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::Warrant;
use crate::service::{Call, Service};
use crate::store::{Change, Tables};
use tobari_core::ids::PostId;
use tobari_core::policy::{Post, PostSelector};
use tobari_core::proto::admin::PostInput;

pub(super) fn user(tables: &Tables, id: PostId) -> Option<String> {
    let person = || {
        tables
            .people
            .values()
            .find(|row| row.memberships.iter().any(|held| held.post == id))
            .map(|row| format!("person {}", row.login))
    };
    let rule = || {
        let names = |selector| match selector {
            PostSelector::This { post } => post == id,
            PostSelector::Any | PostSelector::RankAtLeast { .. } => false,
        };
        tables.rules.values().find(|rule| names(rule.posts)).map(|rule| format!("rule {}", rule.id))
    };
    let invariant = || {
        let names = |one: &&std::sync::Arc<tobari_core::policy::Invariant>| one.names_post(id);
        tables.invariants.values().find(names).map(|one| format!("invariant {}", one.name))
    };
    person().or_else(rule).or_else(invariant)
}

impl Service {
    /// `GET /v1/admin/posts`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn posts(&self, call: &Call) -> Result<Vec<Post>, ServiceError> {
        let tables = self.read_tables(call).await?;
        Ok(tables.posts.values().map(|post| post.as_ref().clone()).collect())
    }

    /// `GET /v1/admin/posts/{id}`.
    ///
    /// # Errors
    /// No administrator, no such post.
    pub async fn post(&self, call: &Call, id: PostId) -> Result<Post, ServiceError> {
        let tables = self.read_tables(call).await?;
        tables.posts.get(&id).map(|post| post.as_ref().clone()).ok_or(ServiceError::NotFound("post"))
    }

    /// `POST /v1/admin/posts`.
    ///
    /// # Errors
    /// No policy administrator, or fields that are not allowed.
    pub async fn create_post(&self, call: &Call, input: PostInput) -> Result<Post, ServiceError> {
        self.put_post(call, None, input).await
    }

    /// `PUT /v1/admin/posts/{id}`.
    ///
    /// # Errors
    /// No policy administrator, no such post, or fields that are not allowed.
    pub async fn replace_post(
        &self,
        call: &Call,
        id: PostId,
        input: PostInput,
    ) -> Result<Post, ServiceError> {
        self.put_post(call, Some(id), input).await
    }

    async fn put_post(
        &self,
        call: &Call,
        id: Option<PostId>,
        input: PostInput,
    ) -> Result<Post, ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        if id.is_some_and(|id| !directory.tables.posts.contains_key(&id)) {
            return Err(ServiceError::NotFound("post"));
        }
        let id = id.unwrap_or_else(PostId::generate);
        let plan = self.plan_post(&Acting::from(&caller), &directory, id, input);
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) fn plan_post(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: PostId,
        input: PostInput,
    ) -> Plan<Post> {
        let act = if directory.tables.posts.contains_key(&id) { Act::Update } else { Act::Create };
        let post = Post { id, name: input.name.trim().to_owned(), rank: input.rank };
        let record =
            self.acted(act, acting, "post", id).detail(format!("name {}, rank {}", post.name, post.rank));
        Plan::new(vec![Change::PutPost(post.clone())], record, post)
    }

    /// `DELETE /v1/admin/posts/{id}`.
    ///
    /// # Errors
    /// No policy administrator, no such post, or still in use.
    pub async fn delete_post(&self, call: &Call, id: PostId) -> Result<(), ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_no_post(&Acting::from(&caller), &directory, id)?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) fn plan_no_post(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: PostId,
    ) -> Result<Plan<()>, ServiceError> {
        let post = directory.tables.posts.get(&id).ok_or(ServiceError::NotFound("post"))?;
        Self::refuse_reference("post", user(&directory.tables, id))?;
        let record = self.acted(Act::Delete, acting, "post", id).detail(format!("name {}", post.name));
        Ok(Plan::new(vec![Change::DeletePost(id)], record, ()))
    }
}

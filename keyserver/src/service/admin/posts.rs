//! Posts.

use super::POLICY;
use crate::audit::Act;
use crate::service::error::ServiceError;
use crate::service::{Call, Service};
use crate::store::{Change, Tables};
use tobari_core::ids::PostId;
use tobari_core::policy::{Post, PostSelector};
use tobari_core::proto::admin::PostInput;

fn user(tables: &Tables, id: PostId) -> Option<String> {
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
    person().or_else(rule)
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
        let act = match id {
            None => Act::Create,
            Some(id) if self.directory.load().tables.posts.contains_key(&id) => Act::Update,
            Some(_) => return Err(ServiceError::NotFound("post")),
        };
        let post = Post {
            id: id.unwrap_or_else(PostId::generate),
            name: input.name.trim().to_owned(),
            rank: input.rank,
        };
        let record = self
            .admin_record(act, &caller, "post", post.id)
            .detail(format!("name {}, rank {}", post.name, post.rank));
        self.change(&changing, vec![Change::PutPost(post.clone())], record).await?;
        Ok(post)
    }

    /// `DELETE /v1/admin/posts/{id}`.
    ///
    /// # Errors
    /// No policy administrator, no such post, or still in use.
    pub async fn delete_post(&self, call: &Call, id: PostId) -> Result<(), ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let post = directory.tables.posts.get(&id).ok_or(ServiceError::NotFound("post"))?;
        Self::refuse_reference("post", user(&directory.tables, id))?;
        let record =
            self.admin_record(Act::Delete, &caller, "post", id).detail(format!("name {}", post.name));
        self.change(&changing, vec![Change::DeletePost(id)], record).await
    }
}

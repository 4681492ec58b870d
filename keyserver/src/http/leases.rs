//! Leases: what people and terminals ask, and the administration's part.

use super::call::{Asked, Id, Input, LARGE, Output};
use crate::service::{Call, Service, ServiceError};
use crate::store::LeaseFilter;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use tobari_core::ids::{LeaseId, PersonId, TerminalId};
use tobari_core::proto::lease::{
    LeaseEnding, LeaseIssue, LeaseRecord, LeaseRefill, LeaseRequest, LeaseState, LeaseSync, LeaseSyncAnswer,
    LedgerEntry,
};
use tobari_core::proto::problem::Problem;

type App = State<Arc<Service>>;

/// Hexadecimal digits of an id.
const LEASE_ID_DIGITS: usize = 32;
/// Most leases that can be asked for at once.
const MAX_LIMIT: u32 = 1000;

/// Which leases; each part narrows.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LeaseQuery {
    /// Of this person.
    #[serde(default)]
    person: Option<PersonId>,
    /// For this terminal.
    #[serde(default)]
    terminal: Option<TerminalId>,
    /// In this state.
    #[serde(default)]
    state: Option<LeaseState>,
    /// Whose id begins so.
    #[serde(default)]
    id: Option<String>,
    /// At most so many, up to 1000.
    #[serde(default)]
    limit: Option<u32>,
}

impl TryFrom<LeaseQuery> for LeaseFilter {
    type Error = ServiceError;

    fn try_from(query: LeaseQuery) -> Result<Self, ServiceError> {
        let LeaseQuery { person, terminal, state, id, limit } = query;
        let ids = id.as_deref().map(beginning_with).transpose()?;
        if limit.is_some_and(|limit| !(1..=MAX_LIMIT).contains(&limit)) {
            return Err(ServiceError::invalid("limit", format!("must be 1 to {MAX_LIMIT}")));
        }
        Ok(Self { person, terminal, state, ids, limit, ..Self::default() })
    }
}

/// The first and the last id that there can be with this beginning.
fn beginning_with(beginning: &str) -> Result<(LeaseId, LeaseId), ServiceError> {
    let filled = |digit: &str| {
        let rest = LEASE_ID_DIGITS.saturating_sub(beginning.len());
        format!("{beginning}{}", digit.repeat(rest)).parse()
    };
    match (filled("0"), filled("f")) {
        (Ok(first), Ok(last)) => Ok((first, last)),
        _ => Err(ServiceError::invalid("id", "must be the beginning of an id")),
    }
}

/// The caller's own leases.
#[utoipa::path(get, path = "/v1/leases", operation_id = "own_leases", tag = "leases",
    responses((status = 200, body = Vec<LeaseRecord>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn own(State(service): App, call: Call) -> Result<Output<Vec<LeaseRecord>>, ServiceError> {
    Ok(Output(service.own_leases(&call).await?))
}

/// Asks for a lease on the calling terminal.
#[utoipa::path(post, path = "/v1/leases", operation_id = "request_lease", tag = "leases", request_body = LeaseRequest,
    responses((status = 201, body = LeaseRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn request(
    State(service): App,
    call: Call,
    Input(request): Input<LeaseRequest, LARGE>,
) -> Result<(StatusCode, Output<LeaseRecord>), ServiceError> {
    Ok((StatusCode::CREATED, Output(service.request_lease(&call, request).await?)))
}

/// Refills the caller's own lease of a label with the files that there are now.
#[utoipa::path(post, path = "/v1/leases/{id}/refill", operation_id = "refill_lease", tag = "leases", params(("id" = String, Path)),
    request_body = LeaseRefill,
    responses((status = 200, body = LeaseRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn refill(
    State(service): App,
    call: Call,
    Id(id): Id<LeaseId>,
    Input(refill): Input<LeaseRefill, LARGE>,
) -> Result<Output<LeaseRecord>, ServiceError> {
    Ok(Output(service.refill_lease(&call, id, refill).await?))
}

/// Brings what was done under the terminal's leases, and fetches what was lent.
#[utoipa::path(post, path = "/v1/terminals/leases", operation_id = "sync_leases", tag = "leases", request_body = LeaseSync,
    responses((status = 200, body = LeaseSyncAnswer), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn sync(
    State(service): App,
    call: Call,
    Input(sync): Input<LeaseSync, LARGE>,
) -> Result<Output<LeaseSyncAnswer>, ServiceError> {
    Ok(Output(service.sync_leases(&call, sync).await?))
}

/// Leases, newest first.
#[utoipa::path(get, path = "/v1/admin/leases", operation_id = "leases", tag = "leases", params(LeaseQuery),
    responses((status = 200, body = Vec<LeaseRecord>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(service): App,
    call: Call,
    Asked(query): Asked<LeaseQuery>,
) -> Result<Output<Vec<LeaseRecord>>, ServiceError> {
    Ok(Output(service.leases(&call, query.try_into()?).await?))
}

/// Issues a lease that nobody asked for.
#[utoipa::path(post, path = "/v1/admin/leases", operation_id = "issue_lease", tag = "leases", request_body = LeaseIssue,
    responses((status = 201, body = LeaseRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn issue(
    State(service): App,
    call: Call,
    Input(issue): Input<LeaseIssue, LARGE>,
) -> Result<(StatusCode, Output<LeaseRecord>), ServiceError> {
    Ok((StatusCode::CREATED, Output(service.issue_lease(&call, issue).await?)))
}

/// The ledger of what was taken along.
#[utoipa::path(get, path = "/v1/admin/leases/ledger", operation_id = "lease_ledger", tag = "leases", params(LeaseQuery),
    responses((status = 200, body = Vec<LedgerEntry>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn ledger(
    State(service): App,
    call: Call,
    Asked(query): Asked<LeaseQuery>,
) -> Result<Output<Vec<LedgerEntry>>, ServiceError> {
    Ok(Output(service.lease_ledger(&call, query.try_into()?).await?))
}

/// One lease with its files.
#[utoipa::path(get, path = "/v1/admin/leases/{id}", operation_id = "lease", tag = "leases", params(("id" = String, Path)),
    responses((status = 200, body = LeaseRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn find(
    State(service): App,
    call: Call,
    Id(id): Id<LeaseId>,
) -> Result<Output<LeaseRecord>, ServiceError> {
    Ok(Output(service.lease(&call, id).await?))
}

/// Issues a lease that was asked for.
#[utoipa::path(post, path = "/v1/admin/leases/{id}/approve", operation_id = "approve_lease", tag = "leases", params(("id" = String, Path)),
    responses((status = 200, body = LeaseRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn approve(
    State(service): App,
    call: Call,
    Id(id): Id<LeaseId>,
) -> Result<Output<LeaseRecord>, ServiceError> {
    Ok(Output(service.approve_lease(&call, id).await?))
}

/// Refuses a lease that was asked for.
#[utoipa::path(post, path = "/v1/admin/leases/{id}/refuse", operation_id = "refuse_lease", tag = "leases", params(("id" = String, Path)),
    request_body = LeaseEnding,
    responses((status = 200, body = LeaseRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn refuse(
    State(service): App,
    call: Call,
    Id(id): Id<LeaseId>,
    Input(ending): Input<LeaseEnding>,
) -> Result<Output<LeaseRecord>, ServiceError> {
    Ok(Output(service.refuse_lease(&call, id, ending).await?))
}

/// Takes an issued lease back.
#[utoipa::path(post, path = "/v1/admin/leases/{id}/revoke", operation_id = "revoke_lease", tag = "leases", params(("id" = String, Path)),
    request_body = LeaseEnding,
    responses((status = 200, body = LeaseRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(service): App,
    call: Call,
    Id(id): Id<LeaseId>,
    Input(ending): Input<LeaseEnding>,
) -> Result<Output<LeaseRecord>, ServiceError> {
    Ok(Output(service.revoke_lease(&call, id, ending).await?))
}

//! What terminals ask: enrolment, sessions, bulletin, decisions, grants.

use super::call::{Asked, Input, LARGE, Output};
use crate::service::{Call, Known, LONGEST_WAIT, Service, ServiceError};
use axum::extract::State;
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use tobari_core::proto::api::{
    AssertRequest, Changes, DecisionResponse, EnrolRequest, EnrolResponse, GrantRequest, GrantResponse,
    LoginRequest, LoginResponse, RenewRequest, RenewResponse, Session,
};
use tobari_core::proto::bulletin::SignedBulletin;
use tobari_core::proto::problem::Problem;
use tobari_core::proto::terminal::TerminalReport;

type App = State<Arc<Service>>;

/// Enrols a terminal with a one-time token; the only request without a client certificate.
#[utoipa::path(post, path = "/v1/terminals/enrol", tag = "terminals", request_body = EnrolRequest,
    responses((status = 201, body = EnrolResponse), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn enrol(
    State(service): App,
    call: Call,
    Input(request): Input<EnrolRequest>,
) -> Result<(StatusCode, Output<EnrolResponse>), ServiceError> {
    Ok((StatusCode::CREATED, Output(service.enrol(&call, request).await?)))
}

/// A certificate for a new key of the calling terminal.
#[utoipa::path(post, path = "/v1/terminals/renew", tag = "terminals", request_body = RenewRequest,
    responses((status = 201, body = RenewResponse), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn renew(
    State(service): App,
    call: Call,
    Input(request): Input<RenewRequest>,
) -> Result<(StatusCode, Output<RenewResponse>), ServiceError> {
    Ok((StatusCode::CREATED, Output(service.renew(&call, request).await?)))
}

/// What the calling terminal says of itself: version, how it keeps its keys, how much of its folders is sealed.
#[utoipa::path(post, path = "/v1/terminals/report", tag = "terminals", request_body = TerminalReport,
    responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn report(
    State(service): App,
    call: Call,
    Input(report): Input<TerminalReport>,
) -> Result<StatusCode, ServiceError> {
    service.report(&call, report).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Logs a person in on the calling terminal.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", request_body = LoginRequest,
    responses((status = 201, body = LoginResponse), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn login(
    State(service): App,
    call: Call,
    Input(request): Input<LoginRequest>,
) -> Result<(StatusCode, Output<LoginResponse>), ServiceError> {
    let result = service.login(&call, request).await;
    let outcome = match &result {
        Ok(_) => "accepted",
        Err(error) => super::problem::code_name(error.code()),
    };
    metrics::counter!("tobari_logins_total", "outcome" => outcome).increment(1);
    Ok((StatusCode::CREATED, Output(result?)))
}

/// A gateway speaks for a person whom its share authenticated: a session without a password, with the person's rights.
#[utoipa::path(post, path = "/v1/assertions", tag = "sessions", request_body = AssertRequest,
    responses((status = 201, body = LoginResponse), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn assert(
    State(service): App,
    call: Call,
    Input(request): Input<AssertRequest>,
) -> Result<(StatusCode, Output<LoginResponse>), ServiceError> {
    Ok((StatusCode::CREATED, Output(service.assert(&call, request).await?)))
}

/// The session of the bearer token.
#[utoipa::path(get, path = "/v1/sessions/current", tag = "sessions",
    responses((status = 200, body = Session), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn session(State(service): App, call: Call) -> Result<Output<Session>, ServiceError> {
    Ok(Output(service.current_session(&call).await?))
}

/// Logs out.
#[utoipa::path(delete, path = "/v1/sessions/current", tag = "sessions",
    responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn logout(State(service): App, call: Call) -> Result<StatusCode, ServiceError> {
    service.logout(&call).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The signed bulletin; its entity tag is its number.
#[utoipa::path(get, path = "/v1/bulletin", tag = "terminals",
    params(("If-None-Match" = Option<String>, Header, description = "the entity tag of the bulletin that the terminal has")),
    responses((status = 200, body = SignedBulletin), (status = 304), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn bulletin(
    State(service): App,
    call: Call,
    headers: HeaderMap,
) -> Result<Response, ServiceError> {
    let (number, bulletin) = service.bulletin(&call).await?;
    let tag = format!("\"{number}\"");
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(',').any(|known| known.trim().trim_start_matches("W/") == tag || known.trim() == "*")
    });
    let mut response =
        if known { StatusCode::NOT_MODIFIED.into_response() } else { Output(bulletin).into_response() };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    bulletin: u64,
    #[serde(default = "longest")]
    wait: u32,
}

fn longest() -> u32 {
    LONGEST_WAIT
}

/// Waits until something has changed that concerns the calling terminal.
#[utoipa::path(get, path = "/v1/changes", tag = "terminals",
    params(
        ("after" = Option<u64>, Query, description = "the version of the last answer; 0 or none: the terminal knows nothing"),
        ("bulletin" = Option<u64>, Query, description = "the number of the bulletin in force"),
        ("wait" = Option<u32>, Query, description = "how long the answer may be held back, in seconds; at most and by default 55"),
    ),
    responses((status = 200, body = Changes), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn changes(
    State(service): App,
    call: Call,
    Asked(query): Asked<ChangesQuery>,
) -> Result<Output<Changes>, ServiceError> {
    let ChangesQuery { after, bulletin, wait } = query;
    Ok(Output(service.changes(&call, Known { after, bulletin, wait }).await?))
}

/// What the person may do with files, without any key.
#[utoipa::path(post, path = "/v1/decisions", tag = "grants", request_body = GrantRequest,
    responses((status = 200, body = DecisionResponse), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn decisions(
    State(service): App,
    call: Call,
    Input(request): Input<GrantRequest, LARGE>,
) -> Result<Output<DecisionResponse>, ServiceError> {
    Ok(Output(service.decisions(&call, request).await?))
}

/// Decides on files, records, and releases their keys to the calling terminal.
#[utoipa::path(post, path = "/v1/grants", tag = "grants", request_body = GrantRequest,
    responses((status = 200, body = GrantResponse), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn grants(
    State(service): App,
    call: Call,
    Input(request): Input<GrantRequest, LARGE>,
) -> Result<Output<GrantResponse>, ServiceError> {
    Ok(Output(service.grants(&call, request).await?))
}

//! Routes and what surrounds each request: request id, deadline, metrics, problems.

use super::problem::Failure;
use super::{admin, meta, terminals};
use crate::service::{LONGEST_WAIT, Service, ServiceError};
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tobari_core::ids::RequestId;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A request that takes longer is answered as failed; what it began is finished all the same.
const DEADLINE: Duration = Duration::from_secs(30);
/// What may hold its answer back.
const WAITS: &str = "/v1/changes";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(meta::Document::openapi())
        .routes(routes!(terminals::enrol))
        .routes(routes!(terminals::renew))
        .routes(routes!(terminals::login))
        .routes(routes!(terminals::assert))
        .routes(routes!(terminals::session, terminals::logout))
        .routes(routes!(terminals::bulletin))
        .routes(routes!(terminals::changes))
        .routes(routes!(terminals::decisions))
        .routes(routes!(terminals::grants))
        .routes(routes!(admin::labels::list, admin::create_label))
        .routes(routes!(admin::labels::find, admin::labels::replace, admin::labels::delete))
        .routes(routes!(admin::rotate_label))
        .routes(routes!(admin::groups::list, admin::create_group))
        .routes(routes!(admin::groups::find, admin::groups::replace, admin::groups::delete))
        .routes(routes!(admin::posts::list, admin::create_post))
        .routes(routes!(admin::posts::find, admin::posts::replace, admin::posts::delete))
        .routes(routes!(admin::people::list, admin::create_person))
        .routes(routes!(admin::people::find, admin::people::replace, admin::people::delete))
        .routes(routes!(admin::rules::list, admin::create_rule))
        .routes(routes!(admin::rules::find, admin::rules::replace, admin::rules::delete))
        .routes(routes!(admin::folders::list, admin::create_folder))
        .routes(routes!(admin::folders::find, admin::folders::replace, admin::folders::delete))
        .routes(routes!(admin::terminals::list))
        .routes(routes!(admin::terminals::find, admin::terminals::replace, admin::terminals::delete))
        .routes(routes!(admin::create_enrolment_token))
        .routes(routes!(admin::revocations, admin::revoke))
        .routes(routes!(admin::lift_revocation))
        .routes(routes!(admin::apply_preset))
        .routes(routes!(admin::audit))
        .routes(routes!(admin::verify_audit))
        .routes(routes!(admin::search_audit))
        .routes(routes!(admin::audit_checkpoint))
        .routes(routes!(meta::healthz))
        .routes(routes!(meta::readyz))
        .routes(routes!(meta::metrics))
        .routes(routes!(meta::openapi))
}

pub(super) fn document() -> utoipa::openapi::OpenApi {
    routes().split_for_parts().1
}

pub(super) fn router(service: Arc<Service>) -> Router {
    meta::prometheus();
    let (router, _) = routes().split_for_parts();
    router
        .fallback(async || ServiceError::NotFound("path"))
        .method_not_allowed_fallback(async || {
            ServiceError::invalid("method", "this path does not take this method")
        })
        .layer(from_fn(surround))
        .with_state(service)
}

async fn surround(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::generate();
    request.extensions_mut().insert(id);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();

    // A task of its own: a caller that goes away, or the deadline, must not stop an act between its record
    // and its effect. A panic ends the task, not the connection.
    let waits = route.as_deref() == Some(WAITS);
    let deadline = if waits { DEADLINE + Duration::from_secs(LONGEST_WAIT.into()) } else { DEADLINE };
    let answer = tokio::time::timeout(deadline, tokio::spawn(next.run(request))).await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => ServiceError::Internal(error.to_string()).into_response(),
        Err(_) => ServiceError::TimedOut.into_response(),
    };
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = failure.respond(id);
    }
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let elapsed = started.elapsed();
    tracing::debug!(
        request = %id, %method, route = route.as_deref().unwrap_or("-"), status = response.status().as_u16(),
        microseconds = elapsed.as_micros(), "request"
    );
    if let Some(route) = route.filter(|_| !waits) {
        let status = match response.status().as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        metrics::histogram!("tobari_request_seconds", "route" => route, "status" => status).record(elapsed);
    }
    response
}

//! Routes and what surrounds each request: request id, deadline, metrics, problems.

use super::call::{LARGE, read};
use super::problem::Failure;
use super::{admin, leases, meta, terminals};
use crate::service::{Admitted, Call, Kind, LONGEST_WAIT, Service, ServiceError};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequestParts as _, MatchedPath, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tobari_core::ids::RequestId;
use tobari_core::proto::admin::is_change;
use utoipa::OpenApi as _;
use utoipa::openapi::{RefOr, Schema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A request that takes longer is answered as failed; what it began is finished all the same.
const DEADLINE: Duration = Duration::from_secs(30);
/// The same for what an administrator does or compares: a change of the policy decides on all leases that are out. Whoever waits for
/// it is one of few, and better told late than wrongly.
const ADMINISTRATION_DEADLINE: Duration = Duration::from_secs(600);
/// A body that takes longer to come is not waited for.
const BODY: Duration = Duration::from_secs(20);
/// What is asked without a certificate.
const ENROLS: &str = "/v1/terminals/enrol";
/// What may hold its answer back.
const WAITS: &str = "/v1/changes";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(meta::Document::openapi())
        .routes(routes!(terminals::enrol))
        .routes(routes!(terminals::renew))
        .routes(routes!(terminals::report))
        .routes(routes!(terminals::login))
        .routes(routes!(terminals::assert))
        .routes(routes!(terminals::session, terminals::logout))
        .routes(routes!(terminals::bulletin))
        .routes(routes!(terminals::changes))
        .routes(routes!(terminals::decisions))
        .routes(routes!(terminals::grants))
        .routes(routes!(leases::own, leases::request))
        .routes(routes!(leases::refill))
        .routes(routes!(leases::sync))
        .routes(routes!(leases::list, leases::issue))
        .routes(routes!(leases::ledger))
        .routes(routes!(leases::find))
        .routes(routes!(leases::approve))
        .routes(routes!(leases::refuse))
        .routes(routes!(leases::revoke))
        .routes(routes!(admin::labels::list, admin::create_label))
        .routes(routes!(admin::labels::find, admin::labels::replace, admin::labels::delete))
        .routes(routes!(admin::rotate_label))
        .routes(routes!(admin::retire_label_key))
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
        .routes(routes!(admin::freeze_terminal))
        .routes(routes!(admin::unfreeze_terminal))
        .routes(routes!(admin::create_enrolment_token))
        .routes(routes!(admin::revocations, admin::revoke))
        .routes(routes!(admin::lift_revocation))
        .routes(routes!(admin::apply_preset))
        .routes(routes!(admin::invariants::list, admin::create_invariant))
        .routes(routes!(admin::invariants::find, admin::invariants::replace, admin::invariants::delete))
        .routes(routes!(admin::explain))
        .routes(routes!(admin::policy_status))
        .routes(routes!(admin::policy_diff))
        .routes(routes!(admin::make_change))
        .routes(routes!(admin::policy_versions))
        .routes(routes!(admin::policy_at))
        .routes(routes!(admin::step_up))
        .routes(routes!(admin::change_requests, admin::create_request))
        .routes(routes!(admin::change_request))
        .routes(routes!(admin::approve_request))
        .routes(routes!(admin::refuse_request))
        .routes(routes!(admin::apply_request))
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
    let mut document = routes().split_for_parts().1;
    if let Some(components) = &mut document.components {
        open_parts(&mut components.schemas);
    }
    document
}

/// What an answer has as a part of it must not forbid the other parts, though as a request it takes nothing else.
fn open_parts(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    let mut parts = Vec::new();
    for schema in schemas.values() {
        if let RefOr::T(Schema::AllOf(all)) = schema {
            parts.extend(all.items.iter().filter_map(|item| match item {
                RefOr::Ref(part) => part.ref_location.rsplit('/').next().map(str::to_owned),
                RefOr::T(_) => None,
            }));
        }
    }
    for part in parts {
        if let Some(RefOr::T(Schema::Object(object))) = schemas.get_mut(&part) {
            object.additional_properties = None;
        }
    }
}

pub(super) fn router(service: Arc<Service>) -> Router {
    meta::prometheus();
    let (router, _) = routes().split_for_parts();
    router
        .fallback(async || ServiceError::NotFound("path"))
        .method_not_allowed_fallback(async || {
            ServiceError::invalid("method", "this path does not take this method")
        })
        .layer(from_fn_with_state(Arc::clone(&service), surround))
        .with_state(service)
}

/// What a request is about, by its path as it came: an unknown one costs what others cost.
fn kind(path: &str) -> Kind {
    if path.starts_with("/v1/admin/") {
        Kind::Administration
    } else if path == "/v1/grants" {
        Kind::Files
    } else if matches!(path, "/v1/decisions" | "/v1/bulletin") {
        Kind::News
    } else {
        Kind::Other
    }
}

/// Lets a request's body come and the request in, or not. Health and metrics are for operators, and are asked when all is full.
async fn admit(service: &Service, request: Request) -> Result<(Request, Option<Admitted>), ServiceError> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path();
    if !path.starts_with("/v1/") || path == WAITS {
        return Ok((Request::from_parts(parts, body), None));
    }
    let (kind, enrols) = (kind(path), path == ENROLS);
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // One that does not say how long it is may be as long as any.
    let length = length.unwrap_or(if body.is_end_stream() { 0 } else { LARGE as u64 });
    let Ok(call) = Call::from_request_parts(&mut parts, &()).await else {
        // The route says what is wrong with it, and reads nothing.
        return Ok((Request::from_parts(parts, Body::empty()), None));
    };
    let knocked = service.knock(&call, kind, enrols, length)?;
    // Of one that is too long for every route the route says so.
    let body = if length > LARGE as u64 { body } else { Body::from(arrived(body).await?) };
    let length = body.size_hint().exact().unwrap_or(0);
    let admitted = service.admit(knocked, length)?;
    Ok((Request::from_parts(parts, body), Some(admitted)))
}

/// All of a body.
async fn arrived(body: Body) -> Result<Bytes, ServiceError> {
    match tokio::time::timeout(BODY, read(body, LARGE)).await {
        Ok(bytes) => bytes,
        Err(_) => {
            Err(ServiceError::invalid("body", format!("did not come within {} seconds", BODY.as_secs())))
        }
    }
}

/// How long a request may take, and what it is answered then.
fn deadline(method: &Method, path: &str, waits: bool) -> (Duration, ServiceError) {
    if waits {
        return (DEADLINE + Duration::from_secs(LONGEST_WAIT.into()), ServiceError::TimedOut);
    }
    if is_change(method.as_str(), path) {
        return (ADMINISTRATION_DEADLINE, ServiceError::OutcomeUnknown);
    }
    let asks = *method != Method::GET && path.starts_with("/v1/admin/");
    (if asks { ADMINISTRATION_DEADLINE } else { DEADLINE }, ServiceError::TimedOut)
}

async fn surround(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::generate();
    request.extensions_mut().insert(id);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();

    // A task of its own: a caller that goes away, or the deadline, must not stop an act between its record
    // and its effect. A panic ends the task, not the connection.
    let waits = route.as_deref() == Some(WAITS);
    let (deadline, too_late) = deadline(&method, request.uri().path(), waits);
    let answer = match admit(&service, request).await {
        // The place is held until the work is done, which may be later than the answer.
        Ok((request, place)) => {
            let work = async move {
                let response = next.run(request).await;
                drop(place);
                response
            };
            tokio::time::timeout(deadline, tokio::spawn(work)).await
        }
        Err(error) => {
            service.before_refusal().await;
            Ok(Ok(error.into_response()))
        }
    };
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => ServiceError::Internal(error.to_string()).into_response(),
        Err(_) => too_late.into_response(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use tobari_core::proto::problem::ProblemCode;

    #[test]
    fn a_change_of_the_administration_has_time_and_is_never_said_not_to_have_been_made() {
        for (method, path, seconds, code) in [
            (Method::PUT, "/v1/admin/rules/x", 600, ProblemCode::OutcomeUnknown),
            (Method::POST, "/v1/admin/policy/changes", 600, ProblemCode::OutcomeUnknown),
            (Method::DELETE, "/v1/admin/people/x?y", 600, ProblemCode::OutcomeUnknown),
            (Method::POST, "/v1/admin/policy/diff", 600, ProblemCode::StoreUnavailable),
            (Method::POST, "/v1/admin/explain", 600, ProblemCode::StoreUnavailable),
            (Method::GET, "/v1/admin/people", 30, ProblemCode::StoreUnavailable),
            (Method::POST, "/v1/grants", 30, ProblemCode::StoreUnavailable),
        ] {
            let (time, error) = deadline(&method, path, false);
            assert_eq!((time.as_secs(), error.code()), (seconds, code), "{method} {path}");
        }
        assert_eq!(deadline(&Method::GET, WAITS, true).0.as_secs(), 85);
    }
}

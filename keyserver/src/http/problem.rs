//! Errors as RFC 9457 problems: the one place where a status code is picked.

use crate::service::ServiceError;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tobari_core::ids::RequestId;
use tobari_core::proto::problem::{Problem, ProblemCode};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Status, code as text and title.
fn kind(code: ProblemCode) -> (StatusCode, &'static str, &'static str) {
    match code {
        ProblemCode::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid-request", "Invalid request"),
        ProblemCode::UnreadableEnvelope => {
            (StatusCode::BAD_REQUEST, "unreadable-envelope", "Unreadable envelope")
        }
        ProblemCode::BadCredentials => (StatusCode::UNAUTHORIZED, "bad-credentials", "Bad credentials"),
        ProblemCode::NotLoggedIn => (StatusCode::UNAUTHORIZED, "not-logged-in", "Not logged in"),
        ProblemCode::TerminalNotAccepted => {
            (StatusCode::UNAUTHORIZED, "terminal-not-accepted", "Terminal not accepted")
        }
        ProblemCode::TerminalFrozen => (StatusCode::FORBIDDEN, "terminal-frozen", "Terminal frozen"),
        ProblemCode::Revoked => (StatusCode::FORBIDDEN, "revoked", "Revoked"),
        ProblemCode::KeyRetired => (StatusCode::FORBIDDEN, "key-retired", "Key retired"),
        ProblemCode::BadEnrolmentToken => {
            (StatusCode::UNAUTHORIZED, "bad-enrolment-token", "Bad enrolment token")
        }
        ProblemCode::NotAdministrator => (StatusCode::FORBIDDEN, "not-administrator", "Not an administrator"),
        ProblemCode::NotGateway => (StatusCode::FORBIDDEN, "not-gateway", "Not a gateway"),
        ProblemCode::SecondPersonNeeded => {
            (StatusCode::FORBIDDEN, "second-person-needed", "Second person needed")
        }
        ProblemCode::StepUpNeeded => (StatusCode::FORBIDDEN, "step-up-needed", "Fresh second factor needed"),
        ProblemCode::InvariantBroken => (StatusCode::CONFLICT, "invariant-broken", "Invariant broken"),
        ProblemCode::RightRefused => (StatusCode::FORBIDDEN, "right-refused", "Right refused"),
        ProblemCode::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
        ProblemCode::Conflict => (StatusCode::CONFLICT, "conflict", "Conflict"),
        ProblemCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
        ProblemCode::LockedOut => (StatusCode::TOO_MANY_REQUESTS, "locked-out", "Locked out"),
        ProblemCode::TooManyRequests => {
            (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
        }
        ProblemCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        ProblemCode::AuditUnavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", "Audit log unavailable")
        }
        ProblemCode::StoreUnavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", "Store unavailable")
        }
        ProblemCode::OutcomeUnknown => (StatusCode::GATEWAY_TIMEOUT, "outcome-unknown", "Outcome unknown"),
        ProblemCode::CertificateExpired => {
            (StatusCode::UNAUTHORIZED, "certificate-expired", "Certificate expired")
        }
        // Made by the daemon; here for completeness of the mapping.
        ProblemCode::KeyServerUnreachable => {
            (StatusCode::BAD_GATEWAY, "key-server-unreachable", "Key server unreachable")
        }
        ProblemCode::NotConfigured => (StatusCode::BAD_REQUEST, "not-configured", "Not configured"),
        ProblemCode::CorruptEnvelope => (StatusCode::BAD_REQUEST, "corrupt-envelope", "Corrupt envelope"),
        ProblemCode::LeaseRefused => (StatusCode::FORBIDDEN, "lease-refused", "Lease refused"),
        ProblemCode::LocalIo => {
            (StatusCode::INTERNAL_SERVER_ERROR, "local-io", "Local input or output failed")
        }
    }
}

/// The code as it is written in JSON.
pub(crate) fn code_name(code: ProblemCode) -> &'static str {
    kind(code).1
}

/// What an error response carries until the request id is put in.
#[derive(Clone)]
pub(super) struct Failure {
    problem: Problem,
    /// For the log alone.
    cause: Option<String>,
}

impl Failure {
    /// The problem without its request id, and what the log says.
    fn new(error: &ServiceError) -> Self {
        let code = error.code();
        let (status, name, title) = kind(code);
        let (detail, field, retry_after_seconds, cause) = match error {
            ServiceError::Invalid { field, detail }
            | ServiceError::Conflict { field, detail }
            | ServiceError::RightRefused { field, detail } => {
                (format!("{field}: {detail}"), Some(field.clone()), None, None)
            }
            ServiceError::InvariantBroken { name, .. } => (error.to_string(), Some(name.clone()), None, None),
            ServiceError::NotFound(kind) => (error.to_string(), Some((*kind).to_owned()), None, None),
            ServiceError::LockedOut { retry_after_seconds } => {
                (error.to_string(), None, Some(*retry_after_seconds), None)
            }
            ServiceError::TooManyRequests => (error.to_string(), None, Some(1), None),
            ServiceError::Moved => (error.to_string(), Some(String::from("request")), Some(1), None),
            ServiceError::TooLarge(_)
            | ServiceError::BadCredentials
            | ServiceError::NotLoggedIn
            | ServiceError::TerminalNotAccepted(_)
            | ServiceError::TerminalFrozen
            | ServiceError::CertificateExpired(_)
            | ServiceError::BadEnrolmentToken
            | ServiceError::NotAdministrator(_)
            | ServiceError::NotGateway
            | ServiceError::SecondPersonNeeded
            | ServiceError::StepUpNeeded
            | ServiceError::OutcomeUnknown => (error.to_string(), None, None, None),
            // Where the witness is, is for the log.
            ServiceError::WitnessAway(_) => (
                String::from("a witness has not seen the audit log for too long, so nothing is released"),
                None,
                Some(5),
                Some(error.to_string()),
            ),
            ServiceError::AuditUnavailable | ServiceError::TimedOut | ServiceError::StoreUnavailable(_) => {
                (error.to_string(), None, Some(5), Some(crate::Causes(error).to_string()))
            }
            // What broke is for the log; the requester gets the request id to name it by.
            ServiceError::Internal(_) | ServiceError::WrongRootKey(_) | ServiceError::AuditNotIntact(_) => (
                String::from("internal error; the server's log has the request id"),
                None,
                None,
                Some(error.to_string()),
            ),
        };
        let problem = Problem {
            kind: format!("/problems/{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            code,
            detail,
            request_id: None,
            field,
            retry_after_seconds,
        };
        Self { problem, cause }
    }

    /// The response, with the request id in it.
    pub(super) fn respond(mut self, request: RequestId) -> Response {
        if let Some(cause) = &self.cause {
            tracing::error!(%request, code = code_name(self.problem.code), cause, "request failed");
        }
        self.problem.request_id = Some(request);
        let (status, ..) = kind(self.problem.code);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if let Some(seconds) = self.problem.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.problem.code == ProblemCode::NotLoggedIn {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let failure = Failure::new(&self);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = kind(failure.problem.code).0;
        response.extensions_mut().insert(failure);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_written_as_serde_writes_it() {
        for code in [
            ProblemCode::InvalidRequest,
            ProblemCode::UnreadableEnvelope,
            ProblemCode::BadCredentials,
            ProblemCode::NotLoggedIn,
            ProblemCode::TerminalNotAccepted,
            ProblemCode::TerminalFrozen,
            ProblemCode::Revoked,
            ProblemCode::KeyRetired,
            ProblemCode::CertificateExpired,
            ProblemCode::BadEnrolmentToken,
            ProblemCode::NotAdministrator,
            ProblemCode::NotGateway,
            ProblemCode::SecondPersonNeeded,
            ProblemCode::StepUpNeeded,
            ProblemCode::InvariantBroken,
            ProblemCode::RightRefused,
            ProblemCode::NotFound,
            ProblemCode::Conflict,
            ProblemCode::TooLarge,
            ProblemCode::LockedOut,
            ProblemCode::TooManyRequests,
            ProblemCode::Internal,
            ProblemCode::AuditUnavailable,
            ProblemCode::StoreUnavailable,
            ProblemCode::OutcomeUnknown,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), code_name(code));
        }
    }
}

//! Extractors: who calls, and bodies, paths and queries whose faults become problems that name the field.

use crate::service::{Bearer, Call, Peer, ServiceError};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use tobari_core::ids::RequestId;
use zeroize::Zeroizing;

/// Largest body of most requests.
pub(super) const SMALL: usize = 256 * 1024;
/// Largest body of a batch of headers.
pub(super) const LARGE: usize = 8 * 1024 * 1024;

impl<S: Send + Sync> FromRequestParts<S> for Call {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ServiceError> {
        let bearer = match parts.headers.get(AUTHORIZATION).map(|value| value.to_str()) {
            None => None,
            Some(Ok(value)) => match value.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                    Some(Bearer(Zeroizing::new(token.trim().to_owned())))
                }
                _ => return Err(ServiceError::invalid("Authorization", "must be 'Bearer TOKEN'")),
            },
            Some(Err(_)) => return Err(ServiceError::invalid("Authorization", "must be 'Bearer TOKEN'")),
        };
        let request = parts.extensions.get::<RequestId>().copied().unwrap_or_else(RequestId::generate);
        Ok(Self { request, peer: parts.extensions.get::<Peer>().copied(), bearer })
    }
}

/// A JSON body of at most `LIMIT` bytes.
pub(super) struct Input<T, const LIMIT: usize = SMALL>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync, const LIMIT: usize> FromRequest<S> for Input<T, LIMIT> {
    type Rejection = ServiceError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ServiceError> {
        let json =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value
                    .split(';')
                    .next()
                    .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
            });
        if !json {
            return Err(ServiceError::invalid("Content-Type", "must be application/json"));
        }
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if announced.and_then(|value| value.parse::<u64>().ok()).is_some_and(|length| length > LIMIT as u64) {
            return Err(too_large(LIMIT));
        }
        let bytes = read(request.into_body(), LIMIT).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|_| name_fault::<T>(&bytes))
    }
}

/// All of a body of at most `limit` bytes.
pub(super) async fn read(body: Body, limit: usize) -> Result<Bytes, ServiceError> {
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        if source.contains("length limit") {
            too_large(limit)
        } else {
            ServiceError::invalid("body", "the connection broke off in the body")
        }
    })
}

fn too_large(limit: usize) -> ServiceError {
    ServiceError::TooLarge(format!("the body of this request has at most {limit} bytes"))
}

/// Reads again, slower, to say which field is at fault.
fn name_fault<T: DeserializeOwned>(bytes: &[u8]) -> ServiceError {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Ok(_) => ServiceError::invalid("body", "has something after its end"),
        Err(error) => {
            let path = error.path().to_string();
            // "." is the whole, "?" what could not even be entered.
            let field = if matches!(path.as_str(), "." | "?") { String::from("body") } else { path };
            ServiceError::invalid(field, error.into_inner().to_string())
        }
    }
}

/// The identifier in the path.
pub(super) struct Id<T>(pub(super) T);

impl<T: FromStr<Err: std::fmt::Display>, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ServiceError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ServiceError::invalid("id", "not readable"))?;
        text.parse().map(Self).map_err(|error: T::Err| ServiceError::invalid("id", error.to_string()))
    }
}

/// The query.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ServiceError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ServiceError::invalid("query", rejection.body_text())),
        }
    }
}

/// A JSON answer that no cache keeps.
pub(super) struct Output<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Output<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => {
                let mut response = Response::new(Body::from(bytes));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
                headers.insert(
                    axum::http::header::CACHE_CONTROL,
                    axum::http::HeaderValue::from_static("no-store"),
                );
                response
            }
            Err(error) => ServiceError::Internal(error.to_string()).into_response(),
        }
    }
}

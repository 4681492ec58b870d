//! Health, metrics and the OpenAPI document.

use super::call::Output;
use crate::service::{Service, ServiceError};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use std::sync::{Arc, OnceLock};
use utoipa::OpenApi;

/// The process's metrics: one recorder, whoever asks.
pub(super) fn prometheus() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            const LATENCIES: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
            PrometheusBuilder::new()
                .set_buckets(&LATENCIES)
                .ok()?
                .install_recorder()
                .inspect_err(|error| tracing::warn!(%error, "metrics are not available"))
                .ok()
        })
        .as_ref()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tobari key server",
        description = "Decides each opening of a sealed file, records it, and releases its key. docs/spec/api.md is normative."
    ),
    tags(
        (name = "terminals", description = "Enrolment and bulletin"),
        (name = "sessions", description = "Logging in and out"),
        (name = "grants", description = "Decisions and keys"),
        (name = "administration", description = "Labels, groups, posts, people, rules, folders, terminals"),
        (name = "policy", description = "Explaining, comparing, versions, and changes that need a second person"),
        (name = "audit", description = "The audit log"),
        (name = "health", description = "For operators")
    )
)]
pub(super) struct Document;

/// The OpenAPI document as JSON.
pub fn openapi_json() -> String {
    super::routes::document().to_pretty_json().unwrap_or_default()
}

#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    status: &'static str,
}

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Output<Health> {
    Output(Health { status: "ok" })
}

/// The store can be read and the audit log can be written.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = Health), (status = "default", body = tobari_core::proto::problem::Problem, content_type = "application/problem+json")))]
pub(super) async fn readyz(State(service): State<Arc<Service>>) -> Result<Output<Health>, ServiceError> {
    service.ready().await?;
    Ok(Output(Health { status: "ready" }))
}

/// Counts and latencies in the Prometheus text format; no names, no identifiers.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics() -> impl IntoResponse {
    let text = prometheus().map(PrometheusHandle::render).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    ([(CONTENT_TYPE, "application/json")], TEXT.get_or_init(openapi_json).as_str())
}

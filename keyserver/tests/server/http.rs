//! What surrounds the service: unknown paths and methods, malformed bodies, health, metrics, fail closed.

use crate::support::Site;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tobari_core::proto::problem::ProblemCode;

#[tokio::test]
async fn every_answer_that_is_not_success_is_a_problem() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    for path in ["/", "/v2/grants", "/v1/grants/", "/v1/admin"] {
        let problem = terminal.get(path, None).await.refused(ProblemCode::NotFound);
        assert_eq!(problem.field.as_deref(), Some("path"));
    }
    let request = terminal.request(Method::PATCH, "/v1/admin/groups", Some(&admin));
    terminal.send(request).await.refused(ProblemCode::InvalidRequest);

    let post = |body: &'static str, kind: &'static str| {
        terminal.request(Method::POST, "/v1/sessions", None).header("content-type", kind).body(body)
    };
    for (body, kind, field) in [
        ("{}", "text/plain", "Content-Type"),
        ("{", "application/json", "body"),
        ("[]", "application/json", "body"),
        (r#"{"login":"a","password":"b"} x"#, "application/json; charset=utf-8", "body"),
        (r#"{"login":1,"password":"b"}"#, "application/json", "login"),
        (r#"{"login":"a","password":"b","pin":1}"#, "application/json", "pin"),
        ("\u{ff}", "application/json", "body"),
    ] {
        let problem = terminal.send(post(body, kind)).await.refused(ProblemCode::InvalidRequest);
        assert_eq!(problem.field.as_deref(), Some(field), "{body}: {}", problem.detail);
    }
    let large = "x".repeat(300 * 1024);
    let body = json!({ "login": large, "password": "b" });
    terminal.post("/v1/sessions", None, &body).await.refused(ProblemCode::TooLarge);
    let long = json!({ "login": "x".repeat(300), "password": "b" });
    terminal.post("/v1/sessions", None, &long).await.refused(ProblemCode::InvalidRequest);

    for authorization in ["Basic abc", "Bearer", "é"] {
        let request = terminal
            .request(Method::GET, "/v1/sessions/current", None)
            .header("authorization", authorization.as_bytes());
        terminal.send(request).await.refused(ProblemCode::InvalidRequest);
    }
}

#[tokio::test]
async fn health_needs_no_certificate() {
    let site = Site::start().await;
    let stranger = site.stranger();
    assert_eq!(stranger.get("/healthz", None).await.ok().body, json!({ "status": "ok" }));
    assert_eq!(stranger.get("/readyz", None).await.ok().body, json!({ "status": "ready" }));
    site.store.reads_fail.store(true, Ordering::SeqCst);
    stranger.get("/readyz", None).await.refused(ProblemCode::StoreUnavailable);
    assert_eq!(stranger.get("/healthz", None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_count_and_name_nobody() {
    let site = Site::start().await;
    let (terminal, _) = site.first().await;
    terminal.try_login("himitsu-no-namae", "wrong-password", None).await.refused(ProblemCode::BadCredentials);
    let text = terminal.get("/metrics", None).await.ok().text;
    assert!(text.contains("tobari_logins_total"), "{text}");
    assert!(text.contains("tobari_request_seconds_bucket"), "{text}");
    assert!(!text.contains("himitsu") && !text.contains(&terminal.id.to_string()));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_lets_nobody_in() {
    let site = Site::start().await;
    let (terminal, _) = site.first().await;
    site.store.reads_fail.store(true, Ordering::SeqCst);
    let problem = terminal
        .try_login("admin", &crate::support::password("admin"), None)
        .await
        .refused(ProblemCode::StoreUnavailable);
    assert_eq!(problem.status, 503);
    assert!(!problem.detail.contains("storage"), "the cause is for the log");
}

#[tokio::test]
async fn answers_are_kept_by_no_cache() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    let answer = terminal.get("/v1/admin/people", Some(&admin)).await.ok();
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.headers.contains_key("x-request-id"));
    let text = answer.text;
    assert!(!text.contains("argon2") && !text.contains("password"), "{text}");
}

#[tokio::test]
async fn the_openapi_document_is_whole() {
    let document: Value = serde_json::from_str(&tobari_keyserver::http::openapi_json()).unwrap();
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is not defined");
    }
}

/// Anybody on the network can connect without a certificate, and leave connections open.
#[tokio::test]
async fn idle_strangers_leave_room_for_terminals() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    let mut strangers = Vec::new();
    let mut turned_away = 0;
    for _ in 0..270 {
        let stranger = site.stranger();
        turned_away += usize::from(stranger.health().await.is_err());
        strangers.push(stranger);
    }
    assert!((10..=20).contains(&turned_away), "{turned_away}");
    terminal.get("/v1/sessions/current", Some(&admin)).await.ok();
    // Room is made when they go.
    drop(strangers);
    let start = std::time::Instant::now();
    while site.stranger().health().await.is_err() {
        assert!(start.elapsed() < std::time::Duration::from_secs(10), "the places are not given back");
        tokio::task::yield_now().await;
    }
}

//! Who asks too fast, and a server that is full.

use crate::support::{Answer, Site, Terminal, item};
use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use reqwest::Method;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tobari_core::policy::Right;
use tobari_core::proto::problem::ProblemCode;

/// Buckets are for each terminal and each person, and an administrator is answered while files have no place left.
#[tokio::test]
async fn who_asks_too_fast_is_told_when_to_come_again_and_nobody_else_is_held_up() {
    let mut site = Site::start().await;
    let case = site.reference().await;
    let other = site.another(&case.terminal, &case.admin, None).await;
    // From here on a terminal has few requests, and they do not come back while the test runs.
    site.limits.terminal_requests_per_second = 1;
    site.limits.terminal_burst = 40;
    site.restart().await;
    let (mut terminal, mut other) = (case.terminal, other);
    terminal.move_to(site.address);
    other.move_to(site.address);
    let mut refused = 0;
    for _ in 0..200 {
        let answer = terminal.get("/v1/sessions/current", Some(&case.admin)).await;
        if !answer.status.is_success() {
            let problem = answer.refused(ProblemCode::TooManyRequests);
            assert_eq!(problem.retry_after_seconds, Some(1));
            assert_eq!(answer.headers["retry-after"], "1");
            refused += 1;
        }
    }
    assert!(refused > 0, "200 requests at once");
    other.get("/v1/bulletin", None).await.ok();
    // The administration has a bucket of its own, also on the terminal and for the person that asked too fast.
    terminal.get("/v1/admin/people", Some(&case.admin)).await.ok();
    // Health is not counted.
    terminal.get("/healthz", None).await.ok();
    terminal.get("/readyz", None).await.ok();

    // A person is one person on every terminal.
    site.limits.terminal_burst = 10_000;
    site.limits.person_requests_per_second = 1;
    site.limits.person_burst = 20;
    site.restart().await;
    terminal.move_to(site.address);
    other.move_to(site.address);
    let (here, there) = (terminal.login("bucho").await, other.login("bucho").await);
    let mut refused = [0, 0];
    for _ in 0..100 {
        for (index, (at, bearer)) in [(&terminal, &here), (&other, &there)].into_iter().enumerate() {
            let answer = at.get("/v1/sessions/current", Some(bearer)).await;
            refused[index] += usize::from(answer.status == 429);
        }
    }
    assert!(refused[0] > 0 && refused[1] > 0, "{refused:?}");
    terminal.get("/v1/sessions/current", Some(&case.admin)).await.ok();

    // No place for files: the administration is answered all the same, and so is what terminals ask after a change.
    site.limits = crate::support::limits();
    site.limits.file_places = 0;
    site.restart().await;
    terminal.move_to(site.address);
    let asked = serde_json::json!({ "items": [] });
    terminal.post("/v1/grants", Some(&case.admin), &asked).await.refused(ProblemCode::TooManyRequests);
    terminal.get("/v1/admin/people", Some(&case.admin)).await.ok();
    assert_ne!(terminal.post("/v1/decisions", Some(&case.admin), &asked).await.status, 429);
    terminal.get("/v1/bulletin", None).await.ok();
}

/// A body that is announced and never comes.
struct Withheld(u64);

impl Body for Withheld {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

async fn withhold(terminal: &Terminal, path: &str, length: u64) -> Answer {
    let request = terminal
        .request(Method::POST, path, None)
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap(Withheld(length)));
    terminal.send(request).await
}

/// Neither strangers nor one terminal keep anybody from logging in, opening files or revoking, by requests that they never finish.
#[tokio::test]
async fn bodies_that_never_come_hold_up_nobody() {
    const LONGEST: u64 = 8 * 1024 * 1024;
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let hostile = Arc::new(site.another(&case.terminal, &case.admin, None).await);
    let stranger = Arc::new(site.stranger());

    // A stranger is not even waited for, but where it enrols.
    for path in ["/v1/leases", "/v1/grants", "/v1/admin/groups", "/v1/sessions"] {
        withhold(&stranger, path, LONGEST).await.refused(ProblemCode::TerminalNotAccepted);
    }
    let mut running = tokio::task::JoinSet::new();
    let mut send = |who: &Arc<Terminal>, path: &'static str, length: u64| {
        let who = Arc::clone(who);
        running.spawn(async move {
            loop {
                let answer = withhold(&who, path, length).await;
                if answer.status != 429 {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    };
    for _ in 0..80 {
        send(&stranger, "/v1/terminals/enrol", 200);
        send(&hostile, "/v1/admin/groups", 200);
        send(&hostile, "/v1/sessions", 200);
    }
    send(&stranger, "/v1/terminals/enrol", LONGEST);
    for path in ["/v1/leases", "/v1/grants", "/v1/leases", "/v1/grants"] {
        send(&hostile, path, LONGEST - 100_000);
    }
    // Until they are there: then the terminal has no room for another.
    let deadline = Instant::now() + Duration::from_secs(60);
    let refused = async || {
        let more = withhold(&hostile, "/v1/grants", LONGEST);
        tokio::time::timeout(Duration::from_millis(500), more).await.is_ok_and(|answer| answer.status == 429)
    };
    while !refused().await {
        assert!(Instant::now() < deadline, "it is never told that this is too much");
    }

    let bucho = case.terminal.login("bucho").await;
    case.terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap();
    let group = serde_json::json!({ "name": "総務部二課" });
    case.terminal.post("/v1/admin/groups", Some(&case.admin), &group).await.created();
    let items = serde_json::json!({ "items": [item(file.header.wire_bytes(), Right::View)] });
    case.terminal.post("/v1/decisions", Some(&bucho), &items).await.ok();
    site.another(&case.terminal, &case.admin, None).await;

    // Nor are they waited for for ever.
    for _ in 0..80 {
        let answer = running.join_next().await.unwrap().unwrap();
        assert_eq!(answer.refused(ProblemCode::InvalidRequest).field.as_deref(), Some("body"));
    }
    running.shutdown().await;
    hostile.login("bucho").await;
}

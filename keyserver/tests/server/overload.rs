//! Who asks too fast, and a server that is full.

use crate::support::Site;
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

    // No place for files: the administration is answered all the same.
    site.limits = crate::support::limits();
    site.limits.file_places = 0;
    site.restart().await;
    terminal.move_to(site.address);
    let asked = serde_json::json!({ "items": [] });
    terminal.post("/v1/grants", Some(&case.admin), &asked).await.refused(ProblemCode::TooManyRequests);
    terminal.get("/v1/admin/people", Some(&case.admin)).await.ok();
}

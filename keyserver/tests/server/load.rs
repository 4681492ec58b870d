//! How many grants a second, client and server on this machine. Not a check: run it by name, with optimisation:
//! `CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo test -p tobari-keyserver --test server load -- --ignored --nocapture`.

use crate::support::{Site, item, seal_under};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tobari_core::policy::Right;
use tobari_core::proto::api::{GrantItem, GrantRequest, MAX_BATCH};

const SECONDS: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a check"]
async fn load() {
    let site = Site::start().await;
    let case = site.reference().await;
    let bucho = case.terminal.login("bucho").await;
    let epoch = case.epoch(case.label("社外秘").id).await;
    let items: Vec<GrantItem> = (0..MAX_BATCH)
        .map(|_| item(seal_under(&epoch, case.policy("社外秘")).header.wire_bytes(), Right::View))
        .collect();
    let terminal = Arc::new(case.terminal);
    for (batch, tasks) in [(1, 1), (1, 8), (1, 32), (16, 8), (128, 4), (MAX_BATCH, 2), (MAX_BATCH, 4)] {
        let bodies: Vec<Arc<Vec<u8>>> = items
            .chunks(batch)
            .map(|items| Arc::new(serde_json::to_vec(&GrantRequest { items: items.to_vec() }).unwrap()))
            .collect();
        let requests = Arc::new(AtomicU64::new(0));
        let end = Instant::now() + Duration::from_secs(SECONDS);
        let mut running = tokio::task::JoinSet::new();
        for task in 0..tasks {
            let (terminal, bucho, bodies, requests) =
                (Arc::clone(&terminal), bucho.clone(), bodies.clone(), Arc::clone(&requests));
            running.spawn(async move {
                let mut latencies = Vec::new();
                let mut next = task * 7;
                while Instant::now() < end {
                    let body = bodies[next % bodies.len()].as_slice().to_vec();
                    next += 1;
                    let started = Instant::now();
                    let answer = terminal
                        .request(reqwest::Method::POST, "/v1/grants", Some(&bucho))
                        .header("content-type", "application/json")
                        .body(body)
                        .send()
                        .await
                        .unwrap();
                    assert!(answer.status().is_success());
                    let bytes = answer.bytes().await.unwrap();
                    assert!(!bytes.windows(7).take(400).any(|window| window == b"refused"));
                    latencies.push(started.elapsed());
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                latencies
            });
        }
        let mut latencies: Vec<Duration> = running.join_all().await.into_iter().flatten().collect();
        latencies.sort_unstable();
        let count = requests.load(Ordering::Relaxed);
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        println!(
            "batch {batch:>4}, {tasks:>2} at a time: {:>6} requests/s {:>7} files/s, p50 {:?}, p99 {:?}",
            count / SECONDS,
            count * batch as u64 / SECONDS,
            at(0.5),
            at(0.99)
        );
    }
}

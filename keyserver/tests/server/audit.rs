//! The audit log over the API and in the database: chained, checked, and never continued when it was cut.

use crate::support::{Site, item};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::sync::Arc;
use tobari_core::crypto::{RootKey, sha256};
use tobari_core::policy::Right;
use tobari_core::proto::admin::AuditPage;
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::audit::chain;
use tobari_keyserver::service::Service;
use tobari_keyserver::store::sqlite::SqliteStore;
use tobari_keyserver::store::{Basis, Store, StoreError};

async fn page(terminal: &crate::support::Terminal, admin: &str, after: u64, limit: u32) -> AuditPage {
    terminal.get(&format!("/v1/admin/audit?after={after}&limit={limit}"), Some(admin)).await.ok().to()
}

#[tokio::test]
async fn pages_chain_into_each_other() {
    let site = Site::start().await;
    let case = site.reference().await;
    let mut hash = [0_u8; 32];
    let mut expected = 0;
    loop {
        let page = page(&case.terminal, &case.admin, expected, 3).await;
        assert_eq!(page.previous_hash, HEXLOWER.encode(&hash));
        for record in &page.records {
            expected += 1;
            assert_eq!(record.sequence, expected);
            hash = sha256(&[&hash, &record.payload.0]);
            assert_eq!(record.hash, HEXLOWER.encode(&hash));
            let value: std::collections::BTreeMap<String, Value> =
                serde_json::from_slice(&record.payload.0).unwrap();
            assert_eq!(serde_json::to_vec(&value).unwrap(), record.payload.0, "canonical");
        }
        // Reading is recorded too, so the end moves on; three pages are enough.
        if expected >= 9 {
            break;
        }
    }
    let verified = case.terminal.get("/v1/admin/audit/verify", Some(&case.admin)).await.ok().body;
    assert_eq!(verified["intact"], true);
    case.terminal
        .get("/v1/admin/audit?limit=0", Some(&case.admin))
        .await
        .refused(ProblemCode::InvalidRequest);
    case.terminal
        .get("/v1/admin/audit?limit=1001", Some(&case.admin))
        .await
        .refused(ProblemCode::InvalidRequest);
    case.terminal.get("/v1/admin/audit?after=100000", Some(&case.admin)).await.refused(ProblemCode::NotFound);
}

#[tokio::test]
async fn a_grant_names_its_record() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let bucho = case.terminal.login("bucho").await;
    let ippan = case.terminal.login("ippan").await;
    let grant = case.terminal.grant(&bucho, file.header.wire_bytes(), Right::Print).await.unwrap();
    let refused = vec![item(file.header.wire_bytes(), Right::Offline), item(b"junk", Right::View)];
    case.terminal.grants(&ippan, refused).await;
    let page = page(&case.terminal, &case.admin, grant.audit - 1, 3).await;
    let records: Vec<Value> =
        page.records.iter().map(|record| serde_json::from_slice(&record.payload.0).unwrap()).collect();
    let granted = &records[0];
    assert_eq!(granted["act"], "grant");
    assert_eq!(granted["file"], file.file_id.to_string());
    assert_eq!(granted["file_name"], "起案書.docx");
    assert_eq!(granted["label"], case.label("社外秘").id.to_string());
    assert_eq!(granted["right"], "print");
    assert_eq!(granted["person"], case.people["bucho"].id.to_string());
    assert_eq!(granted["terminal"], case.terminal.id.to_string());
    assert!(granted["session"].is_string() && granted["request"].is_string());
    assert!(!granted["rules"].as_array().unwrap().is_empty());
    assert!(granted["rights"].as_array().unwrap().contains(&json!("decrypt")));
    assert_eq!((&records[1]["act"], &records[1]["code"]), (&json!("refusal"), &json!("right-refused")));
    assert_eq!((&records[2]["act"], &records[2]["code"]), (&json!("refusal"), &json!("unreadable-envelope")));
}

#[tokio::test]
async fn concurrent_requests_leave_no_gap() {
    let site = Site::start().await;
    let case = site.reference().await;
    let bucho = case.terminal.login("bucho").await;
    let header = case.sealed("社外秘").await.header.wire_bytes().to_vec();
    let terminal = Arc::new(case.terminal);
    let mut running = tokio::task::JoinSet::new();
    for task in 0..16 {
        let (terminal, bucho, header) = (Arc::clone(&terminal), bucho.clone(), header.clone());
        let admin = case.admin.clone();
        running.spawn(async move {
            if task % 4 == 0 {
                let group = json!({ "name": format!("課{task}") });
                terminal.post("/v1/admin/groups", Some(&admin), &group).await.created();
                // The same name again: refused, and without effect on the records of others.
                terminal.post("/v1/admin/groups", Some(&admin), &group).await.refused(ProblemCode::Conflict);
                return Vec::new();
            }
            let response = terminal.grants(&bucho, vec![item(&header, Right::View); 5]).await;
            let sequences = response.outcomes.iter().map(|outcome| match outcome {
                tobari_core::proto::api::GrantOutcome::Granted(grant) => grant.audit,
                outcome @ tobari_core::proto::api::GrantOutcome::Refused(_) => panic!("{outcome:?}"),
            });
            sequences.collect::<Vec<u64>>()
        });
    }
    let mut sequences: Vec<u64> = running.join_all().await.into_iter().flatten().collect();
    let count = sequences.len();
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!((count, sequences.len()), (60, 60), "one record for each grant");
    chain::verify(site.store.as_ref()).await.unwrap();
}

async fn tamper(site: &Site, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.directory.path().join("tobari.db"));
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn open(site: &Site) -> Result<(), String> {
    let store = Arc::clone(&site.store) as Arc<dyn Store>;
    let service =
        Service::open(store, site.root_key(), Arc::clone(&site.clock) as _, crate::support::limits())
            .await
            .map_err(|error| error.to_string())?;
    service.check_before_serving().await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_changed_record_is_found_and_the_server_does_not_start() {
    let site = Site::start().await;
    let case = site.reference().await;
    open(&site).await.unwrap();
    tamper(&site, "UPDATE audit SET payload = CAST('{}' AS BLOB) WHERE sequence = 3").await;
    let verified = case.terminal.get("/v1/admin/audit/verify", Some(&case.admin)).await.ok().body;
    assert_eq!((&verified["intact"], &verified["last_sequence"]), (&json!(false), &json!(2)));
    assert!(open(&site).await.unwrap_err().contains("record 3"));
}

#[tokio::test]
async fn a_removed_record_is_found() {
    let site = Site::start().await;
    site.reference().await;
    tamper(&site, "DELETE FROM audit WHERE sequence = 4").await;
    assert!(open(&site).await.unwrap_err().contains("record 4"));
}

#[tokio::test]
async fn a_log_that_was_cut_under_a_running_server_stops_all_grants() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let bucho = case.terminal.login("bucho").await;
    tamper(&site, "DELETE FROM audit WHERE sequence > 5").await;
    let request = json!({ "items": [item(file.header.wire_bytes(), Right::View)] });
    case.terminal.post("/v1/grants", Some(&bucho), &request).await.refused(ProblemCode::AuditUnavailable);
    assert!(matches!(
        site.store.commit(&Basis::ANY, &[], &[b"x".to_vec()]).await,
        Err(StoreError::AuditBroken(_))
    ));
}

#[tokio::test]
async fn a_database_that_was_taken_away_under_a_running_server_stops_all_grants() {
    for taken in ["tobari.db", "tobari.db-wal"] {
        let site = Site::start().await;
        let case = site.reference().await;
        let file = case.sealed("社外秘").await;
        let bucho = case.terminal.login("bucho").await;
        let (path, aside) = (site.directory.path().join(taken), site.directory.path().join("aside"));
        let refused = async || {
            let request = json!({ "items": [item(file.header.wire_bytes(), Right::View)] });
            let answer = case.terminal.post("/v1/grants", Some(&bucho), &request).await;
            answer.refused(ProblemCode::AuditUnavailable);
            assert!(!answer.text.contains("sealed_dek"));
            case.terminal.get("/readyz", None).await.refused(ProblemCode::AuditUnavailable);
        };
        std::fs::rename(&path, &aside).unwrap();
        refused().await;
        // Nor with another file in its place.
        std::fs::copy(&aside, &path).unwrap();
        refused().await;
        std::fs::rename(&aside, &path).unwrap();
        assert!(case.terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await.is_ok(), "{taken}");
        chain::verify(site.store.as_ref()).await.unwrap();
    }
}

#[tokio::test]
async fn every_way_to_rewrite_a_record_is_found() {
    for (sql, broken) in [
        ("UPDATE audit SET payload = payload || x'20' WHERE sequence = 3", "record 3"),
        ("UPDATE audit SET hash = zeroblob(32) WHERE sequence = 3", "record 3"),
        ("DELETE FROM audit WHERE sequence = 1", "record 1"),
        ("UPDATE audit SET sequence = 1000 WHERE sequence = 4", "record 4"),
        (
            "UPDATE audit SET payload = (SELECT payload FROM audit AS other WHERE other.sequence = 7 - audit.sequence) \
             WHERE sequence IN (3, 4)",
            "record 3",
        ),
        (
            "INSERT INTO audit (sequence, payload, hash) SELECT MAX(sequence) + 1, payload, hash FROM audit",
            "does not continue",
        ),
    ] {
        let site = Site::start().await;
        site.reference().await;
        tamper(&site, sql).await;
        let error = open(&site).await.unwrap_err();
        assert!(error.contains(broken), "{sql}: {error}");
    }
}

/// What the database alone cannot tell: a log whose end was cut off with its tree while the server was down is a log. The
/// last hash, noted elsewhere, or a witness, is what shows it.
#[tokio::test]
async fn a_log_cut_while_the_server_was_down_differs_in_its_last_hash() {
    let site = Site::start().await;
    site.reference().await;
    let noted = chain::verify(site.store.as_ref()).await.unwrap();
    tamper(&site, "DELETE FROM audit WHERE sequence > 5").await;
    let cut = chain::verify(site.store.as_ref()).await.unwrap_err();
    assert!(
        matches!(cut, chain::ChainError::Gap { expected: 6, found } if found == noted.sequence),
        "{cut:?}"
    );
    let path = site.directory.path().join("tobari.db");
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::AuditBroken(_))));
    tamper(&site, "DELETE FROM audit_tree").await;
    let found = chain::verify(&SqliteStore::open(&path).await.unwrap()).await.unwrap();
    assert!(found.sequence < noted.sequence && found.hash != noted.hash);
}

#[tokio::test]
async fn another_root_key_opens_nothing() {
    let site = Site::start().await;
    let store = Arc::clone(&site.store) as Arc<dyn Store>;
    let opened =
        Service::open(store, RootKey::generate(), Arc::clone(&site.clock) as _, crate::support::limits())
            .await;
    assert!(opened.err().unwrap().to_string().contains("root key"));
}

//! Leases: never wider than online, recorded before a key leaves, one history for each terminal.

use crate::support::{Reference, Site, Terminal, in_hand, person_input};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tobari_core::crypto::VerifyingKey;
use tobari_core::envelope::Sealed;
use tobari_core::ids::LeaseId;
use tobari_core::lease::{ValidLease, Wish, chain};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::admin::{AuditPage, PersonRecord};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::lease::{
    LeaseRecord, LeaseState, LeaseSync, LeaseSyncAnswer, LedgerEntry, OfflineAct, OfflineRecord, SignedLease,
};
use tobari_core::proto::problem::ProblemCode;

fn wanted(site: &Site, files: &[&Sealed], rights: &[&str], days: i64) -> Value {
    let now = site.clock_now();
    json!({
        "files": files.iter().map(|file| json!({
            "header": Base64(file.header.wire_bytes().to_vec()), "name": "起案書.docx",
        })).collect::<Vec<_>>(),
        "rights": rights,
        "term": { "starts_at": now, "ends_at": now + SignedDuration::from_hours(24 * days) },
        "opens": { "kind": "at-most", "count": 5 },
        "reason": "出張",
    })
}

async fn approved(case: &Reference, request: &Value) -> LeaseRecord {
    let bucho = case.terminal.login("bucho").await;
    let asked: LeaseRecord = case.terminal.post("/v1/leases", Some(&bucho), request).await.created().to();
    assert_eq!(asked.state, LeaseState::Requested);
    decide(case, asked.id, "approve").await
}

async fn decide(case: &Reference, id: LeaseId, what: &str) -> LeaseRecord {
    let body = if what == "approve" { json!({}) } else { json!({ "reason": "紛失" }) };
    case.terminal.post(&format!("/v1/admin/leases/{id}/{what}"), Some(&case.admin), &body).await.ok().to()
}

fn first_sync() -> LeaseSync {
    LeaseSync {
        counter: 1,
        after: 0,
        after_hash: Base64(chain::Head::START.hash.to_vec()),
        records: Vec::new(),
        held: Vec::new(),
    }
}

async fn sync(terminal: &Terminal, sync: &LeaseSync) -> LeaseSyncAnswer {
    terminal.post("/v1/terminals/leases", None, sync).await.ok().to()
}

fn valid(terminal: &Terminal, signed: &SignedLease) -> ValidLease {
    let key = VerifyingKey::from_bytes(&terminal.enrolment.as_ref().unwrap().signing_key.0).unwrap();
    ValidLease::check(signed, &key, terminal.organisation, terminal.id).unwrap()
}

fn record(sequence: u64, act: OfflineAct, lease: &LeaseRecord, time: Timestamp) -> Vec<u8> {
    let record = OfflineRecord {
        act,
        file: lease.files.first().map(|file| file.file),
        file_name: Some(String::from("起案書.docx")),
        lease: lease.id,
        person: lease.person,
        right: Some(Right::View),
        sequence,
        time,
        version: chain::VERSION,
        wall: time,
    };
    serde_json::to_vec(&record).unwrap()
}

async fn acts(case: &Reference) -> Vec<String> {
    let page: AuditPage =
        case.terminal.get("/v1/admin/audit?after=0&limit=1000", Some(&case.admin)).await.ok().to();
    let act = |payload: &[u8]| {
        serde_json::from_slice::<Value>(payload).unwrap()["act"].as_str().unwrap().to_owned()
    };
    page.records.iter().map(|record| act(&record.payload.0)).collect()
}

#[tokio::test]
async fn a_lease_that_is_asked_for_and_approved_opens_the_file_on_its_terminal() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let lease = approved(&case, &wanted(&site, &[&file, &file], &["view", "send"], 3)).await;
    assert_eq!((lease.state, lease.file_count), (LeaseState::Issued, 1), "a file twice is one file");
    let answer = sync(&case.terminal, &first_sync()).await;
    assert_eq!((answer.leases.len(), answer.more, answer.time), (1, false, site.clock_now()));
    let valid = valid(&case.terminal, &answer.leases[0]);
    let wish = Wish {
        person: case.people["bucho"].id,
        file: file.file_id,
        label: case.label("社外秘").id,
        owner_group: Some(case.group),
        right: Right::Send,
    };
    let lent = valid.permits(&wish, 0, site.clock_now(), &[]).unwrap();
    assert_eq!(lent.rights(), [Right::View, Right::Send].into_iter().collect::<Rights>());
    let dek = lent.dek(case.terminal.grant_key.as_ref().unwrap()).unwrap();
    file.header.authenticate(&dek).unwrap();
    assert!(valid.permits(&Wish { right: Right::Decrypt, ..wish }, 0, site.clock_now(), &[]).is_err());

    let acts = acts(&case).await;
    let place = |act: &str| acts.iter().position(|one| one == act).unwrap();
    assert!(place("lease-request") < place("lease-key") && place("lease-key") < place("lease-issue"));
    // It is not sent to who has it, and to nobody else.
    let held = LeaseSync { held: in_hand(&[lease.id]), counter: 2, ..first_sync() };
    let again = sync(&case.terminal, &held).await;
    assert!(again.leases.is_empty() && again.ended.is_empty());
    let other = site.another(&case.terminal, &case.admin, None).await;
    assert!(sync(&other, &first_sync()).await.leases.is_empty());
    other.post("/v1/terminals/leases", None, &json!({})).await.refused(ProblemCode::InvalidRequest);
}

#[tokio::test]
async fn a_lease_is_never_wider_than_a_grant() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let kacho = case.terminal.login("kacho").await;
    // 課長 may view and has no `offline`.
    let request = wanted(&site, &[&file], &["view"], 3);
    let answer = case.terminal.post("/v1/leases", Some(&kacho), &request).await;
    assert!(answer.refused(ProblemCode::RightRefused).detail.contains("offline"));
    let issue = json!({ "person": case.people["kacho"].id, "terminal": case.terminal.id, "lease": request });
    let answer = case.terminal.post("/v1/admin/leases", Some(&case.admin), &issue).await;
    answer.refused(ProblemCode::RightRefused);
    // 極秘 is not lent to anybody.
    let top = case.sealed("極秘").await;
    let bucho = case.terminal.login("bucho").await;
    let both = wanted(&site, &[&file, &top], &["view"], 3);
    let answer = case.terminal.post("/v1/leases", Some(&bucho), &both).await;
    assert_eq!(answer.refused(ProblemCode::RightRefused).field.as_deref(), Some("files[1]"));
    assert!(!acts(&case).await.iter().any(|act| act == "lease-key"));

    // What was asked for in good faith is decided again when it is approved.
    let asked: LeaseRecord = case.terminal.post("/v1/leases", Some(&bucho), &request).await.created().to();
    let deny = json!({
        "label": case.label("社外秘").id, "groups": { "kind": "any" }, "posts": { "kind": "any" },
        "effect": "deny", "rights": ["offline"],
    });
    case.terminal.post("/v1/admin/rules", Some(&case.admin), &deny).await.created();
    let path = format!("/v1/admin/leases/{}/approve", asked.id);
    let answer = case.terminal.post(&path, Some(&case.admin), &json!({})).await;
    answer.refused(ProblemCode::RightRefused);
    assert!(sync(&case.terminal, &first_sync()).await.leases.is_empty());
}

#[tokio::test]
async fn a_key_ends_when_a_rule_ends() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let end = site.clock_now() + SignedDuration::from_hours(24);
    let rule = json!({
        "label": case.label("社外秘").id, "groups": { "kind": "any" }, "posts": { "kind": "any" },
        "conditions": { "not_after": end }, "effect": "allow", "rights": ["view"],
    });
    case.terminal.post("/v1/admin/rules", Some(&case.admin), &rule).await.created();
    approved(&case, &wanted(&site, &[&file], &["view"], 3)).await;
    let answer = sync(&case.terminal, &first_sync()).await;
    assert_eq!(valid(&case.terminal, &answer.leases[0]).lease().files[0].ends_at, end);
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_named() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let bucho = case.terminal.login("bucho").await;
    let good = wanted(&site, &[&file], &["view"], 3);
    let now = site.clock_now();
    for (pointer, value, field) in [
        ("/rights", json!(["view", "relabel"]), "rights"),
        ("/rights", json!([]), "rights"),
        ("/reason", json!(" "), "reason"),
        ("/files", json!([]), "files"),
        ("/files/0/header", json!("AAAA"), "files[0].header"),
        ("/term/ends_at", json!(now), "term.ends_at"),
        ("/term/ends_at", json!(now + SignedDuration::from_hours(24 * 400)), "term.ends_at"),
        ("/term/ends_at", json!(now + SignedDuration::from_hours(24 * 365 + 23)), "term.ends_at"),
        ("/opens", json!({ "kind": "at-most", "count": 0 }), "opens"),
        ("/opens", json!({ "kind": "for-ever" }), "opens"),
        ("/term/ends_at", Value::Null, "term.ends_at"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let problem =
            case.terminal.post("/v1/leases", Some(&bucho), &bad).await.refused(ProblemCode::InvalidRequest);
        let named = problem.field.unwrap_or_default();
        assert!(named.starts_with(field), "{pointer}: {named}");
    }
    case.terminal.post("/v1/leases", None, &good).await.refused(ProblemCode::NotLoggedIn);
}

#[tokio::test]
async fn a_second_person_decides_and_only_once() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let request = wanted(&site, &[&file], &["view"], 3);
    // Somebody who may decide and may take along.
    let post = case.people["bucho"].memberships.clone();
    let input = person_input("soumu", post, &["leases"]);
    let soumu: PersonRecord =
        case.terminal.post("/v1/admin/people", Some(&case.admin), &input).await.created().to();
    let token = case.terminal.login("soumu").await;
    let own: LeaseRecord = case.terminal.post("/v1/leases", Some(&token), &request).await.created().to();
    let path = format!("/v1/admin/leases/{}/approve", own.id);
    case.terminal.post(&path, Some(&token), &json!({})).await.refused(ProblemCode::Conflict);
    let issue = json!({ "person": soumu.id, "terminal": case.terminal.id, "lease": request });
    case.terminal.post("/v1/admin/leases", Some(&token), &issue).await.refused(ProblemCode::Conflict);
    let bucho = case.terminal.login("bucho").await;
    case.terminal.post(&path, Some(&bucho), &json!({})).await.refused(ProblemCode::NotAdministrator);
    decide(&case, own.id, "approve").await;
    case.terminal.post(&path, Some(&case.admin), &json!({})).await.refused(ProblemCode::Conflict);
    let refuse = format!("/v1/admin/leases/{}/refuse", own.id);
    let why = json!({ "reason": "x" });
    case.terminal.post(&refuse, Some(&case.admin), &why).await.refused(ProblemCode::Conflict);

    let asked: LeaseRecord = case.terminal.post("/v1/leases", Some(&bucho), &request).await.created().to();
    assert_eq!(decide(&case, asked.id, "refuse").await.state, LeaseState::Refused);
    let own: Vec<LeaseRecord> = case.terminal.get("/v1/leases", Some(&bucho)).await.ok().to();
    assert_eq!((own.len(), own[0].id), (1, asked.id), "one sees one's own");
    case.terminal.get("/v1/admin/leases", Some(&bucho)).await.refused(ProblemCode::NotAdministrator);
    case.terminal.get("/v1/admin/leases/ledger", Some(&bucho)).await.refused(ProblemCode::NotAdministrator);
}

#[tokio::test]
async fn without_a_durable_record_nothing_is_lent() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let bucho = case.terminal.login("bucho").await;
    let request = wanted(&site, &[&file], &["view"], 3);
    let asked: LeaseRecord = case.terminal.post("/v1/leases", Some(&bucho), &request).await.created().to();
    site.store.commits_fail.store(true, Ordering::SeqCst);
    let path = format!("/v1/admin/leases/{}/approve", asked.id);
    case.terminal.post(&path, Some(&case.admin), &json!({})).await.refused(ProblemCode::AuditUnavailable);
    site.store.commits_fail.store(false, Ordering::SeqCst);
    assert!(sync(&case.terminal, &first_sync()).await.leases.is_empty());
    decide(&case, asked.id, "approve").await;
}

#[tokio::test]
async fn a_revoked_lease_is_in_the_bulletin_until_its_end() {
    let mut site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let lease = approved(&case, &wanted(&site, &[&file], &["view"], 3)).await;
    let (_, before) = case.terminal.bulletin().await;
    assert!(before.revocations.leases.is_empty());
    assert_eq!(decide(&case, lease.id, "revoke").await.state, LeaseState::Revoked);
    let (_, after) = case.terminal.bulletin().await;
    assert_eq!(after.revocations.leases, [lease.id]);
    assert!(after.number > before.number);
    let answer = sync(&case.terminal, &LeaseSync { held: in_hand(&[lease.id]), ..first_sync() }).await;
    assert_eq!((answer.ended, answer.leases.len()), (vec![lease.id], 0));
    let path = format!("/v1/admin/leases/{}/revoke", lease.id);
    let again = case.terminal.post(&path, Some(&case.admin), &json!({ "reason": "x" })).await;
    again.refused(ProblemCode::Conflict);
    site.restart().await;
    let case = Reference { terminal: site.again(case.terminal), ..case };
    assert_eq!(case.terminal.bulletin().await.1, after, "and after a restart");
}

#[tokio::test]
async fn what_was_done_is_taken_once_and_in_one_history() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let lease = approved(&case, &wanted(&site, &[&file], &["view"], 3)).await;
    let now = site.clock_now();
    let payloads: Vec<Base64> = [(1, OfflineAct::Open), (2, OfflineAct::Open), (3, OfflineAct::Return)]
        .map(|(sequence, act)| Base64(record(sequence, act, &lease, now)))
        .into();
    let two = LeaseSync { counter: 5, records: payloads[..2].to_vec(), ..first_sync() };
    assert_eq!(sync(&case.terminal, &two).await.accepted, 2);
    // The answer was lost: the same is told again, with more.
    let three = LeaseSync { counter: 6, records: payloads.clone(), ..first_sync() };
    let answer = sync(&case.terminal, &three).await;
    assert_eq!((answer.accepted, answer.leases.len()), (3, 0), "returned, so not sent again");
    let ledger: Vec<LedgerEntry> =
        case.terminal.get("/v1/admin/leases/ledger", Some(&case.admin)).await.ok().to();
    assert_eq!((ledger.len(), ledger[0].records.len()), (1, 3));
    assert_eq!((ledger[0].lease.state, ledger[0].lease.opened), (LeaseState::Returned, 2));
    assert_eq!(acts(&case).await.iter().filter(|act| *act == "lease-open").count(), 2);
}

#[tokio::test]
async fn a_history_that_goes_back_forks_or_has_gaps_is_refused_for_good() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let request = wanted(&site, &[&file], &["view"], 3);
    let now = site.clock_now();
    type Spoil = fn(LeaseSync, Vec<Base64>) -> LeaseSync;
    let spoils: [(&str, Spoil); 6] = [
        ("a lower counter", |good, records| LeaseSync { counter: 4, records, ..good }),
        ("fewer records", |good, records| LeaseSync { records: records[..1].to_vec(), ..good }),
        ("no records", |good, _| good),
        ("another history", |good, mut records| {
            records.swap(0, 1);
            let text =
                String::from_utf8(records[0].0.clone()).unwrap().replace("\"sequence\":2", "\"sequence\":1");
            let first = String::from_utf8(records[1].0.clone()).unwrap().replace("起案書", "別の物");
            let second = first.replace("\"sequence\":1", "\"sequence\":2");
            LeaseSync { records: vec![Base64(text.into_bytes()), Base64(second.into_bytes())], ..good }
        }),
        ("a gap", |good, records| LeaseSync { after: 7, records, ..good }),
        ("no JSON", |good, _| LeaseSync { records: vec![Base64(b"{}".to_vec())], ..good }),
    ];
    for (what, spoil) in spoils {
        let terminal = site.another(&case.terminal, &case.admin, None).await;
        let issue = json!({ "person": case.people["bucho"].id, "terminal": terminal.id, "lease": request });
        let lease: LeaseRecord =
            case.terminal.post("/v1/admin/leases", Some(&case.admin), &issue).await.created().to();
        let payloads: Vec<Base64> =
            [1, 2].map(|sequence| Base64(record(sequence, OfflineAct::Open, &lease, now))).into();
        let good = LeaseSync { counter: 5, records: payloads.clone(), ..first_sync() };
        sync(&terminal, &good).await;
        let bad = spoil(LeaseSync { counter: 5, ..first_sync() }, payloads);
        let problem = terminal.post("/v1/terminals/leases", None, &bad).await.refused(ProblemCode::Conflict);
        assert_eq!(problem.field.as_deref(), Some("lease-state"), "{what}");
        // From now on also what would have been right.
        terminal.post("/v1/terminals/leases", None, &good).await.refused(ProblemCode::Conflict);
        // And no lease is given that would never be sent.
        let answer = case.terminal.post("/v1/admin/leases", Some(&case.admin), &issue).await;
        assert_eq!(answer.refused(ProblemCode::Conflict).field.as_deref(), Some("lease-state"));
    }
    assert_eq!(acts(&case).await.iter().filter(|act| *act == "lease-state-refused").count(), 6);
}

#[tokio::test]
async fn records_of_leases_of_others_are_refused() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let lease = approved(&case, &wanted(&site, &[&file], &["view"], 3)).await;
    let other = site.another(&case.terminal, &case.admin, None).await;
    let forged = Base64(record(1, OfflineAct::Return, &lease, site.clock_now()));
    let bad = LeaseSync { records: vec![forged], ..first_sync() };
    other.post("/v1/terminals/leases", None, &bad).await.refused(ProblemCode::Conflict);
    assert_eq!(sync(&case.terminal, &first_sync()).await.leases.len(), 1, "the lease is as it was");
}

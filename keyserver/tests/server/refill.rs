//! Refilling a lease of a label: the files of the label that there are now, and nothing else that was not approved.

use crate::policy::{officers_of, rule};
use crate::servers::Pair;
use crate::support::{Answer, Reference, Site, Terminal, in_hand, seal_under};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tobari_core::audit::LogKey;
use tobari_core::crypto::VerifyingKey;
use tobari_core::envelope::Sealed;
use tobari_core::lease::{ValidLease, Wish, chain};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::lease::{
    LeaseInHand, LeaseRecord, LeaseState, LeaseSync, LeaseSyncAnswer, OfflineAct, OfflineRecord,
};
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::store::{Basis, Change, LeaseCases, Store as _, StoreError};

/// 部長 with a lease of all files of 社外秘, to view and send, for three days and five openings.
struct Case {
    site: Site,
    reference: Reference,
    bucho: String,
    file: Sealed,
    lease: LeaseRecord,
}

fn items(files: &[&Sealed]) -> Value {
    files.iter().map(|file| json!({ "header": Base64(file.header.wire_bytes().to_vec()) })).collect()
}

fn wanted(case: &Reference, now: Timestamp, files: &[&Sealed]) -> Value {
    json!({
        "files": items(files), "rights": ["view", "send"], "reason": "出張", "label": case.label("社外秘").id,
        "term": { "starts_at": now, "ends_at": now + SignedDuration::from_hours(72) },
        "opens": { "kind": "at-most", "count": 5 },
    })
}

fn label_fields(case: &Reference, allowed: bool) -> (String, Value) {
    let label = case.label("社外秘");
    let fields = json!({ "name": "社外秘", "level": label.label.level, "lease_by_label": allowed });
    (format!("/v1/admin/labels/{}", label.id), fields)
}

fn report(held: Vec<LeaseInHand>) -> LeaseSync {
    let after_hash = Base64(chain::Head::START.hash.to_vec());
    LeaseSync { counter: 1, after: 0, after_hash, records: Vec::new(), held }
}

/// A lease that is asked for and approved.
async fn lent(case: &Reference, bearer: &str, request: &Value) -> LeaseRecord {
    let asked: LeaseRecord = case.terminal.post("/v1/leases", Some(bearer), request).await.created().to();
    let path = format!("/v1/admin/leases/{}/approve", asked.id);
    case.terminal.post(&path, Some(&case.admin), &json!({})).await.ok().to()
}

impl Case {
    async fn new() -> Self {
        let site = Site::start().await;
        let reference = site.reference().await;
        Self::over(site, reference).await
    }

    /// The same where something is as it is already.
    async fn over(site: Site, reference: Reference) -> Self {
        let (path, fields) = label_fields(&reference, true);
        reference.terminal.put(&path, Some(&reference.admin), &fields).await.ok();
        let file = reference.sealed("社外秘").await;
        let bucho = reference.terminal.login("bucho").await;
        let request = wanted(&reference, site.clock_now(), &[&file]);
        let lease = lent(&reference, &bucho, &request).await;
        Self { site, reference, bucho, file, lease }
    }

    fn path(&self) -> String {
        format!("/v1/leases/{}/refill", self.lease.id)
    }

    async fn refill_as(&self, bearer: &str, files: &[&Sealed]) -> Answer {
        self.reference.terminal.post(&self.path(), Some(bearer), &json!({ "files": items(files) })).await
    }

    async fn refill(&self, files: &[&Sealed]) -> Answer {
        self.refill_as(&self.bucho, files).await
    }

    async fn new_file(&self) -> Sealed {
        self.reference.sealed("社外秘").await
    }

    async fn sync(&self, held: Vec<LeaseInHand>) -> LeaseSyncAnswer {
        self.reference.terminal.post("/v1/terminals/leases", None, &report(held)).await.ok().to()
    }

    /// The document that the terminal gets now, checked as it checks it.
    async fn document(&self) -> ValidLease {
        let answer = self.sync(Vec::new()).await;
        assert_eq!(answer.leases.len(), 1);
        let signed = &answer.leases[0];
        let terminal = &self.reference.terminal;
        let key = VerifyingKey::from_bytes(&terminal.enrolment.as_ref().unwrap().signing_key.0).unwrap();
        let lease = ValidLease::check(signed, &key, terminal.organisation, terminal.id).unwrap();
        lease.is_recorded(signed.receipt.as_ref(), &LogKey::of(terminal.organisation, key)).unwrap();
        lease
    }

    fn wish(&self, file: &Sealed, right: Right) -> Wish {
        Wish {
            person: self.lease.person,
            file: file.file_id,
            label: file.header.policy().label,
            owner_group: file.header.policy().owner_group,
            right,
        }
    }

    /// Whether the file opens under the document, its key tried.
    fn opens(&self, document: &ValidLease, file: &Sealed) -> bool {
        let now = self.site.clock_now();
        let lent = document.permits(&self.wish(file, Right::View), 0, now, &[]);
        let dek =
            lent.ok().map(|lent| lent.dek(self.reference.terminal.grant_key.as_ref().unwrap()).unwrap());
        dek.is_some_and(|dek| file.header.authenticate(&dek).is_ok())
    }

    async fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        let (terminal, admin) = (&self.reference.terminal, Some(self.reference.admin.as_str()));
        match method {
            "POST" => terminal.post(path, admin, body).await,
            "PUT" => terminal.put(path, admin, body).await,
            "DELETE" => terminal.delete(path, admin).await,
            _ => terminal.get(path, admin).await,
        }
        .ok()
    }

    /// A rule that takes rights away; gives its path.
    async fn deny(&self, rights: &[&str], more: Value) -> String {
        let mut deny = rule(&self.reference, "社外秘", 0, rights);
        deny["effect"] = json!("deny");
        deny.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.admin("POST", "/v1/admin/rules", &deny).await.body;
        format!("/v1/admin/rules/{}", made["id"].as_str().unwrap())
    }

    async fn shown(&self) -> LeaseRecord {
        self.admin("GET", &format!("/v1/admin/leases/{}", self.lease.id), &Value::Null).await.to()
    }

    /// The records of the audit log about this lease.
    async fn records(&self) -> Vec<Value> {
        let object = json!(format!("lease/{}", self.lease.id));
        let rows = self.site.store.audit_page(0, 10_000).await.unwrap();
        let records = rows.iter().map(|row| serde_json::from_slice::<Value>(&row.payload).unwrap());
        records.filter(|record| record["object"] == object).collect()
    }

    async fn acts(&self) -> Vec<String> {
        self.records().await.iter().map(|record| record["act"].as_str().unwrap().to_owned()).collect()
    }

    /// Refused with this code and field, and the lease is as it was.
    async fn refused(&self, answer: Answer, code: ProblemCode, field: Option<&str>) {
        let problem = answer.refused(code);
        assert_eq!(problem.field.as_deref(), field, "{problem:?}");
        let acts = self.acts().await;
        assert!(!acts.iter().any(|act| act == "lease-refill"), "{acts:?}");
        assert_eq!(self.shown().await.refilled_at, None);
    }
}

#[tokio::test]
async fn a_refilled_lease_is_the_same_lease_with_the_files_that_there_are() {
    let case = Case::new().await;
    let first = case.document().await;
    let new = case.new_file().await;
    assert!(case.opens(&first, &case.file) && !case.opens(&first, &new));
    // Two openings, which the terminal has reported.
    let record = |sequence: u64| OfflineRecord {
        act: OfflineAct::Open,
        file: Some(case.file.file_id),
        file_name: None,
        lease: case.lease.id,
        person: case.lease.person,
        right: Some(Right::View),
        sequence,
        time: case.site.clock_now(),
        version: chain::VERSION,
        wall: case.site.clock_now(),
    };
    let records = [1, 2].map(|sequence| Base64(serde_json::to_vec(&record(sequence)).unwrap())).to_vec();
    let held = vec![LeaseInHand { lease: case.lease.id, issued_at: first.lease().issued_at }];
    let told = LeaseSync { records, ..report(held) };
    let nothing: LeaseSyncAnswer =
        case.reference.terminal.post("/v1/terminals/leases", None, &told).await.ok().to();
    assert!(nothing.leases.is_empty(), "what it holds is not sent again");

    let refilled: LeaseRecord = case.refill(&[&case.file, &new, &new]).await.ok().to();
    assert_eq!((refilled.id, refilled.state, refilled.file_count), (case.lease.id, LeaseState::Issued, 2));
    assert_eq!((refilled.decided_by, refilled.decided_at), (case.lease.decided_by, case.lease.decided_at));
    assert_eq!((refilled.opened, refilled.label), (2, case.lease.label));
    assert_eq!(refilled.files.len(), 2);
    // As often as the answer is lost the newer document is sent, to whoever has the older one, and not to who has it.
    for _ in 0..2 {
        let answer: LeaseSyncAnswer =
            case.reference.terminal.post("/v1/terminals/leases", None, &told).await.ok().to();
        assert_eq!((answer.leases.len(), answer.ended.len(), answer.more), (1, 0, false));
        assert_eq!((answer.opened[0].lease, answer.opened[0].count), (case.lease.id, 2));
    }
    let second: LeaseSyncAnswer =
        case.reference.terminal.post("/v1/terminals/leases", None, &told).await.ok().to();
    let key = &case.reference.terminal.enrolment.as_ref().unwrap().signing_key.0;
    let (key, terminal) = (VerifyingKey::from_bytes(key).unwrap(), &case.reference.terminal);
    let second = &second.leases[0];
    let log = LogKey::of(terminal.organisation, key);
    let receipt = second.receipt.as_ref();
    let second = ValidLease::check(second, &key, terminal.organisation, terminal.id).unwrap();
    second.is_recorded(receipt, &log).unwrap();
    assert!(second.refills(&first) && !first.refills(&second));
    assert_eq!(refilled.refilled_at, Some(second.lease().issued_at));
    assert!(case.opens(&second, &case.file) && case.opens(&second, &new));
    let held = vec![LeaseInHand { lease: case.lease.id, issued_at: second.lease().issued_at }];
    let told = LeaseSync { held, ..told };
    let nothing: LeaseSyncAnswer = terminal.post("/v1/terminals/leases", None, &told).await.ok().to();
    assert!(nothing.leases.is_empty() && nothing.ended.is_empty());

    // What is not sent is not part of it any more; each document is later than the one before, though no time has passed.
    case.refill(&[&new]).await.ok();
    let answer: LeaseSyncAnswer = terminal.post("/v1/terminals/leases", None, &told).await.ok().to();
    let third = ValidLease::check(&answer.leases[0], &key, terminal.organisation, terminal.id).unwrap();
    assert!(third.refills(&second) && third.refills(&first));
    assert!(!case.opens(&third, &case.file) && case.opens(&third, &new));

    let records = case.records().await;
    let acts: Vec<&str> = records.iter().map(|record| record["act"].as_str().unwrap()).collect();
    let expected = [
        ["lease-request", "lease-key", "lease-issue", "lease-open", "lease-open"].as_slice(),
        &["lease-key", "lease-key", "lease-refill", "lease-key", "lease-refill"],
    ];
    assert_eq!(acts, expected.concat());
    for record in &records[5..] {
        assert_eq!(record["person"], json!(case.lease.person), "by the person, not by who approved");
    }
    assert!(records[7]["detail"].as_str().unwrap().contains("2 files"), "{}", records[7]);
}

#[tokio::test]
async fn nobody_but_its_person_on_its_terminal_refills_a_lease() {
    let case = Case::new().await;
    let new = case.new_file().await;
    let terminal = &case.reference.terminal;
    let body = json!({ "files": items(&[&new]) });
    let kacho = terminal.login("kacho").await;
    case.refused(case.refill_as(&kacho, &[&new]).await, ProblemCode::NotFound, Some("lease")).await;
    let by_admin = case.refill_as(&case.reference.admin, &[&new]).await;
    case.refused(by_admin, ProblemCode::NotFound, Some("lease")).await;
    let nobody = terminal.post(&case.path(), None, &body).await;
    case.refused(nobody, ProblemCode::NotLoggedIn, None).await;
    // The same person elsewhere, and somebody who says that they are this person.
    let other = case.site.another(terminal, &case.reference.admin, None).await;
    let there = other.login("bucho").await;
    let elsewhere = other.post(&case.path(), Some(&there), &body).await;
    case.refused(elsewhere, ProblemCode::Conflict, Some("refill-terminal")).await;
    let gateway = json!({ "name": "端末", "zone": null, "tags": [], "revoked": false, "gateway": true });
    case.admin("PUT", &format!("/v1/admin/terminals/{}", terminal.id), &gateway).await;
    let asserted = terminal.post("/v1/assertions", None, &json!({ "login": "bucho" })).await.created().body;
    let asserted = case.refill_as(asserted["token"].as_str().unwrap(), &[&new]).await;
    case.refused(asserted, ProblemCode::NotLoggedIn, None).await;
    // The control.
    case.refill(&[&new]).await.ok();
}

#[tokio::test]
async fn only_a_lease_of_a_label_that_is_out_is_refilled() {
    let case = Case::new().await;
    let new = case.new_file().await;
    let over = Some("refill-over");
    // Asked for files.
    let terminal = &case.reference.terminal;
    let mut files = wanted(&case.reference, case.site.clock_now(), &[&case.file]);
    files.as_object_mut().unwrap().remove("label");
    let asked: LeaseRecord = terminal.post("/v1/leases", Some(&case.bucho), &files).await.created().to();
    let approve = format!("/v1/admin/leases/{}/approve", asked.id);
    terminal.post(&approve, Some(&case.reference.admin), &json!({})).await.ok();
    let path = format!("/v1/leases/{}/refill", asked.id);
    let body = json!({ "files": items(&[&case.file]) });
    let answer = terminal.post(&path, Some(&case.bucho), &body).await;
    case.refused(answer, ProblemCode::Conflict, Some("refill-label")).await;
    // Not approved yet, and refused.
    let request = wanted(&case.reference, case.site.clock_now(), &[&case.file]);
    let asked: LeaseRecord = terminal.post("/v1/leases", Some(&case.bucho), &request).await.created().to();
    let path = format!("/v1/leases/{}/refill", asked.id);
    case.refused(terminal.post(&path, Some(&case.bucho), &body).await, ProblemCode::Conflict, over).await;
    let refuse = format!("/v1/admin/leases/{}/refuse", asked.id);
    terminal.post(&refuse, Some(&case.reference.admin), &json!({ "reason": "x" })).await.ok();
    case.refused(terminal.post(&path, Some(&case.bucho), &body).await, ProblemCode::Conflict, over).await;
    // Ended, by its last moment.
    let end = case.lease.term.ends_at;
    case.site.advance(end.duration_since(case.site.clock_now()) - SignedDuration::from_micros(1));
    let late = Case { bucho: terminal.login("bucho").await, ..case };
    late.refill(&[&new]).await.ok();
    late.site.advance(SignedDuration::from_micros(1));
    late.refill(&[&new]).await.refused(ProblemCode::Conflict);

    // Returned, and revoked.
    let case = Case::new().await;
    let returned = OfflineRecord {
        act: OfflineAct::Return,
        file: None,
        file_name: None,
        lease: case.lease.id,
        person: case.lease.person,
        right: None,
        sequence: 1,
        time: case.site.clock_now(),
        version: chain::VERSION,
        wall: case.site.clock_now(),
    };
    let records = vec![Base64(serde_json::to_vec(&returned).unwrap())];
    let told = LeaseSync { records, ..report(Vec::new()) };
    case.reference.terminal.post("/v1/terminals/leases", None, &told).await.ok();
    case.refused(case.refill(&[&case.file]).await, ProblemCode::Conflict, over).await;
    let case = Case::new().await;
    let revoke = format!("/v1/admin/leases/{}/revoke", case.lease.id);
    case.admin("POST", &revoke, &json!({ "reason": "紛失" })).await;
    case.refused(case.refill(&[&case.file]).await, ProblemCode::Conflict, over).await;
    assert!(case.sync(Vec::new()).await.leases.is_empty());
    // The label allowed it and does not any more: that takes the lease, and allowing it again gives nothing back.
    let case = Case::new().await;
    for allowed in [false, true] {
        let (path, fields) = label_fields(&case.reference, allowed);
        case.admin("PUT", &path, &fields).await;
        case.refused(case.refill(&[&case.file]).await, ProblemCode::Conflict, over).await;
    }
}

#[tokio::test]
async fn one_file_that_cannot_be_lent_refuses_all() {
    let case = Case::new().await;
    let new = case.new_file().await;
    let invalid = ProblemCode::InvalidRequest;
    let other = case.reference.sealed("公開").await;
    let first = case.document().await;
    case.refused(case.refill(&[]).await, invalid, Some("files")).await;
    case.refused(case.refill(&[&new, &other]).await, invalid, Some("files[1].header")).await;
    let terminal = &case.reference.terminal;
    let damaged = json!({ "files": [{ "header": "AAAA" }] });
    let answer = terminal.post(&case.path(), Some(&case.bucho), &damaged).await;
    case.refused(answer, invalid, Some("files[0].header")).await;
    let header = Base64(new.header.wire_bytes().to_vec());
    let many: Vec<Value> = (0..1025).map(|_| json!({ "header": header })).collect();
    let answer = terminal.post(&case.path(), Some(&case.bucho), &json!({ "files": many })).await;
    case.refused(answer, invalid, Some("files")).await;
    let wider = json!({ "files": items(&[&new]), "rights": ["decrypt"] });
    let answer = terminal.post(&case.path(), Some(&case.bucho), &wider).await;
    assert_eq!(answer.refused(invalid).code, invalid, "nothing but files is sent");
    // A file that is stopped; its refusal is on record.
    let stop = json!({ "kind": "file", "id": new.file_id, "reason": "誤送付" });
    case.admin("POST", "/v1/admin/revocations", &stop).await;
    let answer = case.refill(&[&case.file, &new]).await;
    case.refused(answer, ProblemCode::RightRefused, Some("files[1]")).await;
    assert_eq!(case.acts().await, ["lease-request", "lease-key", "lease-issue", "refusal"]);
    assert_eq!(case.document().await, first, "the lease is as it was");
    // Without a durable record nothing is lent.
    case.site.store.commits_fail.store(true, Ordering::SeqCst);
    case.refill(&[&case.file]).await.refused(ProblemCode::AuditUnavailable);
    case.site.store.commits_fail.store(false, Ordering::SeqCst);
    assert_eq!(case.document().await, first);
    case.refill(&[&case.file]).await.ok();
}

#[tokio::test]
async fn what_was_narrowed_stays_narrowed() {
    let case = Case::new().await;
    let new = case.new_file().await;
    let deny = case.deny(&["send"], json!({})).await;
    case.admin("DELETE", &deny, &Value::Null).await;
    let narrowed = case.shown().await.narrowed;
    assert_eq!((narrowed.len(), narrowed[0].rights), (1, Rights::only(Right::View)));
    // The policy gives sending again; the lease does not, neither for old files nor for new ones.
    let refilled: LeaseRecord = case.refill(&[&case.file, &new]).await.ok().to();
    assert_eq!((refilled.narrowed.clone(), refilled.rights), (narrowed.clone(), case.lease.rights));
    let document = case.document().await;
    let now = case.site.clock_now();
    for file in [&case.file, &new] {
        assert!(case.opens(&document, file));
        assert!(document.permits(&case.wish(file, Right::Send), 0, now, &[]).is_err());
    }
    assert_eq!(case.reference.terminal.bulletin().await.1.revocations.narrowed, narrowed);
    assert_eq!(case.sync(in_hand(&[case.lease.id])).await.narrowed, narrowed);
    // An earlier end stays, too, in the document as well.
    let end = now + SignedDuration::from_hours(24);
    let deny = case.deny(&["offline"], json!({ "conditions": { "not_before": end } })).await;
    case.admin("DELETE", &deny, &Value::Null).await;
    case.refill(&[&new]).await.ok();
    assert!(case.document().await.lease().files.iter().all(|file| file.ends_at == end));
    assert_eq!(case.shown().await.narrowed[0].ends_at, end);
    // From then on nothing of it is left, whatever the policy gives.
    case.site.advance(SignedDuration::from_hours(24));
    let case = Case { bucho: case.reference.terminal.login("bucho").await, ..case };
    let problem = case.refill(&[&new]).await.refused(ProblemCode::RightRefused);
    assert!(problem.detail.contains("for good"), "{}", problem.detail);
}

#[tokio::test]
async fn a_stricter_policy_reaches_what_was_refilled() {
    // The keys of the first document end with a rule; after that end the lease is refilled, until its own.
    let site = Site::start().await;
    let reference = site.reference().await;
    let end = site.clock_now() + SignedDuration::from_hours(24);
    let mut until = rule(&reference, "社外秘", 0, &["print"]);
    until["conditions"] = json!({ "not_after": end });
    reference.terminal.post("/v1/admin/rules", Some(&reference.admin), &until).await.created();
    let case = Case::over(site, reference).await;
    assert_eq!(case.document().await.lease().files[0].ends_at, end);
    case.site.advance(SignedDuration::from_hours(25));
    let reference =
        Reference { admin: case.reference.terminal.login(crate::support::ADMIN).await, ..case.reference };
    let case = Case { bucho: reference.terminal.login("bucho").await, reference, ..case };
    // Files of the label that belong to nobody are another case than the first ones.
    let policy =
        tobari_core::envelope::FilePolicy { owner_group: None, ..case.reference.policy("社外秘") };
    let everybody = seal_under(&case.reference.epoch(case.reference.label("社外秘").id).await, policy);
    let mut allow = rule(&case.reference, "社外秘", 0, &["view", "send", "offline"]);
    allow["groups"] = json!({ "kind": "any" });
    case.admin("POST", "/v1/admin/rules", &allow).await;
    case.refill(&[&case.file, &everybody]).await.ok();
    let document = case.document().await;
    assert!(document.lease().files.iter().all(|file| file.ends_at == case.lease.term.ends_at));
    // Less of both, and then nothing.
    case.deny(&["send"], json!({})).await;
    let narrowed = case.shown().await.narrowed;
    assert_eq!(narrowed.len(), 2, "{narrowed:?}");
    assert!(narrowed.iter().all(|one| one.rights == Rights::only(Right::View)));
    let now = case.site.clock_now();
    for file in [&case.file, &everybody] {
        assert!(document.permits(&case.wish(file, Right::Send), 0, now, &narrowed).is_err());
    }
    case.deny(&["offline"], json!({})).await;
    assert_eq!(case.shown().await.state, LeaseState::Revoked);
    case.refill(&[&case.file]).await.refused(ProblemCode::Conflict);
}

/// Files that the lease does not have any more may still be in use under it: the policy reaches them, too.
#[tokio::test]
async fn a_stricter_policy_reaches_what_was_left_out() {
    let case = Case::new().await;
    let policy =
        tobari_core::envelope::FilePolicy { owner_group: None, ..case.reference.policy("社外秘") };
    let everybody = seal_under(&case.reference.epoch(case.reference.label("社外秘").id).await, policy);
    let allow = rule(&case.reference, "社外秘", 0, &["view", "send", "offline"]);
    case.admin("POST", "/v1/admin/rules", &allow).await;
    case.refill(&[&everybody]).await.ok();
    case.deny(&["send"], json!({})).await;
    let groups: Vec<_> = case.shown().await.narrowed.iter().map(|one| one.owner_group).collect();
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert!(groups.contains(&Some(case.reference.group)));
}

#[tokio::test]
async fn where_two_have_to_agree_a_refill_does_not_do_without_them() {
    let site = Site::start().await;
    let reference = site.reference().await;
    let (path, fields) = label_fields(&reference, true);
    reference.terminal.put(&path, Some(&reference.admin), &fields).await.ok();
    let (reference, one, _two) = officers_of(&site, reference).await;
    let terminal = &reference.terminal;
    let epoch = reference.epoch(reference.label("社外秘").id).await;
    let files: Vec<Sealed> = (0..40).map(|_| seal_under(&epoch, reference.policy("社外秘"))).collect();
    let bucho = terminal.login("bucho").await;
    let mut request = wanted(&reference, site.clock_now(), &[&files[0]]);
    request["rights"] = json!(["view", "decrypt"]);
    let lease: LeaseRecord = terminal.post("/v1/leases", Some(&bucho), &request).await.created().to();
    let approve = format!("/v1/admin/leases/{}/approve", lease.id);
    terminal.post(&approve, Some(&one.bearer), &json!({})).await.ok();
    let refill = format!("/v1/leases/{}/refill", lease.id);
    let refilled = async |files: &[Sealed]| {
        let files: Vec<&Sealed> = files.iter().collect();
        terminal.post(&refill, Some(&bucho), &json!({ "files": items(&files) })).await
    };
    let needed = |answer: Answer| {
        let problem = answer.refused(ProblemCode::Conflict);
        assert_eq!(problem.field.as_deref(), Some("refill-second-person"));
        assert!(problem.detail.contains("a new lease"), "{}", problem.detail);
    };
    // One person may unseal 20 files: 20 at once, the same ones again, and not one after the other either.
    needed(refilled(&files[..21]).await);
    refilled(&files[..20]).await.ok();
    refilled(&files[..20]).await.ok();
    needed(refilled(&files[1..21]).await);
    needed(refilled(&files[20..40]).await);
    refilled(&files[10..20]).await.ok();
    // Its label becomes the highest.
    let raised = json!({ "name": "社外秘", "level": 1000, "lease_by_label": true });
    terminal.put(&path, Some(&one.bearer), &raised).await.ok();
    needed(refilled(&files[..1]).await);
}

/// What another server does between the look at the lease and the commit: one or the other, never both.
#[tokio::test]
async fn a_refill_and_a_change_of_another_server_see_each_other() {
    let case = Case::new().await;
    let store = &case.site.store;
    let now = case.site.clock_now();
    let new = case.new_file().await;
    let row = store.lease(case.lease.id).await.unwrap().unwrap();
    // The policy of another server, decided before the refill: it writes nothing after it.
    let (issued, _) = store.lease_kinds(LeaseCases::Person(case.lease.person), now).await.unwrap();
    case.refill(&[&new]).await.ok();
    let late = vec![Change::LeasesIssued(issued), Change::RevokeLease(case.lease.id, now)];
    let late = store.commit(&Basis::ANY, &late, &[]).await;
    assert!(matches!(late, Err(StoreError::Moved { .. })), "{late:?}");
    assert!(case.reference.terminal.bulletin().await.1.revocations.leases.is_empty());
    // A refill of another server, decided before this one: it does not put its document in the place of the newer one.
    let document = row.document.clone().unwrap();
    let late = vec![Change::RefillLease(document, Box::new(row))];
    let late = store.commit(&Basis::ANY, &late, &[]).await;
    assert!(matches!(late, Err(StoreError::Stale)), "{late:?}");
    assert!(case.opens(&case.document().await, &new));
}

/// On one server a policy becomes stricter while on another the lease is refilled with files of an owner group of which it had none:
/// whichever comes first, what is lent afterwards is what the policy gives.
#[tokio::test]
async fn on_two_servers_no_refill_slips_past_a_stricter_policy() {
    let Some(Pair { one, two, case, database: _database }) = Pair::start().await else { return };
    let mut case = Case::over(one, case).await;
    let there = case.reference.terminal.at(two.address);
    let admin = case.reference.admin.clone();
    let policy =
        tobari_core::envelope::FilePolicy { owner_group: None, ..case.reference.policy("社外秘") };
    let everybody = seal_under(&case.reference.epoch(case.reference.label("社外秘").id).await, policy);
    let allow = rule(&case.reference, "社外秘", 0, &["view", "send", "offline"]);
    case.admin("POST", "/v1/admin/rules", &allow).await;
    let mut deny = rule(&case.reference, "社外秘", 0, &["send"]);
    deny["effect"] = json!("deny");
    for round in 0..8 {
        let files = [&case.file, &everybody];
        let (refilled, denied) =
            tokio::join!(case.refill(&files), there.post("/v1/admin/rules", Some(&admin), &deny));
        if !refilled.status.is_success() {
            refilled.refused(ProblemCode::RightRefused);
        }
        let denied = denied.created().body;
        let (document, narrowed) = (case.document().await, case.shown().await.narrowed);
        let now = case.site.clock_now();
        for file in files {
            let sends = document.permits(&case.wish(file, Right::Send), 0, now, &narrowed);
            assert!(sends.is_err(), "round {round}");
        }
        document.permits(&case.wish(&case.file, Right::View), 0, now, &narrowed).unwrap();
        // And nothing of it comes back.
        let path = format!("/v1/admin/rules/{}", denied["id"].as_str().unwrap());
        there.delete(&path, Some(&admin)).await.ok();
        case.refill(&[&case.file]).await.ok();
        assert!(case.document().await.permits(&case.wish(&case.file, Right::Send), 0, now, &[]).is_err());
        // The next round has a lease of its own, and there is one at a time.
        let revoke = format!("/v1/admin/leases/{}/revoke", case.lease.id);
        there.post(&revoke, Some(&admin), &json!({ "reason": "返却" })).await.ok();
        case.refill(&[&case.file]).await.refused(ProblemCode::Conflict);
        let request = wanted(&case.reference, now, &[&case.file]);
        case.lease = lent(&case.reference, &case.bucho, &request).await;
    }
}

/// Refills while the lease is revoked, on one server: after the acknowledged revocation there is no document.
#[tokio::test]
async fn no_refill_outlives_a_revocation() {
    let case = Arc::new(Case::new().await);
    let terminal = Arc::new(case.reference.terminal.at(case.site.address));
    let body = Arc::new(json!({ "files": items(&[&case.file]) }));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (terminal, body, case): (Arc<Terminal>, _, _) =
            (Arc::clone(&terminal), Arc::clone(&body), Arc::clone(&case));
        running.spawn(async move {
            let mut refilled = 0;
            loop {
                let answer = terminal.post(&case.path(), Some(&case.bucho), body.as_ref()).await;
                if !answer.status.is_success() {
                    assert_eq!(answer.refused(ProblemCode::Conflict).field.as_deref(), Some("refill-over"));
                    return refilled;
                }
                refilled += 1;
            }
        });
    }
    while case.shown().await.refilled_at.is_none() {
        tokio::task::yield_now().await;
    }
    let revoke = format!("/v1/admin/leases/{}/revoke", case.lease.id);
    case.admin("POST", &revoke, &json!({ "reason": "紛失" })).await;
    assert!(case.sync(Vec::new()).await.leases.is_empty());
    let refilled: usize = running.join_all().await.into_iter().sum();
    assert!(refilled > 0);
    let row = case.site.store.lease(case.lease.id).await.unwrap().unwrap();
    assert_eq!((row.state, row.document), (LeaseState::Revoked, None));
    let acts = case.acts().await;
    let end = acts.iter().position(|act| act == "lease-revoke").unwrap();
    assert!(!acts[end..].iter().any(|act| act == "lease-refill"), "{acts:?}");
}

//! What takes two people beside changes of the policy: lifting what was stopped, lending files of the highest label, unsealing many
//! files, and keys. Each with the ways around it: alone, by oneself twice, again, by somebody who is no more, and for another thing
//! than was agreed to.

use crate::policy::{Officer, change, path, two_officers};
use crate::support::{Answer, Reference, Site, Terminal, item, seal_under};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;
use tobari_core::envelope::Sealed;
use tobari_core::policy::Right;
use tobari_core::proto::admin::LabelRecord;
use tobari_core::proto::api::GrantOutcome;
use tobari_core::proto::base64::Base64;
use tobari_core::proto::lease::{LeaseRecord, LeaseState};
use tobari_core::proto::policy::{ChangeRequest, PolicyStatus, RequestProgress, Widening};
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::store::Store as _;

/// Two officers and what they do.
struct Office<'a> {
    site: &'a Site,
    terminal: &'a Terminal,
    one: &'a Officer,
    two: &'a Officer,
}

impl Office<'_> {
    async fn post(&self, officer: &Officer, path: &str, body: &Value) -> Answer {
        self.terminal.post(path, Some(&officer.bearer), body).await
    }

    async fn request(&self, officer: &Officer, body: &Value) -> ChangeRequest {
        self.post(officer, "/v1/admin/requests", body).await.created().to()
    }

    /// Asked by one, approved by the other.
    async fn approved(&self, by: &Officer, other: &Officer, body: &Value) -> ChangeRequest {
        let request = self.request(by, body).await;
        self.approve(other, &request).await.ok();
        request
    }

    async fn approve(&self, officer: &Officer, request: &ChangeRequest) -> Answer {
        officer.step_up(self.site, self.terminal).await;
        self.post(officer, &path(request, "approve"), &json!({ "reason": "承認" })).await
    }

    async fn apply(&self, officer: &Officer, request: &ChangeRequest) -> Answer {
        officer.step_up(self.site, self.terminal).await;
        self.post(officer, &path(request, "apply"), &Value::Null).await
    }

    async fn state(&self, request: &ChangeRequest) -> RequestProgress {
        let path = format!("/v1/admin/requests/{}", request.id);
        self.terminal.get(&path, Some(&self.one.bearer)).await.ok().to::<ChangeRequest>().state
    }

    /// What holds of every request: not by the requester, not without a fresh code, not before it is approved, once.
    async fn takes_two(&self, body: &Value, widening: Widening) -> Value {
        let request = self.request(self.one, body).await;
        assert!(request.diff.widens.contains(&widening), "{:?}", request.diff);
        assert!(request.diff.needs_second_person);
        self.apply(self.one, &request).await.refused(ProblemCode::Conflict);
        self.approve(self.one, &request).await.refused(ProblemCode::Conflict);
        self.site.advance(SignedDuration::from_secs(301));
        let why = json!({ "reason": "承認" });
        self.post(self.two, &path(&request, "approve"), &why).await.refused(ProblemCode::StepUpNeeded);
        self.approve(self.two, &request).await.ok();
        self.apply(self.two, &request).await.refused(ProblemCode::Conflict);
        self.site.advance(SignedDuration::from_secs(301));
        self.post(self.one, &path(&request, "apply"), &Value::Null).await.refused(ProblemCode::StepUpNeeded);
        let made = self.apply(self.one, &request).await.ok().body;
        assert_eq!(self.state(&request).await, RequestProgress::Applied);
        self.apply(self.one, &request).await.refused(ProblemCode::Conflict);
        self.approve(self.two, &request).await.refused(ProblemCode::Conflict);
        made
    }
}

#[tokio::test]
async fn what_was_stopped_goes_on_when_two_agree() {
    let site = Site::start().await;
    let (case, one, two) = two_officers(&site).await;
    let office = Office { site: &site, terminal: &case.terminal, one: &one, two: &two };
    let file = case.sealed("社外秘").await;
    let revoke = |reason: &str| json!({ "kind": "file", "id": file.file_id, "reason": reason });
    let granted = async || {
        let bucho = case.terminal.login("bucho").await;
        case.terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await
    };
    // Stopping goes alone, going on does not.
    office.post(&one, "/v1/admin/revocations", &revoke("誤送付")).await.created();
    let lift = "/v1/admin/revocations/lift";
    office.post(&one, lift, &revoke("解除")).await.refused(ProblemCode::SecondPersonNeeded);
    let lifting = change("revocation-lifts", &revoke("解除"));
    office.post(&one, "/v1/admin/policy/changes", &lifting).await.refused(ProblemCode::SecondPersonNeeded);
    assert_eq!(granted().await.unwrap_err().code, ProblemCode::Revoked);
    office.takes_two(&lifting, Widening::Revocation).await;
    granted().await.unwrap();

    // Agreed to for one revocation, and by then it is another one of the same file.
    office.post(&one, "/v1/admin/revocations", &revoke("誤送付")).await.created();
    let stale = office.approved(&one, &two, &lifting).await;
    let other = office.approved(&two, &one, &lifting).await;
    office.apply(&two, &other).await.ok();
    office.apply(&one, &stale).await.refused(ProblemCode::NotFound);
    office.post(&two, "/v1/admin/revocations", &revoke("情報漏えいの疑い")).await.created();
    office.apply(&one, &stale).await.refused(ProblemCode::Conflict);
    assert_eq!(
        office.state(&stale).await,
        RequestProgress::Pending,
        "it waits for somebody to agree to that"
    );
    assert_eq!(granted().await.unwrap_err().code, ProblemCode::Revoked);

    // A frozen terminal: by its own route, and as a request.
    let cold = site.another(&case.terminal, &one.bearer, None).await;
    let cold_path = format!("/v1/admin/terminals/{}", cold.id);
    let act = async |verb: &str| {
        case.terminal.post(&format!("{cold_path}/{verb}"), Some(&one.bearer), &json!({})).await
    };
    act("freeze").await.ok();
    act("unfreeze").await.refused(ProblemCode::SecondPersonNeeded);
    // Nor beside it, with what else is known of a terminal.
    let name = json!({ "name": "貸出機", "frozen": false });
    case.terminal.put(&cold_path, Some(&one.bearer), &name).await.refused(ProblemCode::InvalidRequest);
    case.terminal.put(&cold_path, Some(&one.bearer), &json!({ "name": "貸出機" })).await.ok();
    assert_eq!(case.terminal.get(&cold_path, Some(&one.bearer)).await.ok().body["frozen"], json!(true));
    let unfreeze = json!({ "collection": "unfreezings", "id": cold.id, "reason": "見つかった" });
    office.takes_two(&unfreeze, Widening::Revocation).await;
    assert_eq!(case.terminal.get(&cold_path, Some(&one.bearer)).await.ok().body["frozen"], json!(false));
    office.post(&one, "/v1/admin/requests", &unfreeze).await.refused(ProblemCode::Conflict);
}

#[tokio::test]
async fn an_approval_ends_with_its_approver() {
    let site = Site::start().await;
    let (case, one, two) = two_officers(&site).await;
    let office = Office { site: &site, terminal: &case.terminal, one: &one, two: &two };
    let label = case.label("社外秘").id;
    let revoked = json!({ "kind": "label", "id": label, "reason": "点検" });
    office.post(&one, "/v1/admin/revocations", &revoked).await.created();
    let request = office.approved(&one, &two, &change("revocation-lifts", &revoked)).await;
    let people = case.terminal.get("/v1/admin/people", Some(&one.bearer)).await.ok().body;
    let fuku = people.as_array().unwrap().iter().find(|one| one["login"] == "fuku").unwrap();
    let disabled = json!({ "login": "fuku", "name": "fuku", "roles": fuku["roles"], "disabled": true });
    let of_fuku = format!("/v1/admin/people/{}", fuku["id"].as_str().unwrap());
    case.terminal.put(&of_fuku, Some(&one.bearer), &disabled).await.ok();
    office.apply(&one, &request).await.refused(ProblemCode::Conflict);
    let bucho = case.terminal.login("bucho").await;
    let file = case.sealed("社外秘").await;
    let refused = case.terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::Revoked);
}

fn wanted(site: &Site, file: &Sealed) -> Value {
    let now = site.clock_now();
    json!({
        "files": [{ "header": Base64(file.header.wire_bytes().to_vec()), "name": "起案書.docx" }],
        "rights": ["view"], "reason": "出張", "opens": { "kind": "unlimited" },
        "term": { "starts_at": now, "ends_at": now + SignedDuration::from_hours(48) },
    })
}

#[tokio::test]
async fn files_of_the_highest_label_are_lent_when_two_agree() {
    let site = Site::start().await;
    let (case, one, two) = two_officers(&site).await;
    let office = Office { site: &site, terminal: &case.terminal, one: &one, two: &two };
    let file = case.sealed("社外秘").await;
    let bucho = case.people["bucho"].id;
    let issue = || json!({ "person": bucho, "terminal": case.terminal.id, "lease": wanted(&site, &file) });
    // Not the highest: one administrator is enough.
    let lent: LeaseRecord = office.post(&one, "/v1/admin/leases", &issue()).await.created().to();
    assert_eq!(lent.state, LeaseState::Issued);

    // It becomes the highest, which takes nothing away from nobody.
    let label = case.label("社外秘");
    let raised = json!({ "name": "社外秘", "level": 1000 });
    let of_label = format!("/v1/admin/labels/{}", label.id);
    case.terminal.put(&of_label, Some(&one.bearer), &raised).await.ok();
    office.post(&one, "/v1/admin/leases", &issue()).await.refused(ProblemCode::SecondPersonNeeded);
    let by_bucho = case.terminal.login("bucho").await;
    let asked = case.terminal.post("/v1/leases", Some(&by_bucho), &wanted(&site, &file)).await.created();
    let asked: LeaseRecord = asked.to();
    let approve = format!("/v1/admin/leases/{}/approve", asked.id);
    office.post(&one, &approve, &json!({})).await.refused(ProblemCode::SecondPersonNeeded);
    let approval = json!({ "collection": "leases", "id": asked.id, "reason": "出張" });
    office.post(&one, "/v1/admin/policy/changes", &approval).await.refused(ProblemCode::InvalidRequest);
    let made = office.takes_two(&approval, Widening::Lease).await;
    assert_eq!((made["state"].as_str(), made["id"].as_str()), (Some("issued"), Some(&*asked.id.to_string())));
    // It is decided on; what waits for it does so in vain.
    office.post(&one, "/v1/admin/requests", &approval).await.refused(ProblemCode::Conflict);

    let unasked = json!({ "collection": "leases", "input": issue(), "reason": "会議" });
    let request = office.approved(&one, &two, &unasked).await;
    // Meanwhile the policy refuses it: nobody lends what may not be had.
    let mut deny = crate::policy::rule(&case, "社外秘", 0, &["offline"]);
    deny["effect"] = json!("deny");
    let deny = office.post(&two, "/v1/admin/rules", &deny).await.created().body;
    office.apply(&one, &request).await.refused(ProblemCode::RightRefused);
    let gone = json!({ "collection": "rules", "id": deny["id"], "reason": "戻す" });
    let back = office.approved(&two, &one, &gone).await;
    office.apply(&two, &back).await.ok();
    assert_eq!(office.apply(&one, &request).await.ok().body["state"], "issued");

    // Who gets it neither asks nor approves.
    let fuku = case.terminal.get("/v1/admin/people", Some(&one.bearer)).await.ok().body;
    let fuku = fuku.as_array().unwrap().iter().find(|one| one["login"] == "fuku").unwrap()["id"].clone();
    let own = json!({ "person": fuku, "terminal": case.terminal.id, "lease": wanted(&site, &file) });
    let own = json!({ "collection": "leases", "input": own, "reason": "自分用" });
    office.post(&two, "/v1/admin/requests", &own).await.refused(ProblemCode::Conflict);
}

/// Sealed files of one epoch.
async fn files(case: &Reference, count: usize) -> Vec<Sealed> {
    let epoch = case.epoch(case.label("社外秘").id).await;
    (0..count).map(|_| seal_under(&epoch, case.policy("社外秘"))).collect()
}

/// How many of the files are unsealed, and the codes of the others.
async fn unseal(terminal: &Terminal, bearer: &str, files: &[Sealed]) -> (usize, Vec<ProblemCode>) {
    let items = files.iter().map(|file| item(file.header.wire_bytes(), Right::Decrypt)).collect();
    let response = terminal.grants(bearer, items).await;
    let codes: Vec<ProblemCode> = response
        .outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            GrantOutcome::Granted(_) => None,
            GrantOutcome::Refused(refusal) => Some(refusal.code),
        })
        .collect();
    (files.len() - codes.len(), codes)
}

#[tokio::test]
async fn many_files_are_unsealed_when_two_agree_and_for_a_while() {
    let site = Site::start().await;
    let (case, one, two) = two_officers(&site).await;
    let office = Office { site: &site, terminal: &case.terminal, one: &one, two: &two };
    let terminal = &case.terminal;
    let all = files(&case, 40).await;
    let bucho = terminal.login("bucho").await;
    let needed = |count: usize| vec![ProblemCode::SecondPersonNeeded; count];
    // 20 in an hour, in a batch or one by one; the same again is no other one.
    assert_eq!(unseal(terminal, &bucho, &all[..22]).await, (20, needed(2)));
    assert_eq!(unseal(terminal, &bucho, &all[..20]).await, (20, needed(0)));
    assert_eq!(unseal(terminal, &bucho, &all[30..31]).await, (0, needed(1)));
    let refused = terminal.grant(&bucho, all[30].header.wire_bytes(), Right::Decrypt).await.unwrap_err();
    assert!(refused.detail.contains("20 files within an hour") && refused.right == Some(Right::Decrypt));
    // Looking at them is another thing.
    terminal.grant(&bucho, all[30].header.wire_bytes(), Right::View).await.unwrap();

    let person = case.people["bucho"].id;
    let window = json!({
        "collection": "unseal-windows", "id": person, "input": { "files": 5, "minutes": 60 }, "reason": "文書館へ移管",
    });
    office.post(&one, "/v1/admin/policy/changes", &window).await.refused(ProblemCode::SecondPersonNeeded);
    office.takes_two(&window, Widening::Unsealing).await;
    let bucho = terminal.login("bucho").await;
    assert_eq!(unseal(terminal, &bucho, &all[20..30]).await, (5, needed(5)), "so many and not more");
    let status: PolicyStatus = terminal.get("/v1/admin/policy", Some(&one.bearer)).await.ok().to();
    let shown = &status.unseal_windows[0];
    assert_eq!((status.unseal_files, shown.login.as_str(), shown.files), (Some(20), "bucho", 5));
    // A larger one in its place takes two again, and agreement to the first is none to it.
    let mut larger = window.clone();
    larger["input"]["files"] = json!(50);
    let request = office.approved(&one, &two, &larger).await;
    let end = office.approved(&two, &one, &window).await;
    office.apply(&two, &end).await.ok();
    office.apply(&one, &request).await.refused(ProblemCode::Conflict);

    // After its time only what holds for all holds.
    site.advance(SignedDuration::from_hours(2));
    let bucho = terminal.login("bucho").await;
    assert_eq!(unseal(terminal, &bucho, &all).await, (20, needed(20)));

    // A lower bound goes alone, a higher one does not. None at all neither.
    let one = crate::policy::relogin(&site, terminal, "admin", &one).await;
    let office = Office { one: &one, ..office };
    let limit = |files: Value| change("unseal-limit", &json!({ "files": files }));
    office.post(&one, "/v1/admin/policy/changes", &limit(json!(3))).await.ok();
    for wider in [json!(4), Value::Null] {
        office
            .post(&one, "/v1/admin/policy/changes", &limit(wider))
            .await
            .refused(ProblemCode::SecondPersonNeeded);
    }
    office
        .post(&one, "/v1/admin/policy/changes", &limit(json!(0)))
        .await
        .refused(ProblemCode::InvalidRequest);
    let lent = json!({ "collection": "unseal-windows", "id": one_id(terminal, &one).await, "input": { "files": 9, "minutes": 9 }, "reason": "自分" });
    let two = crate::policy::relogin(&site, terminal, "fuku", &two).await;
    let for_one = office.request(&two, &lent).await;
    office.approve(&one, &for_one).await.refused(ProblemCode::Conflict);
}

async fn one_id(terminal: &Terminal, officer: &Officer) -> Value {
    terminal.get("/v1/sessions/current", Some(&officer.bearer)).await.ok().body["person"].clone()
}

#[tokio::test]
async fn haste_unseals_no_more_than_patience() {
    let site = Site::start().await;
    let (case, ..) = two_officers(&site).await;
    let terminal = Arc::new(case.terminal.at(site.address));
    let all = files(&case, 30).await;
    let bucho = case.terminal.login("bucho").await;
    let mut running = tokio::task::JoinSet::new();
    for file in all {
        let (terminal, bucho) = (Arc::clone(&terminal), bucho.clone());
        running.spawn(async move {
            let header = file.header.wire_bytes().to_vec();
            let answer = terminal
                .post("/v1/grants", Some(&bucho), &json!({ "items": [item(&header, Right::Decrypt)] }))
                .await;
            // An answer that the server could not come to in its attempts gives nothing either.
            answer.body["outcomes"][0]["outcome"] == "granted"
        });
    }
    let granted = running.join_all().await.into_iter().filter(|granted| *granted).count();
    assert!(granted <= 20 && granted > 0, "{granted}");
}

#[tokio::test]
async fn without_a_second_person_nothing_is_counted() {
    let site = Site::start().await;
    let case = site.reference().await;
    let all = files(&case, 25).await;
    let bucho = case.terminal.login("bucho").await;
    assert_eq!(unseal(&case.terminal, &bucho, &all).await, (25, vec![]));
}

#[tokio::test]
async fn a_retired_key_opens_nothing_and_does_not_come_back() {
    let mut site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, case.admin.clone());
    let label = case.label("社外秘").id;
    let file = case.sealed("社外秘").await;
    let bucho = terminal.login("bucho").await;
    let at = |verb: &str| format!("/v1/admin/labels/{label}/{verb}");
    let retire = async |terminal: &Terminal, generation: u32, force: bool| {
        let input = json!({ "generation": generation, "force": force });
        terminal.post(&at("retire"), Some(&admin), &input).await
    };
    retire(terminal, 1, false).await.refused(ProblemCode::Conflict);
    retire(terminal, 2, false).await.refused(ProblemCode::NotFound);
    terminal.post(&at("rotate"), Some(&admin), &Value::Null).await.ok();
    // A file was asked for that needs the first key: not while that is known, and by force not alone, second person or not.
    let granted = terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await;
    granted.unwrap();
    let problem = retire(terminal, 1, false).await.refused(ProblemCode::Conflict);
    assert!(problem.detail.contains("1 files"), "{}", problem.detail);
    retire(terminal, 1, true).await.refused(ProblemCode::SecondPersonNeeded);

    // The second is needed by nothing that is known.
    terminal.post(&at("rotate"), Some(&admin), &Value::Null).await.ok();
    let mut policy = case.policy("社外秘");
    policy.generation = 2;
    // But files that nobody has asked for yet may need it: not before the third was in use for a while.
    let problem = retire(terminal, 2, false).await.refused(ProblemCode::Conflict);
    assert!(problem.detail.contains("30 days"), "{}", problem.detail);
    site.limits.key_rest = jiff::SignedDuration::ZERO;
    site.restart().await;
    let mut terminal = terminal.at(site.address);
    terminal.move_to(site.address);
    let terminal = &terminal;
    let retired: LabelRecord = retire(terminal, 2, false).await.ok().to();
    assert_eq!((retired.generation, retired.retired.as_slice()), (3, [2].as_slice()));
    retire(terminal, 2, false).await.refused(ProblemCode::Conflict);
    retire(terminal, 3, false).await.refused(ProblemCode::Conflict);
    let key = site.store.load().await.unwrap().tables.label_keys[&(label, 2)].clone();
    assert!(key.sealed_private.is_empty(), "the private half is gone");
    // The first still opens.
    terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap();
    // After a start, too, and the ring does without it.
    site.restart().await;
    let mut terminal = terminal.at(site.address);
    terminal.move_to(site.address);
    terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap();
}

#[tokio::test]
async fn a_key_that_files_need_is_retired_when_two_agree() {
    let site = Site::start().await;
    let (case, one, two) = two_officers(&site).await;
    let office = Office { site: &site, terminal: &case.terminal, one: &one, two: &two };
    let terminal = &case.terminal;
    let label = case.label("社外秘").id;
    let file = case.sealed("社外秘").await;
    let rotate = json!({ "collection": "label-keys", "id": label, "reason": "年次" });
    office.takes_two(&rotate, Widening::Keys).await;
    let bucho = terminal.login("bucho").await;
    terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap();
    let retire = |force: bool| {
        json!({
            "collection": "retired-keys", "id": label, "input": { "generation": 1, "force": force }, "reason": "漏えい",
        })
    };
    office.post(&one, "/v1/admin/requests", &retire(false)).await.refused(ProblemCode::Conflict);
    let made = office.takes_two(&retire(true), Widening::Keys).await;
    assert_eq!(made["retired"], json!([1]));
    let bucho = terminal.login("bucho").await;
    for right in [Right::View, Right::Relabel] {
        let refused = terminal.grant(&bucho, file.header.wire_bytes(), right).await.unwrap_err();
        assert_eq!(refused.code, ProblemCode::KeyRetired);
        assert!(refused.detail.contains("recovery key"), "{}", refused.detail);
    }
    let items = json!({ "items": [item(file.header.wire_bytes(), Right::View)] });
    let shown = terminal.post("/v1/decisions", Some(&bucho), &items).await.ok().body;
    assert_eq!(shown["decisions"][0]["code"], "key-retired", "{shown}");
    let asked = terminal.post("/v1/leases", Some(&bucho), &wanted(&site, &file)).await;
    asked.refused(ProblemCode::RightRefused);
    // What is sealed now opens.
    let (_, bulletin) = terminal.bulletin().await;
    assert_eq!(bulletin.labels.iter().find(|one| one.label.id == label).unwrap().generation, 2);
    let newer = case.sealed("社外秘").await;
    terminal.grant(&bucho, newer.header.wire_bytes(), Right::View).await.unwrap();
}

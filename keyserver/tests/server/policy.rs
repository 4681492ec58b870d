//! Policy at work: explaining, comparing before a change, invariants, versions, and the second person.

use crate::support::{Reference, Site, Terminal, password, person_input};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tobari_core::policy::Right;
use tobari_core::proto::api::LoginResponse;
use tobari_core::proto::policy::{
    ChangeRequest, Explanation, PolicyAt, PolicyDiff, PolicyStatus, PolicyVersion, RequestProgress, Widening,
};
use tobari_core::proto::problem::ProblemCode;

const ALL: [&str; 5] = ["key-custodian", "policy", "terminals", "leases", "auditor"];

pub(crate) fn rule(case: &Reference, label: &str, rank: u16, rights: &[&str]) -> Value {
    json!({
        "label": case.label(label).id, "groups": { "kind": "any" },
        "posts": { "kind": "rank-at-least", "rank": rank }, "effect": "allow", "rights": rights,
    })
}

pub(crate) fn change(collection: &str, input: &Value) -> Value {
    json!({ "collection": collection, "input": input, "reason": "年度替わり" })
}

async fn diff(case: &Reference, change: &Value) -> PolicyDiff {
    case.terminal.post("/v1/admin/policy/diff", Some(&case.admin), change).await.ok().to()
}

async fn status(terminal: &Terminal, bearer: &str) -> PolicyStatus {
    terminal.get("/v1/admin/policy", Some(bearer)).await.ok().to()
}

#[tokio::test]
async fn an_explanation_is_the_decision_of_a_grant() {
    let site = Site::start().await;
    let case = site.reference().await;
    for label in ["極秘", "秘", "社外秘", "公開"] {
        let file = case.sealed(label).await;
        for login in ["bucho", "kacho", "ippan"] {
            let bearer = case.terminal.login(login).await;
            for right in [Right::View, Right::Edit, Right::Decrypt] {
                let asked = json!({
                    "person": case.people[login].id, "label": case.label(label).id,
                    "owner_group": case.group, "right": right,
                });
                let answer = case.terminal.post("/v1/admin/explain", Some(&case.admin), &asked).await.ok();
                let said: Explanation = answer.to();
                let granted = case.terminal.grant(&bearer, file.header.wire_bytes(), right).await;
                assert_eq!(said.allowed, granted.is_ok(), "{login} {label} {right}");
                if let Ok(grant) = granted {
                    assert_eq!(said.rights, grant.rights);
                    assert!(said.reasons.iter().any(|reason| reason.rights.contains(right)));
                }
            }
        }
    }
    let asked =
        json!({ "person": case.people["bucho"].id, "label": case.label("社外秘").id, "right": "view" });
    let bucho = case.terminal.login("bucho").await;
    case.terminal
        .post("/v1/admin/explain", Some(&bucho), &asked)
        .await
        .refused(ProblemCode::NotAdministrator);
}

#[tokio::test]
async fn a_change_is_looked_at_without_being_made() {
    let site = Site::start().await;
    let case = site.reference().await;
    let before = status(&case.terminal, &case.admin).await.version;
    // 課長 may view, edit and print 社外秘; now also send. 部長 may already.
    let asked = change("rules", &rule(&case, "社外秘", 300, &["view", "send"]));
    let found = diff(&case, &asked).await;
    assert_eq!((found.policy_version, found.lost_total, found.gained_total), (before, 0, 1));
    let row = &found.gained[0];
    assert_eq!(
        (row.post_name.as_str(), row.group_name.as_str(), row.label_name.as_str()),
        ("課長", "総務部", "社外秘")
    );
    assert_eq!((row.rights.to_string(), row.cases.len(), row.zone.as_ref()), ("send".to_owned(), 0, None));
    assert_eq!((found.widens, found.needs_second_person), (vec![Widening::Rights], false));
    assert_eq!(status(&case.terminal, &case.admin).await.version, before, "nothing was changed");
    let rules = case.terminal.get("/v1/admin/rules", Some(&case.admin)).await.ok().body;
    assert_eq!(rules.as_array().unwrap().len(), case.preset.rules.len());

    // A person who becomes 部長, and one who is shut out.
    let ippan = &case.people["ippan"];
    let post = case.preset.posts.iter().find(|post| post.name == "部長").unwrap().id;
    let mut input = json!({
        "login": "ippan", "name": "ippan", "memberships": [{ "group": case.group, "post": post }],
    });
    let mut asked = json!({ "collection": "people", "id": ippan.id, "input": input });
    let found = diff(&case, &asked).await;
    assert!(found.lost.is_empty() && found.gained.iter().all(|row| row.login.as_deref() == Some("ippan")));
    assert!(found.gained.iter().any(|row| row.label_name == "社外秘" && row.rights.contains(Right::Decrypt)));
    input = json!({ "login": "ippan", "name": "ippan", "memberships": ippan.memberships, "disabled": true });
    asked["input"] = input;
    let found = diff(&case, &asked).await;
    assert!(found.gained.is_empty() && found.lost.iter().any(|row| row.rights.contains(Right::View)));
    // What would be refused is refused here too.
    let bad = change("groups", &json!({ "name": "総務部" }));
    case.terminal.post("/v1/admin/policy/diff", Some(&case.admin), &bad).await.refused(ProblemCode::Conflict);
    let role = person_input("kagi", vec![], &["key-custodian"]);
    case.terminal.post("/v1/admin/people", Some(&case.admin), &role).await.created();
    let kagi = case.terminal.login("kagi").await;
    let asked = change("posts", &json!({ "name": "主任", "rank": 150 }));
    case.terminal
        .post("/v1/admin/policy/diff", Some(&kagi), &asked)
        .await
        .refused(ProblemCode::NotAdministrator);
}

pub(crate) fn invariant(case: &Reference) -> Value {
    let kacho = case.preset.posts.iter().find(|post| post.name == "課長").unwrap().id;
    json!({
        "name": "課長未満は復号しない", "labels": { "kind": "this", "label": case.label("社外秘").id },
        "groups": { "kind": "any" }, "posts": { "kind": "below", "post": kacho }, "rights": ["decrypt"],
    })
}

#[tokio::test]
async fn an_invariant_stands_against_every_way_to_break_it() {
    let site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, Some(case.admin.as_str()));
    let made = terminal.post("/v1/admin/invariants", admin, &invariant(&case)).await.created().body;
    let breaks = rule(&case, "社外秘", 100, &["decrypt"]);
    let problem =
        terminal.post("/v1/admin/rules", admin, &breaks).await.refused(ProblemCode::InvariantBroken);
    assert_eq!(problem.field.as_deref(), Some("課長未満は復号しない"));
    assert!(problem.detail.contains("社外秘"), "{}", problem.detail);
    let found = diff(&case, &change("rules", &breaks)).await;
    assert_eq!(found.breaks[0].name, "課長未満は復号しない");
    terminal
        .post("/v1/admin/policy/changes", admin, &change("rules", &breaks))
        .await
        .refused(ProblemCode::InvariantBroken);
    // By a rule for 課長, and 一般 raised or 課長 lowered to it.
    terminal.post("/v1/admin/rules", admin, &rule(&case, "社外秘", 300, &["decrypt"])).await.created();
    let post = |name: &str| case.preset.posts.iter().find(|post| post.name == name).unwrap();
    let path = |name: &str| format!("/v1/admin/posts/{}", post(name).id);
    // 課長 now ranks above 部長: 部長 is below 課長 and may decrypt.
    let raised = json!({ "name": "課長", "rank": 900 });
    terminal.put(&path("課長"), admin, &raised).await.refused(ProblemCode::InvariantBroken);
    // One more that is broken already is refused by itself.
    let mut broken = invariant(&case);
    broken["name"] = json!("部長も復号しない");
    broken["posts"] = json!({ "kind": "any" });
    terminal.post("/v1/admin/invariants", admin, &broken).await.refused(ProblemCode::InvariantBroken);
    // What it names stays while it stands.
    let id = made["id"].as_str().unwrap();
    terminal.delete(&format!("/v1/admin/invariants/{id}"), admin).await.ok();
    terminal.post("/v1/admin/rules", admin, &breaks).await.created();
    terminal
        .post("/v1/admin/invariants", admin, &invariant(&case))
        .await
        .refused(ProblemCode::InvariantBroken);
}

#[tokio::test]
async fn versions_say_who_when_what_and_why_and_lead_back() {
    let site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, Some(case.admin.as_str()));
    let list =
        async || -> Vec<PolicyVersion> { terminal.get("/v1/admin/policy/versions", admin).await.ok().to() };
    let first = list().await;
    assert_eq!(
        first.iter().map(|one| one.version).rev().collect::<Vec<_>>(),
        (1..=first.len() as u64).collect::<Vec<_>>()
    );
    assert_eq!((first.last().unwrap().act.as_str(), first.last().unwrap().login.as_str()), ("start", ""));
    let good = first[0].version;
    let at = |version: u64| format!("/v1/admin/policy/versions/{version}");
    let then: PolicyAt = terminal.get(&at(good), admin).await.ok().to();

    let asked = change("rules", &rule(&case, "社外秘", 100, &["decrypt"]));
    let made = terminal.post("/v1/admin/policy/changes", admin, &asked).await.ok().body;
    terminal.post("/v1/admin/groups", admin, &json!({ "name": "臨時" })).await.created();
    let told = list().await;
    let told = told.iter().find(|one| one.version == good + 1).unwrap();
    assert_eq!(
        (told.login.as_str(), told.act.as_str(), told.reason.as_str()),
        ("admin", "create", "年度替わり")
    );
    assert_eq!(told.object, format!("rule/{}", made["id"].as_str().unwrap()));

    // What has nothing to do with the policy is no version.
    let latest = status(terminal, &case.admin).await.version;
    let input =
        json!({ "login": "bucho", "name": "別の名", "memberships": case.people["bucho"].memberships });
    let bucho = format!("/v1/admin/people/{}", case.people["bucho"].id);
    terminal.put(&bucho, admin, &input).await.ok();
    assert_eq!(status(terminal, &case.admin).await.version, latest);

    let back = json!({ "collection": "versions", "id": good.to_string(), "reason": "取り消し" });
    let found = diff(&case, &back).await;
    assert!(found.gained.is_empty() && found.lost.iter().any(|row| row.rights.contains(Right::Decrypt)));
    terminal.post("/v1/admin/policy/changes", admin, &back).await.ok();
    let now: PolicyAt = terminal.get(&at(latest + 1), admin).await.ok().to();
    let sorted = |mut policy: tobari_core::policy::Policy| {
        policy.rules.sort_by_key(|rule| rule.id);
        policy.groups.sort_by_key(|group| group.id);
        policy.posts.sort_by_key(|post| post.id);
        policy.labels.sort_by_key(|label| label.id);
        policy
    };
    assert_eq!(sorted(now.policy), sorted(then.policy));
    assert_eq!(now.version.reason, "取り消し");
    let none = json!({ "collection": "versions", "id": "4000" });
    terminal.post("/v1/admin/policy/changes", admin, &none).await.refused(ProblemCode::NotFound);
    // A group that somebody is in by now does not vanish under them.
    let group = terminal.post("/v1/admin/groups", admin, &json!({ "name": "新設" })).await.created().body;
    let held = json!([{ "group": group["id"], "post": case.people["ippan"].memberships[0].post }]);
    let input = json!({ "login": "ippan", "name": "ippan", "memberships": held });
    terminal.put(&format!("/v1/admin/people/{}", case.people["ippan"].id), admin, &input).await.ok();
    terminal.post("/v1/admin/policy/changes", admin, &back).await.refused(ProblemCode::Conflict);
}

/// An administrator with an authenticator, logged in.
pub(crate) struct Officer {
    pub(crate) bearer: String,
    totp: totp_rs::Totp,
}

impl Officer {
    pub(crate) async fn new(site: &Site, terminal: &Terminal, login: &str, otpauth: &Value) -> Self {
        let totp = totp_rs::Totp::from_url(otpauth.as_str().unwrap()).unwrap();
        let code = totp.generate(u64::try_from(site.clock_now().as_second()).unwrap()).to_string();
        let answer = terminal.try_login(login, &password(login), Some(&code)).await.created();
        let response: LoginResponse = answer.to();
        Self { bearer: response.token, totp }
    }

    /// A fresh code, of the next time step.
    pub(crate) async fn step_up(&self, site: &Site, terminal: &Terminal) -> String {
        site.advance(SignedDuration::from_secs(31));
        let code = self.totp.generate(u64::try_from(site.clock_now().as_second()).unwrap()).to_string();
        let answer = terminal.post("/v1/admin/step-up", Some(&self.bearer), &json!({ "totp": code })).await;
        answer.ok();
        code
    }
}

/// The reference case with two who could approve.
pub(crate) async fn two_officers(site: &Site) -> (Reference, Officer, Officer) {
    officers_of(site, site.reference().await).await
}

/// The same where something is as it is already.
pub(crate) async fn officers_of(site: &Site, case: Reference) -> (Reference, Officer, Officer) {
    let (terminal, admin) = (&case.terminal, Some(case.admin.as_str()));
    assert!(!status(terminal, &case.admin).await.second_person, "one administrator can begin");
    let mut input = person_input("fuku", vec![], &ALL);
    input["new_totp"] = json!(true);
    let fuku = terminal.post("/v1/admin/people", admin, &input).await.created().body;
    assert!(!status(terminal, &case.admin).await.second_person, "the first has no authenticator yet");
    let people = terminal.get("/v1/admin/people", admin).await.ok().body;
    let me = people.as_array().unwrap().iter().find(|one| one["login"] == "admin").unwrap()["id"].clone();
    let input = json!({ "login": "admin", "name": "admin", "roles": ALL, "new_totp": true });
    let path = format!("/v1/admin/people/{}", me.as_str().unwrap());
    let me = terminal.put(&path, admin, &input).await.ok().body;
    let one = Officer::new(site, terminal, "admin", &me["otpauth"]).await;
    let two = Officer::new(site, terminal, "fuku", &fuku["otpauth"]).await;
    let now = status(terminal, &one.bearer).await;
    assert!(now.second_person && now.set, "from now on it takes two");
    (case, one, two)
}

pub(crate) fn path(request: &ChangeRequest, what: &str) -> String {
    format!("/v1/admin/requests/{}/{what}", request.id)
}

#[tokio::test]
async fn what_widens_access_takes_two_people_and_fresh_codes() {
    let site = Site::start().await;
    let (case, one, two) = two_officers(&site).await;
    let terminal = &case.terminal;
    let wider = rule(&case, "社外秘", 100, &["decrypt"]);
    let why = json!({ "reason": "承認" });
    let post = async |officer: &Officer, path: &str, body: &Value| {
        terminal.post(path, Some(&officer.bearer), body).await
    };

    // Nobody does it alone, by whichever way, and fresh codes do not help.
    one.step_up(&site, terminal).await;
    post(&one, "/v1/admin/rules", &wider).await.refused(ProblemCode::SecondPersonNeeded);
    post(&one, "/v1/admin/policy/changes", &change("rules", &wider))
        .await
        .refused(ProblemCode::SecondPersonNeeded);
    // What takes away goes alone.
    let mut narrower = rule(&case, "社外秘", 0, &["print"]);
    narrower["effect"] = json!("deny");
    post(&one, "/v1/admin/rules", &narrower).await.created();

    let no_reason = json!({ "collection": "rules", "input": wider });
    post(&one, "/v1/admin/requests", &no_reason).await.refused(ProblemCode::InvalidRequest);
    let request: ChangeRequest =
        post(&one, "/v1/admin/requests", &change("rules", &wider)).await.created().to();
    assert_eq!((request.state, request.requested_by_login.as_str()), (RequestProgress::Pending, "admin"));
    assert!(request.diff.needs_second_person && request.diff.gained_total > 0);

    // Not before it is approved, not by the requester, not without a fresh code, not without the role.
    post(&one, &path(&request, "apply"), &Value::Null).await.refused(ProblemCode::Conflict);
    post(&one, &path(&request, "approve"), &why).await.refused(ProblemCode::Conflict);
    post(&two, &path(&request, "approve"), &why).await.refused(ProblemCode::StepUpNeeded);
    let bucho = terminal.login("bucho").await;
    terminal
        .post(&path(&request, "approve"), Some(&bucho), &why)
        .await
        .refused(ProblemCode::NotAdministrator);
    let code = two.step_up(&site, terminal).await;
    // A code is good once, and a wrong one is none.
    for code in [code.as_str(), "000000"] {
        let body = json!({ "totp": code });
        post(&two, "/v1/admin/step-up", &body).await.refused(ProblemCode::BadCredentials);
    }
    site.advance(SignedDuration::from_secs(301));
    post(&two, &path(&request, "approve"), &why).await.refused(ProblemCode::StepUpNeeded);
    two.step_up(&site, terminal).await;
    let approved: ChangeRequest = post(&two, &path(&request, "approve"), &why).await.ok().to();
    assert_eq!(
        (approved.state, approved.decided_by_login.as_deref()),
        (RequestProgress::Approved, Some("fuku"))
    );

    // Applied by the requester alone, with a fresh code, once.
    post(&two, &path(&request, "apply"), &Value::Null).await.refused(ProblemCode::Conflict);
    post(&one, &path(&request, "apply"), &Value::Null).await.refused(ProblemCode::StepUpNeeded);
    one.step_up(&site, terminal).await;
    let made = post(&one, &path(&request, "apply"), &Value::Null).await.ok().body;
    assert_eq!(made["rights"], json!(["decrypt"]));
    post(&one, &path(&request, "apply"), &Value::Null).await.refused(ProblemCode::Conflict);
    let versions = terminal.get("/v1/admin/policy/versions?limit=1", Some(&one.bearer)).await.ok();
    let versions: Vec<PolicyVersion> = versions.to();
    assert_eq!((versions[0].request, versions[0].reason.as_str()), (Some(request.id), "年度替わり"));
    assert_eq!(versions[0].approved_by, approved.decided_by);
}

#[tokio::test]
async fn an_approval_is_for_what_was_seen_and_for_a_while() {
    let site = Site::start().await;
    let (case, one, two) = two_officers(&site).await;
    let terminal = &case.terminal;
    let why = json!({ "reason": "承認" });
    let post = async |officer: &Officer, path: &str, body: &Value| {
        terminal.post(path, Some(&officer.bearer), body).await
    };
    let asked = change("rules", &rule(&case, "社外秘", 300, &["send"]));
    let request: ChangeRequest = post(&one, "/v1/admin/requests", &asked).await.created().to();
    two.step_up(&site, terminal).await;
    post(&two, &path(&request, "approve"), &why).await.ok();
    one.step_up(&site, terminal).await;

    // Meanwhile 課長 loses all: the same rule would give something else. What was approved is void.
    let mut deny = rule(&case, "社外秘", 300, &["send", "view"]);
    deny["effect"] = json!("deny");
    let deny = post(&two, "/v1/admin/rules", &deny).await.created().body;
    post(&one, &path(&request, "apply"), &Value::Null).await.refused(ProblemCode::Conflict);
    let shown = format!("/v1/admin/requests/{}", request.id);
    let now: ChangeRequest = terminal.get(&shown, Some(&one.bearer)).await.ok().to();
    assert_eq!((now.state, now.diff.gained_total), (RequestProgress::Pending, 0), "it shows what is so now");
    // Approved again as it is now, a change of the policy that does not touch it does not matter.
    two.step_up(&site, terminal).await;
    post(&two, &path(&request, "approve"), &why).await.ok();
    let mut other = rule(&case, "公開", 0, &["send"]);
    other["effect"] = json!("deny");
    post(&two, "/v1/admin/rules", &other).await.created();
    one.step_up(&site, terminal).await;
    post(&one, &path(&request, "apply"), &Value::Null).await.ok();
    // Taking the deny away gives: not alone.
    let path_of_deny = format!("/v1/admin/rules/{}", deny["id"].as_str().unwrap());
    terminal.delete(&path_of_deny, Some(&two.bearer)).await.refused(ProblemCode::SecondPersonNeeded);

    // After its time a request is over, approved or not.
    let asked = json!({ "collection": "rules", "id": deny["id"], "reason": "終了" });
    let late: ChangeRequest = post(&one, "/v1/admin/requests", &asked).await.created().to();
    two.step_up(&site, terminal).await;
    post(&two, &path(&late, "approve"), &why).await.ok();
    site.advance(SignedDuration::from_hours(24));
    let one = relogin(&site, terminal, "admin", &one).await;
    let two = relogin(&site, terminal, "fuku", &two).await;
    one.step_up(&site, terminal).await;
    post(&one, &path(&late, "apply"), &Value::Null).await.refused(ProblemCode::Conflict);
    let shown = terminal.get(&format!("/v1/admin/requests/{}", late.id), Some(&one.bearer)).await.ok();
    assert_eq!(shown.to::<ChangeRequest>().state, RequestProgress::Expired);
    // Refused by the second person: over.
    let refused: ChangeRequest = post(&one, "/v1/admin/requests", &asked).await.created().to();
    post(&two, &path(&refused, "refuse"), &why).await.ok();
    two.step_up(&site, terminal).await;
    post(&two, &path(&refused, "approve"), &why).await.refused(ProblemCode::Conflict);
}

pub(crate) async fn relogin(site: &Site, terminal: &Terminal, login: &str, officer: &Officer) -> Officer {
    let code = officer.totp.generate(u64::try_from(site.clock_now().as_second()).unwrap()).to_string();
    let response: LoginResponse =
        terminal.try_login(login, &password(login), Some(&code)).await.created().to();
    let totp = totp_rs::Totp::from_url(officer.totp.to_url().unwrap()).unwrap();
    Officer { bearer: response.token, totp }
}

#[tokio::test]
async fn nobody_makes_their_own_second_person() {
    let site = Site::start().await;
    let (case, one, two) = two_officers(&site).await;
    let terminal = &case.terminal;
    one.step_up(&site, terminal).await;
    let needs = |answer: crate::support::Answer| {
        answer.refused(ProblemCode::SecondPersonNeeded);
    };
    let bearer = Some(one.bearer.as_str());
    let people = terminal.get("/v1/admin/people", bearer).await.ok().body;
    let of = |login: &str| {
        let found = people.as_array().unwrap().iter().find(|one| one["login"] == login).unwrap();
        format!("/v1/admin/people/{}", found["id"].as_str().unwrap())
    };
    // A new administrator, a friend made one, another's password or authenticator, one's own new authenticator.
    needs(terminal.post("/v1/admin/people", bearer, &person_input("nakama", vec![], &["policy"])).await);
    let bucho = json!({ "login": "bucho", "name": "bucho", "memberships": case.people["bucho"].memberships, "roles": ["policy"] });
    needs(terminal.put(&of("bucho"), bearer, &bucho).await);
    let mut fuku = json!({ "login": "fuku", "name": "fuku", "roles": ALL, "password": "now-it-is-Mine" });
    needs(terminal.put(&of("fuku"), bearer, &fuku).await);
    fuku = json!({ "login": "fuku", "name": "fuku", "roles": ALL, "new_totp": true });
    needs(terminal.put(&of("fuku"), bearer, &fuku).await);
    let me = json!({ "login": "admin", "name": "admin", "roles": ALL, "new_totp": true });
    needs(terminal.put(&of("admin"), bearer, &me).await);
    // The keys of a label, and the rule itself.
    let rotate = format!("/v1/admin/labels/{}/rotate", case.label("社外秘").id);
    needs(terminal.post(&rotate, bearer, &Value::Null).await);
    let off = change("second-person", &json!({ "needed": false }));
    needs(terminal.post("/v1/admin/policy/changes", bearer, &off).await);
    // An invariant may come alone, and does not go alone.
    let made = terminal.post("/v1/admin/invariants", bearer, &invariant(&case)).await.created().body;
    let path = format!("/v1/admin/invariants/{}", made["id"].as_str().unwrap());
    needs(terminal.delete(&path, bearer).await);
    // Shutting the other out is no widening, and does not do away with the rule.
    fuku = json!({ "login": "fuku", "name": "fuku", "roles": ALL, "disabled": true });
    terminal.put(&of("fuku"), bearer, &fuku).await.ok();
    terminal.get("/v1/admin/policy", Some(&two.bearer)).await.refused(ProblemCode::NotLoggedIn);
    needs(terminal.post("/v1/admin/rules", bearer, &rule(&case, "社外秘", 100, &["send"])).await);
}

#[tokio::test]
async fn the_rule_is_not_switched_on_where_nobody_could_approve() {
    let site = Site::start().await;
    let case = site.reference().await;
    let on = change("second-person", &json!({ "needed": true }));
    let admin = Some(case.admin.as_str());
    case.terminal.post("/v1/admin/policy/changes", admin, &on).await.refused(ProblemCode::Conflict);
    // Set to off, it stays off when a second one comes.
    let off = change("second-person", &json!({ "needed": false }));
    case.terminal.post("/v1/admin/policy/changes", admin, &off).await.ok();
    for login in ["fuku", "hosa"] {
        let mut input = person_input(login, vec![], &ALL);
        input["new_totp"] = json!(true);
        case.terminal.post("/v1/admin/people", admin, &input).await.created();
    }
    let now = status(&case.terminal, &case.admin).await;
    assert_eq!((now.second_person, now.set, now.approvers), (false, true, 2));
    case.terminal.post("/v1/admin/policy/changes", admin, &on).await.ok();
    assert!(status(&case.terminal, &case.admin).await.second_person);
}

//! The administration: roles, references, names, and that each act is recorded.

use crate::support::{Reference, Site, password, person_input};
use reqwest::Method;
use serde_json::{Value, json};
use tobari_core::proto::admin::AuditPage;
use tobari_core::proto::problem::ProblemCode;

const ROLES: [&str; 5] = ["key-custodian", "policy", "terminals", "leases", "auditor"];
const ID: &str = "00000000000000000000000000000000";

async fn act(
    case: &Reference,
    method: &str,
    path: &str,
    body: &Value,
    bearer: &str,
) -> crate::support::Answer {
    let request = case.terminal.request(method.parse::<Method>().unwrap(), path, Some(bearer));
    let request = if body.is_null() { request } else { request.json(body) };
    case.terminal.send(request).await
}

/// Every administrative route, and the roles of which one suffices (all of them, for presets).
fn routes(case: &Reference) -> Vec<(&'static str, String, Value, &'static [&'static str])> {
    let any: &[&str] = &ROLES;
    let mut routes = Vec::new();
    let label = json!({ "name": "別", "level": 1 });
    let group = json!({ "name": "別" });
    let post = json!({ "name": "別", "rank": 1 });
    let person = person_input("betsu", vec![], &[]);
    let rule = json!({
        "label": case.preset.labels[0].id, "groups": { "kind": "any" }, "posts": { "kind": "any" },
        "effect": "allow", "rights": ["view"],
    });
    let folder = json!({ "terminal": case.terminal.id, "path": "/srv/x", "label": case.preset.labels[0].id });
    let terminal = json!({ "name": "別" });
    let invariant = json!({
        "name": "別", "labels": { "kind": "any" }, "groups": { "kind": "any" }, "posts": { "kind": "any" },
        "rights": ["offline"], "zones": ["どこにもない"],
    });
    for (kind, input, role) in [
        ("labels", label, "key-custodian"),
        ("groups", group, "policy"),
        ("posts", post, "policy"),
        ("people", person, "policy"),
        ("rules", rule, "policy"),
        ("folders", folder, "policy"),
        ("invariants", invariant, "policy"),
        ("terminals", terminal, "terminals"),
    ] {
        let one = format!("/v1/admin/{kind}/{ID}");
        let role: &'static [&'static str] = match role {
            "key-custodian" => &["key-custodian"],
            "terminals" => &["terminals"],
            _ => &["policy"],
        };
        routes.push(("GET", format!("/v1/admin/{kind}"), Value::Null, any));
        routes.push(("GET", one.clone(), Value::Null, any));
        if kind != "terminals" {
            routes.push(("POST", format!("/v1/admin/{kind}"), input.clone(), role));
        }
        routes.push(("PUT", one.clone(), input, role));
        routes.push(("DELETE", one, Value::Null, role));
    }
    routes.push(("POST", format!("/v1/admin/labels/{ID}/rotate"), Value::Null, &["key-custodian"]));
    let generation = json!({ "generation": 1 });
    routes.push(("POST", format!("/v1/admin/labels/{ID}/retire"), generation, &["key-custodian"]));
    for verb in ["freeze", "unfreeze"] {
        routes.push(("POST", format!("/v1/admin/terminals/{ID}/{verb}"), Value::Null, &["terminals"]));
    }
    routes.push(("POST", String::from("/v1/admin/enrolment-tokens"), json!({}), &["terminals"]));
    routes.push(("GET", String::from("/v1/admin/revocations"), Value::Null, any));
    let revoked = json!({ "kind": "label", "id": ID, "reason": "理由" });
    routes.push(("POST", String::from("/v1/admin/revocations"), revoked.clone(), &["policy"]));
    routes.push(("POST", String::from("/v1/admin/revocations/lift"), revoked, &["policy"]));
    routes.push(("GET", String::from("/v1/admin/policy"), Value::Null, any));
    routes.push(("GET", String::from("/v1/admin/policy/versions"), Value::Null, any));
    routes.push(("GET", format!("/v1/admin/policy/versions/{ID}"), Value::Null, any));
    routes.push(("GET", String::from("/v1/admin/requests"), Value::Null, any));
    routes.push(("GET", format!("/v1/admin/requests/{ID}"), Value::Null, any));
    let asked = json!({ "person": ID, "label": ID, "right": "view" });
    routes.push(("POST", String::from("/v1/admin/explain"), asked, any));
    let change = json!({ "collection": "posts", "input": { "name": "又別", "rank": 2 }, "reason": "理由" });
    for path in ["policy/diff", "requests", "policy/changes"] {
        routes.push(("POST", format!("/v1/admin/{path}"), change.clone(), &["policy"]));
    }
    let why = json!({ "reason": "理由" });
    routes.push(("POST", format!("/v1/admin/requests/{ID}/approve"), why.clone(), any));
    routes.push(("POST", format!("/v1/admin/requests/{ID}/refuse"), why, any));
    routes.push(("POST", format!("/v1/admin/requests/{ID}/apply"), Value::Null, any));
    routes.push(("POST", String::from("/v1/admin/step-up"), json!({ "totp": "" }), any));
    let lease = json!({
        "files": [], "rights": ["view"], "opens": { "kind": "unlimited" }, "reason": "x",
        "term": { "starts_at": "2026-06-01T00:00:00Z", "ends_at": "2026-06-02T00:00:00Z" },
    });
    let issue = json!({ "person": ID, "terminal": ID, "lease": lease });
    routes.push(("GET", String::from("/v1/admin/leases"), Value::Null, any));
    routes.push(("POST", String::from("/v1/admin/leases"), issue, &["leases"]));
    routes.push(("GET", String::from("/v1/admin/leases/ledger"), Value::Null, &["leases", "auditor"]));
    routes.push(("GET", format!("/v1/admin/leases/{ID}"), Value::Null, any));
    for verb in ["approve", "refuse", "revoke"] {
        let why = if verb == "approve" { Value::Null } else { json!({ "reason": "x" }) };
        routes.push(("POST", format!("/v1/admin/leases/{ID}/{verb}"), why, &["leases"]));
    }
    routes.push(("GET", String::from("/v1/admin/audit"), Value::Null, &["auditor"]));
    routes.push(("GET", String::from("/v1/admin/audit/verify"), Value::Null, &["auditor"]));
    routes.push(("GET", String::from("/v1/admin/audit/search"), Value::Null, &["auditor"]));
    routes.push(("GET", String::from("/v1/admin/audit/checkpoint"), Value::Null, &["auditor"]));
    routes
}

#[tokio::test]
async fn every_route_asks_for_its_role() {
    let site = Site::start().await;
    let case = site.reference().await;
    for role in ROLES {
        let input = person_input(&format!("only-{role}"), vec![], &[role]);
        case.terminal.post("/v1/admin/people", Some(&case.admin), &input).await.created();
    }
    let plain = case.terminal.login("bucho").await;
    let routes = routes(&case);
    for (method, path, body, _) in &routes {
        act(&case, method, path, body, &plain).await.refused(ProblemCode::NotAdministrator);
        act(&case, method, path, body, "nobody").await.refused(ProblemCode::NotLoggedIn);
    }
    for role in ROLES {
        let bearer = case.terminal.login(&format!("only-{role}")).await;
        for (method, path, body, allowed) in &routes {
            let answer = act(&case, method, path, body, &bearer).await;
            let refused = answer.body["code"] == "not-administrator";
            assert_eq!(refused, !allowed.contains(&role), "{role} {method} {path}: {}", answer.text);
        }
        // A preset makes keys and rules: neither role alone is enough.
        act(&case, "POST", "/v1/admin/presets/jichitai", &Value::Null, &bearer)
            .await
            .refused(ProblemCode::NotAdministrator);
    }
}

#[tokio::test]
async fn the_openapi_document_has_every_administrative_route() {
    let site = Site::start().await;
    let case = site.reference().await;
    let document = case.terminal.get("/openapi.json", None).await.ok().body;
    for (method, path, ..) in routes(&case) {
        let path = path.replace(ID, "{id}");
        let entry = &document["paths"][&path][method.to_lowercase()];
        assert!(entry.is_object(), "{method} {path}");
    }
    let count = |value: &Value| value.as_object().unwrap().len();
    let administrative: usize = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, _)| path.starts_with("/v1/admin/"))
        .map(|(_, methods)| count(methods))
        .sum();
    assert_eq!(administrative, routes(&case).len() + 1, "presets, and nothing that this table does not know");
}

#[tokio::test]
async fn nobody_gives_a_role_that_they_do_not_hold() {
    let site = Site::start().await;
    let case = site.reference().await;
    let input = person_input("jinji", vec![], &["policy"]);
    case.terminal.post("/v1/admin/people", Some(&case.admin), &input).await.created();
    let jinji = case.terminal.login("jinji").await;
    let people = case.terminal.get("/v1/admin/people", Some(&jinji)).await.ok().body;
    let find = |login: &str| {
        people.as_array().unwrap().iter().find(|person| person["login"] == login).unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    // Not to themselves, not to a new person, and not by taking the administrator's password.
    let me = format!("/v1/admin/people/{}", find("jinji"));
    let admin = format!("/v1/admin/people/{}", find("admin"));
    let raised = json!({ "login": "jinji", "name": "jinji", "roles": ["policy", "auditor"] });
    case.terminal.put(&me, Some(&jinji), &raised).await.refused(ProblemCode::NotAdministrator);
    let friend = person_input("nakama", vec![], &["key-custodian"]);
    case.terminal
        .post("/v1/admin/people", Some(&jinji), &friend)
        .await
        .refused(ProblemCode::NotAdministrator);
    let seized =
        json!({ "login": "admin", "name": "admin", "roles": ["policy"], "password": "now-it-is-Mine" });
    case.terminal.put(&admin, Some(&jinji), &seized).await.refused(ProblemCode::NotAdministrator);
    case.terminal.delete(&admin, Some(&jinji)).await.refused(ProblemCode::NotAdministrator);
    // What is within their power goes.
    let plain = person_input("shinjin", vec![], &[]);
    case.terminal.post("/v1/admin/people", Some(&jinji), &plain).await.created();
}

#[tokio::test]
async fn somebody_is_left_to_manage_people() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    let people = terminal.get("/v1/admin/people", Some(&admin)).await.ok().body;
    let path = format!("/v1/admin/people/{}", people[0]["id"].as_str().unwrap());
    let mut input = json!({ "login": "admin", "name": "admin", "roles": ["auditor"] });
    terminal.put(&path, Some(&admin), &input).await.refused(ProblemCode::Conflict);
    input["roles"] = json!(ROLES);
    input["disabled"] = json!(true);
    terminal.put(&path, Some(&admin), &input).await.refused(ProblemCode::Conflict);
    terminal.delete(&path, Some(&admin)).await.refused(ProblemCode::Conflict);
}

#[tokio::test]
async fn what_is_in_use_cannot_be_deleted() {
    let site = Site::start().await;
    let case = site.reference().await;
    let by = |problem: tobari_core::proto::problem::Problem| problem.detail;
    let group = format!("/v1/admin/groups/{}", case.group);
    let detail = by(case.terminal.delete(&group, Some(&case.admin)).await.refused(ProblemCode::Conflict));
    assert!(detail.contains("person"), "{detail}");
    let post = format!("/v1/admin/posts/{}", case.preset.posts[0].id);
    case.terminal.delete(&post, Some(&case.admin)).await.refused(ProblemCode::Conflict);
    let label = format!("/v1/admin/labels/{}", case.preset.labels[0].id);
    let detail = by(case.terminal.delete(&label, Some(&case.admin)).await.refused(ProblemCode::Conflict));
    assert!(detail.contains("key"), "{detail}");

    let child = json!({ "name": "人事課", "parent": case.group });
    let child = case.terminal.post("/v1/admin/groups", Some(&case.admin), &child).await.created();
    let child = format!("/v1/admin/groups/{}", child.body["id"].as_str().unwrap());
    // A group cannot be put below itself.
    let cycle = json!({ "name": "総務部", "parent": child.rsplit('/').next().unwrap() });
    let problem =
        case.terminal.put(&group, Some(&case.admin), &cycle).await.refused(ProblemCode::InvalidRequest);
    assert_eq!(problem.field.as_deref(), Some("parent"));
    case.terminal.delete(&child, Some(&case.admin)).await.ok();
    case.terminal.get(&child, Some(&case.admin)).await.refused(ProblemCode::NotFound);
}

#[tokio::test]
async fn names_are_unique_whatever_their_spelling() {
    let site = Site::start().await;
    let case = site.reference().await;
    for (path, input, field) in [
        ("/v1/admin/labels", json!({ "name": " 社外秘 ", "level": 5 }), "name"),
        ("/v1/admin/groups", json!({ "name": "総務部\u{3000}" }), "name"),
        ("/v1/admin/posts", json!({ "name": "部長", "rank": 5 }), "name"),
        ("/v1/admin/people", person_input("ＢＵＣＨＯ", vec![], &[]), "login"),
    ] {
        let problem =
            case.terminal.post(path, Some(&case.admin), &input).await.refused(ProblemCode::Conflict);
        assert_eq!(problem.field.as_deref(), Some(field), "{path}");
    }
    let problem = case
        .terminal
        .post("/v1/admin/presets/kigyo", Some(&case.admin), &Value::Null)
        .await
        .refused(ProblemCode::Conflict);
    assert!(problem.detail.contains("極秘"), "{}", problem.detail);
    case.terminal.post("/v1/admin/presets/jichitai", Some(&case.admin), &Value::Null).await.created();
    let problem = case
        .terminal
        .post("/v1/admin/presets/none", Some(&case.admin), &Value::Null)
        .await
        .refused(ProblemCode::InvalidRequest);
    assert!(problem.detail.contains("kigyo"), "{}", problem.detail);
}

#[tokio::test]
async fn faults_name_the_field() {
    let site = Site::start().await;
    let case = site.reference().await;
    let group = case.group;
    let label = case.preset.labels[0].id;
    let folder = |path: &str| json!({ "terminal": case.terminal.id, "path": path, "label": label });
    let rule = |extra: Value| {
        let mut rule = json!({
            "label": label, "groups": { "kind": "any" }, "posts": { "kind": "any" },
            "effect": "allow", "rights": ["view"],
        });
        for (key, value) in extra.as_object().unwrap() {
            rule[key] = value.clone();
        }
        rule
    };
    let mut easy = person_input("yasashii", vec![], &[]);
    easy["password"] = json!("short");
    let mut stranger = person_input("dare", vec![], &[]);
    stranger["memberships"] = json!([{ "group": group, "post": ID }]);
    let mut no_password = person_input("dare", vec![], &[]);
    no_password.as_object_mut().unwrap().remove("password");
    for (path, input, field) in [
        ("labels", json!({ "name": "", "level": 1 }), "name"),
        ("labels", json!({ "name": "x", "level": 1001 }), "level"),
        ("labels", json!({ "name": "x", "level": -1 }), "level"),
        ("labels", json!({ "name": "x" }), "body"),
        ("labels", json!({ "name": "x", "level": 1, "colour": "red" }), "colour"),
        ("groups", json!({ "name": "x", "parent": ID }), "parent"),
        ("posts", json!({ "name": "x", "rank": 1001 }), "rank"),
        ("people", easy, "password"),
        ("people", no_password, "password"),
        ("people", stranger, "memberships[0].post"),
        ("people", person_input("a b", vec![], &[]), "login"),
        ("people", person_input("x", vec![], &["king"]), "roles[0]"),
        ("rules", rule(json!({ "label": ID })), "label"),
        ("rules", rule(json!({ "rights": [] })), "rights"),
        ("rules", rule(json!({ "rights": ["fly"] })), "rights[0]"),
        (
            "rules",
            rule(json!({ "effect": "deny", "conditions": { "second_factor": true } })),
            "conditions.second_factor",
        ),
        ("folders", folder("relative"), "path"),
        ("folders", folder("/srv/../etc"), "path"),
        ("folders", folder("/"), "path"),
        ("enrolment-tokens", json!({ "valid_seconds": 0 }), "valid_seconds"),
        ("enrolment-tokens", json!({ "tags": [""] }), "tags[0]"),
    ] {
        let path = format!("/v1/admin/{path}");
        let problem =
            case.terminal.post(&path, Some(&case.admin), &input).await.refused(ProblemCode::InvalidRequest);
        assert_eq!(problem.field.as_deref(), Some(field), "{path}: {}", problem.detail);
    }
    case.terminal.post("/v1/admin/folders", Some(&case.admin), &folder("/srv/共有")).await.created();
    case.terminal
        .post("/v1/admin/folders", Some(&case.admin), &folder("/srv/共有"))
        .await
        .refused(ProblemCode::Conflict);
    let problem = case
        .terminal
        .get("/v1/admin/labels/xyz", Some(&case.admin))
        .await
        .refused(ProblemCode::InvalidRequest);
    assert_eq!(problem.field.as_deref(), Some("id"));
}

#[tokio::test]
async fn every_act_is_recorded() {
    let site = Site::start().await;
    let case = site.reference().await;
    let group = json!({ "name": "企画課" });
    let made = case.terminal.post("/v1/admin/groups", Some(&case.admin), &group).await.created();
    let path = format!("/v1/admin/groups/{}", made.body["id"].as_str().unwrap());
    case.terminal.put(&path, Some(&case.admin), &json!({ "name": "企画室" })).await.ok();
    case.terminal.delete(&path, Some(&case.admin)).await.ok();
    let bucho = case.terminal.login("bucho").await;
    case.terminal.get("/v1/admin/people", Some(&bucho)).await.refused(ProblemCode::NotAdministrator);
    case.terminal.try_login("bucho", "wrong-password", None).await.refused(ProblemCode::BadCredentials);

    let page: AuditPage = case.terminal.get("/v1/admin/audit?limit=1000", Some(&case.admin)).await.ok().to();
    let records: Vec<Value> =
        page.records.iter().map(|record| serde_json::from_slice(&record.payload.0).unwrap()).collect();
    let acts: Vec<&str> = records.iter().map(|record| record["act"].as_str().unwrap()).collect();
    for act in [
        "init",
        "start",
        "enrolment",
        "login",
        "create",
        "update",
        "delete",
        "admin-refused",
        "login-failed",
        "audit-read",
    ] {
        assert!(acts.contains(&act), "{act}: {acts:?}");
    }
    let deleted = records.iter().find(|record| record["act"] == "delete").unwrap();
    assert_eq!(deleted["object"], path.replace("/v1/admin/groups/", "group/"));
    assert_eq!(deleted["detail"], "name 企画室");
    assert!(deleted["person"].is_string() && deleted["terminal"] == case.terminal.id.to_string());
    let failed = records.iter().find(|record| record["act"] == "login-failed").unwrap();
    assert_eq!((&failed["login"], &failed["code"]), (&json!("bucho"), &json!("bad-credentials")));
    let text = records.iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("wrong-password") && !text.contains(&password("bucho")));
}

//! Each route × each caller: the exact status of every cell, whoever calls and from wherever. A route without a row fails.

use crate::support::{Answer, Reference, Site, Terminal, enrolment, password, person_input};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use tobari_core::crypto::GrantKeyPair;
use tobari_core::proto::api::EnrolResponse;

const ROLES: [&str; 5] = ["key-custodian", "policy", "terminals", "leases", "auditor"];
const ID: &str = "00000000000000000000000000000000";

/// Who may ask, and the status that they get for the body of the row.
#[derive(Clone, Copy)]
enum Open {
    /// Anybody, from anywhere.
    Anybody(u16),
    /// A terminal, whoever is logged in there.
    Terminal(u16),
    /// A gateway: another terminal is 403, and nobody asks this in a session.
    Gateway,
    /// Somebody who is logged in.
    Person(u16),
    /// An administrator, whatever the role.
    Administrator(u16),
    /// An administrator with all of these roles.
    Roles(&'static [&'static str], u16),
    /// An administrator with one of these roles.
    AnyRole(&'static [&'static str], u16),
}

struct Row {
    method: &'static str,
    path: &'static str,
    body: Value,
    open: Open,
}

fn row(method: &'static str, path: &'static str, body: Value, open: Open) -> Row {
    Row { method, path, body, open }
}

/// `{n}` in a body is another number each time, so that names are free.
fn rows(case: &Reference) -> Vec<Row> {
    use Open::{Administrator, AnyRole, Anybody, Gateway, Person, Roles, Terminal};
    const POLICY: &[&str] = &["policy"];
    const KEYS: &[&str] = &["key-custodian"];
    const TERMINALS: &[&str] = &["terminals"];
    const LEASES: &[&str] = &["leases"];
    const AUDITOR: &[&str] = &["auditor"];
    let none = || Value::Null;
    let label = case.preset.labels[0].id;
    let rule = json!({
        "label": label, "groups": { "kind": "any" }, "posts": { "kind": "any" }, "effect": "deny", "rights": ["print"],
    });
    let folder = json!({ "terminal": case.terminal.id, "path": "/srv/{n}", "label": label });
    let person = json!({ "login": "p{n}", "name": "p", "password": "long-Enough-2026" });
    let invariant = json!({
        "name": "i{n}", "labels": { "kind": "level-at-least", "level": 1000 }, "groups": { "kind": "any" }, "posts": { "kind": "any" },
        "rights": ["offline"],
    });
    let terminal = json!({ "name": "t" });
    let change = json!({ "collection": "posts", "input": { "name": "c{n}", "rank": 1 }, "reason": "理由" });
    let why = json!({ "reason": "理由" });
    let revoked = json!({ "kind": "label", "id": ID, "reason": "理由" });
    // Of no file, which is refused once the caller may ask at all.
    let lease = json!({
        "files": [], "rights": ["view"], "opens": { "kind": "unlimited" }, "reason": "理由",
        "term": { "starts_at": "2026-06-01T00:00:00Z", "ends_at": "2026-06-02T00:00:00Z" },
    });
    let issue = json!({ "person": ID, "terminal": ID, "lease": lease });
    let report = json!({ "counter": 0, "after": 0, "after_hash": "", "records": [], "held": [] });
    let mut rows = vec![
        row("POST", "/v1/terminals/enrol", json!({}), Anybody(400)),
        row("POST", "/v1/sessions", json!({ "login": "nobody{n}", "password": "x" }), Terminal(401)),
        row("POST", "/v1/terminals/renew", json!({ "csr_pem": "x" }), Terminal(409)),
        row("GET", "/v1/admin/revocations", none(), Administrator(200)),
        row("POST", "/v1/admin/revocations", revoked.clone(), Roles(POLICY, 404)),
        row("POST", "/v1/admin/revocations/lift", revoked, Roles(POLICY, 404)),
        row("POST", "/v1/assertions", json!({ "login": "bucho" }), Gateway),
        row("GET", "/v1/sessions/current", none(), Person(200)),
        row("DELETE", "/v1/sessions/current", none(), Person(204)),
        row("GET", "/v1/bulletin", none(), Terminal(200)),
        row("GET", "/v1/changes", none(), Terminal(200)),
        row("POST", "/v1/decisions", json!({ "items": [] }), Person(200)),
        row("POST", "/v1/grants", json!({ "items": [] }), Person(200)),
        row("POST", "/v1/terminals/report", json!({ "version": "", "protection": "none" }), Terminal(400)),
        row("POST", "/v1/admin/terminals/{id}/freeze", none(), Roles(TERMINALS, 404)),
        row("POST", "/v1/admin/terminals/{id}/unfreeze", none(), Roles(TERMINALS, 404)),
        row("GET", "/v1/admin/terminals", none(), Administrator(200)),
        row("GET", "/v1/admin/terminals/{id}", none(), Administrator(404)),
        row("PUT", "/v1/admin/terminals/{id}", terminal, Roles(TERMINALS, 404)),
        row("DELETE", "/v1/admin/terminals/{id}", none(), Roles(TERMINALS, 404)),
        row("POST", "/v1/admin/labels/{id}/rotate", none(), Roles(KEYS, 404)),
        row("POST", "/v1/admin/labels/{id}/retire", json!({ "generation": 1 }), Roles(KEYS, 404)),
        row("POST", "/v1/admin/enrolment-tokens", json!({}), Roles(TERMINALS, 201)),
        row("POST", "/v1/admin/presets/{name}", none(), Roles(&["key-custodian", "policy"], 400)),
        row(
            "POST",
            "/v1/admin/explain",
            json!({ "person": ID, "label": label, "right": "view" }),
            Administrator(404),
        ),
        row("GET", "/v1/admin/policy", none(), Administrator(200)),
        row("POST", "/v1/admin/policy/diff", change.clone(), Roles(POLICY, 200)),
        row("POST", "/v1/admin/policy/changes", change.clone(), Roles(POLICY, 200)),
        row("GET", "/v1/admin/policy/versions", none(), Administrator(200)),
        row("GET", "/v1/admin/policy/versions/{id}", none(), Administrator(404)),
        row("POST", "/v1/admin/step-up", json!({ "totp": "000000" }), Administrator(401)),
        row("GET", "/v1/admin/requests", none(), Administrator(200)),
        row("POST", "/v1/admin/requests", change, Roles(POLICY, 201)),
        row("GET", "/v1/admin/requests/{id}", none(), Administrator(404)),
        row("POST", "/v1/admin/requests/{id}/approve", why.clone(), Administrator(404)),
        row("POST", "/v1/admin/requests/{id}/refuse", why.clone(), Administrator(404)),
        row("POST", "/v1/admin/requests/{id}/apply", none(), Administrator(404)),
        row("GET", "/v1/leases", none(), Person(200)),
        row("POST", "/v1/leases", lease, Person(400)),
        row("POST", "/v1/leases/{id}/refill", json!({ "files": [] }), Person(404)),
        row("POST", "/v1/terminals/leases", report, Terminal(400)),
        row("GET", "/v1/admin/leases", none(), Administrator(200)),
        row("POST", "/v1/admin/leases", issue, Roles(LEASES, 400)),
        row("GET", "/v1/admin/leases/ledger", none(), AnyRole(&["leases", "auditor"], 200)),
        row("GET", "/v1/admin/leases/{id}", none(), Administrator(404)),
        row("POST", "/v1/admin/leases/{id}/approve", none(), Roles(LEASES, 404)),
        row("POST", "/v1/admin/leases/{id}/refuse", why.clone(), Roles(LEASES, 404)),
        row("POST", "/v1/admin/leases/{id}/revoke", why, Roles(LEASES, 404)),
        row("GET", "/v1/admin/audit", none(), Roles(AUDITOR, 200)),
        row("GET", "/v1/admin/audit/verify", none(), Roles(AUDITOR, 200)),
        row("GET", "/v1/admin/audit/search", none(), Roles(AUDITOR, 200)),
        row("GET", "/v1/admin/audit/checkpoint", none(), Roles(AUDITOR, 200)),
        row("GET", "/healthz", none(), Anybody(200)),
        row("GET", "/readyz", none(), Anybody(200)),
        row("GET", "/metrics", none(), Anybody(200)),
        row("GET", "/openapi.json", none(), Anybody(200)),
    ];
    let label = json!({ "name": "l{n}", "level": 1 });
    let group = json!({ "name": "g{n}" });
    let post = json!({ "name": "o{n}", "rank": 1 });
    macro_rules! collection {
        ($name:literal, $input:expr, $roles:expr) => {
            rows.push(row("GET", concat!("/v1/admin/", $name), none(), Administrator(200)));
            rows.push(row("POST", concat!("/v1/admin/", $name), $input.clone(), Roles($roles, 201)));
            rows.push(row("GET", concat!("/v1/admin/", $name, "/{id}"), none(), Administrator(404)));
            rows.push(row("PUT", concat!("/v1/admin/", $name, "/{id}"), $input, Roles($roles, 404)));
            rows.push(row("DELETE", concat!("/v1/admin/", $name, "/{id}"), none(), Roles($roles, 404)));
        };
    }
    collection!("labels", label, KEYS);
    collection!("groups", group, POLICY);
    collection!("posts", post, POLICY);
    collection!("people", person, POLICY);
    collection!("rules", rule, POLICY);
    collection!("folders", folder, POLICY);
    collection!("invariants", invariant, POLICY);
    rows
}

/// Somebody who calls, from somewhere.
struct Caller<'a> {
    name: String,
    terminal: &'a Terminal,
    bearer: Option<String>,
    /// None for somebody whose terminal is not accepted.
    roles: Option<Option<&'a [&'a str]>>,
    /// The certificate is not of this organisation, so there is no connection at all.
    foreign: bool,
}

impl Caller<'_> {
    /// What they get.
    fn expected(&self, open: Open) -> u16 {
        let person = self.roles.flatten();
        match open {
            Open::Anybody(status) => status,
            _ if self.roles.is_none() => 401,
            Open::Terminal(status) => status,
            Open::Gateway if self.bearer.is_some() => 400,
            Open::Gateway => 403,
            _ if person.is_none() => 401,
            Open::Person(status) => status,
            Open::Administrator(_) if person == Some(&[]) => 403,
            Open::Administrator(status) => status,
            Open::Roles(needed, status) => {
                let held = person.unwrap_or_default();
                if needed.iter().all(|role| held.contains(role)) { status } else { 403 }
            }
            Open::AnyRole(accepted, status) => {
                let held = person.unwrap_or_default();
                if accepted.iter().any(|role| held.contains(role)) { status } else { 403 }
            }
        }
    }
}

async fn ask(caller: &Caller<'_>, row: &Row) -> reqwest::Result<reqwest::Response> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
    let path = row.path.replace("{id}", ID).replace("{name}", "gakko").replace("/changes", "/changes?wait=0");
    // The other route of that name has no query.
    let path = path.replace("policy/changes?wait=0", "policy/changes");
    let method: Method = row.method.parse().unwrap();
    let request = caller.terminal.request(method, &path, caller.bearer.as_deref());
    let request = match &row.body {
        Value::Null => request,
        body => {
            let text = body.to_string().replace("{n}", &number);
            request.header("content-type", "application/json").body(text)
        }
    };
    request.send().await
}

/// A terminal of another organisation that speaks to this one, whose CA it trusts.
async fn foreigner(site: &Site, here: &Terminal) -> Terminal {
    let other = Site::start().await;
    let (first, admin) = other.first().await;
    let token = first.post("/v1/admin/enrolment-tokens", Some(&admin), &json!({})).await.created().body;
    let keys = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let grant_key = GrantKeyPair::generate().unwrap();
    let body = enrolment(token["token"].as_str().unwrap(), &keys, &grant_key);
    let made: Answer = other.stranger().post("/v1/terminals/enrol", None, &body).await.created();
    let mut made: EnrolResponse = made.to();
    made.ca_pem = here.enrolment.as_ref().unwrap().ca_pem.clone();
    Terminal::enrolled(site.address, made, &keys.serialize_pem(), grant_key)
}

#[tokio::test]
async fn every_route_answers_every_caller_as_the_table_says() {
    let site = Site::start().await;
    let case = site.reference().await;
    let terminal = &case.terminal;
    for role in ROLES {
        let input = person_input(&format!("only-{role}"), vec![], &[role]);
        terminal.post("/v1/admin/people", Some(&case.admin), &input).await.created();
    }
    let stranger = site.stranger();
    let revoked = site.another(terminal, &case.admin, None).await;
    let revoked_bearer = revoked.login("bucho").await;
    let another = site.another(terminal, &case.admin, None).await;
    let path = format!("/v1/admin/terminals/{}", revoked.id);
    terminal.put(&path, Some(&case.admin), &json!({ "name": "失", "revoked": true })).await.ok();
    let foreign = foreigner(&site, terminal).await;
    let elsewhere = Site::start().await;
    let (_other, others_admin) = elsewhere.first().await;

    let rows = rows(&case);
    let table: BTreeSet<(String, String)> =
        rows.iter().map(|row| (row.method.to_lowercase(), row.path.to_owned())).collect();
    let document = terminal.get("/openapi.json", None).await.ok().body;
    let served: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone()))
        })
        .collect();
    assert_eq!(
        served.difference(&table).collect::<Vec<_>>(),
        Vec::<&(String, String)>::new(),
        "without a row"
    );
    assert_eq!(
        table.difference(&served).collect::<Vec<_>>(),
        Vec::<&(String, String)>::new(),
        "without a route"
    );

    let at = |name: &str, terminal, bearer: Option<String>, roles| Caller {
        name: name.to_owned(),
        terminal,
        bearer,
        roles,
        foreign: false,
    };
    let admin = || Some(case.admin.clone());
    let mut callers = vec![
        at("no certificate", &stranger, None, None),
        at("no certificate, an administrator's token", &stranger, admin(), None),
        at("a revoked terminal", &revoked, None, None),
        at("a revoked terminal, a session that was begun on it", &revoked, Some(revoked_bearer), None),
        at("a terminal", terminal, None, Some(None)),
        at("a terminal, a token of no session", terminal, Some(String::from("nobody")), Some(None)),
        at("a terminal, a session of another organisation", terminal, Some(others_admin), Some(None)),
        at("another terminal, the administrator's session", &another, admin(), Some(None)),
        at("staff", terminal, Some(terminal.login("ippan").await), Some(Some(&[]))),
    ];
    let one_role: Vec<[&str; 1]> = ROLES.iter().map(|role| [*role]).collect();
    for role in &one_role {
        let bearer = terminal.login(&format!("only-{}", role[0])).await;
        callers.push(at(&format!("only {}", role[0]), terminal, Some(bearer), Some(Some(role))));
    }
    callers.push(at("an administrator with every role", terminal, admin(), Some(Some(&ROLES))));
    callers.push(Caller { foreign: true, ..at("a terminal of another organisation", &foreign, None, None) });
    callers.push(Caller {
        foreign: true,
        ..at("a terminal of another organisation, a session of this one", &foreign, admin(), None)
    });

    let mut wrong = Vec::new();
    for row in &rows {
        for caller in &callers {
            // Logging out would take the session from the rows after it.
            let own = row.method == "DELETE"
                && row.path == "/v1/sessions/current"
                && caller.roles.flatten().is_some();
            let fresh = match own {
                true => {
                    let login = match caller.roles.flatten() {
                        Some([]) => String::from("ippan"),
                        Some([role]) => format!("only-{role}"),
                        _ => String::from(crate::support::ADMIN),
                    };
                    assert!(!password(&login).is_empty());
                    Some(caller.terminal.login(&login).await)
                }
                false => caller.bearer.clone(),
            };
            let asking = Caller {
                name: caller.name.clone(),
                terminal: caller.terminal,
                bearer: fresh,
                roles: caller.roles,
                foreign: caller.foreign,
            };
            let answer = ask(&asking, row).await;
            let cell = format!("{} {} by {}", row.method, row.path, caller.name);
            match answer {
                Err(error) if caller.foreign => assert!(error.status().is_none(), "{cell}: {error}"),
                Err(error) => wrong.push(format!("{cell}: {error}")),
                Ok(answer) if caller.foreign => wrong.push(format!("{cell}: {}", answer.status())),
                Ok(answer) => {
                    let expected = StatusCode::from_u16(asking.expected(row.open)).unwrap();
                    if answer.status() != expected {
                        let status = answer.status();
                        wrong.push(format!(
                            "{cell}: {status}, not {expected}: {}",
                            answer.text().await.unwrap()
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Gateways: who may speak for whom, what that gives, and when it ends.

use crate::support::{Reference, Site, Terminal, item, password, person_input};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::sync::atomic::Ordering;
use tobari_core::policy::{Membership, Right, Rights};
use tobari_core::proto::admin::{AuditPage, TerminalRecord};
use tobari_core::proto::api::{DecisionOutcome, DecisionResponse, GrantRequest, LoginResponse};
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::store::Store as _;
use tobari_keyserver::store::sqlite::SqliteStore;

const ASSERTIONS: &str = "/v1/assertions";

async fn mark(case: &Reference, terminal: &Terminal, gateway: bool) {
    let path = format!("/v1/admin/terminals/{}", terminal.id);
    let mut record: TerminalRecord = case.terminal.get(&path, Some(&case.admin)).await.ok().to();
    record.terminal.gateway = gateway;
    let record: TerminalRecord =
        case.terminal.put(&path, Some(&case.admin), &record.terminal).await.ok().to();
    assert_eq!(record.terminal.gateway, gateway);
}

async fn gateway(site: &Site, case: &Reference) -> Terminal {
    let gateway = site.another(&case.terminal, &case.admin, None).await;
    mark(case, &gateway, true).await;
    gateway
}

async fn assert_person(gateway: &Terminal, login: &str) -> LoginResponse {
    gateway.post(ASSERTIONS, None, &json!({ "login": login })).await.created().to()
}

async fn records(case: &Reference, after: u64) -> Vec<Value> {
    let path = format!("/v1/admin/audit?after={after}&limit=50");
    let page: AuditPage = case.terminal.get(&path, Some(&case.admin)).await.ok().to();
    let records =
        page.records.iter().map(|record| serde_json::from_slice::<Value>(&record.payload.0).unwrap());
    // This reading is recorded too.
    records.filter(|record| record["act"] != "audit-read").collect()
}

#[tokio::test]
async fn a_gateway_has_the_rights_of_whom_it_asserts_and_the_record_says_so() {
    let site = Site::start().await;
    let case = site.reference().await;
    let gateway = gateway(&site, &case).await;
    let file = case.sealed("社外秘").await;
    let header = file.header.wire_bytes();
    let before = site.store.audit_head().await.unwrap().sequence;

    // As the share may write it: names are compared as at a login.
    let bucho = assert_person(&gateway, " BUCHO ").await;
    assert!(bucho.session.asserted && !bucho.session.second_factor);
    assert_eq!((bucho.session.login.as_str(), bucho.session.person), ("bucho", case.people["bucho"].id));
    let response = gateway.grants(&bucho.token, vec![item(header, Right::Edit)]).await;
    gateway.check_deks(&response, case.people["bucho"].id, &[&file]);

    let ippan = assert_person(&gateway, "ippan").await;
    let granted = gateway.grant(&ippan.token, header, Right::View).await.unwrap();
    assert_eq!(granted.rights, Rights::only(Right::View));
    let refused = gateway.grant(&ippan.token, header, Right::Edit).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::RightRefused);
    let request = GrantRequest { items: vec![item(header, Right::View)] };
    let answer: DecisionResponse =
        gateway.post("/v1/decisions", Some(&ippan.token), &request).await.ok().to();
    assert!(matches!(&answer.decisions[0], DecisionOutcome::Decided { rights, .. }
        if *rights == Rights::only(Right::View)));

    let records = records(&case, before).await;
    let said: Vec<_> = records.iter().map(|record| record["act"].as_str().unwrap()).collect();
    assert_eq!(said, ["assertion", "grant", "assertion", "grant", "refusal"]);
    for (record, login) in records.iter().zip(["bucho", "bucho", "ippan", "ippan", "ippan"]) {
        assert_eq!(record["asserted"], true);
        assert_eq!(record["terminal"], gateway.id.to_string());
        assert_eq!(record["person"], case.people[login].id.to_string());
    }

    // The same person with a password of their own: nothing is asserted, and the record says nothing of it.
    let before = site.store.audit_head().await.unwrap().sequence;
    let own = gateway.login("bucho").await;
    assert!(gateway.grant(&own, header, Right::View).await.is_ok());
    assert!(self::records(&case, before).await.iter().all(|record| record.get("asserted").is_none()));
    // Nor does the one session end the other.
    assert!(gateway.grant(&bucho.token, header, Right::View).await.is_ok());
}

#[tokio::test]
async fn nobody_else_asserts_and_not_everybody_is_asserted() {
    let site = Site::start().await;
    let case = site.reference().await;
    let gateway = gateway(&site, &case).await;
    let plain = site.another(&case.terminal, &case.admin, None).await;
    let revoked = self::gateway(&site, &case).await;
    let shut = json!({ "name": "失効", "revoked": true, "gateway": true });
    let path = format!("/v1/admin/terminals/{}", revoked.id);
    case.terminal.put(&path, Some(&case.admin), &shut).await.ok();
    let mut kacho = person_input("kacho", Vec::new(), &[]);
    kacho["disabled"] = json!(true);
    let path = format!("/v1/admin/people/{}", case.people["kacho"].id);
    case.terminal.put(&path, Some(&case.admin), &kacho).await.ok();
    let own = gateway.login("ippan").await;
    let asserted = assert_person(&gateway, "ippan").await.token;
    let stranger = site.stranger();
    let long = "あ".repeat(100);

    use ProblemCode as P;
    let before = site.store.audit_head().await.unwrap().sequence;
    let cases: [(&str, &Terminal, Option<&str>, &str, P); 12] = [
        ("a plain terminal", &plain, None, "bucho", P::NotGateway),
        ("a plain terminal, nobody", &plain, None, "nobody", P::NotGateway),
        ("a plain terminal with a person's session", &plain, Some(&own), "bucho", P::InvalidRequest),
        ("an unknown person", &gateway, None, "nobody", P::NotFound),
        ("an empty name", &gateway, None, "", P::NotFound),
        ("a disabled person", &gateway, None, "kacho", P::NotFound),
        ("a name that is too long", &gateway, None, &long, P::InvalidRequest),
        ("with a person's own session", &gateway, Some(&own), "bucho", P::InvalidRequest),
        ("with an asserted session", &gateway, Some(&asserted), "bucho", P::InvalidRequest),
        ("with a made-up session", &gateway, Some("made-up"), "bucho", P::InvalidRequest),
        ("a revoked gateway", &revoked, None, "bucho", P::TerminalNotAccepted),
        ("nobody's terminal", &stranger, None, "bucho", P::TerminalNotAccepted),
    ];
    let mut of_person = std::collections::BTreeSet::new();
    for (what, terminal, bearer, login, code) in cases {
        let answer = terminal.post(ASSERTIONS, bearer, &json!({ "login": login })).await;
        let problem = answer.refused(code);
        assert!(!answer.text.contains("token"), "{what}: {answer:?}");
        if code == P::NotFound {
            of_person.insert(problem.detail);
        }
    }
    assert_eq!(of_person.len(), 1, "unknown and disabled are answered alike");
    let records = records(&case, before).await;
    let refused = |login: &str, code: &str| {
        records
            .iter()
            .filter(|record| record["act"] == "assertion-refused" && record["code"] == code)
            .filter(|record| record["login"] == login && record["terminal"].is_string())
            .count()
    };
    assert_eq!(refused("bucho", "not-gateway"), 1);
    assert_eq!((refused("kacho", "not-found"), refused("nobody", "not-found")), (1, 1));
    assert!(records.iter().all(|record| record["act"] != "assertion"));

    let unknown = json!({ "login": "bucho", "roles": ["policy"] });
    gateway.post(ASSERTIONS, None, &unknown).await.refused(P::InvalidRequest);
}

#[tokio::test]
async fn a_gateway_of_another_organisation_does_not_pass_the_handshake() {
    let site = Site::start().await;
    site.reference().await;
    let elsewhere = Site::start().await;
    let other = elsewhere.reference().await;
    let mut gateway = gateway(&elsewhere, &other).await;
    assert_person(&gateway, "bucho").await;
    gateway.move_to(site.address);
    let request = gateway.request(Method::POST, ASSERTIONS, None).json(&json!({ "login": "bucho" }));
    assert!(request.send().await.is_err());
}

#[tokio::test]
async fn files_of_another_organisation_stay_closed_to_a_gateway() {
    let site = Site::start().await;
    let case = site.reference().await;
    let gateway = gateway(&site, &case).await;
    let elsewhere = Site::start().await;
    let file = elsewhere.reference().await.sealed("社外秘").await;
    let bucho = assert_person(&gateway, "bucho").await;
    let refusal = gateway.grant(&bucho.token, file.header.wire_bytes(), Right::View).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::UnreadableEnvelope);
}

#[tokio::test]
async fn when_the_mark_comes_off_the_next_grant_is_refused() {
    let mut site = Site::start().await;
    let case = site.reference().await;
    let gateway = gateway(&site, &case).await;
    let file = case.sealed("社外秘").await;
    let request = GrantRequest { items: vec![item(file.header.wire_bytes(), Right::View)] };
    let bucho = assert_person(&gateway, "bucho").await.token;
    let own = gateway.login("ippan").await;
    gateway.post("/v1/grants", Some(&bucho), &request).await.ok();

    assert_eq!(gateway.bulletin().await.1.gateways, [gateway.id]);
    mark(&case, &gateway, false).await;
    assert!(gateway.bulletin().await.1.gateways.is_empty(), "the gateway hears of it with its next bulletin");
    for path in ["/v1/grants", "/v1/decisions"] {
        gateway.post(path, Some(&bucho), &request).await.refused(ProblemCode::NotLoggedIn);
    }
    gateway.post(ASSERTIONS, None, &json!({ "login": "bucho" })).await.refused(ProblemCode::NotGateway);
    // Who logged in there with a password stays.
    gateway.post("/v1/grants", Some(&own), &request).await.ok();

    // The mark back gives no old session back, not even after a restart.
    mark(&case, &gateway, true).await;
    gateway.post("/v1/grants", Some(&bucho), &request).await.refused(ProblemCode::NotLoggedIn);
    let again = assert_person(&gateway, "bucho").await.token;
    site.restart().await;
    let gateway = site.again(gateway);
    gateway.post("/v1/grants", Some(&bucho), &request).await.refused(ProblemCode::NotLoggedIn);
    gateway.post("/v1/grants", Some(&again), &request).await.ok();
}

#[tokio::test]
async fn an_asserted_session_is_bound_to_its_gateway_and_its_person() {
    let site = Site::start().await;
    let case = site.reference().await;
    let gateway = gateway(&site, &case).await;
    let second = self::gateway(&site, &case).await;
    let file = case.sealed("社外秘").await;
    let request = GrantRequest { items: vec![item(file.header.wire_bytes(), Right::View)] };
    let bucho = assert_person(&gateway, "bucho").await.token;
    for elsewhere in [&second, &case.terminal] {
        elsewhere.post("/v1/grants", Some(&bucho), &request).await.refused(ProblemCode::NotLoggedIn);
    }
    // A new assertion of the same person replaces the old one; those of others and elsewhere stay.
    let ippan = assert_person(&gateway, "ippan").await.token;
    let there = assert_person(&second, "bucho").await.token;
    let renewed = assert_person(&gateway, "bucho").await.token;
    gateway.post("/v1/grants", Some(&bucho), &request).await.refused(ProblemCode::NotLoggedIn);
    for (terminal, token) in [(&gateway, &renewed), (&gateway, &ippan), (&second, &there)] {
        terminal.post("/v1/grants", Some(token), &request).await.ok();
    }

    let mut input = person_input("ippan", Vec::new(), &[]);
    input["disabled"] = json!(true);
    let path = format!("/v1/admin/people/{}", case.people["ippan"].id);
    case.terminal.put(&path, Some(&case.admin), &input).await.ok();
    gateway.post("/v1/grants", Some(&ippan), &request).await.refused(ProblemCode::NotLoggedIn);
    gateway.post("/v1/grants", Some(&renewed), &request).await.ok();
}

#[tokio::test]
async fn what_needs_a_second_factor_is_not_given_to_a_gateway() {
    let site = Site::start().await;
    let case = site.reference().await;
    let gateway = gateway(&site, &case).await;
    let file = case.sealed("社外秘").await;
    let rule = json!({
        "label": case.label("社外秘").id,
        "groups": { "kind": "any" },
        "posts": { "kind": "any" },
        "conditions": { "second_factor": true },
        "effect": "allow",
        "rights": ["decrypt"],
    });
    case.terminal.post("/v1/admin/rules", Some(&case.admin), &rule).await.created();
    let member = case.people["ippan"].memberships.clone();
    let mut input = person_input("ippan", member, &[]);
    input["new_totp"] = json!(true);
    let path = format!("/v1/admin/people/{}", case.people["ippan"].id);
    let person = case.terminal.put(&path, Some(&case.admin), &input).await.ok();
    let totp = totp_rs::Totp::from_url(person.body["otpauth"].as_str().unwrap()).unwrap();
    let code = totp.generate(u64::try_from(site.clock_now().as_second()).unwrap()).to_string();

    let header = file.header.wire_bytes();
    let ippan = assert_person(&gateway, "ippan").await.token;
    let refusal = gateway.grant(&ippan, header, Right::Decrypt).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::RightRefused);
    assert!(gateway.grant(&ippan, header, Right::View).await.is_ok());
    // The control: with the code, on the very same terminal, it is given.
    let own: LoginResponse = gateway.try_login("ippan", &password("ippan"), Some(&code)).await.created().to();
    assert!(gateway.grant(&own.token, header, Right::Decrypt).await.is_ok());
}

#[tokio::test]
async fn an_asserted_administrator_administers_nothing() {
    let site = Site::start().await;
    let case = site.reference().await;
    let gateway = gateway(&site, &case).await;
    let all = ["key-custodian", "policy", "terminals", "auditor"];
    let post = case.preset.posts[0].id;
    let input = person_input("chief", vec![Membership { group: case.group, post }], &all);
    case.terminal.post("/v1/admin/people", Some(&case.admin), &input).await.created();

    let chief = assert_person(&gateway, "chief").await;
    assert!(chief.session.roles.is_empty());
    let token = Some(chief.token.as_str());
    for path in ["/v1/admin/people", "/v1/admin/terminals", "/v1/admin/audit"] {
        gateway.get(path, token).await.refused(ProblemCode::NotAdministrator);
    }
    let other = site.another(&case.terminal, &case.admin, None).await;
    let path = format!("/v1/admin/terminals/{}", other.id);
    let input = json!({ "name": "端末", "gateway": true });
    gateway.put(&path, token, &input).await.refused(ProblemCode::NotAdministrator);
    let groups = json!({ "name": "企画課" });
    gateway.post("/v1/admin/groups", token, &groups).await.refused(ProblemCode::NotAdministrator);
    // The control: with the password the same requests pass.
    let own = gateway.login("chief").await;
    gateway.get("/v1/admin/people", Some(&own)).await.ok();
    gateway.put(&path, Some(&own), &input).await.ok();
}

#[tokio::test]
async fn only_the_role_for_terminals_marks_a_gateway() {
    let site = Site::start().await;
    let case = site.reference().await;
    let terminal = site.another(&case.terminal, &case.admin, None).await;
    let input = person_input("others", Vec::new(), &["key-custodian", "policy", "leases", "auditor"]);
    case.terminal.post("/v1/admin/people", Some(&case.admin), &input).await.created();
    let path = format!("/v1/admin/terminals/{}", terminal.id);
    let marked = json!({ "name": "端末", "gateway": true });
    for login in ["others", "bucho"] {
        let token = terminal.login(login).await;
        terminal.put(&path, Some(&token), &marked).await.refused(ProblemCode::NotAdministrator);
    }
    terminal.post(ASSERTIONS, None, &json!({ "login": "bucho" })).await.refused(ProblemCode::NotGateway);
    // An object without the field, as an older administrator's program sends it, takes the mark off.
    mark(&case, &terminal, true).await;
    let before = site.store.audit_head().await.unwrap().sequence;
    case.terminal.put(&path, Some(&case.admin), &json!({ "name": "端末" })).await.ok();
    terminal.post(ASSERTIONS, None, &json!({ "login": "bucho" })).await.refused(ProblemCode::NotGateway);
    let records = records(&case, before).await;
    assert!(records[0]["detail"].as_str().unwrap().contains("gateway false"), "{records:?}");
}

#[tokio::test]
async fn without_a_record_nobody_is_asserted() {
    let site = Site::start().await;
    let case = site.reference().await;
    let gateway = gateway(&site, &case).await;
    site.store.commits_fail.store(true, Ordering::SeqCst);
    for login in ["bucho", "nobody"] {
        let answer = gateway.post(ASSERTIONS, None, &json!({ "login": login })).await;
        answer.refused(ProblemCode::AuditUnavailable);
    }
    site.store.commits_fail.store(false, Ordering::SeqCst);
    assert_person(&gateway, "bucho").await;
}

#[tokio::test]
async fn a_database_of_before_gateways_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tobari.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    // As the first release made it.
    let initial = sqlx::migrate::Migration::new(
        1,
        std::borrow::Cow::Borrowed("initial"),
        sqlx::migrate::MigrationType::Simple,
        sqlx::SqlSafeStr::into_sql_str(include_str!("../../migrations/0001_initial.sql")),
        false,
    );
    sqlx::migrate::Migrator::with_migrations(vec![initial]).run(&mut connection).await.unwrap();
    let (id, hash) = ("11".repeat(16), "22".repeat(32));
    sqlx::query(
        "INSERT INTO terminals (id, name, tags, revoked, fingerprint, certificate_expires_at, grant_key, enrolled_at) \
         VALUES ($1, '端末', '[]', 0, $2, 5, x'04', 1)",
    )
    .bind(&id)
    .bind(&hash)
    .execute(&mut connection)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO sessions (id, token_hash, person, terminal, second_factor, created_at, expires_at, last_used_at) \
         VALUES ($1, $2, $1, $1, 1, 1, 9000000000000000, 1)",
    )
    .bind(&id)
    .bind(&hash)
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();

    let store = SqliteStore::open(&path).await.unwrap();
    let tables = store.load().await.unwrap().tables;
    let terminal = tables.terminals.values().next().unwrap();
    assert!(!terminal.gateway && terminal.name == "端末");
    let sessions = store.sessions(jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    assert!(sessions.len() == 1 && !sessions[0].asserted && sessions[0].second_factor);
}

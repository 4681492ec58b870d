//! Enrolment, certificates, revocation, bulletin.

use crate::support::{Site, enrolment, password};
use jiff::SignedDuration;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tobari_core::crypto::GrantKeyPair;
use tobari_core::policy::{Protection, Right};
use tobari_core::proto::admin::TerminalRecord;
use tobari_core::proto::api::{Affected, Changes};
use tobari_core::proto::problem::ProblemCode;

fn keys() -> (rcgen::KeyPair, GrantKeyPair) {
    (rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(), GrantKeyPair::generate().unwrap())
}

#[tokio::test]
async fn a_token_enrols_one_terminal() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    let input = json!({ "zone": "LGWAN接続系", "tags": ["本庁"], "valid_seconds": 600 });
    let made = terminal.post("/v1/admin/enrolment-tokens", Some(&admin), &input).await.created();
    let token = made.body["token"].as_str().unwrap();
    let other = site.enrol(token).await;
    let record: TerminalRecord =
        terminal.get(&format!("/v1/admin/terminals/{}", other.id), Some(&admin)).await.ok().to();
    assert_eq!(
        (record.terminal.zone.as_deref(), &record.terminal.tags[..]),
        (Some("LGWAN接続系"), &[String::from("本庁")][..])
    );
    let (tls, grant) = keys();
    let again = site.stranger().post("/v1/terminals/enrol", None, &enrolment(token, &tls, &grant)).await;
    again.refused(ProblemCode::BadEnrolmentToken);
}

#[tokio::test]
async fn tokens_end_and_cannot_be_guessed() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    let input = json!({ "valid_seconds": 600 });
    let made = terminal.post("/v1/admin/enrolment-tokens", Some(&admin), &input).await.created();
    site.advance(SignedDuration::from_secs(601));
    let (tls, grant) = keys();
    for token in [made.body["token"].as_str().unwrap(), "", "guess"] {
        let answer = site.stranger().post("/v1/terminals/enrol", None, &enrolment(token, &tls, &grant)).await;
        answer.refused(ProblemCode::BadEnrolmentToken);
    }
    let long = json!({ "valid_seconds": 604_801 });
    let problem = terminal
        .post("/v1/admin/enrolment-tokens", Some(&admin), &long)
        .await
        .refused(ProblemCode::InvalidRequest);
    assert_eq!(problem.field.as_deref(), Some("valid_seconds"));
}

#[tokio::test]
async fn strangers_cannot_fill_the_audit_log() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    let (tls, grant) = keys();
    let stranger = site.stranger();
    for _ in 0..30 {
        let answer = stranger.post("/v1/terminals/enrol", None, &enrolment("guess", &tls, &grant)).await;
        answer.refused(ProblemCode::BadEnrolmentToken);
    }
    let made = terminal.post("/v1/admin/enrolment-tokens", Some(&admin), &json!({})).await.created();
    let good = enrolment(made.body["token"].as_str().unwrap(), &tls, &grant);
    let bad = enrolment("guess", &tls, &grant);
    stranger.post("/v1/terminals/enrol", None, &bad).await.refused(ProblemCode::TooManyRequests);
    stranger.post("/v1/terminals/enrol", None, &good).await.created();
    site.advance(SignedDuration::from_secs(61));
    stranger.post("/v1/terminals/enrol", None, &bad).await.refused(ProblemCode::BadEnrolmentToken);
}

#[tokio::test]
async fn a_bad_request_leaves_the_token_unused() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    let made = terminal.post("/v1/admin/enrolment-tokens", Some(&admin), &json!({})).await.created();
    let token = made.body["token"].as_str().unwrap();
    let (tls, grant) = keys();
    let other_curve = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let good = enrolment(token, &tls, &grant);
    for (field, value) in [
        ("csr_pem", json!("nothing")),
        ("csr_pem", enrolment(token, &other_curve, &grant)["csr_pem"].clone()),
        ("grant_key", json!("AAAA")),
        ("grant_key", json!("not base64!")),
        ("name", json!("")),
        ("name", json!("a\u{202e}b")),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let problem = site
            .stranger()
            .post("/v1/terminals/enrol", None, &bad)
            .await
            .refused(ProblemCode::InvalidRequest);
        assert_eq!(problem.field.as_deref(), Some(field), "{}", problem.detail);
    }
    site.stranger().post("/v1/terminals/enrol", None, &good).await.created();
}

#[tokio::test]
async fn a_certificate_says_no_more_than_who_it_is() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    let made = terminal.post("/v1/admin/enrolment-tokens", Some(&admin), &json!({})).await.created();
    let (tls, grant) = keys();
    // A request that would like to be a CA and a server named localhost.
    let mut wishes = rcgen::CertificateParams::new(vec![String::from("localhost")]).unwrap();
    wishes.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut request = enrolment(made.body["token"].as_str().unwrap(), &tls, &grant);
    request["csr_pem"] = json!(wishes.serialize_request(&tls).unwrap().pem().unwrap());
    let enrolled = site.stranger().post("/v1/terminals/enrol", None, &request).await.created();
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(enrolled.body["certificate_pem"].as_str().unwrap().as_bytes())
            .unwrap();
    let certificate = pem.parse_x509().unwrap();
    assert!(!certificate.is_ca());
    assert!(certificate.subject_alternative_name().unwrap().is_none());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    let subject = certificate.subject().iter_common_name().next().unwrap().as_str().unwrap();
    assert_eq!(subject, enrolled.body["terminal"].as_str().unwrap());
}

#[tokio::test]
async fn a_revoked_terminal_is_told_so_and_stays_revoked() {
    let site = Site::start().await;
    let case = site.reference().await;
    let lost = site.another(&case.terminal, &case.admin, None).await;
    let bucho = lost.login("bucho").await;
    let file = case.sealed("社外秘").await;
    assert!(lost.grant(&bucho, file.header.wire_bytes(), Right::View).await.is_ok());
    let path = format!("/v1/admin/terminals/{}", lost.id);
    let mut input = json!({ "name": "紛失", "revoked": true });
    case.terminal.put(&path, Some(&case.admin), &input).await.ok();
    let problem =
        lost.get("/v1/sessions/current", Some(&bucho)).await.refused(ProblemCode::TerminalNotAccepted);
    assert!(problem.detail.contains("revoked"));
    lost.try_login("bucho", &password("bucho"), None).await.refused(ProblemCode::TerminalNotAccepted);
    let (_, bulletin) = case.terminal.bulletin().await;
    assert_eq!(bulletin.revocations.terminals, [lost.id]);
    input["revoked"] = json!(false);
    case.terminal.put(&path, Some(&case.admin), &input).await.refused(ProblemCode::Conflict);
    case.terminal.delete(&path, Some(&case.admin)).await.refused(ProblemCode::Conflict);
}

#[tokio::test]
async fn an_expired_certificate_gets_a_clear_answer() {
    let site = Site::start().await;
    let case = site.reference().await;
    site.advance(SignedDuration::from_hours(24 * 366));
    let problem = case.terminal.get("/v1/bulletin", None).await.refused(ProblemCode::CertificateExpired);
    assert!(problem.detail.contains("expired") && problem.detail.contains("enrol"), "{}", problem.detail);
}

#[tokio::test]
async fn a_certificate_is_renewed_and_the_one_before_ends_with_the_first_use() {
    let site = Site::start().await;
    let case = site.reference().await;
    let renew = |keys: &rcgen::KeyPair| {
        let request = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(keys).unwrap();
        json!({ "csr_pem": request.pem().unwrap() })
    };
    let new_key = || rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let first = &case.terminal;
    let path = "/v1/terminals/renew";
    // Not before half of its life.
    first.post(path, None, &renew(&new_key())).await.refused(ProblemCode::Conflict);
    site.stranger().post(path, None, &renew(&new_key())).await.refused(ProblemCode::TerminalNotAccepted);
    site.advance(SignedDuration::from_hours(24 * 20));
    first.post(path, None, &json!({ "csr_pem": "nothing" })).await.refused(ProblemCode::InvalidRequest);

    // An answer that was lost: the old one goes on, and the next renewal takes the lost one's place.
    let (lost, keys) = (new_key(), new_key());
    let lost_answer = first.post(path, None, &renew(&lost)).await.created();
    let admin = first.login(crate::support::ADMIN).await;
    let answer = first.post(path, None, &renew(&keys)).await.created();
    first.get("/v1/sessions/current", Some(&admin)).await.ok();
    let renewed = |certificate: &serde_json::Value, keys: &rcgen::KeyPair, site: &Site| {
        let mut enrolment = first.enrolment.clone().unwrap();
        enrolment.certificate_pem = certificate["certificate_pem"].as_str().unwrap().to_owned();
        let pair = GrantKeyPair::import(&first.grant_key.as_ref().unwrap().export()).unwrap();
        crate::support::Terminal::enrolled(site.address, enrolment, &keys.serialize_pem(), pair)
    };
    let forgotten = renewed(&lost_answer.body, &lost, &site);
    forgotten.get("/v1/bulletin", None).await.refused(ProblemCode::TerminalNotAccepted);

    // The first use is a grant; the session goes on, and the old certificate ends.
    let file = case.sealed("社外秘").await;
    let bucho = first.login("bucho").await;
    let second = renewed(&answer.body, &keys, &site);
    second.grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap();
    let problem = first.get("/v1/bulletin", None).await.refused(ProblemCode::TerminalNotAccepted);
    assert!(problem.detail.contains("not known"), "{}", problem.detail);
    second.get("/v1/sessions/current", Some(&admin)).await.ok();
    let record: TerminalRecord =
        second.get(&format!("/v1/admin/terminals/{}", second.id), Some(&admin)).await.ok().to();
    let left = record.certificate_expires_at.duration_since(site.clock_now());
    assert!(left > SignedDuration::from_hours(24 * 29) && left <= SignedDuration::from_hours(24 * 30));

    // The old end of life does not count any more.
    site.advance(SignedDuration::from_hours(24 * 15));
    second.bulletin().await;
    site.advance(SignedDuration::from_hours(24 * 16));
    second.get("/v1/bulletin", None).await.refused(ProblemCode::CertificateExpired);
    second.post(path, None, &renew(&new_key())).await.refused(ProblemCode::CertificateExpired);
}

#[tokio::test]
async fn a_certificate_of_another_ca_does_not_pass_the_handshake() {
    let site = Site::start().await;
    let elsewhere = Site::start().await;
    let (mut foreign, _) = elsewhere.first().await;
    foreign.move_to(site.address);
    let request = foreign.request(Method::GET, "/healthz", None);
    assert!(request.send().await.is_err());
}

#[tokio::test]
async fn the_bulletin_grows_with_what_it_says() {
    let mut site = Site::start().await;
    let case = site.reference().await;
    let (_, before) = case.terminal.bulletin().await;
    assert_eq!(before.labels.len(), 4);
    assert_eq!(before.groups.len(), 1);

    // What it does not speak of leaves it as it is.
    case.terminal
        .post("/v1/admin/posts", Some(&case.admin), &json!({ "name": "係員", "rank": 50 }))
        .await
        .created();
    let (_, same) = case.terminal.bulletin().await;
    assert_eq!(same, before);
    let tag = format!("\"{}\"", before.number);
    let conditional = |tag: &str| {
        case.terminal.request(Method::GET, "/v1/bulletin", None).header("if-none-match", tag.to_owned())
    };
    let answer = case.terminal.send(conditional(&tag)).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(answer.headers["etag"], tag.as_str());

    let folder = json!({
        "terminal": case.terminal.id, "path": "/srv/共有", "label": case.label("社外秘").id,
        "owner_group": case.group, "exclude": ["*.tmp"],
    });
    case.terminal.post("/v1/admin/folders", Some(&case.admin), &folder).await.created();
    let answer = case.terminal.send(conditional(&tag)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let (signed, after) = case.terminal.bulletin().await;
    assert_eq!(after.number, before.number + 1);
    assert_eq!(after.folders[0].path, "/srv/共有");

    // The number survives a restart, and so do the signed bytes.
    site.restart().await;
    let terminal = site.again(case.terminal);
    assert_eq!(terminal.bulletin().await, (signed, after));
}

#[tokio::test]
async fn the_last_contact_is_shown() {
    let site = Site::start().await;
    let case = site.reference().await;
    let path = format!("/v1/admin/terminals/{}", case.terminal.id);
    site.advance(SignedDuration::from_mins(3));
    let record: TerminalRecord = case.terminal.get(&path, Some(&case.admin)).await.ok().to();
    assert_eq!(record.last_seen_at, Some(site.clock_now()));
}

#[tokio::test]
async fn what_a_terminal_tells_of_itself_is_shown() {
    let site = Site::start().await;
    let case = site.reference().await;
    let path = format!("/v1/admin/terminals/{}", case.terminal.id);
    let coverage = json!({ "files": 1000, "plain": 2, "plain_since": "2026-06-01T00:00:00Z" });
    let report = json!({ "version": "0.1.0", "protection": "machine", "coverage": coverage });
    case.terminal.post("/v1/terminals/report", None, &report).await.ok();
    let told_at = site.clock_now();
    let check = |record: &TerminalRecord| {
        let reported = record.reported.as_ref().unwrap();
        assert_eq!((reported.at, reported.version.as_str()), (told_at, "0.1.0"));
        assert_eq!(reported.coverage.unwrap().permille(), 998);
        assert_eq!((record.protection, record.leases), (Protection::Machine, 0));
    };
    let record: TerminalRecord = case.terminal.get(&path, Some(&case.admin)).await.ok().to();
    check(&record);
    // No administrator's change takes it away.
    let input = json!({ "name": "新しい名" });
    check(&case.terminal.put(&path, Some(&case.admin), &input).await.ok().to());
    let terminal = &case.terminal;
    let records: Vec<TerminalRecord> = terminal.get("/v1/admin/terminals", Some(&case.admin)).await.ok().to();
    check(records.iter().find(|record| record.id == terminal.id).unwrap());
    for version in ["", "x y", "版", &"9".repeat(65)] {
        let report = json!({ "version": version, "protection": "machine" });
        terminal.post("/v1/terminals/report", None, &report).await.refused(ProblemCode::InvalidRequest);
    }
}

#[tokio::test]
async fn a_terminal_that_claims_less_has_less_at_once() {
    let site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, Some(case.admin.as_str()));
    let laptop = site.another(terminal, &case.admin, None).await;
    let ippan = laptop.login("ippan").await;
    let file = case.sealed("社外秘").await;
    let print = async || laptop.grant(&ippan, file.header.wire_bytes(), Right::Print).await;
    print().await.unwrap_err();
    let rule = json!({
        "label": case.label("社外秘").id, "groups": { "kind": "any" }, "posts": { "kind": "any" },
        "conditions": { "protection": "machine" }, "effect": "allow", "rights": ["print"],
    });
    terminal.post("/v1/admin/rules", admin, &rule).await.created();
    print().await.unwrap_err();

    let tell = async |protection: &str| {
        let report = json!({ "version": "0.1.0", "protection": protection });
        laptop.post("/v1/terminals/report", None, &report).await.ok();
    };
    for (claimed, allowed) in [("machine", true), ("none", false), ("tpm", true), ("none", false)] {
        tell(claimed).await;
        assert_eq!(print().await.is_ok(), allowed, "{claimed}");
    }
    // It is told to ask again for what it keeps.
    let changes = |after: u64| format!("/v1/changes?after={after}&bulletin=1000000&wait=0");
    let before: Changes = laptop.get(&changes(0), None).await.ok().to();
    tell("none").await;
    let same: Changes = laptop.get(&changes(before.version), None).await.ok().to();
    assert_eq!(same.decisions, Affected::Nobody);
    tell("machine").await;
    let after: Changes = laptop.get(&changes(before.version), None).await.ok().to();
    assert_eq!(after.decisions, Affected::Everybody);
    // Each change of the claim is on record.
    let found = terminal.get("/v1/admin/audit/search?act=update", admin).await.ok().text;
    assert!(!found.is_empty());
}

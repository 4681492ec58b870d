//! Revocation of labels and files, and freezing of terminals.

use crate::support::Site;
use serde_json::{Value, json};
use tobari_core::policy::Right;
use tobari_core::proto::admin::{RevocationRecord, TerminalRecord};
use tobari_core::proto::api::{DecisionOutcome, DecisionResponse, GrantRequest};
use tobari_core::proto::problem::ProblemCode;

#[tokio::test]
async fn nothing_of_a_revoked_label_or_file_is_granted_until_that_is_lifted() {
    let site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, Some(case.admin.as_str()));
    let bucho = terminal.login("bucho").await;
    let (file, beside, other) =
        (case.sealed("社外秘").await, case.sealed("社外秘").await, case.sealed("秘").await);
    let label = case.label("社外秘").id;
    let granted = async |sealed: &tobari_core::envelope::Sealed, right| {
        terminal.grant(&bucho, sealed.header.wire_bytes(), right).await
    };
    for (subject, falls, stays) in [
        (json!({ "kind": "label", "id": label }), vec![&file, &beside], vec![&other]),
        (json!({ "kind": "file", "id": file.file_id }), vec![&file], vec![&beside, &other]),
    ] {
        let with = |reason: &str| {
            let mut input = subject.clone();
            input["reason"] = json!(reason);
            input
        };
        let made = terminal.post("/v1/admin/revocations", admin, &with("誤送信のため")).await.created();
        let made: RevocationRecord = made.to();
        let again = terminal.post("/v1/admin/revocations", admin, &with("もう一度")).await;
        again.refused(ProblemCode::Conflict);
        for right in Right::ALL {
            for sealed in &falls {
                let refusal = granted(sealed, right).await.unwrap_err();
                assert_eq!(refusal.code, ProblemCode::Revoked, "{right}");
                assert!(refusal.rights.is_empty() && !refusal.detail.contains("誤送信"));
            }
        }
        for sealed in &stays {
            granted(sealed, Right::View).await.unwrap();
        }
        let items =
            GrantRequest { items: vec![crate::support::item(falls[0].header.wire_bytes(), Right::View)] };
        let answer: DecisionResponse = terminal.post("/v1/decisions", Some(&bucho), &items).await.ok().to();
        assert!(
            matches!(&answer.decisions[0], DecisionOutcome::Refused(r) if r.code == ProblemCode::Revoked)
        );
        let listed: Vec<RevocationRecord> = terminal.get("/v1/admin/revocations", admin).await.ok().to();
        assert_eq!(listed, [made]);
        let (_, bulletin) = terminal.bulletin().await;
        let named = bulletin.revocations.labels.len() + bulletin.revocations.files.len();
        assert_eq!(named, 1);

        terminal.post("/v1/admin/revocations/lift", admin, &with("調査終了")).await.ok();
        let again = terminal.post("/v1/admin/revocations/lift", admin, &with("もう一度")).await;
        again.refused(ProblemCode::NotFound);
        for sealed in &falls {
            granted(sealed, Right::View).await.unwrap();
        }
        let listed: Vec<RevocationRecord> = terminal.get("/v1/admin/revocations", admin).await.ok().to();
        assert!(listed.is_empty());
    }
    // Both acts are on record, with their reasons.
    let mut records = Vec::new();
    for row in tobari_keyserver::store::Store::audit_page(site.store.as_ref(), 0, 1000).await.unwrap() {
        records.push(serde_json::from_slice::<Value>(&row.payload).unwrap());
    }
    let object = json!(format!("revocation/file/{}", file.file_id));
    let acts: Vec<(&str, &str)> = records
        .iter()
        .filter(|record| record["object"] == object)
        .map(|record| (record["act"].as_str().unwrap(), record["detail"].as_str().unwrap()))
        .collect();
    assert_eq!(acts, [("create", "誤送信のため"), ("delete", "調査終了")]);
    let refused = records.iter().filter(|record| record["code"] == "revoked").count();
    assert_eq!(refused, 3 * Right::ALL.len());
}

#[tokio::test]
async fn revoking_needs_the_role_a_reason_and_a_label_that_there_is() {
    let site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, Some(case.admin.as_str()));
    let kacho = terminal.login("kacho").await;
    let file = json!({ "kind": "file", "id": "05".repeat(16), "reason": "試験" });
    for path in ["/v1/admin/revocations", "/v1/admin/revocations/lift"] {
        terminal.post(path, Some(&kacho), &file).await.refused(ProblemCode::NotAdministrator);
        terminal.post(path, None, &file).await.refused(ProblemCode::NotLoggedIn);
        for (field, value) in [("reason", json!("")), ("kind", json!("person")), ("id", json!("x"))] {
            let mut bad = file.clone();
            bad[field] = value;
            terminal.post(path, admin, &bad).await.refused(ProblemCode::InvalidRequest);
        }
    }
    let label = json!({ "kind": "label", "id": "05".repeat(16), "reason": "試験" });
    terminal.post("/v1/admin/revocations", admin, &label).await.refused(ProblemCode::NotFound);
}

#[tokio::test]
async fn a_frozen_terminal_is_shut_out_and_its_sessions_go_on_when_it_is_let_in_again() {
    let site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, Some(case.admin.as_str()));
    let laptop = site.another(terminal, &case.admin, None).await;
    let bucho = laptop.login("bucho").await;
    let file = case.sealed("社外秘").await;
    laptop.grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap();
    let path = format!("/v1/admin/terminals/{}", laptop.id);
    let freeze = async |frozen: bool| {
        let act = if frozen { "freeze" } else { "unfreeze" };
        let record: TerminalRecord =
            terminal.post(&format!("{path}/{act}"), admin, &json!(null)).await.ok().to();
        assert_eq!(record.frozen, frozen);
    };
    freeze(true).await;
    // What was said twice is so once.
    freeze(true).await;
    let items = GrantRequest { items: vec![crate::support::item(file.header.wire_bytes(), Right::View)] };
    laptop.post("/v1/grants", Some(&bucho), &items).await.refused(ProblemCode::TerminalFrozen);
    laptop.post("/v1/decisions", Some(&bucho), &items).await.refused(ProblemCode::TerminalFrozen);
    laptop.get("/v1/changes", None).await.refused(ProblemCode::TerminalFrozen);
    laptop.get("/v1/bulletin", None).await.refused(ProblemCode::TerminalFrozen);
    let (_, bulletin) = terminal.bulletin().await;
    assert_eq!((bulletin.revocations.frozen, bulletin.revocations.terminals), (vec![laptop.id], vec![]));
    // Whoever changes something else does not let it in, and a client that believes it does is told.
    let input = json!({ "name": "持ち出し", "tags": ["新"] });
    let record: TerminalRecord = terminal.put(&path, admin, &input).await.ok().to();
    assert!(record.frozen);
    let input = json!({ "name": "持ち出し", "frozen": false });
    terminal.put(&path, admin, &input).await.refused(ProblemCode::InvalidRequest);
    laptop.get("/v1/bulletin", None).await.refused(ProblemCode::TerminalFrozen);
    freeze(false).await;
    laptop.grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap();
    // Nobody shuts out the terminal on which they sit.
    let own = format!("/v1/admin/terminals/{}/freeze", terminal.id);
    terminal.post(&own, admin, &json!(null)).await.refused(ProblemCode::Conflict);
}

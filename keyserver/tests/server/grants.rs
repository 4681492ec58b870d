//! Grants and decisions: the policy decides, the record comes first, and nothing else opens a file.

use crate::support::{Site, item, person_input, seal_under};
use jiff::SignedDuration;
use serde_json::json;
use std::sync::atomic::Ordering;
use tobari_core::envelope::Header;
use tobari_core::ids::{LabelId, OrganisationId};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::api::{DecisionOutcome, DecisionResponse, GrantOutcome, GrantRequest, MAX_BATCH};
use tobari_core::proto::problem::ProblemCode;

#[tokio::test]
async fn a_granted_key_opens_the_file_on_this_terminal() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let bucho = case.terminal.login("bucho").await;
    let response = case.terminal.grants(&bucho, vec![item(file.header.wire_bytes(), Right::Decrypt)]).await;
    let GrantOutcome::Granted(grant) = &response.outcomes[0] else { panic!("{response:?}") };
    assert!(grant.rights.contains(Right::Decrypt) && grant.audit > 0);
    assert_eq!(grant.expires_at, site.clock_now() + SignedDuration::from_mins(15));
    case.terminal.check_deks(&response, case.people["bucho"].id, &[&file]);
}

#[tokio::test]
async fn the_reference_case_is_decided_with_reasons() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let ippan = case.terminal.login("ippan").await;
    let kacho = case.terminal.login("kacho").await;
    let header = file.header.wire_bytes();

    let allowed = case.terminal.grant(&ippan, header, Right::View).await.unwrap();
    assert_eq!(allowed.rights, Rights::only(Right::View));
    let refused = case.terminal.grant(&ippan, header, Right::Print).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::RightRefused);
    assert_eq!(refused.rights, Rights::only(Right::View));
    assert_eq!(refused.reasons[0].membership, "総務部 一般");
    assert!(refused.detail.contains("print") && refused.detail.contains("社外秘"), "{}", refused.detail);
    assert!(case.terminal.grant(&kacho, header, Right::Print).await.is_ok());
    assert!(case.terminal.grant(&kacho, header, Right::Decrypt).await.is_err());

    let request = GrantRequest { items: vec![item(header, Right::View), item(b"nothing", Right::View)] };
    let answer: DecisionResponse =
        case.terminal.post("/v1/decisions", Some(&ippan), &request).await.ok().to();
    let DecisionOutcome::Decided { label_name, owner_group_name, rights, reasons, .. } = &answer.decisions[0]
    else {
        panic!("{answer:?}")
    };
    assert_eq!((label_name.as_str(), owner_group_name.as_deref()), ("社外秘", Some("総務部")));
    assert_eq!(*rights, Rights::only(Right::View));
    assert!(!reasons.is_empty());
    assert!(matches!(&answer.decisions[1], DecisionOutcome::Refused(refusal)
        if refusal.code == ProblemCode::UnreadableEnvelope));
}

#[tokio::test]
async fn a_batch_has_one_answer_for_each_file_in_order() {
    let site = Site::start().await;
    let case = site.reference().await;
    let epoch = case.epoch(case.label("社外秘").id).await;
    let files: Vec<_> = (0..40).map(|_| seal_under(&epoch, case.policy("社外秘"))).collect();
    let bucho = case.terminal.login("bucho").await;
    let items = files.iter().map(|file| item(file.header.wire_bytes(), Right::View)).collect();
    let response = case.terminal.grants(&bucho, items).await;
    assert_eq!(response.outcomes.len(), 40);
    case.terminal.check_deks(&response, case.people["bucho"].id, &files.iter().collect::<Vec<_>>());

    let mut mixed: Vec<_> =
        files.iter().take(3).map(|file| item(file.header.wire_bytes(), Right::View)).collect();
    mixed[1].header.0[100] ^= 1;
    let response = case.terminal.grants(&bucho, mixed).await;
    assert!(matches!(
        &response.outcomes[..],
        [GrantOutcome::Granted(_), GrantOutcome::Refused(_), GrantOutcome::Granted(_)]
    ));

    let empty = case.terminal.grants(&bucho, Vec::new()).await;
    assert!(empty.outcomes.is_empty() && empty.encapsulated_key.0.is_empty());
}

#[tokio::test]
async fn every_changed_byte_of_a_header_is_refused_alike() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let bucho = case.terminal.login("bucho").await;
    let wire = file.header.wire_bytes().to_vec();
    let items: Vec<_> = (0..wire.len())
        .map(|position| {
            let mut changed = wire.clone();
            changed[position] ^= 1;
            item(&changed, Right::View)
        })
        .collect();
    let mut details = std::collections::BTreeSet::new();
    for batch in items.chunks(MAX_BATCH) {
        for (index, outcome) in
            case.terminal.grants(&bucho, batch.to_vec()).await.outcomes.into_iter().enumerate()
        {
            let GrantOutcome::Refused(refusal) = outcome else { panic!("byte {index} was not missed") };
            // A changed label or group may leave nothing allowed; that is decided before anything is opened.
            if refusal.code != ProblemCode::RightRefused {
                assert_eq!(refusal.code, ProblemCode::UnreadableEnvelope);
                details.insert(refusal.detail);
            }
        }
    }
    assert_eq!(details.len(), 1, "{details:?}");
    let cut = case.terminal.grant(&bucho, &wire[..wire.len() - 1], Right::View).await.unwrap_err();
    assert_eq!(cut.code, ProblemCode::UnreadableEnvelope);
}

#[tokio::test]
async fn a_policy_put_in_the_place_of_another_opens_nothing() {
    let site = Site::start().await;
    let case = site.reference().await;
    let ippan = case.terminal.login("ippan").await;
    // 一般 may view 公開 but not 極秘: a header that claims 公開 with the stanzas of a file under 極秘.
    let secret = case.sealed("極秘").await;
    let public = case.sealed("公開").await;
    assert!(case.terminal.grant(&ippan, secret.header.wire_bytes(), Right::View).await.is_err());
    let forged = transplant(&public.header, &secret.header);
    assert!(Header::parse(&forged).is_ok(), "well-formed: only the keys can tell");
    let refusal = case.terminal.grant(&ippan, &forged, Right::View).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::UnreadableEnvelope);

    // The same label, but another owner group in the policy.
    let mut policy = case.policy("社外秘");
    policy.owner_group = None;
    let ungrouped = seal_under(&case.epoch(case.label("社外秘").id).await, policy);
    let grouped = case.sealed("社外秘").await;
    let forged = transplant(&grouped.header, &ungrouped.header);
    let refusal = case.terminal.grant(&ippan, &forged, Right::View).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::UnreadableEnvelope);
}

/// The fixed part and policy of one header with the recipients of another.
fn transplant(policy_of: &Header, stanzas_of: &Header) -> Vec<u8> {
    let length = |wire: &[u8], at: usize| u32::from_le_bytes(wire[at..at + 4].try_into().unwrap()) as usize;
    let (one, two) = (policy_of.wire_bytes(), stanzas_of.wire_bytes());
    let policy_end = 48 + length(one, 40);
    let recipients = 48 + length(two, 40);
    let mut forged = one[..policy_end].to_vec();
    forged.extend_from_slice(&two[recipients..]);
    forged[44..48].copy_from_slice(&two[44..48]);
    forged
}

#[tokio::test]
async fn files_of_elsewhere_are_refused() {
    let site = Site::start().await;
    let case = site.reference().await;
    let bucho = case.terminal.login("bucho").await;
    let epoch = case.epoch(case.label("社外秘").id).await;
    let mut foreign = case.policy("社外秘");
    foreign.organisation = OrganisationId::generate();
    let mut unknown = case.policy("社外秘");
    unknown.label = LabelId::generate();
    for policy in [foreign, unknown] {
        let file = seal_under(&epoch, policy);
        let refusal = case.terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::UnreadableEnvelope);
    }
}

#[tokio::test]
async fn a_change_of_policy_counts_at_once() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let ippan = case.terminal.login("ippan").await;
    let header = file.header.wire_bytes();
    assert!(case.terminal.grant(&ippan, header, Right::View).await.is_ok());
    let rule = json!({
        "label": case.label("社外秘").id,
        "groups": { "kind": "any" },
        "posts": { "kind": "any" },
        "effect": "deny",
        "rights": ["view"],
        "note": "閲覧停止",
    });
    let rule = case.terminal.post("/v1/admin/rules", Some(&case.admin), &rule).await.created();
    let refusal = case.terminal.grant(&ippan, header, Right::View).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::RightRefused);
    assert_eq!(refusal.reasons[0].note, "閲覧停止");
    let path = format!("/v1/admin/rules/{}", rule.body["id"].as_str().unwrap());
    case.terminal.delete(&path, Some(&case.admin)).await.ok();
    assert!(case.terminal.grant(&ippan, header, Right::View).await.is_ok());
}

#[tokio::test]
async fn a_grant_ends_when_a_rule_turns() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let ippan = case.terminal.login("ippan").await;
    let turn = site.clock_now() + SignedDuration::from_mins(4);
    let rule = json!({
        "label": case.label("社外秘").id,
        "groups": { "kind": "any" },
        "posts": { "kind": "any" },
        "conditions": { "not_before": turn },
        "effect": "deny",
        "rights": ["view"],
    });
    case.terminal.post("/v1/admin/rules", Some(&case.admin), &rule).await.created();
    let grant = case.terminal.grant(&ippan, file.header.wire_bytes(), Right::View).await.unwrap();
    assert_eq!(grant.expires_at, turn);
    site.advance(SignedDuration::from_mins(5));
    assert!(case.terminal.grant(&ippan, file.header.wire_bytes(), Right::View).await.is_err());
}

#[tokio::test]
async fn without_a_record_no_key_leaves() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let bucho = case.terminal.login("bucho").await;
    let request = GrantRequest { items: vec![item(file.header.wire_bytes(), Right::View)] };
    site.store.commits_fail.store(true, Ordering::SeqCst);
    let answer = case.terminal.post("/v1/grants", Some(&bucho), &request).await;
    let problem = answer.refused(ProblemCode::AuditUnavailable);
    assert_eq!(problem.status, 503);
    assert!(!answer.text.contains("sealed_dek"));
    case.terminal.get("/readyz", None).await.refused(ProblemCode::AuditUnavailable);
    // Nor does an administrative act happen, or a login.
    let group = json!({ "name": "企画課" });
    case.terminal
        .post("/v1/admin/groups", Some(&case.admin), &group)
        .await
        .refused(ProblemCode::AuditUnavailable);
    case.terminal
        .try_login("bucho", &crate::support::password("bucho"), None)
        .await
        .refused(ProblemCode::AuditUnavailable);
    site.store.commits_fail.store(false, Ordering::SeqCst);
    let groups = case.terminal.get("/v1/admin/groups", Some(&case.admin)).await.ok();
    assert_eq!(groups.body.as_array().unwrap().len(), 1);
    assert!(case.terminal.grant(&bucho, file.header.wire_bytes(), Right::View).await.is_ok());
}

#[tokio::test]
async fn batches_and_bodies_have_limits() {
    let site = Site::start().await;
    let case = site.reference().await;
    let bucho = case.terminal.login("bucho").await;
    let request = GrantRequest { items: vec![item(b"x", Right::View); MAX_BATCH + 1] };
    let problem =
        case.terminal.post("/v1/grants", Some(&bucho), &request).await.refused(ProblemCode::TooLarge);
    assert!(problem.detail.contains("1024"), "{}", problem.detail);
    let huge = item(&vec![0; 9 * 1024 * 1024], Right::View);
    let request = GrantRequest { items: vec![huge] };
    case.terminal.post("/v1/grants", Some(&bucho), &request).await.refused(ProblemCode::TooLarge);
    let mut long = item(b"x", Right::View);
    long.name = Some("あ".repeat(2000));
    let request = GrantRequest { items: vec![item(b"x", Right::View), long] };
    let problem =
        case.terminal.post("/v1/grants", Some(&bucho), &request).await.refused(ProblemCode::InvalidRequest);
    assert_eq!(problem.field.as_deref(), Some("items[1].name"));
}

#[tokio::test]
async fn an_administrator_reads_no_file_by_virtue_of_that() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let refusal = case.terminal.grant(&case.admin, file.header.wire_bytes(), Right::View).await.unwrap_err();
    assert_eq!(refusal.code, ProblemCode::RightRefused);
    assert!(refusal.rights.is_empty());
}

#[tokio::test]
async fn the_zone_of_the_terminal_counts() {
    let site = Site::start().await;
    let case = site.reference().await;
    let file = case.sealed("社外秘").await;
    let rule = json!({
        "label": case.label("社外秘").id,
        "groups": { "kind": "any" },
        "posts": { "kind": "any" },
        "conditions": { "zones": ["インターネット接続系"] },
        "effect": "deny",
        "rights": ["view"],
    });
    case.terminal.post("/v1/admin/rules", Some(&case.admin), &rule).await.created();
    let outside = site.another(&case.terminal, &case.admin, Some("インターネット接続系")).await;
    let header = file.header.wire_bytes();
    let here = case.terminal.login("bucho").await;
    let there = outside.login("bucho").await;
    assert!(case.terminal.grant(&here, header, Right::View).await.is_ok());
    assert!(outside.grant(&there, header, Right::View).await.is_err());
}

#[tokio::test]
async fn hybrid_labels_work_too() {
    let site = Site::start().await;
    let mut case = site.reference().await;
    let input = json!({ "name": "耐量子", "level": 50, "key_kind": "rsa2048-mlkem768" });
    let label: tobari_core::proto::admin::LabelRecord =
        case.terminal.post("/v1/admin/labels", Some(&case.admin), &input).await.created().to();
    let rule = json!({
        "label": label.id, "groups": { "kind": "any" }, "posts": { "kind": "any" },
        "effect": "allow", "rights": ["view"],
    });
    case.terminal.post("/v1/admin/rules", Some(&case.admin), &rule).await.created();
    case.preset.labels.push(label);
    let file = case.sealed("耐量子").await;
    let person = person_input("betsu", vec![], &[]);
    case.terminal.post("/v1/admin/people", Some(&case.admin), &person).await.created();
    let ippan = case.terminal.login("ippan").await;
    let response = case.terminal.grants(&ippan, vec![item(file.header.wire_bytes(), Right::View)]).await;
    case.terminal.check_deks(&response, case.people["ippan"].id, &[&file]);
    // Without any membership, no rule applies.
    let nobody = case.terminal.login("betsu").await;
    assert!(case.terminal.grant(&nobody, file.header.wire_bytes(), Right::View).await.is_err());
}

#[tokio::test]
async fn a_rotated_label_has_a_new_key_and_opens_old_files() {
    let site = Site::start().await;
    let case = site.reference().await;
    let old = case.sealed("社外秘").await;
    let label = case.label("社外秘").clone();
    let path = format!("/v1/admin/labels/{}/rotate", label.id);
    let before = case.terminal.bulletin().await.1.number;

    let rotated: tobari_core::proto::admin::LabelRecord =
        case.terminal.post(&path, Some(&case.admin), &json!(null)).await.ok().to();
    assert_eq!((rotated.id, rotated.generation), (label.id, label.generation + 1));
    assert_ne!(rotated.key_id, label.key_id);
    let (_, bulletin) = case.terminal.bulletin().await;
    assert_eq!(bulletin.number, before + 1);
    let keys = bulletin.labels.iter().find(|keys| keys.label.id == label.id).unwrap();
    assert_eq!(keys.generation, rotated.generation);

    // What is sealed from now on is for the new key; both open.
    let new = case.sealed("社外秘").await;
    assert_ne!(new.header.stanzas()[0].key_id, old.header.stanzas()[0].key_id);
    let bucho = case.terminal.login("bucho").await;
    let items = [&old, &new].map(|file| item(file.header.wire_bytes(), Right::View)).to_vec();
    let response = case.terminal.grants(&bucho, items).await;
    case.terminal.check_deks(&response, case.people["bucho"].id, &[&old, &new]);

    // Nobody else rotates.
    case.terminal.post(&path, Some(&bucho), &json!(null)).await.refused(ProblemCode::NotAdministrator);
    let missing = format!("/v1/admin/labels/{}/rotate", LabelId::generate());
    case.terminal.post(&missing, Some(&case.admin), &json!(null)).await.refused(ProblemCode::NotFound);
}

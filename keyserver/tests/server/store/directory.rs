//! Directory and policy: what is put, replaced and taken away.

use super::{Checked, at, label, revocation, terminal};
use tobari_core::crypto::{KeyId, sha256};
use tobari_core::ids::{
    ChangeRequestId, FileId, FolderId, GroupId, InvariantId, PersonId, PostId, RuleId, SessionId,
};
use tobari_core::policy::{
    Conditions, Effect, Group, GroupScope, GroupSelector, Invariant, Label, LabelScope, Policy, Post,
    PostScope, PostSelector, Protection, Right, Rights, Rule,
};
use tobari_core::proto::admin::Revoked;
use tobari_core::proto::bulletin::Folder;
use tobari_core::proto::policy::PolicyDiff;
use tobari_keyserver::store::{
    Change, ChangeRequestRow, LabelKeyRow, LabelRow, NextCertificate, PolicyVersionRow, RequestState,
    StoreError, TerminalRow,
};

pub(super) async fn directory(checked: &mut Checked<'_>) {
    let (label, key) = label();
    let group = Group { id: GroupId::generate(), name: String::from("総務部"), parent: None };
    let child = Group { id: GroupId::generate(), name: String::from("人事課"), parent: Some(group.id) };
    let post = Post { id: PostId::generate(), name: String::from("課長"), rank: 300 };
    let rule = Rule {
        id: RuleId::generate(),
        label: label.label.id,
        groups: GroupSelector::Subtree { group: group.id },
        posts: PostSelector::RankAtLeast { rank: 1 },
        conditions: Conditions {
            not_after: Some(at(77)),
            zones: vec![String::from("z")],
            ..Conditions::default()
        },
        effect: Effect::Deny,
        rights: Rights::only(Right::Send),
        note: String::from("注"),
    };
    let terminal = terminal();
    let folder = Folder {
        id: FolderId::generate(),
        terminal: terminal.id,
        path: String::from("/srv/共有"),
        label: label.label.id,
        owner_group: Some(child.id),
        exclude: vec![String::from("*.tmp")],
    };
    let setting = |value: &[u8]| Change::PutSetting(String::from("x"), value.to_vec());
    checked
        .commit(vec![
            setting(&[0, 255]),
            Change::PutLabel(label.clone()),
            Change::AddLabelKey(key.clone()),
            Change::PutGroup(group.clone()),
            Change::PutGroup(child.clone()),
            Change::PutPost(post.clone()),
            Change::PutRule(rule.clone()),
            Change::PutTerminal(terminal.clone()),
            Change::PutFolder(folder.clone()),
        ])
        .await;
    // Everything again with other fields: replaced, not added.
    let next = Some(NextCertificate { fingerprint: sha256(&[b"next"]), expires_at: at(2000) });
    let renamed = |name: &str| Label { name: name.to_owned(), ..label.label.clone() };
    checked
        .commit(vec![
            setting(b""),
            Change::PutLabel(LabelRow {
                label: renamed("秘"),
                allow_legacy_zip: false,
                max_bulletin_age_hours: None,
                ..label.clone()
            }),
            Change::AddLabelKey(LabelKeyRow {
                generation: 2,
                key_id: KeyId::from_bytes([7; 32]),
                ..key.clone()
            }),
            Change::PutGroup(Group { parent: None, ..child.clone() }),
            Change::PutPost(Post { rank: 1, ..post.clone() }),
            Change::PutRule(Rule { effect: Effect::Allow, ..rule.clone() }),
            Change::PutTerminal(TerminalRow {
                revoked: true,
                gateway: true,
                frozen: true,
                protection: Protection::Tpm,
                next,
                zone: None,
                ..terminal.clone()
            }),
            Change::PutFolder(Folder { owner_group: None, exclude: vec![], ..folder.clone() }),
            Change::PutRevocation(revocation(Revoked::Label { id: label.label.id })),
            Change::PutRevocation(revocation(Revoked::File { id: FileId::from_bytes([5; 16]) })),
        ])
        .await;
    // A generation is never replaced.
    checked
        .refuse(vec![Change::PutGroup(group.clone()), Change::AddLabelKey(key)], |error| {
            matches!(error, StoreError::Taken(_))
        })
        .await;
    checked
        .commit(vec![
            Change::DeleteFolder(folder.id),
            Change::PutTerminal(TerminalRow { next: None, ..terminal.clone() }),
            Change::LiftRevocation(Revoked::Label { id: label.label.id }),
            Change::DeleteRule(rule.id),
            Change::DeletePost(post.id),
            Change::DeleteGroup(child.id),
        ])
        .await;
}

pub(super) async fn policy(checked: &mut Checked<'_>) {
    let store = checked.store;
    let invariant = Invariant {
        id: InvariantId::generate(),
        name: String::from("課長未満は復号しない"),
        labels: LabelScope::LevelAtLeast { level: 1 },
        groups: GroupScope::Any,
        posts: PostScope::Any,
        rights: Rights::only(Right::Decrypt),
        zones: vec![String::from("z")],
        without_second_factor: true,
    };
    let request = ChangeRequestRow {
        id: ChangeRequestId::generate(),
        requested_by: PersonId::generate(),
        requested_at: at(1),
        reason: String::from("理由"),
        expires_at: at(9),
        act: String::from("{}"),
        summary: String::new(),
        diff: PolicyDiff::default(),
        digest: String::from("00"),
        state: RequestState::Pending,
    };
    checked
        .commit(vec![Change::PutInvariant(invariant.clone()), Change::PutChangeRequest(request.clone())])
        .await;
    let approved =
        RequestState::Approved { by: PersonId::generate(), at: at(2), reason: String::from("可") };
    checked
        .commit(vec![
            Change::PutInvariant(Invariant { zones: vec![], ..invariant.clone() }),
            Change::PutChangeRequest(ChangeRequestRow { state: approved, ..request.clone() }),
        ])
        .await;
    let version = |version: u64, policy: Option<Policy>| PolicyVersionRow {
        version,
        at: at(3),
        person: None,
        login: String::from("admin"),
        act: String::from("update"),
        object: String::from("rule/x"),
        detail: String::new(),
        reason: String::from("理由"),
        request: Some(request.id),
        approved_by: None,
        policy,
    };
    let post = Post { id: PostId::generate(), name: String::from("課長"), rank: 3 };
    let policy = Policy { posts: vec![post], ..Policy::default() };
    checked.commit(vec![Change::AddPolicyVersion(version(1, Some(policy.clone())))]).await;
    checked.commit(vec![Change::AddPolicyVersion(version(2, None))]).await;
    checked.commit(vec![Change::AddPolicyVersion(version(3, Some(Policy::default())))]).await;
    checked
        .refuse(vec![Change::AddPolicyVersion(version(3, None))], |error| {
            matches!(error, StoreError::Taken(_))
        })
        .await;
    let numbers = |rows: Vec<PolicyVersionRow>| rows.iter().map(|row| row.version).collect::<Vec<_>>();
    assert_eq!(numbers(store.policy_versions(u64::MAX, 2).await.unwrap()), [3, 2]);
    assert_eq!(store.policy_versions(2, 9).await.unwrap(), [version(1, None)]);
    assert_eq!(store.policy_of(2).await.unwrap(), Some(policy), "that of the version before");
    assert_eq!(store.policy_of(3).await.unwrap(), Some(Policy::default()));
    assert_eq!(store.policy_of(0).await.unwrap(), None);
    let session = SessionId::generate();
    checked.commit(vec![Change::StepUp(session, at(4))]).await;
    checked.commit(vec![Change::StepUp(session, at(5))]).await;
    assert_eq!(store.step_up(session).await.unwrap(), Some(at(5)));
    checked.commit(vec![Change::Prune(at(6))]).await;
    assert_eq!(store.step_up(session).await.unwrap(), None);
    checked
        .commit(vec![Change::DeleteInvariant(invariant.id), Change::DeleteChangeRequest(request.id)])
        .await;
}

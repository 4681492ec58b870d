//! What every store must do, as a function over any store; and that a committed change reads back as it was made.

use crate::database::Database;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use tobari_core::audit::{Frontier, Growth, Hash, is_consistent, leaf_hash, root_of};
use tobari_core::crypto::{KeyId, sha256};
use tobari_core::ids::{
    ChangeRequestId, FileId, FolderId, GroupId, InvariantId, LabelId, LeaseId, PersonId, PostId, RuleId,
    SessionId, TerminalId,
};
use tobari_core::policy::{
    Conditions, Effect, Group, GroupScope, GroupSelector, Invariant, Label, LabelScope, Membership, Policy,
    Post, PostScope, PostSelector, Protection, Right, Rights, Rule,
};
use tobari_core::proto::admin::{KeyKind, RevocationRecord, Revoked, Role};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::{Folder, PublicKey};
use tobari_core::proto::lease::{LeaseState, Narrowing, Opens, Term};
use tobari_core::proto::policy::PolicyDiff;
use tobari_core::proto::terminal::{Coverage, Reported};
use tobari_keyserver::audit::chain;
use tobari_keyserver::audit::proof;
use tobari_keyserver::store::postgres::PostgresStore;
use tobari_keyserver::store::sqlite::SqliteStore;
use tobari_keyserver::store::{
    AuditHead, Basis, Change, ChangeRequestRow, FileKeyRow, LabelKeyRow, LabelRow, LeaseBody, LeaseCaseRow,
    LeaseCases, LeaseFileRow, LeaseFilter, LeaseRecordRow, LeaseRow, LeaseTerminalRow, LoginFailuresRow,
    NextCertificate, PersonRow, PolicyVersionRow, RequestState, SessionRow, Store, StoreError, Tables,
    TerminalRow, TokenRow, UnsealWindowRow,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn person(login: &str) -> PersonRow {
    PersonRow {
        id: PersonId::generate(),
        login: login.to_owned(),
        login_key: login.to_lowercase(),
        name: String::from("山田 太郎"),
        password_hash: String::from("$argon2id$x"),
        sealed_totp: Some(vec![1, 2, 3]),
        memberships: vec![Membership { group: GroupId::generate(), post: PostId::generate() }],
        roles: vec![Role::Policy, Role::Auditor],
        disabled: false,
    }
}

fn revocation(subject: Revoked) -> RevocationRecord {
    let reason = String::from("誤送信");
    RevocationRecord { subject, reason, revoked_by: PersonId::generate(), revoked_at: at(5) }
}

fn terminal() -> TerminalRow {
    TerminalRow {
        id: TerminalId::generate(),
        name: String::from("端末"),
        zone: Some(String::from("LGWAN接続系")),
        tags: vec![String::from("本庁")],
        revoked: false,
        fingerprint: sha256(&[TerminalId::generate().as_bytes()]),
        certificate_expires_at: at(1000),
        grant_key: vec![4; 65],
        enrolled_at: at(1),
        gateway: false,
        frozen: false,
        next: None,
        protection: Protection::Machine,
    }
}

fn label() -> (LabelRow, LabelKeyRow) {
    let label = Label { id: LabelId::generate(), name: String::from("社外秘"), level: 100 };
    let key = LabelKeyRow {
        label: label.id,
        generation: 1,
        key_id: KeyId::from_bytes(sha256(&[label.id.as_bytes()])),
        public_key: PublicKey { rsa_spki: Base64(vec![1]), mlkem768: Some(Base64(vec![2])) },
        sealed_private: vec![9; 40],
        created_at: at(5),
        retired_at: None,
    };
    (
        LabelRow {
            label,
            key_kind: KeyKind::Rsa2048Mlkem768,
            allow_legacy_zip: true,
            lease_by_label: false,
            max_bulletin_age_hours: Some(24),
        },
        key,
    )
}

/// Commits, and keeps a model of what the store must then hold.
struct Checked<'a> {
    store: &'a dyn Store,
    model: Tables,
    records: u64,
}

impl Checked<'_> {
    async fn commit(&mut self, changes: Vec<Change>) {
        let payload = format!("record {}", self.records).into_bytes();
        let head = self.store.commit(&Basis::ANY, &changes, &[payload]).await.unwrap().head;
        self.records += 1;
        assert_eq!(head.sequence, self.records);
        changes.iter().for_each(|change| self.model.apply(change));
        assert_eq!(self.store.load().await.unwrap().tables, self.model, "after {changes:?}");
    }

    async fn refuse(&self, changes: Vec<Change>, fits: impl Fn(&StoreError) -> bool) {
        let before = self.store.audit_head().await.unwrap();
        let error = self.store.commit(&Basis::ANY, &changes, &[b"refused".to_vec()]).await.unwrap_err();
        assert!(fits(&error), "{error:?}");
        assert_eq!(self.store.audit_head().await.unwrap(), before, "a refused change leaves no record");
        assert_eq!(self.store.load().await.unwrap().tables, self.model, "and no part of it");
    }
}

/// The conformance suite, for an empty store.
async fn conforms(store: &dyn Store) {
    assert_eq!(store.load().await.unwrap().tables, Tables::default());
    assert_eq!(store.audit_head().await.unwrap(), AuditHead::START);
    store.check().await.unwrap();
    let mut checked = Checked { store, model: Tables::default(), records: 0 };
    directory(&mut checked).await;
    policy(&mut checked).await;
    files(&mut checked).await;
    people(&mut checked).await;
    sessions(&mut checked).await;
    counters(&mut checked).await;
    basis(&mut checked).await;
    leases(&mut checked).await;
    audit(store, checked.records).await;
}

async fn directory(checked: &mut Checked<'_>) {
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

async fn policy(checked: &mut Checked<'_>) {
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

/// Keys that are taken away, for which keys files are sealed, and who unseals them.
async fn files(checked: &mut Checked<'_>) {
    let store = checked.store;
    let (label, key) = label();
    let next = LabelKeyRow { generation: 2, key_id: KeyId::from_bytes([8; 32]), ..key.clone() };
    let (id, file, other) = (label.label.id, FileId::from_bytes([1; 16]), FileId::from_bytes([2; 16]));
    checked
        .commit(vec![
            Change::PutLabel(label),
            Change::AddLabelKey(key.clone()),
            Change::AddLabelKey(next.clone()),
        ])
        .await;
    checked.commit(vec![Change::RetireLabelKey(id, 1, at(7))]).await;
    let row = store.load().await.unwrap().tables.label_keys[&(id, 1)].clone();
    assert_eq!((row.sealed_private.as_slice(), row.retired_at), ([].as_slice(), Some(at(7))));
    // Once, and only what there is; and a retired generation does not come back.
    for change in [Change::RetireLabelKey(id, 1, at(8)), Change::RetireLabelKey(id, 3, at(8))] {
        checked.refuse(vec![change], |error| matches!(error, StoreError::Stale)).await;
    }
    checked.refuse(vec![Change::AddLabelKey(key)], |error| matches!(error, StoreError::Taken(_))).await;

    let seen = |file, generation, time| FileKeyRow { file, label: id, generation, seen_at: at(time) };
    let saw = |earlier, current| Change::SawFileKeys { earlier, current };
    checked.commit(vec![saw(vec![seen(file, 1, 10), seen(other, 1, 10)], vec![])]).await;
    // What is told late does not count.
    checked.commit(vec![saw(vec![seen(file, 2, 12), seen(file, 1, 11)], vec![])]).await;
    assert_eq!((store.files_under(id, 1).await.unwrap(), store.files_under(id, 2).await.unwrap()), (1, 1));
    checked.commit(vec![saw(vec![], vec![file, other])]).await;
    assert_eq!((store.files_under(id, 1).await.unwrap(), store.files_under(id, 2).await.unwrap()), (0, 0));

    let (one, two) = (PersonId::generate(), PersonId::generate());
    let count = |person, files: &[FileId], time, bounds: &[(i64, u64)]| Change::CountUnseals {
        person,
        files: files.to_vec(),
        at: at(time),
        bounds: bounds.iter().map(|(since, most)| (at(*since), *most)).collect(),
    };
    checked.commit(vec![count(one, &[file], 100, &[(50, 1)])]).await;
    let stale = |error: &StoreError| matches!(error, StoreError::Stale);
    checked.refuse(vec![count(one, &[other], 101, &[(50, 1)])], stale).await;
    checked.commit(vec![count(one, &[file], 102, &[(50, 1)])]).await;
    assert_eq!(store.unseals(one, at(102)).await.unwrap(), [(file, at(102))], "the same file counts once");
    // One of the bounds is enough, and others' files do not count.
    checked.commit(vec![count(one, &[other], 103, &[(50, 1), (103, 1)])]).await;
    checked.commit(vec![count(two, &[file, other], 103, &[(103, 2)])]).await;
    assert_eq!(store.unseals(one, at(50)).await.unwrap(), [(file, at(102)), (other, at(103))]);
    checked.commit(vec![Change::Prune(at(103))]).await;
    assert_eq!(store.unseals(one, at(50)).await.unwrap(), [(other, at(103))]);
    let window = |files| UnsealWindowRow { person: one, files, opened_at: at(1), ends_at: at(9) };
    checked.commit(vec![Change::PutUnsealWindow(window(3))]).await;
    checked.commit(vec![Change::PutUnsealWindow(window(4))]).await;
}

async fn people(checked: &mut Checked<'_>) {
    let taro = person("taro");
    checked.commit(vec![Change::PutPerson(taro.clone())]).await;
    let other = person("TARO");
    checked
        .refuse(
            vec![Change::PutPerson(other)],
            |error| matches!(error, StoreError::Taken(column) if column == "login_key"),
        )
        .await;
    let changed = PersonRow { disabled: true, sealed_totp: None, roles: vec![], ..taro.clone() };
    checked.commit(vec![Change::PutPerson(changed)]).await;
    checked.commit(vec![Change::DeletePerson(taro.id)]).await;
    assert!(checked.model.departed.contains(&taro.id));
    // The name is free again.
    checked.commit(vec![Change::PutPerson(person("Taro"))]).await;
}

async fn sessions(checked: &mut Checked<'_>) {
    let row = |person, terminal, expires| SessionRow {
        id: SessionId::generate(),
        token_hash: sha256(&[SessionId::generate().as_bytes()]),
        person,
        terminal,
        second_factor: true,
        asserted: false,
        created_at: at(10),
        expires_at: at(expires),
        last_used_at: at(10),
    };
    let (one, two) = (PersonId::generate(), PersonId::generate());
    let (here, there) = (TerminalId::generate(), TerminalId::generate());
    let rows = [
        row(one, here, 100),
        row(one, there, 100),
        row(two, here, 100),
        row(two, there, 50),
        row(two, there, 200),
    ];
    checked.commit(rows.iter().cloned().map(Change::PutSession).collect()).await;
    let store = checked.store;
    let alive = async |now: i64| {
        let mut ids: Vec<SessionId> =
            store.sessions(at(now)).await.unwrap().iter().map(|row| row.id).collect();
        ids.sort_unstable();
        ids
    };
    let ids = |indexes: &[usize]| {
        let mut ids: Vec<SessionId> = indexes.iter().map(|index| rows[*index].id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(alive(50).await, ids(&[0, 1, 2, 4]), "one that ends now has ended");
    assert!(store.sessions(at(10)).await.unwrap().contains(&rows[0]));
    checked.commit(vec![Change::TouchSessions(vec![(rows[0].id, at(30)), (rows[1].id, at(5))])]).await;
    let touched: HashMap<SessionId, Timestamp> =
        store.sessions(at(10)).await.unwrap().into_iter().map(|row| (row.id, row.last_used_at)).collect();
    assert_eq!((touched[&rows[0].id], touched[&rows[1].id]), (at(30), at(10)), "never backwards");
    checked.commit(vec![Change::DeleteSession(rows[0].id)]).await;
    checked.commit(vec![Change::DeleteSessionsOnTerminal(here)]).await;
    assert_eq!(alive(10).await, ids(&[1, 3, 4]));
    checked.commit(vec![Change::Prune(at(60))]).await;
    assert_eq!(alive(10).await, ids(&[1, 4]));
    checked.commit(vec![Change::DeleteSessionsOfPerson(two)]).await;
    assert_eq!(alive(10).await, ids(&[1]));
}

async fn counters(checked: &mut Checked<'_>) {
    let store = checked.store;
    let token = TokenRow { hash: [3; 32], zone: None, tags: vec![String::from("a")], expires_at: at(500) };
    checked.commit(vec![Change::PutToken(token.clone())]).await;
    assert_eq!(store.token([3; 32]).await.unwrap(), Some(token));
    assert_eq!(store.token([4; 32]).await.unwrap(), None);
    let stale = |error: &StoreError| matches!(error, StoreError::Stale);
    checked.refuse(vec![Change::UseToken([4; 32])], stale).await;
    checked.commit(vec![Change::UseToken([3; 32])]).await;
    checked.refuse(vec![Change::PutPerson(person("hanako")), Change::UseToken([3; 32])], stale).await;

    let person = PersonId::generate();
    assert_eq!(store.totp_step(person).await.unwrap(), None);
    checked.commit(vec![Change::AdvanceTotpStep(person, 100)]).await;
    checked.refuse(vec![Change::AdvanceTotpStep(person, 100)], stale).await;
    checked.refuse(vec![Change::AdvanceTotpStep(person, 99)], stale).await;
    checked.commit(vec![Change::AdvanceTotpStep(person, 101)]).await;
    assert_eq!(store.totp_step(person).await.unwrap(), Some(101));
    checked.commit(vec![Change::ForgetTotpStep(person)]).await;
    assert_eq!(store.totp_step(person).await.unwrap(), None);

    let row = LoginFailuresRow {
        login_key: String::from("ippan"),
        failures: 3,
        last_failed_at: at(100),
        locked_until: at(160),
    };
    checked.commit(vec![Change::PutLoginFailures(row.clone())]).await;
    let more = LoginFailuresRow { failures: 4, ..row };
    checked.commit(vec![Change::PutLoginFailures(more.clone())]).await;
    // Another server counted the same failure: one of the two must count again.
    let stale = |error: &StoreError| matches!(error, StoreError::Stale);
    checked.refuse(vec![Change::PutLoginFailures(more.clone())], stale).await;
    checked.commit(vec![Change::Prune(at(130))]).await;
    assert_eq!(store.login_failures("ippan").await.unwrap(), Some(more), "locked until later");
    assert_eq!(store.login_failures("ippa").await.unwrap(), None);
    checked.commit(vec![Change::ClearLoginFailures(String::from("ippan"))]).await;
    assert_eq!(store.login_failures("ippan").await.unwrap(), None);

    let terminal = terminal();
    checked.commit(vec![Change::PutTerminal(terminal.clone())]).await;
    assert_eq!(store.last_contacts().await.unwrap(), HashMap::new());
    checked
        .commit(vec![Change::TouchTerminals(vec![(terminal.id, at(9)), (TerminalId::generate(), at(9))])])
        .await;
    checked.commit(vec![Change::TouchTerminals(vec![(terminal.id, at(8))])]).await;
    assert_eq!(store.last_contacts().await.unwrap(), HashMap::from([(terminal.id, at(9))]));

    assert_eq!(store.reports().await.unwrap(), HashMap::new());
    let coverage = Some(Coverage { files: 9, plain: 1, plain_since: Some(at(3)) });
    let reported = |second| Reported { at: at(second), version: String::from("0.1.0"), coverage };
    let reports = vec![(terminal.id, reported(7)), (TerminalId::generate(), reported(7))];
    checked.commit(vec![Change::NoteReports(reports)]).await;
    checked.commit(vec![Change::NoteReports(vec![(terminal.id, reported(8))])]).await;
    // What an administrator changes leaves it as it is.
    checked.commit(vec![Change::PutTerminal(terminal.clone())]).await;
    assert_eq!(store.reports().await.unwrap(), HashMap::from([(terminal.id, reported(8))]));
}

/// What is built on what is no longer so leaves nothing behind.
async fn basis(checked: &mut Checked<'_>) {
    let store = checked.store;
    let row = SessionRow {
        id: SessionId::generate(),
        token_hash: [8; 32],
        person: PersonId::generate(),
        terminal: TerminalId::generate(),
        second_factor: false,
        asserted: false,
        created_at: at(10),
        expires_at: at(1000),
        last_used_at: at(10),
    };
    checked.commit(vec![Change::PutSession(row.clone())]).await;
    assert_eq!(store.session([8; 32]).await.unwrap(), Some(row.clone()));
    assert_eq!(store.session([9; 32]).await.unwrap(), None);
    let version = store.version().await.unwrap();
    assert_eq!(store.load().await.unwrap().version, version, "a session is not part of the tables");
    let other = SessionId::generate();
    let on = |version: Option<u64>, sessions: &[SessionId]| Basis { version, sessions: sessions.to_vec() };

    // What is so is no hindrance, however often it is named.
    let good = on(Some(version), &[row.id, row.id, row.id]);
    store.commit(&good, &[], &[b"good".to_vec()]).await.unwrap();
    checked.records += 1;

    let head = store.audit_head().await.unwrap();
    for (basis, gone) in [
        (on(Some(version - 1), &[]), vec![]),
        (on(Some(version + 1), &[row.id]), vec![]),
        (on(Some(version), &[row.id, other]), vec![other]),
        (on(None, &[other]), vec![other]),
    ] {
        let change = [Change::PutPost(Post { id: PostId::generate(), name: String::from("x"), rank: 1 })];
        let error = store.commit(&basis, &change, &[b"x".to_vec()]).await.unwrap_err();
        let StoreError::Moved { version: now, ended } = error else { panic!("{error:?}") };
        assert_eq!((now, ended), (version, gone));
        assert_eq!(store.audit_head().await.unwrap(), head);
        assert_eq!(store.load().await.unwrap().tables, checked.model);
    }

    // Each commit that changes the tables is the next version, however much it changes.
    let post = |name: &str| Change::PutPost(Post { id: PostId::generate(), name: name.to_owned(), rank: 1 });
    checked.commit(vec![post("a"), post("b")]).await;
    assert_eq!(store.version().await.unwrap(), version + 1);
    checked.commit(vec![Change::DeleteSession(row.id)]).await;
    assert_eq!(store.version().await.unwrap(), version + 1);
    let late = on(Some(version + 1), &[row.id]);
    assert!(matches!(store.commit(&late, &[], &[]).await, Err(StoreError::Moved { .. })));
}

fn lease(person: PersonId, terminal: TerminalId, requested_at: i64) -> LeaseRow {
    let body = LeaseBody {
        term: Term { starts_at: at(10), ends_at: at(requested_at + 1000) },
        opens: Opens::Unlimited,
        rights: [Right::View, Right::Send].into_iter().collect(),
        reason: String::from("出張"),
        second_factor: true,
        requested_by: person,
        requested_at: at(requested_at),
        decided_by: None,
        decided_at: None,
        ended_at: None,
        label: None,
    };
    let file = LeaseFileRow {
        file: FileId::generate(),
        label: LabelId::generate(),
        name: Some(String::from("起案書.docx")),
        rights: Rights::NONE,
        header: Some(Base64(vec![7; 300])),
    };
    LeaseRow {
        id: LeaseId::generate(),
        state: LeaseState::Requested,
        person,
        terminal,
        body,
        file_count: 1,
        files: vec![file],
        document: None,
        fetched_at: None,
        opened: 0,
    }
}

/// What leases lend: found by what a change of the policy can concern, narrowed, and gone with the lease. `issued` is issued,
/// `asked` is not.
async fn lease_cases(checked: &mut Checked<'_>, issued: &LeaseRow, asked: &LeaseRow) {
    let store = checked.store;
    assert_eq!(store.leases_without_cases(at(0)).await.unwrap(), [issued.id]);
    assert!(store.leases_without_cases(at(2000)).await.unwrap().is_empty());
    let case = |row: &LeaseRow, label: LabelId, owner_group| LeaseCaseRow {
        left: Narrowing {
            lease: row.id,
            label,
            owner_group,
            rights: [Right::View, Right::Send].into_iter().collect(),
            ends_at: at(1010),
        },
        person: row.person,
        terminal: row.terminal,
        second_factor: true,
        by_label: false,
        starts_at: at(0),
        lease_ends_at: at(1020),
        narrowed: false,
    };
    let (label, other, group) = (LabelId::generate(), LabelId::generate(), GroupId::generate());
    let (none, owned) = (case(issued, label, None), case(issued, other, Some(group)));
    let (seen, kinds) = store.lease_kinds(LeaseCases::All, at(0)).await.unwrap();
    assert!(kinds.is_empty());
    checked.commit(vec![Change::LeasesIssued(seen), Change::PutLeaseCases(vec![none, owned])]).await;
    let moved = |error: &StoreError| matches!(error, StoreError::Moved { .. });
    checked.refuse(vec![Change::LeasesIssued(seen)], moved).await;
    checked.commit(vec![Change::PutLeaseCases(vec![case(asked, label, None)])]).await;
    assert!(store.leases_without_cases(at(0)).await.unwrap().is_empty());
    let kinds = async |which, now| store.lease_kinds(which, now).await.unwrap();
    let (seen, all) = kinds(LeaseCases::All, at(0)).await;
    assert_eq!((seen, all.len()), (2, 3));
    assert_eq!(kinds(LeaseCases::Label(label), at(0)).await.1.len(), 2);
    assert_eq!(kinds(LeaseCases::Person(asked.person), at(0)).await.1.len(), 1);
    assert_eq!(kinds(LeaseCases::Terminal(issued.terminal), at(0)).await.1.len(), 3);
    assert!(kinds(LeaseCases::All, at(1020)).await.1.is_empty(), "those that have ended");
    // By one kind the whole lease is found, and only one that is out.
    let (_, mine) = kinds(LeaseCases::Person(issued.person), at(0)).await;
    for kind in mine {
        let mut found = store.lease_cases(kind, at(0)).await.unwrap();
        found.sort_by_key(|case| case.left.owner_group);
        assert_eq!(found, [none, owned]);
        assert!(store.lease_cases(kind, at(1020)).await.unwrap().is_empty());
    }
    let (_, theirs) = kinds(LeaseCases::Person(asked.person), at(0)).await;
    assert!(store.lease_cases(theirs[0], at(0)).await.unwrap().is_empty());
    // Narrowed: part of what every server holds.
    let version = store.version().await.unwrap();
    let left = Narrowing { rights: Rights::only(Right::View), ends_at: at(1005), ..owned.left };
    let narrowed = LeaseCaseRow { left, narrowed: true, ..owned };
    checked.commit(vec![Change::NarrowLeases(vec![narrowed])]).await;
    assert_eq!(store.version().await.unwrap(), version + 1);
    let held = async || store.load().await.unwrap().tables.narrowed_leases;
    assert_eq!(held().await.into_values().collect::<Vec<_>>(), [(left, at(1020))]);
    checked.commit(vec![Change::Prune(at(1500))]).await;
    assert_eq!(held().await.len(), 1);
    assert!(kinds(LeaseCases::All, at(0)).await.1.iter().all(|kind| kind.label == other));
    checked.commit(vec![Change::ForgetLeaseRevocations(at(1021))]).await;
    assert!(held().await.is_empty() && kinds(LeaseCases::All, at(0)).await.1.is_empty());
    // What has ended meanwhile does not end again, and stops nothing.
    let over = LeaseRow { state: LeaseState::Revoked, document: None, ..asked.clone() };
    checked.commit(vec![Change::EndLease(Box::new(over.clone()))]).await;
    assert_eq!(store.lease(asked.id).await.unwrap().unwrap().state, asked.state);
}

/// Leases: found by what is asked for, changed only from the state that they were in, one history for each terminal.
async fn leases(checked: &mut Checked<'_>) {
    let store = checked.store;
    let (person, terminal) = (PersonId::generate(), TerminalId::generate());
    let old = lease(person, terminal, 20);
    let new = lease(person, TerminalId::generate(), 30);
    let others = lease(PersonId::generate(), terminal, 40);
    let puts = [&old, &new, &others].map(|row| Change::PutLease(Box::new(row.clone())));
    checked.commit(puts.into()).await;
    assert_eq!(store.lease(old.id).await.unwrap(), Some(old.clone()));
    assert_eq!(store.lease(LeaseId::generate()).await.unwrap(), None);
    let found = async |filter: LeaseFilter| -> Vec<LeaseId> {
        store.leases(filter).await.unwrap().iter().map(|row| row.id).collect()
    };
    let all = LeaseFilter::default();
    assert_eq!(found(all).await, [others.id, new.id, old.id], "newest first");
    assert_eq!(found(LeaseFilter { limit: Some(2), ..all }).await, [others.id, new.id]);
    assert_eq!(found(LeaseFilter { person: Some(person), ..all }).await, [new.id, old.id]);
    assert_eq!(found(LeaseFilter { terminal: Some(terminal), ..all }).await, [others.id, old.id]);
    let both = LeaseFilter { person: Some(person), terminal: Some(terminal), ..all };
    assert_eq!(found(both).await, [old.id]);
    assert_eq!(found(LeaseFilter { ends_after: Some(at(1030)), ..all }).await, [others.id]);
    let listed = store.leases(both).await.unwrap();
    assert_eq!(listed, [LeaseRow { files: Vec::new(), document: None, ..old.clone() }]);

    let mut issued = LeaseRow { state: LeaseState::Issued, document: Some(vec![1, 2, 3]), ..old.clone() };
    issued.body.decided_by = Some(PersonId::generate());
    issued.body.decided_at = Some(at(50));
    let step = |before, row: &LeaseRow| Change::MoveLease(before, Box::new(row.clone()));
    checked.commit(vec![step(LeaseState::Requested, &issued)]).await;
    assert_eq!(store.lease(old.id).await.unwrap(), Some(issued.clone()));
    assert_eq!(found(LeaseFilter { issued: true, ..all }).await, [old.id]);
    assert_eq!(found(LeaseFilter { state: Some(LeaseState::Requested), ..all }).await, [others.id, new.id]);
    let twice = vec![step(LeaseState::Requested, &issued)];
    checked.refuse(twice, |error| matches!(error, StoreError::Stale)).await;

    // The first time counts.
    checked.commit(vec![Change::FetchedLeases(vec![(old.id, at(60))])]).await;
    checked.commit(vec![Change::FetchedLeases(vec![(old.id, at(70))])]).await;
    issued.fetched_at = Some(at(60));
    assert_eq!(store.lease(old.id).await.unwrap(), Some(issued.clone()));

    assert_eq!(store.lease_terminal(terminal).await.unwrap(), None);
    let record = |sequence: u64| LeaseRecordRow {
        terminal,
        sequence,
        lease: old.id,
        payload: format!("payload {sequence}").into_bytes(),
        hash: [u8::try_from(sequence).unwrap(); 32],
    };
    let reported = |counter, sequence: u64| LeaseTerminalRow {
        terminal,
        counter,
        sequence,
        hash: [u8::try_from(sequence).unwrap(); 32],
        blocked: false,
    };
    let first = Change::AppendLeaseRecords {
        before: (0, 0),
        after: reported(4, 2),
        rows: vec![(true, record(1)), (true, record(2))],
    };
    checked.commit(vec![first.clone()]).await;
    assert_eq!(store.lease_terminal(terminal).await.unwrap(), Some(reported(4, 2)));
    assert_eq!(store.lease_records(old.id).await.unwrap(), [record(1), record(2)]);
    assert_eq!(store.lease(old.id).await.unwrap().unwrap().opened, 2);
    // What another report came before leaves nothing behind.
    checked.refuse(vec![first], |error| matches!(error, StoreError::Stale)).await;
    let next = |after| Change::AppendLeaseRecords { before: (4, 2), after, rows: vec![(false, record(3))] };
    checked.commit(vec![next(reported(5, 3))]).await;
    checked.refuse(vec![next(reported(5, 3))], |error| matches!(error, StoreError::Stale)).await;
    assert_eq!(store.lease_records_of(terminal, 1, 1).await.unwrap(), [record(2)]);
    assert_eq!(store.lease_records_of(terminal, 2, 9).await.unwrap(), [record(3)]);
    assert_eq!(store.lease(old.id).await.unwrap().unwrap().opened, 2, "a return is no opening");
    let blocked = LeaseTerminalRow { blocked: true, ..reported(5, 3) };
    let block = Change::AppendLeaseRecords { before: (5, 3), after: blocked, rows: Vec::new() };
    checked.commit(vec![block]).await;
    assert_eq!(store.lease_terminal(terminal).await.unwrap(), Some(blocked));

    // Revocations are part of what every server holds.
    let version = store.version().await.unwrap();
    checked.commit(vec![Change::RevokeLease(old.id, at(1020)), Change::RevokeLease(new.id, at(1030))]).await;
    assert_eq!(store.version().await.unwrap(), version + 1);
    lease_cases(checked, &old, &others).await;
    checked.commit(vec![Change::ForgetLeaseRevocations(at(1030))]).await;
    assert_eq!(store.load().await.unwrap().tables.revoked_leases.into_keys().collect::<Vec<_>>(), [new.id]);
}

async fn audit(store: &dyn Store, records: u64) {
    let before = chain::verify(store).await.unwrap();
    assert_eq!(before.sequence, records);
    // More rows than one statement takes, an empty payload, and bytes that are no text.
    let payloads: Vec<Vec<u8>> = (0..1203_u32)
        .map(|number| if number == 7 { Vec::new() } else { [&[0xff, 0][..], &number.to_le_bytes()].concat() })
        .collect();
    let appended = store.commit(&Basis::ANY, &[], &payloads).await.unwrap();
    let head = appended.head;
    assert_eq!(head.sequence, records + 1203);
    assert_eq!(store.audit_head().await.unwrap(), head);
    assert_eq!(chain::verify(store).await.unwrap(), head);
    assert_eq!(chain::verify_tail(store, 10).await.unwrap(), head);
    assert_eq!(chain::verify_tail(store, head.sequence + 5).await.unwrap(), head);
    let page = store.audit_page(records + 5, 3).await.unwrap();
    let sequences: Vec<u64> = page.iter().map(|row| row.sequence).collect();
    assert_eq!(sequences, [records + 6, records + 7, records + 8]);
    assert_eq!(page[2].payload, Vec::<u8>::new());
    assert!(store.audit_page(head.sequence, 10).await.unwrap().is_empty());
    assert_eq!(store.commit(&Basis::ANY, &[], &[]).await.unwrap().head, head);
    tree(store, &appended.growth).await;
}

/// What is stored of the tree proves what was appended, and every tree that the log ever was.
async fn tree(store: &dyn Store, growth: &Growth) {
    let size = growth.after().size();
    let mut leaves: Vec<Hash> = Vec::new();
    for row in store.audit_page(0, u32::MAX >> 1).await.unwrap() {
        leaves.push(leaf_hash(&row.payload));
    }
    assert_eq!((leaves.len() as u64, &store.audit_frontier().await.unwrap()), (size, growth.after()));
    let root = growth.after().root();
    for first in [0, 1, 255, 256, 511, 700, size - 300, size - 1] {
        let range = first..(first + 270).min(size);
        let proof = proof::inclusion(store, range.clone(), size).await.unwrap();
        let shown = &leaves[range.start as usize..range.end as usize];
        assert_eq!(root_of(first, shown, size, &proof), Some(root), "{range:?}");
        if let Some(same) = growth.prove(range) {
            assert_eq!(same, proof);
        }
    }
    for old in [1, 2, 255, 256, 257, 512, 1000, size - 1, size] {
        let before = proof::frontier_at(store, old).await.unwrap();
        let mut expected = Frontier::default();
        leaves[..old as usize].iter().for_each(|leaf| expected.push(*leaf));
        assert_eq!(before, expected);
        let proof = proof::consistency(store, old, size).await.unwrap();
        assert!(is_consistent((old, &before.root()), (size, &root), &proof), "{old}");
    }
}

#[tokio::test]
async fn sqlite_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tobari.db");
    let store = SqliteStore::create(&path).await.unwrap();
    conforms(&store).await;
    let (tables, head) = (store.load().await.unwrap().tables, store.audit_head().await.unwrap());
    store.close().await.unwrap();
    drop(store);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!((store.load().await.unwrap().tables, store.audit_head().await.unwrap()), (tables, head));
    assert!(SqliteStore::create(&path).await.is_err(), "does not overwrite");
    assert!(SqliteStore::open(&directory.path().join("missing.db")).await.is_err());
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn two_processes_append_to_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tobari.db");
    let one = SqliteStore::create(&path).await.unwrap();
    let two = SqliteStore::open(&path).await.unwrap();
    for round in 0..10_u8 {
        one.commit(&Basis::ANY, &[], &[vec![round]]).await.unwrap();
        two.commit(&Basis::ANY, &[], &[vec![round], vec![round]]).await.unwrap();
    }
    assert_eq!(chain::verify(&one).await.unwrap().sequence, 30);
}

#[tokio::test]
async fn postgres_conforms() {
    let Some(database) = Database::start().await else { return };
    let location = database.create("suite").await;
    let store = PostgresStore::open(&location).await.unwrap();
    conforms(&store).await;
    let (loaded, head) = (store.load().await.unwrap(), store.audit_head().await.unwrap());
    store.close().await.unwrap();
    drop(store);
    let store = PostgresStore::open(&location).await.unwrap();
    assert_eq!((store.load().await.unwrap(), store.audit_head().await.unwrap()), (loaded, head));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_stores_append_to_one_chain_at_the_same_time() {
    let Some(database) = Database::start().await else { return };
    let location = database.create("chain").await;
    let mut running = tokio::task::JoinSet::new();
    for server in 0..4_u8 {
        let store = PostgresStore::open(&location).await.unwrap();
        running.spawn(async move {
            for round in 0..25_u8 {
                store.commit(&Basis::ANY, &[], &[vec![server, round], vec![round]]).await.unwrap();
            }
        });
    }
    running.join_all().await;
    let store = PostgresStore::open(&location).await.unwrap();
    assert_eq!(chain::verify(&store).await.unwrap().sequence, 200);
}

#[tokio::test]
async fn postgres_records_that_are_gone_stop_every_commit() {
    let Some(database) = Database::start().await else { return };
    let store = database.store("cut").await;
    store.commit(&Basis::ANY, &[], &[b"a".to_vec(), b"b".to_vec()]).await.unwrap();
    // As after a fail-over to a standby that had not received it.
    database.run_sql("cut", "DELETE FROM audit WHERE sequence = 2").await;
    let error = store.commit(&Basis::ANY, &[], &[b"c".to_vec()]).await.unwrap_err();
    assert!(matches!(error, StoreError::AuditBroken(_)), "{error:?}");
    // And when somebody else has written on over it.
    database.run_sql("cut", "INSERT INTO audit VALUES (2, 'x', 'y'), (3, 'x', 'y')").await;
    let error = store.commit(&Basis::ANY, &[], &[b"c".to_vec()]).await.unwrap_err();
    assert!(matches!(error, StoreError::AuditBroken(_)), "{error:?}");
}

#[tokio::test]
async fn a_postgres_that_may_lose_what_it_answers_is_refused() {
    let Some(database) = Database::start().await else { return };
    let location = database.create("unsafe").await;
    database.run_sql("postgres", "ALTER SYSTEM SET fsync = off").await;
    database.run_sql("postgres", "SELECT pg_reload_conf()").await;
    // The database takes it over when it comes to it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while PostgresStore::open(&location).await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "fsync = off was accepted");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_database_of_a_later_version_is_not_touched() {
    use sqlx::Connection as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tobari.db");
    SqliteStore::create(&path).await.unwrap().close().await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', 1, x'00', 0)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::TooNew { found: 99, .. })));
}

/// Appends per second, for `tests/bench/audit.sh`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn appends_per_second() {
    use tobari_core::audit::{LogSigner, log_name};
    use tobari_core::crypto::SigningKey;
    use tobari_core::ids::OrganisationId;
    use tobari_keyserver::audit::{Act, AuditLog, LogIdentity, Record, Who};
    let records: u64 =
        std::env::var("TOBARI_BENCH_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let organisation = OrganisationId::generate();
    let measure = async |name: &str, store: std::sync::Arc<dyn Store>| {
        let signer = LogSigner::new(&log_name(organisation), SigningKey::generate().unwrap()).unwrap();
        let log = AuditLog::start(store, LogIdentity { organisation, epoch: 1, signer });
        // Requests at one time, and records in each.
        for (callers, each) in [(1, 1), (64, 1), (64, 64)] {
            let rounds = (records / (callers * each)).clamp(1, if callers == 1 { 2000 } else { u64::MAX });
            let started = std::time::Instant::now();
            let mut running = tokio::task::JoinSet::new();
            for _ in 0..callers {
                let log = log.clone();
                running.spawn(async move {
                    let who = Who { person: Some(PersonId::generate()), ..Who::default() };
                    let record = Record::new(Act::Grant, Timestamp::UNIX_EPOCH, who).detail("x".repeat(200));
                    for _ in 0..rounds {
                        let batch = vec![record.clone(); each as usize];
                        log.commit_with_receipt(Basis::ANY, Vec::new(), &batch).await.unwrap();
                    }
                });
            }
            running.join_all().await;
            let rate = (callers * each * rounds) as f64 / started.elapsed().as_secs_f64();
            println!("{name:8} {callers:3} at a time, {each:3} records each: {rate:9.0} records/s");
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::create(&directory.path().join("tobari.db")).await.unwrap();
    measure("sqlite", std::sync::Arc::new(sqlite)).await;
    if let Some(database) = Database::start().await {
        measure("postgres", std::sync::Arc::new(database.store("bench").await)).await;
    }
}

//! Canned values.

use jiff::Timestamp;
use tobari_core::crypto::{RecipientKind, RecipientPrivateKey};
use tobari_core::ids::{
    FileId, FolderId, GroupId, LabelId, OrganisationId, PersonId, PostId, RuleId, SessionId, TerminalId,
};
use tobari_core::policy::{Effect, Group, Label, Membership, Right, Rights};
use tobari_core::proto::admin::Role;
use tobari_core::proto::api::{DecisionOutcome, NamedMembership, Reason, Session};
use tobari_core::proto::bulletin::{Bulletin, Folder, LabelKeys, PublicKey, Revocations};
use tobari_core::proto::control::{
    Answer, EventSource, FileInfo, FolderStatus, RecipientInfo, SealedInfo, Status, Unsealed, UnsealedReason,
};

pub(super) const LABEL: LabelId = LabelId::from_bytes([0x1a; 16]);
pub(super) const GROUP: GroupId = GroupId::from_bytes([0x96; 16]);
pub(super) const SECTION: GroupId = GroupId::from_bytes([0x97; 16]);
pub(super) const POST: PostId = PostId::from_bytes([0x50; 16]);
pub(super) const TERMINAL: TerminalId = TerminalId::from_bytes([0x7e; 16]);
pub(super) const ORGANISATION: OrganisationId = OrganisationId::from_bytes([0x01; 16]);
pub(super) const RULE: RuleId = RuleId::from_bytes([0xb1; 16]);

pub(super) fn time() -> Timestamp {
    "2026-11-21T09:30:00Z".parse().unwrap()
}

pub(super) fn session() -> Answer {
    let membership = Membership { group: GROUP, post: POST };
    Answer::Session {
        session: Session {
            id: SessionId::from_bytes([2; 16]),
            person: PersonId::from_bytes([3; 16]),
            login: "bucho".to_owned(),
            name: "部長 太郎".to_owned(),
            memberships: vec![NamedMembership {
                membership,
                group_name: "総務部".to_owned(),
                post_name: "部長".to_owned(),
            }],
            roles: vec![Role::Policy, Role::Auditor],
            second_factor: true,
            asserted: false,
            expires_at: time(),
        },
    }
}

pub(super) fn folder(path: &str) -> Folder {
    Folder {
        id: FolderId::from_bytes([4; 16]),
        terminal: TERMINAL,
        path: path.to_owned(),
        label: LABEL,
        owner_group: Some(GROUP),
        exclude: vec!["*.tmp".to_owned()],
    }
}

pub(super) fn status() -> Answer {
    let unsealed = |path: &str, reason, next_try| Unsealed {
        path: path.to_owned(),
        reason,
        detail: "open elsewhere".to_owned(),
        since: time(),
        tries: 3,
        next_try,
    };
    let folder_status = |path: &str, watched| FolderStatus {
        folder: folder(path),
        label_name: "社外秘".to_owned(),
        watched,
        sealed: 1234,
        sealed_bytes: 56_789_012,
        waiting: 1,
        swept_at: Some(time()),
        events: Some(EventSource::Fanotify),
        files: Some(2000),
        plain: 1,
        plain_since: Some(time()),
        sweep: None,
    };
    Answer::Status {
        status: Box::new(Status {
            program: "0.1.0".to_owned(),
            terminal: TERMINAL,
            organisation: ORGANISATION,
            key_server: "https://keys.example.jp".to_owned(),
            key_server_seen_at: Some(time()),
            key_server_error: Some("connection refused".to_owned()),
            certificate_expires_at: time(),
            bulletin_number: 42,
            bulletin_issued_at: time(),
            folders: vec![
                folder_status("/srv/共有/総務部", Ok(())),
                folder_status("/srv/gone", Err("no such folder".to_owned())),
            ],
            unsealed: vec![
                unsealed("/srv/共有/総務部/a.docx", UnsealedReason::InUse, Some(time())),
                unsealed("/srv/共有/総務部/b\n.txt", UnsealedReason::HardLinked, None),
            ],
        }),
    }
}

pub(super) fn reason(effect: Effect, rights: &[Right]) -> Reason {
    Reason {
        rule: RULE,
        effect,
        rights: rights.iter().copied().collect(),
        membership: "総務部 一般".to_owned(),
        note: "閲覧のみ".to_owned(),
    }
}

pub(super) fn sealed_info() -> SealedInfo {
    let recipient = |role: Option<&str>, byte| RecipientInfo {
        kind: "rsa-oaep".to_owned(),
        key_id: vec![byte; 32].into(),
        role: role.map(str::to_owned),
    };
    SealedInfo {
        file: FileId::from_bytes([5; 16]),
        organisation: ORGANISATION,
        label: LABEL,
        label_name: "社外秘".to_owned(),
        label_level: 30,
        owner_group: Some((GROUP, Some("総務部".to_owned()))),
        sealed_at: time(),
        sealer: TERMINAL,
        generation: 1,
        plaintext_size: 12_345,
        chunk_size: 16_384,
        recipients: vec![
            recipient(Some("label"), 0xaa),
            recipient(Some("recovery"), 0xbb),
            recipient(None, 0xcc),
        ],
        decision: None,
        decision_problem: None,
    }
}

pub(super) fn decided() -> DecisionOutcome {
    DecisionOutcome::Decided {
        label: LABEL,
        label_name: "社外秘".to_owned(),
        owner_group: Some(GROUP),
        owner_group_name: Some("総務部".to_owned()),
        rights: Rights::only(Right::View),
        reasons: vec![reason(Effect::Allow, &[Right::View]), reason(Effect::Deny, &[Right::Send])],
    }
}

pub(super) fn info(name: &str, sealed: Option<SealedInfo>) -> Answer {
    Answer::Info { info: Box::new(FileInfo { name: name.to_owned(), sealed, stored_size: 16_469 }) }
}

/// A bulletin without usable keys.
pub(super) fn bulletin(folders: Vec<Folder>) -> Bulletin {
    let key = PublicKey { rsa_spki: vec![1].into(), mlkem768: None };
    let group = |id, name: &str, parent| Group { id, name: name.to_owned(), parent };
    Bulletin {
        version: 1,
        organisation: ORGANISATION,
        organisation_name: "みほん市".to_owned(),
        number: 42,
        issued_at: time(),
        labels: vec![LabelKeys {
            label: Label { id: LABEL, name: "社外秘".to_owned(), level: 30 },
            generation: 1,
            key: key.clone(),
            allow_legacy_zip: false,
            lease_by_label: false,
            max_bulletin_age_hours: None,
        }],
        recovery: key,
        groups: vec![group(GROUP, "総務部", None), group(SECTION, "人事課", Some(GROUP))],
        folders,
        revocations: Revocations::default(),
        gateways: Vec::new(),
    }
}

/// A bulletin with keys, and the private half of the label's.
pub(super) fn bulletin_with_keys(folders: Vec<Folder>) -> (Bulletin, RecipientPrivateKey) {
    let [label, recovery] = [(), ()].map(|()| RecipientPrivateKey::generate(RecipientKind::RsaOaep).unwrap());
    let mut bulletin = bulletin(folders);
    bulletin.recovery = recovery.public().to_proto();
    bulletin.labels[0].key = label.public().to_proto();
    (bulletin, label)
}

pub(super) fn notice(bulletin: Bulletin) -> Answer {
    Answer::Bulletin { bulletin: Box::new(bulletin), terminal: TERMINAL }
}

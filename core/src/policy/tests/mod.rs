//! Tests of the policy: the reference case, every reason to deny, a naive evaluator, validation, presets and the
//! worked example of the specification.

mod conditions;
mod diff;
mod invariants;
mod naive;
mod presets;
mod reference;
mod selectors;
mod spec;
mod validation;

use super::*;
use crate::ids::{GroupId, LabelId, PersonId, PostId, RuleId};
use jiff::Timestamp;

/// A small organisation: 市役所 over 総務部 and 税務部, 総務課 below 総務部; posts of the presets.
pub(super) const CITY: GroupId = GroupId::from_bytes([1; 16]);
pub(super) const GENERAL: GroupId = GroupId::from_bytes([2; 16]);
pub(super) const GENERAL_SECTION: GroupId = GroupId::from_bytes([3; 16]);
pub(super) const TAX: GroupId = GroupId::from_bytes([4; 16]);

pub(super) const DIRECTOR: PostId = PostId::from_bytes([10; 16]);
pub(super) const MANAGER: PostId = PostId::from_bytes([11; 16]);
pub(super) const CHIEF: PostId = PostId::from_bytes([12; 16]);
pub(super) const STAFF: PostId = PostId::from_bytes([13; 16]);
pub(super) const TRAINEE: PostId = PostId::from_bytes([14; 16]);

pub(super) const SECRET: LabelId = LabelId::from_bytes([20; 16]);
pub(super) const PUBLIC: LabelId = LabelId::from_bytes([21; 16]);

pub(super) fn labels() -> Vec<Label> {
    vec![
        Label { id: SECRET, name: "社外秘".to_owned(), level: 100 },
        Label { id: PUBLIC, name: "公開".to_owned(), level: 0 },
    ]
}

pub(super) fn groups() -> Vec<Group> {
    let group = |id, name: &str, parent| Group { id, name: name.to_owned(), parent };
    vec![
        group(GENERAL_SECTION, "総務課", Some(GENERAL)),
        group(CITY, "市役所", None),
        group(GENERAL, "総務部", Some(CITY)),
        group(TAX, "税務部", Some(CITY)),
    ]
}

pub(super) fn posts() -> Vec<Post> {
    let post = |id, name: &str, rank| Post { id, name: name.to_owned(), rank };
    vec![
        post(DIRECTOR, "部長", 400),
        post(MANAGER, "課長", 300),
        post(CHIEF, "係長", 200),
        post(STAFF, "一般", 100),
        post(TRAINEE, "実習生", 50),
    ]
}

pub(super) fn set(rules: Vec<Rule>) -> PolicySet {
    PolicySet::new(labels(), groups(), posts(), rules).unwrap()
}

/// An unconditional allow on [`SECRET`]; tests change what they are about.
pub(super) fn allow(id: u8, rights: Rights) -> Rule {
    Rule {
        id: RuleId::from_bytes([id; 16]),
        label: SECRET,
        groups: GroupSelector::Any,
        posts: PostSelector::Any,
        conditions: Conditions::default(),
        effect: Effect::Allow,
        rights,
        note: String::new(),
    }
}

pub(super) fn deny(id: u8, rights: Rights) -> Rule {
    Rule { effect: Effect::Deny, ..allow(id, rights) }
}

pub(super) fn person(memberships: &[(GroupId, PostId)]) -> Requester {
    Requester {
        person: PersonId::from_bytes([30; 16]),
        memberships: memberships
            .iter()
            .map(|(group, post)| Membership { group: *group, post: *post })
            .collect(),
    }
}

pub(super) fn file(owner_group: Option<GroupId>) -> Subject {
    Subject { label: SECRET, owner_group }
}

pub(super) fn context() -> Context {
    Context {
        now: "2026-04-01T00:00:00Z".parse::<Timestamp>().unwrap(),
        zone: Some("LGWAN接続系".to_owned()),
        terminal_tags: vec!["庁内".to_owned(), "据置".to_owned()],
        second_factor: false,
        protection: Protection::None,
    }
}

pub(super) fn rights(names: &[&str]) -> Rights {
    names.iter().map(|name| name.parse::<Right>().unwrap()).collect()
}

/// Compares with a file of `core/tests/golden/`; with `UPDATE_GOLDEN` in the environment writes it instead.
pub(super) fn assert_golden(file: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{file} differs; UPDATE_GOLDEN=1 rewrites it. Now:\n{actual}");
}

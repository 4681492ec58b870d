//! Invariants: each part of one narrows or widens what it speaks of, and no case is overlooked.

use super::naive::{case, naive};
use super::*;
use crate::ids::InvariantId;
use proptest::prelude::*;

/// No post below 課長 decrypts [`SECRET`].
fn below_manager() -> Invariant {
    Invariant {
        id: InvariantId::from_bytes([1; 16]),
        name: "課長未満は復号しない".to_owned(),
        labels: LabelScope::This { label: SECRET },
        groups: GroupScope::Any,
        posts: PostScope::Below { post: MANAGER },
        rights: rights(&["decrypt"]),
        zones: vec![],
        without_second_factor: false,
    }
}

fn broken(invariant: &Invariant, rules: Vec<Rule>) -> Option<Violation> {
    let policy = Policy { labels: labels(), groups: groups(), posts: posts(), rules };
    let found = violations(&policy, std::slice::from_ref(invariant), Timestamp::UNIX_EPOCH).unwrap();
    assert!(found.len() < 2);
    found.into_iter().next()
}

fn to(rank: u16) -> Rule {
    Rule { posts: PostSelector::RankAtLeast { rank }, ..allow(1, rights(&["decrypt"])) }
}

#[test]
fn it_holds_up_to_the_post_and_names_who_breaks_it() {
    assert_eq!(broken(&below_manager(), vec![to(300)]), None);
    let violation = broken(&below_manager(), vec![to(200)]).unwrap();
    assert_eq!(
        (violation.membership.post, violation.right, violation.label),
        (CHIEF, Right::Decrypt, SECRET)
    );
    // A deny that wins makes it hold again; another right and another label never broke it.
    assert_eq!(broken(&below_manager(), vec![to(200), deny(2, rights(&["decrypt"]))]), None);
    assert_eq!(broken(&below_manager(), vec![allow(1, rights(&["view"]))]), None);
    assert_eq!(broken(&below_manager(), vec![Rule { label: PUBLIC, ..to(0) }]), None);
    let by_level = Invariant { labels: LabelScope::LevelAtLeast { level: 0 }, ..below_manager() };
    assert!(broken(&by_level, vec![Rule { label: PUBLIC, ..to(0) }]).is_some());
}

#[test]
fn a_condition_hides_nothing() {
    let far = Timestamp::from_second(4_000_000_000).unwrap();
    for conditions in [
        Conditions { zones: vec!["LGWAN接続系".to_owned()], ..Conditions::default() },
        Conditions { terminal_tags: vec!["庁内".to_owned(), "据置".to_owned()], ..Conditions::default() },
        Conditions { not_before: Some(far), ..Conditions::default() },
        Conditions { second_factor: true, ..Conditions::default() },
    ] {
        assert!(broken(&below_manager(), vec![Rule { conditions, ..to(0) }]).is_some());
    }
    for groups in [
        GroupSelector::This { group: TAX },
        GroupSelector::Subtree { group: GENERAL },
        GroupSelector::Owner,
        GroupSelector::OwnerSubtree,
    ] {
        assert!(broken(&below_manager(), vec![Rule { groups, ..to(0) }]).is_some());
    }
}

#[test]
fn zones_factor_and_groups_narrow_it() {
    let lgwan = Conditions { zones: vec!["ｌｇｗａｎ接続系".to_owned()], ..Conditions::default() };
    let in_zone = |zone: &str| Invariant { zones: vec![zone.to_owned()], ..below_manager() };
    assert!(broken(&in_zone("LGWAN接続系"), vec![Rule { conditions: lgwan.clone(), ..to(0) }]).is_some());
    assert_eq!(broken(&in_zone("インターネット接続系"), vec![Rule { conditions: lgwan, ..to(0) }]), None);
    assert!(broken(&in_zone("どこか"), vec![to(0)]).is_some());

    let factor = Conditions { second_factor: true, ..Conditions::default() };
    let without = Invariant { without_second_factor: true, ..below_manager() };
    assert_eq!(broken(&without, vec![Rule { conditions: factor, ..to(0) }]), None);
    assert!(broken(&without, vec![to(0)]).is_some());

    let within = |group| Invariant { groups: GroupScope::Subtree { group }, ..below_manager() };
    let of_general = Rule { groups: GroupSelector::Subtree { group: GENERAL }, ..to(0) };
    assert!(broken(&within(GENERAL_SECTION), vec![of_general.clone()]).is_some());
    assert_eq!(broken(&within(TAX), vec![of_general]), None);

    let outside = Invariant { groups: GroupScope::OutsideOwner, ..below_manager() };
    for groups in [GroupSelector::Owner, GroupSelector::OwnerSubtree] {
        assert_eq!(broken(&outside, vec![Rule { groups, ..to(0) }]), None);
    }
    assert!(broken(&outside, vec![to(0)]).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a person could be seen to have is found by the invariant against it.
    #[test]
    fn nobody_has_what_an_invariant_forbids_while_it_holds(case in case(), bits in 1_u8..=255) {
        let invariant = Invariant {
            labels: LabelScope::Any, posts: PostScope::Any, rights: Rights::from_bits(bits), ..below_manager()
        };
        let policy = Policy { labels: labels(), groups: case.groups.clone(), posts: case.posts.clone(), rules: case.rules.clone() };
        let holds = violations(&policy, &[invariant], Timestamp::UNIX_EPOCH).unwrap().is_empty();
        let has = naive(&case).0.into_iter().any(|right| Rights::from_bits(bits).contains(right));
        prop_assert!(!(holds && has));
    }
}

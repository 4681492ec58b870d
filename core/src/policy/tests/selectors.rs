//! Default deny, deny over allow, group and post selectors: each case that must not match is shown to deny.

use super::*;

fn decide(rules: Vec<Rule>, held: &[(GroupId, PostId)], owner: Option<GroupId>) -> Rights {
    set(rules).decide(&person(held), &file(owner), &context()).rights
}

fn for_groups(groups: GroupSelector) -> Vec<Rule> {
    vec![Rule { groups, ..allow(1, Rights::ALL) }]
}

#[test]
fn nothing_is_allowed_without_a_rule() {
    assert_eq!(
        set(vec![]).decide(&person(&[(CITY, DIRECTOR)]), &file(None), &context()),
        Decision::default()
    );
}

#[test]
fn a_rule_of_another_label_gives_nothing() {
    let rules = vec![Rule { label: PUBLIC, ..allow(1, Rights::ALL) }];
    assert_eq!(decide(rules, &[(CITY, DIRECTOR)], None), Rights::NONE);
}

#[test]
fn an_unknown_label_gives_nothing() {
    let subject = Subject { label: LabelId::from_bytes([99; 16]), owner_group: None };
    let decision =
        set(vec![allow(1, Rights::ALL)]).decide(&person(&[(CITY, DIRECTOR)]), &subject, &context());
    assert_eq!(decision, Decision::default());
}

#[test]
fn a_person_without_memberships_gets_nothing_even_from_any() {
    assert_eq!(decide(vec![allow(1, Rights::ALL)], &[], None), Rights::NONE);
}

#[test]
fn a_membership_in_a_group_or_post_that_is_gone_gives_nothing_even_from_any() {
    let (group, post) = (GroupId::from_bytes([99; 16]), PostId::from_bytes([99; 16]));
    assert_eq!(decide(vec![allow(1, Rights::ALL)], &[(group, DIRECTOR), (CITY, post)], None), Rights::NONE);
}

#[test]
fn deny_wins_over_allow_whatever_the_membership() {
    let rules = || {
        vec![
            allow(1, rights(&["view", "print"])),
            Rule { groups: GroupSelector::This { group: TAX }, ..deny(2, rights(&["print"])) },
        ]
    };
    assert_eq!(decide(rules(), &[(GENERAL, DIRECTOR), (TAX, STAFF)], None), rights(&["view"]));
    assert_eq!(decide(rules(), &[(GENERAL, DIRECTOR)], None), rights(&["view", "print"]));
}

#[test]
fn a_deny_alone_allows_nothing_else() {
    assert_eq!(decide(vec![deny(1, rights(&["print"]))], &[(CITY, DIRECTOR)], None), Rights::NONE);
}

#[test]
fn this_group_is_neither_the_group_above_nor_below() {
    let rules = || for_groups(GroupSelector::This { group: GENERAL });
    assert_eq!(decide(rules(), &[(GENERAL, STAFF)], None), Rights::ALL);
    for group in [CITY, GENERAL_SECTION, TAX] {
        assert_eq!(decide(rules(), &[(group, STAFF)], None), Rights::NONE, "{group}");
    }
}

#[test]
fn subtree_is_the_group_and_below_not_above_nor_beside() {
    let rules = || for_groups(GroupSelector::Subtree { group: GENERAL });
    for group in [GENERAL, GENERAL_SECTION] {
        assert_eq!(decide(rules(), &[(group, STAFF)], None), Rights::ALL, "{group}");
    }
    for group in [CITY, TAX] {
        assert_eq!(decide(rules(), &[(group, STAFF)], None), Rights::NONE, "{group}");
    }
    for group in [CITY, GENERAL, GENERAL_SECTION, TAX] {
        let rules = for_groups(GroupSelector::Subtree { group: CITY });
        assert_eq!(decide(rules, &[(group, STAFF)], None), Rights::ALL, "{group}");
    }
}

#[test]
fn owner_is_exactly_the_group_that_owns_the_folder() {
    let rules = || for_groups(GroupSelector::Owner);
    assert_eq!(decide(rules(), &[(GENERAL, STAFF)], Some(GENERAL)), Rights::ALL);
    for group in [CITY, GENERAL_SECTION, TAX] {
        assert_eq!(decide(rules(), &[(group, STAFF)], Some(GENERAL)), Rights::NONE, "{group}");
    }
}

#[test]
fn owner_subtree_is_the_owner_group_and_below() {
    let rules = || for_groups(GroupSelector::OwnerSubtree);
    for group in [GENERAL, GENERAL_SECTION] {
        assert_eq!(decide(rules(), &[(group, STAFF)], Some(GENERAL)), Rights::ALL, "{group}");
    }
    for group in [CITY, TAX] {
        assert_eq!(decide(rules(), &[(group, STAFF)], Some(GENERAL)), Rights::NONE, "{group}");
    }
}

#[test]
fn a_file_without_an_owner_group_or_with_one_that_is_gone_matches_no_owner_selector() {
    for owner in [None, Some(GroupId::from_bytes([99; 16]))] {
        for selector in [GroupSelector::Owner, GroupSelector::OwnerSubtree] {
            let held = [(CITY, DIRECTOR), (GroupId::from_bytes([99; 16]), DIRECTOR)];
            assert_eq!(decide(for_groups(selector), &held, owner), Rights::NONE);
        }
    }
}

#[test]
fn group_and_post_must_match_in_one_membership() {
    let rules = vec![Rule {
        groups: GroupSelector::This { group: TAX },
        posts: PostSelector::This { post: DIRECTOR },
        ..allow(1, Rights::ALL)
    }];
    assert_eq!(decide(rules, &[(TAX, STAFF), (GENERAL, DIRECTOR)], None), Rights::NONE);
}

#[test]
fn this_post_is_no_higher_post() {
    let rules = || vec![Rule { posts: PostSelector::This { post: MANAGER }, ..allow(1, Rights::ALL) }];
    assert_eq!(decide(rules(), &[(TAX, MANAGER)], None), Rights::ALL);
    assert_eq!(decide(rules(), &[(TAX, DIRECTOR)], None), Rights::NONE);
}

#[test]
fn rank_at_least_counts_the_rank_itself_and_not_one_below() {
    let rules = |rank| vec![Rule { posts: PostSelector::RankAtLeast { rank }, ..allow(1, Rights::ALL) }];
    assert_eq!(decide(rules(300), &[(TAX, MANAGER)], None), Rights::ALL);
    assert_eq!(decide(rules(301), &[(TAX, MANAGER)], None), Rights::NONE);
}

#[test]
fn is_within_follows_the_tree() {
    let set = set(vec![]);
    assert!(set.is_within(GENERAL_SECTION, CITY) && set.is_within(CITY, CITY));
    assert!(!set.is_within(CITY, GENERAL) && !set.is_within(TAX, GENERAL));
    assert!(!set.is_within(GroupId::from_bytes([99; 16]), CITY));
}

#[test]
fn a_chain_of_a_hundred_thousand_groups_neither_overflows_nor_crawls() {
    let id = |index: u32| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&index.to_be_bytes());
        GroupId::from_bytes(bytes)
    };
    let groups = (0..100_000)
        .map(|index| Group { id: id(index), name: "課".to_owned(), parent: index.checked_sub(1).map(id) })
        .collect();
    let set = PolicySet::new(labels(), groups, posts(), vec![]).unwrap();
    assert!(set.is_within(id(99_999), id(0)) && !set.is_within(id(0), id(1)));
}

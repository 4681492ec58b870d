//! The decision against an evaluator that is as plain as the definition: no index, no numbering, parents walked
//! one by one, rights as a set of names.

use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::collections::BTreeSet;

const ZONES: [&str; 3] = ["LGWAN接続系", "マイナンバー利用事務系", "インターネット接続系"];
const TAGS: [&str; 3] = ["庁内", "据置", "VDI"];

#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) groups: Vec<Group>,
    pub(super) posts: Vec<Post>,
    pub(super) rules: Vec<Rule>,
    pub(super) requester: Requester,
    pub(super) subject: Subject,
    pub(super) context: Context,
}

pub(super) fn within(groups: &[Group], group: GroupId, root: GroupId) -> bool {
    let mut at = Some(group);
    while let Some(id) = at {
        if id == root {
            return true;
        }
        at = groups.iter().find(|group| group.id == id).and_then(|group| group.parent);
    }
    false
}

fn applies(case: &Case, rule: &Rule, membership: Membership) -> bool {
    let Some(post) = case.posts.iter().find(|post| post.id == membership.post) else { return false };
    if !case.groups.iter().any(|group| group.id == membership.group) {
        return false;
    }
    let group = match rule.groups {
        GroupSelector::Any => true,
        GroupSelector::This { group } => membership.group == group,
        GroupSelector::Subtree { group } => within(&case.groups, membership.group, group),
        GroupSelector::Owner => case.subject.owner_group == Some(membership.group),
        GroupSelector::OwnerSubtree => {
            case.subject.owner_group.is_some_and(|owner| within(&case.groups, membership.group, owner))
        }
    };
    let post = match rule.posts {
        PostSelector::Any => true,
        PostSelector::This { post } => membership.post == post,
        PostSelector::RankAtLeast { rank } => post.rank >= rank,
    };
    let Conditions { zones, terminal_tags, not_before, not_after, second_factor, protection } =
        &rule.conditions;
    let context = &case.context;
    let conditions = (zones.is_empty() || context.zone.as_ref().is_some_and(|zone| zones.contains(zone)))
        && terminal_tags.iter().all(|tag| context.terminal_tags.contains(tag))
        && not_before.is_none_or(|start| context.now >= start)
        && not_after.is_none_or(|end| context.now < end)
        && (!second_factor || context.second_factor)
        && context.protection >= *protection;
    rule.label == case.subject.label && group && post && conditions
}

pub(super) fn naive(case: &Case) -> (BTreeSet<Right>, BTreeSet<(RuleId, Membership)>) {
    let (mut allowed, mut denied, mut pairs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for membership in &case.requester.memberships {
        for rule in &case.rules {
            if applies(case, rule, *membership) {
                pairs.insert((rule.id, *membership));
                match rule.effect {
                    Effect::Allow => allowed.extend(rule.rights.iter()),
                    Effect::Deny => denied.extend(rule.rights.iter()),
                }
            }
        }
    }
    (allowed.difference(&denied).copied().collect(), pairs)
}

fn group_id(index: usize) -> GroupId {
    GroupId::from_bytes([u8::try_from(index).unwrap(); 16])
}

fn post_id(index: usize) -> PostId {
    PostId::from_bytes([u8::try_from(index).unwrap(); 16])
}

/// A forest: each group's parent is an earlier one.
fn groups(most: usize) -> impl Strategy<Value = Vec<Group>> {
    vec(any::<prop::sample::Index>(), 1..=most).prop_map(|parents| {
        let mut groups = Vec::new();
        for (index, parent) in parents.iter().enumerate() {
            let parent = parent.index(index + 1);
            let parent = (parent < index).then(|| group_id(parent));
            groups.push(Group { id: group_id(index), name: format!("group {index}"), parent });
        }
        groups
    })
}

fn names(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(all, 0..=all.len()).prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (0_i64..6).prop_map(|second| Timestamp::from_second(second).unwrap())
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let conditions = (
        prop_oneof![3 => Just(vec![]), 1 => names(&ZONES)],
        prop_oneof![3 => Just(vec![]), 1 => names(&TAGS)],
        option::weighted(0.2, timestamp()),
        option::weighted(0.2, timestamp()),
        prop::bool::weighted(0.2),
        prop_oneof![3 => Just(Protection::None), 2 => protection()],
    );
    conditions.prop_map(|(zones, terminal_tags, not_before, not_after, second_factor, protection)| {
        let not_after = not_after.filter(|end| not_before.is_none_or(|start| start < *end));
        Conditions { zones, terminal_tags, not_before, not_after, second_factor, protection }
    })
}

fn protection() -> impl Strategy<Value = Protection> {
    select(vec![Protection::None, Protection::Machine, Protection::Tpm])
}

fn rule(groups: usize, posts: usize) -> impl Strategy<Value = Rule> {
    let group = (0..groups).prop_map(group_id);
    let selector = prop_oneof![
        Just(GroupSelector::Any),
        group.clone().prop_map(|group| GroupSelector::This { group }),
        group.prop_map(|group| GroupSelector::Subtree { group }),
        Just(GroupSelector::Owner),
        Just(GroupSelector::OwnerSubtree),
    ];
    let post = prop_oneof![
        Just(PostSelector::Any),
        (0..posts).prop_map(|post| PostSelector::This { post: post_id(post) }),
        (0_u16..5).prop_map(|rank| PostSelector::RankAtLeast { rank }),
    ];
    let rights = (1_u8..=255).prop_map(Rights::from_bits);
    (select(vec![SECRET, SECRET, PUBLIC]), selector, post, conditions(), prop::bool::weighted(0.3), rights)
        .prop_map(|(label, groups, posts, mut conditions, denies, rights)| {
            let effect = if denies { Effect::Deny } else { Effect::Allow };
            conditions.second_factor &= !denies;
            if denies {
                conditions.protection = Protection::None;
            }
            Rule {
                id: RuleId::from_bytes([0; 16]),
                label,
                groups,
                posts,
                conditions,
                effect,
                rights,
                note: String::new(),
            }
        })
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    case_within(8, 11)
}

/// The same with at most so many groups and rules.
pub(super) fn case_within(most_groups: usize, most_rules: usize) -> impl Strategy<Value = Case> {
    (groups(most_groups), vec(0_u16..5, 1..5)).prop_flat_map(move |(groups, ranks)| {
        let posts: Vec<Post> = ranks
            .iter()
            .enumerate()
            .map(|(index, rank)| Post { id: post_id(index), name: format!("post {index}"), rank: *rank })
            .collect();
        // One past the end: memberships, and the owner, may name what is gone.
        let (group_count, post_count) = (groups.len(), posts.len());
        let membership = (0..=group_count, 0..=post_count)
            .prop_map(|(group, post)| Membership { group: group_id(group), post: post_id(post) });
        let context =
            (timestamp(), option::of(select(&ZONES[..])), names(&TAGS), any::<bool>(), protection())
                .prop_map(|(now, zone, terminal_tags, second_factor, protection)| Context {
                    now,
                    zone: zone.map(str::to_owned),
                    terminal_tags,
                    second_factor,
                    protection,
                });
        (
            Just((groups, posts)),
            vec(rule(group_count, post_count), 0..=most_rules),
            vec(membership, 0..4),
            option::of(0..=group_count),
            context,
        )
            .prop_map(|((groups, posts), mut rules, memberships, owner, context)| {
                for (index, rule) in rules.iter_mut().enumerate() {
                    // Ids against the order of the list, so that sorting shows.
                    rule.id = RuleId::from_bytes([u8::try_from(200 - index).unwrap(); 16]);
                }
                Case {
                    groups,
                    posts,
                    rules,
                    requester: Requester { person: PersonId::from_bytes([0; 16]), memberships },
                    subject: Subject { label: SECRET, owner_group: owner.map(group_id) },
                    context,
                }
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decides_as_the_naive_evaluator_does(case in case()) {
        let set = PolicySet::new(labels(), case.groups.clone(), case.posts.clone(), case.rules.clone()).unwrap();
        let decision = set.decide(&case.requester, &case.subject, &case.context);
        let (expected, pairs) = naive(&case);
        prop_assert_eq!(decision.rights.iter().collect::<BTreeSet<_>>(), expected);

        // Each rule that applied is listed once, by its smallest membership, denies first and then by id.
        let mut listed: Vec<(Effect, RuleId, Rights, Membership)> = Vec::new();
        for rule in &case.rules {
            let by = pairs.iter().filter(|(id, _)| *id == rule.id).map(|(_, membership)| *membership).min();
            listed.extend(by.map(|membership| (rule.effect, rule.id, rule.rights, membership)));
        }
        listed.sort_by_key(|(effect, id, _, _)| (*effect == Effect::Allow, *id));
        let reasons: Vec<_> = decision
            .reasons
            .iter()
            .map(|reason| (reason.effect, reason.rule, reason.rights, reason.membership))
            .collect();
        prop_assert_eq!(reasons, listed);
    }

    #[test]
    fn one_more_deny_never_gives_a_right(case in case(), extra in (1_u8..=255).prop_map(Rights::from_bits)) {
        let decide = |rules: Vec<Rule>| {
            PolicySet::new(labels(), case.groups.clone(), case.posts.clone(), rules)
                .unwrap()
                .decide(&case.requester, &case.subject, &case.context)
                .rights
        };
        let before = decide(case.rules.clone());
        let mut rules = case.rules.clone();
        rules.push(deny(250, extra));
        let after = decide(rules);
        prop_assert!(after.minus(before).is_empty());
        let known = case.requester.memberships.iter().any(|membership| {
            case.groups.iter().any(|group| group.id == membership.group)
                && case.posts.iter().any(|post| post.id == membership.post)
        });
        prop_assert!(!known || after.intersection(extra).is_empty());
    }
}

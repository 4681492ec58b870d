//! Every fault of a policy is refused, with the object and the field named.

use super::*;

fn refused(
    change: impl FnOnce(&mut Vec<Label>, &mut Vec<Group>, &mut Vec<Post>, &mut Vec<Rule>),
) -> (Element, &'static str, PolicyFault) {
    let (mut labels, mut groups, mut posts) = (labels(), groups(), posts());
    let mut rules = vec![allow(1, Rights::ALL)];
    change(&mut labels, &mut groups, &mut posts, &mut rules);
    let error = PolicySet::new(labels, groups, posts, rules).unwrap_err();
    (error.element, error.field, error.fault)
}

fn refused_rule(change: impl FnOnce(&mut Rule)) -> (&'static str, PolicyFault) {
    let (element, field, fault) = refused(|_, _, _, rules| change(&mut rules[0]));
    assert_eq!(element, Element::Rule(RuleId::from_bytes([1; 16])));
    (field, fault)
}

#[test]
fn names_must_be_there_short_and_visible() {
    let renamed = |name: &str| refused(|labels, _, _, _| labels[0].name = name.to_owned());
    let (element, field, fault) = renamed("");
    assert_eq!((element, field, fault), (Element::Label(SECRET), "name", PolicyFault::Empty));
    assert_eq!(renamed("\u{3000} ").2, PolicyFault::Empty);
    assert_eq!(renamed(&"秘".repeat(86)).2, PolicyFault::TooLong);
    assert_eq!(renamed("社外秘\n偽の行").2, PolicyFault::ControlCharacter);
    assert_eq!(renamed("社外\u{200b}秘").2, PolicyFault::ControlCharacter);
    assert_eq!(renamed("\u{202e}秘外社").2, PolicyFault::ControlCharacter);
}

#[test]
fn equal_names_are_refused_also_as_variants() {
    let twin = |name: &str| {
        refused(|labels, _, _, _| {
            labels[0].name = "Ａ秘".to_owned();
            labels[1].name = name.to_owned();
        })
    };
    for name in ["Ａ秘", "A秘", "a秘", " a秘 "] {
        assert_eq!(twin(name), (Element::Label(PUBLIC), "name", PolicyFault::DuplicateName(name.to_owned())));
    }
    let (element, field, _) = refused(|_, _, posts, _| posts[1].name = "部長".to_owned());
    assert_eq!((element, field), (Element::Post(MANAGER), "name"));
}

#[test]
fn group_names_are_unique_among_siblings_only() {
    let (element, field, fault) = refused(|_, groups, _, _| groups[3].name = "総務部".to_owned());
    assert_eq!(
        (element, field, fault),
        (Element::Group(TAX), "name", PolicyFault::DuplicateName("総務部".to_owned()))
    );
    let mut groups = groups();
    groups[0].name = "税務部".to_owned();
    assert!(PolicySet::new(labels(), groups, posts(), vec![]).is_ok());
}

#[test]
fn ids_are_unique() {
    let (element, field, fault) = refused(|labels, _, _, _| labels[1].id = SECRET);
    assert_eq!((element, field, fault), (Element::Label(SECRET), "id", PolicyFault::DuplicateId));
    assert_eq!(refused(|_, groups, _, _| groups[3].id = CITY).2, PolicyFault::DuplicateId);
    assert_eq!(refused(|_, _, posts, _| posts[3].id = MANAGER).2, PolicyFault::DuplicateId);
    assert_eq!(refused(|_, _, _, rules| rules.push(allow(1, Rights::ALL))).2, PolicyFault::DuplicateId);
}

#[test]
fn levels_and_ranks_end_at_a_thousand() {
    let out = |value| PolicyFault::OutOfRange { value, maximum: 1000 };
    let (element, field, fault) = refused(|labels, _, _, _| labels[0].level = 1001);
    assert_eq!((element, field, fault), (Element::Label(SECRET), "level", out(1001)));
    let (element, field, fault) = refused(|_, _, posts, _| posts[0].rank = 1001);
    assert_eq!((element, field, fault), (Element::Post(DIRECTOR), "rank", out(1001)));
    assert_eq!(
        refused_rule(|rule| rule.posts = PostSelector::RankAtLeast { rank: 1001 }),
        ("posts.rank", out(1001))
    );
    let mut edge = labels();
    edge[0].level = 1000;
    assert!(PolicySet::new(edge, groups(), posts(), vec![]).is_ok());
}

#[test]
fn dangling_references_are_refused() {
    let label = LabelId::from_bytes([99; 16]);
    let group = GroupId::from_bytes([99; 16]);
    let post = PostId::from_bytes([99; 16]);
    assert_eq!(refused_rule(|rule| rule.label = label), ("label", PolicyFault::UnknownLabel(label)));
    for selector in [GroupSelector::This { group }, GroupSelector::Subtree { group }] {
        assert_eq!(
            refused_rule(|rule| rule.groups = selector),
            ("groups.group", PolicyFault::UnknownGroup(group))
        );
    }
    assert_eq!(
        refused_rule(|rule| rule.posts = PostSelector::This { post }),
        ("posts.post", PolicyFault::UnknownPost(post))
    );
    let (element, field, fault) = refused(|_, groups, _, _| groups[2].parent = Some(group));
    assert_eq!(
        (element, field, fault),
        (Element::Group(GENERAL), "parent", PolicyFault::UnknownGroup(group))
    );
}

#[test]
fn group_cycles_are_refused() {
    let (element, field, fault) = refused(|_, groups, _, _| groups[1].parent = Some(CITY));
    assert_eq!((element, field, fault), (Element::Group(CITY), "parent", PolicyFault::Cycle));
    // 市役所 → 総務課 → 総務部 → 市役所: the group named lies on the cycle; 税務部 hangs on it.
    let (element, field, fault) = refused(|_, groups, _, _| groups[1].parent = Some(GENERAL_SECTION));
    assert_eq!((field, fault), ("parent", PolicyFault::Cycle));
    assert_ne!(element, Element::Group(TAX));
}

#[test]
fn a_rule_needs_rights() {
    assert_eq!(refused_rule(|rule| rule.rights = Rights::NONE), ("rights", PolicyFault::NoRights));
}

#[test]
fn a_window_must_have_room() {
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    for end in ["2026-04-01T00:00:00Z", "2026-03-31T00:00:00Z"] {
        let window = Conditions {
            not_before: at("2026-04-01T00:00:00Z"),
            not_after: at(end),
            ..Conditions::default()
        };
        assert_eq!(
            refused_rule(|rule| rule.conditions = window),
            ("conditions.not_after", PolicyFault::EmptyWindow)
        );
    }
}

#[test]
fn zones_and_tags_must_not_be_blank() {
    assert_eq!(
        refused_rule(|rule| rule.conditions.zones = vec![" ".to_owned()]),
        ("conditions.zones", PolicyFault::Empty)
    );
    assert_eq!(
        refused_rule(|rule| rule.conditions.terminal_tags = vec![String::new()]),
        ("conditions.terminal_tags", PolicyFault::Empty)
    );
}

#[test]
fn a_deny_that_spares_sessions_without_a_second_factor_is_refused() {
    assert_eq!(
        refused_rule(|rule| {
            rule.effect = Effect::Deny;
            rule.conditions.second_factor = true;
        }),
        ("conditions.second_factor", PolicyFault::SecondFactorOnDeny)
    );
}

#[test]
fn a_deny_that_spares_terminals_with_badly_kept_keys_is_refused() {
    assert_eq!(
        refused_rule(|rule| {
            rule.effect = Effect::Deny;
            rule.conditions.protection = Protection::Machine;
        }),
        ("conditions.protection", PolicyFault::ProtectionOnDeny)
    );
}

#[test]
fn messages_name_object_field_and_fault() {
    let mut rule = allow(1, Rights::ALL);
    rule.rights = Rights::NONE;
    let error = PolicySet::new(labels(), groups(), posts(), vec![rule]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rule 01010101010101010101010101010101: rights: a rule needs at least one right"
    );
}

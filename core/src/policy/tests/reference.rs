//! The reference case: 社外秘 → 部長 and above everything; 課長 view, edit, print; 一般 view.

use super::*;

fn reference() -> PolicySet {
    let at_least = |id, rank, rights| Rule { posts: PostSelector::RankAtLeast { rank }, ..allow(id, rights) };
    set(vec![
        at_least(1, 400, Rights::ALL),
        at_least(2, 300, rights(&["view", "edit", "print"])),
        at_least(3, 100, rights(&["view"])),
    ])
}

#[test]
fn each_post_has_exactly_its_rights_in_the_owner_group_and_in_others() {
    let expected = [
        (DIRECTOR, Rights::ALL),
        (MANAGER, rights(&["view", "edit", "print"])),
        (CHIEF, rights(&["view"])),
        (STAFF, rights(&["view"])),
        (TRAINEE, Rights::NONE),
    ];
    for (post, expected) in expected {
        for group in [CITY, GENERAL, GENERAL_SECTION, TAX] {
            for owner in [Some(GENERAL), Some(TAX), None] {
                let decision = reference().decide(&person(&[(group, post)]), &file(owner), &context());
                for right in Right::ALL {
                    assert_eq!(
                        decision.allows(right),
                        expected.contains(right),
                        "{post} in {group}, owner {owner:?}: {right}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_post_above_the_director_has_everything_too() {
    let mut posts = posts();
    let mayor = PostId::from_bytes([15; 16]);
    posts.push(Post { id: mayor, name: "市長".to_owned(), rank: 1000 });
    let rules = vec![Rule { posts: PostSelector::RankAtLeast { rank: 400 }, ..allow(1, Rights::ALL) }];
    let set = PolicySet::new(labels(), groups(), posts, rules).unwrap();
    assert_eq!(set.decide(&person(&[(CITY, mayor)]), &file(None), &context()).rights, Rights::ALL);
}

#[test]
fn the_shipped_company_preset_is_the_reference_case() {
    let made = preset("kigyo").unwrap().instantiate(&[], &posts()).unwrap();
    let label = made.labels.iter().find(|label| label.name == "社外秘").unwrap().id;
    let shipped = PolicySet::new(made.labels, groups(), posts(), made.rules).unwrap();
    for post in [DIRECTOR, MANAGER, CHIEF, STAFF, TRAINEE] {
        for owner in [Some(GENERAL), Some(TAX), None] {
            let requester = person(&[(GENERAL, post)]);
            let subject = Subject { label, owner_group: owner };
            assert_eq!(
                shipped.decide(&requester, &subject, &context()).rights,
                reference().decide(&requester, &file(owner), &context()).rights
            );
        }
    }
}

#[test]
fn rights_of_several_memberships_add_up() {
    let set = set(vec![
        Rule { groups: GroupSelector::This { group: TAX }, ..allow(1, rights(&["edit"])) },
        Rule { groups: GroupSelector::This { group: GENERAL }, ..allow(2, rights(&["view"])) },
    ]);
    let both = person(&[(TAX, STAFF), (GENERAL, CHIEF)]);
    let decision = set.decide(&both, &file(None), &context());
    assert_eq!(decision.rights, rights(&["view", "edit"]));
    assert_eq!(decision.reasons.len(), 2);
    assert_eq!(decision.reasons[0].membership, Membership { group: TAX, post: STAFF });
    assert_eq!(decision.reasons[1].membership, Membership { group: GENERAL, post: CHIEF });
}

#[test]
fn reasons_do_not_depend_on_the_order_of_rules_or_memberships() {
    let mut rules: Vec<Rule> = vec![
        allow(3, rights(&["view"])),
        deny(2, rights(&["print"])),
        allow(1, rights(&["print", "edit"])),
        deny(9, rights(&["send"])),
    ];
    let mut memberships = vec![(TAX, STAFF), (GENERAL, MANAGER), (GENERAL, DIRECTOR)];
    let first = set(rules.clone()).decide(&person(&memberships), &file(None), &context());
    rules.reverse();
    memberships.reverse();
    assert_eq!(set(rules).decide(&person(&memberships), &file(None), &context()), first);
    let order: Vec<(Effect, RuleId)> =
        first.reasons.iter().map(|reason| (reason.effect, reason.rule)).collect();
    let id = |byte| RuleId::from_bytes([byte; 16]);
    assert_eq!(
        order,
        [(Effect::Deny, id(2)), (Effect::Deny, id(9)), (Effect::Allow, id(1)), (Effect::Allow, id(3))]
    );
    assert_eq!(first.reasons_for(Right::Print).map(|reason| reason.rule).collect::<Vec<_>>(), [id(2), id(1)]);
}

//! Zones, tags, validity windows and the second factor: that each denies, and where its edge lies.

use super::*;

fn rights_in(conditions: Conditions, context: &Context) -> Rights {
    let set = set(vec![Rule { conditions, ..allow(1, Rights::ALL) }]);
    set.decide(&person(&[(GENERAL, STAFF)]), &file(None), context).rights
}

fn zones(zones: &[&str]) -> Conditions {
    Conditions { zones: zones.iter().map(|&zone| zone.to_owned()).collect(), ..Conditions::default() }
}

fn tags(tags: &[&str]) -> Conditions {
    Conditions { terminal_tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..Conditions::default() }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_terminal_of_another_zone_is_denied() {
    assert_eq!(rights_in(zones(&["LGWAN接続系", "マイナンバー利用事務系"]), &context()), Rights::ALL);
    assert_eq!(rights_in(zones(&["マイナンバー利用事務系"]), &context()), Rights::NONE);
}

#[test]
fn a_terminal_without_a_zone_is_denied_where_one_is_asked() {
    let nowhere = Context { zone: None, ..context() };
    assert_eq!(rights_in(zones(&["LGWAN接続系"]), &nowhere), Rights::NONE);
    assert_eq!(rights_in(zones(&[]), &nowhere), Rights::ALL);
}

#[test]
fn width_and_case_variants_of_a_zone_or_tag_are_the_same() {
    let terminal = Context {
        zone: Some("ＬＧＷＡＮ接続系".to_owned()),
        terminal_tags: vec!["vdi".to_owned()],
        ..context()
    };
    assert_eq!(rights_in(zones(&["lgwan接続系"]), &terminal), Rights::ALL);
    assert_eq!(rights_in(tags(&["ＶＤＩ"]), &terminal), Rights::ALL);
}

#[test]
fn a_deny_for_a_zone_is_not_dodged_by_a_variant_of_its_name() {
    let rules = vec![
        allow(1, Rights::ALL),
        Rule { conditions: zones(&["インターネット接続系"]), ..deny(2, Rights::ALL) },
    ];
    for (zone, expected) in [
        ("インターネット接続系", Rights::NONE),
        ("ｲﾝﾀｰﾈｯﾄ接続系 ", Rights::NONE),
        ("LGWAN接続系", Rights::ALL),
    ] {
        let terminal = Context { zone: Some(zone.to_owned()), ..context() };
        let decision = set(rules.clone()).decide(&person(&[(GENERAL, STAFF)]), &file(None), &terminal);
        assert_eq!(decision.rights, expected, "{zone}");
    }
}

#[test]
fn a_terminal_that_lacks_one_of_the_tags_is_denied() {
    assert_eq!(rights_in(tags(&["据置", "庁内"]), &context()), Rights::ALL);
    assert_eq!(rights_in(tags(&["据置", "持ち出し端末"]), &context()), Rights::NONE);
    let untagged = Context { terminal_tags: vec![], ..context() };
    assert_eq!(rights_in(tags(&["庁内"]), &untagged), Rights::NONE);
}

#[test]
fn a_terminal_whose_keys_are_kept_less_well_is_denied() {
    for asked in Protection::ALL {
        for kept in Protection::ALL {
            let conditions = Conditions { protection: asked, ..Conditions::default() };
            let expected = if kept >= asked { Rights::ALL } else { Rights::NONE };
            assert_eq!(
                rights_in(conditions, &Context { protection: kept, ..context() }),
                expected,
                "{asked} {kept}"
            );
        }
    }
    // Rules of before, which name none, are read as they were.
    let old: Conditions = serde_json::from_str(r#"{"second_factor":true}"#).unwrap();
    assert_eq!(old.protection, Protection::None);
    assert_eq!(serde_json::to_string(&old).unwrap(), r#"{"second_factor":true}"#);
}

#[test]
fn a_rule_begins_at_not_before_and_has_ended_at_not_after() {
    let window = Conditions {
        not_before: Some(time("2026-04-01T00:00:00Z")),
        not_after: Some(time("2026-04-02T00:00:00Z")),
        ..Conditions::default()
    };
    for (now, expected) in [
        ("2026-03-31T23:59:59.999999999Z", Rights::NONE),
        ("2026-04-01T00:00:00Z", Rights::ALL),
        ("2026-04-01T23:59:59.999999999Z", Rights::ALL),
        ("2026-04-02T00:00:00Z", Rights::NONE),
    ] {
        assert_eq!(rights_in(window.clone(), &Context { now: time(now), ..context() }), expected, "{now}");
    }
}

#[test]
fn either_edge_may_be_open() {
    let from = Conditions { not_before: Some(time("2026-04-01T00:00:01Z")), ..Conditions::default() };
    let until = Conditions { not_after: Some(time("2026-04-01T00:00:00Z")), ..Conditions::default() };
    assert_eq!(rights_in(from, &context()), Rights::NONE);
    assert_eq!(rights_in(until, &context()), Rights::NONE);
}

#[test]
fn a_session_without_a_second_factor_is_denied_where_one_is_asked() {
    let conditions = Conditions { second_factor: true, ..Conditions::default() };
    assert_eq!(rights_in(conditions.clone(), &context()), Rights::NONE);
    assert_eq!(rights_in(conditions, &Context { second_factor: true, ..context() }), Rights::ALL);
}

#[test]
fn all_conditions_must_hold_together() {
    let all = Conditions { second_factor: true, ..zones(&["LGWAN接続系"]) };
    assert_eq!(rights_in(all.clone(), &context()), Rights::NONE);
    assert_eq!(
        rights_in(all.clone(), &Context { second_factor: true, zone: None, ..context() }),
        Rights::NONE
    );
    assert_eq!(rights_in(all, &Context { second_factor: true, ..context() }), Rights::ALL);
}

#[test]
fn a_deny_outside_its_window_takes_nothing() {
    let ended = Conditions { not_after: Some(time("2026-04-01T00:00:00Z")), ..Conditions::default() };
    let rules = vec![allow(1, Rights::ALL), Rule { conditions: ended, ..deny(2, Rights::ALL) }];
    let decision = set(rules).decide(&person(&[(GENERAL, STAFF)]), &file(None), &context());
    assert_eq!(decision.rights, Rights::ALL);
    assert_eq!(decision.reasons.len(), 1);
}

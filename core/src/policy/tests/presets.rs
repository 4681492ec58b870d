//! Each preset parses, validates, and comes out as its golden matrix says.

use super::*;
use std::fmt::Write as _;

/// Who asks, in relation to the group that owns the folder (総務部).
const RELATIONS: [(&str, GroupId); 4] =
    [("owner", GENERAL), ("below", GENERAL_SECTION), ("above", CITY), ("other", TAX)];

#[test]
fn each_matrix_is_as_documented() {
    for name in preset_names() {
        assert_golden(&format!("policy-{name}.txt"), &matrix(name));
    }
}

/// For each label, post and relation one line, or one for each situation where these differ.
fn matrix(name: &str) -> String {
    let preset = preset(name).unwrap();
    let made = preset.instantiate(&[], &[]).unwrap();
    let mut posts = made.posts.clone();
    posts.push(Post { id: TRAINEE, name: "(below 一般)".to_owned(), rank: 50 });
    let set = PolicySet::new(made.labels.clone(), groups(), posts.clone(), made.rules.clone()).unwrap();

    let mut out = String::from(
        "# Rights by preset. owner/below/above/other: the person's group against the group that owns the folder.\n\
         # 1F/2F: session without and with a second factor; net: a terminal in インターネット接続系, else LGWAN接続系;\n\
         # none of them: the same in all three.\n",
    );
    for label in &made.labels {
        writeln!(out, "\n{} (level {})", label.name, label.level).unwrap();
        for post in &posts {
            for (relation, group) in RELATIONS {
                let found = [
                    ("1F", false, "LGWAN接続系"),
                    ("2F", true, "LGWAN接続系"),
                    ("2F net", true, "インターネット接続系"),
                ]
                .map(|(situation, second_factor, zone)| {
                    let subject = Subject { label: label.id, owner_group: Some(GENERAL) };
                    let context = Context { second_factor, zone: Some(zone.to_owned()), ..context() };
                    (situation, set.decide(&person(&[(group, post.id)]), &subject, &context).rights)
                });
                if found.iter().all(|(_, rights)| *rights == found[0].1) {
                    writeln!(out, "  {} {relation}: {}", post.name, found[0].1).unwrap();
                } else {
                    for (situation, rights) in found {
                        writeln!(out, "  {} {relation} {situation}: {rights}", post.name).unwrap();
                    }
                }
            }
        }
    }
    out
}

fn everyone(name: &str, label_suffix: &str) -> Vec<(PostId, GroupId, Rights)> {
    let made = preset(name).unwrap().instantiate(&[], &posts()).unwrap();
    let label = made.labels.iter().find(|label| label.name.ends_with(label_suffix)).unwrap().id;
    let set = PolicySet::new(made.labels, groups(), posts(), made.rules).unwrap();
    let mut all = Vec::new();
    for post in posts() {
        for group in groups() {
            for second_factor in [false, true] {
                let subject = Subject { label, owner_group: Some(GENERAL) };
                let context = Context { second_factor, ..context() };
                let decision = set.decide(&person(&[(group.id, post.id)]), &subject, &context);
                all.push((post.id, group.id, decision.rights));
            }
        }
    }
    all
}

#[test]
fn plaintext_of_3a_and_of_top_secret_never_leaves() {
    let leaving = rights(&["copy", "send", "decrypt", "offline"]);
    for (preset, label) in [("jichitai", "3A"), ("kigyo", "極秘")] {
        for (post, group, rights) in everyone(preset, label) {
            assert!(rights.intersection(leaving).is_empty(), "{preset} {label}: {post} in {group}");
        }
    }
}

#[test]
fn plaintext_of_3b_leaves_only_through_a_director_of_the_owner_group() {
    for (post, group, found) in everyone("jichitai", "3B") {
        if !found.intersection(rights(&["send", "decrypt", "offline"])).is_empty() {
            assert_eq!(post, DIRECTOR);
            assert!([GENERAL, GENERAL_SECTION].contains(&group));
        }
    }
}

#[test]
fn relabelling_opens_no_way_around_decrypt() {
    for name in preset_names() {
        for label in preset(name).unwrap().labels {
            let all = everyone(name, &label.name);
            let nobody_decrypts = all.iter().all(|(_, _, rights)| !rights.contains(Right::Decrypt));
            for (post, _, rights) in all.iter().filter(|(_, _, rights)| rights.contains(Right::Relabel)) {
                let excepted = nobody_decrypts && *post == DIRECTOR;
                assert!(rights.contains(Right::Decrypt) || excepted, "{name} {}: {post}", label.name);
            }
        }
    }
}

#[test]
fn a_higher_label_never_gives_a_right_that_a_lower_one_refuses() {
    for name in preset_names() {
        let made = preset(name).unwrap();
        for pair in made.labels.windows(2) {
            assert!(pair[0].level > pair[1].level, "{name}: highest first");
            let (higher, lower) = (everyone(name, &pair[0].name), everyone(name, &pair[1].name));
            for ((post, group, above), (_, _, below)) in higher.into_iter().zip(lower) {
                assert!(
                    above.minus(below).is_empty(),
                    "{} over {}: {post} in {group}",
                    pair[0].name,
                    pair[1].name
                );
            }
        }
    }
}

#[test]
fn posts_that_exist_are_reused_with_their_rank_whatever_the_width_of_their_name() {
    let preset = preset("kigyo").unwrap();
    let existing = [
        Post { id: DIRECTOR, name: "部長".to_owned(), rank: 900 },
        Post { id: STAFF, name: " 一般".to_owned(), rank: 5 },
    ];
    let made = preset.instantiate(&[], &existing).unwrap();
    assert_eq!(made.posts.iter().map(|post| post.name.as_str()).collect::<Vec<_>>(), ["課長", "係長"]);
    let ranks: Vec<PostSelector> = made.rules.iter().map(|rule| rule.posts).collect();
    assert!(ranks.contains(&PostSelector::RankAtLeast { rank: 900 }));
    assert!(ranks.contains(&PostSelector::RankAtLeast { rank: 5 }));
    assert!(!ranks.contains(&PostSelector::RankAtLeast { rank: 400 }));
}

#[test]
fn posts_in_another_order_are_refused() {
    let existing = [
        Post { id: DIRECTOR, name: "部長".to_owned(), rank: 100 },
        Post { id: MANAGER, name: "課長".to_owned(), rank: 100 },
    ];
    assert_eq!(
        preset("kigyo").unwrap().instantiate(&[], &existing),
        Err(PresetError::PostOrder { higher: "部長".to_owned(), lower: "課長".to_owned() })
    );
}

#[test]
fn applying_twice_is_refused_and_both_presets_live_together() {
    let (first, second) = (preset("kigyo").unwrap(), preset("jichitai").unwrap());
    let made = first.instantiate(&[], &[]).unwrap();
    assert_eq!(
        first.instantiate(&made.labels, &made.posts),
        Err(PresetError::LabelExists("極秘".to_owned()))
    );
    let more = second.instantiate(&made.labels, &made.posts).unwrap();
    assert!(more.posts.is_empty());
    let labels = [made.labels, more.labels].concat();
    assert!(PolicySet::new(labels, groups(), made.posts, [made.rules, more.rules].concat()).is_ok());
}

#[test]
fn ids_are_fresh_each_time() {
    let preset = preset("jichitai").unwrap();
    let (one, two) = (preset.instantiate(&[], &[]).unwrap(), preset.instantiate(&[], &[]).unwrap());
    assert_ne!(one.labels[0].id, two.labels[0].id);
    assert_ne!(one.rules[0].id, two.rules[0].id);
}

#[test]
fn names_are_those_of_the_files() {
    assert_eq!(preset_names().collect::<Vec<_>>(), ["jichitai", "kigyo"]);
    for name in preset_names() {
        assert_eq!(preset(name).unwrap().name, name);
    }
    assert_eq!(preset("does-not-exist"), None);
}

#[test]
fn a_preset_that_names_what_it_does_not_define_is_refused() {
    let mut broken = preset("kigyo").unwrap();
    broken.rules[0].posts = PresetPosts::AtLeast("社長".to_owned());
    assert_eq!(broken.instantiate(&[], &[]), Err(PresetError::Undefined("社長".to_owned())));
    let mut broken = preset("kigyo").unwrap();
    broken.rules[0].label = "極々秘".to_owned();
    assert_eq!(broken.instantiate(&[], &[]), Err(PresetError::Undefined("極々秘".to_owned())));
}

#[test]
fn an_unknown_field_is_refused() {
    assert!(Preset::parse("name = 'x'\ntitle = 'x'\nposts = []\nlabels = []\nrules = []\n").is_ok());
    assert!(
        Preset::parse("name = 'x'\ntitle = 'x'\nposts = []\nlabels = []\nrules = []\nrule = 1\n").is_err()
    );
}

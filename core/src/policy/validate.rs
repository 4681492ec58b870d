//! The checks that a policy passes before it decides anything.

use super::error::{Element, PolicyError, PolicyFault};
use super::model::{Effect, Group, GroupSelector, Label, Post, PostSelector, Rule};
use super::name::{MAX_NAME_BYTES, fold_name};
use super::tree::GroupTree;
use crate::ids::{GroupId, LabelId, PostId};
use std::collections::HashSet;

/// Highest level of a label.
pub const MAX_LEVEL: u16 = 1000;
/// Highest rank of a post.
pub const MAX_RANK: u16 = 1000;

pub(super) fn labels(labels: &[Label]) -> Result<(), PolicyError> {
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for label in labels {
        let element = Element::Label(label.id);
        fresh(element, "id", ids.insert(label.id))?;
        unique_name(element, &label.name, names.insert(fold_name(&label.name)))?;
        at_most(element, "level", label.level, MAX_LEVEL)?;
    }
    Ok(())
}

pub(super) fn groups(groups: &[Group]) -> Result<(), PolicyError> {
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for group in groups {
        let element = Element::Group(group.id);
        fresh(element, "id", ids.insert(group.id))?;
        unique_name(element, &group.name, names.insert((group.parent, fold_name(&group.name))))?;
    }
    for group in groups {
        if let Some(parent) = group.parent {
            check(ids.contains(&parent), Element::Group(group.id), "parent", || {
                PolicyFault::UnknownGroup(parent)
            })?;
        }
    }
    Ok(())
}

pub(super) fn posts(posts: &[Post]) -> Result<(), PolicyError> {
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for post in posts {
        let element = Element::Post(post.id);
        fresh(element, "id", ids.insert(post.id))?;
        unique_name(element, &post.name, names.insert(fold_name(&post.name)))?;
        at_most(element, "rank", post.rank, MAX_RANK)?;
    }
    Ok(())
}

pub(super) fn rules(
    rules: &[Rule],
    labels: &[Label],
    groups: &GroupTree,
    posts: &[Post],
) -> Result<(), PolicyError> {
    let known_labels: HashSet<LabelId> = labels.iter().map(|label| label.id).collect();
    let known_posts: HashSet<PostId> = posts.iter().map(|post| post.id).collect();
    let mut ids = HashSet::new();
    for rule in rules {
        let element = Element::Rule(rule.id);
        fresh(element, "id", ids.insert(rule.id))?;
        check(known_labels.contains(&rule.label), element, "label", || {
            PolicyFault::UnknownLabel(rule.label)
        })?;
        if let GroupSelector::This { group } | GroupSelector::Subtree { group } = rule.groups {
            known_group(element, group, groups)?;
        }
        match rule.posts {
            PostSelector::Any => {}
            PostSelector::This { post } => {
                check(known_posts.contains(&post), element, "posts.post", || PolicyFault::UnknownPost(post))?;
            }
            PostSelector::RankAtLeast { rank } => at_most(element, "posts.rank", rank, MAX_RANK)?,
        }
        check(!rule.rights.is_empty(), element, "rights", || PolicyFault::NoRights)?;
        conditions(element, rule)?;
    }
    Ok(())
}

fn conditions(element: Element, rule: &Rule) -> Result<(), PolicyError> {
    let conditions = &rule.conditions;
    for zone in &conditions.zones {
        text(element, "conditions.zones", zone)?;
    }
    for tag in &conditions.terminal_tags {
        text(element, "conditions.terminal_tags", tag)?;
    }
    if let (Some(start), Some(end)) = (conditions.not_before, conditions.not_after) {
        check(start < end, element, "conditions.not_after", || PolicyFault::EmptyWindow)?;
    }
    check(
        rule.effect == Effect::Allow || !conditions.second_factor,
        element,
        "conditions.second_factor",
        || PolicyFault::SecondFactorOnDeny,
    )?;
    check(
        rule.effect == Effect::Allow || conditions.protection.is_none(),
        element,
        "conditions.protection",
        || PolicyFault::ProtectionOnDeny,
    )
}

fn known_group(element: Element, group: GroupId, groups: &GroupTree) -> Result<(), PolicyError> {
    check(groups.span(group).is_some(), element, "groups.group", || PolicyFault::UnknownGroup(group))
}

fn unique_name(element: Element, name: &str, unique: bool) -> Result<(), PolicyError> {
    text(element, "name", name)?;
    check(unique, element, "name", || PolicyFault::DuplicateName(name.to_owned()))
}

fn text(element: Element, field: &'static str, text: &str) -> Result<(), PolicyError> {
    check(!fold_name(text).is_empty(), element, field, || PolicyFault::Empty)?;
    check(text.len() <= MAX_NAME_BYTES, element, field, || PolicyFault::TooLong)?;
    check(!text.chars().any(is_invisible), element, field, || PolicyFault::ControlCharacter)
}

/// Control characters and the format characters that are drawn as nothing or turn the direction of text.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

fn fresh(element: Element, field: &'static str, fresh: bool) -> Result<(), PolicyError> {
    check(fresh, element, field, || PolicyFault::DuplicateId)
}

fn at_most(element: Element, field: &'static str, value: u16, maximum: u16) -> Result<(), PolicyError> {
    check(value <= maximum, element, field, || PolicyFault::OutOfRange { value, maximum })
}

fn check(
    holds: bool,
    element: Element,
    field: &'static str,
    fault: impl FnOnce() -> PolicyFault,
) -> Result<(), PolicyError> {
    if holds { Ok(()) } else { Err(PolicyError { element, field, fault: fault() }) }
}

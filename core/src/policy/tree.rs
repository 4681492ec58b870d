//! The group tree, numbered depth first: a group's descendants are exactly the numbers of its span.

use super::error::{Element, PolicyError, PolicyFault};
use super::model::Group;
use super::validate;
use crate::ids::GroupId;
use std::collections::{HashMap, HashSet};

/// The numbers of a group (`first`) and of everything below it (up to `last`, inclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    first: u32,
    last: u32,
}

impl Span {
    /// Whether `other` is this group or below it.
    pub(super) const fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.first <= self.last
    }

    /// The group alone, without what is below it.
    pub(super) const fn itself(self) -> Self {
        Self { first: self.first, last: self.first }
    }
}

#[derive(Debug, Clone)]
pub(super) struct GroupTree(HashMap<GroupId, Span>);

impl GroupTree {
    /// Checks and numbers the tree. Works with a stack of its own: a chain of groups of any depth must not
    /// overflow the thread's.
    pub(super) fn new(groups: &[Group]) -> Result<Self, PolicyError> {
        validate::groups(groups)?;
        let mut children: HashMap<Option<GroupId>, Vec<GroupId>> = HashMap::new();
        for group in groups {
            children.entry(group.parent).or_default().push(group.id);
        }
        let mut spans = HashMap::with_capacity(groups.len());
        let mut next = 0_u32;
        let mut stack: Vec<Visit> =
            children.get(&None).into_iter().flatten().copied().map(Visit::Enter).collect();
        while let Some(visit) = stack.pop() {
            match visit {
                Visit::Enter(id) => {
                    stack.push(Visit::Leave(id, next));
                    next += 1;
                    stack.extend(children.get(&Some(id)).into_iter().flatten().copied().map(Visit::Enter));
                }
                Visit::Leave(id, first) => {
                    spans.insert(id, Span { first, last: next - 1 });
                }
            }
        }
        // Groups that no root reaches hang on a cycle. The smallest on one is named, so that the error does
        // not depend on hashing.
        match groups.iter().filter(|group| !spans.contains_key(&group.id)).map(|group| group.id).min() {
            Some(unreached) => {
                let id = on_cycle(unreached, groups);
                Err(PolicyError { element: Element::Group(id), field: "parent", fault: PolicyFault::Cycle })
            }
            None => Ok(Self(spans)),
        }
    }

    pub(super) fn span(&self, group: GroupId) -> Option<Span> {
        self.0.get(&group).copied()
    }
}

enum Visit {
    Enter(GroupId),
    Leave(GroupId, u32),
}

/// The group at which the way up from `start` meets itself.
fn on_cycle(start: GroupId, groups: &[Group]) -> GroupId {
    let parents: HashMap<GroupId, Option<GroupId>> =
        groups.iter().map(|group| (group.id, group.parent)).collect();
    let mut seen = HashSet::new();
    let mut at = start;
    while seen.insert(at) {
        match parents.get(&at) {
            Some(Some(parent)) => at = *parent,
            _ => break,
        }
    }
    at
}

//! The policy made ready for decisions: checked once, indexed by label, groups numbered so that "is this
//! group below that one" is two comparisons. `docs/spec/policy.md` is normative.

use super::decision::{DecidingRule, Decision};
use super::error::PolicyError;
use super::model::{
    Conditions, Context, Effect, Group, GroupSelector, Label, Membership, Post, PostSelector, Protection,
    Requester, Rule, Subject,
};
use super::name::fold_name;
use super::rights::Rights;
use super::tree::{GroupTree, Span};
use super::validate;
use crate::ids::{GroupId, LabelId, PostId, RuleId};
use jiff::Timestamp;
use std::collections::HashMap;

/// A valid policy. Deciding needs no lock, allocates only the decision and never fails.
#[derive(Debug, Clone)]
pub struct PolicySet {
    labels: HashMap<LabelId, LabelRules>,
    groups: GroupTree,
    ranks: HashMap<PostId, u16>,
}

/// The rules of one label, denies first, by id within each effect: the order of the reasons.
#[derive(Debug, Clone)]
struct LabelRules {
    rules: Vec<Indexed>,
    /// Whether a rule looks at the zone or the tags, so that these need folding.
    looks_at_terminal: bool,
}

/// A rule with its references resolved.
#[derive(Debug, Clone)]
struct Indexed {
    id: RuleId,
    effect: Effect,
    rights: Rights,
    groups: GroupTest,
    posts: PostSelector,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    second_factor: bool,
    protection: Protection,
    zones: Vec<String>,
    terminal_tags: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum GroupTest {
    Any,
    Inside(Span),
    Owner,
    OwnerSubtree,
}

/// A membership with its group and post looked up.
struct Held {
    membership: Membership,
    group: Span,
    rank: u16,
}

impl PolicySet {
    /// Checks the policy and makes it ready.
    ///
    /// # Errors
    /// The first fault found, in the order labels, groups, posts, rules.
    pub fn new(
        labels: Vec<Label>,
        groups: Vec<Group>,
        posts: Vec<Post>,
        rules: Vec<Rule>,
    ) -> Result<Self, PolicyError> {
        validate::labels(&labels)?;
        let groups = GroupTree::new(&groups)?;
        validate::posts(&posts)?;
        validate::rules(&rules, &labels, &groups, &posts)?;

        let mut indexed: HashMap<LabelId, LabelRules> = labels
            .iter()
            .map(|label| (label.id, LabelRules { rules: Vec::new(), looks_at_terminal: false }))
            .collect();
        for rule in rules {
            if let Some(entry) = indexed.get_mut(&rule.label) {
                entry.add(rule, &groups);
            }
        }
        for entry in indexed.values_mut() {
            entry.rules.sort_by_key(|rule| (rule.effect == Effect::Allow, rule.id));
        }
        let ranks = posts.into_iter().map(|post| (post.id, post.rank)).collect();
        Ok(Self { labels: indexed, groups, ranks })
    }

    /// Decides what `requester` may do with `subject` in `context`. Pure: equal arguments, equal decision.
    ///
    /// What is not known gives nothing: an unknown label has no rules, a membership in a group or post that
    /// the policy does not have is passed over, an owner group that is gone matches nobody.
    pub fn decide(&self, requester: &Requester, subject: &Subject, context: &Context) -> Decision {
        let Some(label) = self.labels.get(&subject.label) else {
            return Decision::default();
        };
        let held = self.held(requester);
        let owner = subject.owner_group.and_then(|group| self.groups.span(group));
        let terminal = if label.looks_at_terminal { Terminal::fold(context) } else { Terminal::default() };

        let (mut allowed, mut denied) = (Rights::NONE, Rights::NONE);
        let mut reasons = Vec::new();
        for rule in &label.rules {
            if !rule.conditions_hold(context, &terminal) {
                continue;
            }
            let Some(by) = held.iter().find(|held| rule.selects(held, owner)) else {
                continue;
            };
            match rule.effect {
                Effect::Allow => allowed = allowed.union(rule.rights),
                Effect::Deny => denied = denied.union(rule.rights),
            }
            reasons.push(DecidingRule {
                rule: rule.id,
                effect: rule.effect,
                rights: rule.rights,
                membership: by.membership,
            });
        }
        Decision { rights: allowed.minus(denied), reasons }
    }

    /// Whether `group` is `root` or lies below it; false where one of them is unknown.
    pub fn is_within(&self, group: GroupId, root: GroupId) -> bool {
        match (self.groups.span(group), self.groups.span(root)) {
            (Some(group), Some(root)) => root.contains(group),
            _ => false,
        }
    }

    /// The memberships that the policy knows, smallest first, so that the order in which a store returns them
    /// does not show in decisions.
    fn held(&self, requester: &Requester) -> Vec<Held> {
        let mut held: Vec<Held> = requester
            .memberships
            .iter()
            .filter_map(|membership| {
                let group = self.groups.span(membership.group)?;
                let rank = *self.ranks.get(&membership.post)?;
                Some(Held { membership: *membership, group, rank })
            })
            .collect();
        held.sort_unstable_by_key(|held| held.membership);
        held
    }
}

/// The terminal's zone and tags in the form in which names are compared.
#[derive(Default)]
struct Terminal {
    zone: Option<String>,
    tags: Vec<String>,
}

impl Terminal {
    fn fold(context: &Context) -> Self {
        Self {
            zone: context.zone.as_deref().map(fold_name),
            tags: context.terminal_tags.iter().map(|tag| fold_name(tag)).collect(),
        }
    }
}

impl LabelRules {
    fn add(&mut self, rule: Rule, groups: &GroupTree) {
        let test = match rule.groups {
            GroupSelector::Any => Some(GroupTest::Any),
            GroupSelector::This { group } => groups.span(group).map(|span| GroupTest::Inside(span.itself())),
            GroupSelector::Subtree { group } => groups.span(group).map(GroupTest::Inside),
            GroupSelector::Owner => Some(GroupTest::Owner),
            GroupSelector::OwnerSubtree => Some(GroupTest::OwnerSubtree),
        };
        // Validation has refused unknown groups already.
        let Some(test) = test else { return };
        let Conditions { zones, terminal_tags, not_before, not_after, second_factor, protection } =
            rule.conditions;
        self.looks_at_terminal |= !zones.is_empty() || !terminal_tags.is_empty();
        self.rules.push(Indexed {
            id: rule.id,
            effect: rule.effect,
            rights: rule.rights,
            groups: test,
            posts: rule.posts,
            not_before,
            not_after,
            second_factor,
            protection,
            zones: zones.iter().map(|zone| fold_name(zone)).collect(),
            terminal_tags: terminal_tags.iter().map(|tag| fold_name(tag)).collect(),
        });
    }
}

impl Indexed {
    fn conditions_hold(&self, context: &Context, terminal: &Terminal) -> bool {
        self.not_before.is_none_or(|start| start <= context.now)
            && self.not_after.is_none_or(|end| context.now < end)
            && (!self.second_factor || context.second_factor)
            && self.protection <= context.protection
            && (self.zones.is_empty() || terminal.zone.as_ref().is_some_and(|zone| self.zones.contains(zone)))
            && self.terminal_tags.iter().all(|tag| terminal.tags.contains(tag))
    }

    fn selects(&self, held: &Held, owner: Option<Span>) -> bool {
        let group = match self.groups {
            GroupTest::Any => true,
            GroupTest::Inside(span) => span.contains(held.group),
            GroupTest::Owner => owner.is_some_and(|owner| owner.itself().contains(held.group)),
            GroupTest::OwnerSubtree => owner.is_some_and(|owner| owner.contains(held.group)),
        };
        group
            && match self.posts {
                PostSelector::Any => true,
                PostSelector::This { post } => post == held.membership.post,
                PostSelector::RankAtLeast { rank } => held.rank >= rank,
            }
    }
}

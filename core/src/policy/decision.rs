//! The outcome of a decision and its reasons.

use super::model::{Effect, Membership};
use super::rights::{Right, Rights};
use crate::ids::RuleId;

/// What a person may do with a file, and by which rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// All that is allowed: the union of the allows minus the union of the denies.
    pub rights: Rights,
    /// Every rule that applied, once each: denies first, then allows, by rule id within both.
    pub reasons: Vec<DecidingRule>,
}

impl Decision {
    /// Whether the decision allows `right`.
    pub const fn allows(&self, right: Right) -> bool {
        self.rights.contains(right)
    }

    /// The rules that speak of `right`, in the order of [`Decision::reasons`].
    pub fn reasons_for(&self, right: Right) -> impl Iterator<Item = &DecidingRule> {
        self.reasons.iter().filter(move |reason| reason.rights.contains(right))
    }
}

/// A rule that applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecidingRule {
    /// The rule.
    pub rule: RuleId,
    /// Whether it gave or took.
    pub effect: Effect,
    /// The rights that the rule names, whether or not another rule had already given or taken them.
    pub rights: Rights,
    /// The membership by which it applied; the smallest (group id, then post id) where several did.
    pub membership: Membership,
}

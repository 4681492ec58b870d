//! The policy: who may do what with a file of which label, and why. A pure function over data; it never
//! renders, logs, reads a clock or picks a status code.
//!
//! [`PolicySet::new`] checks labels, groups, posts and rules once; [`PolicySet::decide`] then answers each question with a
//! [`Decision`] that lists the rules which decided. `docs/spec/policy.md` is normative.

mod decision;
mod diff;
mod error;
mod invariant;
mod model;
mod name;
mod preset;
mod rights;
mod set;
mod space;
mod tree;
mod validate;

pub use decision::{DecidingRule, Decision};
pub use diff::{DiffError, Difference, Differences, Holder, Policy, differences};
pub use error::{Element, PolicyError, PolicyFault};
pub use invariant::{GroupScope, Invariant, LabelScope, PostScope, Violation, violations};
pub use model::{
    Conditions, Context, Effect, Group, GroupSelector, Label, Membership, Post, PostSelector, Protection,
    Requester, Rule, Subject, UnknownProtection,
};
pub use name::{MAX_NAME_BYTES, fold_name};
pub use preset::{
    Preset, PresetError, PresetGroups, PresetInstance, PresetLabel, PresetPost, PresetPosts, PresetRule,
    preset, preset_names,
};
pub use rights::{Right, Rights, UnknownRight};
pub use set::PolicySet;
pub use space::{Case, OwnerCase};
pub use validate::{MAX_LEVEL, MAX_RANK};

#[cfg(test)]
mod tests;

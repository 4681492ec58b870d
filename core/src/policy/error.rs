//! What can be wrong with a policy. Each error names the object and the field, so that an administrator (or
//! an API client) knows what to change.

use super::name::MAX_NAME_BYTES;
use crate::ids::{GroupId, LabelId, PostId, RuleId};
use std::fmt;

/// The object of the policy in which a fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// A label.
    Label(LabelId),
    /// A group.
    Group(GroupId),
    /// A post.
    Post(PostId),
    /// A rule.
    Rule(RuleId),
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(id) => write!(f, "label {id}"),
            Self::Group(id) => write!(f, "group {id}"),
            Self::Post(id) => write!(f, "post {id}"),
            Self::Rule(id) => write!(f, "rule {id}"),
        }
    }
}

/// A policy that is refused: which object, which field, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{element}: {field}: {fault}")]
pub struct PolicyError {
    /// The object at fault.
    pub element: Element,
    /// The field, as the administration API names it, such as `conditions.not_after`.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: PolicyFault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// Two objects of one kind have the same id.
    #[error("the identifier is used twice")]
    DuplicateId,
    /// Two names are equal after folding (see [`super::fold_name`]).
    #[error("the name '{0}' is already taken (width, case and compatibility variants count as equal)")]
    DuplicateName(String),
    /// A name or condition text is empty or blank.
    #[error("must not be empty")]
    Empty,
    /// A name is too long.
    #[error("must be at most {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// A name has a control or invisible character, which could forge log lines or make look-alike names.
    #[error("must not contain control or invisible characters")]
    ControlCharacter,
    /// A level or rank is above its maximum.
    #[error("{value} is out of range (0 to {maximum})")]
    OutOfRange {
        /// The value given.
        value: u16,
        /// The largest value allowed.
        maximum: u16,
    },
    /// The label that is named does not exist.
    #[error("no such label: {0}")]
    UnknownLabel(LabelId),
    /// The group that is named does not exist.
    #[error("no such group: {0}")]
    UnknownGroup(GroupId),
    /// The post that is named does not exist.
    #[error("no such post: {0}")]
    UnknownPost(PostId),
    /// The group is above itself.
    #[error("the group would lie below itself")]
    Cycle,
    /// A rule without rights decides nothing.
    #[error("a rule needs at least one right")]
    NoRights,
    /// The validity window ends before, or when, it begins.
    #[error("must be after not_before")]
    EmptyWindow,
    /// A deny rule that applies only to sessions with a second factor would reward leaving it out.
    #[error("a deny rule cannot require a second factor: it would spare the sessions without one")]
    SecondFactorOnDeny,
    /// The same with well kept keys.
    #[error(
        "a deny rule cannot require that keys are well kept: it would spare the terminals where they are not"
    )]
    ProtectionOnDeny,
}

//! The policy as data: labels, groups, posts, memberships and rules. `docs/spec/policy.md` is normative.

use super::rights::Rights;
use crate::ids::{GroupId, LabelId, PersonId, PostId, RuleId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A label (classification). A higher `level` dominates a lower one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Identity; stays when the label is renamed.
    pub id: LabelId,
    /// Name as people know it, such as 社外秘. Unique in the organisation.
    pub name: String,
    /// Rank among labels, 0 (public) to 1000.
    pub level: u16,
}

/// A group (department). Groups form a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Identity.
    pub id: GroupId,
    /// Name, unique among its siblings.
    pub name: String,
    /// The group above, none for a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GroupId>,
}

/// A post (職位). A higher `rank` is a higher post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Post {
    /// Identity.
    pub id: PostId,
    /// Name, unique.
    pub name: String,
    /// Rank, 0 to 1000.
    pub rank: u16,
}

/// One post in one group. A person may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The group.
    pub group: GroupId,
    /// The post held there.
    pub post: PostId,
}

/// Which groups a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GroupSelector {
    /// Any group.
    Any,
    /// Exactly this group.
    This {
        /// The group.
        group: GroupId,
    },
    /// This group and every group below it.
    Subtree {
        /// The root of the subtree.
        group: GroupId,
    },
    /// The group that owns the folder of the file. A file without an owner group matches nobody.
    Owner,
    /// The group that owns the folder and every group below it.
    OwnerSubtree,
}

/// Which posts a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PostSelector {
    /// Any post.
    Any,
    /// Exactly this post.
    This {
        /// The post.
        post: PostId,
    },
    /// Every post whose rank is at least this.
    RankAtLeast {
        /// The lowest rank that matches.
        rank: u16,
    },
}

/// What else must hold for a rule to apply; all given conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// The terminal's zone is one of these; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// The terminal carries each of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terminal_tags: Vec<String>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub not_before: Option<Timestamp>,
    /// Before this time, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub not_after: Option<Timestamp>,
    /// The session was opened with a second factor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second_factor: bool,
    /// The terminal claims to keep its private keys at least so.
    #[serde(default, skip_serializing_if = "Protection::is_none")]
    pub protection: Protection,
}

/// How a terminal keeps its private keys, from the weakest to the strongest. It is the terminal's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// In files that are good on any machine.
    #[default]
    None,
    /// In files that are sealed to the machine's hardware as the system names it.
    Machine,
    /// In files that only its TPM opens.
    Tpm,
}

impl Protection {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::None, Self::Machine, Self::Tpm];

    /// The name used in the API, the command line and the audit log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Machine => "machine",
            Self::Tpm => "tpm",
        }
    }

    /// Whether it is the weakest, which every terminal has.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl std::fmt::Display for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Protection {
    type Err = UnknownProtection;
    fn from_str(text: &str) -> Result<Self, UnknownProtection> {
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| UnknownProtection(text.to_owned()))
    }
}

/// A name that is none of the three.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown protection '{0}' (known: none, machine, tpm)")]
pub struct UnknownProtection(pub String);

/// Whether a rule gives or takes rights. Deny wins over allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Gives the rights.
    Allow,
    /// Takes the rights away, whatever else allows them.
    Deny,
}

/// One rule: label × group selector × post selector × conditions → allow or deny of a set of rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Identity, shown in decisions and audit records.
    pub id: RuleId,
    /// The label that the rule is about.
    pub label: LabelId,
    /// Which groups.
    pub groups: GroupSelector,
    /// Which posts in those groups.
    pub posts: PostSelector,
    /// What else must hold.
    #[serde(default)]
    pub conditions: Conditions,
    /// Allow or deny.
    pub effect: Effect,
    /// The rights given or taken.
    pub rights: Rights,
    /// A remark for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Who asks: a person and the memberships held at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The person.
    pub person: PersonId,
    /// Every membership of the person.
    pub memberships: Vec<Membership>,
}

/// What is asked about: the label and the owner group that a file's sealed policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The file's label.
    pub label: LabelId,
    /// The group that owns the folder in which the file was sealed.
    pub owner_group: Option<GroupId>,
}

/// From where and when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The time of the decision.
    pub now: Timestamp,
    /// The zone of the terminal.
    pub zone: Option<String>,
    /// The tags of the terminal.
    pub terminal_tags: Vec<String>,
    /// Whether the session was opened with a second factor.
    pub second_factor: bool,
    /// How the terminal claims to keep its private keys.
    pub protection: Protection,
}

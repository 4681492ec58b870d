//! Invariants: what no change of the policy may ever bring, such as "no post below 課長 decrypts 3A". An invariant speaks of
//! posts, groups and labels and not of people: what a person may do is never more than the memberships may do one by one.

use super::diff::{DiffError, Policy};
use super::model::{Membership, Requester, Subject};
use super::rights::{Right, Rights};
use super::set::PolicySet;
use super::space::{Case, OwnerCase, Space};
use crate::ids::{GroupId, InvariantId, LabelId, PersonId, PostId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Of which labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LabelScope {
    /// Every label.
    Any,
    /// This label.
    This {
        /// The label.
        label: LabelId,
    },
    /// Every label whose level is at least this.
    LevelAtLeast {
        /// The lowest level.
        level: u16,
    },
}

/// Of which groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GroupScope {
    /// Every group.
    Any,
    /// This group and every group below it.
    Subtree {
        /// The root of the subtree.
        group: GroupId,
    },
    /// Every group that is neither the owner group of the file nor below it.
    OutsideOwner,
}

/// Of which posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PostScope {
    /// Every post.
    Any,
    /// This post.
    This {
        /// The post.
        post: PostId,
    },
    /// Every post whose rank is lower than that of this post.
    Below {
        /// The post.
        post: PostId,
    },
}

/// What must never be: that somebody with such a post in such a group has one of these rights on such a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Invariant {
    /// Identity.
    pub id: InvariantId,
    /// Name, unique.
    pub name: String,
    /// Of which labels.
    pub labels: LabelScope,
    /// Of which groups.
    pub groups: GroupScope,
    /// Of which posts.
    pub posts: PostScope,
    /// The rights.
    pub rights: Rights,
    /// Only on terminals of these zones; empty means everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// Only in sessions without a second factor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_second_factor: bool,
}

/// An invariant that does not hold, by one example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: InvariantId,
    /// Its name.
    pub name: String,
    /// A post and a group that it speaks of.
    pub membership: Membership,
    /// The label.
    pub label: LabelId,
    /// The right that there is.
    pub right: Right,
    /// The zone.
    pub zone: Option<String>,
    /// In which case.
    pub case: Case,
}

impl Invariant {
    /// Whether it names this group.
    pub fn names_group(&self, id: GroupId) -> bool {
        match self.groups {
            GroupScope::Subtree { group } => group == id,
            GroupScope::Any | GroupScope::OutsideOwner => false,
        }
    }

    /// Whether it names this post.
    pub fn names_post(&self, id: PostId) -> bool {
        match self.posts {
            PostScope::This { post } | PostScope::Below { post } => post == id,
            PostScope::Any => false,
        }
    }

    fn speaks_of_post(&self, id: PostId, policy: &Policy) -> bool {
        let rank = |id: PostId| policy.posts.iter().find(|post| post.id == id).map(|post| post.rank);
        match self.posts {
            PostScope::Any => true,
            PostScope::This { post } => post == id,
            // Of a bound that is gone nothing is known: then it speaks of all.
            PostScope::Below { post } => {
                rank(post).is_none_or(|bound| rank(id).is_some_and(|rank| rank < bound))
            }
        }
    }
}

/// The first violation of each invariant that `policy` breaks, now or at any later time.
///
/// # Errors
/// The policy is not valid, or there are too many cases to try.
pub fn violations(
    policy: &Policy,
    invariants: &[Invariant],
    now: Timestamp,
) -> Result<Vec<Violation>, DiffError> {
    let set = policy.set()?;
    let mut found = Vec::new();
    for invariant in invariants {
        let labels = policy.labels.iter().filter(|label| match invariant.labels {
            LabelScope::Any => true,
            LabelScope::This { label: id } => label.id == id,
            LabelScope::LevelAtLeast { level } => label.level >= level,
        });
        for label in labels {
            let space = Space::new(policy.rules_of(label.id), now)?;
            if let Some(violation) = violation(policy, &set, invariant, label.id, &space) {
                found.push(violation);
                break;
            }
        }
    }
    Ok(found)
}

fn violation(
    policy: &Policy,
    set: &PolicySet,
    invariant: &Invariant,
    label: LabelId,
    space: &Space,
) -> Option<Violation> {
    let zones = if invariant.zones.is_empty() {
        space.zones.clone()
    } else {
        invariant.zones.iter().cloned().map(Some).collect()
    };
    for group in &policy.groups {
        if let GroupScope::Subtree { group: root } = invariant.groups
            && !set.is_within(group.id, root)
        {
            continue;
        }
        let mut owners = vec![(OwnerCase::Other, None)];
        if invariant.groups != GroupScope::OutsideOwner {
            owners.push((OwnerCase::Own, Some(group.id)));
            owners.extend(group.parent.map(|parent| (OwnerCase::Above, Some(parent))));
        }
        for post in policy.posts.iter().filter(|post| invariant.speaks_of_post(post.id, policy)) {
            let membership = Membership { group: group.id, post: post.id };
            let requester =
                Requester { person: PersonId::from_bytes([0; 16]), memberships: vec![membership] };
            for zone in &zones {
                for (case, owner_group, context) in space.cases(zone.as_deref(), &owners) {
                    if invariant.without_second_factor && context.second_factor {
                        continue;
                    }
                    let rights = set.decide(&requester, &Subject { label, owner_group }, &context).rights;
                    if let Some(right) = rights.intersection(invariant.rights).iter().next() {
                        return Some(Violation {
                            invariant: invariant.id,
                            name: invariant.name.clone(),
                            membership,
                            label,
                            right,
                            zone: zone.clone(),
                            case,
                        });
                    }
                }
            }
        }
    }
    None
}

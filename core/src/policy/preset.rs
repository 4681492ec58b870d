//! Presets: labels, posts and rules that an organisation starts from, kept as data in `core/presets/`. They
//! name labels and posts by name; [`Preset::instantiate`] gives them ids and reuses the posts that exist.

use super::model::{Conditions, Effect, GroupSelector, Label, Post, PostSelector, Rule};
use super::name::fold_name;
use super::rights::Rights;
use crate::ids::{LabelId, PostId, RuleId};
use serde::Deserialize;
use std::collections::HashMap;

/// Name and text of each preset that ships.
const SHIPPED: [(&str, &str); 2] = [
    ("jichitai", include_str!("../../presets/jichitai.toml")),
    ("kigyo", include_str!("../../presets/kigyo.toml")),
];

/// The preset with this name: `jichitai` or `kigyo`.
pub fn preset(name: &str) -> Option<Preset> {
    let (_, text) = SHIPPED.into_iter().find(|(shipped, _)| *shipped == name)?;
    #[expect(clippy::expect_used, reason = "the text is part of the program and a test parses every one")]
    Some(Preset::parse(text).expect("a shipped preset parses"))
}

/// The names of the presets that ship.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.into_iter().map(|(name, _)| name)
}

/// A policy to start from, with names in place of ids.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Name on the command line.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Posts that its rules speak of, highest first.
    pub posts: Vec<PresetPost>,
    /// Labels, highest first.
    pub labels: Vec<PresetLabel>,
    /// Rules.
    pub rules: Vec<PresetRule>,
}

/// A post of a preset.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetPost {
    /// Name.
    pub name: String,
    /// Rank, unless a post of this name exists and has its own.
    pub rank: u16,
}

/// A label of a preset.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetLabel {
    /// Name.
    pub name: String,
    /// Level.
    pub level: u16,
    /// What it is for, in the language of its users.
    pub description: String,
}

/// A rule of a preset.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetRule {
    /// Name of the label.
    pub label: String,
    /// Which groups.
    pub groups: PresetGroups,
    /// Which posts.
    pub posts: PresetPosts,
    /// What else must hold.
    #[serde(default)]
    pub conditions: Conditions,
    /// Allow or deny.
    pub effect: Effect,
    /// Rights given or taken.
    pub rights: Rights,
    /// A remark for people.
    pub note: String,
}

/// The group selectors that need no id: a preset knows no organisation's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PresetGroups {
    /// Any group.
    Any,
    /// The group that owns the folder.
    Owner,
    /// The group that owns the folder and every group below it.
    OwnerSubtree,
}

/// A post selector that names posts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PresetPosts {
    /// Any post.
    Any,
    /// Exactly this post.
    This(String),
    /// This post and every post of its rank or higher.
    AtLeast(String),
}

/// What [`Preset::instantiate`] makes; none of it exists yet, ids are fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresetInstance {
    /// Labels to be made, in the preset's order.
    pub labels: Vec<Label>,
    /// Posts to be made: those that the organisation did not have by name.
    pub posts: Vec<Post>,
    /// Rules to be made.
    pub rules: Vec<Rule>,
}

/// Why a preset cannot be applied to an organisation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// The organisation has a label of this name, perhaps from the same preset.
    #[error("the label '{0}' exists already")]
    LabelExists(String),
    /// Two posts of the preset exist with ranks that turn their order around (or make them equal), so that
    /// "this post and above" would mean somebody else.
    #[error("the posts '{higher}' and '{lower}' exist, but '{higher}' does not rank above '{lower}'")]
    PostOrder {
        /// The post that the preset ranks higher.
        higher: String,
        /// The post that the preset ranks lower.
        lower: String,
    },
    /// The preset's own text names something that it does not define.
    #[error("the preset names '{0}', which it does not define")]
    Undefined(String),
}

impl Preset {
    /// Reads a preset from TOML.
    ///
    /// # Errors
    /// The text is not TOML or not of this shape.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Gives everything fresh ids. Posts are matched with `existing_posts` by name and keep their rank; "at
    /// least" then means the rank that the organisation gave.
    ///
    /// # Errors
    /// A label exists already, or existing posts contradict the preset's order.
    pub fn instantiate(
        &self,
        existing_labels: &[Label],
        existing_posts: &[Post],
    ) -> Result<PresetInstance, PresetError> {
        let taken: Vec<String> = existing_labels.iter().map(|label| fold_name(&label.name)).collect();
        let mut labels = Vec::with_capacity(self.labels.len());
        let mut label_ids: HashMap<&str, LabelId> = HashMap::new();
        for label in &self.labels {
            if taken.contains(&fold_name(&label.name)) {
                return Err(PresetError::LabelExists(label.name.clone()));
            }
            let id = LabelId::generate();
            label_ids.insert(&label.name, id);
            labels.push(Label { id, name: label.name.clone(), level: label.level });
        }

        let (posts, known) = self.posts(existing_posts)?;
        let find =
            |name: &str| known.get(name).copied().ok_or_else(|| PresetError::Undefined(name.to_owned()));
        let rules = self
            .rules
            .iter()
            .map(|rule| {
                let label = label_ids
                    .get(rule.label.as_str())
                    .ok_or_else(|| PresetError::Undefined(rule.label.clone()))?;
                Ok(Rule {
                    id: RuleId::generate(),
                    label: *label,
                    groups: match rule.groups {
                        PresetGroups::Any => GroupSelector::Any,
                        PresetGroups::Owner => GroupSelector::Owner,
                        PresetGroups::OwnerSubtree => GroupSelector::OwnerSubtree,
                    },
                    posts: match &rule.posts {
                        PresetPosts::Any => PostSelector::Any,
                        PresetPosts::This(name) => PostSelector::This { post: find(name)?.0 },
                        PresetPosts::AtLeast(name) => PostSelector::RankAtLeast { rank: find(name)?.1 },
                    },
                    conditions: rule.conditions.clone(),
                    effect: rule.effect,
                    rights: rule.rights,
                    note: rule.note.clone(),
                })
            })
            .collect::<Result<_, PresetError>>()?;
        Ok(PresetInstance { labels, posts, rules })
    }

    /// The posts to be made, and id and rank of every post of the preset by name.
    #[expect(clippy::type_complexity, reason = "two results of one pass, used once")]
    fn posts(&self, existing: &[Post]) -> Result<(Vec<Post>, HashMap<&str, (PostId, u16)>), PresetError> {
        let mut made = Vec::new();
        let mut known: HashMap<&str, (PostId, u16)> = HashMap::new();
        for wanted in &self.posts {
            let folded = fold_name(&wanted.name);
            let entry = match existing.iter().find(|post| fold_name(&post.name) == folded) {
                Some(post) => (post.id, post.rank),
                None => {
                    let post = Post { id: PostId::generate(), name: wanted.name.clone(), rank: wanted.rank };
                    made.push(post.clone());
                    (post.id, post.rank)
                }
            };
            known.insert(&wanted.name, entry);
        }
        for higher in &self.posts {
            for lower in self.posts.iter().filter(|lower| lower.rank < higher.rank) {
                let rank = |name: &str| known.get(name).map(|(_, rank)| *rank);
                if rank(&higher.name) <= rank(&lower.name) {
                    return Err(PresetError::PostOrder {
                        higher: higher.name.clone(),
                        lower: lower.name.clone(),
                    });
                }
            }
        }
        Ok((made, known))
    }
}

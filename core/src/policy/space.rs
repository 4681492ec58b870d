//! What a decision on one label can depend on besides who asks, as a finite set: the zones, tags and times that the
//! label's rules name, the second factor, and where the owner group lies. Whatever no rule names decides alike, so
//! trying these cases tries all. Used to compare policies and to check invariants.

use super::model::{Context, GroupSelector, Protection, Rule};
use super::name::fold_name;
use crate::ids::GroupId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most sets of tags that are tried for one label.
const MAX_TAG_SETS: usize = 256;

/// Where the owner group of a file lies, seen from the group of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OwnerCase {
    /// It is that group.
    Own,
    /// It lies above that group.
    Above,
    /// It is this group (for a person, who may be in several).
    Group {
        /// The group.
        group: GroupId,
    },
    /// It is none of the others, or the file has none.
    Other,
}

/// One case in which an answer was tried. What is absent makes no difference.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Case {
    /// Where the owner group lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerCase>,
    /// Whether the session has a second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_factor: Option<bool>,
    /// How the terminal's keys are kept: so, or better up to the next that rules name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<Protection>,
    /// Of the tags that rules name, those that the terminal carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal_tags: Option<Vec<String>>,
    /// From this time on (until the next such time). Absent: now, and as long as no rule begins or ends to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub from: Option<Timestamp>,
}

/// The cases of one label.
#[derive(Debug, Clone)]
pub(super) struct Space {
    /// The zones that rules name; none stands for every other zone and for no zone.
    pub(super) zones: Vec<Option<String>>,
    tags: Vec<Vec<String>>,
    times: Vec<Timestamp>,
    second_factor: bool,
    /// The weakest, and what rules ask for.
    protections: Vec<Protection>,
    /// Whether a rule looks at the owner group.
    pub(super) owners: bool,
    now: Timestamp,
}

/// There are too many sets of tags to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyTagSets;

impl Space {
    /// The cases that `rules`, all of one label, can tell apart.
    pub(super) fn new<'a>(
        rules: impl Iterator<Item = &'a Rule> + Clone,
        now: Timestamp,
    ) -> Result<Self, TooManyTagSets> {
        let mut zones: BTreeMap<String, String> = BTreeMap::new();
        let mut times: BTreeSet<Timestamp> = BTreeSet::from([now]);
        let (mut second_factor, mut owners) = (false, false);
        let mut protections = BTreeSet::from([Protection::None]);
        // Which rules' tags a terminal has decides; the smallest terminal for each such choice is a union of their tags.
        let mut tags: BTreeSet<BTreeSet<String>> = BTreeSet::from([BTreeSet::new()]);
        for rule in rules {
            let conditions = &rule.conditions;
            for zone in &conditions.zones {
                zones.entry(fold_name(zone)).or_insert_with(|| zone.clone());
            }
            let turns = conditions.not_before.into_iter().chain(conditions.not_after);
            times.extend(turns.filter(|time| *time > now));
            second_factor |= conditions.second_factor;
            protections.insert(conditions.protection);
            owners |= matches!(rule.groups, GroupSelector::Owner | GroupSelector::OwnerSubtree);
            let named: BTreeSet<String> = conditions.terminal_tags.iter().map(|tag| fold_name(tag)).collect();
            if !named.is_empty() {
                let more: Vec<BTreeSet<String>> =
                    tags.iter().map(|known| known.union(&named).cloned().collect()).collect();
                tags.extend(more);
                if tags.len() > MAX_TAG_SETS {
                    return Err(TooManyTagSets);
                }
            }
        }
        Ok(Self {
            zones: std::iter::once(None).chain(zones.into_values().map(Some)).collect(),
            tags: tags.into_iter().map(|set| set.into_iter().collect()).collect(),
            times: times.into_iter().collect(),
            second_factor,
            protections: protections.into_iter().collect(),
            owners,
            now,
        })
    }

    /// How many cases [`Space::cases`] gives.
    pub(super) fn len(&self, owners: usize) -> usize {
        let factors = if self.second_factor { 2 } else { 1 };
        let protections = self.protections.len();
        self.tags.len() * self.times.len() * protections * factors * if self.owners { owners } else { 1 }
    }

    /// Each case in a zone with the context in which to ask, for each of `owners` (the first stands for all when no
    /// rule looks at it).
    pub(super) fn cases<'a>(
        &'a self,
        zone: Option<&'a str>,
        owners: &'a [(OwnerCase, Option<GroupId>)],
    ) -> impl Iterator<Item = (Case, Option<GroupId>, Context)> + 'a {
        let factors: &[bool] = if self.second_factor { &[false, true] } else { &[false] };
        let owners = if self.owners { owners } else { owners.get(..1).unwrap_or_default() };
        owners.iter().flat_map(move |(owner, group)| {
            factors.iter().flat_map(move |factor| {
                self.protections.iter().flat_map(move |protection| {
                    self.tags.iter().flat_map(move |tags| {
                        self.times.iter().map(move |time| {
                            let case = Case {
                                owner: self.owners.then_some(*owner),
                                second_factor: self.second_factor.then_some(*factor),
                                protection: (self.protections.len() > 1).then_some(*protection),
                                terminal_tags: (self.tags.len() > 1).then(|| tags.clone()),
                                from: (*time > self.now).then_some(*time),
                            };
                            let context = Context {
                                now: *time,
                                zone: zone.map(str::to_owned),
                                terminal_tags: tags.clone(),
                                second_factor: *factor,
                                protection: *protection,
                            };
                            (case, *group, context)
                        })
                    })
                })
            })
        })
    }
}

//! What a change of the policy gives and takes, by asking [`PolicySet::decide`] in every case that can differ, before and after:
//! each post in each group, each label, each zone, and what else the rules look at (see `space`).
//!
//! A person with several memberships is asked for as a whole besides, since a deny by one membership beats the allows of the
//! others: taking it away may give a right that no single membership gained.

use super::error::PolicyError;
use super::model::{Group, Label, Membership, Post, Requester, Rule, Subject};
use super::rights::Rights;
use super::set::PolicySet;
use super::space::{Case, OwnerCase, Space, TooManyTagSets};
use crate::ids::{GroupId, LabelId, PersonId, PostId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most questions that one comparison asks of each policy.
const MAX_QUESTIONS: usize = 20_000_000;

/// A policy as data, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Labels.
    pub labels: Vec<Label>,
    /// Groups.
    pub groups: Vec<Group>,
    /// Posts.
    pub posts: Vec<Post>,
    /// Rules.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// Checks it and makes it ready for decisions.
    ///
    /// # Errors
    /// As [`PolicySet::new`].
    pub fn set(&self) -> Result<PolicySet, PolicyError> {
        PolicySet::new(self.labels.clone(), self.groups.clone(), self.posts.clone(), self.rules.clone())
    }

    /// The rules of one label.
    pub(super) fn rules_of(&self, label: LabelId) -> impl Iterator<Item = &Rule> + Clone {
        self.rules.iter().filter(move |rule| rule.label == label)
    }

    /// What of it can change a decision about `label`: not names, not notes, not the order.
    fn effective(&self, label: LabelId) -> Effective {
        let mut rules: Vec<Rule> =
            self.rules_of(label).map(|rule| Rule { note: String::new(), ..rule.clone() }).collect();
        rules.sort_by_key(|rule| rule.id);
        Effective {
            groups: self.groups.iter().map(|group| (group.id, group.parent)).collect(),
            posts: self.posts.iter().map(|post| (post.id, post.rank)).collect(),
            rules,
        }
    }
}

/// What of a policy decides about one label.
#[derive(PartialEq, Eq)]
struct Effective {
    groups: BTreeSet<(GroupId, Option<GroupId>)>,
    posts: BTreeMap<PostId, u16>,
    rules: Vec<Rule>,
}

/// A person before and after. Somebody who is shut out or not there holds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The person.
    pub person: PersonId,
    /// Memberships before.
    pub before: Vec<Membership>,
    /// Memberships after.
    pub after: Vec<Membership>,
}

/// One right that is gained or lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Who, where it is about one person; else everybody with the membership.
    pub person: Option<PersonId>,
    /// The post and the group by which.
    pub membership: Membership,
    /// The label.
    pub label: LabelId,
    /// The zone; none is every zone that no rule of the label names.
    pub zone: Option<String>,
    /// Its bit in [`Rights`], so that differences sort in the order of rights.
    pub right: u8,
    /// The cases; empty when it is so in all.
    pub cases: Vec<Case>,
}

impl Difference {
    /// The right.
    pub fn right(&self) -> Rights {
        Rights::from_bits(self.right)
    }
}

/// What a change gives and takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Allowed after, not before.
    pub gained: Vec<Difference>,
    /// Allowed before, not after.
    pub lost: Vec<Difference>,
}

/// Two policies that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// One of them is not valid.
    #[error(transparent)]
    Invalid(#[from] PolicyError),
    /// There are too many cases to try.
    #[error("there are too many cases to compare (tags, groups, posts or times of validity)")]
    TooLarge,
}

impl From<TooManyTagSets> for DiffError {
    fn from(_: TooManyTagSets) -> Self {
        Self::TooLarge
    }
}

/// Compares two policies, and the people of both, from `now` on.
///
/// # Errors
/// One of them is not valid, or there are too many cases.
pub fn differences(
    before: &Policy,
    after: &Policy,
    holders: &[Holder],
    now: Timestamp,
) -> Result<Differences, DiffError> {
    let sets = (before.set()?, after.set()?);
    let both = [before, after];
    let labels: BTreeSet<LabelId> = both.iter().flat_map(|one| &one.labels).map(|label| label.id).collect();
    let groups: BTreeSet<GroupId> = both.iter().flat_map(|one| &one.groups).map(|group| group.id).collect();
    let posts: BTreeSet<PostId> = both.iter().flat_map(|one| &one.posts).map(|post| post.id).collect();
    let parents = both.map(parents);
    let mut found = Found::default();
    let mut questions = 0_usize;
    for label in labels {
        let changed = before.effective(label) != after.effective(label);
        let space = Space::new(before.rules_of(label).chain(after.rules_of(label)), now)?;
        if changed {
            let asked = groups.len() * posts.len() * space.zones.len();
            questions = questions.saturating_add(asked.saturating_mul(space.len(3)));
            if questions > MAX_QUESTIONS {
                return Err(DiffError::TooLarge);
            }
            let pair = Pair { sets: &sets, label, space: &space };
            for group in &groups {
                let owners = owners_of(*group, &parents);
                for post in &posts {
                    pair.compare_membership(Membership { group: *group, post: *post }, &owners, &mut found);
                }
            }
        }
        for holder in holders.iter().filter(|holder| changed || holder.before != holder.after) {
            let owners = owners_of_person(holder, &parents);
            questions = questions.saturating_add(space.zones.len().saturating_mul(space.len(owners.len())));
            if questions > MAX_QUESTIONS {
                return Err(DiffError::TooLarge);
            }
            Pair { sets: &sets, label, space: &space }.compare_person(holder, &owners, &mut found);
        }
    }
    Ok(found.into_differences())
}

fn parents(policy: &Policy) -> HashMap<GroupId, Option<GroupId>> {
    policy.groups.iter().map(|group| (group.id, group.parent)).collect()
}

/// Owner groups that rules can tell apart for a membership in `group`. All groups above it are alike, except for those above
/// which it was only before, or is only after, because something was moved.
fn owners_of(
    group: GroupId,
    parents: &[HashMap<GroupId, Option<GroupId>>; 2],
) -> Vec<(OwnerCase, Option<GroupId>)> {
    let [before, after] =
        parents.each_ref().map(|parents| parents.get(&group).map(|_| above(group, parents)));
    let (always, sometimes): (Vec<GroupId>, Vec<GroupId>) = match (before, after) {
        (Some(before), Some(after)) => (
            before.intersection(&after).copied().collect(),
            before.symmetric_difference(&after).copied().collect(),
        ),
        // A group that is only in one of the policies gives nothing in the other.
        (Some(above), None) | (None, Some(above)) => (above.into_iter().collect(), Vec::new()),
        (None, None) => (Vec::new(), Vec::new()),
    };
    let mut owners = vec![(OwnerCase::Other, None), (OwnerCase::Own, Some(group))];
    owners.extend(always.first().map(|above| (OwnerCase::Above, Some(*above))));
    owners.extend(sometimes.into_iter().map(|group| (OwnerCase::Group { group }, Some(group))));
    owners
}

/// All groups above `group`. Ends: the policy was found to have no cycles.
fn above(group: GroupId, parents: &HashMap<GroupId, Option<GroupId>>) -> BTreeSet<GroupId> {
    std::iter::successors(parents.get(&group).copied().flatten(), |at| parents.get(at).copied().flatten())
        .collect()
}

/// The same for a person: the groups that are held, and all above them.
fn owners_of_person(
    holder: &Holder,
    parents: &[HashMap<GroupId, Option<GroupId>>; 2],
) -> Vec<(OwnerCase, Option<GroupId>)> {
    let mut groups = BTreeSet::new();
    for held in holder.before.iter().chain(&holder.after) {
        for parents in parents {
            let mut at = Some(held.group);
            while let Some(group) = at {
                groups.insert(group);
                at = parents.get(&group).copied().flatten();
            }
        }
    }
    let owners = groups.into_iter().map(|group| (OwnerCase::Group { group }, Some(group)));
    std::iter::once((OwnerCase::Other, None)).chain(owners).collect()
}

/// Who, by which membership, label, zone, right.
type Key = (Option<PersonId>, Membership, LabelId, Option<String>, u8);

#[derive(Default)]
struct Found {
    gained: BTreeMap<Key, Vec<Case>>,
    lost: BTreeMap<Key, Vec<Case>>,
    /// In how many cases a key was asked about, where that is not all that the space has.
    asked: HashMap<(Option<PersonId>, GroupId, LabelId), usize>,
}

impl Found {
    fn into_differences(self) -> Differences {
        let asked = self.asked;
        let list = |found: BTreeMap<Key, Vec<Case>>| {
            found
                .into_iter()
                .map(|((person, membership, label, zone, right), mut cases)| {
                    cases.sort();
                    if asked.get(&(person, membership.group, label)) == Some(&cases.len()) {
                        cases.clear();
                    }
                    cases.dedup();
                    Difference { person, membership, label, zone, right, cases }
                })
                .collect()
        };
        Differences { gained: list(self.gained), lost: list(self.lost) }
    }
}

/// Both policies, and the label about which they are asked.
struct Pair<'a> {
    sets: &'a (PolicySet, PolicySet),
    label: LabelId,
    space: &'a Space,
}

impl Pair<'_> {
    fn compare_membership(
        &self,
        membership: Membership,
        owners: &[(OwnerCase, Option<GroupId>)],
        found: &mut Found,
    ) {
        let requester = Requester { person: NOBODY, memberships: vec![membership] };
        let mut asked = 0;
        for zone in &self.space.zones {
            asked = 0;
            for (case, owner_group, context) in self.space.cases(zone.as_deref(), owners) {
                asked += 1;
                let subject = Subject { label: self.label, owner_group };
                let before = self.sets.0.decide(&requester, &subject, &context).rights;
                let after = self.sets.1.decide(&requester, &subject, &context).rights;
                let key = |right| (None, membership, self.label, zone.clone(), right);
                note(&mut found.gained, after.minus(before), &case, key);
                note(&mut found.lost, before.minus(after), &case, key);
            }
        }
        found.asked.insert((None, membership.group, self.label), asked);
    }

    fn compare_person(&self, holder: &Holder, owners: &[(OwnerCase, Option<GroupId>)], found: &mut Found) {
        let requester = |memberships: &[Membership]| Requester {
            person: holder.person,
            memberships: memberships.to_vec(),
        };
        let (before, after) = (requester(&holder.before), requester(&holder.after));
        let same = holder.before == holder.after;
        let mut asked = 0;
        for zone in &self.space.zones {
            asked = 0;
            for (case, owner_group, context) in self.space.cases(zone.as_deref(), owners) {
                asked += 1;
                let subject = Subject { label: self.label, owner_group };
                let was = self.sets.0.decide(&before, &subject, &context);
                let is = self.sets.1.decide(&after, &subject, &context);
                let (mut gained, mut lost) = (is.rights.minus(was.rights), was.rights.minus(is.rights));
                if same {
                    // What a single membership gained or lost is in the list already.
                    for held in &holder.after {
                        let one = requester(&[*held]);
                        let was = self.sets.0.decide(&one, &subject, &context).rights;
                        let is = self.sets.1.decide(&one, &subject, &context).rights;
                        gained = gained.minus(is.minus(was));
                        lost = lost.minus(was.minus(is));
                    }
                }
                for (rights, decision, list) in
                    [(gained, &is, &mut found.gained), (lost, &was, &mut found.lost)]
                {
                    for right in rights.iter() {
                        let allows = |reason: &&super::decision::DecidingRule| {
                            reason.effect == super::model::Effect::Allow
                        };
                        let Some(by) = decision.reasons_for(right).find(allows) else { continue };
                        let membership = by.membership;
                        let person = Some(holder.person);
                        let key = |right| (person, membership, self.label, zone.clone(), right);
                        note(list, Rights::only(right), &case, key);
                    }
                }
            }
        }
        for held in holder.before.iter().chain(&holder.after) {
            found.asked.insert((Some(holder.person), held.group, self.label), asked);
        }
    }
}

/// Nobody in particular: decisions do not look at who it is.
const NOBODY: PersonId = PersonId::from_bytes([0; 16]);

fn note(list: &mut BTreeMap<Key, Vec<Case>>, rights: Rights, case: &Case, key: impl Fn(u8) -> Key) {
    for right in rights.iter() {
        list.entry(key(Rights::only(right).bits())).or_default().push(case.clone());
    }
}

//! What a change of the directory means: what it gives and takes, which invariants it breaks, whether it needs a second
//! person, and which version of the policy it makes. Pure: tables in, answer out.

use super::error::ServiceError;
use crate::audit::Record;
use crate::store::{Change, PersonRow, PolicyVersionRow, Tables};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use tobari_core::crypto::sha256;
use tobari_core::ids::{ChangeRequestId, GroupId, LabelId, PersonId};
use tobari_core::policy::{
    Case, DiffError, Difference, Holder, Invariant, Membership, Policy, Rights, Violation, differences,
    violations,
};
use tobari_core::proto::admin::Role;
use tobari_core::proto::policy::{
    BrokenInvariant, DiffRow, LeaseLosses, MAX_DIFFERENCES, PolicyDiff, Widening,
};

/// The setting that says whether a second person is needed: `on` or `off`. While it is missing, the rule begins with the second
/// administrator who could approve; from then on it is `on`, whoever goes.
pub(crate) const SECOND_PERSON: &str = "second-person";

/// The setting that says how many files one person may unseal within an hour: a number, or `none`.
pub(crate) const UNSEAL_LIMIT: &str = "unseal-limit";
/// What holds while that setting is missing.
const UNSEAL_FILES: u32 = 20;

/// How many files one person may unseal within an hour; any number, where there is none.
pub(crate) fn unseal_limit(tables: &Tables) -> Option<u32> {
    match tables.settings.get(UNSEAL_LIMIT) {
        None => Some(UNSEAL_FILES),
        Some(value) if value.as_slice() == b"none" => None,
        // What cannot be read is no leave.
        Some(value) => Some(std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)),
    }
}

/// Why a change is made, and who agreed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warrant {
    /// Why, as given.
    pub(crate) reason: String,
    /// The request, and who approved it.
    pub(crate) approval: Option<(ChangeRequestId, PersonId)>,
}

/// The policy part of the tables.
pub(crate) fn policy(tables: &Tables) -> Policy {
    Policy {
        labels: tables.labels.values().map(|row| row.label.clone()).collect(),
        groups: tables.groups.values().map(|group| group.as_ref().clone()).collect(),
        posts: tables.posts.values().map(|post| post.as_ref().clone()).collect(),
        rules: tables.rules.values().map(|rule| rule.as_ref().clone()).collect(),
    }
}

/// Whether somebody could approve: there, with the role and an authenticator.
pub(crate) fn may_approve(row: &PersonRow) -> bool {
    !row.disabled && row.roles.contains(&Role::Policy) && row.sealed_totp.is_some()
}

/// How many people could approve.
pub(crate) fn approvers(tables: &Tables) -> usize {
    tables.people.values().filter(|row| may_approve(row)).count()
}

/// What was set about the second person, if anything was.
pub(crate) fn second_person_set(tables: &Tables) -> Option<bool> {
    tables.settings.get(SECOND_PERSON).map(|value| value.as_slice() != b"off")
}

/// Whether acts that widen access need a second person.
pub(crate) fn second_person(tables: &Tables) -> bool {
    second_person_set(tables).unwrap_or_else(|| approvers(tables) >= 2)
}

/// The answer, and a digest of all that is gained and lost, listed or not.
pub(crate) struct Judged {
    pub(crate) diff: PolicyDiff,
    pub(crate) digest: String,
}

impl Judged {
    /// With what the tables do not show: why it needs a second person besides, and what was looked at.
    pub(crate) fn with(mut self, before: &Tables, widens: &[Widening], seen: &str) -> Self {
        self.diff.widens.extend(widens);
        self.diff.widens.sort_unstable();
        self.diff.widens.dedup();
        self.diff.needs_second_person = second_person(before) && !self.diff.widens.is_empty();
        if !seen.is_empty() {
            self.digest = HEXLOWER.encode(&sha256(&[self.digest.as_bytes(), &[0], seen.as_bytes()]));
        }
        self
    }
}

/// Judges a change. Slow for a large organisation: not on a thread that serves.
pub(crate) fn judge(
    before: &Tables,
    after: &Tables,
    by: Option<PersonId>,
    now: Timestamp,
) -> Result<Judged, ServiceError> {
    let (old, new) = (policy(before), policy(after));
    let mut widens = widenings(before, after, by);
    let (gained, lost) = match differences(&old, &new, &holders(before, after, old != new), now) {
        Ok(found) => (found.gained, found.lost),
        Err(DiffError::TooLarge) => {
            widens.push(Widening::Unknown);
            (Vec::new(), Vec::new())
        }
        Err(DiffError::Invalid(error)) => return Err(error.into()),
    };
    if !gained.is_empty() {
        widens.push(Widening::Rights);
    }
    widens.sort_unstable();
    widens.dedup();
    let names = Names::new(before, after);
    let (gained, lost) = (names.rows(&gained), names.rows(&lost));
    // By names: what is not made yet may get another id the next time.
    let digest = serde_json::to_vec(&(summary(&gained), summary(&lost), &widens))
        .map_err(|error| ServiceError::Internal(error.to_string()))?;
    let breaks = broken(after, &new, now)?.iter().map(|violation| names.violation(violation)).collect();
    let (gained_total, lost_total) = (gained.len() as u64, lost.len() as u64);
    let first = |rows: Vec<DiffRow>| rows.into_iter().take(MAX_DIFFERENCES).collect();
    let needs_second_person = second_person(before) && !widens.is_empty();
    Ok(Judged {
        diff: PolicyDiff {
            policy_version: before.policy_version,
            gained: first(gained),
            lost: first(lost),
            gained_total,
            lost_total,
            widens,
            breaks,
            needs_second_person,
            // Of the store, not of the tables: [`Service::foreseen`](crate::service::Service) has it.
            leases: LeaseLosses::default(),
        },
        digest: HEXLOWER.encode(&sha256(&[&digest])),
    })
}

/// Rows without ids, in the order of names.
fn summary(rows: &[DiffRow]) -> Vec<impl Serialize + '_> {
    let mut list: Vec<_> = rows
        .iter()
        .map(|row| {
            let DiffRow { login, post_name, group_name, label_name, rights, zone, cases, .. } = row;
            (login, group_name, post_name, label_name, zone, rights.bits(), cases)
        })
        .collect();
    list.sort();
    list
}

fn broken(tables: &Tables, policy: &Policy, now: Timestamp) -> Result<Vec<Violation>, ServiceError> {
    let invariants: Vec<Invariant> =
        tables.invariants.values().map(|invariant| invariant.as_ref().clone()).collect();
    if invariants.is_empty() {
        return Ok(Vec::new());
    }
    violations(policy, &invariants, now).map_err(|error| match error {
        DiffError::Invalid(error) => error.into(),
        DiffError::TooLarge => ServiceError::conflict("policy", error.to_string()),
    })
}

/// Refuses a change that breaks an invariant.
pub(crate) fn check_invariants(before: &Tables, after: &Tables, now: Timestamp) -> Result<(), ServiceError> {
    let new = policy(after);
    if policy(before) == new && before.invariants == after.invariants {
        return Ok(());
    }
    match broken(after, &new, now)?.first() {
        None => Ok(()),
        Some(violation) => {
            let found = Names::new(before, after).violation(violation);
            Err(ServiceError::InvariantBroken {
                name: found.name,
                detail: format!(
                    "{} {} would have {} on {}",
                    found.group_name, found.post_name, found.right, found.label_name
                ),
            })
        }
    }
}

fn held(row: Option<&std::sync::Arc<PersonRow>>) -> Vec<Membership> {
    row.filter(|row| !row.disabled).map(|row| row.memberships.clone()).unwrap_or_default()
}

/// Whoever holds other memberships than before, and, where the policy changes, whoever holds several.
fn holders(before: &Tables, after: &Tables, policy_changes: bool) -> Vec<Holder> {
    let mut ids: Vec<PersonId> = before.people.keys().chain(after.people.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter()
        .map(|person| Holder {
            person,
            before: held(before.people.get(&person)),
            after: held(after.people.get(&person)),
        })
        .filter(|holder| holder.before != holder.after || (policy_changes && holder.after.len() > 1))
        .collect()
}

/// Whether something that was stopped goes on again: a revocation that is lifted, a terminal that was frozen.
pub(crate) fn lifts(before: &Tables, after: &Tables) -> bool {
    before.revocations.keys().any(|subject| !after.revocations.contains_key(subject))
        || before
            .terminals
            .iter()
            .any(|(id, old)| old.frozen && after.terminals.get(id).is_none_or(|new| !new.frozen))
}

/// What widens access besides rights.
fn widenings(before: &Tables, after: &Tables, by: Option<PersonId>) -> Vec<Widening> {
    let mut widens = Vec::new();
    let other_key = |(label, generation): &(LabelId, u32), row: &crate::store::LabelKeyRow| match before
        .label_keys
        .get(&(*label, *generation))
    {
        None => *generation > 1 && before.labels.contains_key(label),
        Some(old) => old.retired_at != row.retired_at,
    };
    if after.label_keys.iter().any(|(key, row)| other_key(key, row)) {
        widens.push(Widening::Keys);
    }
    if lifts(before, after) {
        widens.push(Widening::Revocation);
    }
    let most = |limit: Option<u32>| limit.unwrap_or(u32::MAX);
    let more_files = after.unseal_windows.iter().any(|(person, new)| {
        before.unseal_windows.get(person).is_none_or(|old| new.files > old.files || new.ends_at > old.ends_at)
    });
    if more_files || most(unseal_limit(after)) > most(unseal_limit(before)) {
        widens.push(Widening::Unsealing);
    }
    let weaker = |old: &crate::store::LabelRow, new: &crate::store::LabelRow| {
        let hours = |row: &crate::store::LabelRow| row.max_bulletin_age_hours.unwrap_or(u32::MAX);
        new.label.level < old.label.level
            || (new.allow_legacy_zip && !old.allow_legacy_zip)
            || (new.lease_by_label && !old.lease_by_label)
            || hours(new) > hours(old)
    };
    if before.labels.iter().any(|(id, old)| after.labels.get(id).is_some_and(|new| weaker(old, new))) {
        widens.push(Widening::Label);
    }
    let raised = after.people.values().any(|new| {
        let old = before.people.get(&new.id);
        let had = |role: &Role| old.is_some_and(|old| !old.disabled && old.roles.contains(role));
        let more = !new.disabled && !new.roles.iter().all(had);
        let credentials = old.is_some_and(|old| {
            !old.roles.is_empty()
                && (old.sealed_totp != new.sealed_totp
                    || old.login_key != new.login_key
                    || (old.password_hash != new.password_hash && by != Some(new.id)))
        });
        more || credentials
    });
    if raised {
        widens.push(Widening::Administrator);
    }
    if before.invariants.iter().any(|(id, old)| after.invariants.get(id).is_none_or(|new| **new != **old)) {
        widens.push(Widening::Invariant);
    }
    if second_person(before) && second_person_set(after) == Some(false) {
        widens.push(Widening::SecondPerson);
    }
    widens
}

/// The versions that a change makes: one, or two when what was there before is not kept yet.
pub(crate) fn versions(
    before: &Tables,
    after: &Tables,
    changes: &[Change],
    record: &Record,
    warrant: &Warrant,
) -> Vec<Change> {
    let (old, new) = (policy(before), policy(after));
    let people = before.people.len() != after.people.len()
        || after.people.iter().any(|(id, row)| held(before.people.get(id)) != held(Some(row)));
    let kept = changes.iter().any(|change| matches!(change, Change::PutLabel(_)))
        || old != new
        || people
        || before.invariants != after.invariants
        || before.settings.get(SECOND_PERSON) != after.settings.get(SECOND_PERSON)
        || before.settings.get(UNSEAL_LIMIT) != after.settings.get(UNSEAL_LIMIT);
    if !kept {
        return Vec::new();
    }
    let mut version = before.policy_version;
    let mut rows = Vec::new();
    let mut add = |row: PolicyVersionRow| {
        version += 1;
        rows.push(Change::AddPolicyVersion(PolicyVersionRow { version, ..row }));
    };
    let empty = PolicyVersionRow {
        version: 0,
        at: record.time,
        person: None,
        login: String::new(),
        act: String::from("start"),
        object: String::new(),
        detail: String::new(),
        reason: String::new(),
        request: None,
        approved_by: None,
        policy: None,
    };
    if before.policy_version == 0 {
        add(PolicyVersionRow { policy: Some(old.clone()), ..empty.clone() });
    }
    let login = record.person.and_then(|person| before.people.get(&person).or(after.people.get(&person)));
    add(PolicyVersionRow {
        person: record.person,
        login: login.map(|row| row.login.clone()).unwrap_or_default(),
        act: serde_json::to_value(record.act)
            .ok()
            .and_then(|act| act.as_str().map(str::to_owned))
            .unwrap_or_default(),
        object: record.object.clone().unwrap_or_default(),
        detail: record.detail.clone().unwrap_or_default(),
        reason: warrant.reason.clone(),
        request: warrant.approval.map(|(request, _)| request),
        approved_by: warrant.approval.map(|(_, by)| by),
        policy: (old != new).then_some(new),
        ..empty
    });
    rows
}

/// Names of what a comparison speaks of; of what is new as of what is gone.
struct Names<'a> {
    before: &'a Tables,
    after: &'a Tables,
    paths: HashMap<GroupId, String>,
}

impl<'a> Names<'a> {
    fn new(before: &'a Tables, after: &'a Tables) -> Self {
        let mut paths = HashMap::new();
        for tables in [before, after] {
            for id in tables.groups.keys() {
                let up =
                    std::iter::successors(tables.groups.get(id), |group| tables.groups.get(&group.parent?));
                let mut names: Vec<&str> =
                    up.take(tables.groups.len()).map(|group| group.name.as_str()).collect();
                names.reverse();
                paths.insert(*id, names.join("/"));
            }
        }
        Self { before, after, paths }
    }

    fn membership(&self, held: Membership) -> (String, String) {
        let post = self.after.posts.get(&held.post).or(self.before.posts.get(&held.post));
        (
            post.map_or_else(|| held.post.to_string(), |post| post.name.clone()),
            self.paths.get(&held.group).cloned().unwrap_or_else(|| held.group.to_string()),
        )
    }

    fn label(&self, id: tobari_core::ids::LabelId) -> String {
        let row = self.after.labels.get(&id).or(self.before.labels.get(&id));
        row.map_or_else(|| id.to_string(), |row| row.label.name.clone())
    }

    /// One row for the rights that change together.
    fn rows(&self, list: &[Difference]) -> Vec<DiffRow> {
        type Key<'k> = (Option<PersonId>, Membership, tobari_core::ids::LabelId, Option<&'k str>, &'k [Case]);
        let mut rows: BTreeMap<Key<'_>, Rights> = BTreeMap::new();
        for one in list {
            let key = (one.person, one.membership, one.label, one.zone.as_deref(), one.cases.as_slice());
            let rights = rows.entry(key).or_insert(Rights::NONE);
            *rights = rights.union(one.right());
        }
        rows.into_iter()
            .map(|((person, held, label, zone, cases), rights)| {
                let (post_name, group_name) = self.membership(held);
                let row = person.and_then(|id| self.after.people.get(&id).or(self.before.people.get(&id)));
                DiffRow {
                    person,
                    login: row.map(|row| row.login.clone()),
                    post: held.post,
                    post_name,
                    group: held.group,
                    group_name,
                    label,
                    label_name: self.label(label),
                    rights,
                    zone: zone.map(str::to_owned),
                    cases: cases.to_vec(),
                }
            })
            .collect()
    }

    fn violation(&self, violation: &Violation) -> BrokenInvariant {
        let (post_name, group_name) = self.membership(violation.membership);
        BrokenInvariant {
            name: violation.name.clone(),
            post_name,
            group_name,
            label_name: self.label(violation.label),
            right: violation.right,
        }
    }
}

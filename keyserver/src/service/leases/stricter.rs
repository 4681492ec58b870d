//! Leases that are out when the policy changes: what would not be lent any more is taken back or narrowed in the commit of
//! the change itself. Nothing here widens a lease, and what was narrowed stays so.
//!
//! Leases are not held in memory. What they lend is stored by label and owner group ([`LeaseKind`]); each kind that the change can
//! concern is decided once, and only the leases of those that lose something are looked at one by one. A lease that another
//! server issues meanwhile is noticed by its number ([`Change::LeasesIssued`]), and then nothing of the change is written.

use super::issue::ended;
use crate::audit::{Act, Record, Who};
use crate::service::directory::Directory;
use crate::service::{Service, ServiceError};
use crate::store::{Change, LeaseCaseRow, LeaseCases, LeaseKind, LeaseRow, Tables};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use tobari_core::ids::{GroupId, LabelId, LeaseId};
use tobari_core::lease::read_unchecked;
use tobari_core::policy::{Context, Requester, Right, Rights, Subject};
use tobari_core::proto::lease::{LeaseState, Narrowing, SignedLease};

/// More parts than this of a change are looked at as all.
const MAX_PARTS: usize = 64;

/// Leases of before cases were noted, in one commit.
const NOTED_AT_ONCE: usize = 500;

/// Kinds that are decided before other requests have their turn on the thread.
const KINDS_AT_ONCE: usize = 256;

/// What leases would lose by a change.
pub(in crate::service) struct Losses {
    /// Leases issued so far; one more, and it has to be looked at again.
    issued: u64,
    /// Those that lose something, by their ids.
    pub(in crate::service) leases: Vec<Loss>,
}

/// What one lease would lose.
pub(in crate::service) struct Loss {
    pub(in crate::service) lease: LeaseId,
    /// All of its cases, before and after.
    pub(in crate::service) cases: Vec<(LeaseCaseRow, LeaseCaseRow)>,
    /// Nothing is left of any of them.
    pub(in crate::service) is_over: bool,
}

/// Which leases a change can concern; none when it changes nothing on which leases are decided.
fn concerned(before: &Tables, after: &Tables) -> Vec<LeaseCases> {
    if before.groups != after.groups || before.posts != after.posts {
        return vec![LeaseCases::All];
    }
    let mut labels: BTreeSet<LabelId> = BTreeSet::new();
    for (one, other) in [(before, after), (after, before)] {
        let differing = one.rules.iter().filter(|(id, rule)| other.rules.get(*id) != Some(*rule));
        labels.extend(differing.map(|(_, rule)| rule.label));
    }
    let closed = |id: &&LabelId| {
        let allows = |tables: &Tables| tables.labels.get(*id).is_some_and(|row| row.lease_by_label);
        allows(before) && !allows(after)
    };
    labels.extend(before.labels.keys().filter(closed));
    let mut parts: Vec<LeaseCases> = labels.into_iter().map(LeaseCases::Label).collect();
    parts.extend(
        before
            .people
            .iter()
            .filter(|(id, old)| {
                after
                    .people
                    .get(*id)
                    .is_none_or(|new| new.memberships != old.memberships || new.disabled != old.disabled)
            })
            .map(|(id, _)| LeaseCases::Person(*id)),
    );
    parts.extend(
        before
            .terminals
            .iter()
            .filter(|(id, old)| {
                after.terminals.get(*id).is_none_or(|new| {
                    new.zone != old.zone
                        || new.tags != old.tags
                        || new.protection != old.protection
                        || new.revoked != old.revoked
                })
            })
            .map(|(id, _)| LeaseCases::Terminal(*id)),
    );
    if parts.len() > MAX_PARTS { vec![LeaseCases::All] } else { parts }
}

/// What of `kind` would be lent between two times, and until when: the first moment at which it would be less ends it.
fn left(directory: &Directory, kind: &LeaseKind, from: Timestamp, until: Timestamp) -> (Rights, Timestamp) {
    let tables = &directory.tables;
    let nothing = (Rights::NONE, from);
    let Some(person) = tables.people.get(&kind.person).filter(|person| !person.disabled) else {
        return nothing;
    };
    let Some(terminal) = tables.terminals.get(&kind.terminal).filter(|terminal| !terminal.revoked) else {
        return nothing;
    };
    let by_label = tables.labels.get(&kind.label).is_some_and(|row| row.lease_by_label);
    if kind.by_label && !by_label {
        return nothing;
    }
    let requester = Requester { person: person.id, memberships: person.memberships.clone() };
    let subject = Subject { label: kind.label, owner_group: kind.owner_group };
    let lent = |now: Timestamp| {
        let context = Context {
            now,
            zone: terminal.zone.clone(),
            terminal_tags: terminal.tags.clone(),
            second_factor: kind.second_factor,
            protection: terminal.protection,
        };
        let decision = directory.policy.decide(&requester, &subject, &context);
        if decision.allows(Right::Offline) { decision.rights.intersection(kind.rights) } else { Rights::NONE }
    };
    let rights = lent(from);
    if rights.is_empty() {
        return nothing;
    }
    let mut time = from;
    while let Some(turn) = directory.next_turn(kind.label, time).filter(|turn| *turn < until) {
        if !rights.minus(lent(turn)).is_empty() {
            return (rights, turn);
        }
        time = turn;
    }
    (rights, until)
}

fn kind_of(case: &LeaseCaseRow) -> LeaseKind {
    LeaseKind {
        person: case.person,
        terminal: case.terminal,
        label: case.left.label,
        owner_group: case.left.owner_group,
        second_factor: case.second_factor,
        by_label: case.by_label,
        rights: case.left.rights,
    }
}

/// The case as the policy leaves it.
fn narrowed(directory: &Directory, case: &LeaseCaseRow, now: Timestamp) -> LeaseCaseRow {
    if case.left.rights.is_empty() {
        return *case;
    }
    let from = now.max(case.starts_at);
    let (rights, ends_at) = left(directory, &kind_of(case), from, case.left.ends_at.max(from));
    let ends_at = ends_at.min(case.left.ends_at);
    if (rights, ends_at) == (case.left.rights, case.left.ends_at) {
        return *case;
    }
    LeaseCaseRow { left: Narrowing { rights, ends_at, ..case.left }, narrowed: true, ..*case }
}

/// What a lease lends, by label and owner group, as its document says.
pub(super) fn cases_of(row: &LeaseRow) -> Result<Vec<LeaseCaseRow>, ServiceError> {
    let damaged = || ServiceError::Internal(format!("the stored lease {} is damaged", row.id));
    let document = row.document.as_ref().ok_or_else(damaged)?;
    let signed: SignedLease = serde_json::from_slice(document).map_err(|_| damaged())?;
    let lease = read_unchecked(&signed).map_err(|_| damaged())?;
    let mut cases: BTreeMap<(LabelId, Option<GroupId>), LeaseCaseRow> = BTreeMap::new();
    for file in &lease.files {
        let left = Narrowing {
            lease: row.id,
            label: file.label,
            owner_group: file.owner_group,
            rights: file.rights,
            ends_at: file.ends_at,
        };
        let case = cases.entry((file.label, file.owner_group)).or_insert(LeaseCaseRow {
            left,
            person: row.person,
            terminal: row.terminal,
            second_factor: row.body.second_factor,
            by_label: row.body.label.is_some(),
            starts_at: row.body.term.starts_at,
            lease_ends_at: row.body.term.ends_at,
            narrowed: false,
        });
        case.left.rights = case.left.rights.union(file.rights);
        case.left.ends_at = case.left.ends_at.max(file.ends_at);
    }
    Ok(cases.into_values().collect())
}

impl Service {
    /// What a change of the tables takes of leases that are out: changes and records that belong in its commit.
    pub(in crate::service) async fn stricter(
        &self,
        before: &Directory,
        after: &Directory,
        record: &Record,
    ) -> Result<(Vec<Change>, Vec<Record>), ServiceError> {
        let now = record.time;
        let Some(losses) = self.losses(before, after, now).await? else {
            return Ok((Vec::new(), Vec::new()));
        };
        let (mut changes, mut records) = (vec![Change::LeasesIssued(losses.issued)], Vec::new());
        let mut all_narrowed = Vec::new();
        for Loss { lease: id, cases, is_over } in losses.leases {
            if is_over {
                let Some(row) = self.store.lease(id).await? else { continue };
                let ends_at = row.body.term.ends_at;
                records.push(because(Act::LeaseRevoke, id, record).detail(format!(
                    "the policy does not give it any more ({}): {}",
                    record.object.as_deref().unwrap_or_default(),
                    super::issue::in_words(&row)
                )));
                let row = ended(row, LeaseState::Revoked, record.person, now);
                changes.push(Change::EndLease(Box::new(row)));
                changes.push(Change::RevokeLease(id, ends_at));
                continue;
            }
            for (before, case) in cases.into_iter().filter(|(before, case)| case != before) {
                records.push(Record {
                    label: Some(case.left.label),
                    rights: Some(case.left.rights),
                    ..because(Act::LeaseNarrow, id, record).detail(format!(
                        "the policy does not give more any more ({}): was {} until {}, is until {}",
                        record.object.as_deref().unwrap_or_default(),
                        before.left.rights,
                        before.left.ends_at,
                        case.left.ends_at
                    ))
                });
                all_narrowed.push(case);
            }
        }
        if !all_narrowed.is_empty() {
            changes.push(Change::NarrowLeases(all_narrowed));
        }
        if changes.len() > 1 {
            // What ended long ago need not be named any more; a day of grace for terminals whose clock is slow.
            let long_ago = now.checked_sub(SignedDuration::from_hours(24)).unwrap_or(now);
            changes.push(Change::ForgetLeaseRevocations(long_ago));
        }
        Ok((changes, records))
    }

    /// What leases that are out would lose by a change of the tables; none where it can concern none. Changes nothing.
    pub(in crate::service) async fn losses(
        &self,
        before: &Directory,
        after: &Directory,
        now: Timestamp,
    ) -> Result<Option<Losses>, ServiceError> {
        let mut issued = None;
        let mut kinds = HashSet::new();
        for part in concerned(&before.tables, &after.tables) {
            let (number, found) = self.store.lease_kinds(part, now).await?;
            issued.get_or_insert(number);
            kinds.extend(found);
        }
        let Some(issued) = issued else { return Ok(None) };
        let mut leases: BTreeMap<LeaseId, Vec<LeaseCaseRow>> = BTreeMap::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            if number % KINDS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            if kind.rights.is_empty()
                || left(after, &kind, now, Timestamp::MAX) == (kind.rights, Timestamp::MAX)
            {
                continue;
            }
            for case in self.store.lease_cases(kind, now).await? {
                let cases = leases.entry(case.left.lease).or_default();
                if !cases.iter().any(|known| known.left.is_of(&case.left)) {
                    cases.push(case);
                }
            }
        }
        let is_over =
            |case: &LeaseCaseRow| case.left.rights.is_empty() || case.left.ends_at <= now.max(case.starts_at);
        let leases = leases.into_iter().filter_map(|(lease, cases)| {
            let cases: Vec<_> = cases.into_iter().map(|case| (case, narrowed(after, &case, now))).collect();
            let loses = cases.iter().any(|(before, after)| before != after);
            let is_over = cases.iter().all(|(_, case)| is_over(case));
            loses.then_some(Loss { lease, cases, is_over })
        });
        Ok(Some(Losses { issued, leases: leases.collect() }))
    }

    /// Notes what leases lend that were issued before this was noted.
    ///
    /// # Errors
    /// The store.
    pub(in crate::service) async fn note_older_leases(&self) -> Result<(), ServiceError> {
        for ids in self.store.leases_without_cases(self.clock.now()).await?.chunks(NOTED_AT_ONCE) {
            let mut cases = Vec::new();
            for id in ids {
                if let Some(row) = self.store.lease(*id).await?
                    && row.document.is_some()
                {
                    match cases_of(&row) {
                        Ok(more) => cases.extend(more),
                        // It is not sent to its terminal either.
                        Err(error) => tracing::error!(lease = %id, %error, "a stored lease is left out"),
                    }
                }
            }
            self.audit.commit(vec![Change::PutLeaseCases(cases)], &[]).await?;
        }
        Ok(())
    }
}

/// A record of what a change did to a lease, by who made the change.
fn because(act: Act, lease: LeaseId, record: &Record) -> Record {
    let who = Who {
        person: record.person,
        terminal: record.terminal,
        session: record.session,
        request: record.request,
        asserted: record.asserted,
    };
    Record::new(act, record.time, who).about("lease", lease)
}

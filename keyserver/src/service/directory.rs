//! The directory: all tables as of one moment with the indexes that requests need, the policy made ready, and
//! the signed bulletin. Requests read one snapshot; each change makes the next one and swaps it in before it
//! is answered, so that no decision after the answer uses the old one.

use super::error::ServiceError;
use super::identity::{self, Identity};
use crate::store::{Change, Digest, LabelKeyRow, PersonRow, Tables, TerminalRow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use tobari_core::crypto::KeyId;
use tobari_core::envelope::Header;
use tobari_core::ids::{GroupId, LabelId, PersonId, TerminalId};
use tobari_core::policy::{Membership, PolicySet};
use tobari_core::proto::admin::Revoked;
use tobari_core::proto::api::NamedMembership;
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::{Bulletin, LabelKeys, Revocations, SignedBulletin};

/// Format of the bulletin.
const BULLETIN_VERSION: u32 = 1;
/// What the bulletin's signature is for.
const BULLETIN_CONTEXT: &str = "tobari/1 bulletin";

/// One moment of the organisation.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The version of the tables in the store.
    pub(crate) version: u64,
    pub(crate) tables: Tables,
    pub(crate) policy: PolicySet,
    pub(crate) bulletin: Bulletin,
    pub(crate) signed_bulletin: SignedBulletin,
    by_fingerprint: HashMap<Digest, TerminalId>,
    by_login: HashMap<String, PersonId>,
    by_key: HashMap<KeyId, (LabelId, u32)>,
    turning_points: HashMap<LabelId, Vec<Timestamp>>,
}

#[derive(Serialize, Deserialize)]
struct BulletinMark {
    number: u64,
    issued_at: Timestamp,
}

impl Directory {
    /// Makes the tables ready. Where what the bulletin says differs from the number that it has, the second
    /// value is the change that gives it the next number; it belongs in the same commit.
    pub(crate) fn new(
        mut tables: Tables,
        identity: &Identity,
        before: Option<&Self>,
        now: Timestamp,
    ) -> Result<(Self, Option<Change>), ServiceError> {
        let policy = PolicySet::new(
            tables.labels.values().map(|row| row.label.clone()).collect(),
            tables.groups.values().map(|group| group.as_ref().clone()).collect(),
            tables.posts.values().map(|post| post.as_ref().clone()).collect(),
            tables.rules.values().map(|rule| rule.as_ref().clone()).collect(),
        )?;
        let stored: Option<BulletinMark> = match tables.settings.get(identity::BULLETIN) {
            None => None,
            Some(value) => Some(
                serde_json::from_slice(value)
                    .map_err(|_| ServiceError::Internal(String::from("the bulletin number is damaged")))?,
            ),
        };
        let mut mark = stored.unwrap_or(BulletinMark { number: 0, issued_at: now });
        let mut bulletin = bulletin(&tables, identity, &mark)?;
        let changed = mark.number == 0 || before.is_some_and(|before| before.bulletin != bulletin);
        let change = if changed {
            mark = BulletinMark { number: mark.number + 1, issued_at: now };
            bulletin.number = mark.number;
            bulletin.issued_at = mark.issued_at;
            let value =
                serde_json::to_vec(&mark).map_err(|error| ServiceError::Internal(error.to_string()))?;
            let change = Change::PutSetting(identity::BULLETIN.to_owned(), value);
            tables.apply(&change);
            Some(change)
        } else {
            None
        };
        let payload =
            serde_json::to_vec(&bulletin).map_err(|error| ServiceError::Internal(error.to_string()))?;
        let signature = identity.signing_key.sign(BULLETIN_CONTEXT, &payload);
        let signed_bulletin =
            SignedBulletin { payload: Base64(payload), signature: Base64(signature), stamp: None };
        let directory = Self {
            // A change makes the next one; whoever loads says which it is.
            version: before.map_or(0, |before| before.version + 1),
            policy,
            bulletin,
            signed_bulletin,
            by_fingerprint: tables
                .terminals
                .values()
                .flat_map(|row| {
                    let next = row.next.map(|next| next.fingerprint);
                    next.into_iter().chain([row.fingerprint]).map(|fingerprint| (fingerprint, row.id))
                })
                .collect(),
            by_login: tables.people.values().map(|row| (row.login_key.clone(), row.id)).collect(),
            by_key: tables.label_keys.values().map(|row| (row.key_id, (row.label, row.generation))).collect(),
            turning_points: turning_points(&tables),
            tables,
        };
        Ok((directory, change))
    }

    /// The terminal that showed the certificate with this fingerprint.
    pub(crate) fn terminal(&self, fingerprint: &Digest) -> Option<&Arc<TerminalRow>> {
        self.tables.terminals.get(self.by_fingerprint.get(fingerprint)?)
    }

    /// The person with this login name, in its compared form.
    pub(crate) fn person_by_login(&self, login_key: &str) -> Option<&Arc<PersonRow>> {
        self.tables.people.get(self.by_login.get(login_key)?)
    }

    /// The label to which a key belongs, and which generation it is; none for a key that was retired.
    pub(crate) fn key_owner(&self, key: &KeyId) -> Option<(LabelId, u32)> {
        let found = self.by_key.get(key).copied()?;
        self.tables.label_keys.get(&found).filter(|row| row.retired_at.is_none()).map(|_| found)
    }

    /// The generation of the label's key that a header needs, where that was retired and no other is there.
    pub(crate) fn retired_key(&self, header: &Header) -> Option<u32> {
        let label = header.policy().label;
        let of_label = |key: &KeyId| self.by_key.get(key).filter(|(owner, _)| *owner == label);
        let mut retired = None;
        for stanza in header.stanzas() {
            match (of_label(&stanza.key_id), self.key_owner(&stanza.key_id)) {
                (Some(_), Some(_)) => return None,
                (Some((_, generation)), None) => retired = Some(*generation),
                (None, _) => {}
            }
        }
        retired
    }

    /// The generation for which the label's files are sealed now.
    pub(crate) fn current_generation(&self, label: LabelId) -> u32 {
        current_key(&self.tables, label).map_or(1, |row| row.generation)
    }

    /// The next time after `now` at which a rule of the label begins or ends to hold: no grant may outlive it.
    pub(crate) fn next_turn(&self, label: LabelId, now: Timestamp) -> Option<Timestamp> {
        self.turning_points.get(&label)?.iter().find(|time| **time > now).copied()
    }

    /// A membership in words: `総務部 部長`.
    pub(crate) fn membership_words(&self, membership: &Membership) -> String {
        let named = self.named(membership);
        format!("{} {}", named.group_name, named.post_name)
    }

    /// A membership with its names; one whose group or post is gone is shown by its id.
    pub(crate) fn named(&self, membership: &Membership) -> NamedMembership {
        let group = self.tables.groups.get(&membership.group);
        let post = self.tables.posts.get(&membership.post);
        NamedMembership {
            membership: *membership,
            group_name: group.map_or_else(|| membership.group.to_string(), |group| group.name.clone()),
            post_name: post.map_or_else(|| membership.post.to_string(), |post| post.name.clone()),
        }
    }

    /// The name of a group that may be gone.
    pub(crate) fn group_name(&self, group: GroupId) -> Option<String> {
        self.tables.groups.get(&group).map(|group| group.name.clone())
    }
}

/// By how much the bulletin's number grows when an older store is taken up: more than it can have grown since.
const LEAP: u64 = 1_000_000;

/// The change that lets the bulletin's number leap.
pub(crate) fn leap(tables: &Tables, now: Timestamp) -> Result<Option<Change>, ServiceError> {
    let Some(value) = tables.settings.get(identity::BULLETIN) else { return Ok(None) };
    let mark: BulletinMark = serde_json::from_slice(value)
        .map_err(|_| ServiceError::Internal(String::from("the bulletin number is damaged")))?;
    let mark = BulletinMark { number: mark.number + LEAP, issued_at: now };
    let value = serde_json::to_vec(&mark).map_err(|error| ServiceError::Internal(error.to_string()))?;
    Ok(Some(Change::PutSetting(identity::BULLETIN.to_owned(), value)))
}

/// The key for which the label's files are sealed.
pub(crate) fn current_key(tables: &Tables, label: LabelId) -> Option<&Arc<LabelKeyRow>> {
    tables.label_keys.range((label, 0)..=(label, u32::MAX)).next_back().map(|(_, row)| row)
}

fn bulletin(tables: &Tables, identity: &Identity, mark: &BulletinMark) -> Result<Bulletin, ServiceError> {
    let mut labels = Vec::with_capacity(tables.labels.len());
    for row in tables.labels.values() {
        let key = current_key(tables, row.label.id)
            .ok_or_else(|| ServiceError::Internal(format!("label {} has no key", row.label.id)))?;
        labels.push(LabelKeys {
            label: row.label.clone(),
            generation: key.generation,
            key: key.public_key.clone(),
            allow_legacy_zip: row.allow_legacy_zip,
            lease_by_label: row.lease_by_label,
            max_bulletin_age_hours: row.max_bulletin_age_hours,
        });
    }
    let mut people: Vec<PersonId> = tables.departed.iter().copied().collect();
    people.extend(tables.people.values().filter(|row| row.disabled).map(|row| row.id));
    people.sort_unstable();
    let (mut revoked_labels, mut files) = (Vec::new(), Vec::new());
    for subject in tables.revocations.keys() {
        match subject {
            Revoked::Label { id } => revoked_labels.push(*id),
            Revoked::File { id } => files.push(*id),
        }
    }
    Ok(Bulletin {
        version: BULLETIN_VERSION,
        organisation: identity.organisation,
        organisation_name: identity.name.clone(),
        number: mark.number,
        issued_at: mark.issued_at,
        labels,
        recovery: identity.recovery.clone(),
        groups: tables.groups.values().map(|group| group.as_ref().clone()).collect(),
        folders: tables.folders.values().map(|folder| folder.as_ref().clone()).collect(),
        revocations: Revocations {
            terminals: tables.terminals.values().filter(|row| row.revoked).map(|row| row.id).collect(),
            people,
            frozen: tables.terminals.values().filter(|row| row.frozen).map(|row| row.id).collect(),
            labels: revoked_labels,
            files,
            leases: tables.revoked_leases.keys().copied().collect(),
            narrowed: tables
                .narrowed_leases
                .values()
                .map(|(narrowing, _)| *narrowing)
                .filter(|narrowing| !tables.revoked_leases.contains_key(&narrowing.lease))
                .collect(),
        },
        gateways: tables
            .terminals
            .values()
            .filter(|row| row.gateway && !row.revoked)
            .map(|row| row.id)
            .collect(),
    })
}

fn turning_points(tables: &Tables) -> HashMap<LabelId, Vec<Timestamp>> {
    let mut points: HashMap<LabelId, Vec<Timestamp>> = HashMap::new();
    for rule in tables.rules.values() {
        let times = rule.conditions.not_before.into_iter().chain(rule.conditions.not_after);
        points.entry(rule.label).or_default().extend(times);
    }
    for times in points.values_mut() {
        times.sort_unstable();
    }
    points
}

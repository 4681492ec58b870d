//! A change before it is made. Every administrative act on the policy is planned first: checked against the directory
//! and turned into changes of the tables. A plan is then looked at (what would it give and take?), kept as a request
//! for a second person, or made.

use super::{groups, labels, people, posts, rules, terminals};
use crate::audit::{Act, Record, Who};
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::{self, Judged, Warrant};
use crate::service::{Caller, Changing, Service, grants, leases};
use crate::store::{Change, Tables};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tobari_core::crypto::{KeyId, RecipientPrivateKey};
use tobari_core::ids::{GroupId, InvariantId, LabelId, LeaseId, PersonId, PostId, RuleId, TerminalId};
use tobari_core::policy::Policy;
use tobari_core::proto::admin::{
    GroupInput, LabelInput, PersonInput, PostInput, RevocationInput, Role, RuleInput,
};
use tobari_core::proto::lease::LeaseIssue;
use tobari_core::proto::policy::{
    ChangeInput, Collection, InvariantInput, RetireInput, SecondPersonInput, UnsealLimitInput,
    UnsealWindowInput, Widening,
};
use zeroize::Zeroizing;

/// Who makes a plan, with the roles that count.
#[derive(Debug, Clone)]
pub(crate) struct Acting {
    pub(crate) who: Who,
    pub(crate) roles: Vec<Role>,
}

impl From<&Caller> for Acting {
    fn from(caller: &Caller) -> Self {
        Self { who: caller.who(), roles: caller.roles().to_vec() }
    }
}

/// What would be done.
pub(crate) struct Plan<T> {
    pub(crate) changes: Vec<Change>,
    pub(crate) record: Record,
    pub(crate) output: T,
    /// Keys for the ring, before the bulletin names them.
    pub(crate) keys: Vec<RecipientPrivateKey>,
    /// Whose sessions end.
    pub(crate) ends: Option<PersonId>,
    /// Why it needs a second person, besides what the tables show.
    pub(crate) widens: Vec<Widening>,
    /// What is looked at when it is approved, besides what it gives and takes: when that is another when it is applied, the approval
    /// is void.
    pub(crate) seen: String,
    /// It takes a second person even where that rule is off.
    pub(crate) needs_approval: bool,
    /// Keys that are no more, once it is done.
    pub(crate) forgets: Vec<KeyId>,
}

impl<T> Plan<T> {
    pub(crate) fn new(changes: Vec<Change>, record: Record, output: T) -> Self {
        Self {
            changes,
            record,
            output,
            keys: Vec::new(),
            ends: None,
            widens: Vec::new(),
            seen: String::new(),
            needs_approval: false,
            forgets: Vec::new(),
        }
    }

    /// The tables after it.
    pub(crate) fn after(&self, before: &Tables) -> Tables {
        let mut tables = before.clone();
        self.changes.iter().for_each(|change| tables.apply(change));
        tables
    }
}

impl<T: Serialize> Plan<T> {
    fn json(self) -> Result<Plan<serde_json::Value>, ServiceError> {
        let Self { changes, record, output, keys, ends, widens, seen, needs_approval, forgets } = self;
        let output =
            serde_json::to_value(&output).map_err(|error| ServiceError::Internal(error.to_string()))?;
        Ok(Plan { changes, record, output, keys, ends, widens, seen, needs_approval, forgets })
    }
}

/// An administrative act as data, with the id that a new object will have.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deed {
    PutLabel(LabelId, LabelInput),
    RotateLabel(LabelId),
    PutGroup(GroupId, GroupInput),
    DeleteGroup(GroupId),
    PutPost(PostId, PostInput),
    DeletePost(PostId),
    PutRule(RuleId, RuleInput),
    DeleteRule(RuleId),
    /// The input without its password, and the hash of that.
    PutPerson(PersonId, PersonInput, Option<String>),
    DeletePerson(PersonId),
    PutInvariant(InvariantId, InvariantInput),
    DeleteInvariant(InvariantId),
    Preset(String),
    Restore(u64),
    SecondPerson(SecondPersonInput),
    LiftRevocation(RevocationInput),
    Unfreeze(TerminalId),
    ApproveLease(LeaseId),
    /// A lease that nobody asked for, with the id that it will have.
    IssueLease(LeaseId, Box<LeaseIssue>),
    RetireKey(LabelId, RetireInput),
    UnsealLimit(UnsealLimitInput),
    UnsealWindow(PersonId, UnsealWindowInput),
}

impl Deed {
    /// The roles that it needs, all of them.
    pub(crate) fn roles(&self) -> &'static [Role] {
        match self {
            Self::PutLabel(..) | Self::RotateLabel(_) | Self::RetireKey(..) => labels::ROLES,
            Self::Unfreeze(_) => terminals::ROLES,
            Self::ApproveLease(_) | Self::IssueLease(..) => leases::LEASES,
            Self::Preset(_) | Self::Restore(_) => &[Role::KeyCustodian, Role::Policy],
            Self::PutGroup(..)
            | Self::DeleteGroup(_)
            | Self::PutPost(..)
            | Self::DeletePost(_)
            | Self::PutRule(..)
            | Self::DeleteRule(_)
            | Self::PutPerson(..)
            | Self::DeletePerson(_)
            | Self::PutInvariant(..)
            | Self::DeleteInvariant(_)
            | Self::SecondPerson(_)
            | Self::LiftRevocation(_)
            | Self::UnsealLimit(_)
            | Self::UnsealWindow(..) => super::POLICY,
        }
    }

    /// Whether it is made by the service of leases, since keys are released for it.
    pub(crate) fn is_of_leases(&self) -> bool {
        matches!(self, Self::ApproveLease(_) | Self::IssueLease(..))
    }
}

fn input<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, ServiceError> {
    serde_json::from_value(value).map_err(|error| ServiceError::invalid("input", error.to_string()))
}

fn given<T: DeserializeOwned>(value: Option<serde_json::Value>) -> Result<T, ServiceError> {
    input(value.ok_or_else(|| ServiceError::invalid("input", "missing"))?)
}

fn this(named: Option<String>) -> Result<String, ServiceError> {
    named.ok_or_else(|| ServiceError::invalid("id", "missing"))
}

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ServiceError> {
    text.parse().map_err(|error: T::Err| ServiceError::invalid("id", error.to_string()))
}

impl Service {
    /// Reads a change. A password is hashed here, so that what is kept holds none.
    pub(crate) async fn deed(&self, change: ChangeInput) -> Result<Deed, ServiceError> {
        let ChangeInput { collection, id: named, input: value, reason: _ } = change;
        macro_rules! object {
            ($kind:literal, $id:ty, $known:expr, $put:expr, $delete:expr) => {{
                let known = |one: &$id| -> bool { $known(&self.directory.load().tables, one) };
                let of = match &named {
                    Some(text) => {
                        let one: $id = id(text)?;
                        if !known(&one) {
                            return Err(ServiceError::NotFound($kind));
                        }
                        one
                    }
                    None => <$id>::generate(),
                };
                match value {
                    Some(value) => $put(of, input(value)?),
                    None if named.is_some() => $delete(of),
                    None => return Err(ServiceError::invalid("input", "missing")),
                }
            }};
        }
        Ok(match collection {
            Collection::Labels if value.is_none() && named.is_some() => return Err(labels::never_deleted()),
            Collection::Labels => object!(
                "label",
                LabelId,
                |tables: &Tables, id: &LabelId| tables.labels.contains_key(id),
                Deed::PutLabel,
                Deed::RotateLabel
            ),
            Collection::Groups => object!(
                "group",
                GroupId,
                |tables: &Tables, id: &GroupId| tables.groups.contains_key(id),
                Deed::PutGroup,
                Deed::DeleteGroup
            ),
            Collection::Posts => object!(
                "post",
                PostId,
                |tables: &Tables, id: &PostId| tables.posts.contains_key(id),
                Deed::PutPost,
                Deed::DeletePost
            ),
            Collection::Rules => object!(
                "rule",
                RuleId,
                |tables: &Tables, id: &RuleId| tables.rules.contains_key(id),
                Deed::PutRule,
                Deed::DeleteRule
            ),
            Collection::Invariants => object!(
                "invariant",
                InvariantId,
                |tables: &Tables, id: &InvariantId| tables.invariants.contains_key(id),
                Deed::PutInvariant,
                Deed::DeleteInvariant
            ),
            Collection::People => {
                let deed = object!(
                    "person",
                    PersonId,
                    |tables: &Tables, id: &PersonId| tables.people.contains_key(id),
                    |id, input| Deed::PutPerson(id, input, None),
                    Deed::DeletePerson
                );
                match deed {
                    Deed::PutPerson(id, mut input, _) => {
                        people::check(&self.directory.load().tables, &input)?;
                        let hash = match input.password.take() {
                            Some(password) => Some(self.passwords.hash(Zeroizing::new(password)).await?),
                            None => None,
                        };
                        Deed::PutPerson(id, input, hash)
                    }
                    deed => deed,
                }
            }
            Collection::LabelKeys => {
                Deed::RotateLabel(id(&named.ok_or_else(|| ServiceError::invalid("id", "missing"))?)?)
            }
            Collection::Presets => Deed::Preset(named.ok_or_else(|| ServiceError::invalid("id", "missing"))?),
            Collection::Versions => {
                let named = named.ok_or_else(|| ServiceError::invalid("id", "missing"))?;
                Deed::Restore(named.parse().map_err(|_| ServiceError::invalid("id", "must be a number"))?)
            }
            Collection::SecondPerson => Deed::SecondPerson(given(value)?),
            Collection::RevocationLifts => Deed::LiftRevocation(given(value)?),
            Collection::Unfreezings => Deed::Unfreeze(id(&this(named)?)?),
            Collection::Leases => match (named, value) {
                (Some(lease), None) => Deed::ApproveLease(id(&lease)?),
                (None, value) => Deed::IssueLease(LeaseId::generate(), Box::new(given(value)?)),
                (Some(_), Some(_)) => {
                    return Err(ServiceError::invalid("input", "a lease that was asked for stays as it is"));
                }
            },
            Collection::RetiredKeys => Deed::RetireKey(id(&this(named)?)?, given(value)?),
            Collection::UnsealLimit => Deed::UnsealLimit(given(value)?),
            Collection::UnsealWindows => Deed::UnsealWindow(id(&this(named)?)?, given(value)?),
        })
    }

    /// Plans an act on the directory as it is.
    pub(crate) async fn plan(
        &self,
        acting: &Acting,
        directory: &Directory,
        deed: &Deed,
    ) -> Result<Plan<serde_json::Value>, ServiceError> {
        match deed.clone() {
            Deed::PutLabel(id, input) => self.plan_label(acting, directory, id, input).await?.json(),
            Deed::RotateLabel(id) => self.plan_rotation(acting, directory, id).await?.json(),
            Deed::PutGroup(id, input) => self.plan_group(acting, directory, id, input).json(),
            Deed::DeleteGroup(id) => self.plan_no_group(acting, directory, id)?.json(),
            Deed::PutPost(id, input) => self.plan_post(acting, directory, id, input).json(),
            Deed::DeletePost(id) => self.plan_no_post(acting, directory, id)?.json(),
            Deed::PutRule(id, input) => self.plan_rule(acting, directory, id, input)?.json(),
            Deed::DeleteRule(id) => self.plan_no_rule(acting, directory, id)?.json(),
            Deed::PutPerson(id, input, hash) => self.plan_person(acting, directory, id, input, hash)?.json(),
            Deed::DeletePerson(id) => self.plan_no_person(acting, directory, id)?.json(),
            Deed::PutInvariant(id, input) => self.plan_invariant(acting, directory, id, input)?.json(),
            Deed::DeleteInvariant(id) => self.plan_no_invariant(acting, directory, id)?.json(),
            Deed::Preset(name) => self.plan_preset(acting, directory, &name).await?.json(),
            Deed::Restore(version) => self.plan_restore(acting, directory, version).await?.json(),
            Deed::SecondPerson(input) => self.plan_second_person(acting, directory, input)?.json(),
            Deed::LiftRevocation(input) => self.plan_lift(acting, directory, &input)?.json(),
            Deed::Unfreeze(id) => self.plan_unfreezing(acting, directory, id).await?.json(),
            Deed::ApproveLease(id) => self.plan_lease_approval(acting, directory, id).await?.json(),
            Deed::IssueLease(id, issue) => self.plan_lease_issue(acting, directory, id, &issue).await?.json(),
            Deed::RetireKey(id, input) => self.plan_retirement(acting, directory, id, input).await?.json(),
            Deed::UnsealLimit(input) => self.plan_unseal_limit(acting, input)?.json(),
            Deed::UnsealWindow(person, input) => {
                self.plan_unseal_window(acting, directory, person, input)?.json()
            }
        }
    }

    /// A record of an act by somebody.
    pub(crate) fn acted(&self, act: Act, acting: &Acting, kind: &str, id: impl std::fmt::Display) -> Record {
        Record::new(act, self.clock.now(), acting.who).about(kind, id)
    }

    /// What a plan would give and take.
    pub(crate) async fn judge_plan<T>(
        &self,
        directory: &Directory,
        plan: &Plan<T>,
    ) -> Result<Judged, ServiceError> {
        let (before, after) = (directory.tables.clone(), plan.after(&directory.tables));
        let (by, now) = (plan.record.person, self.clock.now());
        let judged = grants::compute(move || judge::judge(&before, &after, by, now)).await??;
        Ok(judged.with(&directory.tables, &plan.widens, &plan.seen))
    }

    /// Makes it.
    pub(crate) async fn settle<T>(
        &self,
        changing: &Changing<'_>,
        plan: Plan<T>,
        warrant: &Warrant,
    ) -> Result<T, ServiceError> {
        let Plan { changes, record, output, keys, ends, forgets, needs_approval, .. } = plan;
        if needs_approval && warrant.approval.is_none() {
            return Err(ServiceError::SecondPersonNeeded);
        }
        // In the ring first: as soon as the bulletin names a key, files are sealed for it.
        keys.into_iter().for_each(|key| self.keys.add(key));
        self.change_on(changing, changes, record, warrant).await?;
        forgets.iter().for_each(|key| self.keys.forget(key));
        if let Some(person) = ends {
            self.sessions.end_of_person(person);
        }
        Ok(output)
    }

    async fn plan_restore(
        &self,
        acting: &Acting,
        directory: &Directory,
        version: u64,
    ) -> Result<Plan<u64>, ServiceError> {
        let missing = ServiceError::NotFound("version");
        if version == 0 || version > directory.tables.policy_version {
            return Err(missing);
        }
        let policy: Policy = self.store.policy_of(version).await?.ok_or(missing)?;
        let tables = &directory.tables;
        let mut changes = Vec::new();
        // First what is taken away, so that names are free.
        let gone_rules = tables.rules.keys().filter(|id| !policy.rules.iter().any(|rule| rule.id == **id));
        changes.extend(gone_rules.map(|id| Change::DeleteRule(*id)));
        for (id, group) in &tables.groups {
            if !policy.groups.iter().any(|one| one.id == *id) {
                let without = |by: &str| !by.starts_with("rule ") && !by.starts_with("group ");
                let by = groups::user(tables, *id).filter(|by| without(by));
                Self::refuse_reference(&format!("group {}", group.name), by)?;
                changes.push(Change::DeleteGroup(*id));
            }
        }
        for (id, post) in &tables.posts {
            if !policy.posts.iter().any(|one| one.id == *id) {
                let by = posts::user(tables, *id).filter(|by| !by.starts_with("rule "));
                Self::refuse_reference(&format!("post {}", post.name), by)?;
                changes.push(Change::DeletePost(*id));
            }
        }
        // Labels stay, with their keys; those that there were get their name and level back.
        for label in policy.labels {
            if let Some(row) = tables.labels.get(&label.id).filter(|row| row.label != label) {
                changes.push(Change::PutLabel(crate::store::LabelRow { label, ..row.as_ref().clone() }));
            }
        }
        let new = |group: &tobari_core::policy::Group| {
            tables.groups.get(&group.id).is_none_or(|one| **one != *group)
        };
        changes.extend(policy.groups.into_iter().filter(new).map(Change::PutGroup));
        let new =
            |post: &tobari_core::policy::Post| tables.posts.get(&post.id).is_none_or(|one| **one != *post);
        changes.extend(policy.posts.into_iter().filter(new).map(Change::PutPost));
        let new =
            |rule: &tobari_core::policy::Rule| tables.rules.get(&rule.id).is_none_or(|one| **one != *rule);
        changes.extend(policy.rules.into_iter().filter(new).map(Change::PutRule));
        let record = self
            .acted(Act::Update, acting, "policy", version)
            .detail(format!("returned to version {version}, {} changes", changes.len()));
        Ok(Plan::new(changes, record, version))
    }

    fn plan_second_person(
        &self,
        acting: &Acting,
        directory: &Directory,
        input: SecondPersonInput,
    ) -> Result<Plan<SecondPersonInput>, ServiceError> {
        if input.needed && judge::approvers(&directory.tables) < 2 {
            return Err(ServiceError::conflict(
                "needed",
                "it takes two people with the role policy and an authenticator, or nobody could approve",
            ));
        }
        let value: &[u8] = if input.needed { b"on" } else { b"off" };
        let record = self
            .acted(Act::Update, acting, "setting", judge::SECOND_PERSON)
            .detail(if input.needed { "on" } else { "off" });
        let change = Change::PutSetting(judge::SECOND_PERSON.to_owned(), value.to_vec());
        Ok(Plan::new(vec![change], record, input))
    }
}

pub(super) use rules::MAX_NOTE as MAX_REASON;

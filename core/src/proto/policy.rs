//! The key server's API for policy at work: explaining decisions, comparing before a change, invariants, versions,
//! and changes that need a second person.

use crate::ids::{ChangeRequestId, GroupId, LabelId, LeaseId, PersonId, PostId, TerminalId};
use crate::policy::{Case, GroupScope, LabelScope, Policy, PostScope, Protection, Right, Rights};
use crate::proto::api::Reason;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Most differences of one kind in an answer; the totals say how many there are.
pub const MAX_DIFFERENCES: usize = 3000;
/// Most leases in an answer of which a change takes something; the total says how many there are.
pub const MAX_LEASES: usize = 20;
/// Most parts of one of them.
pub const MAX_LEASE_PARTS: usize = 10;

/// `POST /v1/admin/explain`: what may this person do, and by which rules?
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The person.
    pub person: PersonId,
    /// The label of the file.
    pub label: LabelId,
    /// The group that owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_group: Option<GroupId>,
    /// The right.
    pub right: Right,
    /// The zone of the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The tags of the terminal.
    #[serde(default)]
    pub terminal_tags: Vec<String>,
    /// Whether the session has a second factor.
    #[serde(default)]
    pub second_factor: bool,
    /// How the terminal's keys are kept.
    #[serde(default, skip_serializing_if = "Protection::is_none")]
    pub protection: Protection,
    /// When; now when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub at: Option<Timestamp>,
}

/// The answer: what a grant would be decided on, and by which rules.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// Whether the right is given.
    pub allowed: bool,
    /// All rights that are.
    pub rights: Rights,
    /// The rules that speak of the right and apply; none means that no rule gives it.
    pub reasons: Vec<Reason>,
    /// The person is shut out, and so gets nothing whatever the rules say.
    pub disabled: bool,
    /// Login name.
    pub login: String,
    /// The label's name.
    pub label_name: String,
    /// The version of the policy.
    pub policy_version: u64,
}

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Collection {
    /// `/v1/admin/labels`.
    Labels,
    /// The next key of a label, `/v1/admin/labels/{id}/rotate`: `id` alone.
    LabelKeys,
    /// `/v1/admin/groups`.
    Groups,
    /// `/v1/admin/posts`.
    Posts,
    /// `/v1/admin/people`.
    People,
    /// `/v1/admin/rules`.
    Rules,
    /// `/v1/admin/invariants`.
    Invariants,
    /// `/v1/admin/presets`: `id` is the name.
    Presets,
    /// A roll-back: `id` is the number of the version to return to.
    Versions,
    /// Whether a second person is needed: `input` is [`SecondPersonInput`].
    SecondPerson,
    /// Lifts a revocation, `/v1/admin/revocations/lift`: `input` is its body.
    RevocationLifts,
    /// Lets a frozen terminal in again: `id` alone.
    Unfreezings,
    /// Approves a lease that was asked for, `/v1/admin/leases/{id}/approve`, with `id` alone; or issues one, with `input` alone.
    Leases,
    /// Takes a generation of a label's key away, `/v1/admin/labels/{id}/retire`: `id` and `input`, a [`RetireInput`].
    RetiredKeys,
    /// How many files one person may unseal within an hour: `input` is [`UnsealLimitInput`].
    UnsealLimit,
    /// More than that for one person, for a while: `id` is the person, `input` an [`UnsealWindowInput`].
    UnsealWindows,
}

/// A change as data: creates without `id`, replaces with both, deletes without `input`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeInput {
    /// Of what.
    pub collection: Collection,
    /// Which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The object, as its own route takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub input: Option<serde_json::Value>,
    /// Why; kept with the version and the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl std::fmt::Debug for ChangeInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The input may hold a password.
        let Self { collection, id, input: _, reason } = self;
        f.debug_struct("ChangeInput")
            .field("collection", collection)
            .field("id", id)
            .field("reason", reason)
            .finish_non_exhaustive()
    }
}

/// One line of a comparison: rights that are gained, or lost, by a post in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffRow {
    /// The person, where it is about one; else everybody with this post in this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// Login name of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The post.
    pub post: PostId,
    /// Its name.
    pub post_name: String,
    /// The group.
    pub group: GroupId,
    /// Its path.
    pub group_name: String,
    /// The label.
    pub label: LabelId,
    /// Its name.
    pub label_name: String,
    /// The rights.
    pub rights: Rights,
    /// The zone; absent is every zone that no rule of the label names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Only in these cases; empty is in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Case>,
}

/// Why a change needs a second person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Widening {
    /// It gives a right that was not there.
    Rights,
    /// There were too many cases to compare, so nothing is known.
    Unknown,
    /// It changes the key of a label.
    Keys,
    /// It lowers a label's level, or lets its password-ZIPs use the weak old encryption.
    Label,
    /// It makes somebody an administrator, or changes how an administrator logs in.
    Administrator,
    /// It takes an invariant away or changes it.
    Invariant,
    /// It does away with the second person.
    SecondPerson,
    /// It lifts a revocation or lets a frozen terminal in again.
    Revocation,
    /// It lends files of the highest label.
    Lease,
    /// It lets somebody unseal many files.
    Unsealing,
}

/// What a change gives and takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyDiff {
    /// The version of the policy with which it was compared.
    pub policy_version: u64,
    /// Allowed after, not before.
    pub gained: Vec<DiffRow>,
    /// Allowed before, not after.
    pub lost: Vec<DiffRow>,
    /// Lines gained in all; more than are listed above [`MAX_DIFFERENCES`].
    pub gained_total: u64,
    /// Lines lost in all.
    pub lost_total: u64,
    /// Why it needs a second person where that rule is on; empty when it does not.
    pub widens: Vec<Widening>,
    /// Invariants that it breaks, each with an example.
    pub breaks: Vec<BrokenInvariant>,
    /// Whether it must be requested and approved.
    pub needs_second_person: bool,
    /// What it takes of leases that are out.
    #[serde(default)]
    pub leases: LeaseLosses,
}

/// What a change takes of leases that are out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseLosses {
    /// How many lose something.
    pub total: u64,
    /// How many of these are taken back, because nothing is left of them.
    pub ended: u64,
    /// The first [`MAX_LEASES`] by their ids.
    pub first: Vec<LeaseLoss>,
}

/// What a change takes of one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseLoss {
    /// The lease.
    pub lease: LeaseId,
    /// Who holds it.
    pub person: PersonId,
    /// Login name.
    pub login: String,
    /// On which terminal.
    pub terminal: TerminalId,
    /// Its name.
    pub terminal_name: String,
    /// Whether it is taken back, because nothing is left of it.
    pub ended: bool,
    /// The first [`MAX_LEASE_PARTS`] parts that lose something.
    pub parts: Vec<LeaseLossPart>,
    /// How many such parts there are.
    pub parts_total: u64,
}

/// What a change takes of a lease for its files of one label and owner group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseLossPart {
    /// The label of the files.
    pub label: LabelId,
    /// Its name.
    pub label_name: String,
    /// Their owner group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_group: Option<GroupId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// The rights that it loses at once.
    pub lost: Rights,
    /// The rights that are left.
    pub left: Rights,
    /// Until when these are left.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub until: Timestamp,
    /// Until when all of them would have been.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub was_until: Timestamp,
}

/// An invariant that does not hold, by one example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BrokenInvariant {
    /// Its name.
    pub name: String,
    /// A post that would have the right.
    pub post_name: String,
    /// In this group.
    pub group_name: String,
    /// On this label.
    pub label_name: String,
    /// The right.
    pub right: Right,
}

/// `POST` and `PUT /v1/admin/invariants`: what must never be, that somebody with such a post in such a group has one of the rights on
/// such a label.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InvariantInput {
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
    #[serde(default)]
    pub zones: Vec<String>,
    /// Only in sessions without a second factor.
    #[serde(default)]
    pub without_second_factor: bool,
}

/// One change of the policy; `GET /v1/admin/policy/versions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyVersion {
    /// Its number, from 1 without gaps.
    pub version: u64,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// Who: login name then; empty for what was there before versions were kept.
    pub login: String,
    /// What: `create`, `update`, `delete`, …
    pub act: String,
    /// The object, `kind/id`.
    pub object: String,
    /// In words.
    pub detail: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The request that was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ChangeRequestId>,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<PersonId>,
}

/// `GET /v1/admin/policy/versions/{version}`: a version and the policy as of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyAt {
    /// Who, when, what, why.
    #[serde(flatten)]
    pub version: PolicyVersion,
    /// Labels, groups, posts and rules.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub policy: Policy,
}

/// `GET /v1/admin/policy`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyStatus {
    /// The last version; 0 before the first change.
    pub version: u64,
    /// Whether acts that widen access need a second person.
    pub second_person: bool,
    /// Whether that was set; else it begins with the second administrator who could approve.
    pub set: bool,
    /// People who could approve: enabled, with the role `policy` and an authenticator.
    pub approvers: u64,
    /// How many files one person may unseal within an hour without a second person; absent means any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseal_files: Option<u32>,
    /// Who may unseal more at the moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseal_windows: Vec<UnsealWindow>,
}

/// Somebody may unseal more files than others for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnsealWindow {
    /// Who.
    pub person: PersonId,
    /// Login name.
    pub login: String,
    /// How many files, from its beginning on.
    pub files: u32,
    /// Its end.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub ends_at: Timestamp,
}

/// How many files one person may unseal within an hour without a second person.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UnsealLimitInput {
    /// So many, 1 to 100,000; absent or null means any number.
    #[serde(default)]
    pub files: Option<u32>,
}

/// More files for one person.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UnsealWindowInput {
    /// How many files, 1 to 100,000.
    pub files: u32,
    /// For how many minutes from the moment at which it is applied, 1 to 1440.
    pub minutes: u32,
}

/// `POST /v1/admin/labels/{id}/retire`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RetireInput {
    /// The generation; never the current one.
    pub generation: u32,
    /// Also while files are known to need it, or may: takes a second person, whatever the rule says.
    #[serde(default)]
    pub force: bool,
}

/// Whether a second person is needed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SecondPersonInput {
    /// Whether it is.
    pub needed: bool,
}

/// `POST /v1/admin/step-up`: a fresh code of the caller's authenticator.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StepUpRequest {
    /// The code.
    pub totp: String,
}

impl std::fmt::Debug for StepUpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StepUpRequest")
    }
}

/// Until when the code counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SteppedUp {
    /// The end.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub until: Timestamp,
}

/// Why somebody approves, refuses or takes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReasonInput {
    /// Why.
    pub reason: String,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RequestProgress {
    /// Waits for a second person.
    Pending,
    /// Waits to be applied.
    Approved,
    /// Was refused or taken back.
    Refused,
    /// Is done.
    Applied,
    /// Was neither in time.
    Expired,
}

/// A change that waits for a second person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeRequest {
    /// Identity.
    pub id: ChangeRequestId,
    /// How far it has come.
    pub state: RequestProgress,
    /// What, in words.
    pub summary: String,
    /// Who asks.
    pub requested_by: PersonId,
    /// Login name.
    pub requested_by_login: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub requested_at: Timestamp,
    /// Why.
    pub reason: String,
    /// Until when it can be applied.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// Who approved or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<PersonId>,
    /// Login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by_login: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_reason: Option<String>,
    /// What it gives and takes.
    pub diff: PolicyDiff,
}

//! The key server's administration API, `/v1/admin/…`. Each collection has `GET` (list), `POST` (create),
//! `GET /{id}`, `PUT /{id}` (replace) and `DELETE /{id}`; creating answers with the object and its id.

use super::base64::Base64;
use super::terminal::Reported;
use crate::ids::{FileId, GroupId, LabelId, PersonId, RuleId, TerminalId};
use crate::policy::{Conditions, Effect, GroupSelector, Membership, PostSelector, Protection, Rights};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A power over the key server. None of them gives a right over files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Labels and their keys.
    KeyCustodian,
    /// Groups, posts, people, rules and folders.
    Policy,
    /// Terminals and enrolment tokens.
    Terminals,
    /// Leases (a later release acts on it).
    Leases,
    /// Reads the audit log.
    Auditor,
}

/// How a label's keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// RSA-2048 with OAEP.
    #[default]
    Rsa2048,
    /// RSA-2048 and ML-KEM-768; both are needed to open.
    Rsa2048Mlkem768,
}

/// `POST` and `PUT /v1/admin/labels`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LabelInput {
    /// Name, unique.
    pub name: String,
    /// Level, 0 to 1000.
    pub level: u16,
    /// How the key is made; looked at when the label is created.
    #[serde(default)]
    pub key_kind: KeyKind,
    /// Whether password-ZIPs of its files may use legacy ZipCrypto.
    #[serde(default)]
    pub allow_legacy_zip: bool,
    /// Whether a lease may be asked for all of its files at once.
    #[serde(default)]
    pub lease_by_label: bool,
    /// Without the key server, its files open only on terminals to which the revocations in force were confirmed within so many hours,
    /// 1 to 8784; absent means that it does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bulletin_age_hours: Option<u32>,
}

/// A label as the administration sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LabelRecord {
    /// Identity.
    pub id: LabelId,
    /// Fields.
    #[serde(flatten)]
    pub label: LabelInput,
    /// Generation of the current key.
    pub generation: u32,
    /// Key id of the current key.
    pub key_id: String,
    /// Earlier generations whose keys were retired: what is still sealed for them opens with the recovery key alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<u32>,
}

/// `POST` and `PUT /v1/admin/groups`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupInput {
    /// Name, unique among its siblings.
    pub name: String,
    /// The group above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GroupId>,
}

/// `POST` and `PUT /v1/admin/posts`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PostInput {
    /// Name, unique.
    pub name: String,
    /// Rank, 0 to 1000.
    pub rank: u16,
}

/// `POST` and `PUT /v1/admin/people`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PersonInput {
    /// Login name; compared after NFKC and case folding.
    pub login: String,
    /// Display name.
    pub name: String,
    /// New password; absent on `PUT` keeps the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether to make a new TOTP secret, which the answer then carries once.
    #[serde(default)]
    pub new_totp: bool,
    /// Memberships.
    #[serde(default)]
    pub memberships: Vec<Membership>,
    /// Administrator roles.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Whether the person is shut out.
    #[serde(default)]
    pub disabled: bool,
}

impl std::fmt::Debug for PersonInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PersonInput").field("login", &self.login).finish_non_exhaustive()
    }
}

/// A person as the administration sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PersonRecord {
    /// Identity.
    pub id: PersonId,
    /// Login name.
    pub login: String,
    /// Display name.
    pub name: String,
    /// Memberships.
    pub memberships: Vec<Membership>,
    /// Administrator roles.
    pub roles: Vec<Role>,
    /// Whether the person is shut out.
    pub disabled: bool,
    /// Whether a TOTP secret is set.
    pub has_totp: bool,
    /// `otpauth://` URI of a secret just made; shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otpauth: Option<String>,
}

/// `POST` and `PUT /v1/admin/rules`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleInput {
    /// The label.
    pub label: LabelId,
    /// Which groups.
    pub groups: GroupSelector,
    /// Which posts.
    pub posts: PostSelector,
    /// What else must hold.
    #[serde(default)]
    pub conditions: Conditions,
    /// Allow or deny.
    pub effect: Effect,
    /// Rights given or taken.
    pub rights: Rights,
    /// A remark.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// `POST` and `PUT /v1/admin/folders`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FolderInput {
    /// The terminal on which it lies.
    pub terminal: TerminalId,
    /// Absolute path there.
    pub path: String,
    /// Label given to what lands.
    pub label: LabelId,
    /// The group that owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_group: Option<GroupId>,
    /// Glob patterns of what is left alone.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// `PUT /v1/admin/terminals/{id}`. Terminals are created by enrolment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TerminalInput {
    /// Name for people.
    pub name: String,
    /// Zone, such as `LGWAN接続系`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Tags, such as `持ち出し端末`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether it is shut out, now and for good.
    #[serde(default)]
    pub revoked: bool,
    /// Whether it is a gateway, which may speak for the people whom its share authenticated.
    #[serde(default)]
    pub gateway: bool,
}

/// A terminal as the administration sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalRecord {
    /// Identity.
    pub id: TerminalId,
    /// Fields.
    #[serde(flatten)]
    pub terminal: TerminalInput,
    /// When its certificate ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub certificate_expires_at: Timestamp,
    /// Last contact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub last_seen_at: Option<Timestamp>,
    /// Whether it is shut out until it is let in again; its sessions stay. Changed by freezing and unfreezing alone.
    #[serde(default)]
    pub frozen: bool,
    /// How its private keys are kept, as it claims.
    #[serde(default)]
    pub protection: Protection,
    /// Leases that it has out: issued, and not ended.
    #[serde(default)]
    pub leases: u32,
    /// What it told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Reported>,
}

/// What a revocation is about, beside people and terminals, which have their own fields for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Revoked {
    /// All files of a label.
    Label {
        /// The label.
        id: LabelId,
    },
    /// One file, with all its copies.
    File {
        /// The file, as its header names it.
        id: FileId,
    },
}

impl std::fmt::Display for Revoked {
    /// As audit records name it: `label/ID`, `file/ID`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Label { id } => write!(f, "label/{id}"),
            Self::File { id } => write!(f, "file/{id}"),
        }
    }
}

/// `POST /v1/admin/revocations` and `POST /v1/admin/revocations/lift`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevocationInput {
    /// What is revoked, or not any more.
    #[serde(flatten)]
    pub subject: Revoked,
    /// Why, for the administrators and the audit log; users are not shown it.
    pub reason: String,
}

/// A revocation in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevocationRecord {
    /// What is revoked.
    #[serde(flatten)]
    pub subject: Revoked,
    /// Why.
    pub reason: String,
    /// By whom.
    pub revoked_by: PersonId,
    /// Since when.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub revoked_at: Timestamp,
}

/// `POST /v1/admin/enrolment-tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenInput {
    /// Zone of the terminal to be enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How long the token is good, in seconds; at most 7 days.
    #[serde(default = "default_token_seconds")]
    pub valid_seconds: u32,
}

fn default_token_seconds() -> u32 {
    3600
}

/// A fresh one-time enrolment token; shown once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolmentToken {
    /// The token.
    pub token: String,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// SHA-256 of the server's CA certificate (DER), in hexadecimal, for the terminal to pin.
    pub ca_sha256: String,
}

/// `POST /v1/admin/presets/{name}`: adds the labels, posts and rules of a preset.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PresetApplied {
    /// The preset.
    pub preset: String,
    /// Labels made.
    pub labels: Vec<LabelRecord>,
    /// Posts made.
    pub posts: Vec<crate::policy::Post>,
    /// Rules made.
    pub rules: Vec<RuleId>,
}

/// One audit record; `GET /v1/admin/audit?after=SEQUENCE&limit=N`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// Sequence number, from 1 without gaps.
    pub sequence: u64,
    /// The record, as canonical JSON bytes that were hashed.
    pub payload: Base64,
    /// SHA-256(previous hash ‖ payload), hexadecimal.
    pub hash: String,
}

/// A page of the audit log and the outcome of checking its chain on the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// Hash before the first record of the page, hexadecimal.
    pub previous_hash: String,
    /// Records in order.
    pub records: Vec<AuditRecord>,
}

/// Whether a request changes something under `/v1/admin/` when it succeeds, so that without an answer nobody knows.
pub fn is_change(method: &str, path: &str) -> bool {
    let path = path.split_once('?').map_or(path, |(path, _query)| path);
    let only_asks = matches!(path, "/v1/admin/policy/diff" | "/v1/admin/explain");
    method != "GET" && path.starts_with("/v1/admin/") && !only_asks
}

/// `GET /v1/admin/audit/checkpoint?first=N&last=M`: the log as it is signed now, and the proof for some of its records.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditProof {
    /// The signed checkpoint.
    pub checkpoint: String,
    /// Number of records in it.
    pub size: u64,
    /// The key that checks it, `NAME+HASH+BASE64`; to be compared with the one that was noted.
    pub key: String,
    /// The hashes of the rest of the tree beside the records asked for.
    pub proof: Vec<Base64>,
}

/// `GET /v1/admin/audit/search`: records that match, of those that were looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditMatches {
    /// Matching records in order.
    pub records: Vec<AuditRecord>,
    /// The last record that was looked at; go on after it.
    pub searched_to: u64,
    /// Whether that was the end of the log.
    pub end: bool,
}

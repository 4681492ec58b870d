//! The key server's API for terminals: enrolment, sessions, bulletin, decisions and grants.

use super::base64::Base64;
use super::bulletin::{SignedBulletin, SignedStamp};
use super::problem::ProblemCode;
use crate::ids::{FileId, GroupId, LabelId, OrganisationId, PersonId, RuleId, SessionId, TerminalId};
use crate::policy::{Effect, Membership, Protection, Right, Rights};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Most items in one batch of grants or decisions.
pub const MAX_BATCH: usize = 1024;

/// `POST /v1/terminals/enrol`, without a client certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The one-time token.
    pub token: String,
    /// Name of the terminal for people, such as its host name.
    pub name: String,
    /// PKCS#10 certificate request, PEM, for a P-256 key that never leaves the terminal.
    pub csr_pem: String,
    /// Public key to which DEKs are sealed: uncompressed P-256 point, HPKE DHKEM(P-256, HKDF-SHA256).
    pub grant_key: Base64,
    /// How its private keys are kept, as it claims.
    #[serde(default)]
    pub protection: Protection,
}

/// Answer to [`EnrolRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolResponse {
    /// Identity given to the terminal.
    pub terminal: TerminalId,
    /// The terminal's certificate, PEM.
    pub certificate_pem: String,
    /// The organisation's CA certificate, PEM.
    pub ca_pem: String,
    /// The organisation.
    pub organisation: OrganisationId,
    /// Ed25519 public key (32 bytes) that signs bulletins.
    pub signing_key: Base64,
    /// The current bulletin.
    pub bulletin: SignedBulletin,
}

/// `POST /v1/terminals/renew`, with the certificate that is to be renewed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS#10 certificate request, PEM, for a new P-256 key that never leaves the terminal.
    pub csr_pem: String,
    /// How its private keys are kept, as it claims; none when missing.
    #[serde(default)]
    pub protection: Protection,
}

/// Answer to [`RenewRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewResponse {
    /// The new certificate, PEM. With its first use the one before ends.
    pub certificate_pem: String,
}

/// Answer to `GET /v1/changes`: what has changed since the version that the terminal named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Changes {
    /// To be named in the next request.
    pub version: u64,
    /// The number of the bulletin in force.
    pub bulletin: u64,
    /// Whose decisions may be other ones than before on this terminal.
    pub decisions: Affected,
    /// That the bulletin with this number, or a later one, is in force now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<SignedStamp>,
}

/// Whose decisions may have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "affected", rename_all = "kebab-case")]
pub enum Affected {
    /// Nobody's.
    Nobody,
    /// Those of these people.
    People {
        /// Who.
        people: Vec<PersonId>,
    },
    /// Anybody's.
    Everybody,
}

/// `POST /v1/sessions`: log a person in on the calling terminal.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Login name.
    pub login: String,
    /// Password.
    pub password: String,
    /// Code of the authenticator application, where the person has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<String>,
}

impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginRequest").field("login", &self.login).finish_non_exhaustive()
    }
}

/// `POST /v1/assertions`: a gateway says whom its share authenticated.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AssertRequest {
    /// Login name of the person.
    pub login: String,
}

/// Answer to [`LoginRequest`] and [`AssertRequest`].
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoginResponse {
    /// Sent as `Authorization: Bearer …`; good only with the certificate of the terminal that logged in.
    pub token: String,
    /// The session.
    pub session: Session,
}

impl std::fmt::Debug for LoginResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginResponse").field("session", &self.session).finish_non_exhaustive()
    }
}

/// A login session; `GET /v1/sessions/current`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// Identity of the session.
    pub id: SessionId,
    /// The person.
    pub person: PersonId,
    /// Login name.
    pub login: String,
    /// Display name.
    pub name: String,
    /// Memberships with names.
    pub memberships: Vec<NamedMembership>,
    /// Administrator roles.
    #[serde(default)]
    pub roles: Vec<super::admin::Role>,
    /// Whether a second factor was used.
    pub second_factor: bool,
    /// Whether a gateway asserted the person, who showed no password here. Such a session has no roles.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asserted: bool,
    /// When the session ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
}

/// A membership and its names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamedMembership {
    /// Ids.
    #[serde(flatten)]
    pub membership: Membership,
    /// Name of the group.
    pub group_name: String,
    /// Name of the post.
    pub post_name: String,
}

/// `POST /v1/grants` and `POST /v1/decisions`: up to [`MAX_BATCH`] items.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// The files.
    pub items: Vec<GrantItem>,
}

/// One file of a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GrantItem {
    /// The envelope's header from its magic through the header MAC (no padding, no state slots).
    pub header: Base64,
    /// The right that the opening needs.
    pub right: Right,
    /// Name of the file for the audit record; a hint, not trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With the right `relabel`: the label that the file is to get, for the audit record. The label itself where only keys change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_label: Option<LabelId>,
}

/// Answer to a batch of grants: one outcome for each item, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GrantResponse {
    /// HPKE encapsulated key of the context in which the DEKs of this answer are sealed, in order; empty
    /// when nothing was granted.
    pub encapsulated_key: Base64,
    /// One for each item.
    pub outcomes: Vec<GrantOutcome>,
    /// The audit records of all items, in order, with the proof that they are in the log. A terminal uses no key without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<AuditReceipt>,
}

/// Records that the key server wrote, with the proof that they are in its log; `docs/spec/audit.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditReceipt {
    /// The signed checkpoint of a log that ends with or after these records.
    pub checkpoint: String,
    /// Sequence number of the first record.
    pub first: u64,
    /// The records, one after the other, as the bytes that were hashed.
    pub records: Vec<String>,
    /// The hashes of the rest of the tree, 32 bytes each.
    pub proof: Vec<Base64>,
}

/// What became of one item.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum GrantOutcome {
    /// The key is released.
    Granted(Grant),
    /// It is not.
    Refused(Refusal),
}

/// A released key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// The file.
    pub file: FileId,
    /// All that the person may do with it here and now.
    pub rights: Rights,
    /// When the terminal must forget the key.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// The DEK, sealed in the answer's HPKE context; its additional data are [`grant_aad`].
    pub sealed_dek: Base64,
    /// Sequence number of the audit record.
    pub audit: u64,
}

/// The additional data under which a DEK is sealed in a grant: file id, person id, rights, expiry in
/// microseconds since 1970 (little-endian).
pub fn grant_aad(file: FileId, person: PersonId, rights: Rights, expires_at: Timestamp) -> [u8; 41] {
    let mut aad = [0_u8; 41];
    let (file_part, rest) = aad.split_at_mut(16);
    let (person_part, rest) = rest.split_at_mut(16);
    let (rights_part, expiry_part) = rest.split_at_mut(1);
    file_part.copy_from_slice(file.as_bytes());
    person_part.copy_from_slice(person.as_bytes());
    rights_part.copy_from_slice(&[rights.bits()]);
    expiry_part.copy_from_slice(&expires_at.as_microsecond().to_le_bytes());
    aad
}

/// The HPKE `info` of a grant answer: `"tobari/1 grant" ‖ 0 ‖ organisation id ‖ terminal id`.
pub fn grant_info(organisation: OrganisationId, terminal: TerminalId) -> Vec<u8> {
    let mut info = b"tobari/1 grant\0".to_vec();
    info.extend_from_slice(organisation.as_bytes());
    info.extend_from_slice(terminal.as_bytes());
    info
}

/// Why a key was not released.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Refusal {
    /// `right-refused`, `unreadable-envelope`, …
    pub code: ProblemCode,
    /// In English.
    pub detail: String,
    /// The right that was asked and is not given, where the policy refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<Right>,
    /// The label's current name, where the policy refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_name: Option<String>,
    /// What the person may do instead (empty when the envelope was not readable).
    pub rights: Rights,
    /// The rules that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

/// One rule that had a part in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reason {
    /// The rule.
    pub rule: RuleId,
    /// Allow or deny.
    pub effect: Effect,
    /// The rights it gave or took.
    pub rights: Rights,
    /// The membership by which it applied, in words: `総務部 部長`.
    pub membership: String,
    /// The rule's note.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Answer to `POST /v1/decisions`: what the person may do, without any key. One for each item, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecisionResponse {
    /// One for each item.
    pub decisions: Vec<DecisionOutcome>,
}

/// What may be done with one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum DecisionOutcome {
    /// The policy was asked.
    Decided {
        /// The label's id.
        label: LabelId,
        /// The label's current name.
        label_name: String,
        /// The owner group's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner_group: Option<GroupId>,
        /// The owner group's current name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner_group_name: Option<String>,
        /// All that the person may do.
        rights: Rights,
        /// The rules that decided.
        reasons: Vec<Reason>,
    },
    /// The header could not be read.
    Refused(Refusal),
}

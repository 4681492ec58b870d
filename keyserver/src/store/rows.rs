//! What the store keeps, as types. Secrets among it (label keys, TOTP secrets, CA and signing key) are sealed under the
//! root key before they come here; passwords and tokens are hashes.

use super::policy::ChangeRequestRow;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tobari_core::crypto::KeyId;
use tobari_core::ids::{
    ChangeRequestId, FileId, FolderId, GroupId, InvariantId, LabelId, LeaseId, PersonId, PostId, RuleId,
    SessionId, TerminalId,
};
use tobari_core::policy::{Group, Invariant, Label, Membership, Post, Protection, Rights, Rule};
use tobari_core::proto::admin::{KeyKind, RevocationRecord, Revoked, Role};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::{Folder, PublicKey};
use tobari_core::proto::lease::{LeaseState, Narrowing, Opens, Term};

/// SHA-256 of a token or certificate.
pub type Digest = [u8; 32];

/// A label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRow {
    /// Id, name and level.
    pub label: Label,
    /// How its first key was made.
    pub key_kind: KeyKind,
    /// Whether password-ZIPs may use ZipCrypto.
    pub allow_legacy_zip: bool,
    /// Whether a lease may be asked for all of its files.
    pub lease_by_label: bool,
    /// Within how many hours the bulletin has to be confirmed for its files to open without the key server.
    pub max_bulletin_age_hours: Option<u32>,
}

/// One generation of a label's key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelKeyRow {
    /// The label.
    pub label: LabelId,
    /// Generation, from 1.
    pub generation: u32,
    /// Key id of the public half.
    pub key_id: KeyId,
    /// The public half.
    pub public_key: PublicKey,
    /// The private half, sealed under the root key for this label and generation.
    pub sealed_private: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the private half was taken away; `sealed_private` is empty from then on.
    pub retired_at: Option<Timestamp>,
}

/// Which key a file was sealed for when it was last seen. Kept of files that need an earlier generation than the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKeyRow {
    /// The file.
    pub file: FileId,
    /// Its label.
    pub label: LabelId,
    /// Generation of the label's key.
    pub generation: u32,
    /// When it was seen.
    pub seen_at: Timestamp,
}

/// Somebody may unseal more files than others for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsealWindowRow {
    /// Who.
    pub person: PersonId,
    /// How many from the beginning on.
    pub files: u32,
    /// Its beginning.
    pub opened_at: Timestamp,
    /// Its end.
    pub ends_at: Timestamp,
}

/// A person.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonRow {
    /// Identity.
    pub id: PersonId,
    /// Login name as it was given.
    pub login: String,
    /// Login name as it is compared.
    pub login_key: String,
    /// Display name.
    pub name: String,
    /// Argon2id hash in PHC form.
    pub password_hash: String,
    /// TOTP secret, sealed under the root key for this person.
    pub sealed_totp: Option<Vec<u8>>,
    /// Memberships.
    pub memberships: Vec<Membership>,
    /// Administrator roles.
    pub roles: Vec<Role>,
    /// Whether the person is shut out.
    pub disabled: bool,
}

impl std::fmt::Debug for PersonRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PersonRow").field("id", &self.id).field("login", &self.login).finish_non_exhaustive()
    }
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalRow {
    /// Identity.
    pub id: TerminalId,
    /// Name for people.
    pub name: String,
    /// Zone.
    pub zone: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether it is shut out.
    pub revoked: bool,
    /// SHA-256 of its certificate (DER).
    pub fingerprint: Digest,
    /// When the certificate ends.
    pub certificate_expires_at: Timestamp,
    /// HPKE public key to which DEKs are sealed.
    pub grant_key: Vec<u8>,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// Whether it may speak for the people whom its share authenticated.
    pub gateway: bool,
    /// Whether it is shut out until it is let in again.
    pub frozen: bool,
    /// A certificate that it was given and has not shown yet.
    pub next: Option<NextCertificate>,
    /// How it claims to keep its private keys.
    pub protection: Protection,
}

/// A renewed certificate before its first use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextCertificate {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: Digest,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A one-time enrolment token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// SHA-256 of the token.
    pub hash: Digest,
    /// Zone of the terminal to be enrolled.
    pub zone: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// When the token ends.
    pub expires_at: Timestamp,
}

/// A login session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Identity.
    pub id: SessionId,
    /// SHA-256 of the bearer token.
    pub token_hash: Digest,
    /// Who is logged in.
    pub person: PersonId,
    /// The terminal to whose certificate the session is bound.
    pub terminal: TerminalId,
    /// Whether a second factor was used.
    pub second_factor: bool,
    /// Whether the terminal, a gateway, asserted the person.
    pub asserted: bool,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was last used, as far as written.
    pub last_used_at: Timestamp,
}

/// The failed logins of one login name, known or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFailuresRow {
    /// The login name as it is compared.
    pub login_key: String,
    /// Failures since the last success.
    pub failures: u32,
    /// The last of them.
    pub last_failed_at: Timestamp,
    /// No login before this time.
    pub locked_until: Timestamp,
}

/// A lease, asked for or issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// Identity.
    pub id: LeaseId,
    /// Where it stands.
    pub state: LeaseState,
    /// Whose.
    pub person: PersonId,
    /// Where.
    pub terminal: TerminalId,
    /// What was asked for and how it was decided.
    pub body: LeaseBody,
    /// How many files.
    pub file_count: u32,
    /// The files; left out of lists.
    pub files: Vec<LeaseFileRow>,
    /// The signed lease, as JSON; left out of lists.
    pub document: Option<Vec<u8>>,
    /// When the terminal fetched it.
    pub fetched_at: Option<Timestamp>,
    /// Openings that the terminal has reported.
    pub opened: u32,
}

/// What is stored of a lease as one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseBody {
    /// From when until when.
    pub term: Term,
    /// How often.
    pub opens: Opens,
    /// What is to be done.
    pub rights: Rights,
    /// Why.
    pub reason: String,
    /// Whether the person had used a second factor when they asked.
    pub second_factor: bool,
    /// Who asked for it: the person, or the administrator who issued it.
    pub requested_by: PersonId,
    /// When.
    pub requested_at: Timestamp,
    /// Who decided.
    pub decided_by: Option<PersonId>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// When it was refused, returned or revoked.
    pub ended_at: Option<Timestamp>,
    /// The label for all of whose files it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelId>,
    /// That it has other files now than those for which it was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refilled: Option<Refilled>,
}

/// The last refilling of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refilled {
    /// When its document was signed, as it says.
    pub at: Timestamp,
    /// How many files it has lent since it was issued; one that went and came again may count twice.
    pub lent: u32,
}

/// One file of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseFileRow {
    /// The file, as its header says.
    pub file: FileId,
    /// Its label, as its header says.
    pub label: LabelId,
    /// Its name.
    pub name: Option<String>,
    /// What may be done with it; none before the lease is issued.
    pub rights: Rights,
    /// Its header, as long as the lease is not decided.
    pub header: Option<Base64>,
}

/// What a lease lends of the files of one label and owner group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseCaseRow {
    /// The lease, the files, and what is left of what was lent.
    pub left: Narrowing,
    /// Whose lease.
    pub person: PersonId,
    /// On which terminal.
    pub terminal: TerminalId,
    /// Whether the person had used a second factor when they asked.
    pub second_factor: bool,
    /// Whether it was asked for the label and not for files.
    pub by_label: bool,
    /// From when.
    pub starts_at: Timestamp,
    /// When the lease itself ends.
    pub lease_ends_at: Timestamp,
    /// Whether less is left than was lent.
    pub narrowed: bool,
}

/// Which cases of leases that are out and have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseCases {
    /// All.
    All,
    /// Of this person's leases.
    Person(PersonId),
    /// Of leases on this terminal.
    Terminal(TerminalId),
    /// Of this label.
    Label(LabelId),
}

/// Everything that has to be decided of a case, without its lease: many leases have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseKind {
    /// Whose lease.
    pub person: PersonId,
    /// On which terminal.
    pub terminal: TerminalId,
    /// The label.
    pub label: LabelId,
    /// The owner group.
    pub owner_group: Option<GroupId>,
    /// Whether the person had used a second factor when they asked.
    pub second_factor: bool,
    /// Whether it was asked for the label and not for files.
    pub by_label: bool,
    /// What is lent.
    pub rights: Rights,
}

/// Which leases.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeaseFilter {
    /// From the first of these ids to the last.
    pub ids: Option<(LeaseId, LeaseId)>,
    /// Of this person.
    pub person: Option<PersonId>,
    /// For this terminal.
    pub terminal: Option<TerminalId>,
    /// In this state.
    pub state: Option<LeaseState>,
    /// That were issued, whatever became of them.
    pub issued: bool,
    /// That end after this time.
    pub ends_after: Option<Timestamp>,
    /// The newest so many.
    pub limit: Option<u32>,
}

/// How far a terminal has reported what was done under its leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerminalRow {
    /// The terminal.
    pub terminal: TerminalId,
    /// How often it has written its lease state.
    pub counter: u64,
    /// Sequence number of its last record.
    pub sequence: u64,
    /// That record's hash.
    pub hash: Digest,
    /// Whether a report did not continue what was there: from then on nothing is taken or given.
    pub blocked: bool,
}

/// One record of what was done under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecordRow {
    /// The terminal that reported it.
    pub terminal: TerminalId,
    /// Its number there.
    pub sequence: u64,
    /// The lease.
    pub lease: LeaseId,
    /// The bytes that were hashed.
    pub payload: Vec<u8>,
    /// The chain's hash after it.
    pub hash: Digest,
}

/// Everything that the server keeps in memory: the directory, the policy and the keys (sealed). Rows are
/// shared, so that copying the tables for a change costs little.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Named values: organisation, CA, signing key, recovery key, bulletin number.
    pub settings: BTreeMap<String, Arc<Vec<u8>>>,
    /// Labels.
    pub labels: BTreeMap<LabelId, Arc<LabelRow>>,
    /// Label keys by label and generation.
    pub label_keys: BTreeMap<(LabelId, u32), Arc<LabelKeyRow>>,
    /// Groups.
    pub groups: BTreeMap<GroupId, Arc<Group>>,
    /// Posts.
    pub posts: BTreeMap<PostId, Arc<Post>>,
    /// Rules.
    pub rules: BTreeMap<RuleId, Arc<Rule>>,
    /// People.
    pub people: BTreeMap<PersonId, Arc<PersonRow>>,
    /// People who were deleted.
    pub departed: BTreeSet<PersonId>,
    /// Terminals.
    pub terminals: BTreeMap<TerminalId, Arc<TerminalRow>>,
    /// Designated folders.
    pub folders: BTreeMap<FolderId, Arc<Folder>>,
    /// Labels and files that are revoked until that is lifted.
    pub revocations: BTreeMap<Revoked, Arc<RevocationRecord>>,
    /// Invariants of the policy.
    pub invariants: BTreeMap<InvariantId, Arc<Invariant>>,
    /// Changes that wait for a second person, and those that did not long ago.
    pub change_requests: BTreeMap<ChangeRequestId, Arc<ChangeRequestRow>>,
    /// Number of the last version of the policy; 0 before the first change.
    pub policy_version: u64,
    /// Leases that were revoked before their end, with that end: until then the bulletin names them.
    pub revoked_leases: BTreeMap<LeaseId, Timestamp>,
    /// Leases that a stricter policy has narrowed, each with its own end: until then the bulletin names them.
    pub narrowed_leases: BTreeMap<(LeaseId, LabelId, Option<GroupId>), (Narrowing, Timestamp)>,
    /// People who may unseal more files for a while, or could.
    pub unseal_windows: BTreeMap<PersonId, Arc<UnsealWindowRow>>,
}

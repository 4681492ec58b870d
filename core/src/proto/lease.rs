//! Leases: keys of files for one person on one terminal, for a while without the key server. `docs/spec/lease.md` is
//! normative; what a lease allows is decided in [`crate::lease`].

use super::api::AuditReceipt;
use super::base64::Base64;
use crate::ids::{FileId, GroupId, LabelId, LeaseId, OrganisationId, PersonId, TerminalId};
use crate::policy::{Right, Rights};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// Most files in one lease.
pub const MAX_FILES: usize = 1024;
/// Most records of offline acts in one upload.
pub const MAX_RECORDS: usize = 1024;

/// A lease as it travels and is stored: the exact bytes that were signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignedLease {
    /// Canonical JSON of a [`Lease`], exactly as signed.
    pub payload: Base64,
    /// Ed25519 over `"tobari/1 lease" ‖ 0 ‖ payload`, by the organisation's signing key.
    pub signature: Base64,
    /// Proves that the release of each key is in the audit log, one record for each file, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<AuditReceipt>,
}

/// From when until when. It always ends: no value means "for ever".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// From this time on.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub starts_at: Timestamp,
    /// Until this time, exclusive.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub ends_at: Timestamp,
}

/// How often files may be opened under a lease, all its files together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Opens {
    /// As often as wanted.
    Unlimited,
    /// So often.
    AtMost {
        /// At least one.
        #[cfg_attr(feature = "openapi", schema(value_type = u32, minimum = 1))]
        count: NonZeroU32,
    },
}

/// What the organisation lends. Field order is the canonical order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Format version: 1.
    pub version: u32,
    /// Identity.
    pub id: LeaseId,
    /// The organisation.
    pub organisation: OrganisationId,
    /// The terminal to which it is bound, and to whose grant key its keys are sealed.
    pub terminal: TerminalId,
    /// The person to whom it is bound.
    pub person: PersonId,
    /// That person's login name.
    pub login: String,
    /// That person's display name.
    pub name: String,
    /// When it was signed, by the key server's clock; of two documents of one lease the later one counts.
    pub issued_at: Timestamp,
    /// From when until when.
    pub term: Term,
    /// How often.
    pub opens: Opens,
    /// The label for all of whose files it was asked: what its person creates under it on the terminal opens too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelId>,
    /// HPKE encapsulated key of the context in which the DEKs are sealed, in order.
    pub encapsulated_key: Base64,
    /// The files.
    pub files: Vec<LeaseFile>,
}

/// One file of a lease. Field order is the canonical order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseFile {
    /// The file.
    pub file: FileId,
    /// Its label when the lease was made; under another label the lease does not open it.
    pub label: LabelId,
    /// Its owner group, in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_group: Option<GroupId>,
    /// Its name, for lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What may be done with it.
    pub rights: Rights,
    /// Until when; never later than the lease's own end.
    pub ends_at: Timestamp,
    /// Sequence number of the audit record.
    pub audit: u64,
    /// The DEK, sealed in the lease's HPKE context.
    pub sealed_dek: Base64,
}

/// What is asked to be lent: `POST /v1/leases`, by the person for the terminal on which they are logged in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// The files, at most [`MAX_FILES`].
    pub files: Vec<LeaseItem>,
    /// What is to be done with them: of `view edit print copy send decrypt`.
    pub rights: Rights,
    /// From when until when.
    pub term: Term,
    /// How often.
    pub opens: Opens,
    /// Why, for who decides and for the ledger.
    pub reason: String,
    /// The label for all of whose files it is asked; `files` are then those that there are, all under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelId>,
}

/// `POST /v1/admin/leases`: lends without having been asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseIssue {
    /// To whom.
    pub person: PersonId,
    /// On which terminal.
    pub terminal: TerminalId,
    /// What.
    pub lease: LeaseRequest,
}

/// One file of a [`LeaseRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseItem {
    /// The envelope's header from its magic through the header MAC.
    pub header: Base64,
    /// Its name for records and lists; a hint, not trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /v1/leases/{id}/refill`, by the person of a lease of a label on its terminal: the files of the label that there are now.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseRefill {
    /// The files, at most [`MAX_FILES`]: the lease has these then, and no others.
    pub files: Vec<LeaseItem>,
}

/// `POST /v1/admin/leases/{id}/refuse` and `…/revoke`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseEnding {
    /// Why.
    pub reason: String,
}

/// Where a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// Asked for, not decided.
    Requested,
    /// Not given.
    Refused,
    /// Given. It may have ended since.
    Issued,
    /// Given back by the person.
    Returned,
    /// Taken back by an administrator.
    Revoked,
}

/// A lease as the key server knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseRecord {
    /// Identity.
    pub id: LeaseId,
    /// Where it stands.
    pub state: LeaseState,
    /// Whose.
    pub person: PersonId,
    /// That person's login name.
    pub login: String,
    /// Where.
    pub terminal: TerminalId,
    /// That terminal's name.
    pub terminal_name: String,
    /// From when until when.
    pub term: Term,
    /// How often.
    pub opens: Opens,
    /// What was asked to be done.
    pub rights: Rights,
    /// Why it was asked for.
    pub reason: String,
    /// The label for all of whose files it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelId>,
    /// How many files.
    pub file_count: u32,
    /// The files; left out in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<LeasedFile>,
    /// When it was asked for or issued.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub requested_at: Timestamp,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<PersonId>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub decided_at: Option<Timestamp>,
    /// When it was refilled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub refilled_at: Option<Timestamp>,
    /// When the terminal fetched it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub fetched_at: Option<Timestamp>,
    /// When it was refused, returned or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub ended_at: Option<Timestamp>,
    /// Openings that the terminal has reported.
    pub opened: u32,
    /// What a stricter policy has left of it, where that is less than what was lent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrowed: Vec<Narrowing>,
}

/// A file of a lease, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeasedFile {
    /// The file, as its header says.
    pub file: FileId,
    /// Its label.
    pub label: LabelId,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What may be done with it; none before the lease is issued.
    pub rights: Rights,
}

/// What was done without the key server. Field order is the canonical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum OfflineAct {
    /// A file was opened.
    Open,
    /// The lease was given back: nothing was opened under it afterwards.
    Return,
}

/// One record of the chain that a terminal keeps of what was done under leases. Field order is the canonical order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OfflineRecord {
    /// What was done.
    pub act: OfflineAct,
    /// The file that was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileId>,
    /// Its name, as the caller gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Under which lease.
    pub lease: LeaseId,
    /// By whom.
    pub person: PersonId,
    /// Which right was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<Right>,
    /// From 1 without gaps, for all leases of the terminal together.
    pub sequence: u64,
    /// When, by the terminal's lease clock.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub time: Timestamp,
    /// Format version: 1.
    pub version: u32,
    /// What the terminal's wall clock showed.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub wall: Timestamp,
}

/// `POST /v1/terminals/leases`, by the terminal for itself: brings what was done, fetches what was lent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseSync {
    /// How often the terminal has written its lease state; never goes back.
    pub counter: u64,
    /// Sequence number of the record before the first of `records`.
    pub after: u64,
    /// The chain's hash after that record.
    pub after_hash: Base64,
    /// Canonical JSON of [`OfflineRecord`]s, as hashed, at most [`MAX_RECORDS`].
    pub records: Vec<Base64>,
    /// Leases that the terminal holds; they are sent again only if they were refilled since.
    pub held: Vec<LeaseInHand>,
}

/// Which document of a lease a terminal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseInHand {
    /// The lease.
    pub lease: LeaseId,
    /// When the document was signed, as it says.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub issued_at: Timestamp,
}

/// Answer to [`LeaseSync`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseSyncAnswer {
    /// The key server's time.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub time: Timestamp,
    /// Records up to this sequence number are kept by the key server.
    pub accepted: u64,
    /// Leases for this terminal that it does not hold yet, or of which it holds an older document.
    pub leases: Vec<SignedLease>,
    /// How often files were opened under each of `leases`, as far as the key server was told: they are not given anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened: Vec<LeaseOpened>,
    /// What a stricter policy has left of leases that the terminal holds, and of `leases`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrowed: Vec<Narrowing>,
    /// Leases that it holds and must give up.
    pub ended: Vec<LeaseId>,
    /// Whether there are more leases than this answer carries.
    pub more: bool,
}

/// Openings under a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseOpened {
    /// The lease.
    pub lease: LeaseId,
    /// How often.
    pub count: u32,
}

/// What a stricter policy has left of a lease that is out, for its files of one label and owner group. Nothing widens it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Narrowing {
    /// The lease.
    pub lease: LeaseId,
    /// The label of the files.
    pub label: LabelId,
    /// Their owner group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_group: Option<GroupId>,
    /// What may still be done with them; none when nothing may.
    pub rights: Rights,
    /// Until when.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub ends_at: Timestamp,
}

impl Narrowing {
    /// Both together: never more than either.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            rights: self.rights.intersection(other.rights),
            ends_at: self.ends_at.min(other.ends_at),
            ..self
        }
    }

    /// Whether it is of the same files as another one.
    pub fn is_of(&self, other: &Self) -> bool {
        (self.lease, self.label, self.owner_group) == (other.lease, other.label, other.owner_group)
    }
}

/// One line of the ledger of what was taken along: `GET /v1/admin/leases/ledger`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LedgerEntry {
    /// The lease.
    pub lease: LeaseRecord,
    /// What the terminal reported, in order.
    pub records: Vec<OfflineRecord>,
}

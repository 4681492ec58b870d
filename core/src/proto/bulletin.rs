//! The bulletin: everything that sealing needs, signed by the organisation, fetched by terminals and cached.
//! It holds public keys, folder rules and revocations, and no secret.

use super::base64::Base64;
use super::lease::Narrowing;
use crate::ids::{FileId, FolderId, GroupId, LabelId, LeaseId, OrganisationId, PersonId, TerminalId};
use crate::policy::{Group, Label};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A bulletin as it travels: the exact bytes that were signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedBulletin {
    /// JSON of a [`Bulletin`], exactly as signed.
    pub payload: Base64,
    /// Ed25519 over `"tobari/1 bulletin" ‖ 0 ‖ payload`, by the organisation's signing key.
    pub signature: Base64,
    /// That it is in force, as of a time; where whoever sends it can say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<SignedStamp>,
}

/// What is signed of a stamp: this, a zero byte and the payload.
pub const STAMP_CONTEXT: &str = "tobari/1 bulletin stamp";

/// A confirmation as it travels: the exact bytes that were signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedStamp {
    /// JSON of a [`Stamp`], exactly as signed.
    pub payload: Base64,
    /// Ed25519 over `"tobari/1 bulletin stamp" ‖ 0 ‖ payload`, by the organisation's signing key.
    pub signature: Base64,
}

/// The organisation says that a bulletin was in force at a time: nothing was revoked after it until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Format version: 1.
    pub version: u32,
    /// The organisation.
    pub organisation: OrganisationId,
    /// Number of the bulletin.
    pub number: u64,
    /// When, by the key server's clock.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub confirmed_at: Timestamp,
}

/// What the organisation says to its terminals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Bulletin {
    /// Format version: 1.
    pub version: u32,
    /// The organisation.
    pub organisation: OrganisationId,
    /// Display name of the organisation.
    pub organisation_name: String,
    /// Grows with each change; a terminal never goes back to a lower one.
    pub number: u64,
    /// When it was made.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub issued_at: Timestamp,
    /// All labels with their public keys.
    pub labels: Vec<LabelKeys>,
    /// The organisation's recovery recipient, in every file.
    pub recovery: PublicKey,
    /// The group tree (names for display).
    pub groups: Vec<Group>,
    /// Designated folders, of all terminals.
    pub folders: Vec<Folder>,
    /// What is revoked.
    pub revocations: Revocations,
    /// The terminals that may speak for people. What another one asserted has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<TerminalId>,
}

/// A label and the public key under which new files are sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LabelKeys {
    /// The label.
    pub label: Label,
    /// Generation of `key`, from 1.
    pub generation: u32,
    /// The current key.
    pub key: PublicKey,
    /// Whether password-ZIPs of this label's files may use legacy ZipCrypto.
    #[serde(default)]
    pub allow_legacy_zip: bool,
    /// Whether a lease may be asked for all files of this label.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lease_by_label: bool,
    /// Without the key server, files of this label open only while the bulletin was confirmed within so many hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bulletin_age_hours: Option<u32>,
}

/// A recipient's public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublicKey {
    /// DER SubjectPublicKeyInfo of the RSA key.
    pub rsa_spki: Base64,
    /// ML-KEM-768 encapsulation key; with it the stanza kind is `rsa-oaep+mlkem768`, without it `rsa-oaep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlkem768: Option<Base64>,
}

/// A designated folder: what lands in it is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Identity.
    pub id: FolderId,
    /// The terminal (file server) on which it lies.
    pub terminal: TerminalId,
    /// Absolute path on that terminal.
    pub path: String,
    /// Label given to files that land here.
    pub label: LabelId,
    /// The group that owns the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_group: Option<GroupId>,
    /// Glob patterns, relative to the folder, of what is left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

/// What terminals must refuse from now on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Revocations {
    /// Terminals.
    pub terminals: Vec<TerminalId>,
    /// People.
    pub people: Vec<PersonId>,
    /// Terminals that are frozen: shut out until an administrator lets them in again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<TerminalId>,
    /// Labels of which nothing is granted until an administrator lifts it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelId>,
    /// Files that are granted to nobody until an administrator lifts it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileId>,
    /// Leases that were revoked before their end, until then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<LeaseId>,
    /// What a stricter policy has left of leases that are out, until they end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrowed: Vec<Narrowing>,
}

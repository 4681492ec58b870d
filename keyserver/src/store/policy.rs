//! What the store keeps about changes of the policy: its versions, and changes that wait for a second person. Both are
//! JSON in one column; what they refer to may be gone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tobari_core::ids::{ChangeRequestId, PersonId};
use tobari_core::policy::Policy;
use tobari_core::proto::policy::PolicyDiff;

/// One change of the policy: who, when, what, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVersionRow {
    /// Its number, from 1 without gaps.
    pub version: u64,
    /// When, by the server's clock.
    pub at: Timestamp,
    /// Who; nobody for what was there before versions were kept.
    pub person: Option<PersonId>,
    /// The login name then.
    pub login: String,
    /// What: the act, as in the audit log.
    pub act: String,
    /// The object, `kind/id`.
    pub object: String,
    /// In words, as in the audit log.
    pub detail: String,
    /// Why, as given.
    pub reason: String,
    /// The request that a second person approved.
    pub request: Option<ChangeRequestId>,
    /// Who approved it.
    pub approved_by: Option<PersonId>,
    /// The policy after it; absent where it is that of the version before, as when somebody's memberships changed.
    #[serde(skip)]
    pub policy: Option<Policy>,
}

/// How far a request has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum RequestState {
    /// Waits for a second person.
    Pending,
    /// A second person agreed; waits to be applied.
    Approved {
        /// Who.
        by: PersonId,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// A second person did not agree, or the requester took it back.
    Refused {
        /// Who.
        by: PersonId,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// Done.
    Applied {
        /// Who agreed.
        by: PersonId,
        /// When it was done.
        at: Timestamp,
    },
}

/// A change that waits for a second person. It holds the very change, so that what is applied is what was approved; no
/// secret is in it but hashes of passwords.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRequestRow {
    /// Identity.
    pub id: ChangeRequestId,
    /// Who asks.
    pub requested_by: PersonId,
    /// When.
    pub requested_at: Timestamp,
    /// Why.
    pub reason: String,
    /// Not applied after this.
    pub expires_at: Timestamp,
    /// The change, as the administration's service reads it.
    pub act: String,
    /// In words.
    pub summary: String,
    /// What it gives and takes, on the version of the policy that it names.
    pub diff: PolicyDiff,
    /// SHA-256 of all that it gives and takes, hexadecimal.
    pub digest: String,
    /// How far it has come.
    pub state: RequestState,
}

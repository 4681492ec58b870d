//! What a service call answers instead of its result, grouped by who is at fault. `http` maps it to a
//! problem; the texts here are for the requester and never hold a secret or another person's data.

use crate::audit::AuditError;
use crate::audit::chain::ChainError;
use crate::ca::CaError;
use crate::store::StoreError;
use tobari_core::crypto::CryptoError;
use tobari_core::policy::{PolicyError, PolicyFault};
use tobari_core::proto::admin::Role;
use tobari_core::proto::problem::ProblemCode;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Input: a field has a value that is not allowed.
    #[error("{field}: {detail}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Input: the body or a batch is larger than the limit.
    #[error("{0}")]
    TooLarge(String),
    /// Input: another object stands in the way.
    #[error("{field}: {detail}")]
    Conflict {
        /// The field or kind of object.
        field: String,
        /// What stands in the way.
        detail: String,
    },
    /// Nobody's fault: what this builds on was changed meanwhile, by another server or request.
    #[error("the object was changed meanwhile: try again")]
    Moved,
    /// Input: no such object or path.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Caller: login name, password or code is wrong.
    #[error("the login name, the password or the code is wrong")]
    BadCredentials,
    /// Caller: nobody is logged in.
    #[error("nobody is logged in, or the session has ended: log in again")]
    NotLoggedIn,
    /// Caller: no certificate, or not a good one.
    #[error("{0}")]
    TerminalNotAccepted(String),
    /// Caller: the terminal is shut out for the time being.
    #[error("an administrator has frozen this terminal")]
    TerminalFrozen,
    /// Caller: the certificate has ended.
    #[error("the terminal's certificate expired at {0}: enrol the terminal again")]
    CertificateExpired(jiff::Timestamp),
    /// Caller: the token is not good.
    #[error("the enrolment token is unknown, used or expired")]
    BadEnrolmentToken,
    /// Caller: the role is missing.
    #[error("this needs the administrator role {}", role_name(*.0))]
    NotAdministrator(Role),
    /// Input: a change breaks an invariant.
    #[error("the change breaks the invariant '{name}': {detail}")]
    InvariantBroken {
        /// Its name.
        name: String,
        /// An example.
        detail: String,
    },
    /// Caller: the act needs a second person.
    #[error("this widens access, so a second person has to approve it: make a request")]
    SecondPersonNeeded,
    /// Caller: a fresh second factor is missing.
    #[error("this needs a fresh code of the authenticator, not older than five minutes")]
    StepUpNeeded,
    /// Caller: the terminal speaks for a person and may not.
    #[error("this terminal is no gateway: an administrator has to mark it as one")]
    NotGateway,
    /// Caller: the policy does not give a right that is needed.
    #[error("{field}: {detail}")]
    RightRefused {
        /// For what.
        field: String,
        /// Which right, and what is given.
        detail: String,
    },
    /// Caller: too many failed logins.
    #[error("too many failed logins under this name: wait {retry_after_seconds} s")]
    LockedOut {
        /// Seconds to wait.
        retry_after_seconds: u64,
    },
    /// Caller: too many requests at once.
    #[error("too many requests at once")]
    TooManyRequests,
    /// Environment: no durable record, so nothing was done.
    #[error("the audit log cannot be written, so nothing was released or changed")]
    AuditUnavailable,
    /// Environment: nobody sees the log, so nothing is released.
    #[error("the witness {0} has not seen the audit log for too long, so nothing is released")]
    WitnessAway(String),
    /// Environment: the store.
    #[error("the store cannot be reached")]
    StoreUnavailable(#[source] Option<StoreError>),
    /// Environment: it took too long.
    #[error("the server did not answer in time")]
    TimedOut,
    /// Environment: a change took too long. It is finished all the same, or fails.
    #[error("the change is still in work: whether it will have been made is not known yet")]
    OutcomeUnknown,
    /// Environment: the operator gave another root key than the database's.
    #[error("the root key does not open {0}: is it the right one?")]
    WrongRootKey(&'static str),
    /// Environment: audit records are missing or were changed.
    #[error("the audit log is not intact: {0}")]
    AuditNotIntact(#[source] ChainError),
    /// Bug.
    #[error("internal error: {0}")]
    Internal(String),
}

impl ServiceError {
    /// A field that is not allowed to have the value that it has.
    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), detail: detail.into() }
    }

    /// An object stands in the way.
    pub(crate) fn conflict(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Conflict { field: field.into(), detail: detail.into() }
    }

    /// The code of the problem.
    pub fn code(&self) -> ProblemCode {
        match self {
            Self::Invalid { .. } => ProblemCode::InvalidRequest,
            Self::TooLarge(_) => ProblemCode::TooLarge,
            Self::Conflict { .. } | Self::Moved => ProblemCode::Conflict,
            Self::NotFound(_) => ProblemCode::NotFound,
            Self::BadCredentials => ProblemCode::BadCredentials,
            Self::NotLoggedIn => ProblemCode::NotLoggedIn,
            Self::TerminalNotAccepted(_) => ProblemCode::TerminalNotAccepted,
            Self::TerminalFrozen => ProblemCode::TerminalFrozen,
            Self::CertificateExpired(_) => ProblemCode::CertificateExpired,
            Self::BadEnrolmentToken => ProblemCode::BadEnrolmentToken,
            Self::NotAdministrator(_) => ProblemCode::NotAdministrator,
            Self::NotGateway => ProblemCode::NotGateway,
            Self::InvariantBroken { .. } => ProblemCode::InvariantBroken,
            Self::SecondPersonNeeded => ProblemCode::SecondPersonNeeded,
            Self::StepUpNeeded => ProblemCode::StepUpNeeded,
            Self::RightRefused { .. } => ProblemCode::RightRefused,
            Self::LockedOut { .. } => ProblemCode::LockedOut,
            Self::TooManyRequests => ProblemCode::TooManyRequests,
            Self::AuditUnavailable | Self::WitnessAway(_) => ProblemCode::AuditUnavailable,
            Self::StoreUnavailable(_) | Self::TimedOut => ProblemCode::StoreUnavailable,
            Self::OutcomeUnknown => ProblemCode::OutcomeUnknown,
            Self::Internal(_) | Self::WrongRootKey(_) | Self::AuditNotIntact(_) => ProblemCode::Internal,
        }
    }
}

/// The name of a role as the API writes it.
pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::KeyCustodian => "key-custodian",
        Role::Policy => "policy",
        Role::Terminals => "terminals",
        Role::Leases => "leases",
        Role::Auditor => "auditor",
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Taken(column) => {
                let field = if column == "login_key" { String::from("login") } else { column };
                Self::conflict(field, "already taken")
            }
            StoreError::Stale => Self::conflict("request", "the object was changed meanwhile: try again"),
            StoreError::Moved { .. } => Self::Moved,
            error @ (StoreError::Damaged { .. }
            | StoreError::AuditBroken(_)
            | StoreError::TooNew { .. }
            | StoreError::Unavailable(_)) => Self::StoreUnavailable(Some(error)),
        }
    }
}

impl From<AuditError> for ServiceError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Refused(error) => error.into(),
            AuditError::Moved => Self::Moved,
            AuditError::Unavailable(_) => Self::AuditUnavailable,
        }
    }
}

impl From<PolicyError> for ServiceError {
    fn from(error: PolicyError) -> Self {
        let detail = error.fault.to_string();
        match error.fault {
            PolicyFault::DuplicateId | PolicyFault::DuplicateName(_) => Self::conflict(error.field, detail),
            PolicyFault::UnknownLabel(_)
            | PolicyFault::UnknownGroup(_)
            | PolicyFault::UnknownPost(_)
            | PolicyFault::Empty
            | PolicyFault::TooLong
            | PolicyFault::ControlCharacter
            | PolicyFault::OutOfRange { .. }
            | PolicyFault::Cycle
            | PolicyFault::NoRights
            | PolicyFault::EmptyWindow
            | PolicyFault::SecondFactorOnDeny
            | PolicyFault::ProtectionOnDeny => Self::invalid(error.field, detail),
        }
    }
}

impl From<CryptoError> for ServiceError {
    fn from(error: CryptoError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<CaError> for ServiceError {
    fn from(error: CaError) -> Self {
        match error {
            CaError::BadRequest => Self::invalid("csr_pem", error.to_string()),
            CaError::Authority(detail) => Self::Internal(detail),
        }
    }
}

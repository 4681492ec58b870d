//! Errors as RFC 9457 problems, with a code from one closed list that clients map to messages in the
//! user's language and to exit codes.

use crate::ids::RequestId;
use serde::{Deserialize, Serialize};

/// What went wrong, as a stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ProblemCode {
    /// 400: the request is not well-formed or a field has a value that is not allowed; `field` names it.
    InvalidRequest,
    /// 400: the envelope header is damaged, of another organisation or under an unknown key. One answer for all.
    UnreadableEnvelope,
    /// 401: login name, password or code is wrong. One answer for all.
    BadCredentials,
    /// 401: nobody is logged in, or the session ended.
    NotLoggedIn,
    /// 401: the terminal did not show a certificate, or an unknown or revoked one.
    TerminalNotAccepted,
    /// 403: the terminal is frozen until an administrator lets it in again.
    TerminalFrozen,
    /// 401: the enrolment token is unknown, used or expired.
    BadEnrolmentToken,
    /// 403: the person's administrator roles do not include this act.
    NotAdministrator,
    /// 403: a terminal that no administrator marked as a gateway speaks for a person.
    NotGateway,
    /// 403: the act widens access, so a second person has to approve it.
    SecondPersonNeeded,
    /// 403: the act needs a code of the authenticator that is not older than five minutes.
    StepUpNeeded,
    /// 409: the change breaks an invariant of the policy; `field` names it.
    InvariantBroken,
    /// 403: the policy refuses the right that was asked; `reasons` say why.
    RightRefused,
    /// 403: the file or its label is revoked until an administrator lifts that.
    Revoked,
    /// 403: the key for which the file was sealed was retired; the recovery key opens it.
    KeyRetired,
    /// 404: no such object; `field` names the kind.
    NotFound,
    /// 409: another object has this name, or the object is in use.
    Conflict,
    /// 413: the body is larger than the limit.
    TooLarge,
    /// 429: too many failed logins; `retry_after_seconds` says when to try again.
    LockedOut,
    /// 429: too many requests; `retry_after_seconds` says when to try again.
    TooManyRequests,
    /// 500: a bug.
    Internal,
    /// 503: the audit log cannot be written, so no key is released.
    AuditUnavailable,
    /// 503: the store cannot be reached.
    StoreUnavailable,
    /// 504: no answer came to a change of the administration, which may have been made, or be in work (also made by the daemon).
    OutcomeUnknown,
    /// The key server cannot be reached (made by the daemon, not by the server).
    KeyServerUnreachable,
    /// 401: the terminal's certificate has expired (also made by the daemon, which knows its own).
    CertificateExpired,
    /// The daemon lacks what the request needs, such as a role (made by the daemon).
    NotConfigured,
    /// The sealed file's body fails a check: corrupt, truncated, extended or tampered (made by the daemon).
    CorruptEnvelope,
    /// Reading or writing a local file failed (made by the daemon).
    LocalIo,
    /// A lease covers the file and does not permit to open it; `field` says why (made by the daemon).
    LeaseRefused,
}

/// One problem (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// URI reference of the kind: `/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short English title of the kind.
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// The stable code.
    pub code: ProblemCode,
    /// What happened this time, in English.
    pub detail: String,
    /// The request id, also in the server's log and audit records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The field or object at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds to wait before another try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl Problem {
    /// A problem made by a program that is not the key server (no request id, no HTTP status of its own: 0).
    pub fn local(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: String::from("about:blank"),
            title: String::new(),
            status: 0,
            code,
            detail: detail.into(),
            request_id: None,
            field: None,
            retry_after_seconds: None,
        }
    }
}

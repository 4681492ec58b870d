//! What a record says. Its bytes are canonical: the fields below in alphabetical order, no white space, absent
//! where they do not apply.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tobari_core::ids::{FileId, LabelId, PersonId, RequestId, RuleId, SessionId, TerminalId};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::problem::ProblemCode;

/// Format of the payload.
const VERSION: u32 = 1;

/// The kind of act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// The organisation was set up.
    Init,
    /// The server started.
    Start,
    /// A key was released.
    Grant,
    /// A key was asked for and not released.
    Refusal,
    /// Somebody logged in.
    Login,
    /// A login failed or was locked out.
    LoginFailed,
    /// A gateway spoke for a person.
    Assertion,
    /// A terminal spoke for a person in vain.
    AssertionRefused,
    /// Somebody logged out.
    Logout,
    /// A terminal was enrolled.
    Enrolment,
    /// An enrolment was refused.
    EnrolmentFailed,
    /// An enrolment token was made.
    EnrolmentToken,
    /// An administrative object was created.
    Create,
    /// An administrative object was changed.
    Update,
    /// An administrative object was removed.
    Delete,
    /// An administrative act was refused for want of a role.
    AdminRefused,
    /// A session showed a fresh second factor.
    StepUp,
    /// A change was requested that needs a second person.
    Request,
    /// A second person approved it.
    Approve,
    /// A second person refused it, or the requester took it back.
    Refuse,
    /// The audit log was read or checked.
    AuditRead,
    /// A store older than what witnesses saw was taken up; what was recorded since is given up.
    Restore,
    /// A lease was asked for.
    LeaseRequest,
    /// A key was put into a lease.
    LeaseKey,
    /// A lease was issued.
    LeaseIssue,
    /// A lease of a label was refilled with the files that there are.
    LeaseRefill,
    /// A lease that was asked for was not given.
    LeaseRefuse,
    /// A lease was taken back.
    LeaseRevoke,
    /// A stricter policy has left less of a lease than was lent.
    LeaseNarrow,
    /// A terminal reported that a file was opened under a lease.
    LeaseOpen,
    /// A terminal reported that a lease was given back.
    LeaseReturn,
    /// What a terminal reported of its leases does not continue what it reported before.
    LeaseStateRefused,
    /// The ledger of leases was read.
    LeaseLedgerRead,
}

/// One record. Field order is the canonical order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What was done.
    pub act: Act,
    /// Whether the terminal, a gateway, asserted the person, who showed no password to this server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asserted: bool,
    /// Why not, for refusals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ProblemCode>,
    /// In words, such as the fields of an administrative object that were changed; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileId>,
    /// The file's name as the terminal gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The file's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelId>,
    /// The login name as it is compared, where a person is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The label that the file is to get, where the right is `relabel`, as the terminal says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_label: Option<LabelId>,
    /// The administrative object, `kind/id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// The right that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<Right>,
    /// All rights that the decision gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
    /// The rules that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleId>,
    /// The login session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalId>,
    /// When, by the server's clock.
    pub time: Timestamp,
    /// Format of the record.
    pub version: u32,
}

/// Who acts, from where, in which request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Who {
    /// The person.
    pub person: Option<PersonId>,
    /// The terminal.
    pub terminal: Option<TerminalId>,
    /// The session.
    pub session: Option<SessionId>,
    /// The request.
    pub request: Option<RequestId>,
    /// Whether the terminal asserted the person.
    pub asserted: bool,
}

impl Record {
    /// A record of an act at a time, with nothing else said yet.
    pub fn new(act: Act, time: Timestamp, who: Who) -> Self {
        Self {
            act,
            asserted: who.asserted,
            code: None,
            detail: None,
            file: None,
            file_name: None,
            label: None,
            login: None,
            new_label: None,
            object: None,
            person: who.person,
            request: who.request,
            right: None,
            rights: None,
            rules: Vec::new(),
            session: who.session,
            terminal: who.terminal,
            time,
            version: VERSION,
        }
    }

    /// The object that the act is about.
    #[must_use]
    pub fn about(mut self, kind: &str, id: impl std::fmt::Display) -> Self {
        self.object = Some(format!("{kind}/{id}"));
        self
    }

    /// What happened, in words.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The canonical bytes.
    ///
    /// # Errors
    /// None in practice: every field has a JSON form.
    pub(crate) fn payload(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Record {
        Record {
            code: Some(ProblemCode::RightRefused),
            detail: Some(String::from("d")),
            file: Some(FileId::from_bytes([1; 16])),
            file_name: Some(String::from("起案書.docx")),
            label: Some(LabelId::from_bytes([2; 16])),
            login: Some(String::from("bucho")),
            object: Some(String::from("label/x")),
            right: Some(Right::View),
            rights: Some(Rights::only(Right::View)),
            rules: vec![RuleId::from_bytes([3; 16])],
            ..Record::new(
                Act::Refusal,
                Timestamp::UNIX_EPOCH,
                Who {
                    person: Some(PersonId::from_bytes([4; 16])),
                    terminal: Some(TerminalId::from_bytes([5; 16])),
                    session: Some(SessionId::from_bytes([6; 16])),
                    request: Some(RequestId::from_bytes([7; 16])),
                    asserted: true,
                },
            )
        }
    }

    #[test]
    fn the_payload_is_canonical_and_read_back() {
        let bytes = full().payload().unwrap();
        let sorted: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&bytes).unwrap();
        assert_eq!(sorted.len(), 18);
        assert_eq!(serde_json::to_vec(&sorted).unwrap(), bytes, "keys are in order");
        assert_eq!(serde_json::from_slice::<Record>(&bytes).unwrap(), full());
    }

    #[test]
    fn the_worked_example_of_the_specification_holds() {
        let text = include_str!("../../../docs/spec/api.md");
        let payloads: Vec<&str> =
            text.lines().map(str::trim).filter(|line| line.starts_with("{\"act\"")).collect();
        assert_eq!(payloads.len(), 2);
        let mut hash = crate::store::AuditHead::START.hash;
        for payload in payloads {
            let record: Record = serde_json::from_str(payload).unwrap();
            assert_eq!(String::from_utf8(record.payload().unwrap()).unwrap(), payload);
            hash = crate::audit::chain::link(&hash, payload.as_bytes());
            assert!(text.contains(&data_encoding::HEXLOWER.encode(&hash)), "{payload}");
        }
    }

    #[test]
    fn what_does_not_apply_is_absent() {
        let bytes = Record::new(Act::Start, Timestamp::UNIX_EPOCH, Who::default()).payload().unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"act":"start","time":"1970-01-01T00:00:00Z","version":1}"#
        );
    }
}

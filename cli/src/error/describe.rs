//! How an error is told: in words of the user's language, and as JSON.

use super::Error;
use crate::arguments;
use crate::message::{Arguments, Language};
use serde::Serialize;
use std::io;
use tobari_core::audit::ExportFault;
use tobari_core::policy::Rights;
use tobari_core::proto::api::Reason;
use tobari_core::proto::control::Particulars;
use tobari_core::proto::problem::{Problem, ProblemCode};

/// There is no such program in a session.
const PROGRAM: &str = "session-program";

/// An error as `--json` shows it on standard error.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// Stable code.
    pub code: String,
    /// Exit code of its class.
    pub exit: u8,
    /// Name of that class.
    pub exit_name: &'static str,
    /// In the user's language.
    pub message: String,
    /// The next step, in the user's language.
    pub hint: String,
    /// The file or object at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// In English, from the daemon or the key server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// What may be done instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
    /// The rules that decided.
    #[serde(skip_serializing_if = "<[Reason]>::is_empty")]
    pub reasons: &'a [Reason],
    /// What was needed and refused, or how much is authentic.
    #[serde(flatten)]
    pub particulars: Option<&'a Particulars>,
    /// Names that would have been known.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub known: &'a [String],
    /// Request id of the key server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Seconds to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl Error {
    /// What `--json` shows.
    pub fn report(&self, language: Language) -> Report<'_> {
        let (mut detail, mut given_rights, mut given_reasons, mut request_id, mut retry) =
            (None, None, [].as_slice(), None, None);
        let mut given_particulars = None;
        if let Self::Problem { problem, rights, reasons, particulars, .. } = self {
            given_particulars = Some(&**particulars);
            detail = Some(problem.detail.as_str()).filter(|detail| !detail.is_empty());
            given_rights = *rights;
            given_reasons = reasons;
            request_id = problem.request_id.map(|id| id.to_string());
            retry = problem.retry_after_seconds;
        }
        Report {
            code: self.code(),
            exit: self.exit().code(),
            exit_name: self.exit().name(),
            message: self.message(language),
            hint: self.hint(language),
            subject: self.subject(),
            detail,
            rights: given_rights,
            reasons: given_reasons,
            particulars: given_particulars,
            known: self.known(),
            request_id,
            retry_after_seconds: retry,
        }
    }

    /// What happened, in `language`.
    pub fn message(&self, language: Language) -> String {
        let text = language.text(&self.text_id(), &self.arguments(language));
        match self {
            Self::Problem { subject: Some(subject), .. } => format!("{subject}: {text}"),
            _ => text,
        }
    }

    /// The text that says the most of what is known.
    fn text_id(&self) -> String {
        let code = self.code();
        let Self::Problem { problem, particulars, .. } = self else { return format!("error-{code}") };
        let Particulars { right, label_name, authentic_bytes } = &**particulars;
        if let Some(of_session) = self.of_session() {
            return format!("error-{of_session}");
        }
        let more = match (problem.code, right, label_name, authentic_bytes) {
            (ProblemCode::RightRefused, Some(_), Some(_), _) => "-label",
            (ProblemCode::RightRefused, Some(_), None, _) => "-right",
            (ProblemCode::RightRefused, None, Some(_), _) if problem.field.as_deref() == Some("legacy") => {
                "-legacy"
            }
            (ProblemCode::RightRefused, None, None, _)
                if problem.field.as_deref().is_some_and(|field| field.starts_with("files[")) =>
            {
                "-lease"
            }
            (ProblemCode::Conflict, ..) => self.of_lease().unwrap_or_default(),
            (ProblemCode::SecondPersonNeeded, Some(_), _, _) => "-unseal",
            (ProblemCode::CorruptEnvelope, _, _, Some(0)) => "-whole",
            (ProblemCode::CorruptEnvelope, _, _, Some(_)) => "-tail",
            _ => "",
        };
        format!("error-{code}{more}")
    }

    /// The next step, in `language`.
    pub fn hint(&self, language: Language) -> String {
        let mut id = self.of_session().filter(|id| *id == PROGRAM).map_or_else(|| self.code(), str::to_owned);
        id.push_str(self.of_lease().unwrap_or_default());
        if let Self::UnknownName { kind: kind @ ("person" | "terminal" | "lease" | "request"), known, .. } =
            self
            && known.is_empty()
        {
            id = format!("{id}-{kind}");
        }
        language.text(&format!("hint-{id}"), &self.arguments(language))
    }

    /// What a session refused has texts of its own; the daemon names them in `field`.
    fn of_session(&self) -> Option<&str> {
        let Self::Problem { problem, .. } = self else { return None };
        match (problem.code, problem.field.as_deref()?) {
            (
                ProblemCode::RightRefused,
                field @ ("session-below" | "session-wider" | "session-print" | "session-plain"
                | "session-relabel"),
            ) => Some(field),
            (ProblemCode::NotFound, field @ PROGRAM) => Some(field),
            _ => None,
        }
    }

    /// What stands in the way of a lease has texts of its own; the key server names it in `field`.
    fn of_lease(&self) -> Option<&'static str> {
        let Self::Problem { problem, .. } = self else { return None };
        match (problem.code, problem.field.as_deref()?) {
            (ProblemCode::Conflict, "lease-state") => Some("-lease-state"),
            (ProblemCode::Conflict, field) if field.starts_with("refill-") => Some("-refill"),
            // As `admin lease` tells it.
            (ProblemCode::Conflict, field) if field.starts_with("lease-is-") => Some("-lease"),
            _ => None,
        }
    }

    fn subject(&self) -> Option<String> {
        match self {
            Self::Problem { subject, .. } => subject.clone(),
            Self::DaemonUnreachable { socket: path, .. }
            | Self::Io { path, .. }
            | Self::Exists(path)
            | Self::NotRegular(path)
            | Self::HardLinked(path)
            | Self::NotSealed(path)
            | Self::NotUtf8(path)
            | Self::Changed(path)
            | Self::NotDesignated(path)
            | Self::NoApplication { path, .. }
            | Self::ReadBack(path)
            | Self::WitnessFile { path, .. }
            | Self::Seal { path, .. }
            | Self::NoLabel { path, .. } => Some(path.to_string_lossy().into_owned()),
            Self::SameName(name) | Self::UnknownName { name, .. } | Self::AmbiguousName { name, .. } => {
                Some(name.clone())
            }
            Self::Usage { detail, .. } => Some(detail.clone()),
            Self::DaemonLost(_)
            | Self::DaemonAnswer
            | Self::DaemonVersion { .. }
            | Self::BrokenPipe
            | Self::NothingToSend
            | Self::NoTerminal
            | Self::PasswordsDiffer
            | Self::NotCovered { .. }
            | Self::Leaked(_)
            | Self::AuditBroken(_)
            | Self::AuditExport(_) => None,
        }
    }

    fn known(&self) -> &[String] {
        match self {
            Self::NoLabel { known, .. }
            | Self::UnknownName { known, .. }
            | Self::AmbiguousName { known, .. } => known,
            _ => &[],
        }
    }

    fn arguments(&self, language: Language) -> Arguments {
        let subject = self.subject().unwrap_or_default();
        let none = || language.text("none", &arguments! {});
        let known = Some(self.known().join(", ")).filter(|known| !known.is_empty()).unwrap_or_else(none);
        match self {
            Self::Problem { problem, rights, particulars, .. } => arguments! {
                right: particulars.right.map(|right| right.to_string()).unwrap_or_default(),
                label: particulars.label_name.as_deref().unwrap_or_default(),
                bytes: particulars.authentic_bytes.unwrap_or_default(),
                subject: subject,
                detail: match problem.detail.as_str() { "" => problem.title.as_str(), detail => without_field(problem, detail) },
                field: problem.field.as_deref().unwrap_or_default(),
                seconds: problem.retry_after_seconds.unwrap_or(60),
                request: problem.request_id.map(|id| id.to_string()).unwrap_or_else(|| "-".to_owned()),
                rights: rights.filter(|rights| !rights.is_empty()).map_or_else(none, |rights| rights.to_string()),
                path: subject,
                cause: problem.detail,
            },
            Self::DaemonUnreachable { source, .. } | Self::DaemonLost(source) | Self::Io { source, .. } => {
                arguments! { path: subject, cause: cause(source, language) }
            }
            Self::DaemonVersion { version, program } => arguments! { version: version, program: program },
            Self::Seal { detail, .. } | Self::WitnessFile { detail, .. } => {
                arguments! { path: subject, detail: detail }
            }
            Self::UnknownName { kind, name, .. } | Self::AmbiguousName { kind, name, .. } => arguments! {
                kind: language.text(&format!("kind-{kind}"), &arguments! {}),
                name: name,
                known: known,
            },
            Self::NoApplication { kind, .. } => arguments! { path: subject, kind: kind },
            Self::NotCovered { open, all } => arguments! { open: open, all: all },
            Self::Leaked(ways) => arguments! { ways: ways },
            Self::AuditBroken(sequence) => arguments! { sequence: sequence },
            Self::AuditExport(fault) => match fault {
                ExportFault::Line(line) => arguments! { line: line },
                ExportFault::NoEnd => arguments! {},
                ExportFault::Count { found, said } => arguments! { found: found, said: said },
                ExportFault::Checkpoint(error) => arguments! { detail: error },
                ExportFault::Altered { first, last } => arguments! { first: first, last: last },
                ExportFault::Cut { size, witnessed } => arguments! { size: size, witnessed: witnessed },
                ExportFault::Rewritten(size) => arguments! { size: size },
            },
            _ => arguments! { path: subject, name: subject, detail: subject, known: known },
        }
    }
}

/// The detail without the name of the field, with which the key server begins it, where the text names the field itself.
fn without_field<'a>(problem: &Problem, detail: &'a str) -> &'a str {
    let named = problem.field.as_deref().filter(|_| problem.code == ProblemCode::InvalidRequest);
    named.and_then(|field| detail.strip_prefix(field)?.strip_prefix(": ")).unwrap_or(detail)
}

fn cause(error: &io::Error, language: Language) -> String {
    let id = match error.kind() {
        io::ErrorKind::NotFound => "cause-not-found",
        io::ErrorKind::PermissionDenied => "cause-permission-denied",
        io::ErrorKind::ConnectionRefused => "cause-connection-refused",
        io::ErrorKind::StorageFull => "cause-storage-full",
        io::ErrorKind::QuotaExceeded => "cause-quota-exceeded",
        io::ErrorKind::ReadOnlyFilesystem => "cause-read-only",
        io::ErrorKind::IsADirectory => "cause-is-a-directory",
        io::ErrorKind::NotADirectory => "cause-not-a-directory",
        io::ErrorKind::UnexpectedEof => "cause-unexpected-end",
        _ => return error.to_string(),
    };
    language.text(id, &arguments! {})
}

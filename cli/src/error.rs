//! Everything that can go wrong in a run, by who is at fault, with its message, hint and exit code.

mod describe;

pub use describe::Report;

use crate::exit::Exit;
use std::io;
use std::path::{Path, PathBuf};
use tobari_core::audit::ExportFault;
use tobari_core::policy::Rights;
use tobari_core::proto::api::Reason;
use tobari_core::proto::control::Particulars;
use tobari_core::proto::problem::{Problem, ProblemCode};

/// Why a run, or its part for one file, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon or the key server refused.
    #[error("{}: {}", problem_name(problem.code), problem.detail)]
    Problem {
        /// Why.
        problem: Box<Problem>,
        /// The file or object at fault.
        subject: Option<String>,
        /// What may be done instead.
        rights: Option<Rights>,
        /// The rules that decided.
        reasons: Vec<Reason>,
        /// What the problem's detail says, as data.
        particulars: Box<Particulars>,
    },
    /// Nobody listens on the control socket.
    #[error("failed to connect to {socket:?}")]
    DaemonUnreachable {
        /// The socket.
        socket: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The daemon went away in the middle.
    #[error("lost the daemon")]
    DaemonLost(#[source] io::Error),
    /// The daemon's answer is not one to this request.
    #[error("the daemon's answer is not understood")]
    DaemonAnswer,
    /// The daemon speaks another version of the protocol.
    #[error("the daemon {program} speaks version {version}")]
    DaemonVersion {
        /// Its protocol version.
        version: u32,
        /// Its program version.
        program: String,
    },
    /// A local file could not be used.
    #[error("failed to {} {path:?}", action.id())]
    Io {
        /// What was tried.
        action: Action,
        /// With what.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The reader of standard output has gone. Quiet.
    #[error("the reader of standard output has gone")]
    BrokenPipe,
    /// The output exists.
    #[error("{0:?} exists")]
    Exists(PathBuf),
    /// Not a regular file.
    #[error("{0:?} is not a regular file")]
    NotRegular(PathBuf),
    /// The file has other hard links, which would keep the old contents.
    #[error("{0:?} has other hard links")]
    HardLinked(PathBuf),
    /// The file is not sealed.
    #[error("{0:?} is not sealed")]
    NotSealed(PathBuf),
    /// A name that must be UTF-8 is not.
    #[error("{0:?} is not UTF-8")]
    NotUtf8(PathBuf),
    /// The file changed while it was worked on; it is as its writer left it.
    #[error("{0:?} changed meanwhile")]
    Changed(PathBuf),
    /// Two files would have the same path in the archive.
    #[error("{0} would be twice in the archive")]
    SameName(String),
    /// No regular file among what was named.
    #[error("nothing to put into the archive")]
    NothingToSend,
    /// Sealing failed inside the envelope code.
    #[error("failed to seal {path:?}: {detail}")]
    Seal {
        /// The file.
        path: PathBuf,
        /// Detail in English.
        detail: String,
    },
    /// What was written does not read back; the original is untouched.
    #[error("the sealed copy of {0:?} does not read back")]
    ReadBack(PathBuf),
    /// No label was given and none follows from the place.
    #[error("no label for {path:?}")]
    NoLabel {
        /// The file.
        path: PathBuf,
        /// The labels that there are.
        known: Vec<String>,
    },
    /// No object has this name or id.
    #[error("no {kind} is named {name}")]
    UnknownName {
        /// Kind of object: `label`, `group`, …
        kind: &'static str,
        /// As typed.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Several objects have this name.
    #[error("several of kind {kind} are named {name}")]
    AmbiguousName {
        /// Kind of object.
        kind: &'static str,
        /// As typed.
        name: String,
        /// Their paths or ids.
        known: Vec<String>,
    },
    /// Arguments that clap lets pass but that mean nothing.
    #[error("{what}: {detail}")]
    Usage {
        /// Message without its `error-usage-`.
        what: &'static str,
        /// Value at fault.
        detail: String,
    },
    /// A secret is needed and there is no terminal to ask on.
    #[error("no terminal to ask for a password on")]
    NoTerminal,
    /// The two passwords typed differ.
    #[error("the two passwords differ")]
    PasswordsDiffer,
    /// A file that is to be opened in a session lies where no session shows it opened.
    #[error("{0:?} lies in no designated folder of this terminal")]
    NotDesignated(PathBuf),
    /// Nothing on this desktop opens files of this type.
    #[error("no application for {path:?} ({kind})")]
    NoApplication {
        /// The file.
        path: PathBuf,
        /// Its MIME type.
        kind: String,
    },
    /// `drill`: this many ways brought plaintext that is not to be had.
    #[error("{0} ways brought plaintext")]
    Leaked(usize),
    /// Some files are not sealed.
    #[error("{open} of {all} files are not sealed")]
    NotCovered {
        /// Files that are not (known to be) sealed.
        open: u64,
        /// All files.
        all: u64,
    },
    /// The chain of the audit log does not hold.
    #[error("the audit chain breaks at record {0}")]
    AuditBroken(u64),
    /// An export of the audit log does not hold.
    #[error(transparent)]
    AuditExport(ExportFault),
    /// What a witness kept is not signed by the log.
    #[error("{path:?}: {detail}")]
    WitnessFile {
        /// The file.
        path: PathBuf,
        /// Detail in English.
        detail: String,
    },
}

/// What was tried with a local file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Opening it.
    Open,
    /// Reading it.
    Read,
    /// Writing it.
    Write,
    /// Creating it.
    Create,
    /// Copying owner, mode, times or extended attributes to it.
    Attributes,
    /// Putting the new file into its place.
    Replace,
}

impl Action {
    const ALL: [Self; 6] =
        [Self::Open, Self::Read, Self::Write, Self::Create, Self::Attributes, Self::Replace];

    const fn id(self) -> &'static str {
        match self {
            Self::Open => "io-open",
            Self::Read => "io-read",
            Self::Write => "io-write",
            Self::Create => "io-create",
            Self::Attributes => "io-attributes",
            Self::Replace => "io-replace",
        }
    }

    /// The error of having tried it with `path`.
    pub fn failed(self, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action: self, path, source }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::refused(problem, None, None, Vec::new(), Particulars::default())
    }
}

impl Error {
    /// What the daemon said when it failed.
    pub fn refused(
        problem: Problem,
        subject: Option<String>,
        rights: Option<Rights>,
        reasons: Vec<Reason>,
        particulars: Particulars,
    ) -> Self {
        let particulars = Box::new(particulars);
        Self::Problem { problem: Box::new(problem), subject, rights, reasons, particulars }
    }

    /// The same error, about `path` where it does not name a file yet.
    #[must_use]
    pub fn about(mut self, path: &Path) -> Self {
        if let Self::Problem { subject: subject @ None, .. } = &mut self {
            *subject = Some(path.to_string_lossy().into_owned());
        }
        self
    }

    /// The stable code: the problem's own, or one of this program's.
    pub fn code(&self) -> String {
        match self {
            Self::Problem { problem, .. } if is_no_space(problem) => "no-space".to_owned(),
            Self::Problem { problem, .. } => problem_name(problem.code),
            Self::DaemonUnreachable { .. } => "daemon-unreachable".to_owned(),
            Self::DaemonLost(_) => "daemon-lost".to_owned(),
            Self::DaemonAnswer => "daemon-answer".to_owned(),
            Self::DaemonVersion { .. } => "daemon-version".to_owned(),
            Self::Io { source, .. } if is_full(source) => "no-space".to_owned(),
            Self::Io { action, .. } => action.id().to_owned(),
            Self::BrokenPipe => "broken-pipe".to_owned(),
            Self::Exists(_) => "exists".to_owned(),
            Self::NotRegular(_) => "not-regular".to_owned(),
            Self::HardLinked(_) => "hard-linked".to_owned(),
            Self::NotSealed(_) => "not-sealed".to_owned(),
            Self::NotUtf8(_) => "not-utf8".to_owned(),
            Self::Changed(_) => "file-changed".to_owned(),
            Self::SameName(_) => "same-name".to_owned(),
            Self::NothingToSend => "nothing-to-send".to_owned(),
            Self::Seal { .. } => "seal".to_owned(),
            Self::ReadBack(_) => "read-back".to_owned(),
            Self::NoLabel { .. } => "no-label".to_owned(),
            Self::UnknownName { .. } => "unknown-name".to_owned(),
            Self::AmbiguousName { .. } => "ambiguous-name".to_owned(),
            Self::Usage { what, .. } => format!("usage-{what}"),
            Self::NoTerminal => "no-terminal".to_owned(),
            Self::PasswordsDiffer => "passwords-differ".to_owned(),
            Self::NotDesignated(_) => "not-designated".to_owned(),
            Self::NoApplication { .. } => "no-application".to_owned(),
            Self::NotCovered { .. } => "not-covered".to_owned(),
            Self::Leaked(_) => "leaked".to_owned(),
            Self::AuditBroken(_) => "audit-broken".to_owned(),
            Self::AuditExport(fault) => export_fault(fault).to_owned(),
            Self::WitnessFile { .. } => "witness-file".to_owned(),
        }
    }

    /// The exit code of its class.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Problem { problem, .. } if is_no_space(problem) => Exit::NoSpace,
            Self::Problem { problem, .. } => problem.code.into(),
            Self::DaemonUnreachable { .. } | Self::DaemonLost(_) => Exit::DaemonUnreachable,
            Self::DaemonAnswer | Self::DaemonVersion { .. } => Exit::Internal,
            Self::Io { source, .. } if is_full(source) => Exit::NoSpace,
            Self::Io { .. } => Exit::Io,
            Self::BrokenPipe => Exit::Ok,
            Self::Exists(_) => Exit::Exists,
            Self::NotRegular(_) | Self::HardLinked(_) | Self::NotSealed(_) | Self::NotUtf8(_) => {
                Exit::UnsuitableFile
            }
            Self::Changed(_) => Exit::FileChanged,
            Self::SameName(_) | Self::NothingToSend | Self::Usage { .. } | Self::NoTerminal => Exit::Usage,
            Self::PasswordsDiffer | Self::NoLabel { .. } => Exit::Usage,
            Self::Seal { .. } | Self::ReadBack(_) => Exit::Internal,
            Self::NotDesignated(_) => Exit::UnsuitableFile,
            Self::UnknownName { .. } | Self::NoApplication { .. } => Exit::NotFound,
            Self::AmbiguousName { .. } => Exit::Conflict,
            Self::NotCovered { .. } => Exit::NotCovered,
            Self::Leaked(_) => Exit::Leaked,
            Self::AuditBroken(_) | Self::AuditExport(_) | Self::WitnessFile { .. } => Exit::AuditBroken,
        }
    }

    /// Every code of this program's own, for the test that each has a text and a hint.
    pub fn own_codes() -> Vec<String> {
        let mut codes: Vec<String> = [
            "daemon-unreachable",
            "daemon-lost",
            "daemon-answer",
            "daemon-version",
            "no-space",
            "broken-pipe",
            "exists",
            "not-regular",
            "hard-linked",
            "not-sealed",
            "not-utf8",
            "file-changed",
            "same-name",
            "nothing-to-send",
            "seal",
            "read-back",
            "no-label",
            "unknown-name",
            "ambiguous-name",
            "no-terminal",
            "passwords-differ",
            "not-designated",
            "no-application",
            "not-covered",
            "leaked",
            "audit-broken",
            "export-line",
            "export-cut",
            "export-count",
            "export-unsigned",
            "export-altered",
            "export-end-cut",
            "export-rewritten",
            "witness-file",
        ]
        .map(str::to_owned)
        .into();
        codes.extend(Action::ALL.map(|action| action.id().to_owned()));
        codes.extend(USAGE.map(|what| format!("usage-{what}")));
        codes
    }
}

/// All `what` of [`Error::Usage`].
pub const USAGE: [&str; 17] = [
    "audit-act",
    "audit-time",
    "audit-key",
    "command-line",
    "one-output",
    "password-empty",
    "membership",
    "post-selector",
    "nothing-to-set",
    "name-slash",
    "no-policy-act",
    "label-scope",
    "login-missing",
    "nothing-to-lend",
    "lease-of-files",
    "no-lease-of-label",
    "which-lease",
];

fn export_fault(fault: &ExportFault) -> &'static str {
    match fault {
        ExportFault::Line(_) => "export-line",
        ExportFault::NoEnd => "export-cut",
        ExportFault::Count { .. } => "export-count",
        ExportFault::Checkpoint(_) => "export-unsigned",
        ExportFault::Altered { .. } => "export-altered",
        ExportFault::Cut { .. } => "export-end-cut",
        ExportFault::Rewritten(_) => "export-rewritten",
    }
}

/// The code as it is written in JSON.
pub fn problem_name(code: ProblemCode) -> String {
    serde_json::to_value(code).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The daemon says in `field` when a local failure was a full disk.
fn is_no_space(problem: &Problem) -> bool {
    problem.code == ProblemCode::LocalIo && problem.field.as_deref() == Some("no-space")
}

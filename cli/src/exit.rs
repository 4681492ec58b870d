//! Exit codes: one enum, published in `docs/cli-abi.md`, never reused. A test compares the two.

use tobari_core::proto::problem::ProblemCode;

macro_rules! exits {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $text:literal;)*) => {
        /// How a run ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Exit {
            $($(#[doc = $doc])* $name,)*
            /// `run`, `open`: the program ran, and this is its own exit code.
            Program(u8),
        }

        impl Exit {
            /// All that are this program's own, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The process's exit code.
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* Self::Program(code) => code }
            }

            /// Its name in documents and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* Self::Program(_) => "program" }
            }
        }
    };
}

exits! {
    /// Everything that was asked is done.
    Ok = 0, "ok";
    /// A bug, here, in the daemon or in the key server.
    Internal = 1, "internal";
    /// The command line is not understood.
    Usage = 2, "usage";
    /// Nobody is logged in, or the session ended.
    NotLoggedIn = 3, "not-logged-in";
    /// Login name, password or code is wrong.
    BadCredentials = 4, "bad-credentials";
    /// Too many failed logins; wait.
    LockedOut = 5, "locked-out";
    /// The policy refuses the right.
    RightRefused = 6, "right-refused";
    /// The administrator roles do not include this act.
    NotAdministrator = 7, "not-administrator";
    /// The header of a sealed file is damaged, of another organisation or under an unknown key.
    UnreadableEnvelope = 8, "unreadable-envelope";
    /// The contents of a sealed file fail a check.
    CorruptEnvelope = 9, "corrupt-envelope";
    /// Reading or writing a local file failed.
    Io = 10, "io";
    /// The disk or the quota is full.
    NoSpace = 11, "no-space";
    /// No object has this name.
    NotFound = 12, "not-found";
    /// The output exists and is not overwritten.
    Exists = 13, "exists";
    /// The key server cannot be reached.
    KeyServerUnreachable = 14, "key-server-unreachable";
    /// The daemon cannot be reached.
    DaemonUnreachable = 15, "daemon-unreachable";
    /// `scan-coverage`: not every file is sealed.
    NotCovered = 16, "not-covered";
    /// Another object has this name, or the object is in use.
    Conflict = 17, "conflict";
    /// This terminal's certificate has expired.
    CertificateExpired = 18, "certificate-expired";
    /// The key server does not accept this terminal.
    TerminalNotAccepted = 19, "terminal-not-accepted";
    /// The key server answers but cannot work: audit log or store unavailable.
    ServerUnavailable = 20, "server-unavailable";
    /// A value is not allowed.
    InvalidRequest = 21, "invalid-request";
    /// The daemon lacks what this needs, such as a role.
    NotConfigured = 22, "not-configured";
    /// The file cannot take part: not a regular file, hard links, a name that is not UTF-8, not sealed.
    UnsuitableFile = 23, "unsuitable-file";
    /// The file changed meanwhile and was left as it is.
    FileChanged = 24, "file-changed";
    /// Too many requests; wait.
    TooManyRequests = 25, "too-many-requests";
    /// The enrolment token is unknown, used or expired.
    BadEnrolmentToken = 26, "bad-enrolment-token";
    /// The audit log's chain does not hold.
    AuditBroken = 27, "audit-broken";
    /// `drill`: plaintext was got where none is to be had.
    Leaked = 28, "leaked";
    /// The act widens access: a second person has to approve it, or a fresh code is missing.
    SecondPersonNeeded = 29, "second-person-needed";
    /// A lease covers the file and does not permit to open it.
    LeaseRefused = 30, "lease-refused";
    /// No answer came to a change: it may have been made, or be in work.
    OutcomeUnknown = 31, "outcome-unknown";
}

impl From<ProblemCode> for Exit {
    fn from(code: ProblemCode) -> Self {
        match code {
            ProblemCode::InvalidRequest | ProblemCode::TooLarge => Self::InvalidRequest,
            ProblemCode::UnreadableEnvelope => Self::UnreadableEnvelope,
            ProblemCode::BadCredentials => Self::BadCredentials,
            ProblemCode::NotLoggedIn => Self::NotLoggedIn,
            ProblemCode::TerminalNotAccepted | ProblemCode::TerminalFrozen | ProblemCode::NotGateway => {
                Self::TerminalNotAccepted
            }
            ProblemCode::BadEnrolmentToken => Self::BadEnrolmentToken,
            ProblemCode::NotAdministrator => Self::NotAdministrator,
            ProblemCode::RightRefused | ProblemCode::Revoked | ProblemCode::KeyRetired => Self::RightRefused,
            ProblemCode::NotFound => Self::NotFound,
            ProblemCode::SecondPersonNeeded | ProblemCode::StepUpNeeded => Self::SecondPersonNeeded,
            ProblemCode::Conflict | ProblemCode::InvariantBroken => Self::Conflict,
            ProblemCode::LockedOut => Self::LockedOut,
            ProblemCode::TooManyRequests => Self::TooManyRequests,
            ProblemCode::Internal => Self::Internal,
            ProblemCode::AuditUnavailable | ProblemCode::StoreUnavailable => Self::ServerUnavailable,
            ProblemCode::KeyServerUnreachable => Self::KeyServerUnreachable,
            ProblemCode::CertificateExpired => Self::CertificateExpired,
            ProblemCode::NotConfigured => Self::NotConfigured,
            ProblemCode::CorruptEnvelope => Self::CorruptEnvelope,
            ProblemCode::LocalIo => Self::Io,
            ProblemCode::LeaseRefused => Self::LeaseRefused,
            ProblemCode::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

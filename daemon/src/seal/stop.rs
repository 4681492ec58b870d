//! Why sealing a file stopped, and what that means to people.

use super::step::Step;
use rustix::io::Errno;
use std::io;
use tobari_core::proto::control::UnsealedReason;

/// Sealing stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The name no longer leads to a file: removed, moved, or replaced by something else. Whatever
    /// did that causes an event of its own.
    #[error("the file is gone")]
    Vanished,
    /// A rule or the file's state forbids it for now.
    #[error("{detail}")]
    Refused {
        /// The stable code.
        reason: UnsealedReason,
        /// In words.
        detail: String,
    },
    /// A system call failed.
    #[error("{}{error}", step.map(|step| format!("{step:?}: ")).unwrap_or_default())]
    Io {
        /// Where, once known.
        step: Option<Step>,
        /// How.
        error: io::Error,
    },
    /// A test ended the "process" here; nothing may be cleaned up.
    #[error("died")]
    Died,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io { step: None, error }
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl Stop {
    /// A refusal.
    pub(crate) fn refused(reason: UnsealedReason, detail: impl Into<String>) -> Self {
        Self::Refused { reason, detail: detail.into() }
    }

    /// Adds where it happened, if that is not known yet.
    pub(crate) fn at(self, at: Step) -> Self {
        match self {
            Self::Io { step: None, error } => Self::Io { step: Some(at), error },
            other => other,
        }
    }

    /// The same for another file that it stopped.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Vanished => Self::Vanished,
            Self::Refused { reason, detail } => Self::Refused { reason: *reason, detail: detail.clone() },
            Self::Io { step, error } => Self::Io {
                step: *step,
                error: error.raw_os_error().map_or_else(
                    || io::Error::new(error.kind(), error.to_string()),
                    io::Error::from_raw_os_error,
                ),
            },
            Self::Died => Self::Died,
        }
    }

    /// Whether it is this error of a system call.
    pub(crate) fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Io { error, .. } if error.raw_os_error() == Some(errno.raw_os_error()))
    }

    /// The stable code and the words for `tobari status --unsealed`; none when there is nothing to report.
    pub(crate) fn report(&self) -> Option<(UnsealedReason, String)> {
        match self {
            Self::Vanished | Self::Died => None,
            Self::Refused { reason, detail } => Some((*reason, detail.clone())),
            Self::Io { step, error } => {
                let errno = error.raw_os_error().map(Errno::from_raw_os_error);
                let reason = match (errno, step) {
                    (Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG), _) => UnsealedReason::NoSpace,
                    (Some(Errno::AGAIN | Errno::TXTBSY), Some(Step::OpenFile | Step::LeaseFile)) => {
                        UnsealedReason::InUse
                    }
                    (
                        // The last three: the disk is bad, or what the file system noted about the file.
                        Some(
                            Errno::ACCESS
                            | Errno::PERM
                            | Errno::NAMETOOLONG
                            | Errno::IO
                            | Errno::UCLEAN
                            | Errno::BADMSG,
                        ),
                        Some(Step::OpenParent | Step::OpenFile),
                    ) => UnsealedReason::Unreadable,
                    (Some(Errno::XDEV), _) => UnsealedReason::OtherFileSystem,
                    _ => UnsealedReason::System,
                };
                Some((reason, self.to_string()))
            }
        }
    }
}

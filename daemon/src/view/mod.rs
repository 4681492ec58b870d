//! The view: a FUSE file system over a protected folder, in which sealed files have their plaintext sizes and contents,
//! for whoever the key server grants them to, and what is created is sealed from its first byte on.
//!
//! [`Mount`] is one mounted view, [`Access`] says on whose behalf it opens and what a session may do beyond the grants,
//! [`Folder`] is what it shows, and [`Registry`] is the daemon's one place for the contents of open files: however many
//! views there are, each file has one owner of its changes. `filesystem` speaks with the kernel and knows no keys;
//! `names`, `directory`, `attributes` and `xattr` are about names and metadata; `opening` and `born` lead from a grant to
//! `contents`, which knows keys but no paths. `docs/view.md` says what holds and what does not.

mod access;
mod ahead;
mod attributes;
mod born;
mod contents;
mod directory;
mod file;
mod filesystem;
mod folder;
mod handle;
mod mount;
mod names;
mod nodes;
mod opening;
mod privileges;
mod recovery;
mod registry;
mod state;
mod storage;
#[cfg(test)]
mod tests;
mod ticket;
mod xattr;

pub use access::{Access, Ids};
pub use folder::Folder;
pub use mount::{Mount, Options};
pub(crate) use recovery::{is_open, settle};
pub use registry::Registry;

use crate::failure::Failure;
use rustix::io::Errno;
use tobari_core::envelope::WriteError;
use tobari_core::proto::problem::ProblemCode;

/// What the kernel is told: an error number is all that there is room for; why is in the log.
type Answer<T> = Result<T, Errno>;

/// What a refusal means to a program.
fn code(failure: &Failure) -> Errno {
    match failure.problem.code {
        ProblemCode::CorruptEnvelope | ProblemCode::UnreadableEnvelope => Errno::IO,
        ProblemCode::LocalIo if failure.problem.field.as_deref() == Some("no-space") => Errno::NOSPC,
        ProblemCode::LocalIo => Errno::IO,
        ProblemCode::KeyServerUnreachable => Errno::HOSTUNREACH,
        _ => Errno::ACCESS,
    }
}

/// What trouble with contents means to a program.
fn trouble(error: WriteError) -> Errno {
    let errno = match &error {
        WriteError::Read(error) | WriteError::Storage(error) | WriteError::Journal(error) => {
            Errno::from_io_error(error).unwrap_or(Errno::IO)
        }
        WriteError::TooLong | WriteError::ResealNeeded => Errno::FBIG,
        WriteError::Refused(_) | WriteError::Failed | WriteError::Header(_) | WriteError::Crypto(_) => {
            Errno::IO
        }
    };
    tracing::warn!(%error, "the contents of a file cannot be used");
    errno
}

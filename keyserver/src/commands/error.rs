//! Why a command was not done: by who is at fault, with what, which and the cause as data.
//! [`Message`](tobari_core::message::Message) says it to the operator in a language, with the next step.

use crate::audit::chain::ChainError;
use crate::config::ConfigError;
use crate::http::ServeError;
use crate::recovery::{RecoveryError, ShareFault};
use crate::root_key::RootKeyError;
use crate::service::ServiceError;
use crate::store::StoreError;
use crate::witness::WitnessError;
use crate::witness::receive::ReceiverError;
use std::io;
use std::path::PathBuf;
use tobari_core::crypto::SelfCheckError;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Input: the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Input: the file with the administrator's password.
    #[error("failed to read the password from {path:?}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Input: there is nobody to ask for the password.
    #[error("failed to ask for the password")]
    NoTerminal(#[source] io::Error),
    /// Input: the password was not typed twice alike.
    #[error("the two passwords differ")]
    PasswordsDiffer,
    /// Input: there is a database already.
    #[error("{0:?} already holds a database")]
    DatabaseExists(PathBuf),
    /// Input: a secret goes to a new file only.
    #[error("{0:?} exists")]
    Exists(PathBuf),
    /// Input: `init` was not run here.
    #[error("there is no {0:?}")]
    NoDatabase(PathBuf),
    /// Input: another program serves the same directory.
    #[error("another tobari-keyserver serves {0:?}")]
    InUse(PathBuf),
    /// Input or environment: the root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// Input or environment: the service refused, as it would a request.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Environment: a file or directory cannot be made, written or locked.
    #[error("failed to write {path:?}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Environment: the database cannot be opened or made.
    #[error("failed to open the database {path:?}")]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// Environment: the PostgreSQL database cannot be opened.
    #[error("failed to open the database {location}")]
    Store {
        /// Where, without a password.
        location: String,
        /// Why.
        source: StoreError,
    },
    /// Input: the database to move to holds something.
    #[error("{0} is not empty")]
    NotEmpty(String),
    /// Environment: what was written to the new database does not read back alike; it was taken back.
    #[error("{location} does not hold what was written to it: {detail}")]
    MovedBadly {
        /// Where, without a password.
        location: String,
        /// What differs.
        detail: String,
    },
    /// Environment: part of the new database is not in its file.
    #[error("the database {0:?} was not written completely")]
    DatabaseIncomplete(PathBuf),
    /// Environment: the records do not hold together, or cannot be read.
    #[error("the audit log is not intact")]
    Audit(#[from] ChainError),
    /// Environment or input: a witness saw another log, or more of it.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// Environment: the folder of a witness.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// Input: the recovery key.
    #[error(transparent)]
    Recovery(RecoveryError),
    /// Input: a share of the recovery key.
    #[error("{path:?}: {fault}")]
    Share {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        fault: ShareFault,
    },
    /// Input: more shares are needed.
    #[error("{given} of the {needed} shares that are needed were given")]
    SharesTooFew {
        /// Shares that were given.
        given: u8,
        /// Shares that it takes.
        needed: u8,
    },
    /// Input: whole shares that do not give the key that they name.
    #[error("the shares do not give the key that they name")]
    SharesNotTheKey,
    /// Input: not 2 ≤ needed ≤ shares.
    #[error("at least 2 shares are needed, and not more than there are")]
    ShareNumbers,
    /// Input: a sealed file that the recovery key does not open.
    #[error("{path:?} was not opened: {detail}")]
    NotRecovered {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// Input: a file cannot be read.
    #[error("failed to read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Input: the key of a log.
    #[error("'{0}' is not the key of an audit log")]
    LogKey(String),
    /// Environment: the address or the certificate.
    #[error(transparent)]
    Listen(#[from] ServeError),
    /// Environment: threads, signals or standard output.
    #[error("the operating system refused")]
    System(#[from] io::Error),
    /// Environment or bug: the processor or the cryptography computes wrongly.
    #[error("the cryptographic self-check failed")]
    SelfCheck(#[from] SelfCheckError),
}

impl CommandError {
    /// The error of having tried to write `path`.
    pub(super) fn write(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists(path),
            _ => Self::Write { path, source },
        }
    }
}

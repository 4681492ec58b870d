//! The state directory: who this terminal is. Mode 0700; one process at a time holds its lock.
//!
//! ```text
//! lock                 flock while a daemon runs or an enrolment is installed
//! enrolment/           replaced as a whole by `enrol --force`
//!   terminal.json      ids, key server, bulletin key (Terminal)
//!   terminal.pem       certificate        terminal.key   its private key (PKCS#8 PEM)
//!   ca.pem             the organisation's CA, the only root that is trusted
//!   grant.key          private key to which DEKs are sealed
//!   bulletin.json      the latest bulletin with its signature
//!   renewed.pem        key and certificate of the last renewal, which take the place of terminal.key and terminal.pem
//!   protection.json    what seals terminal.key, grant.key and renewed.pem to this machine (crate::protect)
//!   leases/            what may be opened without the key server (crate::lease)
//! ```

use crate::files;
use crate::protect::machine::Machine;
use crate::protect::{self, Guard, ProtectError};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, Mode, RenameFlags};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tobari_core::crypto::{GrantKeyPair, VerifyingKey};
use tobari_core::ids::{OrganisationId, TerminalId};
use tobari_core::policy::Protection;
use tobari_core::proto::base64::Base64;
use zeroize::Zeroizing;

const ENROLMENT: &str = "enrolment";
const INCOMING: &str = "enrolment.new";
const TERMINAL: &str = "terminal.json";
const CERTIFICATE: &str = "terminal.pem";
const TLS_KEY: &str = "terminal.key";
const CA: &str = "ca.pem";
const GRANT_KEY: &str = "grant.key";
const BULLETIN: &str = "bulletin.json";
const RENEWED: &str = "renewed.pem";
const LEASES: &str = "leases";
const VERSION: u32 = 1;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Nobody has enrolled here.
    #[error("this terminal is not enrolled: {0} holds no enrolment")]
    NotEnrolled(PathBuf),
    /// There is an enrolment already.
    #[error("this terminal is enrolled already in {0}")]
    AlreadyEnrolled(PathBuf),
    /// Another process has it.
    #[error("another tobarid uses the state directory {0}")]
    InUse(PathBuf),
    /// A file in it is damaged.
    #[error("the file {path} of the state directory is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The keys are sealed to another machine.
    #[error("the keys in {path} are sealed to the machine on which this terminal was enrolled: {why}")]
    OtherMachine {
        /// Where they lie.
        path: PathBuf,
        /// What is not as it was there.
        why: String,
    },
    /// The file system failed.
    #[error("failed to use the state directory at {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// `terminal.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// Version of this file: 1.
    pub version: u32,
    /// This terminal.
    pub terminal: TerminalId,
    /// Its name when it was enrolled.
    pub name: String,
    /// The organisation.
    pub organisation: OrganisationId,
    /// URL of the key server, `https://host:port`; of several, with commas between them, in the order of trial.
    pub server: String,
    /// Ed25519 public key that signs bulletins.
    pub signing_key: Base64,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
}

/// Everything that an enrolment brings.
pub struct NewEnrolment<'a> {
    /// Ids, key server, bulletin key.
    pub terminal: &'a Terminal,
    /// Certificate, PEM.
    pub certificate_pem: &'a str,
    /// Its private key, PKCS#8 PEM.
    pub tls_key_pem: &'a str,
    /// The CA, PEM.
    pub ca_pem: &'a str,
    /// Key to which DEKs are sealed.
    pub grant_key: &'a GrantKeyPair,
    /// JSON of the first bulletin, signed.
    pub bulletin: &'a [u8],
}

/// An enrolment as loaded.
pub struct Enrolment {
    /// Ids, key server, bulletin key.
    pub terminal: Terminal,
    /// The terminal's certificate.
    pub certificate: CertificateDer<'static>,
    /// When that ends.
    pub certificate_expires_at: Timestamp,
    /// Its private key.
    pub tls_key: PrivateKeyDer<'static>,
    /// The only trusted root.
    pub ca: CertificateDer<'static>,
    /// Key to which DEKs are sealed.
    pub grant_key: GrantKeyPair,
    /// Key that signs bulletins.
    pub signing_key: VerifyingKey,
    /// What seals its private keys.
    pub guard: Guard,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

/// The state directory, locked for this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    machine: Machine,
    _lock: File,
}

impl StateDir {
    /// Creates the directory where needed, makes it private and locks it.
    ///
    /// # Errors
    /// When another process has it, or the file system refuses.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let at = |source| StateError::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(at)?;
        rustix::fs::chmod(path, Mode::RWXU).map_err(|error| at(error.into()))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|source| StateError::Io { path: lock_path, source })?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), machine: Machine::here(path), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse(path.to_owned())),
            Err(error) => Err(at(error.into())),
        }
    }

    /// The same on another machine.
    #[cfg(test)]
    pub(crate) fn on(self, machine: Machine) -> Self {
        Self { machine, ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody enrolled here.
    pub fn is_enrolled(&self) -> bool {
        self.path.join(ENROLMENT).join(TERMINAL).exists()
    }

    /// Directory and file name of the cached bulletin.
    pub fn bulletin(&self) -> (PathBuf, &'static str) {
        (self.path.join(ENROLMENT), BULLETIN)
    }

    /// Directory and file name of a renewed key and certificate.
    pub fn renewed(&self) -> (PathBuf, &'static str) {
        (self.path.join(ENROLMENT), RENEWED)
    }

    /// Folder of the leases. It belongs to the enrolment: leases are sealed to its key.
    pub fn leases(&self) -> PathBuf {
        self.path.join(ENROLMENT).join(LEASES)
    }

    /// Puts a new enrolment in place; with `force` it replaces the present one, as a whole and at once.
    ///
    /// # Errors
    /// [`StateError::AlreadyEnrolled`] without `force`; what the file system says.
    pub fn install(&self, new: &NewEnrolment<'_>, force: bool) -> Result<(), StateError> {
        if self.is_enrolled() && !force {
            return Err(StateError::AlreadyEnrolled(self.path.clone()));
        }
        let incoming = self.path.join(INCOMING);
        self.write_incoming(&incoming, new)
            .and_then(|()| Ok(self.exchange(&incoming)?))
            .map_err(|error| protect_error(&incoming, error))
    }

    /// How an enrolment that is made now keeps its private keys.
    pub fn protection(&self) -> Protection {
        Guard::offered(&self.machine)
    }

    fn write_incoming(&self, incoming: &Path, new: &NewEnrolment<'_>) -> Result<(), ProtectError> {
        remove_tree(incoming)?;
        std::fs::create_dir(incoming)?;
        rustix::fs::chmod(incoming, Mode::RWXU).map_err(io::Error::from)?;
        let guard = Guard::create(incoming, &self.machine)?;
        let tls_key = guard.seal(TLS_KEY, new.tls_key_pem.as_bytes())?;
        let grant_key = guard.seal(GRANT_KEY, &new.grant_key.export())?;
        let terminal = serde_json::to_vec_pretty(new.terminal).map_err(io::Error::other)?;
        for (name, content) in [
            (TERMINAL, terminal.as_slice()),
            (CERTIFICATE, new.certificate_pem.as_bytes()),
            (TLS_KEY, tls_key.as_slice()),
            (CA, new.ca_pem.as_bytes()),
            (GRANT_KEY, grant_key.as_slice()),
            (BULLETIN, new.bulletin),
        ] {
            files::create(&incoming.join(name), content)?;
        }
        Ok(files::sync_directory(incoming)?)
    }

    fn exchange(&self, incoming: &Path) -> io::Result<()> {
        let place = self.path.join(ENROLMENT);
        if place.exists() {
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                incoming,
                rustix::fs::CWD,
                &place,
                RenameFlags::EXCHANGE,
            )?;
        } else {
            std::fs::rename(incoming, &place)?;
        }
        files::sync_directory(&self.path)?;
        remove_tree(incoming)
    }

    /// Seals the key files that are plain, all of which were read, where this machine offers that.
    fn take_over(&self, guard: Guard) -> Result<Guard, ProtectError> {
        let directory = self.path.join(ENROLMENT);
        let guard = if guard.seals() { guard } else { Guard::create(&directory, &self.machine)? };
        for name in [TLS_KEY, GRANT_KEY, RENEWED] {
            if guard.take_over(&directory, name)? {
                tracing::info!(name, "a key file is sealed to this machine from now on");
            }
        }
        Ok(guard)
    }

    /// Loads the enrolment. Key files that are plain are sealed then, where this machine offers that.
    ///
    /// # Errors
    /// When there is none, a file of it is missing or damaged, or its keys are sealed to another machine.
    pub fn load(&self) -> Result<Enrolment, StateError> {
        if !self.is_enrolled() {
            return Err(StateError::NotEnrolled(self.path.clone()));
        }
        let place = self.path.join(ENROLMENT).join(protect::FILE);
        let failed = |error| protect_error(&place, error);
        let guard = Guard::open(&self.path.join(ENROLMENT), &self.machine).map_err(failed)?;
        let terminal: Terminal = self.read(&guard, TERMINAL, |bytes| serde_json::from_slice(bytes))?;
        if terminal.version != VERSION {
            return Err(self.damaged(TERMINAL, format!("its version is {}, not {VERSION}", terminal.version)));
        }
        // What was renewed is never older: another enrolment takes the whole directory's place.
        let renewed = self.path.join(ENROLMENT).join(RENEWED).exists();
        let (of_certificate, of_key) = if renewed { (RENEWED, RENEWED) } else { (CERTIFICATE, TLS_KEY) };
        let certificate = self.read(&guard, of_certificate, CertificateDer::from_pem_slice)?;
        let certificate_expires_at = expiry(&certificate).map_err(|why| self.damaged(of_certificate, why))?;
        let signing_key = VerifyingKey::from_bytes(terminal.signing_key.as_ref())
            .map_err(|error| self.damaged(TERMINAL, format!("signing_key: {error}")))?;
        let tls_key = self.read(&guard, of_key, PrivateKeyDer::from_pem_slice)?;
        let ca = self.read(&guard, CA, CertificateDer::from_pem_slice)?;
        let grant_key = self.read(&guard, GRANT_KEY, GrantKeyPair::import)?;
        let guard = self.take_over(guard).map_err(failed)?;
        Ok(Enrolment {
            terminal,
            certificate,
            certificate_expires_at,
            tls_key,
            ca,
            grant_key,
            signing_key,
            guard,
        })
    }

    fn read<T, E: std::fmt::Display>(
        &self,
        guard: &Guard,
        name: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<T, StateError> {
        let path = self.path.join(ENROLMENT).join(name);
        let bytes = std::fs::read(&path)
            .map(Zeroizing::new)
            .map_err(|source| StateError::Io { path: path.clone(), source })?;
        guard
            .unseal(name, bytes)
            .and_then(|bytes| parse(&bytes).map_err(|error| error.to_string()))
            .map_err(|why| StateError::Damaged { path, why })
    }

    fn damaged(&self, name: &str, why: impl Into<String>) -> StateError {
        StateError::Damaged { path: self.path.join(ENROLMENT).join(name), why: why.into() }
    }
}

fn protect_error(path: &Path, error: ProtectError) -> StateError {
    let path = path.to_owned();
    match error {
        ProtectError::OtherMachine(why) | ProtectError::Tpm(why) => StateError::OtherMachine { path, why },
        ProtectError::Io(source) => StateError::Io { path, source },
        ProtectError::Damaged(why) => StateError::Damaged { path, why },
        ProtectError::Crypto(error) => StateError::Damaged { path, why: error.to_string() },
    }
}

/// When a certificate ends.
///
/// # Errors
/// When it is not a certificate; the text says why.
pub fn expiry(certificate: &CertificateDer<'_>) -> Result<Timestamp, String> {
    validity(certificate).map(|(_, until)| until)
}

/// From when and until when a certificate is good.
///
/// # Errors
/// When it is not a certificate; the text says why.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let time = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|error| error.to_string())
    };
    let validity = parsed.validity();
    Ok((time(validity.not_before)?, time(validity.not_after)?))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The version that [`Terminal::version`] must have.
pub const fn version() -> u32 {
    VERSION
}

#[cfg(test)]
pub(crate) mod tests;

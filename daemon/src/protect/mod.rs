//! How the terminal's private keys lie on the disk: each in a file that is sealed under one *wrapping key*, and that key in
//! `enrolment/protection.json`, sealed to the machine: by its TPM where there is one (feature `tpm`), else by a key that follows
//! from the machine's names ([`machine`]). Where neither is to be had the files are plain, and the terminal says so.
//!
//! A plain file is recognised and taken as it is, so that a crash at any point between plain and sealed leaves files that can be read.

pub mod machine;
#[cfg(feature = "tpm")]
mod tpm;

use crate::files;
use machine::{Machine, Source};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tobari_core::crypto::{CryptoError, RootKey, random_bytes};
use tobari_core::policy::Protection;
use tobari_core::proto::base64::Base64;
use zeroize::Zeroizing;

/// The sealed wrapping key.
pub(crate) const FILE: &str = "protection.json";
/// How a sealed file begins; what follows is [`RootKey::seal`]'s.
const MARK: &[u8] = b"tobari sealed 1\n";
const VERSION: u32 = 1;
const KEY_FILE: &str = "tobari/1 key file";
const WRAPPED: &[u8] = b"tobari/1 wrapping key";

/// Why sealed keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// A name of the machine is another one, or cannot be read.
    #[error("{0}")]
    OtherMachine(String),
    /// The TPM, or this program without it.
    #[error("{0}")]
    Tpm(String),
    /// A file was damaged or changed.
    #[error("{0}")]
    Damaged(String),
    /// The library.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The file system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// `protection.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(flatten)]
    wrapped: Wrapped,
}

/// The wrapping key, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Wrapped {
    /// Under the key that follows from these names and the salt.
    Machine { sources: Vec<Source>, salt: Base64, sealed: Base64 },
    /// By the TPM; with the index of its counter, and where that stood.
    Tpm { public: Base64, private: Base64, counter: u32, first: u64 },
}

/// A number outside of the disk that goes up and never back.
pub trait Counter: Send + Sync {
    /// Where it stands.
    ///
    /// # Errors
    /// In words, when it does not answer.
    fn read(&self) -> Result<u64, String>;

    /// Counts up by one.
    ///
    /// # Errors
    /// In words, when it does not answer.
    fn increment(&self) -> Result<(), String>;
}

/// A [`Counter`], and where it stood before anything was counted.
#[derive(Clone)]
pub struct Anchor {
    /// The counter.
    pub counter: Arc<dyn Counter>,
    /// Its first value.
    pub first: u64,
}

/// The wrapping key in use.
#[derive(Clone, Default)]
pub struct Guard {
    key: Option<Arc<RootKey>>,
    protection: Protection,
    anchor: Option<Anchor>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("protection", &self.protection).finish_non_exhaustive()
    }
}

impl Guard {
    /// A fresh wrapping key for `machine`, sealed in `directory`; where nothing binds, none, and files stay plain.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn create(directory: &Path, machine: &Machine) -> Result<Self, ProtectError> {
        #[cfg(feature = "tpm")]
        if let Some(guard) = tpm::create(directory)? {
            return Ok(guard);
        }
        if !machine.binds() {
            return Ok(Self::default());
        }
        let key = RootKey::generate();
        Self::wrap(directory, machine, key)
    }

    /// How [`Guard::create`] would keep keys.
    pub(crate) fn offered(machine: &Machine) -> Protection {
        #[cfg(feature = "tpm")]
        if tpm::is_there() {
            return Protection::Tpm;
        }
        let hardware = machine.sources().iter().any(|source| source.is_hardware());
        if hardware { Protection::Machine } else { Protection::None }
    }

    /// The wrapping key that lies in `directory`; none where none does.
    ///
    /// # Errors
    /// When this is another machine, or the file is damaged.
    pub(crate) fn open(directory: &Path, machine: &Machine) -> Result<Self, ProtectError> {
        let bytes = match std::fs::read(directory.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let stored: Stored =
            serde_json::from_slice(&bytes).map_err(|error| ProtectError::Damaged(error.to_string()))?;
        if stored.version != VERSION {
            return Err(ProtectError::Damaged(format!("its version is {}, not {VERSION}", stored.version)));
        }
        match stored.wrapped {
            Wrapped::Machine { sources, salt, sealed } => {
                let Some(key) = machine.key(&sources, &salt.0)? else {
                    let there = machine.sources();
                    let missing = sources.iter().filter(|source| !there.contains(source)).copied();
                    let why = format!("not there, or not for this user to read: {}", names(missing));
                    return Err(ProtectError::OtherMachine(why));
                };
                let opened = key.open(WRAPPED, &sealed.0).map_err(|_| {
                    let why = format!("one of these is another one here: {}", names(sources.iter().copied()));
                    ProtectError::OtherMachine(why)
                })?;
                let key = RootKey::from_slice(&opened)?;
                // Whoever enrols may be able to read less than the daemon.
                if machine.sources().iter().any(|source| source.is_hardware())
                    && !sources.iter().any(|source| source.is_hardware())
                {
                    return Self::wrap(directory, machine, key);
                }
                Ok(Self::with(key, &sources))
            }
            #[cfg(feature = "tpm")]
            Wrapped::Tpm { public, private, counter, first } => {
                tpm::open(public.0, private.0, counter, first)
            }
            #[cfg(not(feature = "tpm"))]
            Wrapped::Tpm { .. } => Err(ProtectError::Tpm(String::from(
                "a TPM seals them, and this tobarid is built without TPM support",
            ))),
        }
    }

    fn store(directory: &Path, wrapped: Wrapped) -> Result<(), ProtectError> {
        let text =
            serde_json::to_vec_pretty(&Stored { version: VERSION, wrapped }).map_err(io::Error::other)?;
        Ok(files::replace(directory, FILE, &text)?)
    }

    fn wrap(directory: &Path, machine: &Machine, key: RootKey) -> Result<Self, ProtectError> {
        let (salt, sources): ([u8; 32], _) = (random_bytes(), machine.sources());
        let Some(of_machine) = machine.key(&sources, &salt)? else { return Ok(Self::default()) };
        let sealed = of_machine.seal(WRAPPED, key.to_bytes().as_slice())?;
        let wrapped = Wrapped::Machine {
            sources: sources.clone(),
            salt: Base64(salt.to_vec()),
            sealed: Base64(sealed),
        };
        Self::store(directory, wrapped)?;
        Ok(Self::with(key, &sources))
    }

    fn with(key: RootKey, sources: &[Source]) -> Self {
        let hardware = sources.iter().any(|source| source.is_hardware());
        // What an image of the disk carries along is no protection to speak of.
        let protection = if hardware { Protection::Machine } else { Protection::None };
        Self { key: Some(Arc::new(key)), protection, anchor: None }
    }

    /// How the keys are kept.
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// By what the state of the leases is checked, where there is a TPM.
    pub fn anchor(&self) -> Option<Anchor> {
        self.anchor.clone()
    }

    /// Whether files are sealed.
    pub(crate) fn seals(&self) -> bool {
        self.key.is_some()
    }

    /// What is to be written to the file `name`.
    ///
    /// # Errors
    /// When the library fails.
    pub(crate) fn seal(&self, name: &str, content: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let Some(key) = &self.key else { return Ok(Zeroizing::new(content.to_vec())) };
        let sealed = key.seal(&about(name), content)?;
        Ok(Zeroizing::new([MARK, &sealed].concat()))
    }

    /// What the file `name` holds, from its bytes.
    ///
    /// # Errors
    /// When it is sealed under another key, or was changed; in words.
    pub(crate) fn unseal(&self, name: &str, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, String> {
        let Some(sealed) = bytes.strip_prefix(MARK) else { return Ok(bytes) };
        let key = self.key.as_ref().ok_or_else(|| format!("it is sealed, and {FILE} is gone"))?;
        key.open(&about(name), sealed).map_err(|_| format!("it was changed, or does not belong to {FILE}"))
    }

    /// Seals the plain file `directory/name`, if there is one. At each point of time it is whole, plain or sealed; what lay there is
    /// overwritten, as far as the disk does that.
    ///
    /// # Errors
    /// What the file system says; the file is then as it was, or sealed.
    pub(crate) fn take_over(&self, directory: &Path, name: &str) -> Result<bool, ProtectError> {
        let path = directory.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if !self.seals() || bytes.starts_with(MARK) {
            return Ok(false);
        }
        let before = std::fs::OpenOptions::new().write(true).open(&path)?;
        files::replace(directory, name, &self.seal(name, &bytes)?)?;
        // Nothing refers to it any more; not to have overwritten it is no reason to stop.
        let wiped =
            io::Write::write_all(&mut &before, &vec![0; bytes.len()]).and_then(|()| before.sync_all());
        if let Err(error) = wiped {
            tracing::warn!(name, %error, "the plain key file that was replaced was not overwritten");
        }
        Ok(true)
    }
}

fn about(name: &str) -> Vec<u8> {
    [KEY_FILE.as_bytes(), &[0], name.as_bytes()].concat()
}

fn names(sources: impl Iterator<Item = Source>) -> String {
    sources.map(Source::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

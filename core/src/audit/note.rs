//! Signed notes (C2SP signed-note) with Ed25519: a text, an empty line, and signature lines `— NAME BASE64`. Also the
//! cosignatures of witnesses (C2SP tlog-cosignature), which say when they saw the text.

use super::checkpoint::log_name;
use crate::crypto::{SigningKey, VerifyingKey, sha256};
use crate::ids::OrganisationId;
use data_encoding::{BASE64, HEXLOWER};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Type of an Ed25519 signature over the text.
const ED25519: u8 = 1;
/// Type of an Ed25519 cosignature with a time.
const COSIGNATURE: u8 = 4;
/// Most signature lines that are looked at.
const MAX_SIGNATURES: usize = 100;
/// Longest name of a key, in bytes.
const MAX_NAME: usize = 200;

/// Why a note is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It has not the form of a signed note.
    #[error("not a signed note")]
    Malformed,
    /// No signature is by the key.
    #[error("not signed by the key")]
    NotSigned,
    /// A signature claims to be by the key and is not.
    #[error("the signature does not verify")]
    BadSignature,
}

/// Not a verification key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a verification key (NAME+HASH+KEY)")]
pub struct LogKeyError;

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $kind:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            name: String,
            key: VerifyingKey,
        }

        impl $name {
            /// The key of this name.
            ///
            /// # Errors
            /// The name is empty, too long, or holds white space or a plus sign.
            pub fn new(name: &str, key: VerifyingKey) -> Result<Self, LogKeyError> {
                if is_name(name) { Ok(Self { name: name.to_owned(), key }) } else { Err(LogKeyError) }
            }

            /// Its name.
            pub fn name(&self) -> &str {
                &self.name
            }

            /// Its four bytes in signature lines.
            fn hash(&self) -> [u8; 4] {
                key_hash(&self.name, $kind, &self.key)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut key = vec![$kind];
                key.extend_from_slice(&self.key.to_bytes());
                write!(f, "{}+{}+{}", self.name, HEXLOWER.encode(&self.hash()), BASE64.encode(&key))
            }
        }

        impl FromStr for $name {
            type Err = LogKeyError;
            fn from_str(text: &str) -> Result<Self, LogKeyError> {
                let mut parts = text.splitn(3, '+');
                let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
                    return Err(LogKeyError);
                };
                let key = BASE64.decode(key.as_bytes()).map_err(|_| LogKeyError)?;
                let (kind, key) = key.split_first().ok_or(LogKeyError)?;
                if *kind != $kind {
                    return Err(LogKeyError);
                }
                let key = Self::new(name, VerifyingKey::from_bytes(key).map_err(|_| LogKeyError)?)?;
                if HEXLOWER.encode(&key.hash()) == hash { Ok(key) } else { Err(LogKeyError) }
            }
        }
    };
}

key!(
    /// The public key of a log, as C2SP signed-note writes it: `NAME+HASH+BASE64`.
    LogKey,
    ED25519
);
key!(
    /// The public key of a witness.
    WitnessKey,
    COSIGNATURE
);

fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(plain)
}

fn key_hash(name: &str, kind: u8, key: &VerifyingKey) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[kind], &key.to_bytes()]);
    [a, b, c, d]
}

fn line(name: &str, bytes: &[&[u8]]) -> String {
    format!("\u{2014} {name} {}\n", BASE64.encode(&bytes.concat()))
}

/// Text and signature lines.
fn parts(note: &str) -> Result<(&str, &str), NoteError> {
    let split = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
    let (text, rest) = note.split_at(split + 1);
    let signatures = rest.strip_prefix('\n').unwrap_or_default();
    let well = signatures.ends_with('\n')
        && signatures.lines().count() <= MAX_SIGNATURES
        && signatures.lines().all(|line| line.starts_with("\u{2014} "))
        && !text.chars().any(|c| c.is_control() && c != '\n');
    if well { Ok((text, signatures)) } else { Err(NoteError::Malformed) }
}

/// What the lines of a key say after its hash.
fn signatures<'a>(
    lines: &'a str,
    name: &'a str,
    hash: [u8; 4],
) -> impl Iterator<Item = Result<Vec<u8>, NoteError>> + 'a {
    lines.lines().filter_map(move |line| {
        let (found, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        if found != name {
            return None;
        }
        let Ok(bytes) = BASE64.decode(encoded.as_bytes()) else { return Some(Err(NoteError::Malformed)) };
        bytes.strip_prefix(&hash).map(|rest| Ok(rest.to_vec()))
    })
}

impl LogKey {
    /// The key of an organisation's log.
    pub fn of(organisation: OrganisationId, key: VerifyingKey) -> Self {
        Self { name: log_name(organisation), key }
    }

    /// The text of a note that the log signed.
    ///
    /// # Errors
    /// It did not.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, lines) = parts(note)?;
        let mut signed = false;
        for signature in signatures(lines, &self.name, self.hash()) {
            self.key.verify_text(text, &signature?).map_err(|_| NoteError::BadSignature)?;
            signed = true;
        }
        if signed { Ok(text) } else { Err(NoteError::NotSigned) }
    }
}

impl WitnessKey {
    /// When the witness says that it saw the text of a note, in seconds since 1970, by one of the signature lines.
    ///
    /// # Errors
    /// It does not.
    pub fn seen_at(&self, text: &str, lines: &str) -> Result<u64, NoteError> {
        let bytes = signatures(lines, &self.name, self.hash()).next().ok_or(NoteError::NotSigned)??;
        let (time, signature) = bytes.split_first_chunk::<8>().ok_or(NoteError::Malformed)?;
        let time = u64::from_be_bytes(*time);
        self.key.verify_text(&cosigned(time, text), signature).map_err(|_| NoteError::BadSignature)?;
        Ok(time)
    }
}

fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// The private key of a log, with its name.
#[derive(Clone)]
pub struct LogSigner {
    key: Arc<SigningKey>,
    public: LogKey,
}

impl fmt::Debug for LogSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSigner").field("public", &self.public).finish_non_exhaustive()
    }
}

impl LogSigner {
    /// The key under this name.
    ///
    /// # Errors
    /// The name.
    pub fn new(name: &str, key: SigningKey) -> Result<Self, LogKeyError> {
        let public = LogKey::new(name, key.verifying_key())?;
        Ok(Self { key: Arc::new(key), public })
    }

    /// What checks its signatures.
    pub fn public(&self) -> &LogKey {
        &self.public
    }

    /// The note with this text, which ends with a line feed.
    pub fn sign(&self, text: &str) -> String {
        let signature = self.key.sign_text(text);
        format!("{text}\n{}", line(&self.public.name, &[&self.public.hash(), &signature]))
    }
}

/// The private key of a witness, with its name.
pub struct Witness {
    key: SigningKey,
    public: WitnessKey,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Witness {
    /// The key under this name.
    ///
    /// # Errors
    /// The name.
    pub fn new(name: &str, key: SigningKey) -> Result<Self, LogKeyError> {
        let public = WitnessKey::new(name, key.verifying_key())?;
        Ok(Self { key, public })
    }

    /// What checks its cosignatures.
    pub fn public(&self) -> &WitnessKey {
        &self.public
    }

    /// The signature line that says that the text was seen at this time, in seconds since 1970.
    pub fn cosign(&self, text: &str, time: u64) -> String {
        let signature = self.key.sign_text(&cosigned(time, text));
        line(&self.public.name, &[&self.public.hash(), &time.to_be_bytes(), &signature])
    }
}

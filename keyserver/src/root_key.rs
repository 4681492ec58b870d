//! Where the root key comes from. It opens every other secret of the server, and is never in the database.
//!
//! In this order: the file that the operator names; the systemd credential `root-key`; `root.key` in the data
//! directory. The file holds 64 hexadecimal digits.

use crate::files;
use data_encoding::HEXLOWER_PERMISSIVE;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tobari_core::crypto::RootKey;
use zeroize::Zeroizing;

/// The file in which the root key lies.
pub(crate) fn location(named: Option<&Path>, data_dir: Option<&Path>) -> PathBuf {
    if let Some(path) = named {
        return path.to_owned();
    }
    if let Some(directory) = std::env::var_os(files::CREDENTIALS_DIRECTORY) {
        let credential = Path::new(&directory).join(files::ROOT_KEY_CREDENTIAL);
        if credential.exists() {
            return credential;
        }
    }
    data_dir.unwrap_or(Path::new(".")).join(files::ROOT_KEY)
}

/// What is wrong with the root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// The file cannot be read.
    #[error("failed to read the root key {path:?}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Others may read it.
    #[error("the root key {path:?} is open to other users (mode {mode:o})")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else.
    #[error("the root key {0:?} does not hold 64 hexadecimal digits")]
    Malformed(PathBuf),
}

/// Reads the root key.
///
/// # Errors
/// The file is missing, readable by others, or holds something else.
pub(crate) fn read(path: &Path) -> Result<RootKey, RootKeyError> {
    let unreadable = |source| RootKeyError::Unreadable { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(unreadable)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(RootKeyError::OpenToOthers { path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
    let bytes = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map(Zeroizing::new);
    bytes
        .ok()
        .and_then(|bytes| RootKey::from_slice(&bytes).ok())
        .ok_or_else(|| RootKeyError::Malformed(path.to_owned()))
}

/// Makes a root key and writes it.
///
/// # Errors
/// The file exists or cannot be written.
pub(crate) fn create(path: &Path) -> io::Result<RootKey> {
    let key = RootKey::generate();
    let mut text = Zeroizing::new(HEXLOWER_PERMISSIVE.encode(key.to_bytes().as_slice()));
    text.push('\n');
    files::write_new_private(path, text.as_bytes())?;
    Ok(key)
}

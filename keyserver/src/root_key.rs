//! Where the root key comes from. It opens every other secret of the server, and is never in the database.
//!
//! In this order: the file that the operator names; the systemd credential `root-key`; `root.key` in the data
//! directory. The file holds 64 hexadecimal digits.

use crate::files;
use anyhow::{Context as _, bail, ensure};
use data_encoding::HEXLOWER_PERMISSIVE;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tobari_core::crypto::RootKey;
use zeroize::Zeroizing;

/// The file in which the root key lies.
pub(crate) fn location(named: Option<&Path>, data_dir: &Path) -> PathBuf {
    if let Some(path) = named {
        return path.to_owned();
    }
    if let Some(directory) = std::env::var_os(files::CREDENTIALS_DIRECTORY) {
        let credential = Path::new(&directory).join(files::ROOT_KEY_CREDENTIAL);
        if credential.exists() {
            return credential;
        }
    }
    data_dir.join(files::ROOT_KEY)
}

/// Reads the root key.
///
/// # Errors
/// The file is missing, readable by others, or holds something else.
pub(crate) fn read(path: &Path) -> anyhow::Result<RootKey> {
    let metadata =
        std::fs::metadata(path).with_context(|| format!("read the root key {}", path.display()))?;
    ensure!(
        metadata.mode() & 0o077 == 0,
        "the root key {} is open to other users (mode {:o}): chmod 600 it",
        path.display(),
        metadata.mode() & 0o777
    );
    let text = Zeroizing::new(
        std::fs::read_to_string(path).with_context(|| format!("read the root key {}", path.display()))?,
    );
    let bytes = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map(Zeroizing::new);
    match bytes.ok().and_then(|bytes| RootKey::from_slice(&bytes).ok()) {
        Some(key) => Ok(key),
        None => bail!("the root key {} does not hold 64 hexadecimal digits", path.display()),
    }
}

/// Makes a root key and writes it.
///
/// # Errors
/// The file exists or cannot be written.
pub(crate) fn create(path: &Path) -> anyhow::Result<RootKey> {
    let key = RootKey::generate();
    let mut text = Zeroizing::new(HEXLOWER_PERMISSIVE.encode(key.to_bytes().as_slice()));
    text.push('\n');
    files::write_new_private(path, text.as_bytes())
        .with_context(|| format!("write the root key {}", path.display()))?;
    Ok(key)
}

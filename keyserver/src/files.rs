//! Names of files and environment variables, and how secret files are written.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The database, in the data directory.
pub(crate) const DATABASE: &str = "tobari.db";
/// Its write-ahead log.
pub(crate) const DATABASE_LOG: &str = "tobari.db-wal";
/// The database while `init` makes it.
pub(crate) const DATABASE_NEW: &str = "tobari.db.new";
/// The database after it was moved to PostgreSQL: kept, but no longer served.
pub(crate) const DATABASE_MOVED: &str = "tobari.db.moved";
/// Where the root key lies unless told otherwise, in the data directory.
pub(crate) const ROOT_KEY: &str = "root.key";
/// Held by the one `serve` of a data directory.
pub(crate) const LOCK: &str = "lock";
/// Set by systemd: the directory of the unit's credentials.
pub(crate) const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// The root key's name among the credentials.
pub(crate) const ROOT_KEY_CREDENTIAL: &str = "root-key";
/// Log filter, in the form of `tracing_subscriber::EnvFilter`; `info` when absent.
pub(crate) const LOG_FILTER: &str = "TOBARI_LOG";

/// The database of a data directory.
pub(crate) fn database(data_dir: &Path) -> PathBuf {
    data_dir.join(DATABASE)
}

/// Writes a file that only its owner may read, durably; refuses to overwrite.
///
/// # Errors
/// The file exists, or cannot be written; then it is not left behind.
pub(crate) fn write_new_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    sync_parent(path)
}

/// Makes a new name in a directory durable.
///
/// # Errors
/// The directory cannot be opened or synced.
pub(crate) fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(parent)?.sync_all()
}

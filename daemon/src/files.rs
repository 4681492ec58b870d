//! Writing small files so that a crash leaves the old or the new content, never a mixture.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Mode of files that hold secrets, or that only the daemon needs.
pub const PRIVATE: u32 = 0o600;

/// Replaces `directory/name` by `content` with [`PRIVATE`] mode; it is on the disk when this returns.
///
/// # Errors
/// What the file system says; the old file is then still there.
pub fn replace(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!(".{name}.new"));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written =
        create(&temporary, content).and_then(|()| std::fs::rename(&temporary, directory.join(name)));
    if written.is_err() {
        let _best_effort = std::fs::remove_file(&temporary);
    }
    written?;
    sync_directory(directory)
}

/// Creates `path`, which must not exist, with `content` and [`PRIVATE`] mode, and syncs it (not its directory).
///
/// # Errors
/// What the file system says.
pub fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes creations, removals and renames in `directory` durable.
///
/// # Errors
/// What the file system says.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".a.new"), "left by a crash").unwrap();
        replace(directory.path(), "a", b"1").unwrap();
        replace(directory.path(), "a", b"22").unwrap();
        let path = directory.path().join("a");
        assert_eq!(std::fs::read(&path).unwrap(), b"22");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

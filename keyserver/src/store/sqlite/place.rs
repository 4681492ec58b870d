//! Whether the database is still where it was opened. A file that was removed or renamed can be written all the
//! same, and SQLite does not notice in WAL mode: records would be "durable" in files that nobody will ever read.

use crate::store::StoreError;
use crate::store::decode::unavailable;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The database and its write-ahead log, as they were when they were opened.
#[derive(Debug)]
pub(super) struct Place(Vec<(PathBuf, Identity)>);

type Identity = (u64, u64);

impl Place {
    /// Notes where the files of an open database lie.
    pub(super) fn of(database: &Path) -> Result<Self, StoreError> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        [database.to_owned(), PathBuf::from(log)]
            .into_iter()
            .map(|path| {
                let identity = identity(&path).map_err(unavailable)?;
                Ok((path, identity))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Fails when one of them is gone or another lies in its place.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (path, opened) in &self.0 {
            let why = match identity(path) {
                Ok(found) if found == *opened => continue,
                Ok(_) => String::from("another file lies in its place"),
                Err(error) => error.to_string(),
            };
            return Err(StoreError::AuditBroken(format!("{}: {why}", path.display())));
        }
        Ok(())
    }
}

fn identity(path: &Path) -> std::io::Result<Identity> {
    std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

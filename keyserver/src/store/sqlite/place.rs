//! Whether the database is still where it was opened. A file that was removed or renamed can be written all the
//! same, and SQLite does not notice in WAL mode: records would be "durable" in files that nobody will ever read.

use crate::store::StoreError;
use crate::store::decode::unavailable;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The database and its write-ahead log, as they were when they were opened.
#[derive(Debug)]
pub(super) struct Place(Vec<(PathBuf, Found)>);

/// Device, inode and length.
type Found = (u64, u64, u64);

impl Place {
    /// Notes where the files of an open database lie.
    pub(super) fn of(database: &Path) -> Result<Self, StoreError> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        [database.to_owned(), PathBuf::from(log)]
            .into_iter()
            .map(|path| {
                let found = find(&path).map_err(unavailable)?;
                Ok((path, found))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Fails when one of them is gone, was cut, or another lies in its place. Neither ever becomes shorter while it is
    /// open: nothing vacuums, and the write-ahead log is written over from its start, not truncated.
    pub(super) fn check(&mut self) -> Result<(), StoreError> {
        for (path, (device, inode, length)) in &mut self.0 {
            let why = match find(path) {
                Ok(found) if (found.0, found.1) == (*device, *inode) && found.2 >= *length => {
                    *length = found.2;
                    continue;
                }
                Ok(found) if (found.0, found.1) == (*device, *inode) => String::from("it was cut"),
                Ok(_) => String::from("another file lies in its place"),
                Err(error) => error.to_string(),
            };
            return Err(StoreError::AuditBroken(format!("{}: {why}", path.display())));
        }
        Ok(())
    }
}

fn find(path: &Path) -> std::io::Result<Found> {
    std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino(), metadata.len()))
}

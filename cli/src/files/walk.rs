//! Walking folders: in the order of names, never through a symbolic link, and past nothing in silence.

use crate::files::CONTROL_FOLDER;
use std::io;
use std::path::{Path, PathBuf};

/// What was met on a walk.
#[derive(Debug)]
pub enum Met {
    /// A regular file.
    File(PathBuf, std::fs::Metadata),
    /// A symbolic link, socket, pipe or device: left alone.
    Special(PathBuf),
    /// A folder or entry that could not be read.
    Unreadable(PathBuf, io::Error),
}

/// Walks `path`, calling `visit` for everything met. `path` itself may be a file, or a symbolic link, which is followed.
pub fn walk(path: &Path, visit: &mut dyn FnMut(Met)) {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return visit(Met::Unreadable(path.to_owned(), error)),
    };
    if !metadata.is_dir() {
        return visit(classify(path.to_owned(), metadata));
    }
    let mut waiting = vec![path.to_owned()];
    while let Some(folder) = waiting.pop() {
        let mut below = Vec::new();
        match entries(&folder) {
            Ok(entries) => {
                for entry in entries {
                    match std::fs::symlink_metadata(&entry) {
                        Ok(metadata) if metadata.is_dir() && is_control(&entry, &metadata) => {}
                        Ok(metadata) if metadata.is_dir() => below.push(entry),
                        Ok(metadata) => visit(classify(entry, metadata)),
                        // Removed since it was listed.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => visit(Met::Unreadable(entry, error)),
                    }
                }
            }
            Err(error) => visit(Met::Unreadable(folder, error)),
        }
        waiting.extend(below.into_iter().rev());
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn classify(path: PathBuf, metadata: std::fs::Metadata) -> Met {
    if metadata.is_file() { Met::File(path, metadata) } else { Met::Special(path) }
}

/// The daemon's control folder is closed to everybody else; one that is open could hide plaintext.
fn is_control(path: &Path, metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    path.file_name().is_some_and(|name| name == CONTROL_FOLDER) && metadata.mode() & 0o077 == 0
}

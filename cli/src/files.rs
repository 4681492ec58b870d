//! Local files: opened with the caller's own permissions, written so that nothing half-written is ever seen
//! under a name ([`new_file`]), walked without following symbolic links ([`walk`]).

pub mod attributes;
pub mod new_file;
pub mod walk;

use crate::client::Notice;
use crate::error::{Action, Error};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tobari_core::envelope::looks_sealed;
use tobari_core::proto::bulletin::Folder;

/// The daemon's own folder at the root of a designated folder.
pub const CONTROL_FOLDER: &str = ".tobari";

/// Opens a regular file for reading. A symbolic link is followed, as the caller named it.
///
/// # Errors
/// [`Error::Io`], [`Error::NotRegular`].
pub fn open_regular(path: &Path) -> Result<File, Error> {
    open_with(path, OFlags::empty())
}

/// Opens a regular file found by a walk: never through a symbolic link put there meanwhile.
///
/// # Errors
/// As [`open_regular`].
pub fn open_found(path: &Path) -> Result<File, Error> {
    open_with(path, OFlags::NOFOLLOW)
}

fn open_with(path: &Path, flags: OFlags) -> Result<File, Error> {
    // Without NONBLOCK a named pipe would hold the program for ever.
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| Action::Open.failed(path)(errno.into()))?;
    let metadata = file.metadata().map_err(Action::Read.failed(path))?;
    if metadata.is_file() { Ok(file) } else { Err(Error::NotRegular(path.to_owned())) }
}

/// Whether the file begins like an envelope.
///
/// # Errors
/// [`Error::Io`].
pub fn is_sealed(file: &File, path: &Path) -> Result<bool, Error> {
    let mut prefix = [0; 8];
    match file.read_exact_at(&mut prefix, 0) {
        Ok(()) => Ok(looks_sealed(&prefix)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Action::Read.failed(path)(error)),
    }
}

/// Opens a sealed file for the daemon.
///
/// # Errors
/// As [`open_regular`], and [`Error::NotSealed`].
pub fn open_sealed(path: &Path) -> Result<File, Error> {
    let file = open_regular(path)?;
    if is_sealed(&file, path)? { Ok(file) } else { Err(Error::NotSealed(path.to_owned())) }
}

/// The designated folder of this terminal in which `path` lies or would lie; the innermost.
pub fn designated<'a>(notice: &'a Notice, path: &Path) -> Option<&'a Folder> {
    let folder = parent(path).canonicalize().ok()?;
    let here = notice.bulletin.folders.iter().filter(|rule| rule.terminal == notice.terminal);
    here.filter_map(|rule| {
        let root = Path::new(&rule.path).canonicalize().unwrap_or_else(|_| PathBuf::from(&rule.path));
        folder.starts_with(&root).then(|| (root.components().count(), rule))
    })
    .max_by_key(|(depth, _)| *depth)
    .map(|(_, rule)| rule)
}

/// The folder of a path, `.` where it names none.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two descriptors lead to the same file.
pub fn same_file(left: &std::fs::Metadata, right: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (left.dev(), left.ino()) == (right.dev(), right.ino())
}

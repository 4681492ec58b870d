//! The folder that a view shows, held by descriptors.

use crate::seal::{FolderError, FolderRule, open_shared};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// An open folder and the rule for it.
#[derive(Debug)]
pub struct Folder {
    pub(super) path: PathBuf,
    pub(super) top: OwnedFd,
    /// The control directory.
    pub(super) control: OwnedFd,
    pub(super) rule: FolderRule,
}

impl Folder {
    /// Opens the folder that `rule` is about.
    ///
    /// # Errors
    /// As the folder side: it is missing, remote, reached by a symbolic link, or its control directory is somebody else's.
    pub fn open(rule: FolderRule) -> Result<Self, FolderError> {
        let path = PathBuf::from(&rule.folder.path);
        let (top, control) = open_shared(&path)?;
        Ok(Self { path, top, control, rule })
    }

    /// Its path on this host.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

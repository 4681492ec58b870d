//! One mounted view.

use super::{Access, Folder};
use crate::service::Service;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How a view is mounted.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that serve requests.
    pub threads: usize,
    /// How long the kernel may answer from what it knows of names and attributes.
    pub remembered: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 4, remembered: Duration::from_secs(1) }
    }
}

/// A mounted view. Ends when dropped.
#[derive(Debug)]
pub struct Mount {}

impl Mount {
    /// Mounts a view of `folder` at `mount_point`, a directory that nobody but root can reach. It is visible there for all
    /// users, with the permissions of the files beneath (`allow_other,default_permissions`): bind it to where it is to be seen.
    ///
    /// # Errors
    /// When the kernel does not let us mount.
    pub fn start(
        service: &Arc<Service>,
        folder: Folder,
        mount_point: &Path,
        access: Arc<dyn Access>,
        options: &Options,
    ) -> io::Result<Self> {
        let Folder { top, control, rule, .. } = folder;
        let _ = (service, top, control, rule, mount_point, access, options);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Seals what is not sealed yet and unmounts; what is still in use is detached and served no more.
    ///
    /// # Errors
    /// When something could not be written, or the kernel refuses.
    pub fn end(self) -> io::Result<()> {
        Ok(())
    }
}

//! One mounted view.

use super::filesystem::Fuse;
use super::handle::Handle;
use super::state::View;
use super::{Access, Folder};
use crate::service::Service;
use fuser::{BackgroundSession, Config, INodeNo, MountOption, Session, SessionACL};
use rustix::fs::{IFlags, Mode, OFlags};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How a view is mounted.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that serve requests. One that asks the key server serves nothing else meanwhile.
    pub threads: usize,
    /// How long the kernel may answer from what it knows of names and attributes.
    pub remembered: Duration,
    /// Files that the kernel may know for more than a moment; each costs a descriptor.
    pub known_files: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 8, remembered: Duration::from_secs(1), known_files: known_files() }
    }
}

/// All views together may have most of the descriptors, and there may be a few views.
fn known_files() -> usize {
    const MOST: u64 = 200_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((limit / 8).clamp(64, MOST)).unwrap_or(64)
}

/// A mounted view. Ends when dropped.
pub struct Mount {
    view: Arc<View>,
    mount_point: PathBuf,
    session: Option<BackgroundSession>,
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mount").field("mount_point", &self.mount_point).finish_non_exhaustive()
    }
}

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
        let view = Arc::new(View::new(service, folder, access, options)?);
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName(String::from("tobari")),
            MountOption::Subtype(String::from("tobari")),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoSuid,
        ];
        config.acl = SessionACL::All;
        config.n_threads = Some(options.threads.max(1));
        config.clone_fd = true;
        let session = Session::new(Fuse(Arc::clone(&view)), mount_point, &config)?.spawn()?;
        // Set once, here.
        let _ = view.notifier.set(session.notifier());
        view.registry.add(&view)?;
        read_ahead(mount_point);
        Ok(Self { view, mount_point: mount_point.to_owned(), session: Some(session) })
    }

    /// Makes the directory at which a long-lived view is to be mounted, such that nobody writes into it while no view is: with no
    /// permissions, and immutable where the file system can do that, against root as well.
    ///
    /// # Errors
    /// When it is not an empty directory, or cannot be made.
    pub fn prepare(mount_point: &Path) -> io::Result<()> {
        match std::fs::create_dir(mount_point) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(mount_point, flags, Mode::empty())?;
        if std::fs::read_dir(mount_point)?.next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let immutable = rustix::fs::ioctl_getflags(&directory);
        if immutable.is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE)) {
            return Ok(());
        }
        rustix::fs::fchmod(&directory, Mode::empty())?;
        match immutable.and_then(|flags| rustix::fs::ioctl_setflags(&directory, flags | IFlags::IMMUTABLE)) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "root may write into the mount point while no view is mounted")
            }
        }
        Ok(())
    }

    /// Inodes that the kernel knows.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.view.nodes.all().len()
    }

    /// Seals what is not sealed yet and unmounts; what is still in use is detached and served no more.
    ///
    /// # Errors
    /// When something could not be written, or the kernel refuses.
    pub fn end(mut self) -> io::Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        let mut result = Ok(());
        // From now on nothing is read or written; what was written is sealed.
        self.view.ended.store(true, Ordering::Relaxed);
        for (number, handle) in self.view.handles.all() {
            if let Handle::Sealed(sealed) = handle.as_ref()
                && sealed.writes
                && let Err(errno) = sealed.contents.commit()
            {
                tracing::error!(name = %sealed.ticket.name.display(), %errno, "what was written last could not be sealed");
                result = Err(errno.into());
            }
            // The kernel does not always say that it is closed when nothing is mounted any more.
            if self.view.handles.remove(number).is_some() {
                self.view.close(&handle);
            }
        }
        let unmounted = crate::sys::detach(&self.mount_point);
        if let Some(notifier) = self.view.notifier.get() {
            // Where it is still in use, the kernel keeps no plaintext either.
            for node in self.view.nodes.all() {
                let _ = notifier.inval_inode(INodeNo(node.number), 0, 0);
            }
        }
        // Its threads end when the last user is gone.
        drop(session);
        result.and(unmounted)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::warn!(mount_point = %self.mount_point.display(), %error, "a view did not end as it should");
        }
    }
}

/// Lets the kernel read ahead as much as one request holds.
fn read_ahead(mount_point: &Path) {
    let set = || -> io::Result<()> {
        let stat = rustix::fs::stat(mount_point)?;
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), "1024")
    };
    if let Err(error) = set() {
        tracing::debug!(%error, "the kernel reads ahead less than it could");
    }
}

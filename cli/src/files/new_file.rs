//! A file that is not seen under its name before it is whole: it has no name at all while it is written
//! (`O_TMPFILE`), so that not even a kill leaves a part of it behind. Where the file system cannot do that, it has a
//! hidden name that is removed on failure.

use crate::error::{Action, Error};
use crate::files::parent;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use tobari_core::crypto::random_bytes;

/// A file in the making, mode 0600.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    folder: File,
    target: PathBuf,
    name: OsString,
    temporary: Option<OsString>,
}

impl NewFile {
    /// Begins the file that shall become `target`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::NotRegular`] when `target` names no file.
    pub fn begin(target: &Path) -> Result<Self, Error> {
        let create = || Action::Create.failed(target);
        let name = target.file_name().ok_or_else(|| Error::NotRegular(target.to_owned()))?.to_owned();
        let folder = File::open(parent(target)).map_err(create())?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let (file, temporary) = match rustix::fs::openat(&folder, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => (file, None),
            // No O_TMPFILE here (NFS, some FUSE file systems).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let hidden = hidden_name();
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(&folder, &hidden, flags, mode);
                (file.map_err(|errno| create()(errno.into()))?, Some(hidden))
            }
            Err(errno) => return Err(create()(errno.into())),
        };
        Ok(Self { file: file.into(), folder, target: target.to_owned(), name, temporary })
    }

    /// The file, to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file and gives it its name; never over an existing file unless `overwrite`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Io`]. The target is then as it was.
    pub fn finish(mut self, overwrite: bool) -> Result<(), Error> {
        self.sync()?;
        let placed = match (&self.temporary, overwrite) {
            (None, false) => self.link(&self.name),
            (None, true) => self.give_hidden_name().and_then(|hidden| self.rename(&hidden)),
            (Some(hidden), false) => self.rename_without_replacing(hidden),
            (Some(hidden), true) => self.rename(hidden),
        };
        match placed {
            Ok(()) => {
                self.temporary = None;
                self.sync_folder()
            }
            Err(Errno::EXIST) => Err(Error::Exists(self.target.clone())),
            Err(errno) => Err(self.failed(Action::Create, errno)),
        }
    }

    /// Syncs the file and swaps it with the target, in one step. What the target was has then a hidden name.
    ///
    /// # Errors
    /// [`Error::Io`]. The target is then as it was.
    pub fn exchange(mut self) -> Result<Displaced, Error> {
        self.sync()?;
        let hidden = match self.temporary.clone() {
            Some(hidden) => hidden,
            None => self.give_hidden_name().map_err(|errno| self.failed(Action::Create, errno))?,
        };
        self.temporary = Some(hidden.clone());
        self.swap(&hidden).map_err(|errno| self.failed(Action::Replace, errno))?;
        self.temporary = None;
        Ok(Displaced { new: self, hidden })
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(Action::Write.failed(&self.target))
    }

    fn sync_folder(&self) -> Result<(), Error> {
        self.folder.sync_all().map_err(Action::Write.failed(&self.target))
    }

    fn link(&self, name: &OsString) -> Result<(), Errno> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, own, &self.folder, name, AtFlags::SYMLINK_FOLLOW)
    }

    fn give_hidden_name(&self) -> Result<OsString, Errno> {
        let hidden = hidden_name();
        self.link(&hidden)?;
        Ok(hidden)
    }

    fn rename(&self, hidden: &OsString) -> Result<(), Errno> {
        let renamed = rustix::fs::renameat(&self.folder, hidden, &self.folder, &self.name);
        if renamed.is_err() && self.temporary.is_none() {
            let _ = rustix::fs::unlinkat(&self.folder, hidden, AtFlags::empty());
        }
        renamed
    }

    fn rename_without_replacing(&self, hidden: &OsString) -> Result<(), Errno> {
        let (folder, flags) = (&self.folder, RenameFlags::NOREPLACE);
        match rustix::fs::renameat_with(folder, hidden, folder, &self.name, flags) {
            // A file system without the flag: a hard link does not replace either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(folder, hidden, folder, &self.name, AtFlags::empty())?;
                rustix::fs::unlinkat(folder, hidden, AtFlags::empty())
            }
            other => other,
        }
    }

    fn swap(&self, hidden: &OsString) -> Result<(), Errno> {
        let (folder, flags) = (&self.folder, RenameFlags::EXCHANGE);
        rustix::fs::renameat_with(folder, hidden, folder, &self.name, flags)
    }

    fn failed(&self, action: Action, errno: Errno) -> Error {
        action.failed(&self.target)(io::Error::from(errno))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.temporary {
            let _ = rustix::fs::unlinkat(&self.folder, hidden, AtFlags::empty());
        }
    }
}

/// What [`NewFile::exchange`] displaced. Nothing is removed before [`Displaced::remove`].
#[derive(Debug)]
#[must_use = "the displaced file stays under its hidden name until it is removed or put back"]
pub struct Displaced {
    new: NewFile,
    hidden: OsString,
}

impl Displaced {
    /// Opens the displaced file, to look whether it is still what was read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(&self) -> Result<File, Error> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        rustix::fs::openat(&self.new.folder, &self.hidden, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| self.new.failed(Action::Read, errno))
    }

    /// Removes the displaced file for good.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(self) -> Result<(), Error> {
        // The exchange must be on the disk before the only other copy goes.
        self.new.sync_folder()?;
        rustix::fs::unlinkat(&self.new.folder, &self.hidden, AtFlags::empty())
            .map_err(|errno| self.new.failed(Action::Replace, errno))?;
        self.new.sync_folder()
    }

    /// Swaps back; the new file is removed.
    ///
    /// # Errors
    /// [`Error::Io`]; the displaced file then keeps its hidden name.
    pub fn put_back(mut self) -> Result<(), Error> {
        self.new.swap(&self.hidden).map_err(|errno| self.new.failed(Action::Replace, errno))?;
        self.new.temporary = Some(self.hidden.clone());
        self.new.sync_folder()
    }
}

fn hidden_name() -> OsString {
    let random = u64::from_le_bytes(random_bytes());
    format!(".tobari-{random:016x}.part").into()
}

//! Where the contents of an open file lie: the sealed file, and its journal in the folder's control directory.
//!
//! Both know whether anything of the file was ever promised to be durable. A file that was just born is not until its first
//! `fsync`, like any new file; until then nothing waits for the disk, and only a power cut, not the end of the daemon, can
//! leave it half.

use super::Answer;
use super::nodes::Identity;
use crate::seal::sync;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::envelope::{ReadAt, Storage};
use tobari_core::ids::FileId;

/// Whether something of a file has to survive a power cut.
#[derive(Debug, Clone)]
pub(super) struct Promise(Arc<AtomicBool>);

impl Promise {
    /// For a file that was there before: whatever it holds was promised.
    pub(super) fn given() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// For a file that was created just now.
    pub(super) fn none() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    pub(super) fn give(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_given(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A sealed file that is open for reading and writing.
#[derive(Debug)]
pub(super) struct Backing {
    pub(super) file: File,
    pub(super) promise: Promise,
}

impl ReadAt for Backing {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        ReadAt::read_exact_at(&self.file, buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        ReadAt::len(&self.file)
    }
}

impl Storage for Backing {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        Storage::write_all_at(&self.file, bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Storage::set_len(&self.file, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.promise.is_given() { Storage::sync_data(&self.file) } else { Ok(()) }
    }
}

/// The journal of one file (docs/spec/envelope.md, "Journal"). It is made when it is first written to, and its entry is
/// then durable before anything relies on it.
#[derive(Debug)]
pub(super) struct Journal {
    directory: Arc<OwnedFd>,
    name: String,
    file: Mutex<Option<File>>,
    promise: Promise,
}

impl Journal {
    /// The journal of the file `identity` with this id. A copy of a sealed file has the same id, so the inode is in the name;
    /// and an inode number is used again, so the id is.
    pub(super) fn open(
        directory: &Arc<OwnedFd>,
        identity: Identity,
        file: FileId,
        promise: Promise,
    ) -> io::Result<Self> {
        let name = name(identity, file);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(directory, name.as_str(), flags, Mode::empty()) {
            Ok(found) => Some(File::from(found)),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        Ok(Self { directory: Arc::clone(directory), name, file: Mutex::new(found), promise })
    }

    /// That of a file that is new: there is none yet.
    pub(super) fn none(directory: &Arc<OwnedFd>, identity: Identity, file: FileId, promise: Promise) -> Self {
        let (directory, name) = (Arc::clone(directory), name(identity, file));
        Self { directory, name, file: Mutex::new(None), promise }
    }

    /// Whether it was made.
    pub(super) fn is_there(&self) -> bool {
        self.file().is_some()
    }

    /// Whether there is anything in it.
    pub(super) fn is_needed(directory: &OwnedFd, identity: Identity, file: FileId) -> io::Result<bool> {
        match rustix::fs::statat(directory, name(identity, file), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(stat.st_size != 0),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes a journal that has nothing in it, or whose file is gone.
    pub(super) fn remove(directory: &OwnedFd, identity: Identity, file: FileId) {
        match unlinkat(directory, name(identity, file), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::warn!(%error, "a journal that is not needed any more cannot be removed"),
        }
    }

    /// The inodes of files that have something in their journals: a save was interrupted. Journals with nothing in them are
    /// removed, for which nobody may have one open.
    pub(super) fn pending(directory: &OwnedFd) -> Answer<HashSet<u64>> {
        let mut pending = HashSet::new();
        let mut entries = Dir::read_from(directory)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Some((inode, _)) = name.split_once('-') else { continue };
            let Ok(inode) = u64::from_str_radix(inode, 16) else { continue };
            match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if stat.st_size == 0 => unlinkat(directory, name, AtFlags::empty())?,
                Ok(_) => drop(pending.insert(inode)),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(pending)
    }

    fn file(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for Journal {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.file().as_ref() {
            Some(file) => ReadAt::read_exact_at(file, buffer, offset),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file().as_ref().map_or(Ok(0), ReadAt::len)
    }
}

impl Storage for Journal {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(feature = "test-only-unsafe")]
        if std::env::var_os("TOBARI_TEST_ONLY_WITHOUT").is_some_and(|safeguard| safeguard == "view-journal") {
            return Ok(());
        }
        let mut file = self.file();
        let file = match &mut *file {
            Some(file) => file,
            none => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(&self.directory, self.name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
                if self.promise.is_given() {
                    sync(&self.directory)?;
                }
                none.insert(File::from(made))
            }
        };
        Storage::write_all_at(file, bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file().as_ref().map_or(Ok(()), |file| Storage::set_len(file, length))
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.file().as_ref() {
            Some(file) if self.promise.is_given() => Storage::sync_data(file),
            _ => Ok(()),
        }
    }
}

fn name((_, _, inode): Identity, file: FileId) -> String {
    format!("{inode:x}-{file}")
}

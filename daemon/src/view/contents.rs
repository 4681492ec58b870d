//! The contents of a sealed file that is open in a view: read by many, changed by one at a time, whichever view it comes
//! from. Knows keys and bytes, but no names and nobody's rights: who gets here has shown a grant.

use super::nodes::Identity;
use super::storage::{Backing, Journal, Promise};
use super::{Answer, trouble};
use crate::seal::sync;
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, fstatvfs, futimens};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tobari_core::crypto::Dek;
use tobari_core::envelope::{Header, Reader, Sealed, WriteError, Writer, recover, stored_file_id};
use tobari_core::ids::FileId;

/// The contents of one inode.
pub(super) struct Contents {
    pub(super) identity: Identity,
    pub(super) file_id: FileId,
    journals: Arc<OwnedFd>,
    /// How often a view has given the file another label since it was opened.
    labels: AtomicU64,
    inner: RwLock<Inner>,
}

struct Inner {
    state: State,
    /// When the contents were last changed, if that is not on the disk yet.
    modified: Option<Timespec>,
    /// Handles that may write.
    writers: u32,
    /// Something was written to it, or cut off, since it was opened.
    touched: bool,
}

enum State {
    Closed,
    Reading(Box<Reader<File>>),
    Writing(Box<Writing>),
}

struct Writing {
    writer: Writer<Arc<Backing>, Journal>,
    backing: Arc<Backing>,
    /// All that is in the file was synced since it was opened; what is written from then on is synced as it is sealed.
    is_settled: bool,
}

impl Contents {
    /// Contents that are not open yet.
    pub(super) fn new(identity: Identity, file_id: FileId, journals: &Arc<OwnedFd>) -> Self {
        let inner = Inner { state: State::Closed, modified: None, writers: 0, touched: false };
        let (journals, inner) = (Arc::clone(journals), RwLock::new(inner));
        Self { identity, file_id, journals, labels: AtomicU64::new(0), inner }
    }

    /// Changes with each label that the file gets through a view: who was let in before has to show a grant under the new one.
    pub(super) fn labels(&self) -> u64 {
        self.labels.load(Ordering::Acquire)
    }

    /// The file has another label. To be called before anything is written under it. Gives what [`Contents::labels`] says from now on.
    pub(super) fn has_new_label(&self) -> u64 {
        self.labels.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether it is empty and was so since it was opened.
    pub(super) fn is_untouched(&self) -> bool {
        let inner = self.read_lock();
        match &inner.state {
            State::Closed => false,
            State::Reading(reader) => !inner.touched && reader.is_empty(),
            State::Writing(writing) => !inner.touched && writing.writer.is_empty(),
        }
    }

    /// Opens the file for reading, unless it is open. What a crash interrupted is completed first; `writable` opens the
    /// same file for that. Gives whether it was opened now, and `header` so found to be the one that the file has.
    pub(super) fn open_to_read(
        &self,
        file: &File,
        writable: impl FnOnce() -> Answer<File>,
        header: &Header,
        dek: &Dek,
    ) -> Result<bool, WriteError> {
        let mut inner = self.write_lock();
        if !matches!(inner.state, State::Closed) {
            return Ok(false);
        }
        let interrupted = Journal::is_needed(&self.journals, self.identity, self.file_id);
        if interrupted.map_err(WriteError::Journal)? {
            let storage = writable().map_err(|errno| WriteError::Storage(errno.into()))?;
            let journal = self.journal(Promise::given())?;
            let outcome = recover(&storage, &journal, dek)?;
            tracing::info!(file = %self.file_id, ?outcome, "an interrupted save was completed");
        }
        let reader = Reader::open(file.try_clone().map_err(WriteError::Read)?, header, dek)?;
        inner.state = State::Reading(Box::new(reader));
        Ok(true)
    }

    /// Opens the file for writing, unless it is; counts one more writer. Gives what [`Contents::open_to_read`] does.
    pub(super) fn open_to_write(
        &self,
        writable: impl FnOnce() -> Answer<File>,
        promise: Promise,
        header: &Header,
        dek: &Dek,
    ) -> Result<bool, WriteError> {
        let mut inner = self.write_lock();
        let usable = matches!(&inner.state, State::Writing(writing) if !writing.writer.is_failed());
        if !usable {
            let file = writable().map_err(|errno| WriteError::Storage(errno.into()))?;
            let backing = Arc::new(Backing { file, promise: promise.clone() });
            let writer = Writer::open(Arc::clone(&backing), self.journal(promise)?, header, dek)?;
            inner.state = State::Writing(Box::new(Writing { writer, backing, is_settled: false }));
        }
        inner.writers += 1;
        Ok(!usable)
    }

    /// Opens for writing what was sealed just now, from nothing, in a file that nobody else knows yet.
    pub(super) fn open_born(&self, file: File, sealed: &Sealed) -> Result<(), WriteError> {
        let mut inner = self.write_lock();
        let promise = Promise::none();
        let journal = Journal::none(&self.journals, self.identity, self.file_id, promise.clone());
        let backing = Arc::new(Backing { file, promise });
        let writer = Writer::born(Arc::clone(&backing), journal, sealed)?;
        inner.state = State::Writing(Box::new(Writing { writer, backing, is_settled: false }));
        inner.writers += 1;
        Ok(())
    }

    fn journal(&self, promise: Promise) -> Result<Journal, WriteError> {
        Journal::open(&self.journals, self.identity, self.file_id, promise).map_err(WriteError::Journal)
    }

    /// Plaintext bytes, and when they were last changed if the file does not say so yet.
    pub(super) fn length(&self) -> Option<(u64, Option<Timespec>)> {
        let inner = self.read_lock();
        match &inner.state {
            State::Closed => None,
            State::Reading(reader) => Some((reader.len(), inner.modified)),
            State::Writing(writing) => Some((writing.writer.len(), inner.modified)),
        }
    }

    /// Whether something is in memory that is not sealed.
    pub(super) fn is_changed(&self) -> bool {
        self.read_lock().modified.is_some()
    }

    /// Reads from `offset` until `buffer` is full or the file ends.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Answer<usize> {
        match &self.read_lock().state {
            State::Closed => Err(Errno::BADF),
            State::Reading(reader) => reader.read_at(buffer, offset).map_err(|error| trouble(error.into())),
            State::Writing(writing) => writing.writer.read_at(buffer, offset).map_err(trouble),
        }
    }

    /// Writes at `offset`, or at the end.
    pub(super) fn write(&self, data: &[u8], offset: Option<u64>) -> Answer<()> {
        self.change(offset.unwrap_or(0), |writer| {
            let offset = offset.unwrap_or_else(|| writer.len());
            writer.write_at(data, offset)
        })
    }

    /// Cuts or extends.
    pub(super) fn set_length(&self, length: u64) -> Answer<()> {
        self.change(length, |writer| writer.set_len(length))
    }

    /// Overwrites a range, as far as it lies in the file, with zeros.
    pub(super) fn zero(&self, offset: u64, length: u64) -> Answer<()> {
        self.change(0, |writer| {
            let zeros = [0; 16384];
            let end = offset.saturating_add(length).min(writer.len());
            let mut position = offset;
            while position < end {
                let step = (end - position).min(zeros.len() as u64);
                #[expect(clippy::cast_possible_truncation, reason = "at most the length of the array")]
                writer.write_at(zeros.get(..step as usize).unwrap_or_default(), position)?;
                position += step;
            }
            Ok(())
        })
    }

    /// Changes the contents. `end` is where a hole may end that has to be filled first.
    fn change(
        &self,
        end: u64,
        change: impl FnOnce(&mut Writer<Arc<Backing>, Journal>) -> Result<(), WriteError>,
    ) -> Answer<()> {
        let mut inner = self.write_lock();
        inner.touched = true;
        let State::Writing(writing) = &mut inner.state else { return Err(Errno::BADF) };
        has_room(&writing.backing.file, end.saturating_sub(writing.writer.len()))?;
        let result = change(&mut writing.writer).map_err(trouble);
        inner.modified = Some(now());
        result
    }

    /// Seals what is in memory. The file then says itself when it was changed.
    pub(super) fn commit(&self) -> Answer<()> {
        self.write_lock().commit(self.file_id)
    }

    /// The same, and it survives a power cut. Gives whether all of the file does: of one that is open to be read alone nothing is known here.
    pub(super) fn sync(&self) -> Answer<bool> {
        let mut inner = self.write_lock();
        inner.commit(self.file_id)?;
        let State::Writing(writing) = &mut inner.state else { return Ok(false) };
        // Who had it open before may have closed it without waiting for the disk.
        if !writing.is_settled {
            writing.backing.file.sync_all().map_err(|error| errno(&error))?;
            if !writing.backing.promise.is_given() && writing.writer.journal().is_there() {
                // It was made when nothing relied on it.
                sync(&*self.journals)?;
            }
            writing.backing.promise.give();
            writing.is_settled = true;
        }
        Ok(true)
    }

    /// One writer less. The last one leaves nothing unsealed.
    pub(super) fn writer_gone(&self) -> Answer<()> {
        let mut inner = self.write_lock();
        inner.writers = inner.writers.saturating_sub(1);
        if inner.writers == 0 { inner.commit(self.file_id) } else { Ok(()) }
    }

    /// To be called when nobody has it open and nobody can open it: removes the journal if it is not needed.
    pub(super) fn close(&self) {
        let mut inner = self.write_lock();
        if let State::Writing(writing) = std::mem::replace(&mut inner.state, State::Closed)
            && writing.writer.journal().is_there()
            // What is in it was done, except after an error: then it may be what completes a save.
            && (!writing.writer.is_failed()
                || matches!(Journal::is_needed(&self.journals, self.identity, self.file_id), Ok(false)))
        {
            Journal::remove(&self.journals, self.identity, self.file_id);
        }
    }

    fn read_lock(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn commit(&mut self, file_id: FileId) -> Answer<()> {
        let State::Writing(writing) = &mut self.state else { return Ok(()) };
        if self.modified.is_none() {
            return Ok(());
        }
        // Somebody wrote another file over it beneath, a backup perhaps: what was written here does not belong to that one.
        if !stored_file_id(&*writing.backing).is_ok_and(|stored| stored == file_id) {
            tracing::error!(file = %file_id, "the file was replaced beneath a view; what was written to it is lost");
            return Err(Errno::STALE);
        }
        writing.writer.sync().map_err(trouble)?;
        if let Some(modified) = self.modified.take() {
            // When it was sealed says nothing; when it was written does.
            let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let times = Timestamps { last_access: omitted, last_modification: modified };
            if let Err(error) = futimens(&writing.backing.file, &times) {
                tracing::debug!(%error, "the modification time of a file cannot be set");
            }
        }
        Ok(())
    }
}

/// Fails when a hole of so many bytes cannot be filled: sealed zeros take space and time, and whoever jumps far ahead must not take
/// the last of the disk from everybody before that shows.
fn has_room(file: &File, hole: u64) -> Answer<()> {
    const SMALL: u64 = 1 << 20;
    if hole <= SMALL {
        return Ok(());
    }
    let disk = fstatvfs(file)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if hole.saturating_add(hole >> 8) > free { Err(Errno::NOSPC) } else { Ok(()) }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The time that the file system itself would take.
fn now() -> Timespec {
    rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse)
}

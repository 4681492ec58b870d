//! A disk that can lose power: it records every write, length change and sync of a file and its journal, and can
//! make the states in which a power cut may leave both.

use super::super::storage::{MemoryStorage, ReadAt, Storage};
use std::io;
use std::sync::{Arc, Mutex};

/// What a disk may write apart.
const SECTOR: usize = 512;

/// One thing done to one of the two storages.
#[derive(Clone)]
pub(super) enum Action {
    Write { file: usize, offset: usize, bytes: Vec<u8> },
    Length { file: usize, length: usize },
    Sync { file: usize },
}

/// Everything done, in order, and where errors are injected.
#[derive(Default)]
pub(super) struct Log {
    pub(super) actions: Vec<Action>,
    /// Fails the call with this number (reads count too), once or from then on.
    pub(super) fail_at: Option<usize>,
    pub(super) fail_on: bool,
    pub(super) calls: usize,
}

/// A storage on the recorded disk. Behaves like memory until the power goes.
#[derive(Clone)]
pub(super) struct Simulated {
    file: usize,
    contents: Arc<MemoryStorage>,
    log: Arc<Mutex<Log>>,
}

/// A file with these bytes and an empty journal.
pub(super) fn disk(bytes: &[u8]) -> (Simulated, Simulated, Arc<Mutex<Log>>) {
    let log = Arc::new(Mutex::new(Log::default()));
    let storage = |file, bytes: &[u8]| Simulated {
        file,
        contents: Arc::new(MemoryStorage::from(bytes.to_vec())),
        log: log.clone(),
    };
    (storage(0, bytes), storage(1, &[]), log)
}

impl Simulated {
    fn call(&self) -> io::Result<()> {
        let mut log = self.log.lock().unwrap();
        log.calls += 1;
        match log.fail_at {
            Some(at) if log.calls == at || (log.fail_on && log.calls > at) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

impl ReadAt for Simulated {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.call()?;
        self.contents.read_exact_at(buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.contents.len()
    }
}

impl Storage for Simulated {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let file = self.file;
        // A failing write leaves half of its bytes.
        let (bytes, result) = match self.call() {
            Ok(()) => (bytes, Ok(())),
            Err(error) => (&bytes[..bytes.len() / 2], Err(error)),
        };
        let action = Action::Write { file, offset: offset as usize, bytes: bytes.to_vec() };
        self.log.lock().unwrap().actions.push(action);
        self.contents.write_all_at(bytes, offset)?;
        result
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.call()?;
        self.log.lock().unwrap().actions.push(Action::Length { file: self.file, length: length as usize });
        self.contents.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call()?;
        self.log.lock().unwrap().actions.push(Action::Sync { file: self.file });
        Ok(())
    }
}

/// What was left out of the unsynced actions before a cut.
pub(super) enum Loss<'a> {
    /// Nothing: all were written in time.
    None,
    /// All of them.
    All,
    /// Each action, or each sector of it, for which this says so.
    Some(&'a mut dyn FnMut() -> bool),
}

/// File and journal after a power cut behind the first `cut` actions.
pub(super) fn after_cut(
    start: [&[u8]; 2],
    actions: &[Action],
    cut: usize,
    mut loss: Loss<'_>,
) -> [Vec<u8>; 2] {
    let mut files = start.map(<[u8]>::to_vec);
    let last_sync = |wanted: usize| {
        let is_sync = |action: &Action| matches!(action, Action::Sync { file } if *file == wanted);
        actions[..cut].iter().rposition(is_sync).map_or(0, |position| position + 1)
    };
    let synced = [last_sync(0), last_sync(1)];
    for (number, action) in actions[..cut].iter().enumerate() {
        let (Action::Write { file, .. } | Action::Length { file, .. } | Action::Sync { file }) = action;
        let mut kept = || {
            number < synced[*file]
                || match &mut loss {
                    Loss::None => true,
                    Loss::All => false,
                    Loss::Some(lost) => !lost(),
                }
        };
        match action {
            Action::Write { file, offset, bytes } => {
                let mut at = *offset;
                let end = offset + bytes.len();
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    if kept() {
                        if files[*file].len() < next {
                            files[*file].resize(next, 0);
                        }
                        files[*file][at..next].copy_from_slice(&bytes[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
            Action::Length { file, length } => {
                if kept() {
                    files[*file].resize(*length, 0);
                }
            }
            Action::Sync { .. } => {}
        }
    }
    files
}

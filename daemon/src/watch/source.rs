//! Events of one folder, from `notify` (inotify). They are hints: nothing here looks at the files, and whatever
//! may have lost one raises the folder's rescan flag.

use crate::seal::is_control;
use crossbeam_channel::{Sender, TrySendError};
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tobari_core::ids::FolderId;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// A file was closed after writing.
    Written,
    /// A file or directory was moved in, or a directory was made.
    Appeared,
    /// A file was made; it is most likely still being written.
    Created,
    /// Links, owner, mode or attributes changed.
    Touched,
}

/// One event.
#[derive(Debug)]
pub(super) struct Hint {
    pub(super) folder: FolderId,
    /// Relative to the folder.
    pub(super) path: PathBuf,
    pub(super) happened: Happened,
}

/// The watch over one folder. Ends when dropped.
#[derive(Debug)]
pub(super) struct FolderWatch {
    _watcher: RecommendedWatcher,
}

impl FolderWatch {
    /// Watches the directory tree at `path`. Returns when all its directories are watched, which takes time in a large
    /// tree. `rescan` is raised whenever events may have been lost.
    pub(super) fn start(
        folder: FolderId,
        path: &Path,
        hints: Sender<Hint>,
        rescan: Arc<AtomicBool>,
    ) -> notify::Result<Self> {
        let handler = Handler { folder, top: path.to_owned(), hints, rescan };
        // A link's target is no part of the folder.
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(handler, config)?;
        watcher.watch(path, RecursiveMode::Recursive)?;
        Ok(Self { _watcher: watcher })
    }
}

struct Handler {
    folder: FolderId,
    top: PathBuf,
    hints: Sender<Hint>,
    rescan: Arc<AtomicBool>,
}

impl notify::EventHandler for Handler {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(folder = ?self.top, %error, "watching failed; the folder is swept instead");
                self.rescan.store(true, Ordering::Release);
                return;
            }
        };
        if event.need_rescan() {
            tracing::info!(folder = ?self.top, "events were lost; the folder is swept");
            self.rescan.store(true, Ordering::Release);
        }
        let happened = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Happened::Written,
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) | EventKind::Create(CreateKind::Folder) => {
                Happened::Appeared
            }
            EventKind::Create(_) => Happened::Created,
            EventKind::Modify(ModifyKind::Metadata(_)) => Happened::Touched,
            // Reads, writes before the close, removals, and the pair of a rename whose halves came already.
            _ => return,
        };
        for path in event.paths {
            let Ok(relative) = path.strip_prefix(&self.top) else { continue };
            if relative.as_os_str().is_empty() || is_control(relative) {
                continue;
            }
            let hint = Hint { folder: self.folder, path: relative.to_owned(), happened };
            match self.hints.try_send(hint) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(_)) => self.rescan.store(true, Ordering::Release),
            }
        }
    }
}

//! Events from inotify, by `notify`: one watch for each directory, and no privilege.

use super::source::{Happened, Listener, Source};
use crate::seal::FolderRoot;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::PathBuf;
use tobari_core::proto::control::EventSource;

#[derive(Debug)]
pub(super) struct Inotify {
    _watcher: RecommendedWatcher,
}

impl Inotify {
    /// Watches the folder's tree. Returns when all its directories are watched, which takes time in a large tree.
    ///
    /// A directory that cannot be watched is the listener's trouble; the rest is watched all the same.
    ///
    /// # Errors
    /// When there is no inotify at all.
    pub(super) fn start(root: &FolderRoot, listener: Listener) -> notify::Result<Self> {
        let handler = Handler { top: root.path().to_owned(), listener: listener.clone() };
        // A link's target is no part of the folder.
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(handler, config)?;
        if let Err(error) = watcher.watch(root.path(), RecursiveMode::Recursive) {
            listener.broken(&error);
        }
        Ok(Self { _watcher: watcher })
    }
}

impl Source for Inotify {
    fn kind(&self) -> EventSource {
        EventSource::Inotify
    }
}

pub(super) struct Handler {
    pub(super) top: PathBuf,
    pub(super) listener: Listener,
}

impl notify::EventHandler for Handler {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) => event,
            // New directories are not watched any more.
            Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                return self.listener.broken(&error);
            }
            Err(error) => return self.listener.lost(&error),
        };
        if event.need_rescan() {
            self.listener.lost(&"the kernel's queue was full");
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
            if let Ok(relative) = path.strip_prefix(&self.top) {
                self.listener.tell(relative, happened);
            }
        }
    }
}

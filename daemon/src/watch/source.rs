//! Where events of one folder come from. They are hints: nothing here looks at the files, and whatever may have lost
//! one raises the folder's rescan flag.
//!
//! [`super::fanotify`] sees the whole file system at once and loses nothing in new directories, but needs
//! `CAP_SYS_ADMIN` and `CAP_DAC_READ_SEARCH`; [`super::inotify`] needs nothing, and has a watch for each directory.

use super::fanotify::Fanotify;
use super::inotify::Inotify;
use super::settings::Events;
use crate::seal::{FolderRoot, is_control};
use crossbeam_channel::{SendTimeoutError, Sender, TrySendError};
use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tobari_core::ids::FolderId;
use tobari_core::proto::control::EventSource;

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

/// A running source of events. Ends when dropped.
pub(super) trait Source: Debug + Send {
    /// Which it is.
    fn kind(&self) -> EventSource;
}

/// Whom a source tells.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) folder: FolderId,
    /// The folder's path, for the log.
    pub(super) top: PathBuf,
    pub(super) hints: Sender<Hint>,
    /// Raised whenever events may have been lost.
    pub(super) rescan: Arc<AtomicBool>,
    /// Why the source does not see everything any more.
    pub(super) trouble: Arc<OnceLock<String>>,
}

impl Listener {
    /// Passes an event on; when there is no room, the folder is swept instead.
    pub(super) fn tell(&self, relative: &Path, happened: Happened) {
        let Some(hint) = self.hint(relative, happened) else { return };
        match self.hints.try_send(hint) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.rescan.store(true, Ordering::Release),
        }
    }

    /// Passes an event on; when there is no room, waits for it unless `stopping`.
    pub(super) fn tell_waiting(&self, relative: &Path, happened: Happened, stopping: &AtomicBool) {
        let Some(mut hint) = self.hint(relative, happened) else { return };
        while !stopping.load(Ordering::Relaxed) {
            match self.hints.send_timeout(hint, Duration::from_millis(50)) {
                Err(SendTimeoutError::Timeout(same)) => hint = same,
                Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
            }
        }
    }

    /// Events were lost.
    pub(super) fn lost(&self, why: &dyn Display) {
        tracing::info!(folder = ?self.top, %why, "events were lost; the folder is swept");
        self.rescan.store(true, Ordering::Release);
    }

    /// The source does not see everything any more; it is started anew after a while.
    pub(super) fn broken(&self, why: &dyn Display) {
        let why = format!("not all of it is watched, so files are found by sweeps only: {why}");
        if self.trouble.set(why).is_ok() {
            tracing::warn!(folder = ?self.top, why = self.trouble.get(), "watching failed");
        }
        self.rescan.store(true, Ordering::Release);
    }

    fn hint(&self, relative: &Path, happened: Happened) -> Option<Hint> {
        let ours = relative.as_os_str().is_empty() || is_control(relative);
        (!ours).then(|| Hint { folder: self.folder, path: relative.to_owned(), happened })
    }
}

/// The watch over one folder. Ends when dropped.
#[derive(Debug)]
pub(super) struct FolderWatch {
    source: Box<dyn Source>,
    trouble: Arc<OnceLock<String>>,
}

impl FolderWatch {
    /// Watches the tree of `root` with the best source that `events` allows.
    ///
    /// # Errors
    /// When no such source can be had; in words.
    pub(super) fn start(
        events: Events,
        folder: FolderId,
        root: &FolderRoot,
        hints: Sender<Hint>,
        rescan: Arc<AtomicBool>,
    ) -> Result<Self, String> {
        let trouble = Arc::new(OnceLock::new());
        let top = root.path().to_owned();
        let listener = Listener { folder, top, hints, rescan, trouble: Arc::clone(&trouble) };
        let source: Box<dyn Source> = match events {
            Events::Inotify => Box::new(inotify(root, listener)?),
            Events::Fanotify => Box::new(fanotify(root, listener)?),
            Events::Auto => match fanotify(root, listener.clone()) {
                Ok(source) => Box::new(source),
                Err(why) => {
                    tracing::info!(folder = ?root.path(), why, "watching by inotify");
                    Box::new(inotify(root, listener)?)
                }
            },
        };
        Ok(Self { source, trouble })
    }

    /// Which source is in use.
    pub(super) fn kind(&self) -> EventSource {
        self.source.kind()
    }

    /// Why it does not see everything.
    pub(super) fn trouble(&self) -> Option<&String> {
        self.trouble.get()
    }
}

fn inotify(root: &FolderRoot, listener: Listener) -> Result<Inotify, String> {
    Inotify::start(root, listener)
        .map_err(|error| format!("it is not watched, so files are found by sweeps only: {error}"))
}

fn fanotify(root: &FolderRoot, listener: Listener) -> Result<Fanotify, String> {
    Fanotify::start(root, listener).map_err(|error| {
        format!("it cannot be watched by fanotify, so files are found by sweeps only: {error}")
    })
}

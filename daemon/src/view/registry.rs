//! What all views of the daemon share: the contents of open files, one owner for each inode, and the encapsulations of the
//! moment. Notices when grants end, so that what is open fails and the kernel drops what it keeps.

use super::contents::Contents;
use super::nodes::Identity;
use super::state::View;
use crate::seal::Epochs;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tobari_core::ids::{FileId, SessionId};

/// How often grants are looked at that nobody uses: what ended is dropped from the kernel's memory after at most so long.
const LOOK: Duration = Duration::from_secs(1);

/// The views of the daemon and the files that are open in them.
#[derive(Default)]
pub struct Registry {
    open: Mutex<HashMap<Identity, Open>>,
    views: Mutex<Views>,
    changed: Condvar,
    pub(super) epochs: Epochs,
}

struct Open {
    contents: Arc<Contents>,
    handles: usize,
}

#[derive(Default)]
struct Views {
    all: Vec<Weak<View>>,
    /// Something was forgotten since the keeper looked.
    forgotten: bool,
    /// Files that were changed since then, and the view through which.
    written: HashSet<(Identity, usize)>,
    has_keeper: bool,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("open", &self.open().len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// A login has ended: what is open under it fails at the next read, and what the kernel keeps of it is dropped.
    pub fn revoked(&self, session: SessionId) {
        let _ = session;
        self.forgotten();
    }

    /// Grants were forgotten: whatever is open is asked for again at the next read, and what is refused then is dropped by the
    /// kernel.
    pub fn forgotten(&self) {
        self.views().forgotten = true;
        self.changed.notify_all();
    }

    /// A file was changed through `view`: the kernel must not answer from what it knows of it through others. Told to it by a thread
    /// of its own, since the kernel may have to wait for reads that views serve.
    pub(super) fn written(&self, identity: Identity, view: &View) {
        let mut views = self.views();
        if views.all.len() > 1 {
            views.written.insert((identity, std::ptr::from_ref(view).addr()));
            self.changed.notify_all();
        }
    }

    /// The contents of the file `identity`; counts one more handle.
    pub(super) fn contents(
        &self,
        identity: Identity,
        file: FileId,
        journals: &Arc<OwnedFd>,
    ) -> Arc<Contents> {
        let mut open = self.open();
        let entry = open.entry(identity).or_insert_with(|| Open {
            contents: Arc::new(Contents::new(identity, file, journals)),
            handles: 0,
        });
        // The inode holds another file by now: somebody wrote another envelope into it.
        if entry.contents.file_id != file {
            *entry = Open { contents: Arc::new(Contents::new(identity, file, journals)), handles: 0 };
        }
        entry.handles += 1;
        Arc::clone(&entry.contents)
    }

    /// The contents of a file, if it is open.
    pub(super) fn find(&self, identity: Identity) -> Option<Arc<Contents>> {
        self.open().get(&identity).map(|open| Arc::clone(&open.contents))
    }

    /// How many handles there are of a file, in all views.
    pub(super) fn handles(&self, contents: &Arc<Contents>) -> usize {
        let open = self.open();
        let entry = open.get(&contents.identity).filter(|entry| Arc::ptr_eq(&entry.contents, contents));
        entry.map_or(0, |entry| entry.handles)
    }

    /// Does something while no file is open, if none is.
    pub(super) fn while_idle<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let open = self.open();
        open.is_empty().then(work)
    }

    /// Whether no file is open.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.open().is_empty()
    }

    /// One handle less.
    pub(super) fn release(&self, contents: &Arc<Contents>) {
        let mut open = self.open();
        let Some(entry) = open.get_mut(&contents.identity) else { return };
        if !Arc::ptr_eq(&entry.contents, contents) {
            return;
        }
        entry.handles = entry.handles.saturating_sub(1);
        if entry.handles == 0 {
            // Nobody can open it meanwhile.
            contents.close();
            open.remove(&contents.identity);
        }
    }

    /// Looks after the grants of `view` from now on.
    pub(super) fn add(self: &Arc<Self>, view: &Arc<View>) -> std::io::Result<()> {
        let mut views = self.views();
        views.all.retain(|view| view.strong_count() > 0);
        views.all.push(Arc::downgrade(view));
        if !views.has_keeper {
            let registry = Arc::downgrade(self);
            std::thread::Builder::new().name(String::from("view-grants")).spawn(move || keep(&registry))?;
            views.has_keeper = true;
        }
        Ok(())
    }

    /// Waits until there is something to do or it is time; what that is, or none when the last view is gone.
    fn wait(&self) -> Option<Work> {
        let views = self.views();
        let (mut views, _) = self
            .changed
            .wait_timeout_while(views, LOOK, |views| !views.forgotten && views.written.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        views.all.retain(|view| view.strong_count() > 0);
        if views.all.is_empty() {
            views.has_keeper = false;
            views.written.clear();
            return None;
        }
        let written = std::mem::take(&mut views.written);
        let forgotten = std::mem::take(&mut views.forgotten);
        let only_written = !forgotten && !written.is_empty();
        let views = views.all.iter().filter_map(Weak::upgrade).collect();
        Some(Work { views, written, forgotten, only_written })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Identity, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the keeper has to do.
struct Work {
    views: Vec<Arc<View>>,
    written: HashSet<(Identity, usize)>,
    /// Something was forgotten.
    forgotten: bool,
    /// It was woken for what was written alone.
    only_written: bool,
}

/// The keeper's thread: until the last view is gone.
fn keep(registry: &Weak<Registry>) {
    while let Some(registry) = registry.upgrade() {
        let Some(work) = registry.wait() else { return };
        registry.epochs.expire();
        for view in &work.views {
            let this = Arc::as_ptr(view).addr();
            for (identity, _) in work.written.iter().filter(|(_, through)| *through != this) {
                view.drop_changed(*identity);
            }
            view.trim();
            if !work.only_written {
                view.drop_what_ended();
            }
            if work.forgotten {
                view.drop_unused();
            }
        }
    }
}

//! What one view consists of, and small questions that all parts of it ask.

use super::ahead::Ahead;
use super::handle::{Handle, Handles};
use super::nodes::{Identity, Node, Nodes};
use super::registry::Registry;
use super::storage::Journal;
use super::{Access, Answer, Folder, Ids, Options};
use crate::failure::Failure;
use crate::seal::{CONTROL, FolderRule, JOURNALS, LabelRecipients, sync};
use crate::service::Service;
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tobari_core::envelope::Header;
use tobari_core::ids::{FileId, LabelId};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) pid: u32,
}

/// One view.
pub(super) struct View {
    pub(super) service: Arc<Service>,
    pub(super) registry: Arc<Registry>,
    pub(super) access: Arc<dyn Access>,
    pub(super) ids: Ids,
    pub(super) folder: Folder,
    pub(super) options: Options,
    pub(super) journals: Arc<OwnedFd>,
    pub(super) nodes: Nodes,
    pub(super) handles: Handles,
    pub(super) ahead: Ahead,
    /// Bytes that a reply with a listing was seen to hold.
    pub(super) room: AtomicUsize,
    pub(super) notifier: OnceLock<fuser::Notifier>,
    /// Nothing is served any more.
    pub(super) ended: AtomicBool,
    /// Files of which a save was interrupted before this view began.
    pending: HashSet<u64>,
    rules: Mutex<Rules>,
}

/// The rules of the bulletin with this number.
struct Rules {
    bulletin: u64,
    all: Vec<FolderRule>,
}

impl View {
    pub(super) fn new(
        service: &Arc<Service>,
        folder: Folder,
        access: Arc<dyn Access>,
        options: &Options,
    ) -> std::io::Result<Self> {
        let nodes = Nodes::new(&folder.top)?;
        let journals = Arc::new(open_journals(&folder.control)?);
        // Another view's journals are not looked at.
        let pending =
            service.views().while_idle(|| Journal::pending(&journals)).unwrap_or(Ok(HashSet::new()))?;
        if !pending.is_empty() {
            let count = pending.len();
            tracing::info!(folder = %folder.path.display(), count, "interrupted saves are completed when the files are opened");
        }
        let bulletin = service.bulletin();
        let rules =
            Rules { bulletin: bulletin.number, all: FolderRule::of_terminal(&bulletin, service.terminal()) };
        Ok(Self {
            service: Arc::clone(service),
            registry: Arc::clone(service.views()),
            ids: access.ids(),
            access,
            folder,
            options: options.clone(),
            journals,
            nodes,
            handles: Handles::default(),
            ahead: Ahead::default(),
            room: AtomicUsize::new(0),
            notifier: OnceLock::new(),
            ended: AtomicBool::new(false),
            pending,
            rules: Mutex::new(rules),
        })
    }

    /// Fails for users whom this view does not serve.
    pub(super) fn admit(&self, caller: Caller) -> Answer<()> {
        if self.ended.load(Ordering::Relaxed) {
            return Err(Errno::NOTCONN);
        }
        if self.ids.admits(caller.uid) { Ok(()) } else { Err(Errno::ACCESS) }
    }

    /// Fails for the name of the control directory, which nobody sees.
    pub(super) fn usable(name: &OsStr) -> Answer<()> {
        if name == CONTROL { Err(Errno::PERM) } else { Ok(()) }
    }

    /// Opens an entry of a directory without opening what it is (`O_PATH`).
    pub(super) fn entry(directory: &Node, name: &OsStr) -> Answer<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        openat2(directory, name, flags, Mode::empty(), resolve)
    }

    /// To be called before a name is taken away: the file's journal, which goes with its last name.
    pub(super) fn doomed_journal(&self, directory: &Node, name: &OsStr) -> Option<(Identity, FileId)> {
        if self.pending.is_empty() {
            return None;
        }
        let entry = Self::entry(directory, name).ok()?;
        let stat = super::nodes::stat(&entry).ok()?;
        if stat.stx_nlink > 1 || !self.pending.contains(&stat.stx_ino) {
            return None;
        }
        let header = Header::read(&super::opening::reopen(&entry, OFlags::RDONLY).ok()?).ok()?;
        let identity = super::nodes::identity(&stat);
        self.registry.find(identity).is_none().then(|| (identity, header.file_id()))
    }

    /// The rule for what lies at a path, relative to the folder: that of the innermost designated folder around it.
    pub(super) fn rule(&self, path: &Path) -> FolderRule {
        let bulletin = self.service.bulletin();
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if rules.bulletin != bulletin.number {
            let all = FolderRule::of_terminal(&bulletin, self.service.terminal());
            *rules = Rules { bulletin: bulletin.number, all };
        }
        let path = self.folder.path.join(path);
        let around = |rule: &&FolderRule| path.starts_with(&rule.folder.path);
        let inner = rules.all.iter().filter(around).max_by_key(|rule| rule.folder.path.len());
        inner.unwrap_or(&self.folder.rule).clone()
    }

    /// The keys of a label.
    pub(super) fn keys(&self, label: LabelId) -> Result<Arc<LabelRecipients>, Failure> {
        Ok(Arc::new(LabelRecipients::of(&self.service.bulletin(), label)?))
    }

    /// Notes that something was refused, and says what the program is told.
    pub(super) fn refuse(&self, name: &Path, caller: Caller, failure: &Failure) -> Errno {
        let (code, why) = (failure.problem.code, &failure.problem.detail);
        tracing::info!(name = %name.display(), uid = caller.uid, pid = caller.pid, ?code, why, "not opened");
        self.access.refused(name, failure);
        super::code(failure)
    }

    /// Each node holds a descriptor: has the kernel forget names when there are too many of them.
    pub(super) fn trim(&self) {
        let Some(notifier) = self.notifier.get() else { return };
        for (parent, name) in self.nodes.surplus(self.options.known_files) {
            let _ = notifier.inval_entry(fuser::INodeNo(parent), &name);
        }
    }

    /// Has the kernel drop the pages of files that are not open: whose they were may have logged out.
    pub(super) fn drop_unused(&self) {
        let Some(notifier) = self.notifier.get() else { return };
        for node in self.nodes.all() {
            if node.seen().cached.take().is_some() && self.registry.find(node.identity).is_none() {
                let _ = notifier.inval_inode(fuser::INodeNo(node.number), 0, 0);
            }
        }
    }

    /// What a file has become through another view: the kernel asks again.
    pub(super) fn drop_changed(&self, identity: Identity) {
        if let Ok(node) = self.nodes.node(identity.2)
            && node.identity == identity
            && let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(fuser::INodeNo(node.number), 0, 0)
        {
            tracing::debug!(%error, "the kernel cannot be told of a change");
        }
    }

    /// Tries the grants of what is open; what the kernel keeps of files that are closed to their readers now is dropped.
    pub(super) fn drop_what_ended(&self) {
        for (_, handle) in self.handles.all() {
            if let Handle::Sealed(sealed) = handle.as_ref()
                && self.recheck(sealed)
                && let Some(notifier) = self.notifier.get()
                && let Err(error) = notifier.inval_inode(fuser::INodeNo(sealed.node.number), 0, 0)
            {
                tracing::debug!(%error, "the kernel cannot be told to drop a file");
            }
        }
    }
}

fn open_journals(control: &OwnedFd) -> Answer<OwnedFd> {
    match mkdirat(control, JOURNALS, Mode::RWXU) {
        Ok(()) => sync(control)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    find_journals(control)
}

/// Where the journals lie, if there ever were any.
pub(super) fn find_journals(control: &OwnedFd) -> Answer<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(control, JOURNALS, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

//! Opening a file: what it is, who wants it, what they are granted, and from there to its contents.

use super::contents::Contents;
use super::handle::{Handle, Plain, Sealed};
use super::nodes::{Node, Stamp, stat, through};
use super::state::{Caller, View};
use super::storage::Promise;
use super::ticket::Ticket;
use super::{Answer, trouble};
use crate::content::check_organisation;
use crate::failure::Failure;
use crate::grants::Granted;
use crate::open::wanted;
use fuser::{FopenFlags, OpenFlags};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tobari_core::crypto::Dek;
use tobari_core::envelope::{
    FilePolicy, Header, MAGIC, OpenError, ReadAt as _, WriteError, looks_sealed, relabel,
};
use tobari_core::policy::Right;
use tobari_core::proto::problem::ProblemCode;

/// How often a file is looked at again whose header is being changed.
const RETRIES: u32 = 3;

/// How a program wants a file opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) reads: bool,
    pub(super) writes: bool,
    pub(super) truncates: bool,
}

impl From<OpenFlags> for Manner {
    fn from(flags: OpenFlags) -> Self {
        let access = flags.0 & libc::O_ACCMODE;
        let truncates = flags.0 & libc::O_TRUNC != 0;
        // Who cuts a file changes it, however it is opened.
        let writes = access != libc::O_RDONLY || truncates;
        Self { reads: access != libc::O_WRONLY, writes, truncates }
    }
}

impl View {
    /// Opens a file; gives its handle and what the kernel may do with it.
    pub(super) fn open(&self, caller: Caller, number: u64, flags: OpenFlags) -> Answer<(u64, FopenFlags)> {
        self.admit(caller)?;
        let node = self.nodes.node(number)?;
        let mode = Manner::from(flags);
        let handle = self.open_node(caller, &node, mode)?;
        let mut flags = flush_flags(&handle);
        if self.may_keep(&node, mode) {
            flags |= FopenFlags::FOPEN_KEEP_CACHE;
        }
        Ok((self.handles.add(handle), flags))
    }

    /// Whether the pages that the kernel has of the file are still those of the file.
    fn may_keep(&self, node: &Node, mode: Manner) -> bool {
        if mode.truncates {
            return false;
        }
        let Ok(stat) = node.stat() else { return false };
        let now = Stamp::from(&stat);
        let open = self.registry.find(node.identity).is_some_and(|contents| contents.is_changed());
        let mut seen = node.seen();
        let kept = !open && seen.cached == Some(now);
        seen.cached = (!open).then_some(now);
        kept
    }

    pub(super) fn open_node(&self, caller: Caller, node: &Arc<Node>, mode: Manner) -> Answer<Handle> {
        if node.kind != FileType::RegularFile {
            return Err(Errno::NXIO);
        }
        let file = reopen(node, OFlags::RDONLY)?;
        if is_sealed(&file)? {
            return self.open_sealed(caller, node, file, mode);
        }
        if !mode.writes {
            return Ok(Handle::Plain(Plain { node: Arc::clone(node), file, caller, writes: None }));
        }
        drop(file);
        self.open_plain_to_write(caller, node, mode)
    }

    fn open_plain_to_write(&self, caller: Caller, node: &Arc<Node>, mode: Manner) -> Answer<Handle> {
        let path = self.nodes.path_of(node);
        let rule = self.rule(&path);
        if let Err(failure) = self.access.may_write_plain(&rule) {
            return Err(self.refuse(&path, caller, &failure));
        }
        let access = if mode.reads { OFlags::RDWR } else { OFlags::WRONLY };
        let file = reopen(node, access)?;
        // Sealed, or removed, in this moment: the name leads to another file by now.
        if stat(&file)?.stx_nlink == 0 {
            return Err(Errno::STALE);
        }
        if mode.truncates {
            rustix::fs::ftruncate(&file, 0)?;
        }
        Ok(Handle::Plain(Plain { node: Arc::clone(node), file, caller, writes: Some((path, rule)) }))
    }

    fn open_sealed(&self, caller: Caller, node: &Arc<Node>, file: File, mode: Manner) -> Answer<Handle> {
        let path = self.nodes.path_of(node);
        let mut tries = 0;
        loop {
            match self.try_sealed(caller, node, &file, mode, &path) {
                // Relabelled since its header was read: the new label decides.
                Err(Unopened::Changed) if tries < RETRIES => tries += 1,
                Err(Unopened::Changed) => return Err(Errno::AGAIN),
                Err(Unopened::Failed(failure)) => return Err(self.refuse(&path, caller, &failure)),
                Err(Unopened::Trouble(errno)) => return Err(errno),
                Ok((contents, ticket, policy)) => {
                    let (node, policy) = (Arc::clone(node), Mutex::new(policy));
                    let sealed = Sealed { node, contents, ticket, file, writes: mode.writes, policy };
                    return Ok(Handle::Sealed(sealed));
                }
            }
        }
    }

    fn try_sealed(
        &self,
        caller: Caller,
        node: &Arc<Node>,
        file: &File,
        mode: Manner,
        path: &Path,
    ) -> Result<(Arc<Contents>, Ticket, FilePolicy), Unopened> {
        let header = Header::read(file).map_err(|error| crate::open::failure(error, 0))?;
        check_organisation(&header, self.service.bulletin().organisation)?;
        let right = if mode.writes { Right::Edit } else { Right::View };
        let epoch = self.service.grants().epoch();
        let granted = self.grant(caller, node, &header, path, right)?;
        let now = self.service.now();
        let dek = granted.key_for(header.file_id(), right, now)?;
        if mode.reads {
            granted.key_for(header.file_id(), Right::View, now)?;
        }
        self.access.may_open(header.policy(), granted.rights(), right)?;
        let before = header.policy().label;
        let header = if mode.writes { self.raise(node.through(), header, dek)? } else { header };
        let contents = self.registry.contents(node.identity, header.file_id(), &self.journals);
        let raised = header.policy().label != before;
        let labels = if raised { contents.has_new_label() } else { contents.labels() };
        let opened = if mode.writes {
            contents.open_to_write(|| reopen(node, OFlags::RDWR), Promise::given(), &header, dek)
        } else {
            contents.open_to_read(file, || reopen(node, OFlags::RDWR), &header, dek)
        };
        let compared = match opened {
            Ok(compared) => compared,
            Err(error) => {
                self.registry.release(&contents);
                return Err(error.into());
            }
        };
        // Another view may have given it another label while this one was asking for a grant; from here on that would be noticed.
        if !compared && !matches!(Header::read(file), Ok(now) if now.policy().label == header.policy().label)
        {
            self.release_contents(&contents, mode.writes);
            return Err(Unopened::Changed);
        }
        if mode.truncates
            && let Err(errno) = contents.set_length(0)
        {
            self.release_contents(&contents, mode.writes);
            return Err(Unopened::Trouble(errno));
        }
        self.correct_length(node, &contents);
        self.access.opened(header.policy(), granted.rights(), right);
        let ticket = Ticket::granted(caller, path.to_owned(), right, mode.reads, granted, (epoch, labels));
        Ok((contents, ticket, header.policy().clone()))
    }

    /// Has the kernel ask for the length again, if what it was told before the file was opened is not right: an interrupted save was
    /// completed, or left out. Attributes alone, for which the kernel waits for nobody.
    fn correct_length(&self, node: &Node, contents: &Contents) {
        let told = node.seen().outline.and_then(|(_, length)| length);
        let length = contents.length().map(|(length, _)| length);
        if told.is_some()
            && told != length
            && let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(fuser::INodeNo(node.number), -1, 0)
        {
            tracing::debug!(%error, "the kernel cannot be told of a length");
        }
    }

    fn grant(
        &self,
        caller: Caller,
        node: &Node,
        header: &Header,
        path: &Path,
        right: Right,
    ) -> Result<Arc<Granted>, Failure> {
        let login = self.access.person(caller.uid, caller.pid)?;
        let wanted = wanted(header, &path.to_string_lossy());
        let grants = self.service.grants();
        let granted = match self.ahead.find(self.nodes.parent_of(node)) {
            Some(listed) if right == Right::View && !grants.has(&login, &wanted, right) => {
                let mut misses = listed.queue();
                let mut all = vec![wanted.clone()];
                // Somebody else's batch may have brought it meanwhile.
                if !grants.has(&login, &wanted, right) {
                    *misses = misses.saturating_add(1);
                    if *misses > 1
                        && let Ok(directory) = self.nodes.node(self.nodes.parent_of(node))
                        && let Some(name) = path.file_name()
                    {
                        all.extend(self.following(&directory, &listed, name));
                    }
                }
                let mut outcomes = grants
                    .obtain_ahead(&login, &all, right)
                    .map_err(|problem| self.service.heard(&login, problem))?;
                drop(misses);
                outcomes.truncate(1);
                outcomes.pop().unwrap_or_else(|| grants.obtain_one(&login, &wanted, right))
            }
            _ => grants.obtain_one(&login, &wanted, right),
        };
        granted.map_err(|failure| self.service.heard_failure(&login, failure))
    }

    /// Gives the file the label that it has to have before it is written to. What its writer has in memory is of no concern
    /// (docs/spec/envelope.md, "Relabel and rewrap").
    pub(super) fn raise(&self, through: String, header: Header, dek: &Dek) -> Result<Header, Unopened> {
        let label = self.access.label_for_change(header.policy());
        if label == header.policy().label {
            return Ok(header);
        }
        let keys = self.keys(label)?;
        let policy = FilePolicy {
            label: keys.label.id,
            label_level: keys.label.level,
            label_name: keys.label.name.clone(),
            generation: keys.generation,
            sealed_at: self.service.now(),
            sealer: self.service.terminal(),
            ..header.policy().clone()
        };
        let epoch = self
            .registry
            .epochs
            .current(&keys)
            .map_err(|stop| Failure::new(ProblemCode::Internal, stop.to_string()))?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(through)
            .map_err(|error| Failure::io("failed to open the sealed file", &error))?;
        // As `tobari admin relabel` does. Never waited for: anybody who may read the file can hold the lock.
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Unopened::Changed),
            Err(errno) => return Err(Unopened::Trouble(errno)),
        }
        let header = Header::read(&file).map_err(|error| crate::open::failure(error, 0))?;
        if header.policy().label == label {
            return Ok(header);
        }
        Ok(relabel(&file, &header, dek, policy, &epoch)?)
    }

    /// Gives up a handle's part in contents.
    pub(super) fn release_contents(&self, contents: &Arc<Contents>, writes: bool) {
        if writes && let Err(error) = contents.writer_gone() {
            tracing::error!(file = %contents.file_id, %error, "what was written last could not be sealed");
        }
        self.registry.release(contents);
    }
}

/// Why a file was not opened.
pub(super) enum Unopened {
    /// Its header changed meanwhile.
    Changed,
    Failed(Box<Failure>),
    Trouble(Errno),
}

impl From<Failure> for Unopened {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<WriteError> for Unopened {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refused) if refused.is_header_changed() => Self::Changed,
            WriteError::Refused(refused) => crate::open::failure(OpenError::Refused(refused), 0).into(),
            error => Self::Trouble(trouble(error)),
        }
    }
}

/// Whether the kernel has to say when a descriptor of a file is closed.
pub(super) fn flush_flags(handle: &Handle) -> FopenFlags {
    if handle.is_flushed() { FopenFlags::empty() } else { FopenFlags::FOPEN_NOFLUSH }
}

/// Opens exactly the file that a descriptor is of.
pub(super) fn reopen(node: impl AsFd, access: OFlags) -> Answer<File> {
    let flags = access | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat(CWD, through(&node.as_fd()), flags, Mode::empty()) {
        Ok(file) => Ok(File::from(file)),
        // Somebody seals it in this moment, and the name will lead to the envelope: the kernel looks for it again.
        Err(Errno::AGAIN) => Err(Errno::STALE),
        Err(errno) => Err(errno),
    }
}

pub(super) fn is_sealed(file: &File) -> Answer<bool> {
    let mut prefix = [0; MAGIC.len()];
    match file.read_exact_at(&mut prefix, 0) {
        Ok(()) => Ok(looks_sealed(&prefix)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

//! Files that are created in the view: sealed from their first byte on. The name appears with an empty file; a moment later, before
//! anybody is told of it, it is the envelope of an empty file.

use super::Answer;
use super::handle::{Handle, Plain, Sealed};
use super::names::{Birth, Making};
use super::nodes::{Node, identity, stat};
use super::opening::{Manner, flush_flags};
use super::state::{Caller, View};
use super::ticket::Ticket;
use crate::failure::Failure;
use crate::seal::{FolderRule, LabelRecipients};
use crate::sessions::Login;
use fuser::{FileAttr, FopenFlags, OpenFlags};
use rustix::fs::{AtFlags, FileType, OFlags, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tobari_core::envelope::{FilePolicy, SealError, SealOptions, Sealed as Envelope, seal};
use tobari_core::proto::problem::ProblemCode;

/// How a file is to be born.
enum Nature {
    /// Sealed, for this label, by this person.
    Sealed(Arc<LabelRecipients>, Arc<Login>, FolderRule),
    /// Left alone by the folder's own rule (`exclude`).
    Plain(FolderRule),
}

impl View {
    /// Creates a file and opens it.
    pub(super) fn create(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        making: Making,
        flags: OpenFlags,
    ) -> Answer<(FileAttr, u64, FopenFlags)> {
        self.admit(caller)?;
        Self::usable(name)?;
        let directory = self.nodes.node(parent)?;
        let added = |handle: Handle, attributes| {
            let flags = flush_flags(&handle);
            (attributes, self.handles.add(handle), flags)
        };
        match self.bear(caller, &directory, name, making) {
            Err(Errno::EXIST) if flags.0 & libc::O_EXCL == 0 => {
                let (node, _) = self.find(&directory, name)?;
                let opened = self.open_node(caller, &node, Manner::from(flags)).and_then(|handle| {
                    if flags.0 & libc::O_TRUNC != 0 {
                        self.end_privileges(&node, caller.uid != 0)?;
                    }
                    let attributes = self.attributes(&node)?;
                    Ok(added(handle, attributes))
                });
                if opened.is_err() {
                    self.nodes.forget(node.number, 1);
                }
                opened
            }
            Err(errno) => Err(errno),
            Ok((handle, attributes)) => Ok(added(handle, attributes)),
        }
    }

    /// Creates a regular file that is not opened.
    pub(super) fn make_file(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        making: Making,
    ) -> Answer<FileAttr> {
        self.admit(caller)?;
        Self::usable(name)?;
        let directory = self.nodes.node(parent)?;
        let (handle, attributes) = self.bear(caller, &directory, name, making)?;
        self.close(&handle);
        Ok(attributes)
    }

    fn bear(
        &self,
        caller: Caller,
        directory: &Node,
        name: &OsStr,
        making: Making,
    ) -> Answer<(Handle, FileAttr)> {
        let path = self.nodes.path(directory.number, name);
        let nature = self.nature(caller, &path).map_err(|failure| self.refuse(&path, caller, &failure))?;
        let birth = Birth::of(self, directory, caller, making)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The owner at least has to be able to open it once more.
        let made = openat(directory, name, flags, birth.mode)?;
        let born = self.fill(caller, directory, name, &path, made, &birth, nature);
        if born.is_err() {
            let _ = unlinkat(directory, name, AtFlags::empty());
        }
        born
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the second half of one function, which undoes the first when it fails"
    )]
    fn fill(
        &self,
        caller: Caller,
        directory: &Node,
        name: &OsStr,
        path: &Path,
        made: OwnedFd,
        birth: &Birth,
        nature: Nature,
    ) -> Answer<(Handle, FileAttr)> {
        let (keys, login, rule) = match nature {
            Nature::Plain(rule) => {
                birth.finish(&made, FileType::RegularFile)?;
                let (node, attributes) = self.find(directory, name)?;
                let writes = Some((path.to_owned(), rule));
                return Ok((Handle::Plain(Plain { node, file: made.into(), caller, writes }), attributes));
            }
            Nature::Sealed(keys, login, rule) => (keys, login, rule),
        };
        let file = File::from(made);
        let grants = self.service.grants().epoch();
        let envelope =
            self.envelope(&file, &keys, &rule).map_err(|failure| self.refuse(path, caller, &failure))?;
        let contents = self.registry.contents(identity(&stat(&file)?), envelope.file_id, &self.journals);
        let writable = file.try_clone().map_err(|_| Errno::MFILE);
        let opened = writable.and_then(|file| contents.open_born(file, &envelope).map_err(super::trouble));
        if let Err(errno) = opened {
            self.registry.release(&contents);
            return Err(errno);
        }
        let found = birth.finish(&file, FileType::RegularFile).and_then(|()| self.find(directory, name));
        let (node, attributes) = match found {
            Ok(found) if found.0.identity == contents.identity => found,
            found => {
                self.release_contents(&contents, true);
                if let Ok((node, _)) = &found {
                    self.nodes.forget(node.number, 1);
                }
                return Err(found.err().unwrap_or(Errno::STALE));
            }
        };
        if attributes.perm & 0o6000 == 0 {
            node.seen().unprivileged = Some(Instant::now());
        }
        let policy = Mutex::new(envelope.header.policy().clone());
        let now = self.service.now();
        self.service.grants().born(&login, &envelope.header, &envelope.dek);
        let ticket = Ticket::born(caller, path.to_owned(), &login, envelope.dek, now, grants);
        Ok((Handle::Sealed(Sealed { node, contents, ticket, file, writes: true, policy }), attributes))
    }

    fn nature(&self, caller: Caller, path: &Path) -> Result<Nature, Failure> {
        let rule = self.rule(path);
        let excluded = rule.excluded.as_ref().is_ok_and(|excluded| {
            path.ancestors().any(|part| !part.as_os_str().is_empty() && excluded.is_match(part))
        });
        if excluded && self.access.may_write_plain(&rule).is_ok() {
            return Ok(Nature::Plain(rule));
        }
        let login = self.access.person(caller.uid, caller.pid)?;
        let label = self.access.label_for_new(&rule)?;
        Ok(Nature::Sealed(self.keys(label)?, login, rule))
    }

    fn envelope(
        &self,
        file: &File,
        keys: &Arc<LabelRecipients>,
        rule: &FolderRule,
    ) -> Result<Envelope, Failure> {
        let policy = FilePolicy {
            organisation: self.service.bulletin().organisation,
            label: keys.label.id,
            label_level: keys.label.level,
            label_name: keys.label.name.clone(),
            owner_group: rule.folder.owner_group,
            sealed_at: self.service.now(),
            sealer: self.service.terminal(),
            generation: keys.generation,
        };
        let options = SealOptions { threads: 1, ..SealOptions::default() };
        loop {
            let epochs = &self.registry.epochs;
            let epoch =
                epochs.current(keys).map_err(|stop| Failure::new(ProblemCode::Internal, stop.to_string()))?;
            match seal(&mut std::io::empty(), file, &epoch, policy.clone(), &options, &mut |_| {}) {
                Err(SealError::EpochSpent) => epochs.retire(keys, &epoch),
                Err(SealError::Storage(error)) => {
                    return Err(Failure::io("failed to create a sealed file", &error));
                }
                other => {
                    return other.map_err(|error| Failure::new(ProblemCode::Internal, error.to_string()));
                }
            }
        }
    }
}

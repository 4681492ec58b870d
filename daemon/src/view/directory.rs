//! Listing directories.

use super::Answer;
use super::attributes::kind;
use super::handle::Handle;
use super::nodes::{Node, ROOT};
use super::state::{Caller, View};
use crate::seal::CONTROL;
use fuser::{FileAttr, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, PoisonError};

/// An open directory and its entries as of when it was read from its start.
pub(super) struct Listing {
    node: Arc<Node>,
    entries: Vec<Entry>,
}

struct Entry {
    number: u64,
    kind: FileType,
    name: OsString,
}

impl View {
    /// Opens a directory.
    pub(super) fn open_directory(&self, caller: Caller, number: u64) -> Answer<u64> {
        self.admit(caller)?;
        let node = self.nodes.node(number)?;
        if node.kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        Ok(self.handles.add(Handle::Directory(Mutex::new(Listing { node, entries: Vec::new() }))))
    }

    /// Names and kinds from the entry `offset` on.
    pub(super) fn list(&self, handle: u64, offset: u64, reply: &mut ReplyDirectory) -> Answer<()> {
        self.each(handle, offset, |_, entry, next| {
            reply.add(INodeNo(entry.number), next, kind(entry.kind), &entry.name)
        })
    }

    /// The same with attributes, so that the kernel need not ask for each.
    pub(super) fn list_plus(&self, handle: u64, offset: u64, reply: &mut ReplyDirectoryPlus) -> Answer<()> {
        let remembered = self.options.remembered;
        self.each(handle, offset, |node, entry, next| {
            let name = entry.name.as_os_str();
            if name == "." || name == ".." {
                let attributes = brief(entry);
                return reply.add(INodeNo(entry.number), next, name, &remembered, &attributes, Generation(0));
            }
            // What is gone meanwhile is left out.
            let Ok((found, attributes)) = self.find(node, name) else { return false };
            let full = reply.add(INodeNo(found.number), next, name, &remembered, &attributes, Generation(0));
            if full {
                self.nodes.forget(found.number, 1);
            }
            full
        })
    }

    /// Calls `add` for each entry from `offset` on, until it says that there is no more room.
    fn each(&self, handle: u64, offset: u64, mut add: impl FnMut(&Node, &Entry, u64) -> bool) -> Answer<()> {
        let handle = self.handles.find(handle)?;
        let Handle::Directory(listing) = handle.as_ref() else { return Err(Errno::NOTDIR) };
        let mut listing = listing.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 {
            listing.entries = self.read_entries(&listing.node)?;
            let names = listing.entries.iter().filter(|entry| entry.kind == FileType::RegularFile);
            self.ahead.listed(listing.node.number, names.map(|entry| entry.name.clone()).collect());
        }
        let node = Arc::clone(&listing.node);
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, entry) in (offset + 1..).zip(listing.entries.iter().skip(skipped)) {
            if add(&node, entry, next) {
                break;
            }
        }
        Ok(())
    }

    fn read_entries(&self, node: &Node) -> Answer<Vec<Entry>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut directory = Dir::new(openat(node, c".", flags, Mode::empty())?)?;
        let parent = if node.number == ROOT { ROOT } else { self.nodes.parent_of(node) };
        let special = |name: &str, number| Entry { number, kind: FileType::Directory, name: name.into() };
        let mut entries = vec![special(".", node.number), special("..", parent)];
        while let Some(entry) = directory.read() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." && name != CONTROL {
                entries.push(Entry { number: entry.ino(), kind: entry.file_type(), name: name.to_owned() });
            }
        }
        Ok(entries)
    }
}

/// Enough for `.` and `..`, of which the kernel takes number and kind alone.
fn brief(entry: &Entry) -> FileAttr {
    let epoch = std::time::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(entry.number),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: kind(entry.kind),
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

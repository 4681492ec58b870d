//! Listing directories.

use super::Answer;
use super::attributes::kind;
use super::handle::Handle;
use super::names::Found;
use super::nodes::{Node, ROOT};
use super::state::{Caller, View};
use crate::seal::CONTROL;
use fuser::{FileAttr, FopenFlags, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How many entries of a long listing are looked at before the first of them is answered, at most.
const WINDOW: usize = 64;
/// What a reply has room for on any kernel, in bytes.
const LEAST_ROOM: usize = 4096;

/// An open directory and its entries as of when it was read from its start.
pub(super) struct Listing {
    node: Arc<Node>,
    entries: Vec<Entry>,
}

struct Entry {
    number: u64,
    kind: FileType,
    name: OsString,
    /// What was found under the name and is not told yet.
    found: Option<Answer<Found>>,
}

impl View {
    /// Opens a directory; gives its handle and what the kernel may do with it.
    pub(super) fn open_directory(&self, caller: Caller, number: u64) -> Answer<(u64, FopenFlags)> {
        self.admit(caller)?;
        let node = self.nodes.node(number)?;
        if node.kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        // The kernel keeps a listing until the modification time of the directory changes. It may answer from that while it also
        // remembers the attributes of what is listed; later, listing anew tells them all together.
        let listed = node.seen().listed;
        let mut flags = FopenFlags::FOPEN_CACHE_DIR;
        if listed.is_some_and(|since| since.elapsed() < self.options.remembered) {
            flags |= FopenFlags::FOPEN_KEEP_CACHE;
        }
        let listing = Listing { node, entries: Vec::new() };
        Ok((self.handles.add(Handle::Directory(Mutex::new(listing))), flags))
    }

    /// Names and kinds from the entry `offset` on.
    pub(super) fn list(&self, handle: u64, offset: u64, reply: &mut ReplyDirectory) -> Answer<()> {
        self.each(handle, offset, |_, entries, at| {
            let Some(entry) = entries.get(at) else { return true };
            reply.add(INodeNo(entry.number), at as u64 + 1, kind(entry.kind), &entry.name)
        })
    }

    /// The same with attributes, so that the kernel need not ask for each.
    pub(super) fn list_plus(&self, handle: u64, offset: u64, reply: &mut ReplyDirectoryPlus) -> Answer<()> {
        let remembered = self.options.remembered;
        // What does not fit would be looked at in vain. How much does is not said; it shows.
        let room = self.room.load(Ordering::Relaxed).max(LEAST_ROOM);
        let mut used = 0;
        let result = self.each(handle, offset, |directory, entries, at| {
            self.look_ahead(directory, entries, at, room.saturating_sub(used));
            let Some(entry) = entries.get_mut(at) else { return true };
            let (name, next) = (entry.name.as_os_str(), at as u64 + 1);
            if name == "." || name == ".." {
                let attributes = brief(entry);
                return reply.add(INodeNo(entry.number), next, name, &remembered, &attributes, Generation(0));
            }
            let told = match entry.found.take() {
                Some(Ok(found)) => self.tell(directory, name, found),
                // Descriptors may have been short, looking at many at once.
                _ => self.find(directory, name),
            };
            // What is gone meanwhile is left out.
            let Ok((node, attributes)) = told else { return false };
            let full = reply.add(INodeNo(node.number), next, name, &remembered, &attributes, Generation(0));
            if full {
                self.nodes.forget(node.number, 1);
            } else {
                used += size(name);
            }
            full
        });
        self.room.fetch_max(used, Ordering::Relaxed);
        result
    }

    /// Looks at the entries that follow, a window of them at a time: the disk reads the beginnings of all their files at once.
    fn look_ahead(&self, directory: &Node, entries: &mut [Entry], at: usize, mut room: usize) {
        let is_there = |entry: &Entry| entry.found.is_some() || entry.name == "." || entry.name == "..";
        if entries.get(at).is_none_or(is_there) {
            return;
        }
        for entry in entries.iter_mut().skip(at).take(WINDOW).filter(|entry| !is_there(entry)) {
            entry.found = Some(self.look(directory, entry.number, &entry.name));
            room = room.saturating_sub(size(&entry.name));
            if room == 0 {
                break;
            }
        }
    }

    /// Calls `add` for each entry from `offset` on, with all entries and its place among them, until it says that there is no more
    /// room.
    fn each(
        &self,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(&Node, &mut [Entry], usize) -> bool,
    ) -> Answer<()> {
        let handle = self.handles.find(handle)?;
        let Handle::Directory(listing) = handle.as_ref() else { return Err(Errno::NOTDIR) };
        let mut listing = listing.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 {
            listing.entries = self.read_entries(&listing.node)?;
            let names = listing.entries.iter().filter(|entry| entry.kind == FileType::RegularFile);
            self.ahead.listed(listing.node.number, names.map(|entry| entry.name.clone()).collect());
            listing.node.seen().listed = Some(Instant::now());
        }
        let node = Arc::clone(&listing.node);
        let first = usize::try_from(offset).unwrap_or(usize::MAX);
        for at in first..listing.entries.len() {
            if add(&node, &mut listing.entries, at) {
                break;
            }
        }
        // What was looked at and is told later may have changed by then.
        let ahead = listing.entries.iter_mut().skip(first).filter(|entry| entry.found.is_some());
        ahead.for_each(|entry| entry.found = None);
        Ok(())
    }

    fn read_entries(&self, node: &Node) -> Answer<Vec<Entry>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut directory = Dir::new(openat(node, c".", flags, Mode::empty())?)?;
        let parent = if node.number == ROOT { ROOT } else { self.nodes.parent_of(node) };
        let special =
            |name: &str, number| Entry { number, kind: FileType::Directory, name: name.into(), found: None };
        let mut entries = vec![special(".", node.number), special("..", parent)];
        while let Some(entry) = directory.read() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." && name != CONTROL {
                let (number, kind, name) = (entry.ino(), entry.file_type(), name.to_owned());
                entries.push(Entry { number, kind, name, found: None });
            }
        }
        Ok(entries)
    }
}

/// Bytes of an entry with attributes in the kernel's protocol (`FUSE_DIRENTPLUS_SIZE`).
fn size(name: &OsStr) -> usize {
    (152 + name.len()).next_multiple_of(8)
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

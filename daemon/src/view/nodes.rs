//! What the kernel knows of the folder: one node for each inode that it was told of, until it forgets it.
//!
//! A node holds its inode with an `O_PATH` descriptor, so that its number is not given to another file meanwhile, and so that
//! it is found wherever it was renamed to. Nodes are known to the kernel by the numbers that users see, the root by 1.

use super::Answer;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, statx};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

/// The kernel's number of the root.
pub(super) const ROOT: u64 = 1;

/// Device and inode of a file.
pub(super) type Identity = (u32, u32, u64);

/// An inode that the kernel knows.
pub(super) struct Node {
    /// Its number, for the kernel and for users.
    pub(super) number: u64,
    pub(super) identity: Identity,
    pub(super) kind: FileType,
    descriptor: OwnedFd,
    /// Where it was last seen: its directory's number and its name there.
    place: Mutex<(u64, OsString)>,
    pub(super) seen: Mutex<Seen>,
}

/// What was last found out about a file.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the file with this size and change time: the bytes of plaintext if it is sealed.
    pub(super) outline: Option<(Stamp, Option<u64>)>,
    /// The state of the file that the kernel's cached pages are of.
    pub(super) cached: Option<Stamp>,
    /// When it was seen that the file has neither set-id bits nor capabilities.
    pub(super) unprivileged: Option<Instant>,
    /// When the kernel was last told all that is in the directory.
    pub(super) listed: Option<Instant>,
}

/// Size, modification and change time of a file: whether it may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl From<&Statx> for Stamp {
    fn from(stat: &Statx) -> Self {
        Self {
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }
}

impl Node {
    /// What the file system beneath says of it.
    pub(super) fn stat(&self) -> Answer<Statx> {
        stat(&self.descriptor)
    }

    /// A path that leads to exactly this inode, for calls that take no descriptor.
    pub(super) fn through(&self) -> String {
        through(&self.descriptor)
    }

    pub(super) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRawFd for Node {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// All nodes of a view.
pub(super) struct Nodes {
    root: Identity,
    all: RwLock<HashMap<u64, Known>>,
}

struct Known {
    node: Arc<Node>,
    /// How often the kernel was told of it.
    lookups: u64,
}

impl Nodes {
    /// The root alone.
    pub(super) fn new(top: &OwnedFd) -> std::io::Result<Self> {
        let descriptor = top.try_clone()?;
        let stat = stat(&descriptor)?;
        let root = Node {
            number: ROOT,
            identity: identity(&stat),
            kind: FileType::Directory,
            descriptor,
            place: Mutex::new((ROOT, OsString::new())),
            seen: Mutex::default(),
        };
        let known = Known { node: Arc::new(root), lookups: 1 };
        Ok(Self { root: identity(&stat), all: RwLock::new(HashMap::from([(ROOT, known)])) })
    }

    /// The node with this number.
    pub(super) fn node(&self, number: u64) -> Answer<Arc<Node>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&number).map(|known| Arc::clone(&known.node)).ok_or(Errno::STALE)
    }

    /// The node of a file that the kernel is about to be told of, which counts. If it is not known, `descriptor` is of it.
    pub(super) fn tell(&self, parent: u64, name: &OsStr, descriptor: OwnedFd, stat: &Statx) -> Arc<Node> {
        let identity = identity(stat);
        let number = self.number(identity);
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(number).or_insert_with(|| {
            let node = Node {
                number,
                identity,
                kind: FileType::from_raw_mode(stat.stx_mode.into()),
                descriptor,
                place: Mutex::new((parent, name.to_owned())),
                seen: Mutex::default(),
            };
            Known { node: Arc::new(node), lookups: 0 }
        });
        known.lookups += 1;
        let node = Arc::clone(&known.node);
        drop(all);
        self.moved(&node, parent, name);
        node
    }

    /// The same for a file of which the kernel knows; none if it does not.
    pub(super) fn tell_again(&self, parent: u64, name: &OsStr, stat: &Statx) -> Option<Arc<Node>> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let known = all.get_mut(&stat.stx_ino).filter(|known| known.node.identity == identity(stat))?;
        known.lookups += 1;
        let node = Arc::clone(&known.node);
        drop(all);
        self.moved(&node, parent, name);
        Some(node)
    }

    /// Whether the kernel knows of a file with this number.
    pub(super) fn is_known(&self, number: u64) -> bool {
        self.all.read().unwrap_or_else(PoisonError::into_inner).contains_key(&number)
    }

    fn number(&self, identity: Identity) -> u64 {
        if identity == self.root { ROOT } else { identity.2 }
    }

    /// The kernel has forgotten as many times that it was told of a node.
    pub(super) fn forget(&self, number: u64, lookups: u64) {
        if number == ROOT {
            return;
        }
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(&number) {
            known.lookups = known.lookups.saturating_sub(lookups);
            if known.lookups == 0 {
                let gone = all.remove(&number);
                // Closing the descriptor may free the file's blocks.
                drop(all);
                drop(gone);
            }
        }
    }

    /// The node was seen in this place.
    pub(super) fn moved(&self, node: &Node, parent: u64, name: &OsStr) {
        if node.number == ROOT {
            return;
        }
        let mut place = node.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.0 != parent || place.1 != name {
            *place = (parent, name.to_owned());
        }
    }

    /// The path at which a name lies, relative to the folder, as far as the view has seen.
    pub(super) fn path(&self, parent: u64, name: &OsStr) -> PathBuf {
        let mut names = vec![name.to_owned()];
        let mut number = parent;
        // Longer than any path; a circle could come of renames that crossed.
        for _ in 0..4096 {
            if number == ROOT {
                break;
            }
            let Ok(node) = self.node(number) else { break };
            let place = node.place.lock().unwrap_or_else(PoisonError::into_inner);
            names.push(place.1.clone());
            number = place.0;
        }
        names.iter().rev().collect()
    }

    /// The path of a node.
    pub(super) fn path_of(&self, node: &Node) -> PathBuf {
        let (parent, name) = node.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if node.number == ROOT { PathBuf::new() } else { self.path(parent, &name) }
    }

    /// The directory in which a node was last seen.
    pub(super) fn parent_of(&self, node: &Node) -> u64 {
        node.place.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Names of files to be forgotten; none while there are fewer nodes than `limit`.
    pub(super) fn surplus(&self, limit: usize) -> Vec<(u64, OsString)> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= limit {
            return Vec::new();
        }
        let files = all.values().filter(|known| known.node.kind != FileType::Directory);
        files
            .take(all.len() - limit / 2)
            .map(|known| known.node.place.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().map(|known| Arc::clone(&known.node)).collect()
    }
}

/// What the file system says of an open file, of whatever kind.
pub(super) fn stat(file: impl AsFd) -> Answer<Statx> {
    statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// Device and inode.
pub(super) fn identity(stat: &Statx) -> Identity {
    (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino)
}

/// A path that leads to exactly the file that is open.
pub(super) fn through(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

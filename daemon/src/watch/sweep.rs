//! Walking a folder, or a part of it, for files that are not sealed. The walk compares headers, not memory: what
//! it finds is what is there.
//!
//! It opens each file for an instant, so it keeps away from those that a worker has in hand: opening a file on which
//! a worker holds the lease would break that.

use super::busy::Busy;
use super::rules::Rules;
use crate::seal::{Content, Facts, FolderRoot, Step, Stop, inspect, is_control, open_probed, probe};
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use rustix::fs::{Dir, FileType};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tobari_core::ids::{FolderId, OrganisationId};

/// A walk to do.
pub(super) struct Walk {
    pub(super) folder: FolderId,
    pub(super) incarnation: u64,
    pub(super) root: Arc<FolderRoot>,
    pub(super) rules: Arc<Rules>,
    /// Where to start, relative to the folder; empty for all of it.
    pub(super) start: PathBuf,
}

/// What a walk says.
pub(super) enum Found {
    /// A file that is not a sealed one of ours.
    File { folder: FolderId, incarnation: u64, path: PathBuf },
    /// A directory that cannot be walked.
    Blocked { folder: FolderId, incarnation: u64, path: PathBuf, why: Stop },
    /// How far the walk of the whole folder has come.
    Progress { folder: FolderId, incarnation: u64, files: u64, done: f64 },
    /// The walk of the whole folder ended. Not sent for a part, nor when stopped.
    Swept {
        folder: FolderId,
        incarnation: u64,
        /// Regular files that are to be sealed or are so.
        files: u64,
    },
}

/// Time between two reports of progress.
const PROGRESS: Duration = Duration::from_millis(500);

/// How many entries of a directory are looked at before another folder has its turn.
const TURN: usize = 256;
/// Most walks that are under way or wait for those of the same folder before them.
const WALKS: usize = 1024;

/// A walk under way: one level of names for each directory on the way down, never the tree.
struct Tree {
    walk: Walk,
    /// Directories to walk, and what part of the whole each is.
    waiting: Vec<(PathBuf, f64)>,
    /// The directory in hand.
    current: Option<Directory>,
    /// Part of the whole that is done, 0 to 1.
    done: f64,
    files: u64,
    told: Instant,
}

/// A directory in hand.
struct Directory {
    directory: OwnedFd,
    entries: Dir,
    path: PathBuf,
    share: f64,
    /// Where in [`Tree::waiting`] its own directories begin.
    first: usize,
}

/// A thread that walks. Folders have turns of some entries each, so that nobody can keep it by making a directory longer
/// or a tree deeper while it is walked.
pub(super) struct Walker {
    pub(super) organisation: OrganisationId,
    pub(super) busy: Arc<Busy>,
    pub(super) found: Sender<Found>,
    pub(super) stopping: Arc<AtomicBool>,
}

impl Walker {
    /// Walks what it is told until the channel closes.
    pub(super) fn run(&self, walks: &Receiver<Walk>) {
        // An error means that nobody listens any more: the engine stops.
        let _ = self.take_turns(walks);
    }

    fn take_turns(&self, walks: &Receiver<Walk>) -> Result<(), Stopped> {
        let mut folders: VecDeque<(FolderId, VecDeque<Tree>)> = VecDeque::new();
        loop {
            while folders.iter().map(|(_, trees)| trees.len()).sum::<usize>() < WALKS {
                let walk = if folders.is_empty() {
                    walks.recv().map_err(|_| Stopped)?
                } else {
                    match walks.try_recv() {
                        Ok(walk) => walk,
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => return Err(Stopped),
                    }
                };
                let id = walk.folder;
                match folders.iter_mut().find(|(folder, _)| *folder == id) {
                    Some((_, trees)) => trees.push_back(Tree::new(walk)),
                    None => folders.push_back((id, VecDeque::from([Tree::new(walk)]))),
                }
            }
            let Some((folder, mut trees)) = folders.pop_front() else { continue };
            if let Some(mut tree) = trees.pop_front()
                && self.turn(&mut tree)?
            {
                trees.push_front(tree);
            }
            if !trees.is_empty() {
                folders.push_back((folder, trees));
            }
        }
    }

    /// Goes on with a walk for a while; false when it has ended.
    fn turn(&self, tree: &mut Tree) -> Result<bool, Stopped> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Stopped);
        }
        let (folder, incarnation) = (tree.walk.folder, tree.walk.incarnation);
        let whole = tree.walk.start.as_os_str().is_empty();
        let mut left = TURN;
        while left > 0 {
            if whole && tree.told.elapsed() >= PROGRESS {
                tree.told = Instant::now();
                let (files, done) = (tree.files, tree.done);
                self.tell(Found::Progress { folder, incarnation, files, done })?;
            }
            let given_up = tree.walk.root.is_lost();
            if given_up || (tree.current.is_none() && tree.waiting.is_empty()) {
                if whole {
                    self.tell(Found::Swept { folder, incarnation, files: tree.files })?;
                }
                return Ok(false);
            }
            let Err(why) = self.look(tree, &mut left)? else { continue };
            let path = tree.current.take().map(|current| current.path);
            match (why, path) {
                (Stop::Vanished | Stop::Died, _) | (_, None) => {}
                (why, Some(path)) => self.tell(Found::Blocked { folder, incarnation, path, why })?,
            }
        }
        Ok(true)
    }

    /// Looks at the next entries.
    fn look(&self, tree: &mut Tree, left: &mut usize) -> Result<Result<(), Stop>, Stopped> {
        let Tree { walk, waiting, current, done, files, .. } = tree;
        let current = match current {
            Some(current) => current,
            none => {
                let Some((path, share)) = waiting.pop() else { return Ok(Ok(())) };
                *left = left.saturating_sub(1);
                match open(walk, &path) {
                    Ok(Some((directory, entries))) => {
                        none.insert(Directory { directory, entries, path, share, first: waiting.len() })
                    }
                    Ok(None) => return Ok(Ok(())),
                    Err(Stop::Vanished | Stop::Died) => return Ok(Ok(())),
                    Err(why) => {
                        let (folder, incarnation) = (walk.folder, walk.incarnation);
                        self.tell(Found::Blocked { folder, incarnation, path, why })?;
                        return Ok(Ok(()));
                    }
                }
            }
        };
        while *left > 0 {
            *left -= 1;
            let entry = match current.entries.next() {
                Some(Ok(entry)) => entry,
                Some(Err(errno)) => return Ok(Err(errno.into())),
                None => {
                    let below = waiting.get_mut(current.first..).unwrap_or_default();
                    // Nobody knows how much lies below a directory before it is walked: each gets an equal part.
                    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                    let each = current.share / (below.len() as f64 + 1.0);
                    below.iter_mut().for_each(|(_, share)| *share = each);
                    *done += each;
                    tree.current = None;
                    return Ok(Ok(()));
                }
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = current.path.join(name);
            if is_control(&path) || walk.rules.leaves_alone(&path) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match probe(&current.directory, name) {
                    Ok((_, facts)) => facts.file_type(),
                    Err(_) => continue,
                },
                kind => kind,
            };
            match kind {
                FileType::Directory => waiting.push((path, 0.0)),
                FileType::RegularFile => {
                    *files += 1;
                    if !self.is_unsealed(&current.directory, name) {
                        continue;
                    }
                    let (folder, incarnation) = (walk.folder, walk.incarnation);
                    self.tell(Found::File { folder, incarnation, path })?;
                }
                _ => {}
            }
        }
        Ok(Ok(()))
    }

    /// Whether a worker should look at the file. All doubtful cases are for the worker, which tells why.
    fn is_unsealed(&self, directory: &impl std::os::fd::AsFd, name: &OsStr) -> bool {
        let Ok((path, facts)) = probe(directory, name) else { return true };
        if facts.file_type() != FileType::RegularFile || self.busy.has(&facts) {
            return false;
        }
        match open_probed(&path, facts.clone()) {
            Ok((file, facts)) => {
                !matches!(inspect(&file, facts.size, self.organisation), Ok(Content::Sealed))
            }
            Err(Stop::Vanished) => false,
            // Somebody's lease, or a worker's.
            Err(stop) if stop.is(Errno::AGAIN) => !self.busy.has(&facts),
            Err(_) => true,
        }
    }

    fn tell(&self, found: Found) -> Result<(), Stopped> {
        self.found.send(found).map_err(|_| Stopped)
    }
}

impl Tree {
    fn new(walk: Walk) -> Self {
        let waiting = vec![(walk.start.clone(), 1.0)];
        Self { walk, waiting, current: None, done: 0.0, files: 0, told: Instant::now() }
    }
}

/// Opens a directory; none for the control directory under another name, which is opened anew soon.
fn open(walk: &Walk, path: &Path) -> Result<Option<(OwnedFd, Dir)>, Stop> {
    let directory = walk.root.open_parent(path).map_err(|stop| stop.at(Step::OpenParent))?;
    if walk.root.is_control_directory(&Facts::of(&directory)?) {
        return Ok(None);
    }
    let entries = Dir::read_from(&directory)?;
    Ok(Some((directory, entries)))
}

/// The engine stops.
struct Stopped;

//! Walking a folder, or a part of it, for files that are not sealed. The walk compares headers, not memory: what
//! it finds is what is there.
//!
//! It opens each file for an instant, so it keeps away from those that a worker has in hand: opening a file on which
//! a worker holds the lease would break that.

use super::busy::Busy;
use super::rules::Rules;
use crate::seal::{Content, FolderRoot, Stop, inspect, is_control, open_probed, probe};
use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{Dir, FileType};
use rustix::io::Errno;
use std::ffi::OsStr;
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

/// A walk under way: one level of names for each directory on the way down, never the tree.
struct Tree {
    /// Directories to walk, and what part of the whole each is.
    waiting: Vec<(PathBuf, f64)>,
    /// Part of the whole that is done, 0 to 1.
    done: f64,
    files: u64,
}

/// A thread that walks.
pub(super) struct Walker {
    pub(super) organisation: OrganisationId,
    pub(super) busy: Arc<Busy>,
    pub(super) found: Sender<Found>,
    pub(super) stopping: Arc<AtomicBool>,
}

impl Walker {
    /// Walks what it is told until the channel closes.
    pub(super) fn run(&self, walks: &Receiver<Walk>) {
        for walk in walks {
            // An error means that nobody listens any more: the engine stops.
            if self.walk(&walk).is_err() {
                return;
            }
        }
    }

    fn walk(&self, walk: &Walk) -> Result<(), Stopped> {
        let mut tree = Tree { waiting: vec![(walk.start.clone(), 1.0)], done: 0.0, files: 0 };
        let whole = walk.start.as_os_str().is_empty();
        let mut told = Instant::now();
        while let Some((directory, share)) = tree.waiting.pop() {
            if whole && told.elapsed() >= PROGRESS {
                told = Instant::now();
                let (files, done) = (tree.files, tree.done);
                self.tell(Found::Progress {
                    folder: walk.folder,
                    incarnation: walk.incarnation,
                    files,
                    done,
                })?;
            }
            if self.stopping.load(Ordering::Relaxed) {
                return Err(Stopped);
            }
            if let Err(why) = self.directory(walk, &directory, share, &mut tree)? {
                match why {
                    Stop::Vanished | Stop::Died => {}
                    why => self.tell(Found::Blocked {
                        folder: walk.folder,
                        incarnation: walk.incarnation,
                        path: directory,
                        why,
                    })?,
                }
            }
        }
        if whole {
            self.tell(Found::Swept {
                folder: walk.folder,
                incarnation: walk.incarnation,
                files: tree.files,
            })?;
        }
        Ok(())
    }

    fn directory(
        &self,
        walk: &Walk,
        path: &Path,
        share: f64,
        tree: &mut Tree,
    ) -> Result<Result<(), Stop>, Stopped> {
        let directory = match walk.root.open_parent(path) {
            Ok(directory) => directory,
            Err(stop) => return Ok(Err(stop.at(crate::seal::Step::OpenParent))),
        };
        let entries = match Dir::read_from(&directory) {
            Ok(entries) => entries,
            Err(errno) => return Ok(Err(errno.into())),
        };
        let first = tree.waiting.len();
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => return Ok(Err(errno.into())),
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = path.join(name);
            if is_control(&path) || walk.rules.leaves_alone(&path) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match probe(&directory, name) {
                    Ok((_, facts)) => facts.file_type(),
                    Err(_) => continue,
                },
                kind => kind,
            };
            match kind {
                FileType::Directory => tree.waiting.push((path, 0.0)),
                FileType::RegularFile => {
                    tree.files += 1;
                    if !self.is_unsealed(&directory, name) {
                        continue;
                    }
                    self.tell(Found::File { folder: walk.folder, incarnation: walk.incarnation, path })?;
                }
                _ => {}
            }
        }
        let below = tree.waiting.get_mut(first..).unwrap_or_default();
        // Nobody knows how much lies below a directory before it is walked: each gets an equal part.
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let each = share / (below.len() as f64 + 1.0);
        below.iter_mut().for_each(|(_, share)| *share = each);
        tree.done += each;
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

/// The engine stops.
struct Stopped;

//! Sealing workers: one file at a time each, told by the state thread, which hears what became of it.

use super::busy::Busy;
use super::rules::{Origin, Rules};
use crate::seal::{FolderRoot, Outcome, Sealer, Step, Stop, probe};
use crossbeam_channel::{Receiver, Sender};
use rustix::fs::FileType;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tobari_core::clock::Clock;
use tobari_core::ids::FolderId;
use tobari_core::proto::control::UnsealedReason;

/// When another worker has the same file under another name, look again after this.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a worker is to do.
pub(super) struct Job {
    pub(super) folder: FolderId,
    pub(super) incarnation: u64,
    pub(super) root: Arc<FolderRoot>,
    pub(super) task: Task,
}

/// The kinds of work.
pub(super) enum Task {
    /// Seal a file if it is one and is to be sealed now.
    Seal { rules: Arc<Rules>, path: PathBuf, origin: Origin },
    /// Try again to end the folder's pending exchanges.
    Settle,
}

/// What became of a job.
pub(super) struct Report {
    pub(super) folder: FolderId,
    pub(super) incarnation: u64,
    pub(super) done: Done,
}

/// What became of a task.
pub(super) enum Done {
    /// Of [`Task::Seal`].
    File { path: PathBuf, result: FileResult },
    /// Of [`Task::Settle`].
    Settled,
}

/// What became of a file.
pub(super) enum FileResult {
    /// Sealed now; bytes of plaintext.
    Sealed(u64),
    /// Nothing is to be done: it is sealed, gone, or no regular file.
    Nothing,
    /// It is a directory.
    Directory,
    /// It has not settled; look again after this time.
    Unsettled(Duration),
    /// It could not be sealed.
    Refused(UnsealedReason, String),
}

/// What all workers share.
pub(super) struct Workshop {
    pub(super) sealer: Sealer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) busy: Arc<Busy>,
}

impl Workshop {
    /// Works until the channel closes.
    pub(super) fn run(&self, jobs: &Receiver<Job>, reports: &Sender<Report>) {
        for job in jobs {
            let Job { folder, incarnation, root, task } = job;
            let done = match task {
                Task::Settle => {
                    self.sealer.settle_pending(&root);
                    Done::Settled
                }
                Task::Seal { rules, path, origin } => {
                    let result = self.seal(&root, &rules, &path, origin).unwrap_or_else(|stop| {
                        stop.report().map_or(FileResult::Nothing, |(reason, detail)| {
                            FileResult::Refused(reason, detail)
                        })
                    });
                    Done::File { path, result }
                }
            };
            // The folder's descriptors close before the state thread hears of it, so that it can be opened anew.
            drop(root);
            if reports.send(Report { folder, incarnation, done }).is_err() {
                return;
            }
        }
    }

    fn seal(
        &self,
        root: &FolderRoot,
        rules: &Rules,
        path: &Path,
        origin: Origin,
    ) -> Result<FileResult, Stop> {
        let Some(name) = path.file_name() else { return Ok(FileResult::Nothing) };
        let parent = root
            .open_parent(path.parent().unwrap_or(Path::new("")))
            .map_err(|stop| stop.at(Step::OpenParent))?;
        let (probed, facts) = probe(&parent, name).map_err(|stop| stop.at(Step::OpenFile))?;
        drop((probed, parent));
        match facts.file_type() {
            FileType::RegularFile => {}
            FileType::Directory => return Ok(FileResult::Directory),
            _ => return Ok(FileResult::Nothing),
        }
        if let Some(left) = rules.unsettled(path, &facts, origin, self.clock.now()) {
            return Ok(FileResult::Unsettled(left));
        }
        let Some(_mark) = self.busy.mark(&facts) else { return Ok(FileResult::Unsettled(BUSY_PAUSE)) };
        Ok(match self.sealer.seal(root, &rules.rule, path)? {
            Outcome::Sealed(bytes) => FileResult::Sealed(bytes),
            Outcome::AlreadySealed => FileResult::Nothing,
        })
    }
}

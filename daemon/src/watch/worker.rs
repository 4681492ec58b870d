//! Sealing workers, told by the state thread, which hears what became of each file. A worker is handed as many files as wait
//! for it, within limits; it seals the small ones as groups, so that a burst or a sweep costs few syncs.

use super::busy::{Busy, Mark};
use super::files::Lane;
use super::pace::Pace;
use super::rules::{Origin, Rules};
use crate::seal::{Facts, FolderRoot, Outcome, Parent, Sealer, Step, Stop, probe};
use crate::sys::lower_io_priority;
use crossbeam_channel::{Receiver, Sender};
use rustix::fs::FileType;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tobari_core::clock::Clock;
use tobari_core::ids::FolderId;
use tobari_core::proto::control::UnsealedReason;

/// When another worker has the same file under another name, look again after this.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Larger files are sealed by themselves, in bytes.
const LARGE: u64 = 1 << 20;
/// Larger files are left to the workers for large files, so that nobody's small file waits for them.
const ALONE: u64 = 8 << 20;
/// Most files of one job, and so of a group, for new files: whoever opens one of them may wait for all.
pub(super) const GROUP: usize = 256;
/// The same for what sweeps find, which nobody is likely to have in hand.
pub(super) const SWEEP_GROUP: usize = 1024;
/// Descriptors that a group has open for each of its files: file and envelope, and at worst a directory.
pub(super) const DESCRIPTORS: usize = 3;

/// Bytes of plaintext after which a group is sealed.
const fn group_bytes(lane: Lane) -> u64 {
    match lane {
        Lane::Urgent | Lane::Large => 16 << 20,
        Lane::Sweep | Lane::SweepLarge => 64 << 20,
    }
}

/// What a worker is to do.
pub(super) struct Job {
    pub(super) folder: FolderId,
    pub(super) incarnation: u64,
    pub(super) root: Arc<FolderRoot>,
    pub(super) task: Task,
}

/// The kinds of work.
pub(super) enum Task {
    /// Seal each file if it is one and is to be sealed now.
    Seal { rules: Arc<Rules>, files: Vec<(PathBuf, Origin)> },
    /// Try again to end the folder's pending exchanges.
    Settle,
}

/// What became of a job.
pub(super) struct Report {
    pub(super) folder: FolderId,
    pub(super) incarnation: u64,
    /// Whose it was.
    pub(super) lane: Lane,
    pub(super) done: Done,
}

/// What became of a task.
pub(super) enum Done {
    /// Of [`Task::Seal`].
    Files(Vec<(PathBuf, FileResult)>),
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
    /// Another worker has it, under another name; look again after this time.
    Busy(Duration),
    /// It is too large for the worker's lane.
    Large,
    /// It could not be sealed.
    Refused(UnsealedReason, String),
}

/// What all workers share.
pub(super) struct Workshop {
    pub(super) sealer: Sealer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) busy: Arc<Busy>,
    /// The pace of what sweeps find.
    pub(super) pace: Pace,
    pub(super) stopping: Arc<AtomicBool>,
}

/// Small files that are sealed together.
#[derive(Default)]
struct Group<'a> {
    paths: Vec<PathBuf>,
    marks: Vec<Mark<'a>>,
    bytes: u64,
}

impl Workshop {
    /// Works for `lane` until the channel closes.
    pub(super) fn run(&self, lane: Lane, jobs: &Receiver<Job>, reports: &Sender<Report>) {
        if lane.is_sweep()
            && let Err(error) = lower_io_priority()
        {
            tracing::warn!(%error, "sweeps run at the input/output priority of other work");
        }
        for job in jobs {
            let Job { folder, incarnation, root, task } = job;
            let done = match task {
                Task::Settle => {
                    self.sealer.settle_pending(&root);
                    Done::Settled
                }
                Task::Seal { rules, files } => Done::Files(self.seal_files(lane, &root, &rules, files)),
            };
            // The folder's descriptors close before the state thread hears of it, so that it can be opened anew.
            drop(root);
            if reports.send(Report { folder, incarnation, lane, done }).is_err() {
                return;
            }
        }
    }

    fn seal_files(
        &self,
        lane: Lane,
        root: &FolderRoot,
        rules: &Rules,
        files: Vec<(PathBuf, Origin)>,
    ) -> Vec<(PathBuf, FileResult)> {
        let mut results = Vec::with_capacity(files.len());
        let (mut group, mut last) = (Group::default(), None);
        let several = files.len() > 1;
        for (path, origin) in files {
            match self.look(root, rules, &path, origin, &mut last) {
                Err(result) => results.push((path, result)),
                Ok((size, _)) if lane.of_large() != lane && (size > ALONE || several && size > LARGE) => {
                    results.push((path, FileResult::Large));
                }
                Ok((size, mark)) if size > LARGE => {
                    // Sealed by itself, since others would wait for it.
                    self.wait(lane, size);
                    let result = outcome(self.sealer.seal(root, &rules.rule, &path));
                    drop(mark);
                    results.push((path, result));
                }
                Ok((size, mark)) => {
                    group.paths.push(path);
                    group.marks.push(mark);
                    group.bytes += size;
                    if group.bytes >= group_bytes(lane) {
                        self.seal_group(lane, root, rules, std::mem::take(&mut group), &mut results);
                    }
                }
            }
        }
        self.seal_group(lane, root, rules, group, &mut results);
        results
    }

    fn seal_group(
        &self,
        lane: Lane,
        root: &FolderRoot,
        rules: &Rules,
        group: Group<'_>,
        results: &mut Vec<(PathBuf, FileResult)>,
    ) {
        let Group { paths, marks, bytes } = group;
        self.wait(lane, bytes);
        if let [path] = paths.as_slice() {
            results.push((path.clone(), outcome(self.sealer.seal(root, &rules.rule, path))));
        } else {
            let outcomes = self.sealer.seal_group(root, &rules.rule, &paths);
            results.extend(paths.into_iter().zip(outcomes.into_iter().map(outcome)));
        }
        drop(marks);
    }

    /// What a sweep found has a pace; what somebody just wrote has not.
    fn wait(&self, lane: Lane, bytes: u64) {
        if lane.is_sweep() {
            self.pace.wait(bytes, &self.stopping);
        }
    }

    /// Whether the file is to be sealed now: its size and mark, or what became of it.
    fn look(
        &self,
        root: &FolderRoot,
        rules: &Rules,
        path: &Path,
        origin: Origin,
        last: &mut Option<Parent>,
    ) -> Result<(u64, Mark<'_>), FileResult> {
        let facts = probe_path(root, path, last).map_err(refusal)?;
        match facts.file_type() {
            FileType::RegularFile => {}
            FileType::Directory => return Err(FileResult::Directory),
            _ => return Err(FileResult::Nothing),
        }
        if let Some(left) = rules.unsettled(path, &facts, origin, self.clock.now()) {
            return Err(FileResult::Unsettled(left));
        }
        let mark = self.busy.mark(&facts).ok_or(FileResult::Busy(BUSY_PAUSE))?;
        Ok((facts.size, mark))
    }
}

fn probe_path(root: &FolderRoot, path: &Path, last: &mut Option<Parent>) -> Result<Facts, Stop> {
    let name = path.file_name().ok_or(Stop::Vanished)?;
    let parent = root.directory_of(path, last).map_err(|stop| stop.at(Step::OpenParent))?;
    let (_, facts) = probe(&parent, name).map_err(|stop| stop.at(Step::OpenFile))?;
    Ok(facts)
}

fn outcome(result: Result<Outcome, Stop>) -> FileResult {
    match result {
        Ok(Outcome::Sealed(bytes)) => FileResult::Sealed(bytes),
        Ok(Outcome::AlreadySealed) => FileResult::Nothing,
        Err(stop) => refusal(stop),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the end of the error")]
fn refusal(stop: Stop) -> FileResult {
    stop.report().map_or(FileResult::Nothing, |(reason, detail)| FileResult::Refused(reason, detail))
}

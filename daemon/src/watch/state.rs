//! The state thread: the one owner of everything the engine knows. Everybody else tells it, by bounded channels,
//! and is told by it.

use super::busy::Busy;
use super::files::{Files, Lane};
use super::folder::{Condition, Folder, tidy};
use super::pace::Pace;
use super::rules::{Origin, Rules};
use super::settings::{EngineSettings, Events};
use super::source::{FolderWatch, Happened, Hint};
use super::sweep::{Found, Walk, Walker};
use super::worker::{DESCRIPTORS, Done, FileResult, GROUP, Job, Report, SWEEP_GROUP, Task, Workshop};
use crate::seal::{FolderRoot, FolderRule, Gate, SealContext, Sealer};
use crate::sys::raise_descriptors;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never, select};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tobari_core::clock::Clock;
use tobari_core::envelope::SealOptions;
use tobari_core::ids::FolderId;
use tobari_core::proto::control::{FolderStatus, Unsealed};

/// Housekeeping: rescan flags, due timers, old epochs.
const TICK: Duration = Duration::from_millis(250);
/// How often a folder is looked for that cannot be opened, and whether an open one is still in its place.
const LOOK: Duration = Duration::from_secs(5);
/// A new directory is walked at once, and again after this: events from before its watch existed are lost.
const SECOND_WALK: Duration = Duration::from_secs(1);
/// Most directories that wait for their second walk; more, and the folder is swept instead.
const SECOND_WALKS: usize = 4096;
/// While new files wait, what sweeps find gets a worker this often.
const SWEEP_PATIENCE: Duration = Duration::from_millis(200);
/// After a sweep, lost events cause no other for this many times as long as it took.
const SWEEP_PAUSE: u32 = 2;

/// What the engine's handle asks.
pub(super) enum Command {
    SetFolders(Vec<FolderRule>),
    Status(Sender<(Vec<FolderStatus>, Vec<Unsealed>)>),
    Sweep,
    Stop,
}

/// A thread opened a folder, or could not.
struct Opened {
    folder: FolderId,
    incarnation: u64,
    result: Result<(Arc<FolderRoot>, Result<FolderWatch, String>), String>,
}

/// Channels of the state thread.
struct Channels {
    commands: Receiver<Command>,
    hints: (Sender<Hint>, Receiver<Hint>),
    opened: (Sender<Opened>, Receiver<Opened>),
    reports: Receiver<Report>,
    /// For each lane.
    jobs: [Sender<Job>; 4],
    sweeps: Sender<Walk>,
    swept: Receiver<Found>,
    walks: Sender<Walk>,
    walked: Receiver<Found>,
}

pub(super) struct State {
    settings: EngineSettings,
    clock: Arc<dyn Clock>,
    workshop: Arc<Workshop>,
    channels: Channels,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    folders: BTreeMap<FolderId, Folder>,
    files: Files,
    second_walks: Vec<(Instant, FolderId, PathBuf)>,
    /// Jobs that workers of each lane have.
    in_work: [usize; 4],
    /// The same for each folder.
    in_work_of: HashMap<FolderId, [usize; 4]>,
    /// When work of sweeps was last handed out.
    sweep_served: Instant,
    /// Most files that are sealed together for a sweep.
    sweep_group: usize,
    incarnations: u64,
    /// The folders that the sweeper has in hand.
    sweeping: HashSet<FolderId>,
    looked: Instant,
    ticked: Instant,
}

impl State {
    /// Starts workers and walkers; the state itself still has to [`run`](Self::run).
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start(
        settings: EngineSettings,
        context: SealContext,
        clock: Arc<dyn Clock>,
        commands: Receiver<Command>,
    ) -> io::Result<Self> {
        let options = SealOptions { chunk_log2: settings.chunk_log2, threads: settings.threads };
        let gate = match settings.events {
            Events::Inotify => None,
            Events::Auto | Events::Fanotify => Gate::new()
                .inspect_err(
                    |error| tracing::info!(%error, "late openers are not held up: fanotify cannot be had"),
                )
                .ok(),
        };
        let sealer =
            Sealer::new(context, Arc::clone(&clock), options).with_wipe(settings.wipe).with_gate(gate);
        let busy = Arc::new(Busy::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let workshop = Arc::new(Workshop {
            sealer,
            clock: Arc::clone(&clock),
            busy: Arc::clone(&busy),
            pace: Pace::new(settings.sweep_bytes_per_second),
            stopping: Arc::clone(&stopping),
        });
        // Half of the descriptors, for all workers together; the rest is for those who open files, and for new ones.
        let sweep_group =
            (raise_descriptors() / 2 / DESCRIPTORS / (settings.workers + 1)).clamp(16, SWEEP_GROUP);
        let mut threads = Vec::new();
        let (report, reports) = bounded(settings.workers * 8);
        let mut workers = |name: &str, lane: Lane| -> io::Result<Sender<Job>> {
            let (jobs, queue) = bounded::<Job>(workers_of(lane, &settings));
            for number in 0..workers_of(lane, &settings) {
                let (workshop, queue, report) = (Arc::clone(&workshop), queue.clone(), report.clone());
                let thread = Builder::new().name(format!("{name}-{number}"));
                threads.push(thread.spawn(move || workshop.run(lane, &queue, &report))?);
            }
            Ok(jobs)
        };
        let jobs = [
            workers("seal", Lane::Urgent)?,
            workers("seal-large", Lane::Large)?,
            workers("found", Lane::Sweep)?,
            workers("found-large", Lane::SweepLarge)?,
        ];
        let mut walker = |name: &str, waiting: usize| -> io::Result<(Sender<Walk>, Receiver<Found>)> {
            let (walks, queue) = bounded::<Walk>(waiting);
            let (found, receiver) = bounded(256);
            let walker = Walker {
                organisation: context.organisation,
                busy: Arc::clone(&busy),
                found,
                stopping: Arc::clone(&stopping),
            };
            threads.push(Builder::new().name(name.to_owned()).spawn(move || walker.run(&queue))?);
            Ok((walks, receiver))
        };
        let (sweeps, swept) = walker("sweep", 64)?;
        let (walks, walked) = walker("walk", 1024)?;
        let now = Instant::now();
        Ok(Self {
            settings,
            clock,
            workshop,
            channels: Channels {
                commands,
                hints: bounded(1 << 14),
                opened: bounded(64),
                reports,
                jobs,
                sweeps,
                swept,
                walks,
                walked,
            },
            stopping,
            threads,
            folders: BTreeMap::new(),
            files: Files::default(),
            second_walks: Vec::new(),
            in_work: [0; 4],
            in_work_of: HashMap::new(),
            sweep_served: now,
            sweep_group,
            incarnations: 0,
            sweeping: HashSet::new(),
            looked: now,
            ticked: now,
        })
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        let (commands, reports) = (self.channels.commands.clone(), self.channels.reports.clone());
        let (hints, opened) = (self.channels.hints.1.clone(), self.channels.opened.1.clone());
        let (swept, walked) = (self.channels.swept.clone(), self.channels.walked.clone());
        let nothing = never();
        loop {
            let due = self.files.next_due().unwrap_or(self.ticked + TICK).min(self.ticked + TICK);
            let pause = due.saturating_duration_since(Instant::now());
            // What sweeps find waits until there is nothing else to do.
            let swept = if self.files.wants_more() { &swept } else { &nothing };
            select! {
                recv(commands) -> command => match command {
                    Ok(Command::Stop) | Err(_) => break,
                    Ok(command) => self.command(command),
                },
                recv(reports) -> report => if let Ok(report) = report { self.report(report) },
                recv(hints) -> hint => if let Ok(hint) = hint {
                    self.hint(hint);
                    // A burst is taken in one go, so that its files compete fairly.
                    for hint in hints.try_iter().take(1024).collect::<Vec<_>>() { self.hint(hint); }
                },
                recv(opened) -> opened => if let Ok(opened) = opened { self.opened(opened) },
                recv(walked) -> found => if let Ok(found) = found { self.found(found, Lane::Urgent) },
                recv(swept) -> found => if let Ok(found) = found {
                    self.found(found, Lane::Sweep);
                    for found in swept.try_iter().take(SWEEP_GROUP).collect::<Vec<_>>() { self.found(found, Lane::Sweep); }
                },
                default(pause) => {}
            }
            let now = Instant::now();
            self.files.ring(now);
            if now.saturating_duration_since(self.ticked) >= TICK {
                self.tick(now);
            }
            self.dispatch();
        }
        drop((commands, reports, hints, opened, swept, walked));
        self.stop();
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::SetFolders(rules) => self.set_folders(rules),
            Command::Sweep => {
                let now = Instant::now();
                for folder in self.folders.values_mut() {
                    (folder.sweep_due, folder.sweep_floor) = (now, now);
                }
                self.start_sweeps(now);
            }
            Command::Status(reply) => {
                let now = self.clock.now();
                let totals = self.files.totals();
                let status = self
                    .folders
                    .iter()
                    .map(|(id, folder)| folder.status(totals.get(id).copied().unwrap_or_default(), now))
                    .collect();
                let place = |id| self.folders.get(&id).map(|folder| folder.path.clone());
                let unsealed = self.files.unsealed(place, self.clock.now());
                // Whoever asked may have gone.
                let _ = reply.try_send((status, unsealed));
            }
            Command::Stop => {}
        }
    }

    fn set_folders(&mut self, rules: Vec<FolderRule>) {
        let paths: Vec<PathBuf> = rules.iter().map(|rule| tidy(&rule.folder.path)).collect();
        self.folders.retain(|id, folder| {
            let stays = rules.iter().any(|rule| rule.folder.id == *id);
            if !stays {
                folder.close("it is no designated folder any more", Instant::now());
                self.files.forget(*id);
            }
            stays
        });
        for rule in rules {
            let path = tidy(&rule.folder.path);
            let nested: Vec<PathBuf> = paths
                .iter()
                .filter_map(|other| other.strip_prefix(&path).ok())
                .filter(|inner| !inner.as_os_str().is_empty())
                .map(Path::to_owned)
                .collect();
            let id = rule.folder.id;
            let now = Instant::now();
            if let Some(folder) = self.folders.get_mut(&id)
                && folder.path == path
            {
                if folder.rule != rule || folder.nested != nested {
                    folder.rules = Rules::new(rule.clone(), nested.clone(), &self.settings).map(Arc::new);
                    (folder.rule, folder.nested, folder.sweep_due) = (rule, nested, now);
                }
                continue;
            }
            self.files.forget(id);
            let folder = Folder {
                rules: Rules::new(rule.clone(), nested.clone(), &self.settings).map(Arc::new),
                rule,
                path,
                nested,
                incarnation: 0,
                condition: Condition::Unavailable { why: "it is being opened".to_owned(), again: now },
                rescan: Arc::new(AtomicBool::new(false)),
                sweep_due: now,
                sweep_begin: None,
                sweep_progress: None,
                sweep_floor: now,
                swept_at: None,
                opened: now,
                files: None,
                sealed: 0,
                sealed_bytes: 0,
                settling: false,
            };
            self.folders.insert(id, folder);
        }
        self.open_due(Instant::now());
        self.start_sweeps(Instant::now());
    }

    /// Starts opening folders that are due for it.
    fn open_due(&mut self, now: Instant) {
        for (id, folder) in &mut self.folders {
            let why = match &folder.condition {
                Condition::Unavailable { why, again } if *again <= now => why.clone(),
                _ => continue,
            };
            self.incarnations += 1;
            folder.incarnation = self.incarnations;
            folder.settling = false;
            let (id, incarnation, path) = (*id, folder.incarnation, folder.path.clone());
            let (hints, rescan) = (self.channels.hints.0.clone(), Arc::clone(&folder.rescan));
            let (opened, workshop) = (self.channels.opened.0.clone(), Arc::clone(&self.workshop));
            let events = self.settings.events;
            let open = move || {
                let result = open_folder(&workshop, events, id, &path, hints, rescan);
                // Nobody listens any more when the engine stopped meanwhile.
                let _ = opened.send(Opened { folder: id, incarnation, result });
            };
            match Builder::new().name("open".to_owned()).spawn(open) {
                Ok(thread) => {
                    self.threads.push(thread);
                    // A folder that is looked for again and again must not collect ended threads.
                    self.threads.retain(|thread| !thread.is_finished());
                    // It goes on saying why until it works.
                    folder.condition = Condition::Opening { why };
                }
                Err(error) => {
                    folder.condition = Condition::Unavailable { why: error.to_string(), again: now + LOOK }
                }
            }
        }
    }

    fn opened(&mut self, opened: Opened) {
        let Some(folder) =
            self.folders.get_mut(&opened.folder).filter(|folder| folder.incarnation == opened.incarnation)
        else {
            return;
        };
        let now = Instant::now();
        match opened.result {
            Ok((root, watch)) => {
                folder.condition = Condition::Open { root, watch };
                folder.opened = now;
                (folder.sweep_due, folder.sweep_floor, folder.sweep_begin) = (now, now, None);
                folder.sweep_progress = None;
                folder.rescan.store(false, Ordering::Release);
            }
            Err(why) => {
                tracing::warn!(folder = ?folder.path, why, "a designated folder cannot be worked on");
                folder.condition = Condition::Unavailable { why, again: now + LOOK };
            }
        }
        self.start_sweeps(now);
    }

    fn hint(&mut self, hint: Hint) {
        let Some(folder) = self.folders.get(&hint.folder) else { return };
        let Ok(rules) = &folder.rules else { return };
        if folder.root().is_none() || rules.leaves_alone(&hint.path) {
            return;
        }
        let key = (hint.folder, hint.path);
        let room = match hint.happened {
            Happened::Written | Happened::Appeared => self.files.enqueue(key, Origin::Event, Lane::Urgent),
            Happened::Created => self.files.created(key, self.settings.settle),
            Happened::Touched => self.files.touched(key),
        };
        if !room {
            folder.rescan.store(true, Ordering::Release);
        }
    }

    fn found(&mut self, found: Found, lane: Lane) {
        let (Found::File { folder: id, incarnation, .. }
        | Found::Blocked { folder: id, incarnation, .. }
        | Found::Progress { folder: id, incarnation, .. }
        | Found::Swept { folder: id, incarnation, .. }) = found;
        if matches!(found, Found::Swept { .. }) {
            self.sweeping.remove(&id);
        }
        let now = Instant::now();
        if let Some(folder) = self.folders.get_mut(&id).filter(|folder| folder.incarnation == incarnation) {
            match found {
                Found::File { path, .. } => {
                    if !self.files.found((id, path), lane) {
                        folder.rescan.store(true, Ordering::Release);
                    }
                }
                Found::Blocked { path, why, .. } => {
                    if let Some((reason, detail)) = why.report() {
                        self.files.note((id, path), reason, detail, self.clock.now());
                    }
                }
                Found::Progress { files, done, .. } => folder.sweep_progress = Some((files, done)),
                Found::Swept { files, .. } => {
                    folder.files = Some(files);
                    folder.sweep_progress = None;
                    let begin = folder.sweep_begin.take().unwrap_or(now);
                    folder.swept_at = Some(self.clock.now());
                    folder.sweep_due = now + self.settings.sweep_interval;
                    folder.sweep_floor = now + (now - begin) * SWEEP_PAUSE;
                    self.files.recheck(id, begin);
                }
            }
        }
        self.start_sweeps(now);
    }

    fn report(&mut self, report: Report) {
        self.count_out(report.folder, report.lane);
        match report.done {
            Done::Settled => {
                if let Some(folder) = self.folders.get_mut(&report.folder) {
                    folder.settling = false;
                }
            }
            Done::Files(files) => {
                for (path, result) in files {
                    self.file_done(report.folder, report.incarnation, report.lane, path, result);
                }
            }
        }
    }

    fn file_done(&mut self, id: FolderId, incarnation: u64, lane: Lane, path: PathBuf, result: FileResult) {
        let Some(folder) = self.folders.get_mut(&id) else { return };
        let current = folder.incarnation == incarnation;
        let key = (id, path);
        match result {
            FileResult::Sealed(bytes) => {
                folder.sealed += 1;
                folder.sealed_bytes += bytes;
                tracing::debug!(folder = ?folder.path, path = ?key.1, bytes, "sealed");
                self.files.finished(key);
            }
            FileResult::Nothing => self.files.finished(key),
            FileResult::Directory => {
                let path = key.1.clone();
                self.files.finished(key);
                if current {
                    self.walk(id, path.clone());
                    self.walk_again(id, path);
                }
            }
            FileResult::Unsettled(left) => {
                if !self.files.unsettled(key, left) {
                    folder.rescan.store(true, Ordering::Release);
                }
            }
            FileResult::Busy(pause) => {
                if !self.files.busy(key, pause) {
                    folder.rescan.store(true, Ordering::Release);
                }
            }
            FileResult::Large => self.files.large(key, lane),
            FileResult::Refused(reason, detail) => {
                tracing::debug!(folder = ?folder.path, path = ?key.1, ?reason, detail, "not sealed");
                self.files.refused(key, reason, detail, self.clock.now(), &self.settings);
            }
        }
    }

    /// Has a new directory walked.
    fn walk(&self, id: FolderId, start: PathBuf) {
        let Some(folder) = self.folders.get(&id) else { return };
        let (Some(root), Ok(rules)) = (folder.root(), &folder.rules) else { return };
        let (root, rules) = (Arc::clone(root), Arc::clone(rules));
        let walk = Walk { folder: id, incarnation: folder.incarnation, root, rules, start };
        if let Err(TrySendError::Full(_)) = self.channels.walks.try_send(walk) {
            folder.rescan.store(true, Ordering::Release);
        }
    }

    fn walk_again(&mut self, id: FolderId, start: PathBuf) {
        if self.second_walks.len() < SECOND_WALKS {
            self.second_walks.push((Instant::now() + SECOND_WALK, id, start));
        } else if let Some(folder) = self.folders.get(&id) {
            folder.rescan.store(true, Ordering::Release);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.ticked = now;
        self.workshop.sealer.expire_epochs();
        let due = self.second_walks.iter().take_while(|(due, ..)| *due <= now).count();
        for (_, id, path) in self.second_walks.drain(..due).collect::<Vec<_>>() {
            self.walk(id, path);
        }
        let mut lost = false;
        for folder in self.folders.values_mut() {
            if folder.root().is_some_and(|root| root.is_lost()) {
                tracing::warn!(folder = ?folder.path, "its control directory was removed, renamed or replaced");
                folder.close("its control directory was removed, renamed or replaced", now);
                lost = true;
            }
        }
        if lost {
            self.open_due(now);
        }
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            for folder in self.folders.values_mut() {
                if folder.root().is_some_and(|root| !root.is_in_place()) {
                    tracing::warn!(folder = ?folder.path, "the folder was moved, removed or unmounted");
                    folder.close("the folder was moved, removed or unmounted", now);
                }
                // A watch that does not see everything is started anew, as rarely as a sweep.
                if let Some(why) = folder.watch_trouble()
                    && now.saturating_duration_since(folder.opened) >= self.settings.sweep_interval
                {
                    folder.close(&why, now);
                }
            }
            self.open_due(now);
        }
        self.settle_pending();
        self.start_sweeps(now);
    }

    /// Has workers try again to end exchanges whose files were in use.
    fn settle_pending(&mut self) {
        for (id, folder) in &mut self.folders {
            let Condition::Open { root, .. } = &folder.condition else { continue };
            let served = self.in_work_of.get(id).is_none_or(|[urgent, ..]| *urgent < self.settings.workers);
            let [urgent, ..] = &mut self.in_work;
            if folder.settling
                || !served
                || *urgent >= workers_of(Lane::Urgent, &self.settings)
                || root.pending().is_empty()
            {
                continue;
            }
            let job = Job {
                folder: *id,
                incarnation: folder.incarnation,
                root: Arc::clone(root),
                task: Task::Settle,
            };
            let [jobs, ..] = &self.channels.jobs;
            if jobs.try_send(job).is_ok() {
                folder.settling = true;
                *urgent += 1;
                let [urgent, ..] = self.in_work_of.entry(*id).or_default();
                *urgent += 1;
            }
        }
    }

    /// Gives the sweeper the folders that are due. They have turns there.
    fn start_sweeps(&mut self, now: Instant) {
        for (id, folder) in &mut self.folders {
            if folder.rescan.swap(false, Ordering::AcqRel) {
                folder.sweep_due = folder.sweep_due.min(folder.sweep_floor.max(now));
            }
            if folder.sweep_due > now || self.sweeping.contains(id) {
                continue;
            }
            let (Some(root), Ok(rules)) = (folder.root().cloned(), folder.rules.clone()) else { continue };
            let (folder_id, incarnation) = (*id, folder.incarnation);
            let walk = Walk { folder: folder_id, incarnation, root, rules, start: PathBuf::new() };
            if self.channels.sweeps.try_send(walk).is_ok() {
                folder.sweep_due = now + self.settings.sweep_interval;
                (folder.sweep_begin, folder.sweep_progress) = (Some(now), None);
                self.sweeping.insert(*id);
            }
        }
    }

    /// Hands out work. New files have workers of their own, and what sweeps find waits while some of them wait, but not for
    /// ever: somebody who keeps writing must not keep others' files from being found.
    fn dispatch(&mut self) {
        // Each worker gets its share of a burst; a single file does not wait for others.
        let (workers, group) = (self.settings.workers.max(1), self.sweep_group);
        while self.hand_out(Lane::Urgent, |waiting| waiting.div_ceil(workers).min(GROUP)) {}
        while self.hand_out(Lane::Large, |_| 1) {}
        let quiet = self.files.queued(Lane::Urgent) == 0;
        if !quiet && self.sweep_served.elapsed() < SWEEP_PATIENCE {
            return;
        }
        // The larger a group, the fewer syncs for each file.
        let full = self.files.queued(Lane::Sweep) >= group || self.channels.swept.is_empty();
        let mut more = quiet || full;
        while more {
            let served =
                (full && self.hand_out(Lane::Sweep, |_| group)) | self.hand_out(Lane::SweepLarge, |_| 1);
            if served {
                self.sweep_served = Instant::now();
            }
            more = quiet && served;
        }
    }

    /// Whether `lane` has a worker for `folder`. One worker is kept from each folder, so that no folder alone can occupy all.
    fn serves(&self, lane: Lane, folder: FolderId) -> bool {
        let in_work = self.in_work_of.get(&folder).and_then(|of| of.get(lane as usize)).copied().unwrap_or(0);
        in_work + 1 < workers_of(lane, &self.settings)
            && !self.folders.get(&folder).and_then(Folder::root).is_some_and(|root| root.is_crowded())
    }

    fn hand_out(&mut self, lane: Lane, most: impl Fn(usize) -> usize) -> bool {
        if self.in_work.get(lane as usize).is_none_or(|count| *count >= workers_of(lane, &self.settings)) {
            return false;
        }
        let served: Vec<FolderId> =
            self.folders.keys().copied().filter(|folder| self.serves(lane, *folder)).collect();
        let next = self.files.next(lane, most, |folder| served.contains(&folder));
        let Some((id, files)) = next else { return false };
        let open = self
            .folders
            .get(&id)
            .and_then(|folder| Some((folder.incarnation, folder.root()?, folder.rules.as_ref().ok()?)));
        // A folder that is not open is swept once it is.
        let Some((incarnation, root, rules)) = open else {
            files.into_iter().for_each(|(path, _)| self.files.finished((id, path)));
            return true;
        };
        let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
        let task = Task::Seal { rules: Arc::clone(rules), files };
        let job = Job { folder: id, incarnation, root: Arc::clone(root), task };
        let sent = self.channels.jobs.get(lane as usize).is_some_and(|jobs| jobs.try_send(job).is_ok());
        if !sent {
            paths.into_iter().for_each(|path| self.files.finished((id, path)));
            return false;
        }
        let of = self.in_work_of.entry(id).or_default();
        for count in [&mut self.in_work, of].into_iter().filter_map(|all| all.get_mut(lane as usize)) {
            *count += 1;
        }
        true
    }

    fn count_out(&mut self, folder: FolderId, lane: Lane) {
        let of = self.in_work_of.entry(folder).or_default();
        for count in [&mut self.in_work, &mut *of].into_iter().filter_map(|all| all.get_mut(lane as usize)) {
            *count -= 1;
        }
        if *of == [0; 4] {
            self.in_work_of.remove(&folder);
        }
    }

    fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        let Self { channels, threads, folders, in_work, .. } = self;
        let mut in_work: usize = in_work.iter().sum();
        let reports = channels.reports.clone();
        // With their channels gone, workers, walkers and openers end after what they are doing.
        drop(channels);
        while in_work > 0 && reports.recv().is_ok() {
            in_work -= 1;
        }
        drop(reports);
        // Ends the watches.
        drop(folders);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the engine panicked");
            }
        }
    }
}

/// Workers of a lane, one more than a folder alone may have.
fn workers_of(lane: Lane, settings: &EngineSettings) -> usize {
    match lane {
        Lane::Urgent | Lane::Sweep => settings.workers + 1,
        Lane::Large | Lane::SweepLarge => settings.workers.max(2),
    }
}

fn open_folder(
    workshop: &Workshop,
    events: Events,
    id: FolderId,
    path: &Path,
    hints: Sender<Hint>,
    rescan: Arc<AtomicBool>,
) -> Result<(Arc<FolderRoot>, Result<FolderWatch, String>), String> {
    let root = FolderRoot::open(path).map_err(|error| error.to_string())?;
    workshop
        .sealer
        .recover(&root)
        .map_err(|error| format!("the folder's journal cannot be worked off: {error}"))?;
    let watch = FolderWatch::start(events, id, &root, hints, rescan);
    Ok((Arc::new(root), watch))
}

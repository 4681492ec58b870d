//! What the engine remembers about files: those in a queue, in work, or waiting for another try. Nothing is
//! remembered of files that are sealed.

use super::rules::Origin;
use super::settings::EngineSettings;
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tobari_core::ids::FolderId;
use tobari_core::proto::control::{Unsealed, UnsealedReason};

/// A file: its folder and its path in it.
pub(super) type Key = (FolderId, PathBuf);

/// Most files of one folder in a queue for new files, or on timers; more, and the folder is swept instead.
const URGENT_LIMIT: usize = 1 << 16;
/// Most files that sweeps have waiting.
const SWEEP_LIMIT: usize = 4096;
/// Most files of one folder remembered as unsealed; others are found again by the next sweep.
const TROUBLE_LIMIT: usize = 10_000;
/// Most files that are listed, and how many of each folder at least, so that one folder's do not hide another's.
const LIST_LIMIT: usize = 10_000;
const LIST_LEAST: usize = 100;
/// First pause after a failure that somebody has to do something about.
const SLOW_RETRY: Duration = Duration::from_secs(1);

/// Which queue, and which workers. Each folder has its turn in each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Events, timers, other tries: first.
    Urgent,
    /// The large files among them, which others must not wait for.
    Large,
    /// What a sweep found: when there is nothing else.
    Sweep,
    /// The large files among that.
    SweepLarge,
}

impl Lane {
    /// Where the large files of this lane go.
    pub(super) fn of_large(self) -> Self {
        match self {
            Self::Urgent | Self::Large => Self::Large,
            Self::Sweep | Self::SweepLarge => Self::SweepLarge,
        }
    }

    /// Whether it is work of sweeps.
    pub(super) fn is_sweep(self) -> bool {
        matches!(self, Self::Sweep | Self::SweepLarge)
    }
}

/// Why and since when a file is not sealed.
#[derive(Debug)]
struct Trouble {
    reason: UnsealedReason,
    detail: String,
    since: Timestamp,
    tries: u32,
    /// When it is tried again; none until a sweep or a change of its attributes.
    due: Option<Instant>,
    last: Instant,
}

#[derive(Debug)]
enum State {
    /// Only remembered.
    Idle,
    /// In a queue, under this ticket.
    Queued { lane: Lane, ticket: u64, origin: Origin },
    /// On a timer, under this ticket.
    Timed(u64),
    /// In a worker's hand; whether something happened to it meanwhile.
    Working { origin: Origin, again: Option<Origin> },
}

#[derive(Debug)]
struct Entry {
    state: State,
    trouble: Option<Trouble>,
    /// When it was first heard of.
    noticed: Instant,
}

impl Entry {
    fn new() -> Self {
        Self { state: State::Idle, trouble: None, noticed: Instant::now() }
    }
}

/// What a timer does when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Settled,
    Retry,
}

/// One lane's waiting files: a queue for each folder, and the order in which the folders have their turns.
#[derive(Debug, Default)]
struct Queue {
    turns: VecDeque<FolderId>,
    of: HashMap<FolderId, VecDeque<(u64, PathBuf)>>,
    length: usize,
}

impl Queue {
    fn push(&mut self, (folder, path): Key, ticket: u64) {
        let queue = self.of.entry(folder).or_default();
        if queue.is_empty() {
            self.turns.push_back(folder);
        }
        queue.push_back((ticket, path));
        self.length += 1;
    }

    fn length_of(&self, folder: FolderId) -> usize {
        self.of.get(&folder).map_or(0, VecDeque::len)
    }

    fn forget(&mut self, folder: FolderId) {
        self.length -= self.of.remove(&folder).map_or(0, |queue| queue.len());
        self.turns.retain(|of| *of != folder);
    }
}

/// How much is remembered of one folder.
#[derive(Debug, Default)]
struct Count {
    entries: usize,
    troubles: usize,
}

/// What is known of a folder's files that are not sealed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    /// Files that wait for another try.
    pub(super) waiting: u64,
    /// Files not known to be sealed now.
    pub(super) plain: u64,
    /// Since when the oldest of them is known.
    pub(super) since: Option<Instant>,
}

/// The files.
#[derive(Debug, Default)]
pub(super) struct Files {
    entries: HashMap<Key, Entry>,
    counts: HashMap<FolderId, Count>,
    queues: [Queue; 4],
    timers: BinaryHeap<Reverse<(Instant, u64, Key, Alarm)>>,
    tickets: u64,
}

impl Files {
    /// Puts a file into a queue. False when there is no room.
    pub(super) fn enqueue(&mut self, key: Key, origin: Origin, lane: Lane) -> bool {
        let full =
            !lane.is_sweep() && self.queue(lane).is_some_and(|queue| queue.length_of(key.0) >= URGENT_LIMIT);
        let entry = self.entry(&key);
        match &mut entry.state {
            State::Working { again, .. } => {
                if *again != Some(Origin::Event) {
                    *again = Some(origin);
                }
                return true;
            }
            // Whoever writes a file again and again has it in the queue once.
            State::Queued { lane: held, origin: known, .. } if *held == lane || !held.is_sweep() => {
                if origin == Origin::Event {
                    *known = origin;
                }
                return true;
            }
            _ if full => {
                self.drop_idle(&key);
                return false;
            }
            _ => {}
        }
        // An older ticket, in a queue of sweeps or on a timer, is void from now on.
        self.put(key, origin, lane);
        true
    }

    /// A sweep found `key` unsealed. Files that are known are left to their timers and queues.
    pub(super) fn found(&mut self, key: Key, lane: Lane) -> bool {
        match self.entries.get(&key) {
            Some(Entry { state: State::Queued { .. } | State::Timed(_) | State::Working { .. }, .. }) => true,
            _ => self.enqueue(key, Origin::Found, lane),
        }
    }

    /// A file was made: look at it once it has settled, in case nobody closes it after writing. False when there is no
    /// room.
    pub(super) fn created(&mut self, key: Key, settle: Duration) -> bool {
        self.entries.contains_key(&key) || self.set_timer(key, settle, Alarm::Settled)
    }

    /// Attributes changed: perhaps what hindered sealing is gone.
    pub(super) fn touched(&mut self, key: Key) -> bool {
        match self.entries.get(&key) {
            Some(Entry { state: State::Idle, trouble: Some(_), .. }) => {
                self.enqueue(key, Origin::Event, Lane::Urgent)
            }
            _ => true,
        }
    }

    /// Moves due timers to the urgent queue.
    pub(super) fn ring(&mut self, now: Instant) {
        while self.timers.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, ticket, key, alarm))) = self.timers.pop() else { return };
            if self.is_timed(&key, ticket) {
                let origin = if alarm == Alarm::Retry { Origin::Event } else { Origin::Found };
                self.put(key, origin, Lane::Urgent);
            }
        }
    }

    /// When the next timer is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((due, ..))| *due)
    }

    /// The next files to work on: all of one folder, the first in turn of those that are `served`, and at most as many as `most`
    /// says for the number that waits there. The folder's next turn comes after those of all others.
    pub(super) fn next(
        &mut self,
        lane: Lane,
        most: impl Fn(usize) -> usize,
        served: impl Fn(FolderId) -> bool,
    ) -> Option<(FolderId, Vec<(PathBuf, Origin)>)> {
        let Self { queues, entries, .. } = self;
        let queue = queues.get_mut(lane as usize)?;
        loop {
            let turn = queue.turns.iter().position(|folder| served(*folder))?;
            let folder = queue.turns.remove(turn)?;
            let Some(waiting) = queue.of.get_mut(&folder) else { continue };
            let most = most(waiting.len()).max(1);
            let mut files = Vec::new();
            while files.len() < most {
                let Some((ticket, path)) = waiting.pop_front() else { break };
                queue.length -= 1;
                let key = (folder, path);
                let Some(entry) = entries.get_mut(&key) else { continue };
                if let State::Queued { ticket: held, origin, .. } = entry.state
                    && held == ticket
                {
                    entry.state = State::Working { origin, again: None };
                    files.push((key.1, origin));
                }
            }
            if waiting.is_empty() {
                queue.of.remove(&folder);
            } else {
                queue.turns.push_back(folder);
            }
            if !files.is_empty() {
                return Some((folder, files));
            }
        }
    }

    /// How many wait in a queue; some of those of sweeps may be void.
    pub(super) fn queued(&self, lane: Lane) -> usize {
        self.queue(lane).map_or(0, |queue| queue.length)
    }

    /// Whether a sweep may add more.
    pub(super) fn wants_more(&self) -> bool {
        self.queued(Lane::Sweep) + self.queued(Lane::SweepLarge) < SWEEP_LIMIT
    }

    /// A worker is done with the file and there is nothing more to do, now.
    pub(super) fn finished(&mut self, key: Key) {
        let again = match self.entries.get(&key) {
            Some(Entry { state: State::Working { again, .. }, .. }) => *again,
            _ => None,
        };
        self.drop_entry(&key);
        if let Some(origin) = again {
            self.enqueue(key, origin, Lane::Urgent);
        }
    }

    /// A worker of `lane` leaves the file, which is large, to others.
    pub(super) fn large(&mut self, key: Key, lane: Lane) {
        let origin = match self.entries.get(&key) {
            Some(Entry { state: State::Working { origin, again }, .. }) => again.unwrap_or(*origin),
            _ => Origin::Found,
        };
        self.put(key, origin, lane.of_large());
    }

    /// A worker found that the file has not settled. False when there is no room to remember it.
    pub(super) fn unsettled(&mut self, key: Key, left: Duration) -> bool {
        match self.entries.get(&key) {
            Some(Entry { state: State::Working { again: Some(origin), .. }, .. }) => {
                let origin = *origin;
                self.requeue(key, origin);
                true
            }
            _ => self.set_timer(key, left, Alarm::Settled),
        }
    }

    /// Another worker has the file. What made this one look at it still holds: who closed it after writing is not taken for
    /// somebody who may go on. False when there is no room to remember it.
    pub(super) fn busy(&mut self, key: Key, pause: Duration) -> bool {
        let alarm = match self.entries.get(&key) {
            Some(Entry { state: State::Working { origin, again }, .. })
                if [Some(*origin), *again].contains(&Some(Origin::Event)) =>
            {
                Alarm::Retry
            }
            _ => Alarm::Settled,
        };
        self.set_timer(key, pause, alarm)
    }

    /// A worker could not seal the file.
    pub(super) fn refused(
        &mut self,
        key: Key,
        reason: UnsealedReason,
        detail: String,
        now: Timestamp,
        settings: &EngineSettings,
    ) {
        if self.entries.get(&key).is_none_or(|entry| entry.trouble.is_none()) && self.troubled(key.0) {
            self.finished(key);
            return;
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let again = match entry.state {
            State::Working { again, .. } => again,
            _ => None,
        };
        let (since, tries) =
            entry.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.tries));
        let pause = pause(reason, tries, settings);
        let last = Instant::now();
        let due = pause.map(|pause| last + pause);
        let new = entry.trouble.is_none();
        entry.trouble = Some(Trouble { reason, detail, since, tries: tries.saturating_add(1), due, last });
        entry.state = State::Idle;
        self.counts.entry(key.0).or_default().troubles += usize::from(new);
        match (again, pause) {
            (Some(origin), _) => self.requeue(key, origin),
            // Without room it stays remembered, and the next sweep has it tried again.
            (None, Some(pause)) => drop(self.set_timer(key, pause, Alarm::Retry)),
            (None, None) => {}
        }
    }

    /// Puts the files of `folder` that have no timer, and were not tried since `begin`, into the sweep's queue: some
    /// may be gone.
    pub(super) fn recheck(&mut self, folder: FolderId, begin: Instant) {
        let idle = |entry: &Entry| {
            matches!(entry.state, State::Idle)
                && entry.trouble.as_ref().is_some_and(|trouble| trouble.last < begin)
        };
        let keys: Vec<Key> = self
            .entries
            .iter()
            .filter(|((of, _), entry)| *of == folder && idle(entry))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.enqueue(key, Origin::Found, Lane::Sweep);
        }
    }

    /// Something that no worker reported, such as a directory that cannot be read. Tried again by the next sweep.
    pub(super) fn note(&mut self, key: Key, reason: UnsealedReason, detail: String, now: Timestamp) {
        let new = self.entries.get(&key).is_none_or(|entry| entry.trouble.is_none());
        if new && self.troubled(key.0) {
            return;
        }
        let entry = self.entry(&key);
        let (since, tries) =
            entry.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.tries));
        let last = Instant::now();
        entry.trouble =
            Some(Trouble { reason, detail, since, tries: tries.saturating_add(1), due: None, last });
        self.counts.entry(key.0).or_default().troubles += usize::from(new);
    }

    /// Forgets the files of a folder.
    pub(super) fn forget(&mut self, folder: FolderId) {
        self.entries.retain(|(of, _), _| *of != folder);
        self.counts.remove(&folder);
        self.queues.iter_mut().for_each(|queue| queue.forget(folder));
    }

    /// What is known of each folder.
    pub(super) fn totals(&self) -> HashMap<FolderId, Totals> {
        let mut all: HashMap<FolderId, Totals> = HashMap::new();
        for ((folder, _), entry) in &self.entries {
            let totals = all.entry(*folder).or_default();
            totals.plain += 1;
            totals.waiting += u64::from(entry.trouble.is_some());
            totals.since = Some(totals.since.map_or(entry.noticed, |oldest| oldest.min(entry.noticed)));
        }
        all
    }

    /// The files that could not be sealed, the oldest first; of each folder its share of the list. `place` gives a folder's path.
    pub(super) fn unsealed(
        &self,
        place: impl Fn(FolderId) -> Option<PathBuf>,
        now: Timestamp,
    ) -> Vec<Unsealed> {
        let mut of: HashMap<FolderId, Vec<(&PathBuf, &Trouble)>> = HashMap::new();
        for ((folder, path), entry) in &self.entries {
            if let Some(trouble) = &entry.trouble {
                of.entry(*folder).or_default().push((path, trouble));
            }
        }
        let share = (LIST_LIMIT / of.len().max(1)).max(LIST_LEAST);
        let instant = Instant::now();
        let mut all = Vec::new();
        for (folder, mut files) in of {
            let Some(top) = place(folder) else { continue };
            files.sort_by_key(|(path, trouble)| (trouble.since, *path));
            all.extend(files.into_iter().take(share).map(|(path, trouble)| Unsealed {
                path: top.join(path).to_string_lossy().into_owned(),
                reason: trouble.reason,
                detail: trouble.detail.clone(),
                since: trouble.since,
                tries: trouble.tries,
                next_try: trouble.due.and_then(|due| {
                    let pause =
                        jiff::SignedDuration::try_from(due.saturating_duration_since(instant)).ok()?;
                    now.checked_add(pause).ok()
                }),
            }));
        }
        all.sort_by(|left, right| (left.since, &left.path).cmp(&(right.since, &right.path)));
        all
    }

    fn queue(&self, lane: Lane) -> Option<&Queue> {
        self.queues.get(lane as usize)
    }

    /// The entry of `key`, a new one if there is none.
    fn entry(&mut self, key: &Key) -> &mut Entry {
        self.entries.entry(key.clone()).or_insert_with(|| {
            self.counts.entry(key.0).or_default().entries += 1;
            Entry::new()
        })
    }

    fn drop_entry(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        if let Some(count) = self.counts.get_mut(&key.0) {
            count.entries -= 1;
            count.troubles -= usize::from(entry.trouble.is_some());
        }
    }

    /// Forgets a file that waits for nothing and has no trouble.
    fn drop_idle(&mut self, key: &Key) {
        if matches!(self.entries.get(key), Some(Entry { state: State::Idle, trouble: None, .. })) {
            self.drop_entry(key);
        }
    }

    /// Whether no more troubles of `folder` are remembered.
    fn troubled(&self, folder: FolderId) -> bool {
        self.counts.get(&folder).is_some_and(|count| count.troubles >= TROUBLE_LIMIT)
    }

    fn is_timed(&self, key: &Key, ticket: u64) -> bool {
        self.entries.get(key).is_some_and(|entry| matches!(entry.state, State::Timed(held) if held == ticket))
    }

    fn put(&mut self, key: Key, origin: Origin, lane: Lane) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.entry(&key).state = State::Queued { lane, ticket, origin };
        if let Some(queue) = self.queues.get_mut(lane as usize) {
            queue.push(key, ticket);
        }
    }

    fn requeue(&mut self, key: Key, origin: Origin) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Idle;
        }
        self.enqueue(key, origin, Lane::Urgent);
    }

    /// False when there is no room.
    fn set_timer(&mut self, key: Key, pause: Duration, alarm: Alarm) -> bool {
        let known = self.entries.contains_key(&key);
        if self.counts.get(&key.0).is_some_and(|count| count.entries >= 2 * URGENT_LIMIT + usize::from(known))
        {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.state = State::Idle;
            }
            self.drop_idle(&key);
            return false;
        }
        if self.timers.len() > 2 * self.entries.len() + 1024 {
            // Most are void: of files that somebody keeps writing to.
            let timers = std::mem::take(&mut self.timers);
            self.timers = timers
                .into_iter()
                .filter(|Reverse((_, ticket, key, _))| self.is_timed(key, *ticket))
                .collect();
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.entry(&key).state = State::Timed(ticket);
        self.timers.push(Reverse((Instant::now() + pause, ticket, key, alarm)));
        true
    }
}

#[cfg(test)]
impl Files {
    /// How many timers there are, void ones included.
    pub(super) fn test_only_timers(&self) -> usize {
        self.timers.len()
    }
}

/// The pause before the next try; none when trying again makes no sense before something changes.
fn pause(reason: UnsealedReason, tries: u32, settings: &EngineSettings) -> Option<Duration> {
    let first = match reason {
        UnsealedReason::InUse | UnsealedReason::Changed => settings.retry_min,
        // The last two end without an event.
        UnsealedReason::NoSpace
        | UnsealedReason::ReadBackFailed
        | UnsealedReason::System
        | UnsealedReason::HardLinked
        | UnsealedReason::Immutable => SLOW_RETRY.min(settings.retry_max),
        UnsealedReason::Unreadable
        | UnsealedReason::OtherFileSystem
        | UnsealedReason::ForeignEnvelope
        | UnsealedReason::NoKey => return None,
    };
    Some(first.saturating_mul(1 << tries.min(16)).min(settings.retry_max))
}

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

/// Most files in the urgent queue; more, and the folder is swept instead.
const URGENT_LIMIT: usize = 1 << 16;
/// Most files that a sweep has waiting.
const SWEEP_LIMIT: usize = 4096;
/// Most files remembered as unsealed; others are found again by the next sweep.
const TROUBLE_LIMIT: usize = 10_000;
/// First pause after a failure that somebody has to do something about.
const SLOW_RETRY: Duration = Duration::from_secs(1);

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Events, timers, other tries: first.
    Urgent,
    /// What a sweep found: when there is nothing else.
    Sweep,
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
    /// In a queue or on a timer, under this ticket.
    Waiting(u64),
    /// In a worker's hand; whether something happened to it meanwhile.
    Working(Option<Origin>),
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

/// The files.
#[derive(Debug, Default)]
pub(super) struct Files {
    entries: HashMap<Key, Entry>,
    urgent: VecDeque<(u64, Key, Origin)>,
    sweep: VecDeque<(u64, Key, Origin)>,
    timers: BinaryHeap<Reverse<(Instant, u64, Key, Alarm)>>,
    tickets: u64,
    troubles: usize,
}

impl Files {
    /// Puts a file into a queue. False when there is no room.
    pub(super) fn enqueue(&mut self, key: Key, origin: Origin, lane: Lane) -> bool {
        if lane == Lane::Urgent && self.urgent.len() >= URGENT_LIMIT {
            return false;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let entry = self.entries.entry(key.clone()).or_insert_with(Entry::new);
        if let State::Working(again) = &mut entry.state {
            if *again != Some(Origin::Event) {
                *again = Some(origin);
            }
            return true;
        }
        // An older ticket, in a queue or on a timer, is void from now on.
        entry.state = State::Waiting(ticket);
        match lane {
            Lane::Urgent => self.urgent.push_back((ticket, key, origin)),
            Lane::Sweep => self.sweep.push_back((ticket, key, origin)),
        }
        true
    }

    /// A sweep found `key` unsealed. Files that are known are left to their timers and queues.
    pub(super) fn found(&mut self, key: Key, lane: Lane) -> bool {
        match self.entries.get(&key) {
            Some(Entry { state: State::Waiting(_) | State::Working(_), .. }) => true,
            _ => self.enqueue(key, Origin::Found, lane),
        }
    }

    /// A file was made: look at it once it has settled, in case nobody closes it after writing.
    pub(super) fn created(&mut self, key: Key, settle: Duration) -> bool {
        if self.entries.contains_key(&key) {
            return true;
        }
        if self.timers.len() >= URGENT_LIMIT {
            return false;
        }
        self.set_timer(key, settle, Alarm::Settled);
        true
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
            if self
                .entries
                .get(&key)
                .is_some_and(|entry| matches!(entry.state, State::Waiting(held) if held == ticket))
            {
                let origin = if alarm == Alarm::Retry { Origin::Event } else { Origin::Found };
                self.urgent.push_back((ticket, key, origin));
            }
        }
    }

    /// When the next timer is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((due, ..))| *due)
    }

    /// The next files to work on: at most `most`, and all of one folder.
    pub(super) fn next(&mut self, lane: Lane, most: usize) -> Option<(FolderId, Vec<(PathBuf, Origin)>)> {
        let queue = match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Sweep => &mut self.sweep,
        };
        let mut folder = None;
        let mut files = Vec::new();
        while files.len() < most
            && queue.front().is_some_and(|(_, (of, _), _)| folder.is_none_or(|folder| folder == *of))
        {
            let Some((ticket, key, origin)) = queue.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if matches!(entry.state, State::Waiting(held) if held == ticket) {
                entry.state = State::Working(None);
                folder = Some(key.0);
                files.push((key.1, origin));
            }
        }
        Some((folder?, files))
    }

    /// How many wait in a queue; some of them may be void.
    pub(super) fn queued(&self, lane: Lane) -> usize {
        match lane {
            Lane::Urgent => self.urgent.len(),
            Lane::Sweep => self.sweep.len(),
        }
    }

    /// Whether a sweep may add more.
    pub(super) fn wants_more(&self) -> bool {
        self.sweep.len() < SWEEP_LIMIT
    }

    /// A worker is done with the file and there is nothing more to do, now.
    pub(super) fn finished(&mut self, key: Key) {
        let Some(entry) = self.entries.remove(&key) else { return };
        self.troubles -= usize::from(entry.trouble.is_some());
        if let State::Working(Some(origin)) = entry.state {
            self.enqueue(key, origin, Lane::Urgent);
        }
    }

    /// A worker found that the file has not settled.
    pub(super) fn unsettled(&mut self, key: Key, left: Duration) {
        match self.entries.get_mut(&key) {
            Some(Entry { state: State::Working(again @ Some(_)), .. }) => {
                let origin = again.take().unwrap_or(Origin::Found);
                self.requeue(key, origin);
            }
            _ => self.set_timer(key, left, Alarm::Settled),
        }
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
        if self.troubles >= TROUBLE_LIMIT
            && self.entries.get(&key).is_none_or(|entry| entry.trouble.is_none())
        {
            self.finished(key);
            return;
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let again = match entry.state {
            State::Working(again) => again,
            _ => None,
        };
        let (since, tries) =
            entry.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.tries));
        let pause = pause(reason, tries, settings);
        self.troubles += usize::from(entry.trouble.is_none());
        let last = Instant::now();
        let due = pause.map(|pause| last + pause);
        entry.trouble = Some(Trouble { reason, detail, since, tries: tries.saturating_add(1), due, last });
        entry.state = State::Idle;
        match (again, pause) {
            (Some(origin), _) => self.requeue(key, origin),
            (None, Some(pause)) => self.set_timer(key, pause, Alarm::Retry),
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
        if self.troubles >= TROUBLE_LIMIT {
            return;
        }
        let entry = self.entries.entry(key).or_insert_with(Entry::new);
        let (since, tries) =
            entry.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.tries));
        self.troubles += usize::from(entry.trouble.is_none());
        let last = Instant::now();
        entry.trouble =
            Some(Trouble { reason, detail, since, tries: tries.saturating_add(1), due: None, last });
    }

    /// Forgets the files of a folder.
    pub(super) fn forget(&mut self, folder: FolderId) {
        self.entries.retain(|(of, _), _| *of != folder);
        self.troubles = self.entries.values().filter(|entry| entry.trouble.is_some()).count();
    }

    /// How many files of `folder` wait for another try.
    pub(super) fn waiting(&self, folder: FolderId) -> u64 {
        self.entries.iter().filter(|((of, _), entry)| *of == folder && entry.trouble.is_some()).count() as u64
    }

    /// How many files of `folder` are not known to be sealed now, and since when the oldest of them is known.
    pub(super) fn plain(&self, folder: FolderId, now: Timestamp) -> (u64, Option<Timestamp>) {
        let mut count = 0;
        let mut oldest: Option<Instant> = None;
        for (_, entry) in self.entries.iter().filter(|((of, _), _)| *of == folder) {
            count += 1;
            oldest = Some(oldest.map_or(entry.noticed, |oldest| oldest.min(entry.noticed)));
        }
        let since = oldest
            .and_then(|oldest| now.checked_sub(jiff::SignedDuration::try_from(oldest.elapsed()).ok()?).ok());
        (count, since)
    }

    /// The files that could not be sealed, the oldest first. `place` gives a folder's path.
    pub(super) fn unsealed(
        &self,
        place: impl Fn(FolderId) -> Option<PathBuf>,
        now: Timestamp,
    ) -> Vec<Unsealed> {
        let instant = Instant::now();
        let mut all: Vec<Unsealed> = self
            .entries
            .iter()
            .filter_map(|((folder, path), entry)| {
                let trouble = entry.trouble.as_ref()?;
                Some(Unsealed {
                    path: place(*folder)?.join(path).to_string_lossy().into_owned(),
                    reason: trouble.reason,
                    detail: trouble.detail.clone(),
                    since: trouble.since,
                    tries: trouble.tries,
                    next_try: trouble.due.and_then(|due| {
                        let pause =
                            jiff::SignedDuration::try_from(due.saturating_duration_since(instant)).ok()?;
                        now.checked_add(pause).ok()
                    }),
                })
            })
            .collect();
        all.sort_by(|left, right| (left.since, &left.path).cmp(&(right.since, &right.path)));
        all
    }

    fn requeue(&mut self, key: Key, origin: Origin) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Idle;
        }
        self.enqueue(key, origin, Lane::Urgent);
    }

    fn set_timer(&mut self, key: Key, pause: Duration, alarm: Alarm) {
        self.tickets += 1;
        let ticket = self.tickets;
        let entry = self.entries.entry(key.clone()).or_insert_with(Entry::new);
        entry.state = State::Waiting(ticket);
        self.timers.push(Reverse((Instant::now() + pause, ticket, key, alarm)));
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

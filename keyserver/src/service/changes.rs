//! Push: a terminal waits here (`GET /v1/changes`) until something changes that concerns it, and learns what kind of
//! change that is. It then asks for the bulletin, or for its decisions, by the ways that there are for these; nothing
//! that it is told here gives or takes a right.
//!
//! Each server remembers what its last changes were about. What it does not remember any more, and what it read from
//! another server in one step, is told as a change that concerns everybody: too much is asked again then, never too little.
//! One waiter for each terminal: memory is bounded by the terminals that are enrolled.

use super::directory::Directory;
use super::identity;
use super::{Call, Service, ServiceError};
use crate::store::Tables;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tobari_core::ids::{PersonId, TerminalId};
use tobari_core::proto::api::{Affected, Changes};
use tokio::sync::{Notify, watch};

/// Longest wait, in seconds.
pub(crate) const LONGEST_WAIT: u32 = 55;
/// Changes that are remembered.
const REMEMBERED: usize = 256;
/// More people than this in one change are told as everybody.
const MAX_PEOPLE: usize = 64;

/// What a terminal knows already.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The version that it was told last; 0 when none.
    pub after: u64,
    /// The number of the bulletin that it has in force.
    pub bulletin: u64,
    /// How long the answer may be held back, in seconds.
    pub wait: u32,
}

/// What this server knows of changes, and who waits for them.
#[derive(Debug)]
pub(crate) struct Pushes {
    history: Mutex<History>,
    published: watch::Sender<u64>,
    waiting: Mutex<HashMap<TerminalId, Arc<Notify>>>,
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct History {
    /// Changes up to this version are not remembered.
    since: u64,
    steps: VecDeque<Step>,
}

/// What one change was about, as far as decisions depend on it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    version: u64,
    everybody: bool,
    people: BTreeSet<PersonId>,
    terminals: BTreeSet<TerminalId>,
}

impl Pushes {
    pub(crate) fn new(version: u64) -> Self {
        Self {
            history: Mutex::new(History { since: version, steps: VecDeque::new() }),
            published: watch::Sender::new(version),
            waiting: Mutex::default(),
            ended: watch::Sender::new(false),
        }
    }

    /// To be called with each new directory before requests see it.
    fn note(&self, before: &Directory, after: &Directory) {
        let step = Step::between(before.version, &before.tables, after.version, &after.tables);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.steps.push_back(step);
        while history.steps.len() > REMEMBERED {
            if let Some(oldest) = history.steps.pop_front() {
                history.since = oldest.version;
            }
        }
    }

    /// Whose decisions may have changed on `terminal` between two versions.
    fn affected(&self, terminal: TerminalId, after: u64, until: u64) -> Affected {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if after < history.since || after > until {
            return Affected::Everybody;
        }
        let mut people = BTreeSet::new();
        for step in history.steps.iter().filter(|step| step.version > after && step.version <= until) {
            if step.everybody || step.terminals.contains(&terminal) {
                return Affected::Everybody;
            }
            people.extend(&step.people);
        }
        match people.len() {
            0 => Affected::Nobody,
            1..=MAX_PEOPLE => Affected::People { people: people.into_iter().collect() },
            _ => Affected::Everybody,
        }
    }

    /// Takes the terminal's one place; whoever waited in it waits no longer.
    fn enter(self: &Arc<Self>, terminal: TerminalId) -> Place {
        let displaced = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = waiting.insert(terminal, Arc::clone(&displaced)) {
            before.notify_one();
        }
        metrics::gauge!("tobari_waiting_terminals").set(u32::try_from(waiting.len()).unwrap_or(u32::MAX));
        Place { pushes: Arc::clone(self), terminal, displaced }
    }

    /// Lets everybody go who waits, and those to come.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }
}

/// A terminal's place among those who wait; left when dropped.
struct Place {
    pushes: Arc<Pushes>,
    terminal: TerminalId,
    displaced: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.pushes.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(&self.terminal).is_some_and(|place| Arc::ptr_eq(place, &self.displaced)) {
            waiting.remove(&self.terminal);
        }
        metrics::gauge!("tobari_waiting_terminals").set(u32::try_from(waiting.len()).unwrap_or(u32::MAX));
    }
}

impl Step {
    /// Taken apart without a rest on purpose: whoever adds a table decides here whom its changes concern.
    fn between(from: u64, before: &Tables, version: u64, after: &Tables) -> Self {
        let Tables {
            settings,
            labels,
            // New keys change no decision; a key that is no more does.
            label_keys,
            groups,
            posts,
            rules,
            people,
            departed,
            terminals,
            // The bulletin has them.
            folders: _,
            // And them.
            revoked_leases: _,
            narrowed_leases: _,
            revocations,
            // They are about changes to come.
            invariants: _,
            change_requests: _,
            policy_version: _,
            // What is unsealed is asked for each time.
            unseal_windows: _,
        } = before;
        let retired = label_keys
            .iter()
            .any(|(id, old)| after.label_keys.get(id).is_none_or(|new| new.retired_at != old.retired_at));
        let everybody = version != from + 1
            || !same_settings(settings, &after.settings)
            || *labels != after.labels
            || *groups != after.groups
            || *posts != after.posts
            || *rules != after.rules
            || *revocations != after.revocations
            || retired;
        let mut concerned = changed(people, &after.people, |one, other| {
            one.memberships == other.memberships
                && one.roles == other.roles
                && one.disabled == other.disabled
                && one.login_key == other.login_key
                // Their sessions have ended.
                && one.password_hash == other.password_hash
                && one.sealed_totp == other.sealed_totp
        });
        concerned.extend(departed.symmetric_difference(&after.departed));
        let terminals = changed(terminals, &after.terminals, |one, other| {
            one.zone == other.zone
                && one.tags == other.tags
                && one.revoked == other.revoked
                && one.gateway == other.gateway
                && one.frozen == other.frozen
                && one.protection == other.protection
        });
        Self { version, everybody, people: concerned, terminals }
    }
}

fn same_settings(before: &BTreeMap<String, Arc<Vec<u8>>>, after: &BTreeMap<String, Arc<Vec<u8>>>) -> bool {
    fn relevant(settings: &BTreeMap<String, Arc<Vec<u8>>>) -> impl Iterator<Item = (&String, &Arc<Vec<u8>>)> {
        settings.iter().filter(|(name, _)| name.as_str() != identity::BULLETIN)
    }
    relevant(before).eq(relevant(after))
}

/// The keys of what is in one only, or differs.
fn changed<K: Ord + Copy, V>(
    before: &BTreeMap<K, Arc<V>>,
    after: &BTreeMap<K, Arc<V>>,
    same: impl Fn(&V, &V) -> bool,
) -> BTreeSet<K> {
    let lost = before.keys().filter(|key| !after.contains_key(key)).copied();
    let new = after
        .iter()
        .filter(|(key, now)| before.get(key).is_none_or(|then| !Arc::ptr_eq(then, now) && !same(then, now)));
    lost.chain(new.map(|(key, _)| *key)).collect()
}

impl Service {
    /// Puts a directory in force and tells who waits.
    pub(super) fn publish(&self, after: Directory) {
        let version = after.version;
        self.pushes.note(&self.directory.load(), &after);
        self.directory.store(Arc::new(after));
        self.pushes.published.send_replace(version);
    }

    /// Lets go who waits for changes: the server ends.
    pub(crate) fn end_waiting(&self) {
        self.pushes.end();
    }

    /// `GET /v1/changes`: waits until something has changed since what the terminal knows.
    ///
    /// # Errors
    /// The terminal is not accepted, or not any more; another request of the same terminal waits instead.
    pub async fn changes(&self, call: &Call, known: Known) -> Result<Changes, ServiceError> {
        if known.wait > LONGEST_WAIT {
            return Err(ServiceError::invalid("wait", format!("must be at most {LONGEST_WAIT}")));
        }
        let terminal = self.terminal(call).await?.id;
        let mut published = self.pushes.published.subscribe();
        let mut ended = self.pushes.ended.subscribe();
        let place = self.pushes.enter(terminal);
        let patience = tokio::time::sleep(Duration::from_secs(known.wait.into()));
        tokio::pin!(patience);
        let mut last = false;
        loop {
            published.mark_unchanged();
            let directory = self.directory.load_full();
            // That the terminal is not accepted any more is the most important change of all.
            self.terminal_in(&directory, call)?;
            let decisions = self.pushes.affected(terminal, known.after, directory.version);
            let bulletin = directory.bulletin.number;
            if last || bulletin > known.bulletin || decisions != Affected::Nobody {
                let (version, stamp) = (directory.version, self.stamp().await);
                return Ok(Changes { version, bulletin, decisions, stamp });
            }
            tokio::select! {
                _ = published.changed() => {}
                () = place.displaced.notified() => return Err(ServiceError::TooManyRequests),
                () = &mut patience => last = true,
                _ = ended.wait_for(|ended| *ended) => last = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PersonRow;

    fn person(id: u8, disabled: bool) -> (PersonId, Arc<PersonRow>) {
        let id = PersonId::from_bytes([id; 16]);
        let row = PersonRow {
            id,
            login: id.to_string(),
            login_key: id.to_string(),
            name: String::from("名"),
            password_hash: String::new(),
            sealed_totp: None,
            memberships: Vec::new(),
            roles: Vec::new(),
            disabled,
        };
        (id, Arc::new(row))
    }

    #[test]
    fn a_change_concerns_those_whom_it_is_about() {
        let mut before = Tables::default();
        before.people.extend([person(1, false), person(2, false)]);
        before.settings.insert(identity::BULLETIN.to_owned(), Arc::new(vec![1]));
        let mut after = before.clone();
        after.settings.insert(identity::BULLETIN.to_owned(), Arc::new(vec![2]));
        let step = |before: &Tables, after: &Tables| Step::between(6, before, 7, after);
        assert_eq!(step(&before, &after), Step { version: 7, ..Step::default() });
        after.people.extend([person(2, true), person(3, false)]);
        let concerned: Vec<u8> =
            step(&before, &after).people.iter().filter_map(|id| id.as_bytes().first().copied()).collect();
        assert_eq!(concerned, [2, 3]);
        assert!(!step(&before, &after).everybody);
        after.settings.insert(String::from("another"), Arc::new(Vec::new()));
        assert!(step(&before, &after).everybody);
        // Several changes of other servers, read at once: what lay between is not known.
        assert!(Step::between(5, &before, 7, &before).everybody);
    }

    #[test]
    fn what_is_not_remembered_concerns_everybody() {
        let pushes = Pushes::new(10);
        let terminal = TerminalId::from_bytes([1; 16]);
        let add = |version, people: BTreeSet<PersonId>| {
            let step = Step { version, people, ..Step::default() };
            pushes.history.lock().unwrap().steps.push_back(step);
        };
        let one = person(1, false).0;
        add(11, BTreeSet::new());
        add(12, BTreeSet::from([one]));
        assert_eq!(pushes.affected(terminal, 10, 11), Affected::Nobody);
        assert_eq!(pushes.affected(terminal, 10, 12), Affected::People { people: vec![one] });
        assert_eq!(pushes.affected(terminal, 12, 12), Affected::Nobody);
        assert_eq!(pushes.affected(terminal, 9, 12), Affected::Everybody);
        // It knows of what is not so any more, or not yet: another database was put in place.
        assert_eq!(pushes.affected(terminal, 13, 12), Affected::Everybody);
    }
}

//! Every power cut: behind each recorded action, with all, none or some of the unsynced sectors lost, and again while
//! recovering. The contents must be exactly those of the last sync, or of the one in progress.

use super::simulated::{Action, Log, Loss, after_cut, disk};
use super::writer::{Step, apply, model, position, step};
use super::*;
use proptest::prelude::*;

/// A small generator, so that losses are spread but repeatable.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A recorded run: what was on the disk first, what was done, and the contents at each sync with the number of
/// actions after which it had returned.
struct Run {
    start: Vec<u8>,
    actions: Vec<Action>,
    syncs: Vec<(usize, Vec<u8>)>,
    header: Header,
    dek: Dek,
}

fn run(start: usize, steps: &[Step], skip_journal_sync: bool) -> Run {
    let mut plain = contents(start);
    let (storage, header, dek) = sealed(&plain);
    let start = storage.into_bytes();
    let (storage, journal, log) = disk(&start);
    let mut syncs = vec![(0, plain.clone())];
    let mut writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
    writer.test_only_skip_journal_sync = skip_journal_sync;
    for step in steps.iter().chain(&[Step::Sync]) {
        model(&mut plain, step);
        apply(&mut writer, step, &plain).unwrap();
        if matches!(step, Step::Sync | Step::Reopen) {
            syncs.push((log.lock().unwrap().actions.len(), plain.clone()));
        }
    }
    assert!(opened(&storage, &header, &dek).unwrap() == plain);
    let actions = std::mem::take(&mut log.lock().unwrap().actions);
    Run { start, actions, syncs, header, dek }
}

impl Run {
    /// What is wrong after a cut, if anything.
    fn check(&self, cut: usize, loss: Loss<'_>, random: &mut Random) -> Result<(), String> {
        let after = after_cut([&self.start, &[]], &self.actions, cut, loss);
        // The power goes again while recovering.
        let (storage, journal, log) = disk(&after[0]);
        journal.write_all_at(&after[1], 0).unwrap();
        *log.lock().unwrap() = Log::default();
        recover(&storage, &journal, &self.dek).map_err(|error| format!("recover: {error:?}"))?;
        let actions = std::mem::take(&mut log.lock().unwrap().actions);
        let again = (random.next() % (actions.len() as u64 + 1)) as usize;
        let mut lost = || random.next().is_multiple_of(2);
        let after = after_cut([&after[0], &after[1]], &actions, again, Loss::Some(&mut lost));
        let [storage, journal] = after.map(MemoryStorage::from);
        recover(&storage, &journal, &self.dek).map_err(|error| format!("recover again: {error:?}"))?;
        let found = opened(&storage, &self.header, &self.dek).map_err(|error| format!("open: {error:?}"))?;
        let checked = verify(&storage, &self.header, &self.dek, &mut |_| {}).unwrap();
        assert!(checked.rooted && checked.interrupted_tail.is_none());
        let done = self.syncs.iter().rposition(|(at, _)| *at <= cut).unwrap();
        let allowed = &self.syncs[done..self.syncs.len().min(done + 2)];
        if allowed.iter().any(|(_, contents)| *contents == found) {
            Ok(())
        } else {
            Err("neither the old contents nor the new".to_owned())
        }
    }

    /// Tries every cut; counts the faults.
    fn faults(&self, seed: u64, subsets: usize) -> Vec<String> {
        let mut random = Random(seed | 1);
        let mut faults = Vec::new();
        for cut in 0..=self.actions.len() {
            faults.extend(self.check(cut, Loss::None, &mut random).err());
            faults.extend(self.check(cut, Loss::All, &mut random).err());
            for subset in 0..subsets {
                let (mut own, rarity) = (Random(random.next() | 1), 2 + subset as u64 % 7);
                let mut lost = || own.next().is_multiple_of(rarity);
                faults.extend(self.check(cut, Loss::Some(&mut lost), &mut random).err());
            }
        }
        faults
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn after_any_cut_the_file_is_old_or_new(
        start in position(),
        steps in prop::collection::vec(step(), 1..10),
        seed in any::<u64>(),
    ) {
        let faults = run(start, &steps, false).faults(seed, 3);
        prop_assert!(faults.is_empty(), "{faults:?}");
    }
}

/// Overwrites, grows, cuts and appends, with a sync after each.
fn eventful() -> Vec<Step> {
    let steps = [
        Step::Write { offset: 100, length: 9000, fill: 1 },
        Step::Append { length: 5000, fill: 2 },
        Step::SetLength(6000),
        Step::Write { offset: 0, length: 4096, fill: 3 },
        Step::SetLength(20_000),
    ];
    steps.into_iter().flat_map(|step| [step, Step::Sync]).collect()
}

#[test]
fn every_cut_of_an_eventful_life_is_harmless() {
    for seed in 1..=8 {
        let faults = run(10_000, &eventful(), false).faults(seed * 0x9E37_79B9, 12);
        assert!(faults.is_empty(), "{faults:?}");
    }
}

#[test]
fn without_the_journal_sync_the_test_would_see_damage() {
    let run = run(10_000, &eventful(), true);
    let faults: usize = (1..=8).map(|seed| run.faults(seed * 0x9E37_79B9, 12).len()).sum();
    assert!(faults > 0);
}

/// What a relabel did to the disk, one write or sync at a time; without the sync of this number, where one is given.
struct Change {
    start: Vec<u8>,
    actions: Vec<Action>,
    old: Header,
    new: Header,
    dek: Dek,
    plain: Vec<u8>,
}

fn change(without_sync: Option<usize>) -> Change {
    let plain = contents(9000);
    let (storage, old, dek) = sealed(&plain);
    let start = storage.into_bytes();
    let (storage, _, log) = disk(&start);
    let policy = FilePolicy { label_name: "極秘".repeat(40), label_level: 40, ..policy() };
    let new = relabel(&storage, &old, &dek, policy, epoch()).unwrap();
    let mut actions = std::mem::take(&mut log.lock().unwrap().actions);
    if let Some(number) = without_sync {
        let is_sync = |action: &Action| matches!(action, Action::Sync { .. });
        let at = (0..actions.len()).filter(|at| is_sync(&actions[*at])).nth(number).unwrap();
        actions.remove(at);
    }
    Change { start, actions, old, new, dek, plain }
}

impl Change {
    /// Counts, over every cut and many losses, headers that are the old one, the new one, the new one by its copy alone; and files
    /// that do not open. Each is also settled, with the power going again meanwhile.
    fn outcomes(&self) -> [u32; 4] {
        let mut random = Random(42);
        let mut seen = [0; 4];
        for cut in 0..=self.actions.len() {
            for round in 0..300_u64 {
                let rarity = 1 + round % 8;
                let mut lost = || random.next().is_multiple_of(rarity);
                let [bytes, _] = after_cut([&self.start, &[]], &self.actions, cut, Loss::Some(&mut lost));
                let opens = |bytes: &[u8]| {
                    let storage = MemoryStorage::from(bytes.to_vec());
                    let header = Header::read(&storage).ok()?;
                    header.authenticate(&self.dek).ok()?;
                    assert!(header == self.old || header == self.new);
                    (opened(&storage, &header, &self.dek).ok()? == self.plain).then_some(header)
                };
                let Some(header) = opens(&bytes) else {
                    seen[3] += 1;
                    continue;
                };
                let torn =
                    !bytes.starts_with(self.old.wire_bytes()) && !bytes.starts_with(self.new.wire_bytes());
                seen[if torn { 2 } else { usize::from(header == self.new) }] += 1;
                assert!(cut < self.actions.len() || header == self.new);

                // Settled, and the power goes meanwhile.
                let (storage, _, log) = disk(&bytes);
                settle(&storage, &self.dek).unwrap();
                let actions = std::mem::take(&mut log.lock().unwrap().actions);
                let again = (random.next() % (actions.len() as u64 + 1)) as usize;
                let mut lost = || random.next().is_multiple_of(2);
                let [bytes, _] = after_cut([&bytes, &[]], &actions, again, Loss::Some(&mut lost));
                assert_eq!(opens(&bytes), Some(header.clone()), "settled to another header");
                let storage = MemoryStorage::from(bytes);
                settle(&storage, &self.dek).unwrap();
                assert!(!header_change_pending(&storage).unwrap());
                assert!(storage.to_bytes().starts_with(header.wire_bytes()));
            }
        }
        seen
    }
}

#[test]
fn after_any_cut_of_a_relabel_the_file_opens_with_the_old_or_the_new_header() {
    let seen = change(None).outcomes();
    assert!(seen[..3].iter().all(|count| *count > 0), "{seen:?}");
    assert_eq!(seen[3], 0);
}

#[test]
fn without_the_sync_of_copy_or_header_the_test_would_see_damage() {
    for number in [0, 1] {
        let seen = change(Some(number)).outcomes();
        assert!(seen[3] > 0, "sync {number}: {seen:?}");
    }
}

//! A group of files: every step of it fails, or is the last one, in turn, for one file or for all. After it each file is
//! its old plaintext or a whole envelope of it, and after a restart the journal is empty.

use super::fixture::{PATIENCE, Place, open};
use crate::seal::CONTROL;
use crate::seal::sealer::Outcome;
use crate::seal::step::{Fault, Faults, Safeguard, Step};
use crate::seal::stop::Stop;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tobari_core::proto::control::UnsealedReason;

const FILES: usize = 4;
/// The kernel lets nobody wait longer for a lease than 45 seconds, unless it is told otherwise.
const LEASE_BREAK: Duration = Duration::from_secs(40);
/// Steps that a group leaves to one sync for all.
const OTHERS: [Step; 1] = [Step::SyncParent];
/// Steps that are done once for the group.
const ONCE: [Step; 7] = [
    Step::SyncEnvelope,
    Step::WriteIntent,
    Step::SyncIntent,
    Step::SyncControl,
    Step::SyncExchanged,
    Step::SyncUnlink,
    Step::CloseIntent,
];

/// A fault at the `nth` time that a step is reached.
struct Nth {
    step: Step,
    nth: usize,
    before: Fault,
    after: Fault,
    count: AtomicUsize,
}

impl Nth {
    fn new(step: Step, nth: usize, before: Fault, after: Fault) -> Arc<Self> {
        Arc::new(Self { step, nth, before, after, count: AtomicUsize::new(0) })
    }
}

impl Faults for Nth {
    fn before(&self, step: Step) -> Fault {
        let here = step == self.step && self.count.fetch_add(1, Ordering::SeqCst) == self.nth;
        if here { self.before } else { Fault::None }
    }
    fn after(&self, step: Step) -> Fault {
        let here = step == self.step && self.count.load(Ordering::SeqCst) == self.nth + 1;
        if here { self.after } else { Fault::None }
    }
    fn without(&self, _: Safeguard) -> bool {
        false
    }
    fn spoil(&self, _: &File) {}
}

fn names() -> Vec<PathBuf> {
    (0..FILES).map(|number| PathBuf::from(format!("部/{number}.txt"))).collect()
}

fn content(number: usize) -> String {
    format!("内容 {number}").repeat(number * 1000 + 1)
}

fn place(faults: Arc<Nth>) -> Place {
    let place = Place::in_memory().suffering(faults);
    for (number, name) in names().iter().enumerate() {
        place.write(name, content(number));
    }
    place
}

/// How many are sealed.
fn check(place: &Place) -> usize {
    let mut sealed = 0;
    for (number, name) in names().iter().enumerate() {
        let path = place.path(name);
        if let Some(plaintext) = open(&path) {
            assert_eq!(plaintext, content(number).as_bytes());
            sealed += 1;
        } else {
            assert_eq!(fs::read(&path).unwrap(), content(number).as_bytes());
        }
    }
    assert_eq!(fs::read_dir(place.path("部")).unwrap().count(), FILES);
    sealed
}

/// The first try at a group of which nobody has a file open: other tests of this process start programs, and a child has all files open
/// until its `exec`.
fn first(faults: impl Fn() -> Arc<Nth>) -> (Place, Vec<Result<Outcome, Stop>>) {
    let begin = Instant::now();
    loop {
        let place = place(faults());
        let results = group(&place, &names());
        let in_use = results.iter().filter_map(|result| result.as_ref().err()?.report());
        if in_use.into_iter().all(|(reason, _)| reason != UnsealedReason::InUse) || begin.elapsed() > PATIENCE
        {
            return (place, results);
        }
    }
}

fn group(place: &Place, names: &[PathBuf]) -> Vec<Result<Outcome, Stop>> {
    place.sealer.seal_group(place.root(), &place.rule, names)
}

/// Until all are sealed: other tests of this process start programs, and a child has all files open until its `exec`.
fn seal_the_rest(place: &Place) {
    let begin = Instant::now();
    loop {
        group(place, &names());
        place.sealer.settle_pending(place.root());
        if check(place) == FILES {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "the files cannot be sealed");
    }
}

fn steps() -> impl Iterator<Item = Step> {
    Step::ALL.iter().copied().filter(|step| !OTHERS.contains(step))
}

#[test]
fn a_group_is_sealed_with_few_syncs_and_one_record() {
    let count = |step| {
        let faults = Nth::new(step, 1 << 30, Fault::None, Fault::None);
        let place = place(Arc::clone(&faults));
        let all = group(&place, &names());
        assert_eq!(all.len(), FILES);
        if check(&place) < FILES {
            return None;
        }
        assert_eq!(place.journal(), [""; 0]);
        Some(faults.count.load(Ordering::SeqCst))
    };
    for step in Step::ALL.iter().copied() {
        let expected = match step {
            step if OTHERS.contains(&step) => 0,
            step if ONCE.contains(&step) => 1,
            _ => FILES,
        };
        let begin = Instant::now();
        let counted = std::iter::from_fn(|| (begin.elapsed() < PATIENCE).then(|| count(step)))
            .find_map(|counted| counted);
        assert_eq!(counted, Some(expected), "{step:?}");
    }
}

#[test]
fn death_at_every_step_of_a_group() {
    for step in steps() {
        for nth in [0, FILES - 1] {
            if ONCE.contains(&step) && nth > 0 {
                continue;
            }
            for (before, after) in [(Fault::Die, Fault::None), (Fault::None, Fault::Die)] {
                let (mut place, _) = first(|| Nth::new(step, nth, before, after));
                check(&place);
                place.restart();
                assert!(place.root().pending().is_empty(), "{step:?} {nth} {before:?}");
                assert_eq!(place.journal(), [""; 0], "{step:?} {nth} {before:?}");
                check(&place);
                seal_the_rest(&place);
            }
        }
    }
}

#[test]
fn failure_of_every_step_of_a_group() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    for step in steps() {
        for errno in [EIO, ENOSPC] {
            let (mut place, results) = first(|| Nth::new(step, 0, Fault::Errno(errno), Fault::None));
            let expected = match (errno, step) {
                (EIO, Step::OpenParent | Step::OpenFile) => UnsealedReason::Unreadable,
                (EIO, _) => UnsealedReason::System,
                _ => UnsealedReason::NoSpace,
            };
            let failed = results
                .iter()
                .filter_map(|result| result.as_ref().err()?.report())
                .filter(|(reason, _)| *reason == expected)
                .count();
            if step == Step::CloseIntent {
                // All is done; what is left is a record of nothing.
                assert_eq!(failed, 0, "{step:?} {errno}");
                assert_eq!(place.journal().len(), 1);
            } else if ONCE.contains(&step) {
                assert_eq!(failed, FILES, "{step:?} {errno}");
            } else {
                assert_eq!(failed, 1, "{step:?} {errno}");
            }
            let begin = Instant::now();
            check(&place);
            assert!(
                begin.elapsed() < LEASE_BREAK,
                "{step:?} {errno}: a lease is left that nobody looks after"
            );
            place.sealer.settle_pending(place.root());
            assert!(place.root().pending().is_empty(), "{step:?} {errno}");
            seal_the_rest(&place);
            place.restart();
            assert_eq!(place.journal(), [""; 0], "{step:?} {errno}");
            assert_eq!(check(&place), FILES);
        }
    }
}

#[test]
fn one_that_cannot_be_sealed_does_not_hold_up_the_others() {
    let place = place(Nth::new(Step::OpenParent, 1 << 30, Fault::None, Fault::None));
    let writer = File::options().append(true).open(place.path(&names()[1])).unwrap();
    fs::hard_link(place.path(&names()[2]), place.path("other")).unwrap();
    let mut all = names();
    all.push("部/gone".into());
    let begin = Instant::now();
    loop {
        let results = group(&place, &all);
        assert!(matches!(&results[1], Err(stop) if stop.report().unwrap().0 == UnsealedReason::InUse));
        assert!(matches!(&results[2], Err(stop) if stop.report().unwrap().0 == UnsealedReason::HardLinked));
        assert!(matches!(&results[4], Err(Stop::Vanished)));
        if check(&place) == 2 || begin.elapsed() > PATIENCE {
            break;
        }
    }
    drop(writer);
    assert_eq!(check(&place), 2);
    assert_eq!(place.journal(), [""; 0]);
    fs::remove_file(place.path("other")).unwrap();
    seal_the_rest(&place);
    assert!(group(&place, &names()).iter().all(|result| matches!(result, Ok(Outcome::AlreadySealed))));
}

fn die_after(step: Step) -> Place {
    let (mut place, _) = first(|| Nth::new(step, 0, Fault::None, Fault::Die));
    place.root = None;
    place
}

fn recorded(place: &Place) -> PathBuf {
    let names = place.journal();
    let record = names.iter().find(|name| name.ends_with(".group"));
    place.path(CONTROL).join(record.unwrap())
}

/// A record that was cut when the power went, beside envelopes in the making of another group.
#[test]
fn a_torn_record_was_never_acted_upon() {
    let mut place = die_after(Step::SyncEnvelope);
    let data = place.journal().into_iter().find(|name| name.ends_with(".data")).unwrap();
    fs::write(place.path(CONTROL).join(data.replace(".data", ".group")), b"[{").unwrap();
    let others = ["00112233445566778899aabbccddeeff.data", "10112233445566778899aabbccddeeff.data"];
    fs::write(place.path(CONTROL).join(others[0]), b"").unwrap();
    fs::write(place.path(CONTROL).join(others[1]), [0; 8192]).unwrap();
    place.restart();
    assert_eq!(place.journal(), [""; 0]);
    assert_eq!(check(&place), 0);
    seal_the_rest(&place);
}

/// A record that was damaged after the exchanges: the displaced plaintexts may be the only copies.
#[test]
fn a_damaged_record_gives_up_nothing() {
    let mut place = die_after(Step::SyncExchanged);
    let record = recorded(&place);
    let whole = fs::read(&record).unwrap();
    fs::write(&record, &whole[..whole.len() - 1]).unwrap();
    place.restart();
    place.restart();
    assert_eq!(place.journal().len(), FILES + 1);
    assert_eq!(check(&place), FILES);
    // Put right, it is worked off.
    fs::write(&record, whole).unwrap();
    place.restart();
    assert_eq!(place.journal(), [""; 0]);
    assert_eq!(check(&place), 0);
    seal_the_rest(&place);
}

/// One of the group is in use when the daemon starts again, so that its exchange stays; the record does not wait for it.
#[test]
fn one_that_is_in_use_gets_an_intent_of_its_own() {
    let mut place = die_after(Step::SyncExchanged);
    let data =
        place.path(CONTROL).join(place.journal().into_iter().find(|name| name.ends_with(".data")).unwrap());
    let user = File::options().append(true).open(&data).unwrap();
    // Neither has the name what was sealed, so that it cannot go back.
    for number in 0..FILES {
        if open(&place.path(&names()[number])).unwrap().len() == user.metadata().unwrap().len() as usize {
            fs::rename(place.path(&names()[number]), place.path("away")).unwrap();
            fs::write(place.path(&names()[number]), "newer").unwrap();
        }
    }
    place.restart();
    let left = place.journal();
    assert!(!left.iter().any(|name| name.ends_with(".group")), "{left:?}");
    if !place.root().pending().is_empty() {
        assert!(left.iter().any(|name| name.ends_with(".intent")), "{left:?}");
    }
    drop(user);
    place.sealer.settle_pending(place.root());
    assert_eq!(place.journal(), [""; 0]);
    place.restart();
    assert_eq!(place.journal(), [""; 0]);
}

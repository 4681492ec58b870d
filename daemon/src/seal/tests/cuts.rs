//! Every step of the protocol fails, or is the last one, in turn. After it: the file is its old plaintext or a whole
//! envelope of it, metadata as before, no other name, and after a restart an empty journal.

use super::fixture::{Place, open};
use crate::seal::sealer::Outcome;
use crate::seal::step::{Fault, Faults, Safeguard, Step};
use crate::seal::{CONTROL, Wipe, journal};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tobari_core::proto::control::UnsealedReason;

const CONTENT: &[u8] = "個人番号 1234".as_bytes();
const NAME: &str = "部/名簿.csv";

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Before,
    After,
}

/// One fault at one step, the first time it is reached, perhaps with a safeguard left out.
struct Once {
    step: Step,
    when: When,
    fault: Fault,
    without: Option<Safeguard>,
    reached: AtomicBool,
    spoil: bool,
}

impl Once {
    fn new(step: Step, when: When, fault: Fault) -> Self {
        Self { step, when, fault, without: None, reached: AtomicBool::new(false), spoil: false }
    }

    fn ask(&self, step: Step, when: When) -> Fault {
        let here = step == self.step
            && when == self.when
            && !self.reached.swap(step == self.step && when == self.when, Ordering::SeqCst);
        if here { self.fault } else { Fault::None }
    }
}

impl Faults for Once {
    fn before(&self, step: Step) -> Fault {
        self.ask(step, When::Before)
    }
    fn after(&self, step: Step) -> Fault {
        self.ask(step, When::After)
    }
    fn without(&self, safeguard: Safeguard) -> bool {
        self.without == Some(safeguard)
    }
    fn spoil(&self, envelope: &File) {
        if self.spoil {
            let mut byte = [0];
            envelope.read_exact_at(&mut byte, 4096 + 20).unwrap();
            envelope.write_all_at(&[byte[0] ^ 1], 4096 + 20).unwrap();
        }
    }
}

fn prepare(faults: Once) -> (Place, Arc<Once>) {
    let faults = Arc::new(faults);
    let place = Place::with(Arc::clone(&faults) as Arc<dyn Faults>);
    let path = place.write(NAME, CONTENT);
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    (place, faults)
}

/// Old plaintext or whole envelope, and nothing else anywhere.
fn check(place: &Place) -> bool {
    let path = place.path(NAME);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode(), 0o100_640);
    assert_eq!(metadata.nlink(), 1);
    let sealed = open(&path);
    if let Some(plaintext) = &sealed {
        assert_eq!(plaintext, CONTENT);
    } else {
        assert_eq!(fs::read(&path).unwrap(), CONTENT);
    }
    let directory = path.parent().unwrap();
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
    assert_eq!(place.names(), ["部"]);
    sealed.is_some()
}

#[test]
fn death_at_every_step() {
    for &step in Step::ALL {
        for (when, wipe) in [
            (When::Before, Wipe::None),
            (When::After, Wipe::None),
            (When::Before, Wipe::Overwrite),
            (When::After, Wipe::Overwrite),
        ] {
            let (mut place, faults) = prepare(Once::new(step, when, Fault::Die));
            place.sealer = place.sealer.with_wipe(wipe);
            assert!(place.seal(NAME).is_err(), "{step:?} {when:?}");
            assert!(faults.reached.load(Ordering::SeqCst), "{step:?} {when:?} is not reached");
            check(&place);
            place.restart();
            assert!(place.root().pending().is_empty(), "{step:?} {when:?}");
            assert_eq!(place.journal(), [""; 0], "{step:?} {when:?}");
            check(&place);
            place.seal(NAME).unwrap();
            assert!(check(&place));
        }
    }
}

/// A second death, at every step of the recovery from the first.
#[test]
fn death_during_recovery() {
    use Step::{CloseIntent, CompareDisplaced, LeaseDisplaced, SyncUnlink, TakeMode, UnlinkDisplaced};
    for first in
        [Step::Exchange, Step::SyncParent, Step::SyncExchanged, LeaseDisplaced, TakeMode, UnlinkDisplaced]
    {
        for second in [LeaseDisplaced, CompareDisplaced, TakeMode, UnlinkDisplaced, SyncUnlink, CloseIntent] {
            for when in [When::Before, When::After] {
                let (mut place, _) = prepare(Once::new(first, When::After, Fault::Die));
                let _ = place.seal(NAME);
                place.root = None;
                let faults = Arc::new(Once::new(second, when, Fault::Die));
                let again = Place::with(faults);
                let root = crate::seal::FolderRoot::open(place.directory.path()).unwrap();
                let _ = again.sealer.recover(&root);
                drop(root);
                check(&place);
                place.restart();
                assert_eq!(place.journal(), [""; 0], "{first:?} {second:?} {when:?}");
                check(&place);
                place.seal(NAME).unwrap();
                assert!(check(&place));
            }
        }
    }
}

/// A restart of the machine may give the disk other device numbers than those in the journal.
#[test]
fn recovery_on_another_device_number() {
    for step in [Step::Exchange, Step::SyncExchanged, Step::CompareDisplaced] {
        let (mut place, _) = prepare(Once::new(step, When::After, Fault::Die));
        let _ = place.seal(NAME);
        for (id, remains) in journal::list(place.root()).unwrap().0 {
            let mut intent = remains.intent.unwrap().unwrap();
            intent.plain.device.1 += 1;
            intent.envelope.device.1 += 1;
            fs::remove_file(place.path(CONTROL).join(id.intent())).unwrap();
            journal::write_intent(place.root(), &id, &intent).unwrap();
        }
        place.restart();
        assert_eq!(place.journal(), [""; 0], "{step:?}");
        assert!(!check(&place), "{step:?}: what was not confirmed is undone");
        place.seal(NAME).unwrap();
        assert!(check(&place));
    }
}

#[test]
fn failure_of_every_step() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    const EDQUOT: i32 = 122;
    for &step in Step::ALL {
        for errno in [EIO, ENOSPC, EDQUOT] {
            let (mut place, faults) = prepare(Once::new(step, When::Before, Fault::Errno(errno)));
            let result = place.seal(NAME);
            assert!(faults.reached.load(Ordering::SeqCst));
            let (reason, detail) = result.unwrap_err().report().unwrap();
            let expected = match (errno, step) {
                (EIO, Step::OpenParent | Step::OpenFile) => UnsealedReason::Unreadable,
                (EIO, _) => UnsealedReason::System,
                _ => UnsealedReason::NoSpace,
            };
            assert_eq!(reason, expected, "{step:?} {detail}");
            check(&place);
            // The same daemon goes on...
            place.sealer.settle_pending(place.root());
            assert!(place.root().pending().is_empty(), "{step:?} {errno}");
            place.seal(NAME).unwrap();
            assert!(check(&place));
            // ...and leaves nothing to a restart, other than an intent whose removal failed.
            place.restart();
            assert_eq!(place.journal(), [""; 0], "{step:?} {errno}");
            assert!(check(&place));
        }
    }
}

#[test]
fn a_spoilt_envelope_does_not_replace_its_plaintext() {
    let (place, _) = prepare(Once { spoil: true, ..Once::new(Step::OpenParent, When::Before, Fault::None) });
    let (reason, _) = place.seal(NAME).unwrap_err().report().unwrap();
    assert_eq!(reason, UnsealedReason::ReadBackFailed);
    assert!(!check(&place));
    assert_eq!(place.journal(), [""; 0]);
}

/// Negative controls: with a safeguard left out, the checks above have to fail.
#[test]
fn the_checks_notice_a_missing_safeguard() {
    // Without the read-back a spoilt envelope replaces the plaintext.
    let failed = catch_unwind(|| {
        let mut once = Once::new(Step::OpenParent, When::Before, Fault::None);
        (once.spoil, once.without) = (true, Some(Safeguard::ReadBack));
        let (place, _) = prepare(once);
        place.seal(NAME).unwrap();
        check(&place);
    });
    assert!(failed.is_err(), "the read-back is not needed?");

    // Without the journal a death after the exchange leaves an envelope at best, but never the late writer's data.
    let failed = catch_unwind(|| {
        let mut once = Once::new(Step::Exchange, When::After, Fault::Die);
        once.without = Some(Safeguard::Journal);
        let (mut place, _) = prepare(once);
        let _ = place.seal(NAME);
        let displaced = place.journal().into_iter().find(|name| name.ends_with(".data")).unwrap();
        let displaced = place.path(crate::seal::CONTROL).join(displaced);
        fs::write(displaced, [CONTENT, b" + late"].concat()).unwrap();
        place.restart();
        assert_eq!(fs::read(place.path(NAME)).unwrap(), [CONTENT, b" + late"].concat());
    });
    assert!(failed.is_err(), "the journal is not needed?");

    // With it, the same late writer's data is kept.
    let (mut place, _) = prepare(Once::new(Step::Exchange, When::After, Fault::Die));
    let _ = place.seal(NAME);
    let displaced = place.journal().into_iter().find(|name| name.ends_with(".data")).unwrap();
    fs::write(place.path(crate::seal::CONTROL).join(displaced), [CONTENT, b" + late"].concat()).unwrap();
    place.restart();
    assert_eq!(fs::read(place.path(NAME)).unwrap(), [CONTENT, b" + late"].concat());
    assert_eq!(place.journal(), [""; 0]);

    // Without the leases a file that somebody writes is sealed under them, and what they write is lost.
    let failed = catch_unwind(|| {
        use std::io::Write as _;
        let mut once = Once::new(Step::OpenParent, When::Before, Fault::None);
        once.without = Some(Safeguard::Lease);
        let (place, _) = prepare(once);
        let mut writer = File::options().append(true).open(place.path(NAME)).unwrap();
        assert!(!matches!(place.seal(NAME), Ok(Outcome::Sealed(_))));
        writer.write_all(b"more").unwrap();
    });
    assert!(failed.is_err(), "the leases are not needed?");
}

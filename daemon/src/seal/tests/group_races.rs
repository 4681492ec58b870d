//! Late openers of files that are sealed as a group: they resolved the names before the exchange, and open and write at any
//! moment after it. What they write is kept, and all files are sealed in the end.

use super::fixture::{PATIENCE, Place, open};
use crate::seal::step::{Fault, Faults, Safeguard, Step};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FILES: usize = 6;
/// From the exchange of the first file to the end of the group.
const AFTER: [Step; 10] = [
    Step::LeaseExchange,
    Step::Exchange,
    Step::CheckExchange,
    Step::SyncExchanged,
    Step::LeaseDisplaced,
    Step::CompareDisplaced,
    Step::TakeMode,
    Step::UnlinkDisplaced,
    Step::SyncUnlink,
    Step::CloseIntent,
];

fn names() -> Vec<PathBuf> {
    (0..FILES).map(|number| PathBuf::from(format!("部/{number}.txt"))).collect()
}

fn content(number: usize) -> Vec<u8> {
    format!("内容 {number} ").repeat(number * 40 + 1).into_bytes()
}

/// Appends to what it resolved when it was made, once.
struct Late {
    resolved: OwnedFd,
    text: &'static str,
}

impl Late {
    fn new(place: &Place, number: usize, text: &'static str) -> Self {
        let path = place.path(&names()[number]);
        Self { resolved: rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap(), text }
    }

    /// Whether it was let in while the file had a name in the folder or the journal. Root, unlike a user, can also open
    /// what was removed and has no mode any more.
    fn write(self) -> bool {
        let path = format!("/proc/self/fd/{}", self.resolved.as_raw_fd());
        let Ok(mut file) = File::options().append(true).open(path) else { return false };
        let facts = rustix::fs::fstat(&file).unwrap();
        if facts.st_nlink == 0 && facts.st_mode & 0o777 == 0 {
            return false;
        }
        file.write_all(self.text.as_bytes()).unwrap();
        true
    }
}

/// Until all are sealed and nothing is pending.
fn seal_all(place: &Place) {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        place.sealer.settle_pending(place.root());
        place.sealer.seal_group(place.root(), &place.rule, &names());
        let all = names().iter().all(|name| open(&place.path(name)).is_some());
        if all && place.root().pending().is_empty() {
            assert_eq!(place.journal(), [""; 0]);
            assert_eq!(fs::read_dir(place.path("部")).unwrap().count(), FILES);
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("never sealed");
}

fn place() -> Place {
    let place = Place::in_memory();
    for (number, name) in names().iter().enumerate() {
        place.write(name, content(number));
    }
    place
}

/// Lets a late opener loose at the `nth` time that a step is reached, and waits until it waits or is done.
struct At {
    step: Step,
    nth: usize,
    count: AtomicUsize,
    late: Mutex<Option<Late>>,
    writer: Mutex<Option<JoinHandle<bool>>>,
}

impl Faults for At {
    fn before(&self, step: Step) -> Fault {
        if step != self.step || self.count.fetch_add(1, Ordering::SeqCst) != self.nth {
            return Fault::None;
        }
        let late = self.late.lock().unwrap().take().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            late.write()
        });
        let place = format!("/proc/self/task/{}/wchan", told.recv().unwrap().as_raw_nonzero());
        let begin = Instant::now();
        while !thread.is_finished() && !fs::read_to_string(&place).is_ok_and(|place| place.contains("lease"))
        {
            assert!(begin.elapsed() < PATIENCE, "{step:?}: the late opener neither waits nor ends");
            std::thread::sleep(Duration::from_micros(200));
        }
        *self.writer.lock().unwrap() = Some(thread);
        Fault::None
    }
    fn after(&self, _: Step) -> Fault {
        Fault::None
    }
    fn without(&self, _: Safeguard) -> bool {
        false
    }
    fn spoil(&self, _: &File) {}
}

/// At each step, of the first and of the last file of the group, somebody comes to the first and to the last.
#[test]
fn late_openers_at_every_step_of_a_group() {
    for step in AFTER {
        let once = matches!(step, Step::SyncExchanged | Step::SyncUnlink);
        for nth in if once { vec![0] } else { vec![0, FILES - 1] } {
            for target in [0, FILES - 1] {
                let place = place();
                let late = Late::new(&place, target, "late");
                let at = Arc::new(At {
                    step,
                    nth,
                    count: AtomicUsize::new(0),
                    late: Mutex::new(Some(late)),
                    writer: Mutex::default(),
                });
                let place = place.suffering(Arc::clone(&at) as Arc<dyn Faults>);
                let begin = Instant::now();
                while at.writer.lock().unwrap().is_none() && begin.elapsed() < PATIENCE {
                    // Until nobody else is in the way, and the step is reached.
                    place.sealer.seal_group(place.root(), &place.rule, &names());
                }
                let written = at.writer.lock().unwrap().take().is_some_and(|thread| thread.join().unwrap());
                seal_all(&place);
                for (number, name) in names().iter().enumerate() {
                    let mut expected = content(number);
                    if written && number == target {
                        expected.extend_from_slice(b"late");
                    }
                    assert!(
                        open(&place.path(name)).unwrap() == expected,
                        "{step:?} {nth}: file {number}, late writer of {target} ({written})"
                    );
                }
            }
        }
    }
}

/// Many times over, without any order: for each file somebody who resolved its name before comes at some moment.
#[test]
fn late_openers_of_groups_at_any_moment() {
    const ROUNDS: u64 = 150;
    let mut counts = (0, 0);
    // They come at any moment of as long as the sealing before took, and a little later, however busy the machine is.
    let (begin, mut usual) = (Instant::now(), Duration::from_millis(10));
    for round in 0.. {
        if round >= ROUNDS && (counts.0 > 0 && counts.1 > 0 || begin.elapsed() > PATIENCE) {
            break;
        }
        let place = place();
        let mut chance = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let go = Arc::new(AtomicBool::new(false));
        let late: Vec<JoinHandle<bool>> = (0..FILES)
            .map(|number| {
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                let pause = Duration::from_micros(chance % (usual.as_micros() as u64 * 6 / 5 + 1));
                let (late, go) = (Late::new(&place, number, "late"), Arc::clone(&go));
                std::thread::spawn(move || {
                    while !go.load(Ordering::Acquire) {
                        std::thread::yield_now();
                    }
                    std::thread::sleep(pause);
                    late.write()
                })
            })
            .collect();
        go.store(true, Ordering::Release);
        let sealing = Instant::now();
        place.sealer.seal_group(place.root(), &place.rule, &names());
        usual = sealing.elapsed();
        let written: Vec<bool> = late.into_iter().map(|thread| thread.join().unwrap()).collect();
        seal_all(&place);
        for (number, name) in names().iter().enumerate() {
            let mut expected = content(number);
            // Too late, it came to a file that is sealed already and was refused.
            let (with, without) = (written[number], !written[number]);
            counts = (counts.0 + usize::from(with), counts.1 + usize::from(without));
            if with {
                expected.extend_from_slice(b"late");
            }
            assert!(open(&place.path(name)).unwrap() == expected, "round {round}: file {number} ({with})");
        }
    }
    eprintln!("{} late openers wrote, {} were refused", counts.0, counts.1);
    assert!(counts.0 > 0 && counts.1 > 0, "{counts:?}");
}

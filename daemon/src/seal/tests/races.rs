//! Others at work on the same name at the worst moment.

use super::fixture::{PATIENCE, Place, open};
use super::late::{AGAIN, Opener};
use crate::seal::step::{Fault, Faults, Safeguard, Step};
use crate::seal::{Gate, Outcome};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tobari_core::proto::control::UnsealedReason;

type Act = Box<dyn FnOnce() + Send>;

/// Does something before or after a step.
#[derive(Default)]
struct At {
    before: Mutex<Vec<(Step, Act)>>,
    after: Mutex<Vec<(Step, Act)>>,
}

impl At {
    fn before(step: Step, act: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let this = Self::default();
        this.before.lock().unwrap().push((step, Box::new(act)));
        Arc::new(this)
    }

    fn after(step: Step, act: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let this = Self::default();
        this.after.lock().unwrap().push((step, Box::new(act)));
        Arc::new(this)
    }
}

fn act(acts: &Mutex<Vec<(Step, Act)>>, step: Step) {
    let mut acts = acts.lock().unwrap();
    if let Some(index) = acts.iter().position(|(at, _)| *at == step) {
        let (_, act) = acts.remove(index);
        drop(acts);
        act();
    }
}

impl Faults for At {
    fn before(&self, step: Step) -> Fault {
        act(&self.before, step);
        Fault::None
    }
    fn after(&self, step: Step) -> Fault {
        act(&self.after, step);
        Fault::None
    }
    fn without(&self, _: Safeguard) -> bool {
        false
    }
    fn spoil(&self, _: &File) {}
}

/// A path that a test's thread learns only when the folder exists.
fn shared() -> (Arc<Mutex<PathBuf>>, impl Fn(&Path)) {
    let shared = Arc::new(Mutex::new(PathBuf::new()));
    let setter = Arc::clone(&shared);
    (shared, move |path: &Path| *setter.lock().unwrap() = path.to_owned())
}

fn o_path(path: &Path) -> OwnedFd {
    rustix::fs::open(path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap()
}

fn through(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Starts a thread that appends to what `fd` was resolved to, and returns when it waits in `open` for our lease.
fn late_writer(fd: OwnedFd, parts: &'static [&'static str]) -> JoinHandle<()> {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid()).unwrap();
        let mut file = File::options().append(true).open(through(&fd)).unwrap();
        for part in parts {
            file.write_all(part.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    let place = format!("/proc/self/task/{}/wchan", told.recv().unwrap().as_raw_nonzero());
    wait_for_lease(&thread, &place);
    thread
}

/// Until the thread is done, or waits in `open` for our lease.
fn wait_for_lease<T>(thread: &JoinHandle<T>, wchan: &str) {
    let begin = Instant::now();
    while !thread.is_finished() && !fs::read_to_string(wchan).is_ok_and(|place| place.contains("lease")) {
        assert!(begin.elapsed() < PATIENCE, "it does not wait for the lease");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Seals until it works, as the engine does, and returns the plaintext of the result.
fn seal_in_the_end(place: &Place, name: &str) -> Vec<u8> {
    super::late::seal_in_the_end(place, &[name]);
    open(&place.path(name)).unwrap()
}

/// A late opener resolved the name (`O_PATH`) before the exchange and writes to the displaced file after it, at each
/// moment until the file is proven unused.
#[test]
fn what_a_late_opener_writes_is_kept() {
    for step in [Step::Exchange, Step::CheckExchange, Step::SyncParent, Step::SyncExchanged] {
        for keep_open in [false, true] {
            let (path, set) = shared();
            let resolved: Arc<Mutex<Option<OwnedFd>>> = Arc::default();
            let held: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
            let (fd, threads) = (Arc::clone(&resolved), Arc::clone(&held));
            let faults = At::after(step, move || {
                let fd = fd.lock().unwrap().take().unwrap();
                let parts: &[&str] = if keep_open { &[" + late", " + later"] } else { &[" + late"] };
                threads.lock().unwrap().push(late_writer(fd, parts));
            });
            let place = Place::with(faults);
            set(&place.write("a.txt", "text"));
            *resolved.lock().unwrap() = Some(o_path(&path.lock().unwrap()));
            let first = place.seal("a.txt");
            for thread in held.lock().unwrap().drain(..) {
                thread.join().unwrap();
            }
            assert!(first.is_err(), "{step:?}: {first:?}");
            let expected: &[u8] = if keep_open { b"text + late + later" } else { b"text + late" };
            let got = seal_in_the_end(&place, "a.txt");
            assert_eq!(got, expected, "{step:?} {:?}", String::from_utf8_lossy(&got));
            assert_eq!(place.names(), ["a.txt"]);
        }
    }
}

/// The same in the moment after the lease was given back and before the fresh one: nothing makes the opener wait.
#[test]
fn what_a_fast_late_opener_writes_is_kept() {
    let (path, set) = shared();
    let resolved: Arc<Mutex<Option<OwnedFd>>> = Arc::default();
    let fd = Arc::clone(&resolved);
    let faults = At::before(Step::CompareDisplaced, move || {
        late_writer(fd.lock().unwrap().take().unwrap(), &[" + late"]);
    });
    let place = Place::with(faults);
    set(&place.write("a.txt", "text"));
    *resolved.lock().unwrap() = Some(o_path(&path.lock().unwrap()));
    let _ = place.seal("a.txt");
    assert_eq!(seal_in_the_end(&place, "a.txt"), b"text + late");
}

/// An opener that comes in the very instant of the removal gets the removed file. What it writes is kept.
#[test]
fn what_is_written_to_the_removed_plaintext_is_kept() {
    let (path, set) = shared();
    let resolved: Arc<Mutex<Option<OwnedFd>>> = Arc::default();
    let fd = Arc::clone(&resolved);
    let faults = At::before(Step::UnlinkDisplaced, move || {
        late_writer(fd.lock().unwrap().take().unwrap(), &[" + late"]);
    });
    let place = Place::with(faults);
    set(&place.write("a.txt", "text"));
    *resolved.lock().unwrap() = Some(o_path(&path.lock().unwrap()));
    assert!(place.seal("a.txt").is_err());
    assert_eq!(seal_in_the_end(&place, "a.txt"), b"text + late");
    assert_eq!(place.names(), ["a.txt"]);
}

/// An unprivileged late opener that comes after the removal is refused rather than deceived.
#[test]
fn the_removed_plaintext_cannot_be_opened_by_others() {
    let place = Place::new();
    let path = place.write("a.txt", "text");
    let fd = o_path(&path);
    place.seal("a.txt").unwrap();
    assert_eq!(
        fs::metadata(through(&fd)).unwrap().permissions(),
        std::os::unix::fs::PermissionsExt::from_mode(0o100_000)
    );
}

/// An editor saves by renaming a new version over the name just before the exchange.
#[test]
fn a_newer_version_renamed_over_the_name_wins() {
    for step in [Step::SyncEnvelope, Step::ReadBack, Step::LeaseExchange, Step::Exchange] {
        let (path, set) = shared();
        let at = Arc::clone(&path);
        let faults = At::before(step, move || {
            let path = at.lock().unwrap().clone();
            fs::write(path.with_extension("tmp"), "version 2").unwrap();
            fs::rename(path.with_extension("tmp"), path).unwrap();
        });
        let place = Place::with(faults);
        set(&place.write("a.txt", "version 1"));
        assert!(place.seal("a.txt").is_err());
        assert_eq!(fs::read(place.path("a.txt")).unwrap(), b"version 2", "{step:?}");
        assert_eq!(place.journal(), [""; 0]);
        assert_eq!(seal_in_the_end(&place, "a.txt"), b"version 2");
        assert_eq!(place.names(), ["a.txt"]);
    }
}

/// The name is removed, or moved to another directory, while it is being sealed.
#[test]
fn a_removed_or_moved_name_stays_so() {
    for step in [Step::WriteEnvelope, Step::LeaseExchange, Step::Exchange, Step::SyncParent] {
        let (path, set) = shared();
        let at = Arc::clone(&path);
        let faults = At::before(step, move || {
            let path = at.lock().unwrap().clone();
            fs::rename(&path, path.with_file_name("moved.txt")).unwrap();
        });
        let place = Place::with(faults);
        set(&place.write("a.txt", "text"));
        let _ = place.seal("a.txt");
        place.sealer.settle_pending(place.root());
        assert_eq!(place.names(), ["moved.txt"], "{step:?}");
        assert_eq!(place.journal(), [""; 0], "{step:?}");
        assert_eq!(seal_in_the_end(&place, "moved.txt"), b"text");
    }
}

/// Somebody changes the mode between the copy of the metadata and the exchange.
#[test]
fn a_changed_mode_is_not_lost() {
    use std::os::unix::fs::PermissionsExt as _;
    for step in [Step::SyncEnvelope, Step::LeaseExchange, Step::Exchange] {
        let (path, set) = shared();
        let at = Arc::clone(&path);
        let faults = At::before(step, move || {
            fs::set_permissions(&*at.lock().unwrap(), fs::Permissions::from_mode(0o604)).unwrap();
        });
        let place = Place::with(faults);
        set(&place.write("a.txt", "text"));
        assert!(place.seal("a.txt").is_err(), "{step:?}");
        assert_eq!(seal_in_the_end(&place, "a.txt"), b"text");
        assert_eq!(fs::metadata(place.path("a.txt")).unwrap().permissions().mode() & 0o777, 0o604);
    }
}

/// A writer comes while a large file is being sealed: sealing gives way at once.
#[test]
fn an_opener_does_not_wait_for_the_sealing_of_a_large_file() {
    let (path, set) = shared();
    let at = Arc::clone(&path);
    let opener: Arc<Mutex<Option<JoinHandle<()>>>> = Arc::default();
    let slot = Arc::clone(&opener);
    let faults = At::before(Step::WriteEnvelope, move || {
        let path = at.lock().unwrap().clone();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            File::options().append(true).open(path).unwrap().write_all(b"+").unwrap();
        });
        wait_for_lease(&thread, &format!("/proc/self/task/{}/wchan", told.recv().unwrap().as_raw_nonzero()));
        *slot.lock().unwrap() = Some(thread);
    });
    let place = Place::with(faults);
    set(&place.write("a.bin", vec![1; 32 << 20]));
    let (reason, detail) = place.seal("a.bin").unwrap_err().report().unwrap();
    // While the plaintext was read, and not at the exchange.
    assert_eq!((reason, detail.as_str()), (UnsealedReason::InUse, "another process came to open it"));
    opener.lock().unwrap().take().unwrap().join().unwrap();
    assert_eq!(seal_in_the_end(&place, "a.bin").len(), (32 << 20) + 1);
}

/// Somebody who writes a new version over the sealed name while the exchange is undone is not dropped either.
#[test]
fn two_versions_are_both_kept() {
    let (path, set) = shared();
    let resolved: Arc<Mutex<Option<OwnedFd>>> = Arc::default();
    let (fd, at) = (Arc::clone(&resolved), Arc::clone(&path));
    let faults = At::before(Step::LeaseDisplaced, move || {
        // One writer has the displaced plaintext, and another replaces the envelope under the name.
        late_writer(fd.lock().unwrap().take().unwrap(), &[" + late"]);
        let path = at.lock().unwrap().clone();
        fs::write(path.with_extension("tmp"), "newer").unwrap();
        fs::rename(path.with_extension("tmp"), path).unwrap();
    });
    let place = Place::with(faults);
    set(&place.write("a.txt", "text"));
    *resolved.lock().unwrap() = Some(o_path(&path.lock().unwrap()));
    let _ = place.seal("a.txt");
    assert_eq!(seal_in_the_end(&place, "a.txt"), b"newer");
    let names = place.names();
    assert_eq!(names.len(), 2, "{names:?}");
    let conflict = names.iter().find(|name| name.contains(".conflict-")).unwrap();
    let mut content = String::new();
    File::open(place.path(conflict)).unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "text + late");
}

/// With the privilege: who comes between the exchange and the removal, or at any later time, is sent back to the name,
/// and the sealing goes on.
#[test]
fn a_late_opener_is_sent_back_to_the_name() {
    if let Err(error) = Gate::new() {
        crate::testing::skipped(format!("late openers cannot be held up here: {error}"));
        return;
    }
    for step in [
        Step::CheckExchange,
        Step::SyncParent,
        Step::SyncExchanged,
        Step::LeaseDisplaced,
        Step::CompareDisplaced,
        Step::TakeMode,
        Step::UnlinkDisplaced,
        Step::SyncUnlink,
    ] {
        let opener: Arc<Mutex<Option<Opener>>> = Arc::default();
        let coming = Arc::clone(&opener);
        let mut place = Place::with(At::before(step, move || {
            coming.lock().unwrap().as_mut().unwrap().come_and_wait();
        }));
        place.sealer = place.sealer.with_gate(Some(Gate::new().unwrap()));
        place.write("a.txt", "text");
        *opener.lock().unwrap() = Some(Opener::new(&place.path("a.txt")));
        let sealed = place.seal("a.txt");
        assert!(matches!(sealed, Ok(Outcome::Sealed(4))), "{step:?}: {sealed:?}");
        let mut opener = opener.lock().unwrap().take().unwrap();
        assert_eq!(opener.said(), AGAIN, "{step:?}");
        opener.come();
        assert_eq!(opener.said(), AGAIN, "{step:?}: later too");
        assert_eq!(open(&place.path("a.txt")).unwrap(), b"text");
        assert_eq!(place.journal(), [""; 0]);
        // And the next file.
        place.write("b.txt", "more");
        assert!(matches!(place.seal("b.txt"), Ok(Outcome::Sealed(4))));
    }
}

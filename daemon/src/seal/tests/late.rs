//! Somebody in a process of their own who resolved a name before the exchange, and opens it later.

use super::fixture::{PATIENCE, Place};
use crate::seal::step::{Fault, Faults, Safeguard, Step};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What the one is told who is sent back to the name.
pub(super) const AGAIN: &str = "Resource temporarily unavailable";
/// What the one is told whom the mode stops.
pub(super) const DENIED: &str = "Permission denied";
pub(super) const WRITTEN: &str = "written";

/// Holds a file with `O_PATH`, perhaps gives up all privileges, and tries to open the file for writing once for each line that it reads.
const SCRIPT: &str = r#"
import os, sys
fd = os.open(sys.argv[1], os.O_PATH)
if sys.argv[2:]: os.setuid(int(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    try:
        file = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND)
        os.write(file, b" + late")
        os.close(file)
        print("written", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"#;

pub(super) struct Opener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Opener {
    /// One who has resolved `path`, with the privileges of this process.
    pub(super) fn new(path: &Path) -> Self {
        Self::start(path, &[])
    }

    /// One who has resolved `path`, and is nobody in particular.
    pub(super) fn nobody(path: &Path) -> Self {
        Self::start(path, &["65534"])
    }

    fn start(path: &Path, user: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .arg(path)
            .args(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut this = Self { child, lines };
        assert_eq!(this.said(), "ready");
        this
    }

    /// Has it open the file.
    pub(super) fn come(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Has it open the file, and returns when it is held up at the gate.
    pub(super) fn come_and_wait(&mut self) {
        self.come();
        let place = format!("/proc/{}/wchan", self.child.id());
        let begin = Instant::now();
        while !fs::read_to_string(&place).is_ok_and(|place| place.contains("fanotify")) {
            assert!(begin.elapsed() < PATIENCE, "it is not held up");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What became of its last try.
    pub(super) fn said(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

type Act = Box<dyn FnOnce() -> Fault + Send>;

/// Does something the first time that a step is reached, before or after it.
#[derive(Default)]
pub(super) struct Acts {
    acts: Mutex<Vec<(Step, bool, Act)>>,
}

impl Acts {
    /// The same, and `act` before `step`.
    pub(super) fn before(self, step: Step, act: impl FnOnce() + Send + 'static) -> Self {
        self.add(step, true, move || {
            act();
            Fault::None
        })
    }

    /// The same, and a fault before `step`.
    pub(super) fn failing(self, step: Step, errno: i32) -> Self {
        self.add(step, true, move || Fault::Errno(errno))
    }

    /// The same, and the end after `step`.
    pub(super) fn dying_after(self, step: Step) -> Self {
        self.add(step, false, || Fault::Die)
    }

    fn add(self, step: Step, before: bool, act: impl FnOnce() -> Fault + Send + 'static) -> Self {
        self.acts.lock().unwrap().push((step, before, Box::new(act)));
        self
    }

    /// Whether everything was done.
    pub(super) fn done(&self) -> bool {
        self.acts.lock().unwrap().is_empty()
    }

    fn act(&self, step: Step, before: bool) -> Fault {
        let mut fault = Fault::None;
        loop {
            let act = {
                let mut acts = self.acts.lock().unwrap();
                let Some(index) = acts.iter().position(|(at, when, _)| (*at, *when) == (step, before)) else {
                    return fault;
                };
                acts.remove(index).2
            };
            match act() {
                Fault::None => {}
                other => fault = other,
            }
        }
    }
}

impl Faults for Acts {
    fn before(&self, step: Step) -> Fault {
        self.act(step, true)
    }
    fn after(&self, step: Step) -> Fault {
        self.act(step, false)
    }
    fn without(&self, _: Safeguard) -> bool {
        false
    }
    fn spoil(&self, _: &File) {}
}

/// Seals `names` until all are sealed and nothing is pending, as the engine does.
pub(super) fn seal_in_the_end(place: &Place, names: &[&str]) {
    let begin = Instant::now();
    loop {
        place.sealer.settle_pending(place.root());
        let sealed = names.iter().all(|name| place.try_seal(name).is_ok());
        if sealed && place.root().pending().is_empty() {
            assert_eq!(place.journal(), [""; 0]);
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "never sealed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

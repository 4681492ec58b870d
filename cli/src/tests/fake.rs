//! A daemon that speaks the frame protocol and says what a test wants, and runs of the program against it.

use crate::console::Console;
use crate::exit::Exit;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tobari_core::clock::FixedClock;
use tobari_core::proto::control::{Answer, Event, Particulars, Request, VERSION};
use tobari_core::proto::frame::{receive_frame, send_frame};
use tobari_core::proto::problem::{Problem, ProblemCode};

/// What the daemon says to a request; `None` for one that is not answered by itself.
pub(super) type Says = Box<dyn FnMut(Request, Vec<OwnedFd>) -> Option<Event> + Send>;

/// A folder with a daemon in it.
pub(super) struct Fake {
    pub(super) root: TempDir,
    asked: Arc<Mutex<Vec<serde_json::Value>>>,
}

/// What a run left.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) exit: Exit,
    pub(super) out: Vec<u8>,
    pub(super) err: String,
}

impl Ran {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap()
    }

    /// Everything, for a snapshot.
    pub(super) fn whole(&self) -> String {
        format!(
            "exit {} {}\n--- out\n{}--- err\n{}",
            self.exit.code(),
            self.exit.name(),
            self.text(),
            self.err
        )
    }
}

/// A request that failed.
pub(super) fn failed(problem: Problem) -> Event {
    Event::Failed {
        problem,
        subject: None,
        rights: None,
        reasons: Vec::new(),
        particulars: Particulars::default(),
    }
}

/// A request that failed with this code.
pub(super) fn failed_with(code: ProblemCode) -> Event {
    failed(Problem::local(code, "detail in English"))
}

/// A request that succeeded.
pub(super) fn done(answer: Answer) -> Event {
    Event::Done { answer }
}

impl Fake {
    /// A folder without a daemon.
    pub(super) fn nobody() -> Self {
        Self { root: tempfile::tempdir().unwrap(), asked: Arc::default() }
    }

    /// A folder with a daemon.
    pub(super) fn saying(says: impl FnMut(Request, Vec<OwnedFd>) -> Option<Event> + Send + 'static) -> Self {
        let fake = Self::nobody();
        let listener = UnixListener::bind(fake.socket()).unwrap();
        let asked = fake.asked.clone();
        let mut says: Says = Box::new(says);
        // Ends with the process: it waits for connections, one after the other.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(&stream.unwrap(), &mut says, &asked);
            }
        });
        fake
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.root.path().join("control.sock")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// What was asked since the last time, without the greeting.
    pub(super) fn asked(&self) -> Vec<serde_json::Value> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_in("en", arguments, b"")
    }

    pub(super) fn run_in(&self, language: &str, arguments: &[&str], input: &[u8]) -> Ran {
        self.run_os(language, arguments.iter().map(OsString::from).collect(), input)
    }

    pub(super) fn run_os(&self, language: &str, arguments: Vec<OsString>, input: &[u8]) -> Ran {
        let mut files: [File; 3] = std::array::from_fn(|_| tempfile::tempfile().unwrap());
        files[0].write_all(input).unwrap();
        files[0].rewind().unwrap();
        let [input, output, errors] = [0, 1, 2].map(|index| files[index].try_clone().unwrap());
        let variables = [
            ("TOBARI_LANG".to_owned(), language.into()),
            ("TOBARI_SOCKET".to_owned(), self.socket().into_os_string()),
            ("TZ".to_owned(), "UTC".into()),
        ];
        let clock = Arc::new(FixedClock::new("2026-11-21T12:00:00Z".parse().unwrap()));
        let console = Console { input, output, errors, variables: HashMap::from(variables), clock };
        let program = std::iter::once(OsString::from("tobari"));
        let exit = crate::run(program.chain(arguments), console);
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let err = String::from_utf8(read(&mut files[2])).unwrap();
        let err = err.replace(self.root.path().to_str().unwrap(), "ROOT");
        Ran { exit, out: read(&mut files[1]), err }
    }
}

fn serve(stream: &UnixStream, says: &mut Says, asked: &Mutex<Vec<serde_json::Value>>) {
    while let Ok(Some((request, descriptors))) = receive_frame::<Request>(stream, 8) {
        let event = match request {
            Request::Hello { .. } => {
                Some(done(Answer::Hello { version: VERSION, program: "0.1.0".to_owned() }))
            }
            request => {
                asked.lock().unwrap().push(serde_json::to_value(&request).unwrap());
                says(request, descriptors)
            }
        };
        if let Some(event) = event
            && send_frame(stream, &event, &[]).is_err()
        {
            return;
        }
    }
}

//! Where the program reads and writes, as files rather than the process's own streams: the daemon takes
//! descriptors, and tests take temporary files.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use tobari_core::clock::{Clock, SystemClock};

/// Streams, environment and clock of one run.
#[derive(Debug)]
pub struct Console {
    /// Standard input.
    pub input: File,
    /// Standard output: data only.
    pub output: File,
    /// Standard error: messages, prompts and progress.
    pub errors: File,
    /// Environment variables.
    pub variables: HashMap<String, OsString>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Console {
    /// The process's own streams, environment and clock.
    ///
    /// # Errors
    /// When a standard stream is closed.
    pub fn of_process() -> io::Result<Self> {
        let own = |stream: &dyn std::os::fd::AsFd| stream.as_fd().try_clone_to_owned().map(File::from);
        Ok(Self {
            input: own(&io::stdin())?,
            output: own(&io::stdout())?,
            errors: own(&io::stderr())?,
            variables: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
            clock: Arc::new(SystemClock),
        })
    }

    /// The value of an environment variable, none when unset or empty.
    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(name).filter(|value| !value.is_empty())
    }

    /// Whether a person can be asked: standard input and standard error are terminals.
    pub fn can_ask(&self) -> bool {
        self.input.is_terminal() && self.errors.is_terminal()
    }

    /// Whether the reader of standard output has gone.
    pub fn output_is_broken(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut watched = [PollFd::from_borrowed_fd(self.output.as_fd(), PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut watched, Some(&at_once)).is_ok()
            && watched.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
    }
}

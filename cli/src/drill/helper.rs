//! The drill's other processes: who holds the content open, who attacks it, who wants out. They are this program again, so that
//! what is tried is tried by a process of its own, under the user and in the confinement that it is about.

use super::bench::Sinks;
use super::inside::{self, Insider};
use super::outside::{self, Target};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable in which a holder has the canary.
const CANARY: &str = "TOBARI_DRILL_CANARY";
/// How often a save repeats its content before it is killed: some 300 KiB.
const SAVED: usize = 4096;
/// Longest detail that is told.
const LONGEST: usize = 160;

/// What a helper is told. No canary: everybody on the host can read a command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "helper", rename_all = "kebab-case")]
pub enum Task {
    /// Reads the file, keeps it open, in memory and in the environment until standard input ends.
    Hold {
        /// The file.
        file: PathBuf,
    },
    /// Tries one way from outside.
    Attack {
        /// Name of the way.
        way: String,
        /// What is attacked.
        target: Box<Target>,
    },
    /// Tries all ways out.
    Inside {
        /// The file.
        file: PathBuf,
        /// Where things arrive.
        sinks: Box<Sinks>,
    },
    /// Waits until standard input ends.
    Wait,
    /// Writes standard input to the file without an end, and is killed over it.
    Save {
        /// The file.
        file: PathBuf,
    },
    /// Reads the file and ends as a program does that is broken.
    Crash {
        /// The file.
        file: PathBuf,
    },
}

/// What was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Got {
    /// The canary.
    Plaintext,
    /// An envelope.
    Ciphertext,
    /// Neither.
    Nothing,
    /// It cannot be tried here, or the control found nothing either.
    NotTried,
}

/// What a way brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// What.
    pub got: Got,
    /// Why not more, in the system's words.
    pub detail: String,
}

impl Brought {
    /// Nothing, and why.
    pub fn nothing(detail: impl Into<String>) -> Self {
        Self { got: Got::Nothing, detail: detail.into() }
    }

    /// It was not tried, and why.
    pub fn not_tried(detail: impl Into<String>) -> Self {
        Self { got: Got::NotTried, detail: detail.into() }
    }
}

/// Whether `bytes` have `part` in them.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else { return false };
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| *byte == first)
        .any(|(at, _)| bytes.get(at..at + part.len()) == Some(part))
}

/// Does a task. The canary of an attack comes on standard input.
///
/// # Errors
/// When the task itself fails, other than an attack, whose failure is an outcome.
pub fn run(task: Task, program: &Path) -> io::Result<()> {
    match task {
        Task::Hold { file } => hold(&file, program),
        Task::Attack { way, target } => {
            let mut canary = String::new();
            io::stdin().lock().read_line(&mut canary)?;
            let brought = attack(&way, &target, canary.trim_end().as_bytes());
            let line = serde_json::to_string(&brought)?;
            writeln!(io::stdout(), "{line}")
        }
        Task::Inside { file, sinks } => want_out(&file, &sinks, program),
        Task::Wait => io::stdin().lock().read_to_end(&mut Vec::new()).map(drop),
        Task::Save { file } => save_and_die(&file),
        Task::Crash { file } => {
            let mut content = fs::read(file)?;
            // Not in the file, so that a core dump is told from what else may have arrived.
            let line = content.iter().position(|byte| *byte == b'\n').unwrap_or(content.len());
            content.truncate(line);
            content.extend_from_slice(b":core-dump;");
            let all = rustix::process::Rlimit { current: None, maximum: None };
            let _ = rustix::process::setrlimit(rustix::process::Resource::Core, all);
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGQUIT)?;
            // The content is in memory until here.
            drop(content);
            Ok(())
        }
    }
}

fn hold(file: &Path, program: &Path) -> io::Result<()> {
    let content = fs::read(file)?;
    if std::env::var_os(CANARY).is_none() {
        let canary = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let task = serde_json::to_string(&Task::Hold { file: file.to_owned() })?;
        let mut again = Command::new(program);
        again.args(["drill", "--task", &task]).env(CANARY, String::from_utf8_lossy(canary).into_owned());
        if let Some(folder) = file.parent() {
            again.current_dir(folder);
        }
        return Err(again.exec());
    }
    let _open = fs::File::open(file)?;
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, unlimited);
    writeln!(io::stdout(), "holding {} bytes", content.len())?;
    io::stdout().flush()?;
    io::stdin().lock().read_to_end(&mut Vec::new())?;
    // In memory until here.
    drop(content);
    Ok(())
}

/// As a program that loses its power in the middle of a save: nothing is closed, nothing synchronised.
fn save_and_die(file: &Path) -> io::Result<()> {
    let mut content = Vec::new();
    io::stdin().lock().read_to_end(&mut content)?;
    let mut half = fs::File::create(file)?;
    // More than a chunk, so that whatever keeps chunks together has to part with some.
    for _ in 0..SAVED {
        half.write_all(&content)?;
    }
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL)?;
    Ok(())
}

fn attack(way: &str, target: &Target, canary: &[u8]) -> Brought {
    let ways = outside::WAYS.iter().chain(outside::COMMANDS);
    let Some((_, way)) = ways.into_iter().find(|(name, _)| *name == way) else {
        return Brought::not_tried("this program does not know the way");
    };
    match way(target) {
        Ok(bytes) if contains(&bytes, canary) => {
            Brought { got: Got::Plaintext, detail: format!("{} bytes", bytes.len()) }
        }
        Ok(bytes) if contains(&bytes, &tobari_core::envelope::MAGIC) => {
            Brought { got: Got::Ciphertext, detail: format!("{} bytes", bytes.len()) }
        }
        Ok(bytes) => Brought::nothing(format!("{} bytes, no canary", bytes.len())),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Brought::not_tried(error.to_string()),
        Err(error) => Brought::nothing(error.to_string().chars().take(LONGEST).collect::<String>()),
    }
}

/// Tells of each way whether it was refused; what arrives is seen at the other end.
fn want_out(file: &Path, sinks: &Sinks, program: &Path) -> io::Result<()> {
    let content = fs::read(file)?;
    let canary = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
    for (name, way) in inside::WAYS {
        let mut payload = canary.to_vec();
        payload.extend_from_slice(format!(":{name};").as_bytes());
        let said = match way(&Insider { file, sinks, payload: &payload, program }) {
            Ok(()) => Told { way: (*name).to_owned(), refused: None },
            Err(error) => Told { way: (*name).to_owned(), refused: Some(error.to_string()) },
        };
        // Standard output may be closed: then nothing is told, and what arrives counts alone.
        let _ = serde_json::to_string(&said).map(|line| writeln!(io::stdout(), "{line}"));
    }
    Ok(())
}

/// What is told of a way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its name.
    pub way: String,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
}

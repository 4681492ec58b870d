//! The processes of a session, found by its uid, which the host gives to nobody else.

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use std::io;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How long what was killed may take to go.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
/// The number that bubblewrap's first child has in the session: the program.
const PROGRAM: &str = "2";

/// What `/proc` says about a process.
struct Found {
    pid: Pid,
    uid: u32,
    /// Its numbers, from the host's to the innermost.
    numbers: Vec<String>,
    zombie: bool,
}

fn all() -> io::Result<Vec<Found>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| inspect(entry.file_name().to_str()?.parse().ok()?)).collect())
}

fn inspect(number: i32) -> Option<Found> {
    let status = std::fs::read_to_string(format!("/proc/{number}/status")).ok()?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().split_whitespace()
    };
    Some(Found {
        pid: Pid::from_raw(number)?,
        uid: field("Uid:").next()?.parse().ok()?,
        numbers: field("NSpid:").map(str::to_owned).collect(),
        zombie: field("State:").next() == Some("Z"),
    })
}

/// Ends every process that has one of these uids, and waits until they are gone.
///
/// # Errors
/// When some do not go.
pub(super) fn end(uids: &RangeInclusive<u32>) -> io::Result<()> {
    let start = Instant::now();
    loop {
        let left: Vec<Found> =
            all()?.into_iter().filter(|found| uids.contains(&found.uid) && !found.zombie).collect();
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > KILL_TIMEOUT {
            let detail = format!("{} processes of a session do not end", left.len());
            return Err(io::Error::new(io::ErrorKind::TimedOut, detail));
        }
        for found in left {
            // The number may be another process's by now: hold it, then look again.
            if let Ok(held) = pidfd_open(found.pid, PidfdFlags::empty())
                && inspect(found.pid.as_raw_pid()).is_some_and(|now| uids.contains(&now.uid))
            {
                let _already_gone = pidfd_send_signal(held, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal to the program of the session with this uid, and to what it started in its process group. False when there is none
/// (yet).
pub(super) fn signal(uid: u32, signal: Signal) -> bool {
    let Ok(processes) = all() else { return false };
    let program = processes.iter().find(|found| {
        found.uid == uid
            && found.numbers.len() > 1
            && found.numbers.last().is_some_and(|last| last == PROGRAM)
    });
    program.is_some_and(|program| kill_process_group(program.pid, signal).is_ok())
}

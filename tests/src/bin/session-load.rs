//! What a session costs beyond its program, and what opening a file costs whose grant is not there yet: a real key server and a real
//! daemon on this machine. `tests/bench/run.sh` runs it, as root; each line of output is a name and a number of milliseconds, medians.
//!
//!     TOBARI_BIN_DIR=target/release session-load [ROUNDS]
//!
//! `start` is `tobari run -- true` less `true`, and `alone` is `true`. `uncached` opens files that nobody has opened before in a
//! session, one after the other and without listing their folder, so that each asks the key server; `cached` opens them again.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use anyhow::{Context as _, Result, ensure};
use std::process::{Command, Stdio};
use std::time::Instant;
use tobari_tests::{PEOPLE, Site, is_root};

/// Files that are opened.
const FILES: usize = 100;

/// Opens what its arguments say, twice; prints the median of each time in milliseconds.
const OPENS: &str = "
import os, statistics, sys, time
for name in ('uncached', 'cached'):
    times = []
    for path in sys.argv[1:]:
        start = time.perf_counter()
        handle = os.open(path, os.O_RDONLY)
        times.append(1000 * (time.perf_counter() - start))
        os.close(handle)
    print(f'{name}_open_ms {statistics.median(times):.2f}')
";

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    ensure!(is_root(), "sessions of other users need root");
    let site = Site::reference_case()?;
    let (login, _, uid) = *PEOPLE.first().context("somebody")?;
    let home = site.path("home");
    std::fs::create_dir(&home)?;
    std::os::unix::fs::chown(&home, Some(uid), Some(uid))?;
    let session = |program: &[&str]| -> Result<Command> {
        let mut command = site.command_as(login, &[&["run", "--"], program].concat())?;
        command.env("HOME", &home).env("PATH", "/usr/bin:/bin").current_dir("/").stdin(Stdio::null());
        Ok(command)
    };

    let (mut alone, mut confined) = (Vec::new(), Vec::new());
    // The first one loads what the others find in memory.
    for _ in 0..=rounds {
        alone.push(milliseconds(Command::new("true"))?);
        confined.push(milliseconds(session(&["true"])?)?);
    }
    let (alone, confined) = (median(&mut alone), median(&mut confined));
    println!("alone_ms {alone:.1}");
    println!("start_ms {:.1}", confined - alone);

    let mut files = Vec::new();
    for number in 0..FILES {
        files.push(site.drop_file(format!("{number}.txt"), &[b'x'; 4096])?);
    }
    let names = files.iter().map(|file| file.to_str().context("the harness's own paths are UTF-8"));
    let names: Vec<&str> = names.collect::<Result<_>>()?;
    let output = session(&[&["python3", "-c", OPENS], names.as_slice()].concat())?.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// How long a program takes that has to succeed.
fn milliseconds(mut command: Command) -> Result<f64> {
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed().as_secs_f64() * 1000.0;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(took)
}

/// The middle one.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

//! How long a revocation takes: from the answer to the administrator to the refused read. `tests/bench/revocation.sh` runs it;
//! each line of output is a name and a number.
//!
//!     TOBARI_BIN_DIR=target/release revocation-load [TERMINALS] [ROUNDS]
//!
//! One terminal is a real daemon with a real session, in which a program reads a file that it has open, over and over. The others
//! are simulated: each is enrolled, has a session of its own, waits for changes with the daemon's client, and asks for its
//! decision when it is told. All share this machine with the key server, and their part is in the numbers. Needs root, FUSE, bubblewrap
//! and python3 for the real one; without root it says so and measures the others alone.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tobari_core::clock::SystemClock;
use tobari_core::envelope::Header;
use tobari_core::ids::FileId;
use tobari_core::policy::Right;
use tobari_core::proto::admin::EnrolmentToken;
use tobari_core::proto::api::{
    Affected, Changes, DecisionOutcome, DecisionResponse, GrantItem, GrantRequest, LoginRequest,
    LoginResponse,
};
use tobari_core::proto::base64::Base64;
use tobari_daemon::enrol::{EnrolSettings, enrol};
use tobari_daemon::server::{Call, Credentials, KeyServer, Reply};
use tobari_daemon::sessions::Login;
use tobari_daemon::state::{Enrolment, StateDir};
use tobari_tests::{ADMIN, PEOPLE, Process, Site, password, skipped_without_root};
use zeroize::Zeroizing;

/// Terminals that are enrolled at one time.
const TOGETHER: usize = 4;
/// How long a round may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// Reads a file that is open as often as it can, and says when that begins and ceases to succeed.
const READER: &str = "
import os, sys, time
file, before = os.open(sys.argv[1], os.O_RDONLY), None
while True:
    try:
        os.pread(file, 1, 0)
        now = 1
    except OSError:
        now = 0
    if now != before:
        before = now
        print(now, time.monotonic_ns(), flush=True)
    time.sleep(0.001)
";

/// A terminal now opens the file, or does not: which one, whether, and when.
type News = (usize, bool, u64);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let terminals: usize = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let site = Site::reference_case()?;
    let path = site.drop_file("計測.txt", &[b'x'; 100_000])?;
    let header = Header::read(&std::fs::File::open(&path)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;

    let (told, news) = mpsc::channel::<News>();
    let admin = Simulated::start(&site, runtime.handle(), "admin", ADMIN, token(&site)?)?;
    // Before the threads: a program that one starts would inherit the lock of the state directory of another for an instant.
    let tokens: Vec<_> = (0..terminals).map(|_| token(&site)).collect::<Result<_>>()?;
    let next = AtomicUsize::new(0);
    let waiting: Mutex<Vec<Simulated>> = Mutex::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..TOGETHER)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let index = next.fetch_add(1, Ordering::SeqCst);
                        let Some(token) = tokens.get(index) else { return Ok(()) };
                        let name = format!("terminal-{index}");
                        let one = Simulated::start(&site, runtime.handle(), &name, "bucho", token.clone())?;
                        waiting.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })?;
    let waiting = waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
    let waiting: Vec<Arc<Simulated>> = waiting.into_iter().map(Arc::new).collect();
    let mut threads = Vec::new();
    for (index, one) in waiting.iter().map(Arc::clone).enumerate() {
        let (told, header) = (told.clone(), header.wire_bytes().to_vec());
        threads.push(std::thread::spawn(move || one.follow(index, &header, &told)));
    }
    let reader = reader(&site, &path, terminals, told)?;
    let all = terminals + usize::from(reader.is_some());

    let mut state = vec![false; all];
    settle(&news, &mut state, true, &mut Vec::new())?;
    let (mut simulated, mut real) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let acknowledged = admin.revoke(header.file_id(), true)?;
        let mut heard = Vec::new();
        settle(&news, &mut state, false, &mut heard)?;
        for (index, at) in heard {
            let latency = Duration::from_nanos(at.saturating_sub(acknowledged));
            if index < terminals { simulated.push(latency) } else { real.push(latency) }
        }
        admin.revoke(header.file_id(), false)?;
        settle(&news, &mut state, true, &mut Vec::new())?;
    }
    println!("terminals {terminals}");
    println!("rounds {rounds}");
    for (name, mut latencies) in [("simulated", simulated), ("open_handle", real)] {
        latencies.sort_unstable();
        for percent in [50, 99, 100] {
            let at = latencies.len().saturating_sub(1) * percent / 100;
            if let Some(latency) = latencies.get(at) {
                println!("{name}_{percent}_percent_ms {:.1}", latency.as_secs_f64() * 1000.0);
            }
        }
    }
    drop((reader, news));
    for one in &waiting {
        one.server.close();
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a terminal panicked"))?;
    }
    Ok(())
}

/// Waits until every terminal opens the file, or none; notes when each came to that.
fn settle(
    news: &mpsc::Receiver<News>,
    state: &mut [bool],
    wanted: bool,
    heard: &mut Vec<(usize, u64)>,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while state.iter().any(|open| *open != wanted) {
        let left = deadline.saturating_duration_since(Instant::now());
        let missing = state.iter().filter(|open| **open != wanted).count();
        let (index, open, at) =
            news.recv_timeout(left).with_context(|| format!("{missing} terminals did not hear of it"))?;
        let place = state.get_mut(index).context("a terminal of this run")?;
        if *place != open && open == wanted {
            heard.push((index, at));
        }
        *place = open;
    }
    Ok(())
}

/// The program in a session of the real daemon; none without root.
fn reader(
    site: &Site,
    path: &std::path::Path,
    index: usize,
    told: mpsc::Sender<News>,
) -> Result<Option<Process>> {
    if skipped_without_root("an open handle of a real session") {
        return Ok(None);
    }
    let name = path.to_str().context("the harness's own path is UTF-8")?;
    let home = site.path("home");
    std::fs::create_dir(&home)?;
    let uid = PEOPLE.iter().find(|(login, ..)| *login == "bucho").map(|(.., uid)| *uid);
    std::os::unix::fs::chown(&home, uid, uid)?;
    let mut command = site.command_as("bucho", &["run", "--", "python3", "-c", READER, name])?;
    command.env("HOME", &home).env("PATH", "/usr/bin:/bin").current_dir("/");
    for name in ["DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("a pipe")?;
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((open, at)) = line.split_once(' ')
                && let Ok(at) = at.parse()
                && told.send((index, open == "1", at)).is_err()
            {
                return;
            }
        }
    });
    Ok(Some(child.into()))
}

/// A token that enrols a terminal.
fn token(site: &Site) -> Result<String> {
    let token: EnrolmentToken = serde_json::from_slice(&site.admin(&["token", "--json"])?.ok()?.stdout)?;
    Ok(token.token)
}

/// A terminal without a view, on which somebody is logged in.
struct Simulated {
    server: KeyServer,
    login: Login,
}

impl Simulated {
    fn start(
        site: &Site,
        runtime: &tokio::runtime::Handle,
        name: &str,
        login: &str,
        token: String,
    ) -> Result<Self> {
        let settings = EnrolSettings {
            server: site.url(),
            ca_sha256: site.ca_sha256().to_owned(),
            token: Zeroizing::new(token),
            state_dir: site.path(name),
            name: name.to_owned(),
            force: false,
        };
        enrol(&settings, runtime, Arc::new(SystemClock))?;
        let Enrolment { certificate, certificate_expires_at, tls_key: key, ca, .. } =
            StateDir::open(&settings.state_dir)?.load()?;
        let credentials = Credentials { certificate, certificate_expires_at, key, ca };
        let server =
            KeyServer::new(site.url().parse()?, credentials, runtime.clone(), Arc::new(SystemClock))?;
        let request = LoginRequest { login: login.to_owned(), password: password(login), totp: None };
        let response = Call::post("/v1/sessions", &request)
            .and_then(|call| server.call(call))
            .and_then(Reply::object::<LoginResponse>)
            .map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
        Ok(Self { server, login: Login::from(response) })
    }

    /// Waits for changes and asks for the decision when told of one.
    fn follow(&self, index: usize, header: &[u8], told: &mpsc::Sender<News>) {
        let mut known = 0;
        loop {
            let path = format!("/v1/changes?after={known}&bulletin=1000000000");
            let call = Call { patience: Some(PATIENCE), ..Call::get(&path) };
            let changes = match self.server.call(call).and_then(Reply::object::<Changes>) {
                Ok(changes) => changes,
                // Closed at the end of the run.
                Err(problem) if problem.detail.contains("is stopping") => return,
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(250));
                    continue;
                }
            };
            known = changes.version;
            if changes.decisions == Affected::Nobody {
                continue;
            }
            let item = GrantItem {
                header: Base64(header.to_vec()),
                right: Right::View,
                name: None,
                new_label: None,
            };
            let answer = Call::post("/v1/decisions", &GrantRequest { items: vec![item] })
                .and_then(|call| self.server.call(call.with_token(&self.login.token)))
                .and_then(Reply::object::<DecisionResponse>);
            let open = answer.is_ok_and(|answer| {
                answer.decisions.iter().all(|decision| {
                    matches!(decision, DecisionOutcome::Decided { rights, .. } if rights.contains(Right::View))
                })
            });
            if told.send((index, open, now())).is_err() {
                return;
            }
        }
    }

    /// Revokes the file, or lifts that; when it was acknowledged.
    fn revoke(&self, file: FileId, revoke: bool) -> Result<u64> {
        let path = if revoke { "/v1/admin/revocations" } else { "/v1/admin/revocations/lift" };
        let input = json!({ "kind": "file", "id": file, "reason": "measured" });
        let reply = Call::post(path, &input)
            .and_then(|call| self.server.call(call.with_token(&self.login.token)))
            .map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
        let at = now();
        ensure!(reply.status.is_success(), "{}", reply.status);
        Ok(at)
    }
}

/// Nanoseconds of the clock that python calls `monotonic`.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

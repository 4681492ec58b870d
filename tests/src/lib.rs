//! Harness: a [`Site`] is one organisation on this machine, made of the real programs — a key server, an enrolled
//! daemon and the command line — on a free port in a folder of its own. Everything is stopped and removed on drop.
//!
//! The programs come from `TOBARI_BIN_DIR`, or else from the build's own output folder.

use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a condition may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The people of the reference case: login name, post, and the uid under which their commands run.
pub const PEOPLE: [(&str, &str, u32); 3] =
    [("bucho", "部長", 61001), ("kacho", "課長", 61002), ("ippan", "一般", 61003)];

/// What the programs of a site log to.
const LOGS: [&str; 2] = ["keyserver.log", "tobarid.log"];

/// The administrator's login name; its commands run as the test's own user.
pub const ADMIN: &str = "admin";

/// Password of a person of the harness.
pub fn password(login: &str) -> String {
    format!("{login}-Tobari-2026")
}

/// Whether the test runs as root; see [`skipped_without_root`].
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says loudly that `what` is not tested here, unless the test runs as root.
pub fn skipped_without_root(what: &str) -> bool {
    if !is_root() {
        skipped(format!("{what}: not root"));
    }
    !is_root()
}

/// Says what is not tested here; past the capture of output, which keeps what a passing test prints from everybody.
pub fn skipped(what: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("!! SKIPPED: {what}\n").as_bytes());
}

/// Folder of the programs under test.
pub fn bin_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("TOBARI_BIN_DIR") {
        return Ok(PathBuf::from(dir));
    }
    let exe = std::env::current_exe()?;
    let dir = exe.ancestors().nth(2).context("the test program lies in target/<profile>/deps")?;
    Ok(dir.to_owned())
}

/// Waits until `condition` holds, at most [`DEADLINE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !condition() {
        ensure!(start.elapsed() < DEADLINE, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A port of TCP on which nobody listens, and that no other site of this process has had. It is below those that the
/// kernel gives to clients (from 32768), so that it is still free when a server that was stopped starts again.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..1000 {
        let offset = std::process::id().wrapping_mul(131).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(20_000 + offset % 12_000)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port found")
}

/// A child process that is stopped with SIGTERM, then SIGKILL, on drop.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for that.
    pub fn terminate(&mut self) -> Result<()> {
        if self.0.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let start = Instant::now();
        while self.0.try_wait()?.is_none() {
            if start.elapsed() > DEADLINE {
                self.0.kill()?;
                self.0.wait()?;
                bail!("the process did not end on SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// [`wait_until`], as long as it runs.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
        let mut ended = None;
        wait_until(what, || {
            ended = self.0.try_wait().ok().flatten();
            ended.is_some() || condition()
        })?;
        match ended {
            None => Ok(()),
            Some(status) => bail!("waited for {what}, and the process ended: {status}"),
        }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.terminate();
    }
}

/// What a command of the command line answered.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, lossy.
    pub stderr: String,
}

impl Answer {
    /// Standard output as text, lossy.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.stdout).with_context(|| format!("not JSON: {self:?}"))
    }

    /// Fails unless the command succeeded.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == 0, "exit {}: {}{}", self.code, self.text(), self.stderr);
        Ok(self)
    }

    /// Fails unless the command ended with `code`.
    pub fn fails_with(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "exit {} instead of {code}: {}{}", self.code, self.text(), self.stderr);
        Ok(self)
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        Self {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// One organisation: key server, daemon, folder.
#[derive(Debug)]
pub struct Site {
    root: tempfile::TempDir,
    port: u16,
    ca_sha256: String,
    key_server: Option<Process>,
    daemon: Option<Process>,
    /// Roles of the daemon, for its next start.
    pub roles: Vec<&'static str>,
    /// More lines for `[seal]` of the daemon's configuration, and tables after it, for its next start.
    pub seal_settings: String,
    /// A program, with its arguments, that becomes the daemon at its next start.
    pub daemon_wrapper: Vec<String>,
    /// The same for `[session]`.
    pub session_settings: String,
    /// Log filter of the programs, where it is not their own.
    log: Option<&'static str>,
    /// Environment variables of the daemon, for its next start.
    pub daemon_environment: Vec<(String, String)>,
    /// Lines of the key server's configuration, for its next start.
    pub key_server_settings: String,
    /// URL of the PostgreSQL database that the key server works on, instead of its own file.
    store: Option<String>,
}

impl Site {
    /// Key server and daemon, administrator logged in, no policy yet.
    pub fn start() -> Result<Self> {
        let mut site = Self::key_server_only()?;
        let token = std::fs::read_to_string(site.path("enrolment.token"))?;
        site.enrol("daemon", token.trim())?.ok()?;
        site.start_daemon()?;
        site.login(ADMIN)?.ok()?;
        Ok(site)
    }

    /// The key server alone, initialised and answering.
    pub fn key_server_only() -> Result<Self> {
        Self::key_server_over(None)
    }

    /// The same, moved to an empty PostgreSQL database with this URL, where there is one.
    pub fn key_server_over(store: Option<String>) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("tobari-test-").tempdir()?;
        // Other uids of the test reach the socket and the shared folder below it.
        set_mode(root.path(), 0o755)?;
        let port = free_port()?;
        let mut site = Self {
            root,
            port,
            ca_sha256: String::new(),
            key_server: None,
            daemon: None,
            roles: vec!["seal", "view"],
            seal_settings: String::new(),
            daemon_wrapper: Vec::new(),
            session_settings: String::new(),
            log: None,
            daemon_environment: Vec::new(),
            key_server_settings: String::new(),
            store,
        };
        write_private(&site.path("admin.password"), password(ADMIN).as_bytes())?;
        let init = site
            .run("tobari-keyserver", |command| {
                command
                    .arg("init")
                    .arg("--data-dir")
                    .arg(site.path("keyserver"))
                    .args(["--organisation", "みほん市", "--admin", ADMIN])
                    .arg("--admin-password-file")
                    .arg(site.path("admin.password"))
                    .arg("--recovery-key-out")
                    .arg(site.path("recovery.key"))
                    .arg("--token-out")
                    .arg(site.path("enrolment.token"));
            })?
            .ok()?;
        site.ca_sha256 = init
            .text()
            .split(|c: char| !c.is_ascii_hexdigit())
            .find(|word| word.len() == 64)
            .context("init prints the CA's SHA-256")?
            .to_owned();
        if let Some(store) = &site.store {
            let data = site.path("keyserver");
            site.run("tobari-keyserver", |command| {
                command.arg("migrate-store").arg("--data-dir").arg(data).args(["--to", store]);
            })?
            .ok()?;
        }
        site.start_key_server()?;
        Ok(site)
    }

    /// [`Site::start`] with the reference case of the specification: the 企業 preset, 総務部 with the three
    /// [`PEOPLE`], all logged in under their uids (as root), and a designated folder under 社外秘.
    pub fn reference_case() -> Result<Self> {
        let site = Self::start()?;
        site.admin(&["preset", "apply", "kigyo"])?.ok()?;
        site.admin(&["group", "add", "総務部"])?.ok()?;
        for (login, post, _) in PEOPLE {
            site.add_person(login, &format!("総務部:{post}"))?.ok()?;
        }
        std::fs::create_dir_all(site.folder())?;
        set_mode(&site.folder(), 0o1777)?;
        let folder = site.folder();
        let folder = folder.to_str().context("the harness's own path is UTF-8")?;
        site.admin(&["folder", "add", folder, "--label", "社外秘", "--owner-group", "総務部"])?.ok()?;
        wait_until("the folder to be watched", || site.watches(folder))?;
        if is_root() {
            for (login, ..) in PEOPLE {
                site.login(login)?.ok()?;
            }
        }
        Ok(site)
    }

    fn watches(&self, folder: &str) -> bool {
        let Ok(status) = self.tobari(ADMIN, &["status", "--json"]).and_then(|answer| answer.json()) else {
            return false;
        };
        let text = status.to_string();
        text.contains(folder) && text.contains("\"Ok\"")
    }

    /// The designated folder of [`Site::reference_case`].
    pub fn folder(&self) -> PathBuf {
        self.path("共有/総務部")
    }

    /// A path below the site's own folder.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(relative)
    }

    /// The key server's base URL.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// SHA-256 of the CA certificate, hexadecimal.
    pub fn ca_sha256(&self) -> &str {
        &self.ca_sha256
    }

    /// Starts the key server and waits until it listens.
    pub fn start_key_server(&mut self) -> Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.path("keyserver.log"))?;
        let mut command = Command::new(bin_dir()?.join("tobari-keyserver"));
        command.arg("serve");
        match &self.store {
            None => command.arg("--data-dir").arg(self.path("keyserver")),
            Some(url) => {
                command.args(["--store", url, "--root-key-file"]).arg(self.path("keyserver/root.key"))
            }
        };
        if !self.key_server_settings.is_empty() {
            let config = self.path("keyserver.toml");
            std::fs::write(&config, &self.key_server_settings)?;
            command.arg("--config").arg(config);
        }
        let child = command
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .envs(self.log.map(|filter| ("TOBARI_LOG", filter)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let (process, port) = (self.key_server.insert(Process(child)), self.port);
        process.wait_until("the key server to listen", || TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// Both programs again, with this log filter.
    pub fn start_again_with_log(&mut self, filter: &'static str) -> Result<()> {
        self.daemon()?.terminate()?;
        self.key_server()?.terminate()?;
        self.log = Some(filter);
        self.start_key_server()?;
        self.start_daemon()
    }

    /// The running key server.
    pub fn key_server(&mut self) -> Result<&mut Process> {
        self.key_server.as_mut().context("the key server runs")
    }

    /// Enrols a terminal whose state lies in the folder `state` of the site.
    pub fn enrol(&self, state: &str, token: &str) -> Result<Answer> {
        self.run("tobarid", |command| {
            command
                .args(["enrol", "--server", &self.url(), "--ca-sha256", &self.ca_sha256])
                .args(["--token", token, "--name", "テスト端末", "--state-dir"])
                .arg(self.path(state));
        })
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self) -> Result<()> {
        let config = self.path("tobarid.toml");
        let (state, socket) = (self.path("daemon"), self.socket());
        std::fs::write(
            &config,
            format!(
                "state_dir = {state:?}
socket = {socket:?}
roles = {:?}
{}
[seal]
retry_seconds = 2
{}
\
                 [session]
first_uid = {}
uids = 256
{}",
                self.roles,
                self.log.map(|filter| format!("log = {filter:?}")).unwrap_or_default(),
                self.seal_settings,
                self.first_session_uid(),
                self.session_settings
            ),
        )?;
        let log = std::fs::File::options().create(true).append(true).open(self.path("tobarid.log"))?;
        let program = bin_dir()?.join("tobarid").into_os_string();
        let mut line = self.daemon_wrapper.iter().map(Into::into).chain([program]);
        let child = Command::new(line.next().context("the daemon's program")?)
            .args(line)
            .args(["run", "--config"])
            .arg(&config)
            .envs(self.daemon_environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut process = Process(child);
        let started = process.wait_until("the daemon to answer", || {
            self.tobari(ADMIN, &["status"]).is_ok_and(|answer| answer.code == 0)
        });
        self.daemon = Some(process);
        started
    }

    /// The first of 256 uids of this site's sessions. No other site of this machine has them: no other has the port.
    pub fn first_session_uid(&self) -> u32 {
        0x7b00_0000 + u32::from(self.port) * 256
    }

    /// The running daemon.
    pub fn daemon(&mut self) -> Result<&mut Process> {
        self.daemon.as_mut().context("the daemon runs")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// Runs `tobari` as the OS user of a person (the test's own user for the administrator, or without root).
    pub fn tobari(&self, login: &str, args: &[impl AsRef<OsStr>]) -> Result<Answer> {
        self.tobari_with(login, args, b"")
    }

    /// [`Site::tobari`] with standard input.
    pub fn tobari_with(&self, login: &str, args: &[impl AsRef<OsStr>], stdin: &[u8]) -> Result<Answer> {
        feed(self.command_as(login, args)?, stdin)
    }

    /// The command of [`Site::tobari`], not started.
    pub fn command_as(&self, login: &str, args: &[impl AsRef<OsStr>]) -> Result<Command> {
        let mut command = self.command("tobari")?;
        let state = self.path(format!("state-{login}"));
        command.args(args).env("XDG_STATE_HOME", &state);
        std::fs::create_dir_all(&state)?;
        if is_root()
            && let Some((_, _, uid)) = PEOPLE.iter().find(|(name, ..)| *name == login)
        {
            std::os::unix::fs::chown(&state, Some(*uid), Some(*uid))?;
            command.uid(*uid).gid(*uid);
        }
        Ok(command)
    }

    /// `tobari admin …` as the administrator.
    pub fn admin(&self, args: &[&str]) -> Result<Answer> {
        let args: Vec<&str> = std::iter::once("admin").chain(args.iter().copied()).collect();
        self.tobari(ADMIN, &args)
    }

    /// Adds a person with one membership, `group:post`.
    pub fn add_person(&self, login: &str, membership: &str) -> Result<Answer> {
        let args = [
            "admin",
            "person",
            "add",
            login,
            "--name",
            login,
            "--membership",
            membership,
            "--password-stdin",
        ];
        self.tobari_with(ADMIN, &args, password(login).as_bytes())
    }

    /// Logs a person in.
    pub fn login(&self, login: &str) -> Result<Answer> {
        self.tobari_with(login, &["login", login, "--password-stdin"], password(login).as_bytes())
    }

    /// Writes a file into the designated folder, waits until it is sealed, and gives its path.
    pub fn drop_file(&self, name: impl AsRef<Path>, content: &[u8]) -> Result<PathBuf> {
        let path = self.folder().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content)?;
        set_mode(&path, 0o644)?;
        wait_until(&format!("{path:?} to be sealed"), || is_sealed(&path))?;
        Ok(path)
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(bin_dir()?.join(program));
        command
            .env_remove("LC_ALL")
            .env_remove("LC_MESSAGES")
            .env("LANG", "C.UTF-8")
            .env("TOBARI_LANG", "en")
            .env("TOBARI_SOCKET", self.socket())
            .current_dir(self.root.path());
        Ok(command)
    }

    fn run(&self, program: &str, build: impl FnOnce(&mut Command)) -> Result<Answer> {
        let mut command = self.command(program)?;
        build(&mut command);
        feed(command, b"")
    }
}

impl Site {
    /// Which of the site's secrets is in which of its logs: passwords, the enrolment token, the root key, the recovery key.
    fn leaked(&self) -> Option<String> {
        let read = |name: &str| {
            let bytes = std::fs::read(self.path(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut secrets = vec![password("")];
        for file in ["enrolment.token", "keyserver/root.key", "recovery.key"] {
            // Some have a title, too.
            let (text, long) = (read(file), |line: &&str| line.len() >= 32 && !line.contains(' '));
            secrets.extend(text.lines().map(str::trim).filter(long).map(str::to_owned));
        }
        for log in LOGS {
            let text = read(log);
            if let Some(secret) = secrets.iter().find(|secret| text.contains(secret.as_str())) {
                return Some(format!("{secret} is in {log}"));
            }
        }
        None
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The daemon first: it talks to the key server while it ends.
        self.daemon.take();
        self.key_server.take();
        if !std::thread::panicking() {
            assert_eq!(self.leaked(), None, "no secret reaches a log");
        } else {
            for log in LOGS {
                let text = std::fs::read_to_string(self.path(log)).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(15).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                let _ = writeln!(std::io::stderr(), "--- {log}\n{}", tail.join("\n"));
            }
        }
    }
}

/// Whether the file begins with the magic of an envelope.
pub fn is_sealed(path: &Path) -> bool {
    use std::io::Read as _;
    let mut prefix = [0; 8];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut prefix)).is_ok()
        && tobari_core::envelope::looks_sealed(&prefix)
}

/// Sets the permission bits of a file or folder.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)?;
    Ok(())
}

fn feed(mut command: Command, stdin: &[u8]) -> Result<Answer> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        match pipe.write_all(stdin) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
    }
    Ok(child.wait_with_output()?.into())
}

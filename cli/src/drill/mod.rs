//! `tobari drill`: attacks a live installation with a canary and shows what each way out brought. What each may bring at most
//! is in `expected.toml`, and a plaintext byte beyond that is a failure. Every way is tried on a plain file or
//! without a session first: one that brings nothing there is not counted as tried.
//!
//! The ways are in [`outside`] and [`inside`], where things arrive in [`mod@bench`], the processes that try them in [`helper`].
//! Everything that a drill mounts it mounts in namespaces that end with it, so a killed drill leaves files alone, and
//! the next one removes them.

pub mod bench;
pub mod expected;
pub mod helper;
pub mod inside;
pub mod outside;
mod people;
mod report;

use crate::app::App;
use crate::args::Drill;
use crate::error::{Action, Error};
use bench::{Bench, PREFIX};
use expected::{Promise, Role, expected};
use helper::{Brought, Got, Task, Told, contains};
use outside::Target;
use people::User;
use report::Found;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tobari_core::crypto::random_bytes;
use tobari_core::envelope::looks_sealed;

/// How long a way, or a holder, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long all ways of one program in a session may take.
const LONG_PATIENCE: Duration = Duration::from_secs(300);
/// Lines of canary in a file: more than a chunk.
const LINES: usize = 2048;

/// `tobari drill`.
///
/// # Errors
/// When the drill cannot be held, or something leaked.
pub fn run(args: &Drill, app: &mut App) -> Result<(), Error> {
    let program = std::env::current_exe().map_err(Action::Read.failed(Path::new("/proc/self/exe")))?;
    if let Some(task) = &args.task {
        let task: Task = serde_json::from_str(task).map_err(|error| failed("--task")(error.into()))?;
        return helper::run(task, &program).map_err(failed("--task"));
    }
    let Some(folder) = &args.folder else { return Ok(()) };
    let home = app.console.variable("HOME").map(Path::new);
    let user = User::find(args.user, home).map_err(failed("--user"))?;
    let drill = Exercise::begin(folder, args.scratch.as_deref(), user, program, app)?;
    let mut found = Vec::new();
    let chosen = |role| args.role.is_empty() || args.role.contains(&role);
    if chosen(Role::Outside) {
        found.extend(drill.attack_all(Role::Outside, &drill.user, outside::WAYS)?);
    }
    if chosen(Role::Inside) {
        found.extend(drill.get_all_out()?);
    }
    if chosen(Role::Other) {
        let other =
            args.other.map(|uid| User::find(Some(uid), None)).transpose().map_err(failed("--other"))?;
        match other {
            Some(other) => found.extend(drill.attack_all(Role::Other, &other, outside::WAYS)?),
            None => found.extend(untried(Role::Other, "needs --other UID, as root")),
        }
    }
    if chosen(Role::View) {
        if args.role.contains(&Role::View) {
            found.extend(drill.attack_all(Role::View, &drill.user, outside::COMMANDS)?);
        } else {
            found.extend(untried(Role::View, "needs --role view, and somebody who may view and no more"));
        }
    }
    drop(drill);
    report::show(app, &found)
}

fn failed(what: &str) -> impl Fn(io::Error) -> Error + use<> {
    let path = PathBuf::from(what);
    move |source| Action::Read.failed(&path)(source)
}

fn untried(role: Role, why: &str) -> Vec<Found> {
    let not = |(channel, at_most)| Found::new(role, channel, at_most, Brought::not_tried(why));
    expected().of(role).map(not).collect()
}

/// A drill that is being held: canaries in their places, processes that hold them.
struct Exercise {
    token: String,
    canary: String,
    user: User,
    program: PathBuf,
    socket: PathBuf,
    /// Our directory, outside every protected folder.
    directory: PathBuf,
    /// The sealed canary and another.
    sealed: PathBuf,
    spare: PathBuf,
    /// A plain folder with the same in it.
    plain: PathBuf,
}

impl Exercise {
    fn begin(
        folder: &Path,
        scratch: Option<&Path>,
        user: User,
        program: PathBuf,
        app: &App,
    ) -> Result<Self, Error> {
        let scratch = scratch.map_or_else(|| user.home.clone(), Path::to_owned);
        for place in
            [scratch.as_path(), folder, Path::new("/tmp"), Path::new("/var/tmp"), Path::new("/dev/shm")]
        {
            remove_of_the_dead(place);
        }
        let token = format!("{}-{}", std::process::id(), data_hex(&random_bytes::<8>()));
        let canary = format!("TOBARI-DRILL-{}", data_hex(&random_bytes::<16>()));
        let directory = scratch.join(format!("{PREFIX}{token}"));
        let plain = directory.join("plain");
        for new in [&directory, &plain] {
            fs::create_dir(new).map_err(Action::Write.failed(new))?;
            user.give(new).map_err(Action::Write.failed(new))?;
        }
        // What a view would be, if it were not closed.
        let views = directory.join("views");
        fs::create_dir(&views).map_err(Action::Write.failed(&views))?;
        let name = |number: u32| format!("{PREFIX}{token}-{number}.txt");
        let drill = Self {
            sealed: folder.join(name(1)),
            spare: folder.join(name(2)),
            plain: plain.clone(),
            socket: app.settings.socket.clone(),
            token,
            canary,
            user,
            program,
            directory,
        };
        let content = format!("{}\n", drill.canary).repeat(LINES);
        let plains = [plain.join("1"), plain.join("2"), views.join("1")];
        for path in [&drill.sealed, &drill.spare].into_iter().chain(&plains) {
            fs::write(path, &content).map_err(Action::Write.failed(path))?;
            drill.user.give(path).map_err(Action::Write.failed(path))?;
        }
        for path in [&drill.sealed, &drill.spare] {
            wait_until_sealed(path)?;
        }
        Ok(drill)
    }

    /// The command of a helper under a user.
    fn helper(&self, task: &Task, user: &User) -> Result<Command, Error> {
        let task = serde_json::to_string(task).map_err(|error| failed("--task")(error.into()))?;
        let mut command = Command::new(&self.program);
        command.args(["drill", "--task", &task]);
        self.dress(&mut command, user);
        Ok(command)
    }

    fn dress(&self, command: &mut Command, user: &User) {
        user.dress(command);
        command.current_dir("/").env(crate::environment::SOCKET, &self.socket);
    }

    fn target(&self, real: bool, process: Option<i32>, attacker: &User) -> Result<Target, Error> {
        let number = fs::read_dir(&self.directory).map_or(0, Iterator::count);
        let scratch = self.directory.join(format!("attack-{number}"));
        fs::create_dir(&scratch).map_err(Action::Write.failed(&scratch))?;
        attacker.give(&scratch).map_err(Action::Write.failed(&scratch))?;
        let (file, spare, socket) = if real {
            (self.sealed.clone(), self.spare.clone(), self.socket.clone())
        } else {
            (self.plain.join("1"), self.plain.join("2"), self.directory.join("no.sock"))
        };
        Ok(Target { file, spare, process, scratch, socket, program: self.program.clone() })
    }

    fn attack(&self, way: &str, target: Target, attacker: &User) -> Result<Brought, Error> {
        let mut command =
            self.helper(&Task::Attack { way: way.to_owned(), target: Box::new(target) }, attacker)?;
        let output = finish(&mut command, self.canary.as_bytes(), PATIENCE).map_err(failed(way))?;
        Ok(match output.and_then(|output| serde_json::from_slice(&output.stdout).ok()) {
            Some(brought) => brought,
            None => Brought::not_tried("the attack did not end"),
        })
    }

    /// All ways of a table: the control as the owner first, then in earnest.
    fn attack_all(
        &self,
        role: Role,
        attacker: &User,
        ways: &[(&str, outside::Way)],
    ) -> Result<Vec<Found>, Error> {
        let plain = self.plain.join("1");
        let mut open = Holder::start(self.helper(&Task::Hold { file: plain.clone() }, &self.user)?, plain);
        let file = self.sealed.clone();
        let mut closed = Holder::start(self.in_session(&Task::Hold { file: file.clone() })?, file);
        let mut found = Vec::new();
        for (channel, at_most) in expected().of(role) {
            let Some((way, _)) = ways.iter().find(|(name, _)| *name == channel.id) else { continue };
            let control = self.attack(way, self.target(false, open.process(), &self.user)?, &self.user)?;
            let brought = if control.got != Got::Plaintext {
                Brought::not_tried(format!("the control found nothing: {}", control.detail))
            } else if needs_process(way) && closed.process().is_none() {
                Brought::not_tried(format!("no session: {}", closed.why()))
            } else {
                self.attack(way, self.target(true, closed.process(), attacker)?, attacker)?
            };
            // A way may have ended them, or taken the spare file away.
            open.again();
            closed.again();
            self.restore_spare()?;
            found.push(Found::new(role, channel, at_most, brought));
        }
        Ok(found)
    }

    fn restore_spare(&self) -> Result<(), Error> {
        let content = || format!("{}\n", self.canary).repeat(LINES);
        let plain = self.plain.join("2");
        for path in [&plain, &self.spare] {
            if !path.exists() {
                fs::write(path, content()).map_err(Action::Write.failed(path))?;
                self.user.give(path).map_err(Action::Write.failed(path))?;
            }
        }
        wait_until_sealed(&self.spare)
    }

    /// The same helper in a session of the user.
    fn in_session(&self, task: &Task) -> Result<Command, Error> {
        let task = serde_json::to_string(task).map_err(|error| failed("--task")(error.into()))?;
        let mut command = Command::new(&self.program);
        command.args(["run", "--"]).arg(&self.program).args(["drill", "--task", &task]);
        self.dress(&mut command, &self.user);
        Ok(command)
    }

    fn get_all_out(&self) -> Result<Vec<Found>, Error> {
        let control = self.get_out(false)?;
        let earnest = self.get_out(true)?;
        let found = expected().of(Role::Inside).map(|(channel, at_most)| {
            let brought = match (control.of(&channel.id), earnest.of(&channel.id)) {
                (control, _) if control.got != Got::Plaintext => {
                    Brought::not_tried(format!("the control got nothing out: {}", control.detail))
                }
                (_, earnest) => earnest,
            };
            Found::new(Role::Inside, channel, at_most, brought)
        });
        Ok(found.collect())
    }

    fn get_out(&self, real: bool) -> Result<Escape, Error> {
        let (token, file) = if real {
            (format!("{}-real", self.token), self.sealed.clone())
        } else {
            (format!("{}-control", self.token), self.plain.join("1"))
        };
        // Short: the path of a socket has to be.
        let directory = self.directory.join(if real { "real" } else { "control" });
        fs::create_dir(&directory).map_err(Action::Write.failed(&directory))?;
        let mut bench = Bench::new(&directory, &token, self.user.home.clone(), self.user.runtime())
            .map_err(Action::Write.failed(&directory))?;
        let sinks = &bench.sinks;
        for path in [&directory, &sinks.scratch, &sinks.unix, &sinks.bus].into_iter().chain(&sinks.terminal) {
            self.user.give(path).map_err(Action::Write.failed(path))?;
        }
        bench.sinks.control = real.then(|| self.socket.clone());
        let planted = bench.sinks.beside(&file, "planted");
        let _ = std::os::unix::fs::symlink(bench.sinks.scratch.join("planted"), planted);
        // Somebody outside, whom a signal would reach.
        let outsider =
            self.helper(&Task::Wait, &self.user)?.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut outsider = outsider.map_err(failed("outsider"))?;
        bench.sinks.outsider = i32::try_from(outsider.id()).unwrap_or(i32::MAX);
        let task = Task::Inside { file: file.clone(), sinks: Box::new(bench.sinks.clone()) };
        let command = if real { self.in_session(&task)? } else { self.helper(&task, &self.user)? };
        let mut command = self.user.with_raw_sockets(command);
        let output = finish(&mut command, b"", LONG_PATIENCE).map_err(failed("inside"))?;
        let _ = outsider.kill();
        let _ = outsider.wait();
        // What lies in the folder may not be sealed yet, and is looked at when it is.
        let sealed = if real { wait_for_sealed(&bench, &file) } else { Vec::new() };
        let mut arrived = bench.collect(&file);
        let output = output.map(|output| (output.stdout, output.stderr, output.status.success()));
        let (stdout, stderr, ended) = output.unwrap_or_default();
        arrived.extend_from_slice(&stdout);
        bench.clear(&file);
        let told: Vec<Told> = stdout
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        let stderr = String::from_utf8_lossy(&stderr);
        let why = stderr.lines().next().unwrap_or(if ended { "" } else { "it did not end" }).to_owned();
        Ok(Escape { arrived, sealed, told, canary: self.canary.clone(), why })
    }
}

/// Waits for what lies beside `file`, and gives the names of what is sealed.
fn wait_for_sealed(bench: &Bench, file: &Path) -> Vec<String> {
    let mut sealed = Vec::new();
    for entry in fs::read_dir(file.parent().unwrap_or(Path::new("/"))).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let full = entry.metadata().is_ok_and(|found| found.is_file() && found.len() > 0);
        // What is not sealed in the end is found by the search for the canary.
        if name.contains(&bench.sinks.token) && full && wait_until_sealed(&entry.path()).is_ok() {
            sealed.push(name);
        }
    }
    sealed
}

impl Drop for Exercise {
    fn drop(&mut self) {
        let folder = self.sealed.parent().unwrap_or(Path::new("/"));
        bench::remove_named(folder, &format!("{PREFIX}{}", self.token));
        let _ = fs::remove_dir_all(&self.directory);
        // Files of the user, when root drills for them.
        for path in [&self.sealed, &self.spare] {
            let _ = fs::remove_file(path);
        }
    }
}

/// What a program that wanted out achieved.
struct Escape {
    arrived: Vec<u8>,
    /// Names of envelopes that it left in the folder.
    sealed: Vec<String>,
    told: Vec<Told>,
    canary: String,
    why: String,
}

impl Escape {
    fn of(&self, way: &str) -> Brought {
        let payload = format!("{}:{way};", self.canary);
        if contains(&self.arrived, payload.as_bytes()) {
            return Brought { got: Got::Plaintext, detail: String::from("it arrived outside") };
        }
        let left = inside::LEFT.iter().find(|(left, _)| *left == way);
        if let Some(name) = left.and_then(|(_, end)| self.sealed.iter().find(|name| name.ends_with(end))) {
            return Brought { got: Got::Ciphertext, detail: format!("{name} is sealed") };
        }
        match self.told.iter().find(|told| told.way == way) {
            Some(Told { refused: Some(why), .. }) => Brought::nothing(why.clone()),
            Some(Told { refused: None, .. }) => {
                Brought::nothing("written, and nothing of it arrived outside")
            }
            // Standard output may be closed to a session; other ways than those that arrive cannot be told then.
            None if self.told.is_empty() => Brought::not_tried(format!("no session: {}", self.why)),
            None => Brought::not_tried("it was not told"),
        }
    }
}

/// A process that has the content open.
struct Holder {
    command: Command,
    /// What it holds.
    file: PathBuf,
    running: Option<(Child, Option<ChildStdin>, Option<i32>)>,
    why: String,
}

impl Holder {
    fn start(command: Command, file: PathBuf) -> Self {
        let mut holder = Self { command, file, running: None, why: String::new() };
        holder.again();
        holder
    }

    /// Starts it if it does not run.
    fn again(&mut self) {
        if let Some((child, _, _)) = &mut self.running {
            let alive = matches!(child.try_wait(), Ok(None));
            let there = self.process().is_some_and(|pid| Path::new(&format!("/proc/{pid}/cmdline")).exists());
            if alive && there {
                return;
            }
            self.end();
        }
        match self.spawn() {
            Ok(running) => self.running = Some(running),
            Err(error) => self.why = error.to_string(),
        }
    }

    fn spawn(&mut self) -> io::Result<(Child, Option<ChildStdin>, Option<i32>)> {
        let mut child =
            self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let output = child.stdout.take();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = output.map(|output| BufReader::new(output).read_line(&mut line));
            let _ = tell.send(matches!(read, Some(Ok(length)) if length > 0) && line.starts_with("holding"));
        });
        if told.recv_timeout(PATIENCE) == Ok(true) {
            let process = holding(&self.file);
            return Ok((child, stdin, process));
        }
        let _ = child.kill();
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(said.lines().next().unwrap_or("it said nothing").to_owned()))
    }

    fn process(&self) -> Option<i32> {
        self.running.as_ref().and_then(|(_, _, process)| *process)
    }

    fn why(&self) -> &str {
        &self.why
    }

    fn end(&mut self) {
        if let Some((mut child, stdin, _)) = self.running.take() {
            drop(stdin);
            if wait(&mut child, Duration::from_secs(5)).is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.end();
    }
}

/// The process that holds `file`, whoever started it: those of a session are the daemon's children.
fn holding(file: &Path) -> Option<i32> {
    let name = file.to_string_lossy();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        // `tobari drill --task`, and not `tobari run -- tobari drill --task` or what starts that.
        let [_, b"drill", b"--task", task, ..] = words.as_slice() else { continue };
        if matches!(serde_json::from_slice(task), Ok(Task::Hold { file }) if file.to_string_lossy() == name) {
            return Some(pid);
        }
    }
    None
}

fn needs_process(way: &str) -> bool {
    way.starts_with("proc-")
        || matches!(
            way,
            "ptrace" | "process-vm-readv" | "pidfd-getfd" | "namespaces" | "stop-and-read" | "core-dump"
        )
}

/// Runs a command to its end; none when it took too long.
fn finish(command: &mut Command, input: &[u8], patience: Duration) -> io::Result<Option<Output>> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input).and_then(|()| stdin.write_all(b"\n"));
    }
    // Read beside the waiting: a full pipe would hold the child up.
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = wait(&mut child, patience);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (stdout.recv_timeout(PATIENCE), stderr.recv_timeout(PATIENCE));
    Ok(status.map(|status| Output {
        status,
        stdout: stdout.unwrap_or_default(),
        stderr: stderr.unwrap_or_default(),
    }))
}

fn drain(stream: Option<impl io::Read + Send + 'static>) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
        let _ = tell.send(bytes);
    });
    told
}

fn wait(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if begin.elapsed() < patience => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => return None,
        }
    }
}

fn wait_until_sealed(path: &Path) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        let mut start = [0; 8];
        let read = fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut start));
        if read.is_ok() && looks_sealed(&start) {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(Error::NotSealed(path.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes what drills left that do not run any more; their number is in the name.
fn remove_of_the_dead(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let Some(pid) = rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            bench::remove_named(place, &name);
        }
    }
}

fn data_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether something was got that was not to be had.
fn is_leak(got: Got, at_most: Promise) -> bool {
    got == Got::Plaintext && at_most != Promise::Plaintext
}

#[cfg(test)]
mod tests;

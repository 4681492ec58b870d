//! The daemon's side of a session: checks who asks, mounts the views, starts the outer stage, watches over it, and takes
//! everything away again.

use super::access::SessionAccess;
use super::mark::Mark;
use super::processes;
use super::running::Place;
use super::settings::{Home, SessionSettings};
use super::spec::{Socket, Spec, ViewAt};
use super::user::{LocalUser, variable};
use crate::config::Role;
use crate::failure::Failure;
use crate::seal::{FolderError, FolderRule};
use crate::service::{Caller, Service};
use crate::view::{Access, Folder, Mount, Options};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use tobari_core::policy::Label;
use tobari_core::proto::control::{Answer, Program, Request};
use tobari_core::proto::frame::{receive_frame, send_frame};
use tobari_core::proto::problem::ProblemCode;

/// Most bytes of what the stages say when they fail.
const MOST_SAID: u64 = 64 << 10;
/// Signals that end a program which knows nothing of them.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];
/// Most refusals that wait to be told.
const NOTICES: usize = 64;

/// Runs a program in a session of `caller`, who is at the other end of `stream`, and waits until it has ended. What the
/// views refuse meanwhile is given to `tell`.
///
/// # Errors
/// Without a login; when the host or its kernel lacks something, by its name; when the login ends before the program.
pub fn run(
    service: &Arc<Service>,
    caller: Caller,
    stream: &UnixStream,
    program: Program,
    streams: [OwnedFd; 3],
    tell: &dyn Fn(&str, Failure),
) -> Result<Answer, Failure> {
    service.needs(Role::View)?;
    let login = service.login_of(caller)?;
    let settings = service.session_settings();
    if !geteuid().is_root() {
        return Err(lacking(
            "sessions need tobarid to run as root (deploy/systemd/tobarid.service.d/session.conf.example)",
        ));
    }
    for descriptor in &streams {
        check(descriptor)?;
    }
    if program.arguments.is_empty() {
        return Err(Failure::new(ProblemCode::InvalidRequest, "no program is named"));
    }
    let label = label(service, &program)?;
    let user = LocalUser::of(stream, &program, settings.home)?;
    let place = service.running().enter(login.session.id, settings.first_uid, settings.uids)?;
    let (notices, refused) = sync_channel(NOTICES);
    let mark = Mark::new(label.as_ref(), program.print);
    let access = SessionAccess::new(service, &login, &user, place.uid, mark, notices);
    let stand = Stand::build(service, settings, place, Arc::new(access)).map_err(|failure| *failure)?;
    let spec = spec(settings, &stand, user, program);
    tracing::info!(uid = caller.uid, session = stand.place.uid, login = %login.session.id, "a session starts");
    let ended = supervise(&stand, stream, &spec, &streams, &|| {
        for (name, failure) in refused.try_iter() {
            tell(&name, failure);
        }
    });
    let over = stand.place.is_ended();
    let uid = stand.place.uid;
    stand.take_down();
    tracing::info!(uid = caller.uid, session = uid, "a session has ended");
    match ended? {
        _ if over => Err(Failure::new(
            ProblemCode::NotLoggedIn,
            "the login of this session has ended, and the session with it",
        )),
        status => Ok(Answer::Ended { code: code(status) }),
    }
}

/// What the shell would make of it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn lacking(what: impl Into<String>) -> Failure {
    Failure::new(ProblemCode::NotConfigured, what)
}

/// A stream that the program may have. Through a folder, or a socket, it could reach what the session does not show.
fn check(descriptor: &OwnedFd) -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| Failure::io("a standard stream", &error.into());
    let kind = FileType::from_raw_mode(fstat(descriptor).map_err(failed)?.st_mode);
    let fits = matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::CharacterDevice);
    if fits && !fcntl_getfl(descriptor).map_err(failed)?.contains(OFlags::PATH) {
        return Ok(());
    }
    let why = "standard input, output and error of a session must be files, pipes or terminals";
    Err(Failure::new(ProblemCode::InvalidRequest, why))
}

fn label(service: &Service, program: &Program) -> Result<Option<Label>, Failure> {
    let Some(id) = program.label else { return Ok(None) };
    let bulletin = service.bulletin();
    let found = bulletin.labels.iter().find(|keys| keys.label.id == id).map(|keys| keys.label.clone());
    found.map(Some).ok_or_else(|| Failure::new(ProblemCode::NotFound, format!("there is no label {id}")))
}

/// What stands on the host while a session runs. Taken down in the order of its fields.
struct Stand {
    processes: Processes,
    views: Vec<(Option<Mount>, ViewAt)>,
    folder: WorkFolder,
    place: Place,
}

impl Stand {
    fn build(
        service: &Arc<Service>,
        settings: &SessionSettings,
        place: Place,
        access: Arc<dyn Access>,
    ) -> Result<Self, Box<Failure>> {
        let boxed = |what: String| move |error: io::Error| Box::new(Failure::io(&what, &error));
        let path = settings.folder.join(place.uid.to_string());
        let folder = WorkFolder::new(path).map_err(boxed(String::from("the folder for sessions")))?;
        let mut stand = Self { processes: Processes(place.uid), views: Vec::new(), folder, place };
        let mut rules = FolderRule::of_terminal(&service.bulletin(), service.terminal());
        // A folder within another comes after it.
        rules.sort_by(|one, other| one.folder.path.cmp(&other.folder.path));
        for rule in rules {
            let at = PathBuf::from(&rule.folder.path);
            let folder = match Folder::open(rule) {
                Ok(folder) => folder,
                Err(error) => {
                    missing(&at, &error);
                    continue;
                }
            };
            let mounted = stand.folder.0.join(format!("view{}", stand.views.len()));
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&mounted)
                .map_err(boxed(at.display().to_string()))?;
            let mount = Mount::start(service, folder, &mounted, Arc::clone(&access), &Options::default())
                .map_err(|error| {
                    Box::new(lacking(format!(
                        "the view of {} cannot be mounted (FUSE): {error}",
                        at.display()
                    )))
                })?;
            stand.views.push((Some(mount), ViewAt { mounted, at }));
        }
        Ok(stand)
    }

    fn take_down(mut self) {
        self.processes.end();
        for (mount, view) in &mut self.views {
            if let Some(Err(error)) = mount.take().map(Mount::end) {
                tracing::error!(folder = %view.at.display(), %error, "a session's view did not end well");
            }
        }
    }
}

/// A folder that is not there is not shown; the session starts without it.
fn missing(path: &Path, error: &FolderError) {
    tracing::warn!(folder = %path.display(), %error, "a session starts without a designated folder");
}

/// The processes of a session's uid; ended on drop.
struct Processes(u32);

impl Processes {
    fn end(&self) {
        if let Err(error) = processes::end(&(self.0..=self.0)) {
            tracing::error!(session = self.0, %error, "a session's processes do not end");
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.end();
    }
}

/// A session's folder on the host, below one that only root can enter.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn new(path: PathBuf) -> io::Result<Self> {
        let make =
            |path: &Path, recursive| std::fs::DirBuilder::new().recursive(recursive).mode(0o700).create(path);
        if let Some(parent) = path.parent() {
            make(parent, true)?;
        }
        make(&path, false)?;
        make(&path.join("work"), false)?;
        Ok(Self(path))
    }

    fn work(&self) -> PathBuf {
        self.0.join("work")
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // Never what is in a folder that is still mounted: only empty folders go.
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _stays_when_mounted = std::fs::remove_dir(entry.path());
        }
        if let Err(error) = std::fs::remove_dir(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a session's folder stays until the next start");
        }
    }
}

fn spec(settings: &SessionSettings, stand: &Stand, user: LocalUser, program: Program) -> Spec {
    let views =
        stand.views.iter().map(|(_, view)| ViewAt { mounted: view.mounted.clone(), at: view.at.clone() });
    Spec {
        user: user.uid,
        group: user.gid,
        groups: user.groups,
        session: stand.place.uid,
        work: stand.folder.work(),
        name: user.name,
        home: user.home,
        home_shown: user.home_shown && settings.home == Home::Overlay,
        views: views.collect(),
        visible: settings.visible.clone(),
        sockets: sockets(settings, &program),
        bubblewrap: settings.bubblewrap.clone(),
        program,
    }
}

/// The sockets of display and print server that the session may have. One that is not there is left out.
fn sockets(settings: &SessionSettings, program: &Program) -> Vec<Socket> {
    let mut sockets = Vec::new();
    if settings.display {
        let wayland = variable(program, "WAYLAND_DISPLAY")
            .map(|name| Path::new(variable(program, "XDG_RUNTIME_DIR").unwrap_or_default()).join(name));
        sockets.extend(wayland.filter(|path| path.is_absolute()).map(|path| Socket { path, own: true }));
        let number = variable(program, "DISPLAY").and_then(|display| {
            let number = display.to_str()?.strip_prefix(':')?.split('.').next()?;
            number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.to_owned())
        });
        sockets.extend(
            number.map(|number| Socket { path: format!("/tmp/.X11-unix/X{number}").into(), own: true }),
        );
    }
    if program.print {
        sockets.push(Socket { path: settings.print_socket.clone(), own: false });
    }
    sockets.retain(|socket| {
        use std::os::unix::fs::FileTypeExt as _;
        std::fs::symlink_metadata(&socket.path).is_ok_and(|found| found.file_type().is_socket())
    });
    sockets
}

/// Starts the stages and waits for their end; passes signals on; ends the session when the caller goes.
fn supervise(
    stand: &Stand,
    stream: &UnixStream,
    spec: &Spec,
    streams: &[OwnedFd; 3],
    notices: &dyn Fn(),
) -> Result<ExitStatus, Failure> {
    let failed = |error: io::Error| Failure::io("the session's first process", &error);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut child = Command::new("/proc/self/exe")
        .args(["confine", "outer"])
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let said = Said::of(&mut child).map_err(failed);
    let told = said.and_then(|said| {
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
        stand.place.started(process.try_clone().map_err(failed)?);
        let given: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
        // When it is gone already, it has said why.
        let _said_otherwise = send_frame(&ours, spec, &given);
        watch(stand, stream, &process, notices);
        Ok(said)
    });
    let _already_gone = child.kill();
    let status = child.wait().map_err(failed)?;
    stand.processes.end();
    notices();
    told?.verdict(status)
}

/// Until the process has ended or the caller is gone.
fn watch(stand: &Stand, stream: &UnixStream, process: &OwnedFd, notices: &dyn Fn()) {
    /// How often refusals are looked for.
    const PAUSE: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    loop {
        let mut ready =
            [PollFd::new(process, PollFlags::IN), PollFd::new(stream, PollFlags::IN | PollFlags::RDHUP)];
        match poll(&mut ready, Some(&PAUSE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        notices();
        let [ended, asked] = ready.each_ref().map(|one| one.revents());
        if !ended.is_empty() {
            return;
        }
        if asked.is_empty() {
            continue;
        }
        match receive_frame::<Request>(stream, 0) {
            Ok(Some((Request::Signal { signal }, _))) => {
                let Some(signal) = Signal::from_named_raw(signal) else { continue };
                // A program that does not run yet is not started.
                if !processes::signal(stand.place.uid, signal) && ENDING.contains(&signal) {
                    return;
                }
            }
            // The caller is gone, or out of step.
            _ => return,
        }
    }
}

/// What the stages and bubblewrap write to standard error before the program starts.
struct Said(Arc<Mutex<Vec<u8>>>, std::thread::JoinHandle<()>);

impl Said {
    fn of(child: &mut Child) -> io::Result<Self> {
        let text = Arc::new(Mutex::new(Vec::new()));
        let pipe = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let thread = std::thread::Builder::new().name(String::from("session")).spawn({
            let text = Arc::clone(&text);
            move || {
                let mut pipe = pipe.take(MOST_SAID);
                let mut buffer = [0; 512];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    let read = buffer.get(..count).unwrap_or_default();
                    text.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(read);
                }
            }
        })?;
        Ok(Self(text, thread))
    }

    /// Whether the program ran: then its status, else why not. After its processes are gone, so that the pipe is closed.
    fn verdict(self, status: ExitStatus) -> Result<ExitStatus, Failure> {
        let _ended = self.1.join();
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut parts = text.splitn(2, |byte| *byte == 0);
        let (before, after) = (parts.next().unwrap_or_default(), parts.next());
        let words = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace("tobarid: error: ", "");
            text.trim().to_owned()
        };
        match after {
            Some([]) => Ok(status),
            Some(after) => {
                let mut failure = Failure::new(ProblemCode::NotFound, words(after));
                failure.problem.field = Some(String::from("session-program"));
                Err(failure)
            }
            None if before.is_empty() => Ok(status),
            None => Err(lacking(format!("the session cannot be started: {}", words(before)))),
        }
    }
}

//! Where things arrive that get out of a session: sockets that are listened on, and places that are looked through
//! afterwards. All of it has the drill's token in its name, and what a killed drill left is removed by the next.

use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Begin of every name that a drill makes.
pub const PREFIX: &str = "tobari-drill-";
/// Most bytes that arrive by one connection.
const MOST: u64 = 1 << 20;
/// Where the print service listens.
pub const PRINT_SOCKET: &str = "/run/cups/cups.sock";

/// Where things arrive, as the program in the session is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sinks {
    /// Part of every name.
    pub token: String,
    /// A directory of the user outside every protected folder.
    pub scratch: PathBuf,
    /// Their home.
    pub home: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// Listening for TCP.
    pub tcp: Option<SocketAddr>,
    /// The same for IPv6, where the machine has it.
    pub tcp6: Option<SocketAddr>,
    /// Receiving datagrams.
    pub udp: SocketAddr,
    /// Listening on a socket with a path...
    pub unix: PathBuf,
    /// ...and in the place of the desktop's bus...
    pub bus: PathBuf,
    /// ...and on one without a path.
    pub abstract_name: String,
    /// A message queue.
    pub queue: String,
    /// Another terminal of the user.
    pub terminal: Option<PathBuf>,
    /// A process outside.
    pub outsider: i32,
    /// The daemon's control socket; none in the control run.
    pub control: Option<PathBuf>,
}

impl Sinks {
    /// The file for a payload in a directory.
    pub fn named(&self, directory: &Path, payload: &[u8]) -> PathBuf {
        let way = payload.rsplit(|byte| *byte == b':').next().unwrap_or_default();
        let way = String::from_utf8_lossy(way);
        directory.join(format!("{PREFIX}{}-{}", self.token, way.trim_end_matches(';')))
    }

    /// A file of the drill beside the one that is attacked.
    pub fn beside(&self, file: &Path, name: &str) -> PathBuf {
        let folder = file.parent().unwrap_or(Path::new("/"));
        folder.join(format!("{PREFIX}{}-{name}", self.token))
    }

    /// Tells the one who waits outside that a way is open which cannot be used without disturbing others.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn reached(&self, payload: &[u8]) -> io::Result<()> {
        let mut output = io::stdout().lock();
        output.write_all(payload)?;
        output.write_all(b"\n")?;
        output.flush()
    }
}

/// A bench: directories, sockets, and threads that listen on them.
#[derive(Debug)]
pub struct Bench {
    /// What the other side is told.
    pub sinks: Sinks,
    arrived: Arc<Mutex<Vec<u8>>>,
    ended: Arc<AtomicBool>,
    queue: Option<nix::mqueue::MqdT>,
    #[expect(dead_code, reason = "removes the socket when it is dropped")]
    printer: Option<Printer>,
}

/// A socket in the place of the print service's, on a machine that has none; root alone may put it there.
#[derive(Debug)]
struct Printer {
    /// Whether the directory is ours too.
    directory: bool,
}

impl Printer {
    fn new() -> Option<(Self, UnixListener)> {
        let directory = Path::new(PRINT_SOCKET).parent()?;
        let made = DirBuilder::new().mode(0o755).create(directory).is_ok();
        // Fails where something has the name: only what was made here is removed.
        let listener = UnixListener::bind(PRINT_SOCKET).ok()?;
        let printer = Self { directory: made };
        fs::set_permissions(PRINT_SOCKET, fs::Permissions::from_mode(0o666)).ok()?;
        Some((printer, listener))
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        let _ = fs::remove_file(PRINT_SOCKET);
        if let Some(directory) = Path::new(PRINT_SOCKET).parent().filter(|_| self.directory) {
            let _ = fs::remove_dir(directory);
        }
    }
}

impl Bench {
    /// A bench in `directory`, which exists and is the user's own.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn new(directory: &Path, token: &str, home: PathBuf, runtime: Option<PathBuf>) -> io::Result<Self> {
        let (arrived, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let scratch = directory.join("scratch");
        DirBuilder::new().mode(0o755).recursive(true).create(&scratch)?;
        let (tcp, tcp6) = (TcpListener::bind(("127.0.0.1", 0))?, TcpListener::bind(("::1", 0)).ok());
        let udp = UdpSocket::bind(("127.0.0.1", 0))?;
        let (unix, bus) = (scratch.join("socket"), scratch.join("bus"));
        let abstract_name = format!("{PREFIX}{token}");
        let queue = format!("/{PREFIX}{token}");
        let terminal = open_terminal().ok();
        let (printer, print) = Printer::new().unzip();
        let sinks = Sinks {
            token: token.to_owned(),
            scratch,
            home,
            runtime,
            tcp: tcp.local_addr().ok(),
            tcp6: tcp6.as_ref().and_then(|listener| listener.local_addr().ok()),
            udp: udp.local_addr()?,
            unix: unix.clone(),
            bus: bus.clone(),
            abstract_name: abstract_name.clone(),
            queue: queue.clone(),
            terminal: terminal.as_ref().map(|(_, path)| path.clone()),
            outsider: i32::try_from(std::process::id()).unwrap_or(i32::MAX),
            control: None,
        };
        let bench = Self { sinks, arrived, ended, queue: open_queue(&queue), printer };
        bench.listen(move || tcp.accept().map(|(stream, _)| stream));
        if let Some(tcp6) = tcp6 {
            bench.listen(move || tcp6.accept().map(|(stream, _)| stream));
        }
        if let Some((terminal, _)) = terminal {
            bench.watch(terminal);
        }
        for listener in [UnixListener::bind(unix)?, UnixListener::bind(bus)?].into_iter().chain(print) {
            bench.listen(move || listener.accept().map(|(stream, _)| stream));
        }
        let address = std::os::unix::net::SocketAddr::from_abstract_name(abstract_name)?;
        let listener = UnixListener::bind_addr(&address)?;
        bench.listen(move || listener.accept().map(|(stream, _)| stream));
        bench.receive(udp)?;
        bench.look_at_processes();
        Ok(bench)
    }

    fn listen<S: io::Read>(&self, mut accept: impl FnMut() -> io::Result<S> + Send + 'static) {
        let (arrived, ended) = (Arc::clone(&self.arrived), Arc::clone(&self.ended));
        // Ends with the process: nothing else would wake it.
        std::thread::spawn(move || {
            while let Ok(stream) = accept() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let mut bytes = Vec::new();
                let _ = stream.take(MOST).read_to_end(&mut bytes);
                add(&arrived, &bytes);
            }
        });
    }

    /// Takes what appears on a terminal.
    fn watch(&self, mut terminal: fs::File) {
        let arrived = Arc::clone(&self.arrived);
        // Ends with the process. While nobody has the terminal open, reading fails.
        std::thread::spawn(move || {
            let mut shown = [0; 4096];
            loop {
                match terminal.read(&mut shown) {
                    Ok(length) => add(&arrived, shown.get(..length).unwrap_or_default()),
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        });
    }

    fn receive(&self, socket: UdpSocket) -> io::Result<()> {
        let (arrived, ended) = (Arc::clone(&self.arrived), Arc::clone(&self.ended));
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        std::thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while !ended.load(Ordering::SeqCst) {
                if let Ok(length) = socket.recv(&mut datagram) {
                    add(&arrived, datagram.get(..length).unwrap_or_default());
                }
            }
        });
        Ok(())
    }

    /// Reads what processes call themselves, as everybody on the host can.
    fn look_at_processes(&self) {
        let (arrived, ended) = (Arc::clone(&self.arrived), Arc::clone(&self.ended));
        std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    // Only what the drill's own program says: other processes are nobody's business.
                    if line.windows(6).any(|word| word == b"--said") {
                        add(&arrived, &line);
                    }
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
    }

    /// All that has arrived, with what lies where things may have been written.
    pub fn collect(&self, file: &Path) -> Vec<u8> {
        let mut bytes = self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(queue) = &self.queue {
            let mut message = [0; 1024];
            while let Ok(length) = nix::mqueue::mq_receive(queue, &mut message, &mut 0) {
                bytes.extend_from_slice(message.get(..length).unwrap_or_default());
            }
        }
        let sinks = &self.sinks;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let places = [
            Path::new("/tmp"),
            Path::new("/var/tmp"),
            Path::new("/dev/shm"),
            &sinks.home,
            &sinks.scratch,
            folder,
        ];
        for place in places.into_iter().chain(sinks.runtime.as_deref()) {
            for entry in fs::read_dir(place).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if place == sinks.scratch || name.contains(&sinks.token) {
                    bytes.extend_from_slice(name.as_bytes());
                    bytes.push(b'\n');
                    self.look_into(&entry.path(), &mut bytes);
                }
            }
        }
        bytes
    }

    fn look_into(&self, path: &Path, into: &mut Vec<u8>) {
        let Ok(found) = fs::symlink_metadata(path) else { return };
        if found.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.look_into(&entry.path(), into);
            }
        } else if found.is_symlink() {
            use std::os::unix::ffi::OsStrExt as _;
            into.extend(fs::read_link(path).unwrap_or_default().as_os_str().as_bytes());
        } else if found.is_file() && found.len() < 64 * MOST {
            into.extend(fs::read(path).unwrap_or_default());
            let mut value = [0; 1024];
            if let Ok(length) = rustix::fs::getxattr(path, c"user.tobari-drill", &mut value) {
                into.extend_from_slice(value.get(..length).unwrap_or_default());
            }
        }
    }

    /// Removes what this drill made beside `file` and elsewhere.
    pub fn clear(&self, file: &Path) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = nix::mqueue::mq_unlink(self.sinks.queue.as_str());
        let folder = file.parent().unwrap_or(Path::new("/"));
        let name = format!("{PREFIX}{}", self.sinks.token);
        let places =
            [Path::new("/tmp"), Path::new("/var/tmp"), Path::new("/dev/shm"), &self.sinks.home, folder];
        for place in places.into_iter().chain(self.sinks.runtime.as_deref()) {
            remove_named(place, &name);
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = nix::mqueue::mq_unlink(self.sinks.queue.as_str());
    }
}

fn add(arrived: &Mutex<Vec<u8>>, bytes: &[u8]) {
    let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    arrived.extend_from_slice(bytes);
    arrived.push(b'\n');
}

/// A terminal that nobody uses: the side that shows, and the path of the other.
fn open_terminal() -> io::Result<(fs::File, PathBuf)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::os::unix::ffi::OsStringExt as _;
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let name = ptsname(&terminal, Vec::new())?;
    Ok((terminal.into(), PathBuf::from(std::ffi::OsString::from_vec(name.into_bytes()))))
}

fn open_queue(name: &str) -> Option<nix::mqueue::MqdT> {
    use nix::mqueue::{MQ_OFlag, MqAttr, mq_open};
    use nix::sys::stat::Mode;
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_RDONLY | MQ_OFlag::O_NONBLOCK;
    let attributes = MqAttr::new(0, 8, 1024, 0);
    // Root may drill for somebody else, who has to be able to write.
    let everybody = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IWGRP | Mode::S_IWOTH;
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    let queue = mq_open(name, flags, everybody, Some(&attributes)).ok();
    rustix::process::umask(before);
    queue
}

/// Removes the user's own files and directories in `place` whose names begin with `name`; root's drills those of everybody.
pub fn remove_named(place: &Path, name: &str) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(name)
            && entry.metadata().is_ok_and(|found| user == 0 || found.uid() == user);
        if ours {
            let path = entry.path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

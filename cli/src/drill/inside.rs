//! Ways out of a session: a program that may read the content tries to put it where others find it. Each way writes the canary
//! and its own name, so that what arrives tells by which way it came. The same program is run without a session first.

use super::bench::{PRINT_SOCKET, Sinks};
use super::helper::Task;
use nix::sys::signal::Signal;
use rustix::net::{AddressFamily, Protocol, SocketType};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a way works with.
pub struct Insider<'a> {
    /// The file that may be read here.
    pub file: &'a Path,
    /// Where things arrive.
    pub sinks: &'a Sinks,
    /// What is to get out: canary and name of the way.
    pub payload: &'a [u8],
    /// This program.
    pub program: &'a Path,
}

/// One way; without an error it believes to have got the payload out.
pub type Way = fn(&Insider<'_>) -> io::Result<()>;

/// All ways, by the names that `expected.toml` gives them.
pub const WAYS: &[(&str, Way)] = &[
    ("tmp", |insider| insider.write(Path::new("/tmp"))),
    ("var-tmp", |insider| insider.write(Path::new("/var/tmp"))),
    ("dev-shm", |insider| insider.write(Path::new("/dev/shm"))),
    ("home", |insider| insider.write(&insider.sinks.home)),
    ("own-folder", |insider| insider.write(&insider.sinks.scratch)),
    ("print-to-file", print_to_file),
    ("runtime-directory", runtime_directory),
    ("save-as", save_as),
    ("save-as-other-type", save_as_other_type),
    ("rename-in-folder", rename_in_folder),
    ("killed-save", killed_save),
    ("planted-symlink", planted_symlink),
    ("hard-link-out", hard_link_out),
    ("rename-out", rename_out),
    ("file-name", file_name),
    ("link-target", link_target),
    ("extended-attribute", extended_attribute),
    ("tcp", |insider| tcp(insider, insider.sinks.tcp)),
    ("tcp6", |insider| tcp(insider, insider.sinks.tcp6)),
    ("udp", udp),
    ("dns", dns),
    ("raw-socket", raw_socket),
    ("packet-socket", packet_socket),
    ("vsock", vsock),
    ("abstract-socket", abstract_socket),
    ("path-socket", |insider| path_socket(insider, &insider.sinks.unix)),
    ("d-bus", d_bus),
    ("system-log", system_log),
    ("print-socket", print_socket),
    ("standard-output", standard_output),
    ("arguments", arguments),
    ("signal", signal),
    ("other-process", other_process),
    ("root-of-first-process", root_of_first),
    ("unmount", unmount),
    ("mount", mount),
    ("device", device),
    ("terminal", terminal),
    ("core-dump", core_dump),
    ("message-queue", message_queue),
    ("set-uid", set_uid),
    ("control-socket", control_socket),
    ("io-uring", io_uring),
    ("file-handle", file_handle),
];

/// The ways that leave a file in the folder, and the end of its name.
pub const LEFT: &[(&str, &str)] = &[
    ("save-as", "-save-as.txt"),
    ("save-as-other-type", "-save-as.tmp"),
    ("rename-in-folder", "-rename.txt"),
    ("killed-save", "-killed.part"),
];

impl Insider<'_> {
    fn write(&self, directory: &Path) -> io::Result<()> {
        fs::write(self.sinks.named(directory, self.payload), self.payload)
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.sinks.beside(self.file, name)
    }
}

/// As a program that prints into a file.
fn print_to_file(insider: &Insider<'_>) -> io::Result<()> {
    let mut page = b"%PDF-1.4\n% ".to_vec();
    page.extend_from_slice(insider.payload);
    fs::write(insider.sinks.scratch.join("print.pdf"), page)
}

fn runtime_directory(insider: &Insider<'_>) -> io::Result<()> {
    let place = insider.sinks.runtime.as_ref().ok_or(io::ErrorKind::NotFound)?;
    insider.write(place)
}

fn save_as(insider: &Insider<'_>) -> io::Result<()> {
    fs::write(insider.beside("save-as.txt"), insider.payload)
}

fn save_as_other_type(insider: &Insider<'_>) -> io::Result<()> {
    fs::write(insider.beside("save-as.tmp"), insider.payload)
}

/// As editors save: a new file beside the old one, then its name.
fn rename_in_folder(insider: &Insider<'_>) -> io::Result<()> {
    let temporary = insider.beside("rename.part");
    let mut file = File::create(&temporary)?;
    file.write_all(insider.payload)?;
    file.sync_all()?;
    fs::rename(temporary, insider.beside("rename.txt"))
}

/// kill -9 in the middle of a save: what was written so far stays.
fn killed_save(insider: &Insider<'_>) -> io::Result<()> {
    use std::os::unix::process::ExitStatusExt as _;
    let task = serde_json::to_string(&Task::Save { file: insider.beside("killed.part") })?;
    let mut child = Command::new(insider.program)
        .args(["drill", "--task", &task])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(insider.payload)?;
    }
    let killed = child.wait()?.signal() == Some(Signal::SIGKILL as i32);
    if killed { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// A link in the folder that leads out of it, planted from outside before; written through.
fn planted_symlink(insider: &Insider<'_>) -> io::Result<()> {
    fs::write(insider.beside("planted"), insider.payload)
}

fn hard_link_out(insider: &Insider<'_>) -> io::Result<()> {
    let from = insider.beside("link-out.txt");
    fs::write(&from, insider.payload)?;
    fs::hard_link(&from, insider.sinks.scratch.join("link-out.txt"))
}

fn rename_out(insider: &Insider<'_>) -> io::Result<()> {
    let (from, to) = (insider.beside("move-out.txt"), insider.sinks.scratch.join("move-out.txt"));
    fs::write(&from, insider.payload)?;
    fs::rename(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))
}

fn file_name(insider: &Insider<'_>) -> io::Result<()> {
    let mut name = insider.sinks.token.clone();
    name.push_str(".name.");
    name.push_str(&String::from_utf8_lossy(insider.payload));
    File::create(insider.beside(&name)).map(drop)
}

fn link_target(insider: &Insider<'_>) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let target = std::ffi::OsStr::from_bytes(insider.payload);
    std::os::unix::fs::symlink(target, insider.beside("link-target"))
}

fn extended_attribute(insider: &Insider<'_>) -> io::Result<()> {
    let file = insider.beside("attribute.txt");
    fs::write(&file, b"attribute")?;
    Ok(rustix::fs::setxattr(file, c"user.tobari-drill", insider.payload, rustix::fs::XattrFlags::empty())?)
}

fn tcp(insider: &Insider<'_>, to: Option<SocketAddr>) -> io::Result<()> {
    let to = to.ok_or(io::ErrorKind::AddrNotAvailable)?;
    TcpStream::connect_timeout(&to, Duration::from_secs(5))?.write_all(insider.payload)
}

fn udp(insider: &Insider<'_>) -> io::Result<()> {
    UdpSocket::bind(("127.0.0.1", 0))?.send_to(insider.payload, insider.sinks.udp).map(drop)
}

/// A question to the name server of the machine. That it leaves counts: whoever runs the domain reads it.
fn dns(insider: &Insider<'_>) -> io::Result<()> {
    let configuration = fs::read_to_string("/etc/resolv.conf")?;
    let server = configuration
        .lines()
        .find_map(|line| line.strip_prefix("nameserver")?.trim().parse::<std::net::IpAddr>().ok())
        .ok_or(io::ErrorKind::NotFound)?;
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    // Connecting a datagram socket asks for the way and sends nothing to anybody.
    socket.connect((server, 53))?;
    insider.sinks.reached(insider.payload)
}

fn raw_socket(insider: &Insider<'_>) -> io::Result<()> {
    rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(rustix::net::ipproto::ICMP))?;
    insider.sinks.reached(insider.payload)
}

fn packet_socket(insider: &Insider<'_>) -> io::Result<()> {
    rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None::<Protocol>)?;
    insider.sinks.reached(insider.payload)
}

/// To the machine that this one may be a guest of.
fn vsock(insider: &Insider<'_>) -> io::Result<()> {
    rustix::net::socket(AddressFamily::VSOCK, SocketType::STREAM, None::<Protocol>)?;
    insider.sinks.reached(insider.payload)
}

fn abstract_socket(insider: &Insider<'_>) -> io::Result<()> {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&insider.sinks.abstract_name)?;
    UnixStream::connect_addr(&address)?.write_all(insider.payload)
}

fn path_socket(insider: &Insider<'_>, path: &Path) -> io::Result<()> {
    UnixStream::connect(path)?.write_all(insider.payload)
}

/// The bus of the desktop session; the drill listens in its place.
fn d_bus(insider: &Insider<'_>) -> io::Result<()> {
    path_socket(insider, &insider.sinks.bus)
}

fn system_log(insider: &Insider<'_>) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to(b"<135>tobari-drill: test", "/dev/log")?;
    insider.sinks.reached(insider.payload)
}

fn print_socket(insider: &Insider<'_>) -> io::Result<()> {
    UnixStream::connect(PRINT_SOCKET)?;
    insider.sinks.reached(insider.payload)
}

fn standard_output(insider: &Insider<'_>) -> io::Result<()> {
    insider.sinks.reached(insider.payload)
}

/// What a process is called can be read by all on the host.
fn arguments(insider: &Insider<'_>) -> io::Result<()> {
    let text = String::from_utf8_lossy(insider.payload).into_owned();
    let mut child = Command::new(insider.program)
        .args(["drill", "--task", r#"{"helper":"wait"}"#, "--said", &text])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    // Long enough for somebody who looks now and then.
    std::thread::sleep(Duration::from_millis(1500));
    drop(child.stdin.take());
    child.wait().map(drop)
}

/// A signal is a bit; enough of them are a file.
fn signal(insider: &Insider<'_>) -> io::Result<()> {
    let pid = nix::unistd::Pid::from_raw(insider.sinks.outsider);
    if fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(5).all(|word| word != b"drill"))
    {
        return Err(io::ErrorKind::NotFound.into());
    }
    nix::sys::signal::kill(pid, Signal::SIGURG)?;
    insider.sinks.reached(insider.payload)
}

fn other_process(insider: &Insider<'_>) -> io::Result<()> {
    let pid = insider.sinks.outsider;
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let scratch = insider.sinks.scratch.strip_prefix("/").unwrap_or(&insider.sinks.scratch);
    fs::write(root.join(scratch).join("other-process"), insider.payload)
}

fn root_of_first(insider: &Insider<'_>) -> io::Result<()> {
    let scratch = insider.sinks.scratch.strip_prefix("/").unwrap_or(&insider.sinks.scratch);
    fs::write(Path::new("/proc/1/root").join(scratch).join("first-process"), insider.payload)
}

fn in_namespace(insider: &Insider<'_>, script: &str) -> io::Result<()> {
    let mut child = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(&insider.sinks.scratch)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(insider.payload);
    }
    if child.wait()?.success() { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Taking away what hides the real directories.
fn unmount(insider: &Insider<'_>) -> io::Result<()> {
    in_namespace(
        insider,
        r#"d=$1; while [ "$d" != / ]; do umount -l "$d" 2>/dev/null; d=$(dirname "$d"); done; cat > "$1/unmount""#,
    )
}

/// Mounting a file system that the host sees too.
fn mount(insider: &Insider<'_>) -> io::Result<()> {
    in_namespace(
        insider,
        r#"mkdir -p "$1/mount" && mount --bind "$1/mount" "$1/mount" && cat > "$1/mount/file""#,
    )
}

fn device(insider: &Insider<'_>) -> io::Result<()> {
    File::options().write(true).open("/dev/kmsg")?;
    insider.sinks.reached(insider.payload)
}

/// To another window of the user.
fn terminal(insider: &Insider<'_>) -> io::Result<()> {
    let path = insider.sinks.terminal.as_ref().ok_or(io::ErrorKind::NotFound)?;
    File::options().write(true).open(path)?.write_all(insider.payload)
}

/// A process that ends with the content in its memory.
fn core_dump(insider: &Insider<'_>) -> io::Result<()> {
    let task = serde_json::to_string(&Task::Crash { file: insider.file.to_owned() })?;
    let mut child = Command::new(insider.program)
        .args(["drill", "--task", &task])
        .current_dir(&insider.sinks.scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    child.wait()?;
    let cores = fs::read_dir(&insider.sinks.scratch)?;
    let dumped = cores.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("core"));
    if dumped { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn message_queue(insider: &Insider<'_>) -> io::Result<()> {
    use nix::mqueue::{MQ_OFlag, mq_open, mq_send};
    let flags = MQ_OFlag::O_WRONLY | MQ_OFlag::O_NONBLOCK;
    let queue = mq_open(insider.sinks.queue.as_str(), flags, nix::sys::stat::Mode::empty(), None)?;
    Ok(mq_send(&queue, insider.payload, 0)?)
}

/// Programs that run as root are of use only where they may become root.
fn set_uid(insider: &Insider<'_>) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    if status.lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"])) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    insider.sinks.reached(insider.payload)
}

/// The daemon writes plaintext for those who may have it to a descriptor that they bring.
fn control_socket(insider: &Insider<'_>) -> io::Result<()> {
    let Some(socket) = &insider.sinks.control else { return insider.sinks.reached(insider.payload) };
    UnixStream::connect(socket)?;
    insider.sinks.reached(insider.payload)
}

/// Runs a Python program that makes system calls for which no library has safe functions, with `way` as its first argument;
/// Ok when it was let.
fn by_system_call(insider: &Insider<'_>, way: &str) -> io::Result<()> {
    // Root of a user namespace of one's own may more, where one can be had.
    let as_root: &[&str] = &["unshare", "-rm", "python3"];
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for line in [as_root, &["python3"]] {
        let [program, arguments @ ..] = line else { continue };
        let output = Command::new(program)
            .args(arguments)
            .args(["-I", "-c", SYSTEM_CALLS, way])
            .arg(insider.sinks.scratch.join(way))
            .env("TOBARI_DRILL_SAID", String::from_utf8_lossy(insider.payload).into_owned())
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        refused = io::Error::other(said);
    }
    Err(refused)
}

/// io_uring, which opens and writes without the system calls that filters look at.
fn io_uring(insider: &Insider<'_>) -> io::Result<()> {
    by_system_call(insider, "io-uring")
}

/// A file handle, which opens what it names without a path to it, and so without the directories above it.
fn file_handle(insider: &Insider<'_>) -> io::Result<()> {
    by_system_call(insider, "file-handle")?;
    insider.sinks.reached(insider.payload)
}

/// The system calls by their numbers, which all machines have alike for these.
const SYSTEM_CALLS: &str = include_str!("system_calls.py");

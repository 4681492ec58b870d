//! Ways to the content from outside a session: from the file in its folder, and from a process that has it open. Each takes a
//! [`Target`] and gives the bytes that it got; whether they are plaintext is judged elsewhere. The same functions are run on
//! a plain file and an unprotected process first: a way that finds nothing there shows nothing here.

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Most bytes that one way brings home.
const MOST: u64 = 64 << 20;
/// Most bytes of a process's memory that are read from one mapping.
const MOST_OF_MAPPING: u64 = 16 << 20;

/// What is attacked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// The file.
    pub file: PathBuf,
    /// Another file with the same content, which may be moved away.
    pub spare: PathBuf,
    /// A process that has the file open and its content in memory, if there is one.
    pub process: Option<i32>,
    /// A directory of the attacker, on the file system of the file where that is possible.
    pub scratch: PathBuf,
    /// The control socket of the daemon.
    pub socket: PathBuf,
    /// This program.
    pub program: PathBuf,
}

/// One way.
pub type Way = fn(&Target) -> io::Result<Vec<u8>>;

/// All ways, by the names that `expected.toml` gives them.
pub const WAYS: &[(&str, Way)] = &[
    ("read", read),
    ("cp", copy),
    ("mail", mail),
    ("usb", usb),
    ("dd-direct", direct),
    ("reflink", reflink),
    ("rename-out", rename_out),
    ("hard-link", hard_link),
    ("symlink", symlink),
    ("backup", backup),
    ("bind-mount", bind_mount),
    ("overlay-mount", overlay_mount),
    ("o-path", o_path),
    ("control-directory", control_directory),
    ("views", views),
    ("block-device", block_device),
    ("proc-mem", proc_mem),
    ("proc-root", proc_root),
    ("proc-cwd", proc_cwd),
    ("proc-fd", proc_fd),
    ("proc-maps", proc_maps),
    ("proc-environ", proc_environ),
    ("proc-threads", proc_threads),
    ("ptrace", attach),
    ("process-vm-readv", vm_readv),
    ("pidfd-getfd", getfd),
    ("namespaces", namespaces),
    ("stop-and-read", stop_and_read),
    ("daemon-memory", daemon_memory),
    ("control-socket", control_socket),
    ("residue", residue),
    ("core-dump", core_dump),
];

/// The commands of this program, for a person who may view and no more.
pub const COMMANDS: &[(&str, Way)] = &[("cat", control_socket), ("unseal", unseal), ("zip", zip)];

fn unavailable(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

fn load(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs a program and gives what it wrote.
fn output(program: &str, arguments: &[&Path]) -> io::Result<Vec<u8>> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if output.stdout.is_empty() && !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().last().unwrap_or_default().to_owned();
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    Ok(output.stdout)
}

fn read(target: &Target) -> io::Result<Vec<u8>> {
    load(&target.file)
}

fn copy(target: &Target) -> io::Result<Vec<u8>> {
    let to = target.scratch.join("cp");
    output("cp", &[&target.file, &to])?;
    load(&to)
}

/// As a mail program attaches a file.
fn mail(target: &Target) -> io::Result<Vec<u8>> {
    let mut child =
        Command::new("base64").arg(&target.file).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let decoded = child
        .stdout
        .take()
        .map(|encoded| Command::new("base64").arg("-d").stdin(encoded).stderr(Stdio::null()).output());
    child.wait()?;
    Ok(decoded.transpose()?.map(|output| output.stdout).unwrap_or_default())
}

/// To another file system, as a stick would be.
fn usb(target: &Target) -> io::Result<Vec<u8>> {
    let stick = Path::new("/dev/shm");
    let to = stick.join(target.scratch.file_name().unwrap_or_default());
    let copied = fs::copy(&target.file, &to).and_then(|_| load(&to));
    let _ = fs::remove_file(&to);
    copied
}

fn direct(target: &Target) -> io::Result<Vec<u8>> {
    let input = format!("if={}", target.file.display());
    output(
        "dd",
        &[Path::new(&input), Path::new("iflag=direct"), Path::new("bs=64K"), Path::new("status=none")],
    )
    .or_else(|_| output("dd", &[Path::new(&input), Path::new("bs=64K"), Path::new("status=none")]))
}

fn reflink(target: &Target) -> io::Result<Vec<u8>> {
    let to = target.scratch.join("reflink");
    output("cp", &[Path::new("--reflink=auto"), Path::new("--sparse=always"), &target.file, &to])?;
    load(&to)
}

fn rename_out(target: &Target) -> io::Result<Vec<u8>> {
    let to = target.scratch.join("renamed");
    // Over a file system's border a move is a copy.
    output("mv", &[&target.spare, &to])?;
    load(&to)
}

fn hard_link(target: &Target) -> io::Result<Vec<u8>> {
    let beside = target.file.with_extension("link");
    let linked = fs::hard_link(&target.file, target.scratch.join("link"))
        .and_then(|()| load(&target.scratch.join("link")))
        // Another file system: a link in the folder itself.
        .or_else(|_| fs::hard_link(&target.file, &beside).and_then(|()| load(&beside)));
    let _ = fs::remove_file(&beside);
    let _ = fs::remove_file(target.scratch.join("link"));
    linked
}

fn symlink(target: &Target) -> io::Result<Vec<u8>> {
    let link = target.scratch.join("symlink");
    std::os::unix::fs::symlink(&target.file, &link)?;
    load(&link)
}

fn backup(target: &Target) -> io::Result<Vec<u8>> {
    let folder = target.file.parent().unwrap_or(Path::new("/"));
    let name = PathBuf::from(target.file.file_name().unwrap_or_default());
    output("tar", &[Path::new("-C"), folder, Path::new("-cf"), Path::new("-"), &name])
}

/// What a shell command in a user and mount namespace of its own prints. The mounts end with it.
fn in_namespace(script: &str, arguments: &[&Path]) -> io::Result<Vec<u8>> {
    let mut all: Vec<&Path> = ["-rm", "sh", "-c", script, "sh"].into_iter().map(Path::new).collect();
    all.extend(arguments);
    output("unshare", &all)
}

fn bind_mount(target: &Target) -> io::Result<Vec<u8>> {
    let (folder, point) = (target.file.parent().unwrap_or(Path::new("/")), target.scratch.join("bind"));
    fs::create_dir_all(&point)?;
    let name = PathBuf::from(target.file.file_name().unwrap_or_default());
    in_namespace(r#"mount --rbind "$1" "$2" && cat "$2/$3""#, &[folder, &point, &name])
}

fn overlay_mount(target: &Target) -> io::Result<Vec<u8>> {
    let folder = target.file.parent().unwrap_or(Path::new("/"));
    let name = PathBuf::from(target.file.file_name().unwrap_or_default());
    for part in ["over", "upper", "work"] {
        fs::create_dir_all(target.scratch.join(part))?;
    }
    let got = in_namespace(
        r#"ln -sfn "$1" "$2/lower" && cd "$2" && mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work over && cat "over/$3""#,
        &[folder, &target.scratch, &name],
    );
    // The kernel's own folder in it is closed to everybody, and could not be removed.
    let _ = fs::set_permissions(target.scratch.join("work/work"), fs::Permissions::from_mode(0o700));
    got
}

/// Through a descriptor that is no open file yet.
fn o_path(target: &Target) -> io::Result<Vec<u8>> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd as _;
    let handle = rustix::fs::open(&target.file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    load(Path::new(&format!("/proc/self/fd/{}", handle.as_raw_fd())))
}

/// Everything that can be read below a directory.
fn gather(directory: &Path, depth: u32, into: &mut Vec<u8>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            let _ = gather(&entry.path(), depth - 1, into);
        } else if kind.is_file() && (into.len() as u64) < MOST {
            into.extend(load(&entry.path()).unwrap_or_default());
        }
    }
    Ok(())
}

/// Where the daemon keeps what it is sealing. The control: what lies in the clear beside the file.
fn control_directory(target: &Target) -> io::Result<Vec<u8>> {
    let folder = target.file.parent().unwrap_or(Path::new("/"));
    let hidden = folder.join(".tobari");
    let mut bytes = Vec::new();
    if hidden.exists() {
        gather(&hidden, 2, &mut bytes)?;
        return Ok(bytes);
    }
    // No daemon's folder: the plain one of the control.
    gather(folder, 1, &mut bytes)?;
    Ok(bytes)
}

/// Where views are mounted before they are shown.
fn views(target: &Target) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let beside = target.socket.parent().unwrap_or(Path::new("/run/tobari"));
    let mut refused = None;
    for place in ["views", "gateway", "sessions", "session"] {
        match gather(&beside.join(place), 4, &mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => refused = Some(error),
            Ok(()) | Err(_) => {}
        }
    }
    match (bytes.is_empty(), refused) {
        (true, Some(error)) => Err(error),
        (true, None) => Err(unavailable("no view is mounted")),
        _ => Ok(bytes),
    }
}

/// The disk beneath. The control is the reading of a device that is a file of our own.
fn block_device(target: &Target) -> io::Result<Vec<u8>> {
    let source = output(
        "findmnt",
        &["-no", "SOURCE", "--target"]
            .map(Path::new)
            .into_iter()
            .chain([target.file.as_path()])
            .collect::<Vec<_>>(),
    )?;
    let device = String::from_utf8_lossy(&source).trim().to_owned();
    if !device.starts_with("/dev/") {
        return Err(unavailable("the file system has no device"));
    }
    let mut bytes = Vec::new();
    File::open(device)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn process(target: &Target) -> io::Result<i32> {
    target.process.ok_or_else(|| unavailable("no process has the content open"))
}

fn of_process(target: &Target, what: &str) -> io::Result<PathBuf> {
    Ok(PathBuf::from(format!("/proc/{}/{what}", process(target)?)))
}

/// The readable mappings of a process: begin and end.
fn mappings(target: &Target) -> io::Result<Vec<(u64, u64)>> {
    let maps = fs::read_to_string(of_process(target, "maps")?)?;
    let mappings: Vec<_> = maps
        .lines()
        .filter(|line| !line.ends_with("[vvar]") && !line.ends_with("[vsyscall]"))
        .filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (begin, end) = range.split_once('-')?;
            let begin = u64::from_str_radix(begin, 16).ok()?;
            let end = u64::from_str_radix(end, 16).ok()?;
            rest.starts_with("rw").then_some((begin, end))
        })
        .collect();
    if mappings.is_empty() { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(mappings) }
}

fn proc_mem(target: &Target) -> io::Result<Vec<u8>> {
    let memory = File::open(of_process(target, "mem")?)?;
    let mut bytes = Vec::new();
    for (begin, end) in mappings(target)? {
        let length = usize::try_from((end - begin).min(MOST_OF_MAPPING)).unwrap_or(0);
        let mut part = vec![0; length];
        if let Ok(read) = memory.read_at(&mut part, begin) {
            bytes.extend(part.into_iter().take(read));
        }
    }
    Ok(bytes)
}

fn proc_root(target: &Target) -> io::Result<Vec<u8>> {
    let relative = target.file.strip_prefix("/").unwrap_or(&target.file);
    load(&of_process(target, "root")?.join(relative))
}

fn proc_cwd(target: &Target) -> io::Result<Vec<u8>> {
    load(&of_process(target, "cwd")?.join(target.file.file_name().unwrap_or_default()))
}

fn all_in(directory: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut refused = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // Not pipes and terminals, which would be waited for.
        match fs::metadata(&path) {
            Ok(found) if found.is_file() && found.len() < MOST => match load(&path) {
                Ok(more) => bytes.extend(more),
                Err(error) => refused = Some(error),
            },
            Ok(_) => {}
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if bytes.is_empty() => Err(error),
        _ => Ok(bytes),
    }
}

fn proc_fd(target: &Target) -> io::Result<Vec<u8>> {
    all_in(&of_process(target, "fd")?)
}

/// The files that are mapped, and the names in the table of mappings.
fn proc_maps(target: &Target) -> io::Result<Vec<u8>> {
    let mut bytes = load(&of_process(target, "maps")?)?;
    bytes.extend(all_in(&of_process(target, "map_files")?)?);
    Ok(bytes)
}

fn proc_environ(target: &Target) -> io::Result<Vec<u8>> {
    load(&of_process(target, "environ")?)
}

/// What the threads of the process let be seen of themselves.
fn proc_threads(target: &Target) -> io::Result<Vec<u8>> {
    let task = of_process(target, "task")?.join(process(target)?.to_string());
    let mut bytes = load(&task.join("environ"))?;
    bytes.extend(all_in(&task.join("fd"))?);
    Ok(bytes)
}

fn attach(target: &Target) -> io::Result<Vec<u8>> {
    let pid = Pid::from_raw(process(target)?);
    ptrace::attach(pid)?;
    let stopped = nix::sys::wait::waitpid(pid, None);
    let read = proc_mem(target);
    ptrace::detach(pid, None)?;
    stopped?;
    read
}

fn vm_readv(target: &Target) -> io::Result<Vec<u8>> {
    let pid = Pid::from_raw(process(target)?);
    let mut bytes = Vec::new();
    let mut refused = None;
    // The table of mappings may be closed as well: then the addresses that programs usually have.
    let mappings = mappings(target).unwrap_or_else(|_| vec![(0x5555_5555_4000, 0x5555_5556_4000)]);
    for (begin, end) in mappings {
        let length = usize::try_from((end - begin).min(MOST_OF_MAPPING)).unwrap_or(0);
        let mut part = vec![0; length];
        let remote = RemoteIoVec { base: usize::try_from(begin).unwrap_or(0), len: length };
        match process_vm_readv(pid, &mut [IoSliceMut::new(&mut part)], &[remote]) {
            Ok(read) => bytes.extend(part.into_iter().take(read)),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if bytes.is_empty() => Err(error.into()),
        _ => Ok(bytes),
    }
}

fn getfd(target: &Target) -> io::Result<Vec<u8>> {
    let pid = rustix::process::Pid::from_raw(process(target)?).ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut bytes = Vec::new();
    let mut refused = None;
    for number in 0..32 {
        match rustix::process::pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(descriptor) => {
                let mut file = File::from(descriptor);
                if file.metadata()?.is_file() {
                    // The offset is shared with the process.
                    let at = file.stream_position()?;
                    file.seek(SeekFrom::Start(0))?;
                    file.by_ref().take(MOST).read_to_end(&mut bytes)?;
                    file.seek(SeekFrom::Start(at))?;
                }
            }
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if bytes.is_empty() => Err(error.into()),
        _ => Ok(bytes),
    }
}

/// Entering the namespaces of the process.
fn namespaces(target: &Target) -> io::Result<Vec<u8>> {
    let pid = process(target)?.to_string();
    let with = |flags: &[&str]| {
        let mut all: Vec<&Path> = vec![Path::new("-t"), Path::new(&pid)];
        all.extend(flags.iter().map(Path::new));
        all.push(Path::new("cat"));
        all.push(&target.file);
        output("nsenter", &all)
    };
    with(&["-U", "--preserve-credentials", "-m"]).or_else(|_| with(&["-m"])).or_else(|error| {
        let same = |name: &str| {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
            of(&pid).is_some() && of(&pid) == of("self")
        };
        // There is nothing to enter: the process is where we are.
        if same("mnt") && same("user") { load(&target.file) } else { Err(error) }
    })
}

/// Holding the process up with a signal, and looking while it cannot help it.
fn stop_and_read(target: &Target) -> io::Result<Vec<u8>> {
    let pid = Pid::from_raw(process(target)?);
    nix::sys::signal::kill(pid, Signal::SIGSTOP)?;
    let read = proc_fd(target);
    nix::sys::signal::kill(pid, Signal::SIGCONT)?;
    read
}

/// The daemon, which has plaintext in memory while it serves a view. The control is the unprotected process.
fn daemon_memory(target: &Target) -> io::Result<Vec<u8>> {
    let stream = std::os::unix::net::UnixStream::connect(&target.socket);
    let daemon = stream.and_then(|stream| {
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        Ok(peer.pid.as_raw_nonzero().get())
    });
    let process = match daemon {
        Ok(daemon) => Some(daemon),
        Err(_) => target.process,
    };
    let daemon = Target { process, ..target.clone() };
    let mut bytes = proc_mem(&daemon)?;
    bytes.extend(proc_fd(&daemon).unwrap_or_default());
    Ok(bytes)
}

/// Asking the daemon itself for the content, as a person who is not logged in under this uid. The control reads the file.
fn control_socket(target: &Target) -> io::Result<Vec<u8>> {
    if !target.socket.exists() {
        return load(&target.file);
    }
    let answer = Command::new(&target.program)
        .arg("--socket")
        .arg(&target.socket)
        .arg("cat")
        .arg(&target.file)
        .stdin(Stdio::null())
        .output()?;
    if answer.stdout.is_empty() {
        let said = String::from_utf8_lossy(&answer.stderr).lines().next().unwrap_or_default().to_owned();
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    Ok(answer.stdout)
}

/// What programs left in the places for temporary files while the content was open in a session. The control leaves something.
fn residue(target: &Target) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if target.socket.as_os_str().is_empty() || !target.socket.exists() {
        let left = target.scratch.join("residue");
        fs::copy(&target.file, &left)?;
        bytes.extend(load(&left)?);
        return Ok(bytes);
    }
    let since = fs::metadata(&target.file)?.modified()?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let places = ["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from);
    for place in places.into_iter().chain(home) {
        newer(&place, since, &target.scratch, 3, &mut bytes);
    }
    Ok(bytes)
}

fn newer(directory: &Path, since: std::time::SystemTime, except: &Path, depth: u32, into: &mut Vec<u8>) {
    // The drill's own directories have the content of the control.
    let ours = except.parent().unwrap_or(except);
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.starts_with(ours) || into.len() as u64 >= MOST {
            continue;
        }
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() && depth > 0 {
            newer(&path, since, except, depth - 1, into);
        } else if found.is_file()
            && found.len() < (4 << 20)
            && found.modified().is_ok_and(|modified| modified >= since)
        {
            into.extend(load(&path).unwrap_or_default());
        }
    }
}

/// Ending the process so that it leaves its memory behind. The last: it is gone afterwards.
fn core_dump(target: &Target) -> io::Result<Vec<u8>> {
    let pid = process(target)?;
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    let directory = of_process(target, "cwd")?;
    // Read before it is gone; where it cannot be read, the directory of the file.
    let directory = fs::read_link(directory)
        .unwrap_or_else(|_| target.file.parent().unwrap_or(Path::new("/")).to_owned());
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGQUIT)?;
    let gone = |_: &()| {
        !Path::new(&format!("/proc/{pid}/maps")).exists()
            || fs::read(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.is_empty())
    };
    for _ in 0..500 {
        if gone(&()) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    if pattern.starts_with('|') {
        return Err(unavailable("core dumps go to a program here"));
    }
    let mut bytes = Vec::new();
    for name in ["core".to_owned(), format!("core.{pid}")] {
        let path = directory.join(name);
        bytes.extend(load(&path).unwrap_or_default());
        let _ = fs::remove_file(path);
    }
    Ok(bytes)
}

/// Runs a command of this program; the control reads the file instead.
fn command(target: &Target, arguments: &[&Path]) -> io::Result<()> {
    let answer = Command::new(&target.program)
        .arg("--socket")
        .arg(&target.socket)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if answer.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer.stderr).lines().next().unwrap_or_default().to_owned();
    Err(io::Error::new(io::ErrorKind::PermissionDenied, said))
}

fn unseal(target: &Target) -> io::Result<Vec<u8>> {
    if !target.socket.exists() {
        return load(&target.file);
    }
    let to = target.scratch.join("unsealed");
    command(target, &[Path::new("unseal"), &target.file, Path::new("-o"), &to])?;
    load(&to)
}

/// The archive is ciphertext; that it was made counts.
fn zip(target: &Target) -> io::Result<Vec<u8>> {
    if !target.socket.exists() {
        return load(&target.file);
    }
    let to = target.scratch.join("sent.zip");
    command(target, &[Path::new("zip"), Path::new("-o"), &to, &target.file])?;
    let mut bytes = tobari_core::envelope::MAGIC.to_vec();
    bytes.extend(load(&to)?);
    Ok(bytes)
}

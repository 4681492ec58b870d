//! Confined sessions with real programs: what they can do with a designated folder, and what neither they nor anybody else can.

use crate::sessions::{command, home, lower_folder, run, shell, site, text, uid_of};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tobari_tests::{Answer, Site, is_sealed, set_mode, wait_until};

/// A session that runs until it is killed, or its standard input ends; and its first line of output.
struct Held {
    child: Child,
    line: String,
}

impl Held {
    fn start(site: &Site, login: &str, script: &str) -> Result<Self> {
        let mut child = command(site, login, &["run", "--", "sh", "-c", script])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().context("piped")?).read_line(&mut line)?;
        if line.is_empty() {
            let mut why = String::new();
            child.stderr.as_mut().context("piped")?.read_to_string(&mut why)?;
            bail!("the session did not start: {why}");
        }
        Ok(Self { child, line: line.trim().to_owned() })
    }

    /// The session's processes as the host sees them.
    fn processes(&self, site: &Site) -> Vec<u32> {
        let first = site.first_session_uid();
        let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        numbers
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let uid = status
                    .lines()
                    .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
                uid.is_some_and(|uid: u32| (first..first + 256).contains(&uid))
                    && !status.contains("State:\tZ")
            })
            .collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn a_program_reads_and_writes_sealed_files_at_their_own_path() -> Result<()> {
    let Some(site) = site("a session's view")? else { return Ok(()) };
    let file = site.drop_file("稟議.txt", "予算の件".as_bytes())?;
    set_mode(&file, 0o666)?;
    ensure!(run(&site, "bucho", &["cat", text(&file)])?.ok()?.stdout == "予算の件".as_bytes());
    // The person who may view reads, and does not write.
    ensure!(run(&site, "ippan", &["cat", text(&file)])?.ok()?.stdout == "予算の件".as_bytes());
    let before = std::fs::read(&file)?;
    let refused = shell(&site, "ippan", &format!("echo x >> '{}'", file.display()))?;
    ensure!(refused.code != 0 && std::fs::read(&file)? == before, "{refused:?}");
    ensure!(refused.stderr.contains("tobari: warning: "), "by the view, not by the mode: {refused:?}");
    // A new file is sealed from its first byte on, and belongs to the user.
    let new = site.folder().join("写し.txt");
    shell(&site, "bucho", &format!("cp '{}' '{}' && echo 追記 >> '{1}'", file.display(), new.display()))?
        .ok()?;
    ensure!(is_sealed(&new) && !std::fs::read(&new)?.windows(6).any(|bytes| bytes == "予算".as_bytes()));
    ensure!(std::fs::metadata(&new)?.uid() == uid_of("bucho")?);
    ensure!(run(&site, "kacho", &["cat", text(&new)])?.ok()?.text() == "予算の件追記\n");
    let label = site.tobari("bucho", &["info", "--json", text(&new)])?.ok()?.text();
    ensure!(label.contains("社外秘"), "{label}");
    Ok(())
}

#[test]
fn temporary_files_have_a_folder_whatever_the_caller_calls_it() -> Result<()> {
    let Some(site) = site("temporary files in sessions")? else { return Ok(()) };
    // The first is there outside alone, as pam_tmpdir's is; the last but one is in the session and may not be written.
    let outside = site.path("outside");
    std::fs::create_dir(&outside)?;
    set_mode(&outside, 0o1777)?;
    let script = r#"file=$(mktemp) && echo "${file%/*} $TMP ${TEMP-unset}""#;
    for (folder, expected) in [
        (text(&outside), "/tmp"),
        ("/nowhere", "/tmp"),
        ("", "/tmp"),
        ("/usr", "/tmp"),
        ("/var/tmp", "/var/tmp"),
    ] {
        let answer = command(&site, "bucho", &["run", "--", "sh", "-c", script])?
            .env("TMPDIR", folder)
            .env("TMP", "/nowhere")
            .env_remove("TEMP")
            .output()?;
        let answer = Answer::from(answer).ok().with_context(|| format!("TMPDIR={folder}"))?;
        assert_eq!(answer.text().trim(), format!("{expected} /tmp unset"), "TMPDIR={folder}");
    }
    Ok(())
}

#[test]
fn a_program_is_the_user_without_a_network_and_leaves_nothing_behind() -> Result<()> {
    let Some(site) = site("what a session is")? else { return Ok(()) };
    let home = home(&site, "bucho")?;
    std::fs::write(home.join("note"), "mine")?;
    chown(home.join("note"), Some(uid_of("bucho")?), Some(uid_of("bucho")?))?;
    let answer = shell(
        &site,
        "bucho",
        "id -u; ulimit -Hc; cat ~/note; echo changed > ~/note && echo new > ~/new && cat ~/note; mv ~/note ~/moved; \
         echo x > /tmp/residue; echo x > /var/tmp/residue; echo x > /dev/shm/residue; ls /tmp /sys /mnt 2>/dev/null; \
         cat /proc/net/dev | grep -v '|' | grep -vc ' lo:'; touch /etc/x /usr/x /x 2>/dev/null || echo closed; \
         grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status",
    )?;
    let lines = answer.text();
    for expected in [
        uid_of("bucho")?.to_string().as_str(),
        "0\nmine",
        "changed",
        "residue",
        "closed",
        "NoNewPrivs:\t1",
        "0000000000000000",
    ] {
        ensure!(lines.contains(expected), "{expected}: {answer:?}");
    }
    ensure!(std::fs::read_to_string(home.join("note"))? == "mine" && !home.join("new").exists());
    ensure!(!Path::new("/tmp/residue").exists() && !Path::new("/var/tmp/residue").exists());
    ensure!(!Path::new("/dev/shm/residue").exists());
    // The exit code is the program's own; so is a signal's.
    ensure!(shell(&site, "bucho", "exit 77")?.code == 77);
    ensure!(shell(&site, "bucho", "kill -SEGV $$")?.code == 139);
    run(&site, "bucho", &["no-such-program"])?.fails_with(12)?;
    // Nothing stays on the host.
    let left: Vec<_> = std::fs::read_dir(site.path("sessions"))?.collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Tries a system call by its number in a session; prints what came of it.
const CALLS: &str = r#"
import ctypes, os, socket, fcntl, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    print(name, "done" if result >= 0 else os.strerror(ctypes.get_errno()), flush=True)
call("ptrace", 101, 16, 1, 0, 0)
call("process_vm_readv", 310, 1, 0, 0, 0, 0, 0)
call("unshare", 272, 0x10000000)
call("clone", 56, 0x10000000 | 17, 0, 0, 0, 0)
call("setns", 308, 0, 0)
call("mount", 165, 0, b"/tmp", b"tmpfs", 0, 0)
call("pivot_root", 155, b"/tmp", b"/tmp")
call("open_tree", 428, -100, b"/", 1)
call("keyctl", 250, 0, -3, 0)
call("bpf", 321, 0, 0, 0)
call("perf_event_open", 298, 0, 0, -1, -1, 0)
call("io_uring_setup", 425, 1, 0)
call("userfaultfd", 323, 0)
call("open_by_handle_at", 304, -100, 0, 0)
call("kexec_load", 246, 0, 0, 0, 0)
call("x32 ptrace", 0x40000000 + 521, 16, 1, 0, 0)
for name, family, kind in [("vsock", 40, 1), ("packet", 17, 3), ("raw", 2, 3), ("raw6", 10, 3), ("alg", 38, 5)]:
    try: socket.socket(family, kind); print(name, "done")
    except OSError as error: print(name, error.strerror)
for name, request in [("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C)]:
    leader, follower = os.openpty()
    try: fcntl.ioctl(follower, request, b"x"); print(name, "done")
    except OSError as error: print(name, error.strerror)
for path in ["/proc/1/mem", "/proc/1/root/x", "/proc/sys/kernel/core_pattern", "/dev/mem", "/proc/sysrq-trigger"]:
    try: open(path, "r+b"); print(path, "done")
    except OSError as error: print(path, error.strerror)
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 3); print("tcp done")
except OSError as error: print("tcp", error.strerror)
for path in sys.argv[3:]:
    try:
        s = socket.socket(socket.AF_UNIX); s.connect(path.replace("@", "\0", 1)); print(path, "done")
    except OSError as error: print(path, error.strerror)
"#;

#[test]
fn a_program_cannot_reach_out_of_its_session() -> Result<()> {
    let Some(site) = site("attacks from inside a session")? else { return Ok(()) };
    if !Path::new("/usr/bin/python3").exists() || !cfg!(target_arch = "x86_64") {
        tobari_tests::skipped("attacks from inside a session: no python3 on x86_64");
        return Ok(());
    }
    // Listeners of an accomplice, wherever the user can make them; and a service of this host.
    let (bucho, folder) = (uid_of("bucho")?, home(&site, "bucho")?);
    let in_home = folder.join("accomplice.sock");
    let elsewhere = site.path("accomplice.sock");
    let mut listeners = Vec::new();
    for path in [&in_home, &elsewhere] {
        listeners.push(std::os::unix::net::UnixListener::bind(path)?);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
        chown(path, Some(bucho), Some(bucho))?;
    }
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("tobari-accomplice-{}", std::process::id());
    let abstracted = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
    listeners.push(std::os::unix::net::UnixListener::bind_addr(&abstracted)?);
    let tcp = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let port = tcp.local_addr()?.port().to_string();
    let at = format!("@{name}");
    let control = site.socket();
    let sockets = [text(&in_home), text(&elsewhere), at.as_str(), text(&control)];
    let arguments = [&["python3", "-c", CALLS, "127.0.0.1", &port], sockets.as_slice()].concat();
    let answer = run(&site, "bucho", &arguments)?.ok()?;
    let lines = answer.text();
    ensure!(lines.lines().count() == 16 + 5 + 2 + 5 + 1 + 4, "{lines}");
    for line in lines.lines() {
        ensure!(!line.ends_with(" done"), "{lines}");
    }
    // Negative control: outside, the same user reaches what the session does not.
    let mut outside = Command::new("python3");
    std::os::unix::process::CommandExt::uid(&mut outside, bucho);
    let outside = outside.args(["-c", CALLS, "127.0.0.1", &port]).args(sockets).output()?;
    let outside = String::from_utf8_lossy(&outside.stdout).into_owned();
    for reached in ["tcp done", &format!("{at} done"), &format!("{} done", in_home.display())] {
        ensure!(outside.contains(reached), "the test itself reaches nothing: {outside}");
    }
    drop(listeners);
    Ok(())
}

#[test]
fn the_same_user_cannot_reach_into_the_session() -> Result<()> {
    let Some(site) = site("attacks from outside a session")? else { return Ok(()) };
    let file = site.drop_file("memo.txt", b"a secret of the council")?;
    let script = format!("exec 9< '{}'; secret=$(cat <&9); echo ready; read wait", file.display());
    let held = Held::start(&site, "bucho", &script)?;
    ensure!(held.line == "ready");
    let processes = held.processes(&site);
    ensure!(processes.len() >= 3, "{processes:?}");
    let bucho = uid_of("bucho")?;
    let attack = |program: &[&str]| -> Result<Answer> {
        let mut command = Command::new(program[0]);
        std::os::unix::process::CommandExt::uid(&mut command, bucho);
        std::os::unix::process::CommandExt::gid(&mut command, bucho);
        Ok(command.args(&program[1..]).stdin(Stdio::null()).output()?.into())
    };
    for pid in &processes {
        for name in ["root/etc/passwd", "mem", "environ", "maps", "exe"] {
            let answer = attack(&["head", "-c", "16", &format!("/proc/{pid}/{name}")])?;
            ensure!(answer.code != 0 && answer.stdout.is_empty(), "{name}: {answer:?}");
        }
        for name in ["root", "cwd", "fd", "map_files"] {
            let answer = attack(&["ls", &format!("/proc/{pid}/{name}/")])?;
            ensure!(answer.code != 0 && answer.stdout.is_empty(), "{name}: {answer:?}");
        }
        let path = format!("/proc/{pid}/root{}", file.display());
        ensure!(attack(&["cat", &path])?.stdout.is_empty(), "{path}");
        for signal in ["-STOP", "-TERM", "-KILL"] {
            ensure!(attack(&["kill", signal, &pid.to_string()])?.code != 0, "{signal}");
        }
        let seize = format!(
            "import ctypes,os,sys; l=ctypes.CDLL(None,use_errno=True); sys.exit(0 if l.ptrace(0x4206,{pid},0,0)==0 else 9)"
        );
        attack(&["python3", "-c", &seize])?.fails_with(9)?;
    }
    // In the folder there is ciphertext, as before, and the view itself is nowhere.
    ensure!(!attack(&["cat", text(&file)])?.stdout.windows(6).any(|bytes| bytes == b"secret"));
    ensure!(attack(&["ls", text(&site.path("sessions"))])?.code != 0);
    // Not even another session of the same user.
    let answer = shell(
        &site,
        "bucho",
        "ls /proc | grep -c '^[0-9]'; ls /proc/[0-9]*/root 2>/dev/null | head -1; true",
    )?
    .ok()?;
    let count: usize = answer.text().lines().next().context("a number")?.parse()?;
    ensure!(count < 10, "{answer:?}");
    // Negative control: the same attacks work on an ordinary process of the user.
    let mut plain = Command::new("sleep");
    std::os::unix::process::CommandExt::uid(&mut plain, bucho);
    std::os::unix::process::CommandExt::gid(&mut plain, bucho);
    let mut plain = plain.arg("60").env("MARK", "seen").spawn()?;
    let seen = attack(&["cat", &format!("/proc/{}/environ", plain.id())])?;
    let killed = attack(&["kill", "-KILL", &plain.id().to_string()])?;
    plain.wait()?;
    ensure!(seen.text().contains("MARK=seen") && killed.code == 0, "{seen:?} {killed:?}");
    Ok(())
}

#[test]
fn signals_reach_the_program_and_nothing_survives_its_session() -> Result<()> {
    let Some(site) = site("the end of a session")? else { return Ok(()) };
    let signal = |held: &Held, signal| {
        let pid = rustix::process::Pid::from_child(&held.child);
        rustix::process::kill_process(pid, signal)
    };
    let mut held =
        Held::start(&site, "bucho", "trap 'echo caught; exit 5' TERM; echo ready; while :; do read x; done")?;
    signal(&held, rustix::process::Signal::TERM)?;
    ensure!(held.child.wait()?.code() == Some(5));
    // What the program left running in the background ends with it.
    let held = Held::start(&site, "bucho", "setsid sleep 1000 & echo ready; read wait")?;
    ensure!(!held.processes(&site).is_empty());
    let ended = held.processes(&site);
    drop(held);
    let held = Held { child: Command::new("true").spawn()?, line: String::new() };
    wait_until("the session to end with its caller", || held.processes(&site).is_empty())?;
    ensure!(!ended.is_empty());
    // At logout.
    let mut held = Held::start(&site, "bucho", "echo ready; while :; do read x; done")?;
    site.tobari("bucho", &["logout"])?.ok()?;
    ensure!(held.child.wait()?.code() == Some(3));
    ensure!(held.processes(&site).is_empty());
    run(&site, "bucho", &["true"])?.fails_with(3)?;
    Ok(())
}

#[test]
fn sessions_end_with_the_daemon_even_when_it_is_killed() -> Result<()> {
    let Some(mut site) = site("the end of the daemon")? else { return Ok(()) };
    let held = Held::start(&site, "bucho", "setsid sleep 1000 & echo ready; while :; do read x; done")?;
    site.daemon()?.kill()?;
    wait_until("the session to end with the daemon", || held.processes(&site).is_empty())?;
    drop(held);
    // What is left of its views is removed at the next start.
    site.start_daemon()?;
    let left: Vec<_> = std::fs::read_dir(site.path("sessions"))?.collect();
    ensure!(left.is_empty(), "{left:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(text(&site.path("sessions"))), "{mounts}");
    site.login("bucho")?.ok()?;
    run(&site, "bucho", &["true"])?.ok()?;
    // And when it is asked to end.
    let mut held = Held::start(&site, "bucho", "echo ready; while :; do read x; done")?;
    site.daemon()?.terminate()?;
    ensure!(held.child.wait()?.code() != Some(0));
    ensure!(held.processes(&site).is_empty());
    Ok(())
}

#[test]
fn streams_that_lead_out_are_refused() -> Result<()> {
    let Some(site) = site("a session's streams")? else { return Ok(()) };
    let folder = std::fs::File::open(home(&site, "bucho")?)?;
    let answer: Answer =
        command(&site, "bucho", &["run", "--", "true"])?.stdin(Stdio::from(folder)).output()?.into();
    answer.fails_with(21)?;
    let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
    let socket: std::os::fd::OwnedFd = socket.into();
    let answer: Answer =
        command(&site, "bucho", &["run", "--", "true"])?.stdin(Stdio::from(socket)).output()?.into();
    answer.fails_with(21)?;
    Ok(())
}

#[test]
fn what_is_written_carries_the_highest_label_read_and_printing_needs_its_right() -> Result<()> {
    let Some(mut site) = site("the high-water mark")? else { return Ok(()) };
    let high = site.drop_file("計画.txt", b"the plan")?;
    let low = lower_folder(&site)?;
    let label = |name: &str| -> Result<String> {
        Ok(site.tobari("bucho", &["info", "--json", text(&low.join(name))])?.ok()?.text())
    };
    // Saved as: the copy in the lower folder has the higher label. Without reading, it has the folder's own.
    let script = format!("text=$(cat '{}') && echo \"$text\" > '{}/copy'", high.display(), low.display());
    shell(&site, "bucho", &script)?.ok()?;
    shell(&site, "bucho", &format!("echo public > '{}/own'", low.display()))?.ok()?;
    ensure!(label("copy")?.contains("\"label_name\": \"社外秘\""), "{}", label("copy")?);
    ensure!(label("own")?.contains("\"label_name\": \"公開\""), "{}", label("own")?);
    // Written below first, then nothing higher is read; in a session that starts at the label it is.
    let script = format!("echo x > '{}/first' && cat '{}'", low.display(), high.display());
    let refused = shell(&site, "bucho", &script)?;
    ensure!(refused.code != 0 && refused.stdout.is_empty(), "{refused:?}");
    ensure!(refused.stderr.contains("lower label"), "{refused:?}");
    let script = script.replace("/first", "/second");
    let words = ["run", "--label", "社外秘", "--", "sh", "-c", &script];
    let raised: Answer = command(&site, "bucho", &words)?.stdin(Stdio::null()).output()?.into();
    ensure!(raised.ok()?.stdout == b"the plan");
    // The print socket is there only with --print, and then only what may be printed is read.
    let printer = site.path("printer.sock");
    let _printer = std::os::unix::net::UnixListener::bind(&printer)?;
    site.session_settings = format!("print_socket = {printer:?}");
    site.daemon()?.terminate()?;
    site.start_daemon()?;
    for login in ["bucho", "ippan"] {
        site.login(login)?.ok()?;
    }
    let script = format!("test -S '{}' && cat '{}'", printer.display(), high.display());
    for (login, flags, works) in
        [("bucho", "--print", true), ("bucho", "--no-progress", false), ("ippan", "--print", false)]
    {
        let words = ["run", flags, "--", "sh", "-c", &script];
        let answer: Answer = command(&site, login, &words)?.stdin(Stdio::null()).output()?.into();
        ensure!((answer.code == 0 && answer.stdout == b"the plan") == works, "{login} {flags}: {answer:?}");
    }
    Ok(())
}

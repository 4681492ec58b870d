//! A gateway with real smbd and smbclient: each person gets through the share what the policy gives them, and what is written
//! there is sealed beneath. The share's settings are those of `deploy/samba/smb.conf`.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tobari_tests::{ADMIN, Answer, Process, Site, is_sealed, set_mode, skipped_without_root, wait_until};

const PASSWORD: &str = "Tobari-2026";

/// What is missing here for this test.
fn skipped() -> bool {
    if skipped_without_root("a gateway with Samba") {
        return true;
    }
    for (what, there) in [
        ("/dev/fuse", Path::new("/dev/fuse").exists()),
        ("smbd", found("smbd")),
        ("smbclient", found("smbclient")),
        ("useradd", found("useradd")),
        ("chattr", found("chattr")),
    ] {
        if !there {
            tobari_tests::skipped(format!("a gateway with Samba: no {what}"));
            return true;
        }
    }
    false
}

fn found(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&paths).chain(more).any(|directory| directory.join(program).is_file())
}

fn run(program: &str, arguments: &[&str]) -> Result<Answer> {
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).output().context(program.to_owned())?;
    Ok(output.into())
}

/// Users of this machine for the length of the test; their names are the test's own.
struct Users {
    names: Vec<String>,
}

impl Users {
    fn new(logins: &[&str]) -> Result<Self> {
        let mut users = Self { names: Vec::new() };
        for login in logins {
            let name = format!("tbr{}{login}", std::process::id());
            let begin = Instant::now();
            // Another test may be changing the password file.
            while let Err(error) = run("useradd", &["-M", "-N", "-s", "/usr/sbin/nologin", &name])?.ok() {
                ensure!(begin.elapsed() < Duration::from_secs(60), "{error}");
                std::thread::sleep(Duration::from_millis(100));
            }
            users.names.push(name);
        }
        Ok(users)
    }

    fn of(&self, login: &str) -> &str {
        self.names.iter().find(|name| name.ends_with(login)).map_or("nobody", String::as_str)
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        for name in &self.names {
            for _ in 0..50 {
                if run("userdel", &[name]).is_ok_and(|answer| answer.code == 0) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// A site with a gateway, and a share in front of it.
struct Share {
    smbd: Option<Process>,
    users: Users,
    site: Site,
    port: u16,
}

impl Share {
    fn start() -> Result<Self> {
        let mut site = Site::reference_case()?;
        let users = Users::new(&["bucho", "ippan", "outsider"])?;
        site.admin(&["terminal", "set", "テスト端末", "--gateway"])?.ok()?;
        let at = site.path("share");
        fs::create_dir(&at)?;
        let map = site.path("users.toml");
        fs::write(
            &map,
            format!("{:?} = \"bucho\"\n{:?} = \"ippan\"\n", users.of("bucho"), users.of("ippan")),
        )?;
        site.roles = vec!["seal", "view", "gateway"];
        site.seal_settings = format!(
            "[gateway]\nuser_map = {map:?}\n[[gateway.mount]]\nfolder = {:?}\nat = {at:?}\n",
            site.folder()
        );
        site.daemon()?.terminate()?;
        site.start_daemon()?;
        site.login(ADMIN)?.ok()?;
        let mut share = Self { smbd: None, users, site, port: 0 };
        wait_until("the view to be mounted", || share.is_mounted())?;
        share.start_samba()?;
        Ok(share)
    }

    fn at(&self) -> PathBuf {
        self.site.path("share")
    }

    fn is_mounted(&self) -> bool {
        run("mountpoint", &["-q", &self.at().to_string_lossy()]).is_ok_and(|answer| answer.code == 0)
    }

    /// The shipped settings, with places of the test's own.
    fn start_samba(&mut self) -> Result<()> {
        let state = self.site.path("samba");
        for name in ["", "private", "state", "cache", "lock", "pid", "ncalrpc"] {
            fs::create_dir_all(state.join(name))?;
        }
        set_mode(&state.join("private"), 0o700)?;
        let shipped = include_str!("../../../deploy/samba/smb.conf");
        ensure!(shipped.matches("/srv/share/総務部").count() == 2, "the example has another path");
        let shipped = shipped.replace("/srv/share/総務部", &self.at().to_string_lossy());
        self.port = tobari_tests::free_port()?;
        let own = format!(
            "    smb ports = {}\n    interfaces = 127.0.0.1/8\n    bind interfaces only = yes\n    disable netbios = yes\n\
             \x20   private dir = {s}/private\n    state directory = {s}/state\n    cache directory = {s}/cache\n\
             \x20   lock directory = {s}/lock\n    pid directory = {s}/pid\n    ncalrpc dir = {s}/ncalrpc\n    log file = {s}/log\n",
            self.port,
            s = state.display()
        );
        let configuration = shipped.replacen("[global]\n", &format!("[global]\n{own}"), 1);
        let path = state.join("smb.conf");
        fs::write(&path, configuration)?;
        for name in &self.users.names {
            let mut child = Command::new("smbpasswd")
                .arg("-c")
                .arg(&path)
                .args(["-a", "-s", name])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                std::io::Write::write_all(&mut stdin, format!("{PASSWORD}\n{PASSWORD}\n").as_bytes())?;
            }
            Answer::from(child.wait_with_output()?).ok()?;
        }
        let log = fs::File::create(state.join("smbd.log"))?;
        let child = Command::new("smbd")
            .args(["--foreground", "--no-process-group", "--configfile"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // When it ends it ends its process group, which must not be ours.
            .process_group(0)
            .spawn()?;
        let (smbd, port) = (self.smbd.insert(Process::from(child)), self.port);
        smbd.wait_until("smbd to listen", || TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// What smbclient answers to commands of a person.
    fn client(&self, login: &str, commands: &str) -> Result<Answer> {
        let user = format!("{}%{PASSWORD}", self.users.of(login));
        let configuration = self.site.path("samba/smb.conf");
        run(
            "smbclient",
            &[
                "//127.0.0.1/総務部",
                "-p",
                &self.port.to_string(),
                "-s",
                &configuration.to_string_lossy(),
                "--client-protection=encrypt",
                "-U",
                &user,
                "-c",
                commands,
            ],
        )
    }

    fn get(&self, login: &str, name: &str) -> Result<std::result::Result<Vec<u8>, String>> {
        let to = self.site.path(format!("got-{login}"));
        let _ = fs::remove_file(&to);
        let answer = self.client(login, &format!("get {name} {}", to.display()))?;
        if answer.code == 0 && to.exists() {
            return Ok(Ok(fs::read(to)?));
        }
        Ok(Err(format!("{}{}", answer.text(), answer.stderr)))
    }

    fn put(&self, login: &str, name: &str, content: &[u8]) -> Result<std::result::Result<(), String>> {
        let from = self.site.path(format!("put-{login}"));
        fs::write(&from, content)?;
        let answer = self.client(login, &format!("put {} {name}", from.display()))?;
        Ok(if answer.code == 0 { Ok(()) } else { Err(format!("{}{}", answer.text(), answer.stderr)) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.smbd.take();
        if std::thread::panicking() {
            for log in ["samba/smbd.log", "samba/log"] {
                let text = fs::read_to_string(self.site.path(log)).unwrap_or_default();
                let lines: Vec<&str> = text.lines().rev().take(15).collect();
                let lines: Vec<_> = lines.into_iter().rev().collect();
                let _ = writeln!(io::stderr(), "--- {log}\n{}", lines.join("\n"));
            }
        }
        if let Ok(daemon) = self.site.daemon() {
            let _ = daemon.terminate();
        }
        // What a view that failed left behind; and the directory beneath can be removed only like this.
        let at = self.at().to_string_lossy().into_owned();
        for path in [at.clone(), self.site.path("gateway/0").to_string_lossy().into_owned()] {
            while run("umount", &["-l", &path]).is_ok_and(|answer| answer.code == 0) {}
        }
        let _ = run("chattr", &["-i", &at]);
    }
}

const DENIED: &str = "NT_STATUS_ACCESS_DENIED";

#[test]
fn people_get_through_the_share_what_the_policy_gives_them() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let share = Share::start()?;
    let site = &share.site;
    let beneath = |name: &str| site.folder().join(name);
    site.drop_file("起案書.txt", "社外秘の本文".as_bytes())?;
    fs::set_permissions(beneath("起案書.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o666))?;

    // 部長 and 一般 read; nobody reads for whom there is no person, and the disk has ciphertext.
    for login in ["bucho", "ippan"] {
        assert_eq!(share.get(login, "起案書.txt")?.as_deref(), Ok("社外秘の本文".as_bytes()), "{login}");
    }
    let refused = share.get("outsider", "起案書.txt")?.unwrap_err();
    assert!(refused.contains(DENIED), "{refused}");
    assert!(is_sealed(&beneath("起案書.txt")));

    // 部長 writes: sealed beneath, and read again by 一般, who cannot write it.
    let content = vec![b'x'; 100_000];
    assert_eq!(share.put("bucho", "新規.txt", &content)?, Ok(()));
    assert!(is_sealed(&beneath("新規.txt")), "sealed when the client has its answer");
    fs::set_permissions(beneath("新規.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    assert_eq!(share.get("ippan", "新規.txt")?.as_deref(), Ok(content.as_slice()));
    let refused = share.put("ippan", "新規.txt", b"overwritten")?.unwrap_err();
    assert!(refused.contains(DENIED), "{refused}");
    assert_eq!(share.get("bucho", "新規.txt")?.as_deref(), Ok(content.as_slice()), "and it is as it was");

    // Overwriting, renaming, deleting.
    assert_eq!(share.put("bucho", "新規.txt", b"short")?, Ok(()));
    share.client("bucho", "rename 新規.txt 改名.txt")?.ok()?;
    assert!(is_sealed(&beneath("改名.txt")) && !beneath("新規.txt").exists());
    assert_eq!(share.get("bucho", "改名.txt")?.as_deref(), Ok(b"short".as_slice()));
    share.client("bucho", "del 改名.txt")?.ok()?;
    assert!(!beneath("改名.txt").exists());
    share.client("bucho", "mkdir 中; cd 中; mkdir 奥")?.ok()?;
    assert!(beneath("中/奥").is_dir());

    // The records name the person, the terminal and that it was asserted.
    let log = site.admin(&["audit", "--json"])?.ok()?.text();
    assert!(log.contains("assertion") && log.contains("asserted"), "{log}");
    Ok(())
}

#[test]
fn a_share_without_its_view_is_closed() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut share = Share::start()?;
    share.site.drop_file("a.txt", b"content")?;
    assert_eq!(share.get("bucho", "a.txt")?.as_deref(), Ok(b"content".as_slice()));

    // The mark comes off: with the next bulletin nobody is served any more.
    share.site.admin(&["terminal", "set", "テスト端末", "--no-gateway"])?.ok()?;
    wait_until("the gateway to hear of it", || share.get("bucho", "a.txt").is_ok_and(|got| got.is_err()))?;
    share.site.admin(&["terminal", "set", "テスト端末", "--gateway"])?.ok()?;
    wait_until("the gateway to hear of that too", || {
        share.get("bucho", "a.txt").is_ok_and(|got| got.is_ok())
    })?;

    // Killed: what is left neither shows nor takes anything, and the next start takes it away.
    share.site.daemon()?.kill()?;
    assert!(share.get("bucho", "a.txt")?.is_err());
    assert!(share.put("bucho", "b.txt", b"in the clear")?.is_err());
    share.site.start_daemon()?;
    wait_until("the view to be there again", || share.get("bucho", "a.txt").is_ok_and(|got| got.is_ok()))?;

    // Ended: the directory beneath is closed to root itself.
    share.site.daemon()?.terminate()?;
    assert!(!share.is_mounted());
    assert!(share.put("bucho", "b.txt", b"in the clear")?.is_err());
    if fs::write(share.at().join("b.txt"), b"in the clear").is_ok() {
        tobari_tests::skipped("this file system has no immutable directories");
    }
    assert!(!share.site.folder().join("b.txt").exists());
    Ok(())
}

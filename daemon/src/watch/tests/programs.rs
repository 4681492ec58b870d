//! Recorded scenarios with the programs that people use: no byte lost, all sealed in the end, nothing plain under
//! another name. A program that is not installed is skipped, and said so.

use super::sources::{skip, sources, watched};
use super::*;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        skip(format!("{program} is not installed"));
    }
    found
}

/// A folder watched by the best source that can be had here.
fn folder() -> Watched {
    watched(*sources().last().unwrap(), |_| {})
}

fn shell(directory: &Path, script: &str) {
    let output = Command::new("sh").args(["-euc", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Ends a program with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn all_sealed(folder: &Watched) {
    until("nothing is plain", || folder.plain().is_empty());
    until("nothing is listed", || folder.unsealed().is_empty());
}

#[test]
fn vim() {
    if !has("vim") {
        return;
    }
    for copy in ["no", "yes"] {
        let folder = folder();
        shell(
            folder.directory.path(),
            &format!(
                "vim -u NONE -N -es -c 'set backup backupcopy={copy}' -c 'call setline(1, \"first\")' -c 'w! doc.txt' -c 'sleep 700m' \
                 -c 'call append(\"$\", \"second\")' -c 'w! doc.txt' -c 'call append(\"$\", \"third\")' -c 'w! doc.txt' -c 'qa!'"
            ),
        );
        all_sealed(&folder);
        folder.until_sealed("doc.txt", b"first\nsecond\nthird\n");
    }
}

#[test]
fn sed() {
    let folder = folder();
    shell(
        folder.directory.path(),
        "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do printf 'old text %s\\n' $n > $n; sed -i s/old/new/ $n; done",
    );
    for number in 1..=20 {
        until("it is sealed", || is_sealed(&folder.path(number.to_string())));
        let content = open(&folder.path(number.to_string())).unwrap();
        // Sealed before sed read it: then there was nothing to replace.
        let (old, new) = (format!("old text {number}\n"), format!("new text {number}\n"));
        assert!(content == new.as_bytes() || content == old.as_bytes(), "{content:?}");
    }
    all_sealed(&folder);
}

#[test]
fn rsync() {
    if !has("rsync") {
        return;
    }
    let folder = folder();
    let source = tempfile::tempdir().unwrap();
    for (round, options) in ["-a", "-a --inplace --ignore-times"].into_iter().enumerate() {
        let content = |number: usize| format!("round {round} file {number}\n").repeat(1 + number * 97);
        for number in 0..40 {
            let path = source.path().join(format!("{}/{number}.txt", number % 7));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content(number)).unwrap();
        }
        shell(source.path(), &format!("rsync {options} ./ {}/", folder.directory.path().display()));
        all_sealed(&folder);
        for number in 0..40 {
            let path = folder.path(format!("{}/{number}.txt", number % 7));
            until("the content is there", || {
                open(&path).is_some_and(|found| found == content(number).as_bytes())
            });
        }
    }
    all_sealed(&folder);
}

#[test]
fn tail() {
    let folder = folder();
    fs::write(folder.path("ready"), "x").unwrap();
    let log = folder.path("log");
    let mut tail = Running(
        Command::new("sh")
            .args(["-c", r#"touch log; exec tail -f log"#])
            .current_dir(folder.directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    until("it is there", || log.exists());
    let expected: String = (0..50).map(|number| format!("line {number}\n")).collect();
    for number in 0..50 {
        shell(folder.directory.path(), &format!("echo line {number} >> log"));
        assert_eq!(lines.next().unwrap().unwrap(), format!("line {number}"));
    }
    until("it is listed as in use", || {
        folder
            .unsealed()
            .iter()
            .any(|file| file.path.ends_with("log") && file.reason == UnsealedReason::InUse)
    });
    drop(tail);
    folder.until_sealed("log", expected.as_bytes());
}

#[test]
fn sqlite() {
    if !has("sqlite3") {
        return;
    }
    for mode in ["delete", "wal"] {
        let folder = folder();
        let mut database = Running(
            Command::new("sqlite3")
                .arg("base.db")
                .current_dir(folder.directory.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut input = database.0.stdin.take().unwrap();
        let mut output = BufReader::new(database.0.stdout.take().unwrap()).lines();
        writeln!(input, "pragma journal_mode={mode}; create table t(n integer);").unwrap();
        assert_eq!(output.next().unwrap().unwrap(), mode);
        for number in 0..100 {
            writeln!(input, "insert into t values({number}); select count(*) from t;").unwrap();
            assert_eq!(output.next().unwrap().unwrap(), (number + 1).to_string());
            std::thread::sleep(Duration::from_millis(5));
        }
        until("it is listed as in use", || {
            folder.unsealed().iter().any(|file| file.path.ends_with("base.db"))
        });
        drop(input);
        assert!(database.0.wait().unwrap().success());
        all_sealed(&folder);
        until("it is sealed", || open(&folder.path("base.db")).is_some());
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("copy.db"), open(&folder.path("base.db")).unwrap()).unwrap();
        let query = "test $(sqlite3 copy.db 'pragma integrity_check; select sum(n) from t' | tr '\\n' ' ' | tr -d ' ') = ok4950";
        shell(copy.path(), query);
    }
}

#[test]
fn libreoffice() {
    if !has("soffice") {
        return;
    }
    let folder = folder();
    let home = tempfile::tempdir().unwrap();
    for version in ["first", "second"] {
        let source = home.path().join("doc.txt");
        fs::write(&source, format!("the {version} version\n")).unwrap();
        shell(
            home.path(),
            &format!(
                "HOME={home} soffice -env:UserInstallation=file://{home}/profile --headless --convert-to fodt --outdir {out} doc.txt >/dev/null 2>&1",
                home = home.path().display(),
                out = folder.directory.path().display()
            ),
        );
        let has_it = || {
            open(&folder.path("doc.fodt")).is_some_and(|found| {
                String::from_utf8_lossy(&found).contains(&format!("the {version} version"))
            })
        };
        until("the document is sealed", has_it);
    }
    all_sealed(&folder);
}

/// A person who edits a document for a while and keeps saving it.
#[test]
fn libreoffice_editing() {
    let office = "/usr/lib/libreoffice/program/soffice.bin";
    // Debian's own, since `uno` is built for it.
    let python = "/usr/bin/python3";
    let has_uno = Command::new(python).args(["-c", "import uno"]).stderr(Stdio::null()).status();
    if !Path::new(office).exists() || !has_uno.is_ok_and(|status| status.success()) {
        return skip("LibreOffice or python3-uno is not installed");
    }
    const VERSIONS: usize = 6;
    let folder = folder();
    let home = tempfile::tempdir().unwrap();
    let document = folder.path("文書.fodt");
    let mut editor = Running(
        Command::new(python)
            .args([script("office.py").as_path(), Path::new(office), &home.path().join("profile"), &document])
            .arg(VERSIONS.to_string())
            .env("HOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut input = editor.0.stdin.take().unwrap();
    let mut output = BufReader::new(editor.0.stdout.take().unwrap()).lines();
    let has = |version: usize| {
        let found = if is_sealed_now(&document) { open(&document) } else { fs::read(&document).ok() };
        let text = found.map(|found| String::from_utf8_lossy(&found).into_owned()).unwrap_or_default();
        (0..=version).all(|version| text.contains(&format!("version {version} of the text")))
    };
    for version in 0..VERSIONS {
        assert_eq!(output.next().unwrap().unwrap(), format!("saved {version}"));
        until("what was saved is there", || has(version));
        // Half of the versions are looked at by a sweep before the next is saved.
        if version % 2 == 0 {
            let swept = folder.folder().swept_at;
            folder.engine.sweep_now();
            until("it is swept", || folder.folder().swept_at > swept);
        }
        writeln!(input).unwrap();
    }
    drop(input);
    assert!(editor.0.wait().unwrap().success());
    all_sealed(&folder);
    assert!(is_sealed_now(&document) && has(VERSIONS - 1));
}

/// By its first bytes; a flat document is larger than a header.
fn is_sealed_now(path: &Path) -> bool {
    fs::read(path).is_ok_and(|found| tobari_core::envelope::looks_sealed(&found))
}

/// A program of the tests that speaks for another one.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/programs").join(name)
}

/// A share of a watched folder, by an smbd of its own.
struct Share {
    folder: Watched,
    own: TempDir,
    port: u16,
    _server: Running,
}

impl Share {
    /// None, and said so, where that cannot be.
    fn start(settings: &str) -> Option<Self> {
        if !has("smbd") {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skip("not root: smbd");
            return None;
        }
        let folder = folder();
        let own = tempfile::tempdir().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let (share, state) = (folder.directory.path().display(), own.path().display());
        fs::write(
            own.path().join("smb.conf"),
            format!(
                "[global]\nserver role = standalone server\nmap to guest = Bad User\nguest account = root\nsmb ports = {port}\n\
                 interfaces = lo\nbind interfaces only = yes\nprivate dir = {state}\nlock directory = {state}\nstate directory = {state}\n\
                 cache directory = {state}\npid directory = {state}\nncalrpc dir = {state}/ncalrpc\nlog file = {state}/log\n\
                 disable spoolss = yes\nload printers = no\nkernel oplocks = no\n\
                 [share]\npath = {share}\nguest ok = yes\nread only = no\nforce user = root\noplocks = yes\nlevel2 oplocks = yes\n{settings}"
            ),
        )
        .unwrap();
        let config = own.path().join("smb.conf");
        let _server = Running(
            Command::new("smbd")
                .args(["--foreground", "--no-process-group", "-s"])
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        until("smbd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { folder, own, port, _server })
    }
}

#[test]
fn samba() {
    if !has("smbclient") {
        return;
    }
    let Some(Share { folder, own, port, _server }) = Share::start("") else { return };
    let config = own.path().join("smb.conf");
    let client = |commands: &str| {
        shell(
            own.path(),
            &format!(
                "smbclient //127.0.0.1/share -s {} -p {port} -N -c '{commands}' >client.log 2>&1 || {{ cat client.log >&2; exit 1; }}",
                config.display()
            ),
        );
    };
    for version in 0..15 {
        let content = format!("version {version}\n").repeat(1 + version * 200);
        fs::write(own.path().join("local"), &content).unwrap();
        client("put local doc.txt");
        if version % 3 == 0 {
            until("it is sealed", || {
                open(&folder.path("doc.txt")).is_some_and(|found| found == content.as_bytes())
            });
            client("get doc.txt sealed");
            assert_eq!(
                fs::read(own.path().join("sealed")).unwrap(),
                fs::read(folder.path("doc.txt")).unwrap()
            );
        }
    }
    // One session that saves while the sealer is at the same file: `put` keeps its oplock until the session ends.
    let commands: Vec<_> =
        (0..20).map(|number| format!("put local {number}.txt; put local doc.txt")).collect();
    client(&commands.join("; "));
    let content = fs::read(own.path().join("local")).unwrap();
    all_sealed(&folder);
    for name in (0..20).map(|number| format!("{number}.txt")).chain(["doc.txt".to_owned()]) {
        until("it is sealed", || open(&folder.path(&name)).is_some_and(|found| found == content));
    }
}

/// The handle of a client that keeps a file under a lease, and of one whose connection is lost and who comes back for it.
#[test]
fn samba_leases_and_durable_handles() {
    let Some(python) = std::env::var_os("TOBARI_SMB_PYTHON") else {
        return skip("TOBARI_SMB_PYTHON names no Python with smbprotocol (tests/run.sh)");
    };
    // As smbd has to be set for durable handles.
    let settings = "smb2 leases = yes\ndurable handles = yes\nkernel share modes = no\nposix locking = no\n";
    let Some(share) = Share::start(settings) else { return };
    let folder = &share.folder;
    let mut program = Running(
        Command::new(python)
            .args([script("smb.py").as_os_str(), share.port.to_string().as_ref(), "share".as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut input = program.0.stdin.take().unwrap();
    let mut output = BufReader::new(program.0.stdout.take().unwrap()).lines();
    assert_eq!(output.next().unwrap().unwrap(), "ready");
    let mut client = |line: &str| -> String {
        writeln!(input, "{line}").unwrap();
        output.next().unwrap().unwrap()
    };
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let in_use = |name: &str| {
        until("it is listed as in use", || {
            let listed = folder.unsealed();
            listed.iter().any(|file| file.path.ends_with(name) && file.reason == UnsealedReason::InUse)
        });
    };

    // Under a lease for reading, writing and handle: nothing of the file is changed while it is held.
    assert_eq!(client("open lease.txt"), "lease 7 durable True");
    client("write first");
    folder.engine.sweep_now();
    in_use("lease.txt");
    client("write , second");
    assert_eq!(client("read"), hex(b"first, second"));
    assert!(!is_sealed(&folder.path("lease.txt")));
    client("close");
    folder.until_sealed("lease.txt", b"first, second");
    // Who opens it now gets the envelope.
    assert_eq!(client("open lease.txt"), "lease 7 durable True");
    assert_eq!(client("read"), hex(&fs::read(folder.path("lease.txt")).unwrap()));
    client("close");

    // The connection is lost. smbd keeps the handle for the client, but not the file open: so it is sealed, with all that was
    // written, and the old handle does not write into the envelope.
    assert_eq!(client("open durable.txt"), "lease 7 durable True");
    client("write before the cable was cut");
    client("drop");
    folder.until_sealed("durable.txt", b"before the cable was cut");
    let again = client("reconnect");
    assert!(again.starts_with("refused"), "{again}");
    assert_eq!(open(&folder.path("durable.txt")).unwrap(), b"before the cable was cut");
    // A new version over it, as Office saves.
    assert_eq!(client("open newer.txt"), "lease 7 durable True");
    client("write after it");
    client("close");
    folder.until_sealed("newer.txt", b"after it");
    drop(input);
    assert!(program.0.wait().unwrap().success());
    all_sealed(folder);
}

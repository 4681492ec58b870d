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
        skip(&format!("{program} is not installed"));
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

#[test]
fn samba() {
    if !has("smbd") || !has("smbclient") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("not root: smbd");
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
             [share]\npath = {share}\nguest ok = yes\nread only = no\nforce user = root\noplocks = yes\nlevel2 oplocks = yes\n"
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

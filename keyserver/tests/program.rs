//! The program itself: `init` does all or nothing, `serve` starts only over what is sound, `token` and `audit verify`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test as loudly as the tests themselves")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.path("password"), "admin-Tobari-2026\n").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tobari-keyserver"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("CREDENTIALS_DIRECTORY")
            .env("TOBARI_LANG", "en")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn init(&self, more: &[&str]) -> Output {
        let mut arguments = vec![
            "init",
            "--data-dir",
            "data",
            "--organisation",
            "みほん市",
            "--admin",
            "admin",
            "--admin-password-file",
            "password",
        ];
        if !more.contains(&"--recovery-key-out") {
            arguments.extend(["--recovery-key-out", "recovery.key"]);
        }
        arguments.extend(more);
        self.run(&arguments)
    }

    fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        list(self.0.path(), "", &mut names);
        names.sort();
        names
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// Starts `serve` and waits for the line that says where.
    fn serve(&self, more: &[&str]) -> Serving {
        let mut arguments = vec!["serve", "--data-dir", "data", "--listen", "127.0.0.1:0"];
        arguments.extend(more);
        let mut child = self.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        while !log.contains("\"serving\"") {
            assert!(lines.read_line(&mut log).unwrap() > 0, "{log}");
        }
        Serving { child, log, lines }
    }
}

struct Serving {
    child: Child,
    log: String,
    lines: BufReader<std::process::ChildStderr>,
}

impl Serving {
    fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        while self.lines.read_line(&mut self.log).unwrap() > 0 {}
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn list(directory: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            names.push(format!("{name}/"));
            list(&entry.path(), &format!("{name}/"), names);
        } else {
            names.push(name);
        }
    }
}

fn refused(output: &Output, word: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let said = error.split_once("tobari-keyserver: error: ").is_some_and(|(_, said)| said.contains(word));
    assert!(said, "{error}");
}

#[test]
fn init_writes_the_recovery_key_in_shares_and_nowhere_else() {
    let place = Place::new();
    let numbers = ["--recovery-shares", "3", "--recovery-needed", "4"];
    refused(&place.init(&numbers), "not more than there are");
    assert_eq!(place.files(), ["password"]);
    let output = place.init(&["--recovery-shares", "3", "--recovery-needed", "2"]);
    assert!(output.status.success(), "{output:?}");
    let shares = ["recovery.key.share1", "recovery.key.share2", "recovery.key.share3"];
    let all = [&["data/", "data/root.key", "data/tobari.db", "password"], &shares[..]].concat();
    assert_eq!(place.files(), all);
    let texts = shares.map(|name| {
        assert_eq!(place.mode(name), 0o600, "{name}");
        zeroize::Zeroizing::new(std::fs::read_to_string(place.path(name)).unwrap())
    });
    let joined = tobari_keyserver::recovery::join(&texts[1..]);
    assert!(matches!(joined, Ok(tobari_keyserver::recovery::Joined::Key(..))));
}

#[test]
fn init_makes_all_that_serve_needs() {
    let place = Place::new();
    let output = place.init(&["--token-out", "token", "--san", "keys.example.jp"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.split(|c: char| !c.is_ascii_hexdigit()).any(|word| word.len() == 64), "{text}");
    assert_eq!(
        place.files(),
        ["data/", "data/root.key", "data/tobari.db", "password", "recovery.key", "token"]
    );
    for name in ["data/root.key", "data/tobari.db", "recovery.key", "token"] {
        assert_eq!(place.mode(name), 0o600, "{name}");
    }
    assert_eq!(place.mode("data"), 0o700);
    let armour = std::fs::read_to_string(place.path("recovery.key")).unwrap();
    assert!(armour.starts_with("-----BEGIN TOBARI RECOVERY KEY-----\nOrganisation: "));
    let body: String =
        armour.split("\n\n").nth(1).unwrap().lines().filter(|line| !line.starts_with("-----")).collect();
    let key = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
    let key = tobari_core::crypto::RecipientPrivateKey::import(&key).unwrap();
    assert!(armour.contains(&format!("Key-Id: {}", key.public().key_id())));
    // Nothing that was written out is in the database.
    let database = std::fs::read(place.path("data/tobari.db")).unwrap();
    let token = std::fs::read_to_string(place.path("token")).unwrap();
    let exported = key.export();
    for secret in [token.trim().as_bytes(), b"admin-Tobari-2026".as_slice(), &exported[100..200]] {
        assert!(!database.windows(secret.len()).any(|window| window == secret));
    }

    let mut serving = place.serve(&[]);
    refused(
        &place.run(&["serve", "--data-dir", "data", "--listen", "127.0.0.1:0"]),
        "another tobari-keyserver",
    );
    let made = place.run(&["token", "--data-dir", "data", "--zone", "LGWAN接続系"]);
    assert!(made.status.success(), "beside the server: {made:?}");
    serving.end();
    for line in serving.log.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "JSON: {line}");
    }
    assert!(!serving.log.contains(token.trim()));
    let verified = place.run(&["audit", "verify", "--data-dir", "data"]);
    assert!(String::from_utf8_lossy(&verified.stdout).starts_with("intact: 3 records"), "{verified:?}");
}

#[test]
fn init_leaves_nothing_half_done() {
    let place = Place::new();
    let before = place.files();
    refused(&place.init(&["--recovery-key-out", "password"]), "password exists");
    refused(&place.init(&["--token-out", "nowhere/token"]), "nowhere/token");
    refused(&place.init(&["--root-key-file", "nowhere/root.key"]), "nowhere/root.key");
    refused(&place.init(&["--san", "not a name"]), "not a name");
    std::fs::write(place.path("password"), "short\n").unwrap();
    refused(&place.init(&[]), "password");
    std::fs::write(place.path("password"), "admin-Tobari-2026\n").unwrap();
    assert_eq!(place.files(), before);

    assert!(place.init(&[]).status.success());
    let database = std::fs::read(place.path("data/tobari.db")).unwrap();
    refused(&place.init(&["--recovery-key-out", "second.key"]), "already holds a database");
    assert_eq!(std::fs::read(place.path("data/tobari.db")).unwrap(), database);
    assert!(!place.path("second.key").exists());
}

#[test]
fn serve_starts_only_over_what_is_sound() {
    let place = Place::new();
    let serve = ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0"];
    refused(&place.run(&serve), "tobari-keyserver init");
    assert!(place.init(&["--root-key-file", "away.key"]).status.success());
    refused(&place.run(&serve), "root key");
    let with_key = [&serve[..], &["--root-key-file", "away.key"]].concat();
    std::fs::set_permissions(place.path("away.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&place.run(&with_key), "open to other users");
    std::fs::set_permissions(place.path("away.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    place.serve(&["--root-key-file", "away.key"]).end();
    let other = "00".repeat(32);
    std::fs::write(place.path("away.key"), other).unwrap();
    refused(&place.run(&with_key), "is it the right one");
    std::fs::write(place.path("server.toml"), "data_dir = 'data'\nlisten = '127.0.0.1:0'\ncolour = 'red'\n")
        .unwrap();
    refused(&place.run(&["serve", "--config", "server.toml"]), "colour");
}

#[test]
fn the_root_key_may_be_a_credential_of_the_service_manager() {
    let place = Place::new();
    std::fs::create_dir(place.path("credentials")).unwrap();
    let credential = place.path("credentials/root-key");
    std::fs::write(&credential, "ab".repeat(32)).unwrap();
    std::fs::set_permissions(&credential, std::fs::Permissions::from_mode(0o400)).unwrap();
    let output = place
        .command(&[
            "init",
            "--data-dir",
            "data",
            "--organisation",
            "x",
            "--admin",
            "admin",
            "--admin-password-file",
            "password",
            "--recovery-key-out",
            "recovery.key",
        ])
        .env("CREDENTIALS_DIRECTORY", place.path("credentials"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!place.path("data/root.key").exists());
}

#[test]
fn messages_follow_the_language_of_the_environment() {
    let place = Place::new();
    let output =
        place.command(&["token", "--data-dir", "data"]).env("TOBARI_LANG", "ja_JP.UTF-8").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[0], "tobari-keyserver: error: data/tobari.db がありません");
    assert!(lines[1].starts_with("tobari-keyserver: hint: "), "{error}");
}

#[test]
fn usage_errors_end_with_two() {
    let place = Place::new();
    assert_eq!(place.run(&["serve"]).status.code(), Some(2));
    assert_eq!(place.run(&["--no-such-option"]).status.code(), Some(2));
    let help = place.run(&["init", "--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--recovery-key-out"));
}

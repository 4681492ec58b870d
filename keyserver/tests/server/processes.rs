//! The programs themselves: `migrate-store` from SQLite to PostgreSQL, and two servers of which one is killed.

use crate::database::Database;
use crate::servers::{kept, load};
use crate::support::{ADMIN, Reference, Terminal, enrol_at, enrolment, password};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tobari_core::audit::{Checkpoint, LogKey, read_witnesses};
use tobari_core::crypto::{GrantKeyPair, VerifyingKey};
use tobari_core::envelope::{MemoryStorage, SealOptions, seal};
use tobari_core::proto::admin::{AuditPage, AuditProof};
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::audit::chain;
use tobari_keyserver::store::Store;
use tobari_keyserver::store::postgres::PostgresStore;
use tobari_keyserver::store::sqlite::SqliteStore;

fn command(place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tobari-keyserver"));
    command
        .args(arguments)
        .current_dir(place)
        .env_remove("CREDENTIALS_DIRECTORY")
        .env("TOBARI_LANG", "en")
        .stdin(Stdio::null());
    command
}

fn run(place: &Path, arguments: &[&str]) -> Output {
    command(place, arguments).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn init(place: &Path) {
    std::fs::write(place.join("password"), format!("{}\n", password(ADMIN))).unwrap();
    let names = ["--organisation", "みほん市", "--admin", ADMIN, "--admin-password-file", "password"];
    let files = ["--recovery-key-out", "recovery.key", "--token-out", "token"];
    done(&run(place, &[&["init", "--data-dir", "data"][..], &names, &files].concat()));
}

struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    fn start(place: &Path, url: &str) -> Self {
        Self::with(
            place,
            &["serve", "--store", url, "--root-key-file", "data/root.key", "--listen", "127.0.0.1:0"],
        )
    }

    #[expect(
        clippy::zombie_processes,
        reason = "waited for when it is dropped; before that a panic ends the test"
    )]
    fn with(place: &Path, arguments: &[&str]) -> Self {
        let mut child = command(place, arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "{log}");
            if line.contains("\"serving\"") {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                let address = line["fields"]["address"].as_str().unwrap().parse().unwrap();
                // What it says later must not fill the pipe.
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Self { child, address };
            }
            log.push_str(&line);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_store_is_moved_once_whole_and_checked() {
    let Some(database) = Database::start().await else { return };
    database.create("keys").await;
    let url = database.url("keys");
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    init(place);
    // More than one page of a table, and more than one INSERT.
    let path = place.join("data/tobari.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let payloads: Vec<Vec<u8>> = (0..2500_u32).map(|number| number.to_le_bytes().to_vec()).collect();
    store.commit(&tobari_keyserver::store::Basis::ANY, &[], &payloads).await.unwrap();
    let (before, head) = (store.load().await.unwrap(), store.audit_head().await.unwrap());
    store.close().await.unwrap();
    drop(store);

    // A broken chain is not carried over.
    let broken = tempfile::tempdir().unwrap();
    std::fs::create_dir(broken.path().join("data")).unwrap();
    std::fs::copy(&path, broken.path().join("data/tobari.db")).unwrap();
    let tamper = |sql: &'static str| {
        let path = broken.path().join("data/tobari.db");
        async move {
            use sqlx::{Connection as _, Executor as _};
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
            connection.execute(sql).await.unwrap();
            connection.close().await.unwrap();
        }
    };
    tamper("UPDATE audit SET payload = x'00' WHERE sequence = 9").await;
    let migrate = ["migrate-store", "--data-dir", "data", "--to", &url];
    let refused = run(broken.path(), &migrate);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("record 9"), "{refused:?}");

    let said = done(&run(place, &migrate));
    assert!(said.contains("audit (2501)"), "{said}");
    assert!(!path.exists() && place.join("data/tobari.db.moved").exists());
    let store = PostgresStore::open(&url.parse().unwrap()).await.unwrap();
    assert_eq!((store.load().await.unwrap(), store.audit_head().await.unwrap()), (before, head));
    assert_eq!(chain::verify(&store).await.unwrap(), head);
    done(&run(place, &["audit", "verify", "--store", &url]));

    // Nothing serves the old file, and nothing is moved over what is there.
    assert!(!run(place, &["serve", "--data-dir", "data"]).status.success());
    std::fs::copy(place.join("data/tobari.db.moved"), &path).unwrap();
    let again = run(place, &migrate);
    assert!(String::from_utf8_lossy(&again.stderr).contains("holds something already"), "{again:?}");
    assert!(path.exists());
    assert_eq!(store.audit_head().await.unwrap(), head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_nothing_that_it_answered() {
    let Some(database) = Database::start().await else { return };
    let location = database.create("keys").await;
    let url = database.url("keys");
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    init(place);
    done(&run(place, &["migrate-store", "--data-dir", "data", "--to", &url]));
    let (one, mut two) = (Serving::start(place, &url), Serving::start(place, &url));

    let terminal = enrol_at(one.address, &std::fs::read_to_string(place.join("token")).unwrap()).await;
    let admin = terminal.login(ADMIN).await;
    let case = Reference::make(terminal, admin).await;
    let file = case.sealed("社外秘").await;
    let kacho = case.terminal.at(two.address).login("kacho").await;
    let store = PostgresStore::open(&location).await.unwrap();
    let records = async || store.audit_head().await.unwrap().sequence;
    let more_than = async |count: u64| {
        let deadline = Instant::now() + Duration::from_secs(120);
        while records().await < count {
            assert!(Instant::now() < deadline, "nothing is granted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };

    let ended = Arc::new(AtomicBool::new(false));
    let mut running = tokio::task::JoinSet::new();
    for address in [one.address, two.address, two.address] {
        let terminal: Terminal = case.terminal.at(address);
        let header = file.header.wire_bytes().to_vec();
        running.spawn(load(terminal, case.admin.clone(), kacho.clone(), header, Arc::clone(&ended)));
    }
    more_than(records().await + 60).await;
    two.child.kill().unwrap();
    two.child.wait().unwrap();
    // The other goes on as if nothing had happened.
    more_than(records().await + 60).await;
    ended.store(true, Ordering::SeqCst);
    let promises = running.join_all().await;
    kept(&store, &promises).await;
}

/// Waits until the last checkpoint that a witness file holds is good.
async fn seen(path: &Path, key: &LogKey, good: impl Fn(&Checkpoint) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if read_witnesses(&text, key).unwrap().last().is_some_and(&good) {
            return;
        }
        assert!(Instant::now() < deadline, "the witness waits: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_backup_is_served_again_only_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    init(place);
    let config = "data_dir = 'data'\nlisten = '127.0.0.1:0'\nwitness_interval_seconds = 1\n[[witness]]\nfile = 'seen'\n";
    std::fs::write(place.join("config"), config).unwrap();
    let serve = ["serve", "--config", "config"];
    let server = Serving::with(place, &serve);
    let token = std::fs::read_to_string(place.join("token")).unwrap();
    let terminal = enrol_at(server.address, token.trim()).await;
    let admin = terminal.login(ADMIN).await;
    let unused = terminal
        .post("/v1/admin/enrolment-tokens", Some(&admin), &serde_json::json!({}))
        .await
        .created()
        .body;
    let key = &terminal.enrolment.as_ref().unwrap().signing_key.0;
    let key = LogKey::of(terminal.organisation, VerifyingKey::from_bytes(key).unwrap());

    let backup = ["backup", "--data-dir", "data", "--out", "old.backup"];
    done(&run(place, &backup));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(place.join("old.backup").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!run(place, &backup).status.success(), "a backup is not written over");
    terminal.login(ADMIN).await;
    let now: AuditProof = terminal.get("/v1/admin/audit/checkpoint", Some(&admin)).await.ok().to();
    seen(&place.join("seen"), &key, |seen| seen.size >= now.size).await;
    drop(server);

    let restore = ["restore", "--data-dir", "data", "--from", "old.backup"];
    assert!(!run(place, &restore).status.success(), "what is there is not written over");
    for name in ["tobari.db", "tobari.db-wal", "tobari.db-shm"] {
        let _ = std::fs::rename(place.join("data").join(name), place.join(name));
    }
    done(&run(place, &restore));
    for _ in 0..2 {
        let refused = run(place, &serve);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("older than what seen saw"), "{said}");
    }
    assert!(!run(place, &["accept-older", "--data-dir", "data", "--reason", " "]).status.success());
    // An export that is none takes nothing up.
    std::fs::write(place.join("export"), "{}\n").unwrap();
    let with_export = ["accept-older", "--data-dir", "data", "--reason", "disk lost", "--export", "export"];
    let refused = run(place, &with_export);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("export"), "{said}");
    let accepted = done(&run(place, &["accept-older", "--data-dir", "data", "--reason", "disk lost"]));
    assert!(accepted.contains(" 2"), "{accepted}");

    let server = Serving::with(place, &serve);
    let terminal = terminal.at(server.address);
    terminal.get("/v1/sessions/current", Some(&admin)).await.refused(ProblemCode::NotLoggedIn);
    let keys = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let late = enrolment(unused["token"].as_str().unwrap(), &keys, &GrantKeyPair::generate().unwrap());
    terminal.post("/v1/terminals/enrol", None, &late).await.refused(ProblemCode::BadEnrolmentToken);
    assert!(terminal.bulletin().await.1.number > 1_000_000);
    let admin = terminal.login(ADMIN).await;
    let page: AuditPage = terminal.get("/v1/admin/audit?limit=1000", Some(&admin)).await.ok().to();
    let records: Vec<String> =
        page.records.iter().map(|record| String::from_utf8(record.payload.0.clone()).unwrap()).collect();
    let restored =
        records.iter().filter(|record| record.starts_with(r#"{"act":"restore","detail":"disk lost""#));
    assert_eq!(restored.count(), 1, "{records:?}");
    seen(&place.join("seen"), &key, |seen| seen.epoch == 2).await;
    drop(server);
    drop(Serving::with(place, &serve));
}

/// Seals `sealed.txt` under a label of a server whose data are lost afterwards; its contents.
async fn sealed_by_a_server_that_is_gone(place: &Path) -> &'static [u8] {
    let text = "社外秘の本文".as_bytes();
    {
        let server = Serving::with(place, &["serve", "--data-dir", "data", "--listen", "127.0.0.1:0"]);
        let token = std::fs::read_to_string(place.join("token")).unwrap();
        let terminal = enrol_at(server.address, token.trim()).await;
        let admin = terminal.login(ADMIN).await;
        let case = Reference::make(terminal, admin).await;
        let (epoch, policy) = (case.epoch(case.label("社外秘").id).await, case.policy("社外秘"));
        let (storage, mut source) = (MemoryStorage::new(), text);
        seal(&mut source, &storage, &epoch, policy, &SealOptions::default(), &mut |_| ()).unwrap();
        std::fs::write(place.join("sealed.txt"), storage.into_bytes()).unwrap();
    }
    std::fs::remove_dir_all(place.join("data")).unwrap();
    text
}

#[tokio::test]
async fn the_recovery_key_opens_files_offline() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    init(place);
    let text = sealed_by_a_server_that_is_gone(place).await;
    let names = || -> Vec<_> {
        let mut names: Vec<_> =
            std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let before = names();
    let drill = |key: &str, file: &str| run(place, &["recovery", "drill", "--key", key, file]);
    let open =
        |file: &str, out: &str| run(place, &["recovery", "open", "--key", "recovery.key", file, "-o", out]);
    let said = done(&drill("recovery.key", "sealed.txt"));
    assert!(said.contains("18 bytes; nothing was written"), "{said}");
    assert!(!drill("sealed.txt", "sealed.txt").status.success());
    assert_eq!(names(), before, "a drill writes nothing");

    done(&open("sealed.txt", "out.txt"));
    assert_eq!(std::fs::read(place.join("out.txt")).unwrap(), text);
    assert!(!open("sealed.txt", "out.txt").status.success(), "not written over");
    let mut damaged = std::fs::read(place.join("sealed.txt")).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(place.join("damaged.txt"), damaged).unwrap();
    assert!(!drill("recovery.key", "damaged.txt").status.success());
    assert!(!open("damaged.txt", "none.txt").status.success());
    assert!(!place.join("none.txt").exists());

    let other = tempfile::tempdir().unwrap();
    init(other.path());
    let foreign = drill(other.path().join("recovery.key").to_str().unwrap(), "sealed.txt");
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("none of its recipients"), "{foreign:?}");
}

/// The key in shares: split offline, opened with any that are enough, and with what is wrong said where it is.
#[tokio::test]
async fn shares_of_the_recovery_key_open_files_offline() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    init(place);
    let text = sealed_by_a_server_that_is_gone(place).await;
    let split = ["recovery", "split", "--key", "recovery.key", "--out", "part"];
    let said = done(&run(place, &[&split[..], &["--shares", "3", "--needed", "2"]].concat()));
    assert!(said.contains("part.share3") && said.contains("any 2 shares"), "{said}");
    let refused = |output: Output, word: &str| {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(word), "{word}: {error}");
    };
    refused(run(place, &[&split[..], &["--shares", "3", "--needed", "2"]].concat()), "exists");
    refused(
        run(place, &[&split[..], &["--shares", "2", "--needed", "3"]].concat()),
        "not more than there are",
    );
    let whole = std::fs::read(place.join("recovery.key")).unwrap();
    std::fs::remove_file(place.join("recovery.key")).unwrap();
    let share = std::fs::read_to_string(place.join("part.share2")).unwrap();
    for word in ["みほん市", "分割片 2 / 3", "Share 2 of 3", "Needed: 2"] {
        assert!(share.contains(word), "{word} in {share}");
    }

    let names = || -> Vec<_> {
        let mut names: Vec<_> =
            std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let before = names();
    let drill = |shares: &[&str]| {
        let shares: Vec<&str> = shares.iter().flat_map(|share| ["--share", share]).collect();
        run(place, &[&["recovery", "drill", "sealed.txt"], shares.as_slice()].concat())
    };
    for pair in
        [["part.share1", "part.share2"], ["part.share3", "part.share1"], ["part.share2", "part.share3"]]
    {
        assert!(done(&drill(&pair)).contains("18 bytes; nothing was written"));
    }
    done(&drill(&["part.share1", "part.share2", "part.share3"]));
    assert_eq!(names(), before, "the key is written nowhere");
    refused(drill(&["part.share1"]), "1 of the 2 shares");
    refused(drill(&["part.share1", "part.share1"]), "part.share1 is share 1, which was given already");
    refused(drill(&["part.share1", "sealed.txt"]), "sealed.txt");
    refused(drill(&["part.share1", "password"]), "password holds no share");
    std::fs::write(place.join("damaged"), share.replacen("Needed: 2", "Needed: 3", 1)).unwrap();
    refused(drill(&["part.share1", "damaged"]), "damaged was damaged or mistyped");
    // Split once more, and the key of another organisation.
    std::fs::write(place.join("recovery.key"), whole).unwrap();
    done(&run(place, &[&split[..5], &["again", "--shares", "2", "--needed", "2"]].concat()));
    refused(drill(&["part.share1", "again.share2"]), "of another time that it was split");
    let other = tempfile::tempdir().unwrap();
    init(other.path());
    done(&run(other.path(), &[&split[..], &["--shares", "2", "--needed", "2"]].concat()));
    let foreign = other.path().join("part.share1");
    refused(drill(&["part.share1", foreign.to_str().unwrap()]), "of another recovery key");

    // Asked for one after the other: what cannot be used is named and asked for again.
    let ask = |typed: &str| {
        std::fs::write(place.join("typed"), typed).unwrap();
        let mut command = command(place, &["recovery", "open", "--ask", "sealed.txt", "-o", "out.txt"]);
        command.stdin(std::fs::File::open(place.join("typed")).unwrap()).output().unwrap()
    };
    refused(ask("part.share1\npart.share1\n\n"), "1 of the 2 shares");
    let output = ask("password\npart.share3\nagain.share1\npart.share1\n");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    done(&output);
    assert!(told.contains("holds no share") && told.contains("share 2 of 2"), "{told}");
    assert_eq!(std::fs::read(place.join("out.txt")).unwrap(), text);
}

//! The programs themselves: `migrate-store` from SQLite to PostgreSQL, and two servers of which one is killed.

use crate::database::Database;
use crate::servers::{kept, load};
use crate::support::{ADMIN, Reference, Terminal, enrol_at, password};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
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
    #[expect(
        clippy::zombie_processes,
        reason = "waited for when it is dropped; before that a panic ends the test"
    )]
    fn start(place: &Path, url: &str) -> Self {
        let arguments =
            ["serve", "--store", url, "--root-key-file", "data/root.key", "--listen", "127.0.0.1:0"];
        let mut child = command(place, &arguments).stderr(Stdio::piped()).spawn().unwrap();
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

//! Witnesses: what they see, what happens when they are away, and a database that is older than what they saw. And the log on
//! disks that fail.

use crate::support::{Faulty, Site, item, skipped};
use jiff::Timestamp;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tobari_core::audit::{Checkpoint, LogKey, SignedCheckpoint, read_witnesses};
use tobari_core::clock::FixedClock;
use tobari_core::crypto::VerifyingKey;
use tobari_core::policy::Right;
use tobari_core::proto::admin::AuditProof;
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::store::sqlite::SqliteStore;
use tobari_keyserver::witness::receive::Receiver;
use tobari_keyserver::witness::{Place, WitnessError, Witnesses};

const PATIENCE: Duration = Duration::from_secs(60);

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn log_key(terminal: &crate::support::Terminal) -> LogKey {
    let key = &terminal.enrolment.as_ref().unwrap().signing_key.0;
    LogKey::of(terminal.organisation, VerifyingKey::from_bytes(key).unwrap())
}

fn settings(places: Vec<Place>) -> Witnesses {
    Witnesses { places, interval: Duration::from_millis(20), wait: None }
}

fn seen(path: &Path, key: &LogKey) -> Vec<Checkpoint> {
    read_witnesses(&std::fs::read_to_string(path).unwrap_or_default(), key).unwrap()
}

/// A witness server on a free port.
async fn witness(folder: &Path, log: LogKey) -> (Place, String) {
    let clock = Arc::new(FixedClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
    let receiver = Arc::new(Receiver::open(folder, "witness.example", log, clock).unwrap());
    let key = receiver.key();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, receiver.router()).await });
    (Place::Http { url: url.clone(), key: key.parse().unwrap() }, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn witnesses_of_each_kind_see_the_log() {
    let site = Site::start().await;
    let case = site.reference().await;
    let key = log_key(&case.terminal);
    let place = tempfile::tempdir().unwrap();
    let (file, socket) = (place.path().join("checkpoints"), place.path().join("log"));
    let log = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    log.set_read_timeout(Some(PATIENCE)).unwrap();
    let (http, _) = witness(place.path(), key.clone()).await;
    // The HTTP witness has a file of the same name: its folder is another.
    let places = vec![Place::File(place.path().join("seen")), Place::Syslog(socket), http];
    site.service().show_to(&settings(places)).await.unwrap();

    let bucho = case.terminal.login("bucho").await;
    let header = case.sealed("社外秘").await.header.wire_bytes().to_vec();
    let mut grants = 0;
    for _ in 0..3 {
        grants = case.terminal.grant(&bucho, &header, Right::View).await.unwrap().audit;
    }
    for path in [place.path().join("seen"), file] {
        let last = until("a checkpoint", async || {
            seen(&path, &key).last().filter(|last| last.size >= grants).cloned()
        })
        .await;
        assert_eq!(last.epoch, 1);
    }
    let mut buffer = vec![0; 65536];
    loop {
        let count = log.recv(&mut buffer).unwrap();
        let line = String::from_utf8(buffer[..count].to_vec()).unwrap();
        assert!(line.starts_with("<110>tobari-keyserver: "), "{line}");
        if read_witnesses(&format!("{line}\n"), &key).unwrap()[0].size >= grants {
            break;
        }
    }
}

fn client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

#[tokio::test]
async fn a_witness_signs_only_what_continues_what_it_saw() {
    let site = Site::start().await;
    let (terminal, admin) = site.first().await;
    let key = log_key(&terminal);
    let folder = tempfile::tempdir().unwrap();
    let (_, url) = witness(folder.path(), key.clone()).await;
    let client = client();
    let post = async |body: String| {
        let answer = client.post(format!("{url}/add-checkpoint")).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let checkpoint = async || -> SignedCheckpoint {
        let proof: AuditProof = terminal.get("/v1/admin/audit/checkpoint", Some(&admin)).await.ok().to();
        SignedCheckpoint::open(&proof.checkpoint, &key).unwrap()
    };
    let (one, two) = (checkpoint().await, checkpoint().await);
    let (first, second) = (one.checkpoint.size, two.checkpoint.size);
    assert_eq!(post(format!("old {first}\n\n{}", one.note)).await, (409, String::from("0\n")));
    let (status, signature) = post(format!("old 0\n\n{}", one.note)).await;
    assert!(status == 200 && signature.starts_with("\u{2014} witness.example "), "{signature}");
    // Again the same is the same; without a proof nothing goes on.
    assert_eq!(post(format!("old {first}\n\n{}", one.note)).await.0, 200);
    assert_eq!(post(format!("old {first}\n\n{}", two.note)).await.0, 422);
    let proof =
        tobari_keyserver::audit::proof::consistency(site.store.as_ref(), first, second).await.unwrap();
    let lines: String =
        proof.iter().map(|hash| format!("{}\n", data_encoding::BASE64.encode(hash))).collect();
    assert_eq!(post(format!("old {first}\n{lines}\n{}", two.note)).await.0, 200);
    assert_eq!(post(format!("old {first}\n{lines}\n{}", two.note)).await, (409, format!("{second}\n")));
    assert_eq!(post(format!("old {second}\n\n{}", one.note)).await.0, 400);
    let forged = two.note.replace(&format!("\n{second}\n"), &format!("\n{}\n", second + 1));
    assert_eq!(post(format!("old {second}\n\n{forged}")).await.0, 403);
    assert_eq!(post(String::from("junk")).await.0, 400);
    // It remembers.
    let sizes: Vec<u64> =
        seen(&folder.path().join("checkpoints"), &key).iter().map(|seen| seen.size).collect();
    assert_eq!(sizes, [first, second]);
    let (_, url) = witness(folder.path(), key).await;
    let answer = client.post(format!("{url}/add-checkpoint")).body(format!("old 0\n\n{}", two.note));
    assert_eq!(answer.send().await.unwrap().text().await.unwrap(), format!("{second}\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_is_away_for_too_long_stops_grants_and_nothing_else() {
    let site = Site::start().await;
    let case = site.reference().await;
    let bucho = case.terminal.login("bucho").await;
    let header = case.sealed("社外秘").await.header.wire_bytes().to_vec();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("disk");
    let wait = Some(Duration::from_millis(200));
    let witnesses = Witnesses { wait, ..settings(vec![Place::File(folder.join("checkpoints"))]) };
    site.service().show_to(&witnesses).await.unwrap();
    let request = json!({ "items": [item(&header, Right::View)] });
    let ask = async || case.terminal.post("/v1/grants", Some(&bucho), &request).await;
    let stopped =
        until("grants to stop", async || Some(ask().await).filter(|answer| !answer.status.is_success()))
            .await;
    stopped.refused(ProblemCode::AuditUnavailable);
    assert!(stopped.text.contains("witness") && !stopped.text.contains("sealed_dek"), "{}", stopped.text);
    case.terminal.get("/v1/admin/people", Some(&case.admin)).await.ok();
    case.terminal.login("kacho").await;
    std::fs::create_dir(&folder).unwrap();
    until("grants to go on", async || Some(ask().await).filter(|answer| answer.status.is_success())).await;
    // Taken away again, or cut.
    let path = folder.join("checkpoints");
    until("a checkpoint", async || path.metadata().ok().filter(|metadata| metadata.len() > 0)).await;
    std::fs::rename(&path, folder.join("aside")).unwrap();
    until("grants to stop again", async || Some(ask().await).filter(|answer| !answer.status.is_success()))
        .await;
    assert!(!path.exists(), "a witness file that was taken away is not begun anew");
}

/// A copy of the database of a site, as a backup that was made now.
async fn copy(site: &Site, to: &Path) -> Arc<Faulty> {
    std::fs::File::create_new(to).unwrap();
    SqliteStore::copy(&site.directory.path().join("tobari.db"), to).await.unwrap();
    Faulty::new(Arc::new(SqliteStore::open(to).await.unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_older_than_what_a_witness_saw_is_not_served() {
    let site = Site::start().await;
    let case = site.reference().await;
    let key = log_key(&case.terminal);
    let place = tempfile::tempdir().unwrap();
    let older = copy(&site, &place.path().join("older.db")).await;
    let file = place.path().join("seen");
    let (http, _) = witness(place.path(), key.clone()).await;
    site.service().show_to(&settings(vec![Place::File(file.clone()), http.clone()])).await.unwrap();
    // Another server over the copy writes a record of its own when it starts.
    for _ in 0..4 {
        case.terminal.login("bucho").await;
    }
    let last = async || site.store.inner().audit_head().await.unwrap().sequence;
    case.terminal.login("bucho").await;
    for path in [&file, &place.path().join("checkpoints")] {
        until("the last record to be seen", async || {
            let head = last().await;
            seen(path, &key).last().filter(|seen| seen.size >= head).map(|_| ())
        })
        .await;
    }
    let other = site.beside(older).await;
    for place in [Place::File(file.clone()), http.clone()] {
        let error = other.service().show_to(&settings(vec![place])).await.unwrap_err();
        assert!(matches!(error, WitnessError::Older { epoch: 1, .. }), "{error:?}");
    }
    // Longer again, but not by the same records.
    while other.store.inner().audit_head().await.unwrap().sequence <= last().await + 2 {
        case.terminal.at(other.address).login("kacho").await;
    }
    for place in [Place::File(file), http] {
        let error = other.service().show_to(&settings(vec![place])).await.unwrap_err();
        assert!(matches!(error, WitnessError::Rewritten { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_log_that_is_removed_or_truncated_under_a_running_server_stops_all_grants() {
    for (file, removed) in
        [("tobari.db", true), ("tobari.db-wal", true), ("tobari.db", false), ("tobari.db-wal", false)]
    {
        let site = Site::start().await;
        let case = site.reference().await;
        let header = case.sealed("社外秘").await.header.wire_bytes().to_vec();
        let bucho = case.terminal.login("bucho").await;
        let path = site.directory.path().join(file);
        if removed {
            std::fs::remove_file(&path).unwrap();
        } else {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }
        let request = json!({ "items": [item(&header, Right::View)] });
        for _ in 0..2 {
            let answer = case.terminal.post("/v1/grants", Some(&bucho), &request).await;
            answer.refused(ProblemCode::AuditUnavailable);
            assert!(!answer.text.contains("sealed_dek"), "{file} {removed}");
        }
    }
}

/// A small file system of its own; none, loudly, where it cannot be mounted.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let (image, point) = (place.path().join("image"), place.path().join("disk"));
        std::fs::create_dir(&point).unwrap();
        std::fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
        let run = |program: &str, args: &[&std::ffi::OsStr]| {
            std::process::Command::new(program)
                .args(args)
                .output()
                .is_ok_and(|output| output.status.success())
        };
        let mounted = rustix::process::geteuid().is_root()
            && run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()])
            && run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_os_str(), point.as_os_str()]);
        if !mounted {
            skipped("a file system of its own needs root, mkfs.ext4 and loop devices");
            return None;
        }
        Some(Self(place))
    }

    fn point(&self) -> std::path::PathBuf {
        self.0.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.point()).output();
    }
}

/// An organisation whose database lies on such a disk.
async fn on_disk(disk: &Disk) -> Site {
    let store = SqliteStore::create(&disk.point().join("tobari.db")).await.unwrap();
    Site::over(tempfile::tempdir().unwrap(), Faulty::new(Arc::new(store))).await
}

async fn grants_stop(case: &crate::support::Reference, bucho: &str, header: &[u8]) {
    let request = json!({ "items": [item(header, Right::View)] });
    let answer = case.terminal.post("/v1/grants", Some(bucho), &request).await;
    assert!(!answer.text.contains("sealed_dek"), "{answer:?}");
    assert_eq!(answer.status.as_u16(), 503, "{answer:?}");
}

#[tokio::test]
async fn a_full_disk_stops_grants_until_there_is_room() {
    let Some(disk) = Disk::mount() else { return };
    let site = on_disk(&disk).await;
    let case = site.reference().await;
    let header = case.sealed("社外秘").await.header.wire_bytes().to_vec();
    let bucho = case.terminal.login("bucho").await;
    let fill = disk.point().join("fill");
    let mut file = std::fs::File::create(&fill).unwrap();
    for size in [1 << 20, 4096, 512] {
        while std::io::Write::write_all(&mut file, &vec![7; size]).and_then(|()| file.sync_all()).is_ok() {}
    }
    // What was written of the log before may have room for some more records.
    let mut left = 400;
    let request = json!({ "items": [item(&header, Right::View)] });
    while case.terminal.post("/v1/grants", Some(&bucho), &request).await.status.is_success() {
        left -= 1;
        assert!(left > 0, "the disk is full and grants go on");
    }
    grants_stop(&case, &bucho, &header).await;
    drop(file);
    std::fs::remove_file(&fill).unwrap();
    until("room to be used", async || {
        Some(case.terminal.post("/v1/grants", Some(&bucho), &request).await)
            .filter(|answer| answer.status.is_success())
    })
    .await;
    tobari_keyserver::audit::chain::verify(site.store.as_ref()).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_became_read_only_stops_grants() {
    let Some(disk) = Disk::mount() else { return };
    let site = on_disk(&disk).await;
    let case = site.reference().await;
    let header = case.sealed("社外秘").await.header.wire_bytes().to_vec();
    let bucho = case.terminal.login("bucho").await;
    // Immutable: what is open for writing cannot be written to either.
    let change = |flag: &str| {
        let files = ["tobari.db", "tobari.db-wal"].map(|name| disk.point().join(name));
        assert!(std::process::Command::new("chattr").arg(flag).args(files).status().unwrap().success());
    };
    change("+i");
    grants_stop(&case, &bucho, &header).await;
    change("-i");
}

#[tokio::test]
async fn a_failed_disk_stops_grants() {
    let Some(disk) = Disk::mount() else { return };
    let site = on_disk(&disk).await;
    let case = site.reference().await;
    let header = case.sealed("社外秘").await.header.wire_bytes().to_vec();
    let bucho = case.terminal.login("bucho").await;
    // As when the device is gone: every further write fails.
    let failed =
        std::process::Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(disk.point()).status();
    if !failed.is_ok_and(|status| status.success()) {
        return skipped("xfs_io is not installed (apt-get install xfsprogs)");
    }
    grants_stop(&case, &bucho, &header).await;
    grants_stop(&case, &bucho, &header).await;
}

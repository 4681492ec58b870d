//! What every store must do, as a function over any store; and that a committed change reads back as it was made.

mod commit;
mod directory;
mod files;
mod leases;
mod people;

use crate::database::Database;
use jiff::{SignedDuration, Timestamp};
use tobari_core::crypto::{KeyId, sha256};
use tobari_core::ids::{GroupId, LabelId, PersonId, PostId, TerminalId};
use tobari_core::policy::{Label, Membership, Protection};
use tobari_core::proto::admin::{KeyKind, RevocationRecord, Revoked, Role};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::PublicKey;
use tobari_keyserver::audit::chain;
use tobari_keyserver::store::postgres::PostgresStore;
use tobari_keyserver::store::sqlite::SqliteStore;
use tobari_keyserver::store::{
    AuditHead, Basis, Change, LabelKeyRow, LabelRow, PersonRow, Store, StoreError, Tables, TerminalRow,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn person(login: &str) -> PersonRow {
    PersonRow {
        id: PersonId::generate(),
        login: login.to_owned(),
        login_key: login.to_lowercase(),
        name: String::from("山田 太郎"),
        password_hash: String::from("$argon2id$x"),
        sealed_totp: Some(vec![1, 2, 3]),
        memberships: vec![Membership { group: GroupId::generate(), post: PostId::generate() }],
        roles: vec![Role::Policy, Role::Auditor],
        disabled: false,
    }
}

fn revocation(subject: Revoked) -> RevocationRecord {
    let reason = String::from("誤送信");
    RevocationRecord { subject, reason, revoked_by: PersonId::generate(), revoked_at: at(5) }
}

fn terminal() -> TerminalRow {
    TerminalRow {
        id: TerminalId::generate(),
        name: String::from("端末"),
        zone: Some(String::from("LGWAN接続系")),
        tags: vec![String::from("本庁")],
        revoked: false,
        fingerprint: sha256(&[TerminalId::generate().as_bytes()]),
        certificate_expires_at: at(1000),
        grant_key: vec![4; 65],
        enrolled_at: at(1),
        gateway: false,
        frozen: false,
        next: None,
        protection: Protection::Machine,
    }
}

fn label() -> (LabelRow, LabelKeyRow) {
    let label = Label { id: LabelId::generate(), name: String::from("社外秘"), level: 100 };
    let key = LabelKeyRow {
        label: label.id,
        generation: 1,
        key_id: KeyId::from_bytes(sha256(&[label.id.as_bytes()])),
        public_key: PublicKey { rsa_spki: Base64(vec![1]), mlkem768: Some(Base64(vec![2])) },
        sealed_private: vec![9; 40],
        created_at: at(5),
        retired_at: None,
    };
    (
        LabelRow {
            label,
            key_kind: KeyKind::Rsa2048Mlkem768,
            allow_legacy_zip: true,
            lease_by_label: false,
            max_bulletin_age_hours: Some(24),
        },
        key,
    )
}

/// Commits, and keeps a model of what the store must then hold.
struct Checked<'a> {
    store: &'a dyn Store,
    model: Tables,
    records: u64,
}

impl Checked<'_> {
    async fn commit(&mut self, changes: Vec<Change>) {
        let payload = format!("record {}", self.records).into_bytes();
        let head = self.store.commit(&Basis::ANY, &changes, &[payload]).await.unwrap().head;
        self.records += 1;
        assert_eq!(head.sequence, self.records);
        changes.iter().for_each(|change| self.model.apply(change));
        assert_eq!(self.store.load().await.unwrap().tables, self.model, "after {changes:?}");
    }

    async fn refuse(&self, changes: Vec<Change>, fits: impl Fn(&StoreError) -> bool) {
        let before = self.store.audit_head().await.unwrap();
        let error = self.store.commit(&Basis::ANY, &changes, &[b"refused".to_vec()]).await.unwrap_err();
        assert!(fits(&error), "{error:?}");
        assert_eq!(self.store.audit_head().await.unwrap(), before, "a refused change leaves no record");
        assert_eq!(self.store.load().await.unwrap().tables, self.model, "and no part of it");
    }
}

/// The conformance suite, for an empty store.
async fn conforms(store: &dyn Store) {
    assert_eq!(store.load().await.unwrap().tables, Tables::default());
    assert_eq!(store.audit_head().await.unwrap(), AuditHead::START);
    store.check().await.unwrap();
    let mut checked = Checked { store, model: Tables::default(), records: 0 };
    directory::directory(&mut checked).await;
    directory::policy(&mut checked).await;
    files::files(&mut checked).await;
    people::people(&mut checked).await;
    people::sessions(&mut checked).await;
    people::counters(&mut checked).await;
    commit::basis(&mut checked).await;
    leases::leases(&mut checked).await;
    commit::audit(store, checked.records).await;
}

#[tokio::test]
async fn sqlite_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tobari.db");
    let store = SqliteStore::create(&path).await.unwrap();
    conforms(&store).await;
    let (tables, head) = (store.load().await.unwrap().tables, store.audit_head().await.unwrap());
    store.close().await.unwrap();
    drop(store);
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!((store.load().await.unwrap().tables, store.audit_head().await.unwrap()), (tables, head));
    assert!(SqliteStore::create(&path).await.is_err(), "does not overwrite");
    assert!(SqliteStore::open(&directory.path().join("missing.db")).await.is_err());
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn two_processes_append_to_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tobari.db");
    let one = SqliteStore::create(&path).await.unwrap();
    let two = SqliteStore::open(&path).await.unwrap();
    for round in 0..10_u8 {
        one.commit(&Basis::ANY, &[], &[vec![round]]).await.unwrap();
        two.commit(&Basis::ANY, &[], &[vec![round], vec![round]]).await.unwrap();
    }
    assert_eq!(chain::verify(&one).await.unwrap().sequence, 30);
}

#[tokio::test]
async fn postgres_conforms() {
    let Some(database) = Database::start().await else { return };
    let location = database.create("suite").await;
    let store = PostgresStore::open(&location).await.unwrap();
    conforms(&store).await;
    let (loaded, head) = (store.load().await.unwrap(), store.audit_head().await.unwrap());
    store.close().await.unwrap();
    drop(store);
    let store = PostgresStore::open(&location).await.unwrap();
    assert_eq!((store.load().await.unwrap(), store.audit_head().await.unwrap()), (loaded, head));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_stores_append_to_one_chain_at_the_same_time() {
    let Some(database) = Database::start().await else { return };
    let location = database.create("chain").await;
    let mut running = tokio::task::JoinSet::new();
    for server in 0..4_u8 {
        let store = PostgresStore::open(&location).await.unwrap();
        running.spawn(async move {
            for round in 0..25_u8 {
                store.commit(&Basis::ANY, &[], &[vec![server, round], vec![round]]).await.unwrap();
            }
        });
    }
    running.join_all().await;
    let store = PostgresStore::open(&location).await.unwrap();
    assert_eq!(chain::verify(&store).await.unwrap().sequence, 200);
}

#[tokio::test]
async fn postgres_records_that_are_gone_stop_every_commit() {
    let Some(database) = Database::start().await else { return };
    let store = database.store("cut").await;
    store.commit(&Basis::ANY, &[], &[b"a".to_vec(), b"b".to_vec()]).await.unwrap();
    // As after a fail-over to a standby that had not received it.
    database.run_sql("cut", "DELETE FROM audit WHERE sequence = 2").await;
    let error = store.commit(&Basis::ANY, &[], &[b"c".to_vec()]).await.unwrap_err();
    assert!(matches!(error, StoreError::AuditBroken(_)), "{error:?}");
    // And when somebody else has written on over it.
    database.run_sql("cut", "INSERT INTO audit VALUES (2, 'x', 'y'), (3, 'x', 'y')").await;
    let error = store.commit(&Basis::ANY, &[], &[b"c".to_vec()]).await.unwrap_err();
    assert!(matches!(error, StoreError::AuditBroken(_)), "{error:?}");
}

#[tokio::test]
async fn a_postgres_that_may_lose_what_it_answers_is_refused() {
    let Some(database) = Database::start().await else { return };
    let location = database.create("unsafe").await;
    database.run_sql("postgres", "ALTER SYSTEM SET fsync = off").await;
    database.run_sql("postgres", "SELECT pg_reload_conf()").await;
    // The database takes it over when it comes to it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while PostgresStore::open(&location).await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "fsync = off was accepted");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_database_of_a_later_version_is_not_touched() {
    use sqlx::Connection as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tobari.db");
    SqliteStore::create(&path).await.unwrap().close().await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', 1, x'00', 0)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::TooNew { found: 99, .. })));
}

/// Appends per second, for `tests/bench/audit.sh`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn appends_per_second() {
    use tobari_core::audit::{LogSigner, log_name};
    use tobari_core::crypto::SigningKey;
    use tobari_core::ids::OrganisationId;
    use tobari_keyserver::audit::{Act, AuditLog, LogIdentity, Record, Who};
    let records: u64 =
        std::env::var("TOBARI_BENCH_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let organisation = OrganisationId::generate();
    let measure = async |name: &str, store: std::sync::Arc<dyn Store>| {
        let signer = LogSigner::new(&log_name(organisation), SigningKey::generate().unwrap()).unwrap();
        let log = AuditLog::start(store, LogIdentity { organisation, epoch: 1, signer });
        // Requests at one time, and records in each.
        for (callers, each) in [(1, 1), (64, 1), (64, 64)] {
            let rounds = (records / (callers * each)).clamp(1, if callers == 1 { 2000 } else { u64::MAX });
            let started = std::time::Instant::now();
            let mut running = tokio::task::JoinSet::new();
            for _ in 0..callers {
                let log = log.clone();
                running.spawn(async move {
                    let who = Who { person: Some(PersonId::generate()), ..Who::default() };
                    let record = Record::new(Act::Grant, Timestamp::UNIX_EPOCH, who).detail("x".repeat(200));
                    for _ in 0..rounds {
                        let batch = vec![record.clone(); each as usize];
                        log.commit_with_receipt(Basis::ANY, Vec::new(), &batch).await.unwrap();
                    }
                });
            }
            running.join_all().await;
            let rate = (callers * each * rounds) as f64 / started.elapsed().as_secs_f64();
            println!("{name:8} {callers:3} at a time, {each:3} records each: {rate:9.0} records/s");
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::create(&directory.path().join("tobari.db")).await.unwrap();
    measure("sqlite", std::sync::Arc::new(sqlite)).await;
    if let Some(database) = Database::start().await {
        measure("postgres", std::sync::Arc::new(database.store("bench").await)).await;
    }
}

//! The embedded default: SQLite in WAL mode with `synchronous = FULL`, so that a commit that was answered
//! survives a power cut. The SQL keeps to what PostgreSQL understands too.

mod place;

use super::commit::commit;
use super::decode::{damaged, unavailable};
use super::migrations::{Dialect, migrated, migrator};
use super::read::{self, reads};
use super::tree;
use super::{
    Appended, AuditHead, AuditRow, Basis, Change, Digest, LeaseCaseRow, LeaseCases, LeaseFilter, LeaseKind,
    LeaseRecordRow, LeaseRow, LeaseTerminalRow, Loaded, LoginFailuresRow, PolicyVersionRow, SessionRow,
    Store, StoreError, StoreFuture, TokenRow,
};
use jiff::Timestamp;
use place::Place;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, SqliteConnection};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tobari_core::audit::Frontier;
use tobari_core::ids::{FileId, LabelId, LeaseId, PersonId, SessionId, TerminalId};
use tobari_core::policy::Policy;
use tobari_core::proto::terminal::Reported;
use tokio::sync::Mutex;

/// A statement that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    readers: SqlitePool,
    writer: Mutex<Writer>,
    options: SqliteConnectOptions,
}

#[derive(Debug)]
struct Writer {
    connection: SqliteConnection,
    /// The last record that this process has seen; the log must never end before it.
    seen: AuditHead,
    /// Where the files lay when they were opened.
    place: Place,
}

impl SqliteStore {
    /// Makes a new database; the file must not exist.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn create(path: &Path) -> Result<Self, StoreError> {
        // The file holds hashes and sealed keys: for the server's own user alone.
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).map_err(unavailable)?;
        Self::open(path).await
    }

    /// Opens the database at `path` and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it is missing or cannot be opened; [`StoreError::TooNew`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What is removed, such as a retired key, is overwritten.
            .pragma("secure_delete", "ON")
            .busy_timeout(Duration::from_secs(10));
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(unavailable)?;
        migrated(migrator(Dialect::Sqlite).run(&mut connection).await)?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        let seen = read::audit_head(&mut *transaction).await?;
        let tree = read::audit_frontier(&mut *transaction).await?;
        tree::catch_up(&mut *transaction, tree, seen.sequence).await?;
        transaction.commit().await.map_err(unavailable)?;
        let place = Place::of(path)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .connect_lazy_with(options.clone());
        Ok(Self { readers, writer: Mutex::new(Writer { connection, seen, place }), options })
    }
}

impl SqliteStore {
    /// Copies the database at `from`, as of one moment and while others write to it, into the empty file `to`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(from)
            .create_if_missing(false)
            .busy_timeout(Duration::from_secs(10));
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(unavailable)?;
        let to = to.to_str().ok_or_else(|| damaged("database", "its path is not UTF-8"))?;
        sqlx::query("VACUUM INTO ?1").bind(to).execute(&mut connection).await.map_err(unavailable)?;
        connection.close().await.map_err(unavailable)
    }
}

impl Writer {
    async fn commit(
        &mut self,
        basis: &Basis,
        changes: &[Change],
        payloads: &[Vec<u8>],
    ) -> Result<Appended, StoreError> {
        self.place.check()?;
        // IMMEDIATE: the head that is read here is the one that the records continue, even when another
        // process (`tobari-keyserver token`) writes to the same file.
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        let committed = commit(&mut *transaction, self.seen, basis, changes, payloads).await?;
        transaction.commit().await.map_err(unavailable)?;
        // Again: what was written to files that were taken away meanwhile is in no log.
        self.place.check()?;
        self.seen = committed.appended.head;
        Ok(committed.appended)
    }
}

impl Store for SqliteStore {
    fn load(&self) -> StoreFuture<'_, Loaded> {
        Box::pin(async move {
            // One transaction: all tables as of one moment.
            let mut transaction = self.readers.begin().await.map_err(unavailable)?;
            let loaded = read::load(&mut *transaction).await?;
            transaction.rollback().await.map_err(unavailable)?;
            Ok(loaded)
        })
    }

    reads! { PATIENCE }

    fn commit<'a>(
        &'a self,
        basis: &'a Basis,
        changes: &'a [Change],
        payloads: &'a [Vec<u8>],
    ) -> StoreFuture<'a, Appended> {
        Box::pin(async move {
            let mut writer = self.writer.lock().await;
            let result = writer.commit(basis, changes, payloads).await;
            if let Err(StoreError::Unavailable(_)) = &result {
                // SQLite may have ended the transaction by itself, as on a full disk; the connection then still
                // counts one and would never begin another. The new one comes before the old one goes: the last to
                // close removes the write-ahead log.
                match SqliteConnection::connect_with(&self.options).await {
                    Ok(connection) if writer.place.check().is_ok() => writer.connection = connection,
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "the database was not opened again"),
                }
            }
            result
        })
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let answer: String = sqlx::query_scalar("PRAGMA quick_check(1)")
                .fetch_one(&self.readers)
                .await
                .map_err(unavailable)?;
            if answer == "ok" {
                return Ok(());
            }
            Err(StoreError::Damaged { table: "database", detail: answer })
        })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close().await;
            let mut writer = self.writer.lock().await;
            // Folds the write-ahead log into the file, so that a copy of the one file is whole.
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&mut writer.connection)
                .await
                .map_err(unavailable)?;
            Ok(())
        })
    }
}

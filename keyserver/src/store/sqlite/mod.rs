//! The embedded default: SQLite in WAL mode with `synchronous = FULL`, so that a commit that was answered
//! survives a power cut. The SQL keeps to what PostgreSQL understands too.

mod decode;
mod load;
mod place;
mod write;

use super::{
    AuditHead, AuditRow, Change, Digest, LoginFailuresRow, SessionRow, Store, StoreError, StoreFuture,
    Tables, TokenRow,
};
use crate::audit::chain;
use decode::{column, digest, id, json, micros, number, unavailable};
use jiff::Timestamp;
use place::Place;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tobari_core::ids::{PersonId, TerminalId};
use tokio::sync::Mutex;

/// Highest schema version that this program knows.
const SCHEMA_VERSION: i64 = 2;
/// Records of the audit log in one INSERT; SQLite allows 32,766 bound values.
const AUDIT_ROWS: usize = 500;

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
            .busy_timeout(Duration::from_secs(10));
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(unavailable)?;
        migrate(&mut connection).await?;
        let seen = head(&mut connection).await?;
        let place = Place::of(path)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .connect_lazy_with(options.clone());
        Ok(Self { readers, writer: Mutex::new(Writer { connection, seen, place }), options })
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let migration = |version, name, sql: &'static str| {
        let sql = sqlx::SqlSafeStr::into_sql_str(sql);
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    };
    let migrations = vec![
        migration(1, "initial", include_str!("../../../migrations/0001_initial.sql")),
        migration(2, "gateway", include_str!("../../../migrations/0002_gateway.sql")),
    ];
    match Migrator::with_migrations(migrations).run(connection).await {
        Ok(()) => Ok(()),
        Err(sqlx::migrate::MigrateError::VersionMissing(found)) => {
            Err(StoreError::TooNew { found, known: SCHEMA_VERSION })
        }
        Err(error) => Err(unavailable(error)),
    }
}

async fn head(connection: &mut SqliteConnection) -> Result<AuditHead, StoreError> {
    let row = sqlx::query("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .map_err(unavailable)?;
    match row {
        None => Ok(AuditHead::START),
        Some(row) => Ok(AuditHead {
            sequence: number("audit", row.try_get("sequence"))?,
            hash: digest("audit", row.try_get("hash"))?,
        }),
    }
}

impl Writer {
    async fn commit(&mut self, changes: &[Change], payloads: &[Vec<u8>]) -> Result<AuditHead, StoreError> {
        self.place.check()?;
        // IMMEDIATE: the head that is read here is the one that the records continue, even when another
        // process (`tobari-keyserver token`) writes to the same file.
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        for change in changes {
            write::change(&mut transaction, change).await?;
        }
        let head = Self::append(&mut transaction, self.seen, payloads).await?;
        transaction.commit().await.map_err(unavailable)?;
        // Again: what was written to files that were taken away meanwhile is in no log.
        self.place.check()?;
        self.seen = head;
        Ok(head)
    }

    async fn append(
        transaction: &mut SqliteConnection,
        seen: AuditHead,
        payloads: &[Vec<u8>],
    ) -> Result<AuditHead, StoreError> {
        let mut head = head(transaction).await?;
        if head.sequence < seen.sequence || (head.sequence == seen.sequence && head.hash != seen.hash) {
            return Err(StoreError::AuditBroken(format!(
                "record {} was written by this process and is gone",
                seen.sequence
            )));
        }
        for rows in payloads.chunks(AUDIT_ROWS) {
            let mut query = sqlx::QueryBuilder::new("INSERT INTO audit (sequence, payload, hash) ");
            query.push_values(rows, |mut row, payload| {
                head = AuditHead { sequence: head.sequence + 1, hash: chain::link(&head.hash, payload) };
                row.push_bind(i64::try_from(head.sequence).unwrap_or(i64::MAX))
                    .push_bind(payload.as_slice())
                    .push_bind(head.hash.to_vec());
            });
            // Only full chunks come often enough to be worth a prepared statement of their own.
            query
                .build()
                .persistent(rows.len() == AUDIT_ROWS || rows.len() == 1)
                .execute(&mut *transaction)
                .await
                .map_err(unavailable)?;
        }
        Ok(head)
    }
}

impl Store for SqliteStore {
    fn load(&self) -> StoreFuture<'_, Tables> {
        Box::pin(async move {
            // One transaction: all tables as of one moment.
            let mut transaction = self.readers.begin().await.map_err(unavailable)?;
            let tables = load::tables(&mut transaction).await?;
            transaction.rollback().await.map_err(unavailable)?;
            Ok(tables)
        })
    }

    fn sessions(&self, now: Timestamp) -> StoreFuture<'_, Vec<SessionRow>> {
        Box::pin(async move {
            let rows = sqlx::query("SELECT * FROM sessions WHERE expires_at > $1 ORDER BY id")
                .bind(now.as_microsecond())
                .fetch_all(&self.readers)
                .await
                .map_err(unavailable)?;
            rows.iter().map(load::session).collect()
        })
    }

    fn last_contacts(&self) -> StoreFuture<'_, HashMap<TerminalId, Timestamp>> {
        Box::pin(async move {
            let rows = sqlx::query("SELECT id, last_seen_at FROM terminals WHERE last_seen_at IS NOT NULL")
                .fetch_all(&self.readers)
                .await
                .map_err(unavailable)?;
            rows.iter()
                .map(|row| {
                    Ok((
                        id("terminals", row.try_get("id"))?,
                        micros("terminals", row.try_get("last_seen_at"))?,
                    ))
                })
                .collect()
        })
    }

    fn token(&self, hash: Digest) -> StoreFuture<'_, Option<TokenRow>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT zone, tags, expires_at FROM enrolment_tokens WHERE hash = $1")
                .bind(decode::hex(&hash))
                .fetch_optional(&self.readers)
                .await
                .map_err(unavailable)?;
            let Some(row) = row else { return Ok(None) };
            let table = "enrolment_tokens";
            Ok(Some(TokenRow {
                hash,
                zone: column(table, row.try_get("zone"))?,
                tags: json(table, row.try_get("tags"))?,
                expires_at: micros(table, row.try_get("expires_at"))?,
            }))
        })
    }

    fn login_failures<'a>(&'a self, login_key: &'a str) -> StoreFuture<'a, Option<LoginFailuresRow>> {
        Box::pin(async move {
            let row = sqlx::query(
                "SELECT failures, last_failed_at, locked_until FROM login_failures WHERE login_key = $1",
            )
            .bind(login_key)
            .fetch_optional(&self.readers)
            .await
            .map_err(unavailable)?;
            let Some(row) = row else { return Ok(None) };
            let table = "login_failures";
            Ok(Some(LoginFailuresRow {
                login_key: login_key.to_owned(),
                failures: number(table, row.try_get("failures"))?,
                last_failed_at: micros(table, row.try_get("last_failed_at"))?,
                locked_until: micros(table, row.try_get("locked_until"))?,
            }))
        })
    }

    fn totp_step(&self, person: PersonId) -> StoreFuture<'_, Option<i64>> {
        Box::pin(async move {
            sqlx::query_scalar("SELECT step FROM totp_steps WHERE person = $1")
                .bind(person.to_string())
                .fetch_optional(&self.readers)
                .await
                .map_err(unavailable)
        })
    }

    fn commit<'a>(&'a self, changes: &'a [Change], payloads: &'a [Vec<u8>]) -> StoreFuture<'a, AuditHead> {
        Box::pin(async move {
            let mut writer = self.writer.lock().await;
            let result = writer.commit(changes, payloads).await;
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

    fn audit_head(&self) -> StoreFuture<'_, AuditHead> {
        Box::pin(async move {
            let mut connection = self.readers.acquire().await.map_err(unavailable)?;
            head(&mut connection).await
        })
    }

    fn audit_page(&self, after: u64, limit: u32) -> StoreFuture<'_, Vec<AuditRow>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "SELECT sequence, payload, hash FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2",
            )
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await
            .map_err(unavailable)?;
            rows.iter()
                .map(|row| {
                    Ok(AuditRow {
                        sequence: number("audit", row.try_get("sequence"))?,
                        payload: column("audit", row.try_get("payload"))?,
                        hash: digest("audit", row.try_get("hash"))?,
                    })
                })
                .collect()
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

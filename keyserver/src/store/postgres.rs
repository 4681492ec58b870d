//! Many servers over one PostgreSQL database. Everything is read from and written to the primary; nothing that one server
//! holds in memory is trusted by a commit (see [`Basis`]).
//!
//! - One audit chain: a commit holds an advisory lock for its transaction, so all commits have one order, and each
//!   reads the head that it continues. The lock goes with the transaction: a server that dies holds up nobody, and one
//!   that is cut off is ended by the database itself after `IDLE`.
//! - Servers take turns where they change what all of them hold in memory (`turns`).
//! - `LISTEN` tells the other servers of a change at once. It may be lost; they also ask now and then.
//! - What was answered is durable: a database with `fsync` off is refused, `synchronous_commit` is switched on.

use super::commit::commit;
use super::decode::unavailable;
use super::migrations::{Dialect, migrated, migrator};
use super::read::{self, reads};
use super::tree;
use super::turns::Turns;
use super::{
    Appended, AuditHead, AuditRow, Basis, Change, Digest, LeaseCaseRow, LeaseCases, LeaseFilter, LeaseKind,
    LeaseRecordRow, LeaseRow, LeaseTerminalRow, Loaded, LoginFailuresRow, PolicyVersionRow, SessionRow,
    Store, StoreError, StoreFuture, TokenRow, Turn,
};
use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{Connection as _, Row as _};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tobari_core::audit::Frontier;
use tobari_core::ids::{FileId, LabelId, LeaseId, PersonId, SessionId, TerminalId};
use tobari_core::policy::Policy;
use tobari_core::proto::terminal::Reported;
use tokio::sync::{Mutex, watch};

/// A connection, or a commit as a whole, that takes longer is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The database ends a transaction whose server says nothing for this long, and with it the lock of the audit log.
const IDLE: &str = "5s";
/// The database ends a statement that takes longer, waiting for the lock included.
const STATEMENT: &str = "9s";
/// The audit log's lock: "tobari" in ASCII. Of the database, so organisations in other databases are not held up.
const AUDIT_LOCK: i64 = 0x74_6f_62_61_72_69;
/// The channel on which changes are told.
const CHANNEL: &str = "tobari";
/// Pause before the listener connects again.
const LISTENER_PAUSE: Duration = Duration::from_secs(1);
/// Connections for reading.
const READERS: u32 = 6;

/// Where the database is. Shown without its password.
#[derive(Clone)]
pub struct Location(PgConnectOptions);

/// Not a location.
#[derive(Debug, thiserror::Error)]
#[error("not the address of a PostgreSQL database (postgres://user@host/database)")]
pub struct LocationError;

impl FromStr for Location {
    type Err = LocationError;

    /// Reads `postgres://user@host:port/database?sslmode=…&sslrootcert=…`; what is missing comes from the variables and the
    /// password file of PostgreSQL's own clients. To another machine the connection is encrypted and the server's
    /// certificate checked unless `sslmode` says otherwise.
    fn from_str(text: &str) -> Result<Self, LocationError> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(LocationError);
        }
        let options = PgConnectOptions::from_str(text).map_err(|_| LocationError)?;
        let host = options.get_host();
        let local = options.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        let said = text.contains("sslmode=") || text.contains("ssl-mode=");
        let options = if local || said { options } else { options.ssl_mode(PgSslMode::VerifyFull) };
        Ok(Self(options.application_name("tobari-keyserver").options([
            ("synchronous_commit", "on"),
            ("idle_in_transaction_session_timeout", IDLE),
            ("statement_timeout", STATEMENT),
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", "10000"),
        ])))
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = match self.0.get_socket() {
            Some(path) => path.display().to_string(),
            None => self.0.get_host().to_owned(),
        };
        let database = self.0.get_database().unwrap_or_else(|| self.0.get_username());
        write!(f, "postgres://{}@{host}:{}/{database}", self.0.get_username(), self.0.get_port())
    }
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A store in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    readers: PgPool,
    writer: Mutex<Writer>,
    turns: Arc<Turns>,
    hints: watch::Receiver<u64>,
    listener: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Writer {
    location: Location,
    /// None until it is needed again after a failure.
    connection: Option<PgConnection>,
    /// The last record that this process has written or seen; it must never be gone.
    seen: AuditHead,
}

impl PostgresStore {
    /// Opens the database and brings its schema up to date; an empty database becomes an empty store.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it cannot be reached, is a standby or runs without `fsync`;
    /// [`StoreError::TooNew`].
    pub async fn open(location: &Location) -> Result<Self, StoreError> {
        let mut connection = connect(location).await?;
        migrated(migrator(Dialect::Postgres).run(&mut connection).await)?;
        let seen = catch_up(&mut connection).await?;
        let readers = PgPoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .after_connect(|connection, _| Box::pin(check_primary(connection)))
            .connect_lazy_with(location.0.clone());
        let (sender, hints) = watch::channel(0);
        let listener = tokio::spawn(listen(location.clone(), sender));
        let writer = Writer { location: location.clone(), connection: Some(connection), seen };
        let turns = Turns::new(location.clone());
        Ok(Self { readers, writer: Mutex::new(writer), turns, hints, listener })
    }
}

/// The end of the audit log, with all of it in its tree.
async fn catch_up(connection: &mut PgConnection) -> Result<AuditHead, StoreError> {
    let mut transaction =
        connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(unavailable)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(AUDIT_LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(unavailable)?;
    let seen = read::audit_head(&mut *transaction).await?;
    let tree = read::audit_frontier(&mut *transaction).await?;
    tree::catch_up(&mut *transaction, tree, seen.sequence).await?;
    transaction.commit().await.map_err(unavailable)?;
    Ok(seen)
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// A connection to the primary.
pub(super) async fn connect(location: &Location) -> Result<PgConnection, StoreError> {
    let connecting = PgConnection::connect_with(&location.0);
    let mut connection =
        tokio::time::timeout(PATIENCE, connecting).await.map_err(unavailable)?.map_err(unavailable)?;
    check_primary(&mut connection).await.map_err(unavailable)?;
    Ok(connection)
}

async fn check_primary(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let row =
        sqlx::query("SELECT pg_is_in_recovery() AS standby, current_setting('fsync') = 'on' AS durable")
            .fetch_one(connection)
            .await?;
    let refuse = |why: &'static str| Err(sqlx::Error::Configuration(why.into()));
    if row.try_get("standby")? {
        return refuse("the database is a standby: servers read and write the primary");
    }
    if !row.try_get::<bool, _>("durable")? {
        return refuse("the database runs with fsync off: what it answers may be lost");
    }
    Ok(())
}

async fn listen(location: Location, hints: watch::Sender<u64>) {
    loop {
        if let Err(error) = hear(&location, &hints).await {
            tracing::debug!(error = %crate::Causes(&error), "changes of other servers are not heard");
        }
        tokio::time::sleep(LISTENER_PAUSE).await;
    }
}

async fn hear(location: &Location, hints: &watch::Sender<u64>) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(PATIENCE)
        .connect_lazy_with(location.0.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // What was told before now, or while the connection was lost, was not heard.
        hints.send_modify(|count| *count += 1);
        listener.try_recv().await?;
    }
}

/// How a commit failed.
enum Failed {
    /// Before it was asked for: nothing was written.
    Before(StoreError),
    /// After: it may have been written.
    Unknown(StoreError),
}

impl Writer {
    async fn commit(
        &mut self,
        basis: &Basis,
        changes: &[Change],
        payloads: &[Vec<u8>],
    ) -> Result<Appended, StoreError> {
        // A connection that the database ended meanwhile, as when it was started again, shows only now; nothing was
        // written then, so it is tried once more on a new one.
        let fresh = self.connection.is_none();
        match self.attempt(basis, changes, payloads).await {
            Err(Failed::Before(StoreError::Unavailable(error))) if !fresh => {
                tracing::info!(error = %crate::Causes(error.as_ref()), "connecting to the database again");
                self.attempt(basis, changes, payloads).await.map_err(Failed::into)
            }
            result => result.map_err(Failed::into),
        }
    }

    async fn attempt(
        &mut self,
        basis: &Basis,
        changes: &[Change],
        payloads: &[Vec<u8>],
    ) -> Result<Appended, Failed> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.location).await.map_err(Failed::Before)?,
        };
        let work = transact(&mut connection, self.seen, basis, changes, payloads);
        let result = match tokio::time::timeout(PATIENCE, work).await {
            Ok(result) => result,
            Err(late) => Err(Failed::Unknown(unavailable(late))),
        };
        match &result {
            // A connection that failed is not used again: what it would answer next is unknown.
            Err(Failed::Unknown(_) | Failed::Before(StoreError::Unavailable(_))) => {}
            Err(Failed::Before(_)) => self.connection = Some(connection),
            Ok(appended) => {
                self.seen = appended.head;
                self.connection = Some(connection);
            }
        }
        result
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Before(error) | Failed::Unknown(error) => error,
        }
    }
}

async fn transact(
    connection: &mut PgConnection,
    seen: AuditHead,
    basis: &Basis,
    changes: &[Change],
    payloads: &[Vec<u8>],
) -> Result<Appended, Failed> {
    let before = |error: sqlx::Error| Failed::Before(unavailable(error));
    let mut transaction =
        connection.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(before)?;
    // A statement of its own: the next one then sees what the holder before has committed.
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(AUDIT_LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(before)?;
    let committed = match commit(&mut *transaction, seen, basis, changes, payloads).await {
        Ok(committed) => committed,
        Err(error) => {
            // At once, not when the connection is used next: others wait for the lock.
            let ended = transaction.rollback().await;
            return Err(Failed::Before(match (error, ended) {
                (error @ StoreError::Unavailable(_), _) | (error, Ok(())) => error,
                (_, Err(error)) => unavailable(error),
            }));
        }
    };
    if committed.changed {
        sqlx::query("SELECT pg_notify($1, '')")
            .bind(CHANNEL)
            .execute(&mut *transaction)
            .await
            .map_err(before)?;
    }
    transaction.commit().await.map_err(|error| Failed::Unknown(unavailable(error)))?;
    Ok(committed.appended)
}

impl Store for PostgresStore {
    fn load(&self) -> StoreFuture<'_, Loaded> {
        Box::pin(async move {
            let mut connection = self.readers.acquire().await.map_err(unavailable)?;
            let work = async {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                let mut transaction = connection.begin_with(begin).await.map_err(unavailable)?;
                let loaded = read::load(&mut *transaction).await?;
                transaction.rollback().await.map_err(unavailable)?;
                Ok(loaded)
            };
            match tokio::time::timeout(PATIENCE, work).await {
                Ok(result) => result,
                Err(late) => {
                    drop(connection.detach());
                    Err(unavailable(late))
                }
            }
        })
    }

    fn hints(&self) -> Option<watch::Receiver<u64>> {
        Some(self.hints.clone())
    }

    fn turn(&self) -> StoreFuture<'_, Option<Turn>> {
        Box::pin(self.turns.next())
    }

    reads! { PATIENCE }

    fn commit<'a>(
        &'a self,
        basis: &'a Basis,
        changes: &'a [Change],
        payloads: &'a [Vec<u8>],
    ) -> StoreFuture<'a, Appended> {
        Box::pin(async move { self.writer.lock().await.commit(basis, changes, payloads).await })
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            // Damaged pages are the database's own to find (`pg_amcheck`, checksums); this asks whether it answers
            // and whether the row on which every commit builds is there.
            let mut connection = self.readers.acquire().await.map_err(unavailable)?;
            read::version(&mut *connection).await.map(|_| ())
        })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.listener.abort();
            self.turns.close().await;
            self.readers.close().await;
            match self.writer.lock().await.connection.take() {
                Some(connection) => connection.close().await.map_err(unavailable),
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_shown_without_its_password() {
        let location: Location = "postgres://tobari:geheim@db.example:5433/keys".parse().unwrap();
        assert_eq!(location.to_string(), "postgres://tobari@db.example:5433/keys");
        assert!(!format!("{location:?}").contains("geheim"));
        assert!("mysql://db".parse::<Location>().is_err());
    }

    #[test]
    fn another_machine_must_show_its_certificate() {
        let mode = |text: &str| format!("{:?}", text.parse::<Location>().unwrap().0.get_ssl_mode());
        assert_eq!(mode("postgres://a@db.example/b"), "VerifyFull");
        assert_eq!(mode("postgres://a@192.0.2.1/b"), "VerifyFull");
        assert_eq!(mode("postgres://a@db.example/b?sslmode=require"), "Require");
        assert_eq!(mode("postgres://a@127.0.0.1/b"), "Prefer");
        assert_eq!(mode("postgres://a@localhost/b?host=/run/postgresql"), "Prefer");
    }
}

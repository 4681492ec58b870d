//! Whose turn it is to change something, of the servers over one PostgreSQL database: an advisory lock, whose queue is the
//! database's own. It is held in a transaction that does nothing else, so it ends with the server that has it, and the
//! database ends it for one that is cut off (`idle_in_transaction_session_timeout`).

use super::postgres::{Location, PATIENCE, connect};
use super::{StoreError, Turn};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout};

/// The lock: beside the audit log's, which is held for a commit only.
pub(super) const LOCK: i64 = 0x74_6f_62_61_72_6a;
/// Nobody has a turn for longer, and nobody waits for longer.
const LONGEST: Duration = Duration::from_secs(30);
/// The place in the queue is given up and taken again after this long: so a connection that is dead shows.
const ASKING: &str = "SET LOCAL lock_timeout = '5s'";
/// How often whoever has the turn tells the database that it is still there.
const STILL_THERE: Duration = Duration::from_secs(1);
/// `lock_not_available`, PostgreSQL manual, appendix A.
const NOT_AVAILABLE: &str = "55P03";

/// This server's place in the queue.
#[derive(Debug)]
pub(super) struct Turns {
    location: Location,
    /// None until it is needed again after a failure.
    connection: Mutex<Option<PgConnection>>,
}

impl Turns {
    pub(super) fn new(location: Location) -> Arc<Self> {
        Arc::new(Self { location, connection: Mutex::default() })
    }

    /// Waits for the turn; none if that takes too long.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]
    pub(super) async fn next(self: &Arc<Self>) -> Result<Option<Turn>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let turns = Arc::clone(self);
        // On its own, so that nothing is left half done when whoever asked goes away.
        tokio::spawn(async move { turns.serve(answer).await });
        match timeout(LONGEST, answered).await {
            Ok(Ok(answer)) => answer.map(Some),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    /// Takes the turn, gives it away and keeps it until it is over.
    async fn serve(&self, answer: oneshot::Sender<Result<Turn, StoreError>>) {
        // One of this server at a time, in the order in which they came.
        let mut kept = self.connection.lock().await;
        if answer.is_closed() {
            return;
        }
        let mut connection = match self.connected(kept.take()).await {
            Ok(connection) => connection,
            Err(error) => return drop(answer.send(Err(error))),
        };
        match hold(&mut connection, answer).await {
            Ok(()) => *kept = Some(connection),
            // A connection that failed is not used again; with it ends what it held.
            Err(error) => tracing::debug!(%error, "a turn is lost"),
        }
    }

    /// The connection that was kept, unless the database has ended it meanwhile.
    async fn connected(&self, kept: Option<PgConnection>) -> Result<PgConnection, StoreError> {
        if let Some(mut connection) = kept
            && in_time(connection.ping()).await.is_ok()
        {
            return Ok(connection);
        }
        connect(&self.location).await
    }

    /// Closes the connection, unless somebody has the turn.
    pub(super) async fn close(&self) {
        if let Ok(mut kept) = self.connection.try_lock()
            && let Some(connection) = kept.take()
        {
            // It is ended either way.
            let _ = connection.close().await;
        }
    }
}

async fn hold(
    connection: &mut PgConnection,
    answer: oneshot::Sender<Result<Turn, StoreError>>,
) -> Result<(), sqlx::Error> {
    let until = Instant::now() + LONGEST;
    while !answer.is_closed() && Instant::now() < until {
        let mut transaction = in_time(connection.begin()).await?;
        let lock = async {
            sqlx::query(ASKING).execute(&mut *transaction).await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await
        };
        match in_time(lock).await {
            Ok(_) => {}
            Err(error) if is_not_available(&error) => {
                in_time(transaction.rollback()).await?;
                continue;
            }
            Err(error) => return Err(error),
        }
        let (turn, mut ended) = Turn::new();
        if answer.send(Ok(turn)).is_ok() {
            let longest = Instant::now() + LONGEST;
            while timeout(STILL_THERE, &mut ended).await.is_err() && Instant::now() < longest {
                in_time(sqlx::query("SELECT 1").execute(&mut *transaction)).await?;
            }
        }
        return in_time(transaction.rollback()).await;
    }
    Ok(())
}

async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into())))
}

fn is_not_available(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == NOT_AVAILABLE)
}

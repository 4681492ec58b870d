//! One SQL text for both databases: a [`Query`] is text with values, a connection of either database runs it, and the
//! rows of either are read alike. The text keeps to what both understand: `$1`, `ON CONFLICT`, TEXT, BIGINT and bytes.

use super::StoreError;
use super::decode::unavailable;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Decode, Postgres, Sqlite, SqliteConnection, Type};
use std::borrow::Cow;

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Number(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

impl From<&Vec<u8>> for Value {
    fn from(value: &Vec<u8>) -> Self {
        Self::Bytes(Some(value.clone()))
    }
}

impl From<&Option<Vec<u8>>> for Value {
    fn from(value: &Option<Vec<u8>>) -> Self {
        Self::Bytes(value.clone())
    }
}

/// A statement with its values. The text comes from this program alone, never from a request.
#[derive(Debug)]
pub(super) struct Query {
    sql: Cow<'static, str>,
    values: Vec<Value>,
    /// Whether it comes often enough to be prepared once for each connection.
    kept: bool,
}

/// A statement that is prepared once for each connection.
pub(super) fn query(sql: &'static str) -> Query {
    Query { sql: Cow::Borrowed(sql), values: Vec::new(), kept: true }
}

/// A statement whose text is put together here, as for a number of rows.
pub(super) fn built(sql: String, kept: bool) -> Query {
    Query { sql: Cow::Owned(sql), values: Vec::new(), kept }
}

impl Query {
    /// The next value.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }
}

/// A connection to either database.
pub(super) trait Sql: Send {
    /// Its rows.
    type Row: Columns + Send + Sync;

    /// Runs a statement; gives the number of rows that it touched.
    fn execute(&mut self, query: Query) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Runs a statement and gives its rows.
    fn all(&mut self, query: Query) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// Runs a statement that gives at most one row.
    fn optional(
        &mut self,
        query: Query,
    ) -> impl Future<Output = Result<Option<Self::Row>, StoreError>> + Send {
        async move { Ok(self.all(query).await?.into_iter().next()) }
    }
}

/// What a column can hold.
pub(super) trait Stored:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

impl Stored for String {}
impl Stored for Option<String> {}
impl Stored for i64 {}
impl Stored for Option<i64> {}
impl Stored for Vec<u8> {}
impl Stored for Option<Vec<u8>> {}

/// A row of either database.
pub(super) trait Columns {
    /// The value of a column.
    fn try_get<T: Stored>(&self, column: &str) -> Result<T, sqlx::Error>;
}

macro_rules! database {
    ($database:ty, $connection:ty, $row:ty, $arguments:ty, $bound:ident) => {
        fn $bound(query: Query) -> sqlx::query::Query<'static, $database, $arguments> {
            let mut bound = sqlx::query(AssertSqlSafe(query.sql)).persistent(query.kept);
            for value in query.values {
                bound = match value {
                    Value::Text(value) => bound.bind(value),
                    Value::Number(value) => bound.bind(value),
                    Value::Bytes(value) => bound.bind(value),
                };
            }
            bound
        }

        impl Sql for $connection {
            type Row = $row;

            async fn execute(&mut self, query: Query) -> Result<u64, StoreError> {
                Ok($bound(query).execute(self).await.map_err(failed)?.rows_affected())
            }

            async fn all(&mut self, query: Query) -> Result<Vec<$row>, StoreError> {
                $bound(query).fetch_all(self).await.map_err(failed)
            }
        }

        impl Columns for $row {
            fn try_get<T: Stored>(&self, column: &str) -> Result<T, sqlx::Error> {
                sqlx::Row::try_get(self, column)
            }
        }
    };
}

database!(Sqlite, SqliteConnection, SqliteRow, SqliteArguments, bound_for_sqlite);
database!(Postgres, PgConnection, PgRow, PgArguments, bound_for_postgres);

fn failed(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => {
            StoreError::Taken(taken_column(database.as_ref()))
        }
        _ => unavailable(error),
    }
}

/// Which column a violated uniqueness constraint names: PostgreSQL gives `people_login_key_key` of the table `people`,
/// SQLite says `UNIQUE constraint failed: people.login_key`.
fn taken_column(error: &dyn DatabaseError) -> String {
    let constraint = error.constraint().zip(error.table());
    let column = constraint.and_then(|(constraint, table)| {
        constraint.strip_prefix(table)?.strip_prefix('_')?.strip_suffix("_key")
    });
    column.unwrap_or_else(|| error.message().rsplit(['.', ' ']).next().unwrap_or_default()).to_owned()
}

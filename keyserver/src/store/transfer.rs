//! Everything from a SQLite file to an empty PostgreSQL database. Tables and columns are taken as they are found, so
//! that a table of a later version is not forgotten here.

use super::decode::{column, damaged, unavailable};
use super::migrations::{Dialect, migrated, migrator};
use super::postgres::{self, Location};
use super::sql::{Columns, Sql, Value, built, query};
use super::sqlite::SqliteStore;
use super::{AuditHead, Store as _, StoreError, read};
use crate::audit::chain::{self, ChainError};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use std::path::Path;

/// Rows that are read at once.
const PAGE: i64 = 1000;
/// Values in one INSERT, at most; PostgreSQL allows 65,535.
const VALUES: usize = 30_000;

/// What was moved.
#[derive(Debug)]
pub(crate) struct Transferred {
    /// Tables with the number of their rows.
    pub(crate) rows: Vec<(String, u64)>,
    /// The end of the audit log.
    pub(crate) head: AuditHead,
}

/// Why nothing was moved.
#[derive(Debug)]
pub(crate) enum TransferError {
    /// The file.
    Source(StoreError),
    /// Its audit log.
    Chain(ChainError),
    /// The database.
    Target(StoreError),
    /// There is something in it already.
    NotEmpty,
    /// What was written does not read back alike.
    Differs(String),
}

/// A table with its columns and their declared types, as the file has them.
struct Table {
    name: String,
    columns: Vec<(String, String)>,
}

/// Moves everything. On an error nothing was changed, except that the database may have got its empty tables.
pub(crate) async fn sqlite_to_postgres(path: &Path, to: &Location) -> Result<Transferred, TransferError> {
    use TransferError::{Chain, Differs, NotEmpty, Source, Target};
    // Brings the file up to date, folds its log in, and proves its audit chain.
    let store = SqliteStore::open(path).await.map_err(Source)?;
    let head = chain::verify(&store).await.map_err(Chain)?;
    let loaded = store.load().await.map_err(Source)?;
    store.close().await.map_err(Source)?;
    drop(store);
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
    let source = SqliteConnection::connect_with(&options).await;
    let mut source = source.map_err(|error| Source(unavailable(error)))?;
    let tables = tables(&mut source).await.map_err(Source)?;

    let mut target = postgres::connect(to).await.map_err(Target)?;
    migrated(migrator(Dialect::Postgres).run(&mut target).await).map_err(Target)?;
    let mut transaction = target.begin().await.map_err(|error| Target(unavailable(error)))?;
    for table in &tables {
        // Nobody may write between the look and the commit.
        let lock = built(format!("LOCK TABLE {} IN EXCLUSIVE MODE", table.name), false);
        transaction.execute(lock).await.map_err(Target)?;
        if table.name != "state" && count(&mut *transaction, table).await.map_err(Target)? > 0 {
            return Err(NotEmpty);
        }
    }
    transaction.execute(query("DELETE FROM state")).await.map_err(Target)?;

    let mut rows = Vec::with_capacity(tables.len());
    for table in &tables {
        copy(&mut source, &mut transaction, table).await?;
        let (there, here) = (
            count(&mut source, table).await.map_err(Source)?,
            count(&mut *transaction, table).await.map_err(Target)?,
        );
        if there != here {
            return Err(Differs(format!("{} has {here} rows, not {there}", table.name)));
        }
        rows.push((table.name.clone(), here));
    }
    if read::load(&mut *transaction).await.map_err(Target)? != loaded {
        return Err(Differs(String::from("the directory reads back otherwise")));
    }
    let mut end = AuditHead::START;
    loop {
        let page = read::audit_page(&mut *transaction, end.sequence, 4096).await.map_err(Target)?;
        if page.is_empty() {
            break;
        }
        end = chain::follow(end, &page).map_err(|error| Differs(error.to_string()))?;
    }
    if end != head {
        return Err(Differs(format!("the audit log ends at record {}, not {}", end.sequence, head.sequence)));
    }
    transaction.commit().await.map_err(|error| Target(unavailable(error)))?;
    // What is already safe does not become unsafe because a connection does not end well.
    let _ = target.close().await;
    let _ = source.close().await;
    Ok(Transferred { rows, head })
}

/// In the order in which they were made: what others refer to comes first.
async fn tables(source: &mut SqliteConnection) -> Result<Vec<Table>, StoreError> {
    let select = query(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
         AND name NOT LIKE '%sqlx%' ORDER BY rowid",
    );
    let mut tables = Vec::new();
    for row in source.all(select).await? {
        let name: String = column("sqlite_master", row.try_get("name"))?;
        let select = query("SELECT name, type FROM pragma_table_info($1) ORDER BY cid").bind(&name);
        let columns = source.all(select).await?;
        let columns: Result<Vec<(String, String)>, StoreError> = columns
            .iter()
            .map(|row| {
                Ok((
                    column("table_info", Columns::try_get(row, "name"))?,
                    column("table_info", Columns::try_get(row, "type"))?,
                ))
            })
            .collect();
        tables.push(Table { name, columns: columns? });
    }
    Ok(tables)
}

async fn count(connection: &mut impl Sql, table: &Table) -> Result<u64, StoreError> {
    let row =
        connection.optional(built(format!("SELECT COUNT(*) AS number FROM {}", table.name), false)).await?;
    let number: i64 = match row {
        Some(row) => column("(count)", row.try_get("number"))?,
        None => 0,
    };
    number.try_into().map_err(|error| damaged("(count)", error))
}

async fn copy(
    source: &mut SqliteConnection,
    target: &mut PgConnection,
    table: &Table,
) -> Result<(), TransferError> {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(", ");
    let mut after = 0_i64;
    loop {
        let select = format!(
            "SELECT rowid AS place, {names} FROM {} WHERE rowid > $1 ORDER BY rowid LIMIT $2",
            table.name
        );
        let page =
            source.all(built(select, true).bind(after).bind(PAGE)).await.map_err(TransferError::Source)?;
        for rows in page.chunks((VALUES / table.columns.len().max(1)).max(1)) {
            let width = table.columns.len();
            let list: Vec<String> = (0..rows.len())
                .map(|row| {
                    let places: Vec<String> =
                        (1..=width).map(|place| format!("${}", row * width + place)).collect();
                    format!("({})", places.join(", "))
                })
                .collect();
            let text = format!("INSERT INTO {} ({names}) VALUES {}", table.name, list.join(", "));
            let mut insert = built(text, false);
            for row in rows {
                after = column("(rowid)", row.try_get("place")).map_err(TransferError::Source)?;
                for (name, kind) in &table.columns {
                    insert = insert.bind(value(row, name, kind).map_err(TransferError::Source)?);
                }
            }
            target.execute(insert).await.map_err(TransferError::Target)?;
        }
        if page.is_empty() {
            return Ok(());
        }
    }
}

fn value(row: &impl Columns, name: &str, kind: &str) -> Result<Value, StoreError> {
    Ok(match kind {
        "TEXT" => Value::Text(column("(row)", row.try_get(name))?),
        "BIGINT" => Value::Number(column("(row)", row.try_get(name))?),
        "BLOB" => Value::Bytes(column("(row)", row.try_get(name))?),
        kind => return Err(damaged("(schema)", format!("a column of type {kind}"))),
    })
}

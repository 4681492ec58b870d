//! Single files in SQL: for which keys they are sealed, and who unsealed them.

use super::decode::{column, id, micros, number};
use super::sql::{Columns as _, Query, Sql, query};
use super::{FileKeyRow, StoreError, UnsealWindowRow};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use tobari_core::ids::{FileId, LabelId, PersonId};

/// Notes for which keys files were sealed when they were seen. What was seen last counts.
pub(super) async fn saw(
    connection: &mut impl Sql,
    earlier: &[FileKeyRow],
    current: &[FileId],
) -> Result<(), StoreError> {
    for row in earlier {
        let put = query(
            "INSERT INTO file_keys (file, label, generation, seen_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (file) DO UPDATE SET label = excluded.label, generation = excluded.generation, \
             seen_at = excluded.seen_at WHERE file_keys.seen_at <= excluded.seen_at",
        )
        .bind(row.file.to_string())
        .bind(row.label.to_string())
        .bind(i64::from(row.generation))
        .bind(row.seen_at.as_microsecond());
        connection.execute(put).await?;
    }
    for file in current {
        connection.execute(query("DELETE FROM file_keys WHERE file = $1").bind(file.to_string())).await?;
    }
    Ok(())
}

/// How many files needed a generation of a label's key when they were last seen.
pub(super) async fn files_under(
    connection: &mut impl Sql,
    label: LabelId,
    generation: u32,
) -> Result<u64, StoreError> {
    let select = query("SELECT COUNT(*) AS files FROM file_keys WHERE label = $1 AND generation = $2");
    let select = select.bind(label.to_string()).bind(i64::from(generation));
    match connection.optional(select).await? {
        Some(row) => number("file_keys", row.try_get("files")),
        None => Ok(0),
    }
}

/// Whom more is allowed for a while.
pub(super) fn window(row: &UnsealWindowRow) -> Query {
    query(
        "INSERT INTO unseal_windows (person, files, opened_at, ends_at) VALUES ($1, $2, $3, $4) ON CONFLICT (person) \
         DO UPDATE SET files = excluded.files, opened_at = excluded.opened_at, ends_at = excluded.ends_at",
    )
    .bind(row.person.to_string())
    .bind(i64::from(row.files))
    .bind(row.opened_at.as_microsecond())
    .bind(row.ends_at.as_microsecond())
}

/// All of them.
pub(super) async fn windows(
    connection: &mut impl Sql,
) -> Result<BTreeMap<PersonId, Arc<UnsealWindowRow>>, StoreError> {
    let table = "unseal_windows";
    let mut windows = BTreeMap::new();
    for row in connection.all(query("SELECT * FROM unseal_windows")).await? {
        let window = UnsealWindowRow {
            person: id(table, row.try_get("person"))?,
            files: number(table, row.try_get("files"))?,
            opened_at: micros(table, row.try_get("opened_at"))?,
            ends_at: micros(table, row.try_get("ends_at"))?,
        };
        windows.insert(window.person, Arc::new(window));
    }
    Ok(windows)
}

/// Counts files that somebody unseals. A file that is unsealed again counts from then on.
pub(super) async fn count(
    connection: &mut impl Sql,
    person: PersonId,
    files: &[FileId],
    at: Timestamp,
    bounds: &[(Timestamp, u64)],
) -> Result<(), StoreError> {
    for file in files {
        let put = query(
            "INSERT INTO unseals (person, file, made_at) VALUES ($1, $2, $3) ON CONFLICT (person, file) \
             DO UPDATE SET made_at = excluded.made_at WHERE unseals.made_at < excluded.made_at",
        )
        .bind(person.to_string())
        .bind(file.to_string())
        .bind(at.as_microsecond());
        connection.execute(put).await?;
    }
    for (since, most) in bounds {
        let select = query("SELECT COUNT(*) AS files FROM unseals WHERE person = $1 AND made_at >= $2");
        let select = select.bind(person.to_string()).bind(since.as_microsecond());
        let counted: u64 = match connection.optional(select).await? {
            Some(row) => number("unseals", row.try_get("files"))?,
            None => 0,
        };
        if counted <= *most {
            return Ok(());
        }
    }
    if bounds.is_empty() { Ok(()) } else { Err(StoreError::Stale) }
}

/// Which files somebody unsealed from a time on, each with when it was last.
pub(super) async fn unseals(
    connection: &mut impl Sql,
    person: PersonId,
    since: Timestamp,
) -> Result<Vec<(FileId, Timestamp)>, StoreError> {
    let table = "unseals";
    let select =
        query("SELECT file, made_at FROM unseals WHERE person = $1 AND made_at >= $2 ORDER BY made_at, file");
    let rows = connection.all(select.bind(person.to_string()).bind(since.as_microsecond())).await?;
    rows.iter()
        .map(|row| {
            let file: String = column(table, row.try_get("file"))?;
            Ok((id(table, Ok(file))?, micros(table, row.try_get("made_at"))?))
        })
        .collect()
}

//! Leases in SQL: what is done to them, and how they are looked up.

use super::decode::{column, damaged, digest, flag, id, json, micros, number};
use super::sql::{Columns, Query, Sql, Value, built, query};
use super::write::{one, text};
use super::{LeaseFilter, LeaseRecordRow, LeaseRow, LeaseTerminalRow, StoreError};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use tobari_core::ids::{LeaseId, TerminalId};
use tobari_core::proto::lease::LeaseState;

const TABLE: &str = "leases";

/// A new lease.
pub(super) fn put(row: &LeaseRow) -> Result<Query, StoreError> {
    Ok(query(
        "INSERT INTO leases (id, state, person, terminal, requested_at, ends_at, file_count, opened, fetched_at, body, \
         files, document) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(row.id.to_string())
    .bind(text(&row.state)?)
    .bind(row.person.to_string())
    .bind(row.terminal.to_string())
    .bind(row.body.requested_at.as_microsecond())
    .bind(row.body.term.ends_at.as_microsecond())
    .bind(i64::from(row.file_count))
    .bind(i64::from(row.opened))
    .bind(row.fetched_at.map(Timestamp::as_microsecond))
    .bind(text(&row.body)?)
    .bind(text(&row.files)?)
    .bind(&row.document))
}

/// A lease that was in the state `before`, and how it stands now. What terminals report of it stays.
pub(super) fn step(before: LeaseState, row: &LeaseRow) -> Result<Query, StoreError> {
    Ok(query(
        "UPDATE leases SET state = $3, ends_at = $4, file_count = $5, body = $6, files = $7, document = $8 \
         WHERE id = $1 AND state = $2",
    )
    .bind(row.id.to_string())
    .bind(text(&before)?)
    .bind(text(&row.state)?)
    .bind(row.body.term.ends_at.as_microsecond())
    .bind(i64::from(row.file_count))
    .bind(text(&row.body)?)
    .bind(text(&row.files)?)
    .bind(&row.document))
}

/// An issued lease that had the document `before`, and how it stands now.
pub(super) fn refill(before: &[u8], row: &LeaseRow) -> Result<Query, StoreError> {
    Ok(query(
        "UPDATE leases SET file_count = $4, body = $5, files = $6, document = $7 \
         WHERE id = $1 AND state = $2 AND document = $3",
    )
    .bind(row.id.to_string())
    .bind(text(&LeaseState::Issued)?)
    .bind(before.to_vec())
    .bind(i64::from(row.file_count))
    .bind(text(&row.body)?)
    .bind(text(&row.files)?)
    .bind(&row.document))
}

/// The lease is named by the bulletin until its end.
pub(super) fn revoke(lease: LeaseId, ends_at: Timestamp) -> Query {
    query("INSERT INTO lease_revocations (lease, ends_at) VALUES ($1, $2) ON CONFLICT (lease) DO NOTHING")
        .bind(lease.to_string())
        .bind(ends_at.as_microsecond())
}

/// When terminals fetched leases for the first time.
pub(super) async fn fetched(
    connection: &mut impl Sql,
    leases: &[(LeaseId, Timestamp)],
) -> Result<(), StoreError> {
    for (lease, time) in leases {
        let update = query("UPDATE leases SET fetched_at = $2 WHERE id = $1 AND fetched_at IS NULL");
        connection.execute(update.bind(lease.to_string()).bind(time.as_microsecond())).await?;
    }
    Ok(())
}

/// What a terminal reports after `before` (its counter and last sequence number). Stale when another report came between.
/// Each record comes with whether it is an opening.
pub(super) async fn append(
    connection: &mut impl Sql,
    (counter, sequence): (u64, u64),
    after: &LeaseTerminalRow,
    rows: &[(bool, LeaseRecordRow)],
) -> Result<(), StoreError> {
    let whole = |value: u64| i64::try_from(value).map_err(|error| damaged("(new row)", error));
    let begin = query(
        "INSERT INTO lease_terminals (terminal, counter, sequence, hash, blocked) VALUES ($1, 0, 0, $2, 0) \
         ON CONFLICT (terminal) DO NOTHING",
    );
    connection.execute(begin.bind(after.terminal.to_string()).bind(vec![0_u8; 32])).await?;
    let update = query(
        "UPDATE lease_terminals SET counter = $4, sequence = $5, hash = $6, blocked = $7 \
         WHERE terminal = $1 AND counter = $2 AND sequence = $3",
    )
    .bind(after.terminal.to_string())
    .bind(whole(counter)?)
    .bind(whole(sequence)?)
    .bind(whole(after.counter)?)
    .bind(whole(after.sequence)?)
    .bind(after.hash.to_vec())
    .bind(i64::from(after.blocked));
    one(connection.execute(update).await?)?;
    let mut opened: BTreeMap<LeaseId, i64> = BTreeMap::new();
    for (is_opening, row) in rows {
        let insert = query(
            "INSERT INTO lease_records (terminal, sequence, lease, payload, hash) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(row.terminal.to_string())
        .bind(whole(row.sequence)?)
        .bind(row.lease.to_string())
        .bind(&row.payload)
        .bind(row.hash.to_vec());
        connection.execute(insert).await?;
        if *is_opening {
            *opened.entry(row.lease).or_default() += 1;
        }
    }
    for (lease, count) in opened {
        let update = query("UPDATE leases SET opened = opened + $2 WHERE id = $1");
        connection.execute(update.bind(lease.to_string()).bind(count)).await?;
    }
    Ok(())
}

/// The revocations that the bulletin names.
pub(super) async fn revoked(connection: &mut impl Sql) -> Result<BTreeMap<LeaseId, Timestamp>, StoreError> {
    let table = "lease_revocations";
    let rows = connection.all(query("SELECT lease, ends_at FROM lease_revocations")).await?;
    rows.iter()
        .map(|row| Ok((id(table, row.try_get("lease"))?, micros(table, row.try_get("ends_at"))?)))
        .collect()
}

/// One lease with its files and its document.
pub(super) async fn lease(connection: &mut impl Sql, lease: LeaseId) -> Result<Option<LeaseRow>, StoreError> {
    let select = query("SELECT * FROM leases WHERE id = $1").bind(lease.to_string());
    let rows = connection.all(select).await?;
    let Some(found) = rows.first() else { return Ok(None) };
    Ok(Some(LeaseRow {
        files: json(TABLE, found.try_get("files"))?,
        document: column(TABLE, found.try_get("document"))?,
        ..row(found)?
    }))
}

/// Leases without files and documents, newest first.
pub(super) async fn leases(
    connection: &mut impl Sql,
    filter: LeaseFilter,
) -> Result<Vec<LeaseRow>, StoreError> {
    let mut conditions: Vec<(&str, Value)> = Vec::new();
    if let Some((first, last)) = filter.ids {
        conditions.push(("id >=", first.to_string().into()));
        conditions.push(("id <=", last.to_string().into()));
    }
    if let Some(terminal) = filter.terminal {
        conditions.push(("terminal =", terminal.to_string().into()));
    }
    if let Some(person) = filter.person {
        conditions.push(("person =", person.to_string().into()));
    }
    if let Some(state) = filter.state {
        conditions.push(("state =", text(&state)?.into()));
    }
    if filter.issued {
        conditions.push(("state <>", text(&LeaseState::Requested)?.into()));
        conditions.push(("state <>", text(&LeaseState::Refused)?.into()));
    }
    if let Some(time) = filter.ends_after {
        conditions.push(("ends_at >", time.as_microsecond().into()));
    }
    let mut sql =
        String::from("SELECT id, state, person, terminal, file_count, opened, fetched_at, body FROM leases");
    for (index, (condition, _)) in conditions.iter().enumerate() {
        let word = if index == 0 { "WHERE" } else { "AND" };
        sql.push_str(&format!(" {word} {condition} ${}", index + 1));
    }
    sql.push_str(&format!(" ORDER BY requested_at DESC, id LIMIT ${}", conditions.len() + 1));
    // Few kinds of look-up exist, so each text is worth preparing.
    let mut select = built(sql, true);
    for (_, value) in conditions {
        select = select.bind(value);
    }
    let rows = connection.all(select.bind(filter.limit.map_or(i64::MAX, i64::from))).await?;
    rows.iter().map(row).collect()
}

/// How many leases each terminal has out: issued, and not ended.
pub(super) async fn out(
    connection: &mut impl Sql,
    now: Timestamp,
) -> Result<HashMap<TerminalId, u32>, StoreError> {
    let select = query(
        "SELECT terminal, COUNT(*) AS number FROM leases WHERE ends_at > $1 AND state = $2 GROUP BY terminal",
    );
    let select = select.bind(now.as_microsecond()).bind(text(&LeaseState::Issued)?);
    let rows = connection.all(select).await?;
    rows.iter()
        .map(|row| Ok((id(TABLE, row.try_get("terminal"))?, number(TABLE, row.try_get("number"))?)))
        .collect()
}

fn row(row: &impl Columns) -> Result<LeaseRow, StoreError> {
    let fetched_at: Option<i64> = column(TABLE, row.try_get("fetched_at"))?;
    Ok(LeaseRow {
        id: id(TABLE, row.try_get("id"))?,
        state: json(TABLE, row.try_get("state"))?,
        person: id(TABLE, row.try_get("person"))?,
        terminal: id(TABLE, row.try_get("terminal"))?,
        body: json(TABLE, row.try_get("body"))?,
        file_count: number(TABLE, row.try_get("file_count"))?,
        files: Vec::new(),
        document: None,
        fetched_at: fetched_at
            .map(|time| Timestamp::from_microsecond(time).map_err(|error| damaged(TABLE, error)))
            .transpose()?,
        opened: number(TABLE, row.try_get("opened"))?,
    })
}

/// How far a terminal has reported.
pub(super) async fn lease_terminal(
    connection: &mut impl Sql,
    terminal: TerminalId,
) -> Result<Option<LeaseTerminalRow>, StoreError> {
    let table = "lease_terminals";
    let select = query("SELECT * FROM lease_terminals WHERE terminal = $1").bind(terminal.to_string());
    let rows = connection.all(select).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(LeaseTerminalRow {
        terminal,
        counter: number(table, row.try_get("counter"))?,
        sequence: number(table, row.try_get("sequence"))?,
        hash: digest(table, row.try_get("hash"))?,
        blocked: flag(table, row.try_get("blocked"))?,
    }))
}

/// All records of a lease, in the order of its terminal.
pub(super) async fn lease_records(
    connection: &mut impl Sql,
    lease: LeaseId,
) -> Result<Vec<LeaseRecordRow>, StoreError> {
    let select =
        query("SELECT * FROM lease_records WHERE lease = $1 ORDER BY sequence").bind(lease.to_string());
    connection.all(select).await?.iter().map(record).collect()
}

/// At most `limit` records of a terminal after a sequence number, in order.
pub(super) async fn lease_records_of(
    connection: &mut impl Sql,
    terminal: TerminalId,
    after: u64,
    limit: u32,
) -> Result<Vec<LeaseRecordRow>, StoreError> {
    let select =
        query("SELECT * FROM lease_records WHERE terminal = $1 AND sequence > $2 ORDER BY sequence LIMIT $3")
            .bind(terminal.to_string())
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(i64::from(limit));
    connection.all(select).await?.iter().map(record).collect()
}

fn record(row: &impl Columns) -> Result<LeaseRecordRow, StoreError> {
    let table = "lease_records";
    Ok(LeaseRecordRow {
        terminal: id(table, row.try_get("terminal"))?,
        sequence: number(table, row.try_get("sequence"))?,
        lease: id(table, row.try_get("lease"))?,
        payload: column(table, row.try_get("payload"))?,
        hash: digest(table, row.try_get("hash"))?,
    })
}

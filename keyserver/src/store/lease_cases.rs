//! What leases lend, by label and owner group, in SQL: looked up when the policy changes, narrowed when it becomes stricter.

use super::decode::{column, damaged, flag, id, micros, number};
use super::sql::{Columns, Sql, built, query};
use super::write::text;
use super::{LeaseCaseRow, LeaseCases, LeaseKind, StoreError, read};
use jiff::Timestamp;
use tobari_core::ids::{GroupId, LeaseId};
use tobari_core::policy::Rights;
use tobari_core::proto::lease::{LeaseState, Narrowing};

const TABLE: &str = "lease_cases";

/// What a lease lends; it counts as issued. Of a lease that is refilled the terminal may still use what it had before, so both are
/// lent; what was narrowed is never more again.
pub(super) async fn put(connection: &mut impl Sql, rows: &[LeaseCaseRow]) -> Result<(), StoreError> {
    for row in rows {
        let left = row.left;
        let insert = query(
            "INSERT INTO lease_cases (lease, label, owner_group, person, terminal, second_factor, by_label, rights, \
             starts_at, ends_at, lease_ends_at, narrowed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
             ON CONFLICT (lease, label, owner_group) DO UPDATE SET rights = lease_cases.rights | excluded.rights, \
             ends_at = CASE WHEN excluded.ends_at > lease_cases.ends_at THEN excluded.ends_at ELSE lease_cases.ends_at END \
             WHERE lease_cases.narrowed = 0",
        )
        .bind(left.lease.to_string())
        .bind(left.label.to_string())
        .bind(group_text(left.owner_group))
        .bind(row.person.to_string())
        .bind(row.terminal.to_string())
        .bind(i64::from(row.second_factor))
        .bind(i64::from(row.by_label))
        .bind(i64::from(left.rights.bits()))
        .bind(row.starts_at.as_microsecond())
        .bind(left.ends_at.as_microsecond())
        .bind(row.lease_ends_at.as_microsecond())
        .bind(i64::from(row.narrowed));
        connection.execute(insert).await?;
    }
    connection.execute(query("UPDATE state SET leases = leases + 1 WHERE id = 1")).await.map(|_| ())
}

/// What a stricter policy leaves.
pub(super) async fn narrow(connection: &mut impl Sql, rows: &[LeaseCaseRow]) -> Result<(), StoreError> {
    for row in rows {
        let left = row.left;
        let update = query(
            "UPDATE lease_cases SET rights = $4, ends_at = $5, narrowed = 1 \
             WHERE lease = $1 AND label = $2 AND owner_group = $3",
        )
        .bind(left.lease.to_string())
        .bind(left.label.to_string())
        .bind(group_text(left.owner_group))
        .bind(i64::from(left.rights.bits()))
        .bind(left.ends_at.as_microsecond());
        connection.execute(update).await?;
    }
    Ok(())
}

/// No lease was issued since `seen`.
pub(super) async fn none_since(connection: &mut impl Sql, seen: u64) -> Result<(), StoreError> {
    if issued(connection).await? == seen {
        return Ok(());
    }
    Err(StoreError::Moved { version: read::version(connection).await?, ended: Vec::new() })
}

async fn issued(connection: &mut impl Sql) -> Result<u64, StoreError> {
    let row = connection.optional(query("SELECT leases FROM state WHERE id = 1")).await?;
    number("state", row.ok_or_else(read::no_state)?.try_get("leases"))
}

/// Forgets what was narrowed of leases that ended before this time.
pub(super) async fn forget_narrowed(connection: &mut impl Sql, before: Timestamp) -> Result<(), StoreError> {
    let delete = query("DELETE FROM lease_cases WHERE lease_ends_at < $1 AND narrowed = 1");
    connection.execute(delete.bind(before.as_microsecond())).await.map(|_| ())
}

/// The narrowed ones.
pub(super) async fn narrowed(connection: &mut impl Sql) -> Result<Vec<LeaseCaseRow>, StoreError> {
    let select = query("SELECT * FROM lease_cases WHERE narrowed = 1");
    connection.all(select).await?.iter().map(row).collect()
}

pub(super) async fn lease_kinds(
    connection: &mut impl Sql,
    which: LeaseCases,
    now: Timestamp,
) -> Result<(u64, Vec<LeaseKind>), StoreError> {
    // First, so that a lease that is issued between the two is noticed.
    let issued = issued(connection).await?;
    let (condition, value) = match which {
        LeaseCases::All => ("", None),
        LeaseCases::Person(id) => (" AND person = $2", Some(id.to_string())),
        LeaseCases::Terminal(id) => (" AND terminal = $2", Some(id.to_string())),
        LeaseCases::Label(id) => (" AND label = $2", Some(id.to_string())),
    };
    let text = format!(
        "SELECT DISTINCT person, terminal, label, owner_group, second_factor, by_label, rights FROM lease_cases \
         WHERE lease_ends_at > $1{condition}"
    );
    let mut select = built(text, true).bind(now.as_microsecond());
    if let Some(value) = value {
        select = select.bind(value);
    }
    let rows = connection.all(select).await?;
    Ok((issued, rows.iter().map(kind).collect::<Result<_, _>>()?))
}

pub(super) async fn lease_cases(
    connection: &mut impl Sql,
    kind: LeaseKind,
    now: Timestamp,
) -> Result<Vec<LeaseCaseRow>, StoreError> {
    // Found by the person, who has few: a label can have a million, and is asked about once for each kind. SQLite, which keeps
    // no statistics here, would take the label's index, were the expression not in its way.
    let select = query(
        "SELECT * FROM lease_cases WHERE lease IN (SELECT c.lease FROM lease_cases c JOIN leases l ON l.id = c.lease \
         WHERE l.state = $8 AND c.person = $1 AND c.terminal || '' = $2 AND c.label || '' = $3 AND c.owner_group = $4 \
         AND c.second_factor = $5 AND c.by_label = $6 AND c.lease_ends_at > $7) ORDER BY lease, label, owner_group",
    )
    .bind(kind.person.to_string())
    .bind(kind.terminal.to_string())
    .bind(kind.label.to_string())
    .bind(group_text(kind.owner_group))
    .bind(i64::from(kind.second_factor))
    .bind(i64::from(kind.by_label))
    .bind(now.as_microsecond())
    .bind(text(&LeaseState::Issued)?);
    connection.all(select).await?.iter().map(row).collect()
}

pub(super) async fn leases_without_cases(
    connection: &mut impl Sql,
    now: Timestamp,
) -> Result<Vec<LeaseId>, StoreError> {
    let select = query(
        "SELECT id FROM leases WHERE state = $1 AND ends_at > $2 AND document IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM lease_cases WHERE lease_cases.lease = leases.id)",
    )
    .bind(text(&LeaseState::Issued)?)
    .bind(now.as_microsecond());
    let rows = connection.all(select).await?;
    rows.iter().map(|row| id(TABLE, row.try_get("id"))).collect()
}

/// Part of a primary key, which has no nulls.
fn group_text(group: Option<GroupId>) -> String {
    group.map(|group| group.to_string()).unwrap_or_default()
}

fn group(row: &impl Columns) -> Result<Option<GroupId>, StoreError> {
    let text: String = column(TABLE, row.try_get("owner_group"))?;
    if text.is_empty() { Ok(None) } else { id(TABLE, Ok(text)).map(Some) }
}

fn rights(row: &impl Columns) -> Result<Rights, StoreError> {
    let bits: i64 = column(TABLE, row.try_get("rights"))?;
    Ok(Rights::from_bits(u8::try_from(bits).map_err(|error| damaged(TABLE, error))?))
}

fn kind(row: &impl Columns) -> Result<LeaseKind, StoreError> {
    Ok(LeaseKind {
        person: id(TABLE, row.try_get("person"))?,
        terminal: id(TABLE, row.try_get("terminal"))?,
        label: id(TABLE, row.try_get("label"))?,
        owner_group: group(row)?,
        second_factor: flag(TABLE, row.try_get("second_factor"))?,
        by_label: flag(TABLE, row.try_get("by_label"))?,
        rights: rights(row)?,
    })
}

fn row(row: &impl Columns) -> Result<LeaseCaseRow, StoreError> {
    let kind = kind(row)?;
    Ok(LeaseCaseRow {
        left: Narrowing {
            lease: id(TABLE, row.try_get("lease"))?,
            label: kind.label,
            owner_group: kind.owner_group,
            rights: kind.rights,
            ends_at: micros(TABLE, row.try_get("ends_at"))?,
        },
        person: kind.person,
        terminal: kind.terminal,
        second_factor: kind.second_factor,
        by_label: kind.by_label,
        starts_at: micros(TABLE, row.try_get("starts_at"))?,
        lease_ends_at: micros(TABLE, row.try_get("lease_ends_at"))?,
        narrowed: flag(TABLE, row.try_get("narrowed"))?,
    })
}

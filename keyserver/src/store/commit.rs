//! A commit, inside a transaction of the caller in which nobody else commits: check what it builds on, make the
//! changes, continue the audit log.

use super::decode::{column, digest, id, number};
use super::sql::{Columns as _, Sql, built, query};
use super::{Appended, AuditHead, Basis, Change, Digest, StoreError, read, tree, write};
use crate::audit::chain;
use std::collections::HashSet;
use tobari_core::audit::{Frontier, Growth, leaf_hash};
use tobari_core::ids::SessionId;

/// Records of the audit log in one INSERT; SQLite allows 32,766 bound values, PostgreSQL 65,535.
const AUDIT_ROWS: usize = 500;

/// What a commit leaves behind.
#[derive(Debug)]
pub(super) struct Committed {
    /// The end of the audit log, and what its tree grew by.
    pub(super) appended: Appended,
    /// Whether what servers hold in memory has changed.
    pub(super) changed: bool,
}

/// Does all of it. `seen` is the last record that this process knows of.
///
/// # Errors
/// Any; the caller rolls back.
pub(super) async fn commit(
    connection: &mut impl Sql,
    seen: AuditHead,
    basis: &Basis,
    changes: &[Change],
    payloads: &[Vec<u8>],
) -> Result<Committed, StoreError> {
    let (version, head, frontier) = now(connection, seen).await?;
    let ended = ended(connection, &basis.sessions).await?;
    if basis.version.is_some_and(|expected| expected != version) || !ended.is_empty() {
        return Err(StoreError::Moved { version, ended });
    }
    for change in changes {
        write::change(connection, change).await?;
    }
    let changed = changes.iter().any(Change::is_of_tables);
    if changed {
        connection.execute(query("UPDATE state SET version = version + 1 WHERE id = 1")).await?;
    }
    let frontier = tree::catch_up(connection, frontier, head.sequence).await?;
    let growth = Growth::new(frontier, payloads.iter().map(|payload| leaf_hash(payload)).collect());
    tree::grow(connection, &growth).await?;
    let head = append(connection, head, payloads).await?;
    Ok(Committed { appended: Appended { head, growth }, changed })
}

/// The version, the end of the audit log, which must contain the record that was seen, and the log's tree.
async fn now(connection: &mut impl Sql, seen: AuditHead) -> Result<(u64, AuditHead, Frontier), StoreError> {
    let select = query(
        "SELECT version, (SELECT MAX(sequence) FROM audit) AS last, \
         (SELECT hash FROM audit WHERE sequence = (SELECT MAX(sequence) FROM audit)) AS hash, \
         (SELECT hash FROM audit WHERE sequence = $1) AS seen, \
         (SELECT size FROM audit_tree WHERE id = 1) AS size, \
         (SELECT frontier FROM audit_tree WHERE id = 1) AS frontier FROM state WHERE id = 1",
    );
    let select = select.bind(i64::try_from(seen.sequence).unwrap_or(i64::MAX));
    let row = connection.optional(select).await?.ok_or_else(read::no_state)?;
    let still: Option<Vec<u8>> = column("audit", row.try_get("seen"))?;
    if seen.sequence > 0 && still.as_deref() != Some(seen.hash.as_slice()) {
        return Err(StoreError::AuditBroken(format!(
            "record {} was written by this process and is gone",
            seen.sequence
        )));
    }
    let last: Option<i64> = column("audit", row.try_get("last"))?;
    let head = match last {
        None => AuditHead::START,
        Some(last) => {
            AuditHead { sequence: number("audit", Ok(last))?, hash: digest("audit", row.try_get("hash"))? }
        }
    };
    let frontier: Option<String> = column("audit_tree", row.try_get("frontier"))?;
    let frontier = tree::decode(column("audit_tree", row.try_get("size"))?, frontier.as_deref())?;
    Ok((number("state", row.try_get("version"))?, head, frontier))
}

/// Those of the sessions that are no longer there.
async fn ended(connection: &mut impl Sql, sessions: &[SessionId]) -> Result<Vec<SessionId>, StoreError> {
    let Some(first) = sessions.first() else { return Ok(Vec::new()) };
    // A power of two of places, filled up with the first, so that there are few texts to prepare.
    let places = sessions.len().next_power_of_two();
    let list: Vec<String> = (1..=places).map(|place| format!("${place}")).collect();
    let mut select = built(format!("SELECT id FROM sessions WHERE id IN ({})", list.join(", ")), true);
    for session in sessions.iter().chain(std::iter::repeat(first)).take(places) {
        select = select.bind(session.to_string());
    }
    let mut alive = HashSet::with_capacity(sessions.len());
    for row in connection.all(select).await? {
        alive.insert(id::<SessionId>("sessions", row.try_get("id"))?);
    }
    Ok(sessions.iter().filter(|session| !alive.contains(session)).copied().collect())
}

async fn append(
    connection: &mut impl Sql,
    mut head: AuditHead,
    payloads: &[Vec<u8>],
) -> Result<AuditHead, StoreError> {
    for rows in payloads.chunks(AUDIT_ROWS) {
        let list: Vec<String> = (0..rows.len())
            .map(|row| format!("(${}, ${}, ${})", 3 * row + 1, 3 * row + 2, 3 * row + 3))
            .collect();
        // Only full chunks and single records come often enough to be worth a prepared statement of their own.
        let kept = rows.len() == AUDIT_ROWS || rows.len() == 1;
        let text = format!("INSERT INTO audit (sequence, payload, hash) VALUES {}", list.join(", "));
        let mut insert = built(text, kept);
        for payload in rows {
            let hash: Digest = chain::link(&head.hash, payload);
            head = AuditHead { sequence: head.sequence + 1, hash };
            insert = insert
                .bind(i64::try_from(head.sequence).unwrap_or(i64::MAX))
                .bind(payload)
                .bind(hash.to_vec());
        }
        connection.execute(insert).await.map_err(|error| match error {
            StoreError::Taken(_) => {
                StoreError::AuditBroken(String::from("another appends without holding the log"))
            }
            error => error,
        })?;
    }
    Ok(head)
}

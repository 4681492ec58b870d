//! Looking up what is not held in memory, and the end of the audit log.

use super::decode::{column, digest, hex, id, json, micros, number};
pub(super) use super::files::{files_under, unseals};
pub(super) use super::lease_cases::{lease_cases, lease_kinds, leases_without_cases};
pub(super) use super::leases::{
    lease, lease_records, lease_records_of, lease_terminal, leases, out as leases_out,
};
use super::load;
use super::sql::{Columns as _, Sql, query};
pub(super) use super::tree::{audit_frontier, audit_nodes};
use super::{
    AuditHead, AuditRow, Digest, Loaded, LoginFailuresRow, PolicyVersionRow, SessionRow, StoreError, TokenRow,
};
use jiff::Timestamp;
use std::collections::HashMap;
use tobari_core::ids::{PersonId, SessionId, TerminalId};
use tobari_core::policy::Policy;
use tobari_core::proto::terminal::Reported;

/// Everything that is held in memory, with its version; in one transaction of the caller.
pub(super) async fn load(connection: &mut impl Sql) -> Result<Loaded, StoreError> {
    Ok(Loaded { version: version(connection).await?, tables: load::tables(connection).await? })
}

pub(super) async fn version(connection: &mut impl Sql) -> Result<u64, StoreError> {
    let row = connection.optional(query("SELECT version FROM state WHERE id = 1")).await?;
    number("state", row.ok_or_else(no_state)?.try_get("version"))
}

pub(super) fn no_state() -> StoreError {
    StoreError::Damaged { table: "state", detail: String::from("its row is gone") }
}

pub(super) async fn sessions(
    connection: &mut impl Sql,
    now: Timestamp,
) -> Result<Vec<SessionRow>, StoreError> {
    let select = query("SELECT * FROM sessions WHERE expires_at > $1 ORDER BY id");
    let rows = connection.all(select.bind(now.as_microsecond())).await?;
    rows.iter().map(load::session).collect()
}

pub(super) async fn session(
    connection: &mut impl Sql,
    token_hash: Digest,
) -> Result<Option<SessionRow>, StoreError> {
    let select = query("SELECT * FROM sessions WHERE token_hash = $1");
    let row = connection.optional(select.bind(hex(&token_hash))).await?;
    row.as_ref().map(load::session).transpose()
}

pub(super) async fn last_contacts(
    connection: &mut impl Sql,
) -> Result<HashMap<TerminalId, Timestamp>, StoreError> {
    let select = query("SELECT id, last_seen_at FROM terminals WHERE last_seen_at IS NOT NULL");
    let rows = connection.all(select).await?;
    rows.iter()
        .map(|row| {
            Ok((id("terminals", row.try_get("id"))?, micros("terminals", row.try_get("last_seen_at"))?))
        })
        .collect()
}

pub(super) async fn reports(connection: &mut impl Sql) -> Result<HashMap<TerminalId, Reported>, StoreError> {
    let table = "terminals";
    let rows = connection.all(query("SELECT id, report FROM terminals WHERE report IS NOT NULL")).await?;
    rows.iter().map(|row| Ok((id(table, row.try_get("id"))?, json(table, row.try_get("report"))?))).collect()
}

pub(super) async fn token(connection: &mut impl Sql, hash: Digest) -> Result<Option<TokenRow>, StoreError> {
    let select = query("SELECT zone, tags, expires_at FROM enrolment_tokens WHERE hash = $1");
    let Some(row) = connection.optional(select.bind(hex(&hash))).await? else { return Ok(None) };
    let table = "enrolment_tokens";
    Ok(Some(TokenRow {
        hash,
        zone: column(table, row.try_get("zone"))?,
        tags: json(table, row.try_get("tags"))?,
        expires_at: micros(table, row.try_get("expires_at"))?,
    }))
}

pub(super) async fn login_failures(
    connection: &mut impl Sql,
    login_key: &str,
) -> Result<Option<LoginFailuresRow>, StoreError> {
    let select =
        query("SELECT failures, last_failed_at, locked_until FROM login_failures WHERE login_key = $1");
    let Some(row) = connection.optional(select.bind(login_key)).await? else { return Ok(None) };
    let table = "login_failures";
    Ok(Some(LoginFailuresRow {
        login_key: login_key.to_owned(),
        failures: number(table, row.try_get("failures"))?,
        last_failed_at: micros(table, row.try_get("last_failed_at"))?,
        locked_until: micros(table, row.try_get("locked_until"))?,
    }))
}

pub(super) async fn totp_step(
    connection: &mut impl Sql,
    person: PersonId,
) -> Result<Option<i64>, StoreError> {
    let select = query("SELECT step FROM totp_steps WHERE person = $1");
    let row = connection.optional(select.bind(person.to_string())).await?;
    row.map(|row| column("totp_steps", row.try_get("step"))).transpose()
}

pub(super) async fn step_up(
    connection: &mut impl Sql,
    session: SessionId,
) -> Result<Option<Timestamp>, StoreError> {
    let select = query("SELECT made_at FROM step_ups WHERE session = $1");
    let row = connection.optional(select.bind(session.to_string())).await?;
    row.map(|row| micros("step_ups", row.try_get("made_at"))).transpose()
}

pub(super) async fn policy_versions(
    connection: &mut impl Sql,
    before: u64,
    limit: u32,
) -> Result<Vec<PolicyVersionRow>, StoreError> {
    let select = query("SELECT body FROM policy_versions WHERE version < $1 ORDER BY version DESC LIMIT $2");
    let select = select.bind(i64::try_from(before).unwrap_or(i64::MAX)).bind(i64::from(limit));
    let rows = connection.all(select).await?;
    rows.iter().map(|row| json("policy_versions", row.try_get("body"))).collect()
}

pub(super) async fn policy_of(connection: &mut impl Sql, version: u64) -> Result<Option<Policy>, StoreError> {
    let select = query(
        "SELECT policy FROM policy_versions WHERE version <= $1 AND policy IS NOT NULL ORDER BY version DESC LIMIT 1",
    );
    let row = connection.optional(select.bind(i64::try_from(version).unwrap_or(i64::MAX))).await?;
    row.map(|row| json("policy_versions", row.try_get("policy"))).transpose()
}

pub(super) async fn audit_head(connection: &mut impl Sql) -> Result<AuditHead, StoreError> {
    let select = query("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1");
    match connection.optional(select).await? {
        None => Ok(AuditHead::START),
        Some(row) => Ok(AuditHead {
            sequence: number("audit", row.try_get("sequence"))?,
            hash: digest("audit", row.try_get("hash"))?,
        }),
    }
}

pub(super) async fn audit_page(
    connection: &mut impl Sql,
    after: u64,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let select =
        query("SELECT sequence, payload, hash FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2");
    let select = select.bind(i64::try_from(after).unwrap_or(i64::MAX)).bind(i64::from(limit));
    let rows = connection.all(select).await?;
    rows.iter()
        .map(|row| {
            Ok(AuditRow {
                sequence: number("audit", row.try_get("sequence"))?,
                payload: column("audit", row.try_get("payload"))?,
                hash: digest("audit", row.try_get("hash"))?,
            })
        })
        .collect()
}

/// The reading half of [`super::Store`], the same for every database: each call takes a connection of the pool, and
/// one that does not answer in time is thrown away with the connection.
macro_rules! reads {
    ($patience:expr; $($name:ident($($argument:ident: $kind:ty),*) -> $output:ty;)*) => {
        $(fn $name<'a>(&'a self $(, $argument: $kind)*) -> StoreFuture<'a, $output> {
            Box::pin(async move {
                let mut connection = self.readers.acquire().await.map_err(unavailable)?;
                let work = read::$name(&mut *connection $(, $argument)*);
                match tokio::time::timeout($patience, work).await {
                    Ok(result) => result,
                    Err(late) => {
                        drop(connection.detach());
                        Err(unavailable(late))
                    }
                }
            })
        })*
    };
    ($patience:expr) => {
        reads! {
            $patience;
            version() -> u64;
            sessions(now: Timestamp) -> Vec<SessionRow>;
            session(token_hash: Digest) -> Option<SessionRow>;
            last_contacts() -> HashMap<TerminalId, Timestamp>;
            reports() -> HashMap<TerminalId, Reported>;
            leases_out(now: Timestamp) -> HashMap<TerminalId, u32>;
            token(hash: Digest) -> Option<TokenRow>;
            login_failures(login_key: &'a str) -> Option<LoginFailuresRow>;
            totp_step(person: PersonId) -> Option<i64>;
            step_up(session: SessionId) -> Option<Timestamp>;
            policy_versions(before: u64, limit: u32) -> Vec<PolicyVersionRow>;
            policy_of(version: u64) -> Option<Policy>;
            files_under(label: LabelId, generation: u32) -> u64;
            unseals(person: PersonId, since: Timestamp) -> Vec<(FileId, Timestamp)>;
            lease(id: LeaseId) -> Option<LeaseRow>;
            leases(filter: LeaseFilter) -> Vec<LeaseRow>;
            lease_kinds(which: LeaseCases, now: Timestamp) -> (u64, Vec<LeaseKind>);
            lease_cases(kind: LeaseKind, now: Timestamp) -> Vec<LeaseCaseRow>;
            leases_without_cases(now: Timestamp) -> Vec<LeaseId>;
            lease_terminal(terminal: TerminalId) -> Option<LeaseTerminalRow>;
            lease_records(lease: LeaseId) -> Vec<LeaseRecordRow>;
            lease_records_of(terminal: TerminalId, after: u64, limit: u32) -> Vec<LeaseRecordRow>;
            audit_head() -> AuditHead;
            audit_page(after: u64, limit: u32) -> Vec<AuditRow>;
            audit_frontier() -> Frontier;
            audit_nodes(level: u32, first: u64, count: u32) -> Vec<Digest>;
        }
    };
}
pub(super) use reads;

//! The schema: one text for both databases, in which only the name of the type for bytes differs.

use super::StoreError;
use super::decode::unavailable;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};
use std::borrow::Cow;

/// Every migration with its version, in order.
const MIGRATIONS: [(i64, &str, &str); 11] = [
    (1, "initial", include_str!("../../migrations/0001_initial.sql")),
    (2, "gateway", include_str!("../../migrations/0002_gateway.sql")),
    (3, "state", include_str!("../../migrations/0003_state.sql")),
    (4, "leases", include_str!("../../migrations/0004_leases.sql")),
    (5, "policy", include_str!("../../migrations/0005_policy.sql")),
    (6, "audit", include_str!("../../migrations/0006_audit.sql")),
    (7, "revocations", include_str!("../../migrations/0007_revocations.sql")),
    (8, "renewal", include_str!("../../migrations/0008_renewal.sql")),
    (9, "protection", include_str!("../../migrations/0009_protection.sql")),
    (10, "lease_cases", include_str!("../../migrations/0010_lease_cases.sql")),
    (11, "second-person", include_str!("../../migrations/0011_second_person.sql")),
];

/// Highest schema version that this program knows.
const KNOWN: i64 = match MIGRATIONS.last() {
    Some((version, ..)) => *version,
    None => 0,
};

/// For which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// What brings a database up to date.
pub(super) fn migrator(dialect: Dialect) -> Migrator {
    let migrations = MIGRATIONS.map(|(version, name, text)| {
        let sql = match dialect {
            Dialect::Sqlite => text.into_sql_str(),
            Dialect::Postgres => AssertSqlSafe(text.replace(" BLOB", " BYTEA")).into_sql_str(),
        };
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.into())
}

/// What it means for the store.
pub(super) fn migrated(result: Result<(), MigrateError>) -> Result<(), StoreError> {
    match result {
        Err(MigrateError::VersionMissing(found)) => Err(StoreError::TooNew { found, known: KNOWN }),
        result => result.map_err(unavailable),
    }
}

//! Changes to SQL.

use super::decode::{damaged, hex};
use super::lease_cases;
use super::sql::{Query, Sql, built, query};
use super::{Change, StoreError};
use super::{files, leases};
use jiff::Timestamp;
use serde::Serialize;
use tobari_core::proto::admin::Revoked;
use tobari_core::proto::lease::LeaseState;

pub(super) fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| damaged("(new row)", error))
}

/// Makes one change. The statements are separate on purpose: each reads as the row that it writes.
pub(super) async fn change(connection: &mut impl Sql, change: &Change) -> Result<(), StoreError> {
    let statement = match change {
        Change::PutSetting(name, value) => query(
            "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value),
        Change::PutLabel(row) => query(
            "INSERT INTO labels (id, name, level, key_kind, allow_legacy_zip, lease_by_label, max_bulletin_age_hours) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, level = excluded.level, \
             key_kind = excluded.key_kind, allow_legacy_zip = excluded.allow_legacy_zip, \
             lease_by_label = excluded.lease_by_label, max_bulletin_age_hours = excluded.max_bulletin_age_hours",
        )
        .bind(row.label.id.to_string())
        .bind(&row.label.name)
        .bind(i64::from(row.label.level))
        .bind(text(&row.key_kind)?)
        .bind(i64::from(row.allow_legacy_zip))
        .bind(i64::from(row.lease_by_label))
        .bind(row.max_bulletin_age_hours.map(i64::from)),
        Change::AddLabelKey(row) => query(
            "INSERT INTO label_keys (label, generation, key_id, public_key, sealed_private, created_at, retired_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(row.label.to_string())
        .bind(i64::from(row.generation))
        .bind(hex(row.key_id.as_bytes()))
        .bind(text(&row.public_key)?)
        .bind(&row.sealed_private)
        .bind(row.created_at.as_microsecond())
        .bind(row.retired_at.map(Timestamp::as_microsecond)),
        Change::RetireLabelKey(label, generation, at) => {
            let retire = query(
                "UPDATE label_keys SET sealed_private = $3, retired_at = $4 \
                 WHERE label = $1 AND generation = $2 AND retired_at IS NULL",
            )
            .bind(label.to_string())
            .bind(i64::from(*generation))
            .bind(Vec::<u8>::new())
            .bind(at.as_microsecond());
            return one(connection.execute(retire).await?);
        }
        Change::SawFileKeys { earlier, current } => return files::saw(connection, earlier, current).await,
        Change::PutUnsealWindow(row) => files::window(row),
        Change::CountUnseals { person, files, at, bounds } => {
            return files::count(connection, *person, files, *at, bounds).await;
        }
        Change::PutGroup(group) => query(
            "INSERT INTO groups (id, name, parent) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, parent = excluded.parent",
        )
        .bind(group.id.to_string())
        .bind(&group.name)
        .bind(group.parent.map(|parent| parent.to_string())),
        Change::DeleteGroup(id) => query("DELETE FROM groups WHERE id = $1").bind(id.to_string()),
        Change::PutPost(post) => query(
            "INSERT INTO posts (id, name, post_rank) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, post_rank = excluded.post_rank",
        )
        .bind(post.id.to_string())
        .bind(&post.name)
        .bind(i64::from(post.rank)),
        Change::DeletePost(id) => query("DELETE FROM posts WHERE id = $1").bind(id.to_string()),
        Change::PutRule(rule) => query(
            "INSERT INTO rules (id, label, body) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET label = excluded.label, body = excluded.body",
        )
        .bind(rule.id.to_string())
        .bind(rule.label.to_string())
        .bind(text(rule)?),
        Change::DeleteRule(id) => query("DELETE FROM rules WHERE id = $1").bind(id.to_string()),
        Change::PutPerson(row) => query(
            "INSERT INTO people (id, login, login_key, name, password_hash, sealed_totp, memberships, roles, disabled) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET login = excluded.login, \
             login_key = excluded.login_key, name = excluded.name, password_hash = excluded.password_hash, \
             sealed_totp = excluded.sealed_totp, memberships = excluded.memberships, roles = excluded.roles, \
             disabled = excluded.disabled",
        )
        .bind(row.id.to_string())
        .bind(&row.login)
        .bind(&row.login_key)
        .bind(&row.name)
        .bind(&row.password_hash)
        .bind(&row.sealed_totp)
        .bind(text(&row.memberships)?)
        .bind(text(&row.roles)?)
        .bind(i64::from(row.disabled)),
        Change::DeletePerson(id) => {
            let id = id.to_string();
            connection.execute(query(
                    "INSERT INTO departed (person) SELECT id FROM people WHERE id = $1 ON CONFLICT (person) DO NOTHING",
                )
                .bind(id.clone()),
            )
            .await?;
            connection.execute(query("DELETE FROM totp_steps WHERE person = $1").bind(id.clone())).await?;
            query("DELETE FROM people WHERE id = $1").bind(id)
        }
        Change::AdvanceTotpStep(person, step) => {
            let advance = query(
                "INSERT INTO totp_steps (person, step) VALUES ($1, $2) ON CONFLICT (person) \
                 DO UPDATE SET step = excluded.step WHERE totp_steps.step < excluded.step",
            );
            return one(connection.execute(advance.bind(person.to_string()).bind(*step)).await?);
        }
        Change::ForgetTotpStep(person) => {
            query("DELETE FROM totp_steps WHERE person = $1").bind(person.to_string())
        }
        Change::PutTerminal(row) => query(
            "INSERT INTO terminals (id, name, zone, tags, revoked, fingerprint, certificate_expires_at, grant_key, \
             enrolled_at, gateway, frozen, next_fingerprint, next_expires_at, protection) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (id) DO UPDATE SET \
             name = excluded.name, zone = excluded.zone, tags = excluded.tags, revoked = excluded.revoked, \
             fingerprint = excluded.fingerprint, certificate_expires_at = excluded.certificate_expires_at, \
             grant_key = excluded.grant_key, gateway = excluded.gateway, frozen = excluded.frozen, \
             next_fingerprint = excluded.next_fingerprint, next_expires_at = excluded.next_expires_at, \
             protection = excluded.protection",
        )
        .bind(row.id.to_string())
        .bind(&row.name)
        .bind(&row.zone)
        .bind(text(&row.tags)?)
        .bind(i64::from(row.revoked))
        .bind(hex(&row.fingerprint))
        .bind(row.certificate_expires_at.as_microsecond())
        .bind(&row.grant_key)
        .bind(row.enrolled_at.as_microsecond())
        .bind(i64::from(row.gateway))
        .bind(i64::from(row.frozen))
        .bind(row.next.map(|next| hex(&next.fingerprint)))
        .bind(row.next.map(|next| next.expires_at.as_microsecond()))
        .bind(row.protection.name()),
        Change::TouchTerminals(contacts) => {
            let sql = "UPDATE terminals SET last_seen_at = $2 WHERE id = $1 AND (last_seen_at IS NULL OR last_seen_at < $2)";
            return touch(connection, sql, contacts).await;
        }
        Change::NoteReports(reports) => {
            for (terminal, reported) in reports {
                let update = query("UPDATE terminals SET report = $2 WHERE id = $1");
                connection.execute(update.bind(terminal.to_string()).bind(text(reported)?)).await?;
            }
            return Ok(());
        }
        Change::PutFolder(folder) => query(
            "INSERT INTO folders (id, terminal, path, label, owner_group, exclude) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO UPDATE SET terminal = excluded.terminal, path = excluded.path, \
             label = excluded.label, owner_group = excluded.owner_group, exclude = excluded.exclude",
        )
        .bind(folder.id.to_string())
        .bind(folder.terminal.to_string())
        .bind(&folder.path)
        .bind(folder.label.to_string())
        .bind(folder.owner_group.map(|group| group.to_string()))
        .bind(text(&folder.exclude)?),
        Change::DeleteFolder(id) => query("DELETE FROM folders WHERE id = $1").bind(id.to_string()),
        Change::PutRevocation(record) => {
            let (kind, id) = subject(&record.subject);
            query(
                "INSERT INTO revocations (kind, id, reason, revoked_by, revoked_at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (kind, id) DO UPDATE SET reason = excluded.reason, revoked_by = excluded.revoked_by, \
                 revoked_at = excluded.revoked_at",
            )
            .bind(kind)
            .bind(id)
            .bind(&record.reason)
            .bind(record.revoked_by.to_string())
            .bind(record.revoked_at.as_microsecond())
        }
        Change::LiftRevocation(revoked) => {
            let (kind, id) = subject(revoked);
            let delete = query("DELETE FROM revocations WHERE kind = $1 AND id = $2").bind(kind).bind(id);
            return one(connection.execute(delete).await?);
        }
        Change::PutToken(row) => query(
            "INSERT INTO enrolment_tokens (hash, zone, tags, expires_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(hex(&row.hash))
        .bind(&row.zone)
        .bind(text(&row.tags)?)
        .bind(row.expires_at.as_microsecond()),
        Change::UseToken(hash) => {
            let delete = query("DELETE FROM enrolment_tokens WHERE hash = $1").bind(hex(hash));
            return one(connection.execute(delete).await?);
        }
        Change::PutSession(row) => query(
            "INSERT INTO sessions (id, token_hash, person, terminal, second_factor, created_at, expires_at, \
             last_used_at, asserted) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(row.id.to_string())
        .bind(hex(&row.token_hash))
        .bind(row.person.to_string())
        .bind(row.terminal.to_string())
        .bind(i64::from(row.second_factor))
        .bind(row.created_at.as_microsecond())
        .bind(row.expires_at.as_microsecond())
        .bind(row.last_used_at.as_microsecond())
        .bind(i64::from(row.asserted)),
        Change::DeleteSession(id) => query("DELETE FROM sessions WHERE id = $1").bind(id.to_string()),
        Change::DeleteSessionsOfPerson(id) => {
            query("DELETE FROM sessions WHERE person = $1").bind(id.to_string())
        }
        Change::DeleteSessionsOnTerminal(id) => {
            query("DELETE FROM sessions WHERE terminal = $1").bind(id.to_string())
        }
        Change::DeleteAssertedSessions(terminal) => {
            query("DELETE FROM sessions WHERE terminal = $1 AND asserted = 1").bind(terminal.to_string())
        }
        Change::TouchSessions(uses) => {
            let sql = "UPDATE sessions SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2";
            return touch(connection, sql, uses).await;
        }
        Change::PutLoginFailures(row) => {
            let count = query(
                "INSERT INTO login_failures (login_key, failures, last_failed_at, locked_until) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (login_key) DO UPDATE SET failures = excluded.failures, \
                 last_failed_at = excluded.last_failed_at, locked_until = excluded.locked_until \
                 WHERE excluded.failures = 1 OR login_failures.failures = excluded.failures - 1",
            )
            .bind(&row.login_key)
            .bind(i64::from(row.failures))
            .bind(row.last_failed_at.as_microsecond())
            .bind(row.locked_until.as_microsecond());
            return one(connection.execute(count).await?);
        }
        Change::DeleteAllSessions => query("DELETE FROM sessions"),
        Change::DeleteAllTokens => query("DELETE FROM enrolment_tokens"),
        Change::ClearLoginFailures(login_key) => {
            query("DELETE FROM login_failures WHERE login_key = $1").bind(login_key)
        }
        Change::PutInvariant(invariant) => put("invariants", invariant.id, text(invariant)?),
        Change::DeleteInvariant(id) => {
            query("DELETE FROM invariants WHERE id = $1").bind(id.to_string())
        }
        Change::PutChangeRequest(row) => put("change_requests", row.id, text(row)?),
        Change::DeleteChangeRequest(id) => {
            query("DELETE FROM change_requests WHERE id = $1").bind(id.to_string())
        }
        Change::AddPolicyVersion(row) => {
            query("INSERT INTO policy_versions (version, body, policy) VALUES ($1, $2, $3)")
                .bind(i64::try_from(row.version).unwrap_or(i64::MAX))
                .bind(text(row)?)
                .bind(row.policy.as_ref().map(text).transpose()?)
        }
        Change::StepUp(session, time) => query(
            "INSERT INTO step_ups (session, made_at) VALUES ($1, $2) ON CONFLICT (session) \
             DO UPDATE SET made_at = excluded.made_at",
        )
        .bind(session.to_string())
        .bind(time.as_microsecond()),
        Change::PutLease(row) => leases::put(row)?,
        Change::MoveLease(before, row) => {
            return one(connection.execute(leases::step(*before, row)?).await?);
        }
        Change::RefillLease(before, row) => {
            return one(connection.execute(leases::refill(before, row)?).await?);
        }
        Change::PutLeaseCases(rows) => return lease_cases::put(connection, rows).await,
        Change::NarrowLeases(rows) => return lease_cases::narrow(connection, rows).await,
        Change::EndLease(row) => leases::step(LeaseState::Issued, row)?,
        Change::LeasesIssued(seen) => return lease_cases::none_since(connection, *seen).await,
        Change::RevokeLease(lease, ends_at) => leases::revoke(*lease, *ends_at),
        Change::ForgetLeaseRevocations(before) => {
            lease_cases::forget_narrowed(connection, *before).await?;
            query("DELETE FROM lease_revocations WHERE ends_at < $1").bind(before.as_microsecond())
        }
        Change::FetchedLeases(fetched) => return leases::fetched(connection, fetched).await,
        Change::AppendLeaseRecords { before, after, rows } => {
            return leases::append(connection, *before, after, rows).await;
        }
        Change::Prune(before) => {
            let before = before.as_microsecond();
            for sql in [
                "DELETE FROM step_ups WHERE made_at < $1",
                "DELETE FROM unseals WHERE made_at < $1",
                "DELETE FROM enrolment_tokens WHERE expires_at < $1",
                "DELETE FROM sessions WHERE expires_at < $1",
                // Narrowed ones are in the tables of servers, and go with the other revocations.
                "DELETE FROM lease_cases WHERE lease_ends_at < $1 AND narrowed = 0",
            ] {
                connection.execute(query(sql).bind(before)).await?;
            }
            query("DELETE FROM login_failures WHERE last_failed_at < $1 AND locked_until < $1").bind(before)
        }
    };
    connection.execute(statement).await.map(|_| ())
}

/// The columns that name what is revoked.
fn subject(revoked: &Revoked) -> (&'static str, String) {
    match revoked {
        Revoked::Label { id } => ("label", id.to_string()),
        Revoked::File { id } => ("file", id.to_string()),
    }
}

/// A row that is an id and its JSON.
fn put(table: &'static str, id: impl std::fmt::Display, body: String) -> Query {
    let text = format!(
        "INSERT INTO {table} (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
    );
    built(text, true).bind(id.to_string()).bind(body)
}

/// The statement changed a row; otherwise what it builds on is gone.
pub(super) fn one(rows: u64) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::Stale) } else { Ok(()) }
}

async fn touch<T: std::fmt::Display + Sync>(
    connection: &mut impl Sql,
    sql: &'static str,
    times: &[(T, Timestamp)],
) -> Result<(), StoreError> {
    for (id, time) in times {
        connection.execute(query(sql).bind(id.to_string()).bind(time.as_microsecond())).await?;
    }
    Ok(())
}

//! Rows to types.

use super::decode::{column, damaged, flag, hex_digest, id, json, micros, number, optional_id};
use super::sql::{Columns, Sql, query};
use super::{LabelKeyRow, LabelRow, NextCertificate, PersonRow, SessionRow, StoreError, Tables, TerminalRow};
use std::sync::Arc;
use tobari_core::crypto::KeyId;
use tobari_core::policy::{Group, Label, Post};
use tobari_core::proto::admin::{RevocationRecord, Revoked};
use tobari_core::proto::bulletin::Folder;

async fn all<C: Sql>(connection: &mut C, sql: &'static str) -> Result<Vec<C::Row>, StoreError> {
    connection.all(query(sql)).await
}

pub(super) async fn tables(connection: &mut impl Sql) -> Result<Tables, StoreError> {
    let mut tables = Tables::default();
    for row in all(connection, "SELECT name, value FROM settings").await? {
        let value: Vec<u8> = column("settings", row.try_get("value"))?;
        tables.settings.insert(column("settings", row.try_get("name"))?, Arc::new(value));
    }
    for row in all(connection, "SELECT * FROM labels").await? {
        let label = label(&row)?;
        tables.labels.insert(label.label.id, Arc::new(label));
    }
    for row in all(connection, "SELECT * FROM label_keys").await? {
        let key = label_key(&row)?;
        tables.label_keys.insert((key.label, key.generation), Arc::new(key));
    }
    for row in all(connection, "SELECT * FROM groups").await? {
        let group = Group {
            id: id("groups", row.try_get("id"))?,
            name: column("groups", row.try_get("name"))?,
            parent: optional_id("groups", row.try_get("parent"))?,
        };
        tables.groups.insert(group.id, Arc::new(group));
    }
    for row in all(connection, "SELECT * FROM posts").await? {
        let post = Post {
            id: id("posts", row.try_get("id"))?,
            name: column("posts", row.try_get("name"))?,
            rank: number("posts", row.try_get("post_rank"))?,
        };
        tables.posts.insert(post.id, Arc::new(post));
    }
    for row in all(connection, "SELECT body FROM rules").await? {
        let rule: tobari_core::policy::Rule = json("rules", row.try_get("body"))?;
        tables.rules.insert(rule.id, Arc::new(rule));
    }
    for row in all(connection, "SELECT * FROM people").await? {
        let person = person(&row)?;
        tables.people.insert(person.id, Arc::new(person));
    }
    for row in all(connection, "SELECT person FROM departed").await? {
        tables.departed.insert(id("departed", row.try_get("person"))?);
    }
    for row in all(connection, "SELECT * FROM terminals").await? {
        let terminal = terminal(&row)?;
        tables.terminals.insert(terminal.id, Arc::new(terminal));
    }
    for row in all(connection, "SELECT * FROM folders").await? {
        let folder = Folder {
            id: id("folders", row.try_get("id"))?,
            terminal: id("folders", row.try_get("terminal"))?,
            path: column("folders", row.try_get("path"))?,
            label: id("folders", row.try_get("label"))?,
            owner_group: optional_id("folders", row.try_get("owner_group"))?,
            exclude: json("folders", row.try_get("exclude"))?,
        };
        tables.folders.insert(folder.id, Arc::new(folder));
    }
    for row in all(connection, "SELECT * FROM revocations").await? {
        let revocation = revocation(&row)?;
        tables.revocations.insert(revocation.subject, Arc::new(revocation));
    }
    for row in all(connection, "SELECT body FROM invariants").await? {
        let invariant: tobari_core::policy::Invariant = json("invariants", row.try_get("body"))?;
        tables.invariants.insert(invariant.id, Arc::new(invariant));
    }
    for row in all(connection, "SELECT body FROM change_requests").await? {
        let request: super::ChangeRequestRow = json("change_requests", row.try_get("body"))?;
        tables.change_requests.insert(request.id, Arc::new(request));
    }
    for row in all(connection, "SELECT MAX(version) AS last FROM policy_versions").await? {
        let last: Option<i64> = column("policy_versions", row.try_get("last"))?;
        tables.policy_version = number("policy_versions", Ok(last.unwrap_or(0)))?;
    }
    tables.revoked_leases = super::leases::revoked(connection).await?;
    for row in super::lease_cases::narrowed(connection).await? {
        let left = row.left;
        tables.narrowed_leases.insert((left.lease, left.label, left.owner_group), (left, row.lease_ends_at));
    }
    tables.unseal_windows = super::files::windows(connection).await?;
    Ok(tables)
}

fn label(row: &impl Columns) -> Result<LabelRow, StoreError> {
    let hours: Option<i64> = column("labels", row.try_get("max_bulletin_age_hours"))?;
    Ok(LabelRow {
        label: Label {
            id: id("labels", row.try_get("id"))?,
            name: column("labels", row.try_get("name"))?,
            level: number("labels", row.try_get("level"))?,
        },
        key_kind: json("labels", row.try_get("key_kind"))?,
        allow_legacy_zip: flag("labels", row.try_get("allow_legacy_zip"))?,
        lease_by_label: flag("labels", row.try_get("lease_by_label"))?,
        max_bulletin_age_hours: hours.map(|hours| number("labels", Ok(hours))).transpose()?,
    })
}

fn label_key(row: &impl Columns) -> Result<LabelKeyRow, StoreError> {
    let table = "label_keys";
    let retired_at: Option<i64> = column(table, row.try_get("retired_at"))?;
    Ok(LabelKeyRow {
        label: id(table, row.try_get("label"))?,
        generation: number(table, row.try_get("generation"))?,
        key_id: KeyId::from_bytes(hex_digest(table, row.try_get("key_id"))?),
        public_key: json(table, row.try_get("public_key"))?,
        sealed_private: column(table, row.try_get("sealed_private"))?,
        created_at: micros(table, row.try_get("created_at"))?,
        retired_at: retired_at.map(|time| micros(table, Ok(time))).transpose()?,
    })
}

fn person(row: &impl Columns) -> Result<PersonRow, StoreError> {
    let table = "people";
    Ok(PersonRow {
        id: id(table, row.try_get("id"))?,
        login: column(table, row.try_get("login"))?,
        login_key: column(table, row.try_get("login_key"))?,
        name: column(table, row.try_get("name"))?,
        password_hash: column(table, row.try_get("password_hash"))?,
        sealed_totp: column(table, row.try_get("sealed_totp"))?,
        memberships: json(table, row.try_get("memberships"))?,
        roles: json(table, row.try_get("roles"))?,
        disabled: flag(table, row.try_get("disabled"))?,
    })
}

fn terminal(row: &impl Columns) -> Result<TerminalRow, StoreError> {
    let table = "terminals";
    Ok(TerminalRow {
        id: id(table, row.try_get("id"))?,
        name: column(table, row.try_get("name"))?,
        zone: column(table, row.try_get("zone"))?,
        tags: json(table, row.try_get("tags"))?,
        revoked: flag(table, row.try_get("revoked"))?,
        fingerprint: hex_digest(table, row.try_get("fingerprint"))?,
        certificate_expires_at: micros(table, row.try_get("certificate_expires_at"))?,
        grant_key: column(table, row.try_get("grant_key"))?,
        enrolled_at: micros(table, row.try_get("enrolled_at"))?,
        gateway: flag(table, row.try_get("gateway"))?,
        frozen: flag(table, row.try_get("frozen"))?,
        next: next_certificate(row)?,
        protection: id(table, row.try_get("protection"))?,
    })
}

fn next_certificate(row: &impl Columns) -> Result<Option<NextCertificate>, StoreError> {
    let table = "terminals";
    let fingerprint: Option<String> = column(table, row.try_get("next_fingerprint"))?;
    let Some(fingerprint) = fingerprint else { return Ok(None) };
    Ok(Some(NextCertificate {
        fingerprint: hex_digest(table, Ok(fingerprint))?,
        expires_at: micros(table, row.try_get("next_expires_at"))?,
    }))
}

fn revocation(row: &impl Columns) -> Result<RevocationRecord, StoreError> {
    let table = "revocations";
    let kind: String = column(table, row.try_get("kind"))?;
    let subject = match kind.as_str() {
        "label" => Revoked::Label { id: id(table, row.try_get("id"))? },
        "file" => Revoked::File { id: id(table, row.try_get("id"))? },
        _ => return Err(damaged(table, format!("the kind '{kind}'"))),
    };
    Ok(RevocationRecord {
        subject,
        reason: column(table, row.try_get("reason"))?,
        revoked_by: id(table, row.try_get("revoked_by"))?,
        revoked_at: micros(table, row.try_get("revoked_at"))?,
    })
}

pub(super) fn session(row: &impl Columns) -> Result<SessionRow, StoreError> {
    let table = "sessions";
    Ok(SessionRow {
        id: id(table, row.try_get("id"))?,
        token_hash: hex_digest(table, row.try_get("token_hash"))?,
        person: id(table, row.try_get("person"))?,
        terminal: id(table, row.try_get("terminal"))?,
        second_factor: flag(table, row.try_get("second_factor"))?,
        asserted: flag(table, row.try_get("asserted"))?,
        created_at: micros(table, row.try_get("created_at"))?,
        expires_at: micros(table, row.try_get("expires_at"))?,
        last_used_at: micros(table, row.try_get("last_used_at"))?,
    })
}

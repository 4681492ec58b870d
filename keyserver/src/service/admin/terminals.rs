//! Terminals and enrolment tokens.

use super::plan::{Acting, Plan};
use super::{Part, check_name, check_names};
use crate::audit::{Act, Record};
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::{Call, Service};
use crate::store::{Change, TerminalRow, TokenRow};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use tobari_core::crypto::{random_bytes, sha256};
use tobari_core::ids::TerminalId;
use tobari_core::proto::admin::{EnrolmentToken, EnrolmentTokenInput, Role, TerminalInput, TerminalRecord};
use tobari_core::proto::terminal::Reported;
use zeroize::Zeroizing;

pub(super) const ROLES: &[Role] = &[Role::Terminals];
/// Longest life of an enrolment token.
const MAX_TOKEN_SECONDS: u32 = 7 * 24 * 3600;

/// A fresh token: what is shown, and what is kept.
pub(crate) fn new_token(
    input: &EnrolmentTokenInput,
    now: Timestamp,
) -> Result<(Zeroizing<String>, TokenRow), ServiceError> {
    if !(1..=MAX_TOKEN_SECONDS).contains(&input.valid_seconds) {
        return Err(ServiceError::invalid("valid_seconds", format!("must be 1 to {MAX_TOKEN_SECONDS}")));
    }
    if let Some(zone) = &input.zone {
        check_name("zone", zone)?;
    }
    check_names("tags", &input.tags)?;
    let secret: Zeroizing<[u8; 24]> = Zeroizing::new(random_bytes());
    let token = Zeroizing::new(BASE64URL_NOPAD.encode(secret.as_slice()));
    let expires_at = now
        .checked_add(SignedDuration::from_secs(i64::from(input.valid_seconds)))
        .map_err(|error| ServiceError::Internal(error.to_string()))?;
    let row = TokenRow {
        hash: sha256(&[token.as_bytes()]),
        zone: input.zone.clone(),
        tags: input.tags.clone(),
        expires_at,
    };
    Ok((token, row))
}

/// What is known of terminals beside their rows.
struct Known {
    contacts: HashMap<TerminalId, Timestamp>,
    reports: HashMap<TerminalId, Reported>,
    leases: HashMap<TerminalId, u32>,
}

impl Service {
    /// What other servers wrote, and how many leases are out.
    async fn known_of_terminals(&self) -> Result<Known, ServiceError> {
        Ok(Known {
            contacts: self.store.last_contacts().await?,
            reports: self.store.reports().await?,
            leases: self.store.leases_out(self.clock.now()).await?,
        })
    }

    fn terminal_record(&self, row: &TerminalRow, known: &Known) -> TerminalRecord {
        let here = self.contacts.reported(row.id);
        let elsewhere = known.reports.get(&row.id).cloned();
        TerminalRecord {
            id: row.id,
            terminal: TerminalInput {
                name: row.name.clone(),
                zone: row.zone.clone(),
                tags: row.tags.clone(),
                revoked: row.revoked,
                gateway: row.gateway,
            },
            certificate_expires_at: row.certificate_expires_at,
            last_seen_at: self.contacts.last(row.id).max(known.contacts.get(&row.id).copied()),
            frozen: row.frozen,
            protection: row.protection,
            leases: known.leases.get(&row.id).copied().unwrap_or(0),
            reported: here.into_iter().chain(elsewhere).max_by_key(|reported| reported.at),
        }
    }

    /// `GET /v1/admin/terminals`.
    ///
    /// # Errors
    /// No administrator, a limit out of range.
    pub async fn terminals(
        &self,
        call: &Call,
        part: Part<TerminalId>,
    ) -> Result<Vec<TerminalRecord>, ServiceError> {
        self.any_administrator(call).await?;
        let directory = self.directory.load_full();
        let fits = |row: &TerminalRow| part.named.as_ref().is_none_or(|name| *name == row.name);
        let terminals = part.of(&directory.tables.terminals, fits)?;
        let known = self.known_of_terminals().await?;
        Ok(terminals.into_iter().map(|row| self.terminal_record(row, &known)).collect())
    }

    /// `GET /v1/admin/terminals/{id}`.
    ///
    /// # Errors
    /// No administrator, no such terminal.
    pub async fn one_terminal(&self, call: &Call, id: TerminalId) -> Result<TerminalRecord, ServiceError> {
        let tables = self.read_tables(call).await?;
        let row = tables.terminals.get(&id).ok_or(ServiceError::NotFound("terminal"))?;
        Ok(self.terminal_record(row, &self.known_of_terminals().await?))
    }

    /// `PUT /v1/admin/terminals/{id}`: name, zone, tags, whether it is a gateway; revoking is for good. Whether it is frozen stays as it
    /// is: [`Service::freeze_terminal`].
    ///
    /// # Errors
    /// No terminal administrator, no such terminal, or fields that are not allowed.
    pub async fn replace_terminal(
        &self,
        call: &Call,
        id: TerminalId,
        input: TerminalInput,
    ) -> Result<TerminalRecord, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        check_name("name", &input.name)?;
        if let Some(zone) = &input.zone {
            check_name("zone", zone)?;
        }
        check_names("tags", &input.tags)?;
        let changing = self.begin_change().await;
        let before = self
            .directory
            .load()
            .tables
            .terminals
            .get(&id)
            .cloned()
            .ok_or(ServiceError::NotFound("terminal"))?;
        if before.revoked && !input.revoked {
            return Err(ServiceError::conflict(
                "revoked",
                "a revoked terminal stays revoked: enrol it again under a new identity",
            ));
        }
        let row = TerminalRow {
            name: input.name.trim().to_owned(),
            zone: input.zone,
            tags: input.tags,
            revoked: input.revoked,
            gateway: input.gateway,
            ..before.as_ref().clone()
        };
        let record = self.admin_record(Act::Update, &caller, "terminal", id).detail(format!(
            "name {}, zone {}, tags [{}], revoked {}, gateway {}",
            row.name,
            row.zone.as_deref().unwrap_or("-"),
            row.tags.join(", "),
            row.revoked,
            row.gateway
        ));
        let mut changes = vec![Change::PutTerminal(row.clone())];
        if row.revoked {
            changes.push(Change::DeleteSessionsOnTerminal(id));
        } else if before.gateway && !row.gateway {
            changes.push(Change::DeleteAssertedSessions(id));
        }
        self.change(&changing, changes, record).await?;
        if row.revoked {
            self.sessions.end_on_terminal(id);
        } else if !row.gateway {
            self.sessions.end_asserted_on(id);
        }
        Ok(self.terminal_record(&row, &self.known_of_terminals().await?))
    }

    /// `POST /v1/admin/terminals/{id}/freeze` and `…/unfreeze`: shuts a terminal out until it is let in again, and lets it in. Nothing
    /// else changes that.
    ///
    /// # Errors
    /// No terminal administrator, no such terminal, or it is to be frozen and the caller sits there.
    pub async fn freeze_terminal(
        &self,
        call: &Call,
        id: TerminalId,
        frozen: bool,
    ) -> Result<TerminalRecord, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let before = directory.tables.terminals.get(&id).ok_or(ServiceError::NotFound("terminal"))?;
        if frozen && id == caller.terminal.id {
            let why = "nobody could let this terminal in again from here";
            return Err(ServiceError::conflict("frozen", why));
        }
        let row = TerminalRow { frozen, ..before.as_ref().clone() };
        let detail = if frozen { "frozen" } else { "let in again" };
        let record = self.admin_record(Act::Update, &caller, "terminal", id).detail(detail);
        self.change(&changing, vec![Change::PutTerminal(row.clone())], record).await?;
        Ok(self.terminal_record(&row, &self.known_of_terminals().await?))
    }

    /// Lets a frozen terminal in again.
    pub(super) async fn plan_unfreezing(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: TerminalId,
    ) -> Result<Plan<TerminalRecord>, ServiceError> {
        let before = directory.tables.terminals.get(&id).ok_or(ServiceError::NotFound("terminal"))?;
        if !before.frozen {
            return Err(ServiceError::conflict("frozen", "the terminal is not frozen"));
        }
        let row = TerminalRow { frozen: false, ..before.as_ref().clone() };
        let record = self
            .acted(Act::Update, acting, "terminal", id)
            .detail(format!("name {}, frozen false", row.name));
        let output = self.terminal_record(&row, &self.known_of_terminals().await?);
        let mut plan = Plan::new(vec![Change::PutTerminal(row)], record, output);
        plan.seen = format!("terminal {id}");
        Ok(plan)
    }

    /// `DELETE /v1/admin/terminals/{id}`: always refused, because the revocation must stay known.
    ///
    /// # Errors
    /// Always.
    pub async fn delete_terminal(&self, call: &Call, id: TerminalId) -> Result<(), ServiceError> {
        self.administrator(call, ROLES).await?;
        if !self.directory.load().tables.terminals.contains_key(&id) {
            return Err(ServiceError::NotFound("terminal"));
        }
        Err(ServiceError::conflict(
            "terminal",
            "a terminal stays on record so that its certificate stays refused: set revoked instead",
        ))
    }

    /// `POST /v1/admin/enrolment-tokens`.
    ///
    /// # Errors
    /// No terminal administrator, or fields that are not allowed.
    pub async fn create_enrolment_token(
        &self,
        call: &Call,
        input: EnrolmentTokenInput,
    ) -> Result<EnrolmentToken, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        let now = self.clock.now();
        let (token, row) = new_token(&input, now)?;
        let expires_at = row.expires_at;
        let record = Record::new(Act::EnrolmentToken, now, caller.who()).detail(format!(
            "zone {}, tags [{}], until {expires_at}",
            input.zone.as_deref().unwrap_or("-"),
            input.tags.join(", "),
        ));
        self.audit.commit(vec![Change::PutToken(row)], &[record]).await?;
        Ok(EnrolmentToken {
            token: token.to_string(),
            expires_at,
            ca_sha256: HEXLOWER.encode(&self.identity.authority.sha256()),
        })
    }
}

//! Terminals and enrolment tokens.

use super::plan::{Acting, Plan};
use super::{check_name, check_names};
use crate::audit::{Act, Record};
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::{Call, Service};
use crate::store::{Change, TerminalRow, TokenRow};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::{SignedDuration, Timestamp};
use tobari_core::crypto::{random_bytes, sha256};
use tobari_core::ids::TerminalId;
use tobari_core::proto::admin::{EnrolmentToken, EnrolmentTokenInput, Role, TerminalInput, TerminalRecord};
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

impl Service {
    fn terminal_record(&self, row: &TerminalRow) -> TerminalRecord {
        TerminalRecord {
            id: row.id,
            terminal: TerminalInput {
                name: row.name.clone(),
                zone: row.zone.clone(),
                tags: row.tags.clone(),
                revoked: row.revoked,
                gateway: row.gateway,
                frozen: row.frozen,
            },
            certificate_expires_at: row.certificate_expires_at,
            last_seen_at: self.contacts.last(row.id),
        }
    }

    /// `GET /v1/admin/terminals`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn terminals(&self, call: &Call) -> Result<Vec<TerminalRecord>, ServiceError> {
        let tables = self.read_tables(call).await?;
        Ok(tables.terminals.values().map(|row| self.terminal_record(row)).collect())
    }

    /// `GET /v1/admin/terminals/{id}`.
    ///
    /// # Errors
    /// No administrator, no such terminal.
    pub async fn one_terminal(&self, call: &Call, id: TerminalId) -> Result<TerminalRecord, ServiceError> {
        let tables = self.read_tables(call).await?;
        tables
            .terminals
            .get(&id)
            .map(|row| self.terminal_record(row))
            .ok_or(ServiceError::NotFound("terminal"))
    }

    /// `PUT /v1/admin/terminals/{id}`: name, zone, tags, whether it is a gateway; revoking is for good.
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
        if input.frozen && id == caller.terminal.id {
            return Err(ServiceError::conflict(
                "frozen",
                "nobody could let this terminal in again from here",
            ));
        }
        let row = TerminalRow {
            name: input.name.trim().to_owned(),
            zone: input.zone,
            tags: input.tags,
            revoked: input.revoked,
            gateway: input.gateway,
            frozen: input.frozen,
            ..before.as_ref().clone()
        };
        let record = self.admin_record(Act::Update, &caller, "terminal", id).detail(format!(
            "name {}, zone {}, tags [{}], revoked {}, gateway {}, frozen {}",
            row.name,
            row.zone.as_deref().unwrap_or("-"),
            row.tags.join(", "),
            row.revoked,
            row.gateway,
            row.frozen
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
        Ok(self.terminal_record(&row))
    }

    /// Lets a frozen terminal in again.
    pub(super) fn plan_unfreezing(
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
        let output = self.terminal_record(&row);
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

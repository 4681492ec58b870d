//! Logging in.

use super::caller::{Call, Caller};
use super::follow::ATTEMPTS;
use super::sessions::LiveSession;
use super::{Service, ServiceError, identity, lockout, totp};
use crate::audit::{Act, AuditError, Record, Who};
use crate::store::{Basis, Change, LoginFailuresRow, PersonRow, SessionRow, StoreError, TerminalRow};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tobari_core::crypto::{random_bytes, sha256};
use tobari_core::ids::SessionId;
use tobari_core::policy::fold_name;
use tobari_core::proto::api::{LoginRequest, LoginResponse};
use tobari_core::proto::problem::ProblemCode;
use zeroize::Zeroizing;

/// Longest login name that is looked at, in bytes.
pub(super) const MAX_LOGIN: usize = 256;

/// Refuses what PostgreSQL has no text for.
pub(super) fn check_storable(field: &str, text: &str) -> Result<(), ServiceError> {
    if text.contains('\0') {
        return Err(ServiceError::invalid(field, "must not contain control characters"));
    }
    Ok(())
}

impl Service {
    /// `POST /v1/sessions`.
    ///
    /// # Errors
    /// One answer for a wrong name, password and code; locked out; terminal not accepted.
    pub async fn login(&self, call: &Call, request: LoginRequest) -> Result<LoginResponse, ServiceError> {
        let LoginRequest { login, password, totp } = request;
        let (password, code) = (Zeroizing::new(password), totp.map(Zeroizing::new));
        let terminal = self.terminal(call).await?;
        if login.len() > MAX_LOGIN {
            return Err(ServiceError::invalid("login", format!("must have at most {MAX_LOGIN} bytes")));
        }
        check_storable("login", &login)?;
        let login_key = fold_name(&login);
        let entered = self.lockout.enter(&login_key).await;

        let now = self.clock.now();
        let failures = lockout::failures(self.store.as_ref(), &self.limits, &login_key, now).await?;
        let who = Who { terminal: Some(terminal.id), request: Some(call.request), ..Who::default() };
        if let Some(retry_after_seconds) = lockout::locked_for(failures.as_ref(), now) {
            let mut record = Record::new(Act::LoginFailed, now, who);
            record.code = Some(ProblemCode::LockedOut);
            record.login = Some(login_key);
            self.audit.commit(Vec::new(), &[record]).await?;
            return Err(ServiceError::LockedOut { retry_after_seconds });
        }

        let person = self.directory.load().person_by_login(&login_key).map(Arc::clone);
        let hash = person.as_ref().map(|person| person.password_hash.clone());
        let password_fits = self.passwords.check(password, hash).await?;
        let factor = match &person {
            Some(person) => self.second_factor(person, code.as_ref().map(|code| code.as_str())).await?,
            None => Factor::None,
        };
        if let Some(person) = person
            && password_fits
            && !person.disabled
            && factor != Factor::Wrong
            && let Some(response) =
                self.begin_session(call, &terminal, person, &login_key, factor, failures.is_some()).await?
        {
            return Ok(response);
        }

        let delay = self.count_failure(failures, login_key, now, who).await?;
        drop(entered);
        tokio::time::sleep(delay).await;
        Err(ServiceError::BadCredentials)
    }

    /// Counts and records a failed login; how long its answer waits.
    pub(super) async fn count_failure(
        &self,
        mut failures: Option<LoginFailuresRow>,
        login_key: String,
        now: Timestamp,
        who: Who,
    ) -> Result<Duration, ServiceError> {
        let mut record = Record::new(Act::LoginFailed, now, who);
        record.code = Some(ProblemCode::BadCredentials);
        record.login = Some(login_key.clone());
        for _ in 0..ATTEMPTS {
            let counted = lockout::count(&self.limits, failures, &login_key, now);
            let delay = lockout::delay(&self.limits, &counted);
            let changes = vec![Change::PutLoginFailures(counted)];
            match self.audit.commit(changes, std::slice::from_ref(&record)).await {
                Ok(_) => return Ok(delay),
                // Another server counted one meanwhile: no guess is lost.
                Err(AuditError::Refused(StoreError::Stale)) => {
                    failures = lockout::failures(self.store.as_ref(), &self.limits, &login_key, now).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ServiceError::TimedOut)
    }

    async fn second_factor(&self, person: &PersonRow, code: Option<&str>) -> Result<Factor, ServiceError> {
        let Some(sealed) = &person.sealed_totp else { return Ok(Factor::None) };
        let Some(code) = code else { return Ok(Factor::Wrong) };
        let secret = self
            .identity
            .root_key
            .open(&identity::totp_aad(person.id), sealed)
            .map_err(|_| ServiceError::Internal(String::from("a stored TOTP secret does not open")))?;
        let used = self.store.totp_step(person.id).await?;
        Ok(match totp::step(&secret, code, self.clock.now().as_second())? {
            Some(step) if used.is_none_or(|used| step > used) => Factor::Step(step),
            _ => Factor::Wrong,
        })
    }

    /// None when the code was used by somebody faster, or the person was changed since the password was checked.
    async fn begin_session(
        &self,
        call: &Call,
        terminal: &Arc<TerminalRow>,
        person: Arc<PersonRow>,
        login_key: &str,
        factor: Factor,
        clear_failures: bool,
    ) -> Result<Option<LoginResponse>, ServiceError> {
        let now = self.clock.now();
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
        let token = BASE64URL_NOPAD.encode(secret.as_slice());
        let row = SessionRow {
            id: SessionId::generate(),
            token_hash: sha256(&[token.as_bytes()]),
            person: person.id,
            terminal: terminal.id,
            second_factor: matches!(factor, Factor::Step(_)),
            asserted: false,
            created_at: now,
            expires_at: now
                .checked_add(self.limits.session_life)
                .map_err(|error| ServiceError::Internal(error.to_string()))?
                .min(terminal.certificate_expires_at),
            last_used_at: now,
        };
        let mut changes = vec![Change::PutSession(row.clone())];
        if let Factor::Step(step) = factor {
            changes.push(Change::AdvanceTotpStep(person.id, step));
        }
        if clear_failures {
            changes.push(Change::ClearLoginFailures(login_key.to_owned()));
        }
        let who = Who {
            person: Some(person.id),
            terminal: Some(terminal.id),
            session: Some(row.id),
            request: Some(call.request),
            asserted: false,
        };
        let record = Record::new(Act::Login, now, who);
        for attempt in 1.. {
            // Held until the session can be found: a change of password, a shut-out or a removal ends the sessions that
            // there are, and one that was being begun with the old credentials must not come after it. On another
            // server it moves the version on.
            let _changing = self.stand_still().await;
            let directory = self.directory.load_full();
            let same = |terminal: &TerminalRow, person: &PersonRow| {
                directory.tables.people.get(&person.id).is_some_and(|now| **now == *person)
                    && directory.tables.terminals.get(&terminal.id).is_some_and(|now| !now.revoked)
            };
            if !same(terminal, &person) {
                return Ok(None);
            }
            let basis = Basis::new(directory.version, None);
            match self.audit.commit_on(basis, changes.clone(), std::slice::from_ref(&record)).await {
                Ok(_) => {
                    self.sessions.add(row.clone());
                    break;
                }
                Err(AuditError::Refused(StoreError::Stale)) => return Ok(None),
                Err(AuditError::Moved) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
            }
        }
        let session = Arc::new(LiveSession::new(row));
        let caller = Caller { request: call.request, terminal: Arc::clone(terminal), person, session };
        Ok(Some(LoginResponse { token, session: self.describe(&caller) }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Factor {
    /// The person has none.
    None,
    /// The code is good, for this time step.
    Step(i64),
    /// The code is missing, wrong or was used before.
    Wrong,
}

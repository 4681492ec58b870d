//! Login sessions in memory: found by the hash of their token, their last use noted without a lock on the
//! path of a request and written to the store now and then.

use super::caller::{Call, Caller};
use super::{Service, ServiceError};
use crate::audit::{Act, Record};
use crate::store::{Change, Digest, SessionRow};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tobari_core::ids::{PersonId, SessionId, TerminalId};
use tobari_core::proto::api::Session;

/// A session and its last use.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub(crate) row: SessionRow,
    last_used: AtomicI64,
}

impl LiveSession {
    pub(crate) fn new(row: SessionRow) -> Self {
        Self { last_used: AtomicI64::new(row.last_used_at.as_microsecond()), row }
    }

    pub(crate) fn touch(&self, now: Timestamp) {
        self.last_used.fetch_max(now.as_microsecond(), Ordering::Relaxed);
    }

    fn alive(&self, now: Timestamp, idle: SignedDuration) -> bool {
        let unused = now.as_microsecond().saturating_sub(self.last_used.load(Ordering::Relaxed));
        now < self.row.expires_at && i128::from(unused) < idle.as_micros()
    }
}

/// All sessions.
#[derive(Debug)]
pub(crate) struct Sessions(RwLock<HashMap<Digest, Arc<LiveSession>>>);

impl Sessions {
    pub(crate) fn new(rows: Vec<SessionRow>) -> Self {
        Self(RwLock::new(
            rows.into_iter().map(|row| (row.token_hash, Arc::new(LiveSession::new(row)))).collect(),
        ))
    }

    /// The session with this token hash, if it has not ended.
    pub(crate) fn find(
        &self,
        token_hash: &Digest,
        now: Timestamp,
        idle: SignedDuration,
    ) -> Option<Arc<LiveSession>> {
        let sessions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        sessions.get(token_hash).filter(|session| session.alive(now, idle)).map(Arc::clone)
    }

    /// Whose session has this token hash, ended or not.
    pub(crate) fn person(&self, token_hash: &Digest) -> Option<PersonId> {
        let sessions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        sessions.get(token_hash).map(|session| session.row.person)
    }

    pub(crate) fn add(&self, row: SessionRow) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(row.token_hash, Arc::new(LiveSession::new(row)));
    }

    /// Takes over what the store says of the session with this token hash; the last use that is later counts.
    pub(crate) fn recall(&self, token_hash: &Digest, row: Option<SessionRow>) {
        let mut sessions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match row {
            None => {
                sessions.remove(token_hash);
            }
            Some(row) => match sessions.get(token_hash) {
                Some(known) => known.touch(row.last_used_at),
                None => {
                    sessions.insert(*token_hash, Arc::new(LiveSession::new(row)));
                }
            },
        }
    }

    fn retain(&self, keep: impl Fn(&LiveSession) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, session| keep(session));
    }

    pub(crate) fn end(&self, id: SessionId) {
        self.retain(|session| session.row.id != id);
    }

    pub(crate) fn end_of_person(&self, person: PersonId) {
        self.retain(|session| session.row.person != person);
    }

    pub(crate) fn end_on_terminal(&self, terminal: TerminalId) {
        self.retain(|session| session.row.terminal != terminal);
    }

    pub(crate) fn end_asserted_on(&self, terminal: TerminalId) {
        self.retain(|session| session.row.terminal != terminal || !session.row.asserted);
    }

    /// The session in which a terminal asserts a person, if there is one.
    pub(crate) fn asserted(&self, person: PersonId, terminal: TerminalId) -> Option<SessionId> {
        let sessions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        sessions
            .values()
            .map(|session| &session.row)
            .find(|row| row.asserted && row.person == person && row.terminal == terminal)
            .map(|row| row.id)
    }

    /// Forgets what has ended; gives the last uses that the store does not know yet.
    pub(crate) fn tidy(&self, now: Timestamp, idle: SignedDuration) -> Vec<(SessionId, Timestamp)> {
        self.retain(|session| session.alive(now, idle));
        let sessions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        sessions
            .values()
            .filter_map(|session| {
                let used = Timestamp::from_microsecond(session.last_used.load(Ordering::Relaxed)).ok()?;
                (used > session.row.last_used_at).then_some((session.row.id, used))
            })
            .collect()
    }
}

impl Service {
    /// `GET /v1/sessions/current`.
    ///
    /// # Errors
    /// The terminal is not accepted, or nobody is logged in.
    pub async fn current_session(&self, call: &Call) -> Result<Session, ServiceError> {
        Ok(self.describe(&self.caller(call).await?))
    }

    /// `DELETE /v1/sessions/current`: logs out.
    ///
    /// # Errors
    /// As [`Service::current_session`], and the audit log.
    pub async fn logout(&self, call: &Call) -> Result<(), ServiceError> {
        let caller = self.caller(call).await?;
        let id = caller.session.row.id;
        let record = Record::new(Act::Logout, self.clock.now(), caller.who());
        self.audit.commit(vec![Change::DeleteSession(id)], &[record]).await?;
        self.sessions.end(id);
        Ok(())
    }

    pub(crate) fn describe(&self, caller: &Caller) -> Session {
        let directory = self.directory.load();
        let row = &caller.session.row;
        Session {
            id: row.id,
            person: caller.person.id,
            login: caller.person.login.clone(),
            name: caller.person.name.clone(),
            memberships: caller.person.memberships.iter().map(|held| directory.named(held)).collect(),
            roles: caller.roles().to_vec(),
            second_factor: row.second_factor,
            asserted: row.asserted,
            expires_at: row.expires_at,
        }
    }
}

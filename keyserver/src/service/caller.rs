//! Who asks: the terminal by its certificate, the person by a session that is bound to that certificate.

use super::directory::Directory;
use super::sessions::LiveSession;
use super::{Service, ServiceError};
use crate::audit::{Act, Record, Who};
use crate::store::{Digest, PersonRow, TerminalRow};
use jiff::Timestamp;
use std::sync::Arc;
use tobari_core::crypto::sha256;
use tobari_core::ids::RequestId;
use tobari_core::proto::admin::Role;
use tobari_core::proto::problem::ProblemCode;

/// The certificate that the other side showed, already checked to be one of the organisation's CA.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// SHA-256 of the certificate.
    pub fingerprint: Digest,
    /// When it ends. TLS does not look at this, so that an expired terminal gets a clear answer.
    pub expires_at: Timestamp,
}

/// What is known of a request before anything is checked.
#[derive(Clone)]
pub struct Call {
    /// Identity of the request.
    pub request: RequestId,
    /// The client certificate.
    pub peer: Option<Peer>,
    /// The bearer token.
    pub bearer: Option<Bearer>,
}

/// A session's bearer token as it came; no `Debug`, so that it reaches no log.
#[derive(Clone)]
pub struct Bearer(pub(crate) zeroize::Zeroizing<String>);

/// Somebody logged in on an accepted terminal.
pub struct Caller {
    pub(crate) request: RequestId,
    pub(crate) terminal: Arc<TerminalRow>,
    pub(crate) person: Arc<PersonRow>,
    pub(crate) session: Arc<LiveSession>,
}

impl Caller {
    /// Who, for audit records.
    pub(crate) fn who(&self) -> Who {
        Who {
            person: Some(self.person.id),
            terminal: Some(self.terminal.id),
            session: Some(self.session.row.id),
            request: Some(self.request),
            asserted: self.session.row.asserted,
        }
    }

    /// The administrator roles that the person holds in this session: none for somebody who is only asserted.
    pub(crate) fn roles(&self) -> &[Role] {
        if self.session.row.asserted { &[] } else { &self.person.roles }
    }
}

pub(super) fn no_certificate() -> ServiceError {
    ServiceError::TerminalNotAccepted(String::from(
        "this request needs the certificate of an enrolled terminal",
    ))
}

impl Service {
    /// The terminal that calls, as of now on every server.
    pub(crate) async fn terminal(&self, call: &Call) -> Result<Arc<TerminalRow>, ServiceError> {
        // Somebody without a certificate is not worth a question to the store.
        let peer = call.peer.ok_or_else(no_certificate)?;
        self.refresh().await?;
        let terminal = self.terminal_in(&self.directory.load(), call)?;
        if terminal.fingerprint == peer.fingerprint {
            return Ok(terminal);
        }
        self.begin_to_use(call, &peer).await?;
        self.terminal_in(&self.directory.load(), call)
    }

    /// The person who is logged in on the calling terminal, as of now on every server.
    pub(crate) async fn caller(&self, call: &Call) -> Result<Caller, ServiceError> {
        self.terminal(call).await?;
        if let Some(bearer) = &call.bearer {
            let hash = sha256(&[bearer.0.as_bytes()]);
            self.sessions.recall(&hash, self.store.session(hash).await?);
        }
        self.caller_in(&self.directory.load(), call)
    }

    /// The same, without asking the store where what is in memory suffices: only for what is committed on the basis of
    /// this directory and session. A refusal is never given from memory alone.
    pub(super) async fn caller_at_hand(&self, call: &Call) -> Result<(Caller, Arc<Directory>), ServiceError> {
        let directory = self.directory.load_full();
        if let Ok(caller) = self.caller_in(&directory, call)
            // The first use of a renewed certificate is noted before anything else.
            && call.peer.is_some_and(|peer| peer.fingerprint == caller.terminal.fingerprint)
        {
            return Ok((caller, directory));
        }
        self.caller(call).await?;
        let directory = self.directory.load_full();
        Ok((self.caller_in(&directory, call)?, directory))
    }

    pub(super) fn terminal_in(
        &self,
        directory: &Directory,
        call: &Call,
    ) -> Result<Arc<TerminalRow>, ServiceError> {
        let refuse = |detail: String| Err(ServiceError::TerminalNotAccepted(detail));
        let peer = call.peer.ok_or_else(no_certificate)?;
        let now = self.clock.now();
        let Some(terminal) = directory.terminal(&peer.fingerprint) else {
            return refuse(String::from(
                "the terminal's certificate is not known here: enrol the terminal again",
            ));
        };
        if terminal.revoked {
            return refuse(String::from("the terminal was revoked by an administrator"));
        }
        if terminal.frozen {
            return Err(ServiceError::TerminalFrozen);
        }
        let known_until = match terminal.next {
            Some(next) if next.fingerprint == peer.fingerprint => next.expires_at,
            _ => terminal.certificate_expires_at,
        };
        let expires_at = peer.expires_at.min(known_until);
        if now >= expires_at {
            return Err(ServiceError::CertificateExpired(expires_at));
        }
        self.contacts.touch(terminal.id, now);
        Ok(Arc::clone(terminal))
    }

    fn caller_in(&self, directory: &Directory, call: &Call) -> Result<Caller, ServiceError> {
        let terminal = self.terminal_in(directory, call)?;
        let now = self.clock.now();
        let bearer = call.bearer.as_ref().ok_or(ServiceError::NotLoggedIn)?;
        let session = self
            .sessions
            .find(&sha256(&[bearer.0.as_bytes()]), now, self.limits.session_idle)
            .filter(|session| session.row.terminal == terminal.id)
            .filter(|session| !session.row.asserted || terminal.gateway)
            .ok_or(ServiceError::NotLoggedIn)?;
        let person = directory
            .tables
            .people
            .get(&session.row.person)
            .filter(|person| !person.disabled)
            .map(Arc::clone)
            .ok_or(ServiceError::NotLoggedIn)?;
        session.touch(now);
        Ok(Caller { request: call.request, terminal, person, session })
    }

    /// A caller with all of `roles`; without them the attempt is recorded.
    pub(crate) async fn administrator(&self, call: &Call, roles: &[Role]) -> Result<Caller, ServiceError> {
        let caller = self.caller(call).await?;
        match roles.iter().find(|role| !caller.roles().contains(role)) {
            None => Ok(caller),
            Some(missing) => self.refuse_administrator(&caller, *missing).await,
        }
    }

    /// A caller with any role at all, for reading.
    pub(crate) async fn any_administrator(&self, call: &Call) -> Result<Caller, ServiceError> {
        let caller = self.caller(call).await?;
        if caller.roles().is_empty() {
            return self.refuse_administrator(&caller, Role::Policy).await;
        }
        Ok(caller)
    }

    pub(super) async fn refuse_administrator(
        &self,
        caller: &Caller,
        missing: Role,
    ) -> Result<Caller, ServiceError> {
        let mut record = Record::new(Act::AdminRefused, self.clock.now(), caller.who())
            .detail(format!("role {}", super::error::role_name(missing)));
        record.code = Some(ProblemCode::NotAdministrator);
        self.audit.commit(Vec::new(), &[record]).await?;
        Err(ServiceError::NotAdministrator(missing))
    }
}

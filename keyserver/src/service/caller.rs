//! Who asks: the terminal by its certificate, the person by a session that is bound to that certificate.

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

impl Service {
    /// The terminal that calls.
    pub(crate) fn terminal(&self, call: &Call) -> Result<Arc<TerminalRow>, ServiceError> {
        let refuse = |detail: String| Err(ServiceError::TerminalNotAccepted(detail));
        let Some(peer) = call.peer else {
            return refuse(String::from("this request needs the certificate of an enrolled terminal"));
        };
        let now = self.clock.now();
        let directory = self.directory.load();
        let Some(terminal) = directory.terminal(&peer.fingerprint) else {
            return refuse(String::from(
                "the terminal's certificate is not known here: enrol the terminal again",
            ));
        };
        if terminal.revoked {
            return refuse(String::from("the terminal was revoked by an administrator"));
        }
        let expires_at = peer.expires_at.min(terminal.certificate_expires_at);
        if now >= expires_at {
            return Err(ServiceError::CertificateExpired(expires_at));
        }
        self.contacts.touch(terminal.id, now);
        Ok(Arc::clone(terminal))
    }

    /// The person who is logged in on the calling terminal.
    pub(crate) fn caller(&self, call: &Call) -> Result<Caller, ServiceError> {
        let terminal = self.terminal(call)?;
        let now = self.clock.now();
        let bearer = call.bearer.as_ref().ok_or(ServiceError::NotLoggedIn)?;
        let session = self
            .sessions
            .find(&sha256(&[bearer.0.as_bytes()]), now, self.limits.session_idle)
            .filter(|session| session.row.terminal == terminal.id)
            .filter(|session| !session.row.asserted || terminal.gateway)
            .ok_or(ServiceError::NotLoggedIn)?;
        let person = self
            .directory
            .load()
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
        let caller = self.caller(call)?;
        match roles.iter().find(|role| !caller.roles().contains(role)) {
            None => Ok(caller),
            Some(missing) => self.refuse_administrator(&caller, *missing).await,
        }
    }

    /// A caller with any role at all, for reading.
    pub(crate) async fn any_administrator(&self, call: &Call) -> Result<Caller, ServiceError> {
        let caller = self.caller(call)?;
        if caller.roles().is_empty() {
            return self.refuse_administrator(&caller, Role::Policy).await;
        }
        Ok(caller)
    }

    async fn refuse_administrator(&self, caller: &Caller, missing: Role) -> Result<Caller, ServiceError> {
        let mut record = Record::new(Act::AdminRefused, self.clock.now(), caller.who())
            .detail(format!("role {}", super::error::role_name(missing)));
        record.code = Some(ProblemCode::NotAdministrator);
        self.audit.commit(Vec::new(), &[record]).await?;
        Err(ServiceError::NotAdministrator(missing))
    }
}

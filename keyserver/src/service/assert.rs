//! A gateway speaks for a person: a terminal in front of a share, which an administrator marked, says whom the share
//! authenticated and gets a session for that person. The session has the person's rights over files, no second factor
//! and no administrator roles; it ends when the mark comes off. Keys are released in it on the one path that
//! there is, [`Service::grants`].

use super::caller::{Call, Caller};
use super::follow::ATTEMPTS;
use super::login::{MAX_LOGIN, check_storable};
use super::sessions::LiveSession;
use super::{Service, ServiceError};
use crate::audit::{Act, Record, Who};
use crate::store::{Basis, Change, SessionRow};
use data_encoding::BASE64URL_NOPAD;
use std::sync::Arc;
use tobari_core::crypto::{random_bytes, sha256};
use tobari_core::ids::SessionId;
use tobari_core::policy::fold_name;
use tobari_core::proto::api::{AssertRequest, LoginResponse};
use zeroize::Zeroizing;

impl Service {
    /// `POST /v1/assertions`. An earlier session of the same person by the same gateway ends.
    ///
    /// # Errors
    /// The terminal is no gateway; no such person or a disabled one, which are answered alike; a request that
    /// carries a session. Each refusal is recorded.
    pub async fn assert(&self, call: &Call, request: AssertRequest) -> Result<LoginResponse, ServiceError> {
        for _ in 1..ATTEMPTS {
            match self.assert_once(call, &request).await {
                // Another server has changed something meanwhile: once more, on what is so now.
                Err(ServiceError::Moved) => {}
                result => return result,
            }
        }
        self.assert_once(call, &request).await
    }

    async fn assert_once(&self, call: &Call, request: &AssertRequest) -> Result<LoginResponse, ServiceError> {
        let terminal = self.terminal(call).await?;
        // Whose rights would count, the session's or the asserted person's?
        if call.bearer.is_some() {
            return Err(ServiceError::invalid("Authorization", "an assertion is not made in a session"));
        }
        if request.login.len() > MAX_LOGIN {
            return Err(ServiceError::invalid("login", format!("must have at most {MAX_LOGIN} bytes")));
        }
        check_storable("login", &request.login)?;
        let login = fold_name(&request.login);
        // Held until the session can be found: taking the mark off and shutting a person out end sessions, and
        // one that was being begun must not come after it.
        let changing = self.stand_still().await;
        let directory = self.directory.load_full();
        let now = self.clock.now();
        let who = Who { terminal: Some(terminal.id), request: Some(call.request), ..Who::default() };
        let checked = match directory.tables.terminals.get(&terminal.id) {
            Some(terminal) if terminal.gateway && !terminal.revoked => directory
                .person_by_login(&login)
                .filter(|person| !person.disabled)
                .ok_or(ServiceError::NotFound("person")),
            _ => Err(ServiceError::NotGateway),
        };
        let person = match checked {
            Ok(person) => Arc::clone(person),
            Err(refusal) => {
                drop(changing);
                let mut record = Record::new(Act::AssertionRefused, now, who);
                record.code = Some(refusal.code());
                record.login = Some(login);
                self.audit.commit(Vec::new(), &[record]).await?;
                return Err(refusal);
            }
        };

        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
        let token = BASE64URL_NOPAD.encode(secret.as_slice());
        let row = SessionRow {
            id: SessionId::generate(),
            token_hash: sha256(&[token.as_bytes()]),
            person: person.id,
            terminal: terminal.id,
            second_factor: false,
            asserted: true,
            created_at: now,
            expires_at: now
                .checked_add(self.limits.session_life)
                .map_err(|error| ServiceError::Internal(error.to_string()))?
                .min(terminal.certificate_expires_at),
            last_used_at: now,
        };
        let earlier = self.sessions.asserted(person.id, terminal.id);
        let mut changes = vec![Change::PutSession(row.clone())];
        changes.extend(earlier.map(Change::DeleteSession));
        let session = Arc::new(LiveSession::new(row.clone()));
        let caller = Caller { request: call.request, terminal, person, session };
        let basis = Basis::new(directory.version, None);
        let record = Record::new(Act::Assertion, now, caller.who());
        self.audit.commit_on(basis, changes, &[record]).await?;
        if let Some(earlier) = earlier {
            self.sessions.end(earlier);
        }
        self.sessions.add(row);
        Ok(LoginResponse { token, session: self.describe(&caller) })
    }
}

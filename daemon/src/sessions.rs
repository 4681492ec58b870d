//! Who is logged in: one session of the key server for each local uid. The session's token stays here; it is good
//! only with this terminal's certificate.

use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::ids::{PersonId, SessionId};
use tobari_core::proto::api::{LoginResponse, Session};
use tobari_core::proto::problem::{Problem, ProblemCode};
use zeroize::Zeroizing;

/// A session's bearer token; shown by nothing.
pub struct Token(Zeroizing<String>);

impl Token {
    /// The text for the `Authorization` header.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A person logged in under a local uid.
#[derive(Debug)]
pub struct Login {
    /// The session, as of the login.
    pub session: Session,
    /// Its token; empty, and good for nothing, in a session that the key server does not know.
    pub token: Token,
    /// Whether it began without the key server: leases alone open anything in it.
    pub offline: bool,
}

impl From<LoginResponse> for Login {
    fn from(response: LoginResponse) -> Self {
        Self { session: response.session, token: Token(Zeroizing::new(response.token)), offline: false }
    }
}

impl Login {
    /// A session that begins without the key server.
    pub fn offline(session: Session) -> Self {
        Self { session, token: Token(Zeroizing::default()), offline: true }
    }
}

/// All logins.
#[derive(Debug, Default)]
pub struct Sessions {
    by_uid: Mutex<HashMap<u32, Arc<Login>>>,
}

impl Sessions {
    /// The login of `uid`.
    ///
    /// # Errors
    /// `NotLoggedIn` when there is none or it has ended.
    pub fn current(&self, uid: u32, now: Timestamp) -> Result<Arc<Login>, Problem> {
        let mut logins = self.lock();
        match logins.get(&uid) {
            Some(login) if login.session.expires_at > now => Ok(Arc::clone(login)),
            Some(_) => {
                logins.remove(&uid);
                Err(Problem::local(
                    ProblemCode::NotLoggedIn,
                    format!("the session of uid {uid} has ended; log in again"),
                ))
            }
            None => Err(Problem::local(ProblemCode::NotLoggedIn, format!("uid {uid} is not logged in"))),
        }
    }

    /// Remembers the login of `uid`; gives the one that it replaces.
    pub fn put(&self, uid: u32, login: Login) -> Option<Arc<Login>> {
        self.lock().insert(uid, Arc::new(login))
    }

    /// Forgets the login of `uid`.
    pub fn remove(&self, uid: u32) -> Option<Arc<Login>> {
        self.lock().remove(&uid)
    }

    /// Forgets a session that the key server has ended.
    pub fn forget(&self, session: SessionId) {
        self.lock().retain(|_, login| login.session.id != session);
    }

    /// Forgets the logins of people who are revoked; gives their sessions.
    pub fn revoke(&self, people: &[PersonId]) -> Vec<SessionId> {
        let mut gone = Vec::new();
        self.lock().retain(|_, login| {
            let revoked = people.contains(&login.session.person);
            if revoked {
                gone.push(login.session.id);
            }
            !revoked
        });
        gone
    }

    /// The login with this session.
    pub fn with_session(&self, session: SessionId) -> Option<Arc<Login>> {
        self.lock().values().find(|login| login.session.id == session).cloned()
    }

    /// Forgets everybody.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Login>>> {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn login(person: u8, expires_at: &str) -> Login {
        Login::from(LoginResponse {
            token: format!("token-{person}"),
            session: Session {
                id: SessionId::from_bytes([person; 16]),
                person: PersonId::from_bytes([person; 16]),
                login: format!("person{person}"),
                name: String::from("名前"),
                memberships: Vec::new(),
                roles: Vec::new(),
                second_factor: false,
                asserted: false,
                expires_at: expires_at.parse().unwrap(),
            },
        })
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_session_belongs_to_one_uid_and_ends_in_time() {
        let sessions = Sessions::default();
        assert!(sessions.put(1000, login(1, "2026-01-01T12:00:00Z")).is_none());
        let now = at("2026-01-01T11:59:59Z");
        assert_eq!(sessions.current(1000, now).unwrap().session.login, "person1");
        assert_eq!(sessions.current(1001, now).unwrap_err().code, ProblemCode::NotLoggedIn);
        let end = at("2026-01-01T12:00:00Z");
        assert_eq!(sessions.current(1000, end).unwrap_err().code, ProblemCode::NotLoggedIn);
        // An ended session does not come back with the clock.
        assert!(sessions.current(1000, now).is_err());
    }

    #[test]
    fn a_new_login_replaces_the_old_one() {
        let sessions = Sessions::default();
        sessions.put(1000, login(1, "2027-01-01T00:00:00Z"));
        let replaced = sessions.put(1000, login(2, "2027-01-01T00:00:00Z")).unwrap();
        assert_eq!(replaced.session.login, "person1");
        sessions.forget(replaced.session.id);
        assert!(sessions.current(1000, at("2026-01-01T00:00:00Z")).is_ok());
        assert_eq!(sessions.remove(1000).unwrap().session.login, "person2");
        assert!(sessions.remove(1000).is_none());
    }

    #[test]
    fn revoked_people_are_forgotten_under_every_uid() {
        let sessions = Sessions::default();
        sessions.put(1, login(1, "2027-01-01T00:00:00Z"));
        sessions.put(2, login(1, "2027-01-01T00:00:00Z"));
        sessions.put(3, login(3, "2027-01-01T00:00:00Z"));
        assert_eq!(sessions.revoke(&[PersonId::from_bytes([1; 16])]).len(), 2);
        let now = at("2026-01-01T00:00:00Z");
        assert!(sessions.current(1, now).is_err() && sessions.current(2, now).is_err());
        assert!(sessions.current(3, now).is_ok());
    }

    #[test]
    fn a_token_is_not_shown() {
        assert!(!format!("{:?}", login(1, "2027-01-01T00:00:00Z")).contains("token-1"));
    }
}

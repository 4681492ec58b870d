//! The people whom this gateway asserts: one login at the key server for each, asked for once however many requests
//! the share makes for it at a time. A refusal is remembered for a few seconds, so that a program that tries again and
//! again does not become a request each time.

use crate::failure::Failure;
use crate::sessions::Login;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::ids::{PersonId, SessionId};
use tobari_core::policy::fold_name;
use tobari_core::proto::problem::{Problem, ProblemCode};

/// How long a refusal is not asked about again.
const REFUSED: SignedDuration = SignedDuration::from_secs(10);
/// The same while the key server is away: long enough to keep a directory listing from waiting for each of its files.
const AWAY: SignedDuration = SignedDuration::from_secs(3);
/// More names than this are not remembered as refused.
const MAX_REFUSED: usize = 10_000;

/// All of them, by the compared form of their login names.
#[derive(Debug, Default)]
pub struct Asserted {
    known: Mutex<HashMap<String, Known>>,
    pub(super) asking: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

#[derive(Debug)]
enum Known {
    Login(Arc<Login>),
    Refused { why: Problem, until: Timestamp },
}

impl Asserted {
    /// The login of the person with this login name; `ask` begins one when there is none.
    ///
    /// # Errors
    /// What `ask` said, now or a moment ago.
    pub fn login(
        &self,
        name: &str,
        now: Timestamp,
        ask: impl FnOnce() -> Result<Login, Problem>,
    ) -> Result<Arc<Login>, Failure> {
        let key = fold_name(name);
        if let Some(known) = self.find(&key, now) {
            return Ok(known?);
        }
        let turn = Arc::clone(lock(&self.asking).entry(key.clone()).or_default());
        let answer = {
            // Another assertion would end the session that a request beside this one was just given.
            let _turn = lock(&turn);
            match self.find(&key, now) {
                Some(known) => known,
                None => {
                    let answer = ask().map(Arc::new);
                    self.remember(&key, now, &answer);
                    answer
                }
            }
        };
        let mut asking = lock(&self.asking);
        // Ours and the map's: nobody else waits.
        if Arc::strong_count(&turn) <= 2 {
            asking.remove(&key);
        }
        drop(asking);
        Ok(answer?)
    }

    fn find(&self, key: &str, now: Timestamp) -> Option<Result<Arc<Login>, Problem>> {
        let mut known = lock(&self.known);
        match known.get(key)? {
            Known::Login(login) if login.session.expires_at > now => return Some(Ok(Arc::clone(login))),
            Known::Refused { why, until } if *until > now => return Some(Err(why.clone())),
            Known::Login(_) | Known::Refused { .. } => {}
        }
        known.remove(key);
        None
    }

    fn remember(&self, key: &str, now: Timestamp, answer: &Result<Arc<Login>, Problem>) {
        let mut known = lock(&self.known);
        match answer {
            Ok(login) => {
                known.insert(key.to_owned(), Known::Login(Arc::clone(login)));
            }
            Err(why) => {
                let wait = if why.code == ProblemCode::KeyServerUnreachable { AWAY } else { REFUSED };
                let until = now.checked_add(wait).unwrap_or(now);
                if known.len() >= MAX_REFUSED {
                    known.retain(|_, known| matches!(known, Known::Login(_)));
                }
                known.insert(key.to_owned(), Known::Refused { why: why.clone(), until });
            }
        }
    }

    /// The login with this session.
    pub fn with_session(&self, session: SessionId) -> Option<Arc<Login>> {
        lock(&self.known).values().find_map(|known| match known {
            Known::Login(login) if login.session.id == session => Some(Arc::clone(login)),
            Known::Login(_) | Known::Refused { .. } => None,
        })
    }

    /// Forgets a session that has ended.
    pub fn forget(&self, session: SessionId) {
        self.keep(|login| login.session.id != session);
    }

    /// Forgets people who are revoked; gives their sessions.
    pub fn revoke(&self, people: &[PersonId]) -> Vec<SessionId> {
        self.keep(|login| !people.contains(&login.session.person))
    }

    /// Forgets everybody; gives their sessions.
    pub fn clear(&self) -> Vec<SessionId> {
        self.keep(|_| false)
    }

    /// Asks again about who was refused: something has changed at the organisation.
    pub fn reconsider(&self) {
        lock(&self.known).retain(|_, known| matches!(known, Known::Login(_)));
    }

    fn keep(&self, keep: impl Fn(&Login) -> bool) -> Vec<SessionId> {
        let mut gone = Vec::new();
        lock(&self.known).retain(|_, known| match known {
            Known::Login(login) if !keep(login) => {
                gone.push(login.session.id);
                false
            }
            Known::Login(_) | Known::Refused { .. } => true,
        });
        gone
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

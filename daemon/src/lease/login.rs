//! Logging in while the key server is away: for people who hold a lease here and have logged in here with the key server before.
//! Kept is an Argon2id hash of the password, in the sealed state, for as long as they hold a lease.

use super::Leases;
use crate::failure::Failure;
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tobari_core::ids::{PersonId, SessionId};
use tobari_core::policy::fold_name;
use tobari_core::proto::api::{NamedMembership, Session};
use tobari_core::proto::problem::{Problem, ProblemCode};

/// A session without the key server lasts as long as one with it.
const LIFE: SignedDuration = SignedDuration::from_hours(8);
/// Failures in a row before the name is locked.
const LOCK_AFTER: u32 = 5;
/// For how long, doubled with each further failure, in microseconds of the boot clock.
const FIRST_LOCK: i64 = 60_000_000;
/// Most doublings: about an hour.
const DOUBLINGS: u32 = 6;
/// Longest password, as on the key server.
const MAX_PASSWORD: usize = 1024;

/// Who logged in here, and the hash of the password.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verifier {
    login_key: String,
    login: String,
    name: String,
    memberships: Vec<NamedMembership>,
    hash: String,
}

/// What is known of logins since the start.
#[derive(Default)]
pub(super) struct OfflineLogins {
    /// People who logged in with the key server.
    recent: Mutex<HashMap<PersonId, Verifier>>,
    /// Failures in a row, and until when the name is locked.
    failures: Mutex<HashMap<String, (u32, i64)>>,
}

impl Leases {
    /// Remembers who has just logged in with the key server, should they come to need it.
    pub fn remember(&self, session: &Session, password: &str) {
        let hash = match Argon2::default().hash_password(password.as_bytes()) {
            Ok(hash) => hash.to_string(),
            Err(error) => {
                tracing::warn!(%error, "a login cannot be remembered for leases");
                return;
            }
        };
        let verifier = Verifier {
            login_key: fold_name(&session.login),
            login: session.login.clone(),
            name: session.name.clone(),
            memberships: session.memberships.clone(),
            hash,
        };
        self.logins.recent.lock().unwrap_or_else(PoisonError::into_inner).insert(session.person, verifier);
        self.logins
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&fold_name(&session.login));
        self.keep_verifiers();
    }

    /// Keeps the verifiers of people who hold a lease, and no others.
    pub(super) fn keep_verifiers(&self) {
        let recent = self.logins.recent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut inner = self.inner();
        let holders: Vec<PersonId> = inner.held.iter().map(|held| held.lease.lease().person).collect();
        let state = inner.store.state();
        let mut wanted = state.verifiers.clone();
        wanted.extend(recent);
        wanted.retain(|person, _| holders.contains(person));
        let same = wanted.len() == state.verifiers.len()
            && wanted
                .iter()
                .all(|(person, new)| state.verifiers.get(person).is_some_and(|old| old.hash == new.hash));
        if same {
            return;
        }
        if let Err(failure) = inner.store.change(|state| state.verifiers = wanted) {
            tracing::warn!(why = failure.problem.detail, "logins were not remembered for leases");
        }
    }

    /// Logs somebody in without the key server. None when nothing is known here of that name.
    pub fn login(&self, login: &str, password: &str) -> Option<Result<Session, Failure>> {
        let key = fold_name(login);
        let (person, verifier) = {
            let inner = self.inner();
            inner.store.sound().ok()?;
            let found =
                inner.store.state().verifiers.iter().find(|(_, verifier)| verifier.login_key == key)?;
            (*found.0, found.1.clone())
        };
        Some(self.verified(&key, person, &verifier, password))
    }

    fn verified(
        &self,
        key: &str,
        person: PersonId,
        verifier: &Verifier,
        password: &str,
    ) -> Result<Session, Failure> {
        let (now, reading) = self.time.now()?;
        // Held meanwhile: guesses in parallel do not outrun the count.
        let mut failures = self.logins.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, until) = failures.get(key).copied().unwrap_or_default();
        let wait = until.saturating_sub(reading.boot.elapsed);
        if wait > 0 {
            let mut problem =
                Problem::local(ProblemCode::LockedOut, "too many failed logins under this name: wait");
            problem.retry_after_seconds = u64::try_from(wait / 1_000_000 + 1).ok();
            return Err(problem.into());
        }
        let fits = password.len() <= MAX_PASSWORD
            && PasswordHash::new(&verifier.hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        if !fits {
            let count = count.saturating_add(1);
            let doublings = count.saturating_sub(LOCK_AFTER).min(DOUBLINGS);
            let lock = if count < LOCK_AFTER { 0 } else { FIRST_LOCK << doublings };
            failures.insert(key.to_owned(), (count, reading.boot.elapsed.saturating_add(lock)));
            return Err(Failure::new(ProblemCode::BadCredentials, "the login name or the password is wrong"));
        }
        failures.remove(key);
        drop(failures);
        let end = now.checked_add(LIFE).map_err(|error| super::broken(error.to_string()))?;
        Ok(Session {
            id: SessionId::generate(),
            person,
            login: verifier.login.clone(),
            name: verifier.name.clone(),
            memberships: verifier.memberships.clone(),
            roles: Vec::new(),
            second_factor: false,
            asserted: false,
            expires_at: end,
        })
    }
}

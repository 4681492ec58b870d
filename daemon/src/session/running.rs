//! The sessions that run: their uids, and how they are ended from outside.

use crate::failure::Failure;
use rustix::process::{Signal, pidfd_send_signal};
use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::ids::SessionId;
use tobari_core::proto::problem::ProblemCode;

/// All sessions of the daemon, by uid.
#[derive(Debug, Default)]
pub struct Running {
    by_uid: Mutex<BTreeMap<u32, Entry>>,
    /// Logins that have ended; no session is started for them any more. Ids are not used again.
    over: Mutex<HashSet<SessionId>>,
}

#[derive(Debug)]
struct Entry {
    login: SessionId,
    process: Option<OwnedFd>,
    /// Ended from outside.
    ended: bool,
}

impl Running {
    /// Takes a uid that no other session has.
    ///
    /// # Errors
    /// `TooManyRequests` when all are taken.
    pub(super) fn enter(
        self: &Arc<Self>,
        login: SessionId,
        first: u32,
        count: u32,
    ) -> Result<Place, Failure> {
        let mut by_uid = self.by_uid();
        let free =
            (first..=first.saturating_add(count.saturating_sub(1))).find(|uid| !by_uid.contains_key(uid));
        let Some(uid) = free else {
            let detail = "too many sessions run on this host ([session] uids); end one and try again";
            return Err(Failure::new(ProblemCode::TooManyRequests, detail));
        };
        by_uid.insert(uid, Entry { login, process: None, ended: false });
        Ok(Place { running: Arc::clone(self), uid })
    }

    /// Ends the sessions of a login: its person logged out or is revoked.
    pub fn end(&self, login: SessionId) {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).insert(login);
        self.end_where(|entry| entry.login == login);
    }

    /// Ends all sessions.
    pub fn end_all(&self) {
        self.end_where(|_| true);
    }

    fn end_where(&self, which: impl Fn(&Entry) -> bool) {
        for entry in self.by_uid().values_mut().filter(|entry| which(entry)) {
            entry.ended = true;
            if let Some(process) = &entry.process {
                let _already_gone = pidfd_send_signal(process, Signal::KILL);
            }
        }
    }

    fn by_uid(&self) -> MutexGuard<'_, BTreeMap<u32, Entry>> {
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place; its uid is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    running: Arc<Running>,
    pub(super) uid: u32,
}

impl Place {
    /// From now on ending the session ends this process.
    pub(super) fn started(&self, process: OwnedFd) {
        let over = self.running.over.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = self.running.by_uid().get_mut(&self.uid) {
            entry.ended |= over.contains(&entry.login);
            if entry.ended {
                let _already_gone = pidfd_send_signal(&process, Signal::KILL);
            }
            entry.process = Some(process);
        }
    }

    /// Whether it was ended from outside.
    pub(super) fn is_ended(&self) -> bool {
        self.running.by_uid().get(&self.uid).is_some_and(|entry| entry.ended)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.by_uid().remove(&self.uid);
    }
}

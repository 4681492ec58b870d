//! The exchange with the key server: what was done goes there, what was lent comes here, and the clock is set.

use super::{Held, Inner, Leases, Proof};
use crate::failure::Failure;
use tobari_core::ids::LeaseId;
use tobari_core::lease::ValidLease;
use tobari_core::proto::base64::Base64;
use tobari_core::proto::lease::{LeaseInHand, LeaseSync, LeaseSyncAnswer, MAX_RECORDS, SignedLease};
use tobari_core::proto::problem::{Problem, ProblemCode};

/// What the key server names when it refuses a report.
const REFUSED: &str = "lease-state";

impl Leases {
    /// What is to be sent; fails when nothing here can be believed.
    ///
    /// # Errors
    /// `LeaseRefused`.
    pub fn report(&self) -> Result<LeaseSync, Failure> {
        let mut inner = self.inner();
        inner.store.sound()?;
        // The latest time seen outlives a restart from here on.
        let clock = self.time.now().ok().and_then(|_| self.time.clock());
        if clock.is_some() && !inner.held.is_empty() {
            inner.store.change(|state| state.clock = clock)?;
        }
        let state = inner.store.state();
        let reported = state.reported();
        Ok(LeaseSync {
            counter: state.counter(),
            after: reported.sequence,
            after_hash: Base64(reported.hash.to_vec()),
            records: inner.store.records().iter().take(MAX_RECORDS).cloned().map(Base64).collect(),
            held: inner
                .held
                .iter()
                .map(|held| held.lease.lease())
                .map(|lease| LeaseInHand { lease: lease.id, issued_at: lease.issued_at })
                .collect(),
        })
    }

    /// Takes the key server's answer. Gives whether there is more to exchange.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn settle(&self, answer: LeaseSyncAnswer) -> Result<bool, Failure> {
        let LeaseSyncAnswer { time, accepted, leases, opened, narrowed, ended, more } = answer;
        let mut inner = self.inner();
        inner.store.sound()?;
        let clock = self.time.set(time)?;
        let nothing = inner.held.is_empty() && leases.is_empty() && inner.store.state().unreported() == 0;
        if nothing && inner.store.state().counter() == 0 {
            return Ok(false);
        }
        if inner.store.state().unreported() > 0 || !leases.is_empty() || !inner.held.is_empty() {
            inner.store.confirm(accepted, clock)?;
        }
        inner.give_up(&ended)?;
        // By the key server's word alone: a clock that was set forward here must not let a count be forgotten.
        inner.store.forget_ended(time)?;
        let mut new = Vec::new();
        for signed in &leases {
            if let Some((id, lease)) = self.checked(signed) {
                let known = opened.iter().find(|opened| opened.lease == id).map_or(0, |opened| opened.count);
                if inner.take(id, lease, signed, known)? {
                    new.push(id);
                }
            }
        }
        inner.narrow(&narrowed)?;
        // The bulletin in force may be newer than this answer.
        inner.obey(self.identity.terminal)?;
        let taken = inner.held.iter().any(|held| new.contains(&held.lease.lease().id));
        let unreported = inner.store.state().unreported() > 0;
        drop(inner);
        self.keep_verifiers();
        // Only while something comes of it: a lease that is not taken would be sent for ever.
        Ok((more && taken) || unreported)
    }

    fn checked(&self, signed: &SignedLease) -> Option<(LeaseId, ValidLease)> {
        match self.identity.checked(signed, Proof::Needed) {
            Ok(lease) => Some((lease.lease().id, lease)),
            Err(why) => {
                tracing::error!(why, "the key server sent a lease that cannot be taken");
                None
            }
        }
    }

    /// Takes note of a refusal: a state that the key server does not recognise opens nothing any more.
    pub fn heard(&self, problem: &Problem) {
        let of_state = problem.code == ProblemCode::Conflict && problem.field.as_deref() == Some(REFUSED);
        if of_state {
            tracing::error!(
                why = problem.detail,
                "the key server refuses the state of this terminal's leases"
            );
            let mut inner = self.inner();
            inner.store.refuse(&problem.detail);
        }
    }
}

impl Inner {
    /// Keeps a lease that is not held yet, or a newer document of one that is. Gives whether it was taken.
    fn take(
        &mut self,
        id: LeaseId,
        lease: ValidLease,
        signed: &SignedLease,
        known: u32,
    ) -> Result<bool, Failure> {
        let Self { store, held, .. } = self;
        match held.iter_mut().find(|held| held.lease.lease().id == id) {
            None => {
                store.add(id, signed, known)?;
                held.push(Held::new(lease, store));
                tracing::info!(lease = %id, "a lease is held");
                Ok(true)
            }
            Some(held) if lease.refills(&held.lease) => {
                store.replace(id, signed, known, &held.created)?;
                // Keys in use stay under what has become of the lease, and so do those of the newer document.
                held.lease = lease;
                tracing::info!(lease = %id, files = held.lease.lease().files.len(), "a lease is refilled");
                Ok(true)
            }
            Some(held) => {
                if lease != held.lease {
                    tracing::error!(lease = %id, "the key server sent an older or another document of a lease that is held");
                }
                Ok(false)
            }
        }
    }
}

//! Refilling a lease of a label: the same lease with the files of the label that there are now, so that what appeared later, was saved
//! anew or was made by others opens under it. Nobody approves it again, so nothing else of it changes: whose it is and where, for
//! what, from when until when and how often; what a stricter policy has taken of it stays taken.

use super::issue::in_words;
use super::request::record;
use super::second_person::weighty;
use super::stricter::cases_of;
use super::{by_label, check_files};
use crate::audit::{Act, AuditError, Record};
use crate::service::follow::ATTEMPTS;
use crate::service::{Call, Caller, Service, ServiceError, judge};
use crate::store::{Basis, Change, LeaseFileRow, LeaseRow, Refilled, StoreError};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashSet;
use tobari_core::ids::LeaseId;
use tobari_core::lease::read_unchecked;
use tobari_core::proto::lease::{LeaseRecord, LeaseRefill, LeaseState, SignedLease};

/// By how much a document is later than the one before it, at the least.
const LATER: SignedDuration = SignedDuration::from_micros(1);

impl Service {
    /// `POST /v1/leases/{id}/refill`.
    ///
    /// # Errors
    /// Nobody is logged in; the lease is not the caller's, or not of this terminal, or not of a label, or over; the label does not
    /// allow it any more; a file is of another label; the policy refuses one; a second person would have to agree.
    pub async fn refill_lease(
        &self,
        call: &Call,
        id: LeaseId,
        refill: LeaseRefill,
    ) -> Result<LeaseRecord, ServiceError> {
        for _ in 0..ATTEMPTS {
            let caller = self.caller(call).await?;
            match self.refill_on(&caller, id, &refill).await {
                // What it was decided on has changed on another server, or the lease meanwhile: once more, on what is so now.
                Err(ServiceError::Moved) => {}
                result => return result,
            }
        }
        Err(ServiceError::TimedOut)
    }

    /// One attempt. What it commits holds only if policy, session and lease are still as they were found.
    async fn refill_on(
        &self,
        caller: &Caller,
        id: LeaseId,
        refill: &LeaseRefill,
    ) -> Result<LeaseRecord, ServiceError> {
        let _changing = self.begin_small_change().await;
        let (now, who) = (self.clock.now(), caller.who());
        let directory = self.directory.load_full();
        let (older, document) = self.refillable(caller, id, now).await?;
        let label = older.body.label.ok_or_else(not_of_a_label)?;
        by_label(&directory, label, "label")?;
        let files = check_files("", &refill.files, Some(label), self.identity.organisation, &directory)?;
        let row = with(older, &document, files, now)?;
        if judge::second_person(&directory.tables) && !weighty(&directory, &row).is_empty() {
            let why = "a second person has to agree to what it would lend: ask for a new lease";
            return Err(ServiceError::conflict("refill-second-person", why));
        }
        let basis = Basis::new(directory.version, Some(caller.session.row.id));
        let issued_at = row.body.refilled.map_or(now, |refilled| refilled.at);
        let row = self.lent(&directory, row, (now, issued_at), who, &basis).await?;
        let entry = Record::new(Act::LeaseRefill, now, who).about("lease", id).detail(in_words(&row));
        let changes = vec![
            Change::RefillLease(document, Box::new(row.clone())),
            Change::PutLeaseCases(cases_of(&row)?),
        ];
        match self.audit.commit_on(basis, changes, &[entry]).await {
            Ok(_) => {}
            // It was refilled, returned or taken back meanwhile.
            Err(AuditError::Refused(StoreError::Stale)) => return Err(ServiceError::Moved),
            Err(error) => return Err(error.into()),
        }
        metrics::counter!("tobari_leases_refilled_total").increment(1);
        Ok(record(&directory, row))
    }

    /// The caller's lease and its document, if it is one that can be refilled from where they are.
    async fn refillable(
        &self,
        caller: &Caller,
        id: LeaseId,
        now: Timestamp,
    ) -> Result<(LeaseRow, Vec<u8>), ServiceError> {
        // Whoever is only asserted has shown no password here, let alone the second factor with which the lease was asked for.
        if caller.session.row.asserted {
            return Err(ServiceError::NotLoggedIn);
        }
        let row = self.store.lease(id).await?.filter(|row| row.person == caller.person.id);
        let mut row = row.ok_or(ServiceError::NotFound("lease"))?;
        if row.terminal != caller.terminal.id {
            let why = "the lease is of another terminal: refill it there";
            return Err(ServiceError::conflict("refill-terminal", why));
        }
        if row.body.label.is_none() {
            return Err(not_of_a_label());
        }
        let out = row.state == LeaseState::Issued && now < row.body.term.ends_at;
        match row.document.take().filter(|_| out) {
            Some(document) => Ok((row, document)),
            None => Err(ServiceError::conflict(
                "refill-over",
                "only a lease that was issued and is not over is refilled",
            )),
        }
    }
}

/// The lease as it was approved, with other files.
fn with(
    older: LeaseRow,
    document: &[u8],
    files: Vec<LeaseFileRow>,
    now: Timestamp,
) -> Result<LeaseRow, ServiceError> {
    let damaged = || ServiceError::Internal(format!("the stored lease {} is damaged", older.id));
    let signed: SignedLease = serde_json::from_slice(document).map_err(|_| damaged())?;
    let before = read_unchecked(&signed).map_err(|_| damaged())?;
    // Of two documents the terminal takes the later one, however slow this server's clock.
    let after = before.issued_at.checked_add(LATER).map_err(|_| damaged())?;
    let known: HashSet<_> = older.files.iter().map(|file| file.file).collect();
    let new = files.iter().filter(|file| !known.contains(&file.file)).count();
    let lent = older.body.refilled.map_or(older.file_count, |refilled| refilled.lent);
    let lent = lent.saturating_add(u32::try_from(new).unwrap_or(u32::MAX));
    let mut row = LeaseRow { file_count: u32::try_from(files.len()).unwrap_or(u32::MAX), files, ..older };
    row.body.refilled = Some(Refilled { at: now.max(after), lent });
    Ok(row)
}

fn not_of_a_label() -> ServiceError {
    ServiceError::conflict("refill-label", "only a lease of a label is refilled: ask for a new one")
}

//! Leases: asked for by a person or issued by an administrator, decided with the same policy as a grant, and sealed to one
//! terminal by the one function that releases keys. `docs/spec/lease.md` is normative.
//!
//! [`request`] takes what is asked, [`issue`] decides and makes the signed lease, [`refill`] makes it anew with the files that there are
//! later, [`sync`] hands it to its terminal and takes back what was done under it, [`stricter`] takes back what a change of the policy
//! does not give any more, of which [`foreseen`] tells beforehand, [`ledger`] shows all of it.

mod foreseen;
mod issue;
mod ledger;
mod refill;
mod request;
mod second_person;
mod stricter;
mod sync;

use super::decide::{read_header, whole};
use super::directory::Directory;
use super::{Call, Caller, Service, ServiceError};
use crate::store::{LeaseBody, LeaseFileRow, LeaseRow};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashSet;
use tobari_core::ids::{LabelId, OrganisationId};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::admin::Role;
use tobari_core::proto::lease::{LeaseItem, LeaseRequest, MAX_FILES, Term};

pub(super) const LEASES: &[Role] = &[Role::Leases];
/// Longest lease.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 366);
/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;
/// Longest file name, in bytes.
const MAX_FILE_NAME: usize = 4096;

/// What can be lent. `relabel` is not: a header changes under the eyes of the key server alone.
fn lendable() -> Rights {
    [Right::View, Right::Edit, Right::Print, Right::Copy, Right::Send, Right::Decrypt].into_iter().collect()
}

fn check_term(field: &str, term: Term, now: Timestamp) -> Result<Term, ServiceError> {
    let term = Term { starts_at: whole(term.starts_at)?, ends_at: whole(term.ends_at)? };
    let invalid = |part: &str, why: &str| Err(ServiceError::invalid(format!("{field}term.{part}"), why));
    if term.starts_at >= term.ends_at {
        return invalid("ends_at", "must be after the start");
    }
    if term.ends_at <= now {
        return invalid("ends_at", "has passed");
    }
    if term.ends_at.duration_since(term.starts_at.min(now)) > LONGEST {
        return invalid("ends_at", "a lease lasts at most 366 days from now");
    }
    Ok(term)
}

/// Checks everything that does not need the policy, and reads the headers.
fn check(
    field: &str,
    request: &LeaseRequest,
    organisation: OrganisationId,
    directory: &Directory,
    now: Timestamp,
) -> Result<(LeaseBodyInput, Vec<LeaseFileRow>), ServiceError> {
    let term = check_term(field, request.term, now)?;
    let lendable = lendable();
    if request.rights.is_empty() || !request.rights.minus(lendable).is_empty() {
        let why = format!("must be some of: {lendable}");
        return Err(ServiceError::invalid(format!("{field}rights"), why));
    }
    let reason = request.reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
        let why = format!("must have 1 to {MAX_REASON} bytes without control characters");
        return Err(ServiceError::invalid(format!("{field}reason"), why));
    }
    if let Some(label) = request.label {
        by_label(directory, label, &format!("{field}label"))?;
    }
    let files = check_files(field, &request.files, request.label, organisation, directory)?;
    Ok((LeaseBodyInput { term, reason: reason.to_owned() }, files))
}

/// Reads the headers of files that are to be lent.
fn check_files(
    field: &str,
    items: &[LeaseItem],
    label: Option<LabelId>,
    organisation: OrganisationId,
    directory: &Directory,
) -> Result<Vec<LeaseFileRow>, ServiceError> {
    if items.is_empty() || items.len() > MAX_FILES {
        let why = format!("must have 1 to {MAX_FILES} entries");
        return Err(ServiceError::invalid(format!("{field}files"), why));
    }
    let mut seen = HashSet::new();
    let mut files = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = |part: &str| format!("{field}files[{index}].{part}");
        if item.name.as_ref().is_some_and(|name| name.len() > MAX_FILE_NAME) {
            return Err(ServiceError::invalid(at("name"), format!("must be at most {MAX_FILE_NAME} bytes")));
        }
        let header = read_header(&item.header.0, organisation, directory)
            .ok_or_else(|| ServiceError::invalid(at("header"), super::decide::unreadable().detail))?;
        if label.is_some_and(|label| label != header.policy().label) {
            return Err(ServiceError::invalid(at("header"), "the file has another label than the lease"));
        }
        // Twice the same file, such as two copies: one entry opens both.
        if seen.insert(header.file_id()) {
            files.push(LeaseFileRow {
                file: header.file_id(),
                label: header.policy().label,
                name: item.name.clone(),
                rights: Rights::NONE,
                header: Some(item.header.clone()),
            });
        }
    }
    Ok(files)
}

/// Refuses leases of a label that does not allow them.
fn by_label(directory: &Directory, label: LabelId, field: &str) -> Result<(), ServiceError> {
    let row = directory.tables.labels.get(&label);
    let row = row.ok_or_else(|| ServiceError::invalid(field, "no such label"))?;
    if row.lease_by_label {
        return Ok(());
    }
    Err(ServiceError::RightRefused {
        field: field.to_owned(),
        detail: format!(
            "the label {} does not allow leases of all its files: ask for files or folders",
            row.label.name
        ),
    })
}

/// What [`check`] has made fit to be stored.
struct LeaseBodyInput {
    term: Term,
    reason: String,
}

/// A lease as it is asked for.
fn asked(
    id: tobari_core::ids::LeaseId,
    person: tobari_core::ids::PersonId,
    terminal: tobari_core::ids::TerminalId,
    (by, second_factor): (tobari_core::ids::PersonId, bool),
    (input, files): (LeaseBodyInput, Vec<LeaseFileRow>),
    request: &LeaseRequest,
    now: Timestamp,
) -> LeaseRow {
    LeaseRow {
        id,
        state: tobari_core::proto::lease::LeaseState::Requested,
        person,
        terminal,
        body: LeaseBody {
            term: input.term,
            opens: request.opens,
            rights: request.rights,
            reason: input.reason,
            second_factor: by == person && second_factor,
            requested_by: by,
            requested_at: now,
            decided_by: None,
            decided_at: None,
            ended_at: None,
            label: request.label,
            refilled: None,
        },
        file_count: u32::try_from(files.len()).unwrap_or(u32::MAX),
        files,
        document: None,
        fetched_at: None,
        opened: 0,
    }
}

impl Service {
    /// Somebody who may see what was taken along and what was done with it.
    async fn may_read_ledger(&self, call: &Call) -> Result<Caller, ServiceError> {
        let caller = self.caller(call).await?;
        if caller.roles().contains(&Role::Auditor) {
            return Ok(caller);
        }
        self.administrator(call, LEASES).await
    }
}

//! Taking up a store that is older than what witnesses saw of its audit log. What was recorded after it is lost here; an
//! export of the log tells which keys had been retired since, and they are retired again in the same transaction.

use super::directory;
use super::error::ServiceError;
use super::identity::{self, Identity};
use super::retirement::{self, Retirement};
use crate::audit::{Act, AuditLog, LogIdentity, Record, Who};
use crate::store::{AuditHead, Basis, Change, Store, Tables};
use jiff::Timestamp;
use std::io::BufRead;
use std::sync::Arc;
use tobari_core::audit::{ExportHead, Verifier};
use tobari_core::crypto::RootKey;
use tobari_core::ids::LabelId;

/// Longest reason, in bytes.
const MAX_REASON: usize = 500;

/// A key of a label, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The label's name.
    pub label: String,
    /// The generation.
    pub generation: u32,
}

/// What taking up an older store came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenUp {
    /// The epoch that begins.
    pub epoch: u32,
    /// Records of the export that are not here; none without an export.
    pub lost: Option<u64>,
    /// Keys that were retired again, as the export says that they had been.
    pub retired: Vec<NamedKey>,
    /// Keys that the export says were retired, but that are the current ones here: the rotation was lost, too.
    pub still_current: Vec<NamedKey>,
    /// Other keys before the current ones that are here. Any of them may have been retired in what nobody has an export of.
    pub earlier: Vec<NamedKey>,
}

/// Takes up a store that is older than what witnesses saw of its audit log: begins a new epoch of the log, ends every
/// session and enrolment token, which may have been ended before, and lets the bulletin's number leap, so that terminals
/// that hold a later one take this. `export` is an export of the log that goes on after what is here.
///
/// # Errors
/// The root key does not fit, the export is not one of this log, or the store.
pub async fn accept_older(
    store: Arc<dyn Store>,
    root_key: RootKey,
    reason: &str,
    export: Option<&mut (dyn BufRead + Send)>,
    now: Timestamp,
) -> Result<TakenUp, ServiceError> {
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        return Err(ServiceError::invalid("reason", format!("must be 1 to {MAX_REASON} bytes")));
    }
    let loaded = store.load().await?;
    let identity = Identity::open(&loaded.tables, root_key)?;
    let lost = match export {
        None => None,
        Some(export) => Some(read(export, &identity.log, store.as_ref()).await?),
    };
    let epoch = identity.log.epoch + 1;
    let json =
        |value: &u32| serde_json::to_vec(value).map_err(|error| ServiceError::Internal(error.to_string()));
    let mut records =
        vec![Record::new(Act::Restore, now, Who::default()).about("epoch", epoch).detail(reason)];
    let mut changes = vec![
        Change::PutSetting(identity::AUDIT_EPOCH.to_owned(), json(&epoch)?),
        Change::DeleteAllSessions,
        Change::DeleteAllTokens,
    ];
    changes.extend(directory::leap(&loaded.tables, now)?);
    let mut tables = loaded.tables;
    let (mut retired, mut still_current) = (Vec::new(), Vec::new());
    for one in lost.iter().flat_map(|lost| &lost.retirements) {
        let (label, generation) = (one.label, one.generation);
        let Some(key) = tables.label_keys.get(&(label, generation)) else { continue };
        if key.key_id.to_string() != one.key || key.retired_at.is_some() {
            continue;
        }
        if generation == current(&tables, label) {
            still_current.push(named(&tables, label, generation));
            continue;
        }
        let detail = retirement::in_words(
            &named(&tables, label, generation).label,
            generation,
            &key.key_id,
            store.files_under(label, generation).await?,
        );
        records.push(Record::new(Act::Update, now, Who::default()).about("label", label).detail(detail));
        let change = Change::RetireLabelKey(label, generation, now);
        tables.apply(&change);
        changes.push(change);
        retired.push(named(&tables, label, generation));
    }
    AuditLog::start(store, LogIdentity { epoch, ..identity.log.clone() })
        .commit_on(Basis::new(loaded.version, None), changes, &records)
        .await?;
    let earlier = tables
        .label_keys
        .values()
        .filter(|key| key.retired_at.is_none() && key.generation != current(&tables, key.label))
        .map(|key| named(&tables, key.label, key.generation))
        .collect();
    Ok(TakenUp { epoch, lost: lost.map(|lost| lost.records), retired, still_current, earlier })
}

fn current(tables: &Tables, label: LabelId) -> u32 {
    directory::current_key(tables, label).map_or(1, |key| key.generation)
}

fn named(tables: &Tables, label: LabelId, generation: u32) -> NamedKey {
    let name = tables.labels.get(&label).map(|row| row.label.name.clone());
    NamedKey { label: name.unwrap_or_else(|| label.to_string()), generation }
}

/// What the export has that the store has not.
struct Lost {
    records: u64,
    retirements: Vec<Retirement>,
}

/// Checks that an export is of this log and holds its last record, and reads what comes after it.
async fn read(
    export: &mut (dyn BufRead + Send),
    log: &LogIdentity,
    store: &dyn Store,
) -> Result<Lost, ServiceError> {
    let unfit = |detail: String| ServiceError::invalid("export", detail);
    let head = store.audit_head().await?;
    let last = store.audit_page(head.sequence.saturating_sub(1), 1).await?.pop();
    let last = last.ok_or_else(|| ServiceError::Internal(String::from("the audit log is empty")))?;
    let mut verifier = Verifier::new(log.signer.public().clone(), Vec::new());
    let mut goes_on = false;
    let mut next = None;
    let mut retirements = Vec::new();
    for line in export.split(b'\n') {
        let line = line.map_err(|error| unfit(error.to_string()))?;
        verifier.line(&line).map_err(|fault| unfit(fault.to_string()))?;
        let Some(sequence) = next else {
            let head: Result<ExportHead, _> = serde_json::from_slice(&line);
            next = Some(head.map_err(|error| unfit(error.to_string()))?.first);
            continue;
        };
        goes_on |= sequence == head.sequence && line == last.payload;
        if sequence > head.sequence {
            retirements.extend(Retirement::read(&line));
        }
        next = Some(sequence + 1);
    }
    let verified = verifier.finish().map_err(|fault| unfit(fault.to_string()))?;
    if !goes_on || verified.checkpoint.epoch != log.epoch {
        let AuditHead { sequence, .. } = head;
        return Err(unfit(format!("it does not go on from record {sequence}, with which the database ends")));
    }
    let end = verified.first + verified.count - 1;
    Ok(Lost { records: end - head.sequence, retirements })
}

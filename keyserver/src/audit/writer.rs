//! Group commit: one task writes the log, and takes all that waits into one transaction, so that a hundred
//! concurrent requests cost one fsync and none of them is answered before it.

use super::record::{Act, Record};
use crate::store::{Appended, Basis, Change, Store, StoreError};
use std::sync::Arc;
use tobari_core::audit::{Checkpoint, Growth, LogSigner, SignedCheckpoint, make_receipt};
use tobari_core::ids::{FileId, OrganisationId, SessionId};
use tobari_core::proto::api::AuditReceipt;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that may wait for the writer before others wait to be let in.
const QUEUE: usize = 1024;
/// Records in one transaction, roughly: a request is never split.
const TRANSACTION: usize = 8192;

/// Why nothing was recorded, and so nothing may happen.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The change was refused by the store; the log is well.
    #[error(transparent)]
    Refused(StoreError),
    /// What was decided on is no longer so; nothing was written. Decide again.
    #[error("what this builds on was changed meanwhile")]
    Moved,
    /// The log cannot be written.
    #[error("the audit log cannot be written: {0}")]
    Unavailable(String),
}

/// Proof that a record is durable; only the writer makes it. Not `Clone`: one record, one effect.
#[derive(Debug)]
pub struct Audited {
    sequence: u64,
    granted: Option<FileId>,
    lent: Option<FileId>,
}

impl Audited {
    /// Sequence number of the record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The file whose grant the record notes, if it notes one.
    pub fn granted(&self) -> Option<FileId> {
        self.granted
    }

    /// The file whose key the record notes as put into a lease, if it notes one.
    pub fn lent(&self) -> Option<FileId> {
        self.lent
    }
}

/// Whose log it is, and what signs it.
#[derive(Debug, Clone)]
pub struct LogIdentity {
    /// The organisation.
    pub organisation: OrganisationId,
    /// The epoch.
    pub epoch: u32,
    /// The key.
    pub signer: LogSigner,
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub struct AuditLog {
    queue: mpsc::Sender<Entry>,
    latest: watch::Receiver<Option<Arc<SignedCheckpoint>>>,
}

/// What became of an entry.
#[derive(Debug)]
struct Recorded {
    /// Number of its last record.
    last: u64,
    growth: Arc<Growth>,
    /// None where nothing was appended.
    checkpoint: Option<Arc<SignedCheckpoint>>,
}

#[derive(Debug)]
struct Entry {
    basis: Basis,
    changes: Vec<Change>,
    payloads: Arc<Vec<Vec<u8>>>,
    answer: oneshot::Sender<Result<Recorded, AuditError>>,
}

impl AuditLog {
    /// Starts the writer on the current runtime. It ends when the last handle is dropped.
    pub fn start(store: Arc<dyn Store>, identity: LogIdentity) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        let (told, latest) = watch::channel(None);
        tokio::spawn(write(Writer { store, identity, told }, entries));
        Self { queue, latest }
    }

    /// The newest checkpoint that this server signed, as it comes.
    pub fn checkpoints(&self) -> watch::Receiver<Option<Arc<SignedCheckpoint>>> {
        self.latest.clone()
    }

    /// Makes `changes` and records `records`, all or nothing, durably. One proof for each record, in order.
    ///
    /// # Errors
    /// [`AuditError`]; then nothing happened, or, if the disk failed during the commit, nothing may be
    /// taken to have happened.
    pub async fn commit(&self, changes: Vec<Change>, records: &[Record]) -> Result<Vec<Audited>, AuditError> {
        self.commit_on(Basis::ANY, changes, records).await
    }

    /// As [`AuditLog::commit`], if what was decided on is still so.
    ///
    /// # Errors
    /// [`AuditError`]; [`AuditError::Moved`] when another server has changed it.
    pub async fn commit_on(
        &self,
        basis: Basis,
        changes: Vec<Change>,
        records: &[Record],
    ) -> Result<Vec<Audited>, AuditError> {
        let (audited, _) = self.record(basis, changes, records).await?;
        Ok(audited)
    }

    /// As [`AuditLog::commit_on`], with the receipt for the records; none where there are none.
    ///
    /// # Errors
    /// As [`AuditLog::commit_on`].
    pub async fn commit_with_receipt(
        &self,
        basis: Basis,
        changes: Vec<Change>,
        records: &[Record],
    ) -> Result<(Vec<Audited>, Option<AuditReceipt>), AuditError> {
        let (audited, (recorded, payloads)) = self.record(basis, changes, records).await?;
        if payloads.is_empty() {
            return Ok((audited, None));
        }
        let texts: Option<Vec<String>> =
            payloads.iter().map(|payload| String::from_utf8(payload.clone()).ok()).collect();
        let first = recorded.last + 1 - payloads.len() as u64;
        let receipt = texts
            .zip(recorded.checkpoint)
            .and_then(|(texts, checkpoint)| make_receipt(&recorded.growth, &checkpoint, first, texts))
            .ok_or_else(|| AuditError::Unavailable(String::from("what was recorded cannot be proved")))?;
        Ok((audited, Some(receipt)))
    }

    async fn record(
        &self,
        basis: Basis,
        changes: Vec<Change>,
        records: &[Record],
    ) -> Result<(Vec<Audited>, (Recorded, Arc<Vec<Vec<u8>>>)), AuditError> {
        let ended = || AuditError::Unavailable(String::from("the writer has ended"));
        let mut payloads = Vec::with_capacity(records.len());
        for record in records {
            payloads.push(record.payload().map_err(|error| AuditError::Unavailable(error.to_string()))?);
        }
        let count = payloads.len() as u64;
        let payloads = Arc::new(payloads);
        let (answer, answered) = oneshot::channel();
        let entry = Entry { basis, changes, payloads: Arc::clone(&payloads), answer };
        self.queue.send(entry).await.map_err(|_| ended())?;
        let recorded = answered.await.map_err(|_| ended())??;
        let released = |record: &Record, act| (record.act == act).then_some(record.file).flatten();
        let audited = (recorded.last + 1 - count..)
            .zip(records)
            .map(|(sequence, record)| Audited {
                sequence,
                granted: released(record, Act::Grant),
                lent: released(record, Act::LeaseKey),
            })
            .collect();
        Ok((audited, (recorded, payloads)))
    }
}

struct Writer {
    store: Arc<dyn Store>,
    identity: LogIdentity,
    told: watch::Sender<Option<Arc<SignedCheckpoint>>>,
}

impl Writer {
    /// Signs the log as a commit left it.
    fn sign(&self, appended: Appended) -> Recorded {
        let LogIdentity { organisation, epoch, signer } = &self.identity;
        let growth = appended.growth;
        let grew = growth.after().size() > growth.before().size();
        let checkpoint = grew.then(|| {
            let checkpoint = Arc::new(Checkpoint::of(*organisation, *epoch, growth.after()).sign(signer));
            self.told.send_replace(Some(Arc::clone(&checkpoint)));
            checkpoint
        });
        Recorded { last: appended.head.sequence, growth: Arc::new(growth), checkpoint }
    }
}

async fn write(writer: Writer, mut entries: mpsc::Receiver<Entry>) {
    let mut waiting = Vec::new();
    while entries.recv_many(&mut waiting, QUEUE).await > 0 {
        let mut batch = Vec::new();
        let mut records = 0;
        for entry in waiting.drain(..) {
            // A change may be refused, which must not take other requests' records with it.
            if !entry.changes.is_empty() {
                commit_batch(&writer, std::mem::take(&mut batch)).await;
                records = 0;
                commit_alone(&writer, entry).await;
                continue;
            }
            records += entry.payloads.len();
            batch.push(entry);
            if records >= TRANSACTION {
                commit_batch(&writer, std::mem::take(&mut batch)).await;
                records = 0;
            }
        }
        commit_batch(&writer, batch).await;
    }
}

async fn commit_alone(writer: &Writer, entry: Entry) {
    let result = writer.store.commit(&entry.basis, &entry.changes, &entry.payloads).await;
    if let Err(error) = &result {
        log(error);
    }
    let answer = result.map(|appended| writer.sign(appended)).map_err(|error| match error {
        error @ (StoreError::Taken(_) | StoreError::Stale) => AuditError::Refused(error),
        StoreError::Moved { .. } => AuditError::Moved,
        error @ (StoreError::Damaged { .. }
        | StoreError::AuditBroken(_)
        | StoreError::TooNew { .. }
        | StoreError::Unavailable(_)) => AuditError::Unavailable(error.to_string()),
    });
    // The requester may have gone away; the record stays.
    let _ = entry.answer.send(answer);
}

async fn commit_batch(writer: &Writer, mut batch: Vec<Entry>) {
    // Ends: each round that does not commit answers at least one entry.
    while !batch.is_empty() {
        let basis = common_basis(&batch);
        let payloads: Vec<Vec<u8>> = batch.iter().flat_map(|entry| entry.payloads.iter().cloned()).collect();
        let moved = match writer.store.commit(&basis, &[], &payloads).await {
            Ok(appended) => {
                let Recorded { last: end, growth, checkpoint } = writer.sign(appended);
                let mut last = end - payloads.len() as u64;
                for entry in batch {
                    last += entry.payloads.len() as u64;
                    let (growth, checkpoint) = (Arc::clone(&growth), checkpoint.clone());
                    let _ = entry.answer.send(Ok(Recorded { last, growth, checkpoint }));
                }
                return;
            }
            Err(StoreError::Moved { version, ended }) => move |entry: &Entry| {
                entry.basis.version.is_some_and(|expected| expected != version)
                    || entry.basis.sessions.iter().any(|session| ended.contains(session))
            },
            Err(error) => {
                log(&error);
                for entry in batch {
                    let _ = entry.answer.send(Err(AuditError::Unavailable(error.to_string())));
                }
                return;
            }
        };
        let (late, rest): (Vec<Entry>, Vec<Entry>) = batch.into_iter().partition(moved);
        if late.is_empty() {
            for entry in rest {
                let _ = entry
                    .answer
                    .send(Err(AuditError::Unavailable(String::from("the store contradicts itself"))));
            }
            return;
        }
        for entry in late {
            let _ = entry.answer.send(Err(AuditError::Moved));
        }
        batch = rest;
    }
}

/// What all of a batch builds on. Where the versions differ the highest is asked for: versions only grow, so the
/// others are late already.
fn common_basis(batch: &[Entry]) -> Basis {
    let mut sessions: Vec<SessionId> = batch.iter().flat_map(|entry| entry.basis.sessions.clone()).collect();
    sessions.sort_unstable();
    sessions.dedup();
    Basis { version: batch.iter().filter_map(|entry| entry.basis.version).max(), sessions }
}

fn log(error: &StoreError) {
    match error {
        StoreError::Taken(_) | StoreError::Stale | StoreError::Moved { .. } => {
            tracing::debug!(%error, "change refused")
        }
        StoreError::Damaged { .. }
        | StoreError::AuditBroken(_)
        | StoreError::TooNew { .. }
        | StoreError::Unavailable(_) => {
            tracing::error!(error = %crate::Causes(error), "the audit log cannot be written");
        }
    }
}

//! Group commit: one task writes the log, and takes all that waits into one transaction, so that a hundred
//! concurrent requests cost one fsync and none of them is answered before it.

use super::record::{Act, Record};
use crate::store::{AuditHead, Change, Store, StoreError};
use std::sync::Arc;
use tobari_core::ids::FileId;
use tokio::sync::{mpsc, oneshot};

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
    /// The log cannot be written.
    #[error("the audit log cannot be written: {0}")]
    Unavailable(String),
}

/// Proof that a record is durable; only the writer makes it. Not `Clone`: one record, one effect.
#[derive(Debug)]
pub struct Audited {
    sequence: u64,
    granted: Option<FileId>,
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
}

/// The way to the writer.
#[derive(Debug, Clone)]
pub struct AuditLog {
    queue: mpsc::Sender<Entry>,
}

#[derive(Debug)]
struct Entry {
    changes: Vec<Change>,
    payloads: Vec<Vec<u8>>,
    answer: oneshot::Sender<Result<u64, AuditError>>,
}

impl AuditLog {
    /// Starts the writer on the current runtime. It ends when the last handle is dropped.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(write(store, entries));
        Self { queue }
    }

    /// Makes `changes` and records `records`, all or nothing, durably. One proof for each record, in order.
    ///
    /// # Errors
    /// [`AuditError`]; then nothing happened, or, if the disk failed during the commit, nothing may be
    /// taken to have happened.
    pub async fn commit(&self, changes: Vec<Change>, records: &[Record]) -> Result<Vec<Audited>, AuditError> {
        let ended = || AuditError::Unavailable(String::from("the writer has ended"));
        let mut payloads = Vec::with_capacity(records.len());
        for record in records {
            payloads.push(record.payload().map_err(|error| AuditError::Unavailable(error.to_string()))?);
        }
        let count = payloads.len() as u64;
        let (answer, answered) = oneshot::channel();
        self.queue.send(Entry { changes, payloads, answer }).await.map_err(|_| ended())?;
        let last = answered.await.map_err(|_| ended())??;
        let granted = |record: &Record| (record.act == Act::Grant).then_some(record.file).flatten();
        Ok((last + 1 - count..)
            .zip(records)
            .map(|(sequence, record)| Audited { sequence, granted: granted(record) })
            .collect())
    }
}

async fn write(store: Arc<dyn Store>, mut entries: mpsc::Receiver<Entry>) {
    let mut waiting = Vec::new();
    while entries.recv_many(&mut waiting, QUEUE).await > 0 {
        let mut batch = Vec::new();
        let mut records = 0;
        for entry in waiting.drain(..) {
            // A change may be refused, which must not take other requests' records with it.
            if !entry.changes.is_empty() {
                commit_batch(store.as_ref(), std::mem::take(&mut batch)).await;
                records = 0;
                commit_alone(store.as_ref(), entry).await;
                continue;
            }
            records += entry.payloads.len();
            batch.push(entry);
            if records >= TRANSACTION {
                commit_batch(store.as_ref(), std::mem::take(&mut batch)).await;
                records = 0;
            }
        }
        commit_batch(store.as_ref(), batch).await;
    }
}

async fn commit_alone(store: &dyn Store, entry: Entry) {
    let result = store.commit(&entry.changes, &entry.payloads).await;
    if let Err(error) = &result {
        log(error);
    }
    let answer = result.map(|head| head.sequence).map_err(|error| match error {
        error @ (StoreError::Taken(_) | StoreError::Stale) => AuditError::Refused(error),
        error @ (StoreError::Damaged { .. }
        | StoreError::AuditBroken(_)
        | StoreError::TooNew { .. }
        | StoreError::Unavailable(_)) => AuditError::Unavailable(error.to_string()),
    });
    // The requester may have gone away; the record stays.
    let _ = entry.answer.send(answer);
}

async fn commit_batch(store: &dyn Store, batch: Vec<Entry>) {
    if batch.is_empty() {
        return;
    }
    let mut payloads = Vec::new();
    let mut answers = Vec::with_capacity(batch.len());
    for mut entry in batch {
        answers.push((entry.payloads.len() as u64, entry.answer));
        payloads.append(&mut entry.payloads);
    }
    match store.commit(&[], &payloads).await {
        Ok(AuditHead { sequence, .. }) => {
            let mut last = sequence - payloads.len() as u64;
            for (count, answer) in answers {
                last += count;
                let _ = answer.send(Ok(last));
            }
        }
        Err(error) => {
            log(&error);
            for (_, answer) in answers {
                let _ = answer.send(Err(AuditError::Unavailable(error.to_string())));
            }
        }
    }
}

fn log(error: &StoreError) {
    match error {
        StoreError::Taken(_) | StoreError::Stale => tracing::debug!(%error, "change refused"),
        StoreError::Damaged { .. }
        | StoreError::AuditBroken(_)
        | StoreError::TooNew { .. }
        | StoreError::Unavailable(_) => {
            tracing::error!(error = %crate::Causes(error), "the audit log cannot be written");
        }
    }
}

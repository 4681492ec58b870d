//! The hash chain: `hash = SHA-256(hash before ‖ payload)`, from 32 zero bytes. `docs/spec/api.md`, "Audit log".

use super::proof::frontier_at;
use crate::store::{AuditHead, AuditRow, Digest, Store, StoreError};
use tobari_core::audit::{Frontier, leaf_hash};
use tobari_core::crypto::{constant_time_equal, sha256};

/// Records read at once while the chain is checked.
const PAGE: u32 = 4096;

/// The hash of a record whose predecessor has the hash `previous`.
pub fn link(previous: &Digest, payload: &[u8]) -> Digest {
    sha256(&[previous, payload])
}

/// Why a chain does not verify.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A sequence number is missing or out of order.
    #[error("record {expected} is missing (found {found})")]
    Gap {
        /// The number that should come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A record was changed, or one before it was.
    #[error("record {sequence} does not continue the chain")]
    Broken {
        /// The record.
        sequence: u64,
    },
    /// The records chain, but the tree over them is of others.
    #[error("the tree over the first {0} records is not the one that was signed")]
    Tree(u64),
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks that `rows` continue the chain after `head`, and gives the new head.
///
/// # Errors
/// The first record that does not fit.
pub fn follow(mut head: AuditHead, rows: &[AuditRow]) -> Result<AuditHead, ChainError> {
    for row in rows {
        let expected = head.sequence + 1;
        if row.sequence != expected {
            return Err(ChainError::Gap { expected, found: row.sequence });
        }
        let hash = link(&head.hash, &row.payload);
        if !constant_time_equal(&hash, &row.hash) {
            return Err(ChainError::Broken { sequence: row.sequence });
        }
        head = AuditHead { sequence: row.sequence, hash };
    }
    Ok(head)
}

/// Checks the whole log from its first record.
///
/// # Errors
/// The first record that does not fit, or the store's error.
pub async fn verify(store: &dyn Store) -> Result<AuditHead, ChainError> {
    let mut tree = Frontier::default();
    let mut head = AuditHead::START;
    loop {
        let rows = store.audit_page(head.sequence, PAGE).await?;
        if rows.is_empty() {
            break;
        }
        head = follow(head, &rows)?;
        rows.iter().for_each(|row| tree.push(leaf_hash(&row.payload)));
    }
    // By the stored nodes, which proofs are made of; and none may be missing at the end.
    let stored = store.audit_frontier().await?.size();
    not_cut(store, stored).await?;
    let by_nodes = frontier_at(store, head.sequence).await;
    if stored < head.sequence || !by_nodes.is_ok_and(|by_nodes| by_nodes == tree) {
        return Err(ChainError::Tree(head.sequence));
    }
    Ok(head)
}

/// Checks the last `count` records, trusting the hash before them.
///
/// # Errors
/// As [`verify`].
pub async fn verify_tail(store: &dyn Store, count: u64) -> Result<AuditHead, ChainError> {
    let last = store.audit_head().await?.sequence;
    let first = last.saturating_sub(count);
    if first == 0 {
        return verify(store).await;
    }
    let before = store.audit_page(first - 1, 1).await?;
    let Some(row) = before.first().filter(|row| row.sequence == first) else {
        return Err(ChainError::Gap { expected: first, found: before.first().map_or(0, |row| row.sequence) });
    };
    let tree = store.audit_frontier().await?;
    not_cut(store, tree.size()).await?;
    if tree.size() < last || frontier_at(store, tree.size()).await.ok().as_ref() != Some(&tree) {
        return Err(ChainError::Tree(tree.size()));
    }
    verify_from(store, AuditHead { sequence: row.sequence, hash: row.hash }).await
}

/// The log has the records that its tree has. Both grow in one transaction, and the end of the log is read after the tree.
async fn not_cut(store: &dyn Store, tree: u64) -> Result<(), ChainError> {
    let last = store.audit_head().await?.sequence;
    if last < tree { Err(ChainError::Gap { expected: last + 1, found: tree }) } else { Ok(()) }
}

async fn verify_from(store: &dyn Store, mut head: AuditHead) -> Result<AuditHead, ChainError> {
    loop {
        let rows = store.audit_page(head.sequence, PAGE).await?;
        if rows.is_empty() {
            return Ok(head);
        }
        head = follow(head, &rows)?;
    }
}

//! Proofs of the log from what is stored: the nodes over 256, 65,536 … records, and the records where nothing coarser
//! is stored. Any hash costs a few reads of at most 256 rows each.

use crate::store::{Store, StoreError};
use std::ops::Range;
use tobari_core::audit::{Frontier, Hash, STORED_LEVELS, consistency_parts, inclusion_parts, leaf_hash};

/// The hash of the tree over the first `size` records.
///
/// # Errors
/// The store, or records that are missing.
pub async fn frontier_at(store: &dyn Store, size: u64) -> Result<Frontier, StoreError> {
    frontier(store, 0..size).await
}

/// Proves that the first `size` records have the records of `range` (from 0) where they are.
///
/// # Errors
/// As [`frontier_at`].
pub async fn inclusion(store: &dyn Store, range: Range<u64>, size: u64) -> Result<Vec<Hash>, StoreError> {
    hashes(store, inclusion_parts(range, size)).await
}

/// Proves that the first `new` records begin with the first `old` of them.
///
/// # Errors
/// As [`frontier_at`].
pub async fn consistency(store: &dyn Store, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
    if old == 0 || old == new { Ok(Vec::new()) } else { hashes(store, consistency_parts(old, new)).await }
}

async fn hashes(store: &dyn Store, parts: Vec<Range<u64>>) -> Result<Vec<Hash>, StoreError> {
    let mut hashes = Vec::with_capacity(parts.len());
    for part in parts {
        hashes.push(frontier(store, part).await?.root());
    }
    Ok(hashes)
}

/// The tree over a part that is a subtree, or begins as one: its records counted from its own start.
async fn frontier(store: &dyn Store, part: Range<u64>) -> Result<Frontier, StoreError> {
    let size = part.end - part.start;
    let mut roots = Vec::new();
    let mut start = part.start;
    for level in (0..u64::BITS).rev().filter(|level| (size >> level) & 1 == 1) {
        roots.push(node(store, level, start).await?);
        start += 1 << level;
    }
    Frontier::from_parts(size, roots).ok_or_else(|| missing(part.end))
}

/// The hash over the `2^level` records after the first `start`.
async fn node(store: &dyn Store, level: u32, start: u64) -> Result<Hash, StoreError> {
    let below = STORED_LEVELS.into_iter().rev().find(|stored| *stored <= level).unwrap_or(0);
    let count = 1_u32.checked_shl(level - below).ok_or_else(|| missing(start))?;
    let nodes = if below == 0 {
        let rows = store.audit_page(start, count).await?;
        let numbers = start + 1..;
        if rows.iter().zip(numbers).any(|(row, number)| row.sequence != number) {
            return Err(missing(start));
        }
        rows.iter().map(|row| leaf_hash(&row.payload)).collect()
    } else {
        store.audit_nodes(below, start >> below, count).await?
    };
    if nodes.len() != count as usize {
        return Err(missing(start));
    }
    let mut tree = Frontier::default();
    nodes.into_iter().for_each(|hash| tree.push(hash));
    Ok(tree.root())
}

fn missing(after: u64) -> StoreError {
    StoreError::AuditBroken(format!("records or nodes of the tree after record {after} are missing"))
}

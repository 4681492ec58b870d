//! The tree of RFC 6962, section 2.1: `leaf = SHA-256(0 ‖ record)`, `node = SHA-256(1 ‖ left ‖ right)`, the left half the
//! largest power of two that is smaller than the whole. [`Frontier`] is all that appending needs; [`Growth`] is one
//! append, from which the records that it added can be proved without reading anything.

use crate::crypto::sha256;
use std::ops::Range;

/// The hash of a leaf or a subtree.
pub type Hash = [u8; 32];

/// Nodes of these levels (a node of level `n` stands over `2^n` records) are worth storing: any proof is then made from
/// at most 255 records and 255 nodes of each of them, for one part in 256 of the space.
pub const STORED_LEVELS: [u32; 4] = [8, 16, 24, 32];

/// The hash of a record.
pub fn leaf_hash(record: &[u8]) -> Hash {
    sha256(&[&[0], record])
}

/// The hash of two halves.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// The largest power of two that is smaller than `size`, which is at least 2.
pub(super) fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The roots of the whole subtrees of which a tree consists, the largest first: one for each bit of its size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// As it was stored; none if that is not the frontier of a tree of this size.
    pub fn from_parts(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// Number of records.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots, to be stored.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Adds a record.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The hash of the whole tree.
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        match roots.next() {
            None => sha256(&[]),
            Some(last) => roots.fold(*last, |right, left| node_hash(left, &right)),
        }
    }

    /// The root of the whole subtree of `2^level` records that ends where the whole subtrees of that level end.
    fn node(&self, level: u32, position: u64) -> Option<Hash> {
        let whole = self.size.checked_shr(level).unwrap_or(0);
        if whole & 1 == 0 || position + 1 != whole {
            return None;
        }
        self.roots.get((whole >> 1).count_ones() as usize).copied()
    }
}

/// The nodes of one level that became whole, from `first` on.
#[derive(Debug)]
struct Level {
    first: u64,
    hashes: Vec<Hash>,
}

/// One append.
#[derive(Debug)]
pub struct Growth {
    before: Frontier,
    levels: Vec<Level>,
    after: Frontier,
}

impl Growth {
    /// Appends records with these leaf hashes.
    pub fn new(before: Frontier, leaves: Vec<Hash>) -> Self {
        let size = before.size + leaves.len() as u64;
        let mut growth = Self {
            levels: vec![Level { first: before.size, hashes: leaves }],
            after: Frontier { size, roots: Vec::new() },
            before,
        };
        for level in 1..u64::BITS {
            let (first, end) = (growth.before.size >> level, size >> level);
            if first == end {
                break;
            }
            let hashes = (first..end).filter_map(|position| growth.join(level, position)).collect();
            growth.levels.push(Level { first, hashes });
        }
        growth.after.roots = (0..u64::BITS)
            .rev()
            .filter(|level| (size >> level) & 1 == 1)
            .filter_map(|level| growth.node(level, (size >> level) - 1))
            .collect();
        growth
    }

    /// The tree before.
    pub fn before(&self) -> &Frontier {
        &self.before
    }

    /// The tree after.
    pub fn after(&self) -> &Frontier {
        &self.after
    }

    /// The new nodes that are worth storing: level, position, hash.
    pub fn stored(&self) -> impl Iterator<Item = (u32, u64, Hash)> + '_ {
        STORED_LEVELS.into_iter().flat_map(move |level| {
            let nodes = self.levels.get(level as usize);
            nodes
                .into_iter()
                .flat_map(move |nodes| (nodes.first..).zip(&nodes.hashes))
                .map(move |(position, hash)| (level, position, *hash))
        })
    }

    /// Proves that the records of `range`, of those that were appended, are in the tree after; none for others.
    pub fn prove(&self, range: Range<u64>) -> Option<Vec<Hash>> {
        if range.is_empty() || range.start < self.before.size || range.end > self.after.size {
            return None;
        }
        super::inclusion_parts(range, self.after.size).into_iter().map(|part| self.over(part)).collect()
    }

    /// The hash over the records of a subtree.
    fn over(&self, part: Range<u64>) -> Option<Hash> {
        let count = part.end - part.start;
        if count.is_power_of_two() {
            let level = count.trailing_zeros();
            return self.node(level, part.start >> level);
        }
        let middle = part.start + split(count);
        Some(node_hash(&self.over(part.start..middle)?, &self.over(middle..part.end)?))
    }

    fn node(&self, level: u32, position: u64) -> Option<Hash> {
        let new = self.levels.get(level as usize).and_then(|nodes| {
            let index = usize::try_from(position.checked_sub(nodes.first)?).ok()?;
            nodes.hashes.get(index).copied()
        });
        new.or_else(|| self.before.node(level, position))
    }

    fn join(&self, level: u32, position: u64) -> Option<Hash> {
        let below = level - 1;
        Some(node_hash(&self.node(below, 2 * position)?, &self.node(below, 2 * position + 1)?))
    }
}

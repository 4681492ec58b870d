//! Proofs: which subtrees one consists of ([`inclusion_parts`], [`consistency_parts`]: whoever has the log hashes them),
//! and the check of one ([`root_of`], [`is_consistent`]: whoever has it). The order is that of RFC 6962, sections 2.1.1 and
//! 2.1.2; an inclusion proof here may be of several records in a row, and is then the nodes that are not above them
//! alone, in the same order.

use super::tree::{Hash, node_hash, split};
use crate::crypto::{constant_time_equal, sha256};
use std::ops::Range;

/// The subtrees that together with the records of `range` make up the first `size` records; `range` is not empty and lies
/// within.
pub fn inclusion_parts(range: Range<u64>, size: u64) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    inclusion(&range, 0..size, &mut parts);
    parts
}

fn inclusion(range: &Range<u64>, within: Range<u64>, parts: &mut Vec<Range<u64>>) {
    if range.start <= within.start && within.end <= range.end {
        return;
    }
    let middle = within.start + split(within.end - within.start);
    let (left, right) = (within.start..middle, middle..within.end);
    if range.end <= middle {
        inclusion(range, left, parts);
        parts.push(right);
    } else if range.start >= middle {
        inclusion(range, right, parts);
        parts.push(left);
    } else {
        inclusion(range, left, parts);
        inclusion(range, right, parts);
    }
}

/// The root of a tree of `size` records in which the records with these leaf hashes come one after the other from `first`
/// on, by this proof; none where they do not fit together.
pub fn root_of(first: u64, leaves: &[Hash], size: u64, proof: &[Hash]) -> Option<Hash> {
    let end = first.checked_add(leaves.len() as u64)?;
    if leaves.is_empty() {
        return (first == 0 && size == 0 && proof.is_empty()).then(|| sha256(&[]));
    }
    if end > size {
        return None;
    }
    let mut climb = Climb { first, leaves, proof };
    let root = climb.over(0..size)?;
    climb.proof.is_empty().then_some(root)
}

struct Climb<'a> {
    first: u64,
    leaves: &'a [Hash],
    /// What is not used yet; used from its end.
    proof: &'a [Hash],
}

impl Climb<'_> {
    fn next(&mut self) -> Option<Hash> {
        let (last, rest) = self.proof.split_last()?;
        self.proof = rest;
        Some(*last)
    }

    fn over(&mut self, within: Range<u64>) -> Option<Hash> {
        let end = self.first + self.leaves.len() as u64;
        if within.end - within.start == 1 {
            return self.leaves.get(usize::try_from(within.start - self.first).ok()?).copied();
        }
        let middle = within.start + split(within.end - within.start);
        let (left, right) = (within.start..middle, middle..within.end);
        let (left, right) = if end <= middle {
            let right = self.next()?;
            (self.over(left)?, right)
        } else if self.first >= middle {
            let left = self.next()?;
            (left, self.over(right)?)
        } else {
            let right = self.over(right)?;
            (self.over(left)?, right)
        };
        Some(node_hash(&left, &right))
    }
}

/// The subtrees of a proof that the first `old` of `new` records were not changed; `old` is at least 1.
pub fn consistency_parts(old: u64, new: u64) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    consistency(old, 0..new, true, &mut parts);
    parts
}

fn consistency(old: u64, within: Range<u64>, whole: bool, parts: &mut Vec<Range<u64>>) {
    if old == within.end {
        if !whole {
            parts.push(within);
        }
        return;
    }
    let middle = within.start + split(within.end - within.start);
    if old <= middle {
        consistency(old, within.start..middle, whole, parts);
        parts.push(middle..within.end);
    } else {
        consistency(old, middle..within.end, false, parts);
        parts.push(within.start..middle);
    }
}

/// Whether the tree `new` begins with the tree `old`, each given by size and root.
pub fn is_consistent(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    if old.0 > new.0 {
        return false;
    }
    if old.0 == 0 {
        return proof.is_empty();
    }
    let mut grow = Grow { old: old.0, old_root: old.1, proof };
    match grow.over(0..new.0, true) {
        Some((first, second)) => {
            grow.proof.is_empty() && constant_time_equal(&first, old.1) && constant_time_equal(&second, new.1)
        }
        None => false,
    }
}

struct Grow<'a> {
    old: u64,
    old_root: &'a Hash,
    proof: &'a [Hash],
}

impl Grow<'_> {
    fn next(&mut self) -> Option<Hash> {
        let (last, rest) = self.proof.split_last()?;
        self.proof = rest;
        Some(*last)
    }

    /// The hash over what of `within` is in the old tree, and over all of it.
    fn over(&mut self, within: Range<u64>, whole: bool) -> Option<(Hash, Hash)> {
        if self.old == within.end {
            let hash = if whole { *self.old_root } else { self.next()? };
            return Some((hash, hash));
        }
        if within.end - within.start < 2 {
            return None;
        }
        let middle = within.start + split(within.end - within.start);
        if self.old <= middle {
            let right = self.next()?;
            let (old, left) = self.over(within.start..middle, whole)?;
            Some((old, node_hash(&left, &right)))
        } else {
            let left = self.next()?;
            let (old, right) = self.over(middle..within.end, false)?;
            Some((node_hash(&left, &old), node_hash(&left, &right)))
        }
    }
}

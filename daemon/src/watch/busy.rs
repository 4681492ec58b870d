//! The files that workers have in hand.

use crate::seal::{Facts, Stamp};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Device, inode number, and when the inode was made: a file that is made while a group is sealed may well get the number of one
/// of the group's plaintexts, which was just removed, and is not that file.
type Inode = ((u32, u32), u64, Option<Stamp>);

fn inode(facts: &Facts) -> Inode {
    (facts.device, facts.inode, facts.born)
}

/// The inodes that workers have open now.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<HashSet<Inode>>);

impl Busy {
    /// Marks a file; none when another worker has it.
    pub(super) fn mark(&self, facts: &Facts) -> Option<Mark<'_>> {
        let inode = inode(facts);
        let new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(inode);
        // Lazily: a mark that is dropped takes away what it marks.
        new.then(|| Mark { busy: self, inode })
    }

    /// Whether a worker has the file.
    pub(super) fn has(&self, facts: &Facts) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&inode(facts))
    }
}

/// Takes the mark away when dropped.
pub(super) struct Mark<'a> {
    busy: &'a Busy,
    inode: Inode,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.busy.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.inode);
    }
}

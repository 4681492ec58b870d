//! What programs have open.

use super::Answer;
use super::contents::Contents;
use super::directory::Listing;
use super::nodes::Node;
use super::state::Caller;
use super::ticket::Ticket;
use crate::seal::FolderRule;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tobari_core::envelope::FilePolicy;

/// Something that is open.
pub(super) enum Handle {
    Plain(Plain),
    Sealed(Sealed),
    Directory(Mutex<Listing>),
}

/// A file that is not sealed.
pub(super) struct Plain {
    pub(super) node: Arc<Node>,
    pub(super) file: File,
    pub(super) caller: Caller,
    /// Where it lies, and the rule there, if it may be written to.
    pub(super) writes: Option<(PathBuf, FolderRule)>,
}

/// A sealed file.
pub(super) struct Sealed {
    pub(super) node: Arc<Node>,
    pub(super) contents: Arc<Contents>,
    /// On whose behalf, and what shows that they may.
    pub(super) ticket: Ticket,
    /// The file beneath, to read its header again.
    pub(super) file: File,
    pub(super) writes: bool,
    /// As last seen through this handle.
    pub(super) policy: Mutex<FilePolicy>,
}

impl Handle {
    /// Whether it was opened for writing.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Plain(plain) => plain.writes.is_some(),
            Self::Sealed(sealed) => sealed.writes,
            Self::Directory(_) => false,
        }
    }

    /// Whether closing a descriptor of it has anything to do.
    pub(super) fn is_flushed(&self) -> bool {
        matches!(self, Self::Sealed(sealed) if sealed.writes)
    }
}

/// All that is open in a view.
#[derive(Default)]
pub(super) struct Handles {
    all: RwLock<HashMap<u64, Arc<Handle>>>,
    next: AtomicU64,
}

impl Handles {
    /// Adds one; its number.
    pub(super) fn add(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.all.write().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(handle));
        number
    }

    /// The one with this number.
    pub(super) fn find(&self, number: u64) -> Answer<Arc<Handle>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&number).cloned().ok_or(Errno::BADF)
    }

    /// Takes it out.
    pub(super) fn remove(&self, number: u64) -> Option<Arc<Handle>> {
        self.all.write().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(u64, Arc<Handle>)> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(number, handle)| (*number, Arc::clone(handle))).collect()
    }
}

//! Grants ahead of need. Who lists a directory and then opens one of its files after the other is not made to wait for the key
//! server at each: from the second one on, the files that follow in the listing are asked for together.
//!
//! Only after a listing and a second file, since each grant is a released key and stands in the audit log.

use super::nodes::Node;
use super::opening::reopen;
use super::state::View;
use crate::grants::Wanted;
use crate::open::wanted;
use rustix::fs::{FileType, OFlags};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::envelope::Header;

/// Files that are asked for together.
const TOGETHER: usize = 64;
/// Directories whose listing is remembered.
const LISTINGS: usize = 64;

/// What was listed lately.
#[derive(Default)]
pub(super) struct Ahead(Mutex<HashMap<u64, Arc<Listed>>>);

/// A directory that was listed.
pub(super) struct Listed {
    names: Vec<OsString>,
    /// Files of it that had to be asked for since. Held while the key server is asked, so that who comes meanwhile finds
    /// the answer.
    misses: Mutex<u32>,
}

impl Ahead {
    /// A directory was listed.
    pub(super) fn listed(&self, directory: u64, names: Vec<OsString>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= LISTINGS && !all.contains_key(&directory) {
            all.clear();
        }
        all.insert(directory, Arc::new(Listed { names, misses: Mutex::new(0) }));
    }

    /// The listing of a directory, if it was listed lately.
    pub(super) fn find(&self, directory: u64) -> Option<Arc<Listed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&directory).cloned()
    }
}

impl Listed {
    /// To be held while a file of the directory is asked for.
    pub(super) fn queue(&self) -> MutexGuard<'_, u32> {
        self.misses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// The sealed files that follow `name` in the listing.
    pub(super) fn following(&self, directory: &Node, listed: &Listed, name: &OsStr) -> Vec<Wanted> {
        let from = listed.names.iter().position(|listed| listed == name).map_or(usize::MAX, |at| at + 1);
        let organisation = self.service.bulletin().organisation;
        listed
            .names
            .iter()
            .skip(from)
            // Not all may be sealed; looking at many that are not would take its time, too.
            .take(2 * TOGETHER)
            .filter_map(|name| {
                let descriptor = Self::entry(directory, name).ok()?;
                let stat = super::nodes::stat(&descriptor).ok()?;
                if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile
                    || stat.stx_size < 4096
                {
                    return None;
                }
                let file = reopen(&descriptor, OFlags::RDONLY).ok()?;
                let header = Header::read(&file).ok()?;
                let path = self.nodes.path(directory.number, name);
                (header.policy().organisation == organisation)
                    .then(|| wanted(&header, &path.to_string_lossy()))
            })
            .take(TOGETHER - 1)
            .collect()
    }
}

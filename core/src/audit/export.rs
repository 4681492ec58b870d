//! Exports of the log, checked offline: a head line, one line for each record as the bytes that were hashed, an end line
//! with the signed checkpoint and the proof for the rest of the tree. Line by line, so that an export may be larger than
//! memory (32 bytes stay of each record, and none where it begins with the first).

use super::checkpoint::{Checkpoint, CheckpointError};
use super::note::LogKey;
use super::proof::root_of;
use super::tree::{Frontier, Hash, leaf_hash};
use crate::crypto::constant_time_equal;
use crate::proto::base64::Base64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the head line calls itself.
const FORMAT: &str = "tobari/1 audit export";
/// How a record begins with which a new epoch begins.
const RESTORE: &[u8] = br#"{"act":"restore","#;
/// What stands before a checkpoint in a line of a system log.
const SYSLOG_MARK: &str = "tobari-checkpoint ";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportHead {
    /// Sequence number of the first record.
    pub first: u64,
    format: String,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportEnd {
    /// The signed checkpoint.
    pub checkpoint: String,
    /// Number of records between head and end.
    pub count: u64,
    /// The hashes of the rest of the tree.
    pub proof: Vec<Base64>,
}

impl ExportHead {
    /// Of an export that begins with this record.
    pub fn new(first: u64) -> Self {
        Self { first, format: FORMAT.to_owned() }
    }
}

/// What is wrong with an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportFault {
    /// A line is not what belongs there.
    #[error("line {0} does not belong there")]
    Line(u64),
    /// There is no end line.
    #[error("the export is cut: its end is missing")]
    NoEnd,
    /// Another number of records than the end says.
    #[error("the export has {found} records, its end says {said}")]
    Count {
        /// Found.
        found: u64,
        /// Said.
        said: u64,
    },
    /// The checkpoint.
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The records do not make up the tree that was signed.
    #[error(
        "the records {first} to {last} are not those that were signed: one was altered, dropped, added or moved"
    )]
    Altered {
        /// First that may be wrong.
        first: u64,
        /// Last that may be wrong.
        last: u64,
    },
    /// A witness saw more records than the log has.
    #[error("the log ends at record {size}, but a witness saw record {witnessed}: its end was cut off")]
    Cut {
        /// Records in the checkpoint.
        size: u64,
        /// Records that a witness saw.
        witnessed: u64,
    },
    /// A witness saw another log.
    #[error("a witness saw other records among the first {0}: the log was rewritten")]
    Rewritten(u64),
}

/// What is wrong with a file of witnessed checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("checkpoint {number} of the witness: {error}")]
pub struct WitnessFault {
    /// Which, from 1.
    number: usize,
    error: CheckpointError,
}

/// A new epoch that is recorded in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Number of the record.
    pub sequence: u64,
    /// Records after it that witnesses saw before, and that were given up.
    pub given_up_to: Option<u64>,
}

/// An export that holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// First record.
    pub first: u64,
    /// Number of records.
    pub count: u64,
    /// The log that was signed.
    pub checkpoint: Checkpoint,
    /// Number of witnessed checkpoints that were compared.
    pub witnessed: usize,
    /// Epochs that began within.
    pub restored: Vec<Restored>,
}

/// Reads the checkpoints of a witness: signed notes one after the other, or lines of a system log with such notes.
/// What is cut at the end of the file is left out: it was being written.
///
/// # Errors
/// One is not signed by the log.
pub fn read_witnesses(text: &str, key: &LogKey) -> Result<Vec<Checkpoint>, WitnessFault> {
    let mut found = Vec::new();
    let mut note = String::new();
    let mut signed = false;
    let mut take = |note: &str| {
        let number = found.len() + 1;
        found.push(Checkpoint::open(note, key).map_err(|error| WitnessFault { number, error })?);
        Ok(())
    };
    for line in text.split_inclusive('\n') {
        if let Some((_, quoted)) = line.split_once(SYSLOG_MARK) {
            if let Ok(logged) = serde_json::from_str::<String>(quoted.trim_end()) {
                take(&logged)?;
            }
            continue;
        }
        if signed && !line.starts_with('\u{2014}') {
            take(&std::mem::take(&mut note))?;
            signed = false;
        }
        if note.is_empty() && line.trim().is_empty() {
            continue;
        }
        signed |= line.starts_with('\u{2014}') && line.ends_with('\n');
        note.push_str(line);
    }
    if signed && note.ends_with('\n') {
        take(&note)?;
    }
    Ok(found)
}

/// Checks an export line by line.
#[derive(Debug)]
pub struct Verifier {
    key: LogKey,
    /// Witnessed checkpoints by size, of the last epoch that has one of that size.
    witnesses: BTreeMap<u64, Vec<Checkpoint>>,
    lines: u64,
    first: Option<u64>,
    count: u64,
    /// Where the export begins with the first record.
    tree: Frontier,
    /// Where it does not.
    leaves: Vec<Hash>,
    /// Roots at the sizes that were witnessed.
    roots: BTreeMap<u64, Hash>,
    restored: Vec<u64>,
    end: Option<ExportEnd>,
}

impl Verifier {
    /// Checks under a pinned key, and against what witnesses saw.
    pub fn new(key: LogKey, witnesses: Vec<Checkpoint>) -> Self {
        let mut by_size: BTreeMap<u64, Vec<Checkpoint>> = BTreeMap::new();
        for checkpoint in witnesses {
            by_size.entry(checkpoint.size).or_default().push(checkpoint);
        }
        Self {
            key,
            witnesses: by_size,
            lines: 0,
            first: None,
            count: 0,
            tree: Frontier::default(),
            leaves: Vec::new(),
            roots: BTreeMap::new(),
            restored: Vec::new(),
            end: None,
        }
    }

    /// The next line, without its line feed.
    ///
    /// # Errors
    /// It does not belong there.
    pub fn line(&mut self, line: &[u8]) -> Result<(), ExportFault> {
        self.lines += 1;
        let fault = ExportFault::Line(self.lines);
        if self.end.is_some() {
            return Err(fault);
        }
        let Some(first) = self.first else {
            let head: ExportHead = serde_json::from_slice(line).map_err(|_| fault.clone())?;
            if head.format != FORMAT || head.first == 0 {
                return Err(fault);
            }
            self.first = Some(head.first);
            return Ok(());
        };
        if line.starts_with(br#"{"checkpoint":"#) {
            self.end = Some(serde_json::from_slice(line).map_err(|_| fault)?);
            return Ok(());
        }
        if !line.starts_with(br#"{"act":"#) {
            return Err(fault);
        }
        self.count += 1;
        if line.starts_with(RESTORE) {
            self.restored.push(first + self.count - 1);
        }
        if first > 1 {
            self.leaves.push(leaf_hash(line));
            return Ok(());
        }
        self.tree.push(leaf_hash(line));
        if self.witnesses.contains_key(&self.tree.size()) {
            self.roots.insert(self.tree.size(), self.tree.root());
        }
        Ok(())
    }

    /// The end of the export.
    ///
    /// # Errors
    /// What does not fit.
    pub fn finish(self) -> Result<Verified, ExportFault> {
        let (Some(first), Some(end)) = (self.first, &self.end) else { return Err(ExportFault::NoEnd) };
        if end.count != self.count {
            return Err(ExportFault::Count { found: self.count, said: end.count });
        }
        let checkpoint = Checkpoint::open(&end.checkpoint, &self.key)?;
        let proof: Option<Vec<Hash>> = end.proof.iter().map(|hash| hash.as_ref().try_into().ok()).collect();
        let root = match proof {
            None => None,
            Some(proof) if first > 1 => root_of(first - 1, &self.leaves, checkpoint.size, &proof),
            // Records in the rest of the tree would have to be shown by a proof; the first ones are a tree themselves.
            Some(proof) if proof.is_empty() => {
                (self.tree.size() == checkpoint.size).then(|| self.tree.root())
            }
            Some(_) => None,
        };
        if !root.is_some_and(|root| constant_time_equal(&root, &checkpoint.root)) {
            return Err(self.altered(first));
        }
        self.compare(first, checkpoint)
    }

    /// Between which records the fault lies, as far as witnesses tell.
    fn altered(&self, first: u64) -> ExportFault {
        let fits = |size: &u64| {
            self.witnesses.get(size).is_some_and(|seen| {
                seen.iter().any(|seen| self.roots.get(size).is_some_and(|root| *root == seen.root))
            })
        };
        let good = self.roots.keys().rev().copied().find(fits).unwrap_or(first - 1);
        let bad = self.roots.keys().copied().find(|size| *size > good && !fits(size));
        let last = (first + self.count).saturating_sub(1).max(good + 1);
        ExportFault::Altered { first: good + 1, last: bad.unwrap_or(last) }
    }

    fn compare(self, first: u64, checkpoint: Checkpoint) -> Result<Verified, ExportFault> {
        let mut restored: Vec<Restored> =
            self.restored.iter().map(|&sequence| Restored { sequence, given_up_to: None }).collect();
        let mut witnessed = 0;
        for seen in self.witnesses.values().flatten() {
            // What an older epoch had from the record on with which a later one began was given up, and says so.
            let later = (checkpoint.epoch.saturating_sub(seen.epoch)) as usize;
            let given_up = restored
                .len()
                .checked_sub(later)
                .and_then(|index| restored.get_mut(index))
                .filter(|restored| seen.size >= restored.sequence);
            if let Some(restored) = given_up {
                restored.given_up_to = restored.given_up_to.max(Some(seen.size));
                continue;
            }
            if seen.epoch > checkpoint.epoch || seen.size > checkpoint.size {
                return Err(ExportFault::Cut { size: checkpoint.size, witnessed: seen.size });
            }
            if first > 1 && seen.size != checkpoint.size {
                continue;
            }
            let root = if seen.size == checkpoint.size {
                Some(&checkpoint.root)
            } else {
                self.roots.get(&seen.size)
            };
            if seen.size > 0 && root != Some(&seen.root) {
                return Err(ExportFault::Rewritten(seen.size));
            }
            witnessed += 1;
        }
        Ok(Verified { first, count: self.count, checkpoint, witnessed, restored })
    }
}

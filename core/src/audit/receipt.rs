//! Receipts: what a key server shows for the records that it wrote. A terminal uses a released key only when the record
//! of exactly that release is in the log that the server signed.

use super::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use super::note::LogKey;
use super::proof::root_of;
use super::tree::{Growth, Hash, leaf_hash};
use crate::crypto::constant_time_equal;
use crate::ids::{FileId, LeaseId, PersonId, TerminalId};
use crate::policy::{Right, Rights};
use crate::proto::api::AuditReceipt;
use crate::proto::base64::Base64;
use serde::Deserialize;

/// Why a receipt proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    /// There is none.
    #[error("it shows no audit record")]
    Missing,
    /// The checkpoint.
    #[error("the checkpoint of the audit log: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The records are not in the tree of the checkpoint.
    #[error("its audit records are not in the log that was signed")]
    NotIncluded,
    /// A record says something else than what was released.
    #[error("the audit record {0} is of something else")]
    OtherRecord(u64),
}

/// What a record must say of a release.
#[derive(Deserialize)]
struct Said {
    act: String,
    #[serde(default)]
    file: Option<FileId>,
    #[serde(default)]
    person: Option<PersonId>,
    #[serde(default)]
    terminal: Option<TerminalId>,
    #[serde(default)]
    right: Option<Right>,
    #[serde(default)]
    rights: Option<Rights>,
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    detail: Option<String>,
}

/// The release of a file's key to a person on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// The file.
    pub file: FileId,
    /// To whom.
    pub person: PersonId,
    /// Where.
    pub terminal: TerminalId,
    /// On which occasion.
    pub occasion: Occasion,
}

/// On which occasion a key is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// An opening now, for this right.
    Grant(Right),
    /// A lease with these rights.
    Lease(LeaseId, Rights),
}

impl Released {
    /// To whom a lease is given, as the record of each of its keys says: the record's own person and terminal are those of
    /// the administrator who decided.
    pub fn lent_to(person: PersonId, terminal: TerminalId) -> String {
        format!("person {person}, terminal {terminal}")
    }

    fn is_said_by(&self, said: &Said) -> bool {
        if said.file != Some(self.file) {
            return false;
        }
        let Self { person, terminal, .. } = *self;
        match self.occasion {
            Occasion::Grant(right) => {
                said.act == "grant"
                    && said.person == Some(person)
                    && said.terminal == Some(terminal)
                    && said.right == Some(right)
            }
            Occasion::Lease(lease, rights) => {
                // Records of before the terminal was in them name the person alone; the lease is of one terminal.
                let detail = said.detail.as_deref();
                let to = detail == Some(Self::lent_to(person, terminal).as_str())
                    || detail == Some(format!("person {person}").as_str());
                said.act == "lease-key"
                    && said.object.as_deref() == Some(format!("lease/{lease}").as_str())
                    && said.rights == Some(rights)
                    && to
            }
        }
    }
}

/// Records that are proved to be in the log.
#[derive(Debug)]
pub struct CheckedReceipt<'a> {
    receipt: &'a AuditReceipt,
    /// The log in which they are.
    pub checkpoint: Checkpoint,
}

/// Checks that the records of a receipt are in the log that `key` signed.
///
/// # Errors
/// They are not.
pub fn check_receipt<'a>(
    receipt: Option<&'a AuditReceipt>,
    key: &LogKey,
) -> Result<CheckedReceipt<'a>, ReceiptFault> {
    let receipt = receipt.ok_or(ReceiptFault::Missing)?;
    let checkpoint = Checkpoint::open(&receipt.checkpoint, key)?;
    let leaves: Vec<Hash> = receipt.records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
    let proof: Option<Vec<Hash>> = receipt.proof.iter().map(|hash| hash.as_ref().try_into().ok()).collect();
    let first = receipt.first.checked_sub(1).ok_or(ReceiptFault::NotIncluded)?;
    let root = proof.and_then(|proof| root_of(first, &leaves, checkpoint.size, &proof));
    match root {
        Some(root) if !leaves.is_empty() && constant_time_equal(&root, &checkpoint.root) => {
            Ok(CheckedReceipt { receipt, checkpoint })
        }
        _ => Err(ReceiptFault::NotIncluded),
    }
}

impl CheckedReceipt<'_> {
    /// Checks that the record at `index` is of this release, and has this sequence number.
    ///
    /// # Errors
    /// It is of something else.
    pub fn covers(&self, index: usize, sequence: u64, released: &Released) -> Result<(), ReceiptFault> {
        let other = || ReceiptFault::OtherRecord(sequence);
        let record = self.receipt.records.get(index).ok_or_else(other)?;
        let said: Said = serde_json::from_str(record).map_err(|_| other())?;
        let fits =
            self.receipt.first.checked_add(index as u64) == Some(sequence) && released.is_said_by(&said);
        if fits { Ok(()) } else { Err(other()) }
    }
}

/// Makes the receipt of records that an append added, from the sequence number `first` on; none if they are not of it.
pub fn make_receipt(
    growth: &Growth,
    checkpoint: &SignedCheckpoint,
    first: u64,
    records: Vec<String>,
) -> Option<AuditReceipt> {
    let start = first.checked_sub(1)?;
    let proof = growth.prove(start..start.checked_add(records.len() as u64)?)?;
    Some(AuditReceipt {
        checkpoint: checkpoint.note.clone(),
        first,
        records,
        proof: proof.into_iter().map(|hash| Base64(hash.to_vec())).collect(),
    })
}

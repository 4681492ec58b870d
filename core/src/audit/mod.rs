//! What proves the audit log to others: a Merkle tree over its records (RFC 6962 hashing), signed checkpoints of it
//! (C2SP tlog-checkpoint), receipts that a terminal checks before it uses a key, and exports that anybody can check
//! later. `docs/spec/audit.md` is normative.
//!
//! Pure functions over bytes: the key server appends and proves, the daemon and `tobari audit verify` check.

mod checkpoint;
mod export;
mod note;
mod proof;
mod receipt;
#[cfg(test)]
mod tests;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, log_name, origin};
pub use export::{
    ExportEnd, ExportFault, ExportHead, Restored, Verified, Verifier, WitnessFault, read_witnesses,
};
pub use note::{LogKey, LogKeyError, LogSigner, NoteError, Witness, WitnessKey};
pub use proof::{consistency_parts, inclusion_parts, is_consistent, root_of};
pub use receipt::{CheckedReceipt, Occasion, ReceiptFault, Released, check_receipt, make_receipt};
pub use tree::{Frontier, Growth, Hash, STORED_LEVELS, leaf_hash, node_hash};

//! The chain of what was done under leases: `hash(n) = SHA-256(hash(n − 1) ‖ payload(n))`, from 32 zero bytes.

use crate::crypto::{constant_time_equal, sha256};
use crate::proto::lease::OfflineRecord;

/// Format of a record.
pub const VERSION: u32 = 1;

/// The end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the last record; 0 before the first.
    pub sequence: u64,
    /// Its hash; zeros before the first.
    pub hash: [u8; 32],
}

impl Head {
    /// Before the first record.
    pub const START: Self = Self { sequence: 0, hash: [0; 32] };

    /// The head after one more record.
    #[must_use]
    pub fn link(&self, payload: &[u8]) -> Self {
        Self { sequence: self.sequence.saturating_add(1), hash: sha256(&[&self.hash, payload]) }
    }

    /// Whether both are the same, in time that does not depend on the hashes.
    pub fn is(&self, other: &Self) -> bool {
        self.sequence == other.sequence && constant_time_equal(&self.hash, &other.hash)
    }
}

/// Why records do not continue a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// It is not the canonical JSON of a record of this version.
    #[error("record {0} cannot be read")]
    Unreadable(u64),
    /// Another number should come.
    #[error("record {expected} is missing (found {found})")]
    Gap {
        /// The number that should come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

/// Reads the payloads that come after `head`.
///
/// # Errors
/// The first that does not fit.
pub fn follow<'a>(
    mut head: Head,
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<(OfflineRecord, Head)>, Head), ChainFault> {
    let mut records = Vec::new();
    for payload in payloads {
        let expected = head.sequence.saturating_add(1);
        let record = read(payload).ok_or(ChainFault::Unreadable(expected))?;
        if record.sequence != expected {
            return Err(ChainFault::Gap { expected, found: record.sequence });
        }
        head = head.link(payload);
        records.push((record, head));
    }
    Ok((records, head))
}

fn read(payload: &[u8]) -> Option<OfflineRecord> {
    let record: OfflineRecord = serde_json::from_slice(payload).ok()?;
    let canonical = serde_json::to_vec(&record).is_ok_and(|bytes| bytes == payload);
    (canonical && record.version == VERSION).then_some(record)
}

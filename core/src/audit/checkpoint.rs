//! Checkpoints (C2SP tlog-checkpoint): three lines, origin, size and root, signed by the organisation.

use super::note::{LogKey, LogSigner, NoteError};
use super::tree::{Frontier, Hash};
use crate::ids::OrganisationId;
use data_encoding::BASE64;

/// What a log says of itself at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The organisation's log, in one of its epochs.
    pub organisation: OrganisationId,
    /// Counts, from 1, how often a store older than what was witnessed was taken up with an explicit order: a new epoch is
    /// a new log for witnesses, since records of the one before were given up.
    pub epoch: u32,
    /// Number of records.
    pub size: u64,
    /// Hash of the tree over them.
    pub root: Hash,
}

/// A checkpoint with the text that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: String,
}

/// Why something is no checkpoint of the organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not three lines of origin, size and root.
    #[error("not a checkpoint")]
    Malformed,
    /// Of another log.
    #[error("a checkpoint of another log")]
    OtherLog,
}

/// The name under which an organisation's log signs.
pub fn log_name(organisation: OrganisationId) -> String {
    format!("tobari/audit/{organisation}")
}

/// The log's name in an epoch.
pub fn origin(organisation: OrganisationId, epoch: u32) -> String {
    format!("{}/{epoch}", log_name(organisation))
}

impl Checkpoint {
    /// Of a tree.
    pub fn of(organisation: OrganisationId, epoch: u32, tree: &Frontier) -> Self {
        Self { organisation, epoch, size: tree.size(), root: tree.root() }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let origin = origin(self.organisation, self.epoch);
        format!("{origin}\n{}\n{}\n", self.size, BASE64.encode(&self.root))
    }

    /// Signs it.
    pub fn sign(self, signer: &LogSigner) -> SignedCheckpoint {
        SignedCheckpoint { note: signer.sign(&self.text()), checkpoint: self }
    }

    /// Reads a signed note.
    ///
    /// # Errors
    /// It is no checkpoint that this log signed.
    pub fn open(note: &str, key: &LogKey) -> Result<Self, CheckpointError> {
        let text = key.open(note)?;
        Self::parse(text, key.name())
    }

    fn parse(text: &str, log: &str) -> Result<Self, CheckpointError> {
        use CheckpointError::{Malformed, OtherLog};
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(Malformed);
        };
        let epoch = origin.strip_prefix(log).and_then(|rest| rest.strip_prefix('/')).ok_or(OtherLog)?;
        let organisation = log.rsplit('/').next().unwrap_or_default().parse().map_err(|_| OtherLog)?;
        let root = BASE64.decode(root.as_bytes()).map_err(|_| Malformed)?;
        let checkpoint = Self {
            organisation,
            epoch: epoch.parse().map_err(|_| Malformed)?,
            size: size.parse().map_err(|_| Malformed)?,
            root: root.try_into().map_err(|_| Malformed)?,
        };
        // One form for one content: no signs, no leading zeros, no further lines.
        if checkpoint.epoch > 0 && checkpoint.text() == text { Ok(checkpoint) } else { Err(Malformed) }
    }
}

impl SignedCheckpoint {
    /// Reads a signed note and keeps it.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(note: &str, key: &LogKey) -> Result<Self, CheckpointError> {
        Ok(Self { checkpoint: Checkpoint::open(note, key)?, note: note.to_owned() })
    }
}

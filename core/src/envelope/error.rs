//! What can go wrong with an envelope, by who is at fault. A file that is not authentic is [`Refused`], with
//! one message to the outside; the reason is for debug logs and tests.

use crate::crypto::CryptoError;
use std::io;

/// The file was refused. One message whatever the cause, so that a forger learns nothing; `Debug` names the
/// reason, for debug logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an authentic sealed file, or not the key of this one")]
pub struct Refused(pub(super) Reason);

/// Why a file was refused. Holds no byte of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Wrong magic: not an envelope.
    Magic,
    /// A version, flag or reserved field that this version does not know.
    Version,
    /// A length, size or count outside its limits, or one that contradicts another.
    Length,
    /// CBOR that is not the one canonical encoding of an allowed value.
    Encoding,
    /// A critical policy entry that this version does not know.
    Critical,
    /// A stanza with an unknown kind, or fields of the wrong size, or a recipient named twice.
    Stanza,
    /// Bytes that must be zero are not.
    Padding,
    /// The header MAC does not fit the DEK.
    HeaderMac,
    /// The stanza does not open under this secret, file id and policy.
    Wrap,
    /// The stanza that was asked for is not in this header.
    ForeignStanza,
    /// The stored header is not the one that was parsed.
    HeaderChanged,
    /// No state slot is authentic.
    Slots,
    /// An authentic slot with contents that no writer makes.
    SlotContents,
    /// The file's size does not fit its authenticated length.
    Size,
    /// A chunk's tag does not fit.
    Chunk,
    /// The chunks are authentic, but not all of the same state of the file.
    Root,
    /// The cryptographic library failed.
    Library,
}

impl Refused {
    /// Whether the header is another than the one that was parsed: it was replaced meanwhile, and reading it again may help.
    pub fn is_header_changed(&self) -> bool {
        self.0 == Reason::HeaderChanged
    }
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self(reason)
    }
}

/// Opening failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is not authentic.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The envelope could not be read.
    #[error("read the sealed file: {0}")]
    Storage(#[source] io::Error),
    /// The plaintext could not be written to where it should go.
    #[error("write the opened contents: {0}")]
    Sink(#[source] io::Error),
}

impl From<Reason> for OpenError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

/// Sealing failed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No recipient, more than [`MAX_RECIPIENTS`](super::MAX_RECIPIENTS), or one twice.
    #[error("an envelope has 1 to 16 different recipients")]
    Recipients,
    /// The epoch has served all the files that it may; make a new one.
    #[error("the sealing epoch is used up")]
    EpochSpent,
    /// A chunk size outside 4 KiB to 1 MiB.
    #[error("the chunk size is outside 4 KiB to 1 MiB")]
    ChunkSize,
    /// A policy that cannot be written: its name too long, or its time before 1970.
    #[error("the policy does not fit into an envelope")]
    Policy,
    /// Policy and recipients need more room than a header has.
    #[error("policy and recipients do not fit into the header")]
    HeaderFull,
    /// More contents than one content key may seal.
    #[error("the file is too long for one envelope")]
    TooLong,
    /// The plaintext could not be read.
    #[error("read the contents to seal: {0}")]
    Source(#[source] io::Error),
    /// The envelope could not be written.
    #[error("write the sealed file: {0}")]
    Storage(#[source] io::Error),
    /// The cryptographic library failed, or what it made does not open again.
    #[error("seal: {0}")]
    Crypto(#[from] CryptoError),
}

/// The read-back found that an envelope does not hold its source, or could not tell.
#[derive(Debug, thiserror::Error)]
pub enum ReadBackError {
    /// The envelope does not open with the independent decoder.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The envelope opens, but to other contents than the source has.
    #[error("the sealed contents differ from the source at byte {0}")]
    Differs(u64),
    /// The plaintext could not be read again.
    #[error("read the contents again: {0}")]
    Source(#[source] io::Error),
    /// The envelope could not be read.
    #[error("read the sealed file: {0}")]
    Storage(#[source] io::Error),
}

impl From<Reason> for ReadBackError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

/// Changing an envelope in place failed. What was synced before is kept.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file is not authentic.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The envelope could not be read.
    #[error("read the sealed file: {0}")]
    Read(#[source] io::Error),
    /// The envelope could not be written or synced.
    #[error("write the sealed file: {0}")]
    Storage(#[source] io::Error),
    /// The journal could not be read, written or synced.
    #[error("write the journal of the sealed file: {0}")]
    Journal(#[source] io::Error),
    /// An earlier error left the outcome open: open the file again, which recovers it.
    #[error("an earlier write failed; the file has to be opened again")]
    Failed,
    /// The content key has sealed half of what it may in its life; seal the contents anew.
    #[error("the file has been changed too often under one key and has to be sealed anew")]
    ResealNeeded,
    /// A length beyond what one envelope holds.
    #[error("the file is too long for one envelope")]
    TooLong,
    /// The new header could not be made.
    #[error(transparent)]
    Header(#[from] SealError),
    /// The cryptographic library failed.
    #[error("seal: {0}")]
    Crypto(#[from] CryptoError),
}

impl From<Reason> for WriteError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

impl From<OpenError> for WriteError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Refused(refused) => Self::Refused(refused),
            OpenError::Storage(error) | OpenError::Sink(error) => Self::Read(error),
        }
    }
}

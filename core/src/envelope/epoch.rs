//! One encapsulation for each recipient, shared by the files that are sealed within a short time:
//! `docs/spec/envelope.md`, "Shared encapsulation".

use super::error::SealError;
use super::layout::MAX_RECIPIENTS;
use super::stanza::Stanza;
use crate::crypto::{
    CryptoError, Dek, KeyId, RecipientKind, RecipientPublicKey, SharedSecret, WRAPPED_DEK_SIZE, WrapContext,
    sha256,
};
use crate::ids::FileId;
use std::sync::atomic::{AtomicU32, Ordering};

/// Most files that share an encapsulation. The caller also drops an epoch after 60 seconds.
pub const EPOCH_FILES: u32 = 4096;

/// The recipients of the next files, with a secret shared with each. The secrets are wiped on drop. Can be
/// used from several threads.
pub struct Epoch {
    recipients: Vec<Recipient>,
    files: AtomicU32,
}

struct Recipient {
    kind: RecipientKind,
    key_id: KeyId,
    encapsulation: Vec<u8>,
    encapsulation_hash: [u8; 32],
    secret: SharedSecret,
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoch").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Epoch {
    /// An epoch for these recipients: one public-key operation for each.
    ///
    /// # Errors
    /// [`SealError::Recipients`] unless there are 1 to 16 different ones; [`SealError::Crypto`].
    pub fn new(recipients: &[RecipientPublicKey]) -> Result<Self, SealError> {
        let mut key_ids: Vec<KeyId> = recipients.iter().map(RecipientPublicKey::key_id).collect();
        key_ids.sort_unstable();
        if !(1..=MAX_RECIPIENTS).contains(&recipients.len()) || !key_ids.is_sorted_by(|a, b| a < b) {
            return Err(SealError::Recipients);
        }
        let recipients = recipients
            .iter()
            .map(|key| {
                let (encapsulation, secret) = key.encapsulate()?;
                Ok(Recipient {
                    kind: key.kind(),
                    key_id: key.key_id(),
                    encapsulation_hash: sha256(&[&encapsulation]),
                    encapsulation,
                    secret,
                })
            })
            .collect::<Result<_, CryptoError>>()?;
        Ok(Self { recipients, files: AtomicU32::new(0) })
    }

    /// Whether the epoch has served all the files that it may.
    pub fn is_spent(&self) -> bool {
        self.files.load(Ordering::Relaxed) >= EPOCH_FILES
    }

    /// Counts one more file.
    pub(super) fn take(&self) -> Result<(), SealError> {
        self.files
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |files| {
                (files < EPOCH_FILES).then_some(files + 1)
            })
            .map(drop)
            .map_err(|_| SealError::EpochSpent)
    }

    /// The stanzas without a DEK: their encoding has the final size.
    pub(super) fn blank_stanzas(&self) -> Vec<Stanza> {
        self.recipients
            .iter()
            .map(|recipient| Stanza {
                kind: recipient.kind,
                key_id: recipient.key_id,
                encapsulation: recipient.encapsulation.clone(),
                wrapped_dek: [0; WRAPPED_DEK_SIZE],
            })
            .collect()
    }

    /// Wraps `dek` into `stanzas` (of [`Self::blank_stanzas`]) and checks that each of them opens again: a
    /// stanza that does not would lose the file.
    pub(super) fn wrap(
        &self,
        stanzas: &mut [Stanza],
        file: &FileId,
        policy_hash: &[u8; 32],
        dek: &Dek,
    ) -> Result<(), CryptoError> {
        for (recipient, stanza) in self.recipients.iter().zip(stanzas) {
            let context = WrapContext {
                kind: recipient.kind,
                key_id: &recipient.key_id,
                encapsulation_hash: &recipient.encapsulation_hash,
                file,
                policy_hash,
            };
            stanza.wrapped_dek = recipient.secret.wrap_dek(&context, dek)?;
            let again = recipient.secret.unwrap_dek(&context, &stanza.wrapped_dek)?;
            if again.expose() != dek.expose() {
                return Err(CryptoError::Library);
            }
        }
        Ok(())
    }
}

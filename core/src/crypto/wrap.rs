//! A DEK under the secret of an encapsulation: `docs/spec/envelope.md`, "Stanza".

use super::CryptoError;
use super::provider::bulk;
use super::recipient::{KeyId, RecipientKind};
use super::secret::{Dek, DerivedKey, SharedSecret};
use crate::ids::FileId;
use zeroize::Zeroizing;

/// Length of a wrapped DEK in bytes.
pub const WRAPPED_DEK_SIZE: usize = 48;

/// All that a wrapped DEK is bound to; with any of it changed it does not open.
#[derive(Clone, Copy)]
pub struct WrapContext<'a> {
    /// The stanza's kind.
    pub kind: RecipientKind,
    /// The recipient's key id.
    pub key_id: &'a KeyId,
    /// SHA-256 of the encapsulation; one hash serves all files of an epoch.
    pub encapsulation_hash: &'a [u8; 32],
    /// The file.
    pub file: &'a FileId,
    /// SHA-256 of the header's bytes 0 to 39 and the policy.
    pub policy_hash: &'a [u8; 32],
}

impl SharedSecret {
    /// Wraps `dek` for this context.
    ///
    /// # Errors
    /// [`CryptoError::Refused`] if the secret is not of the context's kind.
    pub fn wrap_dek(
        &self,
        context: &WrapContext<'_>,
        dek: &Dek,
    ) -> Result<[u8; WRAPPED_DEK_SIZE], CryptoError> {
        let aead = bulk().aead(&*self.key_encryption_key(context)?);
        let mut wrapped = [0; WRAPPED_DEK_SIZE];
        let (body, tag) = wrapped.split_at_mut(32);
        body.copy_from_slice(dek.expose());
        tag.copy_from_slice(&aead.seal(&ZERO_NONCE, &[], body)?);
        Ok(wrapped)
    }

    /// Unwraps a DEK that was wrapped for exactly this context.
    ///
    /// # Errors
    /// [`CryptoError::Refused`], whatever does not fit.
    pub fn unwrap_dek(&self, context: &WrapContext<'_>, wrapped: &[u8]) -> Result<Dek, CryptoError> {
        let aead = bulk().aead(&*self.key_encryption_key(context)?);
        let (body, tag) = wrapped.split_at_checked(32).ok_or(CryptoError::Refused)?;
        let tag = tag.try_into().map_err(|_| CryptoError::Refused)?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(body);
        aead.open(&ZERO_NONCE, &[], key.as_mut_slice(), tag)?;
        Dek::from_slice(key.as_slice())
    }

    fn key_encryption_key(&self, context: &WrapContext<'_>) -> Result<DerivedKey, CryptoError> {
        if self.expose().len() != context.kind.secret_size() {
            return Err(CryptoError::Refused);
        }
        bulk().kdf(self.expose(), context.file.as_bytes()).expand(&[
            b"tobari/1 wrap",
            context.kind.name().as_bytes(),
            context.key_id.as_bytes(),
            context.encapsulation_hash,
            context.policy_hash,
        ])
    }
}

/// The key encryption key is unique for file, policy and recipient, and seals one message.
const ZERO_NONCE: [u8; 12] = [0; 12];

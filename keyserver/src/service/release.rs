//! The one function that gives a key away.

use super::ServiceError;
use super::decide::Allowed;
use super::unwrap::Unwrapped;
use crate::audit::Audited;
use tobari_core::crypto::GrantSealer;
use tobari_core::proto::api::{Grant, grant_aad};
use tobari_core::proto::base64::Base64;

/// Seals a DEK to the terminal. It takes, and uses up, the proofs that only the steps before can make: the
/// policy's [`Allowed`], the DEK unwrapped for it, and the durable record of exactly this grant.
pub(super) fn release(
    sealer: &mut GrantSealer,
    allowed: Allowed,
    unwrapped: Unwrapped,
    audited: Audited,
) -> Result<Grant, ServiceError> {
    if unwrapped.file != allowed.file || audited.granted() != Some(allowed.file) {
        return Err(ServiceError::Internal(String::from("the proofs of a grant are of different files")));
    }
    let aad = grant_aad(allowed.file, allowed.person, allowed.rights, allowed.expires_at);
    let sealed_dek = sealer.seal(&aad, &unwrapped.dek)?;
    Ok(Grant {
        file: allowed.file,
        rights: allowed.rights,
        expires_at: allowed.expires_at,
        sealed_dek: Base64(sealed_dek),
        audit: audited.sequence(),
    })
}

//! The one function that gives a key away.

use super::ServiceError;
use super::decide::Allowed;
use super::unwrap::Unwrapped;
use crate::audit::Audited;
use tobari_core::crypto::GrantSealer;
use tobari_core::ids::FileId;
use tobari_core::lease::LeaseBinding;
use tobari_core::proto::api::{Grant, grant_aad};
use tobari_core::proto::base64::Base64;

/// For what a key is given away, and so what it is bound to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Occasion<'a> {
    /// An opening now.
    Grant,
    /// A lease. What the binding says beside the decision is in the lease that is signed.
    Lease(&'a LeaseBinding),
}

impl Occasion<'_> {
    /// The file whose release on this occasion the record notes.
    fn recorded(self, audited: &Audited) -> Option<FileId> {
        match self {
            Self::Grant => audited.granted(),
            Self::Lease(_) => audited.lent(),
        }
    }

    /// The additional data of the key; none when the binding goes beyond what was decided.
    fn aad(self, allowed: &Allowed) -> Option<Vec<u8>> {
        let Allowed { file, person, rights, expires_at, .. } = *allowed;
        match self {
            Self::Grant => Some(grant_aad(file, person, rights, expires_at).to_vec()),
            Self::Lease(binding) => {
                let decided = (binding.file, binding.person, binding.rights, binding.ends_at)
                    == (file, person, rights, expires_at);
                decided.then(|| binding.aad())
            }
        }
    }
}

/// Seals a DEK to the terminal. It takes, and uses up, the proofs that only the steps before can make: the
/// policy's [`Allowed`], the DEK unwrapped for it, and the durable record of exactly this release.
pub(super) fn release(
    sealer: &mut GrantSealer,
    allowed: Allowed,
    unwrapped: Unwrapped,
    audited: Audited,
    occasion: Occasion<'_>,
) -> Result<Grant, ServiceError> {
    let differ = || ServiceError::Internal(String::from("the proofs of a grant are of different files"));
    if unwrapped.file != allowed.file || occasion.recorded(&audited) != Some(allowed.file) {
        return Err(differ());
    }
    let aad = occasion.aad(&allowed).ok_or_else(differ)?;
    let sealed_dek = sealer.seal(&aad, &unwrapped.dek)?;
    Ok(Grant {
        file: allowed.file,
        rights: allowed.rights,
        expires_at: allowed.expires_at,
        sealed_dek: Base64(sealed_dek),
        audit: audited.sequence(),
    })
}

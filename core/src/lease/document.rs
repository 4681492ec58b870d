//! The signed document, and the decision on one opening under it.

use crate::crypto::{CryptoError, Dek, GrantKeyPair, GrantOpener, SigningKey, VerifyingKey};
use crate::ids::{FileId, GroupId, LabelId, LeaseId, OrganisationId, PersonId, TerminalId};
use crate::policy::{Right, Rights};
use crate::proto::base64::Base64;
use crate::proto::lease::{Lease, LeaseFile, MAX_FILES, Opens, SignedLease};
use jiff::Timestamp;
use std::num::NonZeroU32;

/// What is signed: this, a zero byte and the payload.
pub const CONTEXT: &str = "tobari/1 lease";
/// Format of a lease.
const VERSION: u32 = 1;

/// Signs a lease.
///
/// # Errors
/// None in practice: every field has a JSON form.
pub fn sign(lease: &Lease, key: &SigningKey) -> Result<SignedLease, serde_json::Error> {
    let payload = serde_json::to_vec(lease)?;
    let signature = key.sign(CONTEXT, &payload);
    Ok(SignedLease { payload: Base64(payload), signature: Base64(signature) })
}

/// The HPKE `info` of a lease's keys: `"tobari/1 lease" ‖ 0 ‖ organisation id ‖ terminal id ‖ lease id`.
pub fn lease_info(organisation: OrganisationId, terminal: TerminalId, lease: LeaseId) -> Vec<u8> {
    let mut info = b"tobari/1 lease\0".to_vec();
    info.extend_from_slice(organisation.as_bytes());
    info.extend_from_slice(terminal.as_bytes());
    info.extend_from_slice(lease.as_bytes());
    info
}

/// What the DEK of one file is bound to, beside what [`lease_info`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseBinding {
    /// The file.
    pub file: FileId,
    /// Its label.
    pub label: LabelId,
    /// Its owner group.
    pub owner_group: Option<GroupId>,
    /// The person.
    pub person: PersonId,
    /// What may be done.
    pub rights: Rights,
    /// From when.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
}

impl LeaseBinding {
    fn of(lease: &Lease, file: &LeaseFile) -> Self {
        Self {
            file: file.file,
            label: file.label,
            owner_group: file.owner_group,
            person: lease.person,
            rights: file.rights,
            starts_at: lease.term.starts_at,
            ends_at: file.ends_at,
        }
    }

    /// The additional data of the DEK: file ‖ label ‖ (0, or 1 ‖ owner group) ‖ person ‖ rights ‖ start ‖ end, both in
    /// microseconds since 1970, little-endian.
    pub fn aad(&self) -> Vec<u8> {
        let mut aad = Vec::with_capacity(82);
        aad.extend_from_slice(self.file.as_bytes());
        aad.extend_from_slice(self.label.as_bytes());
        match &self.owner_group {
            None => aad.push(0),
            Some(group) => {
                aad.push(1);
                aad.extend_from_slice(group.as_bytes());
            }
        }
        aad.extend_from_slice(self.person.as_bytes());
        aad.push(self.rights.bits());
        aad.extend_from_slice(&self.starts_at.as_microsecond().to_le_bytes());
        aad.extend_from_slice(&self.ends_at.as_microsecond().to_le_bytes());
        aad
    }
}

/// Why a document is no lease of this terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Not signed by the organisation's key.
    #[error("the lease's signature does not verify")]
    BadSignature,
    /// Signed, but not what this program reads, or not in the canonical form.
    #[error("the lease cannot be read")]
    Malformed,
    /// Of another organisation.
    #[error("the lease is of organisation {0}")]
    OtherOrganisation(OrganisationId),
    /// For another terminal.
    #[error("the lease is for terminal {0}")]
    OtherTerminal(TerminalId),
}

/// An opening that is wished for.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Who.
    pub person: PersonId,
    /// What.
    pub file: FileId,
    /// Its label, as its header says.
    pub label: LabelId,
    /// Its owner group, as its header says.
    pub owner_group: Option<GroupId>,
    /// What for.
    pub right: Right,
}

/// Why a lease does not permit an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is another person's.
    #[error("the lease is of another person")]
    OtherPerson,
    /// The file is not in it.
    #[error("the file is not part of the lease")]
    OtherFile,
    /// The file has another label or owner group than when the lease was made.
    #[error("the file's label or owner group is not the one of the lease")]
    OtherLabel,
    /// It has not begun.
    #[error("the lease begins at {0}")]
    NotBegun(Timestamp),
    /// It has ended.
    #[error("the lease ended at {0}")]
    Ended(Timestamp),
    /// All openings are used up.
    #[error("the lease was for {0} openings, which are used up")]
    UsedUp(NonZeroU32),
    /// It does not give the right.
    #[error("the lease does not include the right '{0}'")]
    RightNotLent(Right),
}

/// A lease that is signed, canonical, and of this organisation and terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidLease(Lease);

/// Permission to open one file, made by [`ValidLease::permits`] alone.
#[derive(Debug)]
pub struct Lent<'a> {
    lease: &'a Lease,
    index: usize,
    file: &'a LeaseFile,
}

impl ValidLease {
    /// Checks everything that does not depend on time and person.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn check(
        signed: &SignedLease,
        key: &VerifyingKey,
        organisation: OrganisationId,
        terminal: TerminalId,
    ) -> Result<Self, LeaseError> {
        let payload = signed.payload.as_ref();
        key.verify(CONTEXT, payload, signed.signature.as_ref()).map_err(|_| LeaseError::BadSignature)?;
        let lease: Lease = serde_json::from_slice(payload).map_err(|_| LeaseError::Malformed)?;
        let canonical = serde_json::to_vec(&lease).is_ok_and(|bytes| bytes == payload);
        let sound = canonical
            && lease.version == VERSION
            && lease.term.starts_at < lease.term.ends_at
            && lease.files.len() <= MAX_FILES
            && lease.files.iter().all(|file| file.ends_at <= lease.term.ends_at);
        if !sound {
            return Err(LeaseError::Malformed);
        }
        if lease.organisation != organisation {
            return Err(LeaseError::OtherOrganisation(lease.organisation));
        }
        if lease.terminal != terminal {
            return Err(LeaseError::OtherTerminal(lease.terminal));
        }
        Ok(Self(lease))
    }

    /// What it says.
    pub fn lease(&self) -> &Lease {
        &self.0
    }

    /// Decides one opening, with `used` openings before it, at the time `now` of a [`super::LeaseClock`].
    ///
    /// # Errors
    /// [`Refused`], of several reasons the first in the order of its variants.
    pub fn permits(&self, wish: &Wish, used: u32, now: Timestamp) -> Result<Lent<'_>, Refused> {
        let lent = self.covers(wish)?;
        if now < self.0.term.starts_at {
            return Err(Refused::NotBegun(self.0.term.starts_at));
        }
        if now >= lent.file.ends_at {
            return Err(Refused::Ended(lent.file.ends_at));
        }
        match self.0.opens {
            Opens::AtMost { count } if used >= count.get() => return Err(Refused::UsedUp(count)),
            Opens::AtMost { .. } | Opens::Unlimited => {}
        }
        if !lent.file.rights.contains(wish.right) {
            return Err(Refused::RightNotLent(wish.right));
        }
        Ok(lent)
    }

    /// Whether the file is in it for this person, whatever the time and the right.
    ///
    /// # Errors
    /// [`Refused::OtherPerson`], [`Refused::OtherFile`], [`Refused::OtherLabel`].
    pub fn covers(&self, wish: &Wish) -> Result<Lent<'_>, Refused> {
        if wish.person != self.0.person {
            return Err(Refused::OtherPerson);
        }
        let (index, file) = self
            .0
            .files
            .iter()
            .enumerate()
            .find(|(_, file)| file.file == wish.file)
            .ok_or(Refused::OtherFile)?;
        if (file.label, file.owner_group) != (wish.label, wish.owner_group) {
            return Err(Refused::OtherLabel);
        }
        Ok(Lent { lease: &self.0, index, file })
    }
}

impl Lent<'_> {
    /// What may be done with the file.
    pub fn rights(&self) -> Rights {
        self.file.rights
    }

    /// Until when.
    pub fn ends_at(&self) -> Timestamp {
        self.file.ends_at
    }

    /// The file's DEK.
    ///
    /// # Errors
    /// [`CryptoError::Refused`] when it is not sealed to this terminal or not bound to what the lease says.
    pub fn dek(&self, key: &GrantKeyPair) -> Result<Dek, CryptoError> {
        let info = lease_info(self.lease.organisation, self.lease.terminal, self.lease.id);
        let mut opener = GrantOpener::new(key, self.lease.encapsulated_key.as_ref(), &info)?;
        let mut dek = Err(CryptoError::Refused);
        // One HPKE context: the keys before this one must be passed in order.
        for file in self.lease.files.iter().take(self.index + 1) {
            let aad = LeaseBinding::of(self.lease, file).aad();
            dek = Ok(opener.open(&aad, file.sealed_dek.as_ref())?);
        }
        dek
    }
}

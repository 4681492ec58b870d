//! The signed document, and the decision on one opening under it.

use crate::audit::{LogKey, Occasion, ReceiptFault, Released, check_receipt};
use crate::crypto::{CryptoError, Dek, GrantKeyPair, GrantOpener, GrantSealer, SigningKey, VerifyingKey};
use crate::ids::{FileId, GroupId, LabelId, LeaseId, OrganisationId, PersonId, TerminalId};
use crate::policy::{Right, Rights};
use crate::proto::api::AuditReceipt;
use crate::proto::base64::Base64;
use crate::proto::lease::{Lease, LeaseFile, MAX_FILES, Narrowing, Opens, SignedLease};
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
    Ok(SignedLease { payload: Base64(payload), signature: Base64(signature), receipt: None })
}

/// What a signed lease says, unchecked: for who keeps leases, not for who uses them.
///
/// # Errors
/// [`LeaseError::Malformed`].
pub fn read_unchecked(signed: &SignedLease) -> Result<Lease, LeaseError> {
    serde_json::from_slice(signed.payload.as_ref()).map_err(|_| LeaseError::Malformed)
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
    /// Where its key is; none for a file that was created under the lease.
    index: Option<usize>,
    /// To what its key is bound.
    binding: LeaseBinding,
    /// What of it a stricter policy has left.
    rights: Rights,
    ends_at: Timestamp,
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

    /// Whether the release of each of its keys is in the log that `log` signed, as `receipt` shows. A lease whose keys were
    /// released without a record must not be used, just as a grant.
    ///
    /// # Errors
    /// It is not.
    pub fn is_recorded(&self, receipt: Option<&AuditReceipt>, log: &LogKey) -> Result<(), ReceiptFault> {
        let proved = check_receipt(receipt, log)?;
        for (index, file) in self.0.files.iter().enumerate() {
            let released = Released {
                file: file.file,
                person: self.0.person,
                terminal: self.0.terminal,
                occasion: Occasion::Lease(self.0.id, file.rights),
            };
            proved.covers(index, file.audit, &released)?;
        }
        Ok(())
    }

    /// Decides one opening, with `used` openings before it, at the time `now` of a [`super::LeaseClock`]. `narrowed` is what
    /// stricter policies have left of it since it was signed.
    ///
    /// # Errors
    /// [`Refused`], of several reasons the first in the order of its variants.
    pub fn permits(
        &self,
        wish: &Wish,
        used: u32,
        now: Timestamp,
        narrowed: &[Narrowing],
    ) -> Result<Lent<'_>, Refused> {
        self.check_lent(self.covers(wish)?, wish, used, now, narrowed)
    }

    /// For what a file that the lease's person creates now, under a lease of its label, may be opened: the same as the lease's own
    /// files of the same label and owner group.
    ///
    /// # Errors
    /// [`Refused::OtherPerson`]; [`Refused::OtherLabel`] when the lease is not of the label, or has no file of the owner group.
    pub fn binds_created(&self, wish: &Wish) -> Result<LeaseBinding, Refused> {
        if wish.person != self.0.person {
            return Err(Refused::OtherPerson);
        }
        if self.0.label != Some(wish.label) {
            return Err(Refused::OtherLabel);
        }
        let same = |file: &LeaseFile| (file.label, file.owner_group) == (wish.label, wish.owner_group);
        let file = self.0.files.iter().find(|file| same(file)).ok_or(Refused::OtherLabel)?;
        Ok(LeaseBinding { file: wish.file, ..LeaseBinding::of(&self.0, file) })
    }

    /// As [`ValidLease::permits`] for a file that was created on this terminal, with what [`ValidLease::binds_created`] gave then.
    /// Its key is not in the lease, and opens only if that is the same binding.
    ///
    /// # Errors
    /// As [`ValidLease::permits`]; [`Refused::OtherLabel`] when the lease is not of the label.
    pub fn permits_created(
        &self,
        binding: LeaseBinding,
        wish: &Wish,
        used: u32,
        now: Timestamp,
        narrowed: &[Narrowing],
    ) -> Result<Lent<'_>, Refused> {
        if wish.person != self.0.person || wish.person != binding.person {
            return Err(Refused::OtherPerson);
        }
        if wish.file != binding.file {
            return Err(Refused::OtherFile);
        }
        if self.0.label != Some(wish.label)
            || (binding.label, binding.owner_group) != (wish.label, wish.owner_group)
        {
            return Err(Refused::OtherLabel);
        }
        let ends_at = binding.ends_at.min(self.0.term.ends_at);
        let lent = Lent { lease: &self.0, index: None, binding, rights: binding.rights, ends_at };
        self.check_lent(lent, wish, used, now, narrowed)
    }

    /// Whether this is the same lease with other files, signed later: what a terminal that holds `older` may put in its place. Only a
    /// lease of a label is ever signed anew, and nothing that was approved is another in it.
    pub fn refills(&self, older: &Self) -> bool {
        let approved = |lease: &Lease| {
            let Lease { id, organisation, terminal, person, term, opens, label, .. } = lease;
            (*id, *organisation, *terminal, *person, *term, *opens, *label)
        };
        self.0.label.is_some()
            && self.0.issued_at > older.0.issued_at
            && approved(&self.0) == approved(&older.0)
    }

    fn check_lent<'a>(
        &'a self,
        mut lent: Lent<'a>,
        wish: &Wish,
        used: u32,
        now: Timestamp,
        narrowed: &[Narrowing],
    ) -> Result<Lent<'a>, Refused> {
        for narrowing in narrowed.iter().filter(|narrowing| narrowing.lease == self.0.id) {
            lent.narrow(narrowing);
        }
        if now < self.0.term.starts_at {
            return Err(Refused::NotBegun(self.0.term.starts_at));
        }
        if now >= lent.ends_at {
            return Err(Refused::Ended(lent.ends_at));
        }
        match self.0.opens {
            Opens::AtMost { count } if used >= count.get() => return Err(Refused::UsedUp(count)),
            Opens::AtMost { .. } | Opens::Unlimited => {}
        }
        if !lent.rights.contains(wish.right) {
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
        let binding = LeaseBinding::of(&self.0, file);
        Ok(Lent { lease: &self.0, index: Some(index), binding, rights: file.rights, ends_at: file.ends_at })
    }
}

impl Lent<'_> {
    fn narrow(&mut self, narrowing: &Narrowing) {
        if (narrowing.label, narrowing.owner_group) == (self.binding.label, self.binding.owner_group) {
            self.rights = self.rights.intersection(narrowing.rights);
            self.ends_at = self.ends_at.min(narrowing.ends_at);
        }
    }

    /// What may be done with the file.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Until when.
    pub fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    /// The file's DEK.
    ///
    /// # Errors
    /// [`CryptoError::Refused`] when it is not sealed to this terminal or not bound to what the lease says, and for a file that
    /// was created under the lease: see [`Lent::created_dek`].
    pub fn dek(&self, key: &GrantKeyPair) -> Result<Dek, CryptoError> {
        let index = self.index.ok_or(CryptoError::Refused)?;
        let info = lease_info(self.lease.organisation, self.lease.terminal, self.lease.id);
        let mut opener = GrantOpener::new(key, self.lease.encapsulated_key.as_ref(), &info)?;
        let mut dek = Err(CryptoError::Refused);
        // One HPKE context: the keys before this one must be passed in order.
        for file in self.lease.files.iter().take(index + 1) {
            let aad = LeaseBinding::of(self.lease, file).aad();
            dek = Ok(opener.open(&aad, file.sealed_dek.as_ref())?);
        }
        dek
    }

    /// Seals the DEK of a file that was created under the lease to this terminal, bound to what it may be opened for. Gives the
    /// encapsulated key and the sealed DEK.
    ///
    /// # Errors
    /// When the library fails.
    pub fn seal_created(&self, key: &GrantKeyPair, dek: &Dek) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        let (encapsulated, mut sealer) = GrantSealer::new(&key.public(), &self.created_info())?;
        let sealed = sealer.seal(&self.binding.aad(), dek)?;
        Ok((encapsulated, sealed))
    }

    /// What [`Lent::seal_created`] sealed.
    ///
    /// # Errors
    /// [`CryptoError::Refused`] when it is of another file, lease or terminal.
    pub fn created_dek(
        &self,
        key: &GrantKeyPair,
        encapsulated: &[u8],
        sealed: &[u8],
    ) -> Result<Dek, CryptoError> {
        let mut opener = GrantOpener::new(key, encapsulated, &self.created_info())?;
        opener.open(&self.binding.aad(), sealed)
    }

    fn created_info(&self) -> Vec<u8> {
        let mut info = b"tobari/1 lease created\0".to_vec();
        info.extend_from_slice(self.lease.organisation.as_bytes());
        info.extend_from_slice(self.lease.terminal.as_bytes());
        info.extend_from_slice(self.lease.id.as_bytes());
        info
    }
}

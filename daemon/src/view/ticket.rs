//! What shows, at each read and each write, that an open file may still be read and written: a grant, which ends in time
//! and may be forgotten earlier, or that the file was created here by who asks.

use super::handle::{Handle, Sealed};
use super::opening::Unopened;
use super::state::{Caller, View};
use super::{Answer, code};
use crate::failure::Failure;
use crate::grants::Granted;
use crate::open::wanted;
use crate::sessions::Login;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tobari_core::crypto::Dek;
use tobari_core::envelope::{FilePolicy, Header};
use tobari_core::ids::{FileId, PersonId};
use tobari_core::policy::Right;
use tobari_core::proto::problem::{Problem, ProblemCode};

/// How long the login of who created a file is not looked at again while they have it open.
const LOGIN: SignedDuration = SignedDuration::from_secs(60);

/// How long a refusal counts while nothing is heard of a change.
const REFUSED: SignedDuration = SignedDuration::from_secs(10);

/// See the module.
pub(super) struct Ticket {
    pub(super) caller: Caller,
    pub(super) name: PathBuf,
    /// What the file was opened for; with [`Right::Edit`] it may be readable too.
    right: Right,
    reads: bool,
    proof: Mutex<Proof>,
    /// A refusal was told; the next ones of the same kind are not.
    told: AtomicBool,
    /// It was created through this handle, and nothing was written through it.
    fresh: AtomicBool,
}

struct Proof {
    basis: Basis,
    /// [`crate::grants::Grants::epoch`] from before it was looked at.
    epoch: u64,
    /// [`Contents::labels`] from before its header was read.
    labels: u64,
    /// It was refused, and the kernel was told.
    dropped: bool,
    /// The policy refused.
    refused: Option<Box<Refused>>,
}

/// A refusal that is not asked about again for a while. Each one is a record in the audit log, and who reads on would fill it.
struct Refused {
    /// As in [`Proof`].
    epoch: u64,
    labels: u64,
    until: Timestamp,
    problem: Problem,
}

enum Basis {
    Granted(Arc<Granted>),
    /// Created here, with this key; good while the same person is logged in, and not looked at until then.
    Born(PersonId, Timestamp, Arc<Dek>),
}

impl Ticket {
    /// For a file that was opened with a grant, which was asked for in the `epoch`.
    pub(super) fn granted(
        caller: Caller,
        name: PathBuf,
        right: Right,
        reads: bool,
        granted: Arc<Granted>,
        (epoch, labels): (u64, u64),
    ) -> Self {
        let proof = Proof { basis: Basis::Granted(granted), epoch, labels, dropped: false, refused: None };
        let (proof, told, fresh) = (Mutex::new(proof), AtomicBool::new(false), AtomicBool::new(false));
        Self { caller, name, right, reads, proof, told, fresh }
    }

    /// For a file that was just created.
    pub(super) fn born(
        caller: Caller,
        name: PathBuf,
        login: &Login,
        key: Dek,
        now: Timestamp,
        epoch: u64,
    ) -> Self {
        let basis = Basis::Born(login.session.person, until(now), Arc::new(key));
        let proof = Proof { basis, epoch, labels: 0, dropped: false, refused: None };
        let (proof, told, fresh) = (Mutex::new(proof), AtomicBool::new(false), AtomicBool::new(true));
        Self { caller, name, right: Right::Edit, reads: true, proof, told, fresh }
    }
}

fn until(now: Timestamp) -> Timestamp {
    now.checked_add(LOGIN).unwrap_or(now)
}

impl View {
    /// As [`View::check`], for a program: what is refused is told once, until it is allowed again.
    pub(super) fn still_allowed(&self, sealed: &Sealed, right: Right) -> Answer<()> {
        let ticket = &sealed.ticket;
        match self.check(sealed, right) {
            Ok(()) => {
                if ticket.told.load(Ordering::Relaxed) {
                    ticket.told.store(false, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(failure) if !ticket.told.swap(true, Ordering::Relaxed) => {
                Err(self.refuse(&ticket.name, ticket.caller, &failure))
            }
            Err(failure) => Err(code(&failure)),
        }
    }

    /// Fails unless the file may still be used for `right`.
    pub(super) fn check(&self, sealed: &Sealed, right: Right) -> Result<(), Failure> {
        let ticket = &sealed.ticket;
        let file = sealed.contents.file_id;
        if right == Right::Edit && ticket.right != Right::Edit {
            return Err(Failure::new(ProblemCode::RightRefused, "the file was opened for reading"));
        }
        let now = self.service.now();
        let epoch = self.service.grants().epoch();
        let labels = sealed.contents.labels();
        let mut proof = ticket.proof.lock().unwrap_or_else(PoisonError::into_inner);
        if proof.epoch == epoch && proof.labels == labels {
            match &proof.basis {
                Basis::Granted(granted) if granted.is_current(now) => {
                    let allowed = granted.key_for(file, right, now).map(drop);
                    // What a lease does not lend any more the key server may grant.
                    if allowed.is_ok() || !granted.is_lent() {
                        return allowed;
                    }
                }
                Basis::Born(_, until, _) if now < *until => return Ok(()),
                Basis::Granted(_) | Basis::Born(..) => {}
            }
        }
        if let Some(refused) = proof.refused.as_deref()
            && (refused.epoch, refused.labels) == (epoch, labels)
            && now < refused.until
        {
            return Err(refused.problem.clone().into());
        }
        let login = self.access.person(ticket.caller.uid, ticket.caller.pid)?;
        let basis = match &proof.basis {
            // Somebody else may have given it a label of which the person who created it may know nothing.
            Basis::Born(..) if proof.labels != labels => {
                Basis::Granted(self.ask_again(sealed, &login, right, now)?)
            }
            Basis::Born(person, _, key) if login.session.person == *person => {
                Basis::Born(*person, until(now), Arc::clone(key))
            }
            Basis::Born(..) => {
                return Err(Failure::new(ProblemCode::NotLoggedIn, "who created the file is logged out"));
            }
            Basis::Granted(granted)
                if proof.labels == labels
                    && granted.is_lent_to(login.session.person)
                    && granted.key_for(file, right, now).is_ok() =>
            {
                Basis::Granted(Arc::clone(granted))
            }
            Basis::Granted(_) => match self.ask_again(sealed, &login, right, now) {
                Ok(granted) => Basis::Granted(granted),
                Err(failure) => {
                    let problem = &failure.problem;
                    // Not what this request lacks beyond what the file was opened for.
                    let of_file = failure.rights.is_none_or(|rights| !rights.contains(ticket.right));
                    if of_file
                        && matches!(
                            problem.code,
                            ProblemCode::RightRefused | ProblemCode::Revoked | ProblemCode::KeyRetired
                        )
                    {
                        let until = now.checked_add(REFUSED).unwrap_or(now);
                        proof.refused =
                            Some(Box::new(Refused { epoch, labels, until, problem: problem.clone() }));
                    }
                    return Err(failure);
                }
            },
        };
        *proof = Proof { basis, epoch, labels, dropped: false, refused: None };
        Ok(())
    }

    fn ask_again(
        &self,
        sealed: &Sealed,
        login: &Login,
        right: Right,
        now: Timestamp,
    ) -> Result<Arc<Granted>, Failure> {
        let ticket = &sealed.ticket;
        let header = read_header(sealed, sealed.contents.file_id)?;
        let name = ticket.name.to_string_lossy();
        let granted = self
            .service
            .grants()
            .obtain_one(login, &wanted(&header, &name), ticket.right)
            .map_err(|failure| self.service.heard_failure(login, failure))?;
        granted.key_for(header.file_id(), right, now)?;
        if ticket.reads {
            granted.key_for(header.file_id(), Right::View, now)?;
        }
        self.access.may_open(header.policy(), granted.rights(), ticket.right)?;
        Ok(granted)
    }

    /// Gives the file the label that it has to have when it is written to now: since it was opened, the session may have read what
    /// ranks higher.
    pub(super) fn keep_label(&self, sealed: &Sealed) -> Result<(), Unopened> {
        let fresh = &sealed.ticket.fresh;
        let mut policy = sealed.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = fresh.load(Ordering::Acquire);
        let label = if begins {
            self.access.label_for_first_write(&policy)?
        } else {
            self.access.label_for_change(&policy)
        };
        if label != policy.label {
            if begins {
                self.is_of_this_view_alone(sealed)?;
            }
            *policy = self.raise_open(sealed)?;
            if begins {
                // Who came in between was let in under the lower label.
                self.is_of_this_view_alone(sealed)?;
            }
        }
        fresh.store(false, Ordering::Release);
        Ok(())
    }

    /// Raises the label of an open file; what it says then. Other handles of it have to show a grant under the new one.
    fn raise_open(&self, sealed: &Sealed) -> Result<FilePolicy, Unopened> {
        let header = read_header(sealed, sealed.contents.file_id)?;
        let mut proof = sealed.ticket.proof.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.service.now();
        let header = match &proof.basis {
            Basis::Granted(granted) => {
                let key = granted.key_for(sealed.contents.file_id, Right::Edit, now)?;
                self.raise(sealed.node.through(), header, key)?
            }
            Basis::Born(_, _, key) => self.raise(sealed.node.through(), header, key)?,
        };
        let labels = sealed.contents.has_new_label();
        // This one is as good as before, unless somebody else did the same in this moment.
        if labels == proof.labels + 1 {
            proof.labels = labels;
        }
        Ok(header.policy().clone())
    }

    /// Fails unless a file that was created here is empty still, and open in no other view.
    fn is_of_this_view_alone(&self, sealed: &Sealed) -> Result<(), Failure> {
        let same = |handle: &Handle| matches!(handle, Handle::Sealed(other) if Arc::ptr_eq(&other.contents, &sealed.contents));
        let here = self.handles.all().iter().filter(|(_, handle)| same(handle)).count();
        if sealed.contents.is_untouched() && self.registry.handles(&sealed.contents) == here {
            return Ok(());
        }
        let why = "others have this file open, or have written to it, under a lower label than what this session has read since";
        let mut failure = Failure::new(ProblemCode::RightRefused, why);
        failure.problem.field = Some(String::from("session-relabel"));
        Err(failure)
    }

    /// Whether the file is closed to its readers since it was last looked at.
    pub(super) fn recheck(&self, sealed: &Sealed) -> bool {
        let ended = self.check(sealed, sealed.ticket.right).is_err();
        let mut proof = sealed.ticket.proof.lock().unwrap_or_else(PoisonError::into_inner);
        let news = ended && !proof.dropped;
        proof.dropped = ended;
        news
    }
}

fn read_header(sealed: &Sealed, file: FileId) -> Result<Header, Failure> {
    let header = Header::read(&sealed.file).map_err(|error| crate::open::failure(error, 0))?;
    if header.file_id() == file {
        return Ok(header);
    }
    Err(Failure::new(ProblemCode::CorruptEnvelope, "the file was replaced by another one"))
}

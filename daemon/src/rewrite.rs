//! New headers for sealed files: another label, or the label's newest key, without touching what is sealed; and sealing anew.
//!
//! All need the right `relabel`, whose grant leaves a record in the audit log for each file. The caller opens the files for reading
//! and writing with its own permissions; the daemon writes the header on that descriptor. So nobody changes by this what they could
//! not write, and no key leaves the daemon. A file is done alone: one that fails holds up no other. What is needed to end a change
//! that was cut short lies in the file itself (docs/spec/envelope.md, "Header copy"), so nothing can be lost between.

use crate::config::Role;
use crate::content::{Content, check_organisation};
use crate::descriptors::Source;
use crate::failure::Failure;
use crate::grants::Wanted;
use crate::open::wanted;
use crate::seal::{Epochs, LabelRecipients};
use crate::service::{Caller, Service};
use crate::sessions::Login;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tobari_core::crypto::{Dek, RecipientPublicKey, second};
use tobari_core::envelope::{
    Epoch, FilePolicy, Header, SealError, SealOptions, WriteError, header_change_pending, open_stream,
    read_back, relabel, seal, settle,
};
use tobari_core::policy::Right;
use tobari_core::proto::bulletin::Bulletin;
use tobari_core::proto::control::{Answer, MAX_REWRITE, NewHeader, Rewritten};
use tobari_core::proto::problem::ProblemCode;

/// Files whose headers are written at the same time: they wait for the disk, which makes several durable at once.
const AT_ONCE: usize = 16;

/// Files that are to get new headers.
#[derive(Debug)]
pub struct Rewriting {
    change: NewHeader,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    file: Result<Source, Failure>,
}

/// A file that needs a new header.
struct Due<'a> {
    index: usize,
    name: &'a str,
    file: &'a Source,
    header: Header,
    keys: Arc<LabelRecipients>,
}

impl Rewriting {
    /// Begins a batch.
    pub fn new(change: NewHeader) -> Self {
        Self { change, entries: Vec::new() }
    }

    /// Adds a file. What is wrong with it is said in the file's outcome.
    ///
    /// # Errors
    /// When the batch is full.
    pub fn add(&mut self, name: String, file: OwnedFd) -> Result<(), Failure> {
        if self.entries.len() >= MAX_REWRITE {
            let why = format!("at most {MAX_REWRITE} files at a time");
            return Err(Failure::new(ProblemCode::TooLarge, why).about(&name));
        }
        let file = Source::new(file).and_then(|file| file.must_be_writable().map(|()| file));
        self.entries.push(Entry { name, file });
        Ok(())
    }

    /// Writes the headers: one outcome for each file, in order.
    ///
    /// # Errors
    /// When nothing can be done at all: nobody is logged in, no such label, no key server.
    pub fn finish(
        self,
        service: &Service,
        caller: Caller,
        progress: &(dyn Fn(u64, Option<u64>) + Sync),
    ) -> Result<Answer, Failure> {
        service.needs(Role::View)?;
        let login = service.login_of(caller)?;
        let Self { change, entries } = self;
        let bulletin = service.bulletin();
        if let NewHeader::Label { label } = change {
            LabelRecipients::of(&bulletin, label)?;
        }
        let mut outcomes: Vec<Option<Rewritten>> = entries.iter().map(|_| None).collect();
        let mut due = Vec::new();
        let mut again = Vec::new();
        for (index, (entry, outcome)) in entries.iter().zip(&mut outcomes).enumerate() {
            // Another name of a file that is in the batch already.
            if let Ok(file) = &entry.file
                && let Some(first) = entries
                    .iter()
                    .take(index)
                    .position(|one| one.file.as_ref().is_ok_and(|one| one.is_same(file)))
            {
                again.push((index, first));
                continue;
            }
            match look(index, entry, change, &bulletin) {
                Ok(Some(one)) => due.push(one),
                Ok(None) => *outcome = Some(Rewritten::Current),
                Err(failure) => *outcome = Some(failed(failure)),
            }
        }
        write(service, &login, &due, &mut outcomes, progress)?;
        for (index, first) in again {
            let outcome = match outcomes.get(first) {
                Some(Some(Rewritten::Done)) => Some(Rewritten::Current),
                other => other.cloned().flatten(),
            };
            if let Some(place) = outcomes.get_mut(index) {
                *place = outcome;
            }
        }
        let outcomes = outcomes
            .into_iter()
            .map(|outcome| {
                outcome.unwrap_or_else(|| failed(Failure::new(ProblemCode::Internal, "no outcome")))
            })
            .collect();
        Ok(Answer::Rewritten { outcomes })
    }
}

/// What a file needs; none when it is as wanted.
fn look<'a>(
    index: usize,
    entry: &'a Entry,
    change: NewHeader,
    bulletin: &Bulletin,
) -> Result<Option<Due<'a>>, Failure> {
    let file = entry.file.as_ref().map_err(Clone::clone)?;
    flock(&file.file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Errno::WOULDBLOCK => Failure::new(ProblemCode::Conflict, "another command is at work on the file"),
        errno => Failure::io("failed to lock the file", &errno.into()),
    })?;
    let header = match Content::of(file)? {
        Content::Sealed(header) => *header,
        Content::Plain => {
            return Err(Failure::new(ProblemCode::UnreadableEnvelope, "the file is not sealed"));
        }
    };
    check_organisation(&header, bulletin.organisation)?;
    let label = match change {
        NewHeader::Label { label } => label,
        NewHeader::Keys => header.policy().label,
    };
    let keys = Arc::new(LabelRecipients::of(bulletin, label)?);
    let pending = header_change_pending(&file.file)
        .map_err(|error| Failure::new(ProblemCode::UnreadableEnvelope, error.to_string()))?;
    if !pending && is_current(&header, &keys) {
        return Ok(None);
    }
    Ok(Some(Due { index, name: &entry.name, file, header, keys }))
}

/// Whether the header names the label with exactly its keys of today.
fn is_current(header: &Header, keys: &LabelRecipients) -> bool {
    let policy = header.policy();
    let ids = |key| RecipientPublicKey::try_from(key).map(|key| key.key_id()).ok();
    policy.label == keys.label.id
        && policy.label_level == keys.label.level
        && policy.generation == keys.generation
        && header.stanzas().len() == keys.recipients.len()
        && keys
            .recipients
            .iter()
            .map(ids)
            .all(|id| id.is_some_and(|id| header.stanzas().iter().any(|stanza| stanza.key_id == id)))
}

fn write(
    service: &Service,
    login: &Login,
    due: &[Due<'_>],
    outcomes: &mut [Option<Rewritten>],
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<(), Failure> {
    let asked: Vec<Wanted> = due
        .iter()
        .map(|one| Wanted { new_label: Some(one.keys.label.id), ..wanted(&one.header, one.name) })
        .collect();
    let granted = service
        .grants()
        .obtain(login, &asked, Right::Relabel)
        .map_err(|problem| service.heard(login, problem))?;
    let work: Vec<_> = due.iter().zip(granted).collect();
    let epochs = Epochs::default();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let results = Mutex::new(Vec::with_capacity(work.len()));
    let total = u64::try_from(work.len()).ok();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(work.len()) {
            scope.spawn(|| {
                while let Some((one, granted)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = granted.as_ref().map_err(Clone::clone).and_then(|granted| {
                        let dek = granted.key_for(one.header.file_id(), Right::Relabel, service.now())?;
                        one.write(dek, &epochs, service)
                    });
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                    if let Ok(mut results) = results.lock() {
                        results.push((one.index, result));
                    }
                }
            });
        }
    });
    for (index, result) in results.into_inner().unwrap_or_default() {
        if let Some(outcome) = outcomes.get_mut(index) {
            *outcome = Some(result.map_or_else(failed, |()| Rewritten::Done));
        }
    }
    Ok(())
}

impl Due<'_> {
    fn write(&self, dek: &Dek, epochs: &Epochs, service: &Service) -> Result<(), Failure> {
        let file = &self.file.file;
        // First what an earlier run began: then the header is whole, but perhaps not the one wanted now.
        settle(file, dek).map_err(write_failure)?;
        let header = Header::read(file).map_err(|error| write_failure(error.into()))?;
        if is_current(&header, &self.keys) {
            return Ok(());
        }
        let policy = FilePolicy {
            label: self.keys.label.id,
            label_level: self.keys.label.level,
            label_name: self.keys.label.name.clone(),
            generation: self.keys.generation,
            ..header.policy().clone()
        };
        let policy = if self.keys.label.id == header.policy().label {
            policy
        } else {
            FilePolicy { sealed_at: service.now(), sealer: service.terminal(), ..policy }
        };
        let epoch = epoch(epochs, &self.keys)?;
        relabel(file, &header, dek, policy, &epoch).map_err(write_failure)?;
        Ok(())
    }
}

/// The encapsulation for these keys. A batch is shorter than what one may serve.
fn epoch(epochs: &Epochs, keys: &Arc<LabelRecipients>) -> Result<Arc<Epoch>, Failure> {
    epochs.current(keys).map_err(|stop| Failure::new(ProblemCode::Internal, stop.to_string()))
}

const _: () = assert!(MAX_REWRITE < tobari_core::envelope::EPOCH_FILES as usize);

/// Seals the contents of `source` anew into the empty file `sink`: a new DEK and file id, the same policy, the keys of today. The new
/// envelope is read back against the old one before this succeeds; putting it in the place of the old one is the caller's part.
///
/// # Errors
/// Without the right; when the file is damaged; when the disk fails.
pub fn reseal(
    service: &Service,
    caller: Caller,
    name: &str,
    source: &Source,
    sink: OwnedFd,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Answer, Failure> {
    service.needs(Role::View)?;
    let login = service.login_of(caller)?;
    let sink = Source::new(sink)?;
    sink.must_be_writable()?;
    if sink.size != 0 || sink.is_same(source) {
        return Err(Failure::new(ProblemCode::InvalidRequest, "the result must go to an empty file"));
    }
    let bulletin = service.bulletin();
    let header = Content::sealed(source, bulletin.organisation)?;
    let asked = Wanted { new_label: Some(header.policy().label), ..wanted(&header, name) };
    let granted = service
        .grants()
        .obtain_one(&login, &asked, Right::Relabel)
        .map_err(|failure| service.heard_failure(&login, failure))?;
    let dek = granted.key_for(header.file_id(), Right::Relabel, service.now())?;
    crate::view::settle(service, &source.file, &header, dek)?;
    if crate::view::is_open(service, &source.file) {
        // Its writer would go on writing into the file that is replaced.
        return Err(Failure::new(
            ProblemCode::Conflict,
            "the file is open in a view; try again when it is closed",
        ));
    }
    let keys = Arc::new(LabelRecipients::of(&bulletin, header.policy().label)?);
    let epoch = epoch(&Epochs::default(), &keys)?;
    let policy = FilePolicy {
        label_level: keys.label.level,
        label_name: keys.label.name.clone(),
        generation: keys.generation,
        sealed_at: service.now(),
        sealer: service.terminal(),
        ..header.policy().clone()
    };
    let total = crate::content::plaintext_size(&header, source.size);
    let options = SealOptions::default();
    let sealed = piped(source, &header, dek, |plain| {
        seal(plain, &sink.file, &epoch, policy, &options, &mut |done| progress(done, Some(total))).map_err(
            |error| Failure::new(ProblemCode::LocalIo, format!("failed to seal the file anew: {error}")),
        )
    })?;
    sink.file
        .sync_all()
        .map_err(|error| Failure::io("failed to write the new envelope to the disk", &error))?;
    piped(source, &header, dek, |plain| {
        read_back(&sink.file, &sealed.dek, plain, second()).map_err(|error| {
            Failure::new(ProblemCode::LocalIo, format!("the new envelope does not read back: {error}"))
        })
    })?;
    Ok(Answer::Written { bytes: sealed.length, interrupted_tail: None })
}

/// Lets `reader` read the plaintext of `source`. It counts only if the source was whole to its end.
fn piped<T>(
    source: &Source,
    header: &Header,
    dek: &Dek,
    reader: impl FnOnce(&mut (dyn io::Read + Send)) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (mut output, mut input) = io::pipe().map_err(|error| Failure::io("failed to make a pipe", &error))?;
    std::thread::scope(|scope| {
        let opening = scope.spawn(move || {
            let opened = open_stream(&source.file, header, dek, &mut input, &mut |_| {});
            drop(input);
            opened
        });
        let result = reader(&mut output);
        // Else the opener would wait for ever.
        drop(output);
        let opened = opening.join().map_err(|_| Failure::new(ProblemCode::Internal, "opening panicked"))?;
        match (opened, result) {
            (Ok(opened), Ok(_)) if opened.interrupted_tail.is_some() => Err(Failure::new(
                ProblemCode::CorruptEnvelope,
                "the file has a tail from an interrupted write; save it unsealed and seal it again",
            )),
            (Ok(_), result) => result,
            (Err(error), Ok(_)) => Err(crate::open::failure(error, 0)),
            // The reader's own failure is why the pipe broke.
            (Err(_), Err(failure)) => Err(failure),
        }
    })
}

fn write_failure(error: WriteError) -> Failure {
    match error {
        WriteError::Read(error) => Failure::io("failed to read the sealed file", &error),
        WriteError::Storage(error) | WriteError::Journal(error) => {
            Failure::io("failed to write the new header", &error)
        }
        WriteError::Header(SealError::HeaderFull) => Failure::new(
            ProblemCode::TooLarge,
            "the new header does not fit into the room that this file has for it; seal the file anew (reseal)",
        ),
        WriteError::Header(error) => Failure::new(ProblemCode::Internal, error.to_string()),
        error => Failure::new(ProblemCode::CorruptEnvelope, error.to_string()),
    }
}

fn failed(failure: Failure) -> Rewritten {
    let Failure { problem, rights, reasons, particulars, .. } = failure;
    Rewritten::Failed { problem, rights, reasons, particulars: Box::new(particulars) }
}

#[cfg(test)]
mod tests;

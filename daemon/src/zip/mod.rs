//! A password-ZIP for the outside: sealed files leave as an archive encrypted with AES-256 (WinZip AE-2), and their
//! plaintext reaches nobody on the way.
//!
//! First everything is asked: every sealed file needs `send`, and ZipCrypto needs a label that allows it. Only then
//! is the first byte written. An archive that fails half-way is emptied.

mod path;
mod write;

use crate::config::Role;
use crate::content::{Content, check_organisation};
use crate::descriptors::{Sink, Source};
use crate::failure::Failure;
use crate::grants::{Granted, Grants, Wanted};
use crate::open::wanted;
use crate::service::{Caller, Service};
use crate::sessions::Login;
use path::Paths;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tobari_core::clock::Clock;
use tobari_core::envelope::Header;
use tobari_core::policy::Right;
use tobari_core::proto::bulletin::Bulletin;
use tobari_core::proto::control::Answer;
use tobari_core::proto::problem::ProblemCode;
use zeroize::Zeroizing;

/// Most files in one archive. Each holds a descriptor until the archive is written.
pub const MAX_ENTRIES: usize = 16_384;
/// Most bytes of all paths and names in one archive: they are kept until it is written.
const MAX_NAMES: usize = 16 << 20;
/// Longest password in bytes.
const MAX_PASSWORD: usize = 1024;

/// Descriptors that archives of all connections hold.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// An archive that is being put together.
#[derive(Debug)]
pub struct Archive {
    sink: Sink<'static>,
    password: Zeroizing<String>,
    legacy: bool,
    entries: Vec<Entry>,
    paths: Paths,
    /// Bytes of all paths and names.
    names: usize,
}

/// A file to go into the archive.
#[derive(Debug)]
struct Entry {
    path: String,
    name: String,
    source: Source,
    _held: Held,
}

/// A file of which it is known what it takes to write it.
struct Ready<'a> {
    entry: &'a Entry,
    /// Header and grant of a sealed file.
    sealed: Option<(Header, Arc<Granted>)>,
}

impl Archive {
    /// Starts an archive that goes to `sink`.
    ///
    /// # Errors
    /// When the password is empty or too long.
    pub fn new(sink: Sink<'static>, password: Zeroizing<String>, legacy: bool) -> Result<Self, Failure> {
        let why = match password.len() {
            0 => Some("the password of an archive must not be empty"),
            length if length > MAX_PASSWORD => Some("the password of the archive is too long"),
            _ => None,
        };
        if let Some(why) = why {
            let mut failure = Failure::new(ProblemCode::InvalidRequest, why);
            failure.problem.field = Some(String::from("password"));
            return Err(failure);
        }
        Ok(Self { sink, password, legacy, entries: Vec::new(), paths: Paths::default(), names: 0 })
    }

    /// Adds a file under `path`.
    ///
    /// # Errors
    /// When the path is unsafe or taken, the file is the archive itself, or there are too many files.
    pub fn add(&mut self, path: String, name: String, source: Source) -> Result<(), Failure> {
        if self.entries.len() >= MAX_ENTRIES {
            let why = format!("an archive holds at most {MAX_ENTRIES} files");
            return Err(Failure::new(ProblemCode::TooLarge, why).about(&name));
        }
        self.names = self.names.saturating_add(path.len() + name.len());
        if self.names > MAX_NAMES {
            let why = format!("the names in an archive have at most {} MiB", MAX_NAMES >> 20);
            return Err(Failure::new(ProblemCode::TooLarge, why));
        }
        // It would grow for as long as it is read.
        if self.sink.is(&source) {
            let why = "the archive cannot be put into itself";
            return Err(Failure::new(ProblemCode::InvalidRequest, why).about(&name));
        }
        let held = Held::take().ok_or_else(|| {
            let why = "too many files are being put into archives on this host; try again later";
            Failure::new(ProblemCode::TooManyRequests, why).about(&name)
        })?;
        self.paths.add(&path).map_err(|why| {
            let mut failure = Failure::new(ProblemCode::InvalidRequest, why.to_string()).about(&name);
            failure.problem.field = Some(String::from("path"));
            failure
        })?;
        self.entries.push(Entry { path, name, source, _held: held });
        Ok(())
    }

    /// Asks for every right, then writes the archive.
    ///
    /// # Errors
    /// When a right is missing (nothing is written), or anything fails later (the archive is emptied).
    pub fn finish(
        self,
        service: &Service,
        caller: Caller,
        progress: &mut dyn FnMut(u64, Option<u64>) -> bool,
    ) -> Result<Answer, Failure> {
        service.needs(Role::View)?;
        let login = service.login_of(caller)?;
        let context = Context {
            service,
            grants: service.grants(),
            login: &login,
            bulletin: &service.bulletin(),
            clock: service.clock(),
        };
        self.write(&context, progress).map_err(|failure| service.heard_failure(&login, failure))
    }

    fn write(
        self,
        context: &Context<'_>,
        progress: &mut dyn FnMut(u64, Option<u64>) -> bool,
    ) -> Result<Answer, Failure> {
        if self.entries.is_empty() {
            return Err(Failure::new(ProblemCode::InvalidRequest, "an archive needs at least one file"));
        }
        let Self { mut sink, password, legacy, entries, .. } = self;
        let ready = prepare(&entries, legacy, context)?;
        let result =
            write::archive(&mut sink, &password, legacy, &ready, context, progress).and_then(|bytes| {
                match sink.sync() {
                    Ok(()) => Ok(bytes),
                    Err(error) => Err(Failure::io("failed to write the archive to the disk", &error)),
                }
            });
        match result {
            Ok(bytes) => Ok(Answer::Zipped { entries: entries.len() as u64, bytes }),
            Err(failure) => {
                sink.truncate().map_err(|error| Failure::io("failed to empty the failed archive", &error))?;
                Err(failure)
            }
        }
    }
}

/// What the asking needs.
struct Context<'a> {
    service: &'a Service,
    grants: &'a Grants,
    login: &'a Login,
    bulletin: &'a Bulletin,
    clock: &'a dyn Clock,
}

impl Context<'_> {
    fn grants_to_send(&self, wanted: &[Wanted]) -> Result<Vec<Arc<Granted>>, Failure> {
        // The first refusal stands for all: nothing leaves unless everything may.
        self.grants.obtain(self.login, wanted, Right::Send)?.into_iter().collect()
    }
}

/// Reads every header, asks for every grant in one go, and authenticates every header.
fn prepare<'a>(entries: &'a [Entry], legacy: bool, context: &Context<'_>) -> Result<Vec<Ready<'a>>, Failure> {
    let mut ready = Vec::with_capacity(entries.len());
    let mut asked = Vec::new();
    for entry in entries {
        let header = match Content::of(&entry.source).map_err(|failure| failure.about(&entry.name))? {
            Content::Plain => None,
            Content::Sealed(header) => {
                check(&header, legacy, context.bulletin).map_err(|failure| failure.about(&entry.name))?;
                asked.push(wanted(&header, &entry.name));
                Some(*header)
            }
        };
        ready.push((entry, header));
    }
    let mut granted = context.grants_to_send(&asked)?.into_iter();
    let now = context.clock.now();
    ready
        .into_iter()
        .map(|(entry, header)| {
            let Some(header) = header else { return Ok(Ready { entry, sealed: None }) };
            let missing = || Failure::new(ProblemCode::Internal, "a grant is missing").about(&entry.name);
            let granted = granted.next().ok_or_else(missing)?;
            let key = granted.key_for(header.file_id(), Right::Send, now)?;
            // The label that was checked is the file's own.
            header.authenticate(key).map_err(|_| damaged().about(&entry.name))?;
            Ok(Ready { entry, sealed: Some((header, granted)) })
        })
        .collect()
}

fn check(header: &Header, legacy: bool, bulletin: &Bulletin) -> Result<(), Failure> {
    check_organisation(header, bulletin.organisation)?;
    let policy = header.policy();
    let label = bulletin.labels.iter().find(|keys| keys.label.id == policy.label);
    if !legacy || label.is_some_and(|keys| keys.allow_legacy_zip) {
        return Ok(());
    }
    let name = label.map_or(policy.label_name.as_str(), |keys| keys.label.name.as_str());
    let mut failure = Failure::new(
        ProblemCode::RightRefused,
        format!("files of the label {name} may not leave in the weak legacy encryption of ZIP"),
    );
    failure.problem.field = Some(String::from("legacy"));
    failure.particulars.label_name = Some(name.to_owned());
    Err(failure)
}

fn damaged() -> Failure {
    Failure::new(ProblemCode::CorruptEnvelope, "the file's header was changed after it was sealed")
}

/// One descriptor out of those that archives may hold: half of what the process may open.
#[derive(Debug)]
struct Held;

impl Held {
    fn take() -> Option<Self> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = limit.map_or(usize::MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX));
        let held = Self;
        // On failure `held` is dropped here and gives its count back.
        (HELD.fetch_add(1, Ordering::Relaxed) < most).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

//! Sealing one file in place (docs/spec/sealing.md). Every step is named in [`Step`]; the order is what keeps a file whole at
//! every cut point, so read the journal's rules before changing it.

use super::durable::sync;
use super::epochs::Epochs;
use super::exchange::{self, Exchange, Settled};
use super::facts::Facts;
use super::gate::{Gate, Hold};
use super::inspect::{Content, inspect};
use super::journal::{self, ExchangeId, Intent};
use super::metadata;
use super::root::{FolderRoot, Parent, is_control, is_plain, open_regular, remove};
use super::rule::{FolderRule, LabelRecipients, SealContext};
use super::step::{Safeguard, Step, Steps};
use super::stop::Stop;
use super::wipe::Wipe;
use crate::sys::{Lease, lease, set_lease};
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tobari_core::clock::Clock;
use tobari_core::crypto::second;
use tobari_core::envelope::{FilePolicy, ReadBackError, SealError, SealOptions, Sealed, read_back, seal};
use tobari_core::proto::control::UnsealedReason;

/// How often a write lease is asked for, with [`LEASE_PAUSE`] between: virus scanners, indexers and our own sweep have
/// files open for an instant only.
const LEASE_TRIES: u32 = 10;
const LEASE_PAUSE: Duration = Duration::from_millis(1);

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Sealed now; bytes of plaintext.
    Sealed(u64),
    /// It was sealed already.
    AlreadySealed,
}

/// Seals files. One for all folders and threads.
pub struct Sealer {
    context: SealContext,
    clock: Arc<dyn Clock>,
    epochs: Epochs,
    options: SealOptions,
    pub(super) steps: Steps,
    wipe: Wipe,
    gate: Option<Gate>,
}

/// Everything about one file in work.
pub(super) struct Work {
    pub(super) parent: Arc<OwnedFd>,
    pub(super) file: File,
    pub(super) facts: Facts,
    pub(super) attributes: metadata::Attributes,
    pub(super) id: ExchangeId,
}

/// A file whose envelope is written, but perhaps not durable yet.
pub(super) struct Draft {
    pub(super) work: Work,
    envelope: File,
    sealed: Sealed,
}

impl Sealer {
    /// A sealer for `context`.
    pub fn new(context: SealContext, clock: Arc<dyn Clock>, options: SealOptions) -> Self {
        let (epochs, steps) = (Epochs::default(), Steps::default());
        Self { context, clock, epochs, options, steps, wipe: Wipe::None, gate: None }
    }

    /// The same, holding up late openers.
    pub(crate) fn with_gate(self, gate: Option<Gate>) -> Self {
        Self { gate, ..self }
    }

    /// The same, doing this with the blocks of plaintexts.
    pub fn with_wipe(self, wipe: Wipe) -> Self {
        Self { wipe, ..self }
    }

    /// The same with a test's faults.
    #[cfg(test)]
    pub(crate) fn test_only_with_faults(mut self, faults: Arc<dyn super::step::Faults>) -> Self {
        self.steps = Steps::test_only_with(faults);
        self
    }

    /// The same without `safeguard`: loses data, for the crash suite's negative controls.
    #[cfg(feature = "test-only-unsafe")]
    pub fn test_only_without(mut self, safeguard: Safeguard) -> Self {
        self.steps = Steps::test_only_without(safeguard);
        self
    }

    /// Wipes the secrets of epochs that are over.
    pub(crate) fn expire_epochs(&self) {
        self.epochs.expire();
    }

    /// Finishes or undoes what an earlier run left in the folder's journal; what is still in use stays pending.
    ///
    /// # Errors
    /// When the journal cannot be read or a remainder of it cannot be removed.
    pub fn recover(&self, root: &FolderRoot) -> Result<(), Stop> {
        let pending = exchange::recover(root, &self.steps, self.wipe)?;
        root.pending().extend(pending);
        Ok(())
    }

    /// Tries again to end the exchanges of `root` whose files were in use; whether none is left.
    pub fn settle_pending(&self, root: &FolderRoot) -> bool {
        let waiting = std::mem::take(&mut *root.pending());
        for mut exchange in waiting {
            match exchange.settle(root, &self.steps) {
                Ok(Settled::Sealed | Settled::Restored) => {}
                Ok(Settled::Pending) => root.pending().push(exchange),
                Err(stop) => {
                    tracing::error!(folder = ?root.path(), error = %stop, "failed to end an exchange; trying again later");
                    root.pending().push(exchange);
                }
            }
        }
        root.pending().is_empty()
    }

    /// Seals the file `relative` of `root` by `rule`, unless it is sealed.
    ///
    /// # Errors
    /// When it is not sealed; what is under the name then is what was there before.
    pub fn seal(&self, root: &FolderRoot, rule: &FolderRule, relative: &Path) -> Result<Outcome, Stop> {
        root.check_control()?;
        let Some((work, keys)) = self.begin(root, rule, relative, &mut None)? else {
            return Ok(Outcome::AlreadySealed);
        };
        let (id, size) = (work.id.clone(), work.facts.size);
        match self.prepare(root, rule, keys, relative, work) {
            Ok(exchange) => self.finish(root, exchange, size),
            Err(Stop::Died) => Err(Stop::Died),
            Err(stop) => {
                self.abandon(root, &id);
                Err(stop)
            }
        }
    }

    /// Removes what was made for an exchange that will not be done. What cannot be removed now, recovery removes at the
    /// next start.
    pub(super) fn abandon(&self, root: &FolderRoot, id: &ExchangeId) {
        let removed = remove(root.control(), &id.data()).and_then(|()| remove(root.control(), &id.intent()));
        if let Err(error) = removed {
            tracing::warn!(folder = ?root.path(), %error, "failed to remove an unfinished envelope");
        }
    }

    /// Opens and leases the file `relative`; none when it is sealed.
    pub(super) fn begin<'r>(
        &self,
        root: &FolderRoot,
        rule: &'r FolderRule,
        relative: &Path,
        last: &mut Option<Parent>,
    ) -> Result<Option<(Work, &'r Arc<LabelRecipients>)>, Stop> {
        let (Some(name), true) = (relative.file_name(), is_plain(relative) && !is_control(relative)) else {
            return Err(Stop::Vanished);
        };
        let parent = self.steps.run(Step::OpenParent, || root.directory_of(relative, last))?;
        if root.is_control_directory(&Facts::of(&parent)?) {
            // Renamed.
            return Err(Stop::Vanished);
        }
        let (file, found) = self.steps.run(Step::OpenFile, || open_regular(&parent, name))?;
        let content = inspect(&file, found.size, self.context.organisation);
        match content.map_err(|stop| stop.at(Step::OpenFile))? {
            Content::Sealed => return Ok(None),
            Content::Foreign(detail) => return Err(Stop::refused(UnsealedReason::ForeignEnvelope, detail)),
            Content::Plain => {}
        }
        check_state(&found)?;
        let Some(keys) = &rule.keys else {
            return Err(Stop::refused(
                UnsealedReason::NoKey,
                "the bulletin has no key for the folder's label",
            ));
        };
        self.steps.run(Step::LeaseFile, || {
            // If somebody has it open, say so before the work, not after it. From here on readers may come and go
            // until the exchange; a writer ends the sealing.
            self.set_lease(&file, Lease::Write)?;
            self.set_lease(&file, Lease::Read)
        })?;
        let facts = Facts::of(&file)?;
        if !facts.untouched_since(&found) {
            return Err(changed());
        }
        let attributes = metadata::attributes(&file)?;
        Ok(Some((Work { parent, file, facts, attributes, id: ExchangeId::generate() }, keys)))
    }

    /// All up to the moment before the exchange; then both files are leased and the intent is durable.
    fn prepare(
        &self,
        root: &FolderRoot,
        rule: &FolderRule,
        keys: &Arc<LabelRecipients>,
        relative: &Path,
        work: Work,
    ) -> Result<Exchange, Stop> {
        let steps = &self.steps;
        let draft = self.draft(root, rule, keys, work)?;
        steps.run(Step::SyncEnvelope, || Ok(sync(&draft.envelope)?))?;
        self.drop_cached(&draft)?;
        let intent = self.check(&draft, relative)?;
        if !steps.without(Safeguard::Journal) {
            let written =
                steps.run(Step::WriteIntent, || journal::write_intent(root, &draft.work.id, &intent))?;
            steps.run(Step::SyncIntent, || Ok(sync(written)?))?;
        }
        steps.sync_directory(Step::SyncControl, root.control())?;
        let mut exchange = self.exchange(root, draft, intent)?;
        exchange.hold(self.hold().as_ref());
        Ok(exchange)
    }

    /// Room for displaced files whose openers are held up, where that can be had.
    pub(super) fn hold(&self) -> Option<Arc<Hold>> {
        self.gate.as_ref().and_then(Gate::hold)
    }

    /// The same for the files of a group, which are answered for together; none when each needs its own.
    pub(super) fn hold_group(&self) -> Option<Arc<Hold>> {
        // What is overwritten is opened for it, by ourselves, before the group ends.
        if self.wipe == Wipe::None { self.hold() } else { None }
    }

    /// Writes the envelope beside the file.
    pub(super) fn draft(
        &self,
        root: &FolderRoot,
        rule: &FolderRule,
        keys: &Arc<LabelRecipients>,
        work: Work,
    ) -> Result<Draft, Stop> {
        let steps = &self.steps;
        let Work { file, facts, attributes, id, .. } = &work;
        let envelope = steps.run(Step::CreateEnvelope, || {
            root.has_room(facts.size)?;
            journal::create_data(root, id, facts)
        })?;
        let sealed =
            steps.run(Step::WriteEnvelope, || self.write_envelope(rule, keys, file, facts, &envelope))?;
        steps.run(Step::CopyMetadata, || {
            metadata::apply(&envelope, facts, attributes)?;
            metadata::apply_times(&envelope, facts)
        })?;
        Ok(Draft { work, envelope, sealed })
    }

    /// Takes the envelope, which is durable, out of the page cache, which else would answer for the disk at the read-back.
    pub(super) fn drop_cached(&self, draft: &Draft) -> Result<(), Stop> {
        self.steps.spoil(&draft.envelope);
        Ok(fadvise(&draft.envelope, 0, None, Advice::DontNeed)?)
    }

    /// Has the disk begin to read the envelope: a group's are read at the same time, not one after the other.
    pub(super) fn read_ahead(draft: &Draft) -> Result<(), Stop> {
        Ok(fadvise(&draft.envelope, 0, None, Advice::WillNeed)?)
    }

    /// Reads the envelope, which is durable, back from the disk, and says what the journal has to say of the exchange.
    pub(super) fn check(&self, draft: &Draft, relative: &Path) -> Result<Intent, Stop> {
        let (steps, Draft { work: Work { parent, file, facts, .. }, envelope, sealed }) =
            (&self.steps, draft);
        if !steps.without(Safeguard::ReadBack) {
            steps.run(Step::ReadBack, || self.read_back(file, facts, envelope, sealed))?;
        }
        let parent_inode = Facts::of(parent)?.inode;
        let both = [facts.clone(), Facts::of(envelope)?];
        Ok(Intent::new(relative, parent_inode, both, [file, envelope], sealed.file_id))
    }

    /// Leases both files and exchanges them. Envelope and intent are durable.
    pub(super) fn exchange(&self, root: &FolderRoot, draft: Draft, intent: Intent) -> Result<Exchange, Stop> {
        let steps = &self.steps;
        let Draft { work: Work { parent, file, id, .. }, envelope, .. } = draft;
        steps.run(Step::LeaseExchange, || {
            self.set_lease(&file, Lease::Write)?;
            self.set_lease(&envelope, Lease::Write)?;
            self.still_ours(&file)?;
            // The change time covers the metadata as well.
            if Facts::of(&file)?.untouched_since(&intent.plain) { Ok(()) } else { Err(changed()) }
        })?;
        let mut exchange = Exchange::new(id, intent, parent, file, envelope);
        exchange.wipe = self.wipe;
        steps.run(Step::Exchange, || {
            exchange.swap(root).map_err(|errno| match errno {
                Errno::NOENT => Stop::Vanished,
                errno => errno.into(),
            })
        })?;
        Ok(exchange)
    }

    /// All after the exchange.
    fn finish(&self, root: &FolderRoot, mut exchange: Exchange, size: u64) -> Result<Outcome, Stop> {
        let done = self.confirm(&mut exchange, root).and_then(|()| self.sync_exchange(root, &exchange));
        self.end(root, exchange, size, done)
    }

    /// Brings the exchange to its end; `done` says whether it is right and durable.
    pub(super) fn end(
        &self,
        root: &FolderRoot,
        mut exchange: Exchange,
        size: u64,
        done: Result<(), Stop>,
    ) -> Result<Outcome, Stop> {
        if let Err(Stop::Died) = done {
            return Err(Stop::Died);
        }
        exchange.complete = done.is_ok();
        match (exchange.settle(root, &self.steps), done) {
            (Ok(Settled::Sealed), Ok(())) => Ok(Outcome::Sealed(size)),
            (Err(Stop::Died), _) => Err(Stop::Died),
            (Ok(Settled::Sealed | Settled::Restored), Err(stop)) => Err(stop),
            (Ok(Settled::Restored), Ok(())) => Err(in_use("somebody opened it while it was being sealed")),
            (Ok(Settled::Pending), done) => {
                root.pending().push(exchange);
                Err(done.err().unwrap_or_else(|| in_use("somebody opened it while it was being sealed")))
            }
            (Err(stop), done) => {
                root.pending().push(exchange);
                Err(done.err().unwrap_or(stop))
            }
        }
    }

    /// Looks whether we exchanged what we meant to.
    pub(super) fn confirm(&self, exchange: &mut Exchange, root: &FolderRoot) -> Result<(), Stop> {
        let steps = &self.steps;
        let (Some(file), Some(envelope)) = (&exchange.plain, &exchange.envelope) else { return Ok(()) };
        exchange.intent.plain = steps.run(Step::CheckExchange, || {
            let displaced = Facts::in_control(root.control(), &exchange.id.data())?;
            if steps.without(Safeguard::Lease) {
                return Ok(displaced);
            }
            // An editor may have renamed a newer version over the name, or changed owner or mode, since the last look.
            if !displaced.same_but_times(&exchange.intent.plain) {
                return Err(changed());
            }
            // Its directory may have been moved away, out of the folder, since it was opened.
            let directory = root.open_parent(&exchange.intent.directory()).map_err(|_| changed())?;
            if Facts::of(directory)?.inode != exchange.intent.parent {
                return Err(changed());
            }
            self.still_ours(file)?;
            // Attributes leave their trace in the change time alone, which the exchange itself sets too.
            if metadata::attributes(file)? != metadata::attributes(envelope)? {
                return Err(changed());
            }
            Ok(displaced)
        })?;
        Ok(())
    }

    /// Makes the exchange durable.
    fn sync_exchange(&self, root: &FolderRoot, exchange: &Exchange) -> Result<(), Stop> {
        let steps = &self.steps;
        if let Some(parent) = &exchange.parent {
            steps.sync_directory(Step::SyncParent, parent)?;
        }
        steps.sync_directory(Step::SyncExchanged, root.control())
    }

    fn write_envelope(
        &self,
        rule: &FolderRule,
        keys: &Arc<LabelRecipients>,
        file: &File,
        facts: &Facts,
        envelope: &File,
    ) -> Result<Sealed, Stop> {
        // A spent epoch is replaced once; a new one cannot be spent.
        for _ in 0..2 {
            let policy = FilePolicy {
                organisation: self.context.organisation,
                label: keys.label.id,
                label_level: keys.label.level,
                label_name: keys.label.name.clone(),
                owner_group: rule.folder.owner_group,
                sealed_at: self.clock.now(),
                sealer: self.context.terminal,
                generation: keys.generation,
            };
            let epoch = self.epochs.current(keys)?;
            let mut source = self.source(file);
            match seal(&mut source, envelope, &epoch, policy, &self.options, &mut |_| {}) {
                Ok(sealed) if sealed.length == facts.size => return Ok(sealed),
                Ok(_) => return Err(changed()),
                Err(SealError::EpochSpent) => self.epochs.retire(keys, &epoch),
                Err(SealError::Source(error)) => return Err(source_error(error)),
                Err(SealError::Storage(error)) => return Err(error.into()),
                Err(error) => return Err(io::Error::other(error).into()),
            }
        }
        Err(io::Error::other(SealError::EpochSpent).into())
    }

    /// Checks the envelope, as it is on the disk, against the plaintext with the second provider.
    fn read_back(&self, file: &File, facts: &Facts, envelope: &File, sealed: &Sealed) -> Result<(), Stop> {
        let mut source = self.source(file);
        match read_back(envelope, &sealed.dek, &mut source, second()) {
            Ok(()) => {}
            Err(ReadBackError::Source(error)) => return Err(source_error(error)),
            Err(ReadBackError::Storage(error)) => return Err(error.into()),
            Err(error) => {
                // A file that changed under us would explain it too.
                let untouched = Facts::of(file)?.untouched_since(facts);
                let failed = || Stop::refused(UnsealedReason::ReadBackFailed, error.to_string());
                return Err(if untouched { failed() } else { changed() });
            }
        }
        Ok(())
    }

    fn source<'a>(&'a self, file: &'a File) -> Source<'a> {
        Source { file, offset: 0, sealer: self }
    }

    fn set_lease(&self, file: &File, wanted: Lease) -> Result<(), Stop> {
        if self.steps.without(Safeguard::Lease) {
            return Ok(());
        }
        for _ in 0..LEASE_TRIES {
            match set_lease(file, wanted) {
                Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {
                    std::thread::sleep(LEASE_PAUSE)
                }
                other => return Ok(other?),
            }
        }
        Err(in_use("another process has it open"))
    }

    /// Fails when somebody waits in `open` for a file of which we hold the write lease.
    fn still_ours(&self, file: &File) -> Result<(), Stop> {
        if self.steps.without(Safeguard::Lease) || lease(file)? == Lease::Write {
            return Ok(());
        }
        Err(in_use("another process came to open it"))
    }
}

/// Reads the plaintext from its start, and stops as soon as somebody waits for the file.
struct Source<'a> {
    file: &'a File,
    offset: u64,
    sealer: &'a Sealer,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.sealer.steps.without(Safeguard::Lease) && lease(self.file)? == Lease::None {
            return Err(Errno::AGAIN.into());
        }
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

fn check_state(found: &Facts) -> Result<(), Stop> {
    if found.links > 1 {
        let detail = format!("it has {} names (hard links)", found.links);
        return Err(Stop::refused(UnsealedReason::HardLinked, detail));
    }
    if found.locked {
        return Err(Stop::refused(UnsealedReason::Immutable, "it is immutable or append-only (chattr)"));
    }
    Ok(())
}

fn source_error(error: io::Error) -> Stop {
    if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) {
        return in_use("another process came to open it");
    }
    Stop::refused(UnsealedReason::Unreadable, format!("read: {error}"))
}

pub(super) fn in_use(detail: &str) -> Stop {
    Stop::refused(UnsealedReason::InUse, detail)
}

fn changed() -> Stop {
    Stop::refused(UnsealedReason::Changed, "it changed while it was being sealed")
}

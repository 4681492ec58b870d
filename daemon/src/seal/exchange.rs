//! An exchange under way, and how it ends: the displaced file is given up only when it is proven unused and unchanged.
//!
//! Whoever resolved the name before the exchange may open the displaced file after it. So what lies in the
//! journal's place is removed only under a fresh write lease (nobody has it open) and only if it is still what it
//! was when it was displaced. Otherwise it goes back under the name, and what had the name meanwhile is treated the
//! same way. If both sides were written, the one in the journal's place gets a name of its own: nothing that anybody
//! wrote is dropped.
//!
//! Just before its removal it loses its mode: from then on nobody comes in whom modes stop, not even by a descriptor
//! from `O_PATH`, and whatever ends the daemon there, a restart gives the mode back with the name. The gate ([`super::gate`]) stops the
//! others. A hard link that somebody makes in that last instant is theirs, and gets the mode back.

use super::durable::sync;
use super::facts::Facts;
use super::gate::{Held, Hold};
use super::journal::{self, ExchangeId, Intent, Record, Remains};
use super::metadata;
use super::root::{CONTROL, FolderRoot, open_regular, remove};
use super::step::{Safeguard, Step, Steps};
use super::stop::Stop;
use super::wipe::{self, Wipe};
use crate::sys::{Lease, lease, set_lease};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, RenameFlags, chmodat, fchmod, renameat as rename, renameat_with,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tobari_core::envelope::looks_sealed;

/// Longest file name, in bytes.
const NAME_MAX: usize = 255;

/// An exchange whose intent is in the journal.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) id: ExchangeId,
    /// Names, and both sides as they were when they were last known to be ours alone.
    pub(crate) intent: Intent,
    /// Directory of the name; none when it is gone.
    pub(crate) parent: Option<Arc<OwnedFd>>,
    /// The plaintext, where this process has it open. No other descriptor of ours may be open on it: that would
    /// break the lease.
    pub(crate) plain: Option<File>,
    /// The envelope, likewise.
    pub(crate) envelope: Option<File>,
    /// Whether the plaintext may be given up. Not after a restart or an error: then what was done is undone, and
    /// sealing starts anew.
    pub(crate) complete: bool,
    /// What happens to a plaintext that is given up.
    pub(crate) wipe: Wipe,
    /// Holds up whoever comes to open the plaintext, where that can be had.
    pub(crate) held: Option<Held>,
    /// Whether the plaintext's removal is made durable together with those of other files, by the group.
    pub(super) grouped: bool,
    /// The group's record that has the intent, while there is no intent of its own.
    pub(super) record: Option<Arc<Record>>,
    /// Whether the mode of what lies in the journal's place is, or may be, taken away.
    taken: bool,
    /// What was removed, while it is not known to be unused. Somebody may have come to open it in that instant.
    late: Option<Removed>,
}

/// A displaced file that has no name in the journal any more.
#[derive(Debug)]
struct Removed {
    file: File,
    side: Displaced,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The plaintext is gone; the name has the envelope, or what somebody put there since.
    Sealed,
    /// The name has plaintext again.
    Restored,
    /// Somebody has the displaced file open; try again later.
    Pending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Displaced {
    Plain,
    Envelope,
    Stranger,
}

impl Exchange {
    /// A new exchange, not yet done.
    pub(crate) fn new(
        id: ExchangeId,
        intent: Intent,
        parent: Arc<OwnedFd>,
        plain: File,
        envelope: File,
    ) -> Self {
        Self {
            id,
            intent,
            parent: Some(parent),
            plain: Some(plain),
            envelope: Some(envelope),
            complete: false,
            wipe: Wipe::None,
            held: None,
            grouped: false,
            record: None,
            taken: false,
            late: None,
        }
    }

    /// The exchange of which a restart found `intent`, with its directory if that still exists.
    fn resume(root: &FolderRoot, id: ExchangeId, mut intent: Intent, wipe: Wipe) -> Self {
        // Device numbers are given anew at each mount; both files are on the folder's file system, or it is not this
        // folder's journal.
        (intent.plain.device, intent.envelope.device) = (root.device(), root.device());
        let parent = find_parent(root, &intent).map(Arc::new);
        Self {
            id,
            intent,
            parent,
            plain: None,
            envelope: None,
            complete: false,
            wipe,
            held: None,
            grouped: false,
            record: None,
            taken: true,
            late: None,
        }
    }

    /// Has those who come to open the plaintext wait, from now on.
    pub(super) fn hold(&mut self, hold: Option<&Arc<Hold>>) {
        self.held = hold.zip(self.plain.as_ref()).and_then(|(hold, plain)| hold.add(plain));
    }

    /// Exchanges the name with the data file, whichever way round they are.
    pub(crate) fn swap(&self, root: &FolderRoot) -> Result<(), Errno> {
        let Some(parent) = &self.parent else { return Err(Errno::NOENT) };
        renameat_with(root.control(), self.id.data(), parent, self.intent.name(), RenameFlags::EXCHANGE)
    }

    /// Brings the exchange to its end, or as far as other users of the files allow.
    pub(crate) fn settle(&mut self, root: &FolderRoot, steps: &Steps) -> Result<Settled, Stop> {
        let mut settled = Ok(Settled::Pending);
        // Each turn ends it or moves one file; more turns mean that somebody races with us, and later is better.
        for _ in 0..8 {
            match self.turn(root, steps) {
                Ok(None) => {}
                Ok(Some(end)) => {
                    settled = Ok(end);
                    break;
                }
                Err(stop) => {
                    settled = Err(stop);
                    break;
                }
            }
        }
        if !matches!(settled, Ok(Settled::Sealed | Settled::Restored) | Err(Stop::Died)) {
            // It may take long: whoever waits for one of the files must not wait for us, or miss its mode.
            self.complete = false;
            if let Err(error) = self.restore_mode(root) {
                tracing::warn!(%error, "failed to give a displaced file its mode back; trying again later");
            }
            for file in [self.plain.as_ref(), self.envelope.as_ref(), self.removed()].into_iter().flatten() {
                let _ = set_lease(file, Lease::None);
            }
            self.leave_record(root);
        }
        if let Some(held) = self.held.take() {
            // Nobody is let in under our lease: asking us would break it.
            if let Some(file) = self.plain.as_ref().or(self.removed()) {
                let _ = set_lease(file, Lease::None);
                held.free(file);
            }
        }
        settled
    }

    fn removed(&self) -> Option<&File> {
        self.late.as_ref().map(|removed| &removed.file)
    }

    /// The group does not wait for those that take longer: they get an intent of their own.
    fn leave_record(&mut self, root: &FolderRoot) {
        let Some(record) = self.record.take() else { return };
        if self.late.is_some() {
            // Nothing is in the journal's place.
            return;
        }
        let written = match journal::write_intent(root, &self.id, &self.intent) {
            Ok(file) => sync(file).and_then(|()| sync(root.control())).map_err(Stop::from),
            // After a restart there may be one, which is the newer.
            Err(stop) if stop.is(Errno::EXIST) => Ok(()),
            Err(stop) => Err(stop),
        };
        if let Err(stop) = written {
            tracing::warn!(folder = ?root.path(), error = %stop, "the record of a group stays until the next start");
            record.keep();
        }
    }

    /// One step towards the end; none when the next is needed at once.
    fn turn(&mut self, root: &FolderRoot, steps: &Steps) -> Result<Option<Settled>, Stop> {
        if self.late.is_some() {
            return self.rescue(root, steps);
        }
        self.restore_mode(root)?;
        let slot = match Facts::in_control(root.control(), &self.id.data()) {
            Ok(facts) => facts,
            Err(Errno::NOENT) => {
                // Removed, but perhaps not yet durably.
                steps.sync_directory(Step::SyncUnlink, root.control())?;
                self.overwrite(root)?;
                steps.run(Step::CloseIntent, || Ok(remove(root.control(), &self.id.intent())?))?;
                return Ok(Some(Settled::Sealed));
            }
            Err(errno) => return Err(errno.into()),
        };
        let side = if slot.same_file(&self.intent.plain) {
            Displaced::Plain
        } else if slot.same_file(&self.intent.envelope) {
            Displaced::Envelope
        } else {
            Displaced::Stranger
        };
        // Undo while the name has our envelope as we made it, unless all went well.
        let undo = side == Displaced::Plain && !self.complete && self.name_has(&self.intent.envelope);
        if side == Displaced::Stranger || undo {
            return self.put_back(root);
        }
        let data = self.id.data();
        let (file, before) = match side {
            Displaced::Plain => (&mut self.plain, &self.intent.plain),
            _ => (&mut self.envelope, &self.intent.envelope),
        };
        let file = match file {
            Some(file) => &*file,
            none => match open_regular(root.control(), &data) {
                Ok((opened, _)) => &*none.insert(opened),
                Err(stop) if stop.is(Errno::AGAIN) => return Ok(Some(Settled::Pending)),
                Err(stop) => return Err(stop),
            },
        };
        let unguarded = steps.without(Safeguard::Lease);
        // Those who are held up count as users, so a fresh lease would be refused; but they cannot have come in, and
        // whoever was on the way in before them has broken the lease that is held since before the exchange.
        let held = side == Displaced::Plain && self.held.is_some();
        let unused = || if held && lease(file)? == Lease::Write { Ok(true) } else { fresh_lease(file) };
        if !steps.run(Step::LeaseDisplaced, unused)? && !unguarded {
            let back = side == Displaced::Plain && self.name_has(&self.intent.envelope);
            // The opener gets its own file, and what it writes is written to the name.
            return if back { self.put_back(root) } else { Ok(Some(Settled::Pending)) };
        }
        let now = steps.run(Step::CompareDisplaced, || Ok(Facts::in_control(root.control(), &data)?))?;
        // The plaintext's change time is known only while this process has seen every rename of it.
        let exact = side == Displaced::Plain && self.complete;
        let unchanged = if exact { now.untouched_since(before) } else { now.same_content(before) };
        if !unchanged && !unguarded {
            return self.put_back(root);
        }
        self.give_up(root, steps, side)
    }

    /// Removes the displaced file, which is leased, and closes the journal's entry.
    fn give_up(
        &mut self,
        root: &FolderRoot,
        steps: &Steps,
        side: Displaced,
    ) -> Result<Option<Settled>, Stop> {
        if side == Displaced::Envelope || !self.complete {
            // The name has something that we moved there, and that is durable only now.
            self.sync_names(root)?;
        }
        if !steps.run(Step::TakeMode, || self.take_mode(side, steps))? {
            self.restore_mode(root)?;
            let back = side == Displaced::Plain && self.name_has(&self.intent.envelope);
            return if back { self.put_back(root) } else { Ok(Some(Settled::Pending)) };
        }
        let wipe = side == Displaced::Plain && self.wipe == Wipe::Overwrite;
        steps.run(Step::UnlinkDisplaced, || {
            let (control, data) = (root.control(), self.id.data());
            Ok(if wipe { rename(control, data, control, self.id.wipe()) } else { remove(control, &data) }?)
        })?;
        self.taken = false;
        let file = if side == Displaced::Plain { self.plain.take() } else { self.envelope.take() };
        self.late = file.map(|file| Removed { file, side });
        self.look_again(steps)?;
        if self.grouped && self.complete && side == Displaced::Plain && self.late.is_none() {
            // Nothing undoes it any more, so that nobody has to wait for the envelope until the group's last sync.
            self.envelope = None;
            self.refuse_late_openers();
            return Ok(Some(Settled::Sealed));
        }
        steps.sync_directory(Step::SyncUnlink, root.control())?;
        if self.late.is_none() {
            if side == Displaced::Plain {
                self.refuse_late_openers();
            }
            self.overwrite(root)?;
        }
        steps.run(Step::CloseIntent, || Ok(remove(root.control(), &self.id.intent())?))?;
        if self.late.is_some() {
            return Ok(Some(Settled::Pending));
        }
        Ok(Some(if side == Displaced::Plain { Settled::Sealed } else { Settled::Restored }))
    }

    /// Takes away the mode of the displaced file, so that nobody comes in any more, and looks whether somebody did before: whether
    /// it is unused and unchanged still.
    fn take_mode(&mut self, side: Displaced, steps: &Steps) -> Result<bool, Stop> {
        let (file, before) = match side {
            Displaced::Plain => (&self.plain, &self.intent.plain),
            _ => (&self.envelope, &self.intent.envelope),
        };
        let Some(file) = file else { return Ok(false) };
        self.taken = true;
        fchmod(file, Mode::empty())?;
        if steps.without(Safeguard::Lease) {
            return Ok(true);
        }
        let held = side == Displaced::Plain && self.held.is_some();
        let alone = lease(file)? == Lease::Write && (held || can_lease(file)?);
        let now = Facts::of(file)?;
        // Another name is no hindrance where it cannot go back anyway.
        let linked = now.links > 1 && side == Displaced::Plain && self.name_has(&self.intent.envelope);
        Ok(alone && now.same_content(before) && !linked)
    }

    /// Gives what lies in the journal's place its mode back, if that was taken away.
    fn restore_mode(&mut self, root: &FolderRoot) -> Result<(), Stop> {
        if !self.taken {
            return Ok(());
        }
        let data = self.id.data();
        let now = match Facts::in_control(root.control(), &data) {
            Ok(now) => now,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let sides = [&self.intent.plain, &self.intent.envelope];
        if let Some(before) = sides.into_iter().find(|before| now.lost_mode_of(before)) {
            chmodat(root.control(), data, mode_of(before), AtFlags::empty())?;
        }
        self.taken = false;
        Ok(())
    }

    /// What was removed is looked at once more: whether somebody came in that instant, or made another name for it.
    fn look_again(&mut self, steps: &Steps) -> Result<(), Stop> {
        let Some(Removed { file, side }) = &self.late else { return Ok(()) };
        let (plain, before) = match side {
            Displaced::Plain => (true, &self.intent.plain),
            _ => (false, &self.intent.envelope),
        };
        let ours = u32::from(plain && self.wipe == Wipe::Overwrite);
        if Facts::of(file)?.links > ours {
            // That name is its maker's, and so is what they write to it.
            fchmod(file, mode_of(before))?;
            tracing::warn!(name = ?self.intent.name(), "the plaintext was given another name in the instant of its removal, and stays there");
            let _ = set_lease(file, Lease::None);
            if let Some(held) = self.held.take_if(|_| plain) {
                held.free(file);
            }
        } else if lease(file)? != Lease::Write && !steps.without(Safeguard::Lease) {
            return Ok(());
        } else if self.held.is_some() {
            // Before its openers are answered. Closing it is not enough while a program that was just started has it open as well.
            let _ = set_lease(file, Lease::None);
        }
        self.late = None;
        Ok(())
    }

    /// The plaintext was given up, and is closed.
    fn refuse_late_openers(&mut self) {
        if let Some(held) = self.held.take() {
            held.refuse();
        }
    }

    /// Overwrites and removes the plaintext that was given up, if that is wanted.
    fn overwrite(&self, root: &FolderRoot) -> Result<(), Stop> {
        if self.wipe == Wipe::None {
            return Ok(());
        }
        wipe::overwrite(root.control(), &self.id.wipe(), Some(&self.intent.plain))
    }

    /// Moves what lies in the journal's place back under the name, without dropping what has the name now. Ends the
    /// exchange if the journal's place is empty afterwards.
    fn put_back(&mut self, root: &FolderRoot) -> Result<Option<Settled>, Stop> {
        self.complete = false;
        self.restore_mode(root)?;
        let name = self.intent.name();
        let Some(parent) = &self.parent else {
            return self.put_aside(root, root.open_directory(Path::new(""))?.as_fd());
        };
        let now = match Facts::at(parent, &name) {
            Ok(now) => now,
            Err(Errno::NOENT) => {
                return match renameat_with(
                    root.control(),
                    self.id.data(),
                    parent,
                    &name,
                    RenameFlags::NOREPLACE,
                ) {
                    Ok(()) => self.close(root).map(Some),
                    Err(Errno::EXIST) => Ok(None),
                    // The directory was removed.
                    Err(Errno::NOENT) => {
                        self.parent = None;
                        Ok(None)
                    }
                    Err(errno) => Err(errno.into()),
                };
            }
            Err(errno) => return Err(errno.into()),
        };
        if !now.same_content(&self.intent.plain) && !now.same_content(&self.intent.envelope) {
            // Somebody's newer file has the name.
            return self.put_aside(root, parent.as_fd());
        }
        self.swap(root)?;
        let displaced = Facts::in_control(root.control(), &self.id.data())?;
        if !displaced.same_file(&now) {
            // Replaced in that instant; what we displaced is somebody's newer file.
            self.swap(root)?;
        }
        Ok(None)
    }

    /// Gives what lies in the journal's place a name of its own.
    fn put_aside(&self, root: &FolderRoot, directory: impl AsFd) -> Result<Option<Settled>, Stop> {
        let mut name = self.intent.name();
        let ending = format!(".conflict-{}", self.id.short());
        if name.len() + ending.len() > NAME_MAX {
            name = "file".into();
        }
        name.push(ending);
        renameat_with(root.control(), self.id.data(), &directory, &name, RenameFlags::NOREPLACE)?;
        sync(&directory)?;
        tracing::warn!(name = ?name, "kept a version that was written while its name was sealed or replaced");
        self.close(root).map(Some)
    }

    fn close(&self, root: &FolderRoot) -> Result<Settled, Stop> {
        self.sync_names(root)?;
        remove(root.control(), &self.id.intent())?;
        Ok(Settled::Restored)
    }

    fn sync_names(&self, root: &FolderRoot) -> Result<(), Stop> {
        if let Some(parent) = &self.parent {
            sync(parent)?;
        }
        Ok(sync(root.control())?)
    }

    fn name_has(&self, facts: &Facts) -> bool {
        let Some(parent) = &self.parent else { return false };
        Facts::at(parent, &self.intent.name()).is_ok_and(|now| now.same_content(facts))
    }

    /// Keeps what was written to the plaintext by somebody whose `open` met its removal: a copy takes its part in a
    /// new exchange.
    fn rescue(&mut self, root: &FolderRoot, steps: &Steps) -> Result<Option<Settled>, Stop> {
        // A failure may have come before the first look.
        self.look_again(steps)?;
        let Some(Removed { file: late, side }) = &self.late else { return Ok(None) };
        if !fresh_lease(late)? {
            return Ok(Some(Settled::Pending));
        }
        let now = Facts::of(late)?;
        let before = if *side == Displaced::Plain { &self.intent.plain } else { &self.intent.envelope };
        if now.same_content(before) {
            self.late = None;
            return Ok(None);
        }
        let id = ExchangeId::generate();
        let mut copy = journal::create_data(root, &id, &now)?;
        let copied = copy_all(late, &mut copy)
            .map_err(Stop::from)
            .and_then(|()| {
                metadata::apply(
                    &copy,
                    &Facts { mode: self.intent.plain.mode, ..now.clone() },
                    &metadata::attributes(late)?,
                )
            })
            // Taking away its mode changed its access control list as well; giving the mode back restores it.
            .and_then(|()| Ok(fchmod(&copy, Mode::from_raw_mode(self.intent.plain.mode.into()))?))
            .and_then(|()| metadata::apply_times(&copy, &now))
            .and_then(|()| Ok(sync(&copy)?));
        if let Err(stop) = copied {
            remove(root.control(), &id.data())?;
            return Err(stop);
        }
        let mut intent = self.intent.clone();
        intent.plain = Facts::of(&copy)?;
        sync(journal::write_intent(root, &id, &intent)?)?;
        sync(root.control())?;
        self.late = None;
        // Its content is in the copy. What fails here, the next start does.
        if let Err(stop) = self.overwrite(root) {
            tracing::warn!(error = %stop, "failed to overwrite a displaced file");
        }
        (self.id, self.intent) = (id, intent);
        Ok(None)
    }
}

/// Finishes or undoes what the journal of `root` has from an earlier run. What somebody still uses is returned, to be
/// settled later.
pub(crate) fn recover(root: &FolderRoot, steps: &Steps, wipe: Wipe) -> Result<Vec<Exchange>, Stop> {
    let mut pending = Vec::new();
    let (exchanges, records) = journal::list(root)?;
    for (id, remains) in exchanges {
        if remains.wipe {
            // Given up already, whatever is configured now.
            let intent = remains.intent.as_ref().and_then(Option::as_ref);
            wipe::overwrite(root.control(), &id.wipe(), intent.map(|intent| &intent.plain))?;
        }
        match remains {
            // Never exchanged.
            Remains { intent: None, .. } => remove(root.control(), &id.data())?,
            // All done but for this.
            Remains { data: false, intent: Some(intent), .. } => {
                if let Some(intent) = intent {
                    free_links(root, &intent)?;
                }
                remove(root.control(), &id.intent())?;
            }
            Remains { data: true, intent: Some(Some(intent)), record, .. } => {
                let mut exchange = Exchange { record, ..Exchange::resume(root, id, intent, wipe) };
                match exchange.settle(root, steps) {
                    Ok(Settled::Pending) => pending.push(exchange),
                    Ok(Settled::Sealed | Settled::Restored) => {}
                    Err(Stop::Died) => return Err(Stop::Died),
                    Err(stop) => {
                        tracing::error!(error = %stop, "failed to finish an exchange of the last run; trying again later");
                        pending.push(exchange);
                    }
                }
            }
            Remains { data: true, intent: Some(None), record, .. } => {
                let gone = recover_unreadable(root, &id)?;
                if let Some(record) = record.filter(|_| !gone) {
                    record.keep();
                }
            }
        }
    }
    // What was done for its files is durable before a record goes.
    sync(root.control())?;
    for record in records {
        record.close(root)?;
    }
    Ok(pending)
}

/// The daemon died between the removal of a displaced file and the look after it: if somebody had made another name for it, that
/// still has no mode.
fn free_links(root: &FolderRoot, intent: &Intent) -> Result<(), Stop> {
    for (handle, before) in intent.handles().into_iter().zip([&intent.plain, &intent.envelope]) {
        // It does not exist any more, as it should be; or the privilege to look is not there.
        let Some(file) = handle.and_then(|handle| handle.open(root.control()).ok()) else { continue };
        let now = Facts::of(&file)?;
        if now.links > 0
            && now.inode == before.inode
            && now.lost_mode_of(&Facts { device: now.device, ..before.clone() })
        {
            chmodat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), mode_of(before), AtFlags::empty())?;
            tracing::warn!(name = ?intent.name(), "the plaintext was given another name in the instant of its removal, and stays there");
        }
    }
    Ok(())
}

fn mode_of(facts: &Facts) -> Mode {
    Mode::from_raw_mode(facts.mode.into())
}

/// An intent that was cut in the middle was never acted upon, so its data is an envelope. If it is not, the intent
/// was damaged later, and the data may be the only copy of somebody's file. Says whether it is gone.
fn recover_unreadable(root: &FolderRoot, id: &ExchangeId) -> Result<bool, Stop> {
    let (file, _) = open_regular(root.control(), &id.data())?;
    let mut prefix = Vec::new();
    file.take(64).read_to_end(&mut prefix)?;
    let unused = looks_sealed(&prefix);
    if unused {
        remove(root.control(), &id.data())?;
        remove(root.control(), &id.intent())?;
    } else {
        let file = Path::new(CONTROL).join(id.data());
        tracing::error!(folder = ?root.path(), ?file, "a journal entry is damaged; its file is kept and has to be looked at");
    }
    Ok(unused)
}

/// Whether nobody else has `file` open. First lets through whoever waits for it in `open`, who then has it open.
fn fresh_lease(file: &File) -> Result<bool, Stop> {
    set_lease(file, Lease::None).or_else(|error| {
        // There was none.
        if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) { Ok(()) } else { Err(error) }
    })?;
    match set_lease(file, Lease::Write) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the lease on `file` can be had once more: not while somebody has it open, or is in the middle of `open`.
fn can_lease(file: &File) -> Result<bool, Stop> {
    match set_lease(file, Lease::Write) {
        Ok(()) => Ok(lease(file)? == Lease::Write),
        Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn copy_all(from: &File, to: &mut File) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; 1 << 18];
    let mut offset = 0;
    loop {
        let length = from.read_at(&mut buffer, offset)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        to.write_all(bytes)?;
        offset += length as u64;
    }
}

/// The directory of an intent, by its path if that still leads to the same directory, else by its inode.
fn find_parent(root: &FolderRoot, intent: &Intent) -> Option<OwnedFd> {
    let is_it = |directory: &OwnedFd| Facts::of(directory).is_ok_and(|facts| facts.inode == intent.parent);
    if let Some(found) = root.open_directory(&intent.directory()).ok().filter(is_it) {
        return Some(found);
    }
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let Ok(directory) = root.open_directory(&path) else { continue };
        if is_it(&directory) {
            return Some(directory);
        }
        let Ok(entries) = Dir::read_from(&directory) else { continue };
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let is_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            if is_directory
                && name != "."
                && name != ".."
                && (name != CONTROL || !path.as_os_str().is_empty())
            {
                waiting.push(path.join(name));
            }
        }
    }
    None
}

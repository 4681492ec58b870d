//! What is on the disk, in `enrolment/leases`:
//!
//! ```text
//! state        sealed: counter, time, openings, end of the chain, offline logins
//! records      what the key server has not confirmed yet, one JSON text a line
//! <id>.json    the signed leases
//! <id>.created files that were created under leases of labels, with their keys, one JSON text a line
//! ```
//!
//! `state` is sealed under a key derived from this terminal's grant key, so another terminal cannot read it and nobody can edit
//! it. It names its own inode and time of birth: a copy that was put back is another file. It is replaced as a
//! whole, before the records that it holds in `pending` are appended, so that a cut loses neither. A disk that is set back
//! as a whole, by an image, is seen where the terminal has a TPM: each state names the next value of a counter there, which is counted up
//! before anything that the state speaks of is done, and never goes back. Without one only the key server sees it, when it is next reached.

use super::{broken, login::Verifier};
use crate::failure::Failure;
use crate::files;
use crate::protect::Anchor;
use jiff::Timestamp;
use rustix::fs::{AtFlags, StatxFlags, statx};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use tobari_core::crypto::RootKey;
use tobari_core::ids::{FileId, GroupId, LabelId, LeaseId, PersonId};
use tobari_core::lease::LeaseClock;
use tobari_core::lease::chain::{Head, follow};
use tobari_core::policy::Rights;
use tobari_core::proto::base64::Base64;
use tobari_core::proto::lease::{Narrowing, OfflineRecord, SignedLease};

const STATE: &str = "state";
/// The next state until it is whole.
const NEW_STATE: &str = ".state.new";
const RECORDS: &str = "records";
const AAD: &[u8] = b"tobari/1 lease state";
const VERSION: u32 = 1;

/// How often files were opened under each lease in hand.
pub(super) type Holding = BTreeMap<LeaseId, u32>;

/// Where the file of a state lies, as the kernel gives it and nobody can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    inode: u64,
    born: Option<(i64, u32)>,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let found =
            statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO | StatxFlags::BTIME)?;
        let born = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        Ok(Self {
            inode: found.stx_ino,
            born: born.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec)),
        })
    }
}

/// A [`Head`] as it is stored.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredHead {
    sequence: u64,
    hash: [u8; 32],
}

impl From<Head> for StoredHead {
    fn from(head: Head) -> Self {
        Self { sequence: head.sequence, hash: head.hash }
    }
}

impl From<StoredHead> for Head {
    fn from(head: StoredHead) -> Self {
        Self { sequence: head.sequence, hash: head.hash }
    }
}

/// Openings under a lease that is not in hand any more.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spent {
    count: u32,
    /// When the lease would have ended: from then on it cannot come back.
    ends_at: Timestamp,
}

/// A file that was created under a lease of its label, with its key, sealed to this terminal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Created {
    pub(super) file: FileId,
    pub(super) label: LabelId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner_group: Option<GroupId>,
    /// Missing in what was kept before leases were refilled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bound: Option<Bound>,
    pub(super) encapsulated_key: Base64,
    pub(super) sealed_dek: Base64,
}

/// To what the key of a [`Created`] file is bound, beside what it and its lease say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bound {
    pub(super) rights: Rights,
    pub(super) ends_at: Timestamp,
}

/// The sealed state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    place: Option<Place>,
    /// How often it was written.
    counter: u64,
    /// The lease clock, as of the last write.
    pub(super) clock: Option<LeaseClock>,
    /// The end of the chain.
    head: StoredHead,
    /// Up to where the key server has confirmed it.
    reported: StoredHead,
    /// The records of the last write.
    pending: Vec<Base64>,
    /// Leases in hand and their openings.
    used: Holding,
    /// Openings under leases that were given up before their end: one that comes back does not begin anew.
    #[serde(default)]
    spent: BTreeMap<LeaseId, Spent>,
    /// What stricter policies have left of leases.
    #[serde(default)]
    pub(super) narrowed: Vec<Narrowing>,
    /// Who can log in without the key server.
    pub(super) verifiers: BTreeMap<PersonId, Verifier>,
    /// Why the key server refuses this state, once it has.
    refused: Option<String>,
    /// Where the TPM's counter stands once this state is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<u64>,
}

impl State {
    fn fresh() -> Self {
        Self {
            version: VERSION,
            place: None,
            counter: 0,
            clock: None,
            head: Head::START.into(),
            reported: Head::START.into(),
            pending: Vec::new(),
            used: Holding::new(),
            spent: BTreeMap::new(),
            narrowed: Vec::new(),
            verifiers: BTreeMap::new(),
            refused: None,
            anchor: None,
        }
    }

    pub(super) fn used(&self) -> Holding {
        self.used.clone()
    }

    pub(super) fn used_of(&self, lease: LeaseId) -> u32 {
        self.used.get(&lease).copied().unwrap_or(0)
    }

    pub(super) fn counter(&self) -> u64 {
        self.counter
    }

    pub(super) fn reported(&self) -> Head {
        self.reported.into()
    }

    /// Records that the key server has not confirmed.
    pub(super) fn unreported(&self) -> u64 {
        self.head.sequence.saturating_sub(self.reported.sequence)
    }
}

/// The folder and what was read from it.
pub(super) struct Store {
    directory: PathBuf,
    key: RootKey,
    anchor: Option<Anchor>,
    state: State,
    /// Payloads after `state.reported`.
    records: Vec<Vec<u8>>,
    documents: BTreeMap<LeaseId, SignedLease>,
    fault: Option<String>,
}

impl Store {
    /// Reads the folder; what is wrong with it becomes the store's fault.
    pub(super) fn load(directory: &Path, key: RootKey, anchor: Option<Anchor>) -> Self {
        let mut store = Self {
            directory: directory.to_owned(),
            key,
            anchor,
            state: State::fresh(),
            records: Vec::new(),
            documents: BTreeMap::new(),
            fault: None,
        };
        if let Err(why) = store.read() {
            store.fault = Some(why);
        }
        store
    }

    fn read(&mut self) -> Result<(), String> {
        let state = self.directory.join(STATE);
        let sealed = match std::fs::read(&state) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A cut in the first write of all leaves half of a state and nothing else.
                let mut rest = std::fs::read_dir(&self.directory)
                    .into_iter()
                    .flatten()
                    .filter(|entry| !matches!(entry, Ok(entry) if entry.file_name() == NEW_STATE));
                return match rest.next() {
                    Some(_) => Err(String::from("the state of the leases is gone")),
                    None => self.check_anchor(None),
                };
            }
            Err(error) => return Err(format!("the state of the leases cannot be read: {error}")),
        };
        let opened = self
            .key
            .open(AAD, &sealed)
            .map_err(|_| String::from("the state of the leases was changed, or is another terminal's"))?;
        let read: State = serde_json::from_slice(&opened)
            .map_err(|error| format!("the state of the leases cannot be read: {error}"))?;
        if read.version != VERSION {
            return Err(format!("the state of the leases has version {}", read.version));
        }
        let place = Place::of(&state).map_err(|error| format!("the state of the leases: {error}"))?;
        if read.place != Some(place) {
            return Err(String::from("the state of the leases was copied or restored"));
        }
        self.check_anchor(read.anchor)?;
        if let Some(why) = &read.refused {
            self.fault = Some(why.clone());
        }
        self.state = read;
        self.read_records()?;
        for id in self.state.used.keys().copied().collect::<Vec<_>>() {
            let path = self.document(id);
            let read = std::fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
            match read {
                Ok(signed) => {
                    self.documents.insert(id, signed);
                }
                Err(error) => tracing::error!(lease = %id, error, "a stored lease cannot be read"),
            }
        }
        Ok(())
    }

    /// The records after what the key server confirmed, which must end where the state says.
    fn read_records(&mut self) -> Result<(), String> {
        let text = match std::fs::read(self.directory.join(RECORDS)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(format!("the records of the leases cannot be read: {error}")),
        };
        // A cut may have left half a line at the end.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = text.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        let mut payloads = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let record: OfflineRecord = serde_json::from_slice(line)
                .map_err(|_| String::from("the records of the leases were changed"))?;
            if record.sequence > self.state.reported.sequence {
                payloads.push(line.to_vec());
            }
        }
        let first_pending = self.state.head.sequence.saturating_sub(self.state.pending.len() as u64);
        let have = self.state.reported.sequence + payloads.len() as u64;
        let mut complete = whole == text.len();
        for (number, payload) in (first_pending + 1..).zip(&self.state.pending) {
            if number > have && number > self.state.reported.sequence {
                payloads.push(payload.0.clone());
                complete = false;
            }
        }
        let followed = follow(self.state.reported(), payloads.iter().map(Vec::as_slice));
        match followed {
            Ok((_, head)) if head.is(&self.state.head.into()) => {}
            _ => return Err(String::from("the records of the leases were cut or changed")),
        }
        self.records = payloads;
        if complete { Ok(()) } else { self.write_records().map_err(|error| error.to_string()) }
    }

    /// Compares the state with the TPM's counter. One that was written, but cut off before it was counted, is put in force now: nothing that
    /// it speaks of was done.
    fn check_anchor(&self, of_state: Option<u64>) -> Result<(), String> {
        let Some(anchor) = &self.anchor else { return Ok(()) };
        let unread =
            |why: String| format!("the TPM's counter, by which the state of the leases is checked: {why}");
        let now = anchor.counter.read().map_err(unread)?;
        match of_state.unwrap_or(anchor.first) {
            named if named == now => Ok(()),
            named if Some(named) == now.checked_add(1) => anchor.counter.increment().map_err(unread),
            _ => Err(String::from(
                "the state of the leases is not the last one: the TPM has counted others (it was restored, or removed)",
            )),
        }
    }

    /// What is wrong with it.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Fails when something is wrong with it.
    pub(super) fn sound(&self) -> Result<(), Failure> {
        match &self.fault {
            None => Ok(()),
            Some(why) => Err(broken(why.clone())),
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// The stored leases.
    pub(super) fn documents(&self) -> Vec<(LeaseId, SignedLease)> {
        if self.fault.is_some() {
            return Vec::new();
        }
        self.documents.iter().map(|(id, signed)| (*id, signed.clone())).collect()
    }

    /// Payloads that the key server has not confirmed, in order.
    pub(super) fn records(&self) -> &[Vec<u8>] {
        &self.records
    }

    /// Writes down what is about to be done, with the openings as they are afterwards. Sequence numbers are given here.
    pub(super) fn note(
        &mut self,
        records: Vec<OfflineRecord>,
        clock: Option<LeaseClock>,
        used: Holding,
    ) -> Result<(), Failure> {
        self.sound()?;
        let mut head: Head = self.state.head.into();
        let mut pending = Vec::with_capacity(records.len());
        for mut record in records {
            record.sequence = head.sequence + 1;
            let payload = serde_json::to_vec(&record).map_err(|error| broken(error.to_string()))?;
            head = head.link(&payload);
            pending.push(Base64(payload));
        }
        let next = State { clock, head: head.into(), used, pending, ..self.state.clone() };
        self.write_state(next)?;
        let lines: Vec<Vec<u8>> = self.state.pending.iter().map(|payload| payload.0.clone()).collect();
        self.records.extend(lines.iter().cloned());
        // The state holds them already, so a failure here loses nothing.
        if let Err(error) = self.append(&lines) {
            tracing::warn!(%error, "records of leases were not appended; the state has them until the next start");
            self.write_records().map_err(|error| self.poison(&error))?;
        }
        Ok(())
    }

    /// Changes the state and nothing else.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<(), Failure> {
        self.sound()?;
        let mut next = self.state.clone();
        change(&mut next);
        self.write_state(next)
    }

    /// The key server confirmed everything up to `sequence`.
    pub(super) fn confirm(&mut self, sequence: u64, clock: LeaseClock) -> Result<(), Failure> {
        self.sound()?;
        let confirmed = sequence.min(self.state.head.sequence).saturating_sub(self.state.reported.sequence);
        let count = usize::try_from(confirmed).unwrap_or(usize::MAX).min(self.records.len());
        let (done, rest) = self.records.split_at_checked(count).unwrap_or_default();
        let reported = done.iter().fold(self.state.reported(), |head, payload| head.link(payload));
        let rest = rest.to_vec();
        let mut next = self.state.clone();
        next.reported = reported.into();
        next.clock = Some(clock);
        if rest.is_empty() {
            next.pending = Vec::new();
        }
        self.write_state(next)?;
        self.records = rest;
        if count > 0 {
            self.write_records()
                .map_err(|error| Failure::io("failed to write the records of leases", &error))?;
        }
        Ok(())
    }

    /// Keeps a lease. It begins with the openings that were made under it before, here or as far as the key server knows.
    pub(super) fn add(&mut self, id: LeaseId, signed: &SignedLease, known: u32) -> Result<(), Failure> {
        self.sound()?;
        if self.state.place.is_none() {
            // A lease without a state would look like one whose state was taken away.
            self.write_state(self.state.clone())?;
        }
        let bytes = serde_json::to_vec(signed).map_err(|error| broken(error.to_string()))?;
        self.make_directory()
            .and_then(|()| files::replace(&self.directory, &format!("{id}.json"), &bytes))
            .map_err(|error| Failure::io("failed to write a lease", &error))?;
        self.documents.insert(id, signed.clone());
        let mut next = self.state.clone();
        let spent = next.spent.remove(&id).map_or(0, |spent| spent.count);
        let used = next.used.entry(id).or_insert(0);
        *used = (*used).max(spent).max(known);
        self.write_state(next)
    }

    /// Puts a newer document in the place of one that is kept. What was counted goes on, and `created` is written down before it with
    /// all that it takes to open without the older document: a cut leaves either document, and opens the same under both.
    pub(super) fn replace(
        &mut self,
        id: LeaseId,
        signed: &SignedLease,
        known: u32,
        created: &[Created],
    ) -> Result<(), Failure> {
        self.sound()?;
        let failed = |error: &io::Error| Failure::io("failed to write a lease", error);
        if known > self.state.used_of(id) {
            self.change(|state| {
                state.used.insert(id, known);
            })?;
        }
        if !created.is_empty() {
            let lines: Result<Vec<_>, _> = created.iter().map(serde_json::to_vec).collect();
            let lines = joined(&lines.map_err(|error| broken(error.to_string()))?);
            files::replace(&self.directory, &format!("{id}.created"), &lines)
                .map_err(|error| failed(&error))?;
        }
        let bytes = serde_json::to_vec(signed).map_err(|error| broken(error.to_string()))?;
        files::replace(&self.directory, &format!("{id}.json"), &bytes).map_err(|error| failed(&error))?;
        self.documents.insert(id, signed.clone());
        Ok(())
    }

    /// Forgets what concerns leases that ended before `now`, the key server's time, and are not in hand.
    pub(super) fn forget_ended(&mut self, now: Timestamp) -> Result<(), Failure> {
        let mut next = self.state.clone();
        next.spent.retain(|_, spent| spent.ends_at > now);
        let (used, spent) = (&next.used, &next.spent);
        next.narrowed.retain(|one| used.contains_key(&one.lease) || spent.contains_key(&one.lease));
        let same =
            next.spent.len() == self.state.spent.len() && next.narrowed.len() == self.state.narrowed.len();
        if same { Ok(()) } else { self.write_state(next) }
    }

    /// The files that were created under a lease. A line that a cut left half is left out: it was of a file that cannot be opened
    /// without the key server then.
    pub(super) fn created(&self, id: LeaseId) -> Vec<Created> {
        let text = match std::fs::read(self.created_path(id)) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!(lease = %id, %error, "files created under a lease cannot be read");
                }
                return Vec::new();
            }
        };
        text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// Keeps a file that was created under a lease.
    pub(super) fn add_created(&self, id: LeaseId, created: &Created) -> Result<(), Failure> {
        self.sound()?;
        let mut line = serde_json::to_vec(created).map_err(|error| broken(error.to_string()))?;
        // Before it, too: the line before may be half.
        line.insert(0, b'\n');
        line.push(b'\n');
        let path = self.created_path(id);
        let written = OpenOptions::new().append(true).create(true).mode(files::PRIVATE).open(path).and_then(
            |mut file| {
                file.write_all(&line)?;
                file.sync_all()
            },
        );
        written
            .and_then(|()| files::sync_directory(&self.directory))
            .map_err(|error| Failure::io("failed to keep the key of a new file", &error))
    }

    /// Forgets leases, each with its end: first that they are held, then their files. How often files were opened under them
    /// stays until that end.
    pub(super) fn remove(&mut self, gone: &[(LeaseId, Timestamp)]) -> Result<(), Failure> {
        let mut next = self.state.clone();
        for (id, ends_at) in gone {
            if let Some(count) = next.used.remove(id) {
                next.spent.insert(*id, Spent { count, ends_at: *ends_at });
            }
        }
        let written = if self.fault.is_some() { Ok(()) } else { self.write_state(next) };
        for (id, _) in gone {
            self.documents.remove(id);
            for path in [self.document(*id), self.created_path(*id)] {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::error!(lease = %id, %error, "the file of a lease was not removed");
                    }
                    _ => {}
                }
            }
        }
        written
    }

    /// The key server refuses this state: from now on no lease opens anything.
    pub(super) fn refuse(&mut self, why: &str) {
        if let Err(failure) = self.change(|state| state.refused = Some(why.to_owned())) {
            tracing::error!(why = failure.problem.detail, "the state of the leases was not written");
        }
        self.fault = Some(why.to_owned());
    }

    fn document(&self, id: LeaseId) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn created_path(&self, id: LeaseId) -> PathBuf {
        self.directory.join(format!("{id}.created"))
    }

    fn make_directory(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn write_state(&mut self, mut next: State) -> Result<(), Failure> {
        let path = self.directory.join(STATE);
        // While we run nobody else writes here: what lies there now must be what we wrote.
        let there = match Place::of(&path) {
            Ok(place) => Some(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::io("failed to read the state of the leases", &error)),
        };
        if there != self.state.place {
            let why = "the state of the leases was replaced while tobarid ran";
            self.fault = Some(why.to_owned());
            return Err(broken(why));
        }
        next.counter = self.state.counter.saturating_add(1);
        next.anchor =
            self.anchor.as_ref().map(|anchor| self.state.anchor.unwrap_or(anchor.first).saturating_add(1));
        let written = self.replace_state(&path, &mut next).and_then(|()| match &self.anchor {
            Some(anchor) => anchor.counter.increment().map_err(io::Error::other),
            None => Ok(()),
        });
        match written {
            Ok(()) => {
                self.state = next;
                Ok(())
            }
            Err(error) => {
                // It may or may not be in place: what the disk says is found out at the next start.
                Err(self.poison(&error))
            }
        }
    }

    fn poison(&mut self, error: &io::Error) -> Failure {
        tracing::error!(%error, "the state of the leases cannot be written; leases are refused until a restart");
        self.fault = Some(String::from("the state of the leases could not be written"));
        Failure::io("failed to write the state of the leases", error)
    }

    fn replace_state(&self, path: &Path, next: &mut State) -> io::Result<()> {
        self.make_directory()?;
        let temporary = self.directory.join(NEW_STATE);
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(files::PRIVATE).open(&temporary)?;
        next.place = Some(Place::of(&temporary)?);
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(next).map_err(io::Error::other)?);
        let sealed = self.key.seal(AAD, &plain).map_err(io::Error::other)?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        files::sync_directory(&self.directory)
    }

    fn append(&self, lines: &[Vec<u8>]) -> io::Result<()> {
        let mut file: File = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(files::PRIVATE)
            .open(self.directory.join(RECORDS))?;
        file.write_all(&joined(lines))?;
        file.sync_all()?;
        files::sync_directory(&self.directory)
    }

    fn write_records(&self) -> io::Result<()> {
        files::replace(&self.directory, RECORDS, &joined(&self.records))
    }
}

fn joined(lines: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}

//! The journal of a folder: one small file for each exchange under way, in the control directory.
//!
//! For an exchange with identity `ID` there are `ID.data`, first the new envelope and after the exchange the
//! displaced plaintext, and `ID.intent`, which says which name it belongs to and what both files look like. The
//! order on disk is what makes recovery simple:
//! - the intent is durable before the exchange, so data without an intent was never exchanged: remove it;
//! - a plaintext that is to be overwritten is renamed to `ID.wipe` instead of removed, which gives it up as well;
//! - the data's removal is durable before the intent's, so an intent without data is finished: remove it;
//! - with both, the inode in the data's place tells which side of the exchange it is.
//!
//! An intent is JSON in one line and its SHA-256 in a second; version 1; at most 64 KiB.
//!
//! The intents of files that are sealed together are in one `ID.group`: an array in one line, and its SHA-256. It says of each of
//! them what an intent of its own would say, and an intent of its own goes before it. It is removed when each of its files is
//! durably finished, or has an intent of its own. Its files have the second half of its `ID`, so that a record that cannot be read
//! is known to be theirs.

use super::facts::Facts;
use super::root::{FolderRoot, remove};
use super::stop::Stop;
use crate::sys::fanotify::Handle;
use rustix::fs::{Dir, FileType, Gid, Mode, OFlags, Uid, fchown, openat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tobari_core::crypto::{random_bytes, sha256};
use tobari_core::ids::FileId;

const VERSION: u32 = 1;
const LIMIT: u64 = 64 << 10;
/// Longest record of a group: none is made with so many files that they could exceed it.
const GROUP_LIMIT: u64 = 64 << 20;

/// Identity of an exchange: 32 hexadecimal digits in the names of its files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ExchangeId(String);

impl ExchangeId {
    /// A fresh one.
    pub(crate) fn generate() -> Self {
        Self(hex(&random_bytes::<16>()))
    }

    /// A fresh one for a member of the group `self`: the second half is the group's.
    pub(crate) fn member(&self) -> Self {
        Self(hex(&random_bytes::<8>()) + self.half())
    }

    fn half(&self) -> &str {
        self.0.get(16..).unwrap_or_default()
    }

    /// Name of the envelope's, later the displaced plaintext's, file.
    pub(crate) fn data(&self) -> OsString {
        format!("{}.data", self.0).into()
    }

    /// Name of the intent's file.
    pub(crate) fn intent(&self) -> OsString {
        format!("{}.intent", self.0).into()
    }

    /// Name of a displaced file that is given up and being overwritten.
    pub(crate) fn wipe(&self) -> OsString {
        format!("{}.wipe", self.0).into()
    }

    /// Name of a group's record.
    fn group(&self) -> OsString {
        format!("{}.group", self.0).into()
    }

    /// The first eight digits, for names that people see.
    pub(crate) fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

/// What an exchange is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intent {
    version: u32,
    /// Directory of the file, relative to the folder; hexadecimal, because names are bytes.
    directory: String,
    /// The file's name, hexadecimal.
    name: String,
    /// The directory's inode, to find it when it was renamed.
    pub(crate) parent: u64,
    /// The plaintext before the exchange.
    pub(crate) plain: Facts,
    /// The envelope before the exchange.
    pub(crate) envelope: Facts,
    /// The envelope's file id.
    pub(crate) file: FileId,
    /// File handles of plaintext and envelope, where the file system has them: they lead to a file that lost its name in the
    /// journal and got another.
    #[serde(default, skip_serializing_if = "is_none")]
    handles: [Option<String>; 2],
}

fn is_none(handles: &[Option<String>; 2]) -> bool {
    handles.iter().all(Option::is_none)
}

impl Intent {
    /// An intent for the file `relative`; plaintext and envelope are open as `files`.
    pub(crate) fn new(
        relative: &Path,
        parent: u64,
        [plain, envelope]: [Facts; 2],
        files: [&File; 2],
        file: FileId,
    ) -> Self {
        let directory = relative.parent().unwrap_or(Path::new(""));
        let name = relative.file_name().unwrap_or_default();
        Self {
            version: VERSION,
            directory: hex(directory.as_os_str().as_bytes()),
            name: hex(name.as_bytes()),
            parent,
            plain,
            envelope,
            file,
            handles: files.map(|file| Handle::of(file).ok().map(|handle| handle_text(&handle))),
        }
    }

    /// The file handles of plaintext and envelope.
    pub(crate) fn handles(&self) -> [Option<Handle>; 2] {
        self.handles.each_ref().map(|text| parse_handle(text.as_deref()?))
    }

    /// Directory of the file, relative to the folder.
    pub(crate) fn directory(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(unhex(&self.directory).unwrap_or_default()))
    }

    /// The file's name.
    pub(crate) fn name(&self) -> OsString {
        OsString::from_vec(unhex(&self.name).unwrap_or_default())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        unseal_lines::<Self>(bytes).filter(Self::is_valid)
    }

    fn is_valid(&self) -> bool {
        let names_fit =
            unhex(&self.directory).is_some() && unhex(&self.name).is_some_and(|name| is_name(&name));
        self.version == VERSION && names_fit
    }
}

/// One exchange of a group's record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    intent: Intent,
}

/// The record of a group, in the journal.
#[derive(Debug)]
pub(crate) struct Record {
    id: ExchangeId,
    kept: AtomicBool,
}

impl Record {
    fn new(id: ExchangeId) -> Arc<Self> {
        Arc::new(Self { id, kept: AtomicBool::new(false) })
    }

    /// Something hangs on it still, which is for the next start to end.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::SeqCst);
    }

    /// Removes it, unless it has to be kept.
    pub(crate) fn close(&self, root: &FolderRoot) -> Result<(), Stop> {
        if self.kept.load(Ordering::SeqCst) { Ok(()) } else { Ok(remove(root.control(), &self.id.group())?) }
    }

    /// Removes it: none of its exchanges was done.
    pub(crate) fn abandon(&self, root: &FolderRoot) {
        if let Err(errno) = remove(root.control(), &self.id.group()) {
            tracing::warn!(folder = ?root.path(), %errno, "failed to remove the record of a group");
        }
    }
}

/// JSON in one line, its SHA-256 in another.
fn seal_lines(value: &impl Serialize) -> Result<Vec<u8>, Stop> {
    let mut bytes = serde_json::to_vec(value).map_err(std::io::Error::from)?;
    let sum = hex(&sha256(&[&bytes]));
    bytes.push(b'\n');
    bytes.extend_from_slice(sum.as_bytes());
    bytes.push(b'\n');
    Ok(bytes)
}

fn unseal_lines<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (json, sum) = bytes.strip_suffix(b"\n")?.split_last_chunk::<65>()?;
    if sum.strip_prefix(b"\n")? != hex(&sha256(&[json])).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Makes the data file of a new exchange: 0600, empty, and its owner's from the first byte on, so that the space that it takes
/// counts against their quota and nobody else's. They cannot reach it.
pub(crate) fn create_data(root: &FolderRoot, id: &ExchangeId, owner: &Facts) -> Result<File, Stop> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    let file = openat(root.control(), id.data(), flags, Mode::RUSR | Mode::WUSR)?;
    fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    Ok(file.into())
}

/// Writes the intent; the caller makes it durable.
pub(crate) fn write_intent(root: &FolderRoot, id: &ExchangeId, intent: &Intent) -> Result<File, Stop> {
    write_new(root, &id.intent(), intent)
}

/// Writes the intents of a group; the caller makes them durable. What an error leaves, a restart takes for what it is: a
/// record that nobody acted upon.
pub(crate) fn write_group<'i>(
    root: &FolderRoot,
    group: &ExchangeId,
    intents: impl Iterator<Item = (&'i ExchangeId, &'i Intent)>,
) -> Result<(Arc<Record>, File), Stop> {
    let entries: Vec<Entry> =
        intents.map(|(id, intent)| Entry { id: id.0.clone(), intent: intent.clone() }).collect();
    let record = Record::new(group.clone());
    match write_new(root, &record.id.group(), &entries) {
        Ok(file) => Ok((record, file)),
        Err(stop) => {
            record.abandon(root);
            Err(stop)
        }
    }
}

fn write_new(root: &FolderRoot, name: &OsStr, value: &impl Serialize) -> Result<File, Stop> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(root.control(), name, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(&seal_lines(value)?)?;
    Ok(file)
}

/// What the control directory holds of one exchange.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// `ID.data` is there.
    pub(crate) data: bool,
    /// `ID.wipe` is there.
    pub(crate) wipe: bool,
    /// `ID.intent` is there; none inside when it cannot be read.
    pub(crate) intent: Option<Option<Intent>>,
    /// The group's record that has the intent.
    pub(crate) record: Option<Arc<Record>>,
}

/// The journal: each exchange, and the records of groups.
pub(crate) type Listed = (BTreeMap<ExchangeId, Remains>, Vec<Arc<Record>>);

/// Lists the journal.
pub(crate) fn list(root: &FolderRoot) -> Result<Listed, Stop> {
    let mut records = Vec::new();
    let mut all: BTreeMap<ExchangeId, Remains> = BTreeMap::new();
    for entry in Dir::read_from(root.control())? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let Some((id, kind)) = parse_name(name) else { continue };
        if kind == "group" {
            records.push(Record::new(id));
            continue;
        }
        let remains = all.entry(id).or_default();
        match kind {
            "data" => remains.data = true,
            "wipe" => remains.wipe = true,
            "intent" => {
                let bytes = read(root, name, LIMIT)?;
                remains.intent = Some(Intent::parse(&bytes));
            }
            _ => {}
        }
    }
    for record in &records {
        let bytes = read(root, &record.id.group(), GROUP_LIMIT)?;
        let entries = unseal_lines::<Vec<Entry>>(&bytes)
            .filter(|entries| entries.iter().all(|entry| entry.intent.is_valid()));
        let Some(entries) = entries else {
            let members = all.iter_mut().filter(|(id, _)| id.half() == record.id.half());
            for (_, remains) in members.filter(|(_, remains)| remains.data && remains.intent.is_none()) {
                (remains.intent, remains.record) = (Some(None), Some(Arc::clone(record)));
            }
            continue;
        };
        for Entry { id, intent } in entries {
            // Those without data are finished. An intent of its own is the newer one.
            let remains = all.entry(ExchangeId(id)).or_default();
            if remains.intent.as_ref().is_none_or(Option::is_none) {
                (remains.intent, remains.record) = (Some(Some(intent)), Some(Arc::clone(record)));
            }
        }
    }
    Ok((all, records))
}

/// Whether `name` is that of a file of the journal.
pub(crate) fn is_entry(name: &OsStr) -> bool {
    parse_name(name).is_some_and(|(_, kind)| matches!(kind, "data" | "wipe" | "intent" | "group"))
}

fn parse_name(name: &OsStr) -> Option<(ExchangeId, &str)> {
    let (id, kind) = name.to_str()?.split_once('.')?;
    unhex(id).filter(|bytes| bytes.len() == 16)?;
    Some((ExchangeId(id.to_owned()), kind))
}

/// Nothing when it is not there, or is not ours.
fn read(root: &FolderRoot, name: &OsStr, limit: u64) -> Result<Vec<u8>, Stop> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(root.control(), name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let facts = Facts::of(&file)?;
    let ours = facts.uid == rustix::process::geteuid().as_raw() && facts.mode & 0o777 == 0o600;
    if facts.file_type() != FileType::RegularFile || !ours {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn handle_text(handle: &Handle) -> String {
    hex(&[&handle.kind.to_be_bytes(), &*handle.bytes].concat())
}

fn parse_handle(text: &str) -> Option<Handle> {
    let bytes = unhex(text)?;
    let (kind, bytes) = bytes.split_first_chunk::<4>()?;
    Some(Handle { kind: i32::from_be_bytes(*kind), bytes: bytes.into() })
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            let digits = pair.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            digits.then(|| u8::from_str_radix(pair, 16).ok())?
        })
        .collect()
}

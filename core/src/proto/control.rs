//! The daemon's control socket: how local programs (the command line first) ask `tobarid` for what needs
//! the terminal's keys. No key ever crosses it: the daemon reads ciphertext from, and writes results to,
//! file descriptors that the caller opened with its own permissions.
//!
//! A Unix stream socket. Each frame is a little-endian `u32` length (at most [`MAX_FRAME`]) and that many bytes
//! of JSON. A frame may carry file descriptors as `SCM_RIGHTS` on its first byte; the request says how many it
//! expects. The caller's uid is taken from the socket's peer credentials, never from a frame. A connection may carry
//! several requests, one after the other; each is answered by zero or more [`Event::Progress`] and [`Event::Refused`], and then exactly one of
//! [`Event::Done`] or [`Event::Failed`].

use super::api::{DecisionOutcome, Session};
use super::base64::Base64;
use super::bulletin::{Bulletin, Folder};
use super::lease::{Opens, Term};
use super::problem::Problem;
use crate::ids::{FileId, LabelId, LeaseId, OrganisationId, TerminalId};
use crate::policy::{Right, Rights};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Largest frame, in bytes.
pub const MAX_FRAME: usize = 4 << 20;
/// Version of this protocol, sent in [`Request::Hello`].
pub const VERSION: u32 = 1;
/// Where the socket is unless configured.
pub const DEFAULT_SOCKET: &str = "/run/tobari/control.sock";
/// Environment variable that names another socket.
pub const SOCKET_ENV: &str = "TOBARI_SOCKET";

/// Most files in one batch of new headers; each takes a descriptor.
pub const MAX_REWRITE: usize = 256;

/// What a caller asks.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// First frame of a connection. Answer: [`Answer::Hello`].
    Hello {
        /// [`VERSION`] of the caller.
        version: u32,
    },
    /// Log the caller's uid in. Answer: [`Answer::Session`].
    Login {
        /// Login name.
        login: String,
        /// Password.
        password: String,
        /// Authenticator code.
        totp: Option<String>,
    },
    /// Log the caller's uid out; grants are forgotten. Answer: [`Answer::Nothing`].
    Logout,
    /// Who the caller's uid is logged in as. Answer: [`Answer::Session`].
    Whoami,
    /// State of the daemon. Answer: [`Answer::Status`].
    Status {
        /// Also list files that could not be sealed.
        unsealed: bool,
    },
    /// One fd: a file. What its header says and what the caller may do. Needs no key. Answer: [`Answer::Info`].
    Info {
        /// Name for messages and the audit record.
        name: String,
    },
    /// Two fds: a sealed file and a sink. Writes the plaintext to the sink. Answer: [`Answer::Written`].
    Open {
        /// Name for messages and the audit record.
        name: String,
        /// Which right this needs.
        purpose: Purpose,
    },
    /// One fd: a sealed file. Checks every chunk and the root; needs `view`. Answer: [`Answer::Written`].
    Verify {
        /// Name for messages and the audit record.
        name: String,
    },
    /// One fd: the empty file that becomes the archive. Then [`Request::ZipEntry`] frames and one
    /// [`Request::ZipFinish`]; only the last is answered: [`Answer::Zipped`]. The password is chosen by the caller; the
    /// plaintext never reaches it. Nothing is written before every file's `send` right is granted.
    ZipStart {
        /// Password of the archive.
        password: String,
        /// Use ZipCrypto, where every label allows it.
        legacy: bool,
    },
    /// One fd: a file, sealed or plain. Not answered by itself.
    ZipEntry {
        /// Path inside the archive, `/`-separated, relative, no `..`.
        path: String,
        /// Name for messages and the audit record.
        name: String,
    },
    /// Write the archive.
    ZipFinish,
    /// Begins a batch of new headers for sealed files. Then [`Request::RewriteEntry`] frames, at most [`MAX_REWRITE`], and one
    /// [`Request::RewriteFinish`]; only the last is answered: [`Answer::Rewritten`].
    RewriteStart {
        /// What the headers shall say.
        change: NewHeader,
    },
    /// One fd, open for reading and writing: a sealed file. What an earlier run began is ended first. Needs `relabel`. Not answered by
    /// itself.
    RewriteEntry {
        /// Name for messages and the audit record.
        name: String,
    },
    /// Write the headers.
    RewriteFinish,
    /// Two fds: a sealed file and an empty file, open for reading and writing. Seals the contents anew, with a new content key, into the
    /// second; needs `relabel`. Answer: [`Answer::Written`].
    Reseal {
        /// Name for messages and the audit record.
        name: String,
    },
    /// Three fds: standard input, output and error. Runs a program in a session and answers when it has ended: [`Answer::Ended`]. While
    /// it runs the caller may send [`Request::Signal`]; when the connection ends, so does the session.
    Run {
        /// What to run.
        program: Box<Program>,
    },
    /// Sends a signal to the program that runs in this connection's session. Not answered.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The current verified bulletin: the public keys with which the caller can seal. Answer: [`Answer::Bulletin`].
    Bulletin,
    /// Make the daemon fetch a new bulletin now (as after a change by an administrator). Answer: [`Answer::Bulletin`].
    Refresh,
    /// Take the signed bulletin in the file of the one descriptor, if it is newer than the one in force. Answer:
    /// [`Answer::Bulletin`].
    ImportBulletin,
    /// The leases that the caller's person holds on this terminal, after an exchange with the key server if it can be reached.
    /// Answer: [`Answer::Leases`].
    Leases,
    /// Gives a lease back: its keys are removed here, and the key server learns of it. Answer: [`Answer::Leases`].
    LeaseReturn {
        /// The lease.
        lease: LeaseId,
    },
    /// Send a request to the key server's `/v1/…` in the caller's session. Answer: [`Answer::Forwarded`].
    Forward {
        /// `GET`, `POST`, `PUT` or `DELETE`.
        method: String,
        /// Path and query, starting with `/v1/`.
        path: String,
        /// JSON body.
        body: Option<serde_json::Value>,
    },
}

/// Why a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// To read it once; needs `view`.
    Cat,
    /// To keep the plaintext; needs `decrypt`.
    Unseal,
}

/// What new headers shall say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum NewHeader {
    /// This label, with its key of today.
    Label {
        /// The label.
        label: LabelId,
    },
    /// The file's own label, with its key of today.
    Keys,
}

/// What became of one file of a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Rewritten {
    /// It has the new header.
    Done,
    /// It was as wanted.
    Current,
    /// It opens as before, or with the new header where the disk failed too late.
    Failed {
        /// Why.
        problem: Problem,
        /// What the caller may do instead, where the policy refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rights: Option<Rights>,
        /// The rules that decided, where the policy refused.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<super::api::Reason>,
        /// What a message in the user's language names.
        #[serde(default)]
        particulars: Box<Particulars>,
    },
}

/// A program for a session. Texts are bytes: arguments and paths need not be UTF-8.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    /// Its name or path, and its arguments.
    pub arguments: Vec<Base64>,
    /// Its environment: names and values.
    pub environment: Vec<(Base64, Base64)>,
    /// The folder in which it starts, where the session shows it; the user's home otherwise.
    pub directory: Base64,
    /// What is created carries at least this label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelId>,
    /// Whether it may print, and therefore opens no file whose rights do not include `print`.
    #[serde(default)]
    pub print: bool,
}

/// What the daemon says.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Work goes on.
    Progress {
        /// Plaintext bytes done.
        done: u64,
        /// Plaintext bytes in all, where known.
        total: Option<u64>,
    },
    /// Something was refused to the program that runs in this connection's session. It goes on.
    Refused {
        /// The file.
        subject: String,
        /// Why.
        problem: Problem,
    },
    /// The request succeeded.
    Done {
        /// Its result.
        answer: Answer,
    },
    /// The request failed; nothing was done unless the problem says so.
    Failed {
        /// Why.
        problem: Problem,
        /// The file or folder at fault, as the caller named it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// What the caller may do instead, where the policy refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rights: Option<Rights>,
        /// The rules that decided, where the policy refused.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<super::api::Reason>,
        /// What a client needs to say it in the user's language, where there is such a thing.
        #[serde(default, flatten)]
        particulars: Particulars,
    },
}

/// What the English detail of a failure says, as data. Its fields are those of [`Event::Failed`] itself on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Particulars {
    /// The right that was needed and is not given, where the policy refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<Right>,
    /// The label's name, where the policy refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_name: Option<String>,
    /// How many bytes of the contents were found authentic and released, where the rest is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentic_bytes: Option<u64>,
}

/// Results by kind.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Done, and nothing to say.
    Nothing,
    /// The daemon's versions.
    Hello {
        /// Protocol version of the daemon.
        version: u32,
        /// Version of the program.
        program: String,
    },
    /// A login session.
    Session {
        /// The session.
        session: Session,
    },
    /// State of the daemon.
    Status {
        /// The state.
        status: Box<Status>,
    },
    /// What a file is.
    Info {
        /// Header and decision.
        info: Box<FileInfo>,
    },
    /// Plaintext was written (or checked).
    Written {
        /// Plaintext bytes.
        bytes: u64,
        /// Set when the file has a tail from an interrupted write, which was not served: its length in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interrupted_tail: Option<u64>,
    },
    /// An archive was written and synced.
    Zipped {
        /// Files in it.
        entries: u64,
        /// Plaintext bytes.
        bytes: u64,
    },
    /// New headers.
    Rewritten {
        /// One for each file, in order.
        outcomes: Vec<Rewritten>,
    },
    /// The program of a session ended, and with it everything that it had started.
    Ended {
        /// Its exit code; 128 and the number of the signal that ended it.
        code: u8,
    },
    /// The bulletin.
    Bulletin {
        /// Its contents; the daemon checked the signature.
        bulletin: Box<Bulletin>,
        /// This terminal.
        terminal: TerminalId,
    },
    /// Leases.
    Leases {
        /// Those of the caller's person.
        leases: Vec<HeldLease>,
        /// Acts under leases of this terminal that the key server has not heard of yet.
        unreported: u64,
        /// Why the key server was not heard, where it was not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<Problem>,
    },
    /// The key server's answer.
    Forwarded {
        /// HTTP status.
        status: u16,
        /// JSON body, null when there was none.
        body: serde_json::Value,
    },
}

/// A lease as this terminal holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldLease {
    /// Identity.
    pub id: LeaseId,
    /// The label for all of whose files it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelId>,
    /// When the document that is held was signed.
    pub issued_at: Timestamp,
    /// From when until when.
    pub term: Term,
    /// How often files may be opened.
    pub opens: Opens,
    /// How often they were.
    pub used: u32,
    /// Whether files can be opened with it now.
    pub usable: bool,
    /// Why not, in English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// Its files.
    pub files: Vec<HeldFile>,
}

/// One file of a [`HeldLease`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldFile {
    /// The file.
    pub file: FileId,
    /// Its name when the lease was asked for.
    pub name: Option<String>,
    /// What may be done with it.
    pub rights: Rights,
    /// Until when.
    pub ends_at: Timestamp,
}

/// State of the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub program: String,
    /// This terminal.
    pub terminal: TerminalId,
    /// The organisation.
    pub organisation: OrganisationId,
    /// The key server's URL.
    pub key_server: String,
    /// Last successful contact.
    pub key_server_seen_at: Option<Timestamp>,
    /// The last error in contact, cleared by success.
    pub key_server_error: Option<String>,
    /// When this terminal's certificate ends.
    pub certificate_expires_at: Timestamp,
    /// Number and time of the bulletin in force.
    pub bulletin_number: u64,
    /// When it was made.
    pub bulletin_issued_at: Timestamp,
    /// Designated folders of this terminal.
    pub folders: Vec<FolderStatus>,
    /// Files not sealed, when asked for.
    pub unsealed: Vec<Unsealed>,
}

/// One designated folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FolderStatus {
    /// The rule.
    pub folder: Folder,
    /// Name of the label.
    pub label_name: String,
    /// Whether it is watched; otherwise why not.
    pub watched: Result<(), String>,
    /// Where its events come from; none when only sweeps find files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventSource>,
    /// Files sealed since the start.
    pub sealed: u64,
    /// Bytes of plaintext sealed since the start.
    pub sealed_bytes: u64,
    /// Files that wait for another try.
    pub waiting: u64,
    /// When the last sweep ended.
    pub swept_at: Option<Timestamp>,
    /// Regular files that the last sweep saw, sealed or not; without those that the rules leave alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Files that are not known to be sealed now: in a queue, in work or waiting for another try.
    #[serde(default)]
    pub plain: u64,
    /// Since when the oldest of them is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_since: Option<Timestamp>,
    /// The sweep that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepStatus>,
}

impl FolderStatus {
    /// Share of its files that are sealed, from 0 to 1; none before the first sweep. New files count from the next sweep
    /// on.
    pub fn coverage(&self) -> Option<f64> {
        let files = self.files?;
        if files == 0 {
            return Some(1.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of more than 2^53 files need not be exact")]
        let share = |sealed: u64| sealed as f64 / files as f64;
        Some(share(files.saturating_sub(self.plain)))
    }
}

/// How the daemon learns at once of what lands in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventSource {
    /// A mark on the whole file system; loses nothing in new directories.
    Fanotify,
    /// A watch for each directory.
    Inotify,
}

/// A sweep that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepStatus {
    /// Files looked at.
    pub files: u64,
    /// Files looked at for each second.
    pub files_per_second: u64,
    /// How much of the tree is done, in thousandths, as far as it is known.
    pub done_permille: u16,
    /// Time left, in seconds, if it goes on like this; none while too little is known.
    pub seconds_left: Option<u64>,
}

/// A file that could not be sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unsealed {
    /// Path, lossy where it is not UTF-8.
    pub path: String,
    /// Why, as a stable code.
    pub reason: UnsealedReason,
    /// Detail in English.
    pub detail: String,
    /// Since when.
    pub since: Timestamp,
    /// Tries so far.
    pub tries: u32,
    /// Next try, none where the rules leave it alone for good.
    pub next_try: Option<Timestamp>,
}

/// Why a file was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnsealedReason {
    /// Another process has it open.
    InUse,
    /// It has other hard links.
    HardLinked,
    /// It is immutable or append-only.
    Immutable,
    /// The disk or the quota is full.
    NoSpace,
    /// It cannot be read.
    Unreadable,
    /// It changed while it was sealed.
    Changed,
    /// It lies on another file system.
    OtherFileSystem,
    /// It claims to be an envelope but is damaged or of another organisation; left as it is.
    ForeignEnvelope,
    /// The read-back did not agree; the original was kept.
    ReadBackFailed,
    /// The label's key is not in the bulletin.
    NoKey,
    /// An operating-system error.
    System,
}

/// What a file is, and what the caller may do with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileInfo {
    /// The caller's name for it.
    pub name: String,
    /// None when it is not sealed.
    pub sealed: Option<SealedInfo>,
    /// Size on disk, in bytes.
    pub stored_size: u64,
}

/// What a header says. Without the key this is as claimed by the file; the key server's decision binds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SealedInfo {
    /// Identity of the file.
    pub file: FileId,
    /// The organisation.
    pub organisation: OrganisationId,
    /// The label's id.
    pub label: LabelId,
    /// Its name when sealed.
    pub label_name: String,
    /// Its level when sealed.
    pub label_level: u16,
    /// The owner group and its name, where the bulletin knows it.
    pub owner_group: Option<(crate::ids::GroupId, Option<String>)>,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// By which terminal.
    pub sealer: TerminalId,
    /// Generation of the label's key.
    pub generation: u32,
    /// Plaintext length in bytes.
    pub plaintext_size: u64,
    /// Chunk size in bytes.
    pub chunk_size: u32,
    /// Who can open it.
    pub recipients: Vec<RecipientInfo>,
    /// What the caller may do and why; none without a login or a key server.
    pub decision: Option<DecisionOutcome>,
    /// Why there is no decision.
    pub decision_problem: Option<Problem>,
}

/// One recipient.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecipientInfo {
    /// `rsa-oaep` or `rsa-oaep+mlkem768`.
    pub kind: String,
    /// Key id.
    pub key_id: Base64,
    /// `label` or `recovery`, where the bulletin knows the key.
    pub role: Option<String>,
}

//! The store: what survives a restart. [`Store`] is small on purpose, so that a second database is one more
//! implementation: load all, look up the few things that are not held in memory, read the audit log, and
//! commit a list of [`Change`]s together with audit records. Its conformance suite is `tests/store.rs`.
//!
//! It knows nothing of policy, people's rights or HTTP; `service/` decides, this keeps.
//!
//! Two stores: `sqlite` for one server, `postgres` for any number of servers over one database. The SQL and what a
//! commit does are the same (`commit`, `write`, `read`, `load` over a connection of either, `sql`). Several servers
//! agree by one rule: what a server decided on names the version of the tables it knew and its caller's session
//! ([`Basis`]), and a commit in whose transaction either is no longer so writes nothing ([`StoreError::Moved`]). So that this
//! is rare, and no change is overtaken again and again, they take turns ([`Turn`]).

mod change;
mod commit;
mod decode;
mod files;
mod lease_cases;
mod leases;
mod load;
mod migrations;
mod policy;
pub mod postgres;
mod read;
mod rows;
mod sql;
pub mod sqlite;
pub(crate) mod transfer;
mod tree;
mod turns;
mod write;

pub use change::Change;
pub use policy::{ChangeRequestRow, PolicyVersionRow, RequestState};
pub use rows::{
    Digest, FileKeyRow, LabelKeyRow, LabelRow, LeaseBody, LeaseCaseRow, LeaseCases, LeaseFileRow,
    LeaseFilter, LeaseKind, LeaseRecordRow, LeaseRow, LeaseTerminalRow, LoginFailuresRow, NextCertificate,
    PersonRow, Refilled, SessionRow, Tables, TerminalRow, TokenRow, UnsealWindowRow,
};

use jiff::Timestamp;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use tobari_core::audit::{Frontier, Growth};
use tobari_core::ids::{FileId, LabelId, LeaseId, PersonId, SessionId, TerminalId};
use tobari_core::policy::Policy;
use tobari_core::proto::terminal::Reported;
use tokio::sync::{oneshot, watch};

/// What asynchronous store calls return, so that a store can be a trait object.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why the store did not do what was asked. After any of them nothing was changed, except after
/// [`StoreError::Unavailable`] from a commit, where the outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another row has this value; the text names the column.
    #[error("{0} is already taken")]
    Taken(String),
    /// What the change builds on is gone: a used token, a code's time step that was already used.
    #[error("the change builds on something that is no longer so")]
    Stale,
    /// What was decided on is no longer so: the tables are of another version, or sessions have ended.
    #[error("the database has moved on to version {version}")]
    Moved {
        /// The version now.
        version: u64,
        /// Those of the sessions named that have ended.
        ended: Vec<SessionId>,
    },
    /// A row holds what it must not: damage, or another version's data.
    #[error("damaged row in {table}: {detail}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What does not fit; never a secret.
        detail: String,
    },
    /// The audit log does not continue the chain that this process has seen.
    #[error("the audit log was cut or replaced: {0}")]
    AuditBroken(String),
    /// The database is of a later version of this program.
    #[error("the database has schema version {found}, this program knows up to {known}")]
    TooNew {
        /// Version of the database.
        found: i64,
        /// Highest version known.
        known: i64,
    },
    /// The database cannot be reached or written.
    #[error("the database failed")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The end of the audit chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Sequence number of the last record; 0 when there is none.
    pub sequence: u64,
    /// Its hash; zeros when there is none.
    pub hash: Digest,
}

impl AuditHead {
    /// Before the first record.
    pub const START: Self = Self { sequence: 0, hash: [0; 32] };
}

/// What a commit appended.
#[derive(Debug)]
pub struct Appended {
    /// The end of the log after it.
    pub head: AuditHead,
    /// What the log's tree grew by, which proves each of the records.
    pub growth: Growth,
}

/// One record of the audit log as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Sequence number, from 1.
    pub sequence: u64,
    /// The bytes that were hashed.
    pub payload: Vec<u8>,
    /// SHA-256(hash before ‖ payload).
    pub hash: Digest,
}

/// Everything that is held in memory, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Grows with each change of the tables, whichever server made it.
    pub version: u64,
    /// The tables.
    pub tables: Tables,
}

/// What a commit was decided on. Checked in its transaction, so that no other server's change comes between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Basis {
    /// The tables' version; any, when it does not matter.
    pub version: Option<u64>,
    /// Sessions that must not have ended.
    pub sessions: Vec<SessionId>,
}

impl Basis {
    /// Nothing: the commit is right whatever was changed.
    pub const ANY: Self = Self { version: None, sessions: Vec::new() };

    /// The tables as of a version, and a session.
    pub fn new(version: u64, session: Option<SessionId>) -> Self {
        Self { version: Some(version), sessions: session.into_iter().collect() }
    }
}

/// That it is this server's turn to change something. Over when it is dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "its end is heard")] oneshot::Sender<Infallible>);

impl Turn {
    /// One, and what hears of its end.
    fn new() -> (Self, oneshot::Receiver<Infallible>) {
        let (turn, ended) = oneshot::channel();
        (Self(turn), ended)
    }
}

/// A durable store.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Everything that is held in memory.
    fn load(&self) -> StoreFuture<'_, Loaded>;

    /// The version of the tables, read from where commits go.
    fn version(&self) -> StoreFuture<'_, u64>;

    /// Counts hints that another server may have changed something; none where there is one server only. A hint may
    /// be lost: it saves waiting, [`Basis`] keeps the promise.
    fn hints(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Waits until no server changes anything that all hold in memory; none where there is one server only. Whoever waits longest is
    /// next. It may be lost at any time: it keeps changes from being overtaken, [`Basis`] keeps the promise.
    fn turn(&self) -> StoreFuture<'_, Option<Turn>> {
        Box::pin(async { Ok(None) })
    }

    /// All sessions that have not ended at `now`.
    fn sessions(&self, now: Timestamp) -> StoreFuture<'_, Vec<SessionRow>>;

    /// The session with this token hash, ended or not.
    fn session(&self, token_hash: Digest) -> StoreFuture<'_, Option<SessionRow>>;

    /// The last contacts of terminals, as far as written.
    fn last_contacts(&self) -> StoreFuture<'_, HashMap<TerminalId, Timestamp>>;

    /// What terminals told last of themselves, as far as written.
    fn reports(&self) -> StoreFuture<'_, HashMap<TerminalId, Reported>>;

    /// How many leases each terminal has out at `now`.
    fn leases_out(&self, now: Timestamp) -> StoreFuture<'_, HashMap<TerminalId, u32>>;

    /// The enrolment token with this hash.
    fn token(&self, hash: Digest) -> StoreFuture<'_, Option<TokenRow>>;

    /// The failed logins of a login name.
    fn login_failures<'a>(&'a self, login_key: &'a str) -> StoreFuture<'a, Option<LoginFailuresRow>>;

    /// The time step of the last code that a person used.
    fn totp_step(&self, person: PersonId) -> StoreFuture<'_, Option<i64>>;

    /// When a session last showed a fresh second factor.
    fn step_up(&self, session: SessionId) -> StoreFuture<'_, Option<Timestamp>>;

    /// At most `limit` versions of the policy before the given number, the newest first, without the policies.
    fn policy_versions(&self, before: u64, limit: u32) -> StoreFuture<'_, Vec<PolicyVersionRow>>;

    /// The policy as of a version.
    fn policy_of(&self, version: u64) -> StoreFuture<'_, Option<Policy>>;

    /// How many files needed a generation of a label's key when they were last seen.
    fn files_under(&self, label: LabelId, generation: u32) -> StoreFuture<'_, u64>;

    /// Which files somebody unsealed from a time on, each with when it was last; for a day at least.
    fn unseals(&self, person: PersonId, since: Timestamp) -> StoreFuture<'_, Vec<(FileId, Timestamp)>>;

    /// A lease with its files and its document.
    fn lease(&self, id: LeaseId) -> StoreFuture<'_, Option<LeaseRow>>;

    /// Leases without their files and documents, newest first.
    fn leases(&self, filter: LeaseFilter) -> StoreFuture<'_, Vec<LeaseRow>>;

    /// How many leases were issued so far, and then what kinds of cases there are among those that have not ended at `now`,
    /// each once. Those issued between the two show as a higher number when it is checked
    /// ([`Change::LeasesIssued`]).
    fn lease_kinds(&self, which: LeaseCases, now: Timestamp) -> StoreFuture<'_, (u64, Vec<LeaseKind>)>;

    /// All cases of the leases that have one of this kind and have not ended at `now`.
    fn lease_cases(&self, kind: LeaseKind, now: Timestamp) -> StoreFuture<'_, Vec<LeaseCaseRow>>;

    /// Leases that have not ended at `now` and have no cases: they are of before there were any.
    fn leases_without_cases(&self, now: Timestamp) -> StoreFuture<'_, Vec<LeaseId>>;

    /// How far a terminal has reported what was done under its leases.
    fn lease_terminal(&self, terminal: TerminalId) -> StoreFuture<'_, Option<LeaseTerminalRow>>;

    /// What was done under a lease, in order.
    fn lease_records(&self, lease: LeaseId) -> StoreFuture<'_, Vec<LeaseRecordRow>>;

    /// At most `limit` records of a terminal after a sequence number, in order.
    fn lease_records_of(
        &self,
        terminal: TerminalId,
        after: u64,
        limit: u32,
    ) -> StoreFuture<'_, Vec<LeaseRecordRow>>;

    /// Makes all changes and appends one audit record for each payload, durably and in one transaction, unless what
    /// they build on is no longer so.
    fn commit<'a>(
        &'a self,
        basis: &'a Basis,
        changes: &'a [Change],
        payloads: &'a [Vec<u8>],
    ) -> StoreFuture<'a, Appended>;

    /// The end of the audit chain.
    fn audit_head(&self) -> StoreFuture<'_, AuditHead>;

    /// At most `limit` records after the given sequence number, in order.
    fn audit_page(&self, after: u64, limit: u32) -> StoreFuture<'_, Vec<AuditRow>>;

    /// The tree over the audit log, as stored.
    fn audit_frontier(&self) -> StoreFuture<'_, Frontier>;

    /// At most `count` stored nodes of a level of the tree, from a position on.
    fn audit_nodes(&self, level: u32, first: u64, count: u32) -> StoreFuture<'_, Vec<Digest>>;

    /// Whether the database is sound, as far as it can tell itself.
    fn check(&self) -> StoreFuture<'_, ()>;

    /// Ends all work in hand and closes.
    fn close(&self) -> StoreFuture<'_, ()>;
}

//! What the key server does. Every request comes here as one call: authenticate, decide, audit, act.
//!
//! Time comes from the [`Clock`] that is passed in. The parts: `caller` (who asks), `login` and `sessions`,
//! `terminals` (enrolment), `grants` with `decide`, `unwrap` and `release` (the one function that gives a key
//! away), `directory` (the snapshot that requests read), `admin` (the administration), `overview` (health).

pub mod admin;
mod assert;
mod caller;
mod changes;
mod decide;
mod directory;
mod error;
mod follow;
mod grants;
mod identity;
mod judge;
mod keys;
mod leases;
mod limits;
mod lockout;
mod login;
mod older;
mod overview;
mod pace;
mod password;
mod release;
mod retirement;
mod sessions;
mod setup;
mod terminals;
mod totp;
mod unseal;
mod unwrap;

pub use caller::{Bearer, Call, Caller, Peer};
pub use changes::Known;
pub(crate) use changes::LONGEST_WAIT;
pub use error::ServiceError;
pub use limits::Limits;
pub use older::{NamedKey, TakenUp, accept_older};
pub(crate) use pace::{Admitted, CONNECTIONS, Kind};
pub use setup::{NewOrganisation, Setup, bootstrap_token};

use crate::audit::{AuditError, AuditLog, Record};
use crate::ca::{Authority, CaError};
use crate::store::{Basis, Change, Loaded, Store, Tables, Turn};
use crate::witness::{Watching, WitnessError, Witnesses};
use arc_swap::ArcSwap;
use directory::Directory;
use identity::Identity;
use jiff::Timestamp;
use judge::Warrant;
use keys::KeyRing;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::{Arc, OnceLock};
use tobari_core::clock::Clock;
use tobari_core::crypto::RootKey;
use tokio::sync::{Mutex, MutexGuard};

/// The key server without its network.
pub struct Service {
    store: Arc<dyn Store>,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    limits: Limits,
    identity: Identity,
    directory: ArcSwap<Directory>,
    /// Held while the directory is changed, so that changes see each other.
    changing: Mutex<()>,
    /// Held beside it by whoever is no administrator.
    small_changes: Mutex<()>,
    keys: KeyRing,
    key_uses: keys::KeyUses,
    sessions: sessions::Sessions,
    contacts: terminals::Contacts,
    refusals: terminals::Refusals,
    pushes: Arc<changes::Pushes>,
    passwords: password::Passwords,
    lockout: lockout::Lockout,
    secrets: unwrap::Secrets,
    witnesses: OnceLock<Watching>,
    pace: pace::Pace,
}

/// The right to change this server's directory, one at a time.
#[expect(dead_code, reason = "held, not read")]
pub(crate) struct Changing<'a> {
    here: MutexGuard<'a, ()>,
    /// That nobody else is ahead of administrators who is none.
    last: Option<MutexGuard<'a, ()>>,
    /// That no other server changes its own meanwhile, unless it was not to be had.
    everywhere: Option<Turn>,
}

impl Service {
    /// Opens the organisation in `store`, on the current runtime.
    ///
    /// # Errors
    /// The root key does not fit, the store or the end of the audit log is not sound.
    pub async fn open(
        store: Arc<dyn Store>,
        root_key: RootKey,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<Arc<Self>, ServiceError> {
        let now = clock.now();
        let Loaded { tables, .. } = store.load().await?;
        let identity = Identity::open(&tables, root_key)?;
        let keys = KeyRing::open(&tables, &identity.root_key)?;
        let audit = AuditLog::start(Arc::clone(&store), identity.log.clone());
        let sessions = sessions::Sessions::new(store.sessions(now).await?);
        let contacts = terminals::Contacts::new(store.last_contacts().await?, store.reports().await?);
        let directory = follow::first(store.as_ref(), &audit, &identity, &keys, now).await?;
        let pushes = Arc::new(changes::Pushes::new(directory.version));
        let passwords = tokio::task::spawn_blocking(password::Passwords::new)
            .await
            .map_err(|error| ServiceError::Internal(error.to_string()))??;
        let service = Arc::new(Self {
            store,
            audit,
            clock,
            identity,
            directory: ArcSwap::from_pointee(directory),
            changing: Mutex::new(()),
            small_changes: Mutex::new(()),
            keys,
            key_uses: keys::KeyUses::default(),
            sessions,
            contacts,
            refusals: terminals::Refusals::new(),
            pushes,
            passwords,
            lockout: lockout::Lockout::new(),
            secrets: unwrap::Secrets::new(&limits),
            pace: pace::Pace::new(&limits),
            limits,
            witnesses: OnceLock::new(),
        });
        service.note_older_leases().await?;
        service.follow();
        Ok(service)
    }

    /// Compares the audit log with what witnesses saw of it, and shows it to them from now on.
    ///
    /// # Errors
    /// One saw another log, or more of it: this store must not be served.
    pub async fn show_to(&self, witnesses: &Witnesses) -> Result<(), WitnessError> {
        let watching =
            Watching::start(witnesses, Arc::clone(&self.store), &self.identity.log, &self.audit).await?;
        // A second time there is nothing to do: the first ones are still at it.
        let _ = self.witnesses.set(watching);
        Ok(())
    }

    /// Refuses while a witness has not seen the audit log for longer than the configuration allows.
    fn check_witnesses(&self) -> Result<(), ServiceError> {
        match self.witnesses.get().and_then(Watching::overdue) {
            None => Ok(()),
            Some(witness) => Err(ServiceError::WitnessAway(witness.to_owned())),
        }
    }

    /// The time, by the server's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A certificate for the server itself, with the names of `init` and `more`.
    pub(crate) fn server_certificate(
        &self,
        more: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CaError> {
        let mut names = self.identity.server_names.clone();
        for name in more {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        self.identity.authority.server(&names, self.clock.now())
    }

    /// The CA that issues the terminals' certificates.
    pub(crate) fn authority(&self) -> &Authority {
        &self.identity.authority
    }

    /// Waits for other changes, on all servers, and takes over those of other servers.
    pub(crate) async fn begin_change(&self) -> Changing<'_> {
        let everywhere = self.store.turn().await.unwrap_or_else(|error| {
            // The commit still finds whatever comes between.
            tracing::debug!(error = %crate::Causes(&error), "changes are made without taking turns");
            None
        });
        Changing { everywhere, ..self.stand_still().await }
    }

    /// The same for what terminals and ordinary people change, however often they ask: of all that wait here, one is in the queue in which
    /// administrators wait.
    pub(super) async fn begin_small_change(&self) -> Changing<'_> {
        let last = Some(self.small_changes.lock().await);
        Changing { last, ..self.begin_change().await }
    }

    /// Waits for other changes on this server, and takes over those of other servers, for what changes nothing that servers hold
    /// in memory but builds on it.
    pub(super) async fn stand_still(&self) -> Changing<'_> {
        let changing = Changing { here: self.changing.lock().await, last: None, everywhere: None };
        // If it fails the commit fails too, or finds that what it builds on is no longer so.
        if let Err(error) = self.catch_up(&changing).await {
            tracing::debug!(%error, "changes of other servers were not read");
        }
        changing
    }

    /// Makes changes to the directory: checks the result as a whole, commits it with its record, and swaps
    /// it in. When this returns, every request sees it, on every server.
    pub(crate) async fn change(
        &self,
        changing: &Changing<'_>,
        changes: Vec<Change>,
        record: Record,
    ) -> Result<(), ServiceError> {
        self.change_on(changing, changes, record, &Warrant::default()).await
    }

    /// The same, with why and with whose approval. What breaks an invariant is refused, and what widens access without the
    /// approval that it needs; both are decided on the tables as which the commit then finds them.
    pub(crate) async fn change_on(
        &self,
        changing: &Changing<'_>,
        mut changes: Vec<Change>,
        record: Record,
        warrant: &Warrant,
    ) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let before = self.directory.load_full();
        let mut tables: Tables = before.tables.clone();
        for change in &changes {
            tables.apply(change);
        }
        let more = self.weigh(&before, &tables, &changes, &record, warrant).await?;
        more.iter().for_each(|change| tables.apply(change));
        changes.extend(more);
        let (mut after, mut numbered) = Directory::new(tables, &self.identity, Some(&before), now)?;
        // Leases that are out lend no more than the policy gives from this commit on.
        let (taken, more_records) = self.stricter(&before, &after, &record).await?;
        if taken.iter().any(Change::is_of_tables) {
            let mut tables: Tables = before.tables.clone();
            changes.iter().chain(&taken).for_each(|change| tables.apply(change));
            (after, numbered) = Directory::new(tables, &self.identity, Some(&before), now)?;
        }
        changes.extend(taken);
        changes.extend(numbered);
        let basis = Basis::new(before.version, record.session);
        let mut records = vec![record];
        records.extend(more_records);
        match self.audit.commit_on(basis, changes, &records).await {
            Ok(_) => {
                self.publish(after);
                Ok(())
            }
            Err(error) => {
                // After a failed commit the outcome may be unknown: what the disk says counts.
                if matches!(error, AuditError::Unavailable(_) | AuditError::Moved)
                    && let Err(error) = self.reload(changing).await
                {
                    tracing::error!(%error, "the directory cannot be read again");
                }
                Err(error.into())
            }
        }
    }

    /// Whether a change may be made, and what belongs to it: the versions of the policy that it makes.
    async fn weigh(
        &self,
        before: &Arc<Directory>,
        after: &Tables,
        changes: &[Change],
        record: &Record,
        warrant: &Warrant,
    ) -> Result<Vec<Change>, ServiceError> {
        let now = self.clock.now();
        // What is no policy at all is the frequent case.
        let changed = before.tables.settings != after.settings
            || before.tables.label_keys != after.label_keys
            || before.tables.unseal_windows != after.unseal_windows
            || judge::lifts(&before.tables, after)
            || before.tables.labels != after.labels
            || before.tables.groups != after.groups
            || before.tables.posts != after.posts
            || before.tables.rules != after.rules
            || before.tables.people != after.people
            || before.tables.invariants != after.invariants;
        if !changed {
            return Ok(Vec::new());
        }
        let (old, new) = (Arc::clone(before), after.clone());
        let (by, approved) = (record.person, warrant.approval.is_some());
        grants::compute(move || {
            // The whole of it must be a policy before it can be compared.
            judge::policy(&new).set()?;
            judge::check_invariants(&old.tables, &new, now)?;
            if !approved && judge::second_person(&old.tables) {
                let judged = judge::judge(&old.tables, &new, by, now)?;
                if judged.diff.needs_second_person {
                    return Err(ServiceError::SecondPersonNeeded);
                }
            }
            Ok(())
        })
        .await??;
        let mut more = judge::versions(&before.tables, after, changes, record, warrant);
        // From the first moment at which two could approve the rule is on, whoever goes afterwards.
        if judge::second_person_set(after).is_none()
            && (judge::second_person(&before.tables) || judge::second_person(after))
        {
            more.push(Change::PutSetting(judge::SECOND_PERSON.to_owned(), b"on".to_vec()));
        }
        Ok(more)
    }

    /// Writes what is kept in memory for a while (last contacts, last uses) and forgets what has ended.
    pub async fn tidy(&self) {
        let now = self.clock.now();
        let mut changes = Vec::new();
        self.pace.tidy();
        let contacts = self.contacts.take();
        if !contacts.is_empty() {
            changes.push(Change::TouchTerminals(contacts));
        }
        let reports = self.contacts.take_reports();
        if !reports.is_empty() {
            changes.push(Change::NoteReports(reports));
        }
        let uses = self.sessions.tidy(now, self.limits.session_idle);
        if !uses.is_empty() {
            changes.push(Change::TouchSessions(uses));
        }
        if let Ok(before) = now.checked_sub(self.limits.forget_failures_after) {
            changes.push(Change::Prune(before));
        }
        if let Err(error) = self.audit.commit(changes, &[]).await {
            tracing::warn!(%error, "last contacts were not written");
        }
        if let Err(error) = self.write_key_uses().await {
            tracing::warn!(%error, "for which keys files are sealed was not written");
        }
    }

    /// Writes what is pending and closes the store.
    pub async fn close(&self) {
        self.tidy().await;
        if let Err(error) = self.store.close().await {
            tracing::warn!(error = %crate::Causes(&error), "the store was not closed cleanly");
        }
    }
}

//! Witnesses: who keeps the log's checkpoints where the key server cannot change them. A file on another disk or machine,
//! the system's log, or a server that signs what it saw (C2SP tlog-witness; `tobari-keyserver witness` is one).
//!
//! One task for each sends the newest checkpoint at intervals. One that is away is reported; where the configuration
//! says so, grants stop when one has not seen the log for too long. At the start the log is compared with what they saw:
//! a store that is older is not served ([`WitnessError::Older`]). `docs/spec/audit.md`, "Witnesses".

mod file;
mod http;
pub mod receive;
mod syslog;

use crate::audit::{AuditLog, LogIdentity, proof};
use crate::store::{Store, StoreError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tobari_core::audit::{Checkpoint, SignedCheckpoint, WitnessKey};

/// Pause after a witness did not take a checkpoint.
const PAUSE: Duration = Duration::from_secs(2);

/// Where checkpoints go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file that grows.
    File(PathBuf),
    /// The socket of the system's log.
    Syslog(PathBuf),
    /// A witness server, and the key with which it signs.
    Http {
        /// `http://host:port`; nothing secret goes there, and the answer is signed.
        url: String,
        /// Its key.
        key: WitnessKey,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Syslog(path) => write!(f, "syslog at {}", path.display()),
            Self::Http { url, .. } => f.write_str(url),
        }
    }
}

/// What the configuration says of witnesses.
#[derive(Debug, Clone)]
pub struct Witnesses {
    /// All of them.
    pub places: Vec<Place>,
    /// How often each gets the newest checkpoint.
    pub interval: Duration,
    /// No grants when one has not seen the log for this long; none: it is reported alone.
    pub wait: Option<Duration>,
}

impl Default for Witnesses {
    fn default() -> Self {
        Self { places: Vec::new(), interval: Duration::from_secs(10), wait: None }
    }
}

/// Why a witness did not take a checkpoint, or what it saw instead.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// It saw more than the log has: the store is older.
    #[error(
        "{place} saw {witnessed} records of epoch {epoch}, but the log has {size}: the database is older than that"
    )]
    Older {
        /// The witness.
        place: String,
        /// Epoch that it saw.
        epoch: u32,
        /// Records that it saw.
        witnessed: u64,
        /// Records in the store.
        size: u64,
    },
    /// It saw other records.
    #[error("{place} saw other records among the first {size}: the log was rewritten")]
    Rewritten {
        /// The witness.
        place: String,
        /// How many.
        size: u64,
    },
    /// It cannot be reached, or did not say that it took it.
    #[error("{0}")]
    Away(String),
    /// Proofs cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WitnessError {
    /// Whether it contradicts the log, rather than being away.
    pub fn is_contradiction(&self) -> bool {
        matches!(self, Self::Older { .. } | Self::Rewritten { .. })
    }
}

/// One witness at work.
enum Sink {
    File(file::FileSink),
    Syslog(syslog::SyslogSink),
    Http(http::HttpSink),
}

impl Sink {
    fn new(place: &Place) -> Self {
        match place {
            Place::File(path) => Self::File(file::FileSink::new(path.clone())),
            Place::Syslog(path) => Self::Syslog(syslog::SyslogSink::new(path.clone())),
            Place::Http { url, key } => Self::Http(http::HttpSink::new(url.clone(), key.clone())),
        }
    }

    async fn send(&mut self, signed: &SignedCheckpoint, store: &dyn Store) -> Result<(), WitnessError> {
        match self {
            Self::File(sink) => sink.send(signed),
            Self::Syslog(sink) => sink.send(signed),
            Self::Http(sink) => sink.send(signed, store).await,
        }
    }
}

/// How one witness stands.
#[derive(Debug)]
struct Standing {
    name: String,
    /// Its place in the configuration, from 1, for the metrics, which anybody may read.
    number: String,
    /// Since when there is something that it has not seen.
    pending: Mutex<Option<Instant>>,
    away: AtomicBool,
}

impl Standing {
    fn waits(&self, since: Option<Instant>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        *pending = since.map(|since| pending.map_or(since, |pending| pending.min(since)));
    }

    fn waiting(&self) -> Option<Duration> {
        let pending = *self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.map(|since| since.elapsed())
    }
}

/// All witnesses of a server at work. They end with it.
#[derive(Debug)]
pub struct Watching {
    wait: Option<Duration>,
    standings: Vec<Arc<Standing>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Watching {
    /// Compares the log with what the witnesses saw, and begins to tell them of it.
    ///
    /// # Errors
    /// One saw another log, or more of it.
    pub async fn start(
        settings: &Witnesses,
        store: Arc<dyn Store>,
        identity: &LogIdentity,
        log: &AuditLog,
    ) -> Result<Self, WitnessError> {
        let tree = store.audit_frontier().await?;
        let now =
            Arc::new(Checkpoint::of(identity.organisation, identity.epoch, &tree).sign(&identity.signer));
        let mut watching = Self { wait: settings.wait, standings: Vec::new(), tasks: Vec::new() };
        for (number, place) in (1_u32..).zip(&settings.places) {
            let mut sink = Sink::new(place);
            if let Sink::File(file) = &mut sink {
                file.compare(&now.checkpoint, identity.signer.public(), store.as_ref()).await?;
            }
            let standing = Arc::new(Standing {
                name: place.to_string(),
                number: number.to_string(),
                pending: Mutex::default(),
                away: AtomicBool::new(false),
            });
            match sink.send(&now, store.as_ref()).await {
                Err(error) if error.is_contradiction() => return Err(error),
                result => report(&standing, &result),
            }
            let task = Task {
                sink,
                standing: Arc::clone(&standing),
                store: Arc::clone(&store),
                interval: settings.interval,
                first: Arc::clone(&now),
            };
            watching.standings.push(standing);
            watching.tasks.push(tokio::spawn(task.run(log.checkpoints())));
        }
        Ok(watching)
    }

    /// The witness for which grants have to stop, if any.
    pub fn overdue(&self) -> Option<&str> {
        let wait = self.wait?;
        let late = |standing: &&Arc<Standing>| standing.waiting().is_some_and(|waiting| waiting > wait);
        self.standings.iter().find(late).map(|standing| standing.name.as_str())
    }
}

struct Task {
    sink: Sink,
    standing: Arc<Standing>,
    store: Arc<dyn Store>,
    interval: Duration,
    /// The checkpoint of the start.
    first: Arc<SignedCheckpoint>,
}

type Newest = tokio::sync::watch::Receiver<Option<Arc<SignedCheckpoint>>>;

impl Task {
    async fn run(mut self, mut newest: Newest) {
        let mut failed = self.standing.away.load(Ordering::Relaxed);
        loop {
            if !failed && newest.changed().await.is_err() {
                return;
            }
            let began = Instant::now();
            self.standing.waits(Some(began));
            if !failed {
                // What comes meanwhile is in the next one.
                tokio::time::sleep(self.interval).await;
            }
            let taken = Instant::now();
            let checkpoint = newest.borrow_and_update().clone();
            let checkpoint = checkpoint.unwrap_or_else(|| Arc::clone(&self.first));
            let result = self.sink.send(&checkpoint, self.store.as_ref()).await;
            report(&self.standing, &result);
            failed = result.is_err();
            if failed {
                tokio::time::sleep(PAUSE.min(self.interval.max(Duration::from_millis(100)))).await;
            } else {
                self.standing.waits(None);
                if newest.has_changed().unwrap_or(false) {
                    self.standing.waits(Some(taken));
                }
            }
        }
    }
}

fn report(standing: &Standing, result: &Result<(), WitnessError>) {
    let witness = standing.name.as_str();
    let waiting = standing.waiting().map_or(0.0, |waiting| waiting.as_secs_f64());
    metrics::gauge!("tobari_witness_waiting_seconds", "witness" => standing.number.clone()).set(waiting);
    match result {
        Ok(()) => {
            if standing.away.swap(false, Ordering::Relaxed) {
                tracing::info!(witness, "the witness is back");
            }
        }
        Err(error) => {
            standing.waits(Some(Instant::now()));
            if error.is_contradiction() || !standing.away.swap(true, Ordering::Relaxed) {
                tracing::error!(witness, error = %crate::Causes(error), "the witness has not taken a checkpoint");
            }
        }
    }
}

/// Whether the store's log begins with the log that a witness saw.
async fn begins_with(store: &dyn Store, seen: &Checkpoint) -> Result<bool, StoreError> {
    Ok(proof::frontier_at(store, seen.size).await?.root() == seen.root)
}

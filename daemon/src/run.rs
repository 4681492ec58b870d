//! `tobarid run`: puts the parts together in the order in which they need each other, waits for a signal, and takes
//! them apart in the reverse order.

use crate::bulletin::{BulletinError, Bulletins};
use crate::changes::Push;
use crate::config::{Config, Role};
use crate::control::Control;
use crate::gateway::{Gateway, GatewayError};
use crate::grants::{GrantSource, Grants};
use crate::lease::{self, Leases, SystemClocks};
use crate::process;
use crate::renew::Renewal;
use crate::seal::SealContext;
use crate::server::{Call, ClientError, Credentials, InvalidServerUrl, KeyServer, Reply};
use crate::service::{Parts, Service};
use crate::session;
use crate::state::{Enrolment, StateDir, StateError};
use crate::watch::Engine;
use sd_notify::NotifyState;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tobari_core::audit::LogKey;
use tobari_core::clock::Clock;
use tobari_core::crypto::{CryptoError, GrantKeyPair, SelfCheckError, self_check};
use tobari_core::proto::bulletin::SignedBulletin;
use tobari_core::proto::problem::Problem;
use tokio::signal::unix::{SignalKind, signal};

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The processor or the cryptography is not what the program needs.
    #[error("failed the self-check: {0}")]
    SelfCheck(#[from] SelfCheckError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The URL of the key server in the state directory.
    #[error(transparent)]
    Server(#[from] InvalidServerUrl),
    /// The HTTP client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no bulletin to start with.
    #[error("failed to load the cached bulletin ({cached}) and to fetch another: {}", fetched.detail)]
    NoBulletin {
        /// Why not the cached one.
        cached: BulletinError,
        /// Why not another.
        fetched: Problem,
    },
    /// The bulletin that was fetched to start with.
    #[error("failed to use the key server's bulletin: {0}")]
    Bulletin(#[from] BulletinError),
    /// The control socket.
    #[error("failed to listen at {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The views of a gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The terminal's own key.
    #[error("failed to use the terminal's key: {0}")]
    Key(#[from] CryptoError),
    /// The operating system.
    #[error("failed to start: {0}")]
    System(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the daemon cannot start.
pub fn run(config: Config, clock: Arc<dyn Clock>) -> Result<(), RunError> {
    process::harden()?;
    self_check()?;
    let state = StateDir::open(&config.state_dir)?;
    let enrolment = state.load()?;
    let runtime = runtime()?;
    let service = Arc::new(assemble(&config, &state, enrolment, runtime.handle(), clock)?);
    // From here on signals are heard; before, they end the process, which has nothing to lose yet.
    let signals = runtime.block_on(async { Signals::new() })?;
    session::clear(&config.session)?;
    let control = Control::start(&config.socket, config.control, Arc::clone(&service))
        .map_err(|source| RunError::Socket { path: config.socket.clone(), source })?;
    let gateway = match config.roles.contains(&Role::Gateway) {
        true => Some(Arc::new(Gateway::start(&service, &config.gateway)?)),
        false => None,
    };
    let poller =
        Poller::start(config.bulletin_poll, config.metrics_file, Arc::clone(&service), gateway.clone())?;
    let push = Push::start(Arc::clone(&service))?;
    notify(&[NotifyState::Ready]);
    tracing::info!(socket = %config.socket.display(), version = env!("CARGO_PKG_VERSION"), "tobarid is ready");

    runtime.block_on(signals.wait());

    notify(&[NotifyState::Stopping]);
    tracing::info!("tobarid stops");
    poller.stop();
    // Before the key server is out of reach: what is written may still have to be sealed.
    if let Some(gateway) = gateway {
        gateway.stop();
    }
    service.close();
    push.stop();
    control.stop();
    service.stop();
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// A runtime for HTTP and signals; work on files has threads of its own.
///
/// # Errors
/// When no thread can be started.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("http").enable_all().build()
}

fn assemble(
    config: &Config,
    state: &StateDir,
    enrolment: Enrolment,
    runtime: &tokio::runtime::Handle,
    clock: Arc<dyn Clock>,
) -> Result<Service, RunError> {
    let Enrolment {
        terminal,
        certificate,
        certificate_expires_at,
        tls_key,
        ca,
        grant_key,
        signing_key,
        guard,
    } = enrolment;
    let (protection, anchor) = (guard.protection(), guard.anchor());
    tracing::info!(%protection, "how this terminal's private keys are kept");
    if certificate_expires_at <= clock.now() {
        tracing::error!(%certificate_expires_at, "this terminal's certificate has expired; enrol it again");
    }
    let renewal = Renewal::new(state.renewed(), ca.clone(), &certificate, guard);
    let credentials = Credentials { certificate, certificate_expires_at, key: tls_key, ca };
    let url = terminal.server.parse()?;
    let server = Arc::new(KeyServer::new(url, credentials, runtime.clone(), Arc::clone(&clock))?);

    let (organisation, cache) = (terminal.organisation, state.bulletin());
    let bulletins = match Bulletins::load(signing_key, organisation, cache.clone()) {
        Ok(bulletins) => bulletins,
        Err(cached) => {
            tracing::error!(error = %cached, "the cached bulletin cannot be used; another one is fetched");
            let signed: SignedBulletin = server
                .call(Call::get("/v1/bulletin"))
                .and_then(Reply::object)
                .map_err(|fetched| RunError::NoBulletin { cached, fetched })?;
            Bulletins::start_over(signing_key, organisation, cache, signed)?
        }
    };
    let engine = if config.roles.contains(&Role::Seal) {
        let context = SealContext { organisation, terminal: terminal.terminal };
        Some(Engine::start(config.seal.clone(), context, Arc::clone(&clock))?)
    } else {
        None
    };
    let identity = lease::Identity {
        organisation,
        terminal: terminal.terminal,
        signing_key,
        grant_key: GrantKeyPair::import(&grant_key.export())?,
        log: LogKey::of(organisation, signing_key),
    };
    let clocks = Arc::new(SystemClocks::new(Arc::clone(&clock)));
    let leases = Arc::new(Leases::load_anchored(&state.leases(), identity, clocks, anchor)?);
    let source: Arc<dyn GrantSource> = Arc::clone(&server) as _;
    let log = LogKey::of(organisation, signing_key);
    let grants = Grants::new(source, grant_key, organisation, terminal.terminal, Arc::clone(&clock), log)
        .with_leases(Arc::clone(&leases));
    Ok(Service::new(Parts {
        roles: config.roles.clone(),
        terminal: terminal.terminal,
        renewal: Some(renewal),
        protection,
        server,
        bulletins,
        grants,
        leases,
        engine,
        session: config.session.clone(),
        clock,
    }))
}

/// Asks for a new bulletin at intervals.
struct Poller {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Poller {
    fn start(
        interval: Duration,
        metrics: Option<PathBuf>,
        service: Arc<Service>,
        gateway: Option<Arc<Gateway>>,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name(String::from("bulletin")).spawn(move || {
            let mut well = true;
            loop {
                // Each outage is one line, not one for each try.
                match service.refresh() {
                    Ok(()) if well => {}
                    Ok(()) => {
                        well = true;
                        tracing::info!("the key server answers again");
                    }
                    Err(problem) if well => {
                        well = false;
                        tracing::warn!(
                            why = problem.detail,
                            "the bulletin cannot be fetched; sealing goes on"
                        );
                    }
                    Err(problem) => tracing::debug!(why = problem.detail, "the bulletin cannot be fetched"),
                }
                if let Err(problem) = service.report_if_due() {
                    tracing::debug!(why = problem.detail, "the key server was not told of this terminal");
                }
                service.renew_if_due();
                if let Some(gateway) = &gateway {
                    gateway.follow();
                }
                let leases = if well { service.sync_leases() } else { service.keep_lease_time() };
                if let Err(failure) = leases {
                    tracing::debug!(why = failure.problem.detail, "leases were not exchanged");
                }
                if let Some(path) = &metrics
                    && let Err(error) = service.write_metrics(path)
                {
                    tracing::warn!(path = %path.display(), %error, "failed to write the metrics");
                }
                if stopped.recv_timeout(interval) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    fn stop(self) {
        drop(self.stop);
        let _ended = self.thread.join();
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the end; meanwhile tells the service manager that we live, if it wants to know.
    async fn wait(mut self) {
        let watchdog = sd_notify::watchdog_enabled();
        let mut alive = tokio::time::interval(watchdog.map_or(Duration::from_secs(3600), |limit| limit / 3));
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = alive.tick() => if watchdog.is_some() { notify(&[NotifyState::Watchdog]) },
            }
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

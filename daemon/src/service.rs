//! What the daemon does for local users, one method for each request of the control socket. It knows no socket and no
//! frames: callers come as a uid that the control side took from the peer credentials.

use crate::bulletin::{BulletinError, Bulletins};
use crate::changes::Standing;
use crate::config::Role;
use crate::failure::Failure;
use crate::forward;
use crate::gateway::Asserted;
use crate::grants::{GrantSource, Grants};
use crate::lease::Leases;
use crate::renew::Renewal;
use crate::report::Told;
use crate::seal::FolderRule;
use crate::server::{Call, KeyServer, Reply};
use crate::session::{Running, SessionSettings};
use crate::sessions::{Login, Sessions, Token};
use crate::view::Registry;
use crate::watch::Engine;
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::clock::Clock;
use tobari_core::envelope::Header;
use tobari_core::ids::{LeaseId, SessionId, TerminalId};
use tobari_core::policy::{Protection, Right};
use tobari_core::proto::api::{
    AssertRequest, DecisionOutcome, DecisionResponse, GrantItem, GrantRequest, GrantResponse, LoginRequest,
    LoginResponse, Session,
};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::{Bulletin, SignedBulletin, SignedStamp};
use tobari_core::proto::control::{Answer, FolderStatus, Status, Unsealed};
use tobari_core::proto::lease::LeaseSyncAnswer;
use tobari_core::proto::problem::{Problem, ProblemCode};

const SESSIONS: &str = "/v1/sessions";
const ASSERTIONS: &str = "/v1/assertions";
const CURRENT_SESSION: &str = "/v1/sessions/current";
/// Longest bulletin that is imported, in bytes.
const MAX_BULLETIN: u64 = 32 << 20;

/// A local user, known by the socket's peer credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The user id.
    pub uid: u32,
}

/// The parts that a [`Service`] is made of.
pub struct Parts {
    /// What the daemon does on this host.
    pub roles: BTreeSet<Role>,
    /// This terminal.
    pub terminal: TerminalId,
    /// How its certificate is renewed.
    pub renewal: Option<Renewal>,
    /// How its private keys are kept.
    pub protection: Protection,
    /// The key server.
    pub server: Arc<KeyServer>,
    /// The bulletin in force.
    pub bulletins: Bulletins,
    /// Keys for people who are logged in here.
    pub grants: Grants,
    /// What they may open without the key server.
    pub leases: Arc<Leases>,
    /// The folder side, with the role `seal`.
    pub engine: Option<Engine>,
    /// How confined sessions are set up.
    pub session: SessionSettings,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The daemon, as its users see it.
pub struct Service {
    roles: BTreeSet<Role>,
    terminal: TerminalId,
    renewal: Option<Renewal>,
    protection: Protection,
    told: Told,
    server: Arc<KeyServer>,
    bulletins: Bulletins,
    sessions: Sessions,
    asserted: Asserted,
    grants: Grants,
    leases: Arc<Leases>,
    /// Held during an exchange about leases.
    exchanging: Mutex<()>,
    engine: Mutex<Option<Engine>>,
    clock: Arc<dyn Clock>,
    fetched: Mutex<Fetched>,
    views: Arc<Registry>,
    session: SessionSettings,
    running: Arc<Running>,
    standing: Standing,
    /// One review of what was granted at a time.
    reviewing: Mutex<()>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

/// How the last fetch of the bulletin went.
#[derive(Default)]
struct Fetched {
    etag: Option<HeaderValue>,
    refused: Option<String>,
}

impl GrantSource for KeyServer {
    fn request(&self, token: &Token, request: &GrantRequest) -> Result<GrantResponse, Problem> {
        self.call(Call::post("/v1/grants", request)?.with_token(token))?.object()
    }
}

impl Service {
    /// Puts the parts together and gives the engine the folders of the bulletin in force.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            roles,
            terminal,
            renewal,
            protection,
            server,
            bulletins,
            grants,
            leases,
            engine,
            session,
            clock,
        } = parts;
        let service = Self {
            roles,
            terminal,
            renewal,
            protection,
            told: Told::default(),
            server,
            bulletins,
            sessions: Sessions::default(),
            asserted: Asserted::default(),
            grants,
            leases,
            exchanging: Mutex::default(),
            engine: Mutex::new(engine),
            clock,
            fetched: Mutex::default(),
            views: Arc::default(),
            session,
            running: Arc::default(),
            standing: Standing::default(),
            reviewing: Mutex::default(),
        };
        service.apply(&service.bulletins.current());
        service
    }

    /// Ends waiting for the key server: requests in work fail, and so do those to come.
    pub fn close(&self) {
        self.running.end_all();
        self.server.close();
    }

    /// Ends the folder side; files in work are finished.
    pub fn stop(&self) {
        let engine = self.engine().take();
        if let Some(engine) = engine {
            engine.stop();
        }
        self.sessions.clear();
        self.asserted.clear();
        self.grants.clear();
    }

    /// This terminal.
    pub fn terminal(&self) -> TerminalId {
        self.terminal
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Where the time comes from.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// The bulletin in force.
    pub fn bulletin(&self) -> Arc<Bulletin> {
        self.bulletins.current()
    }

    /// Grants for people who are logged in here.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// How the certificate is renewed.
    pub(crate) fn renewal(&self) -> Option<&Renewal> {
        self.renewal.as_ref()
    }

    /// How this terminal's private keys are kept.
    pub(crate) fn protection(&self) -> Protection {
        self.protection
    }

    /// What the key server was told of this terminal.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// The designated folders; none without the role `seal`.
    pub(crate) fn folders(&self) -> Vec<FolderStatus> {
        self.engine().as_ref().map_or_else(Vec::new, |engine| engine.status().0)
    }

    /// The key server.
    pub(crate) fn server(&self) -> &KeyServer {
        &self.server
    }

    /// Whom this gateway asserts.
    pub(crate) fn asserted(&self) -> &Asserted {
        &self.asserted
    }

    /// How this terminal stands with the key server.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// To be held while what was granted is looked at again.
    pub(crate) fn reviewing(&self) -> MutexGuard<'_, ()> {
        self.reviewing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How confined sessions are set up.
    pub fn session_settings(&self) -> &SessionSettings {
        &self.session
    }

    /// The confined sessions that run.
    pub fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// The views that are mounted, and what is open in them.
    pub fn views(&self) -> &Arc<Registry> {
        &self.views
    }

    /// The bulletin in force, as an answer.
    pub fn bulletin_answer(&self) -> Answer {
        let bulletin = self.bulletin().as_ref().clone();
        Answer::Bulletin { bulletin: Box::new(bulletin), terminal: self.terminal }
    }

    /// Fetches the bulletin and puts it in force.
    ///
    /// # Errors
    /// When the key server is not reached, or what it sends is not taken; the bulletin in force stays.
    pub fn refresh(&self) -> Result<(), Problem> {
        if self.fetch_bulletin()? {
            // Something changed at the organisation; what was granted before is looked at again.
            self.reconsider(|_| true);
        }
        Ok(())
    }

    /// Fetches the bulletin and puts it in force: whether there is a new one. What was granted is looked at by the caller.
    pub(crate) fn fetch_bulletin(&self) -> Result<bool, Problem> {
        // One fetch at a time: later ones wait and then ask with the new version.
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = self.server.call(Call { unless: fetched.etag.as_ref(), ..Call::get("/v1/bulletin") })?;
        if reply.status == StatusCode::NOT_MODIFIED {
            return Ok(false);
        }
        let etag = reply.etag.clone();
        let signed: SignedBulletin = reply.object().map_err(|problem| self.heard_of_terminal(problem))?;
        match self.bulletins.accept(&signed) {
            Ok(new) => {
                *fetched = Fetched { etag, refused: None };
                drop(fetched);
                if let Some(bulletin) = &new {
                    tracing::info!(number = bulletin.number, "a new bulletin is in force");
                    self.apply(bulletin);
                }
                Ok(new.is_some())
            }
            Err(error) => {
                fetched.refused = Some(error.to_string());
                let code = match error {
                    BulletinError::Io(_) => ProblemCode::LocalIo,
                    _ => ProblemCode::Internal,
                };
                Err(Problem::local(code, error.to_string()))
            }
        }
    }

    /// Takes a bulletin from a file, where the key server cannot be reached.
    ///
    /// # Errors
    /// When it is not the organisation's, not newer than the one in force, or cannot be kept; the one in force stays.
    pub fn import(&self, file: OwnedFd) -> Result<(), Failure> {
        let refused = |detail: String| Failure::new(ProblemCode::InvalidRequest, detail);
        let mut bytes = Vec::new();
        std::fs::File::from(file)
            .take(MAX_BULLETIN + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::io("the bulletin cannot be read", &error))?;
        if bytes.len() as u64 > MAX_BULLETIN {
            return Err(refused(format!("the bulletin is longer than {MAX_BULLETIN} bytes")));
        }
        let signed: SignedBulletin = serde_json::from_slice(&bytes)
            .map_err(|error| refused(format!("this is not an exported bulletin: {error}")))?;
        match self.bulletins.accept(&signed) {
            Ok(None) => {
                self.leases.confirm(&self.bulletins.current(), self.bulletins.confirmed_at());
                Ok(())
            }
            Ok(Some(bulletin)) => {
                tracing::info!(number = bulletin.number, "an imported bulletin is in force");
                self.apply(&bulletin);
                self.reconsider(|_| true);
                Ok(())
            }
            Err(BulletinError::Io(error)) => Err(Failure::io("the bulletin cannot be kept", &error)),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// Takes a confirmation that the bulletin is in force.
    pub(crate) fn confirm(&self, stamp: &SignedStamp) {
        match self.bulletins.confirm(stamp) {
            Ok(()) => self.leases.confirm(&self.bulletins.current(), self.bulletins.confirmed_at()),
            Err(error) => tracing::warn!(%error, "a confirmation of the bulletin was not taken"),
        }
    }

    fn apply(&self, bulletin: &Bulletin) {
        if let Some(engine) = self.engine().as_ref() {
            engine.set_folders(FolderRule::of_terminal(bulletin, self.terminal));
        }
        if bulletin.revocations.terminals.contains(&self.terminal) {
            tracing::warn!("this terminal is revoked: everybody is logged out");
            self.forget_everybody();
        }
        if bulletin.revocations.frozen.contains(&self.terminal) {
            tracing::warn!("this terminal is frozen: nothing is opened here for now");
            self.grants.clear();
            self.views.forgotten();
        }
        self.leases.revoke(&bulletin.revocations);
        self.leases.confirm(bulletin, self.bulletins.confirmed_at());
        let people = &bulletin.revocations.people;
        for session in self.sessions.revoke(people).into_iter().chain(self.asserted.revoke(people)) {
            tracing::info!(%session, "a revoked person is logged out");
            self.forget(session);
        }
        self.asserted.reconsider();
        if !bulletin.gateways.contains(&self.terminal) {
            for session in self.asserted.clear() {
                tracing::warn!(%session, "this terminal is no gateway any more: whom it asserted is logged out");
                self.forget(session);
            }
        }
    }

    /// This terminal serves nobody any more: everybody is logged out, and what they have open is closed.
    pub(crate) fn forget_everybody(&self) {
        self.sessions.clear();
        self.asserted.clear();
        self.grants.clear();
        self.views.forgotten();
        self.running.end_all();
    }

    /// The login with this session, of a user or of a gateway's person.
    pub(crate) fn login_of_session(&self, session: SessionId) -> Option<Arc<Login>> {
        self.sessions.with_session(session).or_else(|| self.asserted.with_session(session))
    }

    /// Logs `caller` in. Who was logged in under that uid before is logged out.
    ///
    /// # Errors
    /// Wrong credentials, lockout, or no key server.
    pub fn login(&self, caller: Caller, request: &LoginRequest) -> Result<Session, Failure> {
        self.needs(Role::View)?;
        let login = match self.server.call(Call::post(SESSIONS, request)?) {
            Ok(reply) => {
                let login = Login::from(reply.object::<LoginResponse>()?);
                self.leases.remember(&login.session, &request.password);
                login
            }
            Err(problem) if problem.code == ProblemCode::KeyServerUnreachable => {
                let known = self.leases.login(&request.login, &request.password);
                Login::offline(known.unwrap_or_else(|| Err(problem.into()))?)
            }
            Err(problem) => return Err(problem.into()),
        };
        let session = login.session.clone();
        tracing::info!(uid = caller.uid, session = %session.id, person = %session.person, "logged in");
        if let Some(replaced) = self.sessions.put(caller.uid, login) {
            self.end(&replaced);
        }
        Ok(session)
    }

    /// The login of a person whom this gateway asserts.
    ///
    /// # Errors
    /// When the terminal is no gateway, there is no such person, or the key server is not reached.
    pub fn assert(&self, login: &str) -> Result<Arc<Login>, Failure> {
        self.needs(Role::Gateway)?;
        self.asserted.login(login, self.clock.now(), || {
            let request = AssertRequest { login: login.to_owned() };
            let asserted = self
                .server
                .call(Call::post(ASSERTIONS, &request)?)
                .and_then(Reply::object::<LoginResponse>)
                .inspect_err(|problem| {
                    tracing::warn!(login, code = ?problem.code, why = problem.detail, "nobody is asserted");
                })?;
            let login = Login::from(asserted);
            tracing::info!(session = %login.session.id, person = %login.session.person, "asserted");
            Ok(login)
        })
    }

    /// Logs `caller` out. Here it always succeeds; the key server learns of it if it can be reached.
    ///
    /// # Errors
    /// When `caller` is not logged in.
    pub fn logout(&self, caller: Caller) -> Result<(), Failure> {
        let login = self.login_of(caller)?;
        self.sessions.remove(caller.uid);
        tracing::info!(uid = caller.uid, session = %login.session.id, "logged out");
        self.end(&login);
        Ok(())
    }

    /// Forgets what a session that has ended was granted.
    fn forget(&self, session: SessionId) {
        self.grants.forget(session);
        self.views.revoked(session);
        self.running.end(session);
    }

    fn end(&self, login: &Login) {
        self.forget(login.session.id);
        if login.offline {
            return;
        }
        let call = Call { method: Method::DELETE, ..Call::get(CURRENT_SESSION) };
        if let Err(problem) = self.server.call(call.with_token(&login.token)).and_then(Reply::nothing) {
            tracing::warn!(session = %login.session.id, why = problem.detail, "the key server did not end a session");
        }
    }

    /// Who `caller` is logged in as: as the key server says now, or as it said at login while it is away.
    ///
    /// # Errors
    /// When nobody is, or the session was ended.
    pub fn whoami(&self, caller: Caller) -> Result<Session, Failure> {
        let login = self.login_of(caller)?;
        if login.offline {
            return Ok(login.session.clone());
        }
        let call = Call::get(CURRENT_SESSION).with_token(&login.token);
        match self.server.call(call).and_then(Reply::object::<Session>) {
            Ok(session) => Ok(session),
            Err(problem) if problem.code == ProblemCode::KeyServerUnreachable => Ok(login.session.clone()),
            Err(problem) => Err(self.heard(&login, problem).into()),
        }
    }

    /// The login of `caller`.
    ///
    /// # Errors
    /// `NotLoggedIn`.
    pub fn login_of(&self, caller: Caller) -> Result<Arc<Login>, Failure> {
        Ok(self.sessions.current(caller.uid, self.clock.now())?)
    }

    /// Takes note of what the key server said about a session; gives it back.
    pub fn heard(&self, login: &Login, problem: Problem) -> Problem {
        // A session that began without the key server is none of its own.
        if problem.code == ProblemCode::NotLoggedIn && !login.offline {
            self.sessions.forget(login.session.id);
            self.asserted.forget(login.session.id);
            self.forget(login.session.id);
        }
        self.heard_of_terminal(problem)
    }

    /// The same for a failure.
    pub fn heard_failure(&self, login: &Login, failure: Failure) -> Failure {
        Failure { problem: self.heard(login, failure.problem), ..failure }
    }

    /// Fails unless the daemon has this role.
    ///
    /// # Errors
    /// `NotConfigured`.
    pub fn needs(&self, role: Role) -> Result<(), Failure> {
        if self.roles.contains(&role) {
            return Ok(());
        }
        let name = match role {
            Role::Seal => "seal",
            Role::View => "view",
            Role::Gateway => "gateway",
        };
        Err(Failure::new(
            ProblemCode::NotConfigured,
            format!(
                "tobarid on this host does not have the role '{name}' (key 'roles' of its configuration)"
            ),
        ))
    }

    /// What the person of `login` may do with a file, without any key.
    ///
    /// # Errors
    /// When the key server is not reached or does not answer the question.
    pub fn decide(&self, login: &Login, header: &[u8], name: &str) -> Result<DecisionOutcome, Problem> {
        let item = GrantItem {
            header: Base64(header.to_vec()),
            right: Right::View,
            name: Some(name.to_owned()),
            new_label: None,
        };
        let request = GrantRequest { items: vec![item] };
        let decided = if login.offline {
            Err(began_offline())
        } else {
            Call::post("/v1/decisions", &request)
                .and_then(|call| self.server.call(call.with_token(&login.token)))
                .and_then(Reply::object::<DecisionResponse>)
                .and_then(|mut response| {
                    response.decisions.pop().ok_or_else(|| {
                        Problem::local(ProblemCode::Internal, "the key server's answer has no decision")
                    })
                })
        };
        match decided {
            Err(problem) if problem.code == ProblemCode::KeyServerUnreachable => {
                self.lent(login, header).unwrap_or(Err(problem))
            }
            decided => decided.map_err(|problem| self.heard(login, problem)),
        }
    }

    /// What a lease says of a file that it covers.
    fn lent(&self, login: &Login, header: &[u8]) -> Option<Result<DecisionOutcome, Problem>> {
        let header = Header::parse(header).ok()?;
        let bulletin = self.bulletin();
        let policy = header.policy();
        let label = bulletin.labels.iter().find(|keys| keys.label.id == policy.label);
        Some(self.leases.rights(login, &header)?.map_err(|failure| failure.problem).map(|rights| {
            DecisionOutcome::Decided {
                label: policy.label,
                label_name: label.map_or_else(|| policy.label_name.clone(), |keys| keys.label.name.clone()),
                owner_group: policy.owner_group,
                owner_group_name: policy.owner_group.and_then(|id| {
                    bulletin.groups.iter().find(|group| group.id == id).map(|group| group.name.clone())
                }),
                rights,
                reasons: Vec::new(),
            }
        }))
    }

    /// Tells the key server what was done under leases, and fetches what was lent.
    ///
    /// # Errors
    /// When the key server is not reached or refuses; when nothing here can be believed.
    pub fn sync_leases(&self) -> Result<(), Failure> {
        if !self.roles.contains(&Role::View) {
            return Ok(());
        }
        // One exchange at a time: each builds on the one before.
        let _turn = self.exchanging.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let report = self.leases.report()?;
            let answer: Result<LeaseSyncAnswer, Problem> =
                self.server.call(Call::post("/v1/terminals/leases", &report)?).and_then(Reply::object);
            match answer {
                Ok(answer) => {
                    let more = self.leases.settle(answer)?;
                    // What was opened under a lease that ended is closed, and the kernel forgets it.
                    self.views.forgotten();
                    if !more {
                        return Ok(());
                    }
                }
                Err(problem) => {
                    self.leases.heard(&problem);
                    return Err(problem.into());
                }
            }
        }
    }

    /// Writes the latest time seen down, so that a clock that is set back before the next start is noticed.
    ///
    /// # Errors
    /// When it cannot be written, or the clock was set back already.
    pub fn keep_lease_time(&self) -> Result<(), Failure> {
        self.views.forgotten();
        self.leases.report().map(|_| ())
    }

    /// The leases that the person of `caller` holds here.
    ///
    /// # Errors
    /// When nobody is logged in.
    pub fn leases_of(&self, caller: Caller) -> Result<Answer, Failure> {
        let login = self.login_of(caller)?;
        let problem = self.sync_leases().err().map(|failure| failure.problem);
        let problem = problem.or_else(|| login.offline.then(began_offline));
        let (leases, unreported) = self.leases.of(login.session.person);
        Ok(Answer::Leases { leases, unreported, problem })
    }

    /// Gives a lease of the person of `caller` back.
    ///
    /// # Errors
    /// When it is not theirs, or this cannot be written down. That the key server is away is no error: it learns later.
    pub fn return_lease(&self, caller: Caller, lease: LeaseId) -> Result<Answer, Failure> {
        let login = self.login_of(caller)?;
        self.leases.give_back(login.session.person, lease)?;
        self.leases_of(caller)
    }

    /// Sends a request of `caller` to the key server.
    ///
    /// # Errors
    /// When nobody is logged in, the request is not one that passes, or the key server is not reached.
    pub fn forward(
        &self,
        caller: Caller,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Answer, Failure> {
        let method = forward::check(method, path)?;
        let login = self.login_of(caller)?;
        if login.offline {
            return Err(began_offline().into());
        }
        let call = Call { method, path, token: Some(&login.token), body, unless: None, patience: None };
        let reply = self.server.call(call)?;
        let unauthorized = reply.status == StatusCode::UNAUTHORIZED;
        let (status, body) = reply.value()?;
        if unauthorized && let Ok(problem) = serde_json::from_value::<Problem>(body.clone()) {
            self.heard(&login, problem);
        }
        Ok(Answer::Forwarded { status, body })
    }

    /// State of the daemon. The list of files that are not sealed is for the administrator of this host; others
    /// see their own files in it, because names are not for everybody to read.
    pub fn status(&self, caller: Caller, with_unsealed: bool) -> Status {
        let (folders, mut unsealed) =
            self.engine().as_ref().map_or_else(|| (Vec::new(), Vec::new()), Engine::status);
        if !with_unsealed {
            unsealed.clear();
        } else if caller.uid != 0 && caller.uid != rustix::process::geteuid().as_raw() {
            unsealed.retain(|file| owned_by(file, caller.uid));
        }
        let bulletin = self.bulletin();
        let contact = self.server.contact();
        let refused = self.fetched.lock().unwrap_or_else(PoisonError::into_inner).refused.clone();
        Status {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            terminal: self.terminal,
            organisation: bulletin.organisation,
            key_server: self.server.url().to_string(),
            key_server_seen_at: contact.seen_at,
            key_server_error: contact.error.or(refused),
            certificate_expires_at: self.server.certificate_expires_at().unwrap_or(Timestamp::MAX),
            bulletin_number: bulletin.number,
            bulletin_issued_at: bulletin.issued_at,
            folders,
            unsealed,
        }
    }

    /// Writes the folders' coverage for node-exporter.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_metrics(&self, path: &std::path::Path) -> std::io::Result<()> {
        crate::metrics::write(path, &self.folders(), self.clock.now())
    }

    fn engine(&self) -> MutexGuard<'_, Option<Engine>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owned_by(file: &Unsealed, uid: u32) -> bool {
    std::fs::symlink_metadata(&file.path).is_ok_and(|metadata| metadata.uid() == uid)
}

/// Said where the key server would have to be asked in a session that it does not know.
pub(crate) fn began_offline() -> Problem {
    let why =
        "this session began without the key server, so that only leases open files; log in again with it";
    Problem::local(ProblemCode::KeyServerUnreachable, why)
}

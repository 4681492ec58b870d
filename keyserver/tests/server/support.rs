//! A key server in this process: a real store, real TLS, a clock that is set by the test, and a store that
//! fails when it is told to.

use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tobari_core::audit::{Frontier, LogKey, Occasion, Released, check_receipt};
use tobari_core::clock::{Clock as _, FixedClock, SystemClock};
use tobari_core::crypto::{GrantKeyPair, GrantOpener, RecipientPublicKey, RootKey, VerifyingKey};
use tobari_core::envelope::{Epoch, FilePolicy, MemoryStorage, SealOptions, Sealed, seal};
use tobari_core::ids::{FileId, GroupId, LabelId, LeaseId, OrganisationId, PersonId, SessionId, TerminalId};
use tobari_core::policy::{Membership, Policy, Right};
use tobari_core::proto::admin::{LabelRecord, PersonRecord, PresetApplied};
use tobari_core::proto::api::{
    EnrolResponse, Grant, GrantItem, GrantOutcome, GrantRequest, GrantResponse, LoginResponse, Refusal,
    grant_aad, grant_info,
};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::{Bulletin, SignedBulletin};
use tobari_core::proto::lease::LeaseInHand;
use tobari_core::proto::problem::{Problem, ProblemCode};
use tobari_core::proto::terminal::Reported;
use tobari_keyserver::http::{Server, ServerOptions};
use tobari_keyserver::service::{Limits, Service, Setup};
use tobari_keyserver::store::sqlite::SqliteStore;
use tobari_keyserver::store::{
    Appended, AuditHead, AuditRow, Basis, Change, Digest, LeaseCaseRow, LeaseCases, LeaseFilter, LeaseKind,
    LeaseRecordRow, LeaseRow, LeaseTerminalRow, Loaded, LoginFailuresRow, PolicyVersionRow, SessionRow,
    Store, StoreError, StoreFuture, TokenRow, Turn,
};
use tokio::sync::oneshot;

pub(crate) const ADMIN: &str = "admin";

pub(crate) fn password(login: &str) -> String {
    format!("{login}-Tobari-2026")
}

/// A store that passes everything on, until it is told to fail.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn Store>,
    pub(crate) commits_fail: AtomicBool,
    pub(crate) reads_fail: AtomicBool,
    /// Hears nothing of other servers.
    pub(crate) deaf: AtomicBool,
    /// Trusts what is in memory: neither asks for the version nor checks what a commit builds on.
    pub(crate) trusting: AtomicBool,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        let no = || AtomicBool::new(false);
        Arc::new(Self { inner, commits_fail: no(), reads_fail: no(), deaf: no(), trusting: no() })
    }

    pub(crate) fn inner(&self) -> &dyn Store {
        self.inner.as_ref()
    }

    fn fault<T: Send>(&self, fails: &AtomicBool) -> Option<StoreFuture<'_, T>> {
        fails.load(Ordering::SeqCst).then(|| {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            let future: StoreFuture<'_, T> =
                Box::pin(async { Err(StoreError::Unavailable(Box::new(error))) });
            future
        })
    }
}

macro_rules! reads {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $output:ty;)*) => {
        $(fn $name<'a>(&'a self $(, $argument: $kind)*) -> StoreFuture<'a, $output> {
            self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.$name($($argument),*))
        })*
    };
}

impl Store for Faulty {
    fn load(&self) -> StoreFuture<'_, Loaded> {
        self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.load())
    }
    fn version(&self) -> StoreFuture<'_, u64> {
        if self.trusting.load(Ordering::SeqCst) {
            return Box::pin(async { Ok(0) });
        }
        self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.version())
    }
    fn hints(&self) -> Option<tokio::sync::watch::Receiver<u64>> {
        if self.deaf.load(Ordering::SeqCst) { None } else { self.inner.hints() }
    }
    fn turn(&self) -> StoreFuture<'_, Option<Turn>> {
        self.inner.turn()
    }
    fn session(&self, token_hash: Digest) -> StoreFuture<'_, Option<SessionRow>> {
        self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.session(token_hash))
    }
    fn sessions(&self, now: Timestamp) -> StoreFuture<'_, Vec<SessionRow>> {
        self.inner.sessions(now)
    }
    fn last_contacts(&self) -> StoreFuture<'_, HashMap<TerminalId, Timestamp>> {
        self.inner.last_contacts()
    }
    fn reports(&self) -> StoreFuture<'_, HashMap<TerminalId, Reported>> {
        self.inner.reports()
    }
    fn leases_out(&self, now: Timestamp) -> StoreFuture<'_, HashMap<TerminalId, u32>> {
        self.inner.leases_out(now)
    }
    fn token(&self, hash: Digest) -> StoreFuture<'_, Option<TokenRow>> {
        self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.token(hash))
    }
    reads! {
        login_failures(key: &'a str) -> Option<LoginFailuresRow>;
        files_under(label: LabelId, generation: u32) -> u64;
        unseals(person: PersonId, since: Timestamp) -> Vec<(FileId, Timestamp)>;
        lease(id: LeaseId) -> Option<LeaseRow>;
        leases(filter: LeaseFilter) -> Vec<LeaseRow>;
        lease_kinds(which: LeaseCases, now: Timestamp) -> (u64, Vec<LeaseKind>);
        lease_cases(kind: LeaseKind, now: Timestamp) -> Vec<LeaseCaseRow>;
        leases_without_cases(now: Timestamp) -> Vec<LeaseId>;
        lease_terminal(terminal: TerminalId) -> Option<LeaseTerminalRow>;
        lease_records(lease: LeaseId) -> Vec<LeaseRecordRow>;
        lease_records_of(terminal: TerminalId, after: u64, limit: u32) -> Vec<LeaseRecordRow>;
    }
    fn totp_step(&self, person: PersonId) -> StoreFuture<'_, Option<i64>> {
        self.inner.totp_step(person)
    }
    fn step_up(&self, session: SessionId) -> StoreFuture<'_, Option<Timestamp>> {
        self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.step_up(session))
    }
    fn policy_versions(&self, before: u64, limit: u32) -> StoreFuture<'_, Vec<PolicyVersionRow>> {
        self.inner.policy_versions(before, limit)
    }
    fn policy_of(&self, version: u64) -> StoreFuture<'_, Option<Policy>> {
        self.inner.policy_of(version)
    }
    fn commit<'a>(
        &'a self,
        basis: &'a Basis,
        changes: &'a [Change],
        payloads: &'a [Vec<u8>],
    ) -> StoreFuture<'a, Appended> {
        static ANY: Basis = Basis::ANY;
        let basis = if self.trusting.load(Ordering::SeqCst) { &ANY } else { basis };
        self.fault(&self.commits_fail).unwrap_or_else(|| self.inner.commit(basis, changes, payloads))
    }
    fn audit_head(&self) -> StoreFuture<'_, AuditHead> {
        self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.audit_head())
    }
    fn audit_page(&self, after: u64, limit: u32) -> StoreFuture<'_, Vec<AuditRow>> {
        self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.audit_page(after, limit))
    }
    fn audit_frontier(&self) -> StoreFuture<'_, Frontier> {
        self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.audit_frontier())
    }
    fn audit_nodes(&self, level: u32, first: u64, count: u32) -> StoreFuture<'_, Vec<Digest>> {
        self.fault(&self.reads_fail).unwrap_or_else(|| self.inner.audit_nodes(level, first, count))
    }
    fn check(&self) -> StoreFuture<'_, ()> {
        self.inner.check()
    }
    fn close(&self) -> StoreFuture<'_, ()> {
        self.inner.close()
    }
}

pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) store: Arc<Faulty>,
    pub(crate) limits: Limits,
    pub(crate) address: SocketAddr,
    token: String,
    root_key: [u8; 32],
    service: Option<Arc<Service>>,
    end: Option<oneshot::Sender<()>>,
    running: Option<tokio::task::JoinHandle<()>>,
}

pub(crate) fn limits() -> Limits {
    Limits { failure_delay: Duration::ZERO, refusal_wait: Duration::ZERO, ..Limits::default() }
}

impl Site {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::create(&directory.path().join("tobari.db")).await.unwrap());
        Self::over(directory, Faulty::new(store)).await
    }

    /// A new organisation in an empty store.
    pub(crate) async fn over(directory: tempfile::TempDir, store: Arc<Faulty>) -> Self {
        let clock = Arc::new(FixedClock::new(SystemClock.now()));
        let root_key = *RootKey::generate().to_bytes();
        let names = [String::from("127.0.0.1")];
        let setup = Setup {
            organisation: "みほん市",
            admin: ADMIN,
            password: &password(ADMIN),
            server_names: &names,
            token_seconds: 3600,
        };
        let made = setup
            .run(Arc::clone(&store) as Arc<dyn Store>, &RootKey::from_bytes(root_key), clock.now())
            .await
            .unwrap();
        let mut site = Self {
            directory,
            clock,
            store,
            limits: limits(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            token: made.token.token,
            root_key,
            service: None,
            end: None,
            running: None,
        };
        site.serve().await;
        site
    }

    /// Another server of the same organisation, over a store of its own to the same database.
    pub(crate) async fn beside(&self, store: Arc<Faulty>) -> Self {
        let mut site = Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Arc::clone(&self.clock),
            store,
            limits: limits(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            token: self.token.clone(),
            root_key: self.root_key,
            service: None,
            end: None,
            running: None,
        };
        site.serve().await;
        site
    }

    async fn serve(&mut self) {
        let service = Service::open(
            Arc::clone(&self.store) as Arc<dyn Store>,
            RootKey::from_bytes(self.root_key),
            Arc::clone(&self.clock) as Arc<dyn tobari_core::clock::Clock>,
            self.limits.clone(),
        )
        .await
        .unwrap();
        service.check_before_serving().await.unwrap();
        self.service = Some(Arc::clone(&service));
        let options = ServerOptions { listen: self.address, names: Vec::new() };
        let server = Server::bind(service, options).await.unwrap();
        self.address = server.address().unwrap();
        let (end, ended) = oneshot::channel();
        self.end = Some(end);
        self.running = Some(tokio::spawn(server.run(async {
            let _ = ended.await;
        })));
    }

    /// Ends the server and starts it again over the same store. Its writer's connection stays open.
    pub(crate) async fn restart(&mut self) {
        self.end.take();
        // Connections that clients keep open are cut off after a while; not waited for here.
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
        self.address.set_port(0);
        self.serve().await;
    }

    /// The same terminal after a restart, which changes the port.
    pub(crate) fn again(&self, mut terminal: Terminal) -> Terminal {
        terminal.move_to(self.address);
        terminal
    }

    /// What serves here.
    pub(crate) fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    pub(crate) fn root_key(&self) -> RootKey {
        RootKey::from_bytes(self.root_key)
    }

    pub(crate) fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn advance(&self, by: SignedDuration) {
        self.clock.set(self.clock.now() + by);
    }

    /// A client without a certificate. It takes the server's word for its certificate: the daemon's tests
    /// check pins, these check the server.
    pub(crate) fn stranger(&self) -> Terminal {
        Terminal::new(self.address, None)
    }

    pub(crate) async fn enrol(&self, token: &str) -> Terminal {
        enrol_at(self.address, token).await
    }

    /// The first terminal, with the administrator logged in.
    pub(crate) async fn first(&self) -> (Terminal, String) {
        let terminal = self.enrol(&self.token).await;
        let token = terminal.login(ADMIN).await;
        (terminal, token)
    }

    /// Another terminal, enrolled by the administrator.
    pub(crate) async fn another(&self, first: &Terminal, admin: &str, zone: Option<&str>) -> Terminal {
        let answer = first.post("/v1/admin/enrolment-tokens", Some(admin), &json!({ "zone": zone })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        self.enrol(answer.body["token"].as_str().unwrap()).await
    }

    /// The reference case: the preset, a group and three people.
    pub(crate) async fn reference(&self) -> Reference {
        let (terminal, admin) = self.first().await;
        Reference::make(terminal, admin).await
    }
}

impl Reference {
    /// Made by the administrator who is logged in on a terminal.
    pub(crate) async fn make(terminal: Terminal, admin: String) -> Self {
        let preset: PresetApplied =
            terminal.post("/v1/admin/presets/kigyo", Some(&admin), &Value::Null).await.created().to();
        let group: tobari_core::policy::Group = terminal
            .post("/v1/admin/groups", Some(&admin), &json!({ "name": "総務部" }))
            .await
            .created()
            .to();
        let mut people = HashMap::new();
        for (login, post) in [("bucho", "部長"), ("kacho", "課長"), ("ippan", "一般")] {
            let post = preset.posts.iter().find(|known| known.name == post).unwrap().id;
            let input = person_input(login, vec![Membership { group: group.id, post }], &[]);
            let person: PersonRecord =
                terminal.post("/v1/admin/people", Some(&admin), &input).await.created().to();
            people.insert(login, person);
        }
        Self { terminal, admin, preset, group: group.id, people }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

pub(crate) async fn enrol_at(address: SocketAddr, token: &str) -> Terminal {
    let keys = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let grant_key = GrantKeyPair::generate().unwrap();
    let body = enrolment(token, &keys, &grant_key);
    let answer = Terminal::new(address, None).post("/v1/terminals/enrol", None, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    Terminal::enrolled(address, answer.to(), &keys.serialize_pem(), grant_key)
}

pub(crate) fn enrolment(token: &str, keys: &rcgen::KeyPair, grant_key: &GrantKeyPair) -> Value {
    let csr = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(keys).unwrap();
    json!({
        "token": token,
        "name": "端末",
        "csr_pem": csr.pem().unwrap(),
        "grant_key": Base64(grant_key.public()),
    })
}

pub(crate) fn person_input(login: &str, memberships: Vec<Membership>, roles: &[&str]) -> Value {
    json!({
        "login": login,
        "name": login,
        "password": password(login),
        "memberships": memberships,
        "roles": roles,
    })
}

pub(crate) struct Reference {
    pub(crate) terminal: Terminal,
    pub(crate) admin: String,
    pub(crate) preset: PresetApplied,
    pub(crate) group: GroupId,
    pub(crate) people: HashMap<&'static str, PersonRecord>,
}

impl Reference {
    pub(crate) fn label(&self, name: &str) -> &LabelRecord {
        self.preset.labels.iter().find(|label| label.label.name == name).unwrap()
    }

    pub(crate) fn policy(&self, label: &str) -> FilePolicy {
        let record = self.label(label);
        FilePolicy {
            organisation: self.terminal.organisation,
            label: record.id,
            label_level: record.label.level,
            label_name: record.label.name.clone(),
            owner_group: Some(self.group),
            sealed_at: Timestamp::UNIX_EPOCH,
            sealer: self.terminal.id,
            generation: record.generation,
        }
    }

    pub(crate) async fn epoch(&self, label: LabelId) -> Epoch {
        let (_, bulletin) = self.terminal.bulletin().await;
        let label = bulletin.labels.iter().find(|entry| entry.label.id == label).unwrap();
        let keys: Vec<RecipientPublicKey> =
            [&label.key, &bulletin.recovery].map(|key| RecipientPublicKey::try_from(key).unwrap()).into();
        Epoch::new(&keys).unwrap()
    }

    /// A file sealed under a label, with the public keys of the bulletin.
    pub(crate) async fn sealed(&self, label: &str) -> Sealed {
        seal_under(&self.epoch(self.label(label).id).await, self.policy(label))
    }
}

pub(crate) fn seal_under(epoch: &Epoch, policy: FilePolicy) -> Sealed {
    let storage = MemoryStorage::new();
    let mut source: &[u8] = "社外秘の本文".as_bytes();
    seal(&mut source, &storage, epoch, policy, &SealOptions::default(), &mut |_| ()).unwrap()
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn to<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn created(self) -> Self {
        assert_eq!(self.status, StatusCode::CREATED, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success(), "{self:?}");
        self
    }

    /// Checks that the answer is a whole problem with this code.
    #[track_caller]
    pub(crate) fn refused(&self, code: ProblemCode) -> Problem {
        let kind = self.headers.get("content-type").map(|value| value.to_str().unwrap());
        assert_eq!(kind, Some("application/problem+json"), "{self:?}");
        let problem: Problem = self.to();
        assert_eq!(problem.code, code, "{self:?}");
        assert_eq!(problem.status, self.status.as_u16());
        let request = problem.request_id.unwrap().to_string();
        assert_eq!(self.headers.get("x-request-id").unwrap(), request.as_str());
        problem
    }
}

pub(crate) struct Terminal {
    client: reqwest::Client,
    base: String,
    pub(crate) id: TerminalId,
    pub(crate) organisation: OrganisationId,
    pub(crate) enrolment: Option<EnrolResponse>,
    pub(crate) grant_key: Option<GrantKeyPair>,
}

/// Accepts any server certificate; see [`Site::stranger`].
#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(String::from("TLS 1.2")))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl Terminal {
    fn new(address: SocketAddr, identity: Option<(&str, &str, &str)>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        let mut config = match identity {
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
                .with_no_client_auth(),
            Some((certificate, key, ca)) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_root_certificates(roots).with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap();
        Self {
            client,
            base: format!("https://{address}"),
            id: TerminalId::from_bytes([0; 16]),
            organisation: OrganisationId::from_bytes([0; 16]),
            enrolment: None,
            grant_key: None,
        }
    }

    pub(crate) fn enrolled(
        address: SocketAddr,
        enrolment: EnrolResponse,
        key: &str,
        grant_key: GrantKeyPair,
    ) -> Self {
        let mut terminal = Self::new(address, Some((&enrolment.certificate_pem, key, &enrolment.ca_pem)));
        terminal.id = enrolment.terminal;
        terminal.organisation = enrolment.organisation;
        terminal.enrolment = Some(enrolment);
        terminal.grant_key = Some(grant_key);
        terminal
    }

    /// The same terminal, speaking to another server.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        let pair = self.grant_key.as_ref();
        Self {
            client: self.client.clone(),
            base: format!("https://{address}"),
            id: self.id,
            organisation: self.organisation,
            enrolment: self.enrolment.clone(),
            grant_key: pair.map(|pair| GrantKeyPair::import(&pair.export()).unwrap()),
        }
    }

    /// Speaks to another server from now on.
    pub(crate) fn move_to(&mut self, address: SocketAddr) {
        self.base = format!("https://{address}");
    }

    /// Whether the server answers at all.
    pub(crate) async fn health(&self) -> reqwest::Result<()> {
        self.client.get(format!("{}/healthz", self.base)).send().await.map(|_| ())
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
    ) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match bearer {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str, bearer: Option<&str>) -> Answer {
        self.send(self.request(Method::GET, path, bearer)).await
    }

    pub(crate) async fn delete(&self, path: &str, bearer: Option<&str>) -> Answer {
        self.send(self.request(Method::DELETE, path, bearer)).await
    }

    pub(crate) async fn post(&self, path: &str, bearer: Option<&str>, body: &impl Serialize) -> Answer {
        self.send(self.request(Method::POST, path, bearer).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, bearer: Option<&str>, body: &impl Serialize) -> Answer {
        self.send(self.request(Method::PUT, path, bearer).json(body)).await
    }

    pub(crate) async fn try_login(&self, login: &str, password: &str, totp: Option<&str>) -> Answer {
        self.post("/v1/sessions", None, &json!({ "login": login, "password": password, "totp": totp })).await
    }

    pub(crate) async fn login(&self, login: &str) -> String {
        let response: LoginResponse = self.try_login(login, &password(login), None).await.created().to();
        response.token
    }

    /// The bulletin, its signature checked with the key of the enrolment.
    pub(crate) async fn bulletin(&self) -> (SignedBulletin, Bulletin) {
        let signed: SignedBulletin = self.get("/v1/bulletin", None).await.ok().to();
        let key = &self.enrolment.as_ref().unwrap().signing_key.0;
        tobari_core::crypto::VerifyingKey::from_bytes(key)
            .unwrap()
            .verify("tobari/1 bulletin", &signed.payload.0, &signed.signature.0)
            .unwrap();
        let bulletin = serde_json::from_slice(&signed.payload.0).unwrap();
        (signed, bulletin)
    }

    pub(crate) async fn grants(&self, bearer: &str, items: Vec<GrantItem>) -> GrantResponse {
        let request = GrantRequest { items };
        let response: GrantResponse = self.post("/v1/grants", Some(bearer), &request).await.ok().to();
        self.check_receipt(&response);
        response
    }

    /// Every answer proves its records under the key of the enrolment.
    fn check_receipt(&self, response: &GrantResponse) {
        if response.outcomes.is_empty() {
            return assert!(response.receipt.is_none());
        }
        let key = &self.enrolment.as_ref().unwrap().signing_key.0;
        let key = LogKey::of(self.organisation, VerifyingKey::from_bytes(key).unwrap());
        let checked = check_receipt(response.receipt.as_ref(), &key).unwrap();
        assert_eq!(checked.checkpoint.epoch, 1);
        let first = response.receipt.as_ref().unwrap().first;
        assert_eq!(response.receipt.as_ref().unwrap().records.len(), response.outcomes.len());
        for (index, outcome) in response.outcomes.iter().enumerate() {
            if let GrantOutcome::Granted(grant) = outcome {
                assert_eq!(grant.audit, first + index as u64);
                let record: Value =
                    serde_json::from_str(&response.receipt.as_ref().unwrap().records[index]).unwrap();
                let person = record["person"].as_str().unwrap().parse().unwrap();
                let right = serde_json::from_value(record["right"].clone()).unwrap();
                let occasion = Occasion::Grant(right);
                let released = Released { file: grant.file, person, terminal: self.id, occasion };
                checked.covers(index, grant.audit, &released).unwrap();
            }
        }
    }

    pub(crate) async fn grant(&self, bearer: &str, header: &[u8], right: Right) -> Result<Grant, Refusal> {
        let response = self.grants(bearer, vec![item(header, right)]).await;
        match response.outcomes.into_iter().next().unwrap() {
            GrantOutcome::Granted(grant) => Ok(grant),
            GrantOutcome::Refused(refusal) => Err(refusal),
        }
    }

    /// Opens the DEKs of an answer in order and checks them against the sealed files.
    pub(crate) fn check_deks(&self, response: &GrantResponse, person: PersonId, files: &[&Sealed]) {
        let info = grant_info(self.organisation, self.id);
        let pair = self.grant_key.as_ref().unwrap();
        let mut opener = GrantOpener::new(pair, &response.encapsulated_key.0, &info).unwrap();
        for (outcome, file) in response.outcomes.iter().zip(files) {
            let GrantOutcome::Granted(grant) = outcome else { panic!("{outcome:?}") };
            assert_eq!(grant.file, file.file_id);
            let aad = grant_aad(grant.file, person, grant.rights, grant.expires_at);
            let dek = opener.open(&aad, &grant.sealed_dek.0).unwrap();
            file.header.authenticate(&dek).unwrap();
        }
    }
}

/// What a terminal says that holds the latest document of each of these leases.
pub(crate) fn in_hand(leases: &[LeaseId]) -> Vec<LeaseInHand> {
    leases.iter().map(|lease| LeaseInHand { lease: *lease, issued_at: Timestamp::MAX }).collect()
}

pub(crate) fn item(header: &[u8], right: Right) -> GrantItem {
    GrantItem {
        header: Base64(header.to_vec()),
        right,
        name: Some(String::from("起案書.docx")),
        new_label: None,
    }
}

/// Says what is not tested here; past the capture of output, which keeps what a passing test prints from everybody.
pub(crate) fn skipped(what: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("!! SKIPPED: {what}\n").as_bytes());
}

//! The client of the key server: mutual TLS 1.3 under the organisation's CA, JSON, problems.
//!
//! Everything that goes wrong becomes one [`Problem`]: what the server says passes through unchanged, and what keeps
//! us from hearing it is `KeyServerUnreachable` or `CertificateExpired`. Callers are ordinary threads; requests
//! run on the runtime whose handle is given (calling from inside that runtime would block it).

use crate::pin::PinnedCa;
use crate::sessions::Token;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Serialize, de::DeserializeOwned};
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tobari_core::clock::Clock;
use tobari_core::proto::admin::is_change;
use tobari_core::proto::problem::{Problem, ProblemCode};

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 32 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long answers are waited for: to an act of the administration for longer than a key server works on one
/// (`docs/spec/api.md`, 10), so that what is made there is not said here to have failed.
const TIMEOUTS: Timeouts =
    Timeouts { usual: Duration::from_secs(15), administration: Duration::from_secs(11 * 60) };
/// How long in all somebody is kept waiting for a server that has too much to do.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);
/// An HTTP/2 connection with requests on it is asked this often whether it lives, and may take as long to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A key server's URL: `https`, host, perhaps a port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(Url);

/// A text that is not the URL of a key server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a key server's URL (like https://keys.example:8443)")]
pub struct InvalidServerUrl(String);

impl std::str::FromStr for ServerUrl {
    type Err = InvalidServerUrl;
    fn from_str(text: &str) -> Result<Self, InvalidServerUrl> {
        let url = Url::parse(text).map_err(|_| InvalidServerUrl(text.to_owned()))?;
        let bare = url.scheme() == "https"
            && url.host_str().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if bare { Ok(Self(url)) } else { Err(InvalidServerUrl(text.to_owned())) }
    }
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// The key servers of an organisation, in the order in which they are tried; all serve the same database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrls(Vec<ServerUrl>);

impl std::str::FromStr for ServerUrls {
    type Err = InvalidServerUrl;

    /// One URL or several, with commas between them.
    fn from_str(text: &str) -> Result<Self, InvalidServerUrl> {
        text.split(',').map(|url| url.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl std::fmt::Display for ServerUrls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, url) in self.0.iter().enumerate() {
            write!(f, "{}{url}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A TLS set-up that cannot be used: a key that does not fit its certificate, or a bug.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Keys and certificates.
    #[error("failed to prepare TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client.
    #[error("failed to prepare the HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// One request.
pub struct Call<'a> {
    /// Method.
    pub method: Method,
    /// Path and query, from `/`.
    pub path: &'a str,
    /// Session of the person who asks.
    pub token: Option<&'a Token>,
    /// JSON body.
    pub body: Option<serde_json::Value>,
    /// Answer only if the object is not this one.
    pub unless: Option<&'a HeaderValue>,
    /// How long the whole answer may take, where that is not the usual.
    pub patience: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A `GET` without a session.
    pub fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, token: None, body: None, unless: None, patience: None }
    }

    /// A `POST` of `body` without a session.
    ///
    /// # Errors
    /// Never for the protocol's types; a bug otherwise.
    pub fn post(path: &'a str, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_value(body).map_err(|error| internal(format!("a request: {error}")))?;
        Ok(Self { method: Method::POST, path, token: None, body: Some(body), unless: None, patience: None })
    }

    /// Whether it may be sent again when it is not known whether a server has done it. Making an object or a terminal twice
    /// is not the same as once, and what is removed cannot be found the second time; asking, logging in and putting are the same.
    fn may_repeat(&self) -> bool {
        !matches!(self.method, Method::POST | Method::DELETE)
            || !(self.path.starts_with("/v1/admin/") || self.path.starts_with("/v1/terminals/"))
    }

    fn is_change(&self) -> bool {
        is_change(self.method.as_str(), self.path)
    }

    /// The same in a person's session.
    #[must_use]
    pub fn with_token(mut self, token: &'a Token) -> Self {
        self.token = Some(token);
        self
    }
}

/// How long whole answers may take.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    usual: Duration,
    /// What an administrator does or compares.
    administration: Duration,
}

impl Timeouts {
    fn of(self, call: &Call<'_>) -> Duration {
        let acts = call.method != Method::GET && call.path.starts_with("/v1/admin/");
        call.patience.unwrap_or(if acts { self.administration } else { self.usual })
    }
}

/// An answer.
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// Version of the object.
    pub etag: Option<HeaderValue>,
    /// The `Retry-After` of something that answers in the server's place, in seconds.
    retry_after: Option<u64>,
    body: Vec<u8>,
}

impl Reply {
    /// How long the server asks to wait before the same is sent again, where that makes sense; never no time at all.
    fn pause(&self, call: &Call<'_>) -> Option<Duration> {
        let problem: Option<Problem> = serde_json::from_slice(&self.body).ok();
        let asked = problem.as_ref().and_then(|problem| problem.retry_after_seconds).or(self.retry_after);
        let seconds = match self.status {
            // It has done nothing yet. A login name that is locked is another matter.
            StatusCode::TOO_MANY_REQUESTS => {
                let busy =
                    problem.as_ref().is_none_or(|problem| problem.code == ProblemCode::TooManyRequests);
                busy.then(|| asked.unwrap_or(1))
            }
            // It may have done it.
            StatusCode::SERVICE_UNAVAILABLE if call.may_repeat() => asked,
            _ => None,
        };
        seconds.map(|seconds| Duration::from_secs(seconds.max(1)))
    }

    /// The object in a successful answer.
    ///
    /// # Errors
    /// The server's problem, or what it said instead of one.
    pub fn object<T: DeserializeOwned>(self) -> Result<T, Problem> {
        if !self.status.is_success() {
            return Err(self.problem());
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| internal(format!("the key server's answer cannot be read: {error}")))
    }

    /// Status and JSON body, whatever they are; null without a body.
    ///
    /// # Errors
    /// When the body is not JSON.
    pub fn value(self) -> Result<(u16, serde_json::Value), Problem> {
        let status = self.status.as_u16();
        if self.body.is_empty() {
            return Ok((status, serde_json::Value::Null));
        }
        match serde_json::from_slice(&self.body) {
            Ok(value) => Ok((status, value)),
            Err(_) if !self.status.is_success() => Err(self.problem()),
            Err(error) => Err(internal(format!("the key server's answer is not JSON: {error}"))),
        }
    }

    /// Nothing, from a successful answer.
    ///
    /// # Errors
    /// The server's problem, or what it said instead of one.
    pub fn nothing(self) -> Result<(), Problem> {
        if self.status.is_success() { Ok(()) } else { Err(self.problem()) }
    }

    fn problem(&self) -> Problem {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| {
            internal(format!("the key server answered {} without a problem", self.status))
        })
    }
}

fn internal(detail: String) -> Problem {
    Problem::local(ProblemCode::Internal, detail)
}

/// How contact with the key server stands.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    /// Last successful contact.
    pub seen_at: Option<Timestamp>,
    /// The last error in contact, cleared by success.
    pub error: Option<String>,
}

/// The key server, as seen from this terminal: the first of its servers that answers, until it no longer does.
pub struct KeyServer {
    urls: ServerUrls,
    /// The one that answered last.
    current: AtomicUsize,
    identity: RwLock<Identity>,
    runtime: tokio::runtime::Handle,
    clock: Arc<dyn Clock>,
    contact: Mutex<Contact>,
    closed: tokio::sync::watch::Sender<bool>,
    timeouts: Timeouts,
}

/// As whom the key server is spoken to.
#[derive(Clone)]
struct Identity {
    http: reqwest::Client,
    certificate_expires_at: Option<Timestamp>,
    /// Counts replacements.
    number: u64,
}

impl std::fmt::Debug for KeyServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// What a terminal shows to the key server, and what it trusts.
pub struct Credentials {
    /// The terminal's certificate.
    pub certificate: CertificateDer<'static>,
    /// When that ends.
    pub certificate_expires_at: Timestamp,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// The only trusted root.
    pub ca: CertificateDer<'static>,
}

impl KeyServer {
    /// A client with the terminal's certificate.
    ///
    /// # Errors
    /// When key and certificates do not fit.
    pub fn new(
        urls: ServerUrls,
        credentials: Credentials,
        runtime: tokio::runtime::Handle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let certificate_expires_at = Some(credentials.certificate_expires_at);
        Self::with_tls(urls, mutual(credentials)?, certificate_expires_at, runtime, clock)
    }

    /// Speaks with a renewed certificate from now on. Requests in work end as they began.
    ///
    /// # Errors
    /// When key and certificates do not fit; then nothing changes.
    pub fn replace(&self, credentials: Credentials) -> Result<(), ClientError> {
        let certificate_expires_at = Some(credentials.certificate_expires_at);
        let http = client(mutual(credentials)?)?;
        let mut identity = self.identity.write().unwrap_or_else(PoisonError::into_inner);
        *identity = Identity { http, certificate_expires_at, number: identity.number + 1 };
        Ok(())
    }

    /// When the certificate ends.
    pub fn certificate_expires_at(&self) -> Option<Timestamp> {
        self.identity().certificate_expires_at
    }

    fn identity(&self) -> Identity {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client without a certificate, for enrolment: trusts the CA that `verifier` pins.
    ///
    /// # Errors
    /// A bug.
    pub fn unenrolled(
        urls: ServerUrls,
        verifier: PinnedCa,
        runtime: tokio::runtime::Handle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let tls = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Self::with_tls(urls, tls, None, runtime, clock)
    }

    fn with_tls(
        urls: ServerUrls,
        tls: ClientConfig,
        certificate_expires_at: Option<Timestamp>,
        runtime: tokio::runtime::Handle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let identity = RwLock::new(Identity { http: client(tls)?, certificate_expires_at, number: 0 });
        let (closed, _) = tokio::sync::watch::channel(false);
        let contact = Mutex::default();
        let current = AtomicUsize::new(0);
        Ok(Self { urls, current, identity, runtime, clock, contact, closed, timeouts: TIMEOUTS })
    }

    /// The URL of the server that answered last.
    pub fn url(&self) -> String {
        self.in_turn().next().map_or_else(String::new, |(_, url)| url.to_string())
    }

    /// All servers, from the one that answered last.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &ServerUrl)> {
        let (count, first) = (self.urls.0.len(), self.current.load(Ordering::Relaxed));
        self.urls.0.iter().enumerate().cycle().skip(first).take(count)
    }

    /// How contact stands.
    pub fn contact(&self) -> Contact {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets requests that wait for an answer fail at once, and those to come.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// `CertificateExpired`, `KeyServerUnreachable` and, for changes, `OutcomeUnknown`; an answer of any status is not an error here.
    pub fn call(&self, call: Call<'_>) -> Result<Reply, Problem> {
        let identity = self.identity();
        let mut result = self.attempt(&identity, &call);
        // Renewed meanwhile: with the new certificate's first use the old one is refused, which says nothing of this terminal.
        if result.as_ref().is_ok_and(|reply| reply.status == StatusCode::UNAUTHORIZED) {
            let now = self.identity();
            if now.number != identity.number {
                result = self.attempt(&now, &call);
            }
        }
        let mut contact = self.contact.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(_) => *contact = Contact { seen_at: Some(self.clock.now()), error: None },
            Err(problem) => contact.error = Some(problem.detail.clone()),
        }
        result
    }

    fn attempt(&self, identity: &Identity, call: &Call<'_>) -> Result<Reply, Problem> {
        self.check_certificate(identity)?;
        self.runtime.block_on(self.send_unless_closed(identity, call))
    }

    fn check_certificate(&self, identity: &Identity) -> Result<(), Problem> {
        match identity.certificate_expires_at {
            Some(end) if end <= self.clock.now() => Err(expired(&format!("expired at {end}"))),
            _ => Ok(()),
        }
    }

    async fn send_unless_closed(&self, identity: &Identity, call: &Call<'_>) -> Result<Reply, Problem> {
        let mut closed = self.closed.subscribe();
        let stopping = || {
            let why = "the key server cannot be reached: tobarid is stopping";
            Problem::local(ProblemCode::KeyServerUnreachable, why)
        };
        if *closed.borrow() {
            return Err(stopping());
        }
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(if call.is_change() { unknown(stopping()) } else { stopping() }),
            result = self.send(identity, call) => result,
        }
    }

    /// Sends, and when the server has too much to do or is away for the moment, again when it says, as long as somebody can be
    /// kept waiting.
    async fn send(&self, identity: &Identity, call: &Call<'_>) -> Result<Reply, Problem> {
        let mut waited = Duration::ZERO;
        loop {
            let result = self.send_once(identity, call).await;
            // A call that waits for changes comes back by itself.
            let pause = match &result {
                Ok(reply) if call.patience.is_none() => reply.pause(call),
                _ => None,
            };
            let Some(pause) = pause else { return result };
            // Not all at the same moment.
            let [spread] = tobari_core::crypto::random_bytes::<1>();
            let pause = pause + Duration::from_millis(2 * u64::from(spread));
            waited += pause;
            if waited > BUSY_PATIENCE {
                return result;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn send_once(&self, identity: &Identity, call: &Call<'_>) -> Result<Reply, Problem> {
        let mut result = Err(Unsent::nowhere());
        let mut perhaps_done = false;
        for (index, url) in self.in_turn() {
            result = Self::send_to(identity, url, call, self.timeouts.of(call)).await;
            perhaps_done |= result.as_ref().is_err_and(|unsent| unsent.perhaps_done);
            let elsewhere = match &result {
                // It cannot reach its database; another one perhaps can.
                Ok(reply) => reply.status == StatusCode::SERVICE_UNAVAILABLE && call.may_repeat(),
                Err(unsent) => {
                    unsent.problem.code == ProblemCode::KeyServerUnreachable
                        && (!unsent.perhaps_done || call.may_repeat())
                }
            };
            if !elsewhere {
                self.current.store(index, Ordering::Relaxed);
                break;
            }
        }
        result.map_err(|unsent| match unsent.problem.code {
            // Whoever asked before may have done it, wherever else it could not be sent.
            ProblemCode::KeyServerUnreachable if perhaps_done && call.is_change() => unknown(unsent.problem),
            _ => unsent.problem,
        })
    }

    async fn send_to(
        identity: &Identity,
        server: &ServerUrl,
        call: &Call<'_>,
        timeout: Duration,
    ) -> Result<Reply, Unsent> {
        let path = call.path;
        let url = server.0.join(path).map_err(|error| internal(format!("path '{path}': {error}")))?;
        let mut request = identity.http.request(call.method.clone(), url).timeout(timeout);
        if let Some(token) = call.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| internal(String::from("the session's token is not a header value")))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(etag) = call.unless {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let failed = |error: reqwest::Error| Unsent {
            perhaps_done: !error.is_connect(),
            problem: unreachable(server, &error),
        };
        let mut response = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(
                    internal(format!("the key server's answer is longer than {MAX_ANSWER} bytes")).into()
                );
            }
            body.extend_from_slice(&chunk);
        }
        let headers = response.headers();
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Reply { status: response.status(), etag: headers.get(ETAG).cloned(), retry_after, body })
    }
}

/// TLS with the terminal's certificate.
fn mutual(credentials: Credentials) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    roots.add(credentials.ca)?;
    Ok(ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![credentials.certificate], credentials.key)?)
}

fn client(mut tls: ClientConfig) -> Result<reqwest::Client, ClientError> {
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        // A request that waits must notice when nobody is at the other end any more.
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .user_agent(concat!("tobarid/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(http)
}

/// A call that was not answered.
struct Unsent {
    problem: Problem,
    /// Whether the server may have done all the same what it was asked.
    perhaps_done: bool,
}

impl Unsent {
    fn nowhere() -> Self {
        internal(String::from("no key server is named")).into()
    }
}

impl From<Problem> for Unsent {
    fn from(problem: Problem) -> Self {
        Self { problem, perhaps_done: true }
    }
}

fn unreachable(server: &ServerUrl, error: &reqwest::Error) -> Problem {
    let mut root = error.to_string();
    for cause in causes(error) {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return tls_failed(server, tls);
        }
        root = cause.to_string();
    }
    if error.is_timeout() && !error.is_connect() {
        let why = format!("the key server {server} did not answer in time");
        return Problem::local(ProblemCode::KeyServerUnreachable, why);
    }
    if error.is_timeout() {
        root = String::from("it did not answer in time");
    }
    unreachable_because(server, &root)
}

/// The same for a change that was sent.
fn unknown(problem: Problem) -> Problem {
    Problem { code: ProblemCode::OutcomeUnknown, ..problem }
}

fn unreachable_because(server: &ServerUrl, why: &str) -> Problem {
    let detail = format!("the key server {server} cannot be reached: {why}");
    Problem::local(ProblemCode::KeyServerUnreachable, detail)
}

fn tls_failed(server: &ServerUrl, error: &rustls::Error) -> Problem {
    match error {
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            expired("was refused as expired")
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // Signed by another CA of the same name: the key server was set up anew.
            | AlertDescription::DecryptError),
        ) => Problem::local(
            ProblemCode::TerminalNotAccepted,
            format!("the key server {} refuses this terminal's certificate ({alert:?})", server),
        ),
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            unreachable_because(server, &other.0.to_string())
        }
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => unreachable_because(server, "its certificate is not from the CA under which this terminal enrolled"),
        other => unreachable_because(server, &other.to_string()),
    }
}

/// What lies under `error`, outermost first.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| under(*cause))
}

/// What lies under `error`. An `io::Error` hides what it wraps from `source`.
fn under<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn expired(what: &str) -> Problem {
    Problem::local(
        ProblemCode::CertificateExpired,
        format!("this terminal's certificate {what}; enrol it again with 'tobarid enrol --force'"),
    )
}

/// The provider of all TLS here: aws-lc-rs.
pub fn crypto_provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;

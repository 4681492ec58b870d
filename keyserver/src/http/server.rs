//! Listening: an accept loop of our own, because the client certificate of a connection must reach its
//! requests.

use super::routes;
use super::tls::{self, Certificate, TlsError};
use crate::service::{CONNECTIONS, Peer, Service};
use axum::Router;
use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

/// Of the connections those without a terminal's certificate: they need it for enrolment and health alone, and anybody on the network
/// can open them.
const STRANGERS: usize = 256;
/// A connection without a certificate is ended after this, so that those that were left open make room.
const STRANGER_LIFE: Duration = Duration::from_secs(60);
/// A handshake that takes longer is ended.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that takes longer to send its headers is disconnected.
const HEADERS: Duration = Duration::from_secs(20);
/// Requests at one time on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// How long open requests may go on after the server was told to end.
const FAREWELL: Duration = Duration::from_secs(10);
/// The server's certificate is made anew this often.
const NEW_CERTIFICATE: Duration = Duration::from_secs(24 * 3600);
/// What is kept in memory for a while is written this often.
const TIDY: Duration = Duration::from_secs(30);
/// Pause after the system refused a connection, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How to listen.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Host names and addresses in the certificate, besides those of `init`.
    pub names: Vec<String>,
}

/// A key server that listens.
pub struct Server {
    service: Arc<Service>,
    listener: TcpListener,
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
    names: Vec<String>,
    router: Router,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No certificate can be made.
    #[error("the server's certificate cannot be made: {0}")]
    Certificate(String),
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// The address is taken, or no certificate can be made.
    pub async fn bind(service: Arc<Service>, options: ServerOptions) -> Result<Self, ServeError> {
        let (chain, key) = service
            .server_certificate(&options.names)
            .map_err(|error| ServeError::Certificate(error.to_string()))?;
        let certificate = Arc::new(Certificate::new(chain, key)?);
        let config = tls::config(service.authority(), Arc::clone(&certificate))?;
        let listener = TcpListener::bind(options.listen)
            .await
            .map_err(|source| ServeError::Listen { address: options.listen, source })?;
        let router = routes::router(Arc::clone(&service));
        Ok(Self { service, listener, config, certificate, names: options.names, router })
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `end` completes, then lets open requests finish and closes the store.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let (ending, ended) = watch::channel(false);
        let limit = Arc::new(Semaphore::new(CONNECTIONS));
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        let mut connections = JoinSet::new();
        let mut tidy = tokio::time::interval(TIDY);
        let mut renew = tokio::time::interval(NEW_CERTIFICATE);
        renew.reset();
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                _ = tidy.tick() => {
                    let service = Arc::clone(&self.service);
                    tokio::spawn(async move { service.tidy().await });
                }
                _ = renew.tick() => self.renew(),
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = accept(&self.listener, &limit) => {
                    let Some((stream, permit)) = accepted else { continue };
                    let (acceptor, router) = (acceptor.clone(), self.router.clone());
                    let (service, strangers) = (Arc::clone(&self.service), Arc::clone(&strangers));
                    let connection = serve(stream, acceptor, router, service, strangers, ended.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
            }
        }
        drop(self.listener);
        self.service.end_waiting();
        let _ = ending.send(true);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("connections were cut off at the end");
        }
        self.service.close().await;
    }

    fn renew(&self) {
        let renewed =
            self.service.server_certificate(&self.names).map_err(|error| error.to_string()).and_then(
                |(chain, key)| self.certificate.replace(chain, key).map_err(|error| error.to_string()),
            );
        if let Err(error) = renewed {
            tracing::error!(error, "the server's certificate was not renewed");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    limit: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(limit).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "a connection was not accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    service: Arc<Service>,
    strangers: Arc<Semaphore>,
    mut ended: watch::Receiver<bool>,
) {
    // Answers are small and awaited: no waiting for more to send.
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let peer: Option<Peer> = tls::peer(tls.get_ref().1.peer_certificates());
    let _connected = match &peer {
        None => None,
        Some(peer) => match service.connect(peer) {
            None => return tracing::debug!("too many connections of one terminal"),
            connected => connected,
        },
    };
    let stranger = match peer {
        Some(_) => None,
        None => match strangers.try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => return tracing::debug!("too many connections without a certificate"),
        },
    };
    let life = async {
        match &stranger {
            Some(_) => tokio::time::sleep(STRANGER_LIFE).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(life);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.clone().call(request.map(Body::new))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
    let connection = builder.serve_connection(TokioIo::new(tls), service);
    tokio::pin!(connection);
    let mut telling = true;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error, "connection ended");
                }
                return;
            }
            () = &mut life => return tracing::debug!("a connection without a certificate was ended"),
            _ = ended.changed(), if telling => {
                telling = false;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

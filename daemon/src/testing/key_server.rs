use super::Authority;
use crate::server::crypto_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request that arrived.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) if_none_match: Option<String>,
    pub(crate) has_certificate: bool,
    pub(crate) body: serde_json::Value,
}

/// An answer: status, body, entity tag, `Retry-After`.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) etag: Option<&'static str>,
    pub(crate) retry_after: Option<u64>,
}

impl Said {
    pub(crate) fn json(status: u16, body: &impl serde::Serialize) -> Self {
        Self { status, body: serde_json::to_string(body).unwrap(), etag: None, retry_after: None }
    }
}

/// HTTP/1.1 over TLS 1.3 on a free port, with an answer from a closure.
pub(crate) struct FakeKeyServer {
    pub(crate) url: String,
    port: u16,
    stopped: Arc<AtomicBool>,
}

impl FakeKeyServer {
    pub(crate) fn start(ca: &Authority, answer: impl Fn(Asked) -> Said + Send + Sync + 'static) -> Self {
        Self::start_as(ca, "127.0.0.1", answer)
    }

    /// Its certificate is for `host`, wherever it listens.
    pub(crate) fn start_as(
        ca: &Authority,
        host: &str,
        answer: impl Fn(Asked) -> Said + Send + Sync + 'static,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto_provider())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let (certificate, key) = ca.server(host);
        let config = ServerConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate, ca.certificate.clone()], key)
            .unwrap();
        let (config, answer) = (Arc::new(config), Arc::new(answer));
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stopped = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let stopped = Arc::clone(&stopped);
            move || {
                for stream in listener.incoming() {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
                    std::thread::spawn(move || serve(stream.unwrap(), config, answer.as_ref()));
                }
            }
        });
        Self { url: format!("https://127.0.0.1:{port}"), port, stopped }
    }
}

impl Drop for FakeKeyServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _wakes_the_listener = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, answer: &dyn Fn(Asked) -> Said) -> Option<()> {
    let mut tls = BufReader::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream));
    loop {
        let mut line = String::new();
        tls.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (mut length, mut authorization, mut if_none_match) = (0, None, None);
        loop {
            let mut header = String::new();
            tls.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "authorization" => authorization = Some(value.to_owned()),
                "if-none-match" => if_none_match = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        tls.read_exact(&mut body).ok()?;
        let has_certificate = tls.get_ref().conn.peer_certificates().is_some();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let said = answer(Asked { method, path, authorization, if_none_match, has_certificate, body });
        let etag = said.etag.map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
        let Said { status, body, retry_after, .. } = said;
        let wait = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{etag}{wait}\r\n", body.len());
        let stream = tls.get_mut();
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        stream.flush().ok()?;
    }
}

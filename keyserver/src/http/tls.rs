//! TLS 1.3 with an optional client certificate of the organisation's CA.
//!
//! A client certificate that has expired is let through here and refused by the service: a handshake alert would
//! leave the terminal with no word of what to do. Chain, key usage and possession of the key are checked here.

use crate::ca::{Authority, validity};
use crate::service::Peer;
use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use tobari_core::crypto::sha256;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

fn failed(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

/// The server's certificate, replaced while it serves.
#[derive(Debug)]
pub(super) struct Certificate {
    current: ArcSwap<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl Certificate {
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(failed)?;
        Ok(Self { current: ArcSwap::from_pointee(certified), provider })
    }

    pub(super) fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        let certified = CertifiedKey::from_der(chain, key, &self.provider).map_err(failed)?;
        self.current.store(Arc::new(certified));
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

pub(super) fn config(
    authority: &Authority,
    certificate: Arc<Certificate>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::clone(&certificate.provider);
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).map_err(failed)?;
    let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(failed)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .with_client_cert_verifier(Arc::new(ExpiryLater(strict)))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The checks of the inner verifier as of a time at which the certificate was good.
#[derive(Debug)]
struct ExpiryLater(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ExpiryLater {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bad = || rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let (from, until) = validity(end_entity).ok_or_else(bad)?;
        let seconds = |time: jiff::Timestamp| u64::try_from(time.as_second()).unwrap_or(0);
        let (from, until) = (seconds(from), seconds(until));
        if from > until {
            return Err(bad());
        }
        let then = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().clamp(from, until)));
        self.0.verify_client_cert(end_entity, intermediates, then)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What the service needs to know of the certificate that was shown.
pub(super) fn peer(certificates: Option<&[CertificateDer<'_>]>) -> Option<Peer> {
    let certificate = certificates?.first()?;
    let (_, expires_at) = validity(certificate)?;
    Some(Peer { fingerprint: sha256(&[certificate]), expires_at })
}

//! Enrolment: a one-time token and the fingerprint of the organisation's CA become a terminal with keys of its own. The
//! private keys are made here and never leave; nothing is kept unless everything succeeded.

use crate::pin::{Fingerprint, InvalidFingerprint, PinnedCa};
use crate::server::{Call, ClientError, InvalidServerUrl, KeyServer, ServerUrls, crypto_provider};
use crate::state::{self, NewEnrolment, StateDir, StateError, Terminal};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::PathBuf;
use std::sync::Arc;
use tobari_core::clock::Clock;
use tobari_core::crypto::{CryptoError, GrantKeyPair, VerifyingKey};
use tobari_core::ids::TerminalId;
use tobari_core::proto::api::{EnrolRequest, EnrolResponse};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::problem::Problem;
use zeroize::Zeroizing;

/// What an enrolment needs.
pub struct EnrolSettings {
    /// URL of the key server, or of several with commas between them.
    pub server: String,
    /// SHA-256 of its CA certificate, hexadecimal.
    pub ca_sha256: String,
    /// The one-time token.
    pub token: Zeroizing<String>,
    /// Where the terminal's state goes.
    pub state_dir: PathBuf,
    /// Name of the terminal for people.
    pub name: String,
    /// Replace a present enrolment.
    pub force: bool,
}

/// Why an enrolment failed; nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// `--server`.
    #[error("{0}")]
    Server(#[from] InvalidServerUrl),
    /// `--ca-sha256`.
    #[error("{0}")]
    Fingerprint(#[from] InvalidFingerprint),
    /// The file with the token.
    #[error("failed to read the token from {path}: {source}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The token is empty.
    #[error("the enrolment token is empty")]
    EmptyToken,
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Making keys.
    #[error("failed to make the terminal's keys: {0}")]
    Keys(String),
    /// The HTTP client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The key server refused, or was not reached.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The key server's answer does not hold together.
    #[error("the key server's answer cannot be trusted: {0}")]
    Answer(String),
}

impl From<CryptoError> for EnrolError {
    fn from(error: CryptoError) -> Self {
        Self::Keys(error.to_string())
    }
}

impl From<rcgen::Error> for EnrolError {
    fn from(error: rcgen::Error) -> Self {
        Self::Keys(error.to_string())
    }
}

/// Enrols this host. Gives the identity that it got.
///
/// # Errors
/// [`EnrolError`].
pub fn enrol(
    settings: &EnrolSettings,
    runtime: &tokio::runtime::Handle,
    clock: Arc<dyn Clock>,
) -> Result<TerminalId, EnrolError> {
    let urls: ServerUrls = settings.server.parse()?;
    let pinned: Fingerprint = settings.ca_sha256.parse()?;
    let token = settings.token.trim();
    if token.is_empty() {
        return Err(EnrolError::EmptyToken);
    }
    let state = StateDir::open(&settings.state_dir)?;
    if state.is_enrolled() && !settings.force {
        // Before the token is spent.
        return Err(StateError::AlreadyEnrolled(settings.state_dir.clone()).into());
    }

    let tls_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let grant_key = GrantKeyPair::generate()?;
    let mut request = CertificateParams::new(Vec::new())?;
    request.distinguished_name.push(DnType::CommonName, settings.name.as_str());
    let request = EnrolRequest {
        token: token.to_owned(),
        name: settings.name.clone(),
        csr_pem: request.serialize_request(&tls_key)?.pem()?,
        grant_key: Base64(grant_key.public()),
        protection: state.protection(),
    };

    let verifier = PinnedCa::new(pinned, crypto_provider());
    let server = KeyServer::unenrolled(urls.clone(), verifier, runtime.clone(), Arc::clone(&clock))?;
    let response: EnrolResponse = Call::post("/v1/terminals/enrol", &request)
        .and_then(|call| server.call(call))
        .and_then(crate::server::Reply::object)
        .map_err(EnrolError::Refused)?;
    check(&response, pinned, &tls_key)?;

    let terminal = Terminal {
        version: state::version(),
        terminal: response.terminal,
        name: settings.name.clone(),
        organisation: response.organisation,
        server: urls.to_string(),
        signing_key: response.signing_key.clone(),
        enrolled_at: clock.now(),
    };
    let bulletin =
        serde_json::to_vec(&response.bulletin).map_err(|error| EnrolError::Answer(error.to_string()))?;
    let tls_key_pem = Zeroizing::new(tls_key.serialize_pem());
    state.install(
        &NewEnrolment {
            terminal: &terminal,
            certificate_pem: &response.certificate_pem,
            tls_key_pem: &tls_key_pem,
            ca_pem: &response.ca_pem,
            grant_key: &grant_key,
            bulletin: &bulletin,
        },
        settings.force,
    )?;
    Ok(response.terminal)
}

/// The answer came over the pinned connection; this finds a confused server, not an attacker.
fn check(response: &EnrolResponse, pinned: Fingerprint, tls_key: &KeyPair) -> Result<(), EnrolError> {
    let answer = |why: String| EnrolError::Answer(why);
    let ca = CertificateDer::from_pem_slice(response.ca_pem.as_bytes())
        .map_err(|error| answer(format!("its CA certificate: {error}")))?;
    if Fingerprint::of(&ca) != pinned {
        return Err(answer(String::from("its CA certificate is not the pinned one")));
    }
    let certificate = CertificateDer::from_pem_slice(response.certificate_pem.as_bytes())
        .map_err(|error| answer(format!("the terminal's certificate: {error}")))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
        .map_err(|error| answer(format!("the terminal's certificate: {error}")))?;
    if parsed.public_key().subject_public_key.data.as_ref() != tls_key.public_key_raw() {
        return Err(answer(String::from("the terminal's certificate is for another key")));
    }
    let key = VerifyingKey::from_bytes(response.signing_key.as_ref())
        .map_err(|error| answer(format!("the signing key: {error}")))?;
    crate::bulletin::verify(&response.bulletin, &key, response.organisation)
        .map_err(|error| answer(error.to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests;

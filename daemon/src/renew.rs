//! Renewal of the terminal's certificate: after two thirds of its life, with a new key. Key and certificate are one file, which
//! is replaced at once and is on the disk before the key server hears of the new key; the key server refuses the old one from that moment on.
//! A crash at any point leaves a pair that is good: the old one, or the new one that was not used yet.

use crate::files;
use crate::protect::Guard;
use crate::server::{Call, Credentials, Reply, crypto_provider};
use crate::service::Service;
use crate::state;
use jiff::Timestamp;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tobari_core::proto::api::{RenewRequest, RenewResponse};
use tobari_core::proto::problem::{Problem, ProblemCode};
use zeroize::Zeroizing;

/// After a failure it is tried again at the earliest after this.
const PAUSE: Duration = Duration::from_secs(600);

/// What a renewal needs.
pub struct Renewal {
    place: (PathBuf, &'static str),
    ca: CertificateDer<'static>,
    guard: Guard,
    state: Mutex<State>,
}

struct State {
    /// When two thirds of the certificate's life are over.
    due: Timestamp,
    failed: Option<Instant>,
}

impl Renewal {
    /// For a terminal with this certificate, whose renewed key and certificate go to a file of a directory, sealed by `guard`.
    pub fn new(
        place: (PathBuf, &'static str),
        ca: CertificateDer<'static>,
        certificate: &CertificateDer<'_>,
        guard: Guard,
    ) -> Self {
        let state = Mutex::new(State { due: due(certificate), failed: None });
        Self { place, ca, guard, state }
    }

    /// Whether it is time: by the clock as it is now, so that a clock that jumps makes it earlier or later and nothing else.
    fn is_due(&self, now: Timestamp) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        now >= state.due && state.failed.is_none_or(|at| at.elapsed() >= PAUSE)
    }
}

/// Two thirds into a certificate's life; one that cannot be read is due.
fn due(certificate: &CertificateDer<'_>) -> Timestamp {
    let Ok((from, until)) = state::validity(certificate) else { return Timestamp::MIN };
    until.checked_sub(until.duration_since(from) / 3).unwrap_or(Timestamp::MIN)
}

fn internal(error: impl std::fmt::Display) -> Problem {
    Problem::local(ProblemCode::Internal, error.to_string())
}

impl Service {
    /// Renews the certificate if it is time.
    pub(crate) fn renew_if_due(&self) {
        let Some(renewal) = self.renewal().filter(|renewal| renewal.is_due(self.now())) else { return };
        let result = self.renew(renewal);
        let mut state = renewal.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok((due, until)) => {
                *state = State { due, failed: None };
                tracing::info!(%until, "the terminal's certificate is renewed");
            }
            Err(problem) => {
                state.failed = Some(Instant::now());
                tracing::warn!(why = problem.detail, "the terminal's certificate is not renewed");
            }
        }
    }

    /// Gives when the new certificate is due and until when it is good.
    fn renew(&self, renewal: &Renewal) -> Result<(Timestamp, Timestamp), Problem> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(internal)?;
        let mut request = CertificateParams::new(Vec::new()).map_err(internal)?;
        request.distinguished_name.push(DnType::CommonName, self.terminal().to_string());
        let csr_pem = request.serialize_request(&key).and_then(|request| request.pem()).map_err(internal)?;
        let answer =
            Call::post("/v1/terminals/renew", &RenewRequest { csr_pem, protection: self.protection() })
                .and_then(|call| self.server().call(call))
                .and_then(Reply::object::<RenewResponse>)?;

        let certificate =
            CertificateDer::from_pem_slice(answer.certificate_pem.as_bytes()).map_err(internal)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(internal)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(internal("the renewed certificate is for another key"));
        }
        let (_, until) = state::validity(&certificate).map_err(internal)?;
        if until <= self.now() {
            return Err(internal("the renewed certificate has ended already"));
        }
        let pem =
            Zeroizing::new(format!("{}{}", *Zeroizing::new(key.serialize_pem()), answer.certificate_pem));
        let private = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(internal)?;
        // A pair that cannot be used must not take the place of one that can.
        crypto_provider().key_provider.load_private_key(private.clone_key()).map_err(internal)?;
        let (directory, name) = &renewal.place;
        let sealed = renewal.guard.seal(name, pem.as_bytes()).map_err(internal)?;
        files::replace(directory, name, &sealed).map_err(|error| {
            Problem::local(ProblemCode::LocalIo, format!("the new key is not kept: {error}"))
        })?;
        let due = due(&certificate);
        let credentials =
            Credentials { certificate, certificate_expires_at: until, key: private, ca: renewal.ca.clone() };
        self.server().replace(credentials).map_err(internal)?;
        Ok((due, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Authority, Differs, Said, Site};
    use tobari_core::clock::FixedClock;

    /// A site whose key server renews, with a certificate as rcgen makes it: from 1975 to 4096.
    fn site(sign: impl Fn(&Authority, &str) -> String + Send + Sync + 'static) -> Site {
        let ca = Authority::new();
        Site::start(tempfile::tempdir().unwrap(), &[], Differs::default(), move |asked| {
            (asked.path == "/v1/terminals/renew").then(|| {
                let certificate_pem = sign(&ca, asked.body["csr_pem"].as_str().unwrap());
                Said::json(201, &RenewResponse { certificate_pem })
            })
        })
    }

    fn renewal(site: &Site) -> Renewal {
        let ca = Authority::new();
        let (certificate, _) = ca.terminal();
        let place = (site.directory.path().to_owned(), "renewed.pem");
        Renewal::new(place, ca.certificate.clone(), &certificate, Guard::default())
    }

    #[test]
    fn the_new_pair_is_on_the_disk_and_in_use() {
        let site = site(Authority::sign);
        let renewal = renewal(&site);
        let (due, until) = site.service.renew(&renewal).unwrap();
        assert!(due < until && until == site.service.server().certificate_expires_at().unwrap());
        let pem = std::fs::read(site.directory.path().join("renewed.pem")).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        assert_eq!(state::validity(&certificate).unwrap().1, until);
        PrivateKeyDer::from_pem_slice(&pem).unwrap();
    }

    #[test]
    fn an_answer_for_another_key_replaces_nothing() {
        let site = site(|ca, _| {
            let key = KeyPair::generate().unwrap();
            let request = CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap();
            ca.sign(&request.pem().unwrap())
        });
        let before = site.service.server().certificate_expires_at();
        assert!(site.service.renew(&renewal(&site)).unwrap_err().detail.contains("another key"));
        assert!(!site.directory.path().join("renewed.pem").exists());
        assert_eq!(site.service.server().certificate_expires_at(), before);
    }

    #[test]
    fn it_is_due_after_two_thirds_whichever_way_the_clock_came_there() {
        let site = site(Authority::sign);
        let renewal = renewal(&site);
        let (from, until) = state::validity(&Authority::new().terminal().0).unwrap();
        let third = until.duration_since(from) / 3;
        let clock = FixedClock::new(from);
        let due_at = |time: Timestamp| {
            clock.set(time);
            renewal.is_due(tobari_core::clock::Clock::now(&clock))
        };
        assert!(!due_at(from));
        assert!(due_at(until - third));
        assert!(!due_at(until - third - third));
        assert!(due_at(until));
        renewal.state.lock().unwrap().failed = Some(Instant::now());
        assert!(!due_at(until));
    }
}

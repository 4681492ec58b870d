use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Authority { certificate, issuer: Issuer::new(params, key) }
}

impl Authority {
    fn server(&self, host: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().clone()
    }
}

fn verify(
    pinned: Fingerprint,
    end_entity: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
) -> Result<ServerCertVerified, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
    let host = ServerName::try_from("keys.example").unwrap();
    PinnedCa::new(pinned, provider).verify_server_cert(end_entity, chain, &host, &[], now)
}

#[test]
fn a_server_under_the_pinned_ca_is_accepted() {
    let ca = authority();
    let server = ca.server("keys.example");
    verify(Fingerprint::of(&ca.certificate), &server, std::slice::from_ref(&ca.certificate)).unwrap();
}

#[test]
fn another_ca_is_refused_and_named() {
    let (ca, other) = (authority(), authority());
    let server = other.server("keys.example");
    let pinned = Fingerprint::of(&ca.certificate);
    for chain in [vec![], vec![other.certificate.clone()]] {
        match verify(pinned, &server, &chain) {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(error))) => {
                assert_eq!(error.0.downcast_ref::<WrongCa>().unwrap().pinned, pinned);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_pinned_ca_in_the_chain_does_not_help_a_server_that_it_did_not_sign() {
    let (ca, other) = (authority(), authority());
    let server = other.server("keys.example");
    let pinned = Fingerprint::of(&ca.certificate);
    let chain = [other.certificate.clone(), ca.certificate.clone()];
    assert!(matches!(verify(pinned, &server, &chain), Err(rustls::Error::InvalidCertificate(_))));
    // Nor is a pinned end entity accepted without a CA.
    assert!(verify(Fingerprint::of(&server), &server, &chain).is_err());
}

#[test]
fn another_host_is_refused() {
    let ca = authority();
    let server = ca.server("other.example");
    let result = verify(Fingerprint::of(&ca.certificate), &server, std::slice::from_ref(&ca.certificate));
    assert!(matches!(
        result,
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ))
    ));
}

#[test]
fn fingerprints_are_read_with_and_without_colons() {
    let ca = authority();
    let text = Fingerprint::of(&ca.certificate).to_string();
    assert_eq!(text.parse(), Ok(Fingerprint::of(&ca.certificate)));
    let colons: Vec<String> = text
        .to_uppercase()
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).into_owned())
        .collect();
    assert_eq!(colons.join(":").parse(), Ok(Fingerprint::of(&ca.certificate)));
    assert_eq!("abc".parse::<Fingerprint>(), Err(InvalidFingerprint));
    assert_eq!(text.replace('a', "z")[1..].parse::<Fingerprint>(), Err(InvalidFingerprint));
}

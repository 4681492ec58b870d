use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A CA.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for a server at this address.
    pub(crate) fn server(&self, address: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress(address.parse().unwrap())];
        self.issue(params)
    }

    /// A certificate for a terminal.
    pub(crate) fn terminal(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        self.issue(CertificateParams::new(vec![String::from("terminal")]).unwrap())
    }

    /// Signs a terminal's request.
    pub(crate) fn sign(&self, csr_pem: &str) -> String {
        let request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        request.signed_by(&self.issuer).unwrap().pem()
    }

    fn issue(&self, params: CertificateParams) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

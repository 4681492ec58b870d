//! The organisation's certificate authority: P-256, issues the server's certificate (made anew at each start,
//! never stored) and the terminals'. A request's own wishes are ignored: only its public key is taken.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::IpAddr;
use time::OffsetDateTime;
use tobari_core::crypto::{random_bytes, sha256};
use tobari_core::ids::{OrganisationId, TerminalId};
use zeroize::Zeroizing;

/// Clocks of terminals may be behind by this much when a certificate is new.
const BACKDATE: SignedDuration = SignedDuration::from_mins(10);
/// Life of the CA certificate.
const CA_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365 * 20);
/// Life of the server's certificate; `serve` makes a new one each day.
const SERVER_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    /// The request is not a well-formed PKCS#10 request signed by its own P-256 key.
    #[error("not a PKCS#10 request for a P-256 key, signed by that key")]
    BadRequest,
    /// The stored CA cannot be used, or the library failed.
    #[error("the certificate authority failed: {0}")]
    Authority(String),
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Authority(error.to_string())
    }
}

/// The CA, able to sign.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    expires_at: Timestamp,
}

/// A certificate for a terminal.
pub(crate) struct TerminalCertificate {
    pub(crate) pem: String,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) expires_at: Timestamp,
}

fn offset(time: Timestamp) -> Result<OffsetDateTime, CaError> {
    OffsetDateTime::from_unix_timestamp(time.as_second())
        .map_err(|error| CaError::Authority(error.to_string()))
}

fn after(time: Timestamp, life: SignedDuration) -> Result<Timestamp, CaError> {
    time.checked_add(life).map_err(|error| CaError::Authority(error.to_string()))
}

fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = random_bytes();
    // Positive in DER, and never zero.
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    SerialNumber::from_slice(&bytes)
}

fn named(common_name: &str, organisation: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, organisation);
    name.push(DnType::CommonName, common_name);
    name
}

/// Makes a CA: the certificate in PEM and the key in PKCS#8.
pub(crate) fn create(
    organisation: OrganisationId,
    name: &str,
    now: Timestamp,
) -> Result<(String, Zeroizing<Vec<u8>>), CaError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.not_before = offset(after(now, -BACKDATE)?)?;
    params.not_after = offset(after(now, CA_LIFE)?)?;
    params.serial_number = Some(serial());
    params.distinguished_name = named(&format!("Tobari CA {organisation}"), name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_der())))
}

impl Authority {
    /// The CA from what [`create`] gave.
    pub(crate) fn open(pem: &str, key: &[u8]) -> Result<Self, CaError> {
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ECDSA_P256_SHA256)?;
        let issuer = Issuer::from_ca_cert_pem(pem, key)?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| CaError::Authority(error.to_string()))?;
        let (_, expires_at) = validity(&certificate)
            .ok_or_else(|| CaError::Authority(String::from("the CA certificate cannot be read")))?;
        Ok(Self { issuer, certificate, pem: pem.to_owned(), expires_at })
    }

    /// The certificate in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate in DER.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What terminals pin.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        sha256(&[&self.certificate])
    }

    /// A certificate and key for the server under these host names and addresses.
    pub(crate) fn server(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CaError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.not_before = offset(after(now, -BACKDATE)?)?;
        params.not_after = offset(after(now, SERVER_LIFE)?.min(self.expires_at))?;
        params.serial_number = Some(serial());
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "Tobari key server");
        params.distinguished_name = name;
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![certificate.der().clone(), self.certificate.clone()], key.into()))
    }

    /// A certificate for a terminal from its request.
    pub(crate) fn terminal(
        &self,
        terminal: TerminalId,
        csr_pem: &str,
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<TerminalCertificate, CaError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|_| CaError::BadRequest)?;
        if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(CaError::BadRequest);
        }
        let expires_at = after(now, life)?.min(self.expires_at);
        let mut params = CertificateParams::default();
        params.not_before = offset(after(now, -BACKDATE)?)?;
        params.not_after = offset(expires_at)?;
        params.serial_number = Some(serial());
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, terminal.to_string());
        params.distinguished_name = name;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let issued = CertificateSigningRequestParams { params, public_key: request.public_key };
        let certificate = issued.signed_by(&self.issuer)?;
        Ok(TerminalCertificate {
            pem: certificate.pem(),
            fingerprint: sha256(&[certificate.der()]),
            expires_at: Timestamp::from_second(expires_at.as_second())
                .map_err(|error| CaError::Authority(error.to_string()))?,
        })
    }
}

/// From when and until when a certificate is good.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    Some((
        Timestamp::from_second(validity.not_before.timestamp()).ok()?,
        Timestamp::from_second(validity.not_after.timestamp()).ok()?,
    ))
}

//! Codes of authenticator applications (RFC 6238: SHA-1, 6 digits, 30 s, one step of tolerance).

use super::error::ServiceError;
use tobari_core::crypto::random_bytes;
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

/// Seconds in a step.
const STEP: u64 = 30;

/// A fresh secret of 160 bits.
pub(crate) fn generate() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(random_bytes::<20>().to_vec())
}

fn totp(secret: &[u8], login: &str, organisation: &str) -> Result<Totp, ServiceError> {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_skew(1)
        .with_step_duration(STEP)
        .with_secret(secret.to_vec())
        .with_account_name(login)
        // A colon would end the issuer in the URI.
        .with_issuer(Some(organisation.replace(':', " ")))
        .build()
        .map_err(|error| ServiceError::Internal(format!("totp: {error}")))
}

/// The `otpauth://` URI to show once.
pub(crate) fn uri(secret: &[u8], login: &str, organisation: &str) -> Result<String, ServiceError> {
    totp(secret, login, organisation)?
        .to_url()
        .map_err(|error| ServiceError::Internal(format!("totp: {error}")))
}

/// The time step for which the code is good, if it is.
pub(crate) fn step(secret: &[u8], code: &str, unix_seconds: i64) -> Result<Option<i64>, ServiceError> {
    let Ok(time) = u64::try_from(unix_seconds) else { return Ok(None) };
    let code: String = code.chars().filter(|character| !character.is_whitespace()).collect();
    Ok(totp(secret, "x", "x")?.check(&code, time).and_then(|step| i64::try_from(step).ok()))
}

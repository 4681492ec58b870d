//! What a program checks before it touches anybody's data.

use super::provider::{Provider, bulk, second};
use super::recipient::{RecipientKind, RecipientPrivateKey, oaep_decrypt, oaep_private};
use super::{CryptoError, SigningKey, constant_time_equal};
use aws_lc_rs::kem::{DecapsulationKey, ML_KEM_768};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

/// Why a program must not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelfCheckError {
    /// The program was built for processors with this instruction set extension.
    #[error("this processor lacks the instructions {0:?}, which the program needs")]
    MissingInstructions(&'static str),
    /// A primitive does not give its known answer: faulty hardware or a faulty build.
    #[error("{primitive} of {provider} does not give its known answer")]
    WrongAnswer {
        /// What was computed.
        primitive: &'static str,
        /// Who computed it.
        provider: &'static str,
    },
}

/// Checks the processor, the known answers of both providers, and a round trip of each kind of key.
/// Takes a few milliseconds.
///
/// # Errors
/// The first thing that is not as it should be; the program must then refuse to start.
pub fn self_check() -> Result<(), SelfCheckError> {
    check_processor()?;
    for provider in [bulk(), second()] {
        check_symmetric(provider)?;
    }
    check_cross().map_err(|_| wrong("AES-256-GCM across providers", bulk()))?;
    check_rsa().map_err(|_| wrong("RSA-OAEP", bulk()))?;
    check_hybrid().map_err(|_| wrong("ML-KEM-768", bulk()))?;
    check_signature().map_err(|_| wrong("Ed25519", bulk()))
}

fn wrong(primitive: &'static str, provider: &dyn Provider) -> SelfCheckError {
    SelfCheckError::WrongAnswer { primitive, provider: provider.name() }
}

/// The build assumes these (`.cargo/config.toml`), so `is_x86_feature_detected!` would answer from the
/// build's settings; the kernel's list says what the processor has.
#[cfg(target_arch = "x86_64")]
fn check_processor() -> Result<(), SelfCheckError> {
    let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else {
        return Ok(()); // No /proc (a tight sandbox): the known answers below still run.
    };
    let Some(flags) = text.lines().find_map(|line| line.strip_prefix("flags")) else {
        return Ok(());
    };
    for needed in ["aes", "pclmulqdq", "sse4_1", "ssse3", "avx"] {
        if !flags.split_ascii_whitespace().any(|flag| flag == needed) {
            return Err(SelfCheckError::MissingInstructions(needed));
        }
    }
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn check_processor() -> Result<(), SelfCheckError> {
    Ok(())
}

fn check_symmetric(provider: &dyn Provider) -> Result<(), SelfCheckError> {
    // FIPS 180-2, appendix B.1.
    if provider.sha256(&[b"a", b"bc"]) != SHA256_ABC {
        return Err(wrong("SHA-256", provider));
    }
    // RFC 4231, test case 2.
    let mut mac = provider.mac(b"Jefe");
    mac.update(b"what do ya want ");
    mac.update(b"for nothing?");
    if mac.finish() != HMAC_JEFE {
        return Err(wrong("HMAC-SHA-256", provider));
    }
    // RFC 5869, test case 1, first 32 bytes.
    let salt: [u8; 13] = std::array::from_fn(|i| i as u8);
    let info: [u8; 10] = std::array::from_fn(|i| 0xf0 + i as u8);
    match provider.kdf(&[0x0b; 22], &salt).expand(&[&info]) {
        Ok(key) if *key == HKDF_CASE_1 => {}
        _ => return Err(wrong("HKDF-SHA-256", provider)),
    }
    // The GCM specification (McGrew and Viega), test case 16.
    check_gcm(provider).map_err(|_| wrong("AES-256-GCM", provider))
}

fn check_gcm(provider: &dyn Provider) -> Result<(), CryptoError> {
    let aead = provider.aead(&GCM_KEY);
    let mut data = GCM_PLAINTEXT;
    let tag = aead.seal(&GCM_NONCE, &GCM_AAD, &mut data)?;
    if tag != GCM_TAG || data != GCM_CIPHERTEXT {
        return Err(CryptoError::Refused);
    }
    aead.open(&GCM_NONCE, &GCM_AAD, &mut data, &tag)?;
    let mut forged = GCM_CIPHERTEXT;
    forged[0] ^= 1;
    let forgery_opens = aead.open(&GCM_NONCE, &GCM_AAD, &mut forged, &tag).is_ok();
    if data == GCM_PLAINTEXT && !forgery_opens { Ok(()) } else { Err(CryptoError::Refused) }
}

/// A message of several chunks' blocks, sealed by each provider and opened by the other.
fn check_cross() -> Result<(), CryptoError> {
    let plaintext: Vec<u8> = (0..5000_u32).map(|i| i.to_le_bytes()[0]).collect();
    for (sealer, opener) in [(bulk(), second()), (second(), bulk())] {
        let mut data = plaintext.clone();
        let tag = sealer.aead(&GCM_KEY).seal(&GCM_NONCE, &GCM_AAD, &mut data)?;
        opener.aead(&GCM_KEY).open(&GCM_NONCE, &GCM_AAD, &mut data, &tag)?;
        if data != plaintext {
            return Err(CryptoError::Refused);
        }
    }
    Ok(())
}

/// A fixed ciphertext made by OpenSSL, and one made now by the second provider, both opened by aws-lc-rs.
fn check_rsa() -> Result<(), CryptoError> {
    use rsa::pkcs8::DecodePublicKey;
    let private = oaep_private(RSA_KEY)?;
    let expected: [u8; 32] = std::array::from_fn(|i| i as u8);
    let opened = oaep_decrypt(&private, RSA_CIPHERTEXT)?;
    let key = RecipientPrivateKey::from_parts(Zeroizing::new(RSA_KEY.to_vec()), None)?;
    let public = rsa::RsaPublicKey::from_public_key_der(key.public().spki_der())
        .map_err(|_| CryptoError::InvalidKey)?;
    let crossed = public
        .encrypt(&mut UnwrapErr(SysRng), rsa::Oaep::<sha2::Sha256>::new(), &expected)
        .map_err(|_| CryptoError::Library)?;
    let crossed = oaep_decrypt(&private, &crossed)?;
    if *opened == expected && *crossed == expected { Ok(()) } else { Err(CryptoError::Refused) }
}

/// The import checks that the halves fit, which is a round trip.
fn check_hybrid() -> Result<(), CryptoError> {
    let mlkem = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| CryptoError::Library)?;
    let mlkem = mlkem.key_bytes().map_err(|_| CryptoError::Library)?;
    let mlkem = Zeroizing::new(mlkem.as_ref().to_vec());
    let key = RecipientPrivateKey::from_parts(Zeroizing::new(RSA_KEY.to_vec()), Some(mlkem))?;
    let (encapsulation, sent) = key.public().encapsulate()?;
    let received = key.decapsulate(&encapsulation)?;
    if key.public().kind() == RecipientKind::RsaOaepMlkem768
        && constant_time_equal(sent.expose(), received.expose())
    {
        Ok(())
    } else {
        Err(CryptoError::Refused)
    }
}

fn check_signature() -> Result<(), CryptoError> {
    let key = SigningKey::import(&GCM_KEY)?;
    let signature = key.sign("tobari/1 self check", b"payload");
    key.verifying_key().verify("tobari/1 self check", b"payload", &signature)?;
    let other_context = key.verifying_key().verify("tobari/1 bulletin", b"payload", &signature);
    if other_context.is_err() { Ok(()) } else { Err(CryptoError::Refused) }
}

/// Made for this check alone and published with it: it protects nothing.
const RSA_KEY: &[u8] = include_bytes!("known_answer_rsa.der");
const RSA_CIPHERTEXT: &[u8] = include_bytes!("known_answer_rsa.ciphertext");

const SHA256_ABC: [u8; 32] = [
    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0,
    0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
];
const HMAC_JEFE: [u8; 32] = [
    0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7, 0x5a,
    0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43,
];
const HKDF_CASE_1: [u8; 32] = [
    0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36, 0x2f, 0x2a, 0x2d,
    0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4, 0xc5, 0xbf,
];
const GCM_KEY: [u8; 32] = [
    0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08, 0xfe,
    0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08,
];
const GCM_NONCE: [u8; 12] = [0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88];
const GCM_AAD: [u8; 20] = [
    0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab,
    0xad, 0xda, 0xd2,
];
const GCM_PLAINTEXT: [u8; 60] = [
    0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26, 0x9a, 0x86,
    0xa7, 0xa9, 0x53, 0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31, 0x8a, 0x72, 0x1c, 0x3c,
    0x0c, 0x95, 0x95, 0x68, 0x09, 0x53, 0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25, 0xb1, 0x6a, 0xed,
    0xf5, 0xaa, 0x0d, 0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39,
];
const GCM_CIPHERTEXT: [u8; 60] = [
    0x52, 0x2d, 0xc1, 0xf0, 0x99, 0x56, 0x7d, 0x07, 0xf4, 0x7f, 0x37, 0xa3, 0x2a, 0x84, 0x42, 0x7d, 0x64,
    0x3a, 0x8c, 0xdc, 0xbf, 0xe5, 0xc0, 0xc9, 0x75, 0x98, 0xa2, 0xbd, 0x25, 0x55, 0xd1, 0xaa, 0x8c, 0xb0,
    0x8e, 0x48, 0x59, 0x0d, 0xbb, 0x3d, 0xa7, 0xb0, 0x8b, 0x10, 0x56, 0x82, 0x88, 0x38, 0xc5, 0xf6, 0x1e,
    0x63, 0x93, 0xba, 0x7a, 0x0a, 0xbc, 0xc9, 0xf6, 0x62,
];
const GCM_TAG: [u8; 16] =
    [0x76, 0xfc, 0x6e, 0xce, 0x0f, 0x4e, 0x17, 0x68, 0xcd, 0xdf, 0x88, 0x53, 0xbb, 0x2d, 0x55, 0x1b];

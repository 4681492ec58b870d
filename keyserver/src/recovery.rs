//! The recovery key as text that survives printing.

use data_encoding::BASE64;
use tobari_core::crypto::RecipientPrivateKey;
use zeroize::Zeroizing;

/// Columns of the armour.
const COLUMNS: usize = 64;
const BEGIN: &str = "-----BEGIN TOBARI RECOVERY KEY-----\n";
const END: &str = "-----END TOBARI RECOVERY KEY-----\n";

/// The text holds no recovery key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it holds no recovery key")]
pub struct RecoveryError;

/// The key as text.
pub fn key_text(key: &RecipientPrivateKey, organisation: &str) -> Zeroizing<String> {
    let encoded = Zeroizing::new(BASE64.encode(&key.export()));
    // Room for all of it at once: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * encoded.len() + 512));
    text.push_str(BEGIN);
    text.push_str(&format!("Organisation: {organisation}\nKey-Id: {}\n\n", key.public().key_id()));
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(END);
    text
}

/// The key that the text holds.
///
/// # Errors
/// It holds none.
pub fn read(text: &str) -> Result<RecipientPrivateKey, RecoveryError> {
    let text = Zeroizing::new(text.replace('\r', ""));
    let inner = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(inner, _)| inner);
    let (_, body) = inner.and_then(|inner| inner.split_once("\n\n")).ok_or(RecoveryError)?;
    let encoded: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    let bytes = BASE64.decode(encoded.as_bytes()).map(Zeroizing::new).map_err(|_| RecoveryError)?;
    RecipientPrivateKey::import(&bytes).map_err(|_| RecoveryError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tobari_core::crypto::RecipientKind;

    #[test]
    fn a_key_comes_back_from_its_text() {
        let key = RecipientPrivateKey::generate(RecipientKind::RsaOaep).unwrap();
        let text = key_text(&key, "0123");
        assert_eq!(read(&text).unwrap().export(), key.export());
        assert_eq!(read(&text.replace('\n', "\r\n")).unwrap().export(), key.export());
        for bad in ["", "junk", &text[..200], &text.replace("RECOVERY", "OTHER")] {
            assert!(read(bad).is_err());
        }
    }
}

//! The recovery key as text that survives printing: whole, or in shares of which some open it. The armour is that of both.

mod shares;
#[cfg(test)]
mod tests;

pub use shares::{Joined, ShareFault, join, split};

use data_encoding::BASE64;
use tobari_core::crypto::RecipientPrivateKey;
use zeroize::Zeroizing;

/// Columns of the armour.
const COLUMNS: usize = 64;
const KEY: &str = "TOBARI RECOVERY KEY";

/// The text holds no recovery key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it holds no recovery key")]
pub struct RecoveryError;

/// Whose key it is: the organisation's id and, where it is known, its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// Its id.
    pub id: String,
    /// Its name, as people know it; empty in the texts of earlier versions.
    pub name: String,
}

/// The key as text.
pub fn key_text(key: &RecipientPrivateKey, owner: &Owner) -> Zeroizing<String> {
    let headers = [
        ("Organisation", owner.id.as_str()),
        ("Name", &owner.name),
        ("Key-Id", &key.public().key_id().to_string()),
    ];
    armour(KEY, &headers, &key.export())
}

/// The key that the text holds, and whose it is.
///
/// # Errors
/// It holds none.
pub fn read(text: &str) -> Result<(RecipientPrivateKey, Owner), RecoveryError> {
    let opened = opened(KEY, text).ok_or(RecoveryError)?;
    let key = RecipientPrivateKey::import(&opened.bytes).map_err(|_| RecoveryError)?;
    let named = |name: &str| opened.header(name).unwrap_or_default().to_owned();
    Ok((key, Owner { id: named("Organisation"), name: named("Name") }))
}

/// Headers that are empty are left out.
fn armour(kind: &str, headers: &[(&str, &str)], bytes: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(BASE64.encode(bytes));
    // Room for all of it at once: a text that grows leaves copies behind.
    let head: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 3).sum();
    let mut text = Zeroizing::new(String::with_capacity(2 * encoded.len() + head + 512));
    text.push_str(&format!("-----BEGIN {kind}-----\n"));
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {kind}-----\n"));
    text
}

/// What an armour holds.
struct Opened {
    headers: Vec<(String, String)>,
    bytes: Zeroizing<Vec<u8>>,
}

impl Opened {
    /// The one header of this name.
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        found.next().filter(|_| found.next().is_none())
    }
}

fn opened(kind: &str, text: &str) -> Option<Opened> {
    let text = Zeroizing::new(text.replace('\r', ""));
    let inner = text.split_once(&format!("-----BEGIN {kind}-----\n"))?.1;
    let inner = inner.split_once(&format!("-----END {kind}-----"))?.0;
    let (head, body) = inner.split_once("\n\n")?;
    let headers = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let encoded: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    let bytes = Zeroizing::new(BASE64.decode(encoded.as_bytes()).ok()?);
    Some(Opened { headers, bytes })
}

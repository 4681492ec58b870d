//! Shares of the recovery key (`docs/spec/recovery.md`). A share is a text that says whose key it is of, which one it is, how many
//! are needed and what to do with it, in Japanese and English, since it is found again after years. A checksum over all of that
//! names a slip of the pen; shares of another key, or of another time that the key was split, are told apart before they are joined.

use super::{Owner, armour, opened};
use data_encoding::HEXLOWER;
use tobari_core::crypto::{RecipientPrivateKey, random_bytes, sha256, shares};
use zeroize::Zeroizing;

const SHARE: &str = "TOBARI RECOVERY SHARE";
/// Format of a share.
const VERSION: &str = "1";
/// Bytes of the checksum.
const CHECKSUM: usize = 8;

/// What is wrong with a share, or with the shares together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareFault {
    /// No share.
    #[error("it holds no share of a recovery key")]
    Malformed,
    /// A share of a format that is not known here.
    #[error("it is a share of a later version")]
    Version,
    /// Something in it was changed.
    #[error("its checksum does not fit: it was damaged or mistyped")]
    Damaged,
    /// Of another key than the first one.
    #[error("it is a share of another recovery key")]
    OtherKey,
    /// Of the same key, split at another time.
    #[error("it is a share of the same key, but from another time that the key was split")]
    OtherSet,
    /// The share with this number was there already.
    #[error("share {0} was given already")]
    Twice(u8),
}

/// One share, read and checked by itself.
struct Share {
    /// Key-Id.
    key: String,
    /// Which splitting it is of.
    set: String,
    owner: Owner,
    number: u8,
    needed: u8,
    bytes: Zeroizing<Vec<u8>>,
}

/// Makes `count` shares of which any `needed` are needed; none unless 2 ≤ `needed` ≤ `count`.
pub fn split(
    key: &RecipientPrivateKey,
    owner: &Owner,
    needed: u8,
    count: u8,
) -> Option<Vec<Zeroizing<String>>> {
    let id = key.public().key_id().to_string();
    let set = HEXLOWER.encode(&random_bytes::<8>());
    let shares = shares::split(&key.export(), needed, count).ok()?;
    let text = |(bytes, number): (Zeroizing<Vec<u8>>, u8)| {
        let share = Share { key: id.clone(), set: set.clone(), owner: owner.clone(), number, needed, bytes };
        share.text(count)
    };
    Some(shares.into_iter().zip(1..=count).map(text).collect())
}

/// What the shares so far come to.
pub enum Joined {
    /// More of them are needed.
    TooFew {
        /// Shares so far.
        given: u8,
        /// Shares that it takes.
        needed: u8,
    },
    /// They are whole, of one set, and yet not of the key that they name: somebody made them so.
    NotTheKey,
    /// The key.
    Key(Box<RecipientPrivateKey>, Owner),
}

/// The key that the shares hold. Nothing of it is anywhere but in memory.
///
/// # Errors
/// Which of the texts is at fault, counted from 0, and why.
pub fn join(texts: &[Zeroizing<String>]) -> Result<Joined, (usize, ShareFault)> {
    let mut all: Vec<Share> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let share = Share::read(text).map_err(|fault| (index, fault))?;
        if let Some(first) = all.first() {
            let fault = if first.key != share.key {
                Some(ShareFault::OtherKey)
            } else if first.set != share.set || first.needed != share.needed {
                Some(ShareFault::OtherSet)
            } else if all.iter().any(|one| one.number == share.number) {
                Some(ShareFault::Twice(share.number))
            } else {
                None
            };
            if let Some(fault) = fault {
                return Err((index, fault));
            }
        }
        all.push(share);
    }
    let Some(first) = all.first() else { return Ok(Joined::TooFew { given: 0, needed: 2 }) };
    let given = u8::try_from(all.len()).unwrap_or(u8::MAX);
    if given < first.needed {
        return Ok(Joined::TooFew { given, needed: first.needed });
    }
    let bytes = shares::combine(all.iter().map(|share| share.bytes.as_slice()), first.needed);
    let key = bytes.ok().and_then(|bytes| RecipientPrivateKey::import(&bytes).ok());
    match key.filter(|key| key.public().key_id().to_string() == first.key) {
        Some(key) => Ok(Joined::Key(Box::new(key), first.owner.clone())),
        None => Ok(Joined::NotTheKey),
    }
}

impl Share {
    fn checksum(&self) -> String {
        let numbers = [self.number, self.needed];
        let mut parts: Vec<&[u8]> = vec![b"tobari/1 recovery share"];
        for text in [&self.owner.id, &self.owner.name, &self.key, &self.set] {
            parts.extend([&[0], text.as_bytes()]);
        }
        parts.extend([[0].as_slice(), &numbers, &self.bytes]);
        let sum = sha256(&parts);
        HEXLOWER.encode(sum.first_chunk::<CHECKSUM>().unwrap_or(&[0; CHECKSUM]))
    }

    fn text(&self, count: u8) -> Zeroizing<String> {
        let (number, needed) = (self.number.to_string(), self.needed.to_string());
        let sum = self.checksum();
        let headers = [
            ("Version", VERSION),
            ("Organisation", &self.owner.id),
            ("Name", &self.owner.name),
            ("Key-Id", &self.key),
            ("Set", &self.set),
            ("Share", &number),
            ("Needed", &needed),
            ("Checksum", &sum),
        ];
        let armour = armour(SHARE, &headers, &self.bytes);
        let owner = if self.owner.name.is_empty() { &self.owner.id } else { &self.owner.name };
        let told = format!(
            "\
回復用の鍵の分割片 {number} / {count} — {owner}
{needed} 片がそろうと、この組織のすべての封緘ファイルを、判定も記録もなしに開けます。それより少なければ、何も分かりません。
・ほかの分割片とは別の人が、別の場所で、ネットワークの外に保管してください。写しを作ったら、それも同じように保管してください。
・使うとき: ネットワークにつながない機械で tobari-keyserver recovery open --share ファイル … (訓練は recovery drill)
・紛失したら、残りで鍵を分割し直しても、前の分割片は無効になりません。組織の管理者にすぐ知らせてください。

Share {number} of {count} of the recovery key — {owner}
{needed} shares together open every sealed file of this organisation, without any decision or record. Fewer tell nothing.
- Keep it offline, with another person and in another place than the other shares; keep copies in the same way.
- To use it: on a machine without a network, tobari-keyserver recovery open --share FILE … (to practise: recovery drill)
- If it is lost, tell the administrators at once: splitting the key again does not make earlier shares invalid.

"
        );
        let mut text = Zeroizing::new(String::with_capacity(told.len() + armour.len()));
        text.push_str(&told);
        text.push_str(&armour);
        text
    }

    fn read(text: &str) -> Result<Self, ShareFault> {
        let opened = opened(SHARE, text).ok_or_else(|| {
            // A share whose base64 was damaged is a damaged share.
            if text.contains(&format!("-----BEGIN {SHARE}-----")) {
                ShareFault::Damaged
            } else {
                ShareFault::Malformed
            }
        })?;
        match opened.header("Version") {
            Some(VERSION) => {}
            Some(_) => return Err(ShareFault::Version),
            None => return Err(ShareFault::Damaged),
        }
        let named = |name: &str| opened.header(name).unwrap_or_default().to_owned();
        let number = |name: &str| named(name).parse().unwrap_or(0);
        let share = Self {
            key: named("Key-Id"),
            set: named("Set"),
            owner: Owner { id: named("Organisation"), name: named("Name") },
            number: number("Share"),
            needed: number("Needed"),
            bytes: opened.bytes.clone(),
        };
        let said = named("Checksum");
        // The number is in the share itself, too: it is the place of the polynomial's value.
        let whole =
            said == share.checksum() && share.needed >= 2 && share.bytes.first() == Some(&share.number);
        if whole { Ok(share) } else { Err(ShareFault::Damaged) }
    }
}

/// A share that says another number of needed ones and has the checksum for it.
#[cfg(test)]
pub(super) fn test_only_with_needed(text: &str, needed: u8) -> Zeroizing<String> {
    let share = Share::read(text).unwrap();
    Share { needed, ..share }.text(needed)
}

//! How the audit log says that a key was retired, and how that is read again when the database that knew it is lost.

use crate::audit::{Act, Record};
use tobari_core::crypto::KeyId;
use tobari_core::ids::LabelId;

/// The end of the words; no other record about a label has it.
const END: &str = " files known to need it";

/// The detail of the record.
pub(crate) fn in_words(label: &str, generation: u32, key: &KeyId, files: u64) -> String {
    format!("name {label}, generation {generation} retired, key {key}, {files}{END}")
}

/// A key that was retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retirement {
    pub(crate) label: LabelId,
    pub(crate) generation: u32,
    /// The key's id, as text.
    pub(crate) key: String,
}

impl Retirement {
    /// What a record says, if it is of a retirement. Read from the end, since a label's name may hold anything.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        let record: Record = serde_json::from_slice(record).ok()?;
        let label = record.object.as_deref()?.strip_prefix("label/")?.parse().ok()?;
        let (rest, _) = record.detail.as_deref()?.strip_suffix(END)?.rsplit_once(", ")?;
        let (rest, key) = rest.rsplit_once(", key ")?;
        let (_, generation) = rest.strip_suffix(" retired")?.rsplit_once(", generation ")?;
        let generation = generation.parse().ok()?;
        (record.act == Act::Update).then(|| Self { label, generation, key: key.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Who;
    use jiff::Timestamp;

    fn record(act: Act, detail: String) -> Vec<u8> {
        let label = LabelId::from_bytes([1; 16]);
        Record::new(act, Timestamp::UNIX_EPOCH, Who::default())
            .about("label", label)
            .detail(detail)
            .payload()
            .unwrap()
    }

    #[test]
    fn a_retirement_is_read_as_it_was_written_whatever_the_label_is_called() {
        let key = KeyId::from_bytes([7; 32]);
        for name in ["社外秘", "x, generation 9 retired, key 00, 1 files known to need it", ", key , retired"]
        {
            let found = Retirement::read(&record(Act::Update, in_words(name, 3, &key, 2))).unwrap();
            let expected =
                Retirement { label: LabelId::from_bytes([1; 16]), generation: 3, key: key.to_string() };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_no_retirement_is_not_read_as_one() {
        let key = KeyId::from_bytes([7; 32]);
        let retired = in_words("社外秘", 3, &key, 0);
        assert_eq!(Retirement::read(&record(Act::Create, retired.clone())), None);
        assert_eq!(Retirement::read(&record(Act::Request, retired.clone())), None);
        // A label with a misleading name that is changed: its name is not the end of that record.
        let changed = format!("name {retired}, level 1, allow_legacy_zip false");
        assert_eq!(Retirement::read(&record(Act::Update, changed)), None);
        assert_eq!(Retirement::read(b"{}"), None);
    }
}

//! What tells this machine from others: names that its firmware, its file system and its system carry.
//!
//! None of them is a secret, and whoever is root here can read and copy them all. They keep a copied folder or backup, and a disk
//! image on other hardware, from being a terminal; they do not keep root from it (docs/threats.md).

use crate::sys::file_system_uuid;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tobari_core::crypto::{CryptoError, RootKey};
use zeroize::Zeroizing;

const PURPOSE: &str = "tobari/1 machine";
/// Most bytes of a value that are read.
const LONGEST: usize = 4096;
/// What vendors write where they write nothing, in lower case.
const NO_VALUES: [&str; 12] = [
    "none",
    "unknown",
    "default string",
    "not specified",
    "not applicable",
    "not available",
    "to be filled by o.e.m.",
    "system serial number",
    "base board serial number",
    "0123456789",
    "123456789",
    "03000200-0400-0500-0006-000700080009",
];

/// One such name, in the order in which they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// UUID of the machine, from its firmware. Root alone may read it.
    ProductUuid,
    /// Serial number of the main board, from the firmware. Root alone may read it.
    BoardSerial,
    /// Serial number of a machine without such firmware, from its device tree.
    DeviceSerial,
    /// UUID of the file system on which the state lies. An image of the disk has it too.
    FileSystem,
    /// `/etc/machine-id`. An image of the disk has it too.
    MachineId,
}

impl Source {
    /// Whether it belongs to the hardware: an image of the disk does not carry it along.
    pub const fn is_hardware(self) -> bool {
        matches!(self, Self::ProductUuid | Self::BoardSerial | Self::DeviceSerial)
    }

    /// What it is called in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProductUuid => "product UUID",
            Self::BoardSerial => "board serial number",
            Self::DeviceSerial => "device serial number",
            Self::FileSystem => "file system UUID",
            Self::MachineId => "/etc/machine-id",
        }
    }
}

/// The names that can be read here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine(BTreeMap<Source, String>);

impl Machine {
    /// This machine, for a state in the folder `state`.
    pub fn here(state: &Path) -> Self {
        let mut machine = Self::below(Path::new("/"));
        // What is not there, or means nothing, is left out.
        let uuid = file_system_uuid(state).ok().flatten().filter(|uuid| uuid.iter().any(|byte| *byte != 0));
        machine.0.extend(uuid.map(|uuid| (Source::FileSystem, HEXLOWER.encode(&uuid))));
        machine
    }

    /// The names in files, as they lie below `root`.
    pub(crate) fn below(root: &Path) -> Self {
        let files = [
            (Source::ProductUuid, "sys/class/dmi/id/product_uuid"),
            (Source::BoardSerial, "sys/class/dmi/id/board_serial"),
            (Source::DeviceSerial, "sys/firmware/devicetree/base/serial-number"),
            (Source::MachineId, "etc/machine-id"),
        ];
        Self(
            files.into_iter().filter_map(|(source, path)| Some((source, value(&root.join(path))?))).collect(),
        )
    }

    /// The names, without their values.
    pub fn sources(&self) -> Vec<Source> {
        self.0.keys().copied().collect()
    }

    /// Whether they bind anything: `/etc/machine-id` alone does not, because images share it.
    pub fn binds(&self) -> bool {
        self.0.keys().any(|source| *source != Source::MachineId)
    }

    /// The key that follows from these names; none when one of them is not there.
    ///
    /// # Errors
    /// When the library fails.
    pub(crate) fn key(&self, sources: &[Source], salt: &[u8]) -> Result<Option<RootKey>, CryptoError> {
        let mut secret = Zeroizing::new(Vec::new());
        for source in sources {
            let Some(value) = self.0.get(source) else { return Ok(None) };
            for part in [source.name(), value] {
                secret.extend_from_slice(&(part.len() as u64).to_le_bytes());
                secret.extend_from_slice(part.as_bytes());
            }
        }
        RootKey::derive(&secret, salt, PURPOSE).map(Some)
    }
}

/// The text of a file; none where there is none, it cannot be read, or it says nothing.
fn value(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok().filter(|bytes| bytes.len() <= LONGEST)?;
    let text = String::from_utf8(bytes).ok()?;
    let text = text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0').to_lowercase();
    let means_nothing = NO_VALUES.contains(&text.as_str())
        // Zeros, dots, and the like.
        || text.chars().filter(|letter| letter.is_alphanumeric()).all(|letter| matches!(letter, '0' | 'f' | 'x'));
    (!means_nothing).then_some(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine with these names.
    pub(crate) fn machine(names: &[(Source, &str)]) -> Machine {
        Machine(names.iter().map(|(source, value)| (*source, (*value).to_owned())).collect())
    }

    #[test]
    fn names_are_read_where_they_mean_something() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(Machine::below(root.path()), Machine::default());
        write("etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n");
        let alone = Machine::below(root.path());
        assert_eq!(alone.sources(), [Source::MachineId]);
        assert!(!alone.binds());
        for nothing in
            ["", " \n", "To be filled by O.E.M.", "00000000-0000-0000-0000-000000000000", "FFFFFFFF", "..."]
        {
            write("sys/class/dmi/id/product_uuid", nothing);
            write("sys/class/dmi/id/board_serial", nothing);
            assert_eq!(Machine::below(root.path()), alone, "{nothing:?}");
        }
        write("sys/class/dmi/id/product_uuid", "4C4C4544-0051-3810-8052-B4C04F4E3732\n");
        write("sys/firmware/devicetree/base/serial-number", "10000000abcdef\0");
        let found = Machine::below(root.path());
        assert_eq!(found.sources(), [Source::ProductUuid, Source::DeviceSerial, Source::MachineId]);
        assert!(found.binds());
        assert_eq!(found.0[&Source::DeviceSerial], "10000000abcdef");
    }

    #[test]
    fn each_name_and_the_salt_make_another_key() {
        let sources = [Source::ProductUuid, Source::MachineId];
        let key = |product, id, salt: &[u8]| {
            let machine = machine(&[(Source::ProductUuid, product), (Source::MachineId, id)]);
            *machine.key(&sources, salt).unwrap().unwrap().to_bytes()
        };
        let first = key("a", "b", b"salt");
        assert_eq!(first, key("a", "b", b"salt"));
        for other in
            [key("a", "c", b"salt"), key("c", "b", b"salt"), key("a", "b", b"other"), key("ab", "", b"salt")]
        {
            assert_ne!(first, other);
        }
        let without = machine(&[(Source::MachineId, "b")]);
        assert!(without.key(&sources, b"salt").unwrap().is_none());
    }
}

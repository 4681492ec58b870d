use super::machine::tests::machine;
use super::*;

fn here() -> Machine {
    machine(&[(Source::ProductUuid, "4c4c4544"), (Source::FileSystem, "77"), (Source::MachineId, "3d12")])
}

/// A guard's file with one file that it sealed.
fn sealed(directory: &Path, machine: &Machine) -> Vec<u8> {
    let guard = Guard::create(directory, machine).unwrap();
    guard.seal("a", b"secret").unwrap().to_vec()
}

fn unseal(directory: &Path, machine: &Machine, name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let guard = Guard::open(directory, machine).map_err(|error| error.to_string())?;
    guard.unseal(name, Zeroizing::new(bytes.to_vec())).map(|bytes| bytes.to_vec())
}

#[test]
fn a_sealed_file_opens_on_its_machine_and_under_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let file = sealed(path, &here());
    assert!(!file.windows(6).any(|part| part == b"secret"));
    assert_eq!(unseal(path, &here(), "a", &file).unwrap(), b"secret");
    assert!(unseal(path, &here(), "b", &file).is_err());
    for place in MARK.len()..file.len() {
        let mut changed = file.clone();
        changed[place] ^= 1;
        assert!(unseal(path, &here(), "a", &changed).is_err(), "{place}");
    }
    // More names than there were change nothing.
    let mut more = vec![(Source::BoardSerial, "b"), (Source::ProductUuid, "4c4c4544")];
    more.extend([(Source::FileSystem, "77"), (Source::MachineId, "3d12")]);
    assert_eq!(unseal(path, &machine(&more), "a", &file).unwrap(), b"secret");
    assert_eq!(Guard::open(path, &here()).unwrap().protection(), Protection::Machine);
}

#[test]
fn another_machine_opens_nothing_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = sealed(directory.path(), &here());
    let others = [
        (
            "another one",
            [(Source::ProductUuid, "ffff"), (Source::FileSystem, "77"), (Source::MachineId, "3d12")],
        ),
        (
            "another one",
            [(Source::ProductUuid, "4c4c4544"), (Source::FileSystem, "78"), (Source::MachineId, "3d12")],
        ),
        (
            "another one",
            [(Source::ProductUuid, "4c4c4544"), (Source::FileSystem, "77"), (Source::MachineId, "3d13")],
        ),
        (
            "product UUID",
            [(Source::BoardSerial, "4c4c4544"), (Source::FileSystem, "77"), (Source::MachineId, "3d12")],
        ),
    ];
    for (words, names) in others {
        let error = Guard::open(directory.path(), &machine(&names)).unwrap_err();
        assert!(matches!(&error, ProtectError::OtherMachine(why) if why.contains(words)), "{error}");
    }
    // Somebody takes the sealed wrapping key away, or another's.
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(unseal(elsewhere.path(), &here(), "a", &file).unwrap_err().contains("is gone"));
    sealed(elsewhere.path(), &here());
    assert!(unseal(elsewhere.path(), &here(), "a", &file).is_err());
    std::fs::write(directory.path().join(FILE), "{}").unwrap();
    assert!(matches!(Guard::open(directory.path(), &here()), Err(ProtectError::Damaged(_))));
}

#[test]
fn what_an_image_carries_along_is_no_protection() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for names in [vec![], vec![(Source::MachineId, "3d12")]] {
        let guard = Guard::create(path, &machine(&names)).unwrap();
        assert!(!guard.seals() && guard.protection() == Protection::None);
        assert_eq!(*guard.seal("a", b"secret").unwrap(), b"secret");
    }
    // Sealed, so that a copied folder is of no use elsewhere, but nothing to rely on.
    let image = machine(&[(Source::FileSystem, "77"), (Source::MachineId, "3d12")]);
    let file = sealed(path, &image);
    let guard = Guard::open(path, &image).unwrap();
    assert!(guard.seals() && guard.protection() == Protection::None);
    // The daemon may read more than whoever enrolled; from then on that is needed.
    let guard = Guard::open(path, &here()).unwrap();
    assert_eq!(guard.protection(), Protection::Machine);
    assert_eq!(unseal(path, &here(), "a", &file).unwrap(), b"secret");
    assert!(matches!(Guard::open(path, &image), Err(ProtectError::OtherMachine(_))));
}

#[test]
fn a_plain_file_is_taken_over_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let guard = Guard::create(path, &here()).unwrap();
    std::fs::write(path.join("a"), "secret").unwrap();
    // What another name still shows is what lay there.
    std::fs::hard_link(path.join("a"), path.join("before")).unwrap();
    assert!(guard.take_over(path, "a").unwrap());
    assert!(!guard.take_over(path, "a").unwrap());
    assert!(!guard.take_over(path, "none").unwrap());
    assert_eq!(std::fs::read(path.join("before")).unwrap(), [0; 6]);
    let bytes = std::fs::read(path.join("a")).unwrap();
    assert_eq!(unseal(path, &here(), "a", &bytes).unwrap(), b"secret");
}

//! The test vectors of `core/tests/vectors`, made by the independent implementation in `tests/oracle`: one fault
//! for each file, with the expected result. Vectors of a released format stay for ever.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde::Deserialize;
use std::collections::HashMap;
use std::path::PathBuf;
use tobari_core::crypto::{Dek, RecipientPrivateKey, second, sha256};
use tobari_core::envelope::{
    FilePolicy, Header, MemoryStorage, OpenError, Reader, looks_sealed, open_stream, read_back, verify,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    expect: Expect,
    /// The private key to open it with.
    key: String,
    /// Which step refuses it.
    stage: Option<Stage>,
    length: Option<u64>,
    sha256: Option<String>,
    tail: Option<u64>,
    file: Option<String>,
    policy: Option<Policy>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Opens,
    Refused,
}

#[derive(Deserialize, PartialEq, Debug, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Header,
    Key,
    Slot,
    Size,
    Body,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    organisation: String,
    label: String,
    label_level: u16,
    label_name: String,
    owner_group: Option<String>,
    sealed_at: i64,
    sealer: String,
    generation: u32,
}

#[test]
fn every_vector_gives_its_expected_result() {
    let index = std::fs::read_to_string(directory().join("vectors.json")).unwrap();
    let vectors: Vec<Vector> = serde_json::from_str(&index).unwrap();
    let mut keys = HashMap::new();
    let mut failures = Vec::new();
    for vector in &vectors {
        let key = keys.entry(vector.key.clone()).or_insert_with(|| {
            let bytes = std::fs::read(directory().join(format!("{}.key", vector.key))).unwrap();
            RecipientPrivateKey::import(&bytes).unwrap()
        });
        let bytes = std::fs::read(directory().join(format!("{}.tbr", vector.name))).unwrap();
        let result = match vector.expect {
            Expect::Opens => opens(vector, key, bytes),
            Expect::Refused => refused(vector, key, bytes),
        };
        if let Err(why) = result {
            failures.push(format!("{}: {why}", vector.name));
        }
    }
    assert!(failures.is_empty(), "{} of {} vectors:\n{}", failures.len(), vectors.len(), failures.join("\n"));
    assert!(vectors.len() >= 100, "only {} vectors", vectors.len());
}

#[test]
fn each_file_has_an_entry_and_each_entry_a_file() {
    let index = std::fs::read_to_string(directory().join("vectors.json")).unwrap();
    let vectors: Vec<Vector> = serde_json::from_str(&index).unwrap();
    let mut names: Vec<String> = vectors.into_iter().map(|vector| format!("{}.tbr", vector.name)).collect();
    let mut files: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".tbr"))
        .collect();
    names.sort();
    files.sort();
    assert_eq!(names, files);
}

fn opens(vector: &Vector, key: &RecipientPrivateKey, bytes: Vec<u8>) -> Result<(), String> {
    let storage = MemoryStorage::from(bytes.clone());
    let header = Header::read(&storage).map_err(|error| format!("header: {error:?}"))?;
    check(looks_sealed(&bytes), "looks sealed")?;
    let interrupted = vector.name.starts_with("copy-");
    check(interrupted || bytes.starts_with(header.wire_bytes()), "wire form is what was read")?;
    check(Header::parse(header.wire_bytes()).as_ref() == Ok(&header), "wire form parses to the same")?;
    check(Some(header.file_id().to_string()) == vector.file, "file id")?;
    check(vector.policy.as_ref().is_some_and(|policy| same_policy(policy, header.policy())), "policy")?;
    let dek = unwrap(&header, key).ok_or("unwrap")?;
    let mut plaintext = Vec::new();
    let opened = open_stream(&storage, &header, &dek, &mut plaintext, &mut |_| ())
        .map_err(|error| format!("{error:?}"))?;
    let hash: String = sha256(&[&plaintext]).iter().map(|byte| format!("{byte:02x}")).collect();
    check(vector.sha256.as_ref() == Some(&hash), "plaintext")?;
    check(vector.length == Some(opened.bytes), "length")?;
    check(vector.tail == opened.interrupted_tail, "tail")?;
    let verified =
        verify(&storage, &header, &dek, &mut |_| ()).map_err(|error| format!("verify: {error:?}"))?;
    check(verified.length == opened.bytes && verified.interrupted_tail == vector.tail, "verified")?;
    let reader = Reader::open(&storage, &header, &dek).map_err(|error| format!("reader: {error:?}"))?;
    let mut again = vec![0; plaintext.len() + 1];
    let count = reader.read_at(&mut again, 0).map_err(|error| format!("reader: {error:?}"))?;
    check(again[..count] == plaintext, "random access gives the same")?;
    // The read-back accepts what a fresh seal makes, and no file that a writer has changed since.
    if !interrupted
        && !["second-slot-newer", "first-slot-torn", "no-root", "dirty", "dirty-with-tail"]
            .contains(&vector.name.as_str())
    {
        read_back(&storage, &dek, &mut plaintext.as_slice(), second())
            .map_err(|error| format!("read back: {error:?}"))?;
    }
    Ok(())
}

fn refused(vector: &Vector, key: &RecipientPrivateKey, bytes: Vec<u8>) -> Result<(), String> {
    let storage = MemoryStorage::from(bytes);
    let stage = vector.stage.ok_or("a refused vector has a stage")?;
    let header = match Header::read(&storage) {
        Ok(header) => header,
        Err(OpenError::Refused(_)) => return check(stage == Stage::Header, "refused by the header"),
        Err(error) => return Err(format!("{error:?}")),
    };
    check(stage != Stage::Header, "the header was accepted")?;
    let Some(dek) = unwrap(&header, key) else { return check(stage == Stage::Key, "refused by the key") };
    check(stage != Stage::Key, "the key was accepted")?;
    let mut plaintext = Vec::new();
    match open_stream(&storage, &header, &dek, &mut plaintext, &mut |_| ()) {
        Err(OpenError::Refused(refused)) => {
            check(
                refused.to_string() == "not an authentic sealed file, or not the key of this one",
                "message",
            )?;
        }
        Err(error) => return Err(format!("{error:?}")),
        Ok(_) => return Err("opens".into()),
    }
    check(stage == Stage::Body || plaintext.is_empty(), "gave out something before it was refused")?;
    check(verify(&storage, &header, &dek, &mut |_| ()).is_err(), "verify accepts it")?;
    check(read_back(&storage, &dek, &mut plaintext.as_slice(), second()).is_err(), "read back accepts it")?;
    let reader = Reader::open(&storage, &header, &dek);
    check(stage == Stage::Body || reader.is_err(), "the reader accepts it")?;
    let whole = reader.and_then(|reader| reader.read_at(&mut vec![0; 20_000], 0));
    check(whole.is_err(), "the reader serves it")
}

fn unwrap(header: &Header, key: &RecipientPrivateKey) -> Option<Dek> {
    let stanza = header.stanzas().iter().find(|stanza| stanza.key_id == key.public().key_id())?;
    let secret = key.decapsulate(&stanza.encapsulation).ok()?;
    header.unwrap(stanza, &secret).ok()
}

fn same_policy(expected: &Policy, policy: &FilePolicy) -> bool {
    expected.organisation == policy.organisation.to_string()
        && expected.label == policy.label.to_string()
        && expected.label_level == policy.label_level
        && expected.label_name == policy.label_name
        && expected.owner_group == policy.owner_group.map(|group| group.to_string())
        && expected.sealed_at == policy.sealed_at.as_millisecond()
        && expected.sealer == policy.sealer.to_string()
        && expected.generation == policy.generation
}

fn check(condition: bool, what: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(what.to_owned()) }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

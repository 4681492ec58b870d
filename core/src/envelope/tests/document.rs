//! The worked example of `docs/spec/envelope.md` is what it says.

use super::*;
use crate::crypto::{bulk, second, sha256};
use data_encoding::HEXLOWER;

const DOCUMENT: &str = include_str!("../../../../docs/spec/envelope.md");
const VECTOR: &[u8] = include_bytes!("../../../tests/vectors/hello.tbr");
const KEY: &[u8] = include_bytes!("../../../tests/vectors/label.key");

/// The bytes of the hex dumps; rows that were left out are zeros.
fn dumped() -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in DOCUMENT.split("```hex\n").skip(1) {
        for row in block.split("```").next().unwrap().lines() {
            let (offset, row) = row.split_once("  ").unwrap();
            bytes.resize(usize::from_str_radix(offset, 16).unwrap(), 0);
            bytes.extend(row.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        }
    }
    bytes
}

/// A value of the table.
fn value(name: &str) -> Vec<u8> {
    let row = DOCUMENT.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap();
    let hex = row.split('|').nth(2).unwrap().trim().trim_matches('`');
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

#[test]
fn the_worked_example_opens_and_has_the_values_it_says() {
    let bytes = dumped();
    assert!(bytes == VECTOR, "the document and the vector differ");
    let storage = MemoryStorage::from(bytes.clone());
    let header = Header::read(&storage).unwrap();
    let stanza = &header.stanzas()[0];
    let secret = RecipientPrivateKey::import(KEY).unwrap().decapsulate(&stanza.encapsulation).unwrap();
    let dek = header.unwrap(stanza, &secret).unwrap();
    assert_eq!(dek.expose().as_slice(), value("DEK"));
    assert_eq!(opened(&storage, &header, &dek).unwrap(), "こんにちは".as_bytes());
    read_back(&storage, &dek, &mut "こんにちは".as_bytes(), second()).unwrap();

    let policy_end = 48 + usize::from(bytes[40]);
    assert_eq!(stanza.encapsulation_hash().as_slice(), value("SHA-256(encapsulation)"));
    let policy_hash = sha256(&[&bytes[..40], &bytes[48..policy_end]]);
    assert_eq!(policy_hash.as_slice(), value("SHA-256(bytes 0–39 ‖ policy)"));
    for provider in [bulk(), second()] {
        let salt = header.file_id();
        let kek = provider.kdf(&value("`s`, from the encapsulation"), salt.as_bytes()).expand(&[
            b"tobari/1 wrap",
            b"rsa-oaep",
            stanza.key_id.as_bytes(),
            &stanza.encapsulation_hash(),
            &policy_hash,
        ]);
        assert_eq!(kek.unwrap().as_slice(), value("KEK"));
        let derived = provider.kdf(dek.expose(), salt.as_bytes());
        for name in ["content", "header", "state", "journal"] {
            let key = derived.expand(&[b"tobari/1 ", name.as_bytes()]).unwrap();
            assert_eq!(key.as_slice(), value(&format!("{name} key")));
        }
    }
}

//! The properties of the fuzz targets, in every run of the tests: random bytes, and good ones with a few changes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use proptest::prelude::*;

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public in the fuzz crate")]
mod properties;

const VALID: [&str; 4] = ["hello", "hybrid", "two-recipients", "policy-unknown-entries"];

fn wire(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/vectors/{name}.tbr", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    bytes[..48 + number(40) + number(44) + 32].to_vec()
}

/// A few bytes of `bytes` replaced, removed or inserted.
fn changed(bytes: Vec<u8>, edits: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes;
    for (index, operation, value) in edits {
        let at = index.index(bytes.len());
        match operation % 4 {
            0 => bytes[at] = *value,
            1 => bytes[at] ^= 1 << (value % 8),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, *value),
        }
    }
    bytes
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8, u8)>(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_a_header(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        properties::header(&bytes);
        properties::header(&[&properties::sample().bytes[..48], &bytes].concat());
    }

    #[test]
    fn a_changed_header(name in prop::sample::select(&VALID[..]), edits in edits()) {
        properties::header(&changed(wire(name), &edits));
    }

    #[test]
    fn any_bytes_as_a_policy(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::policy(&bytes);
    }

    #[test]
    fn a_changed_policy(name in prop::sample::select(&VALID[..]), edits in edits()) {
        let wire = wire(name);
        let length = u32::from_le_bytes(wire[40..44].try_into().unwrap()) as usize;
        properties::policy(&changed(wire[48..48 + length].to_vec(), &edits));
    }

    #[test]
    fn a_changed_body(edits in prop::collection::vec(any::<(u16, u8)>(), 0..3), length in any::<Option<u16>>()) {
        properties::body(&edits, length);
        properties::body(&edits, None);
    }

    #[test]
    fn any_bytes_as_a_journal(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::journal(&bytes);
        properties::journal(&[b"\x89TBJ\r\n\x1a\n\x01\0".as_slice(), &bytes].concat());
    }

    #[test]
    fn a_fuzzers_bytes(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
        properties::body_from_bytes(&bytes);
    }
}

//! The vectors of `docs/spec/lease.md`, section 10: one lease of files, and one of a label with the receipt of its keys.
//! `tests/oracle/lease.py` reads both.

use super::document::{
    Case, GROUP, LABEL, LEASE, ORGANISATION, PERSON, TERMINAL, at, case, case_of, file_id, wish,
};
use crate::audit::{
    Checkpoint, Frontier, Growth, LogKey, LogSigner, ReceiptFault, Released, leaf_hash, log_name,
    make_receipt,
};
use crate::crypto::{GrantKeyPair, SigningKey, VerifyingKey};
use crate::lease::{ValidLease, Wish, sign};
use crate::proto::api::AuditReceipt;
use crate::proto::lease::SignedLease;

#[derive(serde::Serialize, serde::Deserialize)]
struct Vector {
    signing_key: String,
    grant_key: String,
    lease: SignedLease,
    payload: String,
    deks: Vec<String>,
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn path(name: &str) -> String {
    format!("{}/src/lease/tests/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn write(name: &str, case: &Case, lease: SignedLease) {
    let vector = Vector {
        signing_key: hex(&case.signing.verifying_key().to_bytes()),
        grant_key: hex(&case.key.export()),
        payload: String::from_utf8(lease.payload.0.clone()).unwrap(),
        lease,
        deks: case.deks.iter().map(|dek| hex(dek.expose())).collect(),
    };
    std::fs::write(path(name), serde_json::to_string_pretty(&vector).unwrap() + "\n").unwrap();
}

#[test]
#[ignore = "makes core/src/lease/tests/vector.json anew"]
fn make_the_vector() {
    let case = case();
    write("vector.json", &case, sign(&case.lease, &case.signing).unwrap());
}

/// The releases are the records 41 to 43 of a log of 45.
#[test]
#[ignore = "makes core/src/lease/tests/vector-label.json anew"]
fn make_the_vector_of_a_label() {
    let ends = at("2026-06-04T00:00:00Z");
    let files = [
        (10, Some(GROUP), ends, 41),
        (11, None, at("2026-06-02T00:00:00Z"), 42),
        (12, Some(GROUP), ends, 43),
    ];
    let case = case_of(Some(LABEL), &files);
    let mut signed = sign(&case.lease, &case.signing).unwrap();
    signed.receipt = Some(receipt(&case));
    write("vector-label.json", &case, signed);
}

fn receipt(case: &Case) -> AuditReceipt {
    let other =
        |number: u64| format!(r#"{{"act":"logout","time":"2026-05-31T11:00:00Z","version":{number}}}"#);
    let mut log = Frontier::default();
    (1..=40).for_each(|number| log.push(leaf_hash(other(number).as_bytes())));
    // As the key server writes them: keys in alphabetical order, by the administrator who decided.
    let released: Vec<String> = case
        .lease
        .files
        .iter()
        .map(|file| {
            format!(
                r#"{{"act":"lease-key","detail":"{}","file":"{}","file_name":"{}","label":"{LABEL}","object":"lease/{LEASE}","person":"{administrator}","rights":{},"terminal":"{desk}","time":"2026-05-31T12:00:00Z","version":1}}"#,
                Released::lent_to(PERSON, TERMINAL),
                file.file,
                file.name.as_deref().unwrap_or_default(),
                serde_json::to_string(&file.rights).unwrap(),
                administrator = "07070707070707070707070707070707",
                desk = "08080808080808080808080808080808",
            )
        })
        .collect();
    let mut records = released.clone();
    records.extend([other(44), other(45)]);
    let growth = Growth::new(log, records.iter().map(|record| leaf_hash(record.as_bytes())).collect());
    let key = SigningKey::import(&case.signing.export()).unwrap();
    let signer = LogSigner::new(&log_name(ORGANISATION), key).unwrap();
    let checkpoint = Checkpoint::of(ORGANISATION, 1, growth.after()).sign(&signer);
    make_receipt(&growth, &checkpoint, 41, released).unwrap()
}

fn read(name: &str) -> (Vector, VerifyingKey, ValidLease) {
    let vector: Vector = serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap();
    let key = data_encoding::HEXLOWER.decode(vector.signing_key.as_bytes()).unwrap();
    let key = VerifyingKey::from_bytes(&key).unwrap();
    assert_eq!(vector.lease.payload.0, vector.payload.as_bytes());
    let lease = ValidLease::check(&vector.lease, &key, ORGANISATION, TERMINAL).unwrap();
    (vector, key, lease)
}

fn opens(vector: &Vector, lease: &ValidLease, files: &[u8]) {
    let terminal = data_encoding::HEXLOWER.decode(vector.grant_key.as_bytes()).unwrap();
    let terminal = GrantKeyPair::import(&terminal).unwrap();
    assert_eq!(files.len(), vector.deks.len());
    for (number, dek) in files.iter().zip(&vector.deks) {
        let mut wish = wish(*number);
        wish.owner_group = (*number != 11).then_some(GROUP);
        let lent = lease.permits(&wish, 0, at("2026-06-01T00:00:00Z"), &[]).unwrap();
        assert_eq!(hex(lent.dek(&terminal).unwrap().expose()), *dek);
    }
}

#[test]
fn the_vector_opens() {
    let (vector, _, lease) = read("vector.json");
    opens(&vector, &lease, &[10, 11]);
    assert_eq!((lease.lease().label, vector.lease.receipt.is_none()), (None, true));
}

#[test]
fn the_vector_of_a_label_opens_and_its_keys_are_on_record() {
    let (vector, key, lease) = read("vector-label.json");
    opens(&vector, &lease, &[10, 11, 12]);
    assert_eq!(lease.lease().label, Some(LABEL));
    let created = Wish { file: file_id(99), ..wish(10) };
    let binding = lease.binds_created(&created).unwrap();
    assert!(lease.permits_created(binding, &created, 0, at("2026-06-01T00:00:00Z"), &[]).is_ok());

    let log = LogKey::of(ORGANISATION, key);
    let good = vector.lease.receipt.unwrap();
    lease.is_recorded(Some(&good), &log).unwrap();
    assert_eq!(lease.is_recorded(None, &log), Err(ReceiptFault::Missing));
    // One flipped bit in any byte of any part, and the lease is on no record any more.
    let refused = |receipt: &AuditReceipt| lease.is_recorded(Some(receipt), &log).is_err();
    for index in 0..good.records.len() {
        for at in 0..good.records[index].len() {
            let mut bad = good.clone();
            let mut bytes = bad.records[index].clone().into_bytes();
            bytes[at] ^= 1;
            bad.records[index] = String::from_utf8(bytes).unwrap();
            assert!(refused(&bad), "record {index}, byte {at}");
        }
    }
    for index in 0..good.proof.len() {
        for at in 0..32 {
            let mut bad = good.clone();
            bad.proof[index].0[at] ^= 1;
            assert!(refused(&bad), "hash {index}, byte {at}");
        }
    }
    let place = good.checkpoint.find('\u{2014}').unwrap();
    for at in (0..good.checkpoint.len()).filter(|at| !(place..place + 3).contains(at)) {
        let mut bad = good.clone();
        let mut bytes = bad.checkpoint.into_bytes();
        bytes[at] ^= 1;
        let Ok(checkpoint) = String::from_utf8(bytes) else { continue };
        bad.checkpoint = checkpoint;
        assert!(refused(&bad), "checkpoint, byte {at}");
    }
    for first in [0, good.first - 1, good.first + 1] {
        assert!(refused(&AuditReceipt { first, ..good.clone() }), "first {first}");
    }
}

//! No key without the proof of its record.

use super::*;

/// As for a grant: without the proof that the release of each key is in the signed log no key is used.
#[test]
fn a_lease_without_the_records_of_its_keys_is_not_taken() {
    let case = Case::new();
    let good = case.lease(Opens::Unlimited);
    let rights: Rights = [Right::View, Right::Send].into_iter().collect();
    let file = case.sample.header.file_id();
    let record = released(file, rights);
    let of = |text: String, seed: u8| Some(receipt_of(vec![text], &log_signer(seed)));
    let bad = [
        ("no receipt", None),
        ("another log's key", of(record.clone(), 6)),
        ("a grant", of(record.replace("lease-key", "grant"), 5)),
        ("another lease", of(record.replace(&LEASE.to_string(), &TERMINAL.to_string()), 5)),
        ("another person", of(record.replace(&PERSON.to_string(), &TERMINAL.to_string()), 5)),
        ("another terminal", of(record.replace(&TERMINAL.to_string(), &PERSON.to_string()), 5)),
        ("another file", of(record.replace(&file.to_string(), &LEASE.to_string()), 5)),
        ("other rights", of(record.replace(",\"send\"", ""), 5)),
    ];
    for (what, receipt) in bad {
        assert_ne!(receipt, good.receipt, "{what}");
        let leases = case.load();
        settle(&leases, 0, vec![SignedLease { receipt, ..good.clone() }]);
        assert!(leases.of(PERSON).0.is_empty(), "{what}");
    }
    // It is kept with the lease and checked at each start; a lease of before there were proofs still opens.
    let leases = case.load();
    settle(&leases, 0, vec![good.clone()]);
    case.opens(&leases);
    drop(leases);
    let path = case.folder().join(format!("{LEASE}.json"));
    let stored: SignedLease = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(stored.receipt.is_some());
    let forged = SignedLease { receipt: of(record.replace("lease-key", "grant"), 5), ..good.clone() };
    std::fs::write(&path, serde_json::to_vec(&forged).unwrap()).unwrap();
    assert!(case.open_as(&case.load(), 1, Right::View).is_none());
    std::fs::write(&path, serde_json::to_vec(&SignedLease { receipt: None, ..good }).unwrap()).unwrap();
    case.opens(&case.load());
}

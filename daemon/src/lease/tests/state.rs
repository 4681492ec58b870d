//! What lies on the disk: each byte counts, copies are refused, cuts cost nothing.

use super::*;

/// What a state that cannot be believed leads to: nothing opens, nothing is reported.
fn assert_refused(case: &Case, leases: &Leases) {
    assert!(case.open_as(leases, 1, Right::View).is_none_or(|outcome| outcome.is_err()));
    assert!(leases.report().is_err());
    assert!(leases.login("person1", "correct").is_none());
}

#[test]
fn every_byte_of_the_state_counts() {
    let case = Case::new();
    drop(case.holding(Opens::Unlimited));
    let state = case.folder().join("state");
    let sealed = std::fs::read(&state).unwrap();
    for index in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[index] ^= 1;
        // In place: inode and time of birth stay.
        std::fs::write(&state, &changed).unwrap();
        assert_refused(&case, &case.load());
    }
    std::fs::write(&state, &sealed).unwrap();
    case.opens(&case.load());
}

#[test]
fn a_copy_of_the_state_is_refused_here_and_on_another_terminal() {
    let case = Case::new();
    drop(case.holding(at_most(5)));
    let elsewhere = case.load_with(GrantKeyPair::generate().unwrap());
    assert_refused(&case, &elsewhere);
    // An older state, put back as a copy beside the lease.
    let state = case.folder().join("state");
    let copy = case.directory.path().join("copy");
    std::fs::copy(&state, &copy).unwrap();
    let leases = case.load();
    case.opens(&leases);
    drop(leases);
    std::fs::copy(&copy, &state).unwrap();
    assert_refused(&case, &case.load());
    // The same under the same name as a new file.
    std::fs::remove_file(&state).unwrap();
    assert_refused(&case, &case.load());
    std::fs::copy(&copy, &state).unwrap();
    assert_refused(&case, &case.load());
}

#[test]
fn a_state_that_is_replaced_while_the_daemon_runs_is_noticed() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let state = case.folder().join("state");
    let copy = case.folder().join("copy");
    std::fs::copy(&state, &copy).unwrap();
    std::fs::rename(&copy, &state).unwrap();
    assert_eq!(case.refusal(&leases), "state");
    assert_eq!(case.refusal(&leases), "state", "and it does not come back");
}

#[test]
fn records_that_were_cut_or_changed_are_refused() {
    for spoil in [
        |text: &str| text.lines().take(1).map(|line| format!("{line}\n")).collect(),
        |text: &str| text.replacen("\"view\"", "\"send\"", 1),
        |_: &str| String::from("{}\n"),
    ] as [fn(&str) -> String; 3]
    {
        let case = Case::new();
        let leases = case.holding(Opens::Unlimited);
        for _ in 0..3 {
            case.opens(&leases);
        }
        drop(leases);
        let records = case.folder().join("records");
        let text = std::fs::read_to_string(&records).unwrap();
        std::fs::write(&records, spoil(&text)).unwrap();
        assert_refused(&case, &case.load());
    }
}

#[test]
fn a_cut_between_state_and_records_loses_nothing() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    case.opens(&leases);
    case.opens(&leases);
    drop(leases);
    let records = case.folder().join("records");
    let text = std::fs::read_to_string(&records).unwrap();
    let first = text.lines().next().unwrap().len() + 1;
    // Cut before the last line was begun, in its middle, and before its end.
    for length in [first, first + 20, text.len() - 1] {
        std::fs::write(&records, &text.as_bytes()[..length]).unwrap();
        let again = case.load();
        assert_eq!(again.report().unwrap().records.len(), 2, "cut at {length}");
        drop(again);
        assert_eq!(std::fs::read_to_string(&records).unwrap(), text);
    }
}

#[test]
fn a_state_that_the_key_server_refuses_stays_refused() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let mut other = Problem::local(ProblemCode::Conflict, "something else");
    other.field = Some(String::from("request"));
    leases.heard(&other);
    case.opens(&leases);
    let mut problem = Problem::local(ProblemCode::Conflict, "its counter went back");
    problem.field = Some(String::from("lease-state"));
    leases.heard(&problem);
    assert_eq!(case.refusal(&leases), "state");
    drop(leases);
    assert_refused(&case, &case.load());
}

#[test]
fn every_byte_of_a_stored_lease_counts() {
    let case = Case::new();
    drop(case.holding(Opens::Unlimited));
    let path = case.folder().join(format!("{LEASE}.json"));
    let stored = std::fs::read(&path).unwrap();
    for index in 0..stored.len() {
        for bit in [1, 32] {
            let mut changed = stored.clone();
            changed[index] ^= bit;
            std::fs::write(&path, &changed).unwrap();
            let leases = case.load();
            // Either the lease is not there, or it is the same to the bit, as when a base64 digit is spelt otherwise.
            let opened = case.open_as(&leases, 1, Right::View);
            assert!(opened.is_none_or(|outcome| outcome.is_err()), "byte {index}, bit {bit}");
        }
    }
    std::fs::write(&path, &stored).unwrap();
    case.opens(&case.load());
}

/// What a cut during the first writes of all leaves is not taken for a state that somebody took away.
#[test]
fn a_cut_at_the_first_lease_costs_nothing() {
    let case = Case::new();
    std::fs::create_dir(case.folder()).unwrap();
    std::fs::write(case.folder().join(".state.new"), b"half").unwrap();
    case.opens(&case.holding(Opens::Unlimited));
    // The lease itself cannot be written: by then there is a state.
    let case = Case::new();
    let document = case.folder().join(format!("{LEASE}.json"));
    std::fs::create_dir_all(document.join("in the way")).unwrap();
    std::fs::rename(&document, case.directory.path().join("aside")).unwrap();
    let leases = case.load();
    std::fs::rename(case.directory.path().join("aside"), &document).unwrap();
    let time = leases.time.reading().unwrap().wall;
    let sent = vec![case.lease(Opens::Unlimited)];
    assert!(leases.settle(LeaseSyncAnswer { leases: sent, ..nothing(time) }).is_err());
    assert!(case.folder().join("state").exists());
    drop(leases);
    std::fs::remove_dir_all(&document).unwrap();
    case.opens(&case.holding(Opens::Unlimited));
}

/// A state as it was written before counts outlived leases is read as it is.
#[test]
fn a_state_without_the_newer_parts_is_read() {
    let case = Case::new();
    drop(case.holding(at_most(2)));
    let key = case.key().local_key("leases").unwrap();
    let path = case.folder().join("state");
    let aad = b"tobari/1 lease state";
    let mut state: serde_json::Value =
        serde_json::from_slice(&key.open(aad, &std::fs::read(&path).unwrap()).unwrap()).unwrap();
    let parts = state.as_object_mut().unwrap();
    assert!(parts.remove("spent").is_some() && parts.remove("narrowed").is_some());
    let sealed = key.seal(aad, &serde_json::to_vec(&state).unwrap()).unwrap();
    std::fs::write(&path, sealed).unwrap();
    let leases = case.load();
    case.opens(&leases);
    case.opens(&leases);
    assert_eq!(case.refusal(&leases), "used-up");
}

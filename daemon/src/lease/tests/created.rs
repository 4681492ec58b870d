//! What is created under a lease of a label.

use super::*;

/// What the person creates under a lease of the label opens under it, in later logins too, and nobody else's does.
#[test]
fn what_is_created_under_a_lease_of_a_label_opens_until_the_lease_ends() {
    let case = Case::new();
    let new = sealed_file(&case.directory.path().join("new"), b"new");
    let wanted = crate::open::wanted(&new.header, "new");
    let login = session_of(1, "2027-01-01T00:00:00Z");
    let open = |leases: &Leases, person: u8, right: Right| {
        leases.open(&session_of(person, "2027-01-01T00:00:00Z"), &[&wanted], right).pop().unwrap()
    };
    // A lease of files does not extend to others.
    let leases = case.holding(Opens::Unlimited);
    leases.keep_created(&login, &new.header, &new.dek).unwrap();
    assert!(open(&leases, 1, Right::View).is_none());

    let case = Case::new();
    let leases = case.load();
    settle(&leases, 0, vec![case.lease_of(at_most(3), Some(LABEL))]);
    leases.keep_created(&session_of(2, "2027-01-01T00:00:00Z"), &new.header, &new.dek).unwrap();
    assert!(open(&leases, 1, Right::View).is_none(), "another person's file");
    leases.keep_created(&login, &new.header, &new.dek).unwrap();
    drop(leases);
    let leases = case.load();
    let key = open(&leases, 1, Right::View).unwrap().unwrap();
    assert!(new.header.authenticate(&key.dek).is_ok());
    assert!(open(&leases, 2, Right::View).is_none());
    assert!(open(&leases, 1, Right::Decrypt).unwrap().is_err(), "no more than the lease lends");
    assert_eq!(leases.rights(&login, &new.header).unwrap().unwrap(), key.rights);
    case.opens(&leases);
    // Each opening is one of the lease's, on record.
    open(&leases, 1, Right::Send).unwrap().unwrap();
    assert!(open(&leases, 1, Right::View).unwrap().is_err());
    assert_eq!(leases.report().unwrap().records.len(), 3);
    drop(leases);

    // Every byte of what is kept counts, and it is of this lease alone.
    let path = case.folder().join(format!("{LEASE}.created"));
    let kept = std::fs::read(&path).unwrap();
    for index in 0..kept.len() {
        let mut changed = kept.clone();
        changed[index] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        let leases = case.load();
        let held = leases.inner();
        let wish = wish(PERSON, &new.header, Right::View);
        let dek = held.held[0]
            .permits(&wish, 0, at(START))
            .ok()
            .and_then(|lent| held.held[0].dek(&lent, &wish, &leases.identity.grant_key).ok());
        assert!(dek.is_none_or(|dek| new.header.authenticate(&dek).is_ok()), "byte {index}");
    }
    std::fs::write(&path, kept.get(..kept.len() / 2).unwrap()).unwrap();
    let leases = case.load();
    assert!(open(&leases, 1, Right::View).is_none(), "half a line is nothing");
    // A line after half a line is whole.
    leases.keep_created(&login, &new.header, &new.dek).unwrap();
    drop(leases);
    let leases = case.load();
    assert!(open(&leases, 1, Right::View).is_some());
    leases.give_back(PERSON, LEASE).unwrap();
    assert!(!path.exists() && open(&leases, 1, Right::View).is_none());
}

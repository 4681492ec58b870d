//! Returned, revoked and narrowed: at once, also for keys in use, and for good.

use super::*;

#[test]
fn a_returned_and_a_revoked_lease_open_nothing_and_leave_no_key() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let key = case.opens(&leases);
    leases.give_back(PERSON, LEASE).unwrap();
    assert!(key.limit.check(Right::View).is_err() && case.open_as(&leases, 1, Right::View).is_none());
    assert!(!case.folder().join(format!("{LEASE}.json")).exists());
    let report = leases.report().unwrap();
    assert_eq!((report.records.len(), report.held.len()), (2, 0));
    let last: OfflineRecord = serde_json::from_slice(&report.records[1].0).unwrap();
    assert_eq!(last.act, OfflineAct::Return);

    let case = Case::new();
    for revocations in [
        Revocations { leases: vec![LEASE], ..Revocations::default() },
        Revocations { people: vec![PERSON], ..Revocations::default() },
        Revocations { terminals: vec![TERMINAL], ..Revocations::default() },
    ] {
        let leases = case.load();
        settle(&leases, 0, vec![case.lease(Opens::Unlimited)]);
        let key = case.opens(&leases);
        leases.revoke(&Revocations { leases: vec![LeaseId::from_bytes([3; 16])], ..Revocations::default() });
        key.limit.check(Right::View).unwrap();
        leases.revoke(&revocations);
        assert!(key.limit.check(Right::View).is_err() && case.open_as(&leases, 1, Right::View).is_none());
        drop(leases);
        assert!(case.open_as(&case.load(), 1, Right::View).is_none());
    }
}

fn narrowing(rights: &[Right], ends_at: &str) -> Narrowing {
    Narrowing {
        lease: LEASE,
        label: LABEL,
        owner_group: None,
        rights: rights.iter().copied().collect(),
        ends_at: at(ends_at),
    }
}

#[test]
fn a_stricter_policy_narrows_a_lease_and_keys_in_use_for_good() {
    const END: &str = "2026-06-04T00:00:00Z";
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let sending = case.open_as(&leases, 1, Right::Send).unwrap().unwrap();
    let viewing = case.opens(&leases);
    let other = Narrowing { label: LabelId::from_bytes([77; 16]), ..narrowing(&[], END) };
    leases.revoke(&Revocations { narrowed: vec![other], ..Revocations::default() });
    sending.limit.check(Right::Send).unwrap();
    // Sending is taken away; viewing stays.
    let view = narrowing(&[Right::View], END);
    leases.revoke(&Revocations { narrowed: vec![view], ..Revocations::default() });
    assert!(sending.limit.check(Right::Send).is_err() && !sending.limit.is_one_opening());
    viewing.limit.check(Right::View).unwrap();
    let refused = case.open_as(&leases, 1, Right::Send).unwrap().err().unwrap();
    assert_eq!(refused.problem.field.as_deref(), Some("right"));
    assert_eq!(leases.of(PERSON).0[0].files[0].rights, Rights::only(Right::View));
    // A bulletin that says less, a wider narrowing, a restart, and the lease sent again: none gives anything back.
    leases.revoke(&Revocations::default());
    let time = leases.time.reading().unwrap().wall;
    let wider = vec![narrowing(&[Right::View, Right::Send], END)];
    leases.settle(LeaseSyncAnswer { narrowed: wider, ..nothing(time) }).unwrap();
    away_and_back(&case, &leases, Opens::Unlimited, 0);
    drop(leases);
    let leases = case.load();
    assert!(case.open_as(&leases, 1, Right::Send).unwrap().is_err());
    let viewing = case.opens(&leases);
    // An earlier end, in the answer to the exchange.
    let earlier = vec![narrowing(&[Right::View], "2026-06-02T00:00:00Z")];
    leases.settle(LeaseSyncAnswer { narrowed: earlier, ..nothing(time) }).unwrap();
    viewing.limit.check(Right::View).unwrap();
    case.clocks.go(86_400, 86_400);
    assert!(viewing.limit.check(Right::View).is_err());
    assert_eq!(case.refusal(&leases), "ended");
}

#[test]
fn a_lease_is_narrowed_from_its_first_moment_here() {
    let case = Case::new();
    let leases = case.load();
    // The bulletin came before the lease, which was sent before the bulletin was made.
    let none = narrowing(&[], START);
    leases.revoke(&Revocations { narrowed: vec![none], ..Revocations::default() });
    settle(&leases, 0, vec![case.lease(Opens::Unlimited)]);
    assert!(case.open_as(&leases, 1, Right::View).unwrap().is_err());
    let gone = Revocations { leases: vec![LEASE], ..Revocations::default() };
    let case = Case::new();
    let leases = case.load();
    leases.revoke(&gone);
    settle(&leases, 0, vec![case.lease(Opens::Unlimited)]);
    assert!(case.open_as(&leases, 1, Right::View).is_none());
}

//! What time it is: a clock that was set opens nothing.

use super::*;

#[test]
fn the_end_and_a_clock_that_was_set_back_are_refused() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let key = case.opens(&leases);
    case.clocks.go(-119, 0);
    case.opens(&leases);
    key.limit.check(Right::View).unwrap();
    case.clocks.go(-2, 0);
    assert_eq!(case.refusal(&leases), "clock");
    assert!(key.limit.check(Right::View).is_err(), "a key in use ends with it");
    case.clocks.go(121, 0);
    case.opens(&leases);
    // To the end, a second before it, and back.
    case.clocks.go(3 * 86_400 - 1, 3 * 86_400 - 1);
    key.limit.check(Right::View).unwrap();
    case.opens(&leases);
    case.clocks.go(1, 1);
    assert_eq!(case.refusal(&leases), "ended");
    assert!(key.limit.check(Right::View).is_err());
    drop(leases);
    case.clocks.reboot();
    case.clocks.go(-86_400, 0);
    let leases = case.load();
    // Nothing was opened after the jump: what was written down last was a second before the end.
    assert_eq!(case.refusal(&leases), "clock");
}

#[test]
fn the_latest_time_seen_is_kept_without_an_opening() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    case.clocks.go(86_400, 86_400);
    leases.report().unwrap();
    drop(leases);
    case.clocks.reboot();
    case.clocks.go(-86_400, 0);
    assert_eq!(case.refusal(&case.load()), "clock");
}

#[test]
fn a_key_in_use_ends_with_a_clock_that_is_set_back_and_with_the_lease() {
    for (wall, boot) in
        [(-121, 0), (-86_400, 0), (-366 * 86_400, 0), (3 * 86_400, 0), (0, 3 * 86_400), (0, -2)]
    {
        let case = Case::new();
        let leases = case.holding(Opens::Unlimited);
        case.clocks.go(1, 1);
        let key = case.opens(&leases);
        for tolerated in [-1, -118] {
            case.clocks.go(tolerated, 0);
            key.limit.check(Right::View).unwrap();
            case.opens(&leases);
        }
        case.clocks.go(119, 0);
        key.limit.check(Right::View).unwrap();
        case.clocks.go(wall, boot);
        let refused = key.limit.check(Right::View).unwrap_err();
        assert_eq!(refused.problem.code, ProblemCode::LeaseRefused, "{wall} {boot}");
        assert!(case.open_as(&leases, 1, Right::View).unwrap().is_err(), "{wall} {boot}");
        // Forward and back again: the lease has seen the later time.
        if wall > 0 {
            case.clocks.go(-wall, 0);
            assert_eq!(case.refusal(&leases), "clock");
        }
    }
}

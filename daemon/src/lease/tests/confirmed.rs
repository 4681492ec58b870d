//! A label can demand that revocations were confirmed not long ago.

use super::*;

/// A label that demands that revocations were confirmed within two hours.
fn demanding(number: u64) -> Bulletin {
    let mut bulletin = crate::testing::bulletin(number, false);
    bulletin.labels[0].max_bulletin_age_hours = Some(2);
    assert_eq!(bulletin.labels[0].label.id, LABEL);
    bulletin
}

#[test]
fn a_label_demands_a_confirmation_that_is_not_old() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    // Without the demand it does not matter how long ago.
    leases.confirm(&crate::testing::bulletin(1, false), Timestamp::UNIX_EPOCH);
    let key = case.opens(&leases);
    leases.confirm(&demanding(2), at(START));
    case.clocks.go(7200, 7200);
    case.opens(&leases);
    key.limit.check(Right::View).unwrap();
    case.clocks.go(1, 1);
    assert_eq!(case.refusal(&leases), "bulletin");
    // What is open ends too, and says the same beforehand.
    assert_eq!(key.limit.check(Right::View).unwrap_err().problem.field.as_deref(), Some("bulletin"));
    let login = session_of(1, "2027-01-01T00:00:00Z");
    assert!(leases.rights(&login, &case.sample.header).unwrap().is_err());
    assert!(!leases.would_open(&login, [&case.wanted()], Right::View));
    // A later confirmation lets both go on.
    leases.confirm(&demanding(2), at("2026-06-01T02:00:00Z"));
    case.opens(&leases);
    key.limit.check(Right::View).unwrap();
}

#[test]
fn a_clock_set_back_does_not_make_a_confirmation_younger() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    leases.confirm(&demanding(2), at(START));
    case.clocks.go(7300, 7300);
    assert_eq!(case.refusal(&leases), "bulletin");
    case.clocks.go(-7300, 0);
    assert_eq!(case.refusal(&leases), "clock");
    // Across a boot, and with the clock of the machine stopped: time is at least what it was.
    case.clocks.reboot();
    assert_eq!(case.refusal(&leases), "clock");
    case.clocks.go(7300, 0);
    assert_eq!(case.refusal(&leases), "bulletin");

    // A confirmation of a time that this clock has not reached: it is the clock that is wrong.
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    leases.confirm(&demanding(2), at("2026-06-01T00:02:00Z"));
    case.opens(&leases);
    leases.confirm(&demanding(2), at("2026-06-01T00:02:01Z"));
    assert_eq!(case.refusal(&leases), "clock");
    case.clocks.go(1, 1);
    case.opens(&leases);
}

#[test]
fn before_the_bulletin_is_known_nothing_is_confirmed() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    leases.confirm(&demanding(2), Timestamp::UNIX_EPOCH);
    assert_eq!(case.refusal(&leases), "bulletin");
}

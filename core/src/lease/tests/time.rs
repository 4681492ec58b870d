use crate::lease::{BootClock, ClockFault, LeaseClock, Reading};
use jiff::{SignedDuration, Timestamp};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn plus(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

fn reading(wall: Timestamp, boot: u8, seconds: i64) -> Reading {
    Reading { wall, boot: BootClock { boot: [boot; 16], elapsed: seconds * SECOND } }
}

/// Steps on one boot: the wall clock moves so far off true time, the boot clock has run so long since the step before.
/// The outcome: by how many seconds the lease clock is after the start, or a fault.
type Step = (i64, i64, Option<i64>);

fn walk(name: &str, start: Timestamp, steps: &[Step]) {
    let mut clock = LeaseClock::set(start, reading(start, 1, 0).boot);
    let mut elapsed = 0;
    for (index, (wall, passed, expected)) in steps.iter().enumerate() {
        elapsed += passed;
        let outcome = clock.advance(reading(plus(start, *wall), 1, elapsed));
        match (outcome, expected) {
            (Ok((now, next)), Some(expected)) => {
                assert_eq!(now, plus(start, *expected), "{name}, step {index}");
                assert_eq!(next.latest(), now);
                clock = next;
            }
            (Err(ClockFault::SetBack { .. }), None) => {}
            (outcome, _) => panic!("{name}, step {index}: {outcome:?}"),
        }
    }
}

#[test]
fn a_clock_set_back_is_refused_beyond_the_tolerance() {
    let start = at("2026-06-01T00:00:00Z");
    // (wall − start, boot clock since the last step, lease clock − start)
    walk("as it should be", start, &[(0, 0, Some(0)), (60, 60, Some(60)), (DAY, DAY - 60, Some(DAY))]);
    walk("back by 1 s", start, &[(-1, 0, Some(0)), (9, 10, Some(10))]);
    walk("back by 119 s", start, &[(-119, 0, Some(0)), (-19, 100, Some(100))]);
    walk("back by 120 s", start, &[(-120, 0, Some(0))]);
    walk("back by 121 s", start, &[(-121, 0, None), (0, 0, Some(0))]);
    walk("back by a day", start, &[(-DAY, 0, None)]);
    walk("back by a year", start, &[(-365 * DAY, 0, None)]);
    walk("back by 119 s twice", start, &[(-119, 0, Some(0)), (-238, 0, None)]);
    walk("held for an hour", start, &[(0, 60, Some(60)), (0, 60, Some(120)), (0, 60, None)]);
}

#[test]
fn a_forward_jump_is_believed_and_does_not_come_back() {
    let start = at("2026-06-01T00:00:00Z");
    walk(
        "forward and back",
        start,
        &[(DAY, 0, Some(DAY)), (0, 10, None), (10, 10, None), (DAY + 20, 0, Some(DAY + 20))],
    );
    // The refused steps above did not move the clock; the boot clock did.
    walk("forward by a year and back", start, &[(365 * DAY, 1, Some(365 * DAY)), (1, 0, None)]);
}

#[test]
fn a_jump_of_the_boot_clock_is_refused_or_consumes() {
    let start = at("2026-06-01T00:00:00Z");
    let clock = LeaseClock::set(start, reading(start, 1, 1000).boot);
    let back = clock.advance(reading(plus(start, 5), 1, 999));
    assert_eq!(back, Err(ClockFault::BootClockWentBack));
    // A day ahead: the wall clock is then a day behind what must have passed.
    let ahead = clock.advance(reading(plus(start, 5), 1, 1000 + DAY));
    assert!(matches!(ahead, Err(ClockFault::SetBack { .. })), "{ahead:?}");
    let both = clock.advance(reading(plus(start, DAY), 1, 1000 + DAY)).unwrap();
    assert_eq!(both.0, plus(start, DAY));
    let absurd = Reading { wall: start, boot: BootClock { boot: [1; 16], elapsed: i64::MAX } };
    assert_eq!(clock.advance(absurd), Err(ClockFault::OutOfRange));
    let negative = Reading { wall: start, boot: BootClock { boot: [1; 16], elapsed: i64::MIN } };
    assert!(clock.advance(negative).is_err());
}

#[test]
fn after_a_boot_the_latest_time_seen_counts() {
    let start = at("2026-06-01T00:00:00Z");
    let clock = LeaseClock::set(start, reading(start, 1, 5000).boot);
    // The new boot clock starts near 0, which is no fault.
    let (now, clock) = clock.advance(reading(plus(start, 300), 2, 10)).unwrap();
    assert_eq!(now, plus(start, 300));
    let set_back = clock.advance(reading(start, 3, 10));
    assert!(matches!(set_back, Err(ClockFault::SetBack { .. })));
    let (now, _) = clock.advance(reading(plus(start, 200), 3, 10)).unwrap();
    assert_eq!(now, plus(start, 300), "within the tolerance the clock stands still, it does not go back");
}

#[test]
fn the_key_server_corrects_both_ways() {
    let start = at("2026-06-01T00:00:00Z");
    let clock = LeaseClock::set(start, reading(start, 1, 0).boot);
    let (_, far) = clock.advance(reading(plus(start, 365 * DAY), 1, 1)).unwrap();
    assert!(far.advance(reading(plus(start, 2), 1, 2)).is_err());
    let corrected = LeaseClock::set(plus(start, 2), reading(start, 1, 2).boot);
    assert_eq!(corrected.advance(reading(plus(start, 3), 1, 3)).unwrap().0, plus(start, 3));
    let later = LeaseClock::set(plus(start, DAY), reading(start, 1, 2).boot);
    assert!(later.advance(reading(plus(start, 3), 1, 3)).is_err(), "a slow clock is noticed");
}

#[test]
fn leap_seconds_and_2038_are_ordinary_times() {
    // The kernel shows 23:59:59 twice, or smears.
    let before = at("2016-12-31T23:59:59Z");
    walk("leap second", before, &[(0, 0, Some(0)), (0, 1, Some(1)), (1, 1, Some(2)), (3, 1, Some(3))]);
    let last = at("2038-01-19T03:14:07Z");
    walk("2038", last, &[(0, 0, Some(0)), (1, 1, Some(1)), (DAY, DAY, Some(DAY + 1))]);
    let clock = LeaseClock::set(plus(last, 1), reading(last, 1, 0).boot);
    assert!(clock.advance(reading(at("1901-12-13T20:45:52Z"), 1, 1)).is_err(), "a wrapped 32-bit clock");
    assert!(clock.advance(reading(Timestamp::UNIX_EPOCH, 2, 1)).is_err(), "a dead battery");
    let end = LeaseClock::set(Timestamp::MAX, reading(last, 1, 0).boot);
    assert_eq!(end.advance(reading(Timestamp::MAX, 1, 1)), Err(ClockFault::OutOfRange));
    let start = LeaseClock::set(Timestamp::MIN, reading(last, 1, 0).boot);
    assert_eq!(start.advance(reading(Timestamp::MIN, 2, 1)), Err(ClockFault::OutOfRange));
}

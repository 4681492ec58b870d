//! Openings are on the disk before a key is used, counted for good, and never more than were lent.

use super::*;

#[test]
fn a_lease_opens_and_each_opening_is_written_down_and_survives_a_restart() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let key = case.opens(&leases);
    assert!(case.sample.header.authenticate(&key.dek).is_ok());
    case.opens(&leases);
    drop(leases);
    let again = case.load();
    let report = again.report().unwrap();
    let held = vec![LeaseInHand { lease: LEASE, issued_at: at(START) }];
    assert_eq!((report.after, report.records.len(), report.held), (0, 2, held));
    let (records, head) =
        chain::follow(chain::Head::START, report.records.iter().map(|one| one.0.as_slice())).unwrap();
    assert_eq!((head.sequence, records[1].0.person, records[1].0.right), (2, PERSON, Some(Right::View)));
    assert_eq!(again.of(PERSON).0[0].used, 2);
    // What the key server has is not sent again.
    assert!(!settle(&again, 2, Vec::new()));
    case.opens(&again);
    let report = again.report().unwrap();
    assert_eq!((report.after, report.records.len()), (2, 1));
    drop(again);
    assert_eq!(case.load().report().unwrap().records.len(), 1);
}

#[test]
fn openings_are_counted_across_restarts() {
    let case = Case::new();
    let leases = case.holding(at_most(2));
    case.opens(&leases);
    drop(leases);
    let leases = case.load();
    case.opens(&leases);
    assert_eq!(case.refusal(&leases), "used-up");
    drop(leases);
    assert_eq!(case.refusal(&case.load()), "used-up");
}

#[test]
fn a_batch_does_not_outrun_the_count() {
    let case = Case::new();
    let leases = case.holding(at_most(2));
    let wanted = case.wanted();
    let outcomes =
        leases.open(&session_of(1, "2027-01-01T00:00:00Z"), &[&wanted, &wanted, &wanted], Right::Send);
    let opened: Vec<bool> = outcomes.into_iter().map(|outcome| outcome.unwrap().is_ok()).collect();
    assert_eq!(opened, [true, true, false]);
}

#[test]
fn another_person_and_a_right_that_is_not_lent_are_refused() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    assert!(case.open_as(&leases, 2, Right::View).is_none(), "the lease does not cover another person");
    let failure = case.open_as(&leases, 1, Right::Decrypt).unwrap().err().unwrap();
    assert_eq!(failure.problem.field.as_deref(), Some("right"));
    assert_eq!(leases.report().unwrap().records.len(), 0, "a refusal is no opening");
    assert!(leases.give_back(PersonId::from_bytes([2; 16]), LEASE).is_err());
}

/// A key server that is away, or there and without grants; it counts how often it is asked.
#[derive(Default)]
struct Source {
    there: AtomicBool,
    asked: std::sync::atomic::AtomicU32,
}

impl crate::grants::GrantSource for Source {
    fn request(
        &self,
        _token: &crate::sessions::Token,
        _request: &tobari_core::proto::api::GrantRequest,
    ) -> Result<tobari_core::proto::api::GrantResponse, Problem> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.there.load(Ordering::SeqCst) {
            return Err(Problem::local(ProblemCode::NotLoggedIn, "asked"));
        }
        Err(Problem::local(ProblemCode::KeyServerUnreachable, "away"))
    }
}

#[test]
fn grants_use_leases_sparingly_and_the_key_server_as_soon_as_it_is_there() {
    let case = Case::new();
    let leases = Arc::new(case.holding(at_most(3)));
    let source = Arc::new(Source::default());
    let clock = Arc::new(tobari_core::clock::FixedClock::new(at(START)));
    let grants = crate::grants::Grants::new(
        Arc::clone(&source) as _,
        case.key(),
        ORGANISATION,
        TERMINAL,
        Arc::clone(&clock) as _,
        crate::grants::tests::log_key(),
    )
    .with_leases(Arc::clone(&leases));
    let login = session_of(1, "2027-01-01T00:00:00Z");
    let used = || leases.of(PERSON).0[0].used;
    let asked = || source.asked.load(Ordering::SeqCst);
    let wanted = case.wanted();
    let file = wanted.file;

    // Several openings within five minutes are one, and the key server is asked once.
    for _ in 0..3 {
        let granted = grants.obtain_one(&login, &wanted, Right::View).unwrap();
        granted.key_for(file, Right::View, at(START)).unwrap();
        assert_eq!(
            granted.key_for(file, Right::Decrypt, at(START)).err().unwrap().problem.code,
            ProblemCode::RightRefused
        );
    }
    assert_eq!((used(), asked()), (1, 1));
    // What is asked for ahead uses nothing up.
    let mut ahead = vec![wanted.clone(), wanted.clone()];
    ahead[0] = Wanted { file: FileId::from_bytes([4; 16]), header: vec![4], ..wanted.clone() };
    assert!(grants.obtain_ahead(&login, &ahead, Right::Send).is_err());
    assert_eq!(used(), 1);
    case.clocks.go(301, 301);
    grants.obtain_one(&login, &wanted, Right::View).unwrap();
    assert_eq!(used(), 2, "five minutes later it is another opening");
    // Somebody else on the same terminal, and a file that is not lent.
    let other = session_of(2, "2027-01-01T00:00:00Z");
    assert_eq!(
        grants.obtain_one(&other, &wanted, Right::View).unwrap_err().problem.code,
        ProblemCode::KeyServerUnreachable
    );
    assert_eq!(
        grants.obtain_one(&login, &ahead[0], Right::View).unwrap_err().problem.code,
        ProblemCode::KeyServerUnreachable
    );
    // Each sending counts; when nothing is left the key server is asked, though it was away a moment ago.
    grants.obtain_one(&login, &wanted, Right::Send).unwrap();
    assert_eq!(used(), 3);
    let before = asked();
    let refused = grants.obtain_one(&login, &wanted, Right::Send).unwrap_err();
    assert_eq!((refused.problem.field.as_deref(), asked()), (Some("used-up"), before + 1));
    source.there.store(true, Ordering::SeqCst);
    let answered = grants.obtain_one(&login, &wanted, Right::Send).unwrap_err();
    assert_eq!(answered.problem.code, ProblemCode::NotLoggedIn, "what the key server says is final");
}

#[test]
fn a_lease_that_comes_back_does_not_begin_anew() {
    let case = Case::new();
    let mut leases = case.holding(at_most(3));
    let (mut opened, mut refused) = (0, 0);
    // Each way of losing a lease, each followed by a restart, and twice as often as there are openings.
    for round in 0..6 {
        match case.open_as(&leases, 1, Right::View).unwrap() {
            Ok(_) => opened += 1,
            Err(failure) => {
                assert_eq!(failure.problem.field.as_deref(), Some("used-up"));
                refused += 1;
            }
        }
        match round % 3 {
            0 => away_and_back(&case, &leases, at_most(3), 0),
            1 => {
                leases.revoke(&Revocations { people: vec![PERSON], ..Revocations::default() });
                leases.revoke(&Revocations::default());
                settle(&leases, 0, vec![case.lease(at_most(3))]);
            }
            _ => {
                leases.give_back(PERSON, LEASE).unwrap();
                settle(&leases, 0, vec![case.lease(at_most(3))]);
            }
        }
        drop(leases);
        leases = case.load();
    }
    assert_eq!((opened, refused), (3, 3));
}

#[test]
fn a_clock_that_was_set_forward_does_not_let_the_count_be_forgotten() {
    let case = Case::new();
    let leases = case.holding(at_most(1));
    case.opens(&leases);
    let start = leases.time.reading().unwrap().wall;
    leases.revoke(&Revocations { leases: vec![LEASE], ..Revocations::default() });
    leases.revoke(&Revocations::default());
    // A year ahead here; the key server knows better.
    case.clocks.go(365 * 86_400, 365 * 86_400);
    leases.report().unwrap();
    leases.settle(nothing(start)).unwrap();
    leases.settle(LeaseSyncAnswer { leases: vec![case.lease(at_most(1))], ..nothing(start) }).unwrap();
    assert_eq!(leases.of(PERSON).0[0].used, 1);
    // Once it has ended by the key server's time nothing of it is kept.
    let after = start.checked_add(SignedDuration::from_hours(24 * 4)).unwrap();
    leases.settle(LeaseSyncAnswer { ended: vec![LEASE], ..nothing(after) }).unwrap();
    leases.settle(LeaseSyncAnswer { leases: vec![case.lease(at_most(1))], ..nothing(after) }).unwrap();
    assert_eq!(leases.of(PERSON).0[0].used, 0);
}

#[test]
fn what_the_key_server_knows_of_openings_counts() {
    let case = Case::new();
    let leases = case.load();
    let time = leases.time.reading().unwrap().wall;
    let opened = vec![LeaseOpened { lease: LEASE, count: 2 }];
    let answer = LeaseSyncAnswer { leases: vec![case.lease(at_most(3))], opened, ..nothing(time) };
    leases.settle(answer).unwrap();
    case.opens(&leases);
    assert_eq!(case.refusal(&leases), "used-up");
    // Less than what is known here takes nothing back.
    away_and_back(&case, &leases, at_most(3), 1);
    assert_eq!(case.refusal(&leases), "used-up");
}

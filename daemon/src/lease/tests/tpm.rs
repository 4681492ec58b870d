//! The TPM's counter and the state of the leases.

use super::*;

/// A counter in place of the TPM's: where it stands, and whether it answers.
#[derive(Default)]
struct TestCounter(Mutex<(u64, bool)>);

impl crate::protect::Counter for TestCounter {
    fn read(&self) -> Result<u64, String> {
        let (value, dead) = *self.0.lock().unwrap();
        if dead { Err(String::from("no answer")) } else { Ok(value) }
    }

    fn increment(&self) -> Result<(), String> {
        self.read()?;
        self.0.lock().unwrap().0 += 1;
        Ok(())
    }
}

fn anchored(case: &Case, counter: &Arc<TestCounter>) -> Leases {
    let identity = Identity {
        organisation: ORGANISATION,
        terminal: TERMINAL,
        signing_key: case.signing.verifying_key(),
        grant_key: case.key(),
        log: log_key(),
    };
    let anchor = Anchor { counter: Arc::clone(counter) as _, first: 100 };
    Leases::load_anchored(&case.folder(), identity, Arc::clone(&case.clocks) as _, Some(anchor)).unwrap()
}

#[test]
fn a_state_that_the_tpm_has_counted_past_is_refused() {
    let case = Case::new();
    let counter = Arc::new(TestCounter(Mutex::new((100, false))));
    let leases = anchored(&case, &counter);
    assert!(!settle(&leases, 0, vec![case.lease(Opens::Unlimited)]));
    case.opens(&leases);
    let now = counter.0.lock().unwrap().0;
    assert!(now > 100);
    drop(leases);
    let opens = |value: u64| {
        *counter.0.lock().unwrap() = (value, false);
        let leases = anchored(&case, &counter);
        case.open_as(&leases, 1, Right::View).is_some_and(|outcome| outcome.is_ok())
    };
    // The disk was set back: the chip is ahead of it. Or the chip is another one.
    for ahead in [1, 2, 1000] {
        assert!(!opens(now + ahead), "{ahead}");
    }
    assert!(!opens(now - 2) && !opens(0));
    // The control: as it was left, and as a cut leaves it between the state and the count.
    assert!(opens(now));
    let now = counter.0.lock().unwrap().0;
    assert!(opens(now - 1));
    let now = counter.0.lock().unwrap().0;
    // Whoever takes everything away takes nothing back.
    *counter.0.lock().unwrap() = (now, true);
    assert!(anchored(&case, &counter).report().is_err());
    *counter.0.lock().unwrap() = (now, false);
    std::fs::remove_dir_all(case.folder()).unwrap();
    assert!(anchored(&case, &counter).report().is_err());
}

#[test]
fn nothing_opens_that_the_tpm_did_not_count() {
    let case = Case::new();
    let counter = Arc::new(TestCounter(Mutex::new((100, false))));
    let leases = anchored(&case, &counter);
    assert!(!settle(&leases, 0, vec![case.lease(Opens::Unlimited)]));
    case.opens(&leases);
    counter.0.lock().unwrap().1 = true;
    assert!(case.open_as(&leases, 1, Right::Send).unwrap().is_err());
    // What was written then is in force when the chip answers again.
    counter.0.lock().unwrap().1 = false;
    drop(leases);
    case.open_as(&anchored(&case, &counter), 1, Right::Send).unwrap().unwrap();
}

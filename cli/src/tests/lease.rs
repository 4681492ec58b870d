//! Which lease is refilled, before anything is asked of the key server.

use super::fake::{Fake, done};
use super::sample;
use crate::exit::Exit;
use tobari_core::ids::LeaseId;
use tobari_core::proto::control::{Answer, HeldLease, Request};
use tobari_core::proto::lease::{Opens, Term};

/// A daemon that holds these leases, each of a label or of files.
fn holding(leases: &[(u8, bool)]) -> Fake {
    let term = Term { starts_at: sample::time(), ends_at: sample::time() };
    let lease = |(id, of_label): &(u8, bool)| HeldLease {
        id: LeaseId::from_bytes([*id; 16]),
        label: of_label.then_some(sample::LABEL),
        issued_at: sample::time(),
        term,
        opens: Opens::Unlimited,
        used: 0,
        usable: true,
        why_not: None,
        files: Vec::new(),
    };
    let leases: Vec<HeldLease> = leases.iter().map(lease).collect();
    Fake::saying(move |request, _| match request {
        Request::Leases => {
            Some(done(Answer::Leases { leases: leases.clone(), unreported: 0, problem: None }))
        }
        _ => None,
    })
}

#[test]
fn the_only_lease_of_a_label_is_meant_and_else_it_is_asked_for() {
    let refill = |fake: &Fake, more: &[&str]| {
        let arguments: Vec<&str> = ["lease", "refill"].into_iter().chain(more.iter().copied()).collect();
        let ran = fake.run(&arguments);
        (ran.exit, ran.err.clone())
    };
    let (exit, said) = refill(&holding(&[]), &[]);
    assert!(exit == Exit::Usage && said.contains("no lease of a label"), "{said}");
    let (exit, said) = refill(&holding(&[(0x1e, false)]), &[]);
    assert!(exit == Exit::Usage && said.contains("no lease of a label"), "{said}");
    let several = holding(&[(0x1e, true), (0x2e, true), (0x3e, false)]);
    let (exit, said) = refill(&several, &[]);
    assert!(exit == Exit::Usage && said.contains("1e1e") && said.contains("2e2e"), "{said}");
    assert!(!said.contains("3e3e"), "{said}");
    let (exit, said) = refill(&several, &["3e3e"]);
    assert!(exit == Exit::Usage && said.contains("is for files"), "{said}");
    let (exit, said) = refill(&several, &["4e"]);
    assert!(exit == Exit::NotFound && said.contains("4e"), "{said}");
    // It goes on to look for files where one is meant: an empty folder has none.
    let one = holding(&[(0x1e, true), (0x3e, false)]);
    std::fs::create_dir(one.path("empty")).unwrap();
    let empty = one.path("empty");
    let empty = empty.to_str().unwrap();
    for (fake, lease) in [(&one, "1e"), (&several, "2e2e")] {
        let (exit, said) = refill(fake, &[lease, empty]);
        assert!(exit == Exit::Usage && said.contains("none of these is a sealed file"), "{said}");
    }
}

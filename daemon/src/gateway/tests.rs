//! Assertions: asked for once, remembered, forgotten.

use super::Asserted;
use crate::sessions::tests::login;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use tobari_core::ids::{PersonId, SessionId};
use tobari_core::proto::problem::{Problem, ProblemCode};

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_person_is_asserted_once_however_many_ask() {
    let asserted = Asserted::default();
    let (asked, all) = (AtomicU32::new(0), Barrier::new(8));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (asserted, asked, all) = (&asserted, &asked, &all);
            scope.spawn(move || {
                all.wait();
                let name = if number % 2 == 0 { "Bucho" } else { " bucho" };
                let login = asserted
                    .login(name, at("2026-06-01T00:00:00Z"), || {
                        asked.fetch_add(1, Ordering::SeqCst);
                        Ok(login(1, "2026-06-01T08:00:00Z"))
                    })
                    .unwrap();
                assert_eq!(login.session.login, "person1");
            });
        }
    });
    assert_eq!(asked.into_inner(), 1);
    assert!(asserted.asking.lock().unwrap().is_empty());
}

#[test]
fn a_refusal_is_asked_about_again_after_a_while_or_when_something_changed() {
    let asserted = Asserted::default();
    let asked = AtomicU32::new(0);
    let refused = |now: &str, code| {
        asserted
            .login("nobody", at(now), || {
                asked.fetch_add(1, Ordering::SeqCst);
                Err(Problem::local(code, "no"))
            })
            .unwrap_err()
            .problem
            .code
    };
    let count = || asked.load(Ordering::SeqCst);
    assert_eq!(refused("2026-06-01T00:00:00Z", ProblemCode::NotFound), ProblemCode::NotFound);
    assert_eq!(refused("2026-06-01T00:00:09Z", ProblemCode::Internal), ProblemCode::NotFound);
    assert_eq!(count(), 1);
    asserted.reconsider();
    refused("2026-06-01T00:00:09Z", ProblemCode::NotGateway);
    assert_eq!(count(), 2);
    refused("2026-06-01T00:00:19Z", ProblemCode::KeyServerUnreachable);
    refused("2026-06-01T00:00:21Z", ProblemCode::Internal);
    assert_eq!(count(), 3);
    refused("2026-06-01T00:00:22Z", ProblemCode::NotFound);
    assert_eq!(count(), 4);
}

#[test]
fn an_end_is_an_end_whoever_says_so() {
    let asserted = Asserted::default();
    let now = at("2026-06-01T00:00:00Z");
    let begin = |person: u8| {
        let name = format!("person{person}");
        asserted.login(&name, now, || Ok(login(person, "2026-06-01T08:00:00Z"))).unwrap()
    };
    let there = |person: u8, now: &str| {
        let gone = || Err(Problem::local(ProblemCode::NotFound, "gone"));
        let found = asserted.login(&format!("person{person}"), at(now), gone).is_ok();
        asserted.reconsider();
        found
    };
    (1..=4).for_each(|person| drop(begin(person)));
    assert!(there(4, "2026-06-01T07:59:59Z") && !there(4, "2026-06-01T08:00:00Z"));
    asserted.forget(SessionId::from_bytes([1; 16]));
    assert!(!there(1, "2026-06-01T00:00:00Z"));
    assert_eq!(asserted.revoke(&[PersonId::from_bytes([2; 16])]), [SessionId::from_bytes([2; 16])]);
    assert!(!there(2, "2026-06-01T00:00:00Z") && there(3, "2026-06-01T00:00:00Z"));
    assert_eq!(asserted.clear(), [SessionId::from_bytes([3; 16])]);
    assert!(!there(3, "2026-06-01T00:00:00Z"));
}

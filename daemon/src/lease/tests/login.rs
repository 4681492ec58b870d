//! Logging in without the key server.

use super::*;

#[test]
fn a_holder_logs_in_without_the_key_server_and_nobody_else() {
    let case = Case::new();
    let leases = case.load();
    let session = session_of(1, "2026-06-01T08:00:00Z").session;
    leases.remember(&session, "correct");
    leases.remember(&session_of(2, "2026-06-01T08:00:00Z").session, "correct");
    assert!(leases.login("person1", "correct").is_none(), "nobody holds a lease yet");
    settle(&leases, 0, vec![case.lease(Opens::Unlimited)]);
    drop(leases);
    let leases = case.load();
    let offline = leases.login("PERSON1", "correct").unwrap().unwrap();
    assert_eq!((offline.person, offline.roles.len(), offline.second_factor), (PERSON, 0, false));
    assert!(leases.login("person2", "correct").is_none());
    let refused = |password: &str| leases.login("person1", password).unwrap().unwrap_err().problem.code;
    for _ in 0..5 {
        assert_eq!(refused("wrong"), ProblemCode::BadCredentials);
    }
    assert_eq!(refused("correct"), ProblemCode::LockedOut, "the right password is not looked at");
    case.clocks.go(61, 61);
    assert!(leases.login("person1", "correct").unwrap().is_ok());
    leases.give_back(PERSON, LEASE).unwrap();
    leases.keep_verifiers();
    assert!(leases.login("person1", "correct").is_none());
}

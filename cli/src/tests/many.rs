//! An organisation of 30,000 people: what is asked to find one of them, and how all of them are listed.

use super::fake::{Fake, Ran, done, failed};
use super::outputs::key_server;
use super::sample;
use crate::exit::Exit;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tobari_core::proto::control::{Answer, Event, Request};
use tobari_core::proto::problem::{Problem, ProblemCode};

const PEOPLE: usize = 30_000;
/// What the daemon of this test lets through, in bytes: less than so many people, more than a hundred.
const MOST: usize = 100_000;

fn person(number: usize) -> Value {
    json!({ "id": format!("{number:032x}"), "login": format!("Shokuin{number:05}"), "name": format!("職員 {number}"),
        "memberships": [], "roles": [], "disabled": false, "has_totp": false })
}

/// What the key server answers for the query of a list of people.
fn people(all: usize, query: &str) -> Vec<Value> {
    let part = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    if let Some(login) = part("login") {
        let number = login.to_lowercase().strip_prefix("shokuin").and_then(|number| number.parse().ok());
        return number.filter(|number| *number < all).map(person).into_iter().collect();
    }
    let first = part("after").map_or(0, |after| usize::from_str_radix(after, 16).unwrap() + 1);
    let limit = part("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    (first..all).take(limit).map(person).collect()
}

fn answer(all: usize, method: &str, path: &str, body: Option<Value>) -> Event {
    let below = path.strip_prefix("/v1/admin/people").filter(|_| method == "GET");
    if ["explain", "policy", "audit"].iter().any(|other| path[10..].starts_with(other)) {
        return failed(Problem::local(ProblemCode::StoreUnavailable, "not what this is about"));
    }
    let (status, body) = match below.map(|below| below.split_at_checked(1)) {
        None => key_server(method, path, body),
        Some(None) => (200, Value::from(people(all, ""))),
        Some(Some(("/", id))) => match usize::from_str_radix(id, 16) {
            Ok(number) if number < all => (200, person(number)),
            _ => {
                (404, serde_json::to_value(Problem::local(ProblemCode::NotFound, "no such person")).unwrap())
            }
        },
        Some(Some((_, query))) => (200, Value::from(people(all, query))),
    };
    if body.to_string().len() > MOST {
        return failed(Problem::local(
            ProblemCode::TooLarge,
            "the answer is too long for the control socket",
        ));
    }
    done(Answer::Forwarded { status, body })
}

/// A daemon in front of so many people, and how many bytes it has answered.
fn organisation(all: usize) -> (Fake, Arc<AtomicUsize>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let fake = Fake::saying(move |request, _| {
        let event = match request {
            Request::Forward { method, path, body } => answer(all, &method, &path, body),
            _ => done(sample::notice(sample::bulletin(Vec::new()))),
        };
        count.fetch_add(serde_json::to_vec(&event).unwrap().len(), Ordering::SeqCst);
        Some(event)
    });
    (fake, answered)
}

fn run(fake: &Fake, line: &str) -> Ran {
    let words: Vec<&str> = line.split(' ').collect();
    fake.run(&words)
}

#[test]
fn a_person_is_looked_up_at_the_same_cost_however_many_there_are() {
    let (small, large) = (organisation(100), organisation(PEOPLE));
    for line in [
        "admin person show Shokuin00042",
        "admin person show shokuin00042",
        "admin person show 0000000000000000000000000000002a",
        "admin person set Shokuin00042 --name x",
        "admin person remove Shokuin00042",
        "admin lease list --person Shokuin00042",
        "admin lease ledger --person Shokuin00042",
        "admin explain Shokuin00042 社外秘 view",
        "admin policy unseal-window Shokuin00042 --files 3 --minutes 5",
        "audit search --person Shokuin00042",
    ] {
        let cost = |(fake, answered): &(Fake, Arc<AtomicUsize>)| {
            fake.asked();
            answered.store(0, Ordering::SeqCst);
            run(fake, line);
            let paths: Vec<Value> = fake.asked().iter().map(|asked| asked["path"].clone()).collect();
            (paths, answered.load(Ordering::SeqCst))
        };
        let (few, many) = (cost(&small), cost(&large));
        assert_eq!(few, many, "{line}");
        let first = many.0[0].as_str().unwrap();
        assert!(first.starts_with("/v1/admin/people?login=") || first.ends_with("2a"), "{line}: {first}");
        assert!(!many.0.iter().any(|path| path == "/v1/admin/people"), "{line}: {:?}", many.0);
        // The control: the whole list is more than what comes through.
        assert!(many.1 < MOST, "{line}");
    }
    let shown = run(&large.0, "admin person show shokuin00042 --json");
    assert_eq!((shown.exit, shown.json()["login"].as_str()), (Exit::Ok, Some("Shokuin00042")));
}

#[test]
fn everybody_is_listed_in_parts_and_in_smaller_ones_where_an_answer_is_too_long() {
    let (fake, _) = organisation(PEOPLE);
    let listed = run(&fake, "admin person list --json");
    assert_eq!(listed.exit, Exit::Ok, "{}", listed.err);
    let listed = listed.json();
    let logins: Vec<&str> =
        listed["people"].as_array().unwrap().iter().map(|person| person["login"].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..PEOPLE).map(|number| format!("Shokuin{number:05}")).collect();
    assert_eq!(logins, expected);
    let asked = fake.asked();
    assert_eq!(asked[0]["path"], "/v1/admin/people?limit=1000");
    assert_eq!(asked[1]["path"], "/v1/admin/people?limit=500", "the first was too long");
}

#[test]
fn a_name_that_is_not_there_comes_with_the_names_only_where_these_are_few() {
    for (all, hint) in
        [(3, "there are: Shokuin00000, Shokuin00001, Shokuin00002"), (PEOPLE, "'tobari admin person list'")]
    {
        let (fake, answered) = organisation(all);
        let ran = run(&fake, "admin person show nobody");
        assert_eq!(ran.exit, Exit::NotFound, "{}", ran.err);
        assert!(ran.err.contains(hint), "{}", ran.err);
        assert!(answered.load(Ordering::SeqCst) < MOST);
    }
}

#[test]
fn an_answer_about_somebody_else_is_nobody() {
    // Such as that of a key server that does not know the query: all that there are, which here is one.
    let fake = Fake::saying(|request, _| {
        Some(done(match request {
            Request::Forward { .. } => Answer::Forwarded { status: 200, body: json!([person(1)]) },
            _ => sample::notice(sample::bulletin(Vec::new())),
        }))
    });
    let ran = run(&fake, "admin person remove shokuin00002");
    assert_eq!(ran.exit, Exit::NotFound, "{}", ran.err);
    assert!(fake.asked().iter().all(|asked| asked["method"] == "GET"));
}

#[test]
fn a_list_that_does_not_go_on_ends() {
    let fake = Fake::saying(|request, _| {
        Some(done(match request {
            Request::Forward { .. } => {
                let same: Vec<Value> = (0..1000).map(person).collect();
                Answer::Forwarded { status: 200, body: Value::from(same) }
            }
            _ => sample::notice(sample::bulletin(Vec::new())),
        }))
    });
    assert_eq!(run(&fake, "admin person list").exit, Exit::Internal);
}

#[test]
fn a_lease_is_looked_up_by_the_beginning_of_its_id() {
    let fake = Fake::saying(|request, _| {
        Some(done(match request {
            Request::Forward { method, path, body } => {
                let (status, body) = key_server(&method, &path, body);
                Answer::Forwarded { status, body }
            }
            _ => sample::notice(sample::bulletin(Vec::new())),
        }))
    });
    for (line, exit, first) in [
        ("admin lease show 1e1e", Exit::Ok, "/v1/admin/leases?limit=20&id=1e1e"),
        ("admin lease approve 1e1e", Exit::Ok, "/v1/admin/leases?limit=20&id=1e1e&state=requested"),
        ("admin lease revoke 1e1e --reason x", Exit::Ok, "/v1/admin/leases?limit=20&id=1e1e&state=issued"),
        ("admin lease show 2e", Exit::NotFound, "/v1/admin/leases?limit=20&id=2e"),
    ] {
        fake.asked();
        let ran = run(&fake, line);
        assert_eq!(ran.exit, exit, "{line}: {}", ran.err);
        assert_eq!(fake.asked()[0]["path"], first, "{line}");
    }
    for typed in ["x", "1e&state=issued", "1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1"] {
        fake.asked();
        let ran = fake.run(&["admin", "lease", "show", typed]);
        assert_eq!(ran.exit, Exit::NotFound, "{typed}: {}", ran.err);
        assert!(ran.err.contains("'tobari admin lease list'"), "{}", ran.err);
        assert!(fake.asked().is_empty(), "{typed}");
    }
}

#[test]
fn a_lease_in_another_state_is_found_and_its_state_said() {
    for (state, line, english, japanese) in [
        ("issued", "approve 1e1e", "has been issued already", "もう発行されています"),
        ("issued", "refuse 1e1e --reason x", "has been issued already", "もう発行されています"),
        ("refused", "approve 1e1e", "has been refused already", "もう却下されています"),
        ("requested", "revoke 1e1e --reason x", "nobody has decided on it yet", "まだ決裁されていません"),
        ("returned", "revoke 1e1e --reason x", "has been given back already", "もう返却されています"),
        ("revoked", "revoke 1e1e --reason x", "has been taken back already", "もう取り消されています"),
    ] {
        let fake = Fake::saying(move |request, _| {
            Some(done(match request {
                Request::Forward { method, path, .. } if method == "POST" => {
                    let mut problem = Problem::local(ProblemCode::Conflict, "lease: not in that state");
                    problem.field = Some("lease".to_owned());
                    assert!(path.starts_with("/v1/admin/leases/1e1e"), "{path}");
                    Answer::Forwarded { status: 409, body: serde_json::to_value(problem).unwrap() }
                }
                Request::Forward { path, .. } if path.contains("&state=") => {
                    Answer::Forwarded { status: 200, body: json!([]) }
                }
                Request::Forward { method, path, body } => {
                    let (status, mut body) = key_server(&method, &path, body);
                    let record = if body.is_array() { &mut body[0] } else { &mut body };
                    record["state"] = json!(state);
                    Answer::Forwarded { status, body }
                }
                _ => sample::notice(sample::bulletin(Vec::new())),
            }))
        });
        let line = format!("admin lease {line}");
        let words: Vec<&str> = line.split(' ').collect();
        for (language, expected) in [("en", english), ("ja", japanese)] {
            let ran = fake.run_in(language, &words, b"");
            assert_eq!(ran.exit, Exit::Conflict, "{line}: {}", ran.err);
            assert!(ran.err.contains(expected), "{line}: {}", ran.err);
        }
    }
}

#[test]
fn a_field_is_named_once() {
    let fake = Fake::saying(|_, _| {
        let mut problem = Problem::local(ProblemCode::InvalidRequest, "term.ends_at: has passed");
        problem.field = Some("term.ends_at".to_owned());
        Some(failed(problem))
    });
    let ran = fake.run(&["whoami"]);
    assert!(ran.err.contains("a value is not allowed (term.ends_at): has passed\n"), "{}", ran.err);
}

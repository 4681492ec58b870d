//! Logging in: one answer for everything that is wrong, a lock that no spelling avoids, sessions that belong to
//! one terminal.

use crate::support::{ADMIN, Reference, Site, password, person_input};
use jiff::SignedDuration;
use serde_json::json;
use std::sync::Arc;
use tobari_core::proto::api::{LoginResponse, Session};
use tobari_core::proto::problem::ProblemCode;

#[tokio::test]
async fn a_session_shows_who_is_logged_in() {
    let site = Site::start().await;
    let case = site.reference().await;
    let answer = case.terminal.try_login("ｂｕｃｈｏ ", &password("bucho"), None).await.created();
    let bucho = answer.to::<LoginResponse>().token;
    let session: Session = case.terminal.get("/v1/sessions/current", Some(&bucho)).await.ok().to();
    assert_eq!(session.login, "bucho");
    assert_eq!(session.memberships[0].group_name, "総務部");
    assert_eq!(session.memberships[0].post_name, "部長");
    assert!(session.roles.is_empty() && !session.second_factor);
    assert_eq!(session.expires_at, site.clock_now() + SignedDuration::from_hours(8));
    case.terminal.delete("/v1/sessions/current", Some(&bucho)).await.ok();
    case.terminal.get("/v1/sessions/current", Some(&bucho)).await.refused(ProblemCode::NotLoggedIn);
}

#[tokio::test]
async fn all_that_is_wrong_with_a_login_looks_the_same() {
    let site = Site::start().await;
    let case = site.reference().await;
    let mut disabled = person_input("yasumi", vec![], &[]);
    disabled["disabled"] = json!(true);
    case.terminal.post("/v1/admin/people", Some(&case.admin), &disabled).await.created();
    let mut answers = std::collections::BTreeSet::new();
    for (login, password) in [
        ("bucho", String::from("wrong-password")),
        ("nobody", password("nobody")),
        ("yasumi", password("yasumi")),
        ("bucho", String::new()),
    ] {
        let answer = case.terminal.try_login(login, &password, None).await;
        let problem = answer.refused(ProblemCode::BadCredentials);
        answers.insert((problem.detail, problem.status, problem.field));
    }
    assert_eq!(answers.len(), 1);
}

#[tokio::test]
async fn no_spelling_of_the_name_avoids_the_lock() {
    let site = Site::start().await;
    let case = site.reference().await;
    for login in ["bucho", "BUCHO", "ｂｕｃｈｏ", " Bucho", "ＢＵＣＨＯ\u{3000}"] {
        case.terminal.try_login(login, "wrong-password", None).await.refused(ProblemCode::BadCredentials);
    }
    for login in ["bucho", "bUCHO", "Ｂucho"] {
        let answer = case.terminal.try_login(login, &password("bucho"), None).await;
        let problem = answer.refused(ProblemCode::LockedOut);
        assert_eq!(problem.retry_after_seconds, Some(60), "the right password waits too");
        assert_eq!(answer.headers["retry-after"], "60");
    }
    // Somebody else is not locked.
    case.terminal.login("kacho").await;
    // After the wait, one more failure locks for longer; then the right password clears the count.
    site.advance(SignedDuration::from_secs(61));
    case.terminal.try_login("bucho", "wrong-password", None).await.refused(ProblemCode::BadCredentials);
    let problem =
        case.terminal.try_login("bucho", &password("bucho"), None).await.refused(ProblemCode::LockedOut);
    assert_eq!(problem.retry_after_seconds, Some(120));
    site.advance(SignedDuration::from_secs(121));
    case.terminal.login("bucho").await;
    case.terminal.try_login("bucho", "wrong-password", None).await.refused(ProblemCode::BadCredentials);
    case.terminal.login("bucho").await;
}

#[tokio::test]
async fn names_that_do_not_exist_are_locked_alike() {
    let site = Site::start().await;
    let case = site.reference().await;
    for _ in 0..5 {
        case.terminal.try_login("dareka", "wrong-password", None).await.refused(ProblemCode::BadCredentials);
    }
    case.terminal.try_login("DAREKA", "wrong-password", None).await.refused(ProblemCode::LockedOut);
}

#[tokio::test]
async fn guesses_in_parallel_do_not_outrun_the_counter() {
    let site = Site::start().await;
    let case = site.reference().await;
    let terminal = Arc::new(case.terminal);
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let terminal = Arc::clone(&terminal);
        guesses.spawn(async move {
            terminal.try_login("bucho", "wrong-password", None).await.body["code"].clone()
        });
    }
    let codes = guesses.join_all().await;
    assert_eq!(codes.iter().filter(|code| **code == "bad-credentials").count(), 5, "{codes:?}");
}

#[tokio::test]
async fn the_lock_survives_a_restart() {
    let mut site = Site::start().await;
    let case = site.reference().await;
    for _ in 0..5 {
        case.terminal.try_login("bucho", "wrong-password", None).await.refused(ProblemCode::BadCredentials);
    }
    site.restart().await;
    let terminal = site.again(case.terminal);
    terminal.try_login("bucho", &password("bucho"), None).await.refused(ProblemCode::LockedOut);
    // The administrator's session from before is still good.
    terminal.get("/v1/sessions/current", Some(&case.admin)).await.ok();
}

async fn with_totp(case: &Reference) -> totp_rs::Totp {
    let mut input = person_input("nibun", vec![], &[]);
    input["new_totp"] = json!(true);
    let person = case.terminal.post("/v1/admin/people", Some(&case.admin), &input).await.created();
    assert_eq!(person.body["has_totp"], true);
    let totp = totp_rs::Totp::from_url(person.body["otpauth"].as_str().unwrap()).unwrap();
    let path = format!("/v1/admin/people/{}", person.body["id"].as_str().unwrap());
    let shown = case.terminal.get(&path, Some(&case.admin)).await.ok();
    assert!(shown.body.get("otpauth").is_none(), "shown once");
    totp
}

#[tokio::test]
async fn a_code_is_good_once_and_for_its_time() {
    let site = Site::start().await;
    let case = site.reference().await;
    let totp = with_totp(&case).await;
    let code = |offset: i64| {
        totp.generate(u64::try_from(site.clock_now().as_second() + offset).unwrap()).to_string()
    };
    let right = password("nibun");
    let mut answers = std::collections::BTreeSet::new();
    for (password, code) in [
        (right.as_str(), None),
        (right.as_str(), Some(code(90))),
        (right.as_str(), Some(code(-90))),
        ("wrong-password", Some(code(0))),
    ] {
        let answer = case.terminal.try_login("nibun", password, code.as_deref()).await;
        answers.insert(answer.refused(ProblemCode::BadCredentials).detail);
    }
    assert_eq!(answers.len(), 1);
    let now = code(0);
    let response: LoginResponse = case.terminal.try_login("nibun", &right, Some(&now)).await.created().to();
    assert!(response.session.second_factor);
    case.terminal.try_login("nibun", &right, Some(&now)).await.refused(ProblemCode::BadCredentials);
    // The step before one that was used is spent too; the next one is good, a little early or late.
    case.terminal.try_login("nibun", &right, Some(&code(-30))).await.refused(ProblemCode::BadCredentials);
    case.terminal.try_login("nibun", &right, Some(&code(30))).await.created();
    site.advance(SignedDuration::from_secs(90));
    case.terminal.try_login("nibun", &right, Some(&code(-30))).await.created();
}

#[tokio::test]
async fn a_session_is_good_on_its_own_terminal_alone() {
    let site = Site::start().await;
    let case = site.reference().await;
    let other = site.another(&case.terminal, &case.admin, None).await;
    let bucho = case.terminal.login("bucho").await;
    other.get("/v1/sessions/current", Some(&bucho)).await.refused(ProblemCode::NotLoggedIn);
    other.get("/v1/admin/people", Some(&case.admin)).await.refused(ProblemCode::NotLoggedIn);
    site.stranger().get("/v1/sessions/current", Some(&bucho)).await.refused(ProblemCode::TerminalNotAccepted);
    case.terminal.get("/v1/sessions/current", None).await.refused(ProblemCode::NotLoggedIn);
    case.terminal.get("/v1/sessions/current", Some("made-up")).await.refused(ProblemCode::NotLoggedIn);
    case.terminal.get("/v1/sessions/current", Some(&bucho)).await.ok();
}

#[tokio::test]
async fn sessions_end() {
    let site = Site::start().await;
    let case = site.reference().await;
    let idle = case.terminal.login("ippan").await;
    let used = case.terminal.login("bucho").await;
    site.advance(SignedDuration::from_mins(119));
    case.terminal.get("/v1/sessions/current", Some(&used)).await.ok();
    site.advance(SignedDuration::from_mins(2));
    case.terminal.get("/v1/sessions/current", Some(&idle)).await.refused(ProblemCode::NotLoggedIn);
    for _ in 0..4 {
        case.terminal.get("/v1/sessions/current", Some(&used)).await.ok();
        site.advance(SignedDuration::from_mins(89));
    }
    site.advance(SignedDuration::from_mins(5));
    case.terminal.get("/v1/sessions/current", Some(&used)).await.refused(ProblemCode::NotLoggedIn);
}

#[tokio::test]
async fn shutting_a_person_out_ends_their_sessions() {
    let site = Site::start().await;
    let case = site.reference().await;
    for change in [json!({ "disabled": true }), json!({ "password": "another-Password-1" })] {
        let mut input = json!({ "login": "bucho", "name": "bucho", "password": password("bucho") });
        let path = format!("/v1/admin/people/{}", case.people["bucho"].id);
        case.terminal.put(&path, Some(&case.admin), &input).await.ok();
        let bucho = case.terminal.login("bucho").await;
        for (field, value) in change.as_object().unwrap() {
            input[field] = value.clone();
        }
        case.terminal.put(&path, Some(&case.admin), &input).await.ok();
        case.terminal.get("/v1/sessions/current", Some(&bucho)).await.refused(ProblemCode::NotLoggedIn);
    }
    let kacho = case.terminal.login("kacho").await;
    let path = format!("/v1/admin/people/{}", case.people["kacho"].id);
    case.terminal.delete(&path, Some(&case.admin)).await.ok();
    case.terminal.get("/v1/sessions/current", Some(&kacho)).await.refused(ProblemCode::NotLoggedIn);
    case.terminal.try_login("kacho", &password("kacho"), None).await.refused(ProblemCode::BadCredentials);
    let (_, bulletin) = case.terminal.bulletin().await;
    assert_eq!(bulletin.revocations.people, [case.people["kacho"].id]);
}

/// Whoever holds an old password begins many logins; the password is changed while they are checked.
#[tokio::test]
async fn no_login_that_was_under_way_outlives_a_change_of_password() {
    let site = Site::start().await;
    let case = site.reference().await;
    let path = format!("/v1/admin/people/{}", case.people["bucho"].id);
    let old = password("bucho");
    let logins = async {
        let mut tokens = Vec::new();
        for answer in futures_of(24, || case.terminal.try_login("bucho", &old, None)).await {
            if let Some(token) = answer.body["token"].as_str() {
                tokens.push(token.to_owned());
            }
        }
        tokens
    };
    let change = async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        let input = json!({ "login": "bucho", "name": "bucho", "password": "another-Password-1" });
        case.terminal.put(&path, Some(&case.admin), &input).await.ok();
    };
    let (tokens, ()) = tokio::join!(logins, change);
    for token in tokens {
        case.terminal.get("/v1/sessions/current", Some(&token)).await.refused(ProblemCode::NotLoggedIn);
    }
}

/// `count` requests at once, in one task.
async fn futures_of<F: Future>(count: usize, make: impl Fn() -> F) -> Vec<F::Output> {
    let mut running: Vec<_> = (0..count).map(|_| Box::pin(make())).collect();
    let mut answers = Vec::with_capacity(count);
    std::future::poll_fn(|context| {
        running.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    answers
}

#[tokio::test]
async fn secrets_are_not_in_the_database_or_the_log_of_acts() {
    let site = Site::start().await;
    let case = site.reference().await;
    let totp = with_totp(&case).await;
    let bucho = case.terminal.login("bucho").await;
    case.terminal.get("/v1/admin/audit?limit=1000", Some(&case.admin)).await.ok();
    let mut bytes = Vec::new();
    for name in ["tobari.db", "tobari.db-wal"] {
        bytes.extend(std::fs::read(site.directory.path().join(name)).unwrap_or_default());
    }
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(holds("みほん市".as_bytes()), "the search works");
    assert!(!holds(bucho.as_bytes()) && !holds(case.admin.as_bytes()), "session tokens");
    assert!(!holds(password("bucho").as_bytes()) && !holds(password(ADMIN).as_bytes()), "passwords");
    assert!(!holds(totp.secret().as_bytes()), "TOTP secrets");
    assert!(!holds(totp.secret().to_base32().as_bytes()), "TOTP secrets");
    assert!(!holds(b"TBRK"), "private keys");
}

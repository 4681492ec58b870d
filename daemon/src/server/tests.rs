use super::*;
use crate::testing::{Authority, FakeKeyServer, Said};
use tobari_core::clock::FixedClock;

const END: &str = "2027-01-01T00:00:00Z";

fn client(url: &str, ca: &Authority, trusted: &Authority, now: &str) -> (KeyServer, tokio::runtime::Runtime) {
    let runtime = crate::run::runtime().unwrap();
    let (certificate, key) = ca.terminal();
    let credentials = Credentials {
        certificate,
        certificate_expires_at: END.parse().unwrap(),
        key,
        ca: trusted.certificate.clone(),
    };
    let clock = Arc::new(FixedClock::new(now.parse().unwrap()));
    let server = KeyServer::new(url.parse().unwrap(), credentials, runtime.handle().clone(), clock).unwrap();
    (server, runtime)
}

#[test]
fn an_object_is_asked_for_with_certificate_and_session_and_not_again_unchanged() {
    let ca = Authority::new();
    let server = FakeKeyServer::start(&ca, |asked| {
        assert!(asked.has_certificate);
        assert_eq!(asked.authorization.as_deref(), Some("Bearer token-1"));
        if asked.if_none_match.as_deref() == Some("\"7\"") {
            return Said { status: 304, ..Said::default() };
        }
        Said { etag: Some("\"7\""), ..Said::json(200, &asked.path) }
    });
    let (client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
    let login = crate::sessions::tests::login(1, END);
    let reply = client.call(Call::get("/v1/x?y").with_token(&login.token)).unwrap();
    let etag = reply.etag.clone().unwrap();
    assert_eq!(reply.object::<String>().unwrap(), "/v1/x?y");
    let again = Call { unless: Some(&etag), ..Call::get("/v1/x").with_token(&login.token) };
    assert_eq!(client.call(again).unwrap().status, StatusCode::NOT_MODIFIED);
    assert_eq!(client.contact().seen_at, Some("2026-01-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn a_problem_passes_through_and_anything_else_becomes_one() {
    let ca = Authority::new();
    let server = FakeKeyServer::start(&ca, |asked| match asked.path.as_str() {
        "/v1/problem" => {
            let mut problem = Problem::local(ProblemCode::LockedOut, "wait");
            problem.status = 429;
            problem.retry_after_seconds = Some(30);
            Said::json(429, &problem)
        }
        _ => Said { status: 502, body: String::from("<html>"), ..Said::default() },
    });
    let (client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
    let problem = client.call(Call::get("/v1/problem")).unwrap().nothing().unwrap_err();
    assert_eq!((problem.code, problem.retry_after_seconds), (ProblemCode::LockedOut, Some(30)));
    let problem = client.call(Call::get("/v1/html")).unwrap().object::<String>().unwrap_err();
    assert_eq!(problem.code, ProblemCode::Internal);
    assert!(problem.detail.contains("502"), "{}", problem.detail);
}

#[test]
fn an_unreachable_server_is_named_with_the_cause_until_it_answers() {
    let ca = Authority::new();
    let (client, _runtime) = client("https://127.0.0.1:1", &ca, &ca, "2026-01-01T00:00:00Z");
    let problem = client.call(Call::get("/v1/bulletin")).err().unwrap();
    assert_eq!(problem.code, ProblemCode::KeyServerUnreachable);
    assert!(problem.detail.contains("https://127.0.0.1:1"), "{}", problem.detail);
    assert!(problem.detail.contains("refused"), "{}", problem.detail);
    assert_eq!(client.contact().error, Some(problem.detail));
}

fn unavailable() -> Said {
    let mut problem = Problem::local(ProblemCode::StoreUnavailable, "no database");
    problem.status = 503;
    Said::json(503, &problem)
}

#[test]
fn another_server_is_asked_when_one_does_not_answer_or_has_no_database() {
    let ca = Authority::new();
    let (asked, noted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let without = {
        let asked = Arc::clone(&asked);
        FakeKeyServer::start(&ca, move |_| {
            asked.fetch_add(1, Ordering::SeqCst);
            unavailable()
        })
    };
    let good = {
        let noted = Arc::clone(&noted);
        FakeKeyServer::start(&ca, move |asked| {
            noted.fetch_add(1, Ordering::SeqCst);
            Said::json(200, &asked.path)
        })
    };
    let urls = format!("https://127.0.0.1:1,{}, {}", without.url, good.url);
    let (client, _runtime) = client(&urls, &ca, &ca, "2026-01-01T00:00:00Z");
    for _ in 0..2 {
        assert_eq!(client.call(Call::get("/v1/x")).unwrap().object::<String>().unwrap(), "/v1/x");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the one that answered is asked first from then on");
    assert_eq!(client.url(), good.url);
    // What must not be done twice goes to no other server once one may have done it.
    let (second, _runtime) = self::client(&urls, &ca, &ca, "2026-01-01T00:00:00Z");
    let before = noted.load(Ordering::SeqCst);
    let create = Call::post("/v1/admin/groups", &"x").unwrap();
    assert_eq!(second.call(create).unwrap().nothing().unwrap_err().code, ProblemCode::StoreUnavailable);
    assert_eq!(noted.load(Ordering::SeqCst), before);
    assert_eq!(asked.load(Ordering::SeqCst), 2, "and the one that was not reached cannot have");
}

#[test]
fn the_last_answer_counts_when_no_server_can() {
    let ca = Authority::new();
    let server = FakeKeyServer::start(&ca, |_| unavailable());
    let urls = format!("https://127.0.0.1:1,{}", server.url);
    let (client, _runtime) = client(&urls, &ca, &ca, "2026-01-01T00:00:00Z");
    let problem = client.call(Call::get("/v1/x")).unwrap().nothing().unwrap_err();
    assert_eq!(problem.code, ProblemCode::StoreUnavailable);
    for text in ["", "https://a,", "https://a,b", "https://a https://b"] {
        assert!(text.parse::<ServerUrls>().is_err(), "{text}");
    }
}

/// When the server was asked.
type Times = Arc<Mutex<Vec<std::time::Instant>>>;

/// A server that notes when it is asked and answers as `say` does with the number of the request.
fn busy(ca: &Authority, say: impl Fn(usize) -> Said + Send + Sync + 'static) -> (FakeKeyServer, Times) {
    let times = Times::default();
    let noted = Arc::clone(&times);
    let server = FakeKeyServer::start(ca, move |_| {
        let mut noted = noted.lock().unwrap();
        noted.push(std::time::Instant::now());
        say(noted.len())
    });
    (server, times)
}

fn problem(status: u16, code: ProblemCode, retry_after_seconds: Option<u64>) -> Said {
    let mut problem = Problem::local(code, "not now");
    problem.status = status;
    problem.retry_after_seconds = retry_after_seconds;
    Said::json(status, &problem)
}

#[test]
fn a_server_that_asks_to_wait_is_asked_again_no_sooner() {
    let ca = Authority::new();
    // With the time in the problem, in the header alone, and by something that answers in the server's place.
    let said: [fn() -> Said; 4] = [
        || problem(429, ProblemCode::TooManyRequests, Some(1)),
        || Said { retry_after: Some(1), ..problem(429, ProblemCode::TooManyRequests, None) },
        || problem(503, ProblemCode::StoreUnavailable, Some(1)),
        || Said { status: 503, body: String::from("<html>"), retry_after: Some(1), ..Said::default() },
    ];
    for say in said {
        let (server, times) =
            busy(&ca, move |number| if number == 1 { say() } else { Said::json(200, &"x") });
        let (client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
        assert_eq!(client.call(Call::get("/v1/x")).unwrap().object::<String>().unwrap(), "x");
        let times = times.lock().unwrap();
        assert_eq!(times.len(), 2);
        assert!(times[1].duration_since(times[0]) >= Duration::from_secs(1));
    }
}

#[test]
fn a_server_that_is_busy_for_long_is_not_hammered_and_the_refusal_is_its_own() {
    let ca = Authority::new();
    // Longer than anybody can be kept waiting: no second request, no pause.
    for (status, code) in [(429, ProblemCode::TooManyRequests), (503, ProblemCode::StoreUnavailable)] {
        let (server, times) = busy(&ca, move |_| problem(status, code, Some(3600)));
        let (client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
        let refused = client.call(Call::get("/v1/x")).unwrap().nothing().unwrap_err();
        assert_eq!((refused.code, refused.retry_after_seconds), (code, Some(3600)));
        assert_eq!(times.lock().unwrap().len(), 1);
    }
    // One that says "at once" for ever is given time all the same, and given up after ten seconds.
    let (server, times) = busy(&ca, |_| problem(429, ProblemCode::TooManyRequests, Some(0)));
    let (client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
    let refused = client.call(Call::get("/v1/x")).unwrap().nothing().unwrap_err();
    assert_eq!(refused.code, ProblemCode::TooManyRequests);
    let times = times.lock().unwrap();
    // At least once; how often, within ten seconds, the machine decides.
    assert!(!times.is_empty());
    let second = Duration::from_secs(1);
    assert!(times.windows(2).all(|pair| pair[1].duration_since(pair[0]) >= second));
}

#[test]
fn what_may_have_been_done_a_locked_name_and_a_push_are_not_sent_again() {
    let ca = Authority::new();
    let (server, times) = busy(&ca, |_| problem(503, ProblemCode::StoreUnavailable, Some(1)));
    let (client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
    let create = Call::post("/v1/admin/groups", &"x").unwrap();
    assert_eq!(client.call(create).unwrap().nothing().unwrap_err().code, ProblemCode::StoreUnavailable);
    let push = Call { patience: Some(Duration::from_secs(60)), ..Call::get("/v1/changes") };
    assert_eq!(client.call(push).unwrap().nothing().unwrap_err().code, ProblemCode::StoreUnavailable);
    assert_eq!(times.lock().unwrap().len(), 2);
    let (server, times) = busy(&ca, |_| problem(429, ProblemCode::LockedOut, Some(1)));
    let (client, _runtime) = self::client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
    let login = Call::post("/v1/sessions", &"x").unwrap();
    assert_eq!(client.call(login).unwrap().nothing().unwrap_err().code, ProblemCode::LockedOut);
    assert_eq!(times.lock().unwrap().len(), 1);
}

#[test]
fn a_server_of_another_ca_is_not_spoken_to() {
    let (ca, other) = (Authority::new(), Authority::new());
    let server = FakeKeyServer::start(&ca, |asked| panic!("it was asked {asked:?}"));
    let (client, _runtime) = client(&server.url, &ca, &other, "2026-01-01T00:00:00Z");
    let problem = client.call(Call::get("/v1/bulletin")).err().unwrap();
    assert_eq!(problem.code, ProblemCode::KeyServerUnreachable);
    assert!(problem.detail.contains("not from the CA"), "{}", problem.detail);
}

#[test]
fn a_server_refuses_a_terminal_of_another_ca() {
    let (ca, other) = (Authority::new(), Authority::new());
    let server = FakeKeyServer::start(&ca, |asked| panic!("it was asked {asked:?}"));
    let (client, _runtime) = client(&server.url, &other, &ca, "2026-01-01T00:00:00Z");
    let problem = client.call(Call::get("/v1/bulletin")).err().unwrap();
    assert_eq!(problem.code, ProblemCode::TerminalNotAccepted, "{}", problem.detail);
}

#[test]
fn an_expired_certificate_is_not_even_shown() {
    let ca = Authority::new();
    let server = FakeKeyServer::start(&ca, |asked| panic!("it was asked {asked:?}"));
    let (client, _runtime) = client(&server.url, &ca, &ca, END);
    let problem = client.call(Call::get("/v1/bulletin")).err().unwrap();
    assert_eq!(problem.code, ProblemCode::CertificateExpired);
    assert!(problem.detail.contains("enrol"), "{}", problem.detail);
}

#[test]
fn only_bare_https_urls_are_key_servers() {
    for good in ["https://keys.example", "https://keys.example:8443/", "https://[::1]:1"] {
        good.parse::<ServerUrl>().unwrap();
    }
    for bad in
        ["", "keys.example", "http://keys.example", "https://u@keys.example", "https://x/y", "https://x?y"]
    {
        assert!(bad.parse::<ServerUrl>().is_err(), "{bad}");
    }
}

#[test]
fn a_request_in_work_ends_when_the_client_is_closed() {
    let ca = Authority::new();
    let (asked, was_asked) = std::sync::mpsc::channel();
    let server = FakeKeyServer::start(&ca, move |_| {
        asked.send(()).unwrap();
        std::thread::park();
        Said::default()
    });
    let (client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| client.call(Call::get("/v1/bulletin")).err().unwrap().code);
        was_asked.recv().unwrap();
        client.close();
        assert_eq!(waits.join().unwrap(), ProblemCode::KeyServerUnreachable);
    });
    assert!(client.call(Call::get("/v1/bulletin")).is_err());
}

/// A server that hears of a request and never answers it.
fn silent(ca: &Authority) -> (FakeKeyServer, Arc<AtomicUsize>, std::sync::mpsc::Receiver<()>) {
    let (heard, was_heard) = std::sync::mpsc::channel();
    let times = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&times);
    let server = FakeKeyServer::start(ca, move |_| {
        noted.fetch_add(1, Ordering::SeqCst);
        let _ = heard.send(());
        loop {
            std::thread::park();
        }
    });
    (server, times, was_heard)
}

fn change(method: Method, path: &str) -> Call<'_> {
    Call { method, body: Some(serde_json::Value::from("x")), ..Call::get(path) }
}

#[test]
fn a_change_is_waited_for_when_anything_else_would_have_been_given_up() {
    let ca = Authority::new();
    let (given_up, was_given_up) = std::sync::mpsc::channel::<()>();
    let was_given_up = Mutex::new(was_given_up);
    let server = FakeKeyServer::start(&ca, move |asked| {
        if asked.path.starts_with("/v1/admin/rules") {
            // A slow change: it takes longer than the client waits for other answers.
            was_given_up.lock().unwrap().recv().unwrap();
            return Said::json(200, &"made");
        }
        loop {
            std::thread::park();
        }
    });
    let (mut client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
    client.timeouts.usual = Duration::from_millis(300);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| client.call(change(Method::PUT, "/v1/admin/rules/x")));
        // The control: the usual time passes, and with it this.
        let problem = client.call(Call::get("/v1/admin/people")).err().unwrap();
        assert_eq!(problem.code, ProblemCode::KeyServerUnreachable);
        assert!(problem.detail.contains("did not answer in time"), "{}", problem.detail);
        given_up.send(()).unwrap();
        assert_eq!(changing.join().unwrap().unwrap().object::<String>().unwrap(), "made");
    });
    assert!(TIMEOUTS.administration > Duration::from_secs(600), "longer than a key server works on it");
}

#[test]
fn a_change_without_an_answer_is_said_to_be_unknown_and_only_what_can_be_repeated_is_sent_again() {
    let ca = Authority::new();
    let asking = |urls: &str, method: &Method, path: &str| {
        let (client, _runtime) = client(urls, &ca, &ca, "2026-01-01T00:00:00Z");
        client.call(change(method.clone(), path)).err().unwrap()
    };
    // It hears of a request, and then nobody hears of it.
    let breaking = || {
        let times = Arc::new(AtomicUsize::new(0));
        let noted = Arc::clone(&times);
        let server = FakeKeyServer::start(&ca, move |_| {
            noted.fetch_add(1, Ordering::SeqCst);
            panic!("the connection breaks off")
        });
        (server, times)
    };
    for (method, path, code, times) in [
        (Method::POST, "/v1/admin/people", ProblemCode::OutcomeUnknown, 1),
        (Method::DELETE, "/v1/admin/people/x", ProblemCode::OutcomeUnknown, 1),
        (Method::PUT, "/v1/admin/people/x", ProblemCode::OutcomeUnknown, 2),
        // What changes nothing there has not been reached, and that is all.
        (Method::POST, "/v1/admin/policy/diff", ProblemCode::KeyServerUnreachable, 1),
        (Method::GET, "/v1/admin/people", ProblemCode::KeyServerUnreachable, 2),
    ] {
        let ((first, of_first), (second, of_second)) = (breaking(), breaking());
        let problem = asking(&format!("{},{}", first.url, second.url), &method, path);
        assert_eq!(problem.code, code, "{method} {path}: {}", problem.detail);
        let asked = of_first.load(Ordering::SeqCst) + of_second.load(Ordering::SeqCst);
        assert_eq!(asked, times, "{method} {path}");
        // That the last one cannot be reached says nothing of the one before, which may have done it.
        let problem = asking(&format!("{},https://127.0.0.1:1", first.url), &method, path);
        assert_eq!(problem.code, code, "{method} {path}");
        // What was sent to nobody was not done.
        let problem = asking("https://127.0.0.1:1", &method, path);
        assert_eq!(problem.code, ProblemCode::KeyServerUnreachable, "{method} {path}");
    }
}

#[test]
fn a_change_that_takes_too_long_is_unknown_too() {
    let ca = Authority::new();
    let (server, _, _) = silent(&ca);
    let (mut client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
    client.timeouts.administration = Duration::from_millis(300);
    let problem = client.call(change(Method::PUT, "/v1/admin/rules/x")).err().unwrap();
    assert_eq!(problem.code, ProblemCode::OutcomeUnknown, "{}", problem.detail);
    assert!(problem.detail.contains("did not answer in time"), "{}", problem.detail);
}

#[test]
fn a_change_in_work_is_unknown_when_the_daemon_stops_and_none_is_begun_then() {
    let ca = Authority::new();
    let (server, times, was_heard) = silent(&ca);
    let (client, _runtime) = client(&server.url, &ca, &ca, "2026-01-01T00:00:00Z");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| client.call(change(Method::POST, "/v1/admin/people")).err().unwrap().code);
        was_heard.recv().unwrap();
        client.close();
        assert_eq!(waits.join().unwrap(), ProblemCode::OutcomeUnknown);
    });
    let problem = client.call(change(Method::POST, "/v1/admin/people")).err().unwrap();
    assert_eq!(problem.code, ProblemCode::KeyServerUnreachable);
    assert_eq!(times.load(Ordering::SeqCst), 1);
}

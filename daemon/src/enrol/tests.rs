use super::*;
use crate::bulletin::tests::{ORGANISATION, bulletin, signed};
use crate::testing::{Asked, Authority, FakeKeyServer, Said};
use std::path::Path;
use tobari_core::clock::SystemClock;
use tobari_core::crypto::SigningKey;
use tobari_core::proto::problem::ProblemCode;

const TERMINAL: TerminalId = TerminalId::from_bytes([7; 16]);

struct Case {
    ca: Arc<Authority>,
    server: FakeKeyServer,
    directory: tempfile::TempDir,
}

/// A key server that takes the token `good`; `spoil` changes its answer.
fn case(host: &str, spoil: fn(&mut EnrolResponse, &Authority)) -> Case {
    let ca = Arc::new(Authority::new());
    let signing = SigningKey::generate().unwrap();
    let server = FakeKeyServer::start_as(&ca, host, {
        let ca = Arc::clone(&ca);
        move |asked: Asked| {
            assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/terminals/enrol"));
            assert!(!asked.has_certificate);
            let request: EnrolRequest = serde_json::from_value(asked.body).unwrap();
            if request.token != "good" {
                return Said::json(401, &Problem::local(ProblemCode::BadEnrolmentToken, "the token is used"));
            }
            assert_eq!((request.name.as_str(), request.grant_key.0.len()), ("窓口1", 65));
            let mut response = EnrolResponse {
                terminal: TERMINAL,
                certificate_pem: ca.sign(&request.csr_pem),
                ca_pem: ca.pem.clone(),
                organisation: ORGANISATION,
                signing_key: Base64(signing.verifying_key().to_bytes().to_vec()),
                bulletin: signed(&signing, &bulletin(1)),
            };
            spoil(&mut response, &ca);
            Said::json(200, &response)
        }
    });
    Case { ca, server, directory: tempfile::tempdir().unwrap() }
}

impl Case {
    fn settings(&self) -> EnrolSettings {
        EnrolSettings {
            server: self.server.url.clone(),
            ca_sha256: Fingerprint::of(&self.ca.certificate).to_string(),
            token: Zeroizing::new(String::from("good\n")),
            state_dir: self.directory.path().join("state"),
            name: String::from("窓口1"),
            force: false,
        }
    }
}

fn run(settings: &EnrolSettings) -> Result<TerminalId, EnrolError> {
    let runtime = crate::run::runtime().unwrap();
    enrol(settings, runtime.handle(), Arc::new(SystemClock))
}

/// What a refused enrolment says; nothing may be kept of it.
fn refused(settings: &EnrolSettings) -> Problem {
    let problem = match run(settings).unwrap_err() {
        EnrolError::Refused(problem) => problem,
        other => panic!("{other}"),
    };
    assert!(!settings.state_dir.join("enrolment").exists());
    problem
}

#[test]
fn a_host_becomes_a_terminal() {
    let case = case("127.0.0.1", |_, _| ());
    let settings = case.settings();
    assert_eq!(run(&settings).unwrap(), TERMINAL);
    let state = StateDir::open(&settings.state_dir).unwrap();
    let enrolment = state.load().unwrap();
    assert_eq!(enrolment.terminal.server, case.server.url);
    assert_eq!(enrolment.ca, case.ca.certificate);
    crate::bulletin::Bulletins::load(enrolment.signing_key, ORGANISATION, state.bulletin()).unwrap();
}

#[test]
fn a_bad_token_passes_through() {
    let case = case("127.0.0.1", |_, _| ());
    let problem = refused(&EnrolSettings { token: Zeroizing::new(String::from("bad")), ..case.settings() });
    assert_eq!(
        (problem.code, problem.detail.as_str()),
        (ProblemCode::BadEnrolmentToken, "the token is used")
    );
    let empty = EnrolSettings { token: Zeroizing::new(String::from(" \n")), ..case.settings() };
    assert!(matches!(run(&empty), Err(EnrolError::EmptyToken)));
}

#[test]
fn another_ca_than_the_pinned_one_is_named() {
    let case = case("127.0.0.1", |_, _| panic!("it was asked"));
    let pin = "00".repeat(32);
    let problem = refused(&EnrolSettings { ca_sha256: pin.clone(), ..case.settings() });
    assert_eq!(problem.code, ProblemCode::KeyServerUnreachable);
    assert!(problem.detail.contains(&pin), "{}", problem.detail);
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let case = case("192.0.2.1", |_, _| panic!("it was asked"));
    let problem = refused(&case.settings());
    assert!(problem.detail.contains("not valid for"), "{}", problem.detail);
}

#[test]
fn a_server_that_is_down_is_named() {
    let case = case("127.0.0.1", |_, _| ());
    let problem = refused(&EnrolSettings { server: String::from("https://127.0.0.1:1"), ..case.settings() });
    assert!(problem.detail.contains("https://127.0.0.1:1"), "{}", problem.detail);
}

#[test]
fn an_enrolment_is_not_overwritten_and_the_token_not_spent() {
    let case = case("127.0.0.1", |_, _| ());
    run(&case.settings()).unwrap();
    // Not even asked: the server would refuse this token.
    let again = EnrolSettings { token: Zeroizing::new(String::from("bad")), ..case.settings() };
    assert!(matches!(run(&again), Err(EnrolError::State(StateError::AlreadyEnrolled(_)))));
    run(&EnrolSettings { force: true, ..case.settings() }).unwrap();
}

#[test]
fn an_answer_that_does_not_hold_together_is_refused() {
    let spoils: [fn(&mut EnrolResponse, &Authority); 4] = [
        |response, _| response.ca_pem = Authority::new().pem,
        |response, ca| response.certificate_pem = ca.pem.clone(),
        |response, _| response.organisation = tobari_core::ids::OrganisationId::from_bytes([1; 16]),
        |response, _| {
            let other = SigningKey::generate().unwrap();
            response.bulletin = signed(&other, &bulletin(1));
        },
    ];
    for spoil in spoils {
        let case = case("127.0.0.1", spoil);
        assert!(matches!(run(&case.settings()), Err(EnrolError::Answer(_))));
        assert!(!Path::new(&case.settings().state_dir).join("enrolment").exists());
    }
}

#[test]
fn arguments_are_checked_before_anything_is_done() {
    let case = case("127.0.0.1", |_, _| ());
    let settings = EnrolSettings { server: String::from("http://x"), ..case.settings() };
    assert!(matches!(run(&settings), Err(EnrolError::Server(_))));
    let settings = EnrolSettings { ca_sha256: String::from("x"), ..case.settings() };
    assert!(matches!(run(&settings), Err(EnrolError::Fingerprint(_))));
    assert!(!settings.state_dir.exists());
}

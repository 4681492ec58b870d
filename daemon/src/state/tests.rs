use super::*;
use rcgen::{CertificateParams, KeyPair};
use std::os::unix::fs::PermissionsExt as _;
use tobari_core::crypto::SigningKey;

/// Installs an enrolment with fresh keys and a self-made certificate; gives the bulletin's signing key.
pub(crate) fn enrol_for_test(state: &StateDir, name: &str, force: bool) -> Result<SigningKey, StateError> {
    let signing = SigningKey::generate().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![String::from("terminal")]).unwrap();
    params.not_after = rcgen::date_time_ymd(2030, 1, 2);
    let certificate = params.self_signed(&key).unwrap();
    let terminal = Terminal {
        version: VERSION,
        terminal: TerminalId::from_bytes([7; 16]),
        name: name.to_owned(),
        organisation: OrganisationId::from_bytes([9; 16]),
        server: String::from("https://127.0.0.1:1"),
        signing_key: Base64(signing.verifying_key().to_bytes().to_vec()),
        enrolled_at: Timestamp::UNIX_EPOCH,
    };
    let new = NewEnrolment {
        terminal: &terminal,
        certificate_pem: &certificate.pem(),
        tls_key_pem: &key.serialize_pem(),
        ca_pem: &certificate.pem(),
        grant_key: &GrantKeyPair::generate().unwrap(),
        bulletin: b"{}",
    };
    state.install(&new, force).map(|()| signing)
}

#[test]
fn an_enrolment_is_kept_privately_and_loaded_again() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/state");
    let state = StateDir::open(&path).unwrap();
    assert!(matches!(state.load(), Err(StateError::NotEnrolled(_))));
    let signing = enrol_for_test(&state, "窓口1", false).unwrap();
    let loaded = state.load().unwrap();
    assert_eq!(loaded.terminal.name, "窓口1");
    assert_eq!(loaded.signing_key, signing.verifying_key());
    assert_eq!(loaded.certificate_expires_at, "2030-01-02T00:00:00Z".parse().unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let enrolment = path.join(ENROLMENT);
    assert_eq!(mode(&enrolment), 0o700);
    for entry in std::fs::read_dir(&enrolment).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn an_enrolment_is_replaced_only_by_force_and_as_a_whole() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(root.path()).unwrap();
    enrol_for_test(&state, "old", false).unwrap();
    assert!(matches!(enrol_for_test(&state, "new", false), Err(StateError::AlreadyEnrolled(_))));
    assert_eq!(state.load().unwrap().terminal.name, "old");
    let signing = enrol_for_test(&state, "new", true).unwrap();
    let loaded = state.load().unwrap();
    assert_eq!(loaded.terminal.name, "new");
    assert_eq!(loaded.signing_key, signing.verifying_key());
    assert!(!root.path().join(INCOMING).exists());
}

#[test]
fn a_second_process_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let first = StateDir::open(root.path()).unwrap();
    assert!(matches!(StateDir::open(root.path()), Err(StateError::InUse(_))));
    drop(first);
    StateDir::open(root.path()).unwrap();
}

#[test]
fn a_damaged_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(root.path()).unwrap();
    enrol_for_test(&state, "x", false).unwrap();
    for name in [TERMINAL, CERTIFICATE, TLS_KEY, CA, GRANT_KEY] {
        let path = root.path().join(ENROLMENT).join(name);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, b"nonsense").unwrap();
        match state.load() {
            Err(StateError::Damaged { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{name}: {other:?}"),
        }
        std::fs::write(&path, good).unwrap();
    }
    state.load().unwrap();
}

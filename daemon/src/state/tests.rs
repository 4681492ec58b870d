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

fn machine(product: &str) -> Machine {
    use crate::protect::machine::Source;
    crate::protect::machine::tests::machine(&[(Source::ProductUuid, product), (Source::MachineId, "3d12")])
}

/// What makes two enrolments the same.
fn keys(enrolment: &Enrolment) -> (Vec<u8>, Vec<u8>) {
    (enrolment.tls_key.secret_der().to_vec(), enrolment.grant_key.export().to_vec())
}

#[test]
fn private_keys_lie_sealed_to_the_machine() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(root.path()).unwrap().on(machine("a"));
    assert_eq!(state.protection(), Protection::Machine);
    enrol_for_test(&state, "x", false).unwrap();
    let enrolment = state.load().unwrap();
    assert_eq!(enrolment.guard.protection(), Protection::Machine);
    let grant_key = enrolment.grant_key.export();
    for entry in std::fs::read_dir(root.path().join(ENROLMENT)).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(!holds(b"PRIVATE KEY") && !holds(&grant_key));
    }
    let elsewhere = state.on(machine("b"));
    assert!(matches!(elsewhere.load(), Err(StateError::OtherMachine { .. })));
    // Which does not stop anybody from enrolling again.
    enrol_for_test(&elsewhere, "y", true).unwrap();
    assert_eq!(elsewhere.load().unwrap().terminal.name, "y");
}

#[test]
fn plain_keys_of_before_are_sealed_at_the_next_start_whatever_cuts_it() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDir::open(root.path()).unwrap().on(Machine::default());
    enrol_for_test(&state, "x", false).unwrap();
    let plain = state.load().unwrap();
    assert_eq!(plain.guard.protection(), Protection::None);
    let enrolment = root.path().join(ENROLMENT);
    assert!(!enrolment.join(protect::FILE).exists());
    // A renewal of before, too.
    let certificate = std::fs::read_to_string(enrolment.join(CERTIFICATE)).unwrap();
    let key = std::fs::read_to_string(enrolment.join(TLS_KEY)).unwrap();
    files::create(&enrolment.join(RENEWED), format!("{key}{certificate}").as_bytes()).unwrap();
    let names = [TLS_KEY, GRANT_KEY, RENEWED];
    let before = names.map(|name| std::fs::read(enrolment.join(name)).unwrap());

    let state = state.on(machine("a"));
    let sealed = state.load().unwrap();
    assert_eq!((keys(&sealed), sealed.guard.protection()), (keys(&plain), Protection::Machine));
    let after = names.map(|name| std::fs::read(enrolment.join(name)).unwrap());
    // A cut leaves each file plain or sealed, whatever the others are.
    for pattern in 0..8_u8 {
        for (index, name) in names.iter().enumerate() {
            let bytes = if pattern >> index & 1 == 0 { &before[index] } else { &after[index] };
            files::replace(&enrolment, name, bytes).unwrap();
        }
        assert_eq!(keys(&state.load().unwrap()), keys(&plain), "{pattern:03b}");
        for name in names {
            let bytes = std::fs::read(enrolment.join(name)).unwrap();
            assert!(bytes.starts_with(b"tobari sealed 1\n"), "{name} {pattern:03b}");
        }
    }
    // Without what seals them they are lost, and no other wrapping key hides that.
    std::fs::remove_file(enrolment.join(protect::FILE)).unwrap();
    assert!(matches!(state.load(), Err(StateError::Damaged { path, .. }) if path.ends_with(RENEWED)));
    assert!(!enrolment.join(protect::FILE).exists());
}

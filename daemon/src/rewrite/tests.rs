use super::*;
use crate::testing::{Differs, LABEL, LOWER, Sample, Site, sealed_file};
use std::fs::File;
use std::path::PathBuf;
use tobari_core::crypto::RecipientKind;
use tobari_core::envelope::MemoryStorage;
use tobari_core::ids::LabelId;
use tobari_core::policy::Rights;
use tobari_core::proto::api::LoginRequest;

const CALLER: Caller = Caller { uid: 1000 };

struct Case {
    site: Site,
    samples: Vec<Sample>,
}

fn plaintext(number: usize) -> Vec<u8> {
    format!("{number}: 社外秘\n").repeat(1 + number * 700).into_bytes()
}

/// Three sealed files, `0` to `2`, and a caller who is logged in.
fn case(differs: Differs) -> Case {
    let directory = tempfile::tempdir().unwrap();
    let samples: Vec<Sample> =
        (0..3).map(|n| sealed_file(&directory.path().join(n.to_string()), &plaintext(n))).collect();
    let site = Site::start(directory, &samples.iter().collect::<Vec<_>>(), differs, |_| None);
    let login =
        LoginRequest { login: String::from("person1"), password: String::from("correct"), totp: None };
    site.service.login(CALLER, &login).unwrap();
    Case { site, samples }
}

impl Case {
    fn path(&self, name: &str) -> PathBuf {
        self.site.directory.path().join(name)
    }

    fn writable(&self, name: &str) -> OwnedFd {
        File::options().read(true).write(true).open(self.path(name)).unwrap().into()
    }

    fn run(&self, change: NewHeader, files: Vec<OwnedFd>) -> Result<Vec<Rewritten>, Failure> {
        let mut batch = Rewriting::new(change);
        for (number, file) in files.into_iter().enumerate() {
            batch.add(format!("name {number}"), file)?;
        }
        match batch.finish(&self.site.service, CALLER, &|_, _| ())? {
            Answer::Rewritten { outcomes } => Ok(outcomes),
            _ => panic!("another answer"),
        }
    }

    fn all(&self, change: NewHeader) -> Vec<Rewritten> {
        self.run(change, ["0", "1", "2"].map(|name| self.writable(name)).into()).unwrap()
    }

    /// The header of a file that opens with its key to its contents.
    fn opened(&self, number: usize) -> Header {
        let file = File::open(self.path(&number.to_string())).unwrap();
        let header = Header::read(&file).unwrap();
        let mut plain = Vec::new();
        open_stream(&file, &header, &self.samples[number].dek, &mut plain, &mut |_| ()).unwrap();
        assert!(plain == plaintext(number));
        header
    }
}

const DOWN: NewHeader = NewHeader::Label { label: LOWER };

/// The outcome's code; none when there was no failure.
fn code(outcome: &Rewritten) -> Option<ProblemCode> {
    match outcome {
        Rewritten::Failed { problem, .. } => Some(problem.code),
        Rewritten::Done | Rewritten::Current => None,
    }
}

#[test]
fn a_label_and_its_newest_key_are_given_once() {
    let case = case(Differs::default());
    let sizes = |case: &Case| [0, 1, 2].map(|n| std::fs::metadata(case.path(&n.to_string())).unwrap().len());
    let before = sizes(&case);
    assert!(case.all(DOWN).iter().all(|outcome| matches!(outcome, Rewritten::Done)));
    assert_eq!(*case.site.new_labels.lock().unwrap(), [Some(LOWER); 3]);
    for (number, sample) in case.samples.iter().enumerate() {
        let header = case.opened(number);
        let policy = header.policy();
        assert_eq!((policy.label, policy.label_level, policy.label_name.as_str()), (LOWER, 10, "公開"));
        assert_eq!((policy.generation, header.file_id()), (3, sample.header.file_id()));
        assert_eq!(policy.sealed_at, case.site.service.now());
        assert_eq!(header.stanzas().len(), 2);
        // The three share an encapsulation, as files that are sealed together do.
        assert_eq!(
            header.stanzas()[0].encapsulation_hash(),
            case.opened(0).stanzas()[0].encapsulation_hash()
        );
    }
    assert_eq!(sizes(&case), before);
    // Nothing is left to do, and so no grant is asked for.
    let headers = [0, 1, 2].map(|number| case.opened(number));
    for change in [DOWN, NewHeader::Keys] {
        assert!(case.all(change).iter().all(|outcome| matches!(outcome, Rewritten::Current)));
    }
    assert_eq!(case.site.new_labels.lock().unwrap().len(), 3);
    assert_eq!([0, 1, 2].map(|number| case.opened(number)), headers);
    // Up again: the keys of that label.
    assert!(case.all(NewHeader::Label { label: LABEL }).iter().all(|outcome| code(outcome).is_none()));
    assert_eq!(case.opened(2).policy().generation, 1);
}

#[test]
fn a_bad_file_of_a_batch_stops_no_other() {
    let case = case(Differs::default());
    std::fs::write(case.path("plain"), b"not sealed").unwrap();
    std::fs::write(
        case.path("damaged"),
        [&std::fs::read(case.path("0")).unwrap()[..60], &[0; 9000]].concat(),
    )
    .unwrap();
    let stranger = sealed_file(&case.path("unknown"), b"its key is nowhere");
    let locked = File::open(case.path("1")).unwrap();
    flock(&locked, FlockOperation::NonBlockingLockExclusive).unwrap();
    let files = vec![
        case.writable("plain"),
        case.writable("damaged"),
        case.writable("unknown"),
        File::open(case.path("0")).unwrap().into(),
        case.writable("1"),
        File::open(case.site.directory.path()).unwrap().into(),
        case.writable("2"),
        case.writable("2"),
    ];
    let outcomes = case.run(DOWN, files).unwrap();
    let codes: Vec<_> = outcomes.iter().map(code).collect();
    let unreadable = Some(ProblemCode::UnreadableEnvelope);
    assert_eq!(codes[..2], [unreadable, unreadable]);
    assert!(codes[2].is_some(), "no key for it");
    assert_eq!(codes[4], Some(ProblemCode::Conflict));
    assert!(codes[3].is_some() && codes[5].is_some(), "read-only, a folder");
    assert!(matches!(outcomes[6..], [Rewritten::Done, Rewritten::Current]));
    assert_eq!(case.opened(0), case.samples[0].header);
    assert_eq!(case.opened(1), case.samples[1].header);
    assert_eq!(case.opened(2).policy().label, LOWER);
    assert_eq!(Header::read(&File::open(case.path("unknown")).unwrap()).unwrap(), stranger.header);
    // Both names again, now as wanted.
    let again = case.run(DOWN, vec![case.writable("2"), case.writable("2")]).unwrap();
    assert!(matches!(again[..], [Rewritten::Current, Rewritten::Current]));
}

#[test]
fn nothing_is_done_without_login_right_or_label() {
    let rights: Rights = [Right::View, Right::Decrypt].into_iter().collect();
    let case = case(Differs { rights, ..Differs::default() });
    let outcomes = case.all(DOWN);
    assert!(outcomes.iter().all(|outcome| code(outcome) == Some(ProblemCode::RightRefused)), "{outcomes:?}");
    let source = Source::new(case.writable("1")).unwrap();
    let sink =
        File::options().read(true).write(true).create(true).truncate(false).open(case.path("new")).unwrap();
    let refused =
        reseal(&case.site.service, CALLER, "1", &source, sink.into(), &mut |_, _| ()).err().unwrap();
    assert_eq!(refused.problem.code, ProblemCode::RightRefused);
    assert_eq!(std::fs::metadata(case.path("new")).unwrap().len(), 0);

    let unknown = NewHeader::Label { label: LabelId::from_bytes([99; 16]) };
    let refused = case.run(unknown, vec![case.writable("0")]).unwrap_err();
    assert_eq!(refused.problem.code, ProblemCode::NotFound);
    let mut batch = Rewriting::new(DOWN);
    for number in 0..MAX_REWRITE {
        batch.add(number.to_string(), case.writable("0")).unwrap();
    }
    let refused = batch.add(String::from("one more"), case.writable("0")).unwrap_err();
    assert_eq!(refused.problem.code, ProblemCode::TooLarge);
    case.site.service.logout(CALLER).unwrap();
    let refused = case.run(DOWN, vec![case.writable("0")]).unwrap_err();
    assert_eq!(refused.problem.code, ProblemCode::NotLoggedIn);
    assert_eq!(
        [0, 1, 2].map(|number| case.opened(number)),
        [0, 1, 2].map(|n| case.samples[n].header.clone())
    );
}

/// What a change leaves when it is cut short at each of its points.
fn interrupted(case: &Case) -> Vec<Vec<u8>> {
    let old = std::fs::read(case.path("1")).unwrap();
    let (sample, storage) = (&case.samples[1], MemoryStorage::from(old.clone()));
    let key = tobari_core::crypto::RecipientPrivateKey::generate(RecipientKind::RsaOaep).unwrap();
    let epoch = Epoch::new(&[key.public().clone()]).unwrap();
    let policy = FilePolicy { label_level: 7, ..sample.header.policy().clone() };
    let header = relabel(&storage, &sample.header, &sample.dek, policy, &epoch).unwrap();
    let new = storage.into_bytes();
    let wire = header.wire_bytes();
    let hash = tobari_core::crypto::sha256(&[wire]);
    let size = u32::try_from(wire.len()).unwrap().to_le_bytes();
    let copy = [&b"\x89TBN\r\n\x1a\n"[..], &size, &[0; 4], &hash, wire].concat();
    let with = |bytes: &[u8], at: usize, piece: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + piece.len()].copy_from_slice(piece);
        bytes
    };
    vec![
        with(&old, 1536, &copy[..512]),
        with(&old, 1536, &copy),
        with(&with(&old, 1536, &copy), 0, &new[..512]),
        with(&new, 1536, &copy),
        with(&new, 2048, &copy[512..]),
    ]
}

#[test]
fn a_change_that_was_cut_short_is_ended_and_then_the_wanted_one_made() {
    let case = case(Differs::default());
    for (point, bytes) in interrupted(&case).into_iter().enumerate() {
        std::fs::write(case.path("1"), &bytes).unwrap();
        case.opened(1);
        assert!(header_change_pending(&File::open(case.path("1")).unwrap()).unwrap(), "{point}");
        let outcomes = case.run(DOWN, vec![case.writable("1")]).unwrap();
        assert!(matches!(outcomes[..], [Rewritten::Done]), "{point}: {outcomes:?}");
        assert_eq!(case.opened(1).policy().label, LOWER);
        assert!(!header_change_pending(&File::open(case.path("1")).unwrap()).unwrap());
        let outcomes = case.run(DOWN, vec![case.writable("1")]).unwrap();
        assert!(matches!(outcomes[..], [Rewritten::Current]), "{point}: {outcomes:?}");
    }
}

#[test]
fn reseal_makes_a_new_file_of_the_same_contents_and_nothing_of_a_damaged_one() {
    let case = case(Differs::default());
    let new = |name: &str| {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).open(case.path(name)).unwrap()
    };
    for number in 0..3 {
        let source = Source::new(case.writable(&number.to_string())).unwrap();
        let sink = new(&format!("new {number}"));
        let bytes = plaintext(number).len() as u64;
        let answer = reseal(
            &case.site.service,
            CALLER,
            "x",
            &source,
            sink.try_clone().unwrap().into(),
            &mut |_, _| (),
        );
        assert!(matches!(answer.ok().unwrap(), Answer::Written { bytes: found, .. } if found == bytes));
        let header = Header::read(&sink).unwrap();
        assert_ne!(header.file_id(), case.samples[number].header.file_id());
        assert_eq!(header.policy().label, LABEL);
        assert!(header.authenticate(&case.samples[number].dek).is_err(), "another key");
    }
    assert!(case.site.new_labels.lock().unwrap().iter().all(|label| *label == Some(LABEL)));
    // Not empty; the file itself; damaged in its last byte.
    let source = Source::new(case.writable("2")).unwrap();
    let full = case.writable("new 0");
    for sink in [full, case.writable("2")] {
        let refused = reseal(&case.site.service, CALLER, "x", &source, sink, &mut |_, _| ()).err().unwrap();
        assert_eq!(refused.problem.code, ProblemCode::InvalidRequest);
    }
    let mut bytes = std::fs::read(case.path("2")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(case.path("2"), bytes).unwrap();
    let source = Source::new(case.writable("2")).unwrap();
    let refused =
        reseal(&case.site.service, CALLER, "x", &source, new("never").into(), &mut |_, _| ()).err().unwrap();
    assert_eq!(refused.problem.code, ProblemCode::CorruptEnvelope);
}

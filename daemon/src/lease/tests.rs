//! A terminal with a lease, and clocks that are set; the tests themselves lie in the files beside.

mod clock;
mod confirmed;
mod created;
mod ends;
mod login;
mod openings;
mod receipt;
mod refill;
mod state;
mod tpm;

use super::*;
use crate::grants::tests::{log_key, log_signer, receipt_of};
use crate::sessions::tests::login as session_of;
use crate::testing::{LABEL, Sample, sealed_file};
use jiff::SignedDuration;
use std::num::NonZeroU32;
use std::path::PathBuf;
use tobari_core::crypto::{GrantSealer, SigningKey};
use tobari_core::ids::FileId;
use tobari_core::lease::{BootClock, LeaseBinding, lease_info, sign};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::lease::{
    Lease, LeaseFile, LeaseInHand, LeaseOpened, LeaseSyncAnswer, Narrowing, Opens, SignedLease, Term,
};

const ORGANISATION: OrganisationId = OrganisationId::from_bytes([9; 16]);
const TERMINAL: TerminalId = TerminalId::from_bytes([7; 16]);
const PERSON: PersonId = PersonId::from_bytes([1; 16]);
const LEASE: LeaseId = LeaseId::from_bytes([8; 16]);
const START: &str = "2026-06-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Clocks that stand still until they are set.
struct TestClocks(Mutex<Reading>);

impl TestClocks {
    /// Both clocks go on by so many seconds; the wall clock by `wall`.
    fn go(&self, wall: i64, boot: i64) {
        let mut reading = self.0.lock().unwrap();
        reading.wall = reading.wall.checked_add(SignedDuration::from_secs(wall)).unwrap();
        reading.boot.elapsed += boot * 1_000_000;
    }

    fn reboot(&self) {
        let mut reading = self.0.lock().unwrap();
        reading.boot = BootClock { boot: [reading.boot.boot[0] + 1; 16], elapsed: 1 };
    }
}

impl Clocks for TestClocks {
    fn read(&self) -> std::io::Result<Reading> {
        Ok(*self.0.lock().unwrap())
    }
}

struct Case {
    directory: tempfile::TempDir,
    key: Vec<u8>,
    signing: SigningKey,
    clocks: Arc<TestClocks>,
    sample: Sample,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sample = sealed_file(&directory.path().join("file"), b"contents");
        let boot = BootClock { boot: [1; 16], elapsed: 1_000_000 };
        Self {
            key: GrantKeyPair::generate().unwrap().export().to_vec(),
            signing: SigningKey::generate().unwrap(),
            clocks: Arc::new(TestClocks(Mutex::new(Reading { wall: at(START), boot }))),
            sample,
            directory,
        }
    }

    fn folder(&self) -> PathBuf {
        self.directory.path().join("leases")
    }

    fn key(&self) -> GrantKeyPair {
        GrantKeyPair::import(&self.key).unwrap()
    }

    fn load_with(&self, key: GrantKeyPair) -> Leases {
        let identity = Identity {
            organisation: ORGANISATION,
            terminal: TERMINAL,
            signing_key: self.signing.verifying_key(),
            grant_key: key,
            log: log_key(),
        };
        Leases::load(&self.folder(), identity, Arc::clone(&self.clocks) as _).unwrap()
    }

    fn load(&self) -> Leases {
        self.load_with(self.key())
    }

    /// A lease of three days to view and send.
    fn lease(&self, opens: Opens) -> SignedLease {
        self.lease_of(opens, None)
    }

    /// The same, asked for the label or for the file.
    fn lease_of(&self, opens: Opens, label: Option<LabelId>) -> SignedLease {
        self.lease_with(&[&self.sample], |lease| (lease.opens, lease.label) = (opens, label))
    }

    /// A lease of three days to view and send these files, with what `change` makes of it before it is sealed and signed.
    fn lease_with(&self, samples: &[&Sample], change: impl FnOnce(&mut Lease)) -> SignedLease {
        let term = Term { starts_at: at(START), ends_at: at("2026-06-04T00:00:00Z") };
        let files = (1..).zip(samples).map(|(audit, sample)| LeaseFile {
            file: sample.header.file_id(),
            label: LABEL,
            owner_group: None,
            name: Some(String::from("file")),
            rights: [Right::View, Right::Send].into_iter().collect(),
            ends_at: term.ends_at,
            audit,
            sealed_dek: Base64(Vec::new()),
        });
        let mut lease = Lease {
            version: 1,
            id: LEASE,
            organisation: ORGANISATION,
            terminal: TERMINAL,
            person: PERSON,
            login: String::from("person1"),
            name: String::from("名前"),
            issued_at: at(START),
            term,
            opens: Opens::Unlimited,
            label: None,
            encapsulated_key: Base64(Vec::new()),
            files: files.collect(),
        };
        change(&mut lease);
        let info = lease_info(ORGANISATION, TERMINAL, LEASE);
        let (encapsulated, mut sealer) = GrantSealer::new(&self.key().public(), &info).unwrap();
        lease.encapsulated_key = Base64(encapsulated);
        let mut records = Vec::new();
        for (file, sample) in lease.files.iter_mut().zip(samples) {
            let binding = LeaseBinding {
                file: file.file,
                label: file.label,
                owner_group: file.owner_group,
                person: lease.person,
                rights: file.rights,
                starts_at: lease.term.starts_at,
                ends_at: file.ends_at,
            };
            file.sealed_dek = Base64(sealer.seal(&binding.aad(), &sample.dek).unwrap());
            records.push(released(file.file, file.rights));
        }
        let mut signed = sign(&lease, &self.signing).unwrap();
        signed.receipt = Some(receipt_of(records, &log_signer(5)));
        signed
    }

    /// A terminal that has just fetched the lease.
    fn holding(&self, opens: Opens) -> Leases {
        let leases = self.load();
        assert!(!settle(&leases, 0, vec![self.lease(opens)]));
        leases
    }

    fn wanted(&self) -> Wanted {
        crate::open::wanted(&self.sample.header, "file")
    }

    fn open_as(&self, leases: &Leases, person: u8, right: Right) -> Option<Result<LeaseKey, Failure>> {
        leases.open(&session_of(person, "2027-01-01T00:00:00Z"), &[&self.wanted()], right).pop().unwrap()
    }

    fn opens(&self, leases: &Leases) -> LeaseKey {
        self.open_as(leases, 1, Right::View).unwrap().unwrap()
    }

    /// Why the file does not open.
    fn refusal(&self, leases: &Leases) -> String {
        let failure = self.open_as(leases, 1, Right::View).unwrap().err().unwrap();
        assert_eq!(failure.problem.code, ProblemCode::LeaseRefused, "{failure:?}");
        failure.problem.field.unwrap()
    }
}

/// The key server answers that it has everything up to `accepted` and sends `leases`.
fn settle(leases: &Leases, accepted: u64, sent: Vec<SignedLease>) -> bool {
    let time = leases.time.reading().unwrap().wall;
    leases.settle(LeaseSyncAnswer { accepted, leases: sent, ..nothing(time) }).unwrap()
}

/// The key server has nothing to say but the time.
fn nothing(time: Timestamp) -> LeaseSyncAnswer {
    LeaseSyncAnswer {
        time,
        accepted: 0,
        leases: Vec::new(),
        opened: Vec::new(),
        narrowed: Vec::new(),
        ended: Vec::new(),
        more: false,
    }
}

/// The record of the release of a key in [`Case::lease`].
fn released(file: FileId, rights: Rights) -> String {
    let rights = serde_json::to_string(&rights).unwrap();
    format!(
        r#"{{"act":"lease-key","detail":"person {PERSON}, terminal {TERMINAL}","file":"{file}","object":"lease/{LEASE}","rights":{rights},"version":1}}"#
    )
}

fn at_most(count: u32) -> Opens {
    Opens::AtMost { count: NonZeroU32::new(count).unwrap() }
}

/// The lease is taken away and comes back, as when a person is shut out and let in again.
fn away_and_back(case: &Case, leases: &Leases, opens: Opens, known: u32) {
    let time = leases.time.reading().unwrap().wall;
    leases.settle(LeaseSyncAnswer { ended: vec![LEASE], ..nothing(time) }).unwrap();
    assert!(case.open_as(leases, 1, Right::View).is_none());
    let opened = vec![LeaseOpened { lease: LEASE, count: known }];
    let answer = LeaseSyncAnswer { leases: vec![case.lease(opens)], opened, ..nothing(time) };
    leases.settle(answer).unwrap();
}

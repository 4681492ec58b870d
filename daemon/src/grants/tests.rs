use super::*;
use crate::sessions::tests::login;
use std::sync::atomic::{AtomicUsize, Ordering};
use tobari_core::audit::{Checkpoint, Frontier, Growth, LogSigner, leaf_hash, log_name, make_receipt};
use tobari_core::clock::FixedClock;
use tobari_core::crypto::{GrantSealer, SigningKey};
use tobari_core::envelope::Header;
use tobari_core::proto::api::{AuditReceipt, Refusal};

pub(crate) const ORGANISATION: OrganisationId = OrganisationId::from_bytes([9; 16]);
pub(crate) const TERMINAL: TerminalId = TerminalId::from_bytes([7; 16]);

/// A key server that grants `rights` for the files whose keys it knows.
pub(crate) struct FakeSource {
    pub(crate) public: Vec<u8>,
    pub(crate) keys: Vec<(Vec<u8>, FileId, Dek)>,
    pub(crate) rights: Rights,
    pub(crate) person: PersonId,
    pub(crate) expires_at: Timestamp,
    pub(crate) asked: AtomicUsize,
    /// What the items said of the labels to come.
    pub(crate) new_labels: Arc<Mutex<Vec<Option<LabelId>>>>,
    /// Finds the key of a file that is none of [`FakeSource::keys`].
    pub(crate) find: fn(&Header) -> Option<Dek>,
    /// What it grants from now on, if it is something else.
    pub(crate) changed: Mutex<Option<Rights>>,
    /// Spoils the answer.
    pub(crate) spoil: fn(&mut GrantResponse),
}

impl FakeSource {
    pub(crate) fn new(public: Vec<u8>, rights: Rights, expires_at: &str) -> Self {
        Self {
            public,
            keys: Vec::new(),
            rights,
            person: PersonId::from_bytes([1; 16]),
            expires_at: expires_at.parse().unwrap(),
            asked: AtomicUsize::new(0),
            new_labels: Arc::default(),
            find: |_| None,
            changed: Mutex::default(),
            spoil: |_| (),
        }
    }
}

impl GrantSource for FakeSource {
    fn request(&self, _token: &Token, request: &GrantRequest) -> Result<GrantResponse, Problem> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(request.items.len() <= MAX_BATCH);
        let (encapsulated, mut sealer) =
            GrantSealer::new(&self.public, &grant_info(ORGANISATION, TERMINAL)).unwrap();
        let rights = self.changed.lock().unwrap().unwrap_or(self.rights);
        let outcomes: Vec<GrantOutcome> = request
            .items
            .iter()
            .zip(1..)
            .map(|(item, audit)| {
                // The header that was given out, or another one of that file made by who has its key.
                let of_file = |file: &FileId, dek: &Dek| {
                    let header = Header::parse(item.header.as_ref());
                    header.is_ok_and(|header| header.file_id() == *file && header.authenticate(dek).is_ok())
                };
                let found = self
                    .keys
                    .iter()
                    .find(|(header, file, dek)| *header == item.header.0 || of_file(file, dek));
                self.new_labels.lock().unwrap().push(item.new_label);
                let found = found.map(|(_, file, dek)| (*file, dek.duplicate())).or_else(|| {
                    let header = Header::parse(item.header.as_ref()).ok()?;
                    Some((header.file_id(), (self.find)(&header)?))
                });
                match found {
                    Some((file, dek)) if rights.contains(item.right) => {
                        let aad = grant_aad(file, self.person, rights, self.expires_at);
                        GrantOutcome::Granted(Grant {
                            file,
                            rights,
                            expires_at: self.expires_at,
                            sealed_dek: Base64(sealer.seal(&aad, &dek).unwrap()),
                            audit,
                        })
                    }
                    _ => GrantOutcome::Refused(Refusal {
                        code: ProblemCode::RightRefused,
                        detail: format!("the policy does not give '{}'", item.right),
                        right: Some(item.right),
                        label_name: Some(String::from("社外秘")),
                        rights,
                        reasons: Vec::new(),
                    }),
                }
            })
            .collect();
        let receipt = receipt(request, &outcomes, self.person);
        let mut response =
            GrantResponse { encapsulated_key: Base64(encapsulated), outcomes, receipt: Some(receipt) };
        (self.spoil)(&mut response);
        Ok(response)
    }
}

pub(crate) fn log_signer(seed: u8) -> LogSigner {
    LogSigner::new(&log_name(ORGANISATION), SigningKey::import(&[seed; 32]).unwrap()).unwrap()
}

/// What checks the log of [`FakeSource`].
pub(crate) fn log_key() -> LogKey {
    log_signer(5).public().clone()
}

/// A receipt for a log that begins with the records of this answer.
fn receipt(request: &GrantRequest, outcomes: &[GrantOutcome], person: PersonId) -> AuditReceipt {
    let record = |(item, outcome): (&GrantItem, &GrantOutcome)| match outcome {
        GrantOutcome::Granted(grant) => format!(
            r#"{{"act":"grant","file":"{}","person":"{person}","right":"{}","terminal":"{TERMINAL}","version":1}}"#,
            grant.file, item.right
        ),
        GrantOutcome::Refused(_) => String::from(r#"{"act":"refusal","version":1}"#),
    };
    let records: Vec<String> = request.items.iter().zip(outcomes).map(record).collect();
    receipt_of(records, &log_signer(5))
}

pub(crate) fn receipt_of(records: Vec<String>, signer: &LogSigner) -> AuditReceipt {
    let leaves = records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
    let growth = Growth::new(Frontier::default(), leaves);
    let checkpoint = Checkpoint::of(ORGANISATION, 1, growth.after()).sign(signer);
    make_receipt(&growth, &checkpoint, 1, records).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn wanted(number: u8) -> Wanted {
    Wanted {
        file: FileId::from_bytes([number; 16]),
        header: vec![number; 100],
        name: format!("{number}.txt"),
        new_label: None,
    }
}

struct Case {
    grants: Grants,
    source: Arc<FakeSource>,
    clock: Arc<FixedClock>,
    login: Login,
}

fn case(rights: &[Right], spoil: fn(&mut GrantResponse)) -> Case {
    let key = GrantKeyPair::generate().unwrap();
    let rights = rights.iter().copied().collect();
    let mut source = FakeSource::new(key.public(), rights, "2026-01-01T00:05:00Z");
    source.keys = (1..=3).map(|n| (wanted(n).header, wanted(n).file, Dek::generate())).collect();
    source.spoil = spoil;
    let source = Arc::new(source);
    let clock = Arc::new(FixedClock::new(at("2026-01-01T00:00:00Z")));
    let asked: Arc<dyn GrantSource> = Arc::clone(&source) as _;
    let grants = Grants::new(asked, key, ORGANISATION, TERMINAL, Arc::clone(&clock) as _, log_key());
    Case { grants, source, clock, login: login(1, "2027-01-01T00:00:00Z") }
}

impl Case {
    fn asked(&self) -> usize {
        self.source.asked.load(Ordering::Relaxed)
    }
}

#[test]
fn a_grant_to_view_is_kept_until_it_expires() {
    let case = case(&[Right::View], |_| ());
    for _ in 0..3 {
        let granted = case.grants.obtain_one(&case.login, &wanted(1), Right::View).unwrap();
        granted.key_for(wanted(1).file, Right::View, case.clock.now()).unwrap();
    }
    assert_eq!(case.asked(), 1);
    case.clock.set(at("2026-01-01T00:05:00Z"));
    case.grants.obtain_one(&case.login, &wanted(1), Right::View).unwrap();
    assert_eq!(case.asked(), 2);
}

#[test]
fn a_grant_is_good_for_its_file_rights_and_time_alone() {
    let case = case(&[Right::View], |_| ());
    let granted = case.grants.obtain_one(&case.login, &wanted(1), Right::View).unwrap();
    let (file, now, end) = (wanted(1).file, case.clock.now(), at("2026-01-01T00:05:00Z"));
    assert!(granted.key_for(file, Right::View, now).is_ok());
    for refused in [
        granted.key_for(wanted(2).file, Right::View, now),
        granted.key_for(file, Right::Decrypt, now),
        granted.key_for(file, Right::View, end),
    ] {
        let failure = refused.err().unwrap();
        assert_eq!(failure.problem.code, ProblemCode::RightRefused);
        assert_eq!(failure.rights, Some(Rights::only(Right::View)));
    }
}

#[test]
fn releases_are_asked_for_each_time() {
    let case = case(&[Right::View, Right::Decrypt], |_| ());
    case.grants.obtain_one(&case.login, &wanted(1), Right::View).unwrap();
    case.grants.obtain_one(&case.login, &wanted(1), Right::Decrypt).unwrap();
    case.grants.obtain_one(&case.login, &wanted(1), Right::Decrypt).unwrap();
    assert_eq!(case.asked(), 3);
}

#[test]
fn grants_belong_to_a_session_and_go_with_it() {
    let case = case(&[Right::View], |_| ());
    case.grants.obtain_one(&case.login, &wanted(1), Right::View).unwrap();
    let mut other = login(1, "2027-01-01T00:00:00Z");
    other.session.id = SessionId::from_bytes([200; 16]);
    case.grants.obtain_one(&other, &wanted(1), Right::View).unwrap();
    assert_eq!(case.asked(), 2);
    case.grants.forget(case.login.session.id);
    case.grants.obtain_one(&other, &wanted(1), Right::View).unwrap();
    assert_eq!(case.asked(), 2);
    case.grants.obtain_one(&case.login, &wanted(1), Right::View).unwrap();
    assert_eq!(case.asked(), 3);
}

#[test]
fn a_refusal_fails_alone_and_keeps_its_reasons() {
    let case = case(&[Right::View], |_| ());
    let outcomes = case.grants.obtain(&case.login, &[wanted(1), wanted(9), wanted(2)], Right::View).unwrap();
    assert!(matches!(outcomes.as_slice(), [Ok(_), Err(_), Ok(_)]));
    let failure = outcomes.into_iter().nth(1).unwrap().unwrap_err();
    assert_eq!(failure.subject.as_deref(), Some("9.txt"));
    assert_eq!(failure.rights, Some(Rights::only(Right::View)));
}

#[test]
fn an_answer_that_does_not_hold_together_is_refused() {
    let spoils: [fn(&mut GrantResponse); 6] = [
        |response| response.outcomes.truncate(1),
        |response| response.outcomes.swap(0, 1),
        |response| response.encapsulated_key = Base64(vec![4; 65]),
        |response| each(response, |grant| grant.rights = Rights::ALL),
        |response| each(response, |grant| grant.expires_at = "2030-01-01T00:00:00Z".parse().unwrap()),
        |response| each(response, |grant| grant.file = FileId::from_bytes([3; 16])),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let case = case(&[Right::View], spoil);
        let problem = case.grants.obtain(&case.login, &[wanted(1), wanted(2)], Right::View).unwrap_err();
        assert_eq!(problem.code, ProblemCode::Internal, "{number}");
    }
    // Of another person.
    let case = case(&[Right::View], |_| ());
    let stranger = login(2, "2027-01-01T00:00:00Z");
    assert!(case.grants.obtain_one(&stranger, &wanted(1), Right::View).is_err());
}

/// The record is what makes a release one: without the proof that it is in the signed log no key is used.
#[test]
fn a_key_whose_record_is_not_in_the_log_is_not_used() {
    let spoils: [fn(&mut AuditReceipt); 7] = [
        |receipt| receipt.records[0] = receipt.records[0].replace("view", "edit"),
        |receipt| receipt.records.swap(0, 1),
        |receipt| receipt.first = 2,
        |receipt| receipt.checkpoint = receipt.checkpoint.replace("\n2\n", "\n3\n"),
        // Signed by somebody else.
        |receipt| *receipt = receipt_of(receipt.records.clone(), &log_signer(6)),
        // In the log, but the record of something else.
        |receipt| {
            let records = receipt.records.iter().map(|record| record.replace("grant", "refusal")).collect();
            *receipt = receipt_of(records, &log_signer(5));
        },
        |receipt| {
            let records = receipt.records.iter().map(|record| record.replace("view", "edit")).collect();
            *receipt = receipt_of(records, &log_signer(5));
        },
    ];
    for spoil in spoils {
        static SPOIL: Mutex<Option<fn(&mut AuditReceipt)>> = Mutex::new(None);
        *SPOIL.lock().unwrap() = Some(spoil);
        let case = case(&[Right::View], |response| {
            if let (Some(receipt), Some(spoil)) = (&mut response.receipt, *SPOIL.lock().unwrap()) {
                spoil(receipt);
            }
        });
        let problem = case.grants.obtain(&case.login, &[wanted(1), wanted(2)], Right::View).unwrap_err();
        assert!(problem.detail.contains("cannot be trusted"), "{}", problem.detail);
        assert!(!case.grants.has(&case.login, &wanted(1), Right::View));
    }
    let case = case(&[Right::View], |response| response.receipt = None);
    let problem = case.grants.obtain(&case.login, &[wanted(1)], Right::View).unwrap_err();
    assert!(problem.detail.contains("it shows no audit record"), "{}", problem.detail);
}

fn each(response: &mut GrantResponse, change: fn(&mut Grant)) {
    for outcome in &mut response.outcomes {
        if let GrantOutcome::Granted(grant) = outcome {
            change(grant);
        }
    }
}

#[test]
fn large_requests_are_split() {
    let case = case(&[Right::View], |_| ());
    let many: Vec<Wanted> = (0..MAX_BATCH * 2 + 1).map(|n| wanted(if n % 2 == 0 { 1 } else { 2 })).collect();
    assert_eq!(case.grants.obtain(&case.login, &many, Right::Decrypt).unwrap().len(), many.len());
    assert_eq!(case.asked(), 3);
    let items: Vec<Wanted> =
        (0..5).map(|_| Wanted { header: vec![0; MAX_BATCH_BYTES / 2], ..wanted(1) }).collect();
    let indexed: Vec<(usize, &Wanted)> = items.iter().enumerate().collect();
    assert_eq!(batches(&indexed).map(<[_]>::len).collect::<Vec<_>>(), [1, 1, 1, 1, 1]);
}

/// Answers, and before the answer arrives a new bulletin makes the terminal forget its grants.
struct Overtaken {
    source: Arc<FakeSource>,
    grants: std::sync::OnceLock<std::sync::Weak<Grants>>,
}

impl GrantSource for Overtaken {
    fn request(&self, token: &Token, request: &GrantRequest) -> Result<GrantResponse, Problem> {
        let response = self.source.request(token, request);
        if let Some(grants) = self.grants.get().and_then(std::sync::Weak::upgrade) {
            grants.clear();
        }
        response
    }
}

#[test]
fn a_grant_that_a_change_overtook_is_not_kept() {
    let key = GrantKeyPair::generate().unwrap();
    let rights = Rights::only(Right::View);
    let mut source = FakeSource::new(key.public(), rights, "2026-01-01T00:05:00Z");
    source.keys = vec![(wanted(1).header, wanted(1).file, Dek::generate())];
    let source = Arc::new(source);
    let asked = Arc::new(Overtaken { source: Arc::clone(&source), grants: std::sync::OnceLock::new() });
    let clock = Arc::new(FixedClock::new(at("2026-01-01T00:00:00Z")));
    let grants =
        Arc::new(Grants::new(Arc::clone(&asked) as _, key, ORGANISATION, TERMINAL, clock as _, log_key()));
    asked.grants.set(Arc::downgrade(&grants)).unwrap();
    let login = login(1, "2027-01-01T00:00:00Z");
    for times in 1..=2 {
        grants.obtain_one(&login, &wanted(1), Right::View).unwrap();
        assert_eq!(source.asked.load(Ordering::Relaxed), times);
    }
}

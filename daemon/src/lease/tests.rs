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
    Lease, LeaseFile, LeaseOpened, LeaseSyncAnswer, Narrowing, Opens, SignedLease, Term,
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
        let term = Term { starts_at: at(START), ends_at: at("2026-06-04T00:00:00Z") };
        let info = lease_info(ORGANISATION, TERMINAL, LEASE);
        let (encapsulated, mut sealer) = GrantSealer::new(&self.key().public(), &info).unwrap();
        let rights: Rights = [Right::View, Right::Send].into_iter().collect();
        let file = self.sample.header.file_id();
        let record = released(file, rights);
        let binding = LeaseBinding {
            file,
            label: LABEL,
            owner_group: None,
            person: PERSON,
            rights,
            starts_at: term.starts_at,
            ends_at: term.ends_at,
        };
        let sealed_dek = Base64(sealer.seal(&binding.aad(), &self.sample.dek).unwrap());
        let file = LeaseFile {
            file,
            label: LABEL,
            owner_group: None,
            name: Some(String::from("file")),
            rights,
            ends_at: term.ends_at,
            audit: 1,
            sealed_dek,
        };
        let lease = Lease {
            version: 1,
            id: LEASE,
            organisation: ORGANISATION,
            terminal: TERMINAL,
            person: PERSON,
            login: String::from("person1"),
            name: String::from("名前"),
            issued_at: at(START),
            term,
            opens,
            label,
            encapsulated_key: Base64(encapsulated),
            files: vec![file],
        };
        let mut signed = sign(&lease, &self.signing).unwrap();
        signed.receipt = Some(receipt_of(vec![record], &log_signer(5)));
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

#[test]
fn a_lease_opens_and_each_opening_is_written_down_and_survives_a_restart() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let key = case.opens(&leases);
    assert!(case.sample.header.authenticate(&key.dek).is_ok());
    case.opens(&leases);
    drop(leases);
    let again = case.load();
    let report = again.report().unwrap();
    assert_eq!((report.after, report.records.len(), report.held), (0, 2, vec![LEASE]));
    let (records, head) =
        chain::follow(chain::Head::START, report.records.iter().map(|one| one.0.as_slice())).unwrap();
    assert_eq!((head.sequence, records[1].0.person, records[1].0.right), (2, PERSON, Some(Right::View)));
    assert_eq!(again.of(PERSON).0[0].used, 2);
    // What the key server has is not sent again.
    assert!(!settle(&again, 2, Vec::new()));
    case.opens(&again);
    let report = again.report().unwrap();
    assert_eq!((report.after, report.records.len()), (2, 1));
    drop(again);
    assert_eq!(case.load().report().unwrap().records.len(), 1);
}

#[test]
fn openings_are_counted_across_restarts() {
    let case = Case::new();
    let leases = case.holding(at_most(2));
    case.opens(&leases);
    drop(leases);
    let leases = case.load();
    case.opens(&leases);
    assert_eq!(case.refusal(&leases), "used-up");
    drop(leases);
    assert_eq!(case.refusal(&case.load()), "used-up");
}

#[test]
fn a_batch_does_not_outrun_the_count() {
    let case = Case::new();
    let leases = case.holding(at_most(2));
    let wanted = case.wanted();
    let outcomes =
        leases.open(&session_of(1, "2027-01-01T00:00:00Z"), &[&wanted, &wanted, &wanted], Right::Send);
    let opened: Vec<bool> = outcomes.into_iter().map(|outcome| outcome.unwrap().is_ok()).collect();
    assert_eq!(opened, [true, true, false]);
}

#[test]
fn another_person_and_a_right_that_is_not_lent_are_refused() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    assert!(case.open_as(&leases, 2, Right::View).is_none(), "the lease does not cover another person");
    let failure = case.open_as(&leases, 1, Right::Decrypt).unwrap().err().unwrap();
    assert_eq!(failure.problem.field.as_deref(), Some("right"));
    assert_eq!(leases.report().unwrap().records.len(), 0, "a refusal is no opening");
    assert!(leases.give_back(PersonId::from_bytes([2; 16]), LEASE).is_err());
}

#[test]
fn the_end_and_a_clock_that_was_set_back_are_refused() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let key = case.opens(&leases);
    case.clocks.go(-119, 0);
    case.opens(&leases);
    key.limit.check(Right::View).unwrap();
    case.clocks.go(-2, 0);
    assert_eq!(case.refusal(&leases), "clock");
    assert!(key.limit.check(Right::View).is_err(), "a key in use ends with it");
    case.clocks.go(121, 0);
    case.opens(&leases);
    // To the end, a second before it, and back.
    case.clocks.go(3 * 86_400 - 1, 3 * 86_400 - 1);
    key.limit.check(Right::View).unwrap();
    case.opens(&leases);
    case.clocks.go(1, 1);
    assert_eq!(case.refusal(&leases), "ended");
    assert!(key.limit.check(Right::View).is_err());
    drop(leases);
    case.clocks.reboot();
    case.clocks.go(-86_400, 0);
    let leases = case.load();
    // Nothing was opened after the jump: what was written down last was a second before the end.
    assert_eq!(case.refusal(&leases), "clock");
}

#[test]
fn the_latest_time_seen_is_kept_without_an_opening() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    case.clocks.go(86_400, 86_400);
    leases.report().unwrap();
    drop(leases);
    case.clocks.reboot();
    case.clocks.go(-86_400, 0);
    assert_eq!(case.refusal(&case.load()), "clock");
}

#[test]
fn a_returned_and_a_revoked_lease_open_nothing_and_leave_no_key() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let key = case.opens(&leases);
    leases.give_back(PERSON, LEASE).unwrap();
    assert!(key.limit.check(Right::View).is_err() && case.open_as(&leases, 1, Right::View).is_none());
    assert!(!case.folder().join(format!("{LEASE}.json")).exists());
    let report = leases.report().unwrap();
    assert_eq!((report.records.len(), report.held.len()), (2, 0));
    let last: OfflineRecord = serde_json::from_slice(&report.records[1].0).unwrap();
    assert_eq!(last.act, OfflineAct::Return);

    let case = Case::new();
    for revocations in [
        Revocations { leases: vec![LEASE], ..Revocations::default() },
        Revocations { people: vec![PERSON], ..Revocations::default() },
        Revocations { terminals: vec![TERMINAL], ..Revocations::default() },
    ] {
        let leases = case.load();
        settle(&leases, 0, vec![case.lease(Opens::Unlimited)]);
        let key = case.opens(&leases);
        leases.revoke(&Revocations { leases: vec![LeaseId::from_bytes([3; 16])], ..Revocations::default() });
        key.limit.check(Right::View).unwrap();
        leases.revoke(&revocations);
        assert!(key.limit.check(Right::View).is_err() && case.open_as(&leases, 1, Right::View).is_none());
        drop(leases);
        assert!(case.open_as(&case.load(), 1, Right::View).is_none());
    }
}

/// A label that demands that revocations were confirmed within two hours.
fn demanding(number: u64) -> Bulletin {
    let mut bulletin = crate::testing::bulletin(number, false);
    bulletin.labels[0].max_bulletin_age_hours = Some(2);
    assert_eq!(bulletin.labels[0].label.id, LABEL);
    bulletin
}

#[test]
fn a_label_demands_a_confirmation_that_is_not_old() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    // Without the demand it does not matter how long ago.
    leases.confirm(&crate::testing::bulletin(1, false), Timestamp::UNIX_EPOCH);
    let key = case.opens(&leases);
    leases.confirm(&demanding(2), at(START));
    case.clocks.go(7200, 7200);
    case.opens(&leases);
    key.limit.check(Right::View).unwrap();
    case.clocks.go(1, 1);
    assert_eq!(case.refusal(&leases), "bulletin");
    // What is open ends too, and says the same beforehand.
    assert_eq!(key.limit.check(Right::View).unwrap_err().problem.field.as_deref(), Some("bulletin"));
    let login = session_of(1, "2027-01-01T00:00:00Z");
    assert!(leases.rights(&login, &case.sample.header).unwrap().is_err());
    assert!(!leases.would_open(&login, [&case.wanted()], Right::View));
    // A later confirmation lets both go on.
    leases.confirm(&demanding(2), at("2026-06-01T02:00:00Z"));
    case.opens(&leases);
    key.limit.check(Right::View).unwrap();
}

#[test]
fn a_clock_set_back_does_not_make_a_confirmation_younger() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    leases.confirm(&demanding(2), at(START));
    case.clocks.go(7300, 7300);
    assert_eq!(case.refusal(&leases), "bulletin");
    case.clocks.go(-7300, 0);
    assert_eq!(case.refusal(&leases), "clock");
    // Across a boot, and with the clock of the machine stopped: time is at least what it was.
    case.clocks.reboot();
    assert_eq!(case.refusal(&leases), "clock");
    case.clocks.go(7300, 0);
    assert_eq!(case.refusal(&leases), "bulletin");

    // A confirmation of a time that this clock has not reached: it is the clock that is wrong.
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    leases.confirm(&demanding(2), at("2026-06-01T00:02:00Z"));
    case.opens(&leases);
    leases.confirm(&demanding(2), at("2026-06-01T00:02:01Z"));
    assert_eq!(case.refusal(&leases), "clock");
    case.clocks.go(1, 1);
    case.opens(&leases);
}

#[test]
fn before_the_bulletin_is_known_nothing_is_confirmed() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    leases.confirm(&demanding(2), Timestamp::UNIX_EPOCH);
    assert_eq!(case.refusal(&leases), "bulletin");
}

/// What a state that cannot be believed leads to: nothing opens, nothing is reported.
fn assert_refused(case: &Case, leases: &Leases) {
    assert!(case.open_as(leases, 1, Right::View).is_none_or(|outcome| outcome.is_err()));
    assert!(leases.report().is_err());
    assert!(leases.login("person1", "correct").is_none());
}

#[test]
fn every_byte_of_the_state_counts() {
    let case = Case::new();
    drop(case.holding(Opens::Unlimited));
    let state = case.folder().join("state");
    let sealed = std::fs::read(&state).unwrap();
    for index in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[index] ^= 1;
        // In place: inode and time of birth stay.
        std::fs::write(&state, &changed).unwrap();
        assert_refused(&case, &case.load());
    }
    std::fs::write(&state, &sealed).unwrap();
    case.opens(&case.load());
}

#[test]
fn a_copy_of_the_state_is_refused_here_and_on_another_terminal() {
    let case = Case::new();
    drop(case.holding(at_most(5)));
    let elsewhere = case.load_with(GrantKeyPair::generate().unwrap());
    assert_refused(&case, &elsewhere);
    // An older state, put back as a copy beside the lease.
    let state = case.folder().join("state");
    let copy = case.directory.path().join("copy");
    std::fs::copy(&state, &copy).unwrap();
    let leases = case.load();
    case.opens(&leases);
    drop(leases);
    std::fs::copy(&copy, &state).unwrap();
    assert_refused(&case, &case.load());
    // The same under the same name as a new file.
    std::fs::remove_file(&state).unwrap();
    assert_refused(&case, &case.load());
    std::fs::copy(&copy, &state).unwrap();
    assert_refused(&case, &case.load());
}

#[test]
fn a_state_that_is_replaced_while_the_daemon_runs_is_noticed() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let state = case.folder().join("state");
    let copy = case.folder().join("copy");
    std::fs::copy(&state, &copy).unwrap();
    std::fs::rename(&copy, &state).unwrap();
    assert_eq!(case.refusal(&leases), "state");
    assert_eq!(case.refusal(&leases), "state", "and it does not come back");
}

#[test]
fn records_that_were_cut_or_changed_are_refused() {
    for spoil in [
        |text: &str| text.lines().take(1).map(|line| format!("{line}\n")).collect(),
        |text: &str| text.replacen("\"view\"", "\"send\"", 1),
        |_: &str| String::from("{}\n"),
    ] as [fn(&str) -> String; 3]
    {
        let case = Case::new();
        let leases = case.holding(Opens::Unlimited);
        for _ in 0..3 {
            case.opens(&leases);
        }
        drop(leases);
        let records = case.folder().join("records");
        let text = std::fs::read_to_string(&records).unwrap();
        std::fs::write(&records, spoil(&text)).unwrap();
        assert_refused(&case, &case.load());
    }
}

#[test]
fn a_cut_between_state_and_records_loses_nothing() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    case.opens(&leases);
    case.opens(&leases);
    drop(leases);
    let records = case.folder().join("records");
    let text = std::fs::read_to_string(&records).unwrap();
    let first = text.lines().next().unwrap().len() + 1;
    // Cut before the last line was begun, in its middle, and before its end.
    for length in [first, first + 20, text.len() - 1] {
        std::fs::write(&records, &text.as_bytes()[..length]).unwrap();
        let again = case.load();
        assert_eq!(again.report().unwrap().records.len(), 2, "cut at {length}");
        drop(again);
        assert_eq!(std::fs::read_to_string(&records).unwrap(), text);
    }
}

#[test]
fn a_state_that_the_key_server_refuses_stays_refused() {
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let mut other = Problem::local(ProblemCode::Conflict, "something else");
    other.field = Some(String::from("request"));
    leases.heard(&other);
    case.opens(&leases);
    let mut problem = Problem::local(ProblemCode::Conflict, "its counter went back");
    problem.field = Some(String::from("lease-state"));
    leases.heard(&problem);
    assert_eq!(case.refusal(&leases), "state");
    drop(leases);
    assert_refused(&case, &case.load());
}

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

/// A key server that is away, or there and without grants; it counts how often it is asked.
#[derive(Default)]
struct Source {
    there: AtomicBool,
    asked: std::sync::atomic::AtomicU32,
}

impl crate::grants::GrantSource for Source {
    fn request(
        &self,
        _token: &crate::sessions::Token,
        _request: &tobari_core::proto::api::GrantRequest,
    ) -> Result<tobari_core::proto::api::GrantResponse, Problem> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.there.load(Ordering::SeqCst) {
            return Err(Problem::local(ProblemCode::NotLoggedIn, "asked"));
        }
        Err(Problem::local(ProblemCode::KeyServerUnreachable, "away"))
    }
}

#[test]
fn grants_use_leases_sparingly_and_the_key_server_as_soon_as_it_is_there() {
    let case = Case::new();
    let leases = Arc::new(case.holding(at_most(3)));
    let source = Arc::new(Source::default());
    let clock = Arc::new(tobari_core::clock::FixedClock::new(at(START)));
    let grants = crate::grants::Grants::new(
        Arc::clone(&source) as _,
        case.key(),
        ORGANISATION,
        TERMINAL,
        Arc::clone(&clock) as _,
        crate::grants::tests::log_key(),
    )
    .with_leases(Arc::clone(&leases));
    let login = session_of(1, "2027-01-01T00:00:00Z");
    let used = || leases.of(PERSON).0[0].used;
    let asked = || source.asked.load(Ordering::SeqCst);
    let wanted = case.wanted();
    let file = wanted.file;

    // Several openings within five minutes are one, and the key server is asked once.
    for _ in 0..3 {
        let granted = grants.obtain_one(&login, &wanted, Right::View).unwrap();
        granted.key_for(file, Right::View, at(START)).unwrap();
        assert_eq!(
            granted.key_for(file, Right::Decrypt, at(START)).err().unwrap().problem.code,
            ProblemCode::RightRefused
        );
    }
    assert_eq!((used(), asked()), (1, 1));
    // What is asked for ahead uses nothing up.
    let mut ahead = vec![wanted.clone(), wanted.clone()];
    ahead[0] = Wanted { file: FileId::from_bytes([4; 16]), header: vec![4], ..wanted.clone() };
    assert!(grants.obtain_ahead(&login, &ahead, Right::Send).is_err());
    assert_eq!(used(), 1);
    case.clocks.go(301, 301);
    grants.obtain_one(&login, &wanted, Right::View).unwrap();
    assert_eq!(used(), 2, "five minutes later it is another opening");
    // Somebody else on the same terminal, and a file that is not lent.
    let other = session_of(2, "2027-01-01T00:00:00Z");
    assert_eq!(
        grants.obtain_one(&other, &wanted, Right::View).unwrap_err().problem.code,
        ProblemCode::KeyServerUnreachable
    );
    assert_eq!(
        grants.obtain_one(&login, &ahead[0], Right::View).unwrap_err().problem.code,
        ProblemCode::KeyServerUnreachable
    );
    // Each sending counts; when nothing is left the key server is asked, though it was away a moment ago.
    grants.obtain_one(&login, &wanted, Right::Send).unwrap();
    assert_eq!(used(), 3);
    let before = asked();
    let refused = grants.obtain_one(&login, &wanted, Right::Send).unwrap_err();
    assert_eq!((refused.problem.field.as_deref(), asked()), (Some("used-up"), before + 1));
    source.there.store(true, Ordering::SeqCst);
    let answered = grants.obtain_one(&login, &wanted, Right::Send).unwrap_err();
    assert_eq!(answered.problem.code, ProblemCode::NotLoggedIn, "what the key server says is final");
}

#[test]
fn a_key_in_use_ends_with_a_clock_that_is_set_back_and_with_the_lease() {
    for (wall, boot) in
        [(-121, 0), (-86_400, 0), (-366 * 86_400, 0), (3 * 86_400, 0), (0, 3 * 86_400), (0, -2)]
    {
        let case = Case::new();
        let leases = case.holding(Opens::Unlimited);
        case.clocks.go(1, 1);
        let key = case.opens(&leases);
        for tolerated in [-1, -118] {
            case.clocks.go(tolerated, 0);
            key.limit.check(Right::View).unwrap();
            case.opens(&leases);
        }
        case.clocks.go(119, 0);
        key.limit.check(Right::View).unwrap();
        case.clocks.go(wall, boot);
        let refused = key.limit.check(Right::View).unwrap_err();
        assert_eq!(refused.problem.code, ProblemCode::LeaseRefused, "{wall} {boot}");
        assert!(case.open_as(&leases, 1, Right::View).unwrap().is_err(), "{wall} {boot}");
        // Forward and back again: the lease has seen the later time.
        if wall > 0 {
            case.clocks.go(-wall, 0);
            assert_eq!(case.refusal(&leases), "clock");
        }
    }
}

#[test]
fn every_byte_of_a_stored_lease_counts() {
    let case = Case::new();
    drop(case.holding(Opens::Unlimited));
    let path = case.folder().join(format!("{LEASE}.json"));
    let stored = std::fs::read(&path).unwrap();
    for index in 0..stored.len() {
        for bit in [1, 32] {
            let mut changed = stored.clone();
            changed[index] ^= bit;
            std::fs::write(&path, &changed).unwrap();
            let leases = case.load();
            // Either the lease is not there, or it is the same to the bit, as when a base64 digit is spelt otherwise.
            let opened = case.open_as(&leases, 1, Right::View);
            assert!(opened.is_none_or(|outcome| outcome.is_err()), "byte {index}, bit {bit}");
        }
    }
    std::fs::write(&path, &stored).unwrap();
    case.opens(&case.load());
}

/// What a cut during the first writes of all leaves is not taken for a state that somebody took away.
#[test]
fn a_cut_at_the_first_lease_costs_nothing() {
    let case = Case::new();
    std::fs::create_dir(case.folder()).unwrap();
    std::fs::write(case.folder().join(".state.new"), b"half").unwrap();
    case.opens(&case.holding(Opens::Unlimited));
    // The lease itself cannot be written: by then there is a state.
    let case = Case::new();
    let document = case.folder().join(format!("{LEASE}.json"));
    std::fs::create_dir_all(document.join("in the way")).unwrap();
    std::fs::rename(&document, case.directory.path().join("aside")).unwrap();
    let leases = case.load();
    std::fs::rename(case.directory.path().join("aside"), &document).unwrap();
    let time = leases.time.reading().unwrap().wall;
    let sent = vec![case.lease(Opens::Unlimited)];
    assert!(leases.settle(LeaseSyncAnswer { leases: sent, ..nothing(time) }).is_err());
    assert!(case.folder().join("state").exists());
    drop(leases);
    std::fs::remove_dir_all(&document).unwrap();
    case.opens(&case.holding(Opens::Unlimited));
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

#[test]
fn a_lease_that_comes_back_does_not_begin_anew() {
    let case = Case::new();
    let mut leases = case.holding(at_most(3));
    let (mut opened, mut refused) = (0, 0);
    // Each way of losing a lease, each followed by a restart, and twice as often as there are openings.
    for round in 0..6 {
        match case.open_as(&leases, 1, Right::View).unwrap() {
            Ok(_) => opened += 1,
            Err(failure) => {
                assert_eq!(failure.problem.field.as_deref(), Some("used-up"));
                refused += 1;
            }
        }
        match round % 3 {
            0 => away_and_back(&case, &leases, at_most(3), 0),
            1 => {
                leases.revoke(&Revocations { people: vec![PERSON], ..Revocations::default() });
                leases.revoke(&Revocations::default());
                settle(&leases, 0, vec![case.lease(at_most(3))]);
            }
            _ => {
                leases.give_back(PERSON, LEASE).unwrap();
                settle(&leases, 0, vec![case.lease(at_most(3))]);
            }
        }
        drop(leases);
        leases = case.load();
    }
    assert_eq!((opened, refused), (3, 3));
}

#[test]
fn a_clock_that_was_set_forward_does_not_let_the_count_be_forgotten() {
    let case = Case::new();
    let leases = case.holding(at_most(1));
    case.opens(&leases);
    let start = leases.time.reading().unwrap().wall;
    leases.revoke(&Revocations { leases: vec![LEASE], ..Revocations::default() });
    leases.revoke(&Revocations::default());
    // A year ahead here; the key server knows better.
    case.clocks.go(365 * 86_400, 365 * 86_400);
    leases.report().unwrap();
    leases.settle(nothing(start)).unwrap();
    leases.settle(LeaseSyncAnswer { leases: vec![case.lease(at_most(1))], ..nothing(start) }).unwrap();
    assert_eq!(leases.of(PERSON).0[0].used, 1);
    // Once it has ended by the key server's time nothing of it is kept.
    let after = start.checked_add(SignedDuration::from_hours(24 * 4)).unwrap();
    leases.settle(LeaseSyncAnswer { ended: vec![LEASE], ..nothing(after) }).unwrap();
    leases.settle(LeaseSyncAnswer { leases: vec![case.lease(at_most(1))], ..nothing(after) }).unwrap();
    assert_eq!(leases.of(PERSON).0[0].used, 0);
}

#[test]
fn what_the_key_server_knows_of_openings_counts() {
    let case = Case::new();
    let leases = case.load();
    let time = leases.time.reading().unwrap().wall;
    let opened = vec![LeaseOpened { lease: LEASE, count: 2 }];
    let answer = LeaseSyncAnswer { leases: vec![case.lease(at_most(3))], opened, ..nothing(time) };
    leases.settle(answer).unwrap();
    case.opens(&leases);
    assert_eq!(case.refusal(&leases), "used-up");
    // Less than what is known here takes nothing back.
    away_and_back(&case, &leases, at_most(3), 1);
    assert_eq!(case.refusal(&leases), "used-up");
}

fn narrowing(rights: &[Right], ends_at: &str) -> Narrowing {
    Narrowing {
        lease: LEASE,
        label: LABEL,
        owner_group: None,
        rights: rights.iter().copied().collect(),
        ends_at: at(ends_at),
    }
}

#[test]
fn a_stricter_policy_narrows_a_lease_and_keys_in_use_for_good() {
    const END: &str = "2026-06-04T00:00:00Z";
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    let sending = case.open_as(&leases, 1, Right::Send).unwrap().unwrap();
    let viewing = case.opens(&leases);
    let other = Narrowing { label: LabelId::from_bytes([77; 16]), ..narrowing(&[], END) };
    leases.revoke(&Revocations { narrowed: vec![other], ..Revocations::default() });
    sending.limit.check(Right::Send).unwrap();
    // Sending is taken away; viewing stays.
    let view = narrowing(&[Right::View], END);
    leases.revoke(&Revocations { narrowed: vec![view], ..Revocations::default() });
    assert!(sending.limit.check(Right::Send).is_err() && !sending.limit.is_one_opening());
    viewing.limit.check(Right::View).unwrap();
    let refused = case.open_as(&leases, 1, Right::Send).unwrap().err().unwrap();
    assert_eq!(refused.problem.field.as_deref(), Some("right"));
    assert_eq!(leases.of(PERSON).0[0].files[0].rights, Rights::only(Right::View));
    // A bulletin that says less, a wider narrowing, a restart, and the lease sent again: none gives anything back.
    leases.revoke(&Revocations::default());
    let time = leases.time.reading().unwrap().wall;
    let wider = vec![narrowing(&[Right::View, Right::Send], END)];
    leases.settle(LeaseSyncAnswer { narrowed: wider, ..nothing(time) }).unwrap();
    away_and_back(&case, &leases, Opens::Unlimited, 0);
    drop(leases);
    let leases = case.load();
    assert!(case.open_as(&leases, 1, Right::Send).unwrap().is_err());
    let viewing = case.opens(&leases);
    // An earlier end, in the answer to the exchange.
    let earlier = vec![narrowing(&[Right::View], "2026-06-02T00:00:00Z")];
    leases.settle(LeaseSyncAnswer { narrowed: earlier, ..nothing(time) }).unwrap();
    viewing.limit.check(Right::View).unwrap();
    case.clocks.go(86_400, 86_400);
    assert!(viewing.limit.check(Right::View).is_err());
    assert_eq!(case.refusal(&leases), "ended");
}

#[test]
fn a_lease_is_narrowed_from_its_first_moment_here() {
    let case = Case::new();
    let leases = case.load();
    // The bulletin came before the lease, which was sent before the bulletin was made.
    let none = narrowing(&[], START);
    leases.revoke(&Revocations { narrowed: vec![none], ..Revocations::default() });
    settle(&leases, 0, vec![case.lease(Opens::Unlimited)]);
    assert!(case.open_as(&leases, 1, Right::View).unwrap().is_err());
    let gone = Revocations { leases: vec![LEASE], ..Revocations::default() };
    let case = Case::new();
    let leases = case.load();
    leases.revoke(&gone);
    settle(&leases, 0, vec![case.lease(Opens::Unlimited)]);
    assert!(case.open_as(&leases, 1, Right::View).is_none());
}

/// As for a grant: without the proof that the release of each key is in the signed log no key is used.
#[test]
fn a_lease_without_the_records_of_its_keys_is_not_taken() {
    let case = Case::new();
    let good = case.lease(Opens::Unlimited);
    let rights: Rights = [Right::View, Right::Send].into_iter().collect();
    let file = case.sample.header.file_id();
    let record = released(file, rights);
    let of = |text: String, seed: u8| Some(receipt_of(vec![text], &log_signer(seed)));
    let bad = [
        ("no receipt", None),
        ("another log's key", of(record.clone(), 6)),
        ("a grant", of(record.replace("lease-key", "grant"), 5)),
        ("another lease", of(record.replace(&LEASE.to_string(), &TERMINAL.to_string()), 5)),
        ("another person", of(record.replace(&PERSON.to_string(), &TERMINAL.to_string()), 5)),
        ("another terminal", of(record.replace(&TERMINAL.to_string(), &PERSON.to_string()), 5)),
        ("another file", of(record.replace(&file.to_string(), &LEASE.to_string()), 5)),
        ("other rights", of(record.replace(",\"send\"", ""), 5)),
    ];
    for (what, receipt) in bad {
        assert_ne!(receipt, good.receipt, "{what}");
        let leases = case.load();
        settle(&leases, 0, vec![SignedLease { receipt, ..good.clone() }]);
        assert!(leases.of(PERSON).0.is_empty(), "{what}");
    }
    // It is kept with the lease and checked at each start; a lease of before there were proofs still opens.
    let leases = case.load();
    settle(&leases, 0, vec![good.clone()]);
    case.opens(&leases);
    drop(leases);
    let path = case.folder().join(format!("{LEASE}.json"));
    let stored: SignedLease = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(stored.receipt.is_some());
    let forged = SignedLease { receipt: of(record.replace("lease-key", "grant"), 5), ..good.clone() };
    std::fs::write(&path, serde_json::to_vec(&forged).unwrap()).unwrap();
    assert!(case.open_as(&case.load(), 1, Right::View).is_none());
    std::fs::write(&path, serde_json::to_vec(&SignedLease { receipt: None, ..good }).unwrap()).unwrap();
    case.opens(&case.load());
}

/// A state as it was written before counts outlived leases is read as it is.
#[test]
fn a_state_without_the_newer_parts_is_read() {
    let case = Case::new();
    drop(case.holding(at_most(2)));
    let key = case.key().local_key("leases").unwrap();
    let path = case.folder().join("state");
    let aad = b"tobari/1 lease state";
    let mut state: serde_json::Value =
        serde_json::from_slice(&key.open(aad, &std::fs::read(&path).unwrap()).unwrap()).unwrap();
    let parts = state.as_object_mut().unwrap();
    assert!(parts.remove("spent").is_some() && parts.remove("narrowed").is_some());
    let sealed = key.seal(aad, &serde_json::to_vec(&state).unwrap()).unwrap();
    std::fs::write(&path, sealed).unwrap();
    let leases = case.load();
    case.opens(&leases);
    case.opens(&leases);
    assert_eq!(case.refusal(&leases), "used-up");
}

/// What the person creates under a lease of the label opens under it, in later logins too, and nobody else's does.
#[test]
fn what_is_created_under_a_lease_of_a_label_opens_until_the_lease_ends() {
    let case = Case::new();
    let new = sealed_file(&case.directory.path().join("new"), b"new");
    let wanted = crate::open::wanted(&new.header, "new");
    let login = session_of(1, "2027-01-01T00:00:00Z");
    let open = |leases: &Leases, person: u8, right: Right| {
        leases.open(&session_of(person, "2027-01-01T00:00:00Z"), &[&wanted], right).pop().unwrap()
    };
    // A lease of files does not extend to others.
    let leases = case.holding(Opens::Unlimited);
    leases.keep_created(&login, &new.header, &new.dek).unwrap();
    assert!(open(&leases, 1, Right::View).is_none());

    let case = Case::new();
    let leases = case.load();
    settle(&leases, 0, vec![case.lease_of(at_most(3), Some(LABEL))]);
    leases.keep_created(&session_of(2, "2027-01-01T00:00:00Z"), &new.header, &new.dek).unwrap();
    assert!(open(&leases, 1, Right::View).is_none(), "another person's file");
    leases.keep_created(&login, &new.header, &new.dek).unwrap();
    drop(leases);
    let leases = case.load();
    let key = open(&leases, 1, Right::View).unwrap().unwrap();
    assert!(new.header.authenticate(&key.dek).is_ok());
    assert!(open(&leases, 2, Right::View).is_none());
    assert!(open(&leases, 1, Right::Decrypt).unwrap().is_err(), "no more than the lease lends");
    assert_eq!(leases.rights(&login, &new.header).unwrap().unwrap(), key.rights);
    case.opens(&leases);
    // Each opening is one of the lease's, on record.
    open(&leases, 1, Right::Send).unwrap().unwrap();
    assert!(open(&leases, 1, Right::View).unwrap().is_err());
    assert_eq!(leases.report().unwrap().records.len(), 3);
    drop(leases);

    // Every byte of what is kept counts, and it is of this lease alone.
    let path = case.folder().join(format!("{LEASE}.created"));
    let kept = std::fs::read(&path).unwrap();
    for index in 0..kept.len() {
        let mut changed = kept.clone();
        changed[index] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        let leases = case.load();
        let held = leases.inner();
        let wish = wish(PERSON, &new.header, Right::View);
        let dek = held.held[0]
            .permits(&wish, 0, at(START))
            .ok()
            .and_then(|lent| held.held[0].dek(&lent, &wish, &leases.identity.grant_key).ok());
        assert!(dek.is_none_or(|dek| new.header.authenticate(&dek).is_ok()), "byte {index}");
    }
    std::fs::write(&path, kept.get(..kept.len() / 2).unwrap()).unwrap();
    let leases = case.load();
    assert!(open(&leases, 1, Right::View).is_none(), "half a line is nothing");
    // A line after half a line is whole.
    leases.keep_created(&login, &new.header, &new.dek).unwrap();
    drop(leases);
    let leases = case.load();
    assert!(open(&leases, 1, Right::View).is_some());
    leases.give_back(PERSON, LEASE).unwrap();
    assert!(!path.exists() && open(&leases, 1, Right::View).is_none());
}

/// A counter in place of the TPM's: where it stands, and whether it answers.
#[derive(Default)]
struct TestCounter(Mutex<(u64, bool)>);

impl crate::protect::Counter for TestCounter {
    fn read(&self) -> Result<u64, String> {
        let (value, dead) = *self.0.lock().unwrap();
        if dead { Err(String::from("no answer")) } else { Ok(value) }
    }

    fn increment(&self) -> Result<(), String> {
        self.read()?;
        self.0.lock().unwrap().0 += 1;
        Ok(())
    }
}

fn anchored(case: &Case, counter: &Arc<TestCounter>) -> Leases {
    let identity = Identity {
        organisation: ORGANISATION,
        terminal: TERMINAL,
        signing_key: case.signing.verifying_key(),
        grant_key: case.key(),
        log: log_key(),
    };
    let anchor = Anchor { counter: Arc::clone(counter) as _, first: 100 };
    Leases::load_anchored(&case.folder(), identity, Arc::clone(&case.clocks) as _, Some(anchor)).unwrap()
}

#[test]
fn a_state_that_the_tpm_has_counted_past_is_refused() {
    let case = Case::new();
    let counter = Arc::new(TestCounter(Mutex::new((100, false))));
    let leases = anchored(&case, &counter);
    assert!(!settle(&leases, 0, vec![case.lease(Opens::Unlimited)]));
    case.opens(&leases);
    let now = counter.0.lock().unwrap().0;
    assert!(now > 100);
    drop(leases);
    let opens = |value: u64| {
        *counter.0.lock().unwrap() = (value, false);
        let leases = anchored(&case, &counter);
        case.open_as(&leases, 1, Right::View).is_some_and(|outcome| outcome.is_ok())
    };
    // The disk was set back: the chip is ahead of it. Or the chip is another one.
    for ahead in [1, 2, 1000] {
        assert!(!opens(now + ahead), "{ahead}");
    }
    assert!(!opens(now - 2) && !opens(0));
    // The control: as it was left, and as a cut leaves it between the state and the count.
    assert!(opens(now));
    let now = counter.0.lock().unwrap().0;
    assert!(opens(now - 1));
    let now = counter.0.lock().unwrap().0;
    // Whoever takes everything away takes nothing back.
    *counter.0.lock().unwrap() = (now, true);
    assert!(anchored(&case, &counter).report().is_err());
    *counter.0.lock().unwrap() = (now, false);
    std::fs::remove_dir_all(case.folder()).unwrap();
    assert!(anchored(&case, &counter).report().is_err());
}

#[test]
fn nothing_opens_that_the_tpm_did_not_count() {
    let case = Case::new();
    let counter = Arc::new(TestCounter(Mutex::new((100, false))));
    let leases = anchored(&case, &counter);
    assert!(!settle(&leases, 0, vec![case.lease(Opens::Unlimited)]));
    case.opens(&leases);
    counter.0.lock().unwrap().1 = true;
    assert!(case.open_as(&leases, 1, Right::Send).unwrap().is_err());
    // What was written then is in force when the chip answers again.
    counter.0.lock().unwrap().1 = false;
    drop(leases);
    case.open_as(&anchored(&case, &counter), 1, Right::Send).unwrap().unwrap();
}

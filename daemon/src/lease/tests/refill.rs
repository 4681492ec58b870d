//! A newer document of a lease of a label takes the place of the older one, and nothing else of the lease changes.

use super::*;
use tobari_core::ids::GroupId;

/// What a document says otherwise.
type Change = fn(&mut Lease);

const LATER: &str = "2026-06-01T00:00:01Z";
const END: &str = "2026-06-04T00:00:00Z";

/// A terminal that holds a lease of the label, and a file that is not in it.
struct Refill {
    case: Case,
    other: Sample,
}

impl Refill {
    fn new() -> (Self, Leases) {
        let case = Case::new();
        let other = sealed_file(&case.directory.path().join("other"), b"other");
        let leases = case.load();
        settle(&leases, 0, vec![case.lease_of(at_most(3), Some(LABEL))]);
        (Self { case, other }, leases)
    }

    /// The document with these files, signed at a time, with what `change` makes of it.
    fn document(&self, files: &[&Sample], issued_at: &str, change: impl FnOnce(&mut Lease)) -> SignedLease {
        self.case.lease_with(files, |lease| {
            (lease.opens, lease.label, lease.issued_at) = (at_most(3), Some(LABEL), at(issued_at));
            change(lease);
        })
    }

    /// The next document, with both files.
    fn newer(&self) -> SignedLease {
        self.document(&[&self.case.sample, &self.other], LATER, |_| ())
    }

    fn open(&self, leases: &Leases, sample: &Sample, right: Right) -> Option<Result<LeaseKey, Failure>> {
        let wanted = crate::open::wanted(&sample.header, "file");
        leases.open(&session_of(1, "2027-01-01T00:00:00Z"), &[&wanted], right).pop().unwrap()
    }

    /// The key of a file that opens.
    fn key(&self, leases: &Leases, sample: &Sample) -> LeaseKey {
        let key = self.open(leases, sample, Right::View).unwrap().unwrap();
        assert!(sample.header.authenticate(&key.dek).is_ok());
        key
    }

    fn path(&self, name: &str) -> PathBuf {
        self.case.folder().join(name)
    }
}

fn used(leases: &Leases) -> u32 {
    leases.of(PERSON).0[0].used
}

fn issued_at(leases: &Leases) -> Timestamp {
    leases.report().unwrap().held[0].issued_at
}

#[test]
fn a_newer_document_takes_the_place_and_the_count_goes_on() {
    let (refill, leases) = Refill::new();
    refill.key(&leases, &refill.case.sample);
    assert!(refill.open(&leases, &refill.other, Right::View).is_none(), "it is not in the first document");
    assert!(!settle(&leases, 1, vec![refill.newer()]));
    assert_eq!((used(&leases), issued_at(&leases)), (1, at(LATER)));
    refill.key(&leases, &refill.other);
    // The older one again, as when an answer comes late, and the same once more.
    let older = refill.document(&[&refill.case.sample], START, |_| ());
    for sent in [older, refill.newer()] {
        assert!(!settle(&leases, 2, vec![sent]));
        assert_eq!((used(&leases), issued_at(&leases)), (2, at(LATER)));
    }
    drop(leases);
    let leases = refill.case.load();
    assert_eq!((used(&leases), issued_at(&leases)), (2, at(LATER)));
    refill.key(&leases, &refill.case.sample);
    let refused = refill.open(&leases, &refill.other, Right::View).unwrap().err().unwrap();
    assert_eq!(refused.problem.field.as_deref(), Some("used-up"));
    // What the key server knows of openings is a floor here, too.
    let (refill, leases) = Refill::new();
    let opened = vec![LeaseOpened { lease: LEASE, count: 2 }];
    let answer = LeaseSyncAnswer { leases: vec![refill.newer()], opened, ..nothing(at(START)) };
    leases.settle(answer).unwrap();
    drop(leases);
    assert_eq!(used(&refill.case.load()), 2);
}

#[test]
fn only_the_same_lease_is_refilled() {
    let both = |refill: &Refill, change: Change| {
        refill.document(&[&refill.case.sample, &refill.other], LATER, change)
    };
    let changes: [(&str, Change); 9] = [
        ("at the same time", |lease| lease.issued_at = at(START)),
        ("before", |lease| lease.issued_at = at("2026-05-31T00:00:00Z")),
        ("a later end", |lease| lease.term.ends_at = at("2026-06-05T00:00:00Z")),
        ("an earlier start", |lease| lease.term.starts_at = at("2026-05-31T00:00:00Z")),
        ("more openings", |lease| lease.opens = at_most(4)),
        ("any number of openings", |lease| lease.opens = Opens::Unlimited),
        ("no label", |lease| lease.label = None),
        ("another label", |lease| lease.label = Some(LabelId::from_bytes([77; 16]))),
        ("another person", |lease| lease.person = PersonId::from_bytes([2; 16])),
    ];
    let (refill, leases) = Refill::new();
    for (what, change) in changes {
        assert!(!settle(&leases, 0, vec![both(&refill, change)]), "{what}");
        assert_eq!(issued_at(&leases), at(START), "{what}");
        assert!(refill.open(&leases, &refill.other, Right::View).is_none(), "{what}");
    }
    // Without the proof that its keys are recorded it is none at all.
    settle(&leases, 0, vec![SignedLease { receipt: None, ..refill.newer() }]);
    assert_eq!(issued_at(&leases), at(START));
    drop(leases);
    assert_eq!(issued_at(&refill.case.load()), at(START));
    // A lease of files stays as it was issued.
    let case = Case::new();
    let leases = case.holding(Opens::Unlimited);
    settle(&leases, 0, vec![case.lease_with(&[&case.sample], |lease| lease.issued_at = at(LATER))]);
    assert_eq!(issued_at(&leases), at(START));
    // The control.
    let leases = refill.case.load();
    settle(&leases, 0, vec![both(&refill, |_| ())]);
    refill.key(&leases, &refill.other);
}

#[test]
fn keys_in_use_and_what_was_narrowed_stay_as_they_were() {
    let (refill, leases) = Refill::new();
    let before = refill.key(&leases, &refill.case.sample);
    let view = Narrowing {
        lease: LEASE,
        label: LABEL,
        owner_group: None,
        rights: Rights::only(Right::View),
        ends_at: at(END),
    };
    leases.revoke(&Revocations { narrowed: vec![view], ..Revocations::default() });
    settle(&leases, 0, vec![refill.newer()]);
    // The document lends sending; what a stricter policy has taken is taken of the new files, too.
    assert!(refill.open(&leases, &refill.other, Right::Send).unwrap().is_err());
    let after = refill.key(&leases, &refill.other);
    before.limit.check(Right::View).unwrap();
    assert!(before.limit.check(Right::Send).is_err() && after.limit.check(Right::Send).is_err());
    drop(leases);
    let leases = refill.case.load();
    assert!(refill.open(&leases, &refill.other, Right::Send).unwrap().is_err());
    let key = refill.key(&leases, &refill.other);
    // Left out of the next document: what is open stays open, and ends with the lease.
    settle(&leases, 0, vec![refill.document(&[&refill.case.sample], "2026-06-01T00:00:02Z", |_| ())]);
    assert!(refill.open(&leases, &refill.other, Right::View).is_none());
    key.limit.check(Right::View).unwrap();
    leases.revoke(&Revocations { leases: vec![LEASE], ..Revocations::default() });
    assert!(key.limit.check(Right::View).is_err());
}

/// A file that was created under the lease: bound to what the document said then, it opens whatever the next one says.
#[test]
fn what_was_created_opens_after_a_refill() {
    let (refill, leases) = Refill::new();
    let login = session_of(1, "2027-01-01T00:00:00Z");
    leases.keep_created(&login, &refill.other.header, &refill.other.dek).unwrap();
    // Kept by a release that did not say to what the key is bound.
    let path = refill.path(&format!("{LEASE}.created"));
    let line = std::fs::read_to_string(&path).unwrap();
    let mut older: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(older.as_object_mut().unwrap().remove("bound").is_some());
    std::fs::write(&path, format!("\n{older}\n")).unwrap();
    drop(leases);
    let leases = refill.case.load();
    refill.key(&leases, &refill.other);
    // Other rights, another end and no file of the owner group: none of it is what the key is bound to.
    let changes: [Change; 3] = [
        |lease| lease.files[0].rights = Rights::only(Right::View),
        |lease| lease.files[0].ends_at = at("2026-06-02T00:00:00Z"),
        |lease| lease.files[0].owner_group = Some(GroupId::from_bytes([5; 16])),
    ];
    for (number, change) in (1..).zip(changes) {
        let leases = refill.case.load();
        let issued = format!("2026-06-01T00:00:0{number}Z");
        settle(&leases, 0, vec![refill.document(&[&refill.case.sample], &issued, change)]);
        assert_eq!(issued_at(&leases), at(&issued));
        drop(leases);
        let leases = refill.case.load();
        let login = session_of(1, "2027-01-01T00:00:00Z");
        assert!(leases.rights(&login, &refill.other.header).unwrap().unwrap().contains(Right::Send));
        let held = leases.inner();
        let wish = wish(PERSON, &refill.other.header, Right::View);
        let lent = held.held[0].permits(&wish, 0, at(START)).unwrap();
        let dek = held.held[0].dek(&lent, &wish, &leases.identity.grant_key).unwrap();
        assert!(refill.other.header.authenticate(&dek).is_ok());
    }
    // Whoever writes more into what is kept opens nothing with it.
    let kept = std::fs::read_to_string(&path).unwrap();
    let wider = kept.replace("\"view\",\"send\"", "\"view\",\"send\",\"decrypt\"");
    assert_ne!(kept, wider);
    std::fs::write(&path, wider).unwrap();
    let leases = refill.case.load();
    assert!(refill.open(&leases, &refill.other, Right::View).unwrap().is_err());
}

#[test]
fn a_cut_leaves_the_older_or_the_newer_document() {
    let (refill, leases) = Refill::new();
    let third = sealed_file(&refill.case.directory.path().join("third"), b"third");
    let login = session_of(1, "2027-01-01T00:00:00Z");
    leases.keep_created(&login, &third.header, &third.dek).unwrap();
    drop(leases);
    // Each write in turn cannot be made; what was written before it stays. Then it can.
    let newer = || {
        refill.document(&[&refill.other], LATER, |lease| lease.files[0].rights = Rights::only(Right::View))
    };
    let opened = vec![LeaseOpened { lease: LEASE, count: 1 }];
    for name in [String::from(".state.new"), format!(".{LEASE}.created.new"), format!(".{LEASE}.json.new")] {
        let leases = refill.case.load();
        let obstacle = refill.path(&name);
        std::fs::create_dir_all(obstacle.join("in the way")).unwrap();
        let answer = LeaseSyncAnswer { leases: vec![newer()], opened: opened.clone(), ..nothing(at(START)) };
        assert!(leases.settle(answer).is_err(), "{name}");
        drop(leases);
        std::fs::remove_dir_all(&obstacle).unwrap();
        // Half of it, as a cut leaves it.
        std::fs::write(&obstacle, b"half").unwrap();
        let leases = refill.case.load();
        assert_eq!(issued_at(&leases), at(START), "{name}");
        let held = leases.inner();
        for sample in [&refill.case.sample, &third] {
            let wish = wish(PERSON, &sample.header, Right::Send);
            let lent = held.held[0].permits(&wish, 0, at(START)).unwrap();
            assert!(held.held[0].dek(&lent, &wish, &leases.identity.grant_key).is_ok(), "{name}");
        }
    }
    let leases = refill.case.load();
    settle(&leases, 0, vec![newer()]);
    drop(leases);
    let leases = refill.case.load();
    assert_eq!((issued_at(&leases), used(&leases)), (at(LATER), 1));
    refill.key(&leases, &refill.other);
    refill.key(&leases, &third);
    assert!(refill.open(&leases, &refill.case.sample, Right::View).is_none());
}

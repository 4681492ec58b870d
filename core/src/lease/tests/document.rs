use crate::crypto::{Dek, GrantKeyPair, GrantSealer, SigningKey, constant_time_equal};
use crate::ids::{FileId, GroupId, LabelId, LeaseId, OrganisationId, PersonId, TerminalId};
use crate::lease::{LeaseBinding, LeaseError, Refused, ValidLease, Wish, chain, lease_info, sign};
use crate::policy::{Right, Rights};
use crate::proto::base64::Base64;
use crate::proto::lease::{Lease, LeaseFile, OfflineAct, OfflineRecord, Opens, SignedLease, Term};
use jiff::Timestamp;
use std::num::NonZeroU32;

pub(super) const ORGANISATION: OrganisationId = OrganisationId::from_bytes([1; 16]);
pub(super) const TERMINAL: TerminalId = TerminalId::from_bytes([2; 16]);
pub(super) const PERSON: PersonId = PersonId::from_bytes([3; 16]);
pub(super) const LABEL: LabelId = LabelId::from_bytes([4; 16]);
pub(super) const GROUP: GroupId = GroupId::from_bytes([5; 16]);
pub(super) const LEASE: LeaseId = LeaseId::from_bytes([6; 16]);

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn file_id(number: u8) -> FileId {
    FileId::from_bytes([number; 16])
}

pub(super) struct Case {
    pub(super) key: GrantKeyPair,
    pub(super) signing: SigningKey,
    pub(super) lease: Lease,
    pub(super) deks: Vec<Dek>,
}

/// A lease for the files 10 (with an owner group) and 11 (without).
pub(super) fn case() -> Case {
    let ends = ["2026-06-04T00:00:00Z", "2026-06-02T00:00:00Z"].map(at);
    case_of(None, &[(10, Some(GROUP), ends[0], 7), (11, None, ends[1], 7)])
}

/// A lease for files, each with its owner group, its end, and the number of the record of its release.
pub(super) fn case_of(label: Option<LabelId>, files: &[(u8, Option<GroupId>, Timestamp, u64)]) -> Case {
    let key = GrantKeyPair::generate().unwrap();
    let term = Term { starts_at: at("2026-06-01T00:00:00Z"), ends_at: at("2026-06-04T00:00:00Z") };
    let (encapsulated, mut sealer) =
        GrantSealer::new(&key.public(), &lease_info(ORGANISATION, TERMINAL, LEASE)).unwrap();
    let mut deks = Vec::new();
    let files = files
        .iter()
        .map(|(number, owner_group, ends_at, audit)| {
            let rights: Rights = [Right::View, Right::Send].into_iter().collect();
            let binding = LeaseBinding {
                file: file_id(*number),
                label: LABEL,
                owner_group: *owner_group,
                person: PERSON,
                rights,
                starts_at: term.starts_at,
                ends_at: *ends_at,
            };
            let dek = Dek::generate();
            let sealed_dek = Base64(sealer.seal(&binding.aad(), &dek).unwrap());
            deks.push(dek);
            LeaseFile {
                file: file_id(*number),
                label: LABEL,
                owner_group: *owner_group,
                name: Some(format!("{number}.txt")),
                rights,
                ends_at: *ends_at,
                audit: *audit,
                sealed_dek,
            }
        })
        .collect();
    let lease = Lease {
        version: 1,
        id: LEASE,
        organisation: ORGANISATION,
        terminal: TERMINAL,
        person: PERSON,
        login: String::from("bucho"),
        name: String::from("部長 太郎"),
        issued_at: at("2026-05-31T12:00:00Z"),
        term,
        opens: Opens::AtMost { count: NonZeroU32::new(3).unwrap() },
        label,
        encapsulated_key: Base64(encapsulated),
        files,
    };
    Case { key, signing: SigningKey::generate().unwrap(), lease, deks }
}

impl Case {
    fn check(&self, signed: &SignedLease) -> Result<ValidLease, LeaseError> {
        ValidLease::check(signed, &self.signing.verifying_key(), ORGANISATION, TERMINAL)
    }

    fn valid(&self) -> ValidLease {
        self.check(&sign(&self.lease, &self.signing).unwrap()).unwrap()
    }
}

pub(super) fn wish(number: u8) -> Wish {
    let owner_group = (number == 10).then_some(GROUP);
    Wish { person: PERSON, file: file_id(number), label: LABEL, owner_group, right: Right::View }
}

#[test]
fn each_file_opens_with_its_own_key() {
    let case = case();
    let lease = case.valid();
    for (number, dek) in [(10, &case.deks[0]), (11, &case.deks[1])] {
        let lent = lease.permits(&wish(number), 0, at("2026-06-01T00:00:00Z"), &[]).unwrap();
        let opened = lent.dek(&case.key).unwrap();
        assert!(constant_time_equal(opened.expose(), dek.expose()));
    }
    let other = GrantKeyPair::generate().unwrap();
    let lent = lease.permits(&wish(10), 0, at("2026-06-01T00:00:00Z"), &[]).unwrap();
    assert!(lent.dek(&other).is_err(), "another terminal's key");
}

#[test]
fn every_reason_refuses() {
    let case = case();
    let lease = case.valid();
    let good = at("2026-06-01T12:00:00Z");
    assert!(lease.permits(&wish(10), 2, good, &[]).is_ok());
    let refusal = |wish: Wish, used, now| lease.permits(&wish, used, now, &[]).err();
    let someone = PersonId::from_bytes([9; 16]);
    assert_eq!(refusal(Wish { person: someone, ..wish(10) }, 0, good), Some(Refused::OtherPerson));
    assert_eq!(refusal(wish(12), 0, good), Some(Refused::OtherFile));
    let relabelled = Wish { label: LabelId::from_bytes([9; 16]), ..wish(10) };
    assert_eq!(refusal(relabelled, 0, good), Some(Refused::OtherLabel));
    assert_eq!(refusal(Wish { owner_group: None, ..wish(10) }, 0, good), Some(Refused::OtherLabel));
    let start = case.lease.term.starts_at;
    assert_eq!(refusal(wish(10), 0, at("2026-05-31T23:59:59.999999Z")), Some(Refused::NotBegun(start)));
    let end = case.lease.term.ends_at;
    assert!(lease.permits(&wish(10), 0, at("2026-06-03T23:59:59.999999Z"), &[]).is_ok());
    assert_eq!(refusal(wish(10), 0, end), Some(Refused::Ended(end)));
    assert_eq!(refusal(wish(10), 0, Timestamp::MAX), Some(Refused::Ended(end)));
    let sooner = at("2026-06-02T00:00:00Z");
    assert_eq!(refusal(wish(11), 0, sooner), Some(Refused::Ended(sooner)), "a file may end before its lease");
    assert_eq!(refusal(wish(10), 3, good), Some(Refused::UsedUp(NonZeroU32::new(3).unwrap())));
    assert_eq!(refusal(wish(10), u32::MAX, good), Some(Refused::UsedUp(NonZeroU32::new(3).unwrap())));
    let edit = Wish { right: Right::Edit, ..wish(10) };
    assert_eq!(refusal(edit, 0, good), Some(Refused::RightNotLent(Right::Edit)));
}

#[test]
fn every_byte_of_the_payload_and_of_the_signature_counts() {
    let case = case();
    let signed = sign(&case.lease, &case.signing).unwrap();
    case.check(&signed).unwrap();
    for index in 0..signed.payload.0.len() {
        for bit in [0x01, 0x20, 0x80] {
            let mut changed = signed.clone();
            changed.payload.0[index] ^= bit;
            assert_eq!(case.check(&changed), Err(LeaseError::BadSignature), "payload byte {index}");
        }
    }
    for index in 0..signed.signature.0.len() {
        let mut changed = signed.clone();
        changed.signature.0[index] ^= 1;
        assert_eq!(case.check(&changed), Err(LeaseError::BadSignature), "signature byte {index}");
    }
    let mut cut = signed.clone();
    cut.payload.0.pop();
    assert_eq!(case.check(&cut), Err(LeaseError::BadSignature));
    let other = SigningKey::generate().unwrap();
    assert_eq!(case.check(&sign(&case.lease, &other).unwrap()), Err(LeaseError::BadSignature));
    // A signature over the same bytes for another purpose.
    let bulletin = case.signing.sign("tobari/1 bulletin", &signed.payload.0);
    let passed_off = SignedLease { payload: signed.payload, signature: Base64(bulletin), receipt: None };
    assert_eq!(case.check(&passed_off), Err(LeaseError::BadSignature));
}

#[test]
fn every_byte_of_the_stored_file_counts() {
    let case = case();
    let signed = sign(&case.lease, &case.signing).unwrap();
    let stored = serde_json::to_vec(&signed).unwrap();
    for index in 0..stored.len() {
        let mut changed = stored.clone();
        changed[index] ^= 1;
        // Either it is not JSON any more, or it says something else, or the signature does not fit.
        if let Ok(read) = serde_json::from_slice::<SignedLease>(&changed) {
            assert!(case.check(&read).is_err(), "byte {index}");
        }
    }
}

#[test]
fn what_a_key_is_bound_to_cannot_be_changed_even_by_who_can_sign() {
    let case = case();
    let now = at("2026-06-01T12:00:00Z");
    type Change = fn(&mut Lease);
    let changes: [(&str, Change); 8] = [
        ("rights", |lease| lease.files[0].rights = Rights::ALL),
        ("end", |lease| {
            lease.term.ends_at = at("2027-06-04T00:00:00Z");
            lease.files[0].ends_at = at("2027-06-04T00:00:00Z");
        }),
        ("start", |lease| lease.term.starts_at = at("2026-05-01T00:00:00Z")),
        ("person", |lease| lease.person = PersonId::from_bytes([9; 16])),
        ("label", |lease| lease.files[0].label = LabelId::from_bytes([9; 16])),
        ("owner group", |lease| lease.files[0].owner_group = None),
        ("lease", |lease| lease.id = LeaseId::from_bytes([9; 16])),
        ("file", |lease| lease.files[0].file = file_id(9)),
    ];
    for (what, change) in changes {
        let mut lease = case.lease.clone();
        change(&mut lease);
        let wish = Wish {
            person: lease.person,
            file: lease.files[0].file,
            label: lease.files[0].label,
            owner_group: lease.files[0].owner_group,
            right: Right::View,
        };
        let valid = case.check(&sign(&lease, &case.signing).unwrap()).unwrap();
        let lent = valid.permits(&wish, 0, now, &[]).unwrap();
        assert!(lent.dek(&case.key).is_err(), "{what}");
    }
}

#[test]
fn other_forms_of_the_same_lease_are_refused() {
    let case = case();
    let text = String::from_utf8(sign(&case.lease, &case.signing).unwrap().payload.0).unwrap();
    let signed = |payload: &str| {
        let signature = Base64(case.signing.sign("tobari/1 lease", payload.as_bytes()));
        SignedLease { payload: Base64(payload.as_bytes().to_vec()), signature, receipt: None }
    };
    assert!(case.check(&signed(&text)).is_ok());
    for other in [
        format!("{text} "),
        text.replacen("\"version\":1", "\"version\":2", 1),
        text.replacen("\"version\":1", "\"version\":1,\"extra\":0", 1),
        text.replacen("\"version\":1,", "", 1),
        text.replacen("2026-06-04T00:00:00Z", "2026-06-04T00:00:00.0Z", 1),
        text.replacen("{\"kind\":\"at-most\",\"count\":3}", "{\"kind\":\"at-most\",\"count\":0}", 1),
        text.replacen("{\"kind\":\"at-most\",\"count\":3}", "null", 1),
        text.replacen("2026-06-01T00:00:00Z", "2026-06-05T00:00:00Z", 1),
        text.replacen("\"ends_at\":\"2026-06-02T00:00:00Z\"", "\"ends_at\":\"2026-06-05T00:00:00Z\"", 1),
    ] {
        assert_ne!(other, text);
        assert_eq!(case.check(&signed(&other)), Err(LeaseError::Malformed), "{other}");
    }
    // No value of the end means "for ever": each is a time, and that time ends it.
    for end in ["\"\"", "0", "null", "\"never\""] {
        let other = text.replacen("\"2026-06-04T00:00:00Z\"", end, 2);
        assert_eq!(case.check(&signed(&other)), Err(LeaseError::Malformed), "{end}");
    }
}

#[test]
fn a_lease_of_another_terminal_or_organisation_is_refused() {
    let case = case();
    let signed = sign(&case.lease, &case.signing).unwrap();
    let key = case.signing.verifying_key();
    let elsewhere = TerminalId::from_bytes([8; 16]);
    let refused = ValidLease::check(&signed, &key, ORGANISATION, elsewhere);
    assert_eq!(refused, Err(LeaseError::OtherTerminal(TERMINAL)));
    let other = OrganisationId::from_bytes([8; 16]);
    assert_eq!(
        ValidLease::check(&signed, &key, other, TERMINAL),
        Err(LeaseError::OtherOrganisation(ORGANISATION))
    );
}

fn record(sequence: u64) -> Vec<u8> {
    let record = OfflineRecord {
        act: OfflineAct::Open,
        file: Some(file_id(10)),
        file_name: Some(String::from("起案書.docx")),
        lease: LEASE,
        person: PERSON,
        right: Some(Right::View),
        sequence,
        time: at("2026-06-01T12:00:00Z"),
        version: chain::VERSION,
        wall: at("2026-06-01T12:00:00Z"),
    };
    serde_json::to_vec(&record).unwrap()
}

#[test]
fn a_chain_shows_gaps_changes_and_another_order() {
    let payloads = [record(1), record(2), record(3)];
    let follow = |list: &[&Vec<u8>]| chain::follow(chain::Head::START, list.iter().map(|one| one.as_slice()));
    let (records, head) = follow(&[&payloads[0], &payloads[1], &payloads[2]]).unwrap();
    assert_eq!((records.len(), head.sequence), (3, 3));
    let gap = chain::ChainFault::Gap { expected: 2, found: 3 };
    assert_eq!(follow(&[&payloads[0], &payloads[2]]).unwrap_err(), gap);
    assert!(follow(&[&payloads[1], &payloads[0]]).is_err());
    assert!(follow(&[&payloads[0], &payloads[0]]).is_err());
    let spaced = [payloads[0].as_slice(), b" "].concat();
    assert_eq!(follow(&[&spaced]).unwrap_err(), chain::ChainFault::Unreadable(1));
    let renamed = String::from_utf8(payloads[2].clone()).unwrap().replace("起案書", "別の物");
    let (_, other) = follow(&[&payloads[0], &payloads[1], &renamed.into_bytes()]).unwrap();
    assert!(!other.is(&head) && head.is(&head));
}

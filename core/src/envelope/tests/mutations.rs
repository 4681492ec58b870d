//! Structural mutations of a sealed file: all are refused, by every way of opening, for the expected reason.

use super::super::cbor::{Value, decode_map, encode_map};
use super::super::error::Reason;
use super::super::slot::{State, slot_offset};
use super::*;
use crate::crypto::FileKeys;

const HEADER: usize = 4096;
const STORED: usize = 4096 + 28;

/// Why all ways of opening refuse these bytes; and that none of them changes them.
#[track_caller]
fn refusal(bytes: &[u8], dek: &Dek) -> Reason {
    let storage = MemoryStorage::from(bytes.to_vec());
    let header = match Header::read(&storage) {
        Err(OpenError::Refused(refused)) => return refused.0,
        other => other.unwrap(),
    };
    let Err(OpenError::Refused(refused)) = opened(&storage, &header, dek) else { panic!("accepted") };
    assert!(
        matches!(verify(&storage, &header, dek, &mut |_| {}), Err(OpenError::Refused(other)) if other == refused)
    );
    let read = Reader::open(&storage, &header, dek).and_then(|reader| {
        let mut buffer = vec![0; reader.len() as usize];
        reader.read_at(&mut buffer, 0)
    });
    assert!(matches!(read, Err(OpenError::Refused(_))));
    let journal = MemoryStorage::new();
    let read = Writer::open(&storage, &journal, &header, dek).and_then(|writer| {
        let mut buffer = vec![0; writer.len() as usize];
        writer.read_at(&mut buffer, 0)
    });
    assert!(matches!(read, Err(WriteError::Refused(_))));
    assert_eq!(storage.into_bytes(), bytes);
    refused.0
}

/// A header with these parts and a MAC that fits, in its region, with the slots of `bytes` and its body.
fn forged(bytes: &[u8], dek: &Dek, policy: &[u8], recipients: &[u8]) -> Vec<u8> {
    let header = Header::parse(bytes).unwrap();
    let mut wire = bytes[..40].to_vec();
    wire.extend_from_slice(&(policy.len() as u32).to_le_bytes());
    wire.extend_from_slice(&(recipients.len() as u32).to_le_bytes());
    wire.extend_from_slice(policy);
    wire.extend_from_slice(recipients);
    let mac = FileKeys::new(dek, &header.file_id()).unwrap().header_mac(&wire);
    wire.extend_from_slice(&mac);
    wire.resize(HEADER - 1024, 0);
    wire.extend_from_slice(&bytes[HEADER - 1024..]);
    wire
}

/// Policy and recipients as stored.
fn parts(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (policy, recipients) = (number(40), number(44));
    (bytes[48..48 + policy].to_vec(), bytes[48 + policy..48 + policy + recipients].to_vec())
}

/// The bytes with this state in slot 0, authentic.
fn with_state(bytes: &[u8], dek: &Dek, change: impl FnOnce(&mut State)) -> Vec<u8> {
    let header = Header::parse(bytes).unwrap();
    let keys = FileKeys::new(dek, &header.file_id()).unwrap();
    let at = slot_offset(header.geometry(), 0);
    let mut state = State::decode(&bytes[at..at + 56], header.geometry()).unwrap();
    change(&mut state);
    let mut bytes = bytes.to_vec();
    bytes[at..at + 512].copy_from_slice(&state.encode(&keys));
    bytes
}

#[test]
fn every_byte_of_the_header_counts() {
    let (storage, _, dek) = sealed(&contents(5000));
    let bytes = storage.into_bytes();
    let spare = HEADER - 512..HEADER - 512 + 88;
    let copy = (HEADER - 1024) / 2..HEADER - 1024;
    for at in 0..HEADER {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        if copy.contains(&at) {
            // A copy of a header that is not whole means nothing.
            let header = Header::parse(&changed).unwrap();
            verify(&changed_storage(&changed), &header, &dek, &mut |_| {}).unwrap();
        } else if spare.contains(&at) {
            // The slot that does not count may be torn; that is seen, and changes nothing.
            let header = Header::parse(&changed).unwrap();
            let checked = verify(&changed_storage(&changed), &header, &dek, &mut |_| {}).unwrap();
            assert!(checked.spare_slot_damaged);
        } else {
            refusal(&changed, &dek);
        }
    }
}

fn changed_storage(bytes: &[u8]) -> MemoryStorage {
    MemoryStorage::from(bytes.to_vec())
}

#[test]
fn every_byte_of_the_body_counts() {
    let (storage, _, dek) = sealed(&contents(4096 + 100));
    let bytes = storage.into_bytes();
    for at in
        (HEADER..bytes.len()).step_by(13).chain(HEADER..HEADER + 40).chain(bytes.len() - 40..bytes.len())
    {
        let mut changed = bytes.clone();
        changed[at] ^= 0x80;
        assert!(matches!(refusal(&changed, &dek), Reason::Chunk));
    }
}

#[test]
fn chunks_keep_their_number_order_and_origin() {
    let plain = contents(3 * 4096);
    let (storage, _, dek) = sealed(&plain);
    let bytes = storage.into_bytes();
    let chunk = |index: usize| &bytes[HEADER + index * STORED..HEADER + (index + 1) * STORED];
    let with = |chunks: &[&[u8]]| [&bytes[..HEADER], &chunks.concat()].concat();
    let (other, _, _) = sealed(&plain);
    let other = other.into_bytes();
    let foreign = &other[HEADER..HEADER + STORED];

    assert_eq!(refusal(&with(&[chunk(1), chunk(0), chunk(2)]), &dek), Reason::Chunk);
    assert_eq!(refusal(&with(&[chunk(0), chunk(0), chunk(2)]), &dek), Reason::Chunk);
    assert_eq!(refusal(&with(&[foreign, chunk(1), chunk(2)]), &dek), Reason::Chunk);
    assert_eq!(refusal(&with(&[&[0; STORED], chunk(1), chunk(2)]), &dek), Reason::Chunk);
    assert_eq!(refusal(&with(&[chunk(0), chunk(2)]), &dek), Reason::Size);
    assert_eq!(refusal(&with(&[chunk(0), chunk(1)]), &dek), Reason::Size);
    assert_eq!(refusal(&with(&[chunk(0), chunk(1), chunk(2), chunk(2)]), &dek), Reason::Size);
    assert_eq!(refusal(&with(&[]), &dek), Reason::Size);
    // The body of another file under this header.
    assert_eq!(refusal(&[&bytes[..HEADER], &other[HEADER..]].concat(), &dek), Reason::Chunk);
}

#[test]
fn no_cut_or_extension_is_accepted() {
    let (storage, _, dek) = sealed(&contents(3 * 4096 + 50));
    let bytes = storage.into_bytes();
    let borders = (0..4).flat_map(|index| {
        let start = HEADER + index * STORED;
        [
            start - 1,
            start,
            start + 1,
            start + 11,
            start + 12,
            start + 13,
            start + 28,
            start + 29,
            start + 1000,
        ]
    });
    for cut in
        (0..HEADER).step_by(97).chain(borders).filter(|cut| *cut < bytes.len()).chain([bytes.len() - 1])
    {
        let reason = refusal(&bytes[..cut], &dek);
        assert!(matches!(reason, Reason::Length | Reason::Size), "{cut}: {reason:?}");
    }
    for more in [1, 28, 29, 512, STORED] {
        let longer = [&bytes[..], &vec![0; more]].concat();
        assert_eq!(refusal(&longer, &dek), Reason::Size);
    }
    // Nor a shorter or longer length that somebody with the DEK did not seal for.
    assert_eq!(refusal(&with_state(&bytes, &dek, |state| state.length -= 1), &dek), Reason::Size);
    assert_eq!(refusal(&with_state(&bytes, &dek, |state| state.length += 1), &dek), Reason::Size);
}

#[test]
fn an_interrupted_tail_is_cut_and_reported_but_nothing_may_be_missing() {
    let plain = contents(5000);
    let (storage, header, dek) = sealed(&plain);
    let bytes = with_state(&storage.into_bytes(), &dek, |state| state.dirty = true);
    let longer = changed_storage(&[&bytes[..], &[7; 99]].concat());
    let mut found = Vec::new();
    let report = open_stream(&longer, &header, &dek, &mut found, &mut |_| {}).unwrap();
    assert_eq!(report, Opened { bytes: 5000, interrupted_tail: Some(99) });
    assert_eq!(found, plain);
    assert_eq!(Reader::open(&longer, &header, &dek).unwrap().interrupted_tail(), Some(99));
    let journal = MemoryStorage::new();
    assert_eq!(recover(&longer, &journal, &dek).unwrap(), Recovery::Cut(99));
    assert_eq!(recover(&longer, &journal, &dek).unwrap(), Recovery::Clean);
    assert_eq!(verify(&longer, &header, &dek, &mut |_| {}).unwrap().interrupted_tail, None);
    assert_eq!(refusal(&bytes[..bytes.len() - 1], &dek), Reason::Size);
}

#[test]
fn an_old_chunk_put_back_is_seen() {
    for (size, at) in [(3 * 4096, 4096), (5 << 20, 2 << 20)] {
        let (storage, header, dek) = sealed(&contents(size));
        let journal = MemoryStorage::new();
        let old = storage.to_bytes();
        let mut writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
        writer.write_at(b"new", at).unwrap();
        writer.close().unwrap();
        if size > 1024 * 4096 {
            // A long file that was changed has no root: a limit of the version, which verify reports.
            assert!(!verify(&storage, &header, &dek, &mut |_| {}).unwrap().rooted);
            continue;
        }
        let mut mixed = storage.into_bytes();
        let chunk = HEADER + STORED..HEADER + 2 * STORED;
        mixed[chunk.clone()].copy_from_slice(&old[chunk]);
        assert_eq!(refusal(&mixed, &dek), Reason::Root);
    }
    // A root that was not made over these chunks, in a file too long for tags to be loaded.
    let (storage, header, dek) = sealed(&contents(5 << 20));
    let bytes = with_state(&storage.into_bytes(), &dek, |state| state.root = Some([9; 32]));
    let storage = changed_storage(&bytes);
    let result = opened(&storage, &header, &dek);
    assert!(matches!(result, Err(OpenError::Refused(Refused(Reason::Root)))));
}

#[test]
fn parts_of_another_file_do_not_fit() {
    let (storage, _, dek) = sealed(&contents(5000));
    let bytes = storage.into_bytes();
    let (other, _, other_dek) = sealed(&contents(5000));
    let other = other.into_bytes();
    let slots = HEADER - 1024..HEADER;
    let mut changed = bytes.clone();
    changed[slots.clone()].copy_from_slice(&other[slots]);
    assert_eq!(refusal(&changed, &dek), Reason::Slots);

    // Recipients or policy of another file, even by somebody who can make the MAC fit.
    let (policy, recipients) = parts(&bytes);
    let (_, other_recipients) = parts(&other);
    let key = recipient(RecipientKind::RsaOaep);
    let unwrap = |bytes: &[u8]| {
        let header = Header::parse(bytes).unwrap();
        let stanza = &header.stanzas()[0];
        header
            .unwrap(stanza, &key.decapsulate(&stanza.encapsulation).unwrap())
            .map(|dek| dek.expose().to_vec())
    };
    assert_eq!(unwrap(&bytes), Ok(dek.expose().to_vec()));
    assert_eq!(unwrap(&forged(&bytes, &dek, &policy, &other_recipients)), Err(Refused(Reason::Wrap)));
    let mut lower = decode_map(&policy).unwrap();
    lower[2].1 = Value::Unsigned(0);
    let lower = encode_map(&lower).unwrap();
    assert_eq!(unwrap(&forged(&bytes, &dek, &lower, &recipients)), Err(Refused(Reason::Wrap)));
    // The right recipients with a header MAC of somebody without the DEK.
    assert_eq!(unwrap(&forged(&bytes, &other_dek, &policy, &recipients)), Err(Refused(Reason::HeaderMac)));
    assert_eq!(refusal(&bytes, &other_dek), Reason::HeaderMac);
    // A stanza that is not in the header that was asked.
    let (mine, theirs) = (Header::parse(&bytes).unwrap(), Header::parse(&other).unwrap());
    let secret = key.decapsulate(&theirs.stanzas()[0].encapsulation).unwrap();
    assert_eq!(mine.unwrap(&theirs.stanzas()[0], &secret).err(), Some(Refused(Reason::ForeignStanza)));
    // A header parsed from another file, or from before a change.
    let result = opened(&changed_storage(&bytes), &theirs, &other_dek);
    assert!(matches!(result, Err(OpenError::Refused(Refused(Reason::HeaderChanged)))));
}

#[test]
fn only_canonical_policies_are_accepted() {
    let (storage, _, dek) = sealed(b"contents");
    let bytes = storage.into_bytes();
    let (policy, recipients) = parts(&bytes);
    let entries = decode_map(&policy).unwrap();
    let parse = |policy: &[u8]| Header::parse(&forged(&bytes, &dek, policy, &recipients)).map(|_| ());
    let refused = |policy: &[u8], reason| assert_eq!(parse(policy), Err(Refused(reason)));
    parse(&policy).unwrap();

    // An unknown entry is ignored, unless its key is negative.
    let mut more = entries.clone();
    more.push((1000, Value::Text("later")));
    parse(&encode_map(&more).unwrap()).unwrap();
    more.push((-1, Value::Unsigned(0)));
    refused(&encode_map(&more).unwrap(), Reason::Critical);

    // Each known entry missing (the owner group may), or of the wrong type.
    for (at, (key, value)) in entries.iter().enumerate() {
        let mut fewer = entries.clone();
        fewer.remove(at);
        let result = parse(&encode_map(&fewer).unwrap());
        assert_eq!(result.is_ok(), *key == 5, "entry {key}");
        let mut wrong = entries.clone();
        wrong[at].1 = if matches!(value, Value::Bytes(_)) { Value::Unsigned(1) } else { Value::Bytes(&[1]) };
        refused(&encode_map(&wrong).unwrap(), Reason::Encoding);
    }
    let name = "x".repeat(256);
    let mut long = entries.clone();
    long[3].1 = Value::Text(&name);
    refused(&encode_map(&long).unwrap(), Reason::Encoding);
    let mut level = entries.clone();
    level[2].1 = Value::Unsigned(65536);
    refused(&encode_map(&level).unwrap(), Reason::Encoding);

    // Out of order, twice, padded numbers, indefinite length, trailing and missing bytes.
    let mut swapped = entries.clone();
    swapped.swap(0, 1);
    refused(&encode_map(&swapped).unwrap(), Reason::Encoding);
    let mut twice = entries.clone();
    twice.insert(1, entries[0]);
    refused(&encode_map(&twice).unwrap(), Reason::Encoding);
    refused(&[&[0xB8, entries.len() as u8], &policy[1..]].concat(), Reason::Encoding);
    refused(&[&[0xBF], &policy[1..], &[0xFF]].concat(), Reason::Encoding);
    refused(&[&policy[..], &[0]].concat(), Reason::Encoding);
    refused(&policy[..policy.len() - 1], Reason::Encoding);
    refused(&[], Reason::Encoding);
}

#[test]
fn only_well_formed_recipients_are_accepted() {
    use super::super::cbor::{decode_stanzas, encode_stanzas};
    let (storage, _, dek) = sealed(b"contents");
    let bytes = storage.into_bytes();
    let (policy, recipients) = parts(&bytes);
    let fields = decode_stanzas(&recipients, 16).unwrap();
    let (kind, key_id, encapsulation, wrapped) = fields[0];
    let refused = |recipients: &[u8], reason| {
        let result = Header::parse(&forged(&bytes, &dek, &policy, recipients)).map(|_| ());
        assert_eq!(result, Err(Refused(reason)));
    };
    for stanza in [
        ("rsa-oaep+mlkem768", key_id, encapsulation, wrapped),
        ("rsa-oaep+sike", key_id, encapsulation, wrapped),
        ("", key_id, encapsulation, wrapped),
        (kind, &key_id[1..], encapsulation, wrapped),
        (kind, key_id, &encapsulation[1..], wrapped),
        (kind, key_id, &[], wrapped),
        (kind, key_id, encapsulation, &wrapped[1..]),
    ] {
        refused(&encode_stanzas(&[stanza]).unwrap(), Reason::Stanza);
    }
    refused(&encode_stanzas(&[fields[0], fields[0]]).unwrap(), Reason::Stanza);
    refused(&encode_stanzas(&[]).unwrap(), Reason::Length);
    let short: &[u8] = &[0];
    refused(&encode_stanzas(&[("", short, short, short); 17]).unwrap(), Reason::Length);
    refused(&[&[0x98, 1], &recipients[1..]].concat(), Reason::Encoding);
    refused(&[&[0x81, 0x85], &recipients[2..]].concat(), Reason::Encoding);
    refused(&[&recipients[..], &[0]].concat(), Reason::Encoding);
}

#[test]
fn fixed_fields_have_one_value_or_range() {
    let (storage, header, dek) = sealed(b"contents");
    let bytes = storage.into_bytes();
    let with = |at: usize, field: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + field.len()].copy_from_slice(field);
        refusal(&changed, &dek)
    };
    assert_eq!(with(0, b"\x88"), Reason::Magic);
    assert_eq!(with(8, &[2]), Reason::Version);
    assert_eq!(with(10, &[1]), Reason::Version);
    assert_eq!(with(20, &[1]), Reason::Version);
    for size in [0_u32, 1, 4095, 4097, 8192, 65536, 69632, u32::MAX] {
        assert_eq!(with(12, &size.to_le_bytes()), Reason::Length, "{size}");
    }
    for log2 in [0_u32, 11, 21, 256 + 12, u32::MAX] {
        assert_eq!(with(16, &log2.to_le_bytes()), Reason::Length, "{log2}");
    }
    assert_eq!(with(16, &[13]), Reason::HeaderMac);
    assert_eq!(with(40, &u32::MAX.to_le_bytes()), Reason::Length);
    assert_eq!(with(44, &u32::MAX.to_le_bytes()), Reason::Length);
    assert_eq!(with(header.wire_bytes().len(), &[1]), Reason::Padding);
    assert_eq!(with((HEADER - 1024) / 2 - 1, &[1]), Reason::Padding);
    assert_eq!(with(HEADER - 1024 + 88, &[1]), Reason::Padding);
    assert_eq!(with(HEADER - 1, &[1]), Reason::Padding);
    assert_eq!(with(HEADER - 1024, &[0; 512]), Reason::Slots);
    assert_eq!(Header::parse(&header.wire_bytes()[1..]), Err(Refused(Reason::Magic)));
    assert_eq!(Header::parse(&[]), Err(Refused(Reason::Magic)));
    let wire = header.wire_bytes();
    assert_eq!(Header::parse(&[wire, &[0]].concat()), Err(Refused(Reason::Length)));
    assert_eq!(Header::parse(&wire[..wire.len() - 1]), Err(Refused(Reason::Length)));
}

#[test]
fn authentic_slots_hold_only_what_writers_make() {
    let (storage, header, dek) = sealed(b"contents");
    let bytes = storage.into_bytes();
    let keys = FileKeys::new(&dek, &header.file_id()).unwrap();
    let with = |at: usize, field: &[u8]| {
        let mut changed = bytes.clone();
        let slot = HEADER - 1024;
        changed[slot + at..slot + at + field.len()].copy_from_slice(field);
        let mac = keys.state_mac(&changed[slot..slot + 56]);
        changed[slot + 56..slot + 88].copy_from_slice(&mac);
        refusal(&changed, &dek)
    };
    assert_eq!(with(16, &[4]), Reason::SlotContents, "an unknown flag");
    assert_eq!(with(16, &[0]), Reason::SlotContents, "a root without its flag");
    assert_eq!(with(20, &[1]), Reason::SlotContents, "reserved bytes");
    assert_eq!(with(8, &u64::MAX.to_le_bytes()), Reason::SlotContents, "a length without end");
    let mut same = bytes.clone();
    same.copy_within(HEADER - 1024..HEADER - 512, HEADER - 512);
    assert_eq!(refusal(&same, &dek), Reason::SlotContents, "the same generation twice");
}

#[test]
fn nothing_of_a_chunk_is_served_before_its_tag_was_checked() {
    let plain = contents(3 * 4096);
    let (storage, header, dek) = sealed(&plain);
    let mut bytes = storage.into_bytes();
    bytes[HEADER + STORED + 2000] ^= 1;
    let storage = changed_storage(&bytes);
    let mut sink = Vec::new();
    assert!(open_stream(&storage, &header, &dek, &mut sink, &mut |_| {}).is_err());
    assert_eq!(sink, plain[..4096]);
    let reader = Reader::open(&storage, &header, &dek).unwrap();
    let mut buffer = vec![0; 3 * 4096];
    assert!(reader.read_at(&mut buffer, 0).is_err());
    assert_eq!(buffer[..4096], plain[..4096]);
    assert!(buffer[4096..].iter().all(|byte| *byte == 0));
    assert!(reader.read_at(&mut buffer[..1], 4096).is_err());
    assert_eq!(reader.read_at(&mut buffer[..4096], 8192).unwrap(), 4096);
}

#[test]
fn one_message_for_every_refusal() {
    let messages = [Reason::Magic, Reason::HeaderMac, Reason::Chunk, Reason::Root].map(|reason| {
        let refused = Refused(reason);
        assert_eq!(OpenError::from(refused).to_string(), refused.to_string());
        assert_eq!(WriteError::from(refused).to_string(), refused.to_string());
        assert_eq!(ReadBackError::from(refused).to_string(), refused.to_string());
        refused.to_string()
    });
    assert!(messages.iter().all(|message| *message == messages[0]));
}

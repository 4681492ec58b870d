//! Relabel, rewrap, epochs, read-back.

use super::*;
use crate::crypto::{bulk, second};

#[test]
fn relabel_and_rewrap_leave_body_and_slots() {
    let plain = contents(10_000);
    let hybrid = recipient(RecipientKind::RsaOaepMlkem768).public().clone();
    let two = Epoch::new(&[recipient(RecipientKind::RsaOaep).public().clone(), hybrid]).unwrap();
    let storage = MemoryStorage::new();
    let done = seal(&mut &plain[..], &storage, &two, policy(), &options(12), &mut |_| {}).unwrap();
    let (old, dek, size) = (done.header, done.dek, 8192);
    let before = storage.to_bytes();
    let new_policy = FilePolicy { label: LabelId::from_bytes([9; 16]), label_level: 10, ..policy() };
    let header = relabel(&storage, &old, &dek, new_policy.clone(), epoch()).unwrap();
    assert_eq!(Header::read(&storage).unwrap(), header);
    assert_eq!(header.policy(), &new_policy);
    assert_eq!(header.file_id(), old.file_id());
    assert_eq!(storage.to_bytes()[size - 1024..], before[size - 1024..]);
    assert_eq!(opened(&storage, &header, &dek).unwrap(), plain);
    assert!(opened(&storage, &old, &dek).is_err(), "the old header is gone");
    // The old stanza does not open under the new label.
    let key = recipient(RecipientKind::RsaOaep);
    let secret = key.decapsulate(&header.stanzas()[0].encapsulation).unwrap();
    assert_eq!(header.unwrap(&header.stanzas()[0], &secret).unwrap().expose(), dek.expose());
    assert!(header.unwrap(&old.stanzas()[0], &secret).is_err());

    let other = recipient(RecipientKind::RsaOaepMlkem768);
    let recipients = Epoch::new(&[other.public().clone()]).unwrap();
    let rewrapped = rewrap(&storage, &header, &dek, 7, &recipients).unwrap();
    assert_eq!(rewrapped.policy(), &FilePolicy { generation: 7, ..new_policy });
    assert_eq!(rewrapped.stanzas()[0].key_id, other.public().key_id());
    let secret = other.decapsulate(&rewrapped.stanzas()[0].encapsulation).unwrap();
    rewrapped.unwrap(&rewrapped.stanzas()[0], &secret).unwrap();
    assert_eq!(opened(&storage, &rewrapped, &dek).unwrap(), plain);

    let both = Epoch::new(&[other.public().clone(), key.public().clone()]).unwrap();
    let policy = FilePolicy { label_name: "x".repeat(255), ..policy() };
    let bigger = relabel(&storage, &rewrapped, &dek, policy, &both).unwrap();
    assert_eq!(bigger.stanzas().len(), 2);
    assert_eq!(storage.to_bytes()[size..], before[size..]);
}

#[test]
fn what_does_not_fit_into_the_region_is_refused_and_nothing_changes() {
    use crate::crypto::RecipientPublicKey;
    let hybrid = recipient(RecipientKind::RsaOaepMlkem768).public();
    // Other recipients of the hybrid kind: the same RSA key with other ML-KEM keys would do, but need generating.
    let keys: Vec<RecipientPublicKey> = (0..2)
        .map(|_| RecipientPrivateKey::generate(RecipientKind::RsaOaepMlkem768).unwrap().public().clone())
        .chain([hybrid.clone()])
        .collect();
    let three = Epoch::new(&keys).unwrap();
    let (storage, header, dek) = sealed(b"contents");
    let before = storage.to_bytes();
    let result = relabel(&storage, &header, &dek, policy(), &three);
    assert!(matches!(result, Err(WriteError::Header(SealError::HeaderFull))));
    assert_eq!(storage.to_bytes(), before);
    // A fresh file takes a larger region.
    let storage = MemoryStorage::new();
    let done = seal(&mut &b"contents"[..], &storage, &three, policy(), &options(12), &mut |_| {}).unwrap();
    assert_eq!(done.header.header_size(), 12288);
    read_back(&storage, &done.dek, &mut &b"contents"[..], second()).unwrap();
    assert_eq!(opened(&storage, &Header::read(&storage).unwrap(), &done.dek).unwrap(), b"contents");

    for policy in [
        FilePolicy { label_name: "x".repeat(256), ..policy() },
        FilePolicy { sealed_at: "1969-12-31T23:59:59Z".parse().unwrap(), ..policy() },
    ] {
        let result = seal(&mut &b""[..], &MemoryStorage::new(), epoch(), policy, &options(12), &mut |_| {});
        assert!(matches!(result, Err(SealError::Policy)));
    }
}

#[test]
fn an_epoch_has_1_to_16_different_recipients_and_serves_4096_files() {
    let key = recipient(RecipientKind::RsaOaep).public().clone();
    assert!(matches!(Epoch::new(&[]), Err(SealError::Recipients)));
    assert!(matches!(Epoch::new(&[key.clone(), key.clone()]), Err(SealError::Recipients)));
    assert!(matches!(Epoch::new(&vec![key.clone(); 17]), Err(SealError::Recipients)));
    let epoch = Epoch::new(&[key]).unwrap();
    for _ in 0..EPOCH_FILES {
        assert!(!epoch.is_spent());
        epoch.take().unwrap();
    }
    assert!(epoch.is_spent());
    let result = seal(&mut &b""[..], &MemoryStorage::new(), &epoch, policy(), &options(12), &mut |_| {});
    assert!(matches!(result, Err(SealError::EpochSpent)));
}

#[test]
fn files_of_an_epoch_share_the_encapsulation_and_nothing_else() {
    let (first, second) = (sealed(b"contents"), sealed(b"contents"));
    let (left, right) = (&first.1.stanzas()[0], &second.1.stanzas()[0]);
    assert_eq!(left.encapsulation_hash(), right.encapsulation_hash());
    assert_ne!(left.wrapped_dek, right.wrapped_dek);
    assert_ne!(first.1.file_id(), second.1.file_id());
    assert_ne!(first.2.expose(), second.2.expose());
}

#[test]
fn the_read_back_sees_every_difference() {
    for size in [0, 1, 5000, (1 << 20) + 5, 3 << 20] {
        let plain = contents(size);
        let (storage, _, dek) = sealed(&plain);
        for provider in [bulk(), second()] {
            read_back(&storage, &dek, &mut &plain[..], provider).unwrap();
        }
        let longer = [&plain[..], b"x"].concat();
        let result = read_back(&storage, &dek, &mut &longer[..], second());
        assert!(matches!(result, Err(ReadBackError::Differs(at)) if at == size as u64));
        if size > 0 {
            let result = read_back(&storage, &dek, &mut &plain[..size - 1], second());
            assert!(matches!(result, Err(ReadBackError::Differs(at)) if at == size as u64 - 1));
            let mut other = plain.clone();
            other[size / 2] ^= 1;
            let result = read_back(&storage, &dek, &mut &other[..], second());
            assert!(matches!(result, Err(ReadBackError::Differs(at)) if at == size as u64 / 2));
        }
    }
}

#[test]
fn the_read_back_refuses_every_flipped_byte() {
    let plain = contents(5000);
    let (storage, header, dek) = sealed(&plain);
    let bytes = storage.into_bytes();
    for at in (0..bytes.len()).filter(|at| *at < 48 || at % 5 == 0 || *at >= 4096 - 1024 && *at < 4096) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let result = read_back(&MemoryStorage::from(changed), &dek, &mut &plain[..], second());
        assert!(result.is_err(), "byte {at}");
    }
    for length in [0, 47, 4095, 4096, bytes.len() - 1] {
        let cut = MemoryStorage::from(bytes[..length].to_vec());
        assert!(read_back(&cut, &dek, &mut &plain[..], second()).is_err());
    }
    let (_, _, other) = sealed(&plain);
    let result = read_back(&MemoryStorage::from(bytes), &other, &mut &plain[..], second());
    assert!(matches!(result, Err(ReadBackError::Refused(_))));
    assert!(header.authenticate(&other).is_err());
}

#[test]
fn a_journal_of_another_file_or_key_means_nothing() {
    let plain = contents(9000);
    let (storage, _, dek) = sealed(&plain);
    let before = storage.to_bytes();
    let (_, other_header, other_dek) = sealed(&plain);
    let keys = crate::crypto::FileKeys::new(&other_dek, &other_header.file_id()).unwrap();
    let state = super::super::slot::State { generation: 9, length: 4096, dirty: false, root: None };
    let mut draft = super::super::journal::Draft::new(other_header.file_id(), 4, 1, 4096 + 28);
    draft.add(0, &[7; 4096]);
    draft.finish(&keys, &state);
    let entry = draft.bytes().to_vec();
    for bytes in [entry.clone(), entry[..entry.len() - 1].to_vec(), vec![0; 5000], vec![1]] {
        let journal = MemoryStorage::from(bytes);
        assert_eq!(recover(&storage, &journal, &dek).unwrap(), Recovery::Clean);
        assert_eq!(storage.to_bytes(), before);
        assert!(journal.is_empty().unwrap());
    }
}

/// A file whose header is being changed, cut short at a point: `region` is put over its header region.
fn interrupted(change: impl FnOnce(&mut [u8], &Header)) -> (MemoryStorage, Header, Header, Dek) {
    let (storage, old, dek) = sealed(&contents(9000));
    let start = storage.to_bytes();
    let new = relabel(&storage, &old, &dek, FilePolicy { label_level: 10, ..policy() }, epoch()).unwrap();
    let mut bytes = start;
    change(&mut bytes, &new);
    (MemoryStorage::from(bytes), old, new, dek)
}

/// The bytes of a copy.
fn copy_of(header: &Header) -> Vec<u8> {
    let wire = header.wire_bytes();
    let size = (wire.len() as u32).to_le_bytes();
    let hash = crate::crypto::sha256(&[wire]);
    [&b"\x89TBN\r\n\x1a\n"[..], &size, &[0; 4], &hash, wire].concat()
}

#[test]
fn a_whole_copy_counts_and_is_put_in_its_place() {
    let copied = |bytes: &mut [u8], new: &Header| {
        let copy = copy_of(new);
        bytes[1536..1536 + copy.len()].copy_from_slice(&copy);
        bytes[300..700].fill(0xAA);
    };
    let (storage, _, new, dek) = interrupted(copied);
    assert_eq!(Header::read(&storage).unwrap(), new);
    assert!(header_change_pending(&storage).unwrap());
    assert_eq!(opened(&storage, &new, &dek).unwrap(), contents(9000));
    assert!(verify(&storage, &new, &dek, &mut |_| {}).unwrap().rooted);
    // A writer of the contents finds it too, and ends it.
    let by_writer = MemoryStorage::from(storage.to_bytes());
    let journal = MemoryStorage::new();
    let writer = Writer::open(&by_writer, &journal, &new, &dek).unwrap();
    assert_eq!(writer.recovery(), Recovery::HeaderSettled);
    writer.close().unwrap();
    for storage in [&storage, &by_writer] {
        assert_eq!(settle(storage, &dek).unwrap(), !std::ptr::eq(storage, &by_writer));
        assert!(!header_change_pending(storage).unwrap());
        assert!(storage.to_bytes().starts_with(new.wire_bytes()));
        assert_eq!(opened(storage, &Header::read(storage).unwrap(), &dek).unwrap(), contents(9000));
        assert!(!settle(storage, &dek).unwrap());
    }
}

#[test]
fn a_copy_of_another_file_or_key_harms_nothing() {
    let (_, other, other_dek) = sealed(&contents(9000));
    let foreign = |bytes: &mut [u8], _: &Header| {
        let copy = copy_of(&other);
        bytes[1536..1536 + copy.len()].copy_from_slice(&copy);
    };
    let (storage, old, _, dek) = interrupted(foreign);
    assert_eq!(Header::read(&storage).unwrap(), old);
    assert!(settle(&storage, &other_dek).is_err(), "not the key");
    assert!(settle(&storage, &dek).unwrap());
    assert!(!header_change_pending(&storage).unwrap());
    assert_eq!(Header::read(&storage).unwrap(), old);
    // Of this file, but changed by somebody without its key: refused as any forged header is, and left as it is.
    for at in [48, 60, 200] {
        let forged = |bytes: &mut [u8], new: &Header| {
            let mut wire = new.wire_bytes().to_vec();
            let last = wire.len() - at;
            wire[last] ^= 1;
            let Ok(header) = Header::parse(&wire) else { return };
            let copy = copy_of(&header);
            bytes[1536..1536 + copy.len()].copy_from_slice(&copy);
        };
        let (storage, old, _, dek) = interrupted(forged);
        let before = storage.to_bytes();
        let header = Header::read(&storage).unwrap();
        if header != old {
            assert!(opened(&storage, &header, &dek).is_err());
            assert!(opened(&storage, &old, &dek).is_err());
            assert!(settle(&storage, &dek).is_err());
            assert_eq!(storage.to_bytes(), before);
        }
    }
}

#[test]
fn a_header_without_room_for_its_copy_is_not_replaced_in_place() {
    use super::super::{layout::Geometry, spare};
    let geometry = Geometry::new(4096, 12).unwrap();
    assert!(spare::fits(geometry, 1536 - 48) && !spare::fits(geometry, 1536 - 47));
    // Made by somebody who left no room, as earlier sealers did: the header reaches into the place of the copy.
    let hybrid = Epoch::new(&[recipient(RecipientKind::RsaOaepMlkem768).public().clone()]).unwrap();
    let (storage, old, dek) = sealed(&contents(9000));
    let keys = crate::crypto::FileKeys::new(&dek, &old.file_id()).unwrap();
    let wire = Header::build(old.file_id(), &dek, &keys, &policy(), &hybrid, 12, Some(8192)).unwrap();
    assert!(wire.wire_bytes().len() > 1536);
    let result = relabel(&storage, &old, &dek, policy(), &hybrid);
    assert!(matches!(result, Err(WriteError::Header(SealError::HeaderFull))));
    assert_eq!(Header::read(&storage).unwrap(), old);
    assert!(!header_change_pending(&storage).unwrap());
    // A fresh file has room.
    let sink = MemoryStorage::new();
    let done = seal(&mut &b"contents"[..], &sink, &hybrid, policy(), &options(12), &mut |_| {}).unwrap();
    assert_eq!(done.header.header_size(), 8192);
    relabel(&sink, &done.header, &done.dek, FilePolicy { label_level: 1, ..policy() }, &hybrid).unwrap();
}

/// Somebody reads the header while it is replaced again and again, as it is read from a file.
#[test]
fn a_reader_beside_the_change_sees_one_whole_header() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let plain = contents(9000);
    let hybrid = recipient(RecipientKind::RsaOaepMlkem768).public().clone();
    let recipients = Epoch::new(&[recipient(RecipientKind::RsaOaep).public().clone(), hybrid]).unwrap();
    let path = std::env::temp_dir().join(format!("tobari-header-{}", std::process::id()));
    let file =
        std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let done = seal(&mut &plain[..], &file, &recipients, policy(), &options(12), &mut |_| {}).unwrap();
    let dek = &done.dek;
    let ended = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = [0_u32; 2];
            while !ended.load(Ordering::Relaxed) {
                let header = Header::read(&file).unwrap();
                header.authenticate(dek).unwrap();
                assert!([10, 20, 30].contains(&header.policy().label_level));
                match opened(&file, &header, dek) {
                    Ok(found) => {
                        assert!(found == plain);
                        seen[0] += 1;
                    }
                    // Replaced between the two reads: said so, and to be tried again.
                    Err(OpenError::Refused(refused)) => {
                        assert!(refused.is_header_changed());
                        seen[1] += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            seen
        });
        for round in 0..400 {
            let header = Header::read(&file).unwrap();
            let level = if round % 2 == 0 { 10 } else { 20 };
            let name = "名".repeat(1 + round % 80);
            let policy = FilePolicy { label_level: level, label_name: name, ..policy() };
            relabel(&file, &header, dek, policy, &recipients).unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads[0] > 0, "{reads:?}");
}

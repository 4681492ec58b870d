//! Relabel, rewrap, epochs, read-back.

use super::*;
use crate::crypto::{bulk, second};

#[test]
fn relabel_and_rewrap_leave_body_and_slots() {
    let plain = contents(10_000);
    let (storage, old, dek) = sealed(&plain);
    let before = storage.to_bytes();
    let journal = MemoryStorage::new();
    let new_policy = FilePolicy { label: LabelId::from_bytes([9; 16]), label_level: 10, ..policy() };
    let header = relabel(&storage, &journal, &old, &dek, new_policy.clone(), epoch()).unwrap();
    assert_eq!(Header::read(&storage).unwrap(), header);
    assert_eq!(header.policy(), &new_policy);
    assert_eq!(header.file_id(), old.file_id());
    assert_eq!(storage.to_bytes()[4096 - 1024..], before[4096 - 1024..]);
    assert_eq!(opened(&storage, &header, &dek).unwrap(), plain);
    assert!(opened(&storage, &old, &dek).is_err(), "the old header is gone");
    // The old stanza does not open under the new label.
    let key = recipient(RecipientKind::RsaOaep);
    let secret = key.decapsulate(&header.stanzas()[0].encapsulation).unwrap();
    assert_eq!(header.unwrap(&header.stanzas()[0], &secret).unwrap().expose(), dek.expose());
    assert!(header.unwrap(&old.stanzas()[0], &secret).is_err());

    let other = recipient(RecipientKind::RsaOaepMlkem768);
    let recipients = Epoch::new(&[other.public().clone()]).unwrap();
    let rewrapped = rewrap(&storage, &journal, &header, &dek, 7, &recipients).unwrap();
    assert_eq!(rewrapped.policy(), &FilePolicy { generation: 7, ..new_policy });
    assert_eq!(rewrapped.stanzas()[0].key_id, other.public().key_id());
    let secret = other.decapsulate(&rewrapped.stanzas()[0].encapsulation).unwrap();
    rewrapped.unwrap(&rewrapped.stanzas()[0], &secret).unwrap();
    assert_eq!(opened(&storage, &rewrapped, &dek).unwrap(), plain);

    let both = Epoch::new(&[other.public().clone(), key.public().clone()]).unwrap();
    let policy = FilePolicy { label_name: "x".repeat(255), ..policy() };
    let bigger = relabel(&storage, &journal, &rewrapped, &dek, policy, &both).unwrap();
    assert_eq!(bigger.stanzas().len(), 2);
    assert_eq!(storage.to_bytes()[4096..], before[4096..]);
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
    let journal = MemoryStorage::new();
    let result = relabel(&storage, &journal, &header, &dek, policy(), &three);
    assert!(matches!(result, Err(WriteError::Header(SealError::HeaderFull))));
    assert_eq!(storage.to_bytes(), before);
    // A fresh file takes a larger region.
    let storage = MemoryStorage::new();
    let done = seal(&mut &b"contents"[..], &storage, &three, policy(), &options(12), &mut |_| {}).unwrap();
    assert_eq!(done.header.header_size(), 8192);
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
    let (storage, header, dek) = sealed(&plain);
    let before = storage.to_bytes();
    let (other, other_header, other_dek) = sealed(&plain);
    let keys = crate::crypto::FileKeys::new(&other_dek, &other_header.file_id()).unwrap();
    let entry = super::super::journal::encode_header(&keys, &other_header);
    for bytes in [entry.clone(), entry[..entry.len() - 1].to_vec(), vec![0; 5000], vec![1]] {
        let journal = MemoryStorage::from(bytes);
        assert_eq!(recover(&storage, &journal, &dek).unwrap(), Recovery::Clean);
        assert_eq!(storage.to_bytes(), before);
        assert!(journal.is_empty().unwrap());
    }
    assert!(journal_header(&MemoryStorage::from(entry.clone())).unwrap().is_some());
    assert!(journal_header(&MemoryStorage::new()).unwrap().is_none());
    // Right for its own file, whole; wrong by one byte, void.
    for at in 0..entry.len() {
        let mut changed = entry.clone();
        changed[at] ^= 1;
        let journal = MemoryStorage::from(changed);
        assert_eq!(recover(&other, &journal, &other_dek).unwrap(), Recovery::Clean, "byte {at}");
    }
    let journal = MemoryStorage::from(entry);
    assert_eq!(recover(&other, &journal, &other_dek).unwrap(), Recovery::HeaderReplayed);
    assert!(opened(&storage, &header, &dek).is_ok());
}

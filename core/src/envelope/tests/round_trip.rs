//! What is sealed opens again: sizes around every border, both kinds, many recipients.

use super::*;
use crate::crypto::second;

#[test]
fn every_size_around_a_border_comes_back() {
    let chunk = 4096;
    let small = 1 << 20;
    let segment = 256 * 1024;
    let mut sizes = vec![0, 1, 2, 100];
    for border in [chunk, 2 * chunk, segment, small, small + segment, small + 5 * segment] {
        sizes.extend([border - 1, border, border + 1]);
    }
    for size in sizes {
        let plain = contents(size);
        let (storage, header, dek) = sealed(&plain);
        let chunks = size.div_ceil(chunk);
        assert_eq!(storage.to_bytes().len(), 4096 + size + 28 * chunks, "size {size}");
        assert_eq!(Header::read(&storage).unwrap(), header);
        read_back(&storage, &dek, &mut &plain[..], second()).unwrap();
        assert!(opened(&storage, &header, &dek).unwrap() == plain, "size {size}");
    }
}

#[test]
fn all_recipients_of_both_kinds_open() {
    let mut keys: Vec<RecipientPrivateKey> = Vec::new();
    for kind in [RecipientKind::RsaOaep, RecipientKind::RsaOaepMlkem768] {
        keys.push(RecipientPrivateKey::import(&recipient(kind).export()).unwrap());
    }
    let public: Vec<_> = keys.iter().map(|key| key.public().clone()).collect();
    let epoch = Epoch::new(&public).unwrap();
    let storage = MemoryStorage::new();
    let done = seal(&mut &b"contents"[..], &storage, &epoch, policy(), &SealOptions::default(), &mut |_| {})
        .unwrap();
    let header = Header::read(&storage).unwrap();
    assert_eq!(header.policy(), &policy());
    assert_eq!(header, Header::parse(header.wire_bytes()).unwrap());
    for (key, stanza) in keys.iter().zip(header.stanzas()) {
        assert_eq!(stanza.key_id, key.public().key_id());
        let secret = key.decapsulate(&stanza.encapsulation).unwrap();
        let dek = header.unwrap(stanza, &secret).unwrap();
        assert_eq!(dek.expose(), done.dek.expose());
    }
}

#[test]
fn progress_ends_at_the_length() {
    let plain = contents((3 << 20) + 5);
    let (mut sealing, mut opening) = (Vec::new(), Vec::new());
    let storage = MemoryStorage::new();
    let done = seal(&mut &plain[..], &storage, epoch(), policy(), &SealOptions::default(), &mut |at| {
        sealing.push(at);
    })
    .unwrap();
    open_stream(&storage, &done.header, &done.dek, &mut std::io::sink(), &mut |at| opening.push(at)).unwrap();
    for reported in [sealing, opening] {
        assert!(reported.is_sorted());
        assert_eq!(reported.last(), Some(&(plain.len() as u64)));
    }
}

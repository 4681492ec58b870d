//! What must hold for any bytes. The fuzz targets call these, and so does `core/tests/hostile.rs` with random and
//! half-valid input in every run of the tests.

use std::sync::OnceLock;
use tobari_core::crypto::{Dek, RecipientPrivateKey, second};
use tobari_core::envelope::{
    Epoch, Header, MemoryStorage, OpenError, Reader, SealOptions, Writer, looks_sealed, open_stream,
    read_back, seal, verify,
};

/// Any bytes as a header, in wire form or as the start of a file: refused, or the one encoding of what was understood.
pub fn header(bytes: &[u8]) {
    let storage = MemoryStorage::from(bytes.to_vec());
    let read = Header::read(&storage);
    let Ok(header) = Header::parse(bytes) else {
        assert!(read.is_err(), "a file opens whose header does not parse");
        return;
    };
    assert!(looks_sealed(bytes));
    // It is stored as the header, or as the copy of the next one.
    let copy = (header.header_size() as usize - 1024) / 2 + 48;
    assert!([0, copy].iter().any(|at| bytes.get(*at..).is_some_and(|b| b.starts_with(header.wire_bytes()))));
    assert_eq!(Header::parse(header.wire_bytes()).as_ref(), Ok(&header));
    assert!((1..=16).contains(&header.stanzas().len()));
    assert!(header.wire_bytes().len() + 1024 <= header.header_size() as usize);
    if let Ok(read) = read {
        assert_eq!(read, header);
    }
    // It was not made with this key, unless it is the sample.
    let sample = sample();
    if header.wire_bytes() != sample.header.wire_bytes() {
        assert!(header.authenticate(&sample.dek).is_err(), "forged");
    }
}

/// Any bytes as the policy of an otherwise good header: refused, or a policy that seals and comes back the same.
pub fn policy(bytes: &[u8]) {
    let sample = sample();
    let wire = sample.header.wire_bytes();
    let (Some(fixed), Some(recipients)) = (wire.get(..40), recipients(wire)) else { unreachable!() };
    let mut forged = fixed.to_vec();
    forged.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    forged.extend_from_slice(&(recipients.len() as u32).to_le_bytes());
    forged.extend_from_slice(bytes);
    forged.extend_from_slice(recipients);
    forged.extend_from_slice(&[0; 32]);
    let Ok(header) = Header::parse(&forged) else { return };
    let storage = MemoryStorage::new();
    let sealed = seal(
        &mut &b""[..],
        &storage,
        &Epoch::new(std::slice::from_ref(sample.key.public())).unwrap(),
        header.policy().clone(),
        &SealOptions::default(),
        &mut |_| (),
    );
    let Ok(sealed) = sealed else { unreachable!("a policy that was read cannot be written") };
    assert_eq!(sealed.header.policy(), header.policy());
    assert!(header.unwrap(&header.stanzas()[0], &secret(&header)).is_err() || bytes == policy_bytes(wire));
}

/// A good envelope with edits (`position`, `flip` each), then cut or extended to a length: whatever is served is
/// authentic, and nothing panics.
pub fn body(edits: &[(u16, u8)], length: Option<u16>) {
    let sample = sample();
    let mut bytes = sample.bytes.clone();
    for (position, flip) in edits {
        let count = bytes.len();
        bytes[usize::from(*position) % count] ^= flip;
    }
    if let Some(length) = length {
        bytes.resize(usize::from(length), 0);
    }
    let changed = bytes != sample.bytes;
    let storage = MemoryStorage::from(bytes);
    let mut plaintext = Vec::new();
    let opened = open_stream(&storage, &sample.header, &sample.dek, &mut plaintext, &mut |_| ());
    assert!(sample.plaintext.starts_with(&plaintext), "served what was not sealed");
    match opened {
        Ok(_) => assert!(plaintext == sample.plaintext, "served less than was sealed"),
        Err(OpenError::Refused(_)) => assert!(changed, "refused what was sealed"),
        Err(error) => unreachable!("{error}"),
    }
    let verified = verify(&storage, &sample.header, &sample.dek, &mut |_| ());
    assert!(verified.is_err() || plaintext == sample.plaintext);
    let compared = read_back(&storage, &sample.dek, &mut sample.plaintext.as_slice(), second());
    assert!(compared.is_err() || plaintext == sample.plaintext);
    if let Ok(reader) = Reader::open(&storage, &sample.header, &sample.dek) {
        for start in [0, 1, 4095, 4096, 8191, 9999] {
            let mut piece = [0; 300];
            if let Ok(count) = reader.read_at(&mut piece, start) {
                assert!(
                    sample.plaintext[start as usize..].starts_with(&piece[..count]),
                    "served what was not sealed"
                );
            }
        }
    }
    write(sample, storage, &[]);
}

/// Any bytes as the redo journal beside a good envelope: ignored, since no key made it.
pub fn journal(bytes: &[u8]) {
    let sample = sample();
    write(sample, MemoryStorage::from(sample.bytes.clone()), bytes);
}

/// Changes a file that may be damaged: refused, or what comes out is the old contents with the change.
fn write(sample: &Sample, storage: MemoryStorage, journal: &[u8]) {
    let journal = MemoryStorage::from(journal.to_vec());
    let Ok(mut writer) = Writer::open(&storage, &journal, &sample.header, &sample.dek) else { return };
    let changed =
        writer.write_at(b"changed", 5000).and_then(|()| writer.set_len(11_000)).and_then(|()| writer.close());
    let mut plaintext = Vec::new();
    if changed.is_err() {
        return;
    }
    let opened = open_stream(&storage, &sample.header, &sample.dek, &mut plaintext, &mut |_| ());
    let mut expected = sample.plaintext.clone();
    expected[5000..5007].copy_from_slice(b"changed");
    expected.resize(11_000, 0);
    // A damaged chunk that the change did not touch is refused when it is read.
    match opened {
        Ok(opened) => assert!(plaintext == expected && opened.interrupted_tail.is_none(), "written wrongly"),
        Err(_) => assert!(expected.starts_with(&plaintext), "written wrongly"),
    }
}

/// Edits and length from the bytes of a fuzzer.
pub fn body_from_bytes(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<3>() else { return };
    let length = (head[0] & 1 == 1).then(|| u16::from_le_bytes([head[1], head[2]]));
    let edits: Vec<(u16, u8)> =
        rest.chunks_exact(3).map(|edit| (u16::from_le_bytes([edit[0], edit[1]]), edit[2])).collect();
    body(&edits, length);
}

/// An envelope of three chunks of which everything is known.
pub struct Sample {
    key: RecipientPrivateKey,
    /// The whole envelope.
    pub bytes: Vec<u8>,
    header: Header,
    dek: Dek,
    plaintext: Vec<u8>,
}

/// The test vector "three-chunks".
pub fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let key = RecipientPrivateKey::import(include_bytes!("../../core/tests/vectors/label.key")).unwrap();
        let bytes = include_bytes!("../../core/tests/vectors/three-chunks.tbr").to_vec();
        let header = Header::parse(&bytes).unwrap();
        let stanza = &header.stanzas()[0];
        let dek = header.unwrap(stanza, &key.decapsulate(&stanza.encapsulation).unwrap()).unwrap();
        let mut plaintext = Vec::new();
        open_stream(&MemoryStorage::from(bytes.clone()), &header, &dek, &mut plaintext, &mut |_| ()).unwrap();
        Sample { key, bytes, header, dek, plaintext }
    })
}

fn secret(header: &Header) -> tobari_core::crypto::SharedSecret {
    sample().key.decapsulate(&header.stanzas()[0].encapsulation).unwrap()
}

fn lengths(wire: &[u8]) -> (usize, usize) {
    let number = |at: usize| u32::from_le_bytes(wire[at..at + 4].try_into().unwrap()) as usize;
    (number(40), number(44))
}

fn policy_bytes(wire: &[u8]) -> &[u8] {
    &wire[48..48 + lengths(wire).0]
}

fn recipients(wire: &[u8]) -> Option<&[u8]> {
    let (policy, recipients) = lengths(wire);
    wire.get(48 + policy..48 + policy + recipients)
}

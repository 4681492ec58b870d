//! The writer against a plain vector of bytes.

use super::super::verify::verify;
use super::*;
use proptest::prelude::*;

/// Something done to a file.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Write { offset: usize, length: usize, fill: u8 },
    Append { length: usize, fill: u8 },
    SetLength(usize),
    Sync,
    Reopen,
    Read { offset: usize, length: usize },
}

/// Positions and lengths near chunk borders (4 KiB chunks), up to five chunks.
pub(super) fn position() -> impl Strategy<Value = usize> {
    let near = (0_usize..6, -2_isize..=2).prop_map(|(chunk, by)| (chunk * 4096).saturating_add_signed(by));
    prop_oneof![3 => near, 1 => 0_usize..22_000]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (position(), position(), any::<u8>())
            .prop_map(|(offset, length, fill)| Step::Write { offset, length, fill }),
        2 => (0_usize..9000, any::<u8>()).prop_map(|(length, fill)| Step::Append { length, fill }),
        2 => position().prop_map(Step::SetLength),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        2 => (position(), position()).prop_map(|(offset, length)| Step::Read { offset, length }),
    ]
}

/// Bytes that depend on `fill`, so that each write is recognised.
pub(super) fn filled(length: usize, fill: u8) -> Vec<u8> {
    (0..length).map(|index| fill.wrapping_add((index / 97) as u8)).collect()
}

/// What the step does to plain bytes.
pub(super) fn model(plain: &mut Vec<u8>, step: &Step) {
    let mut write = |offset: usize, data: Vec<u8>| {
        if !data.is_empty() {
            plain.resize(plain.len().max(offset + data.len()), 0);
            plain[offset..offset + data.len()].copy_from_slice(&data);
        }
    };
    match *step {
        Step::Write { offset, length, fill } => write(offset, filled(length, fill)),
        Step::Append { length, fill } => {
            let end = plain.len();
            plain.resize(end + length, 0);
            plain[end..].copy_from_slice(&filled(length, fill));
        }
        Step::SetLength(length) => plain.resize(length, 0),
        Step::Sync | Step::Reopen | Step::Read { .. } => {}
    }
}

/// What the step does to a writer; reading compares with `plain`.
pub(super) fn apply<S: Storage, J: Storage>(
    writer: &mut Writer<S, J>,
    step: &Step,
    plain: &[u8],
) -> Result<(), WriteError> {
    match *step {
        Step::Write { offset, length, fill } => writer.write_at(&filled(length, fill), offset as u64),
        Step::Append { length, fill } => writer.write_at(&filled(length, fill), writer.len()),
        Step::SetLength(length) => writer.set_len(length as u64),
        Step::Sync | Step::Reopen => writer.sync(),
        Step::Read { offset, length } => {
            let mut buffer = vec![0; length];
            let count = writer.read_at(&mut buffer, offset as u64)?;
            assert!(buffer[..count] == plain[offset.min(plain.len())..(offset + length).min(plain.len())]);
            Ok(())
        }
    }
}

fn compare(storage: &MemoryStorage, header: &Header, dek: &Dek, plain: &[u8]) {
    assert!(opened(storage, header, dek).unwrap() == plain);
    assert!(verify(storage, header, dek, &mut |_| {}).unwrap().rooted);
    let reader = Reader::open(storage, header, dek).unwrap();
    let mut buffer = vec![0; plain.len() + 3];
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), plain.len());
    assert!(buffer[..plain.len()] == *plain);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_bytes_in_memory(start in position(), steps in prop::collection::vec(step(), 1..24)) {
        let mut plain = contents(start);
        let (storage, header, dek) = sealed(&plain);
        let journal = MemoryStorage::new();
        let mut writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
        for step in &steps {
            model(&mut plain, step);
            apply(&mut writer, step, &plain).unwrap();
            prop_assert_eq!(writer.len(), plain.len() as u64);
            match step {
                Step::Sync => compare(&storage, &header, &dek, &plain),
                Step::Reopen => {
                    drop(writer);
                    writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
                    prop_assert_eq!(writer.recovery(), Recovery::Clean);
                }
                _ => {}
            }
        }
        let mut buffer = vec![0; plain.len()];
        writer.read_at(&mut buffer, 0).unwrap();
        prop_assert!(buffer == plain);
        writer.close().unwrap();
        compare(&storage, &header, &dek, &plain);
    }

    #[test]
    fn a_reader_serves_any_range(
        size in position(),
        ranges in prop::collection::vec((position(), position()), 1..20),
    ) {
        let plain = contents(size);
        let (storage, header, dek) = sealed(&plain);
        let reader = Reader::open(&storage, &header, &dek).unwrap();
        for (offset, length) in ranges {
            let mut buffer = vec![0; length];
            let count = reader.read_at(&mut buffer, offset as u64).unwrap();
            prop_assert!(buffer[..count] == plain[offset.min(size)..(offset + length).min(size)]);
            prop_assert!(buffer[count..].iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn more_than_the_cache_holds_is_written_before_the_commit() {
    let (storage, header, dek) = sealed(&[]);
    let journal = MemoryStorage::new();
    let mut plain = contents(20 << 20);
    let mut writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
    for (number, part) in plain.chunks(100_000).enumerate() {
        writer.write_at(part, 100_000 * number as u64).unwrap();
    }
    assert!(storage.len().unwrap() > 8 << 20);
    // Backwards over all of it, so that overwrites fill the cache too; and into chunks that were already appended.
    for offset in (0..plain.len()).step_by(4000).rev() {
        writer.write_at(b"changed", offset as u64).unwrap();
        let end = (offset + 7).min(plain.len() + 7);
        plain.resize(plain.len().max(end), 0);
        plain[offset..end].copy_from_slice(b"changed");
    }
    writer.set_len(18 << 20).unwrap();
    writer.set_len(21 << 20).unwrap();
    plain.resize(18 << 20, 0);
    plain.resize(21 << 20, 0);
    writer.close().unwrap();
    assert!(opened(&storage, &header, &dek).unwrap() == plain);
    assert!(verify(&storage, &header, &dek, &mut |_| {}).unwrap().rooted);
}

#[test]
fn a_change_of_a_long_file_touches_few_bytes_and_drops_the_root() {
    let (storage, header, dek) = sealed(&contents(5 << 20));
    assert!(verify(&storage, &header, &dek, &mut |_| {}).unwrap().rooted);
    let before = storage.to_bytes();
    let journal = MemoryStorage::new();
    let mut writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
    writer.write_at(b"x", 3 << 20).unwrap();
    writer.close().unwrap();
    let after = storage.to_bytes();
    let changed = before.iter().zip(&after).filter(|(left, right)| left != right).count();
    assert!(changed <= 4096 + 28 + 1024);
    assert!(!verify(&storage, &header, &dek, &mut |_| {}).unwrap().rooted);
}

#[test]
fn the_generation_counts_every_sealed_chunk() {
    let (storage, header, dek) = sealed(&contents(3 * 4096));
    let journal = MemoryStorage::new();
    let generation = || verify(&storage, &header, &dek, &mut |_| {}).unwrap().generation;
    assert_eq!(generation(), 4);
    for round in 1..=10_u64 {
        let mut writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
        writer.write_at(b"x", 0).unwrap();
        writer.write_at(b"x", 4096).unwrap();
        writer.close().unwrap();
        // Two chunks, a DIRTY slot and a clean one.
        assert_eq!(generation(), 4 + 4 * round);
    }
}

#[test]
fn past_half_of_its_life_a_key_writes_no_more() {
    use super::super::slot::{State, slot_offset};
    let (storage, header, dek) = sealed(b"contents");
    let keys = crate::crypto::FileKeys::new(&dek, &header.file_id()).unwrap();
    let old = State { generation: (1 << 31) - 2, length: 8, dirty: false, root: None };
    storage.write_all_at(&old.encode(&keys), slot_offset(header.geometry(), 0) as u64).unwrap();
    let journal = MemoryStorage::new();
    let mut writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
    writer.write_at(b"new", 0).unwrap();
    assert!(matches!(writer.sync(), Err(WriteError::ResealNeeded)));
    assert!(matches!(writer.set_len(u64::MAX), Err(WriteError::TooLong)));
    assert!(matches!(writer.write_at(b"x", u64::MAX), Err(WriteError::TooLong)));
    drop(writer);
    assert_eq!(opened(&storage, &header, &dek).unwrap(), b"contents");
}

#[test]
fn what_was_sealed_just_now_is_written_to_without_reading_it() {
    for start in [&b""[..], b"not empty"] {
        let (storage, journal) = (MemoryStorage::new(), MemoryStorage::new());
        let sealed = seal(&mut &start[..], &storage, epoch(), policy(), &options(12), &mut |_| {}).unwrap();
        assert_eq!(stored_file_id(&storage).unwrap(), sealed.file_id);
        let mut writer = Writer::born(&storage, &journal, &sealed).unwrap();
        assert_eq!((writer.len(), writer.recovery()), (start.len() as u64, Recovery::Clean));
        let mut plain = start.to_vec();
        plain.resize(9000, 0);
        plain.extend(contents(20_000));
        writer.write_at(&contents(20_000), 9000).unwrap();
        writer.sync().unwrap();
        compare(&storage, &sealed.header, &sealed.dek, &plain);
        writer.write_at(b"over", 8190).unwrap();
        plain[8190..8194].copy_from_slice(b"over");
        writer.close().unwrap();
        compare(&storage, &sealed.header, &sealed.dek, &plain);
    }
    assert!(matches!(stored_file_id(&MemoryStorage::from(vec![0; 4096])), Err(OpenError::Refused(_))));
    assert!(matches!(stored_file_id(&MemoryStorage::new()), Err(OpenError::Refused(_))));
}

#[test]
fn the_journal_of_a_commit_that_is_done_means_nothing() {
    let (storage, header, dek) = sealed(&contents(9000));
    let journal = MemoryStorage::new();
    let mut writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
    writer.write_at(b"first", 0).unwrap();
    writer.sync().unwrap();
    let first = journal.to_bytes();
    assert!(!first.is_empty());
    // A shorter entry over a longer one.
    writer.write_at(&contents(9000), 0).unwrap();
    writer.sync().unwrap();
    writer.write_at(b"last", 5000).unwrap();
    writer.close().unwrap();
    assert!(journal.len().unwrap() > first.len() as u64);
    let mut plain = contents(9000);
    plain[5000..5004].copy_from_slice(b"last");
    for stale in [journal.to_bytes(), first] {
        let stale = MemoryStorage::from(stale);
        let before = storage.to_bytes();
        assert_eq!(recover(&storage, &stale, &dek).unwrap(), Recovery::Clean);
        assert!(stale.is_empty().unwrap() && storage.to_bytes() == before);
    }
    compare(&storage, &header, &dek, &plain);
}

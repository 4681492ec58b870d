//! Every storage call fails in turn, once or from then on: the error is surfaced, and what was synced is kept.

use super::simulated::{Log, disk};
use super::writer::filled;
use super::*;
use std::sync::{Arc, Mutex};

/// The changes; returns the contents that were acknowledged as durable last.
fn life(
    storage: &dyn Storage,
    journal: &dyn Storage,
    header: &Header,
    dek: &Dek,
    durable: &mut Vec<u8>,
    attempted: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let mut writer = Writer::open(storage, journal, header, dek)?;
    let mut step = |writer: &mut Writer<_, _>, offset: usize, length: usize, fill: u8| {
        let data = filled(length, fill);
        let end = offset + length;
        *attempted = durable.clone();
        attempted.resize(attempted.len().max(end), 0);
        attempted[offset..end].copy_from_slice(&data);
        writer.write_at(&data, offset as u64)?;
        writer.sync()?;
        *durable = attempted.clone();
        Ok::<_, WriteError>(())
    };
    step(&mut writer, 3000, 5000, 1)?;
    step(&mut writer, 9000, 9000, 2)?;
    step(&mut writer, 0, 10, 3)?;
    *attempted = durable[..5000].to_vec();
    writer.set_len(5000)?;
    writer.close()?;
    durable.truncate(5000);
    Ok(())
}

fn with_faults(log: &Arc<Mutex<Log>>, at: Option<usize>, on: bool) {
    *log.lock().unwrap() = Log { fail_at: at, fail_on: on, ..Log::default() };
}

#[test]
fn an_error_of_any_call_loses_nothing_that_was_synced() {
    let plain = contents(9000);
    let (storage, header, dek) = sealed(&plain);
    let start = storage.into_bytes();
    let mut calls = 0;
    for on in [false, true] {
        for at in 1.. {
            let (storage, journal, log) = disk(&start);
            with_faults(&log, Some(at), on);
            let (mut durable, mut attempted) = (plain.clone(), plain.clone());
            let result = life(&storage, &journal, &header, &dek, &mut durable, &mut attempted);
            let count = log.lock().unwrap().calls;
            with_faults(&log, None, false);
            recover(&storage, &journal, &dek).unwrap();
            let found = opened(&storage, &header, &dek).unwrap();
            if count < at {
                result.unwrap();
                assert!(found == durable);
                calls = at;
                break;
            }
            match result {
                Err(WriteError::Read(_) | WriteError::Storage(_) | WriteError::Journal(_)) => {
                    assert!(found == durable || found == attempted, "call {at}");
                }
                // The entry of a finished commit may stay: it is void.
                Ok(()) => assert!(found == durable, "call {at}"),
                Err(other) => panic!("call {at}: {other:?}"),
            }
        }
    }
    assert!(calls > 40);
}

#[test]
fn a_full_disk_can_be_tried_again() {
    let plain = contents(9000);
    let (storage, header, dek) = sealed(&plain);
    let (storage, journal, log) = disk(&storage.into_bytes());
    let mut writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
    writer.write_at(b"durable", 0).unwrap();
    writer.sync().unwrap();
    let mut retried = 0;
    for at in 1..=30 {
        let expected = filled(9000 + 100 * at, at as u8);
        writer.write_at(&expected, 0).unwrap();
        with_faults(&log, Some(at), false);
        let result = writer.sync();
        let failed = writer.sync();
        with_faults(&log, None, false);
        match (result, failed) {
            (Ok(()), Ok(())) => {}
            (Err(_), Ok(())) => retried += 1,
            (_, Err(error)) => {
                assert!(matches!(error, WriteError::Failed));
                drop(writer);
                writer = Writer::open(&storage, &journal, &header, &dek).unwrap();
                writer.write_at(&expected, 0).unwrap();
                writer.sync().unwrap();
            }
        }
        assert!(opened(&storage, &header, &dek).unwrap() == expected);
    }
    assert!(retried > 0);
}

#[test]
fn an_error_while_sealing_or_opening_is_surfaced() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::Other.into())
        }
    }
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::Other.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (storage, header, dek) = sealed(&contents(3 << 20));
    let result = open_stream(&storage, &header, &dek, &mut Broken, &mut |_| {});
    assert!(matches!(result, Err(OpenError::Sink(_))));
    for good in [0, 100, 1 << 20, 2 << 20] {
        let plain = contents(good);
        let mut source = std::io::Read::chain(&plain[..], Broken);
        let sink = MemoryStorage::new();
        let result = seal(&mut source, &sink, epoch(), policy(), &options(12), &mut |_| {});
        assert!(matches!(result, Err(SealError::Source(_))), "{good}");
        assert!(!looks_sealed(&sink.to_bytes()));
    }
    let plain = contents(3 << 20);
    for at in 1.. {
        let (sink, _, log) = disk(&[]);
        with_faults(&log, Some(at), false);
        let result = seal(&mut &plain[..], &sink, epoch(), policy(), &options(12), &mut |_| {});
        if log.lock().unwrap().calls < at {
            result.unwrap();
            break;
        }
        assert!(matches!(result, Err(SealError::Storage(_))));
    }
    let result = seal(&mut &plain[..], &storage, epoch(), policy(), &options(12), &mut |_| {});
    assert!(matches!(result, Err(SealError::Storage(_))), "a sink that is not empty");
    let result = seal(&mut &plain[..], &MemoryStorage::new(), epoch(), policy(), &options(21), &mut |_| {});
    assert!(matches!(result, Err(SealError::ChunkSize)));
}

#[test]
fn an_error_of_any_call_of_a_relabel_leaves_one_whole_header() {
    let plain = contents(9000);
    let (storage, old, dek) = sealed(&plain);
    let start = storage.into_bytes();
    let level = |header: &Header| header.policy().label_level;
    let (mut calls, mut outcomes) = (0, [0, 0]);
    for on in [false, true] {
        for at in 1.. {
            let (storage, _, log) = disk(&start);
            with_faults(&log, Some(at), on);
            let policy = FilePolicy { label_name: "極秘".repeat(40), label_level: 40, ..policy() };
            let result = relabel(&storage, &old, &dek, policy.clone(), epoch());
            let count = log.lock().unwrap().calls;
            with_faults(&log, None, false);
            let header = Header::read(&storage).unwrap();
            header.authenticate(&dek).unwrap();
            assert!(opened(&storage, &header, &dek).unwrap() == plain, "call {at}");
            if count < at {
                assert_eq!(level(&result.unwrap()), 40);
                assert_eq!(level(&header), 40);
                calls = at;
                break;
            }
            assert!(matches!(result, Err(WriteError::Read(_) | WriteError::Storage(_))), "call {at}");
            outcomes[usize::from(level(&header) == 40)] += 1;
            // The same again ends it.
            let new = relabel(&storage, &header, &dek, policy, epoch()).unwrap();
            assert_eq!(Header::read(&storage).unwrap(), new);
            assert!(!header_change_pending(&storage).unwrap());
        }
    }
    assert!(calls > 8 && outcomes.iter().all(|count| *count > 0), "{calls} {outcomes:?}");
}

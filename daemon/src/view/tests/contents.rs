use super::*;
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|index| (index as u8).wrapping_mul(31).wrapping_add((index >> 8) as u8) ^ seed).collect()
}

#[test]
fn what_is_sealed_is_read_in_plaintext_and_listing_takes_no_grant() {
    let long = pattern(300_000, 1);
    let Some(shown) = Shown::start(Rights::ALL, &[("long", &long), ("short", b"abc"), ("empty", b"")]) else {
        return;
    };
    std::fs::write(shown.beneath("plain"), b"not sealed").unwrap();
    let mut listed: Vec<(String, u64)> = std::fs::read_dir(&shown.view)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
        })
        .collect();
    listed.sort();
    let expected = [("empty", 0), ("long", 300_000), ("plain", 10), ("short", 3)];
    assert_eq!(listed, expected.map(|(name, size)| (name.to_owned(), size)));
    assert_eq!(shown.asked(), 0);
    assert_eq!(std::fs::read(shown.at("long")).unwrap(), long);
    assert_eq!(std::fs::read(shown.at("short")).unwrap(), b"abc");
    assert_eq!(std::fs::read(shown.at("empty")).unwrap(), b"");
    assert_eq!(std::fs::read(shown.at("plain")).unwrap(), b"not sealed");
    let asked = shown.asked();
    assert_eq!(std::fs::read(shown.at("long")).unwrap(), long);
    assert_eq!(shown.asked(), asked);
    assert!(std::fs::metadata(shown.at(".tobari")).is_err());
    assert_eq!(number(&std::fs::create_dir(shown.at(".tobari")).unwrap_err()), libc::EPERM);
    // Reading leaves everything beneath as it is.
    assert!(shown.is_sealed("long"));
    wait_until("no journal stays", || shown.journals() == 0);
}

#[test]
fn what_is_created_is_sealed_from_its_first_byte_on() {
    let Some(shown) = Shown::start(Rights::ALL, &[]) else { return };
    let mut file = File::create(shown.at("new")).unwrap();
    assert!(shown.is_sealed("new"));
    let contents = pattern(100_000, 2);
    file.write_all(&contents).unwrap();
    assert!(shown.is_sealed("new"));
    assert_eq!(file.metadata().unwrap().len(), 100_000);
    drop(file);
    assert_eq!(shown.opened("new"), contents);
    assert_eq!(shown.header("new").policy().label, LABEL);
    assert_eq!(std::fs::read(shown.at("new")).unwrap(), contents);
    // As the folder's own rule wants it.
    std::fs::write(shown.at("a.left"), b"left alone").unwrap();
    assert_eq!(std::fs::read(shown.beneath("a.left")).unwrap(), b"left alone");
    shown.access.may_write_plain.store(false, Ordering::Relaxed);
    std::fs::write(shown.at("b.left"), b"not left alone").unwrap();
    assert!(shown.is_sealed("b.left"));
    assert_eq!(number(&std::fs::write(shown.at("a.left"), b"x").unwrap_err()), libc::EACCES);
    wait_until("no journal stays", || shown.journals() == 0);
}

#[test]
fn changes_are_those_of_an_ordinary_file() {
    let begin = pattern(70_000, 3);
    let Some(shown) = Shown::start(Rights::ALL, &[("file", &begin)]) else { return };
    let file = OpenOptions::new().read(true).write(true).open(shown.at("file")).unwrap();
    let mut model = begin;
    let mut random = 12345_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..300 {
        match next(6) {
            0 => {
                let length = next(200_000) as usize;
                file.set_len(length as u64).unwrap();
                model.resize(length, 0);
            }
            1 => file.sync_all().unwrap(),
            2 => {
                let (offset, mut buffer) = (next(250_000), vec![0; next(40_000) as usize]);
                let count = file.read_at(&mut buffer, offset).unwrap();
                let expected = model.get(offset as usize..).unwrap_or_default();
                assert_eq!(buffer[..count], expected[..expected.len().min(buffer.len())], "round {round}");
            }
            _ => {
                let data = pattern(next(20_000) as usize, round as u8);
                let offset = next(220_000) as usize;
                file.write_all_at(&data, offset as u64).unwrap();
                if !data.is_empty() {
                    model.resize(model.len().max(offset + data.len()), 0);
                    model[offset..offset + data.len()].copy_from_slice(&data);
                }
            }
        }
        assert_eq!(file.metadata().unwrap().len(), model.len() as u64, "round {round}");
    }
    drop(file);
    assert_eq!(shown.opened("file"), model);
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), model);
    wait_until("no journal stays", || shown.journals() == 0);
}

#[test]
fn several_append_and_none_is_lost() {
    let Some(shown) = Shown::start(Rights::ALL, &[("log", b"begin\n")]) else { return };
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = shown.at("log");
            scope.spawn(move || {
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                for line in 0..200 {
                    file.write_all(format!("{writer} {line}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    let text = String::from_utf8(shown.opened("log")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 801);
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 801);
}

#[test]
fn times_and_lengths_are_those_that_a_program_set() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", b"0123456789")]) else { return };
    let mut file = OpenOptions::new().write(true).truncate(true).open(shown.at("file")).unwrap();
    file.write_all(b"new").unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    file.set_modified(time).unwrap();
    drop(file);
    assert_eq!(std::fs::metadata(shown.at("file")).unwrap().modified().unwrap(), time);
    assert_eq!(std::fs::metadata(shown.beneath("file")).unwrap().modified().unwrap(), time);
    assert_eq!(shown.opened("file"), b"new");
    OpenOptions::new().write(true).open(shown.at("file")).unwrap().set_len(2).unwrap();
    assert_eq!(shown.opened("file"), b"ne");
    // Zeros in a hole, and behind the old end.
    let mut file = OpenOptions::new().read(true).write(true).open(shown.at("file")).unwrap();
    file.seek(SeekFrom::Start(100_000)).unwrap();
    file.write_all(b"end").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    drop(file);
    assert_eq!(all.len(), 100_003);
    assert!(all[2..100_000].iter().all(|byte| *byte == 0));
    assert_eq!(shown.opened("file"), all);
}

#[test]
fn a_file_that_is_removed_while_open_is_used_to_its_end() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", b"0123456789")]) else { return };
    let file = OpenOptions::new().read(true).write(true).open(shown.at("file")).unwrap();
    std::fs::remove_file(shown.at("file")).unwrap();
    file.write_all_at(b"abc", 3).unwrap();
    file.sync_all().unwrap();
    let mut contents = [0; 10];
    file.read_exact_at(&mut contents, 0).unwrap();
    assert_eq!(&contents, b"012abc6789");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    drop(file);
    wait_until("the journal is removed", || shown.journals() == 0);
}

#[test]
fn what_is_written_does_not_go_into_a_file_that_was_put_in_its_place() {
    let files: [(&str, &[u8]); 2] = [("file", b"contents"), ("backup", b"of the backup")];
    let Some(shown) = Shown::start(Rights::ALL, &files) else { return };
    let file = OpenOptions::new().write(true).open(shown.at("file")).unwrap();
    file.write_all_at(b"C", 0).unwrap();
    std::fs::copy(shown.beneath("backup"), shown.beneath("file")).unwrap();
    assert_eq!(number(&file.sync_all().unwrap_err()), libc::ESTALE);
    drop(file);
    wait_until("it is closed", || shown.site.service.views().is_idle());
    assert_eq!(shown.opened("file"), b"of the backup");
    wait_until("it is seen", || std::fs::read(shown.at("file")).is_ok_and(|read| read == b"of the backup"));
}

#[test]
fn a_view_that_ends_leaves_nothing_unsealed() {
    let Some(mut shown) = Shown::start(Rights::ALL, &[("file", b"old")]) else { return };
    let old = OpenOptions::new().write(true).open(shown.at("file")).unwrap();
    old.write_all_at(b"NEW", 0).unwrap();
    let mut new = File::create(shown.at("new")).unwrap();
    new.write_all(b"written, never closed").unwrap();
    shown.end();
    assert_eq!(shown.opened("file"), b"NEW");
    assert_eq!(shown.opened("new"), b"written, never closed");
    assert!(old.write_all_at(b"x", 0).is_err());
    drop((old, new));
    shown.mount();
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), b"NEW");
}

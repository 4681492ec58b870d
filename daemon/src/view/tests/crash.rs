//! The daemon is killed in the middle of saves; the disk is full. Each chunk is old or new, and what was there is readable.

use super::*;
use crate::descriptors::{Sink, Source};
use crate::open::Opening;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::process::{Child, Command, Stdio};
use tobari_core::proto::control::Purpose;

const CHUNK: usize = 4096;
const CHUNKS: usize = 64;
const PLACE: &str = "TOBARI_TEST_VIEW";

fn version(number: u8) -> Vec<u8> {
    vec![number; CHUNK * CHUNKS]
}

/// A view in a process of its own, which ends with its input, or when it is killed.
fn other_process(shown: &Shown) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "view::tests::crash::serve", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLACE, shown.site.directory.path())
        .env(crate::testing::KEY_FILE, shown.site.directory.path().join("key"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("mounted") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the other process did not mount");
    }
    (child, output)
}

/// Not a test: what [`other_process`] starts.
#[test]
#[ignore = "started by other tests"]
fn serve() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let directory = tempfile::tempdir().unwrap();
    let site = Site::start(directory, &[], Differs { knows_all: true, ..Differs::default() }, |_| None);
    let mut shown = Shown::over(site, Path::new(&place));
    shown.login();
    shown.mount();
    println!("mounted");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    shown.end();
}

#[test]
fn a_save_that_is_killed_leaves_each_chunk_old_or_new() {
    let Some(mut shown) = Shown::start(Rights::ALL, &[("file", &version(1)), ("outside", &version(1))])
    else {
        return;
    };
    shown.end();
    crate::testing::export_key(&shown.site.directory.path().join("key"));
    let mut killed_in_the_middle = 0;
    for round in 0..8_u32 {
        let (mut child, output) = other_process(&shown);
        let path = shown.at("file");
        let writer = std::thread::spawn(move || {
            let Ok(file) = OpenOptions::new().write(true).open(path) else { return 0 };
            let mut saves = 0;
            for number in 2..250 {
                if file.write_all_at(&version(number), 0).and_then(|()| file.sync_all()).is_err() {
                    break;
                }
                saves += 1;
            }
            saves
        });
        // As soon as so many commits were seen: anywhere in the next one.
        let slots =
            || std::fs::read(shown.beneath("file")).unwrap_or_default().get(3072..4096).map(<[u8]>::to_vec);
        let (mut last, mut seen) = (slots(), 0);
        wait_until("it saves", || {
            let now = slots();
            seen += u32::from(now != last);
            last = now;
            seen > round % 4
        });
        child.kill().unwrap();
        child.wait().unwrap();
        drop(output);
        let saves = writer.join().unwrap();
        killed_in_the_middle += u32::from(saves < 248);
        crate::sys::detach(&shown.view).unwrap();
        if round % 2 == 0 {
            // Somebody who reads the file without a view.
            let source = Source::new(File::open(shown.beneath("file")).unwrap().into()).unwrap();
            let out = shown.site.directory.path().join("out");
            let mut sink = Sink::empty_file(File::create(&out).unwrap().into()).unwrap();
            Opening { caller: CALLER, source: &source, name: "file" }
                .write(&shown.site.service, Purpose::Cat, &mut sink, &mut |_, _| ())
                .unwrap();
            drop(sink);
            old_or_new(&std::fs::read(out).unwrap());
        }
        shown.mount();
        old_or_new(&std::fs::read(shown.at("file")).unwrap());
        // And it can be written again.
        std::fs::write(shown.at("file"), version(1)).unwrap();
        shown.end();
        assert_eq!(shown.opened("file"), version(1));
        // The kernel says a moment after the last close that it was the last.
        wait_until("the journal is removed", || shown.journals() == 0);
    }
    assert!(killed_in_the_middle > 0);
}

fn old_or_new(contents: &[u8]) {
    assert_eq!(contents.len(), CHUNK * CHUNKS);
    let mut versions: Vec<u8> = contents
        .chunks(CHUNK)
        .map(|chunk| {
            assert!(chunk.iter().all(|byte| *byte == chunk[0]), "a chunk is of two versions");
            chunk[0]
        })
        .collect();
    versions.dedup();
    assert!(versions.len() <= 2, "{versions:?}");
}

#[test]
fn journals_go_with_their_files_and_empty_ones_with_time() {
    let files: [(&str, &[u8]); 3] = [("removed", b"a"), ("replaced", b"b"), ("stays", b"c")];
    let Some(mut shown) = Shown::start(Rights::ALL, &files) else { return };
    shown.end();
    let journal = |name: &str| {
        let inode = std::fs::metadata(shown.beneath(name)).unwrap().ino();
        shown.folder.join(".tobari/view").join(format!("{inode:x}-{}", shown.header(name).file_id()))
    };
    for (name, _) in files {
        std::fs::write(journal(name), b"the rest of an interrupted write").unwrap();
    }
    std::fs::write(shown.folder.join(".tobari/view/ffffff-empty"), b"").unwrap();
    shown.mount();
    assert_eq!(shown.journals(), 3);
    std::fs::remove_file(shown.at("removed")).unwrap();
    assert_eq!(shown.journals(), 2);
    std::fs::write(shown.at("new"), b"new").unwrap();
    std::fs::rename(shown.at("new"), shown.at("replaced")).unwrap();
    assert_eq!(shown.journals(), 1);
    // What means nothing does no harm.
    assert_eq!(std::fs::read(shown.at("stays")).unwrap(), b"c");
    std::fs::write(shown.at("stays"), b"changed").unwrap();
    assert_eq!(shown.opened("stays"), b"changed");
    wait_until("it is closed", || shown.journals() == 0);
}

#[test]
fn a_full_disk_leaves_the_old_contents_readable() {
    let Some(mut shown) = Shown::start(Rights::ALL, &[]) else { return };
    shown.end();
    let size = "size=3m,mode=0755";
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&shown.folder).status();
    if !mounted.is_ok_and(|status| status.success()) {
        crate::testing::skipped("tmpfs cannot be mounted");
        return;
    }
    let _unmounted = Unmounted(shown.folder.clone());
    shown.mount();
    let old = vec![b'o'; 1 << 20];
    std::fs::write(shown.at("file"), &old).unwrap();
    assert_eq!(shown.opened("file"), old);
    let filler = shown.beneath("filler");
    let mut fill = File::create(&filler).unwrap();
    while fill.write_all(&[1; 4096]).is_ok() {}
    drop(fill);
    let file = OpenOptions::new().write(true).open(shown.at("file")).unwrap();
    let failed = file.write_all_at(&vec![b'n'; 2 << 20], 0).and_then(|()| file.sync_all()).unwrap_err();
    assert_eq!(number(&failed), libc::ENOSPC);
    drop(file);
    wait_until("it is closed", || shown.site.service.views().is_idle());
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), old);
    assert!(File::create(shown.at("another")).is_err());
    std::fs::remove_file(filler).unwrap();
    // A hole that cannot be filled is refused at once.
    let file = OpenOptions::new().write(true).open(shown.at("file")).unwrap();
    assert_eq!(number(&file.set_len(1 << 42).unwrap_err()), libc::ENOSPC);
    assert_eq!(number(&file.write_all_at(b"x", 1 << 42).unwrap_err()), libc::ENOSPC);
    drop(file);
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), old);
    std::fs::write(shown.at("file"), b"new").unwrap();
    assert_eq!(shown.opened("file"), b"new");
    shown.end();
}

struct Unmounted(PathBuf);

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _ = crate::sys::detach(&self.0);
    }
}

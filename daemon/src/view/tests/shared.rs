//! One owner of each file, whoever changes it: other views, the folder side, a relabel.

use super::*;
use crate::seal::{Epochs, FolderRoot, LabelRecipients, Outcome, SealContext, Sealer};
use crate::testing::LOWER;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use tobari_core::clock::SystemClock;
use tobari_core::envelope::{SealOptions, relabel};

#[test]
fn two_views_of_a_file_show_the_same() {
    let Some(mut shown) = Shown::start(Rights::ALL, &[("file", &[b'a'; 100_000])]) else { return };
    let first = shown.mount.take().unwrap();
    let other = shown.site.directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let here = std::mem::replace(&mut shown.view, other);
    shown.mount();
    let reader = File::open(shown.at("file")).unwrap();
    let mut buffer = vec![0; 100_000];
    reader.read_exact_at(&mut buffer, 0).unwrap();
    let writer = OpenOptions::new().write(true).open(here.join("file")).unwrap();
    writer.write_all_at(&[b'b'; 50_000], 20_000).unwrap();
    // The other one's cached pages are dropped when it is flushed.
    drop(writer.try_clone().unwrap());
    wait_until("the change is seen", || {
        reader.read_exact_at(&mut buffer, 0).unwrap();
        buffer[20_000..70_000].iter().all(|byte| *byte == b'b')
    });
    // Both write: each change stands.
    let second = OpenOptions::new().write(true).open(shown.at("file")).unwrap();
    std::thread::scope(|scope| {
        for (file, offset) in [(&writer, 0), (&second, 50)] {
            scope.spawn(move || {
                for step in 0..500 {
                    file.write_all_at(&[b'c'; 50], offset + step * 100).unwrap();
                }
            });
        }
    });
    drop((writer, second, reader));
    wait_until("all is sealed", || shown.opened("file")[..50_000].iter().all(|byte| *byte == b'c'));
    first.end().unwrap();
    assert!(shown.opened("file")[70_000..].iter().all(|byte| *byte == b'a'));
}

/// The folder side of the same folder.
struct Sealing {
    root: FolderRoot,
    rule: FolderRule,
    sealer: Sealer,
}

impl Sealing {
    fn of(shown: &Shown) -> Self {
        let rule = designated(&shown.folder);
        let context = SealContext { organisation: crate::grants::tests::ORGANISATION, terminal: TERMINAL };
        Self {
            root: FolderRoot::open(&shown.folder).unwrap(),
            rule: FolderRule::resolve(&rule, &bulletin(1, false)),
            sealer: Sealer::new(context, Arc::new(SystemClock), SealOptions::default()),
        }
    }

    fn seal(&self, name: &str) -> Option<Outcome> {
        self.sealer.seal(&self.root, &self.rule, Path::new(name)).ok()
    }
}

#[test]
fn the_folder_side_leaves_what_is_open_in_a_view() {
    let Some(shown) = Shown::start(Rights::ALL, &[]) else { return };
    let sealing = Sealing::of(&shown);
    std::fs::write(shown.beneath("plain"), b"not sealed yet").unwrap();
    let mut file = OpenOptions::new().append(true).open(shown.at("plain")).unwrap();
    file.write_all(b", and more").unwrap();
    assert!(sealing.seal("plain").is_none());
    assert!(!shown.is_sealed("plain"));
    drop(file);
    // Closing reaches the view a moment later.
    wait_until("it is sealed", || {
        matches!(sealing.seal("plain"), Some(Outcome::Sealed(_) | Outcome::AlreadySealed))
    });
    assert_eq!(shown.opened("plain"), b"not sealed yet, and more");
    // The name that the kernel knew leads to another file by now.
    assert_eq!(std::fs::read(shown.at("plain")).unwrap(), b"not sealed yet, and more");
    OpenOptions::new().append(true).open(shown.at("plain")).unwrap().write_all(b"!").unwrap();
    assert_eq!(shown.opened("plain"), b"not sealed yet, and more!");

    let mut born = File::create(shown.at("born")).unwrap();
    assert!(matches!(sealing.seal("born"), None | Some(Outcome::AlreadySealed)));
    born.write_all(b"sealed from the first byte on").unwrap();
    assert!(matches!(sealing.seal("born"), None | Some(Outcome::AlreadySealed)));
    drop(born);
    wait_until("it is closed", || matches!(sealing.seal("born"), Some(Outcome::AlreadySealed)));
    assert_eq!(shown.opened("born"), b"sealed from the first byte on");
}

#[test]
fn a_file_is_relabelled_beside_its_writer() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", &[b'a'; 30_000])]) else { return };
    let file = OpenOptions::new().read(true).write(true).open(shown.at("file")).unwrap();
    file.write_all_at(b"before", 0).unwrap();
    let beneath = OpenOptions::new().read(true).write(true).open(shown.beneath("file")).unwrap();
    let header = Header::read(&beneath).unwrap();
    let keys = bulletin(1, false).labels.iter().find(|keys| keys.label.id == LOWER).cloned().unwrap();
    let keys = Arc::new(LabelRecipients {
        label: keys.label,
        generation: keys.generation,
        recipients: vec![keys.key],
    });
    let epoch = Epochs::default().current(&keys).unwrap();
    let policy = FilePolicy { label: LOWER, label_level: 10, ..header.policy().clone() };
    relabel(&beneath, &header, &key_of(&header).unwrap(), policy, &epoch).unwrap();
    file.write_all_at(b"after", 20_000).unwrap();
    file.sync_all().unwrap();
    let mut buffer = [0; 6];
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"before");
    drop(file);
    assert_eq!(shown.header("file").policy().label, LOWER);
    let opened = shown.opened("file");
    assert_eq!((&opened[..6], &opened[20_000..20_005]), (&b"before"[..], &b"after"[..]));
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), opened);
}

#[test]
fn who_lists_a_directory_and_opens_its_files_does_not_ask_for_each() {
    let files: Vec<(String, Vec<u8>)> = (0..40)
        .map(|number| (format!("file {number:02}"), format!("contents {number}").into_bytes()))
        .collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, contents)| (name.as_str(), contents.as_slice())).collect();
    let Some(shown) = Shown::start(Rights::ALL, &files) else { return };
    // One by one where nothing was listed.
    for (name, contents) in files.iter().take(3) {
        assert_eq!(std::fs::read(shown.at(name)).unwrap(), *contents);
    }
    assert_eq!(shown.asked(), 3);
    let listed: Vec<PathBuf> =
        std::fs::read_dir(&shown.view).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in listed {
        std::fs::read(path).unwrap();
    }
    assert!(shown.asked() <= 6, "asked {} times", shown.asked());
}

#[test]
fn pages_that_are_mapped_are_those_of_the_file() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", &[b'a'; 20_000])]) else { return };
    let python = "import mmap,sys\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\n\
        assert m[:3]==b'aaa'\nm[5000:5005]=b'hello'\nm.flush()\nm[19999:20000]=b'z'\nm.close()\nf.close()\n";
    match std::process::Command::new("python3").args(["-c", python]).arg(shown.at("file")).status() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return crate::testing::skipped("python3 is not installed");
        }
        status => assert!(status.unwrap().success()),
    }
    wait_until("it is written", || shown.opened("file")[19_999] == b'z');
    assert_eq!(&shown.opened("file")[4999..5006], b"ahelloa");
}

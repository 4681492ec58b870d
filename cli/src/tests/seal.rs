//! `seal` with real files and real keys.

use super::fake::{Fake, done};
use super::sample;
use crate::exit::Exit;
use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use tobari_core::crypto::RecipientPrivateKey;
use tobari_core::envelope::{Header, open_stream};
use tobari_core::proto::bulletin::Folder;

fn sealing(folders: Vec<Folder>) -> (Fake, RecipientPrivateKey) {
    let (bulletin, key) = sample::bulletin_with_keys(folders);
    (Fake::saying(move |_, _| Some(done(sample::notice(bulletin.clone())))), key)
}

fn open(path: &Path, key: &RecipientPrivateKey) -> (Header, Vec<u8>) {
    let file = File::open(path).unwrap();
    let header = Header::read(&file).unwrap();
    let id = key.public().key_id();
    let stanza = header.stanzas().iter().find(|stanza| stanza.key_id == id).unwrap();
    let secret = key.decapsulate(&stanza.encapsulation).unwrap();
    let dek = header.unwrap(stanza, &secret).unwrap();
    let mut plain = Vec::new();
    open_stream(&file, &header, &dek, &mut plain, &mut |_| {}).unwrap();
    (header, plain)
}

#[test]
fn files_are_sealed_in_place_under_their_own_name_with_mode_and_times() {
    let (fake, key) = sealing(Vec::new());
    let path = fake.path("報告書.docx");
    std::fs::write(&path, b"contents").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let before = std::fs::metadata(&path).unwrap();
    let names = || std::fs::read_dir(fake.root.path()).unwrap().count();
    let count = names();

    let arguments =
        ["seal", path.to_str().unwrap(), "--label", "社外秘", "--owner-group", "総務部/人事課", "--json"];
    let ran = fake.run(&arguments);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert_eq!(ran.json()["files"][0]["label"], "社外秘");
    let (header, plain) = open(&path, &key);
    assert_eq!(plain, b"contents");
    assert_eq!(header.policy().label, sample::LABEL);
    assert_eq!(header.policy().owner_group, Some(sample::SECTION));
    assert_eq!(header.policy().sealer, sample::TERMINAL);
    assert_eq!(header.stanzas().len(), 2, "the label's key and the recovery key");
    let after = std::fs::metadata(&path).unwrap();
    assert_eq!(
        (before.mode(), before.uid(), before.modified().unwrap()),
        (after.mode(), after.uid(), after.modified().unwrap())
    );
    assert_eq!(names(), count, "nothing else is left");

    let sealed = std::fs::read(&path).unwrap();
    let ran = fake.run(&arguments);
    assert_eq!((ran.exit, ran.json()["files"][0]["already_sealed"].as_bool()), (Exit::Ok, Some(true)));
    assert_eq!(std::fs::read(&path).unwrap(), sealed);
}

#[test]
fn a_copy_is_sealed_with_o_and_the_original_stays() {
    let (fake, key) = sealing(Vec::new());
    let path = fake.path("a");
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &content).unwrap();
    let out = fake.path("b");
    let arguments =
        ["seal", path.to_str().unwrap(), "--label", &sample::LABEL.to_string(), "-o", out.to_str().unwrap()];
    assert_eq!(fake.run(&arguments).exit, Exit::Ok);
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert_eq!(open(&out, &key).1, content);
    assert_eq!(fake.run(&arguments).exit, Exit::Exists);
}

#[test]
fn inside_a_designated_folder_label_and_group_follow_from_it() {
    let shared = tempfile::tempdir().unwrap();
    let (fake, key) = sealing(vec![sample::folder(shared.path().to_str().unwrap())]);
    let inside = shared.path().join("下/a");
    std::fs::create_dir(inside.parent().unwrap()).unwrap();
    std::fs::write(&inside, b"x").unwrap();
    assert_eq!(fake.run(&["seal", inside.to_str().unwrap()]).exit, Exit::Ok);
    assert_eq!(open(&inside, &key).0.policy().owner_group, Some(sample::GROUP));

    let outside = fake.path("a");
    std::fs::write(&outside, b"x").unwrap();
    let ran = fake.run(&["seal", outside.to_str().unwrap()]);
    assert!(ran.exit == Exit::Usage && ran.err.contains("社外秘"), "{ran:?}");
    let ran = fake.run(&["seal", outside.to_str().unwrap(), "--label", "極々秘"]);
    assert!(
        ran.exit == Exit::NotFound && ran.err.contains("極々秘") && ran.err.contains("社外秘"),
        "{ran:?}"
    );
    assert_eq!(std::fs::read(&outside).unwrap(), b"x");
}

#[test]
fn hard_links_are_refused_and_a_symbolic_link_leads_to_its_file() {
    let (fake, key) = sealing(Vec::new());
    let path = fake.path("a");
    std::fs::write(&path, b"x").unwrap();
    std::fs::hard_link(&path, fake.path("other")).unwrap();
    let ran = fake.run(&["seal", path.to_str().unwrap(), "--label", "社外秘"]);
    assert_eq!(ran.exit, Exit::UnsuitableFile, "{ran:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"x");
    std::fs::remove_file(fake.path("other")).unwrap();
    std::os::unix::fs::symlink("a", fake.path("link")).unwrap();
    let ran = fake.run(&["seal", fake.path("link").to_str().unwrap(), "--label", "社外秘"]);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert!(fake.path("link").symlink_metadata().unwrap().is_symlink());
    assert_eq!(open(&path, &key).1, b"x");
}

#[test]
fn extended_attributes_are_kept() {
    let (fake, key) = sealing(Vec::new());
    let path = fake.path("a");
    std::fs::write(&path, b"x").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&path, "user.origin", "帳".as_bytes(), flags).is_err() {
        return; // The file system of the test knows no extended attributes.
    }
    let ran = fake.run(&["seal", path.to_str().unwrap(), "--label", "社外秘"]);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    let mut value = [0; 64];
    let size = rustix::fs::getxattr(&path, "user.origin", &mut value[..]).unwrap();
    assert_eq!(&value[..size], "帳".as_bytes());
    assert_eq!(open(&path, &key).1, b"x");
}

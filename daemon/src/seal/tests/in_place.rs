//! What a sealed file keeps, and what is left alone.

use super::fixture::{CONTEXT, Place, is_root, open};
use crate::seal::facts::Facts;
use crate::seal::sealer::Outcome;
use crate::seal::stop::Stop;
use crate::seal::{FolderError, FolderRoot};
use rustix::fs::{CWD, FileType, Mode, Timestamps, XattrFlags};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use tobari_core::envelope::{Header, looks_sealed};
use tobari_core::ids::OrganisationId;
use tobari_core::proto::control::UnsealedReason;

fn reason(result: Result<Outcome, Stop>) -> UnsealedReason {
    result.unwrap_err().report().unwrap().0
}

#[test]
fn content_survives_at_all_sizes() {
    let place = Place::new();
    for size in [0, 1, 7, 8, 4096, 16383, 16384, 16385, 1 << 20, (5 << 20) + 17] {
        let content: Vec<u8> =
            (0..size).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let name = format!("文書-{size}.pdf");
        let path = place.write(&name, &content);
        assert_eq!(place.seal(&name).unwrap(), Outcome::Sealed(size.into()));
        assert!(looks_sealed(&fs::read(&path).unwrap()));
        assert!(open(&path).unwrap() == content, "size {size}");
        assert_eq!(place.seal(&name).unwrap(), Outcome::AlreadySealed);
    }
    assert_eq!(place.journal(), [""; 0]);
}

#[test]
fn metadata_is_kept() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let path = place.write("部/契約.docx", "内容");
    let file = File::open(&path).unwrap();
    rustix::fs::fchown(&file, Some(rustix::fs::Uid::from_raw(1234)), Some(rustix::fs::Gid::from_raw(4321)))
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2640)).unwrap();
    rustix::fs::fsetxattr(&file, c"user.comment", "注".as_bytes(), XattrFlags::empty()).unwrap();
    rustix::fs::fsetxattr(&file, c"security.NTACL", b"\x01\x02", XattrFlags::empty()).unwrap();
    // user::rw-, user:1000:r--, group::r--, mask::r--, other::---
    let none = u32::MAX;
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permission, id) in
        [(1_u16, 6_u16, none), (2, 4, 1000), (4, 4, none), (16, 4, none), (32, 0, none)]
    {
        acl.extend([tag.to_le_bytes(), permission.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    rustix::fs::fsetxattr(&file, c"system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
    let time = |seconds, nanoseconds| rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(1_000_000_000, 123_456_789),
        last_modification: time(1_100_000_000, 987_654_321),
    };
    rustix::fs::futimens(&file, &times).unwrap();
    let before = Facts::of(&file).unwrap();
    drop(file);

    place.seal("部/契約.docx").unwrap();

    let file = File::open(&path).unwrap();
    let after = Facts::of(&file).unwrap();
    assert_eq!((after.mode, after.uid, after.gid), (before.mode, before.uid, before.gid));
    assert_eq!((after.modified, after.accessed), (before.modified, before.accessed));
    let value = |name| {
        let mut buffer = [0; 256];
        let length = rustix::fs::fgetxattr(&file, name, &mut buffer[..]).unwrap();
        buffer[..length].to_vec()
    };
    assert_eq!(value(c"user.comment"), "注".as_bytes());
    assert_eq!(value(c"security.NTACL"), b"\x01\x02");
    assert_eq!(value(c"system.posix_acl_access"), acl);
    assert_eq!(open(&path).unwrap(), "内容".as_bytes());
}

#[test]
fn a_default_acl_of_the_folder_does_not_reach_the_envelopes() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permission, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend([tag.to_le_bytes(), permission.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    let path = place.write("a.txt", "text");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let top = File::open(place.directory.path()).unwrap();
    rustix::fs::fsetxattr(&top, c"system.posix_acl_default", &acl, XattrFlags::empty()).unwrap();
    place.seal("a.txt").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let file = File::open(&path).unwrap();
    let mut buffer = [0; 256];
    assert!(rustix::fs::fgetxattr(&file, c"system.posix_acl_access", &mut buffer[..]).is_err());
}

#[test]
fn a_name_that_is_not_utf8() {
    let place = Place::new();
    // "予算.csv" in Shift_JIS, in a directory that is not UTF-8 either.
    let name = Path::new(OsStr::from_bytes(b"\x95\xb6\x8f\x91")).join(OsStr::from_bytes(b"\x97\\\x8eZ.csv"));
    let path = place.write(&name, "1,2\r\n");
    place.seal(&name).unwrap();
    assert_eq!(open(&path).unwrap(), b"1,2\r\n");
}

#[test]
fn the_policy_says_who_sealed_it_for_what() {
    let place = Place::new();
    let path = place.write("a.txt", "text");
    place.seal("a.txt").unwrap();
    let header = Header::read(&File::open(path).unwrap()).unwrap();
    let policy = header.policy();
    assert_eq!((policy.organisation, policy.sealer), (CONTEXT.organisation, CONTEXT.terminal));
    assert_eq!((policy.label_name.as_str(), policy.label_level, policy.generation), ("社外秘", 300, 1));
    assert_eq!(header.stanzas().len(), 2);
}

#[test]
fn hard_links_are_left_alone() {
    let place = Place::new();
    let path = place.write("a.txt", "text");
    fs::hard_link(&path, place.path("b.txt")).unwrap();
    assert_eq!(reason(place.seal("a.txt")), UnsealedReason::HardLinked);
    assert_eq!(fs::read(&path).unwrap(), b"text");
    fs::remove_file(place.path("b.txt")).unwrap();
    place.seal("a.txt").unwrap();
    assert_eq!(open(&path).unwrap(), b"text");
}

#[test]
fn special_files_and_links_are_not_opened() {
    let place = Place::new();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("secret");
    fs::write(&target, "outside").unwrap();
    fs::create_dir(outside.path().join("sub")).unwrap();
    fs::write(outside.path().join("sub/file"), "outside").unwrap();
    symlink(&target, place.path("link")).unwrap();
    symlink(outside.path().join("sub"), place.path("directory")).unwrap();
    let fifo = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, place.path("fifo"), FileType::Fifo, fifo, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    // A reader that waits in `open` would be let through by anybody who opened the FIFO for writing, and a writer
    // that does not wait gets ENXIO as long as nobody has it open for reading.
    for name in [
        "link",
        "directory/file",
        "fifo",
        "socket",
        "../x",
        "/etc/passwd",
        "directory/../link",
        ".",
        "missing",
    ] {
        assert!(matches!(place.seal(name), Err(Stop::Vanished)), "{name}");
    }
    assert_eq!(fs::read(&target).unwrap(), b"outside");
    assert_eq!(fs::read(outside.path().join("sub/file")).unwrap(), b"outside");
}

#[test]
fn damaged_and_foreign_envelopes_are_left_as_they_are() {
    let place = Place::new();
    let path = place.write("a.txt", "text");
    place.seal("a.txt").unwrap();
    let sealed = fs::read(&path).unwrap();
    let mut broken = sealed.clone();
    broken[12] ^= 1;
    let mut appended = sealed.clone();
    appended.extend(b"more");
    let cut = sealed[..sealed.len() - 1].to_vec();
    for content in [broken, appended, cut, sealed[..64].to_vec()] {
        fs::write(&path, &content).unwrap();
        assert_eq!(reason(place.seal("a.txt")), UnsealedReason::ForeignEnvelope);
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    fs::write(&path, &sealed).unwrap();
    let other = crate::seal::inspect::inspect(
        &File::open(&path).unwrap(),
        sealed.len() as u64,
        OrganisationId::generate(),
    );
    assert!(matches!(other.unwrap(), crate::seal::inspect::Content::Foreign(_)));
    assert_eq!(place.seal("a.txt").unwrap(), Outcome::AlreadySealed);
}

#[test]
fn a_label_without_key_leaves_the_file() {
    let mut place = Place::new();
    let path = place.write("a.txt", "text");
    place.rule.keys = None;
    assert_eq!(reason(place.seal("a.txt")), UnsealedReason::NoKey);
    assert_eq!(fs::read(&path).unwrap(), b"text");
}

#[test]
fn an_immutable_file_is_reported() {
    let place = Place::new();
    place.write("a.txt", "text");
    let run = |flag| std::process::Command::new("chattr").arg(flag).arg(place.path("a.txt")).status();
    if !run("+i").is_ok_and(|status| status.success()) {
        crate::testing::skipped("chattr does not work here");
        return;
    }
    let result = place.seal("a.txt");
    run("-i").unwrap();
    assert_eq!(reason(result), UnsealedReason::Immutable);
    place.seal("a.txt").unwrap();
}

#[test]
fn the_control_directory_must_be_ours() {
    let directory = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let control = directory.path().join(crate::seal::CONTROL);
    symlink(outside.path(), &control).unwrap();
    assert!(matches!(FolderRoot::open(directory.path()), Err(FolderError::ForeignControl(_))));
    fs::remove_file(&control).unwrap();
    File::create(&control).unwrap();
    assert!(matches!(FolderRoot::open(directory.path()), Err(FolderError::ForeignControl(_))));
    fs::remove_file(&control).unwrap();
    if is_root() {
        fs::create_dir(&control).unwrap();
        std::os::unix::fs::chown(&control, Some(1000), None).unwrap();
        assert!(matches!(FolderRoot::open(directory.path()), Err(FolderError::ForeignControl(_))));
        fs::remove_dir(&control).unwrap();
    }
    let root = FolderRoot::open(directory.path()).unwrap();
    assert_eq!(fs::metadata(&control).unwrap().mode() & 0o7777, 0o700);
    assert!(matches!(FolderRoot::open(directory.path()), Err(FolderError::Locked)));
    drop(root);
    FolderRoot::open(directory.path()).unwrap();
}

#[test]
fn folders_that_cannot_be_designated() {
    assert!(matches!(FolderRoot::open(Path::new("/")), Err(FolderError::BadPath(_))));
    assert!(matches!(FolderRoot::open(Path::new("relative")), Err(FolderError::BadPath(_))));
    assert!(matches!(FolderRoot::open(Path::new("/nonexistent/folder")), Err(FolderError::Open(_))));
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("real")).unwrap();
    symlink("real", directory.path().join("link")).unwrap();
    assert!(matches!(FolderRoot::open(&directory.path().join("link")), Err(FolderError::Symlink)));
}

#[test]
fn a_full_disk_keeps_the_original() {
    let place = Place::new();
    let mount = place.path("disk");
    fs::create_dir(&mount).unwrap();
    let run =
        |program: &str, arguments: &[&OsStr]| std::process::Command::new(program).args(arguments).status();
    let arguments = ["-t", "tmpfs", "-o", "size=1m", "none"].map(OsStr::new);
    if !run("mount", &[&arguments[..], &[mount.as_os_str()]].concat()).is_ok_and(|status| status.success()) {
        crate::testing::skipped("cannot mount a small tmpfs");
        return;
    }
    let root = FolderRoot::open(&mount).unwrap();
    let content = vec![7; 700 << 10];
    fs::write(mount.join("large.bin"), &content).unwrap();
    let rule = super::fixture::rule(&mount, &[]);
    let full = place.sealer.seal(&root, &rule, Path::new("large.bin"));
    let left: Vec<_> = fs::read_dir(mount.join(crate::seal::CONTROL)).unwrap().collect();
    let kept = fs::read(mount.join("large.bin")).unwrap();
    // Now there is room.
    File::options().write(true).open(mount.join("large.bin")).unwrap().set_len(100 << 10).unwrap();
    let later = place.sealer.seal(&root, &rule, Path::new("large.bin"));
    drop(root);
    run("umount", &[mount.as_os_str()]).unwrap();
    assert_eq!(reason(full), UnsealedReason::NoSpace);
    assert!(left.is_empty());
    assert!(kept == content);
    assert_eq!(later.unwrap(), Outcome::Sealed(100 << 10));
}

#[test]
fn more_files_than_an_epoch_serves() {
    // The epoch's limit is 4096 files; a spent one is replaced in the middle.
    let place = Place::new();
    let epochs = crate::seal::epochs::Epochs::default();
    let keys = place.rule.keys.clone().unwrap();
    let first = epochs.current(&keys).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &epochs.current(&keys).unwrap()));
    epochs.retire(&keys, &first);
    assert!(!std::sync::Arc::ptr_eq(&first, &epochs.current(&keys).unwrap()));
}

#[test]
fn an_open_file_waits() {
    let place = Place::new();
    let path = place.write("a.txt", "old");
    let mut writer = File::options().append(true).open(&path).unwrap();
    assert_eq!(reason(place.try_seal("a.txt")), UnsealedReason::InUse);
    writer.write_all(b" and new").unwrap();
    drop(writer);
    let reader = File::open(&path).unwrap();
    assert_eq!(reason(place.try_seal("a.txt")), UnsealedReason::InUse);
    drop(reader);
    place.seal("a.txt").unwrap();
    assert_eq!(open(&path).unwrap(), b"old and new");
}

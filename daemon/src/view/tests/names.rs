use super::*;
use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};

#[test]
fn names_are_moved_and_removed_as_anywhere() {
    let Some(shown) = Shown::start(Rights::ALL, &[("a", b"contents of a"), ("b", b"contents of b")]) else {
        return;
    };
    let rename = |from: &str, to: &str, flags| renameat_with(CWD, shown.at(from), CWD, shown.at(to), flags);
    assert_eq!(rename("a", "b", RenameFlags::NOREPLACE).unwrap_err(), rustix::io::Errno::EXIST);
    rename("a", "b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(std::fs::read(shown.at("a")).unwrap(), b"contents of b");
    std::fs::create_dir(shown.at("d")).unwrap();
    rename("a", "d/a", RenameFlags::empty()).unwrap();
    assert_eq!(std::fs::read(shown.at("d/a")).unwrap(), b"contents of b");
    assert_eq!(number(&std::fs::remove_dir(shown.at("d")).unwrap_err()), libc::ENOTEMPTY);
    rename("d", "e", RenameFlags::empty()).unwrap();
    // What is refused is named by where it is now.
    *shown.site.source.changed.lock().unwrap() = Some(Rights::NONE);
    shown.site.service.grants().clear();
    assert!(File::open(shown.at("e/a")).is_err());
    assert_eq!(shown.refused(), [(PathBuf::from("e/a"), ProblemCode::RightRefused)]);
    std::fs::remove_file(shown.at("e/a")).unwrap();
    std::fs::remove_dir(shown.at("e")).unwrap();
    assert!(!shown.beneath("e").exists());
}

#[test]
fn an_editor_replaces_a_file_while_another_reads_the_old_one() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", b"old contents")]) else { return };
    let reader = File::open(shown.at("file")).unwrap();
    let mut new = File::create(shown.at("file.tmp")).unwrap();
    new.write_all(b"new contents!").unwrap();
    new.sync_all().unwrap();
    drop(new);
    std::fs::rename(shown.at("file.tmp"), shown.at("file")).unwrap();
    let mut old = [0; 12];
    reader.read_exact_at(&mut old, 0).unwrap();
    assert_eq!(&old, b"old contents");
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), b"new contents!");
    assert_eq!(shown.opened("file"), b"new contents!");
}

#[test]
fn links_attributes_and_permissions_are_those_beneath() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", b"contents")]) else { return };
    std::fs::hard_link(shown.at("file"), shown.at("second")).unwrap();
    let metadata = std::fs::metadata(shown.at("second")).unwrap();
    assert_eq!((metadata.nlink(), metadata.ino()), (2, std::fs::metadata(shown.at("file")).unwrap().ino()));
    OpenOptions::new().append(true).open(shown.at("second")).unwrap().write_all(b" and more").unwrap();
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), b"contents and more");
    symlink("file", shown.at("link")).unwrap();
    assert_eq!(std::fs::read_link(shown.at("link")).unwrap(), Path::new("file"));
    assert_eq!(std::fs::read(shown.at("link")).unwrap(), b"contents and more");
    std::fs::set_permissions(shown.at("file"), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(std::fs::metadata(shown.beneath("file")).unwrap().mode() & 0o7777, 0o640);
    match rustix::fs::setxattr(shown.at("file"), "user.note", b"value", XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) => crate::testing::skipped("no extended attributes here"),
        other => {
            other.unwrap();
            let mut value = [0; 16];
            let length = rustix::fs::getxattr(shown.at("file"), "user.note", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"value");
            let length = rustix::fs::getxattr(shown.beneath("file"), "user.note", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"value");
        }
    }
    rustix::fs::mknodat(
        CWD,
        shown.at("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(std::fs::metadata(shown.at("fifo")).is_ok());
    let disk = rustix::fs::statvfs(&shown.view).unwrap();
    assert_eq!(disk.f_blocks, rustix::fs::statvfs(&shown.folder).unwrap().f_blocks);
}

#[test]
fn a_large_directory_is_listed_whole() {
    let Some(shown) = Shown::start(Rights::ALL, &[]) else { return };
    for number in 0..1500 {
        std::fs::write(shown.beneath(&format!("file number {number}")), b"x").unwrap();
    }
    let mut names: Vec<_> =
        std::fs::read_dir(&shown.view).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1500);
    for entry in std::fs::read_dir(&shown.view).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(std::fs::read_dir(&shown.view).unwrap().count(), 0);
}

#[test]
fn the_kernel_forgets_files_before_descriptors_run_out() {
    let Some(mut shown) = Shown::start(Rights::ALL, &[("file", b"contents")]) else { return };
    shown.end();
    shown.options.known_files = 200;
    shown.mount();
    for number in 0..1000 {
        std::fs::write(shown.beneath(&format!("{number}")), b"x").unwrap();
    }
    let open = File::open(shown.at("file")).unwrap();
    for number in 0..1000 {
        std::fs::metadata(shown.at(&number.to_string())).unwrap();
    }
    wait_until("the kernel forgets", || shown.mount.as_ref().unwrap().known() <= 200);
    // What is open and what is asked for again is as it was.
    let mut contents = [0; 8];
    open.read_exact_at(&mut contents, 0).unwrap();
    assert_eq!(&contents, b"contents");
    assert_eq!(std::fs::read(shown.at("999")).unwrap(), b"x");
}

#[test]
fn many_programs_at_once_do_not_hinder_each_other() {
    let Some(shown) = Shown::start(Rights::ALL, &[("shared", &[b's'; 50_000])]) else { return };
    std::thread::scope(|scope| {
        for program in 0..6 {
            let shown = &shown;
            scope.spawn(move || {
                let mine = shown.at(&format!("d{program}"));
                std::fs::create_dir(&mine).unwrap();
                for round in 0..40 {
                    let contents = format!("{program} {round} ").repeat(round * 50 + 1);
                    let (temporary, name) = (mine.join("tmp"), mine.join(format!("f{}", round % 5)));
                    std::fs::write(&temporary, &contents).unwrap();
                    std::fs::rename(&temporary, &name).unwrap();
                    assert_eq!(std::fs::read_to_string(&name).unwrap(), contents);
                    std::fs::read(shown.at("shared")).unwrap();
                    let all =
                        std::fs::read_dir(&mine).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
                    assert_eq!(all.count(), (round + 1).min(5));
                    if round % 7 == 6 {
                        for entry in std::fs::read_dir(&mine).unwrap() {
                            std::fs::read(entry.unwrap().path()).unwrap();
                        }
                    }
                }
                std::fs::remove_dir_all(&mine).unwrap();
            });
        }
    });
    assert_eq!(shown.opened("shared"), [b's'; 50_000]);
    wait_until("all is closed", || shown.site.service.views().is_idle());
}

/// The names in a directory of the view, with the sizes of its files.
fn listed(shown: &Shown, directory: &str) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(shown.at(directory)).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = entries
        .filter_map(|entry| {
            Some((entry.file_name().into_string().unwrap(), std::fs::metadata(entry.path()).ok()?.len()))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_listing_that_the_kernel_remembers_is_the_one_that_there_is() {
    let Some(shown) = Shown::start(Rights::ALL, &[]) else { return };
    std::fs::create_dir(shown.at("d")).unwrap();
    let mut expected = Vec::new();
    for number in 0..200_u64 {
        let name = format!("{number:03}");
        std::fs::write(shown.at("d").join(&name), vec![1; number as usize * 10]).unwrap();
        expected.push((name, number * 10));
        // Each change is in the listing at once, however often it was listed.
        if number % 40 == 0 {
            assert_eq!(listed(&shown, "d"), expected);
            assert_eq!(listed(&shown, "d"), expected);
        }
    }
    assert_eq!(listed(&shown, "d"), expected);
    std::fs::rename(shown.at("d/000"), shown.at("d/zzz")).unwrap();
    std::fs::remove_file(shown.at("d/001")).unwrap();
    std::fs::write(shown.at("d/002"), b"x").unwrap();
    expected.drain(..2);
    expected[0].1 = 1;
    expected.push((String::from("zzz"), 0));
    assert_eq!(listed(&shown, "d"), expected);
    // What somebody does beneath is seen, too.
    std::fs::write(shown.beneath("d/plain"), b"beneath").unwrap();
    wait_until("a new name is listed", || listed(&shown, "d").contains(&(String::from("plain"), 7)));
    std::fs::write(shown.beneath("d/plain"), b"beneath, longer").unwrap();
    wait_until("a new size is listed", || listed(&shown, "d").contains(&(String::from("plain"), 15)));
    std::fs::remove_file(shown.beneath("d/plain")).unwrap();
    std::fs::rename(shown.beneath("d/zzz"), shown.beneath("d/yyy")).unwrap();
    expected.pop();
    expected.push((String::from("yyy"), 0));
    wait_until("what is gone is not listed", || listed(&shown, "d") == expected);
}

#[test]
fn set_id_bits_and_capabilities_end_with_a_change_of_the_contents() {
    // `cap_net_raw`, as `setcap` stores it.
    const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const NAME: &str = "security.capability";
    let Some(shown) = Shown::start(Rights::ALL, &[("sealed", b"contents")]) else { return };
    std::fs::write(shown.beneath("plain"), b"contents").unwrap();
    let mode = |name: &str| std::fs::metadata(shown.beneath(name)).unwrap().mode() & 0o7777;
    for name in ["sealed", "plain"] {
        let file = OpenOptions::new().append(true).open(shown.at(name)).unwrap();
        for _ in 0..2 {
            std::fs::set_permissions(shown.at(name), std::fs::Permissions::from_mode(0o6755)).unwrap();
            if let Err(error) = rustix::fs::setxattr(shown.at(name), NAME, &CAPABILITY, XattrFlags::empty()) {
                crate::testing::skipped(format!("capabilities of files: {error}"));
                return;
            }
            (&file).write_all(b" and more").unwrap();
            let left = rustix::fs::getxattr(shown.beneath(name), NAME, &mut [0_u8; 32]);
            assert_eq!(left, Err(rustix::io::Errno::NODATA), "{name}");
            // Who may set the bits keeps them.
            assert_eq!(mode(name), 0o6755, "{name}");
            assert_eq!(std::fs::metadata(shown.at(name)).unwrap().mode() & 0o7777, 0o6755);
        }
        drop(file);
        // Somebody who may not.
        let script = format!("printf ' and yet more' >> '{}'", shown.at(name).display());
        let line = ["--bounding-set", "-fsetid", "--inh-caps", "-fsetid", "sh", "-c", &script];
        let done = std::process::Command::new("setpriv").args(line).status();
        if !done.is_ok_and(|status| status.success()) {
            crate::testing::skipped("set-id bits: setpriv is not there, or may not take capabilities away");
            return;
        }
        assert_eq!(mode(name), 0o755, "{name}");
        assert_eq!(std::fs::metadata(shown.at(name)).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(std::fs::read(shown.at(name)).unwrap(), b"contents and more and more and yet more");
    }
}

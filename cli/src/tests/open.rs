//! `cat`, `unseal`, `verify` and `zip` with real descriptors.

use super::fake::{Fake, done, failed_with};
use super::sample;
use crate::exit::Exit;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tobari_core::envelope::MAGIC;
use tobari_core::proto::control::{Answer, Event, Request};
use tobari_core::proto::problem::ProblemCode;

const PLAIN: &[u8] = b"plaintext";

/// A daemon that writes [`PLAIN`] to the second descriptor, and has one designated folder.
fn opening(designated: Option<&str>) -> Fake {
    let folders: Vec<_> = designated.map(sample::folder).into_iter().collect();
    Fake::saying(move |request, descriptors| match request {
        Request::Open { .. } | Request::Verify { .. } => {
            if let Some(sink) = descriptors.into_iter().nth(1) {
                File::from(sink).write_all(PLAIN).unwrap();
            }
            Some(done(Answer::Written { bytes: PLAIN.len() as u64, interrupted_tail: None }))
        }
        _ => Some(done(sample::notice(sample::bulletin(folders.clone())))),
    })
}

/// A daemon that refuses after it has written half of it.
fn refusing(code: ProblemCode) -> Fake {
    Fake::saying(move |_, descriptors| {
        if let Some(sink) = descriptors.into_iter().nth(1) {
            File::from(sink).write_all(b"half").unwrap();
        }
        Some(failed_with(code))
    })
}

fn sealed(fake: &Fake, name: impl AsRef<OsStr>) -> String {
    let path = fake.root.path().join(name.as_ref());
    std::fs::write(&path, [MAGIC.as_slice(), b"rest"].concat()).unwrap();
    path.to_string_lossy().into_owned()
}

fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn cat_writes_to_standard_output_and_goes_on_after_a_failure() {
    let fake = opening(None);
    let (a, b) = (sealed(&fake, "a"), sealed(&fake, "b"));
    let ran = fake.run(&["cat", &a, "/nowhere", &b]);
    assert_eq!(ran.exit, Exit::Io);
    assert_eq!(ran.out, [PLAIN, PLAIN].concat());
    assert!(ran.err.contains("/nowhere") && ran.err.contains("no such file"), "{ran:?}");
    assert_eq!(fake.asked()[0]["purpose"], "cat");
}

#[test]
fn what_is_not_sealed_is_not_sent_to_the_daemon() {
    let fake = opening(None);
    let plain = fake.path("plain");
    std::fs::write(&plain, b"short").unwrap();
    for command in ["cat", "verify"] {
        let ran = fake.run(&[command, plain.to_str().unwrap()]);
        assert_eq!(ran.exit, Exit::UnsuitableFile, "{ran:?}");
    }
    let ran = fake.run(&["cat", fake.root.path().to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::UnsuitableFile, "{ran:?}");
    assert!(fake.asked().is_empty());
}

#[test]
fn a_name_that_is_not_utf8_is_opened() {
    let fake = opening(None);
    let name = OsString::from_vec(b"\x83e\x83X\x83g.txt".to_vec());
    sealed(&fake, &name);
    let path = fake.root.path().join(&name).into_os_string();
    let ran = fake.run_os("en", vec!["cat".into(), path], b"");
    assert_eq!((ran.exit, ran.out.as_slice()), (Exit::Ok, PLAIN));
}

#[test]
fn a_reader_that_has_gone_is_quiet() {
    use crate::console::Console;
    let fake = Fake::saying(|_, _| Some(failed_with(ProblemCode::LocalIo)));
    let path = sealed(&fake, "a");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut errors = tempfile::tempfile().unwrap();
    let console = Console {
        input: tempfile::tempfile().unwrap(),
        output: File::from(std::os::fd::OwnedFd::from(writer)),
        errors: errors.try_clone().unwrap(),
        variables: [("TOBARI_SOCKET".to_owned(), fake.socket().into_os_string())].into(),
        clock: Arc::new(tobari_core::clock::SystemClock),
    };
    let exit = crate::run(["tobari", "cat", &path].map(OsString::from), console);
    assert_eq!(exit, Exit::Ok);
    assert_eq!(errors.stream_position().unwrap(), 0, "nothing was said");
    let _ = errors.flush();
}

#[test]
fn unseal_saves_privately_with_the_old_times() {
    let fake = opening(None);
    let path = sealed(&fake, "a.txt");
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let out = fake.path("out.txt");
    let ran = fake.run(&["unseal", &path, "-o", out.to_str().unwrap(), "--json"]);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert_eq!(ran.json()["files"][0]["bytes"], PLAIN.len());
    let metadata = out.metadata().unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), PLAIN);
    assert_eq!((metadata.mode() & 0o7777, metadata.modified().unwrap()), (0o600, old));
    assert!(fake.asked().iter().any(|asked| asked["purpose"] == "unseal"));
}

#[test]
fn unseal_never_overwrites_unless_told_and_leaves_nothing_half_written() {
    let fake = opening(None);
    let path = sealed(&fake, "a");
    let out = fake.path("out");
    std::fs::write(&out, b"mine").unwrap();
    let ran = fake.run(&["unseal", &path, "-o", out.to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::Exists, "{ran:?}");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    let before = names(fake.root.path());
    let ran = fake.run(&["unseal", &path, "-o", out.to_str().unwrap(), "--force"]);
    assert_eq!((ran.exit, std::fs::read(&out).unwrap().as_slice()), (Exit::Ok, PLAIN));
    assert_eq!(names(fake.root.path()), before);

    for code in [ProblemCode::CorruptEnvelope, ProblemCode::RightRefused, ProblemCode::LocalIo] {
        let fake = refusing(code);
        let path = sealed(&fake, "a");
        let out = fake.path("out");
        let before = names(fake.root.path());
        for more in [&["-o", out.to_str().unwrap()][..], &["--in-place"]] {
            let arguments: Vec<&str> = ["unseal", &path].into_iter().chain(more.iter().copied()).collect();
            let ran = fake.run(&arguments);
            assert_eq!(ran.exit, Exit::from(code), "{ran:?}");
            assert!(ran.err.contains("ROOT/a: "), "the file is named: {ran:?}");
            assert_eq!(names(fake.root.path()), before);
            assert!(std::fs::read(&path).unwrap().starts_with(MAGIC.as_slice()));
        }
    }
}

#[test]
fn unseal_into_a_folder_and_in_place() {
    let fake = opening(None);
    let (a, b) = (sealed(&fake, "a"), sealed(&fake, "b"));
    let out = fake.path("out");
    std::fs::create_dir(&out).unwrap();
    let ran = fake.run(&["unseal", &a, &b, "--output-dir", out.to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert_eq!(names(&out), ["a", "b"]);

    std::fs::set_permissions(&a, std::fs::Permissions::from_mode(0o640)).unwrap();
    let before = names(fake.root.path());
    let ran = fake.run(&["unseal", &a, "--in-place"]);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert_eq!(std::fs::read(&a).unwrap(), PLAIN);
    assert_eq!(std::fs::metadata(&a).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(names(fake.root.path()), before);

    std::fs::hard_link(&b, fake.path("link")).unwrap();
    let ran = fake.run(&["unseal", &b, "--in-place"]);
    assert_eq!(ran.exit, Exit::UnsuitableFile, "{ran:?}");
    assert!(std::fs::read(&b).unwrap().starts_with(MAGIC.as_slice()));
}

#[test]
fn a_file_that_changes_while_it_is_unsealed_in_place_stays_as_its_writer_left_it() {
    let changed = Arc::new(Mutex::new(std::path::PathBuf::new()));
    let writer = changed.clone();
    let fake = Fake::saying(move |request, descriptors| match request {
        Request::Open { .. } => {
            std::fs::write(&*writer.lock().unwrap(), b"new version").unwrap();
            File::from(descriptors.into_iter().nth(1).unwrap()).write_all(PLAIN).unwrap();
            Some(done(Answer::Written { bytes: 9, interrupted_tail: None }))
        }
        _ => Some(failed_with(ProblemCode::KeyServerUnreachable)),
    });
    let path = sealed(&fake, "a");
    *changed.lock().unwrap() = path.clone().into();
    let before = names(fake.root.path());
    let ran = fake.run(&["unseal", &path, "--in-place"]);
    assert_eq!(ran.exit, Exit::FileChanged, "{ran:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"new version");
    assert_eq!(names(fake.root.path()), before);
}

#[test]
fn unseal_into_a_designated_folder_draws_a_warning() {
    let shared = tempfile::tempdir().unwrap();
    let fake = opening(shared.path().to_str());
    let path = sealed(&fake, "a");
    let out = shared.path().join("out");
    let ran = fake.run(&["unseal", &path, "-o", out.to_str().unwrap()]);
    assert!(ran.exit == Exit::Ok && ran.err.contains("tobari: warning: "), "{ran:?}");
    let ran = fake.run(&["unseal", &path, "-o", fake.path("b").to_str().unwrap()]);
    assert!(ran.exit == Exit::Ok && !ran.err.contains("warning"), "{ran:?}");
}

#[test]
fn an_interrupted_tail_is_said() {
    let fake = Fake::saying(|_, _| Some(done(Answer::Written { bytes: 5, interrupted_tail: Some(1234) })));
    let ran = fake.run(&["verify", &sealed(&fake, "a"), "--json"]);
    assert_eq!(ran.json()["files"][0]["interrupted_tail"], 1234);
    assert!(ran.err.contains("1,234"), "{ran:?}");
}

fn zipping(answer: fn() -> Event) -> Fake {
    Fake::saying(move |request, descriptors| match request {
        Request::ZipStart { .. } => {
            File::from(descriptors.into_iter().next().unwrap()).write_all(b"PK").unwrap();
            None
        }
        Request::ZipEntry { .. } => {
            assert_eq!(descriptors.len(), 1);
            None
        }
        Request::ZipFinish => Some(answer()),
        _ => Some(done(sample::notice(sample::bulletin(Vec::new())))),
    })
}

#[test]
fn zip_makes_a_password_and_shows_it_once() {
    let fake = zipping(|| done(Answer::Zipped { entries: 2, bytes: 30 }));
    let folder = fake.path("契約");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a"), b"a").unwrap();
    std::fs::write(folder.join("b"), b"b").unwrap();
    let out = fake.path("out.zip");
    let arguments = ["zip", "-o", out.to_str().unwrap(), folder.to_str().unwrap()];
    let ran = fake.run(&arguments);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert!(ran.out.is_empty());
    assert_eq!(
        (std::fs::read(&out).unwrap(), out.metadata().unwrap().mode() & 0o7777),
        (b"PK".to_vec(), 0o600)
    );
    let asked = fake.asked();
    let password =
        asked.iter().find(|asked| asked["request"] == "zip-start").unwrap()["password"].as_str().unwrap();
    assert_eq!((password.len(), ran.err.matches(password).count()), (20, 1));
    let inside: Vec<&str> = asked.iter().filter_map(|asked| asked["path"].as_str()).collect();
    assert_eq!(inside, ["契約/a", "契約/b"]);

    let ran = fake.run(&arguments);
    assert_eq!(ran.exit, Exit::Exists, "{ran:?}");
    std::fs::remove_file(&out).unwrap();
    let json: Vec<&str> = arguments.into_iter().chain(["--json", "--password-length", "24"]).collect();
    let ran = fake.run(&json);
    let document = ran.json();
    assert_eq!(document["password"].as_str().unwrap().len(), 24);
    assert_eq!((&document["entries"], &document["encryption"]), (&2.into(), &"aes-256".into()));
    assert!(ran.err.is_empty());
}

#[test]
fn zip_with_a_given_password_does_not_show_it_and_warns_where_it_is_weak() {
    let fake = zipping(|| done(Answer::Zipped { entries: 1, bytes: 1 }));
    let file = fake.path("a");
    std::fs::write(&file, b"a").unwrap();
    let out = fake.path("out.zip");
    let arguments = [
        "zip",
        "-o",
        out.to_str().unwrap(),
        file.to_str().unwrap(),
        "--password-stdin",
        "--legacy-zipcrypto",
        "--json",
    ];
    let ran = fake.run_in("en", &arguments, b"short\n");
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert!(ran.json().get("password").is_none());
    assert_eq!(ran.err.matches("\"warning\"").count(), 2, "{ran:?}");
    let start = fake.asked().into_iter().find(|asked| asked["request"] == "zip-start").unwrap();
    assert_eq!((&start["password"], &start["legacy"]), (&"short".into(), &true.into()));
}

#[test]
fn a_zip_that_is_refused_leaves_nothing() {
    let fake = zipping(|| failed_with(ProblemCode::RightRefused));
    let file = fake.path("a");
    std::fs::write(&file, b"a").unwrap();
    let before = names(fake.root.path());
    let ran = fake.run(&["zip", "-o", fake.path("out.zip").to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::RightRefused, "{ran:?}");
    assert!(!ran.err.contains("password"), "{ran:?}");
    assert_eq!(names(fake.root.path()), before);

    let bad = fake.root.path().join(OsStr::from_bytes(b"\x83e.txt"));
    std::fs::write(&bad, b"").unwrap();
    let arguments = ["zip".into(), "-o".into(), fake.path("o").into_os_string(), bad.into_os_string()];
    let ran = fake.run_os("en", arguments.into(), b"");
    assert!(ran.exit == Exit::UnsuitableFile && ran.err.contains("UTF-8"), "{ran:?}");
}

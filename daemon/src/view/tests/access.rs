use super::*;
use crate::testing::LOWER;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

#[test]
fn view_reads_edit_writes_and_neither_is_refused_with_the_reason() {
    let Some(shown) = Shown::start(rights(&[Right::View]), &[("file", b"contents")]) else { return };
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), b"contents");
    let error = OpenOptions::new().write(true).open(shown.at("file")).unwrap_err();
    assert_eq!(number(&error), libc::EACCES);
    assert_eq!(shown.refused(), [(PathBuf::from("file"), ProblemCode::RightRefused)]);
    let error = OpenOptions::new().write(true).truncate(true).open(shown.at("file")).unwrap_err();
    assert_eq!(number(&error), libc::EACCES);
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), b"contents");

    *shown.site.source.changed.lock().unwrap() = Some(rights(&[Right::Edit]));
    shown.site.service.grants().clear();
    OpenOptions::new().write(true).open(shown.at("file")).unwrap().write_all(b"C").unwrap();
    assert_eq!(shown.opened("file"), b"Contents");
    assert!(OpenOptions::new().read(true).write(true).open(shown.at("file")).is_err());

    *shown.site.source.changed.lock().unwrap() = Some(Rights::NONE);
    shown.site.service.grants().clear();
    assert_eq!(number(&File::open(shown.at("file")).unwrap_err()), libc::EACCES);
    // Size and names are no secret.
    assert_eq!(std::fs::metadata(shown.at("file")).unwrap().len(), 8);
}

#[test]
fn without_a_login_nothing_sealed_opens_and_nothing_is_created() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", b"contents")]) else { return };
    std::fs::write(shown.beneath("plain"), b"plain").unwrap();
    shown.site.service.logout(CALLER).unwrap();
    assert_eq!(number(&File::open(shown.at("file")).unwrap_err()), libc::EACCES);
    assert_eq!(shown.refused(), [(PathBuf::from("file"), ProblemCode::NotLoggedIn)]);
    assert_eq!(number(&File::create(shown.at("new")).unwrap_err()), libc::EACCES);
    assert!(!shown.beneath("new").exists());
    assert_eq!(std::fs::read(shown.at("plain")).unwrap(), b"plain");
}

#[test]
fn who_logs_out_reads_no_more_of_what_is_open_not_even_from_memory() {
    let contents = vec![b'x'; 1 << 20];
    let Some(shown) = Shown::start(Rights::ALL, &[("file", &contents)]) else { return };
    let file = OpenOptions::new().read(true).write(true).open(shown.at("file")).unwrap();
    let mut new = File::options().read(true).write(true).create_new(true).open(shown.at("new")).unwrap();
    new.write_all(b"mine").unwrap();
    let mut buffer = vec![0; 1 << 20];
    file.read_exact_at(&mut buffer, 0).unwrap();
    shown.site.service.logout(CALLER).unwrap();
    // The kernel has the pages until it is told.
    wait_until("the pages are dropped", || file.read_at(&mut buffer, 0).is_err());
    assert_eq!(number(&file.read_at(&mut buffer, 0).unwrap_err()), libc::EACCES);
    assert_eq!(number(&file.write_at(b"y", 0).unwrap_err()), libc::EACCES);
    wait_until("those of a new file too", || new.read_at(&mut buffer, 0).is_err());
    // What was written before is not lost.
    drop(new);
    wait_until("it is sealed", || shown.opened("new") == b"mine");
    // Logged in again, the same descriptor works again.
    shown.login();
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(buffer, contents);
}

#[test]
fn a_grant_that_ended_is_asked_for_again_and_a_refusal_counts() {
    let contents = vec![b'x'; 200_000];
    let Some(shown) = Shown::start(Rights::ALL, &[("file", &contents)]) else { return };
    let file = File::open(shown.at("file")).unwrap();
    let mut buffer = vec![0; 200_000];
    file.read_exact_at(&mut buffer, 0).unwrap();
    *shown.site.source.changed.lock().unwrap() = Some(Rights::NONE);
    shown.site.clock.set("2026-06-01T00:05:00Z".parse().unwrap());
    wait_until("the grant has ended", || file.read_at(&mut buffer, 0).is_err());
    assert!(shown.refused().contains(&(PathBuf::from("file"), ProblemCode::RightRefused)));
}

#[test]
fn what_is_written_gets_the_label_that_the_session_has_reached() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", b"contents")]) else { return };
    *shown.access.label.lock().unwrap() = Some(LOWER);
    std::fs::write(shown.at("new"), b"new").unwrap();
    assert_eq!(shown.header("new").policy().label, LOWER);
    assert_eq!(std::fs::read(shown.at("file")).unwrap(), b"contents");
    assert_eq!(shown.header("file").policy().label, LABEL);
    OpenOptions::new().append(true).open(shown.at("file")).unwrap().write_all(b"+").unwrap();
    assert_eq!(shown.header("file").policy().label, LOWER);
    assert_eq!(shown.opened("file"), b"contents+");
}

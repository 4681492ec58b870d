use super::*;
use crate::testing::LOWER;
use crate::view::Ids;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use tobari_core::proto::api::{DecisionOutcome, DecisionResponse, GrantRequest};

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

/// Maps a file and touches it until that ends the process.
const MAPS: &str = "import mmap, sys, time\nf = open(sys.argv[1], 'rb')\nm = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n\
    assert m[0] == m[99_999] == 120\nprint('mapped', flush=True)\nfor _ in range(12_000): m[0], m[99_999]; time.sleep(0.01)";

#[test]
fn who_logs_out_does_not_keep_what_is_mapped() {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::ExitStatusExt as _;
    let Some(shown) = Shown::start(Rights::ALL, &[("file", &[b'x'; 100_000])]) else { return };
    let mut child = match std::process::Command::new("python3")
        .args(["-c", MAPS])
        .arg(shown.at("file"))
        .stdout(std::process::Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            crate::testing::skipped(format!("a program with a mapping: python3: {error}"));
            return;
        }
    };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "mapped\n");
    assert!(child.try_wait().unwrap().is_none());
    shown.site.service.logout(CALLER).unwrap();
    let mut status = None;
    wait_until("the next touch fails", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.signal()), Some(libc::SIGBUS));
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
fn a_change_closes_what_it_takes_away_and_nothing_else() {
    let closed: Arc<Mutex<Option<tobari_core::ids::FileId>>> = Arc::default();
    let (first, second) = (vec![b'1'; 200_000], vec![b'2'; 200_000]);
    let files: [(&str, &[u8]); 2] = [("first", &first), ("second", &second)];
    let shown = Shown::start_answering(Rights::ALL, &files, {
        let closed = Arc::clone(&closed);
        move |asked| {
            let request: GrantRequest = (asked.path == "/v1/decisions")
                .then(|| serde_json::from_value(asked.body.clone()).unwrap())?;
            let decisions = request.items.iter().map(|item| {
                let file = Header::parse(item.header.as_ref()).unwrap().file_id();
                let rights = if *closed.lock().unwrap() == Some(file) { Rights::NONE } else { Rights::ALL };
                DecisionOutcome::Decided {
                    label: LABEL,
                    label_name: String::new(),
                    owner_group: None,
                    owner_group_name: None,
                    rights,
                    reasons: Vec::new(),
                }
            });
            Some(Said::json(200, &DecisionResponse { decisions: decisions.collect() }))
        }
    });
    let Some(shown) = shown else { return };
    let open = ["first", "second"].map(|name| File::open(shown.at(name)).unwrap());
    let mut buffer = vec![0; 200_000];
    for file in &open {
        file.read_exact_at(&mut buffer, 0).unwrap();
    }
    // From here on no new key is given.
    *shown.site.source.changed.lock().unwrap() = Some(Rights::NONE);
    let asked = shown.asked();
    shown.site.service.reconsider(|_| true);
    for file in &open {
        file.read_exact_at(&mut buffer, 0).unwrap();
    }
    assert_eq!(shown.asked(), asked, "nothing was taken away, so no key is asked for");

    *closed.lock().unwrap() = Some(shown.header("first").file_id());
    shown.site.service.reconsider(|_| false);
    open[0].read_exact_at(&mut buffer, 0).unwrap();
    shown.site.service.reconsider(|_| true);
    // The kernel has the pages until it is told.
    wait_until("the pages are dropped", || open[0].read_at(&mut buffer, 0).is_err());
    assert_eq!(number(&open[0].read_at(&mut buffer, 0).unwrap_err()), libc::EACCES);
    open[1].read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(buffer, second);
    // It comes back with the right.
    *closed.lock().unwrap() = None;
    *shown.site.source.changed.lock().unwrap() = Some(Rights::ALL);
    shown.site.service.reconsider(|_| true);
    open[0].read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(buffer, first);
}

#[test]
fn a_change_whose_decisions_are_not_answered_closes_what_is_open() {
    // The fake key server does not know `/v1/decisions`.
    let Some(shown) = Shown::start(Rights::ALL, &[("file", &[b'x'; 200_000])]) else { return };
    let file = File::open(shown.at("file")).unwrap();
    let mut buffer = vec![0; 200_000];
    file.read_exact_at(&mut buffer, 0).unwrap();
    *shown.site.source.changed.lock().unwrap() = Some(Rights::NONE);
    shown.site.service.reconsider(|_| true);
    wait_until("the pages are dropped", || file.read_at(&mut buffer, 0).is_err());
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

#[test]
fn what_is_open_for_writing_follows_the_session_upwards() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", b"contents")]) else { return };
    std::fs::write(shown.beneath("plain.left"), b"plain").unwrap();
    let file = OpenOptions::new().write(true).open(shown.at("file")).unwrap();
    let new = File::create(shown.at("new")).unwrap();
    let plain = OpenOptions::new().write(true).open(shown.at("plain.left")).unwrap();
    file.write_all_at(b"C", 0).unwrap();
    plain.write_all_at(b"P", 0).unwrap();
    // The session reads something that ranks otherwise.
    *shown.access.label.lock().unwrap() = Some(LOWER);
    shown.access.may_write_plain.store(false, Ordering::Relaxed);
    file.write_all_at(b"o", 1).unwrap();
    assert_eq!(shown.header("file").policy().label, LOWER);
    new.write_all_at(b"new", 0).unwrap();
    assert_eq!(shown.header("new").policy().label, LOWER);
    assert_eq!(number(&plain.write_all_at(b"secret", 0).unwrap_err()), libc::EACCES);
    assert_eq!(number(&plain.set_len(2).unwrap_err()), libc::EACCES);
    let set = rustix::fs::setxattr(shown.at("file"), "user.a", b"secret", rustix::fs::XattrFlags::empty());
    assert_eq!(set.unwrap_err(), rustix::io::Errno::ACCESS);
    drop((file, new, plain));
    wait_until("all is closed", || shown.site.service.views().is_idle());
    assert_eq!(shown.opened("file"), b"Contents");
    assert_eq!(shown.opened("new"), b"new");
    assert_eq!(std::fs::read(shown.beneath("plain.left")).unwrap(), b"Plain");
}

#[test]
fn a_session_is_for_its_own_user_alone() {
    const HOST: u32 = 41_001;
    const SESSION: u32 = 41_002;
    let Some(mut shown) = Shown::start(Rights::ALL, &[("file", b"contents")]) else { return };
    shown.end();
    for path in [shown.site.directory.path(), &shown.folder, &shown.view] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::chown(&shown.folder, Some(HOST), Some(HOST)).unwrap();
    std::os::unix::fs::chown(shown.beneath("file"), Some(HOST), Some(HOST)).unwrap();
    std::fs::set_permissions(shown.beneath("file"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    *shown.access.ids.lock().unwrap() =
        Ids::Session { host_uid: HOST, host_gid: HOST, uid: SESSION, gid: SESSION };
    shown.mount();
    let run = |uid: u32, script: &str| {
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir("/")
            .env("VIEW", &shown.view)
            .uid(uid)
            .gid(uid)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(
        run(SESSION, "cat $VIEW/file; stat -c ' %u %g' $VIEW/file"),
        (true, String::from("contents 41002 41002\n"))
    );
    assert!(run(SESSION, "umask 022; echo new >$VIEW/new && chmod 640 $VIEW/new && mkdir $VIEW/d").0);
    let metadata = std::fs::metadata(shown.beneath("new")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (HOST, HOST, 0o640));
    assert!(shown.is_sealed("new"));
    // Nobody else, root included, whatever the modes say.
    std::fs::set_permissions(shown.beneath("file"), std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .unwrap();
    for other in [0, HOST, 41_003] {
        assert!(!run(other, "cat $VIEW/file").0, "{other}");
        assert!(!run(other, "ls $VIEW/d").0, "{other}");
        assert!(!run(other, "touch $VIEW/by-another").0, "{other}");
    }
}

/// A default list decides instead of the umask, as the kernel has it on the file system itself.
#[test]
fn lists_of_a_directory_are_given_on_as_by_the_file_system() {
    let Some(shown) = Shown::start(Rights::ALL, &[]) else { return };
    let native = shown.site.directory.path().join("native");
    std::fs::create_dir(&native).unwrap();
    std::fs::create_dir(shown.at("d")).unwrap();
    let lists = |directory: &Path| {
        let script = "setfacl -d -m u:1234:rw,g::rw . && umask 027 && echo text >file && mkdir sub && mkfifo fifo && \
                      setfacl -m g:4321:r file && getfacl -c file sub fifo";
        let output =
            std::process::Command::new("sh").args(["-c", script]).current_dir(directory).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let expected = lists(&native);
    if !expected.0 {
        crate::testing::skipped("no setfacl, or no access control lists on this file system");
        return;
    }
    assert_eq!(lists(&shown.at("d")), expected);
    assert!(expected.1.contains("mask::rw-"), "{}", expected.1);
}

#[test]
fn a_bare_mount_point_takes_nothing() {
    let Some(mut shown) = Shown::start(Rights::ALL, &[]) else { return };
    shown.end();
    let place = shown.site.directory.path().join("bare");
    Mount::prepare(&place).unwrap();
    Mount::prepare(&place).unwrap();
    // A view can be mounted there all the same.
    shown.view.clone_from(&place);
    shown.mount();
    std::fs::write(shown.at("file"), b"sealed").unwrap();
    shown.end();
    assert_eq!(shown.opened("file"), b"sealed");
    wait_until("it is bare again", || std::fs::read_dir(&place).unwrap().count() == 0);
    let directory = File::open(&place).unwrap();
    assert_eq!(directory.metadata().unwrap().mode() & 0o7777, 0);
    let flags = rustix::fs::ioctl_getflags(&directory);
    if flags.is_ok_and(|flags| flags.contains(rustix::fs::IFlags::IMMUTABLE)) {
        // Against root as well.
        let refused = File::create(place.join("file")).map(drop);
        rustix::fs::ioctl_setflags(&directory, flags.unwrap() - rustix::fs::IFlags::IMMUTABLE).unwrap();
        assert_eq!(number(&refused.unwrap_err()), libc::EPERM);
    } else {
        crate::testing::skipped("no immutable directories here");
    }
    assert!(Mount::prepare(&shown.folder).is_err(), "not empty");
}

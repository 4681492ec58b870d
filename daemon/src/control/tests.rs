use super::*;
use crate::config::Role;
use crate::testing::{Asked, Differs, Said, Sample, Site, sealed_file};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::control::{Answer, Event, Purpose, Request, VERSION};
use tobari_core::proto::frame::receive_frame;
use tobari_core::proto::problem::Problem;

const LIMITS: ControlLimits =
    ControlLimits { connections: 8, connections_per_user: 4, idle: Duration::from_secs(20) };

struct Running {
    site: Site,
    control: Option<Control>,
    socket: PathBuf,
}

impl Running {
    fn start(
        samples: &[&Sample],
        directory: tempfile::TempDir,
        differs: Differs,
        limits: ControlLimits,
    ) -> Self {
        Self::with_answers(samples, directory, differs, limits, |_| None)
    }

    fn with_answers(
        samples: &[&Sample],
        directory: tempfile::TempDir,
        differs: Differs,
        limits: ControlLimits,
        answer: impl Fn(&Asked) -> Option<Said> + Send + Sync + 'static,
    ) -> Self {
        let site = Site::start(directory, samples, differs, answer);
        let socket = site.directory.path().join("run/control.sock");
        let control = Control::start(&socket, limits, Arc::clone(&site.service)).unwrap();
        Self { site, control: Some(control), socket }
    }

    fn plain() -> Self {
        Self::start(&[], tempfile::tempdir().unwrap(), Differs::default(), LIMITS)
    }

    fn client(&self) -> Client {
        let client = Client(UnixStream::connect(&self.socket).unwrap());
        client.ask(&Request::Hello { version: VERSION }, &[]).unwrap();
        client
    }

    /// A client whose user is logged in.
    fn logged_in(&self) -> Client {
        let client = self.client();
        client.ask(&login("correct"), &[]).unwrap();
        client
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.directory.path().join(name)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.take().unwrap().stop();
        assert!(!self.socket.exists());
    }
}

struct Client(UnixStream);

impl Client {
    fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Answer, Failure> {
        send_frame(&self.0, request, descriptors).unwrap();
        self.answer()
    }

    fn answer(&self) -> Result<Answer, Failure> {
        loop {
            match receive_frame::<Event>(&self.0, 0).unwrap().expect("an answer").0 {
                Event::Progress { .. } | Event::Refused { .. } => {}
                Event::Done { answer } => return Ok(answer),
                Event::Failed { problem, subject, rights, reasons, particulars } => {
                    return Err(Failure { problem, subject, rights, reasons, particulars });
                }
            }
        }
    }

    fn code(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> ProblemCode {
        self.ask(request, descriptors).err().expect("a failure").problem.code
    }

    fn is_closed(&self) -> bool {
        matches!(receive_frame::<Event>(&self.0, 0), Ok(None) | Err(_))
    }
}

fn login(password: &str) -> Request {
    Request::Login { login: String::from("person1"), password: password.to_owned(), totp: None }
}

fn open(purpose: Purpose) -> Request {
    Request::Open { name: String::from("議事録.txt"), purpose }
}

#[test]
fn a_user_logs_in_and_out() {
    let running = Running::plain();
    let client = running.client();
    assert_eq!(client.code(&Request::Whoami, &[]), ProblemCode::NotLoggedIn);
    assert_eq!(client.code(&login("wrong"), &[]), ProblemCode::BadCredentials);
    let Ok(Answer::Session { session }) = client.ask(&login("correct"), &[]) else { panic!() };
    assert_eq!(session.login, "person1");
    assert!(matches!(client.ask(&Request::Whoami, &[]), Ok(Answer::Session { .. })));
    assert!(matches!(client.ask(&Request::Logout, &[]), Ok(Answer::Nothing)));
    assert_eq!(client.code(&Request::Logout, &[]), ProblemCode::NotLoggedIn);
}

#[test]
fn a_session_that_the_server_ended_is_forgotten() {
    let running =
        Running::with_answers(&[], tempfile::tempdir().unwrap(), Differs::default(), LIMITS, |asked| {
            let current = asked.method == "GET" && asked.path == "/v1/sessions/current";
            current.then(|| Said::json(401, &Problem::local(ProblemCode::NotLoggedIn, "ended")))
        });
    let client = running.logged_in();
    assert_eq!(client.ask(&Request::Whoami, &[]).err().unwrap().problem.detail, "ended");
    assert_ne!(client.ask(&Request::Whoami, &[]).err().unwrap().problem.detail, "ended");
}

#[test]
fn a_sealed_file_is_opened_to_a_file_and_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let text: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sample = sealed_file(&directory.path().join("a"), &text);
    let running = Running::start(&[&sample], directory, Differs::default(), LIMITS);
    let source = File::open(running.path("a")).unwrap();
    let client = running.client();
    let sink = File::create(running.path("out")).unwrap();
    let refused = client.ask(&open(Purpose::Unseal), &[source.as_fd(), sink.as_fd()]).err().unwrap();
    assert_eq!(refused.problem.code, ProblemCode::NotLoggedIn);
    assert_eq!(refused.subject.as_deref(), Some("議事録.txt"));

    let client = running.logged_in();
    let answer = client.ask(&open(Purpose::Unseal), &[source.as_fd(), sink.as_fd()]).unwrap();
    assert!(matches!(answer, Answer::Written { bytes: 100_000, interrupted_tail: None }));
    assert_eq!(std::fs::read(running.path("out")).unwrap(), text);

    let (mut reader, writer) = std::io::pipe().unwrap();
    let read = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    });
    client.ask(&open(Purpose::Cat), &[source.as_fd(), writer.as_fd()]).unwrap();
    drop(writer);
    assert_eq!(read.join().unwrap(), text);

    let verify = Request::Verify { name: String::from("a") };
    let answer = client.ask(&verify, &[source.as_fd()]).unwrap();
    assert!(matches!(answer, Answer::Written { bytes: 100_000, .. }));
}

#[test]
fn a_reader_that_has_enough_is_not_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let sample = sealed_file(&directory.path().join("a"), &vec![7; 1 << 20]);
    let running = Running::start(&[&sample], directory, Differs::default(), LIMITS);
    let source = File::open(running.path("a")).unwrap();
    let client = running.logged_in();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let answer = client.ask(&open(Purpose::Cat), &[source.as_fd(), writer.as_fd()]).unwrap();
    assert!(matches!(answer, Answer::Written { bytes: 0, .. }));
}

#[test]
fn each_purpose_needs_its_right() {
    let directory = tempfile::tempdir().unwrap();
    let sample = sealed_file(&directory.path().join("a"), b"text");
    let differs = Differs { rights: Rights::only(Right::View), ..Differs::default() };
    let running = Running::start(&[&sample], directory, differs, LIMITS);
    let source = File::open(running.path("a")).unwrap();
    let client = running.logged_in();
    let sink = File::create(running.path("out")).unwrap();
    client.ask(&open(Purpose::Cat), &[source.as_fd(), sink.as_fd()]).unwrap();
    let sink = File::create(running.path("out2")).unwrap();
    let refused = client.ask(&open(Purpose::Unseal), &[source.as_fd(), sink.as_fd()]).err().unwrap();
    assert_eq!(refused.problem.code, ProblemCode::RightRefused);
    assert_eq!(refused.rights, Some(Rights::only(Right::View)));
    assert_eq!(refused.particulars.right, Some(Right::Decrypt));
    assert_eq!(std::fs::read(running.path("out2")).unwrap(), b"");
}

#[test]
fn a_damaged_file_says_how_much_was_authentic_and_leaves_nothing_unsealed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    let sample = sealed_file(&path, &vec![7; 20_000]);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let running = Running::start(&[&sample], directory, Differs::default(), LIMITS);
    let source = File::open(&path).unwrap();
    let client = running.logged_in();
    let sink = File::create(running.path("out")).unwrap();
    let failed = client.ask(&open(Purpose::Unseal), &[source.as_fd(), sink.as_fd()]).err().unwrap();
    assert_eq!(failed.problem.code, ProblemCode::CorruptEnvelope);
    assert!(failed.problem.detail.contains("16384 bytes"), "{}", failed.problem.detail);
    assert_eq!(failed.particulars.authentic_bytes, Some(16384));
    assert_eq!(std::fs::read(running.path("out")).unwrap(), b"");
    let verify = Request::Verify { name: String::from("a") };
    assert_eq!(client.code(&verify, &[source.as_fd()]), ProblemCode::CorruptEnvelope);
}

#[test]
fn info_tells_plain_sealed_and_damaged_files_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    sealed_file(&path, &vec![7; 20_000]);
    let bytes = std::fs::read(&path).unwrap();
    let running = Running::start(&[], directory, Differs::default(), LIMITS);
    let client = running.client();
    let ask = |path: &Path| {
        let file = File::open(path).unwrap();
        client.ask(&Request::Info { name: String::from("x") }, &[file.as_fd()])
    };
    let Ok(Answer::Info { info }) = ask(&path) else { panic!() };
    let sealed = info.sealed.unwrap();
    assert_eq!((sealed.label_name.as_str(), sealed.plaintext_size), ("社外秘", 20_000));
    assert_eq!(sealed.recipients[0].role.as_deref(), Some("label"));
    assert_eq!(sealed.decision_problem.unwrap().code, ProblemCode::NotLoggedIn);

    let plain = running.path("plain");
    std::fs::write(&plain, "帳").unwrap();
    let Ok(Answer::Info { info }) = ask(&plain) else { panic!() };
    assert!(info.sealed.is_none() && info.stored_size == 3);

    let cut = running.path("cut");
    std::fs::write(&cut, &bytes[..2000]).unwrap();
    assert_eq!(ask(&cut).err().unwrap().problem.code, ProblemCode::UnreadableEnvelope);
    let mut flipped = bytes;
    flipped[13] ^= 1;
    std::fs::write(&cut, flipped).unwrap();
    assert_eq!(ask(&cut).err().unwrap().problem.code, ProblemCode::UnreadableEnvelope);
}

#[test]
fn a_daemon_that_only_seals_opens_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let sample = sealed_file(&directory.path().join("a"), b"text");
    let differs = Differs { roles: BTreeSet::from([Role::Seal]), ..Differs::default() };
    let running = Running::start(&[&sample], directory, differs, LIMITS);
    let source = File::open(running.path("a")).unwrap();
    let sink = File::create(running.path("out")).unwrap();
    let client = running.client();
    assert_eq!(client.code(&login("correct"), &[]), ProblemCode::NotConfigured);
    let descriptors = [source.as_fd(), sink.as_fd()];
    assert_eq!(client.code(&open(Purpose::Cat), &descriptors), ProblemCode::NotConfigured);
    send_frame(&client.0, &Request::ZipStart { password: String::from("x"), legacy: false }, &[sink.as_fd()])
        .unwrap();
    let entry = Request::ZipEntry { path: String::from("a"), name: String::from("a") };
    send_frame(&client.0, &entry, &[source.as_fd()]).unwrap();
    assert_eq!(client.code(&Request::ZipFinish, &[]), ProblemCode::NotConfigured);
    assert!(matches!(client.ask(&Request::Status { unsealed: true }, &[]), Ok(Answer::Status { .. })));
}

#[test]
fn an_archive_is_begun_only_by_somebody_who_is_logged_in() {
    let running = Running::plain();
    let client = running.client();
    let sink = File::create(running.path("out")).unwrap();
    let start = Request::ZipStart { password: String::from("x"), legacy: false };
    send_frame(&client.0, &start, &[sink.as_fd()]).unwrap();
    let held = || std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_sink = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| target == running.path("out"))
    };
    // The next answer shows that the frame before it was taken.
    let entry = Request::ZipEntry { path: String::from("a"), name: String::from("a") };
    send_frame(&client.0, &entry, &[sink.as_fd()]).unwrap();
    assert_eq!(client.code(&Request::ZipFinish, &[]), ProblemCode::NotLoggedIn);
    assert_eq!(held().filter(is_sink).count(), 1, "the daemon keeps no descriptor of a stranger");
}

#[test]
fn requests_pass_to_the_key_server_in_the_callers_session() {
    let running =
        Running::with_answers(&[], tempfile::tempdir().unwrap(), Differs::default(), LIMITS, |asked| {
            (asked.path == "/v1/admin/labels").then(|| {
                assert_eq!(asked.authorization.as_deref(), Some("Bearer token-1"));
                Said::json(201, &asked.body)
            })
        });
    let forward = |path: &str| Request::Forward {
        method: String::from("POST"),
        path: path.to_owned(),
        body: Some(serde_json::json!({"name": "極秘"})),
    };
    let client = running.client();
    assert_eq!(client.code(&forward("/v1/admin/labels"), &[]), ProblemCode::NotLoggedIn);
    let client = running.logged_in();
    let Ok(Answer::Forwarded { status, body }) = client.ask(&forward("/v1/admin/labels"), &[]) else {
        panic!()
    };
    assert_eq!((status, body["name"].as_str()), (201, Some("極秘")));
    assert_eq!(client.code(&forward("/v1/grants"), &[]), ProblemCode::InvalidRequest);
    let Ok(Answer::Forwarded { status, body }) = client.ask(&forward("/v1/admin/x"), &[]) else { panic!() };
    assert_eq!((status, body["code"].as_str()), (404, Some("not-found")));
}

#[test]
fn a_new_bulletin_counts_at_once_and_revokes() {
    use crate::bulletin::tests::signed;
    use std::sync::Mutex;
    let offered: Arc<Mutex<Option<Said>>> = Arc::default();
    let running = Running::with_answers(&[], tempfile::tempdir().unwrap(), Differs::default(), LIMITS, {
        let offered = Arc::clone(&offered);
        move |asked| (asked.path == "/v1/bulletin").then(|| offered.lock().unwrap().take()).flatten()
    });
    let client = running.logged_in();
    let mut next = crate::testing::bulletin(5, false);
    next.revocations.people.push(tobari_core::ids::PersonId::from_bytes([1; 16]));
    let offer = |bulletin| {
        *offered.lock().unwrap() = Some(Said::json(200, &signed(&running.site.signing, &bulletin)))
    };
    offer(next);
    let Ok(Answer::Bulletin { bulletin, .. }) = client.ask(&Request::Refresh, &[]) else { panic!() };
    assert_eq!(bulletin.number, 5);
    assert_eq!(client.code(&Request::Whoami, &[]), ProblemCode::NotLoggedIn);
    offer(crate::testing::bulletin(4, false));
    assert!(client.ask(&Request::Refresh, &[]).err().unwrap().problem.detail.contains("not newer"));
    let Ok(Answer::Status { status }) = client.ask(&Request::Status { unsealed: false }, &[]) else {
        panic!()
    };
    assert_eq!(status.bulletin_number, 5);
    assert!(status.key_server_error.unwrap().contains("not newer"));
}

#[test]
fn an_imported_bulletin_counts_only_if_it_is_signed_and_newer() {
    use crate::bulletin::tests::signed;
    use std::io::{Seek as _, Write as _};
    let running = Running::plain();
    let client = running.logged_in();
    let import = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        client.ask(&Request::ImportBulletin, &[file.as_fd()])
    };
    let export = |key, number| {
        let mut next = crate::testing::bulletin(number, false);
        next.revocations.people.push(tobari_core::ids::PersonId::from_bytes([1; 16]));
        serde_json::to_vec(&signed(key, &next)).unwrap()
    };
    let stranger = tobari_core::crypto::SigningKey::generate().unwrap();
    for (bytes, why) in [
        (export(&stranger, 9), "does not verify"),
        (export(&running.site.signing, 0), "not newer"),
        (b"not a bulletin".to_vec(), "not an exported bulletin"),
        (Vec::new(), "not an exported bulletin"),
    ] {
        let problem = import(&bytes).err().unwrap().problem;
        assert_eq!(problem.code, ProblemCode::InvalidRequest);
        assert!(problem.detail.contains(why), "{}", problem.detail);
        client.ask(&Request::Whoami, &[]).unwrap();
    }
    let newer = export(&running.site.signing, 5);
    for _ in 0..2 {
        let Ok(Answer::Bulletin { bulletin, .. }) = import(&newer) else { panic!() };
        assert_eq!(bulletin.number, 5);
    }
    assert_eq!(client.code(&Request::Whoami, &[]), ProblemCode::NotLoggedIn);
}

#[test]
fn the_protocol_is_kept_strictly() {
    let running = Running::plain();
    let strange = |request: &Request| {
        let client = Client(UnixStream::connect(&running.socket).unwrap());
        assert_eq!(client.code(request, &[]), ProblemCode::InvalidRequest);
        assert!(client.is_closed());
    };
    strange(&Request::Whoami);
    strange(&Request::Hello { version: VERSION + 1 });

    let client = running.client();
    let file = tempfile::tempfile().unwrap();
    assert_eq!(client.code(&Request::Whoami, &[file.as_fd()]), ProblemCode::InvalidRequest);
    assert_eq!(client.code(&open(Purpose::Cat), &[file.as_fd()]), ProblemCode::InvalidRequest);
    assert_eq!(client.code(&Request::ZipFinish, &[]), ProblemCode::InvalidRequest);
    (&client.0).write_all(b"\x05\0\0\0hello").unwrap();
    assert_eq!(client.answer().err().unwrap().problem.code, ProblemCode::InvalidRequest);
    assert!(client.is_closed());

    let client = running.client();
    let three = [file.as_fd(), file.as_fd(), file.as_fd()];
    assert_eq!(client.code(&Request::Whoami, &three), ProblemCode::InvalidRequest);
    assert!(client.is_closed());
}

#[test]
fn connections_are_counted() {
    let limits = ControlLimits { connections: 8, connections_per_user: 2, idle: Duration::from_secs(600) };
    let running = Running::start(&[], tempfile::tempdir().unwrap(), Differs::default(), limits);
    let (first, _second) = (running.client(), running.client());
    let third = Client(UnixStream::connect(&running.socket).unwrap());
    assert_eq!(third.answer().err().unwrap().problem.code, ProblemCode::TooManyRequests);
    drop(first);
    until_accepted(&running);
}

#[test]
fn idle_connections_are_closed() {
    let limits = ControlLimits { connections: 8, connections_per_user: 1, idle: Duration::from_millis(300) };
    let running = Running::start(&[], tempfile::tempdir().unwrap(), Differs::default(), limits);
    for _ in 0..2 {
        assert!(until_accepted(&running).is_closed());
    }
}

/// A client, once there is a place for it.
fn until_accepted(running: &Running) -> Client {
    let start = Instant::now();
    loop {
        let client = Client(UnixStream::connect(&running.socket).unwrap());
        if send_frame(&client.0, &Request::Hello { version: VERSION }, &[]).is_ok() && client.answer().is_ok()
        {
            return client;
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
    let running = Running::plain();
    let again = Control::start(&running.socket, LIMITS, Arc::clone(&running.site.service));
    assert_eq!(again.err().unwrap().kind(), io::ErrorKind::AddrInUse);
    let stale = running.path("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    Control::start(&stale, LIMITS, Arc::clone(&running.site.service)).unwrap().stop();
    let file = running.path("file");
    std::fs::write(&file, b"").unwrap();
    assert!(Control::start(&file, LIMITS, Arc::clone(&running.site.service)).is_err());
    let mode = std::fs::metadata(&running.socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o666);
}

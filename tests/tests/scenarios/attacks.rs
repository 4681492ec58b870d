//! Attacks on the running programs, each of which has hit a product of this kind (docs/threats.md).

use crate::bad_input::{expect, text};
use crate::outage::SmallDisk;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tobari_core::proto::control::{Event, Purpose, Request, VERSION};
use tobari_core::proto::frame::{receive_frame, send_frame};
use tobari_core::proto::problem::ProblemCode;
use tobari_tests::{ADMIN, Site, password, set_mode, skipped_without_root, wait_until};

/// A folder in which everybody may write.
fn open_folder(site: &Site, name: &str) -> Result<PathBuf> {
    let folder = site.path(name);
    std::fs::create_dir_all(&folder)?;
    set_mode(&folder, 0o777)?;
    Ok(folder)
}

/// `unseal` asks the key server each time.
fn unseal(site: &Site, file: &Path, to: &Path) -> Result<tobari_tests::Answer> {
    site.tobari("bucho", &["unseal", text(file), "-o", text(to)])
}

#[test]
fn a_database_taken_away_under_a_running_key_server_stops_every_key() -> Result<()> {
    if skipped_without_root("opening (several users)") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let file = site.drop_file("memo.txt", b"secret")?;
    let out = open_folder(&site, "out")?;
    unseal(&site, &file, &out.join("before"))?.ok()?;
    let (database, aside) = (site.path("keyserver/tobari.db"), site.path("keyserver/aside.db"));
    std::fs::rename(&database, &aside)?;
    expect(unseal(&site, &file, &out.join("without"))?, "server-unavailable", &["audit"])?;
    // An empty one in its place does not help either.
    File::create(&database)?;
    expect(unseal(&site, &file, &out.join("replaced"))?, "server-unavailable", &["audit"])?;
    ensure!(!out.join("without").exists() && !out.join("replaced").exists());
    std::fs::rename(&aside, &database)?;
    unseal(&site, &file, &out.join("after"))?.ok()?;
    Ok(())
}

#[test]
fn a_full_disk_under_the_audit_log_stops_every_key_and_loses_no_record() -> Result<()> {
    if skipped_without_root("a full disk (mount)") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let file = site.drop_file("memo.txt", b"secret")?;
    let out = open_folder(&site, "out")?;
    site.key_server()?.terminate()?;
    let (data, moved) = (site.path("keyserver"), site.path("keyserver.before"));
    std::fs::rename(&data, &moved)?;
    let Some(disk) = SmallDisk::mount(data.clone(), 8)? else {
        tobari_tests::skipped("this machine does not allow mounts");
        return Ok(());
    };
    for entry in std::fs::read_dir(&moved)? {
        let entry = entry?;
        std::fs::copy(entry.path(), data.join(entry.file_name()))?;
    }
    site.start_key_server()?;
    site.login("bucho")?.ok()?;
    unseal(&site, &file, &out.join("before"))?.ok()?;

    let mut filler = File::create(data.join("filler"))?;
    while filler.write_all(&[0; 4096]).is_ok() {}
    // What SQLite has reserved already may take some more records; each of these is durable.
    let mut granted = 1;
    let refused = loop {
        let target = out.join(format!("full-{granted}"));
        let answer = unseal(&site, &file, &target)?;
        if answer.code != 0 {
            ensure!(!target.exists());
            break answer;
        }
        granted += 1;
        ensure!(granted < 500, "the disk is full, and records go on being written");
    };
    expect(refused, "server-unavailable", &["audit"])?;
    expect(unseal(&site, &file, &out.join("again"))?, "server-unavailable", &["audit"])?;
    drop(filler);
    std::fs::remove_file(data.join("filler"))?;
    unseal(&site, &file, &out.join("after"))?.ok()?;
    site.admin(&["audit", "--verify"])?.ok()?;
    site.daemon()?.terminate()?;
    site.key_server()?.terminate()?;
    drop(disk);
    Ok(())
}

/// Runs one statement in the key server's database.
fn alter(site: &Site, sql: &'static str) -> Result<()> {
    use sqlx::Connection as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.path("keyserver/tobari.db"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
        sqlx::query(sql).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    })
}

#[test]
fn an_expired_certificate_is_named_by_the_key_server_and_by_the_daemon() -> Result<()> {
    let mut site = Site::start()?;
    site.key_server()?.terminate()?;
    alter(&site, "UPDATE terminals SET certificate_expires_at = 1700000000000000")?;
    site.start_key_server()?;
    let words = ["expired", "tobarid enrol"];
    expect(site.login(ADMIN)?, "certificate-expired", &words)?;

    // As the terminal itself sees it: the same key in a certificate that has ended; another one where its own lies sealed.
    site.daemon()?.terminate()?;
    let enrolment = site.path("daemon/enrolment");
    let key = match std::fs::read_to_string(enrolment.join("terminal.key")) {
        Ok(pem) => rcgen::KeyPair::from_pem(&pem)?,
        Err(_) => rcgen::KeyPair::generate()?,
    };
    std::fs::write(enrolment.join("terminal.key"), key.serialize_pem())?;
    let mut params = rcgen::CertificateParams::default();
    params.not_before = time::OffsetDateTime::from_unix_timestamp(1_600_000_000)?;
    params.not_after = time::OffsetDateTime::from_unix_timestamp(1_700_000_000)?;
    std::fs::write(enrolment.join("terminal.pem"), params.self_signed(&key)?.pem())?;
    site.start_daemon()?;
    expect(site.login(ADMIN)?, "certificate-expired", &words)?;
    Ok(())
}

#[test]
fn of_many_enrolments_with_one_token_one_wins() -> Result<()> {
    let site = Site::key_server_only()?;
    let token = std::fs::read_to_string(site.path("enrolment.token"))?;
    let won = std::thread::scope(|scope| {
        let running: Vec<_> = (0..8)
            .map(|number| {
                let (site, token) = (&site, token.trim());
                scope.spawn(move || site.enrol(&format!("t{number}"), token))
            })
            .collect();
        let mut won = 0;
        for enrolment in running {
            let Ok(answer) = enrolment.join() else { bail!("a thread failed") };
            let answer = answer?;
            ensure!(answer.code == 0 || answer.stderr.contains("token"), "{answer:?}");
            won += usize::from(answer.code == 0);
        }
        Ok(won)
    })?;
    ensure!(won == 1, "{won} enrolled");
    let enrolled = (0..8).filter(|number| site.path(format!("t{number}/enrolment")).exists()).count();
    ensure!(enrolled == 1, "{enrolled} hold an enrolment");
    Ok(())
}

#[test]
fn only_tls_1_3_is_spoken() -> Result<()> {
    let site = Site::key_server_only()?;
    let address = site.url().trim_start_matches("https://").to_owned();
    // A ClientHello of TLS 1.2, without the extension that offers later versions.
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4];
    hello.extend(u16::try_from(extensions.len())?.to_be_bytes());
    hello.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(hello.len())?.to_be_bytes());
    message.extend(hello);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(message.len())?.to_be_bytes());
    record.extend(message);
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&record)?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    // A fatal alert: protocol_version.
    ensure!(answer[0] == 21 && answer[5..] == [2, 70], "{answer:?}");
    Ok(())
}

#[test]
fn files_with_secrets_are_closed_and_processes_show_none() -> Result<()> {
    let mut site = Site::start()?;
    let mut secrets = vec![site.path("recovery.key"), site.path("enrolment.token")];
    for folder in ["keyserver", "daemon"] {
        let mode = std::fs::metadata(site.path(folder))?.permissions().mode();
        ensure!(mode & 0o077 == 0, "{folder}: {mode:o}");
        for entry in std::fs::read_dir(site.path(folder))? {
            secrets.push(entry?.path());
        }
    }
    for entry in std::fs::read_dir(site.path("daemon/enrolment"))? {
        secrets.push(entry?.path());
    }
    for path in secrets {
        let name = path.file_name().context("has a name")?;
        let mode = std::fs::metadata(&path)?.permissions().mode();
        ensure!(mode & 0o077 == 0 || name == "lock", "{path:?}: {mode:o}");
    }
    let token = std::fs::read_to_string(site.path("enrolment.token"))?;
    for pid in [site.key_server()?.id(), site.daemon()?.id()] {
        let own = std::fs::metadata(format!("/proc/{pid}"))?;
        if !tobari_tests::is_root() {
            use std::os::unix::fs::MetadataExt as _;
            ensure!(own.uid() == 0, "the process can be dumped and traced by its own user");
            continue;
        }
        for file in ["cmdline", "environ"] {
            let shown = String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}"))?).into_owned();
            for secret in [token.trim(), &password(ADMIN)] {
                ensure!(!shown.contains(secret), "{file} of {pid} shows a secret");
            }
        }
    }
    Ok(())
}

/// A raw client of the control socket, in the test's own uid.
struct Raw(UnixStream);

impl Raw {
    fn connect(site: &Site) -> Result<Self> {
        let raw = Self(UnixStream::connect(site.socket())?);
        raw.ask(&Request::Hello { version: VERSION }, &[])?;
        Ok(raw)
    }

    fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Event> {
        send_frame(&self.0, request, descriptors)?;
        self.event()
    }

    fn event(&self) -> Result<Event> {
        loop {
            match receive_frame::<Event>(&self.0, 0)?.context("the daemon closed the connection")?.0 {
                Event::Progress { .. } | Event::Refused { .. } => {}
                event => return Ok(event),
            }
        }
    }
}

fn code(event: &Event) -> Option<ProblemCode> {
    match event {
        Event::Failed { problem, .. } => Some(problem.code),
        Event::Done { .. } | Event::Progress { .. } | Event::Refused { .. } => None,
    }
}

#[test]
fn wrong_descriptors_are_refused_by_the_daemon() -> Result<()> {
    let site = Site::reference_case()?;
    let sealed = site.drop_file("memo.txt", b"secret")?;
    let place = open_folder(&site, "out")?.join("result");
    let sink = || File::create(&place).map(OwnedFd::from);
    let source = || File::open(&sealed).map(OwnedFd::from);
    let fifo = site.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0)?;
    let both = |path: &Path| File::options().read(true).write(true).open(path).map(OwnedFd::from);
    let (pipe, _other_end) = std::io::pipe()?;
    let (socket, _peer) = UnixStream::pair()?;
    let null: OwnedFd = File::options().write(true).open("/dev/null")?.into();
    let path_only = |path: &Path| rustix::fs::open(path, OFlags::PATH, Mode::empty());
    let pairs: Vec<(&str, OwnedFd, OwnedFd)> = vec![
        ("a directory as source", File::open(site.folder())?.into(), sink()?),
        ("a socket as source", socket.into(), sink()?),
        ("a pipe as source", pipe.into(), sink()?),
        ("a fifo as source", both(&fifo)?, sink()?),
        ("a device as source", File::open("/dev/zero")?.into(), sink()?),
        ("a source that was not opened", path_only(&sealed)?, sink()?),
        ("a source that was opened to write", null, sink()?),
        ("memory as source", File::open("/proc/self/mem")?.into(), sink()?),
        ("a sink that was opened to read", source()?, File::open(&place)?.into()),
        ("a sink that was not opened", source()?, path_only(&place)?),
        ("a directory as sink", source()?, File::open(site.folder())?.into()),
        ("the source as sink", source()?, both(&sealed)?),
    ];
    let before = std::fs::read(&sealed)?;
    for (what, source, sink) in pairs {
        for purpose in [Purpose::Cat, Purpose::Unseal] {
            let raw = Raw::connect(&site)?;
            let request = Request::Open { name: what.to_owned(), purpose };
            let event = raw.ask(&request, &[source.as_fd(), sink.as_fd()])?;
            ensure!(
                matches!(
                    code(&event),
                    Some(
                        ProblemCode::InvalidRequest | ProblemCode::UnreadableEnvelope | ProblemCode::LocalIo
                    )
                ),
                "{what}: {:?}",
                code(&event)
            );
        }
    }
    ensure!(std::fs::read(&sealed)? == before && std::fs::read(&place)?.is_empty());
    // Too many, too few.
    let file = source()?;
    for count in [0, 1] {
        let raw = Raw::connect(&site)?;
        let request = Request::Open { name: String::from("x"), purpose: Purpose::Cat };
        let event = raw.ask(&request, &vec![file.as_fd(); count])?;
        ensure!(code(&event) == Some(ProblemCode::InvalidRequest));
    }
    let raw = Raw::connect(&site)?;
    let event = raw.ask(&Request::Whoami, &[file.as_fd(); 8])?;
    ensure!(code(&event) == Some(ProblemCode::InvalidRequest));
    ensure!(raw.event().is_err(), "out of step: the connection is closed");
    Ok(())
}

/// Resident memory of a process, in KiB, and its open descriptors.
fn holds(pid: u32) -> Result<(u64, usize)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .context("VmRSS")?;
    Ok((resident, std::fs::read_dir(format!("/proc/{pid}/fd"))?.count()))
}

#[test]
fn a_flood_on_the_control_socket_leaves_others_served() -> Result<()> {
    if skipped_without_root("two users of one socket") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let file = site.drop_file("memo.txt", b"secret")?;
    let daemon = site.daemon()?.id();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let (memory, descriptors) = holds(daemon)?;
    let served = |what: &str| -> Result<()> {
        let answer = site.tobari("bucho", &["cat", text(&file)])?.ok().context(what.to_owned())?;
        ensure!(answer.stdout == b"secret", "{what}");
        Ok(())
    };

    // An archive that is never finished, with a descriptor for each entry.
    let hoarder = Raw::connect(&site)?;
    let sink = File::create(site.path("archive.zip"))?;
    let plain = File::open("/etc/hostname").or_else(|_| File::open("/etc/passwd"))?;
    let start = Request::ZipStart { password: String::from("x"), legacy: false };
    send_frame(&hoarder.0, &start, &[sink.as_fd()])?;
    for number in 0..3000 {
        let entry = Request::ZipEntry { path: number.to_string(), name: "x".repeat(8192) };
        send_frame(&hoarder.0, &entry, &[plain.as_fd()])?;
    }
    // Half frames, and lengths that promise more than comes.
    let mut open = Vec::new();
    for length in [u32::MAX, 4 << 20, 100] {
        for _ in 0..8 {
            let raw = Raw::connect(&site)?;
            (&raw.0).write_all(&length.to_le_bytes())?;
            if length != u32::MAX {
                (&raw.0).write_all(b"{\"request\":")?;
            }
            open.push(raw.0);
        }
    }
    served("beside half frames")?;
    // Ten thousand connections: those beyond the user's share are turned away at once.
    for _ in 0..10_000 {
        if let Ok(stream) = UnixStream::connect(site.socket()) {
            open.push(stream);
        }
        if open.len() > 900 {
            open.drain(100..500);
        }
    }
    served("beside ten thousand connections")?;
    let (flooded, held) = holds(daemon)?;
    ensure!(flooded < memory + (96 << 10), "{memory} KiB became {flooded} KiB");
    ensure!(held < descriptors + 3100 + 200, "{descriptors} descriptors became {held}");
    drop((open, hoarder));
    wait_until("what the flood held to be given back", || {
        holds(daemon).is_ok_and(|(_, held)| held <= descriptors + 8)
    })?;
    served("after the flood")?;
    Ok(())
}

#[test]
fn a_file_that_changes_while_it_is_opened_gives_its_beginning_or_nothing() -> Result<()> {
    if skipped_without_root("opening (several users)") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let sealed = std::fs::read(site.drop_file("data.bin", &content)?)?;
    let other = std::fs::read(site.drop_file("other.bin", &[0x5a; 2_000_000])?)?;
    let copy = open_folder(&site, "out")?.join("data.bin");
    std::fs::write(&copy, &sealed)?;
    set_mode(&copy, 0o644)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let changes = scope.spawn(|| -> Result<()> {
            use std::os::unix::fs::FileExt as _;
            let file = File::options().write(true).open(&copy)?;
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                let at = (round * 131_071) % (sealed.len() - 70_000);
                file.write_all_at(&other[at..at + 65_536], at as u64)?;
                file.set_len((sealed.len() - (round * 7919) % 100_000) as u64)?;
                file.write_all_at(&sealed, 0)?;
                round += 1;
            }
            Ok(())
        });
        let mut whole = 0;
        for _ in 0..20 {
            let answer = site.tobari("bucho", &["cat", text(&copy)])?;
            ensure!(content.starts_with(&answer.stdout), "bytes that were never in the file came out");
            ensure!(answer.code != 0 || answer.stdout == content, "a part passed as the whole");
            whole += usize::from(answer.code == 0);
        }
        stop.store(true, Ordering::Relaxed);
        match changes.join() {
            Ok(result) => result?,
            Err(_) => bail!("the thread that changes the file failed"),
        }
        ensure!(whole < 20, "the test changed nothing in time");
        Ok(())
    })?;
    std::fs::write(&copy, &sealed)?;
    ensure!(site.tobari("bucho", &["cat", text(&copy)])?.ok()?.stdout == content);
    Ok(())
}

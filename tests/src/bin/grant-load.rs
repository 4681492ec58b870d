//! Load for the key server: a real terminal, enrolled as any other, asks for grants over persistent connections with
//! mutual TLS. `tests/bench/run.sh` runs it; each line of output is a name and a number.
//!
//!     TOBARI_BIN_DIR=target/release grant-load [SECONDS]
//!     TOBARI_BIN_DIR=target/release grant-load SECONDS overload
//!
//! `single` asks for one file in each request, `batch` for 1024, of epochs that the server has already unwrapped; `cold`
//! asks for files that share no encapsulation, so that each costs the server one private RSA operation. Client and
//! server share the machine, and the client's part is in the numbers. `half_load` sends half of what `single` reached, in an
//! open loop; its latencies count from when a request was due. TOBARI_BENCH_STORE names an empty PostgreSQL database for the server.
//!
//! `overload` finds the peak, then demands ten times as much over 1,024 connections, each of which sends what is due as soon as the
//! answer before is there, and counts what is granted, what is turned away (429), and how long an administrator waits meanwhile.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tobari_core::clock::{Clock, SystemClock};
use tobari_core::crypto::{GrantOpener, RecipientPublicKey};
use tobari_core::envelope::{EPOCH_FILES, Epoch, FilePolicy, Header, MemoryStorage, SealOptions, seal};
use tobari_core::policy::{Group, Membership, Right};
use tobari_core::proto::admin::{GroupInput, PersonInput, PersonRecord, PresetApplied};
use tobari_core::proto::api::{
    GrantItem, GrantOutcome, GrantRequest, GrantResponse, LoginRequest, LoginResponse, MAX_BATCH, grant_aad,
    grant_info,
};
use tobari_core::proto::bulletin::{Bulletin, SignedBulletin};
use tobari_daemon::enrol::{EnrolSettings, enrol};
use tobari_daemon::server::crypto_provider;
use tobari_daemon::state::{Enrolment, StateDir};
use tobari_tests::{ADMIN, Site, password};
use zeroize::Zeroizing;

/// Files of the warm runs: three sealing epochs.
const FILES: usize = 10_000;
/// Files of the cold run, each of its own epoch.
const COLD_FILES: usize = 20_000;
/// Connections; many, since a request waits for the disk that holds the audit log.
const SINGLE_CONNECTIONS: usize = 64;
const BATCH_CONNECTIONS: usize = 4;
/// Connections of the open loops: at half load, where few requests are on their way at one time, and in overload.
const HALF_LOAD_CONNECTIONS: usize = 128;
const OVERLOAD_CONNECTIONS: usize = 1024;
const REFERENCE_LABEL: &str = "社外秘";

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let mut site = Site::key_server_over(std::env::var("TOBARI_BENCH_STORE").ok())?;
    // One terminal and one person ask for everybody.
    site.key_server_settings =
        ["terminal", "person"].map(|who| format!("{who}_requests_per_second = 1000000\n")).concat();
    site.key_server()?.terminate()?;
    site.start_key_server()?;
    let terminal = enrolled(&site)?;
    let office = Office::prepare(&site, &terminal)?;
    let token = office.token.as_str();

    let warm = office.headers(FILES, EPOCH_FILES as usize)?;
    let singles: Vec<Vec<u8>> =
        warm.iter().map(|header| body(std::slice::from_ref(header))).collect::<Result<_>>()?;
    let batches: Vec<Vec<u8>> = warm.chunks_exact(MAX_BATCH).map(body).collect::<Result<_>>()?;
    office.check_answer(&terminal, &site, &warm)?;

    let duration = Duration::from_secs(seconds);
    if std::env::args().nth(2).as_deref() == Some("overload") {
        return overload(&site, &terminal, &office, &singles, duration);
    }
    let single = run(&site, &terminal, token, &singles, 1, SINGLE_CONNECTIONS, duration, true)?;
    println!("single_per_second {:.0}", single.per_second);
    println!("single_median_ms {:.2}", single.percentile(50));
    println!("single_99th_ms {:.2}", single.percentile(99));
    let per_second = single.per_second / 2.0;
    let half =
        open_loop(&site, &terminal, token, &singles, HALF_LOAD_CONNECTIONS, per_second, duration, || Ok(()))?;
    ensure!(
        half.turned_away_per_second == 0.0,
        "{} were turned away at half load",
        half.turned_away_per_second
    );
    let half = half.granted;
    println!("half_load_per_second {:.0}", half.per_second);
    println!("half_load_median_ms {:.2}", half.percentile(50));
    println!("half_load_99th_ms {:.2}", half.percentile(99));
    let batch = run(&site, &terminal, token, &batches, MAX_BATCH, BATCH_CONNECTIONS, duration, true)?;
    println!("batch_files_per_second {:.0}", batch.per_second);
    println!("batch_median_ms {:.1}", batch.percentile(50));

    let cold = office.headers(COLD_FILES, 1)?;
    let cold: Vec<Vec<u8>> =
        cold.iter().map(|header| body(std::slice::from_ref(header))).collect::<Result<_>>()?;
    let cold = run(&site, &terminal, token, &cold, 1, SINGLE_CONNECTIONS, duration, false)?;
    println!("cold_per_second {:.0}", cold.per_second);
    let granted = single.files + half.files + batch.files + cold.files;
    let audited = office.audited(&site, &terminal)?;
    ensure!(audited >= granted, "{granted} grants but {audited} audit records");
    println!("audit_records {audited}");
    Ok(())
}

/// Enrols as `tobarid enrol` does.
fn enrolled(site: &Site) -> Result<Enrolment> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let token = std::fs::read_to_string(site.path("enrolment.token"))?;
    let settings = EnrolSettings {
        server: site.url(),
        ca_sha256: site.ca_sha256().to_owned(),
        token: Zeroizing::new(token.trim().to_owned()),
        state_dir: site.path("terminal"),
        name: "load".to_owned(),
        force: false,
    };
    enrol(&settings, runtime.handle(), Arc::new(SystemClock))?;
    Ok(StateDir::open(&settings.state_dir)?.load()?)
}

/// The reference case, with one person who may view.
struct Office {
    token: String,
    admin_token: String,
    person: PersonRecord,
    group: Group,
    bulletin: Bulletin,
}

impl Office {
    fn prepare(site: &Site, terminal: &Enrolment) -> Result<Self> {
        let mut connection = Connection::open(site, terminal)?;
        let login = |connection: &mut Connection, login: &str| -> Result<String> {
            let request = LoginRequest { login: login.to_owned(), password: password(login), totp: None };
            Ok(connection.post::<LoginResponse>("/v1/sessions", "", &request)?.token)
        };
        let admin_token = login(&mut connection, ADMIN)?;
        let applied: PresetApplied = connection.post("/v1/admin/presets/kigyo", &admin_token, &())?;
        let group = GroupInput { name: "総務部".to_owned(), parent: None };
        let group: Group = connection.post("/v1/admin/groups", &admin_token, &group)?;
        let post = applied.posts.iter().find(|post| post.name == "部長").context("the preset has 部長")?;
        let person = PersonInput {
            login: "bucho".to_owned(),
            name: "bucho".to_owned(),
            password: Some(password("bucho")),
            new_totp: false,
            memberships: vec![Membership { group: group.id, post: post.id }],
            roles: Vec::new(),
            disabled: false,
        };
        let person: PersonRecord = connection.post("/v1/admin/people", &admin_token, &person)?;
        let token = login(&mut connection, "bucho")?;
        let signed: SignedBulletin =
            serde_json::from_slice(&connection.request("GET", "/v1/bulletin", "", b"")?)?;
        terminal.signing_key.verify(
            "tobari/1 bulletin",
            signed.payload.as_ref(),
            signed.signature.as_ref(),
        )?;
        let bulletin = serde_json::from_slice(signed.payload.as_ref())?;
        Ok(Self { token, admin_token, person, group, bulletin })
    }

    /// Headers of sealed files, `per_epoch` of which share their encapsulations.
    fn headers(&self, count: usize, per_epoch: usize) -> Result<Vec<Header>> {
        let label = self.bulletin.labels.iter().find(|keys| keys.label.name == REFERENCE_LABEL);
        let label = label.context("the preset has the label")?;
        let recipients = [
            RecipientPublicKey::try_from(&label.key)?,
            RecipientPublicKey::try_from(&self.bulletin.recovery)?,
        ];
        let policy = FilePolicy {
            organisation: self.bulletin.organisation,
            label: label.label.id,
            label_level: label.label.level,
            label_name: label.label.name.clone(),
            owner_group: Some(self.group.id),
            sealed_at: SystemClock.now(),
            sealer: tobari_core::ids::TerminalId::generate(),
            generation: label.generation,
        };
        let (mut headers, mut epoch) = (Vec::with_capacity(count), Epoch::new(&recipients)?);
        for index in 0..count {
            if index % per_epoch == 0 {
                epoch = Epoch::new(&recipients)?;
            }
            let (mut source, sink) = (&b""[..], MemoryStorage::new());
            let options = SealOptions { threads: 1, ..SealOptions::default() };
            headers.push(seal(&mut source, &sink, &epoch, policy.clone(), &options, &mut |_| ())?.header);
        }
        Ok(headers)
    }

    /// Opens every key of one answer, once; the runs only count. It also lets the server see the warm epochs.
    fn check_answer(&self, terminal: &Enrolment, site: &Site, headers: &[Header]) -> Result<()> {
        let mut connection = Connection::open(site, terminal)?;
        for batch in headers.chunks(MAX_BATCH) {
            let answer = connection.request("POST", "/v1/grants", &self.token, &body(batch)?)?;
            let response: GrantResponse = serde_json::from_slice(&answer)?;
            let info = grant_info(terminal.terminal.organisation, terminal.terminal.terminal);
            let mut opener =
                GrantOpener::new(&terminal.grant_key, response.encapsulated_key.as_ref(), &info)?;
            ensure!(response.outcomes.len() == batch.len(), "one outcome for each file");
            for (header, outcome) in batch.iter().zip(response.outcomes) {
                let GrantOutcome::Granted(grant) = outcome else { bail!("not granted: {outcome:?}") };
                let aad = grant_aad(header.file_id(), self.person.id, grant.rights, grant.expires_at);
                header.authenticate(&opener.open(&aad, grant.sealed_dek.as_ref())?)?;
            }
        }
        Ok(())
    }

    fn audited(&self, site: &Site, terminal: &Enrolment) -> Result<usize> {
        let mut connection = Connection::open(site, terminal)?;
        let answer = connection.request("GET", "/v1/admin/audit/verify", &self.admin_token, b"")?;
        let verification: AuditVerification = serde_json::from_slice(&answer)?;
        ensure!(verification.intact, "the audit log is broken");
        Ok(usize::try_from(verification.last_sequence)?)
    }
}

/// What the run needs of the key server's answer.
#[derive(Deserialize)]
struct AuditVerification {
    intact: bool,
    last_sequence: u64,
}

fn body(headers: &[Header]) -> Result<Vec<u8>> {
    let items = headers
        .iter()
        .enumerate()
        .map(|(index, header)| GrantItem {
            header: header.wire_bytes().to_vec().into(),
            right: Right::View,
            name: Some(format!("共有/総務部/資料-{index:05}.docx")),
            new_label: None,
        })
        .collect();
    Ok(serde_json::to_vec(&GrantRequest { items })?)
}

struct Outcome {
    per_second: f64,
    files: usize,
    latencies: Vec<Duration>,
}

impl Outcome {
    /// In milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let at = self.latencies.len().saturating_sub(1) * percent / 100;
        self.latencies.get(at).map_or(0.0, Duration::as_secs_f64) * 1000.0
    }
}

/// Ten times the peak, and an administrator who asks all the while.
fn overload(
    site: &Site,
    terminal: &Enrolment,
    office: &Office,
    requests: &[Vec<u8>],
    duration: Duration,
) -> Result<()> {
    let peak = run(site, terminal, &office.token, requests, 1, SINGLE_CONNECTIONS, duration, true)?;
    println!("peak_per_second {:.0}", peak.per_second);
    let mut administrator = Connection::open(site, terminal)?;
    let mut waits = Vec::new();
    let demanded = 10.0 * peak.per_second;
    let token = &office.token;
    let open = open_loop(site, terminal, token, requests, OVERLOAD_CONNECTIONS, demanded, duration, || {
        let asked = Instant::now();
        administrator.request("GET", "/v1/admin/people", &office.admin_token, b"")?;
        waits.push(asked.elapsed());
        Ok(())
    })?;
    waits.sort_unstable();
    let administration = Outcome { per_second: 0.0, files: 0, latencies: waits };
    println!("demanded_per_second {demanded:.0}");
    println!("sent_per_second {:.0}", open.sent_per_second);
    println!("goodput_per_second {:.0}", open.granted.per_second);
    println!("turned_away_per_second {:.0}", open.turned_away_per_second);
    println!("goodput_percent_of_peak {:.0}", 100.0 * open.granted.per_second / peak.per_second);
    println!("administration_median_ms {:.1}", administration.percentile(50));
    println!("administration_99th_ms {:.1}", administration.percentile(99));
    Ok(())
}

/// What an open loop brought.
struct OpenLoop {
    sent_per_second: f64,
    turned_away_per_second: f64,
    /// Latencies are counted from when a request was due, whenever it was sent.
    granted: Outcome,
}

/// Sends so many requests in a second whether answers come or not, and calls `meanwhile` now and then.
#[expect(clippy::too_many_arguments, reason = "one call for each run, and all of it differs")]
fn open_loop(
    site: &Site,
    terminal: &Enrolment,
    token: &str,
    requests: &[Vec<u8>],
    connections: usize,
    per_second: f64,
    duration: Duration,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<OpenLoop> {
    // Each connection has its own beat; a late answer makes its next request late, so there are many.
    let beat = Duration::from_secs_f64(connections as f64 / per_second);
    let opened: Vec<Connection> =
        (0..connections).map(|_| Connection::open(site, terminal)).collect::<Result<_>>()?;
    let (sent, turned_away) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Once all threads are there.
    let start = Instant::now() + Duration::from_secs(1);
    let workers = std::thread::scope(|scope| -> Result<Vec<Vec<Duration>>> {
        let (sent, turned_away) = (&sent, &turned_away);
        let handles: Vec<_> = opened
            .into_iter()
            .enumerate()
            .map(|(index, mut connection)| {
                scope.spawn(move || -> Result<Vec<Duration>> {
                    let request = requests.get(index % requests.len()).context("there are requests")?;
                    let mut next = start + beat.mul_f64(index as f64 / connections as f64);
                    let mut latencies = Vec::new();
                    while start.elapsed() < duration {
                        std::thread::sleep(next.saturating_duration_since(Instant::now()));
                        let due = next;
                        next += beat;
                        sent.fetch_add(1, Ordering::Relaxed);
                        let (status, answer) = connection.exchange("POST", "/v1/grants", token, request)?;
                        // Who is turned away waits for it, also beyond the end: what comes then does not count.
                        if start.elapsed() >= duration {
                            break;
                        }
                        match status.as_str() {
                            "200" if granted(&answer) == 1 => latencies.push(due.elapsed()),
                            "429" => _ = turned_away.fetch_add(1, Ordering::Relaxed),
                            status => bail!("{status}: {}", String::from_utf8_lossy(&answer)),
                        }
                    }
                    Ok(latencies)
                })
            })
            .collect();
        while start.elapsed() < duration {
            meanwhile()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|_| bail!("a worker panicked")))
            .collect()
    })?;
    let seconds = duration.as_secs_f64();
    let mut latencies = workers.concat();
    latencies.sort_unstable();
    let files = latencies.len();
    Ok(OpenLoop {
        sent_per_second: sent.into_inner() as f64 / seconds,
        turned_away_per_second: turned_away.into_inner() as f64 / seconds,
        granted: Outcome { per_second: files as f64 / seconds, files, latencies },
    })
}

/// Sends `requests` in turn over `connections`, for `duration`, or until each was sent once unless `repeat`.
#[expect(clippy::too_many_arguments, reason = "one call for each run, and all of it differs")]
fn run(
    site: &Site,
    terminal: &Enrolment,
    token: &str,
    requests: &[Vec<u8>],
    files_each: usize,
    connections: usize,
    duration: Duration,
    repeat: bool,
) -> Result<Outcome> {
    let opened: Vec<Connection> =
        (0..connections).map(|_| Connection::open(site, terminal)).collect::<Result<_>>()?;
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let workers: Vec<Result<Vec<Duration>>> = std::thread::scope(|scope| {
        let next = &next;
        let handles: Vec<_> = opened
            .into_iter()
            .map(|mut connection| {
                scope.spawn(move || {
                    let mut latencies = Vec::new();
                    while start.elapsed() < duration {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= requests.len() && !repeat {
                            break;
                        }
                        let request = requests.get(index % requests.len()).context("there are requests")?;
                        let sent = Instant::now();
                        let answer = connection.request("POST", "/v1/grants", token, request)?;
                        latencies.push(sent.elapsed());
                        ensure!(granted(&answer) == files_each, "{}", String::from_utf8_lossy(&answer));
                    }
                    Ok(latencies)
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|_| bail!("a worker panicked")))
            .collect()
    });
    let elapsed = start.elapsed();
    let mut latencies = workers.into_iter().collect::<Result<Vec<_>>>()?.concat();
    latencies.sort_unstable();
    let files = latencies.len() * files_each;
    Ok(Outcome { per_second: files as f64 / elapsed.as_secs_f64(), files, latencies })
}

/// How many outcomes are grants, without parsing: the client should not be what is measured.
fn granted(answer: &[u8]) -> usize {
    const MARK: &[u8] = b":\"granted\"";
    let (mut count, mut rest) = (0, answer);
    while let Some(at) = find(rest, MARK) {
        count += 1;
        rest = rest.get(at + MARK.len()..).unwrap_or_default();
    }
    count
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|byte| *byte == first) {
        if haystack.get(from + at..)?.starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// One HTTP/1.1 connection that stays open.
struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    host: String,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(site: &Site, terminal: &Enrolment) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(terminal.ca.clone())?;
        let key: PrivateKeyDer<'static> = terminal.tls_key.clone_key();
        let mut config = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![terminal.certificate.clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let url = site.url();
        let host = url.strip_prefix("https://").context("an https URL")?.to_owned();
        let mut tcp = TcpStream::connect(&host)?;
        tcp.set_nodelay(true)?;
        let (name, _) = host.rsplit_once(':').context("host and port")?;
        let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned())?)?;
        // The handshake, which otherwise would be part of the first request.
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self { stream: StreamOwned::new(tls, tcp), host, buffer: vec![0; 1 << 16] })
    }

    fn post<T: DeserializeOwned>(&mut self, path: &str, token: &str, body: &impl Serialize) -> Result<T> {
        let answer = self.request("POST", path, token, &serde_json::to_vec(body)?)?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Sends a request and gives the body of a successful answer.
    fn request(&mut self, method: &str, path: &str, token: &str, body: &[u8]) -> Result<Vec<u8>> {
        let (status, received) = self.exchange(method, path, token, body)?;
        ensure!(status.starts_with('2'), "{method} {path}: {status} {}", String::from_utf8_lossy(&received));
        Ok(received)
    }

    /// Sends a request and gives status and body of whatever the answer is.
    fn exchange(&mut self, method: &str, path: &str, token: &str, body: &[u8]) -> Result<(String, Vec<u8>)> {
        let authorization =
            if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{authorization}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request)?;
        self.stream.flush()?;

        let mut received = Vec::new();
        let (head, length) = loop {
            self.receive(&mut received)?;
            if let Some(end) = find(&received, b"\r\n\r\n") {
                let head =
                    String::from_utf8_lossy(received.get(..end).unwrap_or_default()).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.context("an answer with a length")?.trim().parse()?;
                received.drain(..end + 4);
                break (head, length);
            }
        };
        while received.len() < length {
            self.receive(&mut received)?;
        }
        let status = head.split([' ', '\r']).nth(1).unwrap_or_default().to_owned();
        Ok((status, received))
    }

    fn receive(&mut self, received: &mut Vec<u8>) -> Result<()> {
        let count = self.stream.read(&mut self.buffer)?;
        ensure!(count > 0, "the key server closed the connection");
        received.extend_from_slice(self.buffer.get(..count).unwrap_or_default());
        Ok(())
    }
}

//! The view with the shipped code and without a key server, for suites and benchmarks (`tests/suites`, `tests/bench/view.sh`): one
//! person, whom it grants everything from keys of its own.
//!
//!     view-mount keys KEYS                     make the keys of a label and of recovery
//!     view-mount serve KEYS FOLDER PLACE       mount a view of FOLDER at PLACE, say `mounted`, and unmount when its input ends;
//!                                              TOBARI_VIEW_THREADS says with how many threads, for measuring

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use anyhow::{Context as _, Result, bail};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tobari_core::audit::{Checkpoint, Frontier, Growth, LogSigner, leaf_hash, log_name, make_receipt};
use tobari_core::clock::{Clock as _, SystemClock};
use tobari_core::crypto::{
    Dek, GrantKeyPair, GrantSealer, RecipientKind, RecipientPrivateKey, SharedSecret, SigningKey,
};
use tobari_core::envelope::Header;
use tobari_core::ids::{FolderId, LabelId, OrganisationId, PersonId, SessionId, TerminalId};
use tobari_core::policy::{Label, Rights};
use tobari_core::proto::api::{
    Grant, GrantOutcome, GrantRequest, GrantResponse, LoginResponse, Session, grant_aad, grant_info,
};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::{Bulletin, Folder, LabelKeys, Revocations, SignedBulletin};
use tobari_core::proto::problem::{Problem, ProblemCode};
use tobari_daemon::bulletin::{Bulletins, CONTEXT};
use tobari_daemon::config::{Config, RawConfig, Role};
use tobari_daemon::failure::Failure;
use tobari_daemon::grants::{GrantSource, Grants};
use tobari_daemon::lease::{Identity, Leases, SystemClocks};
use tobari_daemon::seal::FolderRule;
use tobari_daemon::server::{Credentials, KeyServer};
use tobari_daemon::service::{Parts, Service};
use tobari_daemon::sessions::{Login, Token};
use tobari_daemon::view::{self, Access, Mount, Options};

const LABEL_KEY: &str = "label.key";
const RECOVERY_KEY: &str = "recovery.key";
/// One organisation, terminal, label and person, so that each mount knows the files of the last.
const ORGANISATION: OrganisationId = OrganisationId::from_bytes([1; 16]);
const TERMINAL: TerminalId = TerminalId::from_bytes([2; 16]);
const LABEL: LabelId = LabelId::from_bytes([3; 16]);
const PERSON: PersonId = PersonId::from_bytes([4; 16]);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["keys", keys] => [LABEL_KEY, RECOVERY_KEY].iter().try_for_each(|name| {
            let key = RecipientPrivateKey::generate(RecipientKind::RsaOaep)?;
            Ok(fs::write(Path::new(keys).join(name), key.export())?)
        }),
        ["serve", keys, folder, place] => serve(Path::new(keys), folder, Path::new(place)),
        _ => bail!("usage: see the head of daemon/examples/view-mount.rs"),
    }
}

fn serve(keys: &Path, folder: &str, place: &Path) -> Result<()> {
    tobari_daemon::process::harden()?;
    let clock = Arc::new(SystemClock);
    let expires_at = clock.now().checked_add(SignedDuration::from_hours(48))?;
    let key = |name: &str| -> Result<_> { Ok(RecipientPrivateKey::import(&fs::read(keys.join(name))?)?) };
    let label_key = key(LABEL_KEY)?;
    let bulletin = bulletin(folder, &label_key, &key(RECOVERY_KEY)?, clock.now());
    let rule = FolderRule::of_terminal(&bulletin, TERMINAL).pop().context("no rule")?;

    let runtime = tobari_daemon::run::runtime()?;
    let grant_key = GrantKeyPair::generate()?;
    let source =
        LocalKeys { key: label_key, secrets: Mutex::default(), public: grant_key.public(), expires_at };
    let identity = Identity {
        organisation: ORGANISATION,
        terminal: TERMINAL,
        signing_key: SigningKey::generate()?.verifying_key(),
        grant_key: GrantKeyPair::import(&grant_key.export())?,
        log: log_signer()?.public().clone(),
    };
    let clocks = Arc::new(SystemClocks::new(Arc::clone(&clock) as _));
    let service = Arc::new(Service::new(Parts {
        roles: BTreeSet::from([Role::View]),
        terminal: TERMINAL,
        renewal: None,
        protection: tobari_core::policy::Protection::None,
        server: Arc::new(nobody(expires_at, &runtime)?),
        bulletins: bulletins(&bulletin)?,
        grants: {
            let log = log_signer()?.public().clone();
            Grants::new(Arc::new(source), grant_key, ORGANISATION, TERMINAL, Arc::clone(&clock) as _, log)
        },
        leases: Arc::new(Leases::load(&keys.join("leases"), identity, clocks)?),
        engine: None,
        session: Config::try_from(RawConfig::default())?.session,
        clock,
    }));
    let access = Arc::new(OnePerson { login: Arc::new(login(expires_at)) });
    let mut options = Options::default();
    if let Ok(threads) = std::env::var("TOBARI_VIEW_THREADS") {
        options.threads = threads.parse()?;
    }
    let mount = Mount::start(&service, view::Folder::open(rule)?, place, access, &options)?;
    println!("mounted");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    mount.end()?;
    Ok(())
}

/// Everybody who asks is this person.
struct OnePerson {
    login: Arc<Login>,
}

impl Access for OnePerson {
    fn person(&self, _uid: u32, _pid: u32) -> Result<Arc<Login>, Failure> {
        Ok(Arc::clone(&self.login))
    }
}

fn login(expires_at: Timestamp) -> Login {
    Login::from(LoginResponse {
        token: String::from("local"),
        session: Session {
            id: SessionId::from_bytes([5; 16]),
            person: PERSON,
            login: String::from("local"),
            name: String::from("local"),
            memberships: Vec::new(),
            roles: Vec::new(),
            second_factor: false,
            asserted: false,
            expires_at,
        },
    })
}

/// Signs a log that begins anew with each answer.
fn log_signer() -> Result<LogSigner> {
    Ok(LogSigner::new(&log_name(ORGANISATION), SigningKey::import(&[7; 32])?)?)
}

/// In the place of the key server: it has the label's key, grants everything, and remembers secrets that files share, as a key
/// server does.
struct LocalKeys {
    key: RecipientPrivateKey,
    secrets: Mutex<HashMap<[u8; 32], SharedSecret>>,
    public: Vec<u8>,
    expires_at: Timestamp,
}

impl GrantSource for LocalKeys {
    fn request(&self, _token: &Token, request: &GrantRequest) -> Result<GrantResponse, Problem> {
        let internal = |error: anyhow::Error| Problem::local(ProblemCode::Internal, format!("{error:#}"));
        self.answer(request).map_err(internal)
    }
}

impl LocalKeys {
    fn answer(&self, request: &GrantRequest) -> Result<GrantResponse> {
        let (encapsulated, mut sealer) = GrantSealer::new(&self.public, &grant_info(ORGANISATION, TERMINAL))?;
        let mut outcomes = Vec::with_capacity(request.items.len());
        let mut records = Vec::with_capacity(request.items.len());
        for (item, audit) in request.items.iter().zip(1..) {
            let header = Header::parse(item.header.as_ref())?;
            let dek = self.unwrap(&header)?;
            let (file, rights, expires_at) = (header.file_id(), Rights::ALL, self.expires_at);
            let sealed_dek = Base64(sealer.seal(&grant_aad(file, PERSON, rights, expires_at), &dek)?);
            outcomes.push(GrantOutcome::Granted(Grant { file, rights, expires_at, sealed_dek, audit }));
            records.push(format!(
                r#"{{"act":"grant","file":"{file}","person":"{PERSON}","right":"{}","terminal":"{TERMINAL}"}}"#,
                item.right
            ));
        }
        let leaves = records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
        let growth = Growth::new(Frontier::default(), leaves);
        let checkpoint = Checkpoint::of(ORGANISATION, 1, growth.after()).sign(&log_signer()?);
        let receipt = make_receipt(&growth, &checkpoint, 1, records);
        Ok(GrantResponse { encapsulated_key: Base64(encapsulated), outcomes, receipt })
    }

    fn unwrap(&self, header: &Header) -> Result<Dek> {
        let id = self.key.public().key_id();
        let stanza =
            header.stanzas().iter().find(|stanza| stanza.key_id == id).context("not of this label's key")?;
        let hash = stanza.encapsulation_hash();
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = match secrets.get(&hash) {
            Some(secret) => secret.duplicate(),
            None => {
                let secret = self.key.decapsulate(&stanza.encapsulation)?;
                secrets.insert(hash, secret.duplicate());
                secret
            }
        };
        Ok(header.unwrap(stanza, &secret)?)
    }
}

fn bulletin(
    folder: &str,
    label_key: &RecipientPrivateKey,
    recovery: &RecipientPrivateKey,
    now: Timestamp,
) -> Bulletin {
    let label = Label { id: LABEL, name: String::from("社外秘"), level: 300 };
    let key = label_key.public().to_proto();
    Bulletin {
        version: 1,
        organisation: ORGANISATION,
        organisation_name: String::from("local"),
        number: 1,
        issued_at: now,
        labels: vec![LabelKeys {
            label,
            generation: 1,
            key,
            allow_legacy_zip: false,
            lease_by_label: false,
            max_bulletin_age_hours: None,
        }],
        recovery: recovery.public().to_proto(),
        groups: Vec::new(),
        folders: vec![Folder {
            id: FolderId::from_bytes([6; 16]),
            terminal: TERMINAL,
            path: folder.to_owned(),
            label: LABEL,
            owner_group: None,
            exclude: Vec::new(),
        }],
        revocations: Revocations::default(),
        gateways: Vec::new(),
    }
}

fn bulletins(bulletin: &Bulletin) -> Result<Bulletins> {
    let signing = SigningKey::generate()?;
    let payload = serde_json::to_vec(bulletin)?;
    let signature = Base64(signing.sign(CONTEXT, &payload));
    let directory = std::env::temp_dir().join(format!("tobari-view-mount-{}", std::process::id()));
    fs::create_dir(&directory)?;
    fs::write(
        directory.join("bulletin"),
        serde_json::to_vec(&SignedBulletin { payload: Base64(payload), signature, stamp: None })?,
    )?;
    let cache: (PathBuf, &'static str) = (directory.clone(), "bulletin");
    let loaded = Bulletins::load(signing.verifying_key(), ORGANISATION, cache);
    fs::remove_dir_all(directory)?;
    Ok(loaded?)
}

/// A key server that is never there.
fn nobody(certificate_expires_at: Timestamp, runtime: &tokio::runtime::Runtime) -> Result<KeyServer> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(Vec::new())?.self_signed(&key)?.der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let credentials = Credentials { ca: certificate.clone(), certificate, certificate_expires_at, key };
    let url = "https://127.0.0.1:9".parse()?;
    Ok(KeyServer::new(url, credentials, runtime.handle().clone(), Arc::new(SystemClock))?)
}

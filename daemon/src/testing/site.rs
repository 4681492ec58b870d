use super::{Asked, Authority, FakeKeyServer, Said};
use crate::bulletin::{Bulletins, tests as bulletins};
use crate::config::Role;
use crate::grants::tests::{FakeSource, ORGANISATION, TERMINAL};
use crate::grants::{GrantSource, Grants};
use crate::lease::{Identity, Leases, SystemClocks};
use crate::server::{Credentials, KeyServer};
use crate::service::{Parts, Service};
use crate::sessions::tests::login;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use tobari_core::clock::FixedClock;
use tobari_core::crypto::{Dek, GrantKeyPair, RecipientKind, RecipientPrivateKey, SigningKey};
use tobari_core::envelope::{Epoch, FilePolicy, Header, SealOptions, seal};
use tobari_core::ids::LabelId;
use tobari_core::policy::{Label, Rights};
use tobari_core::proto::api::LoginResponse;
use tobari_core::proto::bulletin::{Bulletin, Folder, LabelKeys, PublicKey};
use tobari_core::proto::problem::{Problem, ProblemCode};

pub(crate) const LABEL: LabelId = LabelId::from_bytes([5; 16]);

/// Another label, below it.
pub(crate) const LOWER: LabelId = LabelId::from_bytes([6; 16]);

static RECOVERY: LazyLock<RecipientPrivateKey> =
    LazyLock::new(|| RecipientPrivateKey::generate(RecipientKind::RsaOaep).unwrap());

static KEY: LazyLock<RecipientPrivateKey> = LazyLock::new(|| match std::env::var_os(KEY_FILE) {
    Some(path) => RecipientPrivateKey::import(&std::fs::read(path).unwrap()).unwrap(),
    None => RecipientPrivateKey::generate(RecipientKind::RsaOaep).unwrap(),
});

/// Where a process that a test starts finds the key of the labels.
pub(crate) const KEY_FILE: &str = "TOBARI_TEST_KEY";

/// Writes the key of the labels for another process.
pub(crate) fn export_key(path: &Path) {
    std::fs::write(path, KEY.export()).unwrap();
}

/// The key of a file that was sealed for the labels of [`bulletin`].
pub(crate) fn key_of(header: &Header) -> Option<Dek> {
    let stanza = header.stanzas().iter().find(|stanza| stanza.key_id == KEY.public().key_id())?;
    header.unwrap(stanza, &KEY.decapsulate(&stanza.encapsulation).ok()?).ok()
}

/// A sealed file and its key.
pub(crate) struct Sample {
    pub(crate) header: Header,
    pub(crate) dek: Dek,
}

/// Seals `plaintext` into a new file at `path`.
pub(crate) fn sealed_file(path: &Path, plaintext: &[u8]) -> Sample {
    let policy = FilePolicy {
        organisation: ORGANISATION,
        label: LABEL,
        label_level: 200,
        label_name: String::from("社外秘"),
        owner_group: None,
        sealed_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        sealer: TERMINAL,
        generation: 1,
    };
    let epoch = Epoch::new(&[KEY.public().clone()]).unwrap();
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let options = SealOptions { chunk_log2: 12, threads: 1 };
    let sealed = seal(&mut &*plaintext, &file, &epoch, policy, &options, &mut |_| ()).unwrap();
    Sample { header: sealed.header, dek: sealed.dek }
}

/// The bulletin's label, which allows ZipCrypto or not.
pub(crate) fn bulletin(number: u64, allow_legacy_zip: bool) -> Bulletin {
    let key: PublicKey = KEY.public().to_proto();
    let label = Label { id: LABEL, name: String::from("社外秘"), level: 200 };
    let lower = Label { id: LOWER, name: String::from("公開"), level: 10 };
    Bulletin {
        labels: vec![
            LabelKeys {
                label,
                generation: 1,
                key: key.clone(),
                allow_legacy_zip,
                lease_by_label: false,
                max_bulletin_age_hours: None,
            },
            LabelKeys {
                label: lower,
                generation: 3,
                key,
                allow_legacy_zip,
                lease_by_label: false,
                max_bulletin_age_hours: None,
            },
        ],
        recovery: RECOVERY.public().to_proto(),
        ..bulletins::bulletin(number)
    }
}

/// A service with a fake key server behind it; person 1 logs in with the password `correct`.
pub(crate) struct Site {
    pub(crate) service: Arc<Service>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) signing: Arc<SigningKey>,
    /// Who grants.
    pub(crate) source: Arc<FakeSource>,
    /// What the grants that were asked for said of labels to come.
    pub(crate) new_labels: Arc<Mutex<Vec<Option<LabelId>>>>,
    _server: FakeKeyServer,
    _runtime: tokio::runtime::Runtime,
}

/// How a [`Site`] differs from the usual one.
pub(crate) struct Differs {
    pub(crate) rights: Rights,
    pub(crate) roles: BTreeSet<Role>,
    pub(crate) allow_legacy_zip: bool,
    /// The key server knows the key of every file that was sealed for its labels.
    pub(crate) knows_all: bool,
    /// Designated folders.
    pub(crate) folders: Vec<Folder>,
}

impl Default for Differs {
    fn default() -> Self {
        Self {
            rights: Rights::ALL,
            roles: BTreeSet::from([Role::View]),
            allow_legacy_zip: false,
            knows_all: false,
            folders: Vec::new(),
        }
    }
}

impl Site {
    /// A site whose key server grants `rights` for `samples`, and answers other requests by `answer`.
    pub(crate) fn start(
        directory: tempfile::TempDir,
        samples: &[&Sample],
        differs: Differs,
        answer: impl Fn(&Asked) -> Option<Said> + Send + Sync + 'static,
    ) -> Self {
        let ca = Authority::new();
        let server = FakeKeyServer::start(&ca, move |asked| {
            assert!(asked.has_certificate);
            answer(&asked).unwrap_or_else(|| usual(&asked))
        });
        let runtime = crate::run::runtime().unwrap();
        let clock = Arc::new(FixedClock::new("2026-06-01T00:00:00Z".parse().unwrap()));
        let (certificate, key) = ca.terminal();
        let certificate_expires_at = "2027-01-01T00:00:00Z".parse().unwrap();
        let credentials =
            Credentials { certificate, certificate_expires_at, key, ca: ca.certificate.clone() };
        let url = server.url.parse().unwrap();
        let key_server = Arc::new(
            KeyServer::new(url, credentials, runtime.handle().clone(), Arc::clone(&clock) as _).unwrap(),
        );

        let signing = Arc::new(SigningKey::generate().unwrap());
        let bulletin = Bulletin { folders: differs.folders, ..bulletin(1, differs.allow_legacy_zip) };
        let signed = bulletins::signed(&signing, &bulletin);
        std::fs::write(directory.path().join("bulletin"), serde_json::to_vec(&signed).unwrap()).unwrap();
        let cache = (directory.path().to_owned(), "bulletin");
        let bulletins = Bulletins::load(signing.verifying_key(), ORGANISATION, cache).unwrap();

        let grant_key = GrantKeyPair::generate().unwrap();
        let mut source = FakeSource::new(grant_key.public(), differs.rights, "2026-06-01T00:05:00Z");
        source.keys = samples
            .iter()
            .map(|sample| {
                (sample.header.wire_bytes().to_vec(), sample.header.file_id(), sample.dek.duplicate())
            })
            .collect();
        let new_labels = Arc::clone(&source.new_labels);
        if differs.knows_all {
            source.find = key_of;
        }
        let source = Arc::new(source);
        let asked: Arc<dyn GrantSource> = Arc::clone(&source) as _;
        let identity = Identity {
            organisation: ORGANISATION,
            terminal: TERMINAL,
            signing_key: signing.verifying_key(),
            grant_key: GrantKeyPair::import(&grant_key.export()).unwrap(),
            log: crate::grants::tests::log_key(),
        };
        let clocks = Arc::new(SystemClocks::new(Arc::clone(&clock) as _));
        let leases = Arc::new(Leases::load(&directory.path().join("leases"), identity, clocks).unwrap());
        let service = Service::new(Parts {
            roles: differs.roles,
            terminal: TERMINAL,
            renewal: None,
            protection: tobari_core::policy::Protection::None,
            server: key_server,
            bulletins,
            grants: Grants::new(
                asked,
                grant_key,
                ORGANISATION,
                TERMINAL,
                Arc::clone(&clock) as _,
                crate::grants::tests::log_key(),
            )
            .with_leases(Arc::clone(&leases)),
            leases,
            engine: None,
            session: crate::config::Config::try_from(crate::config::RawConfig::default()).unwrap().session,
            clock: Arc::clone(&clock) as _,
        });
        let service = Arc::new(service);
        Self { service, clock, directory, signing, source, new_labels, _server: server, _runtime: runtime }
    }
}

fn usual(asked: &Asked) -> Said {
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/v1/sessions") if asked.body["password"] == "correct" => {
            let login = login(1, "2026-06-02T00:00:00Z");
            let response = LoginResponse { token: login.token.expose().to_owned(), session: login.session };
            Said::json(200, &response)
        }
        ("POST", "/v1/sessions") => Said::json(401, &Problem::local(ProblemCode::BadCredentials, "no")),
        ("GET", "/v1/sessions/current") => Said::json(200, &login(1, "2026-06-02T00:00:00Z").session),
        ("DELETE", "/v1/sessions/current") => Said { status: 204, ..Said::default() },
        _ => Said::json(404, &Problem::local(ProblemCode::NotFound, asked.path.clone())),
    }
}

//! Each side opens what the other made: this crate and the independent implementation in `tests/oracle`.
//!
//! `TOBARI_ORACLE_PYTHON` names a Python with the packages of `tests/oracle/requirements.txt`; `tests/run.sh`
//! makes one. Set but broken is a failure; unset is a loud skip.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tobari_core::crypto::{RecipientKind, RecipientPrivateKey, RecipientPublicKey, random_bytes};
use tobari_core::envelope::{Epoch, FilePolicy, Header, MemoryStorage, SealOptions, open_stream, seal};
use tobari_core::ids::{GroupId, LabelId, OrganisationId, TerminalId};
use tobari_core::proto::bulletin::PublicKey;

const KINDS: [RecipientKind; 2] = [RecipientKind::RsaOaep, RecipientKind::RsaOaepMlkem768];
const LENGTHS: [usize; 7] = [0, 1, 4095, 4096, 4097, 16_384, 100_000];

#[test]
fn the_oracle_opens_what_we_seal() {
    let Some(oracle) = Oracle::find() else { return };
    for kind in KINDS {
        let key = RecipientPrivateKey::generate(kind).unwrap();
        let recovery = RecipientPrivateKey::generate(RecipientKind::RsaOaepMlkem768).unwrap();
        let epoch = Epoch::new(&[key.public().clone(), recovery.public().clone()]).unwrap();
        for (index, length) in LENGTHS.into_iter().enumerate() {
            let plaintext = contents(length);
            let storage = MemoryStorage::new();
            let chunk_log2 = [12, 14][index % 2];
            let options = SealOptions { chunk_log2, ..SealOptions::default() };
            seal(&mut plaintext.as_slice(), &storage, &epoch, policy(index), &options, &mut |_| ()).unwrap();
            let bytes = storage.into_bytes();
            for private in [&key, &recovery] {
                let (opened, described) = oracle.open(private, &bytes);
                assert!(opened == plaintext, "{kind:?}, {length} bytes");
                let header = Header::parse(&bytes).unwrap();
                assert_eq!(described["file"], header.file_id().to_string());
                assert_eq!(described["policy"]["label_name"], policy(index).label_name);
                assert_eq!(described["policy"]["label"], policy(index).label.to_string());
                assert_eq!(described["policy"]["sealed_at"], 1_795_219_200_123_i64);
                assert_eq!(described["policy"]["owner_group"].is_null(), policy(index).owner_group.is_none());
                assert_eq!(described["tail"], Value::Null);
            }
            let mut damaged = bytes;
            let at = damaged.len() - 1;
            damaged[at] ^= 1;
            let output = oracle.try_open(&key, &damaged);
            assert_eq!(output.status.code(), Some(3), "a damaged envelope is refused: {output:?}");
        }
    }
}

#[test]
fn the_oracle_opens_the_vector_of_a_lease_and_no_other() {
    let Some(oracle) = Oracle::find() else { return };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lease/tests/vector.json");
    let vector: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let output = oracle.output(&["lease", path]);
    assert!(output.status.success(), "{output:?}");
    let opened: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(opened["deks"], vector["deks"]);
    let payload: Value = serde_json::from_str(vector["payload"].as_str().unwrap()).unwrap();
    assert_eq!(opened["lease"], payload);
    let mut other = vector.clone();
    other["lease"]["signature"] = Value::from(format!("{}==", "A".repeat(86)));
    oracle.write("lease", &serde_json::to_vec(&other).unwrap());
    assert_eq!(oracle.output(&["lease", &oracle.text("lease")]).status.code(), Some(3));
}

#[test]
fn we_open_what_the_oracle_seals() {
    let Some(oracle) = Oracle::find() else { return };
    for kind in KINDS {
        for bits in [2048, 3072] {
            // One key made by each side; both envelopes carry both recipients.
            let (theirs, their_public) = oracle.keygen(kind, bits);
            let ours = RecipientPrivateKey::generate(kind).unwrap();
            assert_eq!(theirs.public(), &their_public);
            for length in LENGTHS {
                let plaintext = contents(length);
                let bytes = oracle.seal(&plaintext, 12, &[ours.public(), &their_public]);
                for private in [&ours, &theirs] {
                    assert!(open(&bytes, private) == plaintext, "{kind:?} {bits}, {length} bytes");
                }
            }
        }
    }
}

#[test]
fn the_vectors_are_what_the_oracle_makes() {
    let Some(oracle) = Oracle::find() else { return };
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let keys: Vec<_> = files(&kept).into_iter().filter(|name| name.ends_with(".key")).collect();
    assert!(!keys.is_empty());
    for name in keys {
        std::fs::copy(kept.join(&name), oracle.path(&name)).unwrap();
    }
    oracle.run(&["vectors", &oracle.folder()]);
    assert_eq!(files(&kept), files(oracle.directory.path()));
    for name in files(&kept) {
        let same = std::fs::read(kept.join(&name)).unwrap() == std::fs::read(oracle.path(&name)).unwrap();
        assert!(same, "{name} is not what the generator makes");
    }
}

struct Oracle {
    python: PathBuf,
    script: PathBuf,
    directory: tempfile::TempDir,
}

impl Oracle {
    fn find() -> Option<Self> {
        let Some(python) = std::env::var_os("TOBARI_ORACLE_PYTHON") else {
            eprintln!(
                "!! SKIPPED: the independent decoder; TOBARI_ORACLE_PYTHON is not set (tests/run.sh sets it)"
            );
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle/oracle.py");
        let oracle = Self { python: python.into(), script, directory: tempfile::tempdir().unwrap() };
        oracle.run(&["version"]);
        Some(oracle)
    }

    fn open(&self, private: &RecipientPrivateKey, envelope: &[u8]) -> (Vec<u8>, Value) {
        let output = self.try_open(private, envelope);
        assert!(
            output.status.success(),
            "the oracle refused it: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        (self.read("plaintext"), serde_json::from_slice(&output.stdout).unwrap())
    }

    fn try_open(&self, private: &RecipientPrivateKey, envelope: &[u8]) -> Output {
        self.write("private", &private.export());
        self.write("envelope", envelope);
        self.output(&["open", &self.text("private"), &self.text("envelope"), &self.text("plaintext")])
    }

    fn keygen(&self, kind: RecipientKind, bits: u32) -> (RecipientPrivateKey, RecipientPublicKey) {
        self.run(&["keygen", kind.name(), &bits.to_string(), &self.text("private"), &self.text("public")]);
        let public: PublicKey = serde_json::from_slice(&self.read("public")).unwrap();
        let private = RecipientPrivateKey::import(&self.read("private")).unwrap();
        (private, RecipientPublicKey::try_from(&public).unwrap())
    }

    fn seal(&self, plaintext: &[u8], chunk_log2: u8, recipients: &[&RecipientPublicKey]) -> Vec<u8> {
        self.write("plaintext", plaintext);
        let mut arguments =
            vec!["seal".into(), self.text("plaintext"), self.text("envelope"), chunk_log2.to_string()];
        for (index, recipient) in recipients.iter().enumerate() {
            let name = format!("recipient-{index}");
            self.write(&name, &serde_json::to_vec(&recipient.to_proto()).unwrap());
            arguments.push(self.text(&name));
        }
        self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        self.read("envelope")
    }

    fn run(&self, arguments: &[&str]) {
        let output = self.output(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "TOBARI_ORACLE_PYTHON is set but {arguments:?} failed:\n{stderr}");
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(&self.script).args(arguments);
        command.output().unwrap_or_else(|error| panic!("TOBARI_ORACLE_PYTHON does not run: {error}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn folder(&self) -> String {
        self.directory.path().to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }
}

fn open(bytes: &[u8], private: &RecipientPrivateKey) -> Vec<u8> {
    let storage = MemoryStorage::from(bytes.to_vec());
    let header = Header::read(&storage).unwrap();
    let key_id = private.public().key_id();
    let stanza = header.stanzas().iter().find(|stanza| stanza.key_id == key_id).unwrap();
    let dek = header.unwrap(stanza, &private.decapsulate(&stanza.encapsulation).unwrap()).unwrap();
    let mut plaintext = Vec::new();
    open_stream(&storage, &header, &dek, &mut plaintext, &mut |_| ()).unwrap();
    plaintext
}

fn policy(index: usize) -> FilePolicy {
    FilePolicy {
        organisation: OrganisationId::from_bytes([1; 16]),
        label: LabelId::from_bytes([2; 16]),
        label_level: 30,
        label_name: "社外秘".into(),
        owner_group: index.is_multiple_of(2).then(|| GroupId::from_bytes([3; 16])),
        sealed_at: jiff::Timestamp::from_millisecond(1_795_219_200_123).unwrap(),
        sealer: TerminalId::from_bytes([4; 16]),
        generation: 7,
    }
}

fn contents(length: usize) -> Vec<u8> {
    let random: [u8; 32] = random_bytes();
    random.iter().copied().cycle().take(length).collect()
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

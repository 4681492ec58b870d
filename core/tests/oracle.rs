//! Each side opens what the other made: this crate and the independent implementation in `tests/oracle`.
//!
//! `TOBARI_ORACLE_PYTHON` names a Python with the packages of `tests/oracle/requirements.txt`; `tests/run.sh`
//! makes one. Set but broken is a failure; unset is a loud skip.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tobari_core::crypto::{RecipientKind, RecipientPrivateKey, RecipientPublicKey, SigningKey, random_bytes};
use tobari_core::envelope::{Epoch, FilePolicy, Header, MemoryStorage, SealOptions, open_stream, seal};
use tobari_core::ids::{GroupId, LabelId, OrganisationId, TerminalId};
use tobari_core::proto::base64::Base64;
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
fn the_oracle_opens_the_vectors_of_leases() {
    let Some(oracle) = Oracle::find() else { return };
    for (name, recorded) in [("vector.json", false), ("vector-label.json", true)] {
        let vector = lease_vector(name);
        let opened = oracle.lease(&vector).unwrap();
        assert_eq!(opened["deks"], vector["deks"]);
        let payload: Value = serde_json::from_str(vector["payload"].as_str().unwrap()).unwrap();
        assert_eq!((&opened["lease"], &opened["recorded"]), (&payload, &Value::from(recorded)));
    }
}

/// One byte in the middle of each part, and what is the same to a careless reader.
#[test]
fn the_oracle_refuses_a_lease_with_a_byte_changed_in_any_part() {
    let Some(oracle) = Oracle::find() else { return };
    let vector = lease_vector("vector-label.json");
    let receipt = &vector["lease"]["receipt"];
    let (records, hashes) =
        (receipt["records"].as_array().unwrap().len(), receipt["proof"].as_array().unwrap().len());
    assert!(records == 3 && hashes > 2, "{receipt}");
    let mut parts: Vec<String> = ["payload", "signature", "receipt/checkpoint"].map(String::from).to_vec();
    parts.extend((0..records).map(|index| format!("receipt/records/{index}")));
    parts.extend((0..hashes).map(|index| format!("receipt/proof/{index}")));
    for part in parts {
        let mut other = vector.clone();
        let place = other.pointer_mut(&format!("/lease/{part}")).unwrap();
        let mut text = place.as_str().unwrap().as_bytes().to_vec();
        // In the middle: of a checkpoint its hash, of a record its object, of base64 neither padding nor unused bits.
        let middle = text.len() / 2;
        let at = (middle..text.len()).find(|at| text[*at].is_ascii_alphanumeric()).unwrap();
        text[at] = if text[at] == b'a' { b'b' } else { b'a' };
        *place = Value::from(String::from_utf8(text).unwrap());
        assert_eq!(oracle.lease(&other), Err(3), "{part}");
    }
    for first in [40, 42] {
        let mut other = vector.clone();
        other["lease"]["receipt"]["first"] = Value::from(first);
        assert_eq!(oracle.lease(&other), Err(3), "first {first}");
    }
    let mut swapped = vector.clone();
    swapped["lease"]["receipt"]["records"].as_array_mut().unwrap().swap(0, 1);
    assert_eq!(oracle.lease(&swapped), Err(3));
}

/// What is signed anew: the form of the payload, and what its keys are bound to, hold without the signature.
#[test]
fn the_oracle_refuses_another_lease_around_the_same_keys() {
    let Some(oracle) = Oracle::find() else { return };
    let vector = lease_vector("vector-label.json");
    let text = vector["payload"].as_str().unwrap();
    let key = SigningKey::generate().unwrap();
    let anew = |payload: &str| {
        let mut other = vector.clone();
        other["signing_key"] = Value::from(key.verifying_key().to_string());
        other["lease"] = serde_json::json!({
            "payload": Base64(payload.as_bytes().to_vec()),
            "signature": Base64(key.sign("tobari/1 lease", payload.as_bytes())),
        });
        other
    };
    assert_eq!(oracle.lease(&anew(text)).unwrap()["deks"], vector["deks"], "the control");
    let label = r#""label":"04040404040404040404040404040404","#;
    let lease_id = r#""id":"06060606060606060606060606060606","#;
    let moved = text.replacen(lease_id, "", 1).replacen("{", &format!("{{{lease_id}"), 1);
    for (what, other) in [
        ("order", moved),
        ("space", text.replacen(',', ", ", 1)),
        ("twice", text.replacen("{", &format!("{{{lease_id}"), 1)),
        ("unknown", text.replacen("\"term\":", "\"extra\":0,\"term\":", 1)),
        ("version", text.replacen("\"version\":1", "\"version\":2", 1)),
        ("time", text.replacen("2026-06-04T00:00:00Z", "2026-06-04T00:00:00.0Z", 1)),
        ("count", text.replacen("\"count\":3", "\"count\":0", 1)),
        ("rights", text.replacen("[\"view\",\"send\"]", "[\"send\",\"view\"]", 1)),
        // Bound to the keys.
        ("more rights", text.replacen("[\"view\",\"send\"]", "[\"view\",\"edit\",\"send\"]", 1)),
        ("later", text.replacen("2026-06-02T00:00:00Z", "2026-06-03T00:00:00Z", 1)),
        ("earlier", text.replacen("2026-06-01T00:00:00Z", "2026-05-01T00:00:00Z", 1)),
        ("person", text.replacen("\"person\":\"03", "\"person\":\"13", 1)),
        ("terminal", text.replacen("\"terminal\":\"02", "\"terminal\":\"12", 1)),
        ("owner group", text.replacen("\"owner_group\":\"05050505050505050505050505050505\",", "", 1)),
        ("file", text.replacen("\"file\":\"0a", "\"file\":\"1a", 1)),
    ] {
        assert_ne!(other, text, "{what}");
        assert_eq!(oracle.lease(&anew(&other)), Err(3), "{what}");
    }
    // The keys of a label's lease are lent file by file: which label was meant is said under the signature alone.
    assert!(text.contains(label));
    assert!(oracle.lease(&anew(&text.replacen(label, "", 1))).is_ok());
}

fn lease_vector(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lease/tests").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
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
            skipped("the independent decoder; TOBARI_ORACLE_PYTHON is not set (tests/run.sh sets it)");
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

    /// What the oracle finds in a lease, or its exit code.
    fn lease(&self, vector: &Value) -> Result<Value, i32> {
        self.write("lease", &serde_json::to_vec(vector).unwrap());
        let output = self.output(&["lease", &self.text("lease")]);
        match output.status.code() {
            Some(0) => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            Some(code) if output.stderr.starts_with(b"refused: ") => Err(code),
            _ => panic!("{output:?}"),
        }
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

/// Says what is not tested here; past the capture of output, which keeps what a passing test prints from everybody.
fn skipped(what: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("!! SKIPPED: {what}\n").as_bytes());
}

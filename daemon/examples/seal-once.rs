//! Sealing with the shipped code and without watching, for the crash suite (`tests/cuts`), which runs it under faults. Two
//! marks, looks at files that do not exist, frame the system calls of the sealing.
//!
//!     seal-once keys KEYS                   make the keys of a label and of recovery
//!     seal-once seal KEYS FOLDER NAME...    recover, then seal one after the other; one line for each name
//!     seal-once group KEYS FOLDER NAME...   recover, then seal as one group; one line for each name
//!     seal-once recover KEYS FOLDER         what a restart does first
//!     seal-once show KEYS FILE...           plain or sealed, and the SHA-256 of the plaintext
//!
//! `TOBARI_TEST_THREADS` is the number of threads for large files (1), `TOBARI_TEST_TRACER` a command that is started at the
//! first mark, with this process's number after `-p`, and that is waited for until it traces.
//!
//! With the feature `test-only-unsafe`, `TOBARI_TEST_ONLY_WITHOUT` names a safeguard to leave out.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use anyhow::{Context as _, Result, bail};
use globset::GlobSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tobari_core::clock::SystemClock;
use tobari_core::crypto::{RecipientKind, RecipientPrivateKey, sha256};
use tobari_core::envelope::{Header, MAGIC, SealOptions, looks_sealed, open_stream};
use tobari_core::ids::{FolderId, LabelId, OrganisationId, TerminalId};
use tobari_core::policy::Label;
use tobari_core::proto::bulletin::Folder;
use tobari_daemon::seal::{FolderRoot, FolderRule, LabelRecipients, Outcome, SealContext, Sealer, Wipe};

const KEYS: [&str; 2] = ["label.key", "recovery.key"];
const ORGANISATION: &str = "organisation";
/// Set, it overwrites the plaintext (`wipe = "overwrite"`).
const OVERWRITE: &str = "TOBARI_TEST_OVERWRITE";
const THREADS: &str = "TOBARI_TEST_THREADS";
/// Set, it stays until those who have a file open let go of it, as the daemon does.
const STAY: &str = "TOBARI_TEST_STAY";
const TRACER: &str = "TOBARI_TEST_TRACER";
/// Seen in a trace: the sealing is between these.
const BEGIN: &str = "/tobari-sealing-begins";
const END: &str = "/tobari-sealing-ends";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, keys, rest @ ..] = arguments.as_slice() else { bail!("no command") };
    let keys = Path::new(keys);
    match (command.as_str(), rest) {
        ("keys", []) => make_keys(keys),
        ("seal", [folder, names @ ..]) => seal(keys, Path::new(folder), names, false),
        ("group", [folder, names @ ..]) => seal(keys, Path::new(folder), names, true),
        ("recover", [folder]) => {
            let root = FolderRoot::open(Path::new(folder))?;
            let sealer = sealer(context(keys)?)?;
            mark(BEGIN);
            sealer.recover(&root)?;
            mark(END);
            println!("recovered");
            Ok(())
        }
        ("show", files) => files.iter().try_for_each(|file| {
            println!("{}", show(keys, Path::new(file))?);
            Ok(())
        }),
        _ => bail!("unknown command {command:?}"),
    }
}

fn make_keys(folder: &Path) -> Result<()> {
    for name in KEYS {
        let key = RecipientPrivateKey::generate(RecipientKind::RsaOaep)?;
        fs::write(folder.join(name), key.export())?;
    }
    Ok(fs::write(folder.join(ORGANISATION), OrganisationId::generate().to_string())?)
}

fn private_keys(folder: &Path) -> Result<Vec<RecipientPrivateKey>> {
    KEYS.iter().map(|name| Ok(RecipientPrivateKey::import(&fs::read(folder.join(name))?)?)).collect()
}

fn context(keys: &Path) -> Result<SealContext> {
    let organisation = fs::read_to_string(keys.join(ORGANISATION))?.parse()?;
    Ok(SealContext { organisation, terminal: TerminalId::generate() })
}

#[cfg_attr(
    not(feature = "test-only-unsafe"),
    expect(clippy::unnecessary_wraps, reason = "the other build can fail")
)]
fn sealer(context: SealContext) -> Result<Sealer> {
    let threads = std::env::var(THREADS).ok().and_then(|number| number.parse().ok()).unwrap_or(1);
    let sealer =
        Sealer::new(context, Arc::new(SystemClock), SealOptions { threads, ..SealOptions::default() });
    let wipe = if std::env::var_os(OVERWRITE).is_some() { Wipe::Overwrite } else { Wipe::None };
    let sealer = sealer.with_wipe(wipe);
    #[cfg(feature = "test-only-unsafe")]
    if let Ok(name) = std::env::var("TOBARI_TEST_ONLY_WITHOUT") {
        use tobari_daemon::seal::Safeguard;
        let safeguard = match name.as_str() {
            "lease" => Safeguard::Lease,
            "journal" => Safeguard::Journal,
            "read-back" => Safeguard::ReadBack,
            "directory-sync" => Safeguard::DirectorySync,
            _ => bail!("unknown safeguard {name:?}"),
        };
        return Ok(sealer.test_only_without(safeguard));
    }
    Ok(sealer)
}

fn seal(keys: &Path, folder: &Path, names: &[String], as_group: bool) -> Result<()> {
    let context = context(keys)?;
    let label = Label { id: LabelId::generate(), name: "社外秘".to_owned(), level: 300 };
    let recipients = private_keys(keys)?.iter().map(|key| key.public().to_proto()).collect();
    let rule = FolderRule {
        folder: Arc::new(Folder {
            id: FolderId::generate(),
            terminal: context.terminal,
            path: folder.to_str().context("the folder's path is not UTF-8")?.to_owned(),
            label: label.id,
            owner_group: None,
            exclude: Vec::new(),
        }),
        keys: Some(Arc::new(LabelRecipients { label, generation: 1, recipients })),
        excluded: Ok(GlobSet::empty()),
    };
    let root = FolderRoot::open(folder)?;
    let sealer = sealer(context)?;
    sealer.recover(&root)?;
    start_tracer()?;
    mark(BEGIN);
    let results: Vec<_> = if as_group {
        let names: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        sealer.seal_group(&root, &rule, &names)
    } else {
        let each = names.iter().map(|name| {
            let result = sealer.seal(&root, &rule, Path::new(name));
            // Many names are sealed to be cut: tell of each as soon as it is done.
            if names.len() > 1 && result.is_ok() {
                println!("sealed {name}");
            }
            result
        });
        each.collect()
    };
    mark(END);
    if std::env::var_os(STAY).is_some() {
        for _ in 0..1000 {
            if sealer.settle_pending(&root) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(Outcome::Sealed(_)) => println!("sealed {name}"),
            Ok(Outcome::AlreadySealed) => println!("already {name}"),
            Err(stop) => println!("stopped {name}: {stop}"),
        }
    }
    Ok(())
}

/// Calls are counted for each thread from the start of tracing on: what the loader did before is not among them. A shell
/// watches for it, so that no call of this process depends on how long it takes.
fn start_tracer() -> Result<()> {
    let Ok(tracer) = std::env::var(TRACER) else { return Ok(()) };
    let process = std::process::id();
    let script = format!(
        "{tracer} -p {process} & while grep -q 'TracerPid:.0$' /proc/{process}/status; do sleep 0.002; done; sleep 0.005"
    );
    Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status()?;
    Ok(())
}

fn mark(path: &str) {
    let absent = fs::symlink_metadata(PathBuf::from(path));
    debug_assert!(absent.is_err());
}

fn show(keys: &Path, path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut prefix = vec![0; MAGIC.len()];
    match file.read_exact(&mut prefix) {
        Ok(()) if looks_sealed(&prefix) => {}
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => return Ok(format!("plain {}", hex(&sha256(&[&fs::read(path)?])))),
    }
    Ok(match open(keys, &file) {
        Ok(plaintext) => format!("sealed {}", hex(&sha256(&[&plaintext]))),
        Err(error) => format!("damaged {error:#}"),
    })
}

/// The plaintext, which both keys have to give.
fn open(keys: &Path, file: &File) -> Result<Vec<u8>> {
    let header = Header::read(file)?;
    let mut plaintexts = Vec::new();
    for key in private_keys(keys)? {
        let id = key.public().key_id();
        let stanza =
            header.stanzas().iter().find(|stanza| stanza.key_id == id).context("no stanza for a key")?;
        let dek = header.unwrap(stanza, &key.decapsulate(&stanza.encapsulation)?)?;
        let mut plaintext = Vec::new();
        open_stream(file, &header, &dek, &mut plaintext, &mut |_| {})?;
        plaintexts.push(plaintext);
    }
    let first = plaintexts.pop().context("no key")?;
    if plaintexts.iter().any(|other| *other != first) {
        bail!("the keys give different plaintexts");
    }
    Ok(first)
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

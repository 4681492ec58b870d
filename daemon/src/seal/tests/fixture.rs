//! A designated folder with keys, and the means to open what was sealed in it.

use crate::seal::rule::{FolderRule, LabelRecipients, SealContext, compile};
use crate::seal::sealer::{Outcome, Sealer};
use crate::seal::step::Faults;
use crate::seal::stop::Stop;
use crate::seal::{CONTROL, FolderError, FolderRoot};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tobari_core::clock::SystemClock;
use tobari_core::crypto::{RecipientKind, RecipientPrivateKey};
use tobari_core::envelope::{Header, SealOptions, open_stream};
use tobari_core::ids::{FolderId, LabelId, OrganisationId, TerminalId};
use tobari_core::policy::Label;
use tobari_core::proto::bulletin::Folder;
use tobari_core::proto::control::UnsealedReason;

static LABEL: LazyLock<RecipientPrivateKey> =
    LazyLock::new(|| RecipientPrivateKey::generate(RecipientKind::RsaOaep).unwrap());
static RECOVERY: LazyLock<RecipientPrivateKey> =
    LazyLock::new(|| RecipientPrivateKey::generate(RecipientKind::RsaOaep).unwrap());
static KEYS: LazyLock<Arc<LabelRecipients>> = LazyLock::new(|| {
    Arc::new(LabelRecipients {
        label: Label { id: LabelId::generate(), name: "社外秘".into(), level: 300 },
        generation: 1,
        recipients: vec![LABEL.public().to_proto(), RECOVERY.public().to_proto()],
    })
});

/// How long a test waits for what has to come, on however busy a machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who seals in tests.
pub(crate) static CONTEXT: LazyLock<SealContext> = LazyLock::new(|| SealContext {
    organisation: OrganisationId::generate(),
    terminal: TerminalId::generate(),
});

/// A rule for `path`.
pub(crate) fn rule(path: &Path, exclude: &[&str]) -> FolderRule {
    let exclude: Vec<String> = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
    FolderRule {
        excluded: compile(&exclude),
        folder: Arc::new(Folder {
            id: FolderId::generate(),
            terminal: CONTEXT.terminal,
            path: path.to_str().unwrap().to_owned(),
            label: KEYS.label.id,
            owner_group: None,
            exclude,
        }),
        keys: Some(Arc::clone(&KEYS)),
    }
}

/// The plaintext of a sealed file, with the label's private key; none when it is not sealed.
pub(crate) fn open(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).unwrap();
    let header = Header::read(&file).ok()?;
    for key in [&*LABEL, &*RECOVERY] {
        let stanza = header.stanzas().iter().find(|stanza| stanza.key_id == key.public().key_id()).unwrap();
        let secret = key.decapsulate(&stanza.encapsulation).unwrap();
        let dek = header.unwrap(stanza, &secret).unwrap();
        let mut plaintext = Vec::new();
        open_stream(&file, &header, &dek, &mut plaintext, &mut |_| {}).unwrap();
        if std::ptr::eq(key, &*RECOVERY) {
            return Some(plaintext);
        }
    }
    None
}

/// A folder.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) rule: FolderRule,
    pub(crate) root: Option<FolderRoot>,
    pub(crate) sealer: Sealer,
}

impl Place {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    /// One in memory, where syncing the whole file system does not wait for what others write.
    pub(crate) fn in_memory() -> Self {
        const MEMORY: &str = "/dev/shm";
        Self::of(tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir()).unwrap())
    }

    /// One below `parent`.
    pub(crate) fn below(parent: &Path) -> Self {
        Self::of(tempfile::tempdir_in(parent).unwrap())
    }

    fn of(directory: TempDir) -> Self {
        Self {
            rule: rule(directory.path(), &[]),
            root: Some(FolderRoot::open(directory.path()).unwrap()),
            sealer: sealer(),
            directory,
        }
    }

    /// The same, with faults.
    pub(crate) fn with(faults: Arc<dyn Faults>) -> Self {
        Self::new().suffering(faults)
    }

    /// The same, with faults from now on.
    pub(crate) fn suffering(self, faults: Arc<dyn Faults>) -> Self {
        Self { sealer: sealer().test_only_with_faults(faults), ..self }
    }

    /// The path of `name`.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The open folder.
    pub(crate) fn root(&self) -> &FolderRoot {
        self.root.as_ref().unwrap()
    }

    /// Seals a file. Other tests of this process start programs, and a child has all files open until its `exec`.
    pub(crate) fn seal(&self, name: impl AsRef<Path>) -> Result<Outcome, Stop> {
        let begin = Instant::now();
        loop {
            match self.try_seal(name.as_ref()) {
                Err(Stop::Refused { reason: UnsealedReason::InUse, detail })
                    if detail.contains("has it open") && begin.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                other => return other,
            }
        }
    }

    /// Tries to seal a file that somebody may have open.
    pub(crate) fn try_seal(&self, name: impl AsRef<Path>) -> Result<Outcome, Stop> {
        self.sealer.seal(self.root(), &self.rule, name.as_ref())
    }

    /// As after the death of the daemon: everything it had open is closed; a new one, without faults, starts.
    pub(crate) fn restart(&mut self) {
        self.root = None;
        self.sealer = sealer();
        // A program that another test starts has the lock until its `exec`.
        let begin = Instant::now();
        self.root = Some(loop {
            match FolderRoot::open(self.directory.path()) {
                Err(FolderError::Locked) if begin.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                opened => break opened.unwrap(),
            }
        });
        self.sealer.recover(self.root()).unwrap();
    }

    /// Names in the control directory.
    pub(crate) fn journal(&self) -> Vec<String> {
        names(&self.path(CONTROL))
    }

    /// Names in the folder, without the control directory.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.directory.path()).into_iter().filter(|name| name != CONTROL).collect()
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut all: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

fn sealer() -> Sealer {
    Sealer::new(*CONTEXT, Arc::new(SystemClock), SealOptions::default())
}

/// Whether the tests run with the rights of the daemon; says so where they do not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        crate::testing::skipped("this test needs root");
    }
    root
}

//! Views that are really mounted. They need root and FUSE, and say loudly when they are skipped.

mod access;
mod contents;
mod crash;
mod labels;
mod names;
mod shared;

use super::{Access, Folder, Ids, Mount, Options};
use crate::failure::Failure;
use crate::grants::tests::TERMINAL;
use crate::seal::FolderRule;
use crate::service::{Caller, Service};
use crate::sessions::Login;
use crate::testing::{Asked, Differs, LABEL, Said, Sample, Site, bulletin, key_of, sealed_file};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tobari_core::envelope::{FilePolicy, Header, looks_sealed, open_stream};
use tobari_core::ids::{FolderId, LabelId};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::api::LoginRequest;
use tobari_core::proto::bulletin;
use tobari_core::proto::problem::{Problem, ProblemCode};

/// As whom the tests ask: root, since they have to mount.
const CALLER: Caller = Caller { uid: 0 };

/// A folder with a view of it.
struct Shown {
    site: Site,
    folder: PathBuf,
    view: PathBuf,
    access: Arc<Tester>,
    mount: Option<Mount>,
    options: Options,
}

/// One person, whoever asks.
struct Tester {
    service: Arc<Service>,
    refused: Mutex<Vec<(PathBuf, ProblemCode)>>,
    may_write_plain: AtomicBool,
    /// Of what is created and changed.
    label: Mutex<Option<LabelId>>,
    ids: Mutex<Ids>,
}

impl Access for Tester {
    fn person(&self, _uid: u32, _pid: u32) -> Result<Arc<Login>, Failure> {
        self.service.login_of(CALLER)
    }

    fn ids(&self) -> Ids {
        *self.ids.lock().unwrap()
    }

    fn may_write_plain(&self, _rule: &FolderRule) -> Result<(), Failure> {
        if self.may_write_plain.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Problem::local(ProblemCode::RightRefused, "only what is sealed may be written").into())
    }

    fn label_for_new(&self, rule: &FolderRule) -> Result<LabelId, Failure> {
        Ok(self.label.lock().unwrap().unwrap_or(rule.folder.label))
    }

    fn label_for_change(&self, policy: &FilePolicy) -> LabelId {
        self.label.lock().unwrap().unwrap_or(policy.label)
    }

    fn refused(&self, name: &Path, failure: &Failure) {
        self.refused.lock().unwrap().push((name.to_owned(), failure.problem.code));
    }
}

impl Shown {
    /// A folder with these sealed files, seen by somebody with `rights`; none where it cannot be tried.
    fn start(rights: Rights, files: &[(&str, &[u8])]) -> Option<Self> {
        Self::start_answering(rights, files, |_| None)
    }

    /// The same with a key server that answers some requests by `answer`.
    fn start_answering(
        rights: Rights,
        files: &[(&str, &[u8])],
        answer: impl Fn(&Asked) -> Option<Said> + Send + Sync + 'static,
    ) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || File::open("/dev/fuse").is_err() {
            crate::testing::skipped("a view needs root and /dev/fuse");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let (folder, view) = (directory.path().join("folder"), directory.path().join("view"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::create_dir(&view).unwrap();
        let samples: Vec<Sample> =
            files.iter().map(|(name, contents)| sealed_file(&folder.join(name), contents)).collect();
        let folders = vec![designated(&folder)];
        let differs = Differs { rights, knows_all: true, folders, ..Differs::default() };
        let site = Site::start(directory, &samples.iter().collect::<Vec<_>>(), differs, answer);
        let place = site.directory.path().to_owned();
        let mut shown = Self::over(site, &place);
        shown.login();
        match shown.try_mount() {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                crate::testing::skipped("mounting is not permitted here");
                return None;
            }
            mounted => shown.mount = Some(mounted.unwrap()),
        }
        Some(shown)
    }

    /// A view, not mounted yet, of the folder below `place`.
    fn over(site: Site, place: &Path) -> Self {
        let (folder, view) = (place.join("folder"), place.join("view"));
        let access = Arc::new(Tester {
            service: Arc::clone(&site.service),
            refused: Mutex::default(),
            may_write_plain: AtomicBool::new(true),
            label: Mutex::default(),
            ids: Mutex::default(),
        });
        Self { site, folder, view, access, mount: None, options: Options::default() }
    }

    fn login(&self) {
        let login =
            LoginRequest { login: String::from("person1"), password: String::from("correct"), totp: None };
        self.site.service.login(CALLER, &login).unwrap();
    }

    fn mount(&mut self) {
        self.mount = Some(self.try_mount().unwrap());
    }

    fn try_mount(&self) -> std::io::Result<Mount> {
        let rule = designated(&self.folder);
        let folder = Folder::open(FolderRule::resolve(&rule, &bulletin(1, false))).unwrap();
        let access: Arc<dyn Access> = Arc::clone(&self.access) as _;
        let options = self.options.clone();
        Mount::start(&self.site.service, folder, &self.view, access, &options)
    }

    fn end(&mut self) {
        self.mount.take().unwrap().end().unwrap();
    }

    /// The path of a file in the view.
    fn at(&self, name: &str) -> PathBuf {
        self.view.join(name)
    }

    /// The path of the same file beneath.
    fn beneath(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The plaintext of a file as it lies beneath, which must be sealed.
    fn opened(&self, name: &str) -> Vec<u8> {
        let file = File::open(self.beneath(name)).unwrap();
        let header = Header::read(&file).unwrap();
        let mut plaintext = Vec::new();
        let opened =
            open_stream(&file, &header, &key_of(&header).unwrap(), &mut plaintext, &mut |_| ()).unwrap();
        assert_eq!(opened.interrupted_tail, None);
        plaintext
    }

    fn header(&self, name: &str) -> Header {
        Header::read(&File::open(self.beneath(name)).unwrap()).unwrap()
    }

    fn is_sealed(&self, name: &str) -> bool {
        looks_sealed(&std::fs::read(self.beneath(name)).unwrap())
    }

    fn asked(&self) -> usize {
        self.site.source.asked.load(Ordering::Relaxed)
    }

    fn refused(&self) -> Vec<(PathBuf, ProblemCode)> {
        std::mem::take(&mut self.access.refused.lock().unwrap())
    }

    /// The journals in the control directory.
    fn journals(&self) -> usize {
        std::fs::read_dir(self.folder.join(".tobari/view")).unwrap().count()
    }
}

/// The folder as the bulletin has it.
fn designated(path: &Path) -> bulletin::Folder {
    bulletin::Folder {
        id: FolderId::from_bytes([3; 16]),
        terminal: TERMINAL,
        path: path.to_str().unwrap().to_owned(),
        label: LABEL,
        owner_group: None,
        exclude: vec![String::from("*.left")],
    }
}

fn rights(rights: &[Right]) -> Rights {
    rights.iter().copied().collect()
}

fn number(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap()
}

/// Waits until `condition` holds, for at most a minute.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not within a minute: {what}");
}

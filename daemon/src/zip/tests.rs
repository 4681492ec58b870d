use super::*;
use crate::testing::{Differs, Sample, Site, sealed_file};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tobari_core::policy::Rights;
use tobari_core::proto::api::LoginRequest;

const PASSWORD: &str = "正しい馬 battery-staple";
const CALLER: Caller = Caller { uid: 1000 };

struct Case {
    site: Site,
    samples: Vec<(&'static str, Vec<u8>)>,
}

/// Three sealed files and a plain one.
fn case(differs: Differs) -> Case {
    let directory = tempfile::tempdir().unwrap();
    let samples = vec![
        ("議事録 2026年度.txt", "社外秘の議事録\n".repeat(5000).into_bytes()),
        ("総務部/empty.csv", Vec::new()),
        ("総務部/図.png", (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("plain.txt", b"not sealed".to_vec()),
    ];
    let sealed: Vec<Sample> = samples
        .iter()
        .take(3)
        .enumerate()
        .map(|(n, (_, text))| sealed_file(&directory.path().join(n.to_string()), text))
        .collect();
    std::fs::write(directory.path().join("3"), &samples[3].1).unwrap();
    let site = Site::start(directory, &sealed.iter().collect::<Vec<_>>(), differs, |_| None);
    let login =
        LoginRequest { login: String::from("person1"), password: String::from("correct"), totp: None };
    site.service.login(CALLER, &login).unwrap();
    Case { site, samples }
}

impl Case {
    fn path(&self, name: &str) -> PathBuf {
        self.site.directory.path().join(name)
    }

    fn archive(&self, legacy: bool) -> Archive {
        let sink = Sink::empty_file(File::create(self.path("out.zip")).unwrap().into()).unwrap();
        Archive::new(sink, Zeroizing::new(PASSWORD.to_owned()), legacy).unwrap()
    }

    fn zip(&self, legacy: bool) -> Result<Answer, Failure> {
        let mut archive = self.archive(legacy);
        for (n, (path, _)) in self.samples.iter().enumerate() {
            let source = Source::new(File::open(self.path(&n.to_string())).unwrap().into()).unwrap();
            archive.add((*path).to_owned(), format!("share/{path}"), source).unwrap();
        }
        archive.finish(&self.site.service, CALLER, &mut |_, _| true)
    }

    fn stored(&self) -> Vec<u8> {
        std::fs::read(self.path("out.zip")).unwrap()
    }

    /// Extracts with another program and compares; gives whether the program took the password.
    fn extracts(&self, program: &str, password: &str) -> bool {
        let target = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        match program {
            "7z" => command.args(["x", "-y"]).arg(format!("-p{password}")).arg(self.path("out.zip")),
            _ => command.args(["-x", "--passphrase", password, "-f"]).arg(self.path("out.zip")),
        };
        let output = command.env("LC_ALL", "C.UTF-8").current_dir(target.path()).output().unwrap();
        if !output.status.success() {
            return false;
        }
        for (path, text) in &self.samples {
            assert!(std::fs::read(target.path().join(path)).unwrap() == *text, "{program}: {path}");
        }
        true
    }
}

fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    if !found {
        crate::testing::skipped(format!("{program} is not installed"));
    }
    found
}

#[test]
fn other_programs_read_the_archive_with_the_password_alone() {
    let case = case(Differs::default());
    let Ok(Answer::Zipped { entries, bytes }) = case.zip(false) else { panic!() };
    let total: usize = case.samples.iter().map(|(_, text)| text.len()).sum();
    assert_eq!((entries, bytes), (4, total as u64));
    for program in ["7z", "bsdtar"].into_iter().filter(|program| installed(program)) {
        assert!(case.extracts(program, PASSWORD), "{program}");
        assert!(!case.extracts(program, "wrong"), "{program}");
    }
}

#[test]
fn entries_are_ae_2_with_utf_8_names_and_no_plaintext_checksum() {
    let case = case(Differs::default());
    case.zip(false).unwrap_or_else(|failure| panic!("{failure:?}"));
    let mut archive = zip::ZipArchive::new(File::open(case.path("out.zip")).unwrap()).unwrap();
    for (index, (path, text)) in case.samples.iter().enumerate() {
        let entry = archive.by_index_decrypt(index, PASSWORD.as_bytes()).unwrap();
        assert_eq!(entry.name().unwrap(), *path);
        assert_eq!(entry.crc32(), 0);
        assert_eq!(entry.size(), text.len() as u64);
        let stored = path.ends_with(".png");
        let compression =
            if stored { zip::CompressionMethod::Stored } else { zip::CompressionMethod::Deflated };
        assert_eq!(entry.compression(), compression);
        assert!(entry.last_modified().unwrap().year() >= 2024);
    }
    // Flag bit 11 of the first local header: the name is UTF-8.
    assert_ne!(case.stored()[7] & 0x08, 0);
    assert!(!case.stored().windows(9).any(|window| window == "社外秘".as_bytes()));
}

#[test]
fn nothing_is_written_unless_every_file_may_be_sent() {
    let differs = Differs { rights: Rights::ALL.minus(Rights::only(Right::Send)), ..Differs::default() };
    let case = case(differs);
    let failure = case.zip(false).err().unwrap();
    assert_eq!(failure.problem.code, ProblemCode::RightRefused);
    assert_eq!(failure.subject.as_deref(), Some("share/議事録 2026年度.txt"));
    assert!(failure.rights.unwrap().contains(Right::View));
    assert!(case.stored().is_empty());
}

#[test]
fn zipcrypto_needs_a_label_that_allows_it() {
    let case_without = case(Differs::default());
    let failure = case_without.zip(true).err().unwrap();
    assert_eq!(failure.problem.code, ProblemCode::RightRefused);
    assert_eq!(failure.problem.field.as_deref(), Some("legacy"));
    assert!(case_without.stored().is_empty());

    let case = case(Differs { allow_legacy_zip: true, ..Differs::default() });
    case.zip(true).unwrap_or_else(|failure| panic!("{failure:?}"));
    if installed("7z") {
        assert!(case.extracts("7z", PASSWORD) && !case.extracts("7z", "wrong"));
    }
}

#[test]
fn a_damaged_file_leaves_an_empty_archive() {
    let case = case(Differs::default());
    let path = case.path("2");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let failure = case.zip(false).err().unwrap();
    assert_eq!(failure.problem.code, ProblemCode::CorruptEnvelope);
    assert_eq!(failure.subject.as_deref(), Some("share/総務部/図.png"));
    assert!(case.stored().is_empty());
}

#[test]
fn a_caller_who_goes_leaves_an_empty_archive() {
    let case = case(Differs::default());
    let mut archive = case.archive(false);
    let source = Source::new(File::open(case.path("0")).unwrap().into()).unwrap();
    archive.add(String::from("a"), String::from("a"), source).unwrap();
    assert!(archive.finish(&case.site.service, CALLER, &mut |_, _| false).is_err());
    assert!(case.stored().is_empty());
}

#[test]
fn a_grant_that_ended_is_asked_for_again() {
    let case = case(Differs::default());
    let mut archive = case.archive(false);
    for n in ["0", "2"] {
        let source = Source::new(File::open(case.path(n)).unwrap().into()).unwrap();
        archive.add(n.to_owned(), n.to_owned(), source).unwrap();
    }
    // Time passes while the first file is written; the fake server's grants end at a fixed time, so that the one
    // that is asked for again has ended too.
    let failure = archive
        .finish(&case.site.service, CALLER, &mut |_, _| {
            case.site.clock.set("2026-06-01T00:06:00Z".parse().unwrap());
            true
        })
        .err()
        .unwrap();
    assert_eq!(failure.problem.code, ProblemCode::RightRefused);
    assert_eq!(failure.subject.as_deref(), Some("2"));
    assert!(case.stored().is_empty());
}

#[test]
fn passwords_and_paths_are_checked() {
    let case = case(Differs::default());
    let sink = || Sink::empty_file(File::create(case.path("x.zip")).unwrap().into()).unwrap();
    for password in [String::new(), "x".repeat(MAX_PASSWORD + 1)] {
        let failure = Archive::new(sink(), Zeroizing::new(password), false).err().unwrap();
        assert_eq!(failure.problem.field.as_deref(), Some("password"));
    }
    let mut archive = case.archive(false);
    let source = || Source::new(File::open(case.path("3")).unwrap().into()).unwrap();
    archive.add(String::from("a"), String::from("a"), source()).unwrap();
    for path in ["a", "../a", "/a", "a/b"] {
        let failure = archive.add(path.to_owned(), String::from("x"), source()).err().unwrap();
        assert_eq!(failure.problem.code, ProblemCode::InvalidRequest, "{path}");
    }
    assert!(case.archive(false).finish(&case.site.service, CALLER, &mut |_, _| true).is_err());
}

#[test]
fn plain_files_are_read_from_their_start() {
    let case = case(Differs::default());
    let mut archive = case.archive(false);
    let mut file = File::open(case.path("3")).unwrap();
    file.read_exact(&mut [0; 4]).unwrap();
    archive.add(String::from("p"), String::from("p"), Source::new(file.into()).unwrap()).unwrap();
    archive
        .finish(&case.site.service, CALLER, &mut |_, _| true)
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    let mut archive = zip::ZipArchive::new(File::open(Path::new(&case.path("out.zip"))).unwrap()).unwrap();
    let mut text = String::new();
    archive.by_index_decrypt(0, PASSWORD.as_bytes()).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "not sealed");
}

#[test]
fn an_archive_is_not_put_into_itself() {
    let case = case(Differs::default());
    let mut archive = case.archive(false);
    let itself = Source::new(File::open(case.path("out.zip")).unwrap().into()).unwrap();
    let failure = archive.add(String::from("a"), String::from("a"), itself).err().unwrap();
    assert_eq!(failure.problem.code, ProblemCode::InvalidRequest);
}

#[test]
fn names_do_not_fill_the_memory() {
    let case = case(Differs::default());
    let mut archive = case.archive(false);
    let name = "x".repeat(4 << 20);
    let outcome = (0..16).try_for_each(|n| {
        let source = Source::new(File::open(case.path("3")).unwrap().into()).unwrap();
        archive.add(n.to_string(), name.clone(), source)
    });
    assert_eq!(outcome.err().unwrap().problem.code, ProblemCode::TooLarge);
}

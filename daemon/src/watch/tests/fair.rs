//! Nobody keeps others' files waiting: turns between folders, bounded queues; and the control directory in a folder whose top
//! others may write to.

use super::super::files::{Files, Lane};
use super::super::rules::Origin;
use super::sources::skip;
use super::*;
use crate::seal::tests::fixture::{Place, is_root};
use crate::seal::{FolderRoot, Stop};
use rustix::fs::{Gid, Uid, chown};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tobari_core::ids::FolderId;

fn id(number: u8) -> FolderId {
    FolderId::from_bytes([number; 16])
}

#[test]
fn folders_have_turns() {
    let mut files = Files::default();
    for number in 0..1000 {
        assert!(files.enqueue((id(1), format!("{number}").into()), Origin::Event, Lane::Urgent));
    }
    files.enqueue((id(2), "a".into()), Origin::Event, Lane::Urgent);
    let mut turn = || files.next(Lane::Urgent, |_| 10, |_| true).map(|(folder, files)| (folder, files.len()));
    assert_eq!(turn(), Some((id(1), 10)));
    assert_eq!(turn(), Some((id(2), 1)));
    assert_eq!(turn(), Some((id(1), 10)));
    // A folder that has all the workers that it may have is passed over.
    files.enqueue((id(2), "b".into()), Origin::Event, Lane::Urgent);
    let next = files.next(Lane::Urgent, |_| 10, |folder| folder != id(1)).map(|(folder, _)| folder);
    assert_eq!(next, Some(id(2)));
    assert!(files.next(Lane::Urgent, |_| 10, |folder| folder != id(1)).is_none());
}

#[test]
fn queues_are_bounded_for_each_folder_and_one_file_is_in_them_once() {
    let mut files = Files::default();
    for _ in 0..100_000 {
        assert!(files.enqueue((id(1), "again".into()), Origin::Event, Lane::Urgent));
    }
    assert_eq!(files.queued(Lane::Urgent), 1);
    let refused = (0..100_000)
        .filter(|number| !files.enqueue((id(1), format!("{number}").into()), Origin::Event, Lane::Urgent))
        .count();
    assert_eq!(refused, 100_000 + 1 - (1 << 16));
    assert!(files.enqueue((id(2), "a".into()), Origin::Event, Lane::Urgent));
    // What was refused is not remembered.
    assert_eq!(files.totals()[&id(1)].plain, 1 << 16);
    files.forget(id(1));
    assert_eq!(files.queued(Lane::Urgent), 1);
}

#[test]
fn timers_of_one_file_do_not_pile_up() {
    let mut files = Files::default();
    let (now, settings) = (jiff::Timestamp::UNIX_EPOCH, EngineSettings::default());
    for _ in 0..20_000 {
        let key = (id(1), PathBuf::from("a"));
        files.enqueue(key.clone(), Origin::Event, Lane::Urgent);
        files.next(Lane::Urgent, |_| 1, |_| true).unwrap();
        files.refused(key, UnsealedReason::InUse, String::new(), now, &settings);
    }
    assert!(files.test_only_timers() < 2_000, "{}", files.test_only_timers());
}

#[test]
fn one_folders_troubles_do_not_hide_anothers() {
    let mut files = Files::default();
    let now = jiff::Timestamp::UNIX_EPOCH;
    for number in 0..20_000 {
        files.note((id(1), format!("{number}").into()), UnsealedReason::HardLinked, String::new(), now);
    }
    files.note((id(2), "a".into()), UnsealedReason::HardLinked, String::new(), now);
    let place = |folder| Some(PathBuf::from(if folder == id(1) { "/1" } else { "/2" }));
    let listed = files.unsealed(place, now);
    assert!(listed.len() <= 10_000, "{}", listed.len());
    assert!(listed.iter().any(|file| file.path == "/2/a"));
}

/// Somebody floods one folder, rewrites one file for ever and has very large files there; a new file in another folder is sealed
/// soon all the same, by an event and by a sweep.
#[test]
fn a_flood_in_one_folder_does_not_hold_up_another() {
    let directory = tempfile::tempdir().unwrap();
    let (flooded, other) = (directory.path().join("flooded"), directory.path().join("other"));
    fs::create_dir(&flooded).unwrap();
    fs::create_dir(&other).unwrap();
    for number in 0..2000 {
        fs::write(flooded.join(format!("old{number}")), "text").unwrap();
    }
    for number in 0..4 {
        fs::write(flooded.join(format!("large{number}")), vec![7; 24 << 20]).unwrap();
    }
    fs::write(other.join("old"), "text").unwrap();
    let settings = EngineSettings { workers: 2, ..settings() };
    let _engine = start(settings, vec![rule(&flooded, &[]), rule(&other, &[])]);
    let flood = Flood::start(move |number| {
        fs::write(flooded.join(format!("new{}", number % 5000)), "text").unwrap();
        fs::write(flooded.join("again"), format!("text {number}")).unwrap();
    });
    // All the while the flood goes on: whoever had to wait for its end would wait for ever.
    let begin = Instant::now();
    until("found by the sweep", || is_sealed(&other.join("old")));
    let swept = begin.elapsed();
    let mut longest = Duration::ZERO;
    for number in 0..20 {
        let path = other.join(format!("{number}"));
        fs::write(&path, "text").unwrap();
        let begin = Instant::now();
        until("sealed", || is_sealed(&path));
        longest = longest.max(begin.elapsed());
    }
    drop(flood);
    println!("swept {swept:?}, longest {longest:?}");
}

/// Writes in a thread of its own until it is dropped.
struct Flood(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Flood {
    fn start(write: impl Fn(u64) + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            (0..).take_while(|_| !over.load(Ordering::Relaxed)).for_each(write);
        });
        Self(end, Some(thread))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.take().unwrap().join();
    }
}

#[test]
fn a_file_that_claims_more_than_the_disk_has_takes_nothing_of_it() {
    let place = Place::new();
    let sparse = File::create(place.path("sparse")).unwrap();
    sparse.set_len(8 << 40).unwrap();
    drop(sparse);
    let stop = place.seal("sparse").unwrap_err();
    assert!(matches!(stop, Stop::Refused { reason: UnsealedReason::NoSpace, .. }), "{stop:?}");
    assert_eq!(place.journal(), [""; 0]);
}

#[test]
fn a_renamed_control_directory_is_noticed_and_taken_in() {
    let mut place = Place::new();
    place.write("a", "text");
    let (control, away) = (place.path(CONTROL), place.path("away"));
    fs::rename(&control, &away).unwrap();
    assert!(matches!(place.seal("a"), Err(Stop::Refused { reason: UnsealedReason::System, .. })));
    assert!(place.root().is_lost() && !control.exists());
    // What was under way in it: a displaced plaintext that only the journal knows of.
    let id = "0123456789abcdef0123456789abcdef";
    fs::write(away.join(format!("{id}.data")), "not an envelope").unwrap();
    fs::write(away.join(format!("{id}.intent")), "damaged").unwrap();
    // Still in use by the one that has it.
    assert!(FolderRoot::open(place.directory.path()).is_err());
    place.restart();
    assert!(!away.exists());
    assert_eq!(place.journal(), [format!("{id}.data"), format!("{id}.intent")]);
    place.seal("a").unwrap();
    assert_eq!(open(&place.path("a")).unwrap(), b"text");
}

/// Both ways of looking: the kernel's, and that for where the kernel would have to ask a file system on the way.
#[test]
fn a_folder_that_was_moved_or_replaced_is_not_in_place() {
    let above = tempfile::tempdir().unwrap();
    let (path, moved) = (above.path().join("folder"), above.path().join("moved"));
    fs::create_dir(&path).unwrap();
    let root = FolderRoot::open(&path).unwrap();
    let looks = || (root.is_in_place(), root.is_called_so());
    assert_eq!(looks(), (true, true));
    fs::rename(&path, &moved).unwrap();
    assert_eq!(looks(), (false, false));
    fs::create_dir(&path).unwrap();
    assert_eq!(looks(), (false, false), "another one in its place");
    fs::remove_dir(&path).unwrap();
    fs::rename(&moved, &path).unwrap();
    assert_eq!(looks(), (true, true));
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(looks(), (false, false));
}

/// While nobody works on the folder: after a fault, say, until it is opened again.
#[test]
fn an_empty_control_directory_that_was_renamed_goes_and_no_other_directory() {
    let folder = tempfile::tempdir().unwrap();
    let [control, away, other] = [CONTROL, "away", "other"].map(|name| folder.path().join(name));
    drop(FolderRoot::open(folder.path()).unwrap());
    if rustix::fs::getxattr(&control, "user.tobari.control", &mut [0; 1]).is_err() {
        skip("the file system has no extended attributes: an empty control directory is not known again");
        return;
    }
    fs::rename(&control, &away).unwrap();
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, PermissionsExt::from_mode(0o700)).unwrap();
    let root = FolderRoot::open(folder.path()).unwrap();
    assert!(!away.exists() && control.exists() && other.exists());
    assert_eq!(fs::read_dir(&control).unwrap().count(), 0);
    drop(root);
}

#[test]
fn a_strangers_object_in_the_place_of_the_control_directory_stops_the_folder() {
    if !is_root() {
        return;
    }
    let folder = Watched::new(&[], |_| {});
    let control = folder.path(CONTROL);
    let stranger = Some((Uid::from_raw(15001), Gid::from_raw(15001)));
    for kind in ["directory", "link", "fifo", "open"] {
        fs::rename(&control, folder.path("away")).unwrap();
        match kind {
            "link" => symlink("/tmp", &control).unwrap(),
            "fifo" => rustix::fs::mknodat(CWD, &control, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            _ => fs::create_dir(&control).unwrap(),
        }
        if kind == "directory" {
            let (user, group) = stranger.unzip();
            chown(&control, user, group).unwrap();
        }
        if kind == "open" {
            fs::set_permissions(&control, PermissionsExt::from_mode(0o777)).unwrap();
        }
        fs::write(folder.path("b.txt"), kind).unwrap();
        until("the folder says why", || {
            folder.folder().watched.as_ref().is_err_and(|why| why.contains("not a directory of the daemon"))
        });
        assert_eq!(fs::read(folder.path("b.txt")).unwrap(), kind.as_bytes());
        fs::rename(&control, folder.path("elsewhere")).unwrap();
        folder.until_sealed("b.txt", kind.as_bytes());
        let found = control.symlink_metadata().unwrap();
        assert!(found.is_dir() && (found.uid(), found.mode() & 0o7777) == (0, 0o700));
        let _ = fs::remove_dir(folder.path("away"));
        let _ =
            fs::remove_dir(folder.path("elsewhere")).or_else(|_| fs::remove_file(folder.path("elsewhere")));
    }
}

/// Whoever may write to the top could rename another directory of root's to `.tobari`; what is in it counts for nothing.
#[test]
fn a_forged_intent_is_not_acted_upon() {
    if !is_root() {
        return;
    }
    let mut place = Place::new();
    let path = place.write("b", "text of somebody");
    let id = "0123456789abcdef0123456789abcdef";
    let control = place.path(CONTROL);
    fs::write(control.join(format!("{id}.data")), "forged").unwrap();
    fs::write(control.join(format!("{id}.intent")), "{}\n").unwrap();
    fs::set_permissions(control.join(format!("{id}.intent")), PermissionsExt::from_mode(0o600)).unwrap();
    chown(control.join(format!("{id}.intent")), Some(Uid::from_raw(15001)), None).unwrap();
    place.restart();
    assert_eq!(fs::read(path).unwrap(), b"text of somebody");
    assert_eq!(place.journal().len(), 2);
}

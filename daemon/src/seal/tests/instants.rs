//! The last instants of a displaced file: between the last comparison, the taking of its mode, and its removal.

use super::fixture::{PATIENCE, Place, is_root, open};
use super::late::{AGAIN, Acts, DENIED, Opener, WRITTEN, seal_in_the_end};
use crate::seal::sealer::Outcome;
use crate::seal::step::{Faults, Step};
use crate::seal::stop::Stop;
use crate::seal::{Gate, Wipe};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, XattrFlags, linkat};
use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use tobari_core::proto::control::UnsealedReason;

const NAMES: [&str; 2] = ["a.txt", "b.txt"];

/// The ways through the sealer.
#[derive(Debug, Clone, Copy)]
struct Way {
    grouped: bool,
    wipe: Wipe,
    gate: bool,
}

fn ways() -> Vec<Way> {
    let gates: &[bool] = match Gate::new() {
        Ok(_) => &[false, true],
        Err(error) => {
            crate::testing::skipped(format!("late openers cannot be held up here: {error}"));
            &[false]
        }
    };
    let mut all = Vec::new();
    for grouped in [false, true] {
        for wipe in [Wipe::None, Wipe::Overwrite] {
            all.extend(gates.iter().map(|&gate| Way { grouped, wipe, gate }));
        }
    }
    all
}

/// A folder with two files, of which the first, resolved before, is where the acts happen.
struct Scene {
    place: Place,
    resolved: OwnedFd,
    acts: Arc<Acts>,
    way: Way,
}

impl Scene {
    fn new(way: Way, prepare: impl FnOnce(&Path) -> Acts) -> Self {
        let place = Place::in_memory();
        for name in NAMES {
            let path = place.write(name, "text");
            fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
        }
        let path = place.path(NAMES[0]);
        let resolved = rustix::fs::open(&path, OFlags::PATH, Mode::empty()).unwrap();
        let acts = Arc::new(prepare(&path));
        let mut place = place.suffering(Arc::clone(&acts) as Arc<dyn Faults>);
        place.sealer = place.sealer.with_wipe(way.wipe);
        if way.gate {
            place.sealer = place.sealer.with_gate(Some(Gate::new().unwrap()));
        }
        Self { place, resolved, acts, way }
    }

    /// Seals, until nobody was in the way and all acts were reached: other tests of this process start programs, and a child
    /// has all files open until its `exec`.
    fn seal(&self) -> Vec<Result<Outcome, Stop>> {
        let begin = Instant::now();
        loop {
            let results = if self.way.grouped {
                let names: Vec<PathBuf> = NAMES.iter().map(PathBuf::from).collect();
                self.place.sealer.seal_group(self.place.root(), &self.place.rule, &names)
            } else {
                vec![self.place.seal(NAMES[0])]
            };
            if self.acts.done() {
                return results;
            }
            assert!(begin.elapsed() < PATIENCE, "{:?}: {results:?}", self.way);
        }
    }

    /// The plaintext, under the name that somebody made for it, is theirs as it was.
    fn check_link(&self, other: &Path) {
        let way = self.way;
        let facts = fs::metadata(other).unwrap();
        assert_eq!((facts.mode() & 0o7777, facts.nlink()), (0o640, 1), "{way:?}");
        // From outside: nobody is held up or refused there.
        let output = Command::new("cat").arg(other).output().unwrap();
        assert_eq!(output.stdout, b"text", "{way:?}: {output:?}");
    }
}

/// Makes `other` a name of what `resolved` is.
fn link(resolved: &OwnedFd, other: &Path) {
    let path = format!("/proc/self/fd/{}", resolved.as_raw_fd());
    linkat(CWD, path, CWD, other, AtFlags::SYMLINK_FOLLOW).unwrap();
}

fn linking(path: &Path) -> (OwnedFd, PathBuf) {
    (rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap(), path.with_file_name("other"))
}

#[test]
fn a_link_made_before_the_removal_keeps_content_and_mode() {
    for way in ways() {
        let scene = Scene::new(way, |path| {
            let (resolved, other) = linking(path);
            Acts::default().before(Step::UnlinkDisplaced, move || link(&resolved, &other))
        });
        let results = scene.seal();
        assert!(matches!(results[0], Ok(Outcome::Sealed(4))), "{way:?}: {results:?}");
        scene.check_link(&scene.place.path("other"));
        assert_eq!(open(&scene.place.path(NAMES[0])).unwrap(), b"text");
        assert_eq!(scene.place.journal(), [""; 0], "{way:?}");
        // It is sealed as what it is: a file.
        seal_in_the_end(&scene.place, &["other"]);
        assert_eq!(open(&scene.place.path("other")).unwrap(), b"text");
    }
}

/// The mode is not taken for good: the exchange is undone.
#[test]
fn a_link_made_before_the_mode_is_taken_undoes_the_exchange() {
    for way in ways() {
        let scene = Scene::new(way, |path| {
            let (resolved, other) = linking(path);
            Acts::default().before(Step::TakeMode, move || link(&resolved, &other))
        });
        let results = scene.seal();
        assert!(results[0].is_err(), "{way:?}: {results:?}");
        for path in [scene.place.path(NAMES[0]), scene.place.path("other")] {
            let facts = fs::metadata(&path).unwrap();
            assert_eq!((facts.mode() & 0o7777, facts.nlink()), (0o640, 2), "{way:?}");
            assert_eq!(Command::new("cat").arg(&path).output().unwrap().stdout, b"text", "{way:?}");
        }
        assert_eq!(scene.place.journal(), [""; 0], "{way:?}");
        let (reason, _) = scene.place.try_seal(NAMES[0]).unwrap_err().report().unwrap();
        assert_eq!(reason, UnsealedReason::HardLinked);
        fs::remove_file(scene.place.path("other")).unwrap();
        seal_in_the_end(&scene.place, &NAMES);
        assert_eq!(open(&scene.place.path(NAMES[0])).unwrap(), b"text");
    }
}

/// The daemon dies in the instant between the removal and the look after it, in which somebody had made a link.
#[test]
fn a_link_made_before_the_removal_has_its_mode_after_a_restart() {
    if !is_root() {
        return;
    }
    for way in ways() {
        let mut scene = Scene::new(way, |path| {
            let (resolved, other) = linking(path);
            Acts::default()
                .before(Step::UnlinkDisplaced, move || link(&resolved, &other))
                .dying_after(Step::UnlinkDisplaced)
        });
        let other = scene.place.path("other");
        scene.seal();
        assert_eq!(fs::metadata(&other).unwrap().mode() & 0o7777, 0, "{way:?}: it died too late");
        scene.place.restart();
        scene.check_link(&other);
        assert_eq!(scene.place.journal(), [""; 0], "{way:?}");
        seal_in_the_end(&scene.place, &[NAMES[0], NAMES[1], "other"]);
        for name in [NAMES[0], NAMES[1], "other"] {
            assert_eq!(open(&scene.place.path(name)).unwrap(), b"text", "{way:?}");
        }
    }
}

/// Whoever holds the file with `O_PATH` is stopped by the mode before the file has lost its name; also when nobody looks after
/// it any more. A restart gives mode and access control list back with the name.
#[test]
fn nobody_comes_in_once_the_mode_is_taken() {
    if !is_root() {
        return;
    }
    for grouped in [false, true] {
        let way = Way { grouped, wipe: Wipe::None, gate: false };
        let everybody = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        let opener: Arc<OnceLock<Mutex<Opener>>> = Arc::default();
        let coming = Arc::clone(&opener);
        let scene = Scene::new(way, |path| {
            everybody(path);
            assert!(opener.set(Mutex::new(Opener::nobody(path))).is_ok());
            Acts::default().before(Step::UnlinkDisplaced, move || {
                let mut opener = coming.get().unwrap().lock().unwrap();
                opener.come();
                assert_eq!(opener.said(), DENIED);
            })
        });
        let results = scene.seal();
        assert!(matches!(results[0], Ok(Outcome::Sealed(4))), "{grouped}: {results:?}");

        let mut scene = Scene::new(way, |path| {
            everybody(path);
            Acts::default().dying_after(Step::TakeMode)
        });
        let path = scene.place.path(NAMES[0]);
        let acl = acl();
        let set = rustix::fs::setxattr(&path, c"system.posix_acl_access", &acl, XattrFlags::empty());
        if let Err(errno) = set {
            crate::testing::skipped(format!("no access control lists here: {errno}"));
        }
        let mode = fs::metadata(&path).unwrap().mode();
        let mut opener = Opener::nobody(&path);
        scene.seal();
        opener.come();
        assert_eq!(opener.said(), DENIED, "{grouped}");
        scene.place.restart();
        assert_eq!(scene.place.journal(), [""; 0]);
        assert_eq!(fs::metadata(&path).unwrap().mode(), mode, "{grouped}");
        if set.is_ok() {
            let mut now = vec![0; 256];
            let length = rustix::fs::getxattr(&path, c"system.posix_acl_access", &mut now[..]).unwrap();
            assert_eq!(now[..length], acl);
        }
        opener.come();
        assert_eq!(opener.said(), WRITTEN, "{grouped}");
        assert_eq!(fs::read(&path).unwrap(), b"text + late");
        drop(File::open(format!("/proc/self/fd/{}", scene.resolved.as_raw_fd())).unwrap());
    }
}

/// An access control list by which everybody may write, and some user may not.
fn acl() -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permission, id) in
        [(1_u16, 6_u16, NONE), (2, 4, 4711), (4, 6, NONE), (0x10, 6, NONE), (0x20, 6, NONE)]
    {
        acl.extend([tag.to_le_bytes(), permission.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    acl
}

/// With the gate, whoever comes to a file of a group waits, root included, and is sent back to the name when the group is done,
/// and at any later time.
#[test]
fn late_openers_of_a_group_are_sent_back_to_the_names() {
    if let Err(error) = Gate::new() {
        return crate::testing::skipped(format!("late openers cannot be held up here: {error}"));
    }
    for step in [
        Step::CheckExchange,
        Step::SyncExchanged,
        Step::LeaseDisplaced,
        Step::CompareDisplaced,
        Step::TakeMode,
        Step::UnlinkDisplaced,
    ] {
        let way = Way { grouped: true, wipe: Wipe::None, gate: true };
        let opener: Arc<OnceLock<Mutex<Opener>>> = Arc::default();
        let coming = Arc::clone(&opener);
        let scene = Scene::new(way, |path| {
            assert!(opener.set(Mutex::new(Opener::new(path))).is_ok());
            Acts::default().before(step, move || coming.get().unwrap().lock().unwrap().come_and_wait())
        });
        let results = scene.seal();
        assert!(matches!(results[0], Ok(Outcome::Sealed(4))), "{step:?}: {results:?}");
        let mut opener = opener.get().unwrap().lock().unwrap();
        assert_eq!(opener.said(), AGAIN, "{step:?}");
        opener.come();
        assert_eq!(opener.said(), AGAIN, "{step:?}: later too");
        seal_in_the_end(&scene.place, &NAMES);
        for name in NAMES {
            assert_eq!(open(&scene.place.path(name)).unwrap(), b"text");
        }
        // And the next group.
        for name in NAMES {
            scene.place.write(name, "more");
        }
        seal_in_the_end(&scene.place, &NAMES);
        opener.come();
        assert_eq!(opener.said(), AGAIN, "{step:?}: later still");
    }
}

/// One of a group fails after the exchange and goes back under its name: who waited for it is let in and writes.
#[test]
fn late_openers_of_a_file_that_goes_back_are_let_in() {
    const EIO: i32 = 5;
    if let Err(error) = Gate::new() {
        return crate::testing::skipped(format!("late openers cannot be held up here: {error}"));
    }
    for step in [Step::CheckExchange, Step::SyncExchanged, Step::CompareDisplaced, Step::TakeMode] {
        let way = Way { grouped: true, wipe: Wipe::None, gate: true };
        let opener: Arc<OnceLock<Mutex<Opener>>> = Arc::default();
        let coming = Arc::clone(&opener);
        let scene = Scene::new(way, |path| {
            assert!(opener.set(Mutex::new(Opener::new(path))).is_ok());
            Acts::default()
                .before(step, move || coming.get().unwrap().lock().unwrap().come_and_wait())
                .failing(step, EIO)
        });
        let results = scene.seal();
        assert!(results[0].is_err(), "{step:?}: {results:?}");
        let mut opener = opener.get().unwrap().lock().unwrap();
        assert_eq!(opener.said(), WRITTEN, "{step:?}");
        seal_in_the_end(&scene.place, &NAMES);
        assert_eq!(open(&scene.place.path(NAMES[0])).unwrap(), b"text + late", "{step:?}");
        assert_eq!(open(&scene.place.path(NAMES[1])).unwrap(), b"text", "{step:?}");
    }
}

//! A file system that shut down in the middle: what it says yes to afterwards does not count.

use super::fixture::{PATIENCE, Place};
use crate::seal::durable;
use crate::seal::sealer::Outcome;
use crate::seal::step::{Fault, Faults, Safeguard, Step};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tempfile::TempDir;

fn command(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}

/// A file system in a file, mounted until it is dropped.
struct Disk {
    directory: TempDir,
}

impl Disk {
    fn new(kind: &str) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("not root: mounting".to_owned());
        }
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (image, point) = (place("image"), place("disk"));
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        // So small a file system of this kind is one for tests.
        let options: &[&str] = if kind == "xfs" { &["-q", "--unsupported"] } else { &["-q"] };
        command(&format!("mkfs.{kind}"), &[options, &[image.as_str()]].concat())?;
        command("xfs_io", &["-V"])?;
        fs::create_dir(&point).unwrap();
        command("mount", &["-t", kind, "-o", "loop", &image, &point])?;
        Ok(Self { directory })
    }

    fn point(&self) -> PathBuf {
        self.directory.path().join("disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = command("umount", &["--lazy", self.point().to_str().unwrap()]);
    }
}

/// What is not written yet is lost, as in a power cut.
fn shut_down(point: &Path) {
    command("xfs_io", &["-x", "-c", "shutdown", point.to_str().unwrap()]).unwrap();
}

/// The disk that a step finds shut down.
struct Cut {
    step: Step,
    point: PathBuf,
    done: AtomicBool,
}

impl Faults for Cut {
    fn before(&self, step: Step) -> Fault {
        if step == self.step && !self.done.swap(true, Ordering::SeqCst) {
            shut_down(&self.point);
        }
        Fault::None
    }
    fn after(&self, _: Step) -> Fault {
        Fault::None
    }
    fn without(&self, _: Safeguard) -> bool {
        false
    }
    fn spoil(&self, _: &File) {}
}

#[test]
fn a_disk_that_shut_down_makes_nothing_durable() {
    for kind in ["xfs", "ext4"] {
        let disk = match Disk::new(kind) {
            Ok(disk) => disk,
            Err(why) => return crate::testing::skipped(why),
        };
        let directory = disk.point().join("directory");
        fs::create_dir(&directory).unwrap();
        let (directory, file) = (File::open(&directory).unwrap(), File::create(directory.join("a")).unwrap());
        durable::sync(&directory).unwrap();
        durable::sync(&file).unwrap();
        durable::sync_disk(&directory).unwrap();
        shut_down(&disk.point());
        eprintln!("{kind}: fsync of a directory alone: {:?}", rustix::fs::fsync(&directory));
        assert!(durable::sync(&directory).is_err(), "{kind}");
        assert!(durable::sync(&file).is_err(), "{kind}");
        assert!(durable::sync_disk(&directory).is_err(), "{kind}");
    }
}

/// Nothing is reported as sealed that the next mount has as plaintext.
#[test]
fn what_a_disk_that_shut_down_said_yes_to_is_not_reported_as_sealed() {
    for kind in ["xfs", "ext4"] {
        for step in [Step::SyncExchanged, Step::UnlinkDisplaced, Step::SyncUnlink] {
            for grouped in [false, true] {
                let disk = match Disk::new(kind) {
                    Ok(disk) => disk,
                    Err(why) => return crate::testing::skipped(why),
                };
                let cut = Arc::new(Cut { step, point: disk.point(), done: AtomicBool::new(false) });
                let place = Place::below(&disk.point()).suffering(Arc::clone(&cut) as Arc<dyn Faults>);
                let names = [PathBuf::from("a.txt"), PathBuf::from("b.txt")];
                for name in &names {
                    drop(File::open(place.write(name, "text")).unwrap().sync_all());
                }
                let begin = Instant::now();
                loop {
                    // Other tests of this process start programs, and a child has all files open until its `exec`.
                    let results = if grouped {
                        place.sealer.seal_group(place.root(), &place.rule, &names)
                    } else {
                        vec![place.seal(&names[0])]
                    };
                    if cut.done.load(Ordering::SeqCst) {
                        let sealed = results.iter().any(|result| matches!(result, Ok(Outcome::Sealed(_))));
                        assert!(!sealed, "{kind} {step:?} {grouped}: {results:?}");
                        break;
                    }
                    assert!(begin.elapsed() < PATIENCE, "{kind} {step:?} {grouped}: not reached");
                }
            }
        }
    }
}

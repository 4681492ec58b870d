//! Both sources of events: what other programs do in a folder is heard of, and what was not heard of is found.
//!
//! The writers are other processes, because fanotify ignores what this one does.

use super::super::fanotify::Reader;
use super::super::inotify::Handler;
use super::super::source::{FolderWatch, Happened, Hint, Listener};
use super::*;
use crate::seal::FolderRoot;
use crossbeam_channel::{Receiver, bounded};
use notify::EventHandler as _;
use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use tobari_core::ids::FolderId;
use tobari_core::proto::control::EventSource;

/// Set in the process that is short of watches.
const SHORT_OF_WATCHES: &str = "TOBARI_TEST_SHORT_OF_WATCHES";

pub(super) use crate::testing::skipped as skip;

/// Whether fanotify can be used here; says so if not.
fn has_fanotify(directory: &Path) -> bool {
    let root = FolderRoot::open(directory).unwrap();
    let (hints, _receiver) = bounded(1);
    let watch =
        FolderWatch::start(Events::Fanotify, FolderId::from_bytes([0; 16]), &root, hints, Arc::default());
    if let Err(why) = &watch {
        skip(why);
    }
    watch.is_ok()
}

/// Sources that can be used here.
pub(super) fn sources() -> Vec<Events> {
    let directory = tempfile::tempdir().unwrap();
    let mut sources = vec![Events::Inotify];
    sources.extend(has_fanotify(directory.path()).then_some(Events::Fanotify));
    sources
}

pub(super) fn watched(events: Events, prepare: impl FnOnce(&Path)) -> Watched {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let engine = start(EngineSettings { events, ..settings() }, vec![rule(directory.path(), &[])]);
    let this = Watched { directory, engine };
    until("first sweep", || this.folder().swept_at.is_some());
    this.folder().watched.unwrap();
    let kind = if events == Events::Fanotify { EventSource::Fanotify } else { EventSource::Inotify };
    assert_eq!(this.folder().events, Some(kind));
    this
}

/// A Python program that runs in `directory`.
fn program(directory: &Path, text: &str) -> Child {
    Command::new("python3")
        .args(["-c", text])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed for this test")
}

fn run(directory: &Path, text: &str) {
    assert!(program(directory, text).wait().unwrap().success());
}

fn command(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).output().unwrap();
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn listener(directory: &Path, room: usize) -> (Listener, Receiver<Hint>) {
    let (hints, receiver) = bounded(room);
    let listener = Listener {
        folder: FolderId::from_bytes([1; 16]),
        top: directory.to_owned(),
        hints,
        rescan: Arc::default(),
        trouble: Arc::default(),
    };
    (listener, receiver)
}

/// On a memory file system where there is one: 60,000 directories take their time elsewhere.
fn fast_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

const BURST: &str = r#"
import os
for number in range(20000):
    path = f"{number % 100}/{number}/c"
    os.makedirs(path)
    with open(f"{path}/f", "w") as file:
        file.write("text")
"#;

#[test]
fn a_burst_in_new_directories_is_heard_whole() {
    let directory = fast_directory();
    if !has_fanotify(directory.path()) {
        return;
    }
    let root = FolderRoot::open(directory.path()).unwrap();
    let (hints, heard) = bounded(1 << 10);
    let rescan = Arc::new(AtomicBool::new(false));
    let id = FolderId::from_bytes([1; 16]);
    let watch = FolderWatch::start(Events::Fanotify, id, &root, hints, Arc::clone(&rescan)).unwrap();
    fs::write(directory.path().join("own.txt"), "text").unwrap();
    // Elsewhere on the same file system.
    let elsewhere = fast_directory();
    run(elsewhere.path(), "open('elsewhere.txt', 'w').write('text')");
    let mut writer = program(directory.path(), BURST);
    let mut written = HashSet::new();
    while written.len() < 20_000 {
        let hint = heard.recv_timeout(Duration::from_secs(60)).expect("all are heard");
        assert!(hint.path.ends_with("c/f"), "{hint:?}");
        if hint.happened == Happened::Written {
            written.insert(hint.path);
        }
    }
    assert!(writer.wait().unwrap().success());
    assert!(!rescan.load(Ordering::Acquire));
    assert_eq!(watch.trouble(), None);
    println!("heard of {} of 20000 files", written.len());
}

#[test]
fn a_full_queue_of_the_kernel_makes_a_sweep() {
    let directory = fast_directory();
    if !has_fanotify(directory.path()) {
        return;
    }
    let root = FolderRoot::open(directory.path()).unwrap();
    let (listener, heard) = listener(directory.path(), 1 << 17);
    let mut reader = Reader::test_only_limited(&root, listener.clone()).unwrap();
    run(directory.path(), BURST);
    reader.test_only_drain().unwrap();
    assert!(listener.rescan.load(Ordering::Acquire), "heard of {}", heard.len());
    assert_eq!(listener.trouble.get(), None);
}

#[test]
fn lost_inotify_events_make_a_sweep() {
    let (listener, _heard) = listener(Path::new("/nowhere"), 1);
    let mut handler = Handler { top: listener.top.clone(), listener: listener.clone() };
    let lost = notify::Event::new(notify::EventKind::Other).set_flag(notify::event::Flag::Rescan);
    handler.handle_event(Ok(lost));
    assert!(listener.rescan.swap(false, Ordering::AcqRel));
    handler.handle_event(Err(notify::Error::generic("x")));
    assert!(listener.rescan.swap(false, Ordering::AcqRel));
    assert_eq!(listener.trouble.get(), None);
    handler.handle_event(Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
    assert!(listener.rescan.swap(false, Ordering::AcqRel));
    assert!(listener.trouble.get().is_some());
}

/// Listens to nothing until it is let go.
struct Stalled {
    go_on: Receiver<()>,
    handler: Handler,
}

impl notify::EventHandler for Stalled {
    fn handle_event(&mut self, event: notify::Result<notify::Event>) {
        // An error at once, when there is nobody who could send any more.
        let _ = self.go_on.recv();
        self.handler.handle_event(event);
    }
}

/// The kernel's own queue, of the length that this machine has, which nobody reads for a while.
#[test]
fn a_full_queue_of_inotify_makes_a_sweep() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 200_000 {
        return skip("the kernel's queue for inotify is too long to be filled here");
    }
    let directory = fast_directory();
    let (listener, heard) = listener(directory.path(), 1 << 20);
    let handler = Handler { top: listener.top.clone(), listener: listener.clone() };
    let (let_go, go_on) = bounded(0);
    let mut watcher = notify::recommended_watcher(Stalled { go_on, handler }).unwrap();
    notify::Watcher::watch(&mut watcher, directory.path(), notify::RecursiveMode::Recursive).unwrap();
    // Each file is created, opened, written to and closed.
    let text =
        format!("for number in range({limit}):\n open(str(number), 'w').close()\nopen('last', 'w').close()");
    run(directory.path(), &text);
    assert!(!listener.rescan.load(Ordering::Acquire));
    drop(let_go);
    until("the overflow is heard of", || listener.rescan.load(Ordering::Acquire));
    assert!(heard.len() < 2 * limit, "all of it was heard");
    // It goes on hearing afterwards.
    let is_heard = || heard.try_iter().any(|hint| hint.path.ends_with("after"));
    until("it hears again", || {
        run(directory.path(), "open('after', 'w').close()");
        is_heard()
    });
    assert_eq!(listener.trouble.get(), None);
}

#[test]
fn directories_that_come_and_go_under_one_name_stay_watched() {
    for events in sources() {
        let folder = watched(events, |_| {});
        let swept = folder.folder().swept_at;
        let outside = tempfile::tempdir().unwrap();
        let away = outside.path().join("away").to_str().unwrap().to_owned();
        for round in 0..5 {
            let text = format!(
                "import os, shutil\nos.makedirs('d/e')\nopen('d/e/{round}', 'w').write('round {round}')\n"
            );
            run(folder.directory.path(), &text);
            folder.until_sealed(format!("d/e/{round}"), format!("round {round}").as_bytes());
            // Removed, or moved out of the folder: then what happens there is of no concern.
            let text = if round % 2 == 0 {
                String::from("import shutil\nshutil.rmtree('d')")
            } else {
                format!(
                    "import shutil\nshutil.move('d', '{away}{round}')\nopen('{away}{round}/e/out', 'w').write('out')"
                )
            };
            run(folder.directory.path(), &text);
        }
        for round in [1, 3] {
            assert_eq!(fs::read(format!("{away}{round}/e/out")).unwrap(), b"out");
        }
        assert_eq!(folder.folder().swept_at, swept, "{events:?}: without a sweep");
        assert!(folder.unsealed().is_empty());
    }
}

#[test]
fn directories_that_fill_before_they_are_watched_and_trees_that_are_moved_in() {
    for events in sources() {
        let folder = watched(events, |_| {});
        let swept = folder.folder().swept_at;
        run(
            folder.directory.path(),
            "import os\nfor n in range(60):\n os.makedirs(f'{n}/c/d')\n open(f'{n}/c/d/f', 'w').write(f'text {n}')",
        );
        for number in 0..60 {
            folder.until_sealed(format!("{number}/c/d/f"), format!("text {number}").as_bytes());
        }
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(outside.path().join("tree/deep/deeper")).unwrap();
        fs::write(outside.path().join("tree/deep/deeper/f"), "moved in").unwrap();
        let status = Command::new("mv").arg(outside.path().join("tree")).arg(folder.path("in")).status();
        assert!(status.unwrap().success());
        folder.until_sealed("in/deep/deeper/f", b"moved in");
        // Its directories are heard of under their new path.
        run(&folder.path("in/deep"), "open('deeper/g', 'w').write('later')");
        folder.until_sealed("in/deep/deeper/g", b"later");
        run(
            folder.directory.path(),
            "import os\nos.rename('in', 'renamed')\nopen('renamed/deep/h', 'w').write('even later')",
        );
        folder.until_sealed("renamed/deep/h", b"even later");
        assert_eq!(folder.folder().swept_at, swept, "{events:?}: without a sweep");
        until("nothing is plain", || folder.plain().is_empty());
    }
}

#[test]
fn a_mapped_file_is_sealed_when_it_is_unmapped() {
    for events in sources() {
        let folder = watched(events, |_| {});
        let mut writer = program(
            folder.directory.path(),
            "import mmap, os, sys\n\
             fd = os.open('map', os.O_RDWR | os.O_CREAT)\n\
             os.ftruncate(fd, 3000)\n\
             map = mmap.mmap(fd, 3000)\n\
             os.close(fd)\n\
             print('ready', flush=True)\n\
             sys.stdin.readline()\n\
             map[:] = b'x' * 3000\n\
             map.close()\n\
             sys.stdin.readline()\n",
        );
        let mut ready = [0; 6];
        std::io::Read::read_exact(writer.stdout.as_mut().unwrap(), &mut ready).unwrap();
        until("it is listed as in use", || {
            folder.unsealed().iter().any(|file| file.reason == UnsealedReason::InUse && file.tries > 1)
        });
        let status = folder.folder();
        assert!(status.plain >= 1 && status.plain_since.is_some(), "{status:?}");
        writer.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        folder.until_sealed("map", &[b'x'; 3000]);
        writer.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert!(writer.wait().unwrap().success());
    }
}

#[test]
fn a_file_renamed_over_a_sealed_one_is_sealed() {
    for events in sources() {
        let folder = watched(events, |path| fs::write(path.join("a.txt"), "first").unwrap());
        folder.until_sealed("a.txt", b"first");
        for version in 0..20 {
            let text =
                format!("open('new', 'w').write('version {version}'); import os; os.rename('new', 'a.txt')");
            run(folder.directory.path(), &text);
            folder.until_sealed("a.txt", format!("version {version}").as_bytes());
        }
        until("nothing is plain", || folder.plain().is_empty());
    }
}

#[test]
fn what_was_written_while_the_folder_was_unmounted_is_sealed() {
    if !rustix::process::geteuid().is_root() {
        return skip("not root: mounting");
    }
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (image, here, there) = (place("image"), place("here"), place("there"));
    File::create(&image).unwrap().set_len(32 << 20).unwrap();
    command("mkfs.ext4", &["-q", &image]);
    fs::create_dir(&here).unwrap();
    fs::create_dir(&there).unwrap();
    let device = command("losetup", &["--find", "--show", &image]);
    for events in sources() {
        command("mount", &[&device, &here]);
        let engine = start(EngineSettings { events, ..settings() }, vec![rule(Path::new(&here), &[])]);
        let file = |name: &str| Path::new(&here).join(name);
        let name = format!("{events:?}.txt");
        run(Path::new(&here), &format!("open('{name}', 'w').write('first')"));
        until("it is sealed", || is_sealed(&file(&name)));
        command("umount", &["--lazy", &here]);
        command("mount", &[&device, &there]);
        let late = format!("late {name}");
        run(Path::new(&there), &format!("open('{late}', 'w').write('late')"));
        command("mount", &[&device, &here]);
        until("it is sealed", || is_sealed(&file(&late)));
        assert_eq!(open(&file(&late)).unwrap(), b"late");
        // And events go on.
        let last = format!("last {name}");
        run(Path::new(&here), &format!("open('{last}', 'w').write('last')"));
        until("it is sealed", || is_sealed(&file(&last)));
        engine.stop();
        command("umount", &[&there]);
        command("umount", &[&here]);
    }
    command("losetup", &["--detach", &device]);
}

#[test]
fn without_watches_left_sweeps_find_everything() {
    if std::env::var_os(SHORT_OF_WATCHES).is_some() {
        return short_of_watches();
    }
    let (_, module) = module_path!().split_once("::").unwrap();
    let inner = format!("{module}::without_watches_left_sweeps_find_everything");
    let this = std::env::current_exe().unwrap();
    let script = r#"echo 10 > /proc/sys/user/max_inotify_watches && exec "$0" --exact "$1" --nocapture"#;
    let namespace = ["--user", "--map-root-user", "true"];
    if !Command::new("unshare").args(namespace).status().is_ok_and(|status| status.success()) {
        return skip("no user namespaces here");
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .args([this.as_os_str(), inner.as_ref()])
        .env(SHORT_OF_WATCHES, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn short_of_watches() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..20 {
        fs::create_dir(directory.path().join(number.to_string())).unwrap();
    }
    // No privilege in here, so this is inotify.
    let settings =
        EngineSettings { events: Events::Auto, sweep_interval: Duration::from_secs(2), ..settings() };
    let engine = start(settings, vec![rule(directory.path(), &[])]);
    let folder = Watched { directory, engine };
    until("it says so", || folder.folder().watched.is_err_and(|why| why.contains("sweeps only")));
    for number in 0..20 {
        fs::write(folder.path(format!("{number}/f")), "text").unwrap();
    }
    for number in 0..20 {
        folder.until_sealed(format!("{number}/f"), b"text");
    }
    assert!(folder.folder().swept_at.is_some());
}

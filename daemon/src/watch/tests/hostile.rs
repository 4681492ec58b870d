//! A user who does all that the rights on a folder allow to mislead the sealer: other processes, under another user id, that swap
//! files, directories, links and the control directory without pause while the engine seals as root.
//!
//! Witnesses: inotify on what lies outside and on device nodes, a writer that waits for somebody to open a FIFO, and a look at
//! owners all the time. Meanwhile root, as a security tool might, makes files immutable and mutable again. `TOBARI_HOSTILE_SWAPS` makes the
//! run as long as wanted, `TOBARI_HOSTILE_PLACE` says on which file system, `TOBARI_HOSTILE_EVENTS` with which source of events alone
//! (tests/hostile/run.sh).

use super::sources::{skip, sources};
use super::*;
use crate::seal::root::test_only::walk_by_path;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{
    AtFlags, Gid, IFlags, OFlags, RenameFlags, ResolveFlags, Uid, XattrFlags, chown, ioctl_getflags,
    ioctl_setflags, linkat, mknodat, openat, openat2, renameat_with, setxattr,
};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Base of the run in the processes of the user.
const BASE: &str = "TOBARI_TEST_HOSTILE_BASE";
const SEED: &str = "TOBARI_TEST_HOSTILE_SEED";
const COUNT: &str = "TOBARI_TEST_HOSTILE_COUNT";
/// Swaps of the whole run, for the long one.
const SWAPS: &str = "TOBARI_HOSTILE_SWAPS";

/// Where it is done.
const PLACE: &str = "TOBARI_HOSTILE_PLACE";
/// `fanotify` or `inotify`: that alone.
const EVENTS: &str = "TOBARI_HOSTILE_EVENTS";

const USER: u32 = 15001;
const VICTIM: u32 = 15002;
/// A group that the user is in too.
const TEAM: u32 = 15003;
const PROCESSES: u64 = 3;
/// All that the user writes has this length, so that two writers of one file cannot make a third content.
const LENGTH: usize = 3000;
const CANARY: &str = "CANARY of somebody else";
/// What the user makes of the mode of a file. With an access control list the group's bits are its mask.
const MODES: [u32; 5] = [0o600, 0o640, 0o400, 0o664, 0o4600];
const ATTRIBUTE: &str = "user.hostile";
const LIST: &str = "system.posix_acl_access";
/// Files that a process of the user keeps by descriptors that opened nothing.
const HELD: usize = 8;

#[test]
fn a_hostile_user_gains_nothing_by_fanotify() {
    gains_nothing(Events::Fanotify, "fanotify");
}

#[test]
fn a_hostile_user_gains_nothing_by_inotify() {
    gains_nothing(Events::Inotify, "inotify");
}

fn gains_nothing(events: Events, name: &str) {
    if std::env::var(EVENTS).is_ok_and(|wanted| wanted != name) || !sources().contains(&events) {
        return;
    }
    let swaps = std::env::var(SWAPS).map_or(12_000, |swaps| swaps.parse().unwrap());
    let Some((done, violations)) = run(swaps, events, false) else { return };
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(done >= swaps, "only {done} swaps");
}

/// Negative control: a sealer that walks by path, through links, is caught.
#[test]
fn a_sealer_that_walks_by_path_is_caught() {
    let Some((_, violations)) = run(12_000, Events::Inotify, true) else { return };
    assert!(violations.iter().any(|violation| violation.contains("outside")), "{violations:?}");
}

/// The user; runs in a process of its own.
#[test]
#[ignore = "a part of the tests above"]
fn be_the_hostile_user() {
    let Some(base) = std::env::var_os(BASE) else { return };
    let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    set_thread_groups(&[Gid::from_raw(TEAM)]).unwrap();
    set_thread_res_gid(group, group, group).unwrap();
    set_thread_res_uid(user, user, user).unwrap();
    let mut hostile = Hostile {
        top: Path::new(&base).join("top"),
        own: Path::new(&base).join("own"),
        outside: Path::new(&base).join("outside"),
        seed: number(SEED),
        random: number(SEED).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        made: 0,
        swaps: 0,
        held: Vec::new(),
    };
    hostile.wait_at_fifos();
    let wanted = number(COUNT);
    while hostile.swaps < wanted {
        hostile.act();
        std::thread::sleep(Duration::from_micros(100));
    }
    println!("SWAPS {}", hostile.swaps);
}

struct Hostile {
    top: PathBuf,
    own: PathBuf,
    outside: PathBuf,
    seed: u64,
    random: u64,
    made: u64,
    swaps: u64,
    held: Vec<OwnedFd>,
}

impl Hostile {
    fn roll(&mut self, sides: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % sides
    }

    fn count<T, E>(&mut self, result: Result<T, E>) {
        self.swaps += u64::from(result.is_ok());
    }

    fn directory(&mut self) -> PathBuf {
        let mut path = self.top.clone();
        for _ in 0..self.roll(3) {
            path.push(format!("d{}", self.roll(5)));
        }
        path
    }

    fn name(&mut self) -> PathBuf {
        let name = match self.roll(14) {
            0 => OsString::from("new\nline \u{1b}[31m"),
            1 => OsString::from_vec(vec![0xff, 0xfe, b'x', 0x80]),
            2 => OsString::from("n".repeat(255)),
            3..=5 => OsString::from(format!("d{}", self.roll(5))),
            _ => OsString::from(format!("f{}", self.roll(8))),
        };
        self.directory().join(name)
    }

    /// A name that nobody else uses.
    fn fresh(&mut self, directory: &Path) -> PathBuf {
        self.made += 1;
        directory.join(format!("t{}-{}", self.seed, self.made))
    }

    fn rename(&mut self, from: &Path, to: &Path, flags: RenameFlags) {
        self.count(renameat_with(CWD, from, CWD, to, flags));
    }

    fn act(&mut self) {
        let (path, other) = (self.name(), self.name());
        match self.roll(46) {
            0..10 => {
                let directory = self.directory();
                let fresh = self.fresh(&directory);
                let content = content(self.seed, self.made);
                let _ = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o640)
                    .open(&fresh)
                    .and_then(|mut file| file.write_all(&content));
                self.rename(&fresh, &path, RenameFlags::empty());
                let _ = fs::remove_file(&fresh);
            }
            10..16 => self.rename(&path, &other, RenameFlags::EXCHANGE),
            16..19 => self.rename(&path, &other, RenameFlags::empty()),
            19..23 => {
                // A directory of the folder for one outside, or for a link to one, and back.
                let own = {
                    let number = self.roll(6);
                    self.own.join(format!("k{number}"))
                };
                let directory = {
                    let number = self.roll(5);
                    self.top.join(format!("d{number}"))
                };
                self.rename(&directory, &own, RenameFlags::EXCHANGE);
            }
            23 | 24 => {
                let target = match self.roll(4) {
                    0 => self.outside.clone(),
                    1 => PathBuf::from("/dev/zero"),
                    2 => PathBuf::from(CONTROL),
                    _ => {
                        let number = self.roll(8);
                        self.outside.join(format!("f{number}"))
                    }
                };
                let fresh = self.fresh(&self.top.clone());
                let _ = symlink(target, &fresh);
                self.rename(&fresh, &path, RenameFlags::empty());
                let _ = fs::remove_file(&fresh);
            }
            25 => {
                let fresh = self.fresh(&self.top.clone());
                let _ = mknodat(CWD, &fresh, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
                self.rename(&fresh, &path, RenameFlags::empty());
                let _ = fs::remove_file(&fresh);
            }
            26 => {
                let fresh = self.fresh(&self.top.clone());
                let listener = UnixListener::bind(&fresh);
                self.rename(&fresh, &path, RenameFlags::empty());
                drop(listener);
                let _ = fs::remove_file(&fresh);
            }
            27..=29 => self.rewrite(&path),
            30 | 31 => self.count(fs::remove_file(&path)),
            32 if is_users(&path) => self.count(fs::hard_link(&path, &other)),
            33 | 34 => self.count(fs::create_dir(&path)),
            35 => {
                let mut deep = self.fresh(&self.top.clone());
                let start = deep.clone();
                for _ in 0..40 {
                    let _ = fs::create_dir(&deep);
                    deep.push("d0");
                }
                self.rename(&start, &path, RenameFlags::empty());
                let _ = fs::remove_dir_all(&start);
            }
            36 if is_users(&path) => {
                let mode = MODES[self.roll(MODES.len() as u64) as usize];
                self.count(fs::set_permissions(&path, PermissionsExt::from_mode(mode)));
            }
            37 if is_users(&path) => self.count(chown(&path, None, Some(Gid::from_raw(TEAM)))),
            38 => self.count(fs::remove_dir(&path)),
            32 | 36 | 37 => {}
            40 | 41 => self.hold(&path),
            42 | 43 => self.link_held(&other),
            44 if is_users(&path) => self.change_attributes(&path),
            45 if is_users(&path) => self.flip_flags(&path),
            44 | 45 => {}
            _ => match self.roll(300) {
                0 => self.attack_control(),
                // What was put in the place of the control directory goes away in time.
                1..100 => {
                    let control = self.top.join(CONTROL);
                    if control.symlink_metadata().is_ok_and(|found| found.uid() == USER) {
                        let gone = self.fresh(&self.own.clone());
                        self.rename(&control, &gone, RenameFlags::empty());
                    }
                }
                _ => {}
            },
        }
    }

    /// Opens by `O_PATH` first and for writing later, as smbd does; waits for leases.
    fn rewrite(&mut self, path: &Path) {
        self.made += 1;
        let content = content(self.seed, self.made);
        let Ok(found) = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) else { return };
        let through = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
        let Ok(kind) = fs::metadata(&through).map(|found| found.file_type()) else { return };
        if kind.is_fifo() {
            // There is a reader.
            let flags = OFlags::WRONLY | OFlags::NONBLOCK;
            if !matches!(openat(CWD, &through, flags, Mode::empty()), Err(Errno::NXIO | Errno::ACCESS)) {
                println!("VIOLATION a FIFO was opened: {path:?}");
            }
        } else if kind.is_file() {
            let opened = fs::OpenOptions::new().write(true).truncate(true).open(&through);
            self.count(opened.and_then(|mut file| file.write_all(&content)));
        }
    }

    /// Keeps a file without opening it, to give it another name when the sealer has displaced it.
    fn hold(&mut self, path: &Path) {
        let Ok(found) = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) else { return };
        if self.held.len() >= HELD {
            let oldest = self.roll(HELD as u64) as usize;
            self.held.swap_remove(oldest);
        }
        self.held.push(found);
    }

    fn link_held(&mut self, name: &Path) {
        if self.held.is_empty() {
            return;
        }
        let number = self.roll(self.held.len() as u64) as usize;
        let through = format!("/proc/self/fd/{}", self.held[number].as_raw_fd());
        self.count(linkat(CWD, through.as_str(), CWD, name, AtFlags::SYMLINK_FOLLOW));
    }

    /// An attribute, or an access control list: another user may read.
    fn change_attributes(&mut self, path: &Path) {
        if self.roll(2) == 0 {
            let text = format!("{} {}", self.seed, self.made);
            let value = format!("{text} {}", sum(text.as_bytes()));
            self.count(setxattr(path, ATTRIBUTE, value.as_bytes(), XattrFlags::empty()));
        } else {
            self.count(setxattr(path, LIST, &access_list(), XattrFlags::empty()));
        }
    }

    /// What `chattr` lets an owner change.
    fn flip_flags(&mut self, path: &Path) {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let Ok(file) = openat(CWD, path, flags, Mode::empty()) else { return };
        let flag = [IFlags::NODUMP, IFlags::NOATIME, IFlags::SYNC][self.roll(3) as usize];
        self.count(ioctl_getflags(&file).and_then(|flags| ioctl_setflags(&file, flags ^ flag)));
    }

    /// Renames the control directory, and puts something in its place.
    fn attack_control(&mut self) {
        let control = self.top.join(CONTROL);
        let elsewhere = {
            let number = self.roll(5);
            self.top.join(format!("d{number}"))
        };
        match self.roll(6) {
            0 => self.rename(&control, &elsewhere, RenameFlags::EXCHANGE),
            1 => self.count(fs::remove_dir(&control)),
            n => {
                let away = self.fresh(&self.top.clone());
                self.rename(&control, &away, RenameFlags::NOREPLACE);
                let _ = match n {
                    2 => symlink(&self.outside, &control),
                    3 => fs::create_dir(&control),
                    4 => mknodat(CWD, &control, FileType::Fifo, Mode::RUSR, 0).map_err(Into::into),
                    _ => Ok(()),
                };
            }
        }
    }

    /// Threads that say so when anybody opens one of their FIFOs.
    fn wait_at_fifos(&mut self) {
        for number in 0..4 {
            let fifo = self.top.join(format!("fifo{}-{number}", self.seed));
            mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            let held = openat(CWD, &fifo, OFlags::PATH, Mode::empty()).unwrap();
            // Into the turmoil.
            let _ = fs::rename(&fifo, self.name());
            std::thread::spawn(move || {
                let through = format!("/proc/self/fd/{}", held.as_raw_fd());
                if openat(CWD, through.as_str(), OFlags::WRONLY, Mode::empty()).is_ok() {
                    println!("VIOLATION a FIFO was opened");
                }
            });
        }
    }
}

fn is_users(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file() && found.uid() == USER)
}

/// user::rw-, user:VICTIM:r--, group::r--, mask::r--, other::---
fn access_list() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    let nobody = u32::MAX;
    for (tag, rights, who) in
        [(1_u16, 6_u16, nobody), (2, 4, VICTIM), (4, 4, nobody), (16, 4, nobody), (32, 0, nobody)]
    {
        bytes.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
        bytes.extend(who.to_le_bytes());
    }
    bytes
}

/// Makes files of the user immutable, and mutable again after a while; ends with none that is not. Only those of the user, beneath
/// the folder, so that the witnesses hear of the sealer alone.
fn flip_immutable(base: &Path, ended: &AtomicBool) {
    let top = openat(CWD, base.join("top"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut number = 0_usize;
    while !ended.load(Ordering::Relaxed) {
        number += 1;
        let name = [format!("f{}", number % 8), format!("d{}/f{}", number % 5, number % 7)];
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let found =
            openat2(&top, name[number % 2].as_str(), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty(), beneath);
        if let Ok(found) = found {
            let path = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
            set_immutable(&path, true);
            std::thread::sleep(Duration::from_millis(3));
            set_immutable(&path, false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Of a regular file of the user.
fn set_immutable(path: &Path, wanted: bool) {
    // Not a device or pipe, which hear of it; not somebody else's that was linked here.
    if !fs::metadata(path).is_ok_and(|found| found.is_file() && found.uid() == USER) {
        return;
    }
    let Ok(file) = openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) else { return };
    if let Ok(flags) = ioctl_getflags(&file) {
        let _ =
            ioctl_setflags(&file, if wanted { flags | IFlags::IMMUTABLE } else { flags - IFlags::IMMUTABLE });
    }
}

/// Content that says of itself whether it is whole.
fn content(seed: u64, number: u64) -> Vec<u8> {
    let mut text = format!("hostile {seed} {number} ");
    while text.len() < LENGTH - 16 {
        text.push_str(&format!("{} ", text.len()));
    }
    text.truncate(LENGTH - 16);
    let sum = sum(text.as_bytes());
    text.push_str(&sum);
    text.into_bytes()
}

fn is_whole(content: &[u8]) -> bool {
    content.is_empty()
        || (content.len() == LENGTH
            && content.starts_with(b"hostile ")
            && sum(&content[..LENGTH - 16]).as_bytes() == &content[LENGTH - 16..])
}

fn sum(bytes: &[u8]) -> String {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    format!("{sum:016x}")
}

/// Lets the user at a folder for so many swaps; how many there were and what should not have happened.
fn run(swaps: u64, events: Events, by_path: bool) -> Option<(u64, Vec<String>)> {
    if !rustix::process::geteuid().is_root() {
        skip("a hostile user needs root, to be somebody else");
        return None;
    }
    // In memory where there is such a place: swaps are many times faster there.
    let place = std::env::var_os(PLACE).map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let base = tempfile::tempdir_in(place).or_else(|_| tempfile::tempdir()).unwrap();
    let begin = Instant::now();
    let outside = prepare(base.path());
    let top = base.path().join("top");
    if by_path {
        walk_by_path(&top);
    }
    let settings = EngineSettings {
        events,
        retry_max: Duration::from_millis(500),
        sweep_interval: Duration::from_secs(2),
        ..settings()
    };
    let engine = start(settings, vec![rule(&top, &[])]);
    until("first sweep", || engine.status().0[0].swept_at.is_some());
    let witness = witness(&outside);

    let ended = Arc::new(AtomicBool::new(false));
    let flipper = {
        let (base, ended) = (base.path().to_owned(), Arc::clone(&ended));
        std::thread::spawn(move || flip_immutable(&base, &ended))
    };
    let mut violations = Vec::new();
    let mut users: Vec<Child> =
        (1..=PROCESSES).map(|seed| user(base.path(), seed, swaps.div_ceil(PROCESSES))).collect();
    while users.iter_mut().any(|user| user.try_wait().unwrap().is_none()) {
        look_at_owners(&top, &mut violations);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut done = 0;
    for user in users {
        let output = String::from_utf8(user.wait_with_output().unwrap().stdout).unwrap();
        for line in output.lines() {
            if let Some(count) = line.strip_prefix("SWAPS ") {
                done += count.parse::<u64>().unwrap();
            }
            violations.extend(line.contains("VIOLATION").then(|| line.to_owned()));
        }
    }

    ended.store(true, Ordering::Relaxed);
    flipper.join().unwrap();

    // Peace: what stands in the place of the control directory goes, and all is sealed.
    let control = top.join(CONTROL);
    if control.symlink_metadata().is_ok_and(|found| found.uid() != 0) {
        fs::rename(&control, base.path().join("own/last")).unwrap();
    }
    if !by_path {
        let peace = Instant::now();
        while let Some(plain) = first_plain(&top) {
            if peace.elapsed() > 3 * PATIENCE {
                violations.push(format!("{plain:?} is not sealed: {:?}", engine.status()));
                break;
            }
            engine.sweep_now();
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    let status = engine.status().0.remove(0);
    let (sealed, source) = (status.sealed, status.events);
    println!("{done} swaps, {sealed} files sealed in {:?}; events by {source:?}", begin.elapsed());
    engine.stop();
    if !by_path {
        let left: Vec<_> = fs::read_dir(&control).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        violations.extend((!left.is_empty()).then(|| format!("left in the journal: {left:?}")));
    }
    look_at_outside(&outside, &witness, events, &mut violations);
    for tree in [&top, &base.path().join("own")] {
        look_at_contents(tree, &mut violations);
    }
    Some((done, violations))
}

/// The folder, what is the user's own beside it, and what is somebody else's; paths of the latter.
fn prepare(base: &Path) -> Vec<PathBuf> {
    fs::set_permissions(base, PermissionsExt::from_mode(0o755)).unwrap();
    let give = |path: &Path, uid| chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).unwrap();
    for (name, uid) in [("top", USER), ("own", USER), ("outside", VICTIM)] {
        fs::create_dir(base.join(name)).unwrap();
        give(&base.join(name), uid);
    }
    let outside = base.join("outside");
    let mut all = vec![outside.clone()];
    // Under the names that the user's own files have, so that a swapped directory leads to them.
    for name in (0..8).map(|number| format!("f{number}")).chain(["d0", "d1"].map(String::from)) {
        let path = outside.join(&name);
        if name.starts_with('f') {
            fs::write(&path, format!("{CANARY}: {name}")).unwrap();
        } else {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("f0"), CANARY).unwrap();
            give(&path.join("f0"), VICTIM);
            all.push(path.join("f0"));
        }
        give(&path, VICTIM);
        all.push(path);
    }
    for number in 0..6 {
        let own = base.join(format!("own/k{number}"));
        if number < 4 {
            symlink(&outside, &own).unwrap();
            lchown(&own, Some(USER), Some(USER)).unwrap();
        } else {
            fs::create_dir(&own).unwrap();
            give(&own, USER);
        }
        let directory = base.join(format!("top/d{number}"));
        fs::create_dir(&directory).unwrap();
        give(&directory, USER);
    }
    // Somebody else's files under a second name in the folder, as where fs.protected_hardlinks is 0.
    let linked = outside.join("linked");
    fs::create_dir(&linked).unwrap();
    for number in 0..4 {
        let path = linked.join(format!("l{number}"));
        fs::write(&path, CANARY).unwrap();
        give(&path, VICTIM);
        fs::hard_link(&path, base.join(format!("top/f{number}"))).unwrap();
    }
    let device = base.join("top/f7");
    mknodat(CWD, &device, FileType::CharacterDevice, Mode::from_raw_mode(0o666), rustix::fs::makedev(1, 3))
        .unwrap();
    all.push(device);
    all
}

/// An inotify instance that hears of everything that is done to `paths`.
fn witness(paths: &[PathBuf]) -> (OwnedFd, Vec<(i32, PathBuf)>) {
    let inotify = inotify::init(CreateFlags::NONBLOCK).unwrap();
    let all = WatchFlags::ALL_EVENTS
        .difference(WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF);
    let watches = paths
        .iter()
        .map(|path| {
            // The user moves and removes the device; nobody but the sealer could do anything to the rest.
            let is_device = path.symlink_metadata().unwrap().file_type().is_char_device();
            let events = if is_device { all } else { WatchFlags::ALL_EVENTS };
            (inotify::add_watch(&inotify, path, events).unwrap(), path.clone())
        })
        .collect();
    (inotify, watches)
}

fn look_at_outside(
    outside: &[PathBuf],
    (inotify, watches): &(OwnedFd, Vec<(i32, PathBuf)>),
    source: Events,
    violations: &mut Vec<String>,
) {
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    while let Ok(event) = reader.next() {
        let Some((_, path)) = watches.iter().find(|(watch, _)| *watch == event.wd()) else { continue };
        // By inotify, watches are set by path, for which directories are listed.
        let listing = inotify::ReadFlags::ISDIR
            | inotify::ReadFlags::OPEN
            | inotify::ReadFlags::ACCESS
            | inotify::ReadFlags::CLOSE_NOWRITE;
        let is_listing = source == Events::Inotify
            && event.events().contains(inotify::ReadFlags::ISDIR)
            && listing.contains(event.events());
        if !event.events().contains(inotify::ReadFlags::IGNORED) && !is_listing {
            violations.push(format!("outside: {:?} of {path:?} {:?}", event.events(), event.file_name()));
        }
    }
    let linked: Vec<PathBuf> = (0..4).map(|number| outside[0].join(format!("linked/l{number}"))).collect();
    for path in outside.iter().chain(&linked).filter(|path| path.starts_with(&outside[0])) {
        let found = path.symlink_metadata().unwrap();
        let is_theirs = (found.uid(), found.gid()) == (VICTIM, VICTIM)
            && (found.is_dir() || fs::read(path).unwrap().starts_with(CANARY.as_bytes()));
        violations.extend((!is_theirs).then(|| format!("outside: {path:?} changed")));
    }
}

fn user(base: &Path, seed: u64, swaps: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "watch::tests::hostile::be_the_hostile_user", "--ignored", "--nocapture"])
        .env(BASE, base)
        .env(SEED, seed.to_string())
        .env(COUNT, swaps.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Everything below `directory`, without following links; what vanishes meanwhile is left out.
fn tree(directory: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let mut waiting = vec![directory.to_owned()];
    let mut all = Vec::new();
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(found) = path.symlink_metadata() else { continue };
            // A directory that is swapped for a link in this instant leads outside once; that is no harm here.
            if found.is_dir() {
                waiting.push(path.clone());
            }
            all.push((path, found));
        }
    }
    all
}

/// Whose the files are, those in the journal included, at any time.
fn look_at_owners(top: &Path, violations: &mut Vec<String>) {
    // Not through the link that the user may have put there.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let Ok(control) = openat(CWD, top.join(CONTROL), flags, Mode::empty()) else { return };
    let Ok(entries) = fs::read_dir(format!("/proc/self/fd/{}", control.as_raw_fd())) else { return };
    for path in
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension() == Some("data".as_ref()))
    {
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.is_file() && found.uid() == 0 && found.len() > 0 {
            violations.push(format!("root's quota pays for {path:?}"));
        }
    }
}

fn first_plain(top: &Path) -> Option<PathBuf> {
    let ours = tree(top).into_iter().filter(|(_, found)| found.is_file() && found.nlink() == 1);
    ours.map(|(path, _)| path).find(|path| path.parent() != Some(&top.join(CONTROL)) && !is_sealed(path))
}

fn look_at_contents(top: &Path, violations: &mut Vec<String>) {
    for (path, found) in tree(top) {
        let theirs = found.nlink() > 1 && found.uid() == VICTIM;
        let is_device = found.file_type().is_char_device();
        let is_control = found.uid() == 0 && path == top.join(CONTROL);
        if found.uid() != USER && !theirs && !is_device && !is_control {
            let kind = found.file_type();
            violations.push(format!("{path:?}, {kind:?}, belongs to {}", found.uid()));
        }
        if !found.is_file() || theirs {
            continue;
        }
        // Writing takes the bit away that a process gets its owner's rights by.
        let mode = found.mode() & 0o7777;
        if ![USER, TEAM].contains(&found.gid()) || mode & 0o400 == 0 || mode & !0o4664 != 0 {
            violations.push(format!("{path:?} has group {} and mode {mode:o}", found.gid()));
        }
        look_at_attributes(&path, violations);
        let content = if is_sealed(&path) { open(&path) } else { fs::read(&path).ok() };
        if !content.as_deref().is_some_and(is_whole) {
            violations.push(format!("{path:?} is neither what the user wrote nor an envelope of it"));
        }
    }
}

/// Attributes of a file are those that the user set.
fn look_at_attributes(path: &Path, violations: &mut Vec<String>) {
    let read = |name: &str| {
        let mut value = [0; 256];
        let length = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
        Some(value[..length].to_vec())
    };
    if let Some(value) = read(ATTRIBUTE) {
        let text = String::from_utf8_lossy(&value).into_owned();
        let is_whole = text.rsplit_once(' ').is_some_and(|(text, found)| sum(text.as_bytes()) == found);
        violations.extend((!is_whole).then(|| format!("{path:?} has the attribute {text:?}")));
    }
    if let Some(list) = read(LIST) {
        // Modes that the user gives change the owner's, the mask's and the others' entries; nobody else is let in.
        let mut named = list.get(4..).unwrap_or_default().chunks_exact(8).filter(|entry| entry[0] == 2);
        let is_theirs = named.all(|entry| entry[4..] == VICTIM.to_le_bytes() && entry[2] == 4);
        violations.extend((!is_theirs).then(|| format!("{path:?} has the list {list:?}")));
    }
}

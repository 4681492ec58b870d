//! A designated folder, held by descriptors: everything in it is reached from here, beneath here, without
//! following a symbolic link and without leaving the file system.
//!
//! The control directory `.tobari` at its top is ours alone (0700): envelopes in the making and
//! the journal lie there, on the same file system as the files, out of users' sight.

use super::durable::sync;
use super::exchange::Exchange;
use super::facts::Facts;
use super::journal::{self, ExchangeId};
use super::stop::Stop;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags, fchmod,
    fgetxattr, flock, fremovexattr, fsetxattr, fstatfs, fstatvfs, mkdirat, openat, openat2, readlinkat,
    renameat_with, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::proto::control::UnsealedReason;

/// Name of the control directory at the top of each designated folder.
pub const CONTROL: &str = ".tobari";

/// Name of the directory in it where the journals of files that are open in views lie (docs/spec/envelope.md, "Journal").
pub(crate) const JOURNALS: &str = "view";

/// How former control directories are called while their content is taken in.
const STRAY: &str = "stray-";

/// Extended attribute of a control directory, which only its owner can set: an empty one is known by it under another name.
const MARK: &CStr = c"user.tobari.control";

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_MAGICLINKS);

/// File systems on which leases, and so the whole protocol, do not see what other hosts do.
const REMOTE: [(u32, &str); 12] = [
    (0x0000_6969, "NFS"),
    (0x0000_517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];

/// Most exchanges of one folder that wait for users of the files. Each holds descriptors, so a user who could make more of them
/// could leave none for other folders.
const CROWD: usize = 64;

/// Why a folder cannot be worked on now.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The path is not absolute, or is the root of the system.
    #[error("{0:?} is not a folder that can be designated: an absolute path below the root is needed")]
    BadPath(PathBuf),
    /// It cannot be opened.
    #[error("cannot open the folder: {0}")]
    Open(#[source] Errno),
    /// The path leads through a symbolic link.
    #[error("the folder's path leads through a symbolic link; give its real path")]
    Symlink,
    /// A network file system.
    #[error(
        "the folder lies on {0}, where writers on other hosts cannot be seen; run the daemon on the host that stores it"
    )]
    Remote(&'static str),
    /// `.tobari` is not ours.
    #[error("{CONTROL} in the folder is not a directory of the daemon: {0}; remove it")]
    ForeignControl(&'static str),
    /// `.tobari` cannot be made or opened.
    #[error("cannot prepare {CONTROL} in the folder: {0}")]
    Control(#[source] Errno),
    /// Another daemon works on it.
    #[error("another daemon works on this folder")]
    Locked,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folder at `path` and its control directory, beside whoever seals in it.
///
/// # Errors
/// As [`FolderRoot::open`], but never [`FolderError::Locked`].
pub(crate) fn open_shared(path: &Path) -> Result<(OwnedFd, OwnedFd), FolderError> {
    let top = open_top(path)?;
    let (control, _) = open_control(&top, false)?;
    Ok((top, control))
}

fn open_top(path: &Path) -> Result<OwnedFd, FolderError> {
    if !path.is_absolute() || path.parent().is_none() {
        return Err(FolderError::BadPath(path.to_owned()));
    }
    let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let top = openat2(CWD, path, DIRECTORY, Mode::empty(), no_links).map_err(|errno| match errno {
        Errno::LOOP => FolderError::Symlink,
        errno => FolderError::Open(errno),
    })?;
    refuse_remote(&top)?;
    Ok(top)
}

/// A directory, and the path by which it was opened.
pub(crate) type Parent = (PathBuf, Arc<OwnedFd>);

/// An open designated folder.
#[derive(Debug)]
pub struct FolderRoot {
    path: PathBuf,
    top: OwnedFd,
    control: OwnedFd,
    facts: Facts,
    control_facts: Facts,
    /// It has to be opened anew.
    lost: AtomicBool,
    pending: Mutex<Vec<Exchange>>,
    #[cfg(test)]
    by_path: bool,
}

impl FolderRoot {
    /// Opens the folder at `path` and its control directory, making that where it is missing.
    ///
    /// # Errors
    /// When the folder is missing, remote, or its control directory is somebody else's.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let top = open_top(path)?;
        let facts = Facts::of(&top).map_err(FolderError::Open)?;
        let (control, control_facts) = open_control(&top, true)?;
        adopt_strays(&top, &control)?;
        Ok(Self {
            path: path.to_owned(),
            top,
            control,
            facts,
            control_facts,
            lost: AtomicBool::new(false),
            pending: Mutex::default(),
            #[cfg(test)]
            by_path: test_only::is_by_path(path),
        })
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads here and the control directory is still in its place. Never waits: a user may have mounted
    /// something there that does not answer.
    pub fn is_in_place(&self) -> bool {
        // Somebody who renames may make the kernel unsure for a moment.
        let now = (0..3).find_map(|_| match Facts::known(&self.path) {
            Err(Errno::AGAIN) => None,
            known => Some(known),
        });
        let here = match now {
            Some(now) => now.is_ok_and(|now| now.same_file(&self.facts)),
            // On the way there is a file system that the kernel would have to ask each time: as the kernel calls what is held. What was
            // mounted over it is not seen like this.
            None => self.is_called_so(),
        };
        here && self.control_is_in_place()
    }

    /// Whether what is held has its path still, by the kernel's own memory of names.
    pub(crate) fn is_called_so(&self) -> bool {
        let link = format!("/proc/self/fd/{}", self.top.as_raw_fd());
        readlinkat(CWD, link, Vec::new())
            .is_ok_and(|name| Path::new(OsStr::from_bytes(name.to_bytes())) == self.path)
    }

    /// Nothing new is begun here from now on, and walks end: the folder is opened anew, which the lock allows only once this
    /// one is closed.
    pub(crate) fn give_up(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Whether it was given up, or its control directory was found missing or replaced.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Fails unless the control directory is ours alone and in its place. To be asked before each use of it: whoever may write to
    /// the top may rename it and put something of their own there. What is under way goes on in the held directory,
    /// which nobody else can enter.
    pub(crate) fn check_control(&self) -> Result<(), Stop> {
        let ours = Facts::of(&self.control)
            .is_ok_and(|now| is_ours(&now) && now.links > 0 && now.mode & 0o777 == 0o700);
        if ours && !self.is_lost() && self.control_is_in_place() {
            return Ok(());
        }
        self.give_up();
        let detail = format!("{CONTROL}, the folder's control directory, was removed, renamed or replaced");
        Err(Stop::refused(UnsealedReason::System, detail))
    }

    fn control_is_in_place(&self) -> bool {
        Facts::at(&self.top, OsStr::new(CONTROL)).is_ok_and(|now| now.same_file(&self.control_facts))
    }

    /// Whether `directory` is the control directory, under whatever name.
    pub(crate) fn is_control_directory(&self, directory: &Facts) -> bool {
        directory.same_file(&self.control_facts)
    }

    /// Whether so many exchanges wait for users of their files that nothing new is begun.
    pub(crate) fn is_crowded(&self) -> bool {
        self.pending().len() >= CROWD
    }

    /// The control directory.
    pub(crate) fn control(&self) -> &OwnedFd {
        &self.control
    }

    /// Device of the folder, major and minor; the numbers hold until it is unmounted.
    pub(crate) fn device(&self) -> (u32, u32) {
        self.facts.device
    }

    /// The control directory, opened anew: its own view of the file system's write errors.
    pub(crate) fn reopen_control(&self) -> Result<OwnedFd, Errno> {
        openat(&self.control, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Fails when an envelope of `size` bytes of plaintext cannot fit. A file may claim far more than it occupies (holes), and its
    /// envelope must not take the last of the disk from everybody before that shows; root's reserve is left alone.
    pub(crate) fn has_room(&self, size: u64) -> Result<(), Stop> {
        let disk = fstatvfs(&self.control)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if size.saturating_add(size >> 8) > free {
            let detail = format!("its envelope needs {size} bytes and more, and {free} are free");
            return Err(Stop::refused(UnsealedReason::NoSpace, detail));
        }
        Ok(())
    }

    /// Exchanges that could not be ended because somebody uses one of the files.
    pub(crate) fn pending(&self) -> MutexGuard<'_, Vec<Exchange>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`FolderRoot::open_directory`], for the directory of a file to seal.
    pub(crate) fn open_parent(&self, relative: &Path) -> Result<OwnedFd, Stop> {
        self.open_directory(relative).map_err(|errno| match errno {
            // Moved, removed, or replaced by a symbolic link, which may lead anywhere.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE => Stop::Vanished,
            Errno::XDEV => {
                Stop::refused(UnsealedReason::OtherFileSystem, "another file system is mounted there")
            }
            errno => errno.into(),
        })
    }

    /// The directory of the file `relative`, which is the `last` one if that was opened by the same path: files that are sealed
    /// together mostly lie together.
    pub(crate) fn directory_of(
        &self,
        relative: &Path,
        last: &mut Option<Parent>,
    ) -> Result<Arc<OwnedFd>, Stop> {
        let path = relative.parent().unwrap_or(Path::new(""));
        if let Some((_, directory)) = last.as_ref().filter(|(of, _)| of == path) {
            return Ok(Arc::clone(directory));
        }
        let directory = Arc::new(self.open_parent(path)?);
        *last = Some((path.to_owned(), Arc::clone(&directory)));
        Ok(directory)
    }

    /// Opens a directory in the folder by its path relative to the top (empty for the top itself).
    pub(crate) fn open_directory(&self, relative: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
        if relative.as_os_str().is_empty() {
            return openat(&self.top, c".", flags.difference(OFlags::NOFOLLOW), Mode::empty());
        }
        #[cfg(test)]
        if self.by_path {
            let follow = flags.difference(OFlags::NOFOLLOW);
            return openat(CWD, self.path.join(relative), follow, Mode::empty());
        }
        openat2(&self.top, relative, flags, Mode::empty(), BENEATH)
    }
}

impl Drop for FolderRoot {
    /// A control directory that was renamed and has nothing in it is not left behind; one with something in it is taken in at the
    /// next opening.
    fn drop(&mut self) {
        if !self.is_lost() || self.control_is_in_place() {
            return;
        }
        let through = format!("/proc/self/fd/{}", self.control.as_raw_fd());
        let Ok(path) = readlinkat(CWD, through.as_str(), Vec::new()) else { return };
        let Some(name) = Path::new(OsStr::from_bytes(path.to_bytes())).file_name() else { return };
        if Facts::at(&self.top, name).is_ok_and(|now| now.same_file(&self.control_facts)) {
            // Fails unless it is empty.
            let _ = unlinkat(&self.top, name, AtFlags::REMOVEDIR);
        }
    }
}

/// Opens a directory entry for reading if it is a regular file, and says what it is. A FIFO, device or socket is never
/// opened, not even when it takes the file's place meanwhile: the second open goes through the first
/// descriptor (`O_PATH`, which opens nothing) and so to the same inode.
///
/// Fails with `EAGAIN` when another program holds a lease on it.
pub(crate) fn open_regular(directory: impl AsFd, name: &OsStr) -> Result<(File, Facts), Stop> {
    let (path, facts) = probe(directory, name)?;
    open_probed(&path, facts)
}

/// As [`open_regular`], for what [`probe`] found.
pub(crate) fn open_probed(path: &OwnedFd, facts: Facts) -> Result<(File, Facts), Stop> {
    if facts.file_type() != FileType::RegularFile {
        return Err(Stop::Vanished);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let through = format!("/proc/self/fd/{}", path.as_raw_fd());
    let file = match openat(CWD, through.as_str(), flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner and CAP_FOWNER may leave the access time alone.
        Err(Errno::PERM) => openat(CWD, through.as_str(), flags, Mode::empty())?,
        other => other?,
    };
    Ok((File::from(file), facts))
}

/// What a directory entry is, without opening it.
pub(crate) fn probe(directory: impl AsFd, name: &OsStr) -> Result<(OwnedFd, Facts), Stop> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = BENEATH.difference(ResolveFlags::NO_SYMLINKS);
    let path = openat2(directory, name, flags, Mode::empty(), resolve).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE => Stop::Vanished,
        Errno::XDEV => Stop::refused(UnsealedReason::OtherFileSystem, "another file system is mounted there"),
        errno => errno.into(),
    })?;
    let facts = Facts::of(&path)?;
    Ok((path, facts))
}

/// Whether `relative` is a path that may be used: names only, no `..`, not empty.
pub(crate) fn is_plain(relative: &Path) -> bool {
    !relative.as_os_str().is_empty() && relative.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Whether `relative` is the control directory or lies in it.
pub(crate) fn is_control(relative: &Path) -> bool {
    relative.components().next() == Some(Component::Normal(OsStr::new(CONTROL)))
}

fn refuse_remote(top: &OwnedFd) -> Result<(), FolderError> {
    let kind = fstatfs(top).map_err(FolderError::Open)?.f_type;
    // The field's type differs between architectures; all magic numbers fit in 32 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "magic numbers are 32 bits")]
    let kind = kind as u32;
    REMOTE.iter().find(|(magic, _)| *magic == kind).map_or(Ok(()), |(_, name)| Err(FolderError::Remote(name)))
}

fn is_ours(facts: &Facts) -> bool {
    facts.uid == rustix::process::geteuid().as_raw()
}

fn open_control(top: &OwnedFd, alone: bool) -> Result<(OwnedFd, Facts), FolderError> {
    let mode = Mode::RWXU;
    match mkdirat(top, CONTROL, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(FolderError::Control(errno)),
    }
    let control = openat2(top, CONTROL, DIRECTORY, Mode::empty(), BENEATH).map_err(|errno| match errno {
        Errno::LOOP | Errno::NOTDIR => FolderError::ForeignControl("it is not a directory"),
        Errno::XDEV => FolderError::ForeignControl("it is on another file system"),
        errno => FolderError::Control(errno),
    })?;
    let facts = Facts::of(&control).map_err(FolderError::Control)?;
    if !is_ours(&facts) {
        return Err(FolderError::ForeignControl("it belongs to somebody else"));
    }
    // Another of root's directories, renamed by somebody who may write to the top, would hold what they put there.
    if facts.mode & 0o777 != 0o700 {
        return Err(FolderError::ForeignControl("it is open to others"));
    }
    if alone {
        match flock(&control, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(FolderError::Locked),
            Err(errno) => return Err(FolderError::Control(errno)),
        }
    }
    // A default ACL of the folder would be inherited by the directory and then by each envelope in it.
    match fremovexattr(&control, c"system.posix_acl_default") {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(FolderError::Control(errno)),
    }
    match fremovexattr(&control, c"system.posix_acl_access") {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(FolderError::Control(errno)),
    }
    fchmod(&control, mode).map_err(FolderError::Control)?;
    if alone
        && let Err(error) = fsetxattr(&control, MARK, b"1", XattrFlags::CREATE)
        && error != Errno::EXIST
    {
        tracing::debug!(%error, "the control directory cannot be marked");
    }
    let facts = Facts::of(&control).map_err(FolderError::Control)?;
    Ok((control, facts))
}

/// Takes in former control directories: whoever may write to the top can have renamed one, with exchanges under way in it. It is
/// moved into the present one as it is, where nobody reaches it, and emptied there; the journal then is worked off as ever.
fn adopt_strays(top: &OwnedFd, control: &OwnedFd) -> Result<(), FolderError> {
    for name in directories(top).map_err(FolderError::Open)? {
        if name == CONTROL {
            continue;
        }
        let Some((stray, facts)) = open_stray(top, &name) else { continue };
        match flock(&stray, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // What is under way in it comes first.
            Err(_) => return Err(FolderError::Locked),
        }
        let inside = OsString::from(format!("{STRAY}{}", ExchangeId::generate().short()));
        match renameat_with(top, &name, control, &inside, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(FolderError::Control(errno)),
        }
        if !Facts::at(control, &inside).is_ok_and(|now| now.same_file(&facts)) {
            // Exchanged in that instant; it is somebody's.
            let mut back = name.clone();
            if renameat_with(control, &inside, top, &back, RenameFlags::NOREPLACE).is_err() {
                back = format!("file.conflict-{}", ExchangeId::generate().short()).into();
                renameat_with(control, &inside, top, &back, RenameFlags::NOREPLACE)
                    .map_err(FolderError::Control)?;
            }
            return Err(FolderError::Locked);
        }
        tracing::warn!(?name, "the folder's control directory had been renamed");
    }
    for name in directories(control).map_err(FolderError::Control)? {
        if name.as_bytes().starts_with(STRAY.as_bytes()) {
            empty_stray(control, &name).map_err(FolderError::Control)?;
        }
    }
    Ok(())
}

/// A directory of ours alone with nothing but a journal in it, or with nothing in it and our mark.
fn open_stray(top: &OwnedFd, name: &OsStr) -> Option<(OwnedFd, Facts)> {
    let (_, found) = probe(top, name).ok()?;
    if !is_ours(&found) || found.mode & 0o777 != 0o700 {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stray = openat2(top, name, flags, Mode::empty(), BENEATH).ok()?;
    let facts = Facts::of(&stray).ok()?;
    let names = names(&stray).ok()?;
    let is_ours = |name: &OsStr| journal::is_entry(name) || name == JOURNALS;
    let is_journal = names.iter().all(|(name, _)| is_ours(name));
    let is_known = !names.is_empty() || fgetxattr(&stray, MARK, &mut [0; 1]).is_ok();
    (facts.same_file(&found) && is_journal && is_known).then_some((stray, facts))
}

fn empty_stray(control: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stray = openat2(control, name, flags, Mode::empty(), BENEATH)?;
    for (entry, _) in names(&stray)? {
        match renameat_with(&stray, &entry, control, &entry, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if entry == JOURNALS => {
                let from = openat2(&stray, JOURNALS, flags, Mode::empty(), BENEATH)?;
                let to = openat2(control, JOURNALS, flags, Mode::empty(), BENEATH)?;
                for (journal, _) in names(&from)? {
                    renameat_with(&from, &journal, &to, &journal, RenameFlags::NOREPLACE)?;
                }
                sync(&to)?;
                unlinkat(&stray, JOURNALS, AtFlags::REMOVEDIR)?;
            }
            moved => moved?,
        }
    }
    sync(&stray)?;
    unlinkat(control, name, AtFlags::REMOVEDIR)?;
    sync(control)
}

fn directories(of: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let all = names(of)?;
    let is_one = |kind| matches!(kind, FileType::Directory | FileType::Unknown);
    Ok(all.into_iter().filter(|(_, kind)| is_one(*kind)).map(|(name, _)| name).collect())
}

fn names(of: &OwnedFd) -> Result<Vec<(OsString, FileType)>, Errno> {
    let mut all = Vec::new();
    for entry in Dir::read_from(of)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            all.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(all)
}

/// Removes an entry of a directory; that it is not there is no error.
pub(crate) fn remove(directory: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Folders that are walked by path, as a careless program would: the negative control of the hostile-user suite.
#[cfg(test)]
pub(crate) mod test_only {
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    static BY_PATH: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    /// From the next opening on.
    pub(crate) fn walk_by_path(folder: &Path) {
        BY_PATH.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
    }

    pub(super) fn is_by_path(folder: &Path) -> bool {
        BY_PATH.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|path| path == folder)
    }
}

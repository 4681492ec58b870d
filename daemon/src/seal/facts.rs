//! What `statx` says about a file, taken from a descriptor, to tell later whether it is still the same.

use jiff::Timestamp;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp,
    Timespec, openat2,
};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

/// The permission bits of a mode, set-id bits and sticky bit included.
pub(super) const PERMISSIONS: u16 = 0o7777;

/// What is asked for.
const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// A point in time as the file system keeps it: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Stamp(pub(crate) i64, pub(crate) u32);

impl Stamp {
    /// For `utimensat`.
    pub(crate) fn timespec(self) -> Timespec {
        Timespec { tv_sec: self.0, tv_nsec: self.1.into() }
    }

    /// As a timestamp; the nearest that there is.
    pub(crate) fn time(self) -> Timestamp {
        let nearest = if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::new(self.0, self.1.try_into().unwrap_or(0)).unwrap_or(nearest)
    }
}

impl From<StatxTimestamp> for Stamp {
    fn from(time: StatxTimestamp) -> Self {
        Self(time.tv_sec, time.tv_nsec)
    }
}

/// Identity and state of a file at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Device, major and minor.
    pub(crate) device: (u32, u32),
    /// Inode number.
    pub(crate) inode: u64,
    /// Type and permission bits.
    pub(crate) mode: u16,
    /// Hard links.
    pub(crate) links: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Last access.
    pub(crate) accessed: Stamp,
    /// Last change of the content.
    pub(crate) modified: Stamp,
    /// Last change of content or metadata. Renaming sets it too.
    pub(crate) changed: Stamp,
    /// Immutable or append-only.
    pub(crate) locked: bool,
    /// When the inode was made, where the file system knows. Inode numbers are used again, and this tells one file from the next
    /// within a run; the journal does without.
    #[serde(skip)]
    pub(crate) born: Option<Stamp>,
}

impl Facts {
    /// Of an open file.
    pub(crate) fn of(file: impl AsFd) -> rustix::io::Result<Self> {
        let statx = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, WANTED)?;
        Ok(Self::from(&statx))
    }

    /// Of the entry `name` of a directory, not following a symbolic link. Fails with `EXDEV` where a file system is mounted:
    /// its owner may let whoever asks it wait for ever.
    pub(crate) fn at(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        Self::of(openat2(directory, name, flags, Mode::empty(), resolve)?)
    }

    /// Of an entry of the control directory, where nobody else can mount anything: one call instead of three.
    pub(crate) fn in_control(control: impl AsFd, name: &OsStr) -> rustix::io::Result<Self> {
        Ok(Self::from(&rustix::fs::statx(control, name, AtFlags::SYMLINK_NOFOLLOW, WANTED)?))
    }

    /// Of the directory at `path`, as far as the kernel knows it without asking a file system. `EAGAIN` where it does not.
    pub(crate) fn known(path: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
        let directory = openat2(CWD, path, flags, Mode::empty(), resolve)?;
        let as_known = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        Ok(Self::from(&rustix::fs::statx(directory, c"", as_known, WANTED)?))
    }

    /// What kind of file it is.
    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode.into())
    }

    /// Whether both are the same inode.
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether the content cannot have been written between the two, as far as size and modification time tell.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.same_file(other) && (self.size, self.modified) == (other.size, other.modified)
    }

    /// As [`Facts::same_content`], and owner, mode and links are the same.
    pub(crate) fn same_but_times(&self, other: &Self) -> bool {
        self.same_content(other)
            && (self.mode, self.links, self.uid, self.gid) == (other.mode, other.links, other.uid, other.gid)
    }

    /// Whether it is the file of `before` without the mode that it had.
    pub(crate) fn lost_mode_of(&self, before: &Self) -> bool {
        self.same_file(before) && self.mode & PERMISSIONS == 0 && before.mode & PERMISSIONS != 0
    }

    /// As [`Facts::same_content`], and the change time too: not even the metadata was touched.
    pub(crate) fn untouched_since(&self, other: &Self) -> bool {
        self.same_content(other) && self.changed == other.changed
    }
}

impl From<&Statx> for Facts {
    fn from(statx: &Statx) -> Self {
        Self {
            device: (statx.stx_dev_major, statx.stx_dev_minor),
            inode: statx.stx_ino,
            mode: statx.stx_mode,
            links: statx.stx_nlink,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            size: statx.stx_size,
            accessed: statx.stx_atime.into(),
            modified: statx.stx_mtime.into(),
            changed: statx.stx_ctime.into(),
            born: (statx.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| statx.stx_btime.into()),
            locked: statx.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND),
        }
    }
}

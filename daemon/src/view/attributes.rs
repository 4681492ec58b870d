//! What files look like: as the file system beneath says, but with plaintext sizes and the view's own users.

use super::handle::Handle;
use super::nodes::{Node, Stamp};
use super::opening::{Manner, reopen};
use super::state::{Caller, View};
use super::{Answer, Ids};
use fuser::{FileAttr, INodeNo, TimeOrNow};
use rustix::fs::{
    Advice, AtFlags, CWD, FileType, Gid, Mode, OFlags, Statx, StatxTimestamp, Timespec, Timestamps,
    UTIME_NOW, UTIME_OMIT, Uid, chmodat, chownat, fadvise, utimensat,
};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tobari_core::envelope::{PREFIX_SIZE, ReadAt as _, plaintext_length};

/// What is to be changed; what is absent stays.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) accessed: Option<TimeOrNow>,
    pub(super) modified: Option<TimeOrNow>,
}

impl View {
    /// The attributes of a node.
    pub(super) fn attributes(&self, node: &Node) -> Answer<FileAttr> {
        let stat = node.stat()?;
        self.attributes_from(node, &stat)
    }

    /// The same, if the file system was asked already.
    pub(super) fn attributes_from(&self, node: &Node, stat: &Statx) -> Answer<FileAttr> {
        let mut attributes = plain(node, stat, self.ids);
        if node.kind == FileType::RegularFile {
            match self.registry.find(node.identity).and_then(|contents| contents.length()) {
                Some((length, modified)) => {
                    attributes.size = length;
                    if let Some(modified) = modified {
                        attributes.mtime = from_timespec(modified);
                        attributes.ctime = attributes.ctime.max(attributes.mtime);
                    }
                }
                None => {
                    if let Some(length) = outline(node, stat) {
                        attributes.size = length;
                    }
                }
            }
        }
        Ok(attributes)
    }

    /// Changes attributes.
    pub(super) fn change(
        &self,
        caller: Caller,
        number: u64,
        handle: Option<u64>,
        changes: &Changes,
    ) -> Answer<FileAttr> {
        self.admit(caller)?;
        let node = self.nodes.node(number)?;
        if let Some(size) = changes.size {
            self.resize(caller, &node, handle, size)?;
            self.end_privileges(&node, caller.uid != 0)?;
        }
        let through = node.through();
        if changes.uid.is_some() || changes.gid.is_some() {
            let user = changes.uid.map(|uid| Uid::from_raw(self.ids.real_user(uid)));
            let group = changes.gid.map(|gid| Gid::from_raw(self.ids.real_group(gid)));
            chownat(&node, c"", user, group, AtFlags::EMPTY_PATH)?;
        }
        if let Some(mode) = changes.mode {
            node.seen().unprivileged = None;
            chmodat(CWD, &*through, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
        }
        if changes.accessed.is_some() || changes.modified.is_some() {
            // What is sealed later would be newer.
            if let Some(contents) = self.registry.find(node.identity) {
                contents.commit()?;
            }
            let times = Timestamps {
                last_access: to_timespec(changes.accessed),
                last_modification: to_timespec(changes.modified),
            };
            utimensat(CWD, &*through, &times, AtFlags::empty())?;
        }
        self.attributes(&node)
    }

    fn resize(&self, caller: Caller, node: &Arc<Node>, handle: Option<u64>, size: u64) -> Answer<()> {
        if let Some(handle) = handle.and_then(|number| self.handles.find(number).ok())
            && handle.writes()
        {
            return self.set_length(&handle, size);
        }
        // By its name, or with `O_RDONLY | O_TRUNC`: as if it was opened for it.
        let manner = Manner { reads: false, writes: true, truncates: false };
        let handle = Arc::new(self.open_node(caller, node, manner)?);
        let result = self.set_length(&handle, size);
        let flushed = self.flush(&handle);
        self.close(&handle);
        result.and(flushed)
    }

    /// Sets the length of an open file.
    pub(super) fn set_length(&self, handle: &Handle, size: u64) -> Answer<()> {
        match handle {
            Handle::Plain(plain) => rustix::fs::ftruncate(self.may_write_plain(plain)?, size),
            Handle::Sealed(sealed) => {
                self.may_write(sealed)?;
                sealed.contents.set_length(size)
            }
            Handle::Directory(_) => Err(Errno::ISDIR),
        }
    }
}

/// The bytes of plaintext of a file that is sealed, without a key: they follow from its size.
fn outline(node: &Node, stat: &Statx) -> Option<u64> {
    let stamp = Stamp::from(stat);
    if let Some((of, length)) = node.seen().outline
        && of == stamp
    {
        return length;
    }
    if stamp.size < SMALLEST {
        return None;
    }
    let file = reopen(node, OFlags::RDONLY).ok()?;
    note_outline(node, stat, &file)
}

/// No envelope is smaller. Small files are not even opened.
const SMALLEST: u64 = 4096;

/// How much of a file the disk is asked for at once: with the beginning come the contents, if there are few, for who opens it next.
const FIRST_READ: u64 = 16 * 1024;

/// Opens what may be an envelope, whose length its beginning says, and has the disk read that.
pub(super) fn begins(descriptor: &OwnedFd, stat: &Statx) -> Option<File> {
    let is_file = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
    if !is_file || stat.stx_size < SMALLEST {
        return None;
    }
    let file = reopen(descriptor, OFlags::RDONLY).ok()?;
    // Whether it does or not, it is read later.
    let _ = fadvise(&file, 0, std::num::NonZeroU64::new(FIRST_READ), Advice::WillNeed);
    Some(file)
}

/// Finds out and notes the bytes of plaintext of `file`, which is `node`.
pub(super) fn note_outline(node: &Node, stat: &Statx, file: &File) -> Option<u64> {
    let mut prefix = [0; PREFIX_SIZE];
    file.read_exact_at(&mut prefix, 0).ok()?;
    let stamp = Stamp::from(stat);
    let length = plaintext_length(&prefix, stamp.size);
    node.seen().outline = Some((stamp, length));
    length
}

fn plain(node: &Node, stat: &Statx, ids: Ids) -> FileAttr {
    FileAttr {
        ino: INodeNo(node.number),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        crtime: UNIX_EPOCH,
        kind: kind(node.kind),
        perm: stat.stx_mode & 0o7777,
        nlink: stat.stx_nlink,
        uid: ids.shown_user(stat.stx_uid),
        gid: ids.shown_group(stat.stx_gid),
        rdev: device(stat),
        blksize: stat.stx_blksize,
        flags: 0,
    }
}

/// A device number as the kernel's protocol has it.
fn device(stat: &Statx) -> u32 {
    let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The kind as the kernel's protocol has it.
pub(super) fn kind(kind: FileType) -> fuser::FileType {
    match kind {
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::CharacterDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::RegularFile | FileType::Unknown => fuser::FileType::RegularFile,
    }
}

fn time(stamp: StatxTimestamp) -> SystemTime {
    let nanoseconds = Duration::from_nanos(stamp.tv_nsec.into());
    match u64::try_from(stamp.tv_sec) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds) + nanoseconds,
        Err(_) => UNIX_EPOCH - Duration::from_secs(stamp.tv_sec.unsigned_abs()) + nanoseconds,
    }
}

fn from_timespec(time: Timespec) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    UNIX_EPOCH + seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

fn to_timespec(time: Option<TimeOrNow>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(TimeOrNow::SpecificTime(time)) => match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Timespec {
                tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: since.subsec_nanos().into(),
            },
            Err(before) => {
                let before = before.duration();
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Timespec { tv_sec: -seconds, tv_nsec: 0 },
                    nanoseconds => {
                        Timespec { tv_sec: -seconds - 1, tv_nsec: (1_000_000_000 - nanoseconds).into() }
                    }
                }
            }
        },
    }
}

//! A disk that remembers: shows the file IMAGE as `disk` in a FUSE mount, keeps what is written to it in memory, and
//! logs each write and each flush in order. Under a loop device, the log says which states a power cut may leave on
//! a real disk: everything up to a flush, and any part of what came after it. `tests/cuts` replays them.
//!
//!     block-log IMAGE LOG MOUNTPOINT
//!
//! It says `ready` once mounted. Each line of standard input becomes a mark in the log, and is answered by `marked`; at the end
//! of the input it unmounts. A record of the log is a kind (`W`, `F` or `M`), an offset of 8 bytes and a length of 4
//! bytes, both little-endian, and the data.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use anyhow::{Context as _, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

const DISK: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [image, log, mountpoint] = arguments.as_slice() else {
        anyhow::bail!("usage: block-log IMAGE LOG MOUNTPOINT")
    };
    let content = std::fs::read(image).context("the image cannot be read")?;
    let log = BufWriter::new(File::create(log).context("the log cannot be made")?);
    let disk = Disk(Arc::new(Mutex::new(State { content, log })));
    let session = mount(disk.clone(), Path::new(mountpoint))?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        disk.state().record(b'M', 0, line?.as_bytes())?;
        println!("marked");
    }
    drop(session);
    Ok(disk.state().log.flush()?)
}

fn mount(disk: Disk, mountpoint: &Path) -> Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options.push(MountOption::FSName("block-log".to_owned()));
    fuser::spawn_mount(disk, mountpoint, &config).context("mounting failed")
}

struct State {
    content: Vec<u8>,
    log: BufWriter<File>,
}

impl State {
    fn record(&mut self, kind: u8, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(data.len()).map_err(std::io::Error::other)?;
        self.log.write_all(&[kind])?;
        self.log.write_all(&offset.to_le_bytes())?;
        self.log.write_all(&length.to_le_bytes())?;
        self.log.write_all(data)
    }

    fn range(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
        let start = usize::try_from(offset).ok()?.min(self.content.len());
        let end = start.checked_add(length)?.min(self.content.len());
        self.content.get_mut(start..end)
    }
}

#[derive(Clone)]
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let size = if inode == DISK { self.state().content.len() as u64 } else { 0 };
        let kind = if inode == DISK { FileType::RegularFile } else { FileType::Directory };
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == "disk" {
            reply.entry(&TTL, &self.attributes(DISK), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.state().range(offset, size as usize) {
            Some(bytes) => reply.data(bytes),
            None => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        let logged = state.record(b'W', offset, data).is_ok();
        match state.range(offset, data.len()) {
            Some(bytes) if logged && bytes.len() == data.len() => {
                bytes.copy_from_slice(data);
                // A request is at most the kernel's limit of pages long.
                reply.written(u32::try_from(data.len()).unwrap_or(0));
            }
            _ => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Of a descriptor that is closed, not of the disk.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.state().record(b'F', 0, &[]) {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }
    }
}

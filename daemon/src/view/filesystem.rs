//! The kernel's requests, taken apart and answered. Everything that happens is elsewhere.

use super::attributes::Changes;
use super::names::Making;
use super::nodes::ROOT;
use super::state::{Caller, View};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use rustix::fs::{FileType, fstatvfs};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Largest request.
const REQUEST: u32 = 1 << 20;

/// A view as the kernel asks it.
pub(super) struct Fuse(pub(super) Arc<View>);

fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

fn code(errno: rustix::io::Errno) -> Errno {
    Errno::from_i32(errno.raw_os_error())
}

/// Answers with what was found, or the error.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $said:expr) => {
        match $result {
            Ok($value) => $said,
            Err(errno) => $reply.error(code(errno)),
        }
    };
}

impl Filesystem for Fuse {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without FUSE_ATOMIC_O_TRUNC: the kernel would let us truncate a program that is running before it finds that out.
        // Without FUSE_READDIRPLUS_AUTO: it would ask for most entries of a long listing one by one.
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            // See `privileges`. What fuser does not tell (`FATTR_KILL_SUIDGID`) follows from who asks.
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ];
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "the kernel does not have this");
            }
        }
        // Too large a number is answered with the largest one that is not.
        let _ = config.set_max_write(REQUEST).or_else(|largest| config.set_max_write(largest));
        let _ = config.set_max_readahead(REQUEST).or_else(|largest| config.set_max_readahead(largest));
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.lookup(caller(request), parent.0, name);
        answer!(reply, found, attributes => reply.entry(&self.0.options.remembered, &attributes, Generation(0)));
    }

    fn forget(&self, _request: &Request, number: INodeNo, lookups: u64) {
        self.0.nodes.forget(number.0, lookups);
    }

    fn getattr(&self, request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let view = &self.0;
        // Root's look at the mount point itself is not a look into it: mounting needs it.
        let admitted = if number.0 == ROOT { Ok(()) } else { view.admit(caller(request)) };
        let found = admitted.and_then(|()| view.nodes.node(number.0)).and_then(|node| view.attributes(&node));
        answer!(reply, found, attributes => reply.attr(&view.options.remembered, &attributes));
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_too: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = Changes { mode, uid, gid, size, accessed, modified };
        let changed = self.0.change(caller(request), number.0, handle.map(|handle| handle.0), &changes);
        answer!(reply, changed, attributes => reply.attr(&self.0.options.remembered, &attributes));
    }

    fn readlink(&self, request: &Request, number: INodeNo, reply: ReplyData) {
        answer!(reply, self.0.read_link(caller(request), number.0), target => reply.data(&target));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let making = Making { mode, umask, device };
        let made = match FileType::from_raw_mode(mode) {
            FileType::RegularFile | FileType::Unknown => {
                self.0.make_file(caller(request), parent.0, name, making)
            }
            _ => self.0.make_special(caller(request), parent.0, name, making),
        };
        answer!(reply, made, attributes => reply.entry(&self.0.options.remembered, &attributes, Generation(0)));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let making = Making { mode, umask, device: 0 };
        let made = self.0.make_directory(caller(request), parent.0, name, making);
        answer!(reply, made, attributes => reply.entry(&self.0.options.remembered, &attributes, Generation(0)));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.0.remove_file(caller(request), parent.0, name), () => reply.ok());
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.0.remove_directory(caller(request), parent.0, name), () => reply.ok());
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.0.make_link(caller(request), parent.0, name, target);
        answer!(reply, made, attributes => reply.entry(&self.0.options.remembered, &attributes, Generation(0)));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent.0, name), (new_parent.0, new_name));
        answer!(reply, self.0.rename(caller(request), from, to, flags.bits()), () => reply.ok());
    }

    fn link(&self, request: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let made = self.0.link(caller(request), number.0, parent.0, name);
        answer!(reply, made, attributes => reply.entry(&self.0.options.remembered, &attributes, Generation(0)));
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.0.open(caller(request), number.0, flags);
        answer!(reply, opened, (handle, kept) => reply.opened(FileHandle(handle), kept));
    }

    fn read(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.read(handle.0, offset, size, |read| answer!(reply, read, data => reply.data(data)));
    }

    fn write(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // What the kernel writes back of a mapping has its place.
        let appends = flags.0 & libc::O_APPEND != 0 && !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let set_id = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        answer!(reply, self.0.write(handle.0, offset, data, appends, set_id), count => reply.written(count));
    }

    fn flush(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let flushed = self.0.handles.find(handle.0).and_then(|handle| self.0.flush(&handle));
        answer!(reply, flushed, () => reply.ok());
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(handle) = self.0.handles.remove(handle.0) {
            self.0.close(&handle);
        }
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        let synced = self.0.handles.find(handle.0).and_then(|handle| self.0.sync(&handle, data_only));
        answer!(reply, synced, () => reply.ok());
    }

    fn opendir(&self, request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.0.open_directory(caller(request), number.0);
        answer!(reply, opened, (handle, kept) => reply.opened(FileHandle(handle), kept));
    }

    fn readdir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        answer!(reply, self.0.list(handle.0, offset, &mut reply), () => reply.ok());
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        answer!(reply, self.0.list_plus(handle.0, offset, &mut reply), () => reply.ok());
    }

    fn releasedir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        drop(self.0.handles.remove(handle.0));
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        answer!(reply, self.0.sync_directory(number.0), () => reply.ok());
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        answer!(reply, fstatvfs(&self.0.folder.top), disk => reply.statfs(
            disk.f_blocks,
            disk.f_bfree,
            disk.f_bavail,
            disk.f_files,
            disk.f_ffree,
            narrow(disk.f_bsize),
            narrow(disk.f_namemax),
            narrow(disk.f_frsize),
        ));
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let set = self.0.set_attribute(caller(request), number.0, name, value, flags);
        answer!(reply, set, () => reply.ok());
    }

    fn getxattr(&self, request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer!(reply, self.0.attribute(caller(request), number.0, name), value => sized(reply, &value, size));
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        answer!(reply, self.0.attribute_names(caller(request), number.0), names => sized(reply, &names, size));
    }

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.0.remove_attribute(caller(request), number.0, name), () => reply.ok());
    }

    fn access(&self, request: &Request, _number: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // The kernel checks permissions itself.
        answer!(reply, self.0.admit(caller(request)), () => reply.ok());
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let making = Making { mode, umask, device: 0 };
        let created = self.0.create(caller(request), parent.0, name, making, OpenFlags(flags));
        answer!(reply, created, (attributes, handle, flags) => reply.created(
            &self.0.options.remembered,
            &attributes,
            Generation(0),
            FileHandle(handle),
            flags,
        ));
    }

    fn fallocate(
        &self,
        request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        answer!(reply, self.0.allocate(caller(request), handle.0, offset, length, mode), () => reply.ok());
    }

    fn ioctl(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        // Files are always ready; the kernel asks once.
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _from: INodeNo,
        _from_handle: FileHandle,
        _from_offset: u64,
        _to: INodeNo,
        _to_handle: FileHandle,
        _to_offset: u64,
        _length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The kernel then reads and writes.
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        // The kernel then takes the whole file for data, which is what it is.
        reply.error(Errno::ENOSYS);
    }
}

/// Answers with a value or, where the program asked for it, its size.
fn sized(reply: ReplyXattr, value: &[u8], size: u32) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

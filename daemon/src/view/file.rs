//! Reading and writing what is open. Each time it is asked whether that is still allowed.

use super::Answer;
use super::handle::{Handle, Plain, Sealed};
use super::opening::Unopened;
use super::state::{Caller, View};
use crate::seal::sync;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, pread, pwrite};
use std::cell::RefCell;
use std::fs::File;
use std::sync::atomic::Ordering;
use tobari_core::policy::Right;
use zeroize::Zeroizing;

thread_local! {
    /// What a thread read last. Wiping a fresh one for each request would take longer than opening the chunks; it is locked like all
    /// memory of the daemon, and wiped when the thread ends.
    static BUFFER: RefCell<Zeroizing<Vec<u8>>> = RefCell::default();
}

impl View {
    /// Reads up to `size` bytes and gives them to `take`.
    pub(super) fn read(&self, handle: u64, offset: u64, size: u32, take: impl FnOnce(Answer<&[u8]>)) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                // Each piece of plaintext that was in it is wiped; then it grows at most to the size of a request.
                *buffer = Zeroizing::new(vec![0; size]);
            }
            let buffer = buffer.get_mut(..size).unwrap_or_default();
            match self.read_into(handle, offset, buffer) {
                Ok(length) => take(Ok(buffer.get(..length).unwrap_or_default())),
                Err(errno) => take(Err(errno)),
            }
        });
    }

    fn read_into(&self, handle: u64, offset: u64, buffer: &mut [u8]) -> Answer<usize> {
        self.still_served()?;
        let handle = self.handles.find(handle)?;
        match handle.as_ref() {
            Handle::Plain(Plain { file, .. }) => {
                let mut filled = 0;
                while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                    match pread(file, rest, offset + filled as u64) {
                        Ok(0) => break,
                        Ok(count) => filled += count,
                        Err(Errno::INTR) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                Ok(filled)
            }
            Handle::Sealed(sealed) => {
                loop {
                    let labels = sealed.contents.labels();
                    self.may_read(sealed)?;
                    let length = sealed.contents.read(buffer, offset)?;
                    // What was written under a higher label meanwhile is not for who was let in under the lower one.
                    if sealed.contents.labels() == labels {
                        return Ok(length);
                    }
                }
            }
            Handle::Directory(_) => Err(Errno::ISDIR),
        }
    }

    /// Writes all of `data`, at the end if the program opened the file for appending.
    /// `set_id` as in [`Self::end_privileges`].
    pub(super) fn write(
        &self,
        handle: u64,
        offset: u64,
        data: &[u8],
        appends: bool,
        set_id: bool,
    ) -> Answer<u32> {
        self.still_served()?;
        let handle = self.handles.find(handle)?;
        match handle.as_ref() {
            Handle::Plain(plain) => {
                let file = self.may_write_plain(plain)?;
                self.end_privileges(&plain.node, set_id)?;
                let mut position = if appends { super::nodes::stat(file)?.stx_size } else { offset };
                let mut rest = data;
                while !rest.is_empty() {
                    match pwrite(file, rest, position) {
                        Ok(count) => {
                            position += count as u64;
                            rest = rest.get(count..).unwrap_or_default();
                        }
                        Err(Errno::INTR) => {}
                        Err(errno) => return Err(errno),
                    }
                }
            }
            Handle::Sealed(sealed) => {
                self.may_write(sealed)?;
                self.end_privileges(&sealed.node, set_id)?;
                sealed.contents.write(data, (!appends).then_some(offset))?;
            }
            Handle::Directory(_) => return Err(Errno::ISDIR),
        }
        u32::try_from(data.len()).map_err(|_| Errno::INVAL)
    }

    /// Allocates, or makes holes.
    pub(super) fn allocate(
        &self,
        caller: Caller,
        handle: u64,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> Answer<()> {
        self.still_served()?;
        let handle = self.handles.find(handle)?;
        let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let sealed = match handle.as_ref() {
            Handle::Plain(plain) => {
                let file = self.may_write_plain(plain)?;
                self.end_privileges(&plain.node, caller.uid != 0)?;
                return fallocate(file, flags, offset, length);
            }
            Handle::Sealed(sealed) => sealed,
            Handle::Directory(_) => return Err(Errno::ISDIR),
        };
        self.may_write(sealed)?;
        self.end_privileges(&sealed.node, caller.uid != 0)?;
        let end = offset.checked_add(length).ok_or(Errno::FBIG)?;
        let keeps_size = flags.contains(FallocateFlags::KEEP_SIZE);
        let zeroes = flags.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE);
        let known = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        if !known.contains(flags) {
            return Err(Errno::OPNOTSUPP);
        }
        if zeroes {
            sealed.contents.zero(offset, length)?;
        }
        let now = sealed.contents.length().map_or(0, |(length, _)| length);
        // Space that is promised behind the end is not kept: nothing there could be sealed.
        if !keeps_size && end > now { sealed.contents.set_length(end) } else { Ok(()) }
    }

    /// A descriptor is closed: what was written is sealed, so that an error can be told.
    pub(super) fn flush(&self, handle: &Handle) -> Answer<()> {
        match handle {
            Handle::Sealed(sealed) if sealed.writes => {
                if !sealed.contents.is_changed() {
                    return Ok(());
                }
                let sealed_now = sealed.contents.commit();
                self.registry.written(sealed.contents.identity, self);
                sealed_now
            }
            _ => Ok(()),
        }
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self, handle: &Handle, data_only: bool) -> Answer<()> {
        match handle {
            Handle::Plain(Plain { file, .. }) if data_only => rustix::fs::fdatasync(file),
            Handle::Plain(Plain { file, .. }) => sync(file),
            Handle::Sealed(sealed) => {
                let changed = sealed.contents.is_changed();
                let synced = sealed.contents.sync();
                if changed {
                    self.registry.written(sealed.contents.identity, self);
                }
                match synced? {
                    true if data_only => Ok(()),
                    false if data_only => rustix::fs::fdatasync(&sealed.file),
                    _ => sync(&sealed.file),
                }
            }
            Handle::Directory(_) => Err(Errno::ISDIR),
        }
    }

    /// Nobody has it open any more.
    pub(super) fn close(&self, handle: &Handle) {
        if let Handle::Sealed(sealed) = handle {
            self.release_contents(&sealed.contents, sealed.writes);
            // What was written through this view is what the kernel has of it.
            if sealed.writes
                && let Ok(stat) = sealed.node.stat()
            {
                let mut seen = sealed.node.seen();
                if seen.cached.is_some() {
                    seen.cached = Some((&stat).into());
                }
            }
        }
    }

    /// Fails unless the file may still be read.
    fn may_read(&self, sealed: &Sealed) -> Answer<()> {
        // Who writes without reading is asked for what they have; the kernel reads no pages for them.
        self.still_allowed(sealed, Right::View)
    }

    /// Fails unless the file may still be written to; it then has the label that it has to have.
    pub(super) fn may_write(&self, sealed: &Sealed) -> Answer<()> {
        self.still_allowed(sealed, Right::Edit)?;
        let (name, caller) = (&sealed.ticket.name, sealed.ticket.caller);
        self.keep_label(sealed).map_err(|unopened| match unopened {
            Unopened::Changed => Errno::AGAIN,
            Unopened::Failed(failure) => self.refuse(name, caller, &failure),
            Unopened::Trouble(errno) => errno,
        })
    }

    /// Fails unless a file that is not sealed may still be written to.
    pub(super) fn may_write_plain<'a>(&self, plain: &'a Plain) -> Answer<&'a File> {
        let (path, rule) = plain.writes.as_ref().ok_or(Errno::BADF)?;
        match self.access.may_write_plain(rule) {
            Ok(()) => Ok(&plain.file),
            Err(failure) => Err(self.refuse(path, plain.caller, &failure)),
        }
    }

    fn still_served(&self) -> Answer<()> {
        if self.ended.load(Ordering::Relaxed) { Err(Errno::NOTCONN) } else { Ok(()) }
    }
}

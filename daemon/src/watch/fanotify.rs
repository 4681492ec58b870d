//! Events from fanotify: one mark on the folder's file system, so that new directories have no blind moment and no
//! limit. Needs `CAP_SYS_ADMIN` for the mark and `CAP_DAC_READ_SEARCH` to find directories by their handles.
//!
//! The mark sees everything on the file system; what is not beneath the folder is dropped here. Paths of directories
//! are remembered until any directory of the file system is moved. What this process does itself is ignored.

use super::source::{Happened, Listener, Source};
use crate::seal::FolderRoot;
use crate::sys::fanotify::{BUFFER, Group, Handle, RawEvent, events};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{CWD, readlinkat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use tobari_core::proto::control::EventSource;

/// What is asked for. Names of directories that are made are of no interest: their files announce themselves.
const MASK: u64 = libc::FAN_CLOSE_WRITE
    | libc::FAN_MOVED_TO
    | libc::FAN_CREATE
    | libc::FAN_ATTRIB
    | libc::FAN_DELETE_SELF
    | libc::FAN_ONDIR;
/// Most directories whose paths are remembered; then all are forgotten.
const REMEMBERED: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Fanotify {
    stopping: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Fanotify {
    /// Watches the folder's file system.
    ///
    /// # Errors
    /// Without the privileges, and where the file system has no handles or does not take the mark.
    pub(super) fn start(root: &FolderRoot, listener: Listener) -> io::Result<Self> {
        let reader = Reader::new(root, listener, libc::FAN_UNLIMITED_QUEUE)?;
        Self::read(reader)
    }

    fn read(mut reader: Reader) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (stop, woken) = (Arc::clone(&stopping), Arc::clone(&wake));
        let thread = Builder::new().name("fanotify".to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = reader.turn(&woken, &stop) {
                    reader.listener.broken(&error);
                    return;
                }
            }
        })?;
        Ok(Self { stopping, wake, thread: Some(thread) })
    }
}

impl Source for Fanotify {
    fn kind(&self) -> EventSource {
        EventSource::Fanotify
    }
}

impl Drop for Fanotify {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // It cannot be full: this is the only write.
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that reads fanotify events panicked");
        }
    }
}

pub(super) struct Reader {
    group: Group,
    /// The folder, by which the file system and the folder's present path are found.
    top: OwnedFd,
    listener: Listener,
    /// Paths of directories relative to the folder; none for those outside.
    places: HashMap<Handle, Option<PathBuf>>,
    own: i32,
    buffer: Vec<u8>,
}

impl Reader {
    fn new(root: &FolderRoot, listener: Listener, queue: libc::c_uint) -> io::Result<Self> {
        let top = root.open_directory(Path::new(""))?;
        // Without the privilege this fails now and not at the first event.
        Handle::of(&top)?.open(&top)?;
        let group = Group::new(libc::FAN_CLASS_NOTIF | libc::FAN_REPORT_DFID_NAME | queue)?;
        group.mark(libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM, MASK, &top)?;
        // The sealer's own work in the control directory is most of what happens on the file system while it seals. Kernels
        // before 6.0 do not know this, and then each of these events is looked at and dropped.
        let unheard = libc::FAN_MARK_ADD | libc::FAN_MARK_IGNORE_SURV;
        if let Err(error) =
            group.mark(unheard, (MASK & !libc::FAN_DELETE_SELF) | libc::FAN_EVENT_ON_CHILD, root.control())
        {
            tracing::debug!(%error, "events in the control directory are not ignored by the kernel");
        }
        let own = rustix::process::getpid().as_raw_nonzero().get();
        Ok(Self { group, top, listener, places: HashMap::new(), own, buffer: vec![0; BUFFER] })
    }

    /// Waits for events and passes them on.
    fn turn(&mut self, wake: &OwnedFd, stopping: &AtomicBool) -> io::Result<()> {
        let mut waiting = [PollFd::new(&self.group, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.drain(stopping)
    }

    /// Passes on what is in the queue.
    fn drain(&mut self, stopping: &AtomicBool) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            match rustix::io::read(&self.group, &mut buffer) {
                Ok(length) => {
                    for event in events(buffer.get(..length).unwrap_or_default()) {
                        self.event(&event, stopping);
                    }
                }
                Err(Errno::AGAIN) => break Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => break Err(errno.into()),
            }
            if stopping.load(Ordering::Relaxed) {
                break Ok(());
            }
        };
        self.buffer = buffer;
        result
    }

    fn event(&mut self, event: &RawEvent<'_>, stopping: &AtomicBool) {
        let has = |bits| event.mask & bits != 0;
        if has(libc::FAN_Q_OVERFLOW) {
            self.places.clear();
            self.listener.lost(&"the kernel's queue was full");
        }
        let Some((directory, name)) = &event.place else { return };
        let is_directory = has(libc::FAN_ONDIR);
        if is_directory && has(libc::FAN_MOVED_TO) {
            // It, and all below it, has another path now.
            self.places.clear();
        }
        if event.pid == self.own && !(has(libc::FAN_MOVED_TO) && is_kept_version(name)) {
            return;
        }
        let happened = if has(libc::FAN_MOVED_TO) {
            Happened::Appeared
        } else if is_directory {
            return;
        } else if has(libc::FAN_CLOSE_WRITE) {
            Happened::Written
        } else if has(libc::FAN_CREATE) {
            Happened::Created
        } else if has(libc::FAN_ATTRIB) {
            Happened::Touched
        } else {
            return;
        };
        if let Some(place) = self.place(directory) {
            let path = place.join(name);
            self.listener.tell_waiting(&path, happened, stopping);
        }
    }

    /// Path of a directory relative to the folder; none when it lies elsewhere or is gone.
    fn place(&mut self, directory: &Handle) -> Option<&PathBuf> {
        if !self.places.contains_key(directory) {
            if self.places.len() >= REMEMBERED {
                self.places.clear();
            }
            // A directory that was removed meanwhile had its files removed or moved, which is another event.
            let found = directory.open(&self.top).ok()?;
            let (top, path) = (path_of(&self.top).ok()?, path_of(found).ok()?);
            let relative = path.strip_prefix(&top).ok().map(Path::to_owned);
            self.places.insert(directory.clone(), relative);
        }
        self.places.get(directory)?.as_ref()
    }
}

/// Versions that the sealer itself puts beside a file (docs/spec/sealing.md, step 9) are sealed as anybody's.
fn is_kept_version(name: &OsStr) -> bool {
    name.as_bytes().windows(10).any(|part| part == b".conflict-")
}

#[cfg(test)]
impl Reader {
    /// What a kernel queue of limited length lets through.
    pub(super) fn test_only_limited(root: &FolderRoot, listener: Listener) -> io::Result<Self> {
        Self::new(root, listener, 0)
    }

    /// One look at the queue.
    pub(super) fn test_only_drain(&mut self) -> io::Result<()> {
        self.drain(&AtomicBool::new(false))
    }
}

fn path_of(file: impl AsFd) -> io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(PathBuf::from(OsStr::from_bytes(readlinkat(CWD, link.as_str(), Vec::new())?.to_bytes())))
}

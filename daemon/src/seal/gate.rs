//! Holding up those who come to open a displaced file, and sending them back to the name: `FAN_OPEN_PERM`, where
//! the privilege is there. Without it the exchange is undone for them, which costs a try and loses nothing.
//!
//! The order matters. The mark is set after the exchange and before the last look at the leases: whoever was earlier is
//! seen there. Nobody is answered while the lease is held, because each question brings an open descriptor of the file,
//! and that would break our own lease. Refused is with `EAGAIN`, as a lease would: programs that know leases (smbd) walk
//! the path again, and come to the envelope.
//!
//! A [`Hold`] is a notification group of the kernel that is in use: by one exchange, or by all those of a group of files, since
//! there are few. Its openers are answered together, when the last of its files is done with: to read one question is
//! to read whichever comes first, and that opens a file on which the lease may be held still.
//!
//! Marks of files that are given up stay for as long as the file has users (they do not pin it), so that somebody who holds it with
//! `O_PATH` is refused at any later time too, whatever their privileges.

use super::facts::Facts;
use crate::sys::fanotify::{BUFFER, Group, RawEvent, events};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Most groups: the kernel allows a user 128 in all.
const GROUPS: usize = 32;

/// Keeps groups and answers for them.
#[derive(Debug)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    slots: Mutex<Vec<Slot>>,
    wake: OwnedFd,
    stopping: AtomicBool,
}

#[derive(Debug)]
struct Slot {
    group: Arc<Group>,
    held: bool,
}

/// Displaced files whose openers wait. Dropped with the last of them, it answers; no lease may be held on any then.
#[derive(Debug)]
pub(crate) struct Hold {
    shared: Arc<Shared>,
    group: Arc<Group>,
    /// Those whose openers may go on.
    freed: Mutex<Vec<Facts>>,
}

/// A displaced file whose openers wait. Dropping it, as a process that dies does, lets all of them in.
#[derive(Debug)]
pub(crate) struct Held {
    hold: Arc<Hold>,
    facts: Facts,
    ended: bool,
}

impl Gate {
    /// A gate.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`.
    pub(crate) fn new() -> io::Result<Self> {
        let first = Slot { group: Arc::new(group()?), held: false };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared =
            Arc::new(Shared { slots: Mutex::new(vec![first]), wake, stopping: AtomicBool::new(false) });
        let serving = Arc::clone(&shared);
        let thread = Builder::new().name("gate".to_owned()).spawn(move || serving.serve())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Room for displaced files; none when that is not possible now.
    pub(crate) fn hold(&self) -> Option<Arc<Hold>> {
        let (shared, group) = (Arc::clone(&self.shared), self.shared.take()?);
        Some(Arc::new(Hold { shared, group, freed: Mutex::default() }))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that answers for displaced files panicked");
        }
    }
}

impl Hold {
    /// Makes everybody who opens `file` from now on wait; none when that is not possible.
    pub(crate) fn add(self: &Arc<Self>, file: &File) -> Option<Held> {
        let facts = Facts::of(file).ok()?;
        let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_EVICTABLE;
        self.group.mark(flags, libc::FAN_OPEN_PERM, file).ok()?;
        Some(Held { hold: Arc::clone(self), facts, ended: false })
    }

    fn freed(&self) -> MutexGuard<'_, Vec<Facts>> {
        self.freed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        answer(&self.group, &self.freed());
        self.shared.give(&self.group);
    }
}

impl Held {
    /// The file was given up: whoever waits, and whoever still comes, is refused.
    pub(crate) fn refuse(mut self) {
        self.ended = true;
    }

    /// The file, which is open as `file`, has a name of its owner's: nobody is held up from now on, and who waits goes on.
    pub(crate) fn free(mut self, file: &File) {
        match self.hold.group.mark(libc::FAN_MARK_REMOVE, libc::FAN_OPEN_PERM, file) {
            Ok(()) => self.end(),
            // All are let in then.
            Err(error) => tracing::error!(%error, "failed to remove the mark of a file"),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.hold.freed().push(self.facts.clone());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Err(error) = self.hold.group.mark(libc::FAN_MARK_FLUSH, 0, &*self.hold.group) {
            tracing::error!(%error, "failed to remove the marks of files");
        }
        self.end();
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Arc<Group>> {
        let mut slots = self.slots();
        if let Some(free) = slots.iter_mut().find(|slot| !slot.held) {
            free.held = true;
            return Some(Arc::clone(&free.group));
        }
        if slots.len() >= GROUPS {
            return None;
        }
        let group = Arc::new(group().ok()?);
        slots.push(Slot { group: Arc::clone(&group), held: true });
        Some(group)
    }

    fn give(&self, group: &Arc<Group>) {
        if let Some(slot) = self.slots().iter_mut().find(|slot| Arc::ptr_eq(&slot.group, group)) {
            slot.held = false;
        }
        self.wake();
    }

    fn wake(&self) {
        // Full means that it is awake anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Answers for groups that nobody holds.
    fn serve(&self) {
        while !self.stopping.load(Ordering::Relaxed) {
            let groups: Vec<_> =
                self.slots().iter().filter(|slot| !slot.held).map(|slot| Arc::clone(&slot.group)).collect();
            let mut waiting: Vec<_> =
                groups.iter().map(|group| PollFd::new(&**group, PollFlags::IN)).collect();
            waiting.push(PollFd::new(&self.wake, PollFlags::IN));
            if let Err(errno) = poll(&mut waiting, None)
                && errno != Errno::INTR
            {
                tracing::error!(%errno, "failed to wait for openers of displaced files");
                return;
            }
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            // Under the lock nobody takes a group while its openers are answered.
            for slot in self.slots().iter().filter(|slot| !slot.held) {
                answer(&slot.group, &[]);
            }
        }
    }
}

fn group() -> io::Result<Group> {
    // When the queue is full the kernel lets openers in, and a group of files has many marks. Both are bounded by what a user may have:
    // each opener that waits is a thread, and each mark goes with its file.
    Group::new(libc::FAN_CLASS_PRE_CONTENT | libc::FAN_UNLIMITED_QUEUE | libc::FAN_UNLIMITED_MARKS)
}

/// Answers all who wait: those for `freed` files, and this process itself, may go on; others are to try again.
fn answer(group: &Group, freed: &[Facts]) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut buffer = vec![0; BUFFER / 16];
    loop {
        let length = match rustix::io::read(group, &mut buffer) {
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return,
            // The kernel refused that opener itself, because no descriptor could be made for us.
            Err(errno) => {
                tracing::debug!(%errno, "an opener of a displaced file was refused");
                continue;
            }
        };
        for event in events(buffer.get(..length).unwrap_or_default()) {
            respond(group, &event, |file| {
                let is_it = |now: Facts| freed.iter().any(|freed| now.same_file(freed));
                event.pid == own || Facts::of(file).is_ok_and(is_it)
            });
        }
    }
}

fn respond(group: &Group, event: &RawEvent<'_>, admitted: impl Fn(&OwnedFd) -> bool) {
    let Some(file) = event.take_file() else { return };
    let say = |response: u32| {
        let message = [file.as_raw_fd().to_ne_bytes(), response.to_ne_bytes()].concat();
        rustix::io::write(group, &message)
    };
    let again = Errno::AGAIN.raw_os_error().cast_unsigned() << 24;
    let said = if admitted(&file) {
        say(libc::FAN_ALLOW)
    } else {
        // Kernels before 6.14 know no other error than EPERM.
        say(libc::FAN_DENY | again).or_else(|_| say(libc::FAN_DENY))
    };
    if let Err(errno) = said {
        tracing::warn!(%errno, "failed to answer an opener of a displaced file");
    }
}

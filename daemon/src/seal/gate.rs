//! Holding up those who come to open a displaced file, and sending them back to the name: `FAN_OPEN_PERM`, where
//! the privilege is there. Without it the exchange is undone for them, which costs a try and loses nothing.
//!
//! The order matters. The mark is set after the exchange and before the last look at the leases: whoever was earlier is
//! seen there. Nobody is answered while the lease is held, because each question brings an open descriptor of the file,
//! and that would break our own lease. Refused is with `EAGAIN`, as a lease would: programs that know leases (smbd) walk
//! the path again, and come to the envelope.
//!
//! Each exchange under way has a group of its own. Marks of files that are given up stay for as long as the file has
//! users (they do not pin it), so that somebody who holds it with `O_PATH` is refused at any later time too.

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

/// A displaced file whose openers wait. Dropping it lets them in.
#[derive(Debug)]
pub(crate) struct Held {
    shared: Arc<Shared>,
    group: Arc<Group>,
    facts: Facts,
    admit: bool,
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

    /// Makes everybody who opens `file` from now on wait; none when that is not possible now.
    pub(crate) fn hold(&self, file: &File) -> Option<Held> {
        let facts = Facts::of(file).ok()?;
        let group = self.shared.take()?;
        let held = Held { shared: Arc::clone(&self.shared), group, facts, admit: true };
        let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_EVICTABLE;
        held.group.mark(flags, libc::FAN_OPEN_PERM, file).ok()?;
        Some(held)
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

impl Held {
    /// The file was given up: whoever waits, and whoever still comes, is refused. No descriptor with a lease on it may
    /// be open any more.
    pub(crate) fn refuse(mut self) {
        self.admit = false;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.admit {
            // It has its name again, so nobody is to be held up any more.
            if let Err(error) = self.group.mark(libc::FAN_MARK_FLUSH, 0, &*self.group) {
                tracing::error!(%error, "failed to remove the mark of a file");
            }
            answer(&self.group, Some(&self.facts));
        }
        self.shared.give(&self.group);
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
                answer(&slot.group, None);
            }
        }
    }
}

fn group() -> io::Result<Group> {
    Group::new(libc::FAN_CLASS_PRE_CONTENT)
}

/// Answers all who wait: those for `restored`, and this process itself, may go on; others are to try again.
fn answer(group: &Group, restored: Option<&Facts>) {
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
                event.pid == own
                    || restored.is_some_and(|facts| Facts::of(file).is_ok_and(|now| now.same_file(facts)))
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

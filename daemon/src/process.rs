//! The process itself: no core dumps, no swap, enough descriptors.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use std::io;

/// Keeps keys and plaintext out of core dumps and, where the system lets us, out of swap; raises the limit of
/// open descriptors to what is allowed.
///
/// # Errors
/// When core dumps cannot be turned off.
pub fn harden() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // What is started from here sets a limit of its own, for which the upper one stays.
    let upper = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: upper })?;
    if may_lock() {
        if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        {
            tracing::warn!(%error, "memory cannot be locked: keys may reach swap");
        }
    } else {
        tracing::info!("memory is not locked (no CAP_IPC_LOCK): keys may reach swap");
    }
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    Ok(())
}

/// With a limit on locked memory a later allocation would fail; so lock all or nothing.
fn may_lock() -> bool {
    getrlimit(Resource::Memlock).current.is_none()
        || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

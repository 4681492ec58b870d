//! Keeps keys in memory from reaching the disk: no core dumps, no ptrace by the same user, no swapping where the
//! service manager allows it (`LimitMEMLOCK=infinity`).

use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Does what can be done; says so where something cannot.
pub(crate) fn harden() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps and ptrace are not shut out");
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core dumps are not shut out");
    }
    // With a limit, locking all would make later allocations fail.
    if getrlimit(Resource::Memlock).current.is_some() {
        tracing::info!("memory is not locked: LimitMEMLOCK is not infinity; use encrypted swap or none");
        return;
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(error) = rustix::mm::mlockall(flags) {
        tracing::warn!(%error, "memory is not locked");
    }
}

//! What a daemon that was killed left: its sessions' processes have died with it, its views are dead mounts.

use super::processes;
use super::settings::SessionSettings;
use rustix::mount::{UnmountFlags, unmount};
use std::io;
use std::path::Path;

/// Ends and removes what is left of sessions, before the first new one.
///
/// # Errors
/// When processes of sessions do not end.
pub fn clear(settings: &SessionSettings) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let last = settings.first_uid.saturating_add(settings.uids.saturating_sub(1));
    processes::end(&(settings.first_uid..=last))?;
    for session in std::fs::read_dir(&settings.folder).into_iter().flatten().flatten() {
        for mount in std::fs::read_dir(session.path()).into_iter().flatten().flatten() {
            detach(&mount.path());
            let _stays_when_mounted = std::fs::remove_dir(mount.path());
        }
        match std::fs::remove_dir(session.path()) {
            Ok(()) => {
                tracing::info!(folder = %session.path().display(), "what was left of a session is removed")
            }
            Err(error) => {
                tracing::warn!(folder = %session.path().display(), %error, "what is left of a session stays");
            }
        }
    }
    Ok(())
}

fn detach(path: &Path) {
    while unmount(path, UnmountFlags::DETACH).is_ok() {}
}

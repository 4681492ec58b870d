//! Set-id bits and file capabilities end when a file's contents change (`write(2)`, `truncate(2)`, `fallocate(2)`). The kernel leaves
//! that to us (`FUSE_HANDLE_KILLPRIV_V2`); otherwise it would ask for the capabilities before each single write.

use super::Answer;
use super::nodes::{Node, through};
use super::state::View;
use rustix::fs::{AtFlags, CWD, Mode, chmodat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How long it is remembered that there is nothing to end: somebody beneath may change that.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Where the kernel keeps the capabilities of a program.
const CAPABILITIES: &std::ffi::CStr = c"security.capability";

impl View {
    /// To be called when contents change. `set_id` says that set-id bits end too, as they do unless who changes them may set
    /// them (`CAP_FSETID`).
    pub(super) fn end_privileges(&self, node: &Node, set_id: bool) -> Answer<()> {
        let now = Instant::now();
        {
            let seen = node.seen();
            if let Some(since) = seen.unprivileged
                && now.saturating_duration_since(since) < REMEMBERED
            {
                return Ok(());
            }
        }
        let stays = end(node, set_id)?;
        node.seen().unprivileged = (!stays).then_some(now);
        Ok(())
    }
}

/// Takes the privileges away; whether some are left.
fn end(file: &(impl AsFd + AsRawFd), set_id: bool) -> Answer<bool> {
    let path = through(file);
    match rustix::fs::getxattr(&path, CAPABILITIES, &mut [0_u8; 0]) {
        Ok(0) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
        Ok(_) | Err(Errno::RANGE) => rustix::fs::removexattr(&path, CAPABILITIES)?,
        Err(errno) => return Err(errno),
    }
    let mode = Mode::from_raw_mode(super::nodes::stat(file)?.stx_mode.into());
    // Without the right to execute it, the bit of the group stands for mandatory locking.
    let group = if mode.contains(Mode::XGRP) { mode & Mode::SGID } else { Mode::empty() };
    let bits = (mode & Mode::SUID) | group;
    if bits.is_empty() || !set_id {
        return Ok(!bits.is_empty());
    }
    chmodat(CWD, path, (mode & Mode::from_raw_mode(0o7777)) - bits, AtFlags::empty())?;
    Ok(false)
}

//! The user namespace by which a mount shows the user's files as the session's. A namespace belongs to a process when it is
//! made, so a helper makes it and waits until somebody else holds it.

use crate::sys::namespaces::own_users;
use anyhow::{Result, ensure};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// All user ids there are: `(uid_t) -1` means none.
const END: u64 = u32::MAX as u64;

/// A namespace that shows `user` as `session` and the other way round, and all others as they are.
///
/// # Errors
/// When the kernel has no user namespaces left.
pub(super) fn shown(user: u32, session: u32) -> Result<OwnedFd> {
    let mut helper = Command::new("/proc/self/exe")
        .args(["confine", "owners"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let result = (|| {
        let mut ready = [0];
        if let Some(stdout) = &mut helper.stdout {
            stdout.read_exact(&mut ready)?;
        }
        let of_helper = |name: &str| format!("/proc/{}/{name}", helper.id());
        std::fs::write(of_helper("uid_map"), exchange(user, session))?;
        std::fs::write(of_helper("gid_map"), format!("0 0 {END}\n"))?;
        Ok(File::open(of_helper("ns/user"))?.into())
    })();
    drop(helper.stdin.take());
    let ended = helper.wait()?;
    ensure!(result.is_err() || ended.success(), "the helper failed: {ended}");
    result
}

/// The helper: makes the namespace, says so, and waits until it is held.
///
/// # Errors
/// When the kernel does not allow it.
pub(super) fn hold() -> Result<()> {
    own_users()?;
    std::io::stdout().write_all(&[1])?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The lines of a map in which two ids change places.
fn exchange(one: u32, other: u32) -> String {
    let (low, high) = (u64::from(one.min(other)), u64::from(one.max(other)));
    let lines = [
        (0, 0, low),
        (low, high, 1),
        (low + 1, low + 1, (high - low).saturating_sub(1)),
        (high, low, u64::from(high != low)),
        (high + 1, high + 1, END - high - 1),
    ];
    lines
        .iter()
        .filter(|(.., count)| *count > 0)
        .map(|(inside, outside, count)| format!("{inside} {outside} {count}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ids_change_places_and_every_other_stays() {
        assert_eq!(
            exchange(1000, 2_063_597_568),
            "0 0 1000\n1000 2063597568 1\n1001 1001 2063596567\n2063597568 1000 1\n2063597569 2063597569 2231369726\n"
        );
        assert_eq!(exchange(5, 0), "0 5 1\n1 1 4\n5 0 1\n6 6 4294967289\n");
        assert_eq!(exchange(0, 1), "0 1 1\n1 0 1\n2 2 4294967293\n");
    }
}

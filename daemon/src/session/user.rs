//! Who a session is for, as the host knows them.

use super::settings::Home;
use crate::failure::Failure;
use nix::unistd::User;
use rustix::net::sockopt::socket_peercred;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tobari_core::proto::control::Program;
use tobari_core::proto::problem::ProblemCode;

/// A local user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalUser {
    /// The user id.
    pub(super) uid: u32,
    /// The group of the process that called.
    pub(super) gid: u32,
    /// The other groups.
    pub(super) groups: Vec<u32>,
    /// The name, where `/etc/passwd` does not have it: in a session nobody can ask the directory that does.
    pub(super) name: Option<String>,
    /// The home.
    pub(super) home: PathBuf,
    /// Whether it is there and theirs, so that it can be shown.
    pub(super) home_shown: bool,
}

impl LocalUser {
    /// Who is at the other end of `stream`.
    ///
    /// # Errors
    /// When the host's user database cannot be read.
    pub(super) fn of(stream: &UnixStream, program: &Program, home: Home) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(ProblemCode::LocalIo, format!("the user database of this host: {error}"))
        };
        let peer = socket_peercred(stream).map_err(|error| failed(&error))?;
        let (uid, gid) = (peer.uid.as_raw(), peer.gid.as_raw());
        let known = User::from_uid(uid.into()).map_err(|error| failed(&error))?;
        let name = known.as_ref().map_or_else(|| format!("uid{uid}"), |user| user.name.clone());
        let accounts = std::fs::read_to_string("/etc/passwd").map_err(|error| failed(&error))?;
        let listed = accounts.lines().any(|line| line.split(':').nth(2) == Some(uid.to_string().as_str()));
        let mut groups = Vec::new();
        if let Some(user) = &known
            && let Ok(name) = CString::new(user.name.as_bytes())
        {
            let of_user = nix::unistd::getgrouplist(&name, gid.into()).map_err(|error| failed(&error))?;
            groups =
                of_user.into_iter().map(nix::unistd::Gid::as_raw).filter(|group| *group != gid).collect();
        }
        // The caller's word counts only where it names a folder of their own.
        let named = variable(program, "HOME").map(Path::new).and_then(|path| path.canonicalize().ok());
        let candidates = known.iter().map(|user| user.dir.clone()).chain(named);
        let shown = candidates.filter(|path| is_own(path, uid)).find(|_| home == Home::Overlay);
        let home_shown = shown.is_some();
        let home = shown.unwrap_or_else(|| PathBuf::from("/home/session"));
        let name = (!listed && !name.contains([':', '\n'])).then_some(name);
        Ok(Self { uid, gid, groups, name, home, home_shown })
    }
}

fn is_own(path: &Path, uid: u32) -> bool {
    let kernel = ["/proc", "/sys", "/dev"].iter().any(|kernel| path.starts_with(kernel));
    let plain = path.is_absolute() && path.parent().is_some() && !kernel;
    plain && std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == uid)
}

/// The value of a variable of the program's environment; none when unset or empty.
pub(super) fn variable<'a>(program: &'a Program, name: &str) -> Option<&'a OsStr> {
    let (_, value) = program.environment.iter().rfind(|(known, _)| known.0 == name.as_bytes())?;
    Some(OsStr::from_bytes(&value.0)).filter(|value| !value.is_empty())
}

//! Users of the host, under whose uid the drill's helpers run.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user.
#[derive(Debug, Clone)]
pub(super) struct User {
    uid: u32,
    gid: u32,
    /// The home directory, or `/var/tmp` for somebody without one.
    pub home: PathBuf,
    /// Whether this process runs under another uid, as root.
    foreign: bool,
}

impl User {
    /// The user with this uid, or who runs this process: then `home` is theirs, as it is for sessions. One who is not in the
    /// password file has the group of the same number.
    ///
    /// # Errors
    /// When it is somebody else, and this process is not root's.
    pub(super) fn find(uid: Option<u32>, home: Option<&Path>) -> io::Result<Self> {
        let own = rustix::process::geteuid().as_raw();
        let uid = uid.unwrap_or(own);
        if uid != own && own != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "only root drills for others"));
        }
        let output = Command::new("getent")
            .args(["passwd", &uid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()?;
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let fields: Vec<&str> = line.trim_end().split(':').collect();
        let gid = fields.get(3).and_then(|gid| gid.parse().ok()).unwrap_or(uid);
        let own_home = home.filter(|_| uid == own).map(Path::to_owned);
        let home = own_home.into_iter().chain(fields.get(5).map(PathBuf::from)).find(|home| home.is_dir());
        Ok(Self { uid, gid, home: home.unwrap_or_else(|| PathBuf::from("/var/tmp")), foreign: uid != own })
    }

    /// Lets a command run as this user.
    pub(super) fn dress(&self, command: &mut Command) {
        if self.foreign {
            command.uid(self.uid).gid(self.gid).env("HOME", &self.home).env_remove("XDG_RUNTIME_DIR");
        }
    }

    /// Lets a command run as this user, and open raw sockets on the host, which users may where an administrator let them.
    /// Without `setpriv`, or when it is not root who drills, it runs as it would.
    pub(super) fn with_raw_sockets(&self, command: Command) -> Command {
        if !self.foreign || !Path::new("/usr/bin/setpriv").exists() {
            return command;
        }
        let mut with = Command::new("/usr/bin/setpriv");
        with.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid));
        with.args(["--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw", "--"]);
        with.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => with.env(name, value),
                None => with.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            with.current_dir(directory);
        }
        with
    }

    /// Gives a file or directory to this user.
    ///
    /// # Errors
    /// As `chown(2)`.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        if self.foreign { std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// The directory of the user's running programs, where there is one.
    pub(super) fn runtime(&self) -> Option<PathBuf> {
        let usual = PathBuf::from(format!("/run/user/{}", self.uid));
        Some(usual).filter(|directory| directory.is_dir())
    }
}

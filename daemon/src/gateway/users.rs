//! Which person belongs to a uid. Without a map a user's name on this host is the person's login name; with one, only
//! who is in it is anybody. Names are looked up by `getent`, in a process of its own: the modules that the system's
//! name service loads (LDAP, winbind) are foreign code and stay out of the process that holds keys.

use crate::failure::Failure;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tobari_core::proto::problem::ProblemCode;

/// How long a name that was looked up is good.
const REMEMBERED: Duration = Duration::from_secs(60);
/// More uids than this are not remembered.
const MAX_REMEMBERED: usize = 10_000;

/// A map of users that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UserMapError {
    /// The file cannot be read.
    #[error("failed to read the map of users {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML table of texts; the parser names the line.
    #[error("failed to understand the map of users {path}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

/// Who is who.
#[derive(Debug)]
pub struct Users {
    map: Option<HashMap<String, String>>,
    names: Mutex<HashMap<u32, (String, Instant)>>,
}

impl Users {
    /// With the map in a file, if one is configured.
    ///
    /// # Errors
    /// When it is not one.
    pub fn new(map: Option<&Path>) -> Result<Self, UserMapError> {
        let map = map.map(read).transpose()?;
        Ok(Self { map, names: Mutex::default() })
    }

    /// The login name of the person to whom `uid` belongs.
    ///
    /// # Errors
    /// `NotLoggedIn` when it is nobody's; `LocalIo` when the name service does not answer.
    pub fn login_of(&self, uid: u32) -> Result<String, Failure> {
        let nobody = || {
            Failure::new(
                ProblemCode::NotLoggedIn,
                format!("uid {uid} belongs to nobody whom the gateway knows"),
            )
        };
        // Root is what the share runs as, not somebody whom it authenticated.
        if uid == 0 {
            return Err(nobody());
        }
        if let Some(login) = self.map.as_ref().and_then(|map| map.get(&uid.to_string())) {
            return Ok(login.clone());
        }
        let name = self.name_of(uid)?.ok_or_else(nobody)?;
        match &self.map {
            None => Ok(name),
            Some(map) => map.get(&name).cloned().ok_or_else(nobody),
        }
    }

    fn name_of(&self, uid: u32) -> Result<Option<String>, Failure> {
        let known = |names: &HashMap<u32, (String, Instant)>| {
            let (name, since) = names.get(&uid)?;
            (since.elapsed() < REMEMBERED).then(|| name.clone())
        };
        if let Some(name) = known(&self.names.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Some(name));
        }
        let name = look_up(uid).map_err(|error| Failure::io("getent passwd", &error))?;
        if let Some(name) = &name {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if names.len() >= MAX_REMEMBERED {
                names.clear();
            }
            names.insert(uid, (name.clone(), Instant::now()));
        }
        Ok(name)
    }
}

fn read(path: &Path) -> Result<HashMap<String, String>, UserMapError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| UserMapError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| UserMapError::Malformed { path: path.to_owned(), source: Box::new(source) })
}

fn look_up(uid: u32) -> io::Result<Option<String>> {
    let output = Command::new("getent")
        .args(["passwd", &uid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .env_remove("LD_PRELOAD")
        .output()?;
    match output.status.code() {
        Some(0) => Ok(name_in(&String::from_utf8_lossy(&output.stdout), uid)),
        // No such key.
        Some(2) => Ok(None),
        _ => Err(io::Error::other(format!("ended with {}", output.status))),
    }
}

/// The name in a line of `passwd(5)`, if the line is about `uid`. A user whose *name* is a number is not taken for
/// the uid.
fn name_in(line: &str, uid: u32) -> Option<String> {
    let mut fields = line.lines().next()?.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.contains('\u{fffd}'))?;
    let found: u32 = fields.nth(1)?.parse().ok()?;
    (found == uid).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_the_person_of_the_same_name_and_root_is_nobody() {
        let users = Users::new(None).unwrap();
        assert_eq!(users.login_of(1).unwrap(), "daemon");
        for nobody in [0, 4_000_000_123] {
            assert_eq!(users.login_of(nobody).unwrap_err().problem.code, ProblemCode::NotLoggedIn);
        }
    }

    #[test]
    fn with_a_map_only_who_is_in_it_is_anybody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "daemon = \"bucho\"\n\"4000000123\" = \"ippan\"\n\"0\" = \"admin\"\n")
            .unwrap();
        let users = Users::new(Some(file.path())).unwrap();
        assert_eq!(users.login_of(1).unwrap(), "bucho");
        assert_eq!(users.login_of(4_000_000_123).unwrap(), "ippan");
        for nobody in [0, 2, 4_000_000_124] {
            assert_eq!(users.login_of(nobody).unwrap_err().problem.code, ProblemCode::NotLoggedIn);
        }
        std::fs::write(file.path(), "daemon = 3").unwrap();
        assert!(matches!(Users::new(Some(file.path())), Err(UserMapError::Malformed { .. })));
        assert!(matches!(Users::new(Some(Path::new("/nowhere"))), Err(UserMapError::Unreadable { .. })));
    }

    #[test]
    fn a_line_about_somebody_else_is_not_taken() {
        let line = "bucho:x:1001:1001:部長:/home/bucho:/bin/sh\n";
        assert_eq!(name_in(line, 1001).as_deref(), Some("bucho"));
        assert_eq!(
            name_in("EXAMPLE\\bucho:*:1001:1001::/:/bin/false\n", 1001).as_deref(),
            Some("EXAMPLE\\bucho")
        );
        // A user called "1001".
        assert_eq!(name_in("1001:x:5:5::/:/bin/sh\n", 1001), None);
        for broken in ["", "\n", "bucho", "bucho:x", ":x:1001:", "bucho:x:1001x:"] {
            assert_eq!(name_in(broken, 1001), None, "{broken:?}");
        }
    }
}

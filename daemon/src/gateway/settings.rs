//! Table `[gateway]` of the configuration: as written, and as used.

use serde::Deserialize;
use std::path::{Component, Path, PathBuf};

/// As written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGateway {
    /// Which folders are shown where.
    #[serde(default)]
    pub mount: Vec<MountSetting>,
    /// File that says whose uid is which person's; the user names of this host are login names when left out.
    pub user_map: Option<PathBuf>,
}

/// One view.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountSetting {
    /// The designated folder, as the bulletin names it.
    pub folder: PathBuf,
    /// The directory at which the share finds it.
    pub at: PathBuf,
}

/// As used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Which folders are shown where.
    pub mounts: Vec<MountSetting>,
    /// File that says whose uid is which person's.
    pub user_map: Option<PathBuf>,
    /// Directory that nobody but root can enter, in which the views are mounted before they are shown.
    pub views_dir: PathBuf,
}

impl RawGateway {
    /// Checks the paths; views are mounted in a directory beside the control socket.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn resolve(self, socket: &Path) -> Result<GatewaySettings, (&'static str, String)> {
        for MountSetting { folder, at } in &self.mount {
            for (key, path) in [("gateway.mount.folder", folder), ("gateway.mount.at", at)] {
                plain(path).map_err(|why| (key, why))?;
            }
            // The view would show itself, or its mount point would be sealed as a folder.
            if at.starts_with(folder) || folder.starts_with(at) {
                return Err(("gateway.mount.at", format!("{at:?} and {folder:?} lie in each other")));
            }
        }
        for (index, one) in self.mount.iter().enumerate() {
            for other in self.mount.iter().skip(index + 1) {
                if one.at.starts_with(&other.at) || other.at.starts_with(&one.at) {
                    return Err((
                        "gateway.mount.at",
                        format!("{:?} and {:?} lie in each other", one.at, other.at),
                    ));
                }
            }
        }
        if let Some(path) = &self.user_map {
            plain(path).map_err(|why| ("gateway.user_map", why))?;
        }
        let views_dir = socket.parent().unwrap_or_else(|| Path::new("/run/tobari")).join("gateway");
        Ok(GatewaySettings { mounts: self.mount, user_map: self.user_map, views_dir })
    }
}

/// An absolute path without `.` and `..`.
fn plain(path: &Path) -> Result<(), String> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain { Ok(()) } else { Err(format!("{path:?} is not a plain absolute path")) }
}

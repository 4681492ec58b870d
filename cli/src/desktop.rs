//! Which program opens a file here, by the desktop's own rules: the type follows from the name (shared-mime-info), the
//! program from the associations (mimeapps.list) and its `.desktop` file. Sealed files keep their names, so the name is all that
//! is needed. The places are those of the XDG base directories.

mod associations;
mod entry;
mod notify;
mod types;

pub use notify::Notifier;

use crate::console::Console;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Folders of the desktop's files, in order of preference.
#[derive(Debug)]
struct Places {
    /// `mimeapps.list` lies in these.
    config: Vec<PathBuf>,
    /// `mime` and `applications` lie in these.
    data: Vec<PathBuf>,
    /// Names of desktops in use, lower case: each may have associations of its own.
    desktops: Vec<String>,
}

impl Places {
    fn of(console: &Console) -> Self {
        let absolute = |path: &PathBuf| path.is_absolute();
        let home = console.variable("HOME").map(PathBuf::from);
        let own = |name: &str, below_home: &str| {
            let named = console.variable(name).map(PathBuf::from).filter(absolute);
            named.or_else(|| home.as_ref().map(|home| home.join(below_home)))
        };
        let list = |name: &str, otherwise: &str| {
            let value = console.variable(name).cloned().unwrap_or_else(|| OsString::from(otherwise));
            std::env::split_paths(&value).filter(absolute).collect::<Vec<_>>()
        };
        let mut config: Vec<PathBuf> = own("XDG_CONFIG_HOME", ".config").into_iter().collect();
        config.extend(list("XDG_CONFIG_DIRS", "/etc/xdg"));
        let mut data: Vec<PathBuf> = own("XDG_DATA_HOME", ".local/share").into_iter().collect();
        data.extend(list("XDG_DATA_DIRS", "/usr/local/share:/usr/share"));
        let current =
            console.variable("XDG_CURRENT_DESKTOP").and_then(|names| names.to_str()).unwrap_or_default();
        let desktops = current.split(':').filter(|name| !name.is_empty()).map(str::to_lowercase).collect();
        Self { config, data, desktops }
    }
}

/// The command that opens `file`, which must be an absolute path; or its type, where nothing is associated with that.
///
/// # Errors
/// The MIME type, for the message; `application/octet-stream` where the name tells none.
pub fn command_for(console: &Console, file: &Path) -> Result<Vec<OsString>, String> {
    let places = Places::of(console);
    let types = types::of(&places.data, file);
    types
        .iter()
        .flat_map(|kind| associations::of(&places, kind))
        .filter_map(|id| entry::find(&places.data, &id))
        .find_map(|entry| entry.command(console, file))
        .ok_or_else(|| types.first().map_or("application/octet-stream", String::as_str).to_owned())
}

#[cfg(test)]
mod tests;

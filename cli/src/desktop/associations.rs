//! Which applications are associated with a type: `mimeapps.list` of users and administrators, then what applications
//! say of themselves (`mimeinfo.cache`).

use super::Places;
use std::path::PathBuf;

/// Names of `.desktop` files for the type, best first.
pub(super) fn of(places: &Places, kind: &str) -> Vec<String> {
    let lists: Vec<String> =
        lists(places).iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let caches = places.data.iter().map(|folder| folder.join("applications/mimeinfo.cache"));
    let caches: Vec<String> = caches.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let from = |texts: &[String], group: &str| {
        texts.iter().flat_map(|text| values(text, group, kind)).collect::<Vec<String>>()
    };
    let removed = from(&lists, "Removed Associations");
    let mut found = from(&lists, "Default Applications");
    let others = [from(&lists, "Added Associations"), from(&caches, "MIME Cache")].concat();
    found.extend(others.into_iter().filter(|id| !removed.contains(id)));
    found
}

fn lists(places: &Places) -> Vec<PathBuf> {
    let data = places.data.iter().map(|folder| folder.join("applications"));
    let folders = places.config.iter().cloned().chain(data);
    folders
        .flat_map(|folder| {
            let own = places.desktops.iter().map(|desktop| folder.join(format!("{desktop}-mimeapps.list")));
            own.chain([folder.join("mimeapps.list")]).collect::<Vec<_>>()
        })
        .collect()
}

/// The values of `key` in a group of a key file.
fn values(text: &str, group: &str, key: &str) -> Vec<String> {
    let header = format!("[{group}]");
    text.lines()
        .map(str::trim)
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.trim() == key)
        .flat_map(|(_, value)| value.split(';').map(str::trim).filter(|id| !id.is_empty()))
        .map(str::to_owned)
        .collect()
}

//! Names inside an archive. One that would reach outside of the folder into which it is extracted, on any common
//! system, or that two entries share, is refused.

use std::collections::HashMap;

/// Longest path in bytes (the format has 16 bits for it; systems have less).
const MAX_PATH: usize = 4096;

/// Why a path does not go into an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnfitPath {
    /// It would reach outside, or is read in different ways by different programs.
    #[error("the path {0:?} is not safe in an archive")]
    Unsafe(String),
    /// Another entry has it, or needs it as a folder.
    #[error("the path {0:?} is in the archive twice")]
    Twice(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

/// The paths of one archive.
#[derive(Debug, Default)]
pub(super) struct Paths(HashMap<String, Kind>);

impl Paths {
    /// Adds a file's path, and with it the folders above.
    pub(super) fn add(&mut self, path: &str) -> Result<(), UnfitPath> {
        if !is_safe(path) {
            return Err(UnfitPath::Unsafe(path.to_owned()));
        }
        let above = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
        let clash =
            self.0.contains_key(path) || above.clone().any(|folder| self.0.get(folder) == Some(&Kind::File));
        if clash {
            return Err(UnfitPath::Twice(path.to_owned()));
        }
        for folder in above {
            self.0.insert(folder.to_owned(), Kind::Folder);
        }
        self.0.insert(path.to_owned(), Kind::File);
        Ok(())
    }
}

fn is_safe(path: &str) -> bool {
    let drive = path.as_bytes().get(1) == Some(&b':');
    !path.is_empty()
        && path.len() <= MAX_PATH
        && !drive
        && !path.contains(|c: char| c == '\\' || c.is_control())
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_taken_once() {
        let mut paths = Paths::default();
        for path in ["a", "総務部/議事録 2026.docx", "総務部/b", "..c/.d", "e f/g:h"] {
            paths.add(path).unwrap();
        }
        for path in ["a", "総務部", "a/b", "総務部/b/c"] {
            assert_eq!(paths.add(path), Err(UnfitPath::Twice(path.to_owned())));
        }
    }

    #[test]
    fn unsafe_paths_are_refused() {
        for path in
            ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "C:a", "C:/a", "a\nb", "a\0"]
        {
            assert_eq!(Paths::default().add(path), Err(UnfitPath::Unsafe(path.to_owned())), "{path:?}");
        }
        assert!(Paths::default().add(&"x".repeat(MAX_PATH + 1)).is_err());
    }
}

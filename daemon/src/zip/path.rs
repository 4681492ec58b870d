//! Names inside an archive. One that would reach outside of the folder into which it is extracted, on any common
//! system, or that two entries share, is refused. Two names are the same if any common system takes them for the
//! same: by letter case (Windows, macOS) or by composed and decomposed characters (macOS writes が as two). One of the
//! two files would silently be lost where the archive is extracted.

use std::collections::BTreeSet;
use unicode_normalization::UnicodeNormalization as _;

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

/// The paths of one archive, in the form in which they are compared.
#[derive(Debug, Default)]
pub(super) struct Paths(BTreeSet<String>);

impl Paths {
    /// Adds a file's path.
    pub(super) fn add(&mut self, path: &str) -> Result<(), UnfitPath> {
        if !is_safe(path) {
            return Err(UnfitPath::Unsafe(path.to_owned()));
        }
        let folded = fold(path);
        let mut above = folded.match_indices('/').filter_map(|(end, _)| folded.get(..end));
        let folder = format!("{folded}/");
        let is_folder = self.0.range(folder.clone()..).next().is_some_and(|next| next.starts_with(&folder));
        if is_folder || self.0.contains(&folded) || above.any(|above| self.0.contains(above)) {
            return Err(UnfitPath::Twice(path.to_owned()));
        }
        self.0.insert(folded);
        Ok(())
    }
}

/// Not NFKC: `資料１` and `資料1` are two files everywhere.
fn fold(path: &str) -> String {
    path.nfc().collect::<String>().to_lowercase().nfc().collect()
}

fn is_safe(path: &str) -> bool {
    let drive = path.as_bytes().get(1) == Some(&b':');
    !path.is_empty()
        && path.len() <= MAX_PATH
        && !drive
        && !path.contains(|c: char| c == '\\' || c.is_control())
        // Windows cuts dots and spaces off the end of a name: what has nothing else is no name there, or `..`.
        && path.split('/').all(|part| !part.trim_end_matches(['.', ' ']).is_empty())
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
    fn names_that_are_one_on_some_system_are_not_taken_twice() {
        let mut paths = Paths::default();
        for path in ["Report.TXT", "が/b", "資料１", "資料1", "総務部-2", "総務部/a"] {
            paths.add(path).unwrap();
        }
        for path in ["report.txt", "REPORT.txt/x", "か\u{3099}/b", "か\u{3099}", "総務部"] {
            assert_eq!(paths.add(path), Err(UnfitPath::Twice(path.to_owned())), "{path}");
        }
    }

    #[test]
    fn unsafe_paths_are_refused() {
        for path in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "C:a", "C:/a", "a\nb", "a\0",
            "a/.. /b", "... ", " ",
        ] {
            assert_eq!(Paths::default().add(path), Err(UnfitPath::Unsafe(path.to_owned())), "{path:?}");
        }
        assert!(Paths::default().add(&"x".repeat(MAX_PATH + 1)).is_err());
    }
}

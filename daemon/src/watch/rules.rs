//! Which paths of a folder are left alone, and which only while they are young.

use super::settings::EngineSettings;
use crate::seal::{Facts, FolderRule, compile_patterns, is_control};
use globset::GlobSet;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a worker came to look at a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was closed after writing or moved in: it has settled.
    Event,
    /// A walk, a timer or another try: it has settled if it was not written lately.
    Found,
}

/// The path rules of one folder.
#[derive(Debug)]
pub(super) struct Rules {
    /// The rule as the bulletin has it.
    pub(super) rule: FolderRule,
    excluded: GlobSet,
    /// Other designated folders within this one: theirs is the more specific rule.
    nested: Vec<PathBuf>,
    transient: GlobSet,
    settle: Duration,
    transient_age: Duration,
}

impl Rules {
    /// Joins rule and settings.
    ///
    /// # Errors
    /// When a pattern does not parse; in words.
    pub(super) fn new(
        rule: FolderRule,
        nested: Vec<PathBuf>,
        settings: &EngineSettings,
    ) -> Result<Self, String> {
        let excluded = rule.excluded.clone()?;
        let transient = compile_patterns(&settings.transient)?;
        let EngineSettings { settle, transient_age, .. } = *settings;
        Ok(Self { rule, excluded, nested, transient, settle, transient_age })
    }

    /// Whether `path` (relative) and all below it is no business of this folder.
    pub(super) fn leaves_alone(&self, path: &Path) -> bool {
        is_control(path)
            || self.nested.iter().any(|nested| path.starts_with(nested))
            || path.ancestors().any(|part| !part.as_os_str().is_empty() && self.excluded.is_match(part))
    }

    /// How long to wait until the file has settled; none if it has.
    pub(super) fn unsettled(
        &self,
        path: &Path,
        facts: &Facts,
        origin: Origin,
        now: Timestamp,
    ) -> Option<Duration> {
        let needed = if self.transient.is_match(path) {
            self.transient_age
        } else if origin == Origin::Event && facts.size > 0 {
            return None;
        } else {
            // An empty file has nothing to protect, and its content is most likely on its way.
            self.settle
        };
        // A modification time in the future says nothing; then the change time has to do.
        let written = if facts.modified.time() > now { facts.changed.time() } else { facts.modified.time() };
        let age = now.duration_since(written).unsigned_abs();
        needed.checked_sub(age).filter(|left| !left.is_zero())
    }
}

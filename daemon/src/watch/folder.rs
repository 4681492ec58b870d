//! One designated folder as the engine knows it.

use super::files::Totals;
use super::rules::Rules;
use super::source::FolderWatch;
use crate::seal::{FolderRoot, FolderRule};
use jiff::Timestamp;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tobari_core::proto::control::{FolderStatus, SweepStatus};

/// How the folder is doing.
#[derive(Debug)]
pub(super) enum Condition {
    /// A thread opens it; why it was not open before.
    Opening { why: String },
    /// It cannot be worked on; tried again at this time.
    Unavailable { why: String, again: Instant },
    /// It is worked on.
    Open {
        root: Arc<FolderRoot>,
        /// The watch, or why there is none and only sweeps find files.
        watch: Result<FolderWatch, String>,
    },
}

/// A folder.
pub(super) struct Folder {
    pub(super) rule: FolderRule,
    pub(super) path: PathBuf,
    /// Other designated folders inside, relative.
    pub(super) nested: Vec<PathBuf>,
    pub(super) rules: Result<Arc<Rules>, String>,
    /// Changes whenever the folder is opened anew; reports about an older one count no more.
    pub(super) incarnation: u64,
    pub(super) condition: Condition,
    /// Raised by whoever may have lost an event.
    pub(super) rescan: Arc<AtomicBool>,
    pub(super) sweep_due: Instant,
    pub(super) sweep_begin: Option<Instant>,
    /// Files that the sweep looked at, and the part of the tree that it has done.
    pub(super) sweep_progress: Option<(u64, f64)>,
    /// No sweep for lost events before this: sweeping itself makes events, and must not cause the next sweep.
    pub(super) sweep_floor: Instant,
    pub(super) swept_at: Option<Timestamp>,
    /// When it was last opened.
    pub(super) opened: Instant,
    /// Regular files that the last sweep saw.
    pub(super) files: Option<u64>,
    pub(super) sealed: u64,
    pub(super) sealed_bytes: u64,
    /// A worker tries to end pending exchanges.
    pub(super) settling: bool,
}

impl Folder {
    /// The root, while the folder is open.
    pub(super) fn root(&self) -> Option<&Arc<FolderRoot>> {
        match &self.condition {
            Condition::Open { root, .. } => Some(root),
            Condition::Opening { .. } | Condition::Unavailable { .. } => None,
        }
    }

    /// Ends all work on it; it is opened anew at once.
    pub(super) fn close(&mut self, why: &str, now: Instant) {
        if let Some(root) = self.root() {
            root.give_up();
        }
        self.condition = Condition::Unavailable { why: why.to_owned(), again: now };
    }

    /// Why not everything that happens in the open folder is heard of.
    pub(super) fn watch_trouble(&self) -> Option<String> {
        match &self.condition {
            Condition::Open { watch: Ok(watch), .. } => watch.trouble().cloned(),
            Condition::Open { watch: Err(why), .. } => Some(why.clone()),
            Condition::Opening { .. } | Condition::Unavailable { .. } => None,
        }
    }

    /// For `tobari status`.
    pub(super) fn status(&self, totals: Totals, now: Timestamp) -> FolderStatus {
        let since = totals
            .since
            .and_then(|oldest| now.checked_sub(jiff::SignedDuration::try_from(oldest.elapsed()).ok()?).ok());
        let watched = match (&self.rules, &self.condition) {
            (Err(why), _) => Err(why.clone()),
            (_, Condition::Opening { why } | Condition::Unavailable { why, .. }) => Err(why.clone()),
            (_, Condition::Open { .. }) if self.rule.keys.is_none() => {
                Err("the bulletin has no key for its label; nothing is sealed".to_owned())
            }
            (_, Condition::Open { .. }) => self.watch_trouble().map_or(Ok(()), Err),
        };
        FolderStatus {
            folder: (*self.rule.folder).clone(),
            label_name: self.rule.keys.as_ref().map(|keys| keys.label.name.clone()).unwrap_or_default(),
            watched,
            events: match &self.condition {
                Condition::Open { watch: Ok(watch), .. } => Some(watch.kind()),
                _ => None,
            },
            sealed: self.sealed,
            sealed_bytes: self.sealed_bytes,
            waiting: totals.waiting,
            swept_at: self.swept_at,
            files: self.files,
            plain: totals.plain,
            plain_since: since,
            sweep: self.sweep_status(),
        }
    }

    fn sweep_status(&self) -> Option<SweepStatus> {
        let seconds = self.sweep_begin?.elapsed().as_secs_f64();
        let (files, done) = self.sweep_progress?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an estimate; the conversion saturates"
        )]
        let status = SweepStatus {
            files,
            files_per_second: (files as f64 / seconds.max(0.001)) as u64,
            done_permille: (done * 1000.0) as u16,
            seconds_left: (done > 0.001).then(|| (seconds * (1.0 - done).max(0.0) / done) as u64),
        };
        Some(status)
    }
}

/// A path as the kernel reports it: no trailing slash, no `.`; `..` stays and is refused when opening.
pub(super) fn tidy(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| *part != Component::CurDir).collect()
}

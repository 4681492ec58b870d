//! `scan-coverage`: how much below some paths is sealed. Read with the caller's own permissions, without a key.

use super::text;
use crate::app::App;
use crate::args::ScanCoverage;
use crate::arguments;
use crate::error::Error;
use crate::files;
use crate::files::walk::{Met, walk};
use jiff::Timestamp;
use serde::Serialize;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use tobari_core::envelope::Header;
use tobari_core::ids::OrganisationId;

/// What a file was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Sealed,
    Plain,
    /// Begins like an envelope, and its header is none.
    Damaged,
    /// An envelope of another organisation.
    Foreign,
    Unreadable,
}

#[derive(Debug, Default, Serialize)]
struct Count {
    files: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    path: String,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<Timestamp>,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Oldest {
    path: String,
    modified: Timestamp,
    age_seconds: i64,
}

/// The document of `--json`.
#[derive(Debug, Default, Serialize)]
struct Coverage {
    sealed: Count,
    plain: Count,
    damaged: Count,
    foreign: Count,
    unreadable: Count,
    /// Symbolic links, sockets, pipes and devices, which are never sealed.
    special: u64,
    covered: bool,
    share_of_files: f64,
    share_of_bytes: f64,
    oldest_plain: Option<Oldest>,
    /// Every file that is not sealed with `--list`; else the unreadable ones.
    list: Vec<Listed>,
}

/// `tobari scan-coverage`.
pub(super) fn run(args: &ScanCoverage, app: &mut App) -> Result<(), Error> {
    // Without a daemon envelopes of other organisations count as sealed.
    let organisation = app.client().and_then(|mut client| client.notice()).ok();
    let organisation = organisation.map(|notice| notice.bulletin.organisation);
    let mut coverage = Coverage::default();
    let mut seen = 0;
    let progress = app.progress(Path::new("scan-coverage"), None);
    for path in &args.paths {
        walk(path, &mut |met| {
            seen += 1;
            progress.set(seen, None);
            coverage.meet(met, organisation, args.list);
        });
    }
    drop(progress);
    coverage.conclude(app.console.clock.now());
    let (open, all) = coverage.totals();
    if app.settings.json {
        app.json(&coverage)?;
    } else {
        let text = describe(app, &coverage);
        app.line(&text)?;
    }
    if coverage.covered { Ok(()) } else { Err(Error::NotCovered { open, all }) }
}

impl Coverage {
    fn meet(&mut self, met: Met, organisation: Option<OrganisationId>, list: bool) {
        let (path, metadata) = match met {
            Met::Special(_) => {
                self.special += 1;
                return;
            }
            Met::Unreadable(path, _) => {
                self.unreadable.add(0);
                return self.list_file(&path, None, Kind::Unreadable);
            }
            Met::File(path, metadata) => (path, metadata),
        };
        let kind = classify(&path, organisation);
        let count = match kind {
            Kind::Sealed => &mut self.sealed,
            Kind::Plain => &mut self.plain,
            Kind::Damaged => &mut self.damaged,
            Kind::Foreign => &mut self.foreign,
            Kind::Unreadable => &mut self.unreadable,
        };
        count.add(metadata.len());
        if kind == Kind::Plain {
            self.note_age(&path, &metadata);
        }
        if kind == Kind::Unreadable || (list && kind != Kind::Sealed) {
            self.list_file(&path, Some(&metadata), kind);
        }
    }

    fn note_age(&mut self, path: &Path, metadata: &Metadata) {
        let Some(modified) = modified(metadata) else { return };
        if self.oldest_plain.as_ref().is_none_or(|oldest| modified < oldest.modified) {
            let path = path.to_string_lossy().into_owned();
            self.oldest_plain = Some(Oldest { path, modified, age_seconds: 0 });
        }
    }

    fn list_file(&mut self, path: &Path, metadata: Option<&Metadata>, kind: Kind) {
        self.list.push(Listed {
            path: path.to_string_lossy().into_owned(),
            kind,
            modified: metadata.and_then(modified),
            bytes: metadata.map_or(0, Metadata::len),
        });
    }

    fn conclude(&mut self, now: Timestamp) {
        if let Some(oldest) = &mut self.oldest_plain {
            oldest.age_seconds = now.duration_since(oldest.modified).as_secs().max(0);
        }
        let (open, all) = self.totals();
        self.covered = open == 0;
        self.share_of_files = share(self.sealed.files, all);
        self.share_of_bytes = share(self.sealed.bytes, self.all().iter().map(|count| count.bytes).sum());
    }

    fn all(&self) -> [&Count; 5] {
        [&self.sealed, &self.plain, &self.damaged, &self.foreign, &self.unreadable]
    }

    /// Files that are not known to be sealed, and all files.
    fn totals(&self) -> (u64, u64) {
        let all = self.all().iter().map(|count| count.files).sum::<u64>();
        (all - self.sealed.files, all)
    }
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 1.0 } else { part as f64 / all as f64 }
}

fn modified(metadata: &Metadata) -> Option<Timestamp> {
    Timestamp::new(metadata.mtime(), i32::try_from(metadata.mtime_nsec()).ok()?).ok()
}

fn classify(path: &Path, organisation: Option<OrganisationId>) -> Kind {
    let Ok(file) = files::open_found(path) else { return Kind::Unreadable };
    match files::is_sealed(&file, path) {
        Ok(true) => {}
        Ok(false) => return Kind::Plain,
        Err(_) => return Kind::Unreadable,
    }
    match Header::read(&file) {
        Err(_) => Kind::Damaged,
        Ok(header) if organisation.is_some_and(|ours| header.policy().organisation != ours) => Kind::Foreign,
        Ok(_) => Kind::Sealed,
    }
}

fn describe(app: &App, coverage: &Coverage) -> String {
    let row = |name: &str, count: &Count| {
        vec![app.word(name), text::grouped(count.files), text::grouped(count.bytes)]
    };
    let header = vec![String::new(), app.word("coverage-files"), app.word("coverage-bytes")];
    let rows = vec![
        row("coverage-sealed", &coverage.sealed),
        row("coverage-plain", &coverage.plain),
        row("coverage-damaged", &coverage.damaged),
        row("coverage-foreign", &coverage.foreign),
        row("coverage-unreadable", &coverage.unreadable),
    ];
    let percent = |share: f64| {
        // Rounded down: 100 means all.
        let tenths = (share * 1000.0).floor();
        format!("{:.1}", tenths / 10.0)
    };
    let shares =
        arguments! { files: percent(coverage.share_of_files), bytes: percent(coverage.share_of_bytes) };
    let mut lines = vec![text::table(Some(header), rows, 0), app.text("coverage-share", &shares)];
    if let Some(oldest) = &coverage.oldest_plain {
        let oldest = arguments! {
            path: text::printable(&oldest.path),
            time: text::time(app, oldest.modified),
            days: oldest.age_seconds / 86_400,
            hours: oldest.age_seconds / 3600 % 24,
        };
        lines.push(app.text("coverage-oldest", &oldest));
    }
    for listed in &coverage.list {
        let kind = serde_json::to_value(listed.kind).unwrap_or_default();
        let kind = app.word(&format!("coverage-{}", kind.as_str().unwrap_or_default()));
        lines.push(format!("  {kind}: {}", text::printable(&listed.path)));
    }
    lines.join("\n")
}

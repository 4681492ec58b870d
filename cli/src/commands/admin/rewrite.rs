//! `admin relabel`, `rewrap` and `reseal`: other headers, or new contents keys, for the sealed files below some paths.
//!
//! All can be repeated: what is as wanted already is passed over, so an interrupted run goes on where it ended. The journals of header
//! changes lie in a folder of the caller's, under the file ids, and not beside the files, where a designated folder's sealer would
//! find them; one that a power cut leaves behind is used by the next run over the same files.

use super::super::text;
use super::names;
use crate::app::App;
use crate::args::admin::{Paths, Relabel};
use crate::arguments;
use crate::client::Client;
use crate::error::{Action, Error};
use crate::files;
use crate::files::new_file::NewFile;
use crate::files::walk::{Met, walk};
use crate::progress::Progress;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tobari_core::proto::bulletin::LabelKeys;
use tobari_core::proto::control::{Answer, MAX_REWRITE, NewHeader, Request, Rewritten};

/// Where magic and file id end in an envelope (docs/spec/envelope.md, "Fixed fields").
const FILE_ID: std::ops::Range<usize> = 24..40;

/// What was done.
#[derive(Debug, Default, serde::Serialize)]
struct Counts {
    done: u64,
    current: u64,
    failed: u64,
    not_sealed: u64,
}

/// `tobari admin relabel`.
pub(super) fn relabel(args: &Relabel, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    client.ask(&Request::Refresh, &[])?;
    // By the bulletin: whoever has the right need not be an administrator.
    let labels = client.notice()?.bulletin.labels;
    drop(client);
    let name = |one: &LabelKeys| one.label.name.clone();
    let label = names::one("label", &args.label, &labels, |one| one.label.id, name)?;
    headers(NewHeader::Label { label }, &args.paths, app)
}

/// `tobari admin rewrap`.
pub(super) fn rewrap(args: &Paths, app: &mut App) -> Result<(), Error> {
    headers(NewHeader::Keys, &args.paths, app)
}

fn headers(change: NewHeader, paths: &[PathBuf], app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    // The labels and keys of now, not of the last poll.
    client.ask(&Request::Refresh, &[])?;
    let journals = journal_folder()?;
    let folder = File::open(&journals).map_err(Action::Open.failed(&journals))?;
    let mut run = Run { change, journals, folder, batch: Vec::new(), counts: Counts::default() };
    let progress = Progress::counting(app.settings.progress);
    let mut fatal = None;
    for path in paths {
        walk(path, &mut |met| {
            if fatal.is_none()
                && let Err(error) = run.meet(met, &mut client, app, &progress)
            {
                fatal = Some(error);
            }
        });
    }
    if fatal.is_none()
        && let Err(error) = run.flush(&mut client, app, &progress)
    {
        fatal = Some(error);
    }
    drop(progress);
    say(app, &run.counts)?;
    fatal.map_or(Ok(()), Err)
}

struct Run {
    change: NewHeader,
    journals: PathBuf,
    folder: File,
    batch: Vec<One>,
    counts: Counts,
}

struct One {
    path: PathBuf,
    file: File,
    journal: File,
    journal_path: PathBuf,
}

impl Run {
    fn meet(
        &mut self,
        met: Met,
        client: &mut Client,
        app: &mut App,
        progress: &Progress,
    ) -> Result<(), Error> {
        let Some(path) = regular(met, app) else { return Ok(()) };
        match self.open(&path) {
            Ok(Some(one)) => self.batch.push(one),
            Ok(None) => self.counts.not_sealed += 1,
            Err(error) => {
                self.counts.failed += 1;
                app.report(&error);
            }
        }
        if self.batch.len() >= MAX_REWRITE { self.flush(client, app, progress) } else { Ok(()) }
    }

    fn open(&self, path: &Path) -> Result<Option<One>, Error> {
        let file = files::open_found(path)?;
        if !files::is_sealed(&file, path)? {
            return Ok(None);
        }
        drop(file);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| Action::Open.failed(path)(errno.into()))?;
        let mut start = [0; FILE_ID.end];
        file.read_exact_at(&mut start, 0).map_err(Action::Read.failed(path))?;
        let id: String =
            start.get(FILE_ID).unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
        let journal_path = self.journals.join(format!("{id}.journal"));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let journal = rustix::fs::open(&journal_path, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|errno| Action::Create.failed(&journal_path)(errno.into()))?;
        Ok(Some(One { path: path.to_owned(), file, journal, journal_path }))
    }

    fn flush(&mut self, client: &mut Client, app: &mut App, progress: &Progress) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        // A journal must be found after a power cut before it is needed.
        self.folder.sync_all().map_err(Action::Write.failed(&self.journals))?;
        client.send(&Request::RewriteStart { change: self.change }, &[])?;
        for one in &batch {
            let name = one.path.to_string_lossy().into_owned();
            client.send(&Request::RewriteEntry { name }, &[one.file.as_fd(), one.journal.as_fd()])?;
        }
        let Answer::Rewritten { outcomes } = client.ask(&Request::RewriteFinish, &[])? else {
            return Err(Error::DaemonAnswer);
        };
        if outcomes.len() != batch.len() {
            return Err(Error::DaemonAnswer);
        }
        for (one, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Rewritten::Done => self.counts.done += 1,
                Rewritten::Current => self.counts.current += 1,
                Rewritten::Failed { problem, rights, reasons, particulars } => {
                    self.counts.failed += 1;
                    let subject = Some(one.path.to_string_lossy().into_owned());
                    app.report(&Error::refused(problem, subject, rights, reasons, *particulars));
                }
            }
            // One with contents is still needed.
            if one.journal.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                let _ = std::fs::remove_file(&one.journal_path);
            }
            progress.add(1);
        }
        Ok(())
    }
}

/// `tobari admin reseal`.
pub(super) fn reseal(args: &Paths, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    client.ask(&Request::Refresh, &[])?;
    let mut counts = Counts::default();
    for path in &args.paths {
        walk(path, &mut |met| {
            let Some(path) = regular(met, app) else { return };
            match reseal_one(&path, &mut client, app) {
                Ok(true) => counts.done += 1,
                Ok(false) => counts.not_sealed += 1,
                Err(error) => {
                    counts.failed += 1;
                    app.report(&error);
                }
            }
        });
    }
    say(app, &counts)
}

fn reseal_one(path: &Path, client: &mut Client, app: &mut App) -> Result<bool, Error> {
    let file = files::open_found(path)?;
    if !files::is_sealed(&file, path)? {
        return Ok(false);
    }
    let metadata = file.metadata().map_err(Action::Read.failed(path))?;
    let new = NewFile::begin(path)?;
    let progress = app.progress(path, None);
    let request = Request::Reseal { name: path.to_string_lossy().into_owned() };
    client
        .ask_with(&request, &[file.as_fd(), new.file().as_fd()], &mut |done, total| progress.set(done, total))
        .map_err(|error| error.about(path))?;
    drop(progress);
    super::super::files::replace(&file, &metadata, new, path)?;
    Ok(true)
}

fn regular(met: Met, app: &mut App) -> Option<PathBuf> {
    match met {
        Met::File(path, _) => Some(path),
        Met::Special(_) => None,
        Met::Unreadable(path, error) => {
            app.report(&Action::Read.failed(&path)(error));
            None
        }
    }
}

fn say(app: &mut App, counts: &Counts) -> Result<(), Error> {
    if app.settings.json {
        let document = serde_json::to_value(counts).map_err(|_| Error::DaemonAnswer)?;
        return app.json(&document);
    }
    let line = app.text(
        "rewritten",
        &arguments! {
            done: text::grouped(counts.done),
            current: text::grouped(counts.current),
            failed: text::grouped(counts.failed),
            skipped: text::grouped(counts.not_sealed),
        },
    );
    app.line(&line)
}

/// `$XDG_STATE_HOME/tobari/headers`, which the caller alone can read.
fn journal_folder() -> Result<PathBuf, Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let path = crate::environment::state_folder().join("headers");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .map_err(Action::Create.failed(&path))?;
    Ok(path)
}

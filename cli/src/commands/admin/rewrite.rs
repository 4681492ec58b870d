//! `admin relabel`, `rewrap` and `reseal`: other headers, or new contents keys, for the sealed files below some paths.
//!
//! All can be repeated: what is as wanted already is passed over, so an interrupted run goes on where it ended. For header changes
//! nothing is kept outside of the files for that; a reseal remembers what it has done.

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
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tobari_core::crypto::sha256;
use tobari_core::proto::bulletin::LabelKeys;
use tobari_core::proto::control::{Answer, MAX_REWRITE, NewHeader, Request, Rewritten};

/// What was done.
#[derive(Debug, Default, serde::Serialize)]
struct Counts {
    done: u64,
    current: u64,
    failed: u64,
    not_sealed: u64,
    /// Symbolic links, pipes, sockets and devices.
    special: u64,
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
    let mut run = Run { change, batch: Vec::new(), counts: Counts::default() };
    let progress = counting(paths, app);
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
    batch: Vec<One>,
    counts: Counts,
}

struct One {
    path: PathBuf,
    file: File,
}

impl Run {
    fn meet(
        &mut self,
        met: Met,
        client: &mut Client,
        app: &mut App,
        progress: &Progress,
    ) -> Result<(), Error> {
        let Some(path) = regular(met, &mut self.counts, app) else { return Ok(()) };
        match open(&path) {
            Ok(Some(file)) => self.batch.push(One { path, file }),
            Ok(None) => {
                self.counts.not_sealed += 1;
                progress.add(1);
            }
            Err(error) => {
                self.counts.failed += 1;
                progress.add(1);
                app.report(&error);
            }
        }
        if self.batch.len() >= MAX_REWRITE { self.flush(client, app, progress) } else { Ok(()) }
    }

    fn flush(&mut self, client: &mut Client, app: &mut App, progress: &Progress) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        client.send(&Request::RewriteStart { change: self.change }, &[])?;
        for one in &batch {
            let name = one.path.to_string_lossy().into_owned();
            client.send(&Request::RewriteEntry { name }, &[one.file.as_fd()])?;
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
            progress.add(1);
        }
        Ok(())
    }
}

/// A sealed file, open for reading and writing; none when it is not sealed.
fn open(path: &Path) -> Result<Option<File>, Error> {
    let file = files::open_found(path)?;
    if !files::is_sealed(&file, path)? {
        return Ok(None);
    }
    let found = file.metadata().map_err(Action::Read.failed(path))?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| Action::Open.failed(path)(errno.into()))?;
    let metadata = file.metadata().map_err(Action::Read.failed(path))?;
    // Another one may have come to this name meanwhile; it has not been looked at.
    if files::same_file(&found, &metadata) { Ok(Some(file)) } else { Err(Error::Changed(path.to_owned())) }
}

/// A bar over all files below `paths`, counted first when somebody looks at it: for the time left.
fn counting(paths: &[PathBuf], app: &App) -> Progress {
    let mut total = 0;
    if app.settings.progress {
        for path in paths {
            walk(path, &mut |met| total += u64::from(matches!(met, Met::File(..))));
        }
    }
    Progress::counting(app.settings.progress, total)
}

/// `tobari admin reseal`.
pub(super) fn reseal(args: &Paths, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    client.ask(&Request::Refresh, &[])?;
    let mut counts = Counts::default();
    let mut done = Resealed::of(&args.paths)?;
    for path in &args.paths {
        walk(path, &mut |met| {
            let Some(path) = regular(met, &mut counts, app) else { return };
            match reseal_one(&path, &mut done, &mut client, app) {
                Ok(outcome) => *outcome.place(&mut counts) += 1,
                Err(error) => {
                    counts.failed += 1;
                    app.report(&error);
                }
            }
        });
    }
    if counts.failed == 0 {
        done.forget();
    }
    say(app, &counts)
}

/// What became of a file that was to be sealed anew.
enum Outcome {
    Done,
    Current,
    NotSealed,
}

impl Outcome {
    fn place(self, counts: &mut Counts) -> &mut u64 {
        match self {
            Self::Done => &mut counts.done,
            Self::Current => &mut counts.current,
            Self::NotSealed => &mut counts.not_sealed,
        }
    }
}

fn reseal_one(
    path: &Path,
    done: &mut Resealed,
    client: &mut Client,
    app: &mut App,
) -> Result<Outcome, Error> {
    let file = files::open_found(path)?;
    if !files::is_sealed(&file, path)? {
        return Ok(Outcome::NotSealed);
    }
    if done.has(&file, path)? {
        return Ok(Outcome::Current);
    }
    let metadata = file.metadata().map_err(Action::Read.failed(path))?;
    if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
        return Err(Error::HardLinked(path.to_owned()));
    }
    let new = NewFile::begin(path)?;
    let progress = app.progress(path, None);
    let request = Request::Reseal { name: path.to_string_lossy().into_owned() };
    client
        .ask_with(&request, &[file.as_fd(), new.file().as_fd()], &mut |done, total| progress.set(done, total))
        .map_err(|error| error.about(path))?;
    drop(progress);
    done.add(new.file(), path)?;
    super::super::files::replace(&file, &metadata, new, path)?;
    Ok(Outcome::Done)
}

/// Which files a run over the same paths has sealed anew, by their new ids: so that the same command goes on where an
/// interrupted one ended. Only to spare work: without it everything is sealed anew once more.
struct Resealed {
    path: PathBuf,
    file: File,
    ids: HashSet<[u8; FILE_ID_SIZE]>,
}

/// Where the file id lies in an envelope (docs/spec/envelope.md, "Header").
const FILE_ID: u64 = 24;
const FILE_ID_SIZE: usize = 16;

impl Resealed {
    fn of(paths: &[PathBuf]) -> Result<Self, Error> {
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        let folder = crate::environment::state_folder();
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&folder).map_err(Action::Create.failed(&folder))?;
        let mut named: Vec<PathBuf> =
            paths.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
        named.sort();
        let parts: Vec<&[u8]> = named.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"]).collect();
        let name: String = sha256(&parts).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("reseal-{name}"));
        let mut options = File::options();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path).map_err(Action::Create.failed(&path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Action::Read.failed(&path))?;
        // A part of an id at the end is of a write that was cut short.
        let (whole, _) = bytes.as_chunks::<FILE_ID_SIZE>();
        let ids = whole.iter().copied().collect();
        let length = u64::try_from(bytes.len() - bytes.len() % FILE_ID_SIZE).unwrap_or(0);
        file.set_len(length).map_err(Action::Write.failed(&path))?;
        Ok(Self { path, file, ids })
    }

    fn id(file: &File, path: &Path) -> Result<[u8; FILE_ID_SIZE], Error> {
        let mut id = [0; FILE_ID_SIZE];
        file.read_exact_at(&mut id, FILE_ID).map_err(Action::Read.failed(path))?;
        Ok(id)
    }

    fn has(&self, file: &File, path: &Path) -> Result<bool, Error> {
        Ok(!self.ids.is_empty() && self.ids.contains(&Self::id(file, path)?))
    }

    fn add(&mut self, new: &File, path: &Path) -> Result<(), Error> {
        self.file.write_all(&Self::id(new, path)?).map_err(Action::Write.failed(&self.path))
    }

    /// All is done: the next run begins anew.
    fn forget(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The regular file that was met. What else there is, is named.
fn regular(met: Met, counts: &mut Counts, app: &mut App) -> Option<PathBuf> {
    match met {
        Met::File(path, _) => Some(path),
        Met::Special(path) => {
            counts.special += 1;
            app.warn("warning-skipped", &arguments! { path: text::path(&path) });
            None
        }
        Met::Unreadable(path, error) => {
            counts.failed += 1;
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

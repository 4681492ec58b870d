//! `cat`, `unseal` and `verify`: the daemon opens, this program only hands it descriptors.

use super::text;
use crate::app::App;
use crate::args::{Files, Unseal};
use crate::arguments;
use crate::client::{Client, Notice};
use crate::error::{Action, Error};
use crate::files::new_file::NewFile;
use crate::files::{self, attributes};
use serde::Serialize;
use std::fs::{File, Metadata};
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use tobari_core::proto::control::{Answer, Purpose, Request};
use tobari_core::proto::problem::ProblemCode;

/// What became of one file, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Written {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted_tail: Option<u64>,
}

/// `tobari cat`.
pub(super) fn cat(args: &Files, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    // On a terminal a bar would run through the contents.
    let shown = app.settings.progress && !app.console.output.is_terminal();
    for path in &args.files {
        match cat_one(app, &mut client, path, shown) {
            Ok(_) => {}
            Err(Error::Problem { problem, .. })
                if problem.code == ProblemCode::LocalIo && app.console.output_is_broken() =>
            {
                return Err(Error::BrokenPipe);
            }
            Err(error) => app.report(&error),
        }
    }
    Ok(())
}

fn cat_one(app: &mut App, client: &mut Client, path: &Path, shown: bool) -> Result<Written, Error> {
    let file = files::open_sealed(path)?;
    let progress = crate::progress::Progress::new(shown, &text::path(path), None);
    let request = Request::Open { name: path.to_string_lossy().into_owned(), purpose: Purpose::Cat };
    let descriptors = [file.as_fd(), app.console.output.as_fd()];
    let answer = client
        .ask_with(&request, &descriptors, &mut |done, total| progress.set(done, total))
        .map_err(|error| error.about(path))?;
    drop(progress);
    written(app, path, None, answer)
}

/// `tobari verify`.
pub(super) fn verify(args: &Files, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    let mut checked = Vec::new();
    for path in &args.files {
        match verify_one(app, &mut client, path) {
            Ok(written) if app.settings.json => checked.push(written),
            Ok(written) => {
                let bytes = text::grouped(written.bytes);
                let line = app.text("verified", &arguments! { path: text::path(path), bytes: bytes });
                app.line(&line)?;
            }
            Err(error) => app.report(&error),
        }
    }
    if checked.is_empty() { Ok(()) } else { app.json(&serde_json::json!({ "files": checked })) }
}

fn verify_one(app: &mut App, client: &mut Client, path: &Path) -> Result<Written, Error> {
    let file = files::open_sealed(path)?;
    let progress = app.progress(path, None);
    let request = Request::Verify { name: path.to_string_lossy().into_owned() };
    let answer = client
        .ask_with(&request, &[file.as_fd()], &mut |done, total| progress.set(done, total))
        .map_err(|error| error.about(path))?;
    drop(progress);
    written(app, path, None, answer)
}

/// `tobari unseal`.
pub(super) fn unseal(args: &Unseal, app: &mut App) -> Result<(), Error> {
    if args.output.is_some() && args.files.len() > 1 {
        return Err(Error::Usage { what: "one-output", detail: args.files.len().to_string() });
    }
    let mut client = app.client()?;
    // Where the bulletin cannot be had there is no warning; the opening itself does not depend on it.
    let notice = client.notice().ok();
    let mut done = Vec::new();
    for path in &args.files {
        match unseal_one(app, &mut client, notice.as_ref(), args, path) {
            Ok(written) => done.push(written),
            Err(error) => app.report(&error),
        }
    }
    if app.settings.json && !done.is_empty() {
        return app.json(&serde_json::json!({ "files": done }));
    }
    for one in done {
        let output = text::printable(one.output.as_deref().unwrap_or_default());
        app.note("unsealed", &arguments! { path: output, bytes: text::grouped(one.bytes) });
    }
    Ok(())
}

fn unseal_one(
    app: &mut App,
    client: &mut Client,
    notice: Option<&Notice>,
    args: &Unseal,
    path: &Path,
) -> Result<Written, Error> {
    let file = files::open_sealed(path)?;
    let metadata = file.metadata().map_err(Action::Read.failed(path))?;
    let target = target(args, path)?;
    if !args.in_place && !args.force && target.symlink_metadata().is_ok() {
        return Err(Error::Exists(target));
    }
    if notice.is_some_and(|notice| files::designated(notice, &target).is_some()) {
        app.warn("warning-designated", &arguments! { path: text::path(&target) });
    }
    let new = NewFile::begin(&target)?;
    let progress = app.progress(path, None);
    let request = Request::Open { name: path.to_string_lossy().into_owned(), purpose: Purpose::Unseal };
    let answer = client
        .ask_with(&request, &[file.as_fd(), new.file().as_fd()], &mut |done, total| progress.set(done, total))
        .map_err(|error| error.about(path))?;
    drop(progress);
    let shown = if args.in_place { path } else { target.as_path() };
    let written = written(app, path, Some(shown), answer)?;
    if args.in_place {
        replace(&file, &metadata, new, &target)?;
    } else {
        attributes::copy_times(&metadata, new.file()).map_err(Action::Attributes.failed(&target))?;
        new.finish(args.force)?;
    }
    Ok(written)
}

fn target(args: &Unseal, path: &Path) -> Result<PathBuf, Error> {
    if let Some(output) = &args.output {
        return Ok(output.clone());
    }
    if let Some(folder) = &args.output_dir {
        let name = path.file_name().ok_or_else(|| Error::NotRegular(path.to_owned()))?;
        return Ok(folder.join(name));
    }
    // The link's target is replaced, not the link.
    path.canonicalize().map_err(Action::Open.failed(path))
}

/// Puts `new`, with the attributes of `source`, into the place of `source`, which was as `before` when it was opened.
/// When the file changed since, it stays.
pub(super) fn replace(source: &File, before: &Metadata, new: NewFile, target: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    if before.nlink() > 1 {
        return Err(Error::HardLinked(target.to_owned()));
    }
    attributes::copy(source, new.file(), target)?;
    let displaced = new.exchange()?;
    let after = displaced.open()?.metadata().map_err(Action::Read.failed(target))?;
    // The exchange itself moves the change time, so that one cannot tell.
    let unchanged = files::same_file(before, &after)
        && (before.len(), before.mtime(), before.mtime_nsec())
            == (after.len(), after.mtime(), after.mtime_nsec());
    if unchanged {
        return displaced.remove();
    }
    displaced.put_back()?;
    Err(Error::Changed(target.to_owned()))
}

fn written(app: &mut App, path: &Path, output: Option<&Path>, answer: Answer) -> Result<Written, Error> {
    let Answer::Written { bytes, interrupted_tail } = answer else {
        return Err(Error::DaemonAnswer);
    };
    if let Some(tail) = interrupted_tail {
        app.warn(
            "warning-interrupted-tail",
            &arguments! { path: text::path(path), bytes: text::grouped(tail) },
        );
    }
    let name = path.to_string_lossy().into_owned();
    let output = output.map(|output| output.to_string_lossy().into_owned());
    Ok(Written { name, output, bytes, interrupted_tail })
}

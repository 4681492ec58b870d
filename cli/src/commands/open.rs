//! `open`: the application that the desktop has for a file, in a session.

use super::run;
use crate::app::App;
use crate::args::Open;
use crate::desktop::{self, Notifier};
use crate::error::{Action, Error};
use crate::files;
use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tobari_core::envelope::{MAGIC, looks_sealed};

/// `tobari open`.
pub(super) fn open(args: Open, app: &mut App) -> Result<(), Error> {
    let opened = try_to_open(args, app);
    if let Err(error) = &opened
        && !app.console.errors.is_terminal()
    {
        // After a double-click nobody sees standard error.
        let text = error.message(app.settings.language);
        Notifier::default().show(&app.console, &text);
    }
    opened
}

fn try_to_open(args: Open, app: &mut App) -> Result<(), Error> {
    let path = args.file.canonicalize().map_err(Action::Open.failed(&args.file))?;
    if args.or_plain && is_elsewhere(app, &path) {
        return as_the_desktop_would(app, &args, path);
    }
    let mut client = app.client()?;
    let notice = client.notice()?;
    if files::designated(&notice, &path).is_none() {
        return Err(Error::NotDesignated(path));
    }
    let command = command(app, &args, path)?;
    let label = run::label(&mut client, args.label.as_deref())?;
    run::start(app, client, command, label, args.print)
}

fn command(app: &App, args: &Open, path: PathBuf) -> Result<Vec<OsString>, Error> {
    match &args.with {
        Some(program) => Ok(vec![program.clone(), path.into()]),
        None => desktop::command_for(&app.console, &path).map_err(|kind| Error::NoApplication { path, kind }),
    }
}

/// Whether the file is none of ours: not sealed, and in no designated folder as far as can be told.
fn is_elsewhere(app: &App, path: &Path) -> bool {
    let mut prefix = [0; MAGIC.len()];
    let sealed =
        File::open(path).and_then(|mut file| file.read_exact(&mut prefix)).is_ok() && looks_sealed(&prefix);
    if sealed {
        return false;
    }
    // Without a daemon nothing can be said of folders; what is plain then opens as it would without us.
    let notice = app.client().and_then(|mut client| client.notice());
    notice.map_or(true, |notice| files::designated(&notice, path).is_none())
}

/// Opens the file with the program that would have it if we were not installed.
fn as_the_desktop_would(app: &mut App, args: &Open, path: PathBuf) -> Result<(), Error> {
    let words = command(app, args, path.clone())?;
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let status = Command::new(program).args(words).status().map_err(Action::Open.failed(&path))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    app.program_ended(u8::try_from(code).unwrap_or(u8::MAX));
    Ok(())
}

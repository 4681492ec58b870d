//! `open`: the application that the desktop has for a file, in a session.

use super::run;
use crate::app::App;
use crate::args::Open;
use crate::desktop;
use crate::error::{Action, Error};
use crate::files;

/// `tobari open`.
pub(super) fn open(args: Open, app: &mut App) -> Result<(), Error> {
    let path = args.file.canonicalize().map_err(Action::Open.failed(&args.file))?;
    let mut client = app.client()?;
    let notice = client.notice()?;
    if files::designated(&notice, &path).is_none() {
        return Err(Error::NotDesignated(path));
    }
    let command = match args.with {
        Some(program) => vec![program, path.into()],
        None => desktop::command_for(&app.console, &path)
            .map_err(|kind| Error::NoApplication { path: path.clone(), kind })?,
    };
    let label = run::label(&mut client, args.label.as_deref())?;
    run::start(app, client, command, label, args.print)
}

//! `bulletin`: brings a bulletin to the daemon of a terminal that has no way to the key server. The daemon takes it only when it
//! is signed by the organisation and newer than the one in force, so anybody may try.

use crate::app::App;
use crate::args::{Bulletin, BulletinImport};
use crate::arguments;
use crate::commands::text;
use crate::error::{Action, Error};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use tobari_core::proto::control::{Answer, Request};

/// `tobari bulletin`.
pub(super) fn run(args: &Bulletin, app: &mut App) -> Result<(), Error> {
    let Bulletin::Import(BulletinImport { file }) = args;
    let mut client = app.client()?;
    let answer = if file == Path::new("-") {
        client.ask(&Request::ImportBulletin, &[std::io::stdin().as_fd()])?
    } else {
        let opened = File::open(file).map_err(Action::Open.failed(file))?;
        client.ask(&Request::ImportBulletin, &[opened.as_fd()])?
    };
    let Answer::Bulletin { bulletin, .. } = answer else { return Err(Error::DaemonAnswer) };
    if app.settings.json {
        return app.json(&serde_json::json!({ "number": bulletin.number, "issued_at": bulletin.issued_at }));
    }
    let arguments = arguments! { number: bulletin.number, issued: text::time(app, bulletin.issued_at) };
    app.note("bulletin-in-force", &arguments);
    Ok(())
}

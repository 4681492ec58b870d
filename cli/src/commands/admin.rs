//! `admin`: the key server's administration, through the daemon, so that each session stays bound to this
//! terminal's certificate. People name things by name; the key server knows ids; [`names`] stands between.

mod audit;
mod audit_log;
mod bulletin;
mod folder;
mod group;
mod invariant;
mod label;
mod lease;
mod many;
pub(super) mod names;
mod person;
mod policy;
mod post;
mod preset;
mod request;
mod revoke;
mod rewrite;
mod rule;
pub(super) mod server;
mod terminal;
mod token;

use crate::app::App;
use crate::args::Administration;
use crate::args::admin::{Admin, Bulletin};
use crate::args::audit::Audit;
use crate::args::policy::{How, Policy};
use crate::error::Error;
use server::{Instead, Server};
use std::ffi::OsString;

/// `tobari audit`, but for its offline part.
pub(super) fn audit(args: &Audit, app: &mut App) -> Result<(), Error> {
    if let Audit::Verify(args) = args {
        return super::audit_verify::run(args, app);
    }
    let mut server = Server::new(app.client()?, How::default(), app);
    match args {
        Audit::Search(args) => audit_log::search(args, &mut server, app),
        Audit::Export(args) => audit_log::export(args, &mut server, app),
        Audit::Key | Audit::Verify(_) => audit_log::key(&mut server, app),
    }
}

/// `tobari admin`.
pub(super) fn run(args: Administration, app: &mut App) -> Result<(), Error> {
    let Administration { how, what } = match args {
        Administration { what: Admin::Policy(Policy::Diff(diff)), .. } => {
            Administration { how: How { dry_run: true, ..How::default() }, what: parsed(&diff.command)? }
        }
        args => args,
    };
    let how = How { reason: how.reason.filter(|_| !has_own_reason(&what)), ..how };
    let mut server = Server::new(app.client()?, how, app);
    let result = one(what, &mut server, app);
    // The change was looked at or requested, not made: that is what there is to show.
    match server.instead() {
        Some(Instead::Diff(diff)) => policy::show_diff(app, &diff),
        Some(Instead::Request(request)) => request::show_request(app, &request),
        None => result,
    }
}

/// Whether `--reason` is the command's own, part of what it sends. A flag of the same name that holds for every command has its value
/// then too, though it was not meant.
fn has_own_reason(what: &Admin) -> bool {
    use crate::args::lease::AdminLease;
    match what {
        Admin::Revoke(_) => true,
        Admin::Lease(lease) => {
            matches!(lease, AdminLease::Refuse(_) | AdminLease::Revoke(_) | AdminLease::Issue(_))
        }
        _ => false,
    }
}

/// The command after `policy diff`.
fn parsed(command: &[OsString]) -> Result<Admin, Error> {
    #[derive(clap::Parser)]
    #[command(no_binary_name = true, name = "tobari admin policy diff")]
    struct Line {
        #[command(subcommand)]
        what: Admin,
    }
    let line = <Line as clap::Parser>::try_parse_from(command).map_err(|error| {
        let detail = error.render().to_string();
        let detail = detail.strip_prefix("error: ").unwrap_or(&detail).trim_end().to_owned();
        Error::Usage { what: "command-line", detail }
    })?;
    Ok(line.what)
}

fn one(args: Admin, server: &mut Server, app: &mut App) -> Result<(), Error> {
    match args {
        Admin::Label(args) => label::run(args, server, app),
        Admin::Group(args) => group::run(args, server, app),
        Admin::Post(args) => post::run(args, server, app),
        Admin::Person(args) => person::run(args, server, app),
        Admin::Rule(args) => rule::run(args, server, app),
        Admin::Folder(args) => folder::run(args, server, app),
        Admin::Terminal(args) => terminal::run(args, server, app),
        Admin::Revoke(args) => revoke::run(args, server, app),
        Admin::Bulletin(Bulletin::Export) => bulletin::export(server, app),
        Admin::Lease(args) => lease::run(args, server, app),
        Admin::Token(args) => token::run(args, server, app),
        Admin::Preset(args) => preset::run(args, server, app),
        Admin::Explain(args) => policy::explain(args, server, app),
        Admin::Policy(args) => policy::run(args, server, app),
        Admin::Invariant(args) => invariant::run(args, server, app),
        Admin::Request(args) => request::run(args, server, app),
        Admin::StepUp(args) => policy::step_up(args, server, app),
        Admin::Relabel(args) => rewrite::relabel(&args, app),
        Admin::Rewrap(args) => rewrite::rewrap(&args, app),
        Admin::Reseal(args) => rewrite::reseal(&args, app),
        Admin::Audit(args) => audit::run(&args, server, app),
    }
}

//! `admin`: the key server's administration, through the daemon, so that each session stays bound to this
//! terminal's certificate. People name things by name; the key server knows ids; [`names`] stands between.

mod audit;
mod audit_log;
mod bulletin;
mod folder;
mod group;
mod label;
pub(super) mod names;
mod person;
mod post;
mod preset;
mod revoke;
mod rewrite;
mod rule;
mod server;
mod terminal;
mod token;

use crate::app::App;
use crate::args::admin::{Admin, Bulletin};
use crate::args::audit::Audit;
use crate::error::Error;
use server::Server;

/// `tobari audit`, but for its offline part.
pub(super) fn audit(args: &Audit, app: &mut App) -> Result<(), Error> {
    if let Audit::Verify(args) = args {
        return super::audit_verify::run(args, app);
    }
    let mut server = Server::new(app.client()?);
    match args {
        Audit::Search(args) => audit_log::search(args, &mut server, app),
        Audit::Export(args) => audit_log::export(args, &mut server, app),
        Audit::Key | Audit::Verify(_) => audit_log::key(&mut server, app),
    }
}

/// `tobari admin`.
pub(super) fn run(args: Admin, app: &mut App) -> Result<(), Error> {
    let mut server = Server::new(app.client()?);
    match args {
        Admin::Label(args) => label::run(args, &mut server, app),
        Admin::Group(args) => group::run(args, &mut server, app),
        Admin::Post(args) => post::run(args, &mut server, app),
        Admin::Person(args) => person::run(args, &mut server, app),
        Admin::Rule(args) => rule::run(args, &mut server, app),
        Admin::Folder(args) => folder::run(args, &mut server, app),
        Admin::Terminal(args) => terminal::run(args, &mut server, app),
        Admin::Revoke(args) => revoke::run(args, &mut server, app),
        Admin::Bulletin(Bulletin::Export) => bulletin::export(&mut server, app),
        Admin::Token(args) => token::run(args, &mut server, app),
        Admin::Preset(args) => preset::run(args, &mut server, app),
        Admin::Relabel(args) => rewrite::relabel(&args, app),
        Admin::Rewrap(args) => rewrite::rewrap(&args, app),
        Admin::Reseal(args) => rewrite::reseal(&args, app),
        Admin::Audit(args) => audit::run(&args, &mut server, app),
    }
}

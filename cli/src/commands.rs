//! The commands, one file each. Each takes its part of the command line and the run.

mod admin;
mod audit_verify;
mod bulletin;
mod completions;
mod files;
mod info;
mod lease;
mod open;
mod run;
mod scan_coverage;
mod seal;
mod session;
mod status;
mod text;
pub mod zip;

use crate::app::App;
use crate::args::Command;
use crate::error::Error;

/// Carries out a command.
///
/// # Errors
/// What made the whole command fail; failures of single files are reported to `app` as they happen.
pub fn run(command: Command, app: &mut App) -> Result<(), Error> {
    match command {
        Command::Login(args) => session::login(args, app),
        Command::Logout => session::logout(app),
        Command::Whoami => session::whoami(app),
        Command::Status(args) => status::run(&args, app),
        Command::Info(args) => info::run(&args, app),
        Command::Cat(args) => files::cat(&args, app),
        Command::Unseal(args) => files::unseal(&args, app),
        Command::Open(args) => open::open(args, app),
        Command::Run(args) => run::run(args, app),
        Command::Verify(args) => files::verify(&args, app),
        Command::Seal(args) => seal::run(&args, app),
        Command::Zip(args) => zip::run(&args, app),
        Command::Drill(args) => crate::drill::run(&args, app),
        Command::Lease(args) => lease::run(args, app),
        Command::ScanCoverage(args) => scan_coverage::run(&args, app),
        Command::Audit(args) => admin::audit(&args, app),
        Command::Bulletin(args) => bulletin::run(&args, app),
        Command::Admin(args) => admin::run(args, app),
        Command::Completions(args) => completions::completions(&args, app),
        Command::ManPages(args) => completions::man_pages(&args, app),
    }
}

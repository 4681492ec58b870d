//! The commands of the program.

mod audit;
mod init;
mod serve;
mod token;

use crate::args::{Args, AuditCommand, Command};
use std::io::Write as _;
use tobari_core::clock::SystemClock;

/// Does what the command line says.
///
/// # Errors
/// Why it was not done; nothing is left half done.
pub fn run(args: Args) -> anyhow::Result<()> {
    tobari_core::crypto::self_check()
        .map_err(|error| anyhow::Error::new(error).context("the cryptographic self-check failed"))?;
    match args.command {
        Command::Init(args) => runtime()?.block_on(init::init(&args, &SystemClock)),
        Command::Serve(args) => runtime()?.block_on(serve::serve(&args)),
        Command::Token(args) => runtime()?.block_on(token::token(&args, &SystemClock)),
        Command::Audit { command: AuditCommand::Verify(args) } => runtime()?.block_on(audit::verify(&args)),
        Command::Openapi => say(&crate::http::openapi_json()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// One line on standard output.
fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

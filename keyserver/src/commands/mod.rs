//! The commands of the program.

mod audit;
mod error;
mod init;
mod serve;
mod token;

use crate::args::{Args, AuditCommand, Command};
use crate::files;
use crate::message;
use crate::store::sqlite::SqliteStore;
pub use error::CommandError;
use std::io::Write as _;
use std::path::Path;
use tobari_core::clock::SystemClock;
use tobari_core::message::{Language, Message};

/// Does what the command line says.
///
/// # Errors
/// Why it was not done; nothing is left half done.
pub fn run(args: Args, language: Language) -> Result<(), CommandError> {
    tobari_core::crypto::self_check()?;
    let say = Say(language);
    match args.command {
        Command::Init(args) => runtime()?.block_on(init::init(&args, &SystemClock, say)),
        Command::Serve(args) => runtime()?.block_on(serve::serve(&args)),
        Command::Token(args) => runtime()?.block_on(token::token(&args, &SystemClock, say)),
        Command::Audit { command: AuditCommand::Verify(args) } => {
            runtime()?.block_on(audit::verify(&args, say))
        }
        Command::Openapi => line(&crate::http::openapi_json()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Opens the database that `init` made.
async fn open_store(data_dir: &Path) -> Result<SqliteStore, CommandError> {
    let path = files::database(data_dir);
    if !path.exists() {
        return Err(CommandError::NoDatabase(path));
    }
    SqliteStore::open(&path).await.map_err(|source| CommandError::Database { path, source })
}

/// One line on standard output.
fn line(text: &str) -> Result<(), CommandError> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Says results in the operator's language.
#[derive(Clone, Copy)]
struct Say(Language);

impl Say {
    fn line(self, message: &Message) -> Result<(), CommandError> {
        line(&message::text(self.0, message))
    }
}

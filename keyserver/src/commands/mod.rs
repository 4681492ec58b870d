//! The commands of the program.

mod audit;
mod backup;
mod error;
mod init;
mod migrate_store;
mod recovery;
mod serve;
mod token;
mod witness;

use crate::args::{Args, AuditCommand, Command};
use crate::files;
use crate::message;
use crate::store::Store;
use crate::store::postgres::{Location, PostgresStore};
use crate::store::sqlite::SqliteStore;
pub use error::CommandError;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
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
        Command::MigrateStore(args) => runtime()?.block_on(migrate_store::migrate_store(&args, say)),
        Command::Witness(args) => runtime()?.block_on(witness::witness(&args, say)),
        Command::Backup(args) => runtime()?.block_on(backup::backup(&args, say)),
        Command::Restore(args) => runtime()?.block_on(backup::restore(&args, say)),
        Command::AcceptOlder(args) => runtime()?.block_on(backup::accept_older(&args, &SystemClock, say)),
        Command::Recovery { command } => recovery::recovery(&command, say),
        Command::Audit { command: AuditCommand::Verify(args) } => {
            runtime()?.block_on(audit::verify(&args, say))
        }
        Command::Openapi => line(&crate::http::openapi_json()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Opens the database: PostgreSQL where one is named, else the file that `init` made.
async fn open_store(
    data_dir: Option<&Path>,
    location: Option<&Location>,
) -> Result<Arc<dyn Store>, CommandError> {
    if let Some(location) = location {
        return match PostgresStore::open(location).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(source) => Err(CommandError::Store { location: location.to_string(), source }),
        };
    }
    let path = files::database(data_dir.unwrap_or(Path::new(".")));
    if !path.exists() {
        return Err(CommandError::NoDatabase(path));
    }
    match SqliteStore::open(&path).await {
        Ok(store) => Ok(Arc::new(store)),
        Err(source) => Err(CommandError::Database { path, source }),
    }
}

/// One server for one data directory: it holds what is in the file in memory, and nobody tells it of changes.
fn lock(data_dir: &Path) -> Result<std::fs::File, CommandError> {
    let path = data_dir.join(files::LOCK);
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(CommandError::write(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(CommandError::InUse(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(CommandError::Write { path, source: error }),
    }
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

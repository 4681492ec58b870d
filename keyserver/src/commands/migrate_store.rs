//! `migrate-store`: from the file in the data directory to PostgreSQL. All or nothing: one transaction there, read back
//! before it is committed; then the file gets another name, so that nobody serves the old truth beside the new one.

use super::{CommandError, Say, lock};
use crate::args::MigrateStoreArgs;
use crate::files;
use crate::store::transfer::{self, TransferError};
use data_encoding::HEXLOWER;
use tobari_core::message::Message;

pub(super) async fn migrate_store(args: &MigrateStoreArgs, say: Say) -> Result<(), CommandError> {
    let path = files::database(&args.data_dir);
    if !path.exists() {
        return Err(CommandError::NoDatabase(path));
    }
    let _lock = lock(&args.data_dir)?;
    let location = args.to.to_string();
    let failed = |error: TransferError| match error {
        TransferError::Source(source) => CommandError::Database { path: path.clone(), source },
        TransferError::Chain(error) => CommandError::Audit(error),
        TransferError::Target(source) => CommandError::Store { location: location.clone(), source },
        TransferError::NotEmpty => CommandError::NotEmpty(location.clone()),
        TransferError::Differs(detail) => CommandError::MovedBadly { location: location.clone(), detail },
    };
    let done = transfer::sqlite_to_postgres(&path, &args.to).await.map_err(failed)?;

    let kept = args.data_dir.join(files::DATABASE_MOVED);
    std::fs::rename(&path, &kept)
        .and_then(|()| files::sync_parent(&kept))
        .map_err(CommandError::write(&kept))?;
    for (table, rows) in &done.rows {
        say.line(&Message::new("moved-table").with("table", table).with("rows", rows))?;
    }
    let hash = HEXLOWER.encode(&done.head.hash);
    say.line(&Message::new("audit-intact").with("records", done.head.sequence).with("hash", hash))?;
    say.line(&Message::new("moved-kept").path(&kept))?;
    let serve = format!("tobari-keyserver serve --data-dir {} --store {location}", args.data_dir.display());
    say.line(&Message::new("next").with("command", serve))
}

//! `backup`, `restore` and `accept-older`. A backup is a whole database as of one moment, made while it is served. One that
//! was brought back is refused by `serve` where a witness saw more of the audit log: what was revoked since would be good
//! again. Who takes it up all the same says why, ends every session and token, and begins a new epoch of the log.

use super::{CommandError, Say, lock, open_store};
use crate::args::{AcceptOlderArgs, BackupArgs, RestoreArgs};
use crate::audit::chain;
use crate::service::{NamedKey, accept_older as accept};
use crate::store::Store as _;
use crate::store::sqlite::SqliteStore;
use crate::{files, root_key};
use data_encoding::HEXLOWER;
use std::os::unix::fs::OpenOptionsExt as _;
use tobari_core::clock::Clock;
use tobari_core::message::Message;

pub(super) async fn backup(args: &BackupArgs, say: Say) -> Result<(), CommandError> {
    let path = files::database(&args.data_dir);
    if !path.exists() {
        return Err(CommandError::NoDatabase(path));
    }
    // Taken first, for its mode; SQLite writes into an empty file.
    let new = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&args.out);
    new.map_err(CommandError::write(&args.out))?;
    let failed = |source| CommandError::Database { path: path.clone(), source };
    let made = async {
        SqliteStore::copy(&path, &args.out).await.map_err(failed)?;
        std::fs::File::open(&args.out)
            .and_then(|file| file.sync_all())
            .and_then(|()| files::sync_parent(&args.out))
            .map_err(CommandError::write(&args.out))?;
        check(&args.out, say).await
    };
    made.await.inspect_err(|_| {
        let _ = std::fs::remove_file(&args.out);
    })
}

pub(super) async fn restore(args: &RestoreArgs, say: Say) -> Result<(), CommandError> {
    let path = files::database(&args.data_dir);
    let _lock = lock(&args.data_dir)?;
    for path in [&path, &args.data_dir.join(files::DATABASE_LOG)] {
        if path.exists() {
            return Err(CommandError::DatabaseExists(args.data_dir.clone()));
        }
    }
    if !args.from.exists() {
        return Err(CommandError::NoDatabase(args.from.clone()));
    }
    let new = args.data_dir.join(files::DATABASE_NEW);
    let _ = std::fs::remove_file(&new);
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&new);
    file.map_err(CommandError::write(&new))?;
    let failed = |source| CommandError::Database { path: args.from.clone(), source };
    let made = async {
        SqliteStore::copy(&args.from, &new).await.map_err(failed)?;
        check(&new, say).await?;
        std::fs::File::open(&new)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&new, &path))
            .and_then(|()| files::sync_parent(&path))
            .map_err(CommandError::write(&path))
    };
    made.await.inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })?;
    let serve = format!("tobari-keyserver serve --data-dir {}", args.data_dir.display());
    say.line(&Message::new("next").with("command", serve))
}

/// A copy is good when its database is sound and its audit log whole.
async fn check(path: &std::path::Path, say: Say) -> Result<(), CommandError> {
    let failed = |source| CommandError::Database { path: path.to_owned(), source };
    let store = SqliteStore::open(path).await.map_err(failed)?;
    store.check().await.map_err(failed)?;
    let head = chain::verify(&store).await?;
    store.close().await.map_err(failed)?;
    drop(store);
    for suffix in ["-wal", "-shm"] {
        let mut side = path.as_os_str().to_owned();
        side.push(suffix);
        let _ = std::fs::remove_file(side);
    }
    let hash = HEXLOWER.encode(&head.hash);
    say.line(&Message::new("audit-intact").with("records", head.sequence).with("hash", hash))
}

pub(super) async fn accept_older(
    args: &AcceptOlderArgs,
    clock: &dyn Clock,
    say: Say,
) -> Result<(), CommandError> {
    let data_dir = args.store.data_dir.as_deref();
    let _lock = match (data_dir, &args.store.store) {
        (Some(data_dir), None) => Some(lock(data_dir)?),
        _ => None,
    };
    let store = open_store(data_dir, args.store.store.as_ref()).await?;
    let root_key = root_key::read(&root_key::location(args.root_key_file.as_deref(), data_dir))?;
    let mut export = match &args.export {
        None => None,
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|source| CommandError::Read { path: path.clone(), source })?;
            Some(std::io::BufReader::new(file))
        }
    };
    let export = export.as_mut().map(|export| export as &mut (dyn std::io::BufRead + Send));
    let taken_up = accept(store, root_key, &args.reason, export, clock.now()).await?;
    say.line(&Message::new("epoch").with("epoch", taken_up.epoch))?;
    if let Some(lost) = taken_up.lost {
        say.line(&Message::new("records-lost").with("records", lost))?;
    }
    let keys = [
        ("key-retired-again", taken_up.retired),
        ("key-still-current", taken_up.still_current),
        ("key-earlier", taken_up.earlier),
    ];
    for (message, keys) in keys {
        for NamedKey { label, generation } in keys {
            say.line(&Message::new(message).with("label", label).with("generation", generation))?;
        }
    }
    Ok(())
}

//! `init`: all or nothing. The database gets its name last; until then everything that was made is removed
//! again when something fails.

use super::recovery::{share_path, shares_of};
use super::{CommandError, Say};
use crate::args::InitArgs;
use crate::message::text;
use crate::recovery::{self, Owner};
use crate::service::Setup;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::{files, root_key};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tobari_core::clock::Clock;
use tobari_core::message::Message;
use zeroize::Zeroizing;

/// Names that every server certificate has.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What was made so far and is removed unless all goes well.
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    directory: Option<PathBuf>,
}

impl Made {
    fn keep(mut self) {
        self.files.clear();
        self.directory = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.files {
            let _ = std::fs::remove_file(path);
        }
        if let Some(path) = &self.directory {
            let _ = std::fs::remove_dir(path);
        }
    }
}

pub(super) async fn init(args: &InitArgs, clock: &dyn Clock, say: Say) -> Result<(), CommandError> {
    let data_dir = &args.data_dir;
    let password = password(args, say)?;
    let mut names: Vec<String> = LOCAL_NAMES.iter().map(|name| (*name).to_owned()).collect();
    names.extend(args.names.iter().filter(|name| !LOCAL_NAMES.contains(&name.as_str())).cloned());
    let setup = Setup {
        organisation: &args.organisation,
        admin: &args.admin,
        password: &password,
        server_names: &names,
        token_seconds: args.token_seconds,
    };
    setup.check()?;

    let mut made = Made::default();
    make_directory(data_dir, &mut made)?;
    let database = files::database(data_dir);
    if database.exists() {
        return Err(CommandError::DatabaseExists(data_dir.clone()));
    }

    let key_path = root_key::location(args.root_key_file.as_deref(), Some(data_dir));
    let root_key = if key_path.exists() {
        root_key::read(&key_path)?
    } else {
        let key = root_key::create(&key_path).map_err(CommandError::write(&key_path))?;
        made.files.push(key_path.clone());
        key
    };
    // Taken early: better to hear now that it exists than after the keys were made.
    let mut recovery_files = Vec::new();
    for path in recovery_paths(args)? {
        recovery_files.push((reserve(&path, &mut made)?, path));
    }
    let token_file = match &args.token_out {
        Some(path) => Some(reserve(path, &mut made)?),
        None => None,
    };

    let new = data_dir.join(files::DATABASE_NEW);
    remove_leftovers(&new)?;
    for suffix in ["", "-wal", "-shm"] {
        made.files.push(with_suffix(&new, suffix));
    }
    let unusable = |source| CommandError::Database { path: new.clone(), source };
    let store = Arc::new(SqliteStore::create(&new).await.map_err(unusable)?);
    let organisation = setup.run(Arc::clone(&store) as Arc<dyn Store>, &root_key, clock.now()).await?;
    store.close().await.map_err(unusable)?;
    drop(store);
    remove_side_files(&new)?;

    let owner = Owner { id: organisation.id.to_string(), name: args.organisation.trim().to_owned() };
    let texts = match args.recovery_shares.zip(args.recovery_needed) {
        Some((shares, needed)) => shares_of(&organisation.recovery_key, &owner, needed, shares)?,
        None => vec![recovery::key_text(&organisation.recovery_key, &owner)],
    };
    for ((file, path), text) in recovery_files.iter_mut().zip(&texts) {
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| files::sync_parent(path))
            .map_err(CommandError::write(path))?;
    }
    if let (Some(mut file), Some(path)) = (token_file, &args.token_out) {
        writeln!(file, "{}", organisation.token.token)
            .and_then(|()| file.sync_all())
            .map_err(CommandError::write(path))?;
    }

    std::fs::File::open(&new)
        .and_then(|file| file.sync_all())
        // A hard link does not replace: if a database has appeared meanwhile, this fails.
        .and_then(|()| std::fs::hard_link(&new, &database))
        .and_then(|()| files::sync_parent(&database))
        .and_then(|()| std::fs::remove_file(&new))
        .map_err(CommandError::write(&database))?;
    made.keep();

    let kept = args.root_key_file.is_some().then(|| format!(" --root-key-file {}", key_path.display()));
    let serve =
        format!("tobari-keyserver serve --data-dir {}{}", data_dir.display(), kept.unwrap_or_default());
    let token = &organisation.token;
    let named = Message::new("organisation").with("name", &args.organisation).with("id", organisation.id);
    say.line(&named)?;
    say.line(&Message::new("fingerprint").with("fingerprint", &token.ca_sha256))?;
    say.line(&match &args.token_out {
        Some(path) => Message::new("token-file").path(path),
        None => Message::new("token").with("token", &token.token),
    })?;
    say.line(&Message::new("token-life").with("until", token.expires_at))?;
    say.line(&match args.recovery_shares.zip(args.recovery_needed) {
        Some((shares, needed)) => Message::new("recovery-shares")
            .path(&args.recovery_key_out)
            .with("count", shares)
            .with("needed", needed),
        None => Message::new("recovery-key").path(&args.recovery_key_out),
    })?;
    say.line(&Message::new("root-key").path(&key_path))?;
    say.line(&Message::new("next").with("command", serve))
}

/// Where the recovery key goes, whole or in shares.
fn recovery_paths(args: &InitArgs) -> Result<Vec<PathBuf>, CommandError> {
    match args.recovery_shares.zip(args.recovery_needed) {
        None => Ok(vec![args.recovery_key_out.clone()]),
        Some((shares, needed)) if (2..=shares).contains(&needed) => {
            Ok((1..=usize::from(shares)).map(|number| share_path(&args.recovery_key_out, number)).collect())
        }
        Some(_) => Err(CommandError::ShareNumbers),
    }
}

fn password(args: &InitArgs, say: Say) -> Result<Zeroizing<String>, CommandError> {
    if let Some(path) = &args.admin_password_file {
        let text = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|source| CommandError::PasswordFile { path: path.clone(), source })?;
        return Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()));
    }
    let ask = |prompt: Message| {
        rpassword::prompt_password(format!("{} ", text(say.0, &prompt)))
            .map(Zeroizing::new)
            .map_err(CommandError::NoTerminal)
    };
    let first = ask(Message::new("prompt-password").with("login", &args.admin))?;
    let again = ask(Message::new("prompt-password-again"))?;
    if *first != *again {
        return Err(CommandError::PasswordsDiffer);
    }
    Ok(first)
}

fn make_directory(data_dir: &Path, made: &mut Made) -> Result<(), CommandError> {
    if data_dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().mode(0o700).create(data_dir).map_err(CommandError::write(data_dir))?;
    made.directory = Some(data_dir.to_owned());
    Ok(())
}

/// Takes the name of a file that must not exist.
fn reserve(path: &Path, made: &mut Made) -> Result<std::fs::File, CommandError> {
    let new = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    let file = new.map_err(CommandError::write(path))?;
    made.files.push(path.to_owned());
    Ok(file)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A database that never got its name: `init` was killed.
fn remove_leftovers(new: &Path) -> Result<(), CommandError> {
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::remove_file(with_suffix(new, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CommandError::Write { path: new.to_owned(), source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The write-ahead log was folded in; a log with something in it would be lost with the new name.
fn remove_side_files(new: &Path) -> Result<(), CommandError> {
    let log = with_suffix(new, "-wal");
    if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        return Err(CommandError::DatabaseIncomplete(new.to_owned()));
    }
    for path in [log, with_suffix(new, "-shm")] {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

//! `init`: all or nothing. The database gets its name last; until then everything that was made is removed
//! again when something fails.

use super::say;
use crate::args::InitArgs;
use crate::service::Setup;
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::{files, root_key};
use anyhow::{Context as _, bail, ensure};
use data_encoding::BASE64;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tobari_core::clock::Clock;
use tobari_core::crypto::RecipientPrivateKey;
use zeroize::Zeroizing;

/// Names that every server certificate has.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Columns of the armour.
const ARMOUR_COLUMNS: usize = 64;

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

pub(super) async fn init(args: &InitArgs, clock: &dyn Clock) -> anyhow::Result<()> {
    let data_dir = &args.store.data_dir;
    let password = password(args)?;
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
    ensure!(!database.exists(), "{} already holds a database; it is left as it is", data_dir.display());

    let key_path = root_key::location(args.root_key_file.as_deref(), data_dir);
    let root_key = if key_path.exists() {
        root_key::read(&key_path)?
    } else {
        let key = root_key::create(&key_path)?;
        made.files.push(key_path.clone());
        key
    };
    // Taken early: better to hear now that it exists than after the keys were made.
    let mut recovery_file = reserve(&args.recovery_key_out, "recovery key", &mut made)?;
    let token_file = match &args.token_out {
        Some(path) => Some(reserve(path, "enrolment token", &mut made)?),
        None => None,
    };

    let new = data_dir.join(files::DATABASE_NEW);
    remove_leftovers(&new)?;
    for suffix in ["", "-wal", "-shm"] {
        made.files.push(with_suffix(&new, suffix));
    }
    let store = Arc::new(SqliteStore::create(&new).await.context("make the database")?);
    let organisation =
        setup.run(Arc::clone(&store) as Arc<dyn Store>, &root_key, clock.now()).await.context("set up")?;
    store
        .close()
        .await
        .map_err(|error: StoreError| anyhow::Error::new(error).context("close the database"))?;
    drop(store);
    remove_side_files(&new)?;

    let armour = armour(&organisation.recovery_key, &organisation.id.to_string());
    recovery_file
        .write_all(armour.as_bytes())
        .and_then(|()| recovery_file.sync_all())
        .with_context(|| format!("write the recovery key to {}", args.recovery_key_out.display()))?;
    files::sync_parent(&args.recovery_key_out)?;
    if let Some(mut file) = token_file {
        writeln!(file, "{}", organisation.token.token)
            .and_then(|()| file.sync_all())
            .context("write the token")?;
    }

    std::fs::File::open(&new)?.sync_all()?;
    // A hard link does not replace: if a database has appeared meanwhile, this fails.
    std::fs::hard_link(&new, &database).context("name the database")?;
    files::sync_parent(&database)?;
    std::fs::remove_file(&new)?;
    made.keep();

    let kept = args.root_key_file.is_some().then(|| format!(" --root-key-file {}", key_path.display()));
    say(&format!("organisation:      {} ({})", args.organisation, organisation.id))?;
    say(&format!("CA SHA-256:        {}", organisation.token.ca_sha256))?;
    match &args.token_out {
        Some(path) => say(&format!("enrolment token:   in {}", path.display()))?,
        None => say(&format!("enrolment token:   {}", organisation.token.token))?,
    }
    say(&format!("                   good once, until {}", organisation.token.expires_at))?;
    say(&format!(
        "recovery key:      {}: store it offline, it opens every file",
        args.recovery_key_out.display()
    ))?;
    say(&format!("root key:          {}: back it up apart from the database", key_path.display()))?;
    say(&format!(
        "next:              tobari-keyserver serve --data-dir {}{}",
        data_dir.display(),
        kept.unwrap_or_default()
    ))
}

fn password(args: &InitArgs) -> anyhow::Result<Zeroizing<String>> {
    if let Some(path) = &args.admin_password_file {
        let text = Zeroizing::new(
            std::fs::read_to_string(path)
                .with_context(|| format!("read the password from {}", path.display()))?,
        );
        return Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()));
    }
    let ask = |prompt: String| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .context("ask for the password (without a terminal, use --admin-password-file)")
    };
    let first = ask(format!("Password for {}: ", args.admin))?;
    let again = ask(String::from("The same again: "))?;
    ensure!(*first == *again, "the two passwords differ");
    Ok(first)
}

fn make_directory(data_dir: &Path, made: &mut Made) -> anyhow::Result<()> {
    if data_dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(data_dir)
        .with_context(|| format!("make the directory {}", data_dir.display()))?;
    made.directory = Some(data_dir.to_owned());
    Ok(())
}

/// Takes the name of a file that must not exist.
fn reserve(path: &Path, what: &str, made: &mut Made) -> anyhow::Result<std::fs::File> {
    match std::fs::File::options().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            made.files.push(path.to_owned());
            Ok(file)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists; the {what} goes to a new file", path.display())
        }
        Err(error) => Err(error).with_context(|| format!("write the {what} to {}", path.display())),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A database that never got its name: `init` was killed.
fn remove_leftovers(new: &Path) -> anyhow::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::remove_file(with_suffix(new, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove the unfinished {}", new.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The write-ahead log was folded in; a log with something in it would be lost with the new name.
fn remove_side_files(new: &Path) -> anyhow::Result<()> {
    let log = with_suffix(new, "-wal");
    if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        bail!("the database was not written completely");
    }
    for path in [log, with_suffix(new, "-shm")] {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// The recovery key as text that survives printing.
fn armour(key: &RecipientPrivateKey, organisation: &str) -> Zeroizing<String> {
    let bytes = key.export();
    let encoded = Zeroizing::new(BASE64.encode(&bytes));
    let mut text = Zeroizing::new(format!(
        "-----BEGIN TOBARI RECOVERY KEY-----\nOrganisation: {organisation}\nKey-Id: {}\n\n",
        key.public().key_id()
    ));
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(ARMOUR_COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END TOBARI RECOVERY KEY-----\n");
    text
}

//! The command line as typed.

use crate::store::postgres::Location;
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Decides each opening of a sealed file, records it, and releases its key.
///
/// `init` once, then `serve`. All state is in the data directory, except the root key and the recovery key where you
/// place them elsewhere.
#[derive(Debug, Parser)]
#[command(name = "tobari-keyserver", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up an organisation: database, certificate authority, keys, first administrator.
    Init(InitArgs),
    /// Serve the HTTPS API.
    Serve(ServeArgs),
    /// Make a one-time enrolment token on the server itself, as for the first terminal.
    Token(TokenArgs),
    /// Move the store from the data directory to a PostgreSQL database, so that several servers can serve it.
    MigrateStore(MigrateStoreArgs),
    /// Sign the checkpoints of another machine's audit log, so that what it had cannot be taken back.
    Witness(WitnessArgs),
    /// Copy the database of a data directory to a file, while it is served or not.
    Backup(BackupArgs),
    /// Bring a backup back into a data directory that has no database.
    Restore(RestoreArgs),
    /// Take up a database that is older than what witnesses saw; what was recorded since is given up, and that is recorded.
    AcceptOlder(AcceptOlderArgs),
    /// The recovery key, offline: make shares of it, open files with it, prove that it opens them.
    Recovery {
        /// What to do with it.
        #[command(subcommand)]
        command: RecoveryCommand,
    },
    /// The audit log.
    Audit {
        /// What to do with it.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Print the OpenAPI document of the API.
    Openapi,
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check the whole hash chain and the tree over it, without changing anything.
    Verify(StoreArgs),
}

/// What to do with the recovery key. None of it needs the key server or its database.
#[derive(Debug, Subcommand)]
pub enum RecoveryCommand {
    /// Make shares of the key, of which some together open what it opens. Destroy the whole key afterwards.
    Split(RecoverySplit),
    /// Open a sealed file.
    Open(RecoveryOpen),
    /// Prove that the key, or the shares at hand, open sealed files: everything is decrypted and checked, nothing is written.
    Drill(RecoveryDrill),
}

/// Make shares.
#[derive(Debug, ClapArgs)]
pub struct RecoverySplit {
    /// The recovery key that `init` wrote.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// How many shares there are.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..))]
    pub shares: u8,
    /// How many of them are needed, whichever they are.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u8).range(2..))]
    pub needed: u8,
    /// Where they go: FILE.share1, FILE.share2, …, new files of mode 0600. Bring each to its keeper and remove it here.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Name of the organisation in the shares, where the key's file does not say it.
    #[arg(long, value_name = "NAME")]
    pub organisation: Option<String>,
}

/// The key, whole or in shares.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct RecoveryKeyArgs {
    /// The recovery key that `init` wrote.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// A share of it; give as many as are needed.
    #[arg(long = "share", value_name = "FILE")]
    pub shares: Vec<PathBuf>,
    /// Ask for the file of one share after the other, as their keepers come.
    #[arg(long)]
    pub ask: bool,
}

/// Open a file.
#[derive(Debug, ClapArgs)]
pub struct RecoveryOpen {
    /// The key.
    #[command(flatten)]
    pub key: RecoveryKeyArgs,
    /// The sealed file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// New file for its contents.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Prove that the key opens files.
#[derive(Debug, ClapArgs)]
pub struct RecoveryDrill {
    /// The key.
    #[command(flatten)]
    pub key: RecoveryKeyArgs,
    /// Sealed files.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Where the state is.
#[derive(Debug, ClapArgs)]
pub struct StoreArgs {
    /// Directory with the database and, unless it is elsewhere, the root key.
    #[arg(long, value_name = "DIR", required_unless_present = "store")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL database, if it is not in the data directory: postgres://user@host/database. A password belongs in
    /// PostgreSQL's password file (PGPASSFILE), not here, where other users of the machine see it.
    #[arg(long, value_name = "URL")]
    pub store: Option<Location>,
}

/// Set up an organisation.
#[derive(Debug, ClapArgs)]
pub struct InitArgs {
    /// Directory for the database and, unless it is elsewhere, the root key.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Name of the organisation, as people will see it.
    #[arg(long, value_name = "NAME")]
    pub organisation: String,
    /// Login name of the first administrator, who gets every role.
    #[arg(long, value_name = "LOGIN")]
    pub admin: String,
    /// File whose first line is the administrator's password; without it you are asked.
    #[arg(long, value_name = "FILE")]
    pub admin_password_file: Option<PathBuf>,
    /// New file for the private recovery key. It is written once and kept nowhere else: store it offline.
    #[arg(long, value_name = "FILE")]
    pub recovery_key_out: PathBuf,
    /// Write the recovery key as this many shares (FILE.share1, FILE.share2, …), and nowhere as a whole.
    #[arg(long, value_name = "N", requires = "recovery_needed", value_parser = clap::value_parser!(u8).range(2..))]
    pub recovery_shares: Option<u8>,
    /// How many of the shares are needed to open a file.
    #[arg(long, value_name = "K", requires = "recovery_shares", value_parser = clap::value_parser!(u8).range(2..))]
    pub recovery_needed: Option<u8>,
    /// A host name or address under which terminals reach the server, besides localhost, 127.0.0.1 and ::1; may be repeated.
    #[arg(long = "san", visible_alias = "url-host", value_name = "NAME")]
    pub names: Vec<String>,
    /// Where the root key is or is to be; without it the systemd credential `root-key`, or root.key in the data directory.
    #[arg(long, value_name = "FILE")]
    pub root_key_file: Option<PathBuf>,
    /// New file for the first enrolment token (mode 0600), instead of printing it.
    #[arg(long, value_name = "FILE")]
    pub token_out: Option<PathBuf>,
    /// How long the first enrolment token is good.
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 3600)]
    pub token_seconds: u32,
}

/// Serve the HTTPS API.
#[derive(Debug, ClapArgs)]
pub struct ServeArgs {
    /// Configuration file (TOML); the options below override it.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["data_dir", "store"])]
    pub config: Option<PathBuf>,
    /// Directory with the database and, unless it is elsewhere, the root key.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL database, which any number of servers may serve, instead of one in the data directory.
    #[arg(long, value_name = "URL")]
    pub store: Option<Location>,
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where the root key is.
    #[arg(long, value_name = "FILE")]
    pub root_key_file: Option<PathBuf>,
}

/// Sign checkpoints.
#[derive(Debug, ClapArgs)]
pub struct WitnessArgs {
    /// Folder for the witness's own key and the checkpoints that it saw.
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
    /// Name under which it signs, such as its host name.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The key of the log, as `tobari audit key` prints it.
    #[arg(long, value_name = "KEY")]
    pub log: String,
    /// Address and port to listen on, HTTP without TLS: nothing secret comes here, and answers are signed.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8444")]
    pub listen: SocketAddr,
    /// New file for the witness's public key and, on a second line, the address that it listens on.
    #[arg(long, value_name = "FILE")]
    pub key_out: Option<PathBuf>,
}

/// Copy the database.
#[derive(Debug, ClapArgs)]
pub struct BackupArgs {
    /// Directory with the database.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// New file for the copy. The root key is not in it: keep the two apart.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Bring a backup back.
#[derive(Debug, ClapArgs)]
pub struct RestoreArgs {
    /// Directory to which the database goes.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
}

/// Take up an older database.
#[derive(Debug, ClapArgs)]
pub struct AcceptOlderArgs {
    /// Where the state is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Where the root key is.
    #[arg(long, value_name = "FILE")]
    pub root_key_file: Option<PathBuf>,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Export of the log that was lost, from "tobari audit export": keys that it says were retired are retired again.
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
}

/// Move the store to PostgreSQL.
#[derive(Debug, ClapArgs)]
pub struct MigrateStoreArgs {
    /// Directory with the database that is moved. It is kept there under another name.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// PostgreSQL database to move to; it must be empty.
    #[arg(long, value_name = "URL")]
    pub to: Location,
}

/// Make a one-time enrolment token.
#[derive(Debug, ClapArgs)]
pub struct TokenArgs {
    /// Where the state is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Where the root key is.
    #[arg(long, value_name = "FILE")]
    pub root_key_file: Option<PathBuf>,
    /// Zone of the terminal to be enrolled.
    #[arg(long)]
    pub zone: Option<String>,
    /// A tag of the terminal; may be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// How long the token is good, at most 7 days.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub valid_seconds: u32,
    /// New file for the token (mode 0600), instead of printing it.
    #[arg(long, value_name = "FILE")]
    pub token_out: Option<PathBuf>,
}

//! The command line as typed. Man pages and completions are made from it; its texts are English, and
//! [`crate::message::localise`] puts them into Japanese.

pub mod admin;
pub mod audit;
pub mod lease;
pub mod policy;

use crate::app::App;
use crate::console::Console;
use crate::drill::expected::Role;
use crate::error::Error;
use crate::exit::Exit;
use crate::message::Language;
use crate::settings::Settings;
use admin::Admin;
use clap::error::ErrorKind;
use clap::{ArgGroup, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Look at, open, seal and send protected files, and administer Tobari
#[derive(Debug, Parser)]
#[command(name = "tobari", version, propagate_version = true, arg_required_else_help = true)]
pub struct Args {
    /// Flags that hold for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that hold for every command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Global {
    /// Print one JSON document on standard output; errors as JSON on standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Language of messages (also TOBARI_LANG, LC_ALL, LC_MESSAGES, LANG)
    #[arg(long, global = true, value_name = "LANGUAGE")]
    pub lang: Option<Language>,
    /// Draw no progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Control socket of the daemon (also TOBARI_SOCKET)
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Log in
    Login(Login),
    /// Log out; the daemon forgets the grants
    Logout,
    /// Show who is logged in
    Whoami,
    /// Show the state of the daemon and its designated folders
    Status(Status),
    /// Show what a file is, and what you may do with it and why
    Info(Files),
    /// Write the contents to standard output; needs the right "view"
    Cat(Files),
    /// Open a sealed file with its usual application, in a confined session
    Open(Open),
    /// Run a program in a confined session, in which designated folders are shown opened
    Run(Run),
    /// Save the contents unsealed; needs the right "decrypt"
    Unseal(Unseal),
    /// Check every byte of sealed files; needs the right "view"
    Verify(Files),
    /// Seal files
    Seal(Seal),
    /// Put files into a password-ZIP; needs the right "send"
    Zip(Zip),
    /// Take files along, to open them without the key server
    #[command(subcommand)]
    Lease(lease::Lease),
    /// Show how much below some paths is sealed
    ScanCoverage(ScanCoverage),
    /// Attack this installation with a canary, and show what each way out brings
    Drill(Drill),
    /// Search, export and check the audit log
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Take over the organisation's bulletin where the key server cannot be reached
    #[command(subcommand)]
    Bulletin(Bulletin),
    /// Administer the key server
    Admin(Administration),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Write the man pages into a folder
    #[command(hide = true)]
    ManPages(ManPages),
}

/// `tobari admin`.
#[derive(Debug, clap::Args)]
pub struct Administration {
    /// How a change is made.
    #[command(flatten)]
    pub how: policy::How,
    /// What to administer.
    #[command(subcommand)]
    pub what: Admin,
}

/// `tobari login`.
#[derive(Debug, clap::Args)]
pub struct Login {
    /// Login name; asked for on a terminal when it is missing
    #[arg(value_name = "LOGIN")]
    pub login: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Code of the authenticator application
    #[arg(long, value_name = "CODE")]
    pub totp: Option<String>,
}

/// `tobari bulletin`.
#[derive(Debug, Subcommand)]
pub enum Bulletin {
    /// Have the daemon take a bulletin that was exported with "tobari admin bulletin export"
    Import(BulletinImport),
}

/// `tobari bulletin import`.
#[derive(Debug, clap::Args)]
pub struct BulletinImport {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `tobari status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Also list the files that could not be sealed, and why
    #[arg(long)]
    pub unsealed: bool,
    /// Show it again whenever it changes, until interrupted
    #[arg(long)]
    pub watch: bool,
}

/// Commands that take files alone.
#[derive(Debug, clap::Args)]
pub struct Files {
    /// Files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `tobari open`.
#[derive(Debug, clap::Args)]
pub struct Open {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Open a file that is neither sealed nor in a designated folder with its usual program and without a session
    #[arg(long)]
    pub or_plain: bool,
    /// Open it with this program instead of the usual one
    #[arg(long, value_name = "PROGRAM")]
    pub with: Option<OsString>,
    /// What is created carries at least this label, by name or id
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Let the program print; files whose rights do not include "print" cannot be opened then
    #[arg(long)]
    pub print: bool,
}

/// `tobari run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// What is created carries at least this label, by name or id
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Let the program print; files whose rights do not include "print" cannot be opened then
    #[arg(long)]
    pub print: bool,
    /// The program and its arguments
    #[arg(required = true, value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// `tobari unseal`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("target").required(true).args(["output", "output_dir", "in_place"]))]
pub struct Unseal {
    /// Sealed files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Save here (one file only)
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Save in this folder, under the same names
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Replace the sealed file
    #[arg(long)]
    pub in_place: bool,
    /// Overwrite existing outputs
    #[arg(long)]
    pub force: bool,
}

/// `tobari seal`.
#[derive(Debug, clap::Args)]
pub struct Seal {
    /// Files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Label, by name or id; that of the designated folder when the file lies in one
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Group that owns the file, by path or id; that of the designated folder when the file lies in one
    #[arg(long, value_name = "GROUP")]
    pub owner_group: Option<String>,
    /// Save the sealed file here (one file only) and leave FILE as it is
    #[arg(short, long, value_name = "OUT", conflicts_with = "in_place")]
    pub output: Option<PathBuf>,
    /// Replace the file by its sealed form (the default)
    #[arg(long)]
    pub in_place: bool,
}

/// `tobari zip`.
#[derive(Debug, clap::Args)]
pub struct Zip {
    /// The archive to make
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Files and folders to put in
    #[arg(required = true, value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
    /// Read the password from standard input
    #[arg(long, conflicts_with_all = ["ask_password", "password_length"])]
    pub password_stdin: bool,
    /// Ask for a password, twice
    #[arg(long, conflicts_with = "password_length")]
    pub ask_password: bool,
    /// Length of the generated password
    #[arg(long, value_name = "N", default_value_t = crate::commands::zip::DEFAULT_LENGTH, value_parser = clap::value_parser!(u16).range(i64::from(crate::commands::zip::MINIMUM_LENGTH)..=128))]
    pub password_length: u16,
    /// Use the weak old encryption that every unpacker knows, where every label allows it
    #[arg(long)]
    pub legacy_zipcrypto: bool,
}

/// `tobari scan-coverage`.
#[derive(Debug, clap::Args)]
pub struct ScanCoverage {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// List every file that is not sealed
    #[arg(long)]
    pub list: bool,
}

/// `tobari drill`.
#[derive(Debug, clap::Args)]
pub struct Drill {
    /// A protected folder in which you may write
    #[arg(value_name = "FOLDER", required_unless_present = "task")]
    pub folder: Option<PathBuf>,
    /// Who attacks; may be given several times
    #[arg(long, value_name = "ROLE")]
    pub role: Vec<Role>,
    /// Folder for what is got out, neither protected nor private to a session [default: the home directory]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// The user who works with the file [default: who runs this]; others as root
    #[arg(long, value_name = "UID")]
    pub user: Option<u32>,
    /// Another user of this host, who attacks as "other"; as root
    #[arg(long, value_name = "UID")]
    pub other: Option<u32>,
    /// What a process of the drill itself does
    #[arg(long, value_name = "JSON", hide = true)]
    pub task: Option<String>,
    /// What a process of the drill calls itself
    #[arg(long, value_name = "TEXT", hide = true)]
    pub said: Option<String>,
}

/// `tobari completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// Shells with a completion script.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// `tobari man-pages`.
#[derive(Debug, clap::Args)]
pub struct ManPages {
    /// The folder, which must exist
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// The value of `--lang`, found before parsing so that a wrong command line is refused in the right language.
pub fn typed_language(arguments: &[OsString]) -> Option<String> {
    let mut texts = arguments.iter().map(|argument| argument.to_str()).take_while(|text| *text != Some("--"));
    while let Some(text) = texts.next() {
        match text {
            Some("--lang") => return texts.next().flatten().map(str::to_owned),
            Some(text) => {
                if let Some(value) = text.strip_prefix("--lang=") {
                    return Some(value.to_owned());
                }
            }
            None => {}
        }
    }
    None
}

/// Shows help or the version (exit 0), or says what is wrong with the command line.
pub fn report_unparsed(
    error: &clap::Error,
    arguments: &[OsString],
    language: Language,
    mut console: Console,
) -> Exit {
    use std::io::Write as _;
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = console.output.write_all(text.as_bytes());
            Exit::Ok
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = console.errors.write_all(text.as_bytes());
            Exit::Usage
        }
        _ => {
            let json = arguments.iter().take_while(|argument| *argument != "--").any(|one| one == "--json");
            let detail = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            // Under --json one line must do; for people clap's usage lines follow.
            let detail = if json { detail.split("\n\n").next().unwrap_or(detail) } else { detail };
            let error = Error::Usage { what: "command-line", detail: detail.to_owned() };
            let global = Global { json, ..Global::default() };
            let settings = Settings::resolve(&global, language, &console);
            App::new(settings, console).finish(Err(error))
        }
    }
}

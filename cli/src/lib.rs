//! The command line of Tobari as a library, so that tests can run it without a process of its own.
//!
//! [`run`] parses ([`args`], as typed), resolves ([`settings`]), carries out one of [`commands`] and maps the
//! outcome to an [`exit::Exit`]. The program never holds a key: it speaks to `tobarid` ([`client`]) and hands it
//! file descriptors that it opened with its caller's own permissions. What other programs may rely on is in
//! `docs/cli-abi.md`.

#![forbid(unsafe_code)]

pub mod app;
pub mod args;
pub mod client;
pub mod commands;
pub mod console;
pub mod desktop;
pub mod drill;
pub mod environment;
pub mod error;
pub mod exit;
pub mod files;
pub mod message;
pub mod progress;
pub mod settings;
#[cfg(test)]
mod tests;

use app::App;
use args::Args;
use clap::{CommandFactory as _, FromArgMatches as _};
use console::Console;
use exit::Exit;
use message::Language;
use settings::Settings;
use std::ffi::OsString;

/// Runs one command line, program name first, and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>, console: Console) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let language = Language::choose(args::typed_language(&arguments).as_deref(), &console);
    let command = message::localise(Args::command(), language);
    let parsed = command.try_get_matches_from(&arguments).and_then(|found| Args::from_arg_matches(&found));
    let args = match parsed {
        Ok(args) => args,
        Err(error) => return args::report_unparsed(&error, &arguments, language, console),
    };
    let settings = Settings::resolve(&args.global, language, &console);
    let mut app = App::new(settings, console);
    let outcome = commands::run(args.command, &mut app);
    app.finish(outcome)
}

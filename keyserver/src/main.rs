//! `tobari-keyserver`: see `--help` and `docs/spec/api.md`.

#![forbid(unsafe_code)]

use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;
use tobari_core::message::{Language, Message};
use tobari_keyserver::message::{hint, problem};

fn main() -> ExitCode {
    let args = tobari_keyserver::args::Args::parse();
    let language = Language::choose(|name| std::env::var(name).ok());
    match tobari_keyserver::run(args, language) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = Message::from(&error);
            let mut stderr = std::io::stderr().lock();
            // Nothing to be done when even standard error is gone.
            let _ = writeln!(stderr, "tobari-keyserver: error: {}", problem(language, &message));
            if let Some(hint) = hint(language, &message) {
                let _ = writeln!(stderr, "tobari-keyserver: hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

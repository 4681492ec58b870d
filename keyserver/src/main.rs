//! `tobari-keyserver`: see `--help` and `docs/spec/api.md`.

#![forbid(unsafe_code)]

use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = tobari_keyserver::args::Args::parse();
    match tobari_keyserver::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing to be done when even standard error is gone.
            let _ = writeln!(std::io::stderr(), "tobari-keyserver: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `tobari`: parses, runs, and maps the outcome to an exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use tobari_cli::console::Console;

fn main() -> ExitCode {
    match Console::of_process() {
        Ok(console) => ExitCode::from(tobari_cli::run(std::env::args_os(), console).code()),
        Err(_) => ExitCode::from(tobari_cli::exit::Exit::Internal.code()),
    }
}

//! `tobarid`: reads arguments and configuration, runs one command, and ends with 0, 1 (it failed; standard error says
//! why) or 2 (the arguments are wrong).

use clap::Parser as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tobari_core::clock::SystemClock;
use tobari_core::message::{Language, Message};
use tobari_daemon::args::{Arguments, Command, Enrol, Run};
use tobari_daemon::config::{Config, DEFAULT_CONFIG, RawConfig};
use tobari_daemon::enrol::{EnrolError, EnrolSettings, enrol};
use tobari_daemon::{log, message, process, run, session};
use zeroize::Zeroizing;

fn main() -> ExitCode {
    let language = Language::choose(|name| std::env::var(name).ok());
    let result = match Arguments::parse().command {
        Command::Enrol(arguments) => enrol_command(arguments, language),
        Command::Run(arguments) => run_command(arguments),
        Command::CheckConfig(arguments) => check_config(arguments),
        Command::Confine(stage) => session::confine(&stage),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut stderr = std::io::stderr().lock();
            let said = message::of(&error);
            let _nowhere_else_to_say_it =
                writeln!(stderr, "tobarid: error: {}", message::problem(language, &said));
            if let Some(hint) = message::hint(language, &said) {
                let _nowhere_else_to_say_it = writeln!(stderr, "tobarid: hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn enrol_command(arguments: Enrol, language: Language) -> anyhow::Result<()> {
    // The terminal's private keys are made here, and the token is a secret: neither may end in a core dump.
    process::harden()?;
    let token = Zeroizing::new(match (arguments.token, arguments.token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => {
            let read = if path.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(&path)
            };
            read.map_err(|source| EnrolError::TokenFile { path, source })?
        }
        (None, None) => String::new(),
    });
    let name =
        arguments.name.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let settings = EnrolSettings {
        server: arguments.server.join(","),
        ca_sha256: arguments.ca_sha256,
        token,
        state_dir: arguments.state_dir,
        name,
        force: arguments.force,
    };
    let runtime = run::runtime()?;
    let terminal = enrol(&settings, runtime.handle(), Arc::new(SystemClock))?;
    let enrolled = Message::new("enrolled").with("terminal", terminal);
    writeln!(std::io::stdout(), "{}", message::text(language, &enrolled))?;
    Ok(())
}

fn run_command(arguments: Run) -> anyhow::Result<()> {
    let config = resolve(arguments)?;
    log::start(&config.log)?;
    run::run(config, Arc::new(SystemClock))?;
    Ok(())
}

fn check_config(arguments: Run) -> anyhow::Result<()> {
    let config = resolve(arguments)?;
    writeln!(std::io::stdout(), "{config:#?}")?;
    Ok(())
}

/// The configuration file, overridden by the command line.
fn resolve(arguments: Run) -> anyhow::Result<Config> {
    let file = match arguments.config {
        Some(path) => Some(path),
        None => Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.exists()),
    };
    let mut raw = file.as_deref().map(RawConfig::read).transpose()?.unwrap_or_default();
    raw.state_dir = arguments.state_dir.or(raw.state_dir);
    raw.socket = arguments.socket.or(raw.socket);
    if !arguments.role.is_empty() {
        raw.roles = Some(arguments.role);
    }
    Ok(Config::try_from(raw)?)
}

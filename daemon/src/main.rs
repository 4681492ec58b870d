//! `tobarid`: reads arguments and configuration, runs one command, and ends with 0, 1 (it failed; standard error says
//! why) or 2 (the arguments are wrong).

use clap::{Args, Parser, Subcommand};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tobari_core::clock::SystemClock;
use tobari_daemon::config::{Config, DEFAULT_CONFIG, DEFAULT_STATE_DIR, RawConfig, Role};
use tobari_daemon::enrol::{EnrolSettings, enrol};
use tobari_daemon::{log, run};
use zeroize::Zeroizing;

/// Seals what lands in designated folders and opens sealed files for local users.
#[derive(Debug, Parser)]
#[command(name = "tobarid", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this host a terminal of an organisation, with a one-time token.
    Enrol(Enrol),
    /// Run the daemon in the foreground.
    Run(Run),
    /// Check a configuration file and show what it means.
    CheckConfig(Run),
}

#[derive(Args)]
struct Enrol {
    /// URL of the key server.
    #[arg(long, value_name = "URL")]
    server: String,
    /// SHA-256 of the organisation's CA certificate, as 'tobari-keyserver init' printed it.
    #[arg(long, value_name = "HEX")]
    ca_sha256: String,
    /// The one-time token. Others on this host can read it from the process list: prefer --token-file.
    // A token may begin with a hyphen.
    #[arg(
        long,
        allow_hyphen_values = true,
        conflicts_with = "token_file",
        required_unless_present = "token_file"
    )]
    token: Option<String>,
    /// File with the one-time token ('-' for standard input).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where the terminal's keys and certificate go.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// Name of the terminal for people [default: the host name].
    #[arg(long)]
    name: Option<String>,
    /// Replace the present enrolment.
    #[arg(long)]
    force: bool,
}

impl std::fmt::Debug for Enrol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrol").field("server", &self.server).finish_non_exhaustive()
    }
}

#[derive(Debug, Args)]
struct Run {
    /// Configuration file [default: /etc/tobari/tobarid.toml, where it exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Instead of the configuration's 'state_dir'.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Instead of the configuration's 'socket'.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Instead of the configuration's 'roles'; may be repeated.
    #[arg(long, value_name = "ROLE")]
    role: Vec<Role>,
}

impl Run {
    fn resolve(self) -> anyhow::Result<Config> {
        let file = match self.config {
            Some(path) => Some(path),
            None => Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.exists()),
        };
        let mut raw = file.as_deref().map(RawConfig::read).transpose()?.unwrap_or_default();
        raw.state_dir = self.state_dir.or(raw.state_dir);
        raw.socket = self.socket.or(raw.socket);
        if !self.role.is_empty() {
            raw.roles = Some(self.role);
        }
        Ok(Config::try_from(raw)?)
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Enrol(arguments) => enrol_command(arguments),
        Command::Run(arguments) => run_command(arguments),
        Command::CheckConfig(arguments) => check_config(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut stderr = std::io::stderr().lock();
            let _nowhere_else_to_say_it = writeln!(stderr, "tobarid: error: {error}");
            if let Some(hint) = hint(&error) {
                let _nowhere_else_to_say_it = writeln!(stderr, "tobarid: hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn enrol_command(arguments: Enrol) -> anyhow::Result<()> {
    let token = Zeroizing::new(match (arguments.token, arguments.token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => {
            let read = if path.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(&path)
            };
            read.map_err(|error| {
                anyhow::anyhow!("failed to read the token from {}: {error}", path.display())
            })?
        }
        (None, None) => String::new(),
    });
    let name =
        arguments.name.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let settings = EnrolSettings {
        server: arguments.server,
        ca_sha256: arguments.ca_sha256,
        token,
        state_dir: arguments.state_dir,
        name,
        force: arguments.force,
    };
    let runtime = run::runtime()?;
    let terminal = enrol(&settings, runtime.handle(), Arc::new(SystemClock))?;
    writeln!(std::io::stdout(), "enrolled as terminal {terminal}")?;
    Ok(())
}

fn run_command(arguments: Run) -> anyhow::Result<()> {
    let config = arguments.resolve()?;
    log::start(&config.log)?;
    run::run(config, Arc::new(SystemClock))?;
    Ok(())
}

fn check_config(arguments: Run) -> anyhow::Result<()> {
    let config = arguments.resolve()?;
    writeln!(std::io::stdout(), "{config:#?}")?;
    Ok(())
}

/// What to do about an error, where there is something to do.
fn hint(error: &anyhow::Error) -> Option<&'static str> {
    use tobari_core::proto::problem::ProblemCode;
    use tobari_daemon::enrol::EnrolError;
    use tobari_daemon::run::RunError;
    use tobari_daemon::state::StateError;
    let state = |error: &StateError| match error {
        StateError::NotEnrolled(_) => Some("enrol this host first with 'tobarid enrol'"),
        StateError::AlreadyEnrolled(_) => Some("use --force to replace the present enrolment"),
        StateError::InUse(_) => Some("stop the running tobarid first"),
        StateError::Damaged { .. } => Some("restore the file from a backup, or enrol again with --force"),
        StateError::Io { .. } => None,
    };
    if let Some(error) = error.downcast_ref::<EnrolError>() {
        return match error {
            EnrolError::State(error) => state(error),
            EnrolError::Fingerprint(_) => {
                Some("'tobari-keyserver init' and 'tobari admin token' print the fingerprint")
            }
            EnrolError::EmptyToken => Some("an administrator makes a token with 'tobari admin token'"),
            EnrolError::Refused(problem) if problem.code == ProblemCode::BadEnrolmentToken => {
                Some("a token is good once and for a limited time; ask an administrator for a new one")
            }
            EnrolError::Refused(problem) if problem.code == ProblemCode::KeyServerUnreachable => {
                Some("check --server and --ca-sha256, and that the key server runs")
            }
            _ => None,
        };
    }
    match error.downcast_ref::<RunError>()? {
        RunError::State(error) => state(error),
        RunError::Socket { .. } => Some("stop the other tobarid, or choose another path with --socket"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent_and_a_token_may_begin_with_a_hyphen() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        let line = ["tobarid", "enrol", "--server", "https://x", "--ca-sha256", "00", "--token", "-k2"];
        let Command::Enrol(enrol) = Arguments::try_parse_from(line).unwrap().command else { panic!() };
        assert_eq!(enrol.token.as_deref(), Some("-k2"));
        assert!(Arguments::try_parse_from(&line[..6]).is_err());
    }
}

//! The command line of `tobarid` as typed. The man pages in `docs/man` are made from it.

use crate::config::{DEFAULT_STATE_DIR, Role};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Seals what lands in designated folders and opens sealed files for local users.
#[derive(Debug, Parser)]
#[command(name = "tobarid", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this host a terminal of an organisation, with a one-time token.
    Enrol(Enrol),
    /// Run the daemon in the foreground.
    Run(Run),
    /// Check a configuration file and show what it means.
    CheckConfig(Run),
    /// A stage of a session's start. Started by the daemon alone.
    #[command(subcommand, hide = true)]
    Confine(Stage),
}

/// `tobarid enrol`.
#[derive(Args)]
pub struct Enrol {
    /// URL of the key server; may be repeated where several servers serve one organisation. They are tried in this
    /// order, and the one that answered last comes first.
    #[arg(long, value_name = "URL", required = true)]
    pub server: Vec<String>,
    /// SHA-256 of the organisation's CA certificate, as 'tobari-keyserver init' printed it.
    #[arg(long, value_name = "HEX")]
    pub ca_sha256: String,
    /// The one-time token. Others on this host can read it from the process list: prefer --token-file.
    // A token may begin with a hyphen.
    #[arg(
        long,
        allow_hyphen_values = true,
        conflicts_with = "token_file",
        required_unless_present = "token_file"
    )]
    pub token: Option<String>,
    /// File with the one-time token ('-' for standard input).
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the terminal's keys and certificate go.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// Name of the terminal for people [default: the host name].
    #[arg(long)]
    pub name: Option<String>,
    /// Replace the present enrolment.
    #[arg(long)]
    pub force: bool,
}

impl std::fmt::Debug for Enrol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrol").field("server", &self.server).finish_non_exhaustive()
    }
}

/// `tobarid run` and `tobarid check-config`.
#[derive(Debug, Args)]
pub struct Run {
    /// Configuration file [default: /etc/tobari/tobarid.toml, where it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Instead of the configuration's 'state_dir'.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Instead of the configuration's 'socket'.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Instead of the configuration's 'roles'; may be repeated.
    #[arg(long, value_name = "ROLE")]
    pub role: Vec<Role>,
}

/// `tobarid confine`.
#[derive(Debug, Clone, Subcommand)]
pub enum Stage {
    /// As root: puts the session's file system together, and starts bubblewrap.
    Outer,
    /// Inside: confines itself, and becomes the program.
    Inner {
        /// Number of the descriptor that describes the program.
        program: i32,
    },
    /// Holds a user namespace.
    Owners,
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

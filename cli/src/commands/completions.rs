//! What is made from the definition of the command line: completion scripts and man pages.

use crate::app::App;
use crate::args::{Args, Completions, ManPages, Shell};
use crate::error::{Action, Error};
use clap::CommandFactory as _;

/// `tobari completions`.
pub(super) fn completions(args: &Completions, app: &mut App) -> Result<(), Error> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "tobari", &mut script);
    app.write(&script)
}

/// `tobari man-pages`.
pub(super) fn man_pages(args: &ManPages, _app: &mut App) -> Result<(), Error> {
    clap_mangen::generate_to(Args::command(), &args.directory).map_err(Action::Create.failed(&args.directory))
}

//! Confined sessions: unmodified programs that see designated folders opened, and nothing else that they could carry the contents
//! to. `launch` is the daemon's side: it checks who asks, mounts the views and watches over the session. `outer` and `inner`
//! are the stages of the process that becomes the program. `docs/session.md` says how it holds together and what it
//! does not stop.

mod access;
mod filter;
mod inner;
mod launch;
mod leftovers;
mod mark;
mod outer;
mod owners;
mod processes;
mod running;
mod settings;
mod spec;
mod tree;
mod user;

use crate::args::Stage;
pub use launch::run;
pub use leftovers::clear;
pub use running::Running;
pub use settings::{FIRST_UID, Home, SessionSettings, UIDS};

/// Runs a stage; returns only when it is done or cannot go on.
///
/// # Errors
/// What the kernel or this host lacks for a session.
pub fn confine(stage: &Stage) -> anyhow::Result<()> {
    match stage {
        Stage::Outer => outer::run(),
        Stage::Inner { program } => inner::run(*program),
        Stage::Owners => owners::hold(),
    }
}

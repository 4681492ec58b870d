//! Noticing what lands in designated folders, and having it sealed.
//!
//! [`Engine`] owns one state thread (`state`); watcher (`source`), sweeper (`sweep`) and sealing workers (`worker`) talk to
//! it by bounded channels, so that events have one order. Events are only a faster way to learn what the sweep would
//! find: a full channel, a rescan flag or a watch error means "sweep that folder".

mod busy;
mod engine;
mod fanotify;
mod files;
mod folder;
mod inotify;
mod pace;
mod rules;
mod settings;
mod source;
mod state;
mod sweep;
mod worker;

#[cfg(test)]
mod tests;

pub use engine::Engine;
pub use settings::{EngineSettings, Events};

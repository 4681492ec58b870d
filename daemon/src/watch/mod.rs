//! Noticing what lands in designated folders, and having it sealed.
//!
//! [`Engine`] owns one state thread; watcher, sweeper and sealing workers talk to it by bounded channels, so
//! that events have one order. Events are only a faster way to learn what the sweep would find: a full
//! channel, a rescan flag or a watch error means "sweep that folder".

mod engine;
mod settings;

pub use engine::Engine;
pub use settings::EngineSettings;

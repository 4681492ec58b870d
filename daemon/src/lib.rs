//! The daemon `tobarid` as a library: the folder side ([`watch`] notices files, [`seal`] seals them in
//! place) and the side of local users ([`control`] hears them, [`open`] and [`zip`] serve them with the terminal's
//! keys; [`lease`] while the key server is away). [`enrol`] makes a host a terminal, [`state`] remembers it, [`server`] speaks to the key server.
//! `main` only puts the parts together.

pub mod args;
pub mod bulletin;
mod changes;
pub mod config;
pub mod content;
pub mod control;
pub mod descriptors;
pub mod enrol;
pub mod failure;
pub mod files;
pub mod forward;
pub mod gateway;
pub mod grants;
pub mod info;
pub mod lease;
pub mod log;
pub mod message;
pub mod metrics;
pub mod open;
pub mod pin;
pub mod process;
pub mod protect;
pub mod renew;
mod report;
pub mod rewrite;
pub mod run;
pub mod seal;
pub mod server;
pub mod service;
pub mod session;
pub mod sessions;
pub mod state;
mod sys;
#[cfg(test)]
mod testing;
pub mod view;
pub mod watch;
pub mod zip;

//! The key server: decides each opening of a sealed file, records it, and releases the key.
//!
//! `http` decodes and encodes, [`service`] authenticates, decides, audits and acts, [`store`] keeps,
//! [`audit`] is the hash-chained log. One function releases keys: `service::release`. Start with
//! [`service::Service`]; `docs/spec/api.md` is normative.

#![forbid(unsafe_code)]

pub mod args;
pub mod audit;
mod ca;
mod commands;
pub mod config;
mod files;
mod harden;
pub mod http;
pub mod message;
pub mod recovery;
mod root_key;
pub mod service;
pub mod store;
pub mod witness;

pub use commands::{CommandError, run};

/// An error with all its causes on one line.
pub(crate) struct Causes<'a>(pub(crate) &'a (dyn std::error::Error + 'a));

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

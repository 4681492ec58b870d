//! Sealing in place: one file of a designated folder becomes its own envelope under its own name, and at
//! every moment the name shows either the old plaintext or a whole authentic envelope.
//!
//! This module decides nothing about *when*: [`crate::watch`] finds the files and calls it. It holds public
//! keys only, so nothing here can open what it sealed (before the current epoch's shared secret is wiped, at
//! most a minute). Start with [`rule`] for what is sealed how.

pub mod rule;

pub use rule::{FolderRule, SealContext};

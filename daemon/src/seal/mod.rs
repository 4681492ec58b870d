//! Sealing in place: one file of a designated folder becomes its own envelope under its own name, and at
//! every moment the name shows either the old plaintext or a whole authentic envelope.
//!
//! This module decides nothing about *when*: [`crate::watch`] finds the files and calls it. It holds public
//! keys only, so nothing here can open what it sealed (before the current epoch's shared secret is wiped, at
//! most a minute). Start with `sealer` for the protocol, `journal` for what a restart relies on, `exchange` for
//! how the plaintext is given up, and [`rule`] for what is sealed how.

mod durable;
mod epochs;
mod exchange;
mod facts;
mod gate;
mod group;
mod inspect;
mod journal;
mod metadata;
pub(crate) mod root;
pub mod rule;
mod sealer;
mod step;
mod stop;
mod wipe;

pub(crate) use durable::sync;
pub(crate) use epochs::Epochs;
pub(crate) use facts::{Facts, Stamp};
pub(crate) use gate::Gate;
pub(crate) use inspect::{Content, inspect};
pub use root::{CONTROL, FolderError, FolderRoot};
pub(crate) use root::{JOURNALS, Parent, is_control, open_probed, open_shared, probe};
pub(crate) use rule::compile as compile_patterns;
pub use rule::{FolderRule, LabelRecipients, SealContext};
pub use sealer::{Outcome, Sealer};
pub use step::{Safeguard, Step};
pub use stop::Stop;
pub use wipe::Wipe;

#[cfg(test)]
pub(crate) mod tests;

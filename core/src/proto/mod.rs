//! What the programs say to each other: types with serde, no logic.
//!
//! [`api`] is the key server's HTTP API, [`bulletin`] the signed document that sealing needs,
//! [`lease`] what goes along without a network, [`control`] the daemon's local socket and [`frame`] its framing, [`terminal`] what terminals tell of themselves,
//! [`problem`] the errors of all of them.
//! `docs/spec/api.md` is normative.

pub mod admin;
pub mod api;
pub mod base64;
pub mod bulletin;
pub mod control;
pub mod frame;
pub mod lease;
pub mod policy;
pub mod problem;
pub mod terminal;

//! The heart of Tobari: envelope format, cryptography, policy decision and protocol types.
//!
//! This crate knows no HTTP, no SQL and no FUSE, has no clock of its own (time is an argument, see
//! [`clock`]) and decides no I/O policy: it reads and writes through traits. Start with
//! [`envelope`] for the file format, [`policy`] for who may do what, and [`proto`] for what the programs
//! say to each other. `docs/spec/` is the normative text behind each of them.

pub mod audit;
pub mod clock;
pub mod crypto;
pub mod envelope;
pub mod ids;
pub mod lease;
pub mod message;
pub mod policy;
pub mod proto;

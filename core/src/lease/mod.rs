//! What a lease allows: pure checks, without clock, disk or network. `docs/spec/lease.md` is normative.
//!
//! [`LeaseClock`] says what time it is where the wall clock cannot be trusted, [`ValidLease`] is a lease whose signature,
//! organisation and terminal were checked, and its [`ValidLease::permits`] decides one opening. [`chain`] links the
//! records of what was done. The terminal's state around them is in `daemon/src/lease`.

pub mod chain;
mod document;
mod time;

pub use document::{
    CONTEXT, LeaseBinding, LeaseError, Lent, Refused, ValidLease, Wish, lease_info, read_unchecked, sign,
};
pub use time::{BootClock, ClockFault, LeaseClock, Reading, TOLERANCE};

#[cfg(test)]
mod tests;

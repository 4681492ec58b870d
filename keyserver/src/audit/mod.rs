//! The audit log: one record for each grant, refusal, login, enrolment and administrative act, in a chain and
//! a signed Merkle tree, and on the disk before the act has its effect. `docs/spec/audit.md` is normative.
//!
//! [`AuditLog::commit`] is the only way to write; what it gives back, [`Audited`], is what releasing a key
//! asks for. A log that cannot be written stops everything that must be recorded.

pub mod chain;
pub mod proof;
mod record;
mod writer;

pub use record::{Act, Record, Who};
pub use writer::{AuditError, AuditLog, Audited, LogIdentity};

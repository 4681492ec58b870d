//! The audit log: one record for each grant, refusal, login, enrolment and administrative act, hash-chained
//! and on the disk before the act has its effect. `docs/spec/api.md`, "Audit log", is normative.
//!
//! [`AuditLog::commit`] is the only way to write; what it gives back, [`Audited`], is what releasing a key
//! asks for. A log that cannot be written stops everything that must be recorded.

pub mod chain;
mod record;
mod writer;

pub use record::{Act, Record, Who};
pub use writer::{AuditError, AuditLog, Audited};

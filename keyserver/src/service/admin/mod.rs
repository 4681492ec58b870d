//! The administration: each object's file has list, find, create, replace and delete. Every call checks the
//! caller's role, validates against the directory as a whole, and commits the change with its record.

mod audit;
mod folders;
mod groups;
mod invariants;
mod labels;
mod part;
mod people;
mod plan;
mod policy;
mod posts;
mod presets;
mod requests;
mod revocations;
mod rules;
mod terminals;

pub use audit::{AuditFilter, AuditVerification};
pub use part::Part;
pub(crate) use people::{check_login, new_person};
pub(crate) use plan::{Acting, Deed, Plan};
pub(crate) use terminals::new_token;

use super::error::ServiceError;
use super::{Call, Caller, Service};
use crate::audit::{Act, Record};
use crate::store::Tables;
use tobari_core::policy::MAX_NAME_BYTES;
use tobari_core::proto::admin::Role;

/// Most entries in a list within one object (tags, memberships, exclusions).
const MAX_LIST: usize = 256;

/// Refuses names that are empty, too long, or hold what cannot be seen.
pub(crate) fn check_name(field: &str, name: &str) -> Result<(), ServiceError> {
    if name.trim().is_empty() {
        return Err(ServiceError::invalid(field, "must not be empty"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(ServiceError::invalid(field, format!("must be at most {MAX_NAME_BYTES} bytes")));
    }
    if name.chars().any(is_invisible) {
        return Err(ServiceError::invalid(field, "must not contain control or invisible characters"));
    }
    Ok(())
}

/// Control characters, and the marks that change how text is shown without being seen.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn check_names(field: &str, names: &[String]) -> Result<(), ServiceError> {
    if names.len() > MAX_LIST {
        return Err(ServiceError::invalid(field, format!("must have at most {MAX_LIST} entries")));
    }
    for (index, name) in names.iter().enumerate() {
        check_name(&format!("{field}[{index}]"), name)?;
    }
    Ok(())
}

impl Service {
    fn admin_record(&self, act: Act, caller: &Caller, kind: &str, id: impl std::fmt::Display) -> Record {
        Record::new(act, self.clock.now(), caller.who()).about(kind, id)
    }

    /// For lists: somebody with any role, and the tables of this moment.
    async fn read_tables(&self, call: &Call) -> Result<Tables, ServiceError> {
        self.any_administrator(call).await?;
        Ok(self.directory.load().tables.clone())
    }

    /// An object that others still name cannot go.
    fn refuse_reference(kind: &str, by: Option<String>) -> Result<(), ServiceError> {
        match by {
            None => Ok(()),
            Some(by) => Err(ServiceError::conflict(kind, format!("still in use by {by}"))),
        }
    }
}

/// The role for groups, posts, people, rules and folders.
const POLICY: &[Role] = &[Role::Policy];

//! Health: whether the server can do its work.

use super::{Service, ServiceError};
use crate::audit::chain;

/// Records at the end of the log that are checked at each start.
const TAIL: u64 = 100_000;

impl Service {
    /// Whether the store can be read and the audit log can be written.
    ///
    /// # Errors
    /// What cannot.
    pub async fn ready(&self) -> Result<(), ServiceError> {
        self.store.audit_head().await?;
        // An empty commit takes the whole way of a record, short of the record.
        self.audit.commit(Vec::new(), &[]).await?;
        Ok(())
    }

    /// Whether store and audit log are sound; without it the server must not start. Notes the start.
    ///
    /// # Errors
    /// What is not.
    pub async fn check_before_serving(&self) -> Result<(), ServiceError> {
        self.store.check().await?;
        chain::verify_tail(self.store.as_ref(), TAIL).await.map_err(|error| match error {
            chain::ChainError::Store(error) => error.into(),
            error @ (chain::ChainError::Gap { .. }
            | chain::ChainError::Broken { .. }
            | chain::ChainError::Tree(_)) => ServiceError::AuditNotIntact(error),
        })?;
        let record = crate::audit::Record::new(
            crate::audit::Act::Start,
            self.clock.now(),
            crate::audit::Who::default(),
        )
        .detail(env!("CARGO_PKG_VERSION"));
        self.audit.commit(Vec::new(), &[record]).await?;
        Ok(())
    }
}

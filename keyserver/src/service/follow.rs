//! Keeping up with other servers over the same store. What is held in memory may be behind; it is never trusted alone:
//! whoever must not be late asks for the version first ([`Service::refresh`]) or lets the commit check it
//! ([`Basis`]), and decides again when it has moved on.

use super::directory::Directory;
use super::identity::Identity;
use super::keys::KeyRing;
use super::{Changing, Service, ServiceError};
use crate::audit::{AuditError, AuditLog};
use crate::store::{Basis, Loaded, Store};
use jiff::Timestamp;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often something is decided again before the request is given up: each time another server has changed
/// something between the decision and its record.
pub(super) const ATTEMPTS: usize = 16;
/// Without a hint the version is asked for this often.
const INTERVAL: Duration = Duration::from_secs(2);

/// The directory of a server that starts. The very first numbers the first bulletin.
pub(super) async fn first(
    store: &dyn Store,
    audit: &AuditLog,
    identity: &Identity,
    keys: &KeyRing,
    now: Timestamp,
) -> Result<Directory, ServiceError> {
    for _ in 0..ATTEMPTS {
        let Loaded { version, tables } = store.load().await?;
        keys.complete(&tables, &identity.root_key)?;
        let (mut directory, numbered) = Directory::new(tables, identity, None, now)?;
        directory.version = version;
        let Some(change) = numbered else { return Ok(directory) };
        match audit.commit_on(Basis::new(version, None), vec![change], &[]).await {
            // Once more, as it is stored now; another server may have been faster.
            Ok(_) | Err(AuditError::Moved) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ServiceError::Moved)
}

impl Service {
    /// Takes over changes of other servers as they come. Ends with the service.
    pub(super) fn follow(self: &Arc<Self>) {
        let Some(mut hints) = self.store.hints() else { return };
        let service: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                // An error is the end of the store; its calls say so themselves.
                let ended = matches!(tokio::time::timeout(INTERVAL, hints.changed()).await, Ok(Err(_)));
                let Some(service) = service.upgrade() else { return };
                if let Err(error) = service.refresh().await {
                    tracing::debug!(%error, "changes of other servers were not read");
                }
                if ended {
                    return;
                }
            }
        });
    }

    /// When this returns, everything that was acknowledged by any server before it was called is seen here.
    ///
    /// # Errors
    /// The store cannot be reached: then nothing is known to be so.
    pub(crate) async fn refresh(&self) -> Result<(), ServiceError> {
        let version = self.store.version().await?;
        if self.directory.load().version >= version {
            return Ok(());
        }
        let changing = Changing { here: self.changing.lock().await, last: None, everywhere: None };
        self.catch_up(&changing).await
    }

    /// As [`Service::refresh`], where no other change of this server may come between.
    pub(super) async fn catch_up(&self, changing: &Changing<'_>) -> Result<(), ServiceError> {
        let version = self.store.version().await?;
        if self.directory.load().version >= version { Ok(()) } else { self.reload(changing).await }
    }

    /// Reads everything again.
    pub(super) async fn reload(&self, _changing: &Changing<'_>) -> Result<(), ServiceError> {
        let Loaded { version, tables } = self.store.load().await?;
        self.keys.complete(&tables, &self.identity.root_key)?;
        let (mut directory, _) = Directory::new(tables, &self.identity, None, self.clock.now())?;
        directory.version = version;
        self.publish(directory);
        Ok(())
    }
}

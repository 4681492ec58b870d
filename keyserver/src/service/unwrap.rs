//! From an allowed header to its DEK. The private RSA operation runs on the blocking pool, few at a time; its
//! result, the secret of a sealing epoch, is kept for some minutes, so that ten thousand files of one epoch cost
//! one operation.

use super::decide::Allowed;
use super::directory::Directory;
use super::limits::Limits;
use super::{Service, ServiceError};
use std::collections::HashMap;
use std::sync::Arc;
use tobari_core::crypto::{Dek, KeyId, SharedSecret};
use tobari_core::envelope::{Header, Stanza};
use tobari_core::ids::FileId;
use tokio::sync::Semaphore;

/// Which secret: the key and the hash of the encapsulation.
pub(super) type SecretName = (KeyId, [u8; 32]);

/// The secrets of recent epochs.
pub(crate) struct Secrets {
    recent: moka::sync::Cache<SecretName, Arc<SharedSecret>>,
    running: Arc<Semaphore>,
}

impl Secrets {
    pub(crate) fn new(limits: &Limits) -> Self {
        let recent = moka::sync::Cache::builder()
            .max_capacity(limits.secrets)
            .time_to_live(limits.secret_life)
            .build();
        Self { recent, running: Arc::new(Semaphore::new(limits.unwraps.max(1))) }
    }
}

/// A DEK that was unwrapped for an allowed file. It leaves this server through [`super::release`] alone.
pub(super) struct Unwrapped {
    pub(super) file: FileId,
    pub(super) dek: Dek,
    _only_here: (),
}

/// The stanza for one of our keys, of the label that the header's policy names; a stanza of another label's
/// key would let a file be opened under a label that its key does not have.
pub(super) fn stanza<'a>(header: &'a Header, directory: &Directory) -> Option<&'a Stanza> {
    let label = header.policy().label;
    header
        .stanzas()
        .iter()
        .find(|stanza| directory.key_owner(&stanza.key_id).is_some_and(|(owner, _)| owner == label))
}

/// Which secret the stanza needs.
pub(super) fn secret_name(stanza: &Stanza) -> SecretName {
    (stanza.key_id, stanza.encapsulation_hash())
}

/// Opens the stanza and checks the header with what it holds; none, whatever does not fit.
pub(super) fn unwrap(
    allowed: &Allowed,
    header: &Header,
    stanza: &Stanza,
    secret: &SharedSecret,
) -> Option<Unwrapped> {
    if allowed.file != header.file_id() {
        return None;
    }
    let dek = header.unwrap(stanza, secret).ok()?;
    Some(Unwrapped { file: allowed.file, dek, _only_here: () })
}

impl Service {
    /// The secrets of these encapsulations; those that do not open are left out.
    pub(super) async fn secrets(
        &self,
        wanted: HashMap<SecretName, Vec<u8>>,
    ) -> Result<HashMap<SecretName, Arc<SharedSecret>>, ServiceError> {
        let mut found = HashMap::with_capacity(wanted.len());
        let mut missing = Vec::new();
        for (name, encapsulation) in wanted {
            match self.secrets.recent.get(&name) {
                Some(secret) => {
                    found.insert(name, secret);
                }
                None => missing.push((name, encapsulation)),
            }
        }
        let mut running = Vec::with_capacity(missing.len());
        for (name, encapsulation) in missing {
            let Some(key) = self.keys.find(&name.0) else { continue };
            let permit = Arc::clone(&self.secrets.running)
                .acquire_owned()
                .await
                .map_err(|error| ServiceError::Internal(error.to_string()))?;
            running.push(tokio::task::spawn_blocking(move || {
                let secret = key.decapsulate(&encapsulation).ok().map(Arc::new);
                drop(permit);
                (name, secret)
            }));
        }
        for task in running {
            let (name, secret) = task.await.map_err(|error| ServiceError::Internal(error.to_string()))?;
            if let Some(secret) = secret {
                self.secrets.recent.insert(name, Arc::clone(&secret));
                found.insert(name, secret);
            }
        }
        Ok(found)
    }
}

//! Label key pairs: made here, kept sealed under the root key, opened once into memory.

use super::directory::Directory;
use super::identity::label_key_aad;
use super::{Service, ServiceError};
use crate::store::{Change, FileKeyRow, LabelKeyRow, Tables};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tobari_core::crypto::{KeyId, RecipientKind, RecipientPrivateKey, RootKey};
use tobari_core::ids::{FileId, LabelId};
use tobari_core::proto::admin::KeyKind;

/// All private label keys, of every generation that is not retired.
pub(crate) struct KeyRing(RwLock<HashMap<KeyId, Arc<RecipientPrivateKey>>>);

impl KeyRing {
    pub(crate) fn open(tables: &Tables, root_key: &RootKey) -> Result<Self, ServiceError> {
        let ring = Self(RwLock::new(HashMap::with_capacity(tables.label_keys.len())));
        ring.complete(tables, root_key)?;
        Ok(ring)
    }

    /// Opens the keys of the tables that are not in the ring yet.
    pub(crate) fn complete(&self, tables: &Tables, root_key: &RootKey) -> Result<(), ServiceError> {
        for row in tables.label_keys.values() {
            if row.retired_at.is_some() {
                self.forget(&row.key_id);
                continue;
            }
            if self.find(&row.key_id).is_some() {
                continue;
            }
            let damaged = || {
                ServiceError::Internal(format!(
                    "the key {} of label {} does not open",
                    row.generation, row.label
                ))
            };
            let bytes = root_key
                .open(&label_key_aad(row.label, row.generation), &row.sealed_private)
                .map_err(|_| damaged())?;
            let key = RecipientPrivateKey::import(&bytes).map_err(|_| damaged())?;
            if key.public().key_id() != row.key_id {
                return Err(damaged());
            }
            self.add(key);
        }
        Ok(())
    }

    pub(crate) fn find(&self, key: &KeyId) -> Option<Arc<RecipientPrivateKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).map(Arc::clone)
    }

    /// Takes a key out; what it opened before is not opened by it any more.
    pub(crate) fn forget(&self, key: &KeyId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    pub(crate) fn add(&self, key: RecipientPrivateKey) {
        let id = key.public().key_id();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(key));
    }
}

/// For which keys the files are sealed that were asked for, where a label has had more than one. Written with the last contacts, and
/// before a key is retired.
#[derive(Debug, Default)]
pub(crate) struct KeyUses(Mutex<HashMap<FileId, (LabelId, u32, bool, Timestamp)>>);

/// Most that is kept before it is written; more is learnt the next time that the file is asked for.
const MAX_USES: usize = 100_000;

impl KeyUses {
    /// Notes that a file needs a key.
    pub(crate) fn note(&self, directory: &Directory, key: &KeyId, file: FileId, now: Timestamp) {
        let Some((label, generation)) = directory.key_owner(key) else { return };
        let current = directory.current_generation(label);
        if current == 1 {
            return;
        }
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < MAX_USES || uses.contains_key(&file) {
            uses.insert(file, (label, generation, generation == current, now));
        }
    }

    /// What there is to be written; none where there is nothing.
    fn take(&self) -> Option<Change> {
        let uses = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut earlier, mut now_current) = (Vec::new(), Vec::new());
        for (file, (label, generation, current, seen_at)) in uses {
            if current {
                now_current.push(file);
            } else {
                earlier.push(FileKeyRow { file, label, generation, seen_at });
            }
        }
        let some = !earlier.is_empty() || !now_current.is_empty();
        some.then_some(Change::SawFileKeys { earlier, current: now_current })
    }
}

impl Service {
    /// Writes for which keys files are sealed, as far as they were seen.
    pub(crate) async fn write_key_uses(&self) -> Result<(), ServiceError> {
        if let Some(change) = self.key_uses.take() {
            self.audit.commit(vec![change], &[]).await?;
        }
        Ok(())
    }

    /// Makes a label's next key: the row for the store and the key for the ring.
    pub(crate) async fn make_label_key(
        &self,
        label: LabelId,
        generation: u32,
        kind: KeyKind,
        now: Timestamp,
    ) -> Result<(LabelKeyRow, RecipientPrivateKey), ServiceError> {
        let kind = match kind {
            KeyKind::Rsa2048 => RecipientKind::RsaOaep,
            KeyKind::Rsa2048Mlkem768 => RecipientKind::RsaOaepMlkem768,
        };
        let key = tokio::task::spawn_blocking(move || RecipientPrivateKey::generate(kind))
            .await
            .map_err(|error| ServiceError::Internal(error.to_string()))??;
        let sealed_private = self.identity.root_key.seal(&label_key_aad(label, generation), &key.export())?;
        let row = LabelKeyRow {
            label,
            generation,
            key_id: key.public().key_id(),
            public_key: key.public().to_proto(),
            sealed_private,
            created_at: now,
            retired_at: None,
        };
        Ok((row, key))
    }
}

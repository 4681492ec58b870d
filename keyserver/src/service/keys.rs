//! Label key pairs: made here, kept sealed under the root key, opened once into memory.

use super::identity::label_key_aad;
use super::{Service, ServiceError};
use crate::store::{LabelKeyRow, Tables};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tobari_core::crypto::{KeyId, RecipientKind, RecipientPrivateKey, RootKey};
use tobari_core::ids::LabelId;
use tobari_core::proto::admin::KeyKind;

/// All private label keys, of every generation.
pub(crate) struct KeyRing(RwLock<HashMap<KeyId, Arc<RecipientPrivateKey>>>);

impl KeyRing {
    pub(crate) fn open(tables: &Tables, root_key: &RootKey) -> Result<Self, ServiceError> {
        let ring = Self(RwLock::new(HashMap::with_capacity(tables.label_keys.len())));
        ring.complete(tables, root_key)?;
        Ok(ring)
    }

    /// Opens the keys of the tables that are not in the ring yet.
    pub(crate) fn complete(&self, tables: &Tables, root_key: &RootKey) -> Result<(), ServiceError> {
        for row in tables.label_keys.values().filter(|row| self.find(&row.key_id).is_none()) {
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

    pub(crate) fn add(&self, key: RecipientPrivateKey) {
        let id = key.public().key_id();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(key));
    }
}

impl Service {
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
        };
        Ok((row, key))
    }
}

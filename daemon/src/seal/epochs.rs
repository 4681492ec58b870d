//! The shared encapsulations of the moment: files sealed within a minute for the same recipients share one, and
//! what could open them is wiped when the minute is over.

use super::rule::LabelRecipients;
use super::stop::Stop;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tobari_core::crypto::RecipientPublicKey;
use tobari_core::envelope::Epoch;
use tobari_core::ids::LabelId;
use tobari_core::proto::control::UnsealedReason;

/// Longest life of an epoch (docs/spec/envelope.md, "Shared encapsulation").
const LIFE: Duration = Duration::from_secs(60);

struct Current {
    keys: Arc<LabelRecipients>,
    epoch: Arc<Epoch>,
    since: Instant,
}

/// The current epoch of each label.
#[derive(Default)]
pub(crate) struct Epochs(Mutex<HashMap<LabelId, Current>>);

impl Epochs {
    /// The label's epoch, a new one if there is none for exactly these keys or it is too old.
    pub(crate) fn current(&self, keys: &Arc<LabelRecipients>) -> Result<Arc<Epoch>, Stop> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = all.get(&keys.label.id)
            && current.keys == *keys
            && current.since.elapsed() < LIFE
        {
            return Ok(Arc::clone(&current.epoch));
        }
        let no_key =
            |why: String| Stop::refused(UnsealedReason::NoKey, format!("label {}: {why}", keys.label.name));
        let recipients = keys
            .recipients
            .iter()
            .map(RecipientPublicKey::try_from)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| no_key(error.to_string()))?;
        let epoch = Arc::new(Epoch::new(&recipients).map_err(|error| no_key(error.to_string()))?);
        let current = Current { keys: Arc::clone(keys), epoch: Arc::clone(&epoch), since: Instant::now() };
        all.insert(keys.label.id, current);
        Ok(epoch)
    }

    /// Gives up `spent`, which has served all the files that it may.
    pub(crate) fn retire(&self, keys: &LabelRecipients, spent: &Arc<Epoch>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&keys.label.id).is_some_and(|current| Arc::ptr_eq(&current.epoch, spent)) {
            all.remove(&keys.label.id);
        }
    }

    /// Wipes epochs that are over; to be called every few seconds, also when nothing is sealed.
    pub(crate) fn expire(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, current| current.since.elapsed() < LIFE);
    }
}

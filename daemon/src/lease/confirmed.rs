//! How old what this terminal knows of revocations may be: a label can demand that the organisation confirmed it not long ago. Asked at each
//! opening without the key server, and each time that a lent key is used.

use super::refused;
use crate::failure::Failure;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use tobari_core::ids::LabelId;
use tobari_core::proto::bulletin::Bulletin;

/// A clock that is behind the last confirmation by more than this was set back.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(120);

/// What the bulletin in force demands, and when it was confirmed last.
#[derive(Debug, Default)]
pub(super) struct Confirmed(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    at: Option<Timestamp>,
    hours: HashMap<LabelId, u32>,
}

impl Confirmed {
    pub(super) fn set(&self, bulletin: &Bulletin, at: Timestamp) {
        let hours = bulletin
            .labels
            .iter()
            .filter_map(|keys| Some((keys.label.id, keys.max_bulletin_age_hours?)))
            .collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Known { at: Some(at), hours };
    }

    /// Whether files of the label may be opened at the time `now` of the lease clock.
    pub(super) fn check(&self, label: LabelId, now: Timestamp) -> Result<(), Failure> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(hours) = known.hours.get(&label) else { return Ok(()) };
        let Some(at) = known.at else {
            return Err(refused(
                "bulletin",
                "the organisation never confirmed its revocations to this terminal",
            ));
        };
        let age = now.duration_since(at);
        if age < SignedDuration::ZERO - TOLERANCE {
            return Err(refused("clock", format!("it shows {now}, before the confirmation of {at}")));
        }
        if age > SignedDuration::from_hours(i64::from(*hours)) {
            return Err(refused("bulletin", format!("last at {at}, more than {hours} hours ago")));
        }
        Ok(())
    }
}

//! Failed logins: counted by login name in its compared form, whether or not there is such a person, so that
//! neither spelling avoids the lock nor the lock shows who exists.

use super::limits::Limits;
use crate::store::{LoginFailuresRow, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

const SHARDS: usize = 64;
/// Doubling ends here; 2^20 first locks are far beyond the longest.
const MAX_DOUBLINGS: u32 = 20;

/// One login of a name at a time: guesses in parallel must not outrun the counter.
pub(crate) struct Lockout {
    shards: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Lockout {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::new(())).collect(), hasher: RandomState::new() }
    }

    /// Waits for other logins under this name.
    pub(crate) async fn enter(&self, login_key: &str) -> Option<MutexGuard<'_, ()>> {
        let shard = self.hasher.hash_one(login_key) % SHARDS as u64;
        match self.shards.get(usize::try_from(shard).unwrap_or(0)) {
            Some(shard) => Some(shard.lock().await),
            None => None,
        }
    }
}

/// The failures so far, none if they are so old that they are forgotten.
pub(crate) async fn failures(
    store: &dyn Store,
    limits: &Limits,
    login_key: &str,
    now: Timestamp,
) -> Result<Option<LoginFailuresRow>, StoreError> {
    let row = store.login_failures(login_key).await?;
    Ok(row.filter(|row| {
        row.locked_until > now || now.duration_since(row.last_failed_at) < limits.forget_failures_after
    }))
}

/// Seconds until the name is unlocked, rounded up.
pub(crate) fn locked_for(row: Option<&LoginFailuresRow>, now: Timestamp) -> Option<u64> {
    let left = row?.locked_until.duration_since(now);
    if left <= SignedDuration::ZERO {
        return None;
    }
    u64::try_from(left.as_secs()).ok().map(|seconds| seconds + u64::from(left.subsec_nanos() > 0))
}

/// The counter after one more failure.
pub(crate) fn count(
    limits: &Limits,
    before: Option<LoginFailuresRow>,
    login_key: &str,
    now: Timestamp,
) -> LoginFailuresRow {
    let failures = before.map_or(0, |row| row.failures).saturating_add(1);
    let locked_until = match failures.checked_sub(limits.lockout_after) {
        None => now,
        Some(beyond) => {
            let lock = 2_i32
                .checked_pow(beyond.min(MAX_DOUBLINGS))
                .and_then(|factor| limits.lockout_first.checked_mul(factor))
                .map_or(limits.lockout_longest, |lock| lock.min(limits.lockout_longest));
            now.checked_add(lock).unwrap_or(Timestamp::MAX)
        }
    };
    LoginFailuresRow { login_key: login_key.to_owned(), failures, last_failed_at: now, locked_until }
}

/// How long the answer to this failure waits.
pub(crate) fn delay(limits: &Limits, row: &LoginFailuresRow) -> Duration {
    limits.failure_delay.saturating_mul(1 << row.failures.saturating_sub(1).min(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_double_up_to_the_longest() {
        let limits = Limits::default();
        let now = Timestamp::UNIX_EPOCH;
        let mut row = None;
        let mut locks = Vec::new();
        for _ in 0..14 {
            let next = count(&limits, row, "x", now);
            locks.push(locked_for(Some(&next), now));
            row = Some(next);
        }
        assert_eq!(locks[..4], [None; 4]);
        assert_eq!(locks[4..8], [Some(60), Some(120), Some(240), Some(480)]);
        assert_eq!(locks[13], Some(3600));
    }

    #[test]
    fn the_answer_waits_longer_each_time() {
        let limits = Limits::default();
        let row = |failures| LoginFailuresRow {
            login_key: String::new(),
            failures,
            last_failed_at: Timestamp::UNIX_EPOCH,
            locked_until: Timestamp::UNIX_EPOCH,
        };
        let delays: Vec<u128> = (1..=6).map(|failures| delay(&limits, &row(failures)).as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 1600, 1600]);
    }
}

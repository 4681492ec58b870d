//! A limit on the bytes that sweeps seal in each second, so that the disk has time for others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long at most a wait goes without a look at whether the engine stops.
const NAP: Duration = Duration::from_millis(100);

/// The pace of all workers together.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    /// When what was taken so far is paid for.
    paid: Mutex<Instant>,
}

impl Pace {
    /// No limit with none.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, paid: Mutex::new(Instant::now()) }
    }

    /// Waits until those before are paid for, then takes `bytes`.
    pub(super) fn wait(&self, bytes: u64, stopping: &AtomicBool) {
        let Some(rate) = self.bytes_per_second else { return };
        let begin = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*paid).max(Instant::now());
            *paid = begin + price(bytes, rate);
            begin
        };
        while !stopping.load(Ordering::Relaxed) {
            let left = begin.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}

fn price(bytes: u64, rate: u64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).min(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_turns_at_the_rate() {
        let pace = Pace::new(Some(1 << 20));
        let go = AtomicBool::new(false);
        let begin = Instant::now();
        for _ in 0..4 {
            pace.wait(64 << 10, &go);
        }
        // The first starts at once, each other after the one before it.
        assert!(begin.elapsed() >= Duration::from_millis(187), "{:?}", begin.elapsed());
        go.store(true, Ordering::Relaxed);
        pace.wait(1 << 40, &go);
        pace.wait(1, &go);
        assert!(begin.elapsed() < Duration::from_secs(60));
        Pace::new(None).wait(u64::MAX, &AtomicBool::new(false));
    }
}

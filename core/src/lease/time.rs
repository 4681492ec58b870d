//! What time it is on a terminal whose user can set its clock.
//!
//! The time seen last is never gone back behind by more than [`TOLERANCE`], and while the machine is up its boot clock, which
//! nobody can set, says how far time must have come since. A wall clock that shows less is refused; one that shows
//! more is believed, because that only shortens a lease. The key server's time, when it is reached, corrects both ways.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far a wall clock may be behind: adjustments, leap seconds.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(120);

/// The kernel's clock since boot, sleep included (`CLOCK_BOOTTIME`), and which boot it counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootClock {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: [u8; 16],
    /// Microseconds since that boot.
    pub elapsed: i64,
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub wall: Timestamp,
    /// The boot clock.
    pub boot: BootClock,
}

/// Why the clocks are not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockFault {
    /// The wall clock shows an earlier time than it must be.
    #[error("the clock shows {wall}, but it is at least {at_least}: it was set back")]
    SetBack {
        /// What it shows.
        wall: Timestamp,
        /// What it must be at least.
        at_least: Timestamp,
    },
    /// The boot clock went back without a boot.
    #[error("the clock since boot went back without a boot")]
    BootClockWentBack,
    /// A time outside the years that can be written down.
    #[error("the clock shows a time that cannot be")]
    OutOfRange,
}

/// The latest time seen and where the boot clock stood then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseClock {
    latest: Timestamp,
    boot: BootClock,
}

impl LeaseClock {
    /// The clock as the key server sets it: its word is believed, whatever was seen before.
    pub const fn set(server_time: Timestamp, boot: BootClock) -> Self {
        Self { latest: server_time, boot }
    }

    /// The latest time seen.
    pub const fn latest(&self) -> Timestamp {
        self.latest
    }

    /// What time it is, and the clock that has seen it.
    ///
    /// # Errors
    /// [`ClockFault`]; the clock then stays as it is.
    pub fn advance(&self, reading: Reading) -> Result<(Timestamp, Self), ClockFault> {
        let at_least = self.at_least(&reading.boot)?;
        let tolerated = at_least.checked_sub(TOLERANCE).map_err(|_| ClockFault::OutOfRange)?;
        if reading.wall < tolerated {
            return Err(ClockFault::SetBack { wall: reading.wall, at_least });
        }
        let now = at_least.max(reading.wall);
        Ok((now, Self { latest: now, boot: reading.boot }))
    }

    /// The latest time seen, and what has passed since if the machine was up.
    fn at_least(&self, boot: &BootClock) -> Result<Timestamp, ClockFault> {
        if boot.boot != self.boot.boot {
            return Ok(self.latest);
        }
        let passed = boot.elapsed.checked_sub(self.boot.elapsed).ok_or(ClockFault::OutOfRange)?;
        if passed < 0 {
            return Err(ClockFault::BootClockWentBack);
        }
        self.latest.checked_add(SignedDuration::from_micros(passed)).map_err(|_| ClockFault::OutOfRange)
    }
}

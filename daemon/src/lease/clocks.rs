//! Both clocks of this machine, and the lease clock that they drive.

use crate::failure::Failure;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tobari_core::clock::Clock;
use tobari_core::lease::{BootClock, LeaseClock, Reading};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where readings come from.
pub trait Clocks: Send + Sync {
    /// Both clocks now.
    ///
    /// # Errors
    /// When the system does not say which boot this is.
    fn read(&self) -> io::Result<Reading>;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClocks {
    wall: Arc<dyn Clock>,
}

impl SystemClocks {
    /// With the wall clock of the daemon.
    pub fn new(wall: Arc<dyn Clock>) -> Self {
        Self { wall }
    }
}

impl Clocks for SystemClocks {
    fn read(&self) -> io::Result<Reading> {
        let text: String =
            std::fs::read_to_string(BOOT_ID)?.chars().filter(char::is_ascii_hexdigit).collect();
        let boot = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(
            || io::Error::new(io::ErrorKind::InvalidData, format!("{BOOT_ID} holds no boot id")),
        )?;
        // Not CLOCK_MONOTONIC: that stands still while the machine sleeps.
        let since = clock_gettime(ClockId::Boottime);
        let elapsed = since.tv_sec.saturating_mul(1_000_000).saturating_add(since.tv_nsec / 1000);
        Ok(Reading { wall: self.wall.now(), boot: BootClock { boot, elapsed } })
    }
}

/// The lease clock: readings, checked against the latest time seen.
pub(super) struct Time {
    clocks: Arc<dyn Clocks>,
    clock: Mutex<Option<LeaseClock>>,
}

impl Time {
    pub(super) fn new(clocks: Arc<dyn Clocks>, clock: Option<LeaseClock>) -> Self {
        Self { clocks, clock: Mutex::new(clock) }
    }

    pub(super) fn reading(&self) -> Result<Reading, Failure> {
        self.clocks.read().map_err(|error| Failure::io("failed to read the clock since boot", &error))
    }

    /// What time it is, and what the clocks show. The latest time seen goes along.
    pub(super) fn now(&self) -> Result<(Timestamp, Reading), Failure> {
        let mut clock = self.lock();
        let known =
            clock.ok_or_else(|| super::refused("clock", "the key server never said what time it is"))?;
        let reading = self.reading()?;
        let (now, next) = known.advance(reading)?;
        *clock = Some(next);
        Ok((now, reading))
    }

    /// The key server says what time it is.
    pub(super) fn set(&self, server_time: Timestamp) -> Result<LeaseClock, Failure> {
        let mut clock = self.lock();
        let next = LeaseClock::set(server_time, self.reading()?.boot);
        *clock = Some(next);
        Ok(next)
    }

    /// The clock as it stands, to be written down.
    pub(super) fn clock(&self) -> Option<LeaseClock> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<LeaseClock>> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

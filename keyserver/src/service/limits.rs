//! Limits of the service; the configuration file can change some of them.

use jiff::SignedDuration;
use std::time::Duration;

/// How long things last and how often they may fail.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A session ends after this.
    pub session_life: SignedDuration,
    /// A session that is not used ends after this.
    pub session_idle: SignedDuration,
    /// A grant ends after this.
    pub grant_life: SignedDuration,
    /// A terminal's certificate ends after this.
    pub certificate_life: SignedDuration,
    /// Failed logins in a row before a login name is locked.
    pub lockout_after: u32,
    /// The first lock; each further failure doubles it.
    pub lockout_first: SignedDuration,
    /// The longest lock.
    pub lockout_longest: SignedDuration,
    /// Failures are forgotten after this.
    pub forget_failures_after: SignedDuration,
    /// The answer to the first failed login waits this long; each further one doubles it up to eight times.
    pub failure_delay: Duration,
    /// How long a shared secret of a sealing epoch stays in memory.
    pub secret_life: Duration,
    /// How many of them.
    pub secrets: u64,
    /// How long a change may wait for a second person.
    pub request_life: SignedDuration,
    /// Requests of one terminal in a second, in the long run.
    pub terminal_requests_per_second: u32,
    /// Requests of one terminal at once.
    pub terminal_burst: u32,
    /// Requests of one person in a second, in the long run.
    pub person_requests_per_second: u32,
    /// Requests of one person at once.
    pub person_burst: u32,
    /// Requests for grants that are worked on at one time.
    pub file_places: u32,
    /// Requests for decisions and bulletins that are worked on at one time.
    pub news_places: u32,
    /// Requests of the administration, and others, that are worked on at one time, each.
    pub other_places: u32,
    /// Who is turned away is told after this, and later when many are: saying no costs work too, and who waits for it does not ask again meanwhile.
    pub refusal_wait: Duration,
    /// A label's key is not retired, unless by force, before the next one has been in use for this long: files that nobody
    /// asked for in that time may be sealed for it all the same, but those of daily work are known.
    pub key_rest: SignedDuration,
    /// RSA operations at one time.
    pub unwraps: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_life: SignedDuration::from_hours(8),
            session_idle: SignedDuration::from_hours(2),
            grant_life: SignedDuration::from_mins(15),
            certificate_life: SignedDuration::from_hours(24 * 30),
            lockout_after: 5,
            lockout_first: SignedDuration::from_mins(1),
            lockout_longest: SignedDuration::from_hours(1),
            forget_failures_after: SignedDuration::from_hours(24),
            failure_delay: Duration::from_millis(200),
            secret_life: Duration::from_secs(600),
            secrets: 65_536,
            terminal_requests_per_second: 2_000,
            terminal_burst: 8_000,
            person_requests_per_second: 2_000,
            person_burst: 8_000,
            file_places: 96,
            news_places: 1024,
            other_places: 64,
            refusal_wait: Duration::from_secs(2),
            key_rest: SignedDuration::from_hours(24 * 30),
            request_life: SignedDuration::from_hours(24),
            unwraps: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        }
    }
}

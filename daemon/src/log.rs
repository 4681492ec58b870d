//! Logs: one JSON object a line on standard error, which the service manager collects. No secret and no plaintext
//! is ever a field of a log line.

use crate::config::ConfigError;
use tracing_subscriber::EnvFilter;

/// Starts logging with `filter` (such as `info`).
///
/// # Errors
/// When the filter is malformed. Starting twice is ignored.
pub fn start(filter: &str) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| ConfigError::Invalid { field: "log", why: error.to_string() })?;
    let _already_started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .try_init();
    Ok(())
}

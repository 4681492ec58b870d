//! Checkpoints in the system's log, from which they go to wherever the site collects its logs.

use super::WitnessError;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use tobari_core::audit::SignedCheckpoint;

/// Facility "log audit", severity "informational" (RFC 5424, section 6.2.1).
const PRIORITY: u8 = 13 * 8 + 6;

pub(super) struct SyslogSink {
    path: PathBuf,
}

impl SyslogSink {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// One line: the note as a JSON string after a mark that `tobari audit verify --witness` finds.
    pub(super) fn send(&self, signed: &SignedCheckpoint) -> Result<(), WitnessError> {
        let away = |error: &dyn std::fmt::Display| {
            WitnessError::Away(format!("syslog at {}: {error}", self.path.display()))
        };
        let note = serde_json::to_string(&signed.note).map_err(|error| away(&error))?;
        let line = format!("<{PRIORITY}>tobari-keyserver: tobari-checkpoint {note}");
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(line.as_bytes(), &self.path));
        sent.map(|_| ()).map_err(|error| away(&error))
    }
}

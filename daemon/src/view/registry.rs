//! What all views of the daemon share.

use tobari_core::ids::SessionId;

/// The views of the daemon and the files that are open in them.
#[derive(Debug, Default)]
pub struct Registry;

impl Registry {
    /// A login has ended: what is open under it fails at the next read, and what the kernel keeps of it is dropped.
    pub fn revoked(&self, session: SessionId) {
        let _ = session;
    }

    /// Grants were forgotten: whatever is open is asked for again at the next read.
    pub fn forgotten(&self) {}
}

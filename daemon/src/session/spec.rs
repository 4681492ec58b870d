//! What the daemon tells the stages of a session: all that they need, so that they ask nobody and read no configuration.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tobari_core::proto::control::Program;

/// To the outer stage, which is root, with three descriptors: the program's standard input, output and error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    /// The user, as the host knows it; what the program believes to be.
    pub(super) user: u32,
    /// The user's group.
    pub(super) group: u32,
    /// The user's other groups.
    pub(super) groups: Vec<u32>,
    /// Under which uid the host sees the session's processes.
    pub(super) session: u32,
    /// A folder of root's own, empty, on which the session's root is put together.
    pub(super) work: PathBuf,
    /// The user's home.
    pub(super) home: PathBuf,
    /// Whether what is in it is shown.
    pub(super) home_shown: bool,
    /// The user's name, where `/etc/passwd` does not have it.
    pub(super) name: Option<String>,
    /// Views of designated folders.
    pub(super) views: Vec<ViewAt>,
    /// More folders to be read.
    pub(super) visible: Vec<PathBuf>,
    /// Sockets to be reached.
    pub(super) sockets: Vec<Socket>,
    /// bubblewrap.
    pub(super) bubblewrap: PathBuf,
    /// What to start.
    pub(super) program: Program,
}

/// A view and where it belongs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ViewAt {
    /// Where the daemon mounted it.
    pub(super) mounted: PathBuf,
    /// The designated folder's own path.
    pub(super) at: PathBuf,
}

/// A socket of the host that the session may connect to, at the same path.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Socket {
    /// Where.
    pub(super) path: PathBuf,
    /// Whether it is the user's own, so that its owner must be shown as the session.
    pub(super) own: bool,
}

/// To the inner stage, which runs confined and starts the program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Inner {
    /// Numbers of the descriptors for standard input, output and error.
    pub(super) streams: [i32; 3],
    /// Where things may be written.
    pub(super) writable: Vec<PathBuf>,
    /// Where to start when the program's folder is not visible.
    pub(super) home: PathBuf,
    /// What to start.
    pub(super) program: Program,
}

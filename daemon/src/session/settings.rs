//! How sessions are set up on this host: table `[session]` of the configuration.

use serde::Deserialize;
use std::path::PathBuf;

/// The first uid of sessions unless configured: above those of people, services, containers and `systemd-homed`.
pub const FIRST_UID: u32 = 0x7b00_0000;
/// How many there are unless configured.
pub const UIDS: u32 = 0x1_0000;

/// What a session shows of the user's home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Home {
    /// What is there, under an overlay that is thrown away.
    #[default]
    Overlay,
    /// Nothing. For homes on file systems that have no idmapped mounts, such as NFS.
    Empty,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// Where sessions are put together: a folder that only root can enter.
    pub folder: PathBuf,
    /// The program `bwrap`.
    pub bubblewrap: PathBuf,
    /// The first uid that the host gives to nobody else.
    pub first_uid: u32,
    /// How many there are; also the most sessions at a time.
    pub uids: u32,
    /// What is shown of homes.
    pub home: Home,
    /// Folders that can be read besides the system's and the home.
    pub visible: Vec<PathBuf>,
    /// Whether the user's Wayland and X11 sockets are passed on.
    pub display: bool,
    /// The print server's socket.
    pub print_socket: PathBuf,
}

//! How the engine behaves; the configuration file's words for it are the daemon's affair.

use crate::seal::Wipe;
use serde::Deserialize;
use std::time::Duration;

/// Where events come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Events {
    /// fanotify where privilege and file system allow it, else inotify.
    #[default]
    Auto,
    /// fanotify, and nothing else: without it there are sweeps only.
    Fanotify,
    /// inotify.
    Inotify,
}

/// Settings of the engine. [`Default`] is what ships.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Time between two sweeps of a folder.
    pub sweep_interval: Duration,
    /// A file that no event announced is left alone until it was last written this long ago.
    pub settle: Duration,
    /// Sealing workers for new files, and as many for what sweeps find.
    pub workers: usize,
    /// Threads for one large file.
    pub threads: usize,
    /// Patterns of editors' lock and temporary files, which would be in the way of the editor while they are young...
    pub transient: Vec<String>,
    /// ...and are sealed like any other file once they were last written this long ago.
    pub transient_age: Duration,
    /// First pause before another try of a file that could not be sealed; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest pause before another try.
    pub retry_max: Duration,
    /// Where events come from.
    pub events: Events,
    /// Chunk size of new envelopes, as a power of two.
    pub chunk_log2: u8,
    /// What happens to the blocks of the plaintext.
    pub wipe: Wipe,
    /// Bytes of plaintext that sweeps seal in each second, at most; none for no limit. New files are not held up.
    pub sweep_bytes_per_second: Option<u64>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            sweep_interval: Duration::from_secs(300),
            settle: Duration::from_secs(2),
            workers: cores.max(2),
            threads: cores,
            transient: [".~lock.*#", ".*.sw?", "lu*.tmp"].map(String::from).to_vec(),
            transient_age: Duration::from_secs(60),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(60),
            events: Events::Auto,
            chunk_log2: 14,
            wipe: Wipe::None,
            sweep_bytes_per_second: None,
        }
    }
}

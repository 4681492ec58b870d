//! What holds for the whole run, resolved from flags, environment and streams.

use crate::args::Global;
use crate::console::Console;
use crate::environment;
use crate::message::Language;
use jiff::tz::TimeZone;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use tobari_core::proto::control::DEFAULT_SOCKET;

/// The resolved settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Language of messages.
    pub language: Language,
    /// One JSON document on standard output instead of text.
    pub json: bool,
    /// Whether progress is drawn.
    pub progress: bool,
    /// The daemon's control socket.
    pub socket: PathBuf,
    /// `TZ`, where it is set.
    time_zone: Option<String>,
}

impl Settings {
    /// Flags win over the environment, the environment over defaults.
    pub fn resolve(global: &Global, language: Language, console: &Console) -> Self {
        let socket = global
            .socket
            .clone()
            .or_else(|| console.variable(environment::SOCKET).map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET));
        let progress = !global.no_progress && !global.json && console.errors.is_terminal();
        let time_zone = console.variable(environment::TIME_ZONE).and_then(|name| name.to_str());
        let time_zone = time_zone.map(str::to_owned);
        Self { time_zone, language, json: global.json, progress, socket }
    }

    /// The zone in which times are shown. Found when it is needed: the system's takes a walk over the zone files.
    pub fn time_zone(&self) -> TimeZone {
        let named = self.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        named.unwrap_or_else(TimeZone::system)
    }
}

//! Environment variables that the program reads; part of `docs/cli-abi.md`.

pub use tobari_core::proto::control::SOCKET_ENV as SOCKET;

/// `ja` or `en`; wins over the locale.
pub const LANGUAGE: &str = "TOBARI_LANG";
/// The locale, in the order in which it is looked up.
pub const LOCALE: [&str; 3] = ["LC_ALL", "LC_MESSAGES", "LANG"];
/// The zone in which times are shown, as `Asia/Tokyo`; the system's when it is unset or unknown.
pub const TIME_ZONE: &str = "TZ";
/// Where the journals of interrupted header changes lie, under `tobari/headers`; `~/.local/state` when it is unset.
pub const STATE_HOME: &str = "XDG_STATE_HOME";

/// The folder of the program's own state.
pub fn state_folder() -> std::path::PathBuf {
    let absolute = |path: &std::path::PathBuf| path.is_absolute();
    std::env::var_os(STATE_HOME)
        .map(std::path::PathBuf::from)
        .filter(absolute)
        .or_else(|| std::env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".local/state")))
        .filter(absolute)
        .unwrap_or_else(|| std::path::PathBuf::from("/var/lib"))
        .join("tobari")
}

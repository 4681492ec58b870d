//! Environment variables that the program reads; part of `docs/cli-abi.md`.

pub use tobari_core::proto::control::SOCKET_ENV as SOCKET;

/// `ja` or `en`; wins over the locale.
pub const LANGUAGE: &str = "TOBARI_LANG";
/// The locale, in the order in which it is looked up.
pub const LOCALE: [&str; 3] = ["LC_ALL", "LC_MESSAGES", "LANG"];
/// The zone in which times are shown, as `Asia/Tokyo`; the system's when it is unset or unknown.
pub const TIME_ZONE: &str = "TZ";

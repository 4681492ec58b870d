//! What the tests of several modules share: a key server of a few lines that speaks real mutual TLS, and sealed files.

mod authority;
mod key_server;
mod site;

pub(crate) use authority::Authority;
pub(crate) use key_server::{Asked, FakeKeyServer, Said};
pub(crate) use site::{
    Differs, KEY_FILE, LABEL, LOWER, Sample, Site, bulletin, export_key, key_of, sealed_file,
};

/// Says what is not tested here; past the capture of output, which keeps what a passing test prints from everybody.
pub(crate) fn skipped(what: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("!! SKIPPED: {what}\n").as_bytes());
}

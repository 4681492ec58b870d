//! What the tests of several modules share: a key server of a few lines that speaks real mutual TLS, and sealed files.

mod authority;
mod key_server;
mod site;

pub(crate) use authority::Authority;
pub(crate) use key_server::{Asked, FakeKeyServer, Said};
pub(crate) use site::{Differs, LABEL, LOWER, Sample, Site, bulletin, key_of, sealed_file};

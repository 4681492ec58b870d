//! The key server as its clients see it: real TLS, real store, real envelopes.

mod grants;
mod load;
mod support;

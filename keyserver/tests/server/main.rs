//! The key server as its clients see it: real TLS, real store, real envelopes.

mod admin;
mod audit;
mod grants;
mod http;
mod load;
mod sessions;
mod store;
mod support;
mod terminals;

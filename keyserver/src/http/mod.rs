//! HTTPS: decode, one call of the service, encode. No decision is made here.
//!
//! [`Server`] listens and speaks TLS; `problem` is the one mapper of errors; `openapi` and the routes are made
//! from the same attributes.

mod admin;
mod call;
mod leases;
mod meta;
pub(crate) mod problem;
mod routes;
mod server;
mod terminals;
mod tls;

pub use meta::openapi_json;
pub use server::{ServeError, Server, ServerOptions};

//! The key server as its clients see it: real TLS, real store, real envelopes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test as loudly as the tests themselves"
)]

mod admin;
mod audit;
mod changes;
mod database;
mod gateway;
mod grants;
mod http;
mod lease_histories;
mod leases;
mod load;
mod older;
mod overload;
mod parts;
mod policy;
mod processes;
mod refill;
mod revocations;
mod second_person;
mod servers;
mod sessions;
mod store;
mod stricter;
mod support;
mod table;
mod terminals;
mod witness;

//! Tests of whole commands, in this process: real files, and a daemon that gives canned answers.

mod arguments;
mod coverage;
mod documents;
mod fake;
mod lease;
mod many;
mod messages;
mod open;
mod outputs;
mod policy;
mod sample;
mod seal;
mod waiting;

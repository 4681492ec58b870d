//! The policy: who may do what with a file of which label, and why. A pure function over data; it never
//! renders, logs, reads a clock or picks a status code.

mod model;
mod rights;

pub use model::{
    Conditions, Context, Effect, Group, GroupSelector, Label, Membership, Post, PostSelector, Requester,
    Rule, Subject,
};
pub use rights::{Right, Rights, UnknownRight};

//! Known answers, cross-checks between implementations, and what must be refused.

mod keys;
mod post_quantum;
mod wycheproof;

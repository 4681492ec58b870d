//! Scenarios with the real programs. Each starts its own [`tobari_tests::Site`].
#![expect(clippy::expect_used, reason = "helpers of tests fail as loudly as tests")]

mod attacks;
mod audit;
mod bad_input;
mod drill;
mod gateway;
mod lease;
mod main_path;
mod many_people;
mod outage;
mod revocation;
mod rewrite;
mod second_person;
mod session;
mod session_desktop;
mod session_life;
mod session_programs;
mod sessions;
mod unsealed;

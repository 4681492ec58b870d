//! Scenarios with the real programs. Each starts its own [`tobari_tests::Site`].

mod bad_input;
mod main_path;
mod outage;

//! Sealing in place, on the real file system of the temporary directory.

mod cuts;
pub(crate) mod fixture;
mod group;
mod group_races;
mod in_place;
mod instants;
mod late;
mod races;
mod shut_down;

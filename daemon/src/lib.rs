//! The daemon `tobarid` as a library: the folder side ([`watch`] notices files, [`seal`] seals them in
//! place) and the side of local users. `main` only puts the parts together.

pub mod seal;
pub mod watch;

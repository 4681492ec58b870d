//! The view: a FUSE file system over a protected folder, in which sealed files have their plaintext sizes and contents,
//! for whoever the key server grants them to, and what is created is sealed from its first byte on.
//!
//! [`Mount`] is one mounted view, [`Access`] says on whose behalf it opens and what a session may do beyond the grants,
//! [`Folder`] is what it shows, and [`Registry`] is the daemon's one place for the contents of open files: however many
//! views there are, each file has one owner of its changes. The protocol with the kernel is in `filesystem`, which knows no
//! keys; keys are used in `contents`, which knows no paths. `docs/view.md` says what holds and what does not.

mod access;
mod folder;
mod mount;
mod registry;

pub use access::{Access, Ids};
pub use folder::Folder;
pub use mount::{Mount, Options};
pub use registry::Registry;

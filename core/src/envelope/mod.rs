//! The envelope: one file, sealed. `docs/spec/envelope.md` is normative.
//!
//! [`Header`] is the public part (who may open it, under which policy); [`seal`] makes an envelope by stream,
//! [`open_stream`] and [`Reader`] open one, [`Writer`] changes one in place so that a power cut loses nothing,
//! [`relabel`] and [`rewrap`] replace the header alone. [`read_back`] is a second, independent decoder that
//! compares what was sealed with its source before the source is given up.
//!
//! Everything goes through [`ReadAt`] and [`Storage`]: this module opens no path, reads no clock and holds no
//! key longer than a call or a handle. What was read is refused with one message ([`Refused`]).

mod body;
mod cbor;
mod epoch;
mod error;
mod header;
mod journal;
mod layout;
mod open;
mod pipeline;
mod plaintext;
mod policy;
mod read_back;
mod reader;
mod rewrite;
mod seal;
mod slot;
mod spare;
mod stanza;
mod storage;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use epoch::{EPOCH_FILES, Epoch};
pub use error::{OpenError, ReadBackError, Refused, SealError, WriteError};
pub use header::{Header, PREFIX_SIZE, plaintext_length, stored_file_id};
pub use journal::{Recovery, recover};
pub use layout::{DEFAULT_CHUNK_LOG2, MAGIC, MAX_RECIPIENTS, looks_sealed};
pub use open::{Opened, open_stream};
pub use policy::FilePolicy;
pub use read_back::read_back;
pub use reader::Reader;
pub use rewrite::{relabel, rewrap};
pub use seal::{SealOptions, Sealed, seal};
pub use spare::{header_change_pending, settle};
pub use stanza::Stanza;
pub use storage::{MemoryStorage, ReadAt, Storage};
pub use verify::{Verified, verify};
pub use writer::Writer;

//! Saves that a crash interrupted, met by somebody who opens the file outside of a view: `tobari cat`, `unseal`, `zip`,
//! `reseal`. A view completes them itself when it opens the file. It takes the key, so nobody can do it earlier.

use super::nodes::{Identity, identity, stat, through};
use super::opening::reopen;
use super::state::find_journals;
use super::storage::Journal;
use crate::failure::Failure;
use crate::seal::open_shared;
use crate::service::Service;
use rustix::fs::{CWD, OFlags, readlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tobari_core::crypto::Dek;
use tobari_core::envelope::{Header, WriteError};
use tobari_core::ids::FileId;
use tobari_core::proto::problem::ProblemCode;

/// Completes the interrupted save of a file that is about to be read, if there is one; seals what a view has of it in memory.
///
/// # Errors
/// When there is one and it cannot be completed.
pub(crate) fn settle(service: &Service, file: &File, header: &Header, dek: &Dek) -> Result<(), Failure> {
    let failure = |what: &str, error: std::io::Error| Failure::io(what, &error);
    let identity =
        identity(&stat(file).map_err(|errno| failure("failed to look at the file", errno.into()))?);
    let registry = service.views();
    if let Some(contents) = registry.find(identity) {
        return contents
            .commit()
            .map_err(|errno| failure("failed to seal what was written last", errno.into()));
    }
    let Some(journals) = journals(service, file, identity, header.file_id()) else { return Ok(()) };
    let contents = registry.contents(identity, header.file_id(), &Arc::new(journals));
    let settled = contents.open_to_read(file, || reopen(file, OFlags::RDWR), header, dek);
    registry.release(&contents);
    settled.map(drop).map_err(|error| match error {
        WriteError::Refused(refused) => {
            crate::open::failure(tobari_core::envelope::OpenError::Refused(refused), 0)
        }
        error => {
            Failure::new(ProblemCode::LocalIo, format!("failed to complete an interrupted save: {error}"))
        }
    })
}

/// Whether a view has the file open, whose changes a reader beside it may have met.
pub(crate) fn is_open(service: &Service, file: &File) -> bool {
    stat(file).is_ok_and(|stat| service.views().find(identity(&stat)).is_some())
}

/// Where the journal of the file is, if there is something in it. A view of a folder keeps the journals of all that lies in it, in
/// designated folders within it, too.
fn journals(service: &Service, file: &File, identity: Identity, id: FileId) -> Option<OwnedFd> {
    let path = readlinkat(CWD, through(file), Vec::new()).ok()?;
    let path = PathBuf::from(OsStr::from_bytes(path.to_bytes()));
    let bulletin = service.bulletin();
    let folders = bulletin.folders.iter().filter(|folder| folder.terminal == service.terminal());
    let mut around = folders.map(|folder| Path::new(&folder.path)).filter(|folder| path.starts_with(folder));
    around.find_map(|folder| {
        let (_, control) = open_shared(folder).ok()?;
        let journals = find_journals(&control).ok()?;
        Journal::is_needed(&journals, identity, id).ok()?.then_some(journals)
    })
}

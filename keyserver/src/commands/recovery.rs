//! `recovery`: the organisation's key that opens everything, offline. Opening files with it, and the drill: proving that it
//! opens a file, without writing a byte of it.

use super::{CommandError, Say};
use crate::args::{RecoveryCommand, RecoveryDrill, RecoveryOpen};
use crate::recovery;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use tobari_core::crypto::{Dek, RecipientPrivateKey};
use tobari_core::envelope::{Header, open_stream, verify};
use tobari_core::message::Message;
use zeroize::Zeroizing;

pub(super) fn recovery(command: &RecoveryCommand, say: Say) -> Result<(), CommandError> {
    match command {
        RecoveryCommand::Open(args) => open(args, say),
        RecoveryCommand::Drill(args) => drill(args, say),
    }
}

fn open(args: &RecoveryOpen, say: Say) -> Result<(), CommandError> {
    let key = key(&args.key)?;
    let (file, header, dek) = unlock(&args.file, &key)?;
    let new = File::options().write(true).create_new(true).mode(0o600).open(&args.output);
    let mut output = new.map_err(CommandError::write(&args.output))?;
    let opened = open_stream(&file, &header, &dek, &mut output, &mut |_| ());
    let done = opened.map_err(|error| refused(&args.file, error)).and_then(|opened| {
        output.flush().and_then(|()| output.sync_all()).map_err(CommandError::write(&args.output))?;
        Ok(opened)
    });
    // What was cut off in the middle would look like the file.
    let opened = done.inspect_err(|_| {
        let _ = std::fs::remove_file(&args.output);
    })?;
    say.line(&Message::new("recovered").path(&args.output).with("bytes", opened.bytes))
}

fn drill(args: &RecoveryDrill, say: Say) -> Result<(), CommandError> {
    let key = key(&args.key)?;
    for path in &args.files {
        let (file, header, dek) = unlock(path, &key)?;
        // Every byte is decrypted and checked, in memory alone.
        let verified = verify(&file, &header, &dek, &mut |_| ()).map_err(|error| refused(path, error))?;
        say.line(&Message::new("drilled").path(path).with("bytes", verified.length))?;
    }
    Ok(())
}

fn key(path: &Path) -> Result<RecipientPrivateKey, CommandError> {
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| CommandError::Read { path: path.to_owned(), source })?;
    recovery::read(&text).map_err(CommandError::Recovery)
}

fn refused(path: &Path, error: impl std::fmt::Display) -> CommandError {
    CommandError::NotRecovered { path: path.to_owned(), detail: error.to_string() }
}

/// The file's key by the recovery key, which is a recipient of every file.
fn unlock(path: &Path, key: &RecipientPrivateKey) -> Result<(File, Header, Dek), CommandError> {
    let file = File::open(path).map_err(|source| CommandError::Read { path: path.to_owned(), source })?;
    let header = Header::read(&file).map_err(|error| refused(path, error))?;
    let id = key.public().key_id();
    let stanza = header.stanzas().iter().find(|stanza| stanza.key_id == id);
    let stanza = stanza.ok_or_else(|| refused(path, "the key is none of its recipients"))?;
    let secret = key.decapsulate(&stanza.encapsulation).map_err(|error| refused(path, error))?;
    let dek = header.unwrap(stanza, &secret).map_err(|error| refused(path, error))?;
    Ok((file, header, dek))
}

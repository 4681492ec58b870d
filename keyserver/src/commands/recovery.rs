//! `recovery`: the organisation's key that opens everything, offline. Making shares of it, opening files with it or with enough of
//! them, and the drill: proving that they open a file, without writing a byte of it. The key itself is never written.

use super::{CommandError, Say};
use crate::args::{RecoveryCommand, RecoveryDrill, RecoveryKeyArgs, RecoveryOpen, RecoverySplit};
use crate::message;
use crate::recovery::{self, Joined, Owner};
use crate::{files, harden};
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use tobari_core::crypto::{Dek, RecipientPrivateKey};
use tobari_core::envelope::{Header, open_stream, verify};
use tobari_core::message::Message;
use zeroize::Zeroizing;

/// No text of a key or share is longer than this, in bytes.
const LONGEST: u64 = 64 * 1024;

pub(super) fn recovery(command: &RecoveryCommand, say: Say) -> Result<(), CommandError> {
    // The key must not reach a disk by way of a core dump or swap either.
    harden::harden();
    match command {
        RecoveryCommand::Split(args) => split(args, say),
        RecoveryCommand::Open(args) => open(args, say),
        RecoveryCommand::Drill(args) => drill(args, say),
    }
}

/// Where the share with this number goes.
pub(super) fn share_path(out: &Path, number: usize) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".share{number}"));
    PathBuf::from(name)
}

/// The texts of the shares of a key, tried: the first and the last that are needed give it back.
pub(super) fn shares_of(
    key: &RecipientPrivateKey,
    owner: &Owner,
    needed: u8,
    count: u8,
) -> Result<Vec<Zeroizing<String>>, CommandError> {
    let texts = recovery::split(key, owner, needed, count).ok_or(CommandError::ShareNumbers)?;
    let few = usize::from(needed);
    let opens = |texts: &[Zeroizing<String>]| matches!(recovery::join(texts), Ok(Joined::Key(joined, _)) if joined.export() == key.export());
    let last = texts.get(texts.len().saturating_sub(few)..).unwrap_or_default();
    if !opens(texts.get(..few).unwrap_or_default()) || !opens(last) {
        return Err(CommandError::SharesNotTheKey);
    }
    Ok(texts)
}

fn split(args: &RecoverySplit, say: Say) -> Result<(), CommandError> {
    let (key, mut owner) = recovery::read(&text_of(&args.key)?).map_err(CommandError::Recovery)?;
    if let Some(name) = &args.organisation {
        owner.name.clone_from(name);
    }
    let shares = shares_of(&key, &owner, args.needed, args.shares)?;
    let mut made = Vec::new();
    for (number, share) in (1..).zip(&shares) {
        let path = share_path(&args.out, number);
        if let Err(error) = files::write_new_private(&path, share.as_bytes()) {
            // Some of the shares are not a set.
            for path in made {
                let _ = std::fs::remove_file(path);
            }
            return Err(CommandError::write(&path)(error));
        }
        made.push(path);
    }
    for path in &made {
        say.line(&Message::new("share-written").path(path))?;
    }
    say.line(&Message::new("shares-written").path(&args.key).with("needed", args.needed))
}

fn open(args: &RecoveryOpen, say: Say) -> Result<(), CommandError> {
    let key = key(&args.key, say)?;
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
    let key = key(&args.key, say)?;
    for path in &args.files {
        let (file, header, dek) = unlock(path, &key)?;
        // Every byte is decrypted and checked, in memory alone.
        let verified = verify(&file, &header, &dek, &mut |_| ()).map_err(|error| refused(path, error))?;
        say.line(&Message::new("drilled").path(path).with("bytes", verified.length))?;
    }
    Ok(())
}

fn key(args: &RecoveryKeyArgs, say: Say) -> Result<RecipientPrivateKey, CommandError> {
    if let Some(path) = &args.key {
        return recovery::read(&text_of(path)?).map(|(key, _)| key).map_err(CommandError::Recovery);
    }
    if args.ask {
        return asked(say);
    }
    let texts: Result<Vec<_>, CommandError> = args.shares.iter().map(|path| text_of(path)).collect();
    joined(&texts?, &args.shares)?.map_err(|(given, needed)| CommandError::SharesTooFew { given, needed })
}

/// The key, or how many shares there are of how many.
type Progress = Result<RecipientPrivateKey, (u8, u8)>;

fn joined(texts: &[Zeroizing<String>], paths: &[PathBuf]) -> Result<Progress, CommandError> {
    match recovery::join(texts) {
        Ok(Joined::Key(key, _)) => Ok(Ok(*key)),
        Ok(Joined::TooFew { given, needed }) => Ok(Err((given, needed))),
        Ok(Joined::NotTheKey) => Err(CommandError::SharesNotTheKey),
        Err((index, fault)) => {
            Err(CommandError::Share { path: paths.get(index).cloned().unwrap_or_default(), fault })
        }
    }
}

/// Asks for one share after the other, as its keepers come with their media. One that cannot be used is named and asked for again.
fn asked(say: Say) -> Result<RecipientPrivateKey, CommandError> {
    let (mut texts, mut paths) = (Vec::new(), Vec::new());
    let (mut given, mut needed) = (0, 2);
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let place = u32::from(given) + 1;
        let prompt = Message::new("prompt-share").with("number", place);
        let prompt =
            if texts.is_empty() { prompt.with("needed", "?") } else { prompt.with("needed", needed) };
        write!(std::io::stderr(), "{} ", message::text(say.0, &prompt))?;
        let typed = lines.next().transpose()?.unwrap_or_default();
        if typed.trim().is_empty() {
            return Err(CommandError::SharesTooFew { given, needed });
        }
        let path = PathBuf::from(typed.trim());
        let tried = text_of(&path).and_then(|text| {
            texts.push(text);
            paths.push(path);
            joined(&texts, &paths).inspect_err(|_| {
                texts.pop();
                paths.pop();
            })
        });
        match tried {
            Ok(Ok(key)) => return Ok(key),
            Ok(Err(progress)) => (given, needed) = progress,
            Err(error) => {
                writeln!(std::io::stderr(), "{}", message::problem(say.0, &Message::from(&error)))?;
            }
        }
    }
}

fn text_of(path: &Path) -> Result<Zeroizing<String>, CommandError> {
    let read = || {
        use std::io::Read as _;
        // All at once: a text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(LONGEST).unwrap_or(0)));
        File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|source| CommandError::Read { path: path.to_owned(), source })
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

//! A file of checkpoints. It only grows; one that is gone or shorter than what was written to it was tampered with.

use super::{WitnessError, begins_with};
use crate::files;
use crate::store::Store;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use tobari_core::audit::{Checkpoint, LogKey, SignedCheckpoint, read_witnesses};

/// The end of the file that is looked at when the server starts, in bytes.
const TAIL: u64 = 64 * 1024;

pub(super) struct FileSink {
    path: PathBuf,
    /// Device, inode and length as this process left it.
    left: Option<(u64, u64, u64)>,
    last: Option<SignedCheckpoint>,
}

impl FileSink {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, left: None, last: None }
    }

    fn away(&self, why: impl std::fmt::Display) -> WitnessError {
        WitnessError::Away(format!("{}: {why}", self.path.display()))
    }

    /// Compares the last checkpoint in the file with the log; what was cut while it was written is taken off.
    pub(super) async fn compare(
        &mut self,
        now: &Checkpoint,
        key: &LogKey,
        store: &dyn Store,
    ) -> Result<(), WitnessError> {
        let place = self.path.display().to_string();
        let mut file = match std::fs::File::options().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.away(error)),
        };
        let length = file.metadata().map_err(|error| self.away(error))?.len();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(|error| self.away(error))?;
        let whole = whole_end(&bytes);
        if whole < bytes.len() {
            let kept = length - (bytes.len() - whole) as u64;
            file.set_len(kept).and_then(|()| file.sync_all()).map_err(|error| self.away(error))?;
            bytes.truncate(whole);
        }
        // From the first note that is whole in what was read.
        let text = String::from_utf8_lossy(&bytes);
        let notes = match text.find(&format!("\n{}/", key.name())) {
            Some(place) if length > TAIL => text.split_at(place + 1).1,
            _ => &text,
        };
        let seen = read_witnesses(notes, key).map_err(|fault| self.away(fault))?;
        for seen in seen.iter().rev().take(1) {
            if seen.epoch > now.epoch || (seen.epoch == now.epoch && seen.size > now.size) {
                let (epoch, witnessed, size) = (seen.epoch, seen.size, now.size);
                return Err(WitnessError::Older { place, epoch, witnessed, size });
            }
            if seen.epoch == now.epoch && !begins_with(store, seen).await? {
                return Err(WitnessError::Rewritten { place, size: seen.size });
            }
        }
        Ok(())
    }

    /// Appends a checkpoint, durably.
    pub(super) fn send(&mut self, signed: &SignedCheckpoint) -> Result<(), WitnessError> {
        if self.last.as_ref() == Some(signed) {
            return self.check().map(|_| ());
        }
        let is_new = self.check()?;
        let mut file = std::fs::File::options()
            .append(true)
            .create(self.left.is_none())
            .mode(0o644)
            .open(&self.path)
            .map_err(|error| self.away(error))?;
        let before = file.metadata().map_err(|error| self.away(error))?.len();
        let written = file.write_all(format!("{}\n", signed.note).as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Half a checkpoint would be in the way of the next one.
            let _ = file.set_len(before);
            return Err(self.away(error));
        }
        if is_new {
            files::sync_parent(&self.path).map_err(|error| self.away(error))?;
        }
        let metadata = file.metadata().map_err(|error| self.away(error))?;
        self.left = Some((metadata.dev(), metadata.ino(), metadata.len()));
        self.last = Some(signed.clone());
        Ok(())
    }

    /// Whether the file is as it was left, or not there yet.
    fn check(&self) -> Result<bool, WitnessError> {
        let found = std::fs::metadata(&self.path);
        let Some((device, inode, length)) = self.left else { return Ok(found.is_err()) };
        let found = found.map_err(|error| self.away(error))?;
        if (found.dev(), found.ino()) != (device, inode) || found.len() < length {
            return Err(self.away("it was replaced or cut"));
        }
        Ok(false)
    }
}

/// The end of the last note that is whole: its signature line and the empty line after it. What comes later was being written
/// when the power went.
fn whole_end(bytes: &[u8]) -> usize {
    let mark = "\n\u{2014} ".as_bytes();
    let mut before = bytes.len();
    while let Some(place) = bytes.get(..before).and_then(|bytes| last(bytes, mark)) {
        let line = bytes.get(place + 1..).unwrap_or_default();
        if let Some(end) = line.windows(2).position(|pair| pair == b"\n\n") {
            return place + 1 + end + 2;
        }
        before = place;
    }
    0
}

fn last(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|found| found == wanted)
}

#[cfg(test)]
mod tests {
    use super::whole_end;

    #[test]
    fn a_note_that_was_being_written_is_left_out() {
        let whole = "log/1\n5\nroot\n\n\u{2014} log sig\n\n".repeat(2);
        let note = whole.len() / 2;
        for cut in 0..note {
            assert_eq!(whole_end(&whole.as_bytes()[..note + cut]), note, "{cut}");
        }
        assert_eq!(whole_end(whole.as_bytes()), whole.len());
        assert_eq!(whole_end(&whole.as_bytes()[..note - 1]), 0);
    }
}

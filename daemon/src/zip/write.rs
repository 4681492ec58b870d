//! Writing an archive as a stream, in constant memory.
//!
//! Always [`ZipWriter::new_stream`]: on seekable output this crate writes AE-1 for most entries, which shows
//! the plaintext's CRC.

use super::{Context, Entry, Ready};
use crate::content::plaintext_size;
use crate::descriptors::Sink;
use crate::failure::Failure;
use crate::open::{self, wanted};
use jiff::{Timestamp, tz::TimeZone};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;
use std::sync::Arc;
use tobari_core::envelope::open_stream;
use tobari_core::policy::Right;
use tobari_core::proto::problem::ProblemCode;
use zip::result::ZipError;
use zip::unstable::write::FileOptionsExt as _;
use zip::write::{FileOptions, StreamWriter};
use zip::{AesMode, CompressionMethod, DateTime, ZipWriter};

/// From this size on an entry gets 64-bit lengths. Below 4 GiB, because what does not compress grows a little.
const LARGE: u64 = 0xf000_0000;
const BUFFER: usize = 256 << 10;

/// Extensions of formats that are compressed already.
const COMPRESSED: &[&str] = &[
    "7z", "aac", "avif", "br", "bz2", "cab", "docm", "docx", "epub", "flac", "gif", "gz", "heic", "heif",
    "jar", "jpeg", "jpg", "lz", "lz4", "lzh", "m4a", "m4v", "mkv", "mov", "mp3", "mp4", "mpg", "odp", "ods",
    "odt", "ogg", "opus", "png", "pptm", "pptx", "rar", "tgz", "webm", "webp", "wma", "wmv", "xlsm", "xlsx",
    "xz", "zip", "zst",
];

/// Writes all of `ready`; gives the plaintext bytes. `progress` is false once nobody waits for the archive.
pub(super) fn archive(
    sink: &mut Sink<'_>,
    password: &str,
    legacy: bool,
    ready: &[Ready<'_>],
    context: &Context<'_>,
    progress: &mut dyn FnMut(u64, Option<u64>) -> bool,
) -> Result<u64, Failure> {
    let total = ready.iter().map(Ready::size).sum();
    let mut meter = Meter { done: 0, total, progress };
    let valve = Rc::new(std::cell::Cell::new(true));
    let gate = Gate { inner: BufWriter::with_capacity(BUFFER, sink), open: Rc::clone(&valve) };
    let mut writer = ZipWriter::new_stream(gate);
    let zone = TimeZone::system();
    let result = ready.iter().try_for_each(|ready| {
        let options = options(ready, password, legacy, &zone)?;
        entry(&mut writer, options, ready, context, &mut meter)
            .map_err(|failure| failure.about(&ready.entry.name))
    });
    if let Err(failure) = result {
        // The writer finishes the archive when it is dropped; let that go nowhere.
        valve.set(false);
        return Err(failure);
    }
    let done = meter.done;
    let finished = writer.finish().map_err(|error| zip_failure(&error));
    finished.and_then(|stream| {
        let mut gate = stream.into_inner();
        gate.inner.flush().map_err(|error| Failure::io("failed to write the archive", &error))?;
        Ok(done)
    })
}

fn entry(
    writer: &mut ZipWriter<StreamWriter<Gate<'_, '_>>>,
    options: FileOptions<'_, '_, ()>,
    ready: &Ready<'_>,
    context: &Context<'_>,
    meter: &mut Meter<'_>,
) -> Result<(), Failure> {
    let Entry { path, source, .. } = ready.entry;
    writer.start_file(path, options).map_err(|error| zip_failure(&error))?;
    let mut out = Metered { writer, meter };
    let Some((header, granted)) = &ready.sealed else {
        let mut reader = Positional { file: &source.file, position: 0 };
        return io::copy(&mut reader, &mut out)
            .map(|_bytes| ())
            .map_err(|error| Failure::io("failed to put the file into the archive", &error));
    };
    let mut granted = Arc::clone(granted);
    if !granted.is_current(context.clock.now()) {
        // A long archive outlives its grants: ask again, so that a right taken away meanwhile counts.
        let again = [wanted(header, &ready.entry.name)];
        granted = context.grants_to_send(&again)?.pop().unwrap_or(granted);
    }
    let key = granted.key_for(header.file_id(), Right::Send, context.clock.now())?;
    crate::view::settle(context.service, &source.file, header, key)?;
    let before = out.meter.done;
    match open_stream(&source.file, header, key, &mut out, &mut |_| ()) {
        Ok(_opened) => Ok(()),
        Err(error) => Err(open::failure(error, out.meter.done - before)),
    }
}

fn options<'k>(
    ready: &Ready<'_>,
    password: &'k str,
    legacy: bool,
    zone: &TimeZone,
) -> Result<FileOptions<'k, 'static, ()>, Failure> {
    let entry = ready.entry;
    let extension = entry.path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let compressed = extension.is_some_and(|extension| COMPRESSED.contains(&extension.as_str()));
    let options = FileOptions::default()
        .compression_method(if compressed { CompressionMethod::Stored } else { CompressionMethod::Deflated })
        .last_modified_time(modified(entry.source.modified, zone))
        .unix_permissions(0o644)
        .large_file(ready.size() >= LARGE);
    if legacy {
        options.with_deprecated_encryption(password.as_bytes()).map_err(|error| zip_failure(&error))
    } else {
        Ok(options.with_aes_encryption(AesMode::Aes256, password))
    }
}

/// The time of the local zone, which is what the format holds, from 1980 to 2107.
fn modified(seconds: i64, zone: &TimeZone) -> DateTime {
    let local = Timestamp::from_second(seconds).map(|time| zone.to_datetime(time)).ok();
    let field = |value: i8| u8::try_from(value).unwrap_or(0);
    local
        .and_then(|local| {
            let year = u16::try_from(local.year()).ok()?;
            DateTime::from_date_and_time(
                year,
                field(local.month()),
                field(local.day()),
                field(local.hour()),
                field(local.minute()),
                field(local.second()),
            )
            .ok()
        })
        .unwrap_or_default()
}

fn zip_failure(error: &ZipError) -> Failure {
    match error {
        ZipError::Io(error) => Failure::io("failed to write the archive", error),
        other => Failure::new(ProblemCode::Internal, format!("failed to write the archive: {other}")),
    }
}

impl Ready<'_> {
    /// Plaintext bytes, as far as they are known before reading.
    fn size(&self) -> u64 {
        let stored = self.entry.source.size;
        self.sealed.as_ref().map_or(stored, |(header, _)| plaintext_size(header, stored))
    }
}

/// Counts plaintext and tells of it.
struct Meter<'a> {
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, Option<u64>) -> bool,
}

struct Metered<'a, 'b, W: Write + io::Seek> {
    writer: &'a mut ZipWriter<W>,
    meter: &'a mut Meter<'b>,
}

impl<W: Write + io::Seek> Write for Metered<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        self.meter.done += u64::try_from(count).unwrap_or(0);
        if (self.meter.progress)(self.meter.done, Some(self.meter.total)) {
            Ok(count)
        } else {
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the caller is gone"))
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets bytes through to the sink until it is shut; then swallows them.
struct Gate<'a, 'b> {
    inner: BufWriter<&'a mut Sink<'b>>,
    open: Rc<std::cell::Cell<bool>>,
}

impl Write for Gate<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open.get() { self.inner.write(bytes) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.open.get() { self.inner.flush() } else { Ok(()) }
    }
}

/// Reads a file from a position of its own: the caller shares the descriptor's.
struct Positional<'a> {
    file: &'a File,
    position: u64,
}

impl Read for Positional<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }
}

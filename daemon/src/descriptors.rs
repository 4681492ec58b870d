//! The file descriptors that a caller hands over: a [`Source`] to read and a [`Sink`] to write. The caller opened them
//! with its own permissions; what is checked here is that they are what the request says, so that nobody
//! makes the daemon hang on a pipe, read what was opened for writing only, or destroy a file by copying it to itself.

use crate::failure::Failure;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use tobari_core::proto::problem::ProblemCode;

/// Most bytes that a pipe takes without blocking once it has room at all (`PIPE_BUF`).
const PIPE_STEP: usize = 4096;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct Source {
    /// The file.
    pub file: File,
    /// Size, in bytes, when it was handed over.
    pub size: u64,
    /// When it was last written, in seconds since 1970.
    pub modified: i64,
    identity: (u64, u64),
}

impl Source {
    /// Takes a descriptor.
    ///
    /// # Errors
    /// When it is not a regular file or not open for reading.
    pub fn new(descriptor: OwnedFd) -> Result<Self, Failure> {
        let (stat, flags) = inspect(&descriptor)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unfit("what was handed over is not a regular file"));
        }
        if flags.contains(OFlags::PATH) || !readable(flags) {
            return Err(unfit("the file was not opened for reading"));
        }
        Ok(Self {
            file: File::from(descriptor),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: stat.st_mtime,
            identity: identity(&stat),
        })
    }

    /// Fails unless it was opened for writing as well.
    ///
    /// # Errors
    /// When it was not.
    pub fn must_be_writable(&self) -> Result<(), Failure> {
        let (_, flags) = inspect(&self.file)?;
        if writable(flags) { Ok(()) } else { Err(unfit("the file was not opened for writing")) }
    }

    /// Whether both are the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

/// Where results go: a file, pipe, terminal or socket, open for writing.
#[derive(Debug)]
pub struct Sink<'a> {
    file: File,
    regular: bool,
    identity: (u64, u64),
    written: u64,
    /// While the caller is connected there is somebody to write for.
    caller: Option<&'a UnixStream>,
}

impl<'a> Sink<'a> {
    /// Takes a descriptor for the result of opening `source`. Writing to a pipe ends when `caller` hangs up.
    ///
    /// # Errors
    /// When it is a directory or block device, not open for writing, or the source itself.
    pub fn new(
        descriptor: OwnedFd,
        source: Option<&Source>,
        caller: Option<&'a UnixStream>,
    ) -> Result<Self, Failure> {
        let (stat, flags) = inspect(&descriptor)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let fits = matches!(
            kind,
            FileType::RegularFile | FileType::Fifo | FileType::CharacterDevice | FileType::Socket
        );
        if !fits {
            return Err(unfit("the result cannot be written to what was handed over"));
        }
        if flags.contains(OFlags::PATH) || !writable(flags) {
            return Err(unfit("the place for the result was not opened for writing"));
        }
        let regular = kind == FileType::RegularFile;
        let file = File::from(descriptor);
        let sink = Self { file, regular, identity: identity(&stat), written: 0, caller };
        if source.is_some_and(|source| sink.is(source)) {
            return Err(unfit("source and result are the same file"));
        }
        Ok(sink)
    }

    /// The same, for what must be an empty regular file.
    ///
    /// # Errors
    /// When it is not.
    pub fn empty_file(descriptor: OwnedFd) -> Result<Self, Failure> {
        let sink = Self::new(descriptor, None, None)?;
        let empty = sink.file.metadata().map_err(|error| Failure::io("the result", &error))?.len() == 0;
        if sink.regular && empty {
            Ok(sink)
        } else {
            Err(unfit("the archive must go to an empty regular file"))
        }
    }

    /// Whether it is the same file as `source`.
    pub fn is(&self, source: &Source) -> bool {
        self.identity == source.identity
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes what was written durable, where it can be.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> io::Result<()> {
        if self.regular { self.file.sync_all() } else { Ok(()) }
    }

    /// Takes back what was written to a regular file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn truncate(&self) -> io::Result<()> {
        if self.regular { self.file.set_len(0).and_then(|()| self.file.sync_all()) } else { Ok(()) }
    }

    /// Waits until a pipe or terminal has room, without blocking in it: it is left when the caller is gone.
    fn wait(&self) -> io::Result<()> {
        loop {
            let mut ready = vec![PollFd::new(&self.file, PollFlags::OUT)];
            if let Some(caller) = self.caller {
                ready.push(PollFd::new(caller, PollFlags::RDHUP));
            }
            match poll(&mut ready, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let seen = |index: usize| ready.get(index).map_or(PollFlags::empty(), PollFd::revents);
            if seen(1).intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the caller is gone"));
            }
            if !seen(0).is_empty() {
                return Ok(());
            }
        }
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let step = if self.regular {
                bytes
            } else {
                self.wait()?;
                bytes.get(..PIPE_STEP).unwrap_or(bytes)
            };
            match (&self.file).write(step) {
                // Terminals are often non-blocking, because another program made them so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => {
                    self.written += u64::try_from(count).unwrap_or(0);
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn inspect(descriptor: &impl AsFd) -> Result<(Stat, OFlags), Failure> {
    let failure = |error: rustix::io::Errno| Failure::io("the file handed over", &error.into());
    let stat = fstat(descriptor).map_err(failure)?;
    let flags = fcntl_getfl(descriptor).map_err(failure)?;
    Ok((stat, flags))
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn readable(flags: OFlags) -> bool {
    let mode = flags & OFlags::RWMODE;
    mode == OFlags::RDONLY || mode == OFlags::RDWR
}

fn writable(flags: OFlags) -> bool {
    let mode = flags & OFlags::RWMODE;
    mode == OFlags::WRONLY || mode == OFlags::RDWR
}

fn unfit(why: &str) -> Failure {
    Failure::new(ProblemCode::InvalidRequest, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn a_source_is_a_readable_regular_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(Source::new(File::open(&path).unwrap().into()).unwrap().size, 5);
        let write_only = File::options().write(true).open(&path).unwrap();
        assert!(Source::new(write_only.into()).is_err());
        assert!(Source::new(File::open(directory.path()).unwrap().into()).is_err());
        let (pipe, _other_end) = std::io::pipe().unwrap();
        assert!(Source::new(pipe.into()).is_err());
        let path_only = rustix::fs::open(&path, OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        assert!(Source::new(path_only).is_err());
    }

    #[test]
    fn a_sink_is_writable_and_not_the_source() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        std::fs::write(&path, b"12345").unwrap();
        let source = Source::new(File::open(&path).unwrap().into()).unwrap();
        let itself = File::options().write(true).open(&path).unwrap();
        assert!(Sink::new(itself.into(), Some(&source), None).is_err());
        assert!(Sink::new(File::open(&path).unwrap().into(), None, None).is_err());
        let full = File::options().write(true).open(&path).unwrap();
        assert!(Sink::empty_file(full.into()).is_err());
        Sink::empty_file(File::create(directory.path().join("b")).unwrap().into()).unwrap();
    }

    #[test]
    fn a_full_pipe_is_waited_for_and_left_when_the_caller_goes() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (caller, peer) = UnixStream::pair().unwrap();
        let wrote = std::thread::spawn(move || {
            let mut sink = Sink::new(writer.into(), None, Some(&caller)).unwrap();
            let error = sink.write_all(&vec![7; 1 << 20]).unwrap_err();
            (sink.written(), error.kind())
        });
        let mut first = vec![0; 300_000];
        reader.read_exact(&mut first).unwrap();
        drop(peer);
        let (written, error) = wrote.join().unwrap();
        assert_eq!(error, io::ErrorKind::ConnectionAborted);
        assert!(written >= 300_000);
    }
}

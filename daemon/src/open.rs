//! Opening a sealed file for a local user: the right is asked for, the key comes as a grant, the plaintext goes to the
//! descriptor that the user handed over. The key itself goes nowhere.

use crate::config::Role;
use crate::content::{Content, plaintext_size};
use crate::descriptors::{Sink, Source};
use crate::failure::Failure;
use crate::grants::Wanted;
use crate::service::{Caller, Service};
use std::io::{self, Write};
use tobari_core::envelope::{Header, OpenError, Opened, open_stream};
use tobari_core::policy::Right;
use tobari_core::proto::control::{Answer, Particulars, Purpose};
use tobari_core::proto::problem::ProblemCode;

/// What a local user wants opened.
pub struct Opening<'a> {
    /// Who asks.
    pub caller: Caller,
    /// The sealed file.
    pub source: &'a Source,
    /// Its name for messages and the audit record.
    pub name: &'a str,
}

impl Opening<'_> {
    /// Writes the plaintext to `sink`.
    ///
    /// # Errors
    /// Without the right; when the file is damaged, with how much of it was authentic; when the sink fails. What an
    /// `Unseal` had written to a regular file by then is taken back.
    pub fn write(
        &self,
        service: &Service,
        purpose: Purpose,
        sink: &mut Sink<'_>,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Answer, Failure> {
        let right = match purpose {
            Purpose::Cat => Right::View,
            Purpose::Unseal => Right::Decrypt,
        };
        let result = self.stream(service, right, sink, progress).and_then(|opened| {
            sink.sync()
                .map_err(|error| Failure::io("failed to write the opened contents to the disk", &error))?;
            Ok(opened)
        });
        match result {
            Ok(opened) => Ok(written(opened)),
            Err(Broken::Reader(bytes)) => Ok(Answer::Written { bytes, interrupted_tail: None }),
            Err(Broken::Failed(failure)) => {
                if purpose == Purpose::Unseal && sink.written() > 0 {
                    sink.truncate()
                        .map_err(|error| Failure::io("failed to take back what was written", &error))?;
                }
                Err(failure.about(self.name))
            }
        }
    }

    /// Checks every chunk and the root.
    ///
    /// # Errors
    /// As [`Opening::write`].
    pub fn verify(
        &self,
        service: &Service,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Answer, Failure> {
        match self.stream(service, Right::View, &mut Checked::default(), progress) {
            Ok(opened) => Ok(written(opened)),
            Err(Broken::Reader(bytes)) => Ok(Answer::Written { bytes, interrupted_tail: None }),
            Err(Broken::Failed(failure)) => Err(failure.about(self.name)),
        }
    }

    fn stream(
        &self,
        service: &Service,
        right: Right,
        sink: &mut dyn Output,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Opened, Broken> {
        service.needs(Role::View)?;
        let login = service.login_of(self.caller)?;
        let mut tries = 0;
        loop {
            let header = Content::sealed(self.source, service.bulletin().organisation)?;
            let wanted = wanted(&header, self.name);
            let granted = service
                .grants()
                .obtain_one(&login, &wanted, right)
                .map_err(|failure| service.heard_failure(&login, failure))?;
            let dek = granted.key_for(header.file_id(), right, service.now())?;
            crate::view::settle(service, &self.source.file, &header, dek)?;
            let total = plaintext_size(&header, self.source.size);
            let mut report = |done| progress(done, Some(total));
            let result = open_stream(&self.source.file, &header, dek, &mut Through(sink), &mut report);
            match result {
                // Relabelled since its header was read: the new label decides.
                Err(OpenError::Refused(refused)) if refused.is_header_changed() && tries < RETRIES => {
                    tries += 1
                }
                Err(OpenError::Refused(_)) if crate::view::is_open(service, &self.source.file) => {
                    let why = "the file is being changed in a view at this moment; try again";
                    return Err(Failure::new(ProblemCode::Conflict, why).into());
                }
                result => return result.map_err(|error| broken(error, sink.count())),
            }
        }
    }
}

/// How often a file is looked at again whose header is being changed.
const RETRIES: u32 = 3;

/// A file as the grants side asks for it.
pub fn wanted(header: &Header, name: &str) -> Wanted {
    Wanted {
        file: header.file_id(),
        header: header.wire_bytes().to_vec(),
        name: name.to_owned(),
        new_label: None,
    }
}

/// What an opening error means to the user. `authentic` bytes were checked and written before it.
pub fn failure(error: OpenError, authentic: u64) -> Failure {
    match error {
        OpenError::Refused(refused) if refused.is_header_changed() => Failure::new(
            ProblemCode::Conflict,
            "the label or the keys of the file are being changed at this moment; try again",
        ),
        OpenError::Refused(reason) => {
            tracing::debug!(?reason, "an envelope was refused");
            let what = "the file is damaged, was cut or was tampered with";
            let detail = match authentic {
                0 => format!("{what}; nothing of it was released"),
                bytes => format!("{what}; only its first {bytes} bytes are authentic"),
            };
            Failure {
                particulars: Particulars { authentic_bytes: Some(authentic), ..Particulars::default() },
                ..Failure::new(ProblemCode::CorruptEnvelope, detail)
            }
        }
        OpenError::Storage(error) => Failure::io("failed to read the sealed file", &error),
        OpenError::Sink(error) => Failure::io("failed to write the opened contents", &error),
    }
}

/// Why a stream ended early.
enum Broken {
    /// Whoever read the pipe had enough, after so many bytes.
    Reader(u64),
    /// It failed.
    Failed(Box<Failure>),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

fn broken(error: OpenError, written: u64) -> Broken {
    match error {
        OpenError::Sink(error) if error.kind() == io::ErrorKind::BrokenPipe => Broken::Reader(written),
        error => Broken::Failed(Box::new(failure(error, written))),
    }
}

fn written(opened: Opened) -> Answer {
    Answer::Written { bytes: opened.bytes, interrupted_tail: opened.interrupted_tail }
}

/// A place for plaintext that counts it.
trait Output: Write {
    fn count(&self) -> u64;
}

impl Output for Sink<'_> {
    fn count(&self) -> u64 {
        self.written()
    }
}

/// Where `verify` writes: nowhere.
#[derive(Default)]
struct Checked(u64);

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += u64::try_from(bytes.len()).unwrap_or(0);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Checked {
    fn count(&self) -> u64 {
        self.0
    }
}

/// An [`Output`] as a plain `Write`.
struct Through<'a>(&'a mut dyn Output);

impl Write for Through<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

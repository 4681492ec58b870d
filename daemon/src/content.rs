//! What a file that was handed over holds: plain bytes, or an envelope whose header can be read.

use crate::descriptors::Source;
use crate::failure::Failure;
use std::io;
use tobari_core::envelope::{Header, MAGIC, OpenError, ReadAt as _, looks_sealed};
use tobari_core::ids::OrganisationId;
use tobari_core::proto::problem::ProblemCode;

/// Bytes that each chunk has beside its plaintext: nonce and tag.
const CHUNK_OVERHEAD: u64 = 28;

/// Contents of a file.
#[derive(Debug)]
pub enum Content {
    /// Not sealed.
    Plain,
    /// Sealed; the header is as the file claims until a key authenticates it.
    Sealed(Box<Header>),
}

impl Content {
    /// Looks at a file.
    ///
    /// # Errors
    /// `UnreadableEnvelope` when it claims to be sealed and its header is damaged.
    pub fn of(source: &Source) -> Result<Self, Failure> {
        let mut prefix = [0; MAGIC.len()];
        match source.file.read_exact_at(&mut prefix, 0) {
            Ok(()) if looks_sealed(&prefix) => {}
            Ok(()) => return Ok(Self::Plain),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Self::Plain),
            Err(error) => return Err(Failure::io("failed to read the file", &error)),
        }
        match Header::read(&source.file) {
            Ok(header) => Ok(Self::Sealed(Box::new(header))),
            Err(OpenError::Refused(reason)) => {
                tracing::debug!(?reason, "an envelope was refused");
                Err(Failure::new(
                    ProblemCode::UnreadableEnvelope,
                    "the file begins like a sealed file, but its header is damaged",
                ))
            }
            Err(OpenError::Storage(error) | OpenError::Sink(error)) => {
                Err(Failure::io("failed to read the file", &error))
            }
        }
    }

    /// Looks at a file that must be sealed, by this organisation.
    ///
    /// # Errors
    /// `UnreadableEnvelope` when it is not.
    pub fn sealed(source: &Source, organisation: OrganisationId) -> Result<Header, Failure> {
        match Self::of(source)? {
            Self::Plain => Err(Failure::new(ProblemCode::UnreadableEnvelope, "the file is not sealed")),
            Self::Sealed(header) => {
                check_organisation(&header, organisation)?;
                Ok(*header)
            }
        }
    }
}

/// Fails for a file of another organisation, without asking the key server about it.
///
/// # Errors
/// `UnreadableEnvelope`.
pub fn check_organisation(header: &Header, organisation: OrganisationId) -> Result<(), Failure> {
    let other = header.policy().organisation;
    if other == organisation {
        return Ok(());
    }
    Err(Failure::new(
        ProblemCode::UnreadableEnvelope,
        format!("the file was sealed by another organisation ({other}), whose keys are not here"),
    ))
}

/// Plaintext bytes of an envelope, from its size on disk: for progress and display. Opening finds the true length.
pub fn plaintext_size(header: &Header, stored: u64) -> u64 {
    let chunk = u64::from(header.chunk_size());
    let body = stored.saturating_sub(u64::from(header.header_size()));
    let (whole, rest) = (body / (chunk + CHUNK_OVERHEAD), body % (chunk + CHUNK_OVERHEAD));
    whole * chunk + rest.saturating_sub(CHUNK_OVERHEAD)
}

//! The envelope: `docs/spec/envelope.md`.

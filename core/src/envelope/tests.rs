//! Tests of the envelope, one file for each subject.

mod document;
mod mutations;
mod power_cut;
mod rewrite;
mod round_trip;
mod simulated;
mod storage_errors;
mod writer;

use super::*;
use crate::crypto::{Dek, RecipientKind, RecipientPrivateKey};
use crate::ids::{GroupId, LabelId, OrganisationId, TerminalId};
use std::sync::OnceLock;

/// A recipient whose key pair is made once for all tests.
fn recipient(kind: RecipientKind) -> &'static RecipientPrivateKey {
    static CLASSICAL: OnceLock<RecipientPrivateKey> = OnceLock::new();
    static HYBRID: OnceLock<RecipientPrivateKey> = OnceLock::new();
    let cell = match kind {
        RecipientKind::RsaOaep => &CLASSICAL,
        RecipientKind::RsaOaepMlkem768 => &HYBRID,
    };
    cell.get_or_init(|| RecipientPrivateKey::generate(kind).unwrap())
}

fn epoch() -> &'static Epoch {
    static EPOCH: OnceLock<std::sync::Mutex<&'static Epoch>> = OnceLock::new();
    let make = || -> &'static Epoch {
        Box::leak(Box::new(Epoch::new(&[recipient(RecipientKind::RsaOaep).public().clone()]).unwrap()))
    };
    let mut current = EPOCH.get_or_init(|| std::sync::Mutex::new(make())).lock().unwrap();
    if current.is_spent() {
        *current = make();
    }
    *current
}

fn policy() -> FilePolicy {
    FilePolicy {
        organisation: OrganisationId::from_bytes([1; 16]),
        label: LabelId::from_bytes([2; 16]),
        label_level: 30,
        label_name: "社外秘".to_owned(),
        owner_group: Some(GroupId::from_bytes([3; 16])),
        sealed_at: "2026-11-21T04:05:06.789Z".parse().unwrap(),
        sealer: TerminalId::from_bytes([4; 16]),
        generation: 1,
    }
}

/// Bytes that differ from place to place.
fn contents(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

fn options(chunk_log2: u8) -> SealOptions {
    SealOptions { chunk_log2, threads: 2 }
}

/// Seals with 4 KiB chunks.
fn sealed(plain: &[u8]) -> (MemoryStorage, Header, Dek) {
    let storage = MemoryStorage::new();
    let sealed = seal(&mut &plain[..], &storage, epoch(), policy(), &options(12), &mut |_| {}).unwrap();
    (storage, sealed.header, sealed.dek)
}

/// Opens by stream.
fn opened(storage: &dyn ReadAt, header: &Header, dek: &Dek) -> Result<Vec<u8>, OpenError> {
    let mut plain = Vec::new();
    open_stream(storage, header, dek, &mut plain, &mut |_| {}).map(|_| plain)
}

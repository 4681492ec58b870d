//! The state of a file that changes with each commit: `docs/spec/envelope.md`, "State slots".

use super::error::Reason;
use super::layout::{Geometry, MAC_SIZE, SLOT_SIZE, SLOTS_SIZE, field, span};
use crate::crypto::FileKeys;

/// The slot's bytes that its MAC covers.
pub(super) const COVERED: usize = 56;
/// Covered bytes and MAC; zeros follow.
const USED: usize = COVERED + MAC_SIZE;
const DIRTY: u32 = 1;
const ROOT: u32 = 2;

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// Grows with each slot written, and by at least one for each chunk sealed.
    pub(super) generation: u64,
    /// Plaintext bytes.
    pub(super) length: u64,
    /// A writer is at work, or was when the power went.
    pub(super) dirty: bool,
    /// HMAC over all chunk tags in order, if it is known.
    pub(super) root: Option<[u8; MAC_SIZE]>,
}

/// The state that counts.
pub(super) struct Selected {
    pub(super) state: State,
    /// Which slot it is in, 0 or 1.
    pub(super) slot: usize,
    /// The other slot has been written, but is not authentic: torn, or damaged.
    pub(super) other_damaged: bool,
}

impl State {
    /// The first 56 bytes ("State slots").
    pub(super) fn covered(&self) -> [u8; COVERED] {
        let flags = if self.dirty { DIRTY } else { 0 } | if self.root.is_some() { ROOT } else { 0 };
        let mut bytes = [0; COVERED];
        let fields = self.generation.to_le_bytes().into_iter().chain(self.length.to_le_bytes());
        let fields = fields.chain(flags.to_le_bytes()).chain([0; 4]).chain(self.root.unwrap_or_default());
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }

    /// The whole slot ("State slots").
    pub(super) fn encode(&self, keys: &FileKeys) -> [u8; SLOT_SIZE] {
        let covered = self.covered();
        let mut bytes = [0; SLOT_SIZE];
        let fields = covered.into_iter().chain(keys.state_mac(&covered));
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }

    /// Parses the first 56 bytes of a slot whose authenticity was checked ("State slots").
    pub(super) fn decode(covered: &[u8], geometry: Geometry) -> Result<Self, Reason> {
        let flags = u32::from_le_bytes(field(covered, 16)?);
        let root = field::<MAC_SIZE>(covered, 24)?;
        let state = Self {
            generation: u64::from_le_bytes(field(covered, 0)?),
            length: u64::from_le_bytes(field(covered, 8)?),
            dirty: flags & DIRTY != 0,
            root: (flags & ROOT != 0).then_some(root),
        };
        geometry.file_size(state.length).map_err(|_| Reason::SlotContents)?;
        // Unknown flags, reserved bytes and a root without its flag all fail to come out the same.
        if state.covered() == covered { Ok(state) } else { Err(Reason::SlotContents) }
    }
}

/// Position of slot 0 or 1.
pub(super) fn slot_offset(geometry: Geometry, slot: usize) -> usize {
    geometry.header_size() - SLOTS_SIZE + slot * SLOT_SIZE
}

/// Chooses the slot that counts from a header region ("State slots").
pub(super) fn select(region: &[u8], geometry: Geometry, keys: &FileKeys) -> Result<Selected, Reason> {
    let read = |slot| {
        let offset = slot_offset(geometry, slot);
        parse(span(region, offset, offset + SLOT_SIZE)?, geometry, keys)
    };
    match (read(0)?, read(1)?) {
        (Slot::Valid(first), Slot::Valid(second)) if first.generation == second.generation => {
            Err(Reason::SlotContents)
        }
        (Slot::Valid(first), Slot::Valid(second)) if first.generation > second.generation => {
            Ok(Selected { state: first, slot: 0, other_damaged: false })
        }
        (Slot::Valid(state), other @ (Slot::Blank | Slot::Invalid)) => {
            Ok(Selected { state, slot: 0, other_damaged: matches!(other, Slot::Invalid) })
        }
        (Slot::Valid(_), Slot::Valid(state)) => Ok(Selected { state, slot: 1, other_damaged: false }),
        (other, Slot::Valid(state)) => {
            Ok(Selected { state, slot: 1, other_damaged: matches!(other, Slot::Invalid) })
        }
        _ => Err(Reason::Slots),
    }
}

enum Slot {
    Valid(State),
    Blank,
    Invalid,
}

/// Parses one slot ("State slots"). Padding that is not zero is no torn write, since every slot has zeros
/// there, and refuses the file.
fn parse(bytes: &[u8], geometry: Geometry, keys: &FileKeys) -> Result<Slot, Reason> {
    if span(bytes, USED, SLOT_SIZE)?.iter().any(|byte| *byte != 0) {
        return Err(Reason::Padding);
    }
    let covered = span(bytes, 0, COVERED)?;
    if keys.state_mac_fits(covered, span(bytes, COVERED, USED)?) {
        return State::decode(covered, geometry).map(Slot::Valid);
    }
    Ok(if bytes.iter().all(|byte| *byte == 0) { Slot::Blank } else { Slot::Invalid })
}

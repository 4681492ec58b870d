//! A buffer that has had plaintext in it and is wiped when it is dropped: the whole allocation at once. `Zeroizing` goes
//! byte by byte, which takes longer than sealing does.

use std::ops::{Deref, DerefMut};
use zeroize::optimization_barrier;

/// Bytes that are overwritten with zeros on drop, with the capacity behind them. Growing beyond the capacity would leave an unwiped copy
/// behind: reserve at once what is needed.
#[derive(Default)]
pub(super) struct Plaintext(Vec<u8>);

impl Plaintext {
    /// Empty, with room for `capacity` bytes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }
}

impl Deref for Plaintext {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Plaintext {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        self.0.clear();
        self.0.resize(self.0.capacity(), 0);
        optimization_barrier(self.0.as_slice());
    }
}

/// Copies as many bytes as both have; returns the number.
pub(super) fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..count), to.get_mut(..count)) {
        to.copy_from_slice(from);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_bytes_are_copied_as_both_have() {
        let mut to = [0; 3];
        assert_eq!(copy(b"12", &mut to), 2);
        assert_eq!(copy(b"34567", &mut to[1..]), 2);
        assert_eq!(&to, b"134");
    }
}

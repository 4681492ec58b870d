//! A secret in shares, of which a number opens it and fewer say nothing of it (Shamir, over GF(256), each byte by itself).
//! The crate does the arithmetic; here it is kept from what it would do with careless input.

use super::CryptoError;
use blahaj::{Share, Sharks};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Makes `count` shares of which any `needed` give the secret back. The first byte of a share is its place, from 1 on.
///
/// # Errors
/// [`CryptoError::InvalidKey`] unless 2 ≤ `needed` ≤ `count` and the secret is not empty.
pub fn split(secret: &[u8], needed: u8, count: u8) -> Result<Vec<Zeroizing<Vec<u8>>>, CryptoError> {
    if needed < 2 || needed > count || secret.is_empty() {
        return Err(CryptoError::InvalidKey);
    }
    let shares = Sharks(needed).dealer(secret).take(usize::from(count));
    Ok(shares.map(|share| Zeroizing::new(Vec::from(&share))).collect())
}

/// The secret, if there are `needed` different shares of it. Shares that were changed, or are of different secrets, and fewer than
/// were needed when they were made, give something else: the caller knows its secret again.
///
/// # Errors
/// [`CryptoError::InvalidKey`] where there are too few, one twice, or they do not fit each other.
pub fn combine<'a>(
    shares: impl IntoIterator<Item = &'a [u8]>,
    needed: u8,
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let mut by_place: BTreeMap<u8, Share> = BTreeMap::new();
    for bytes in shares {
        let place = *bytes.first().ok_or(CryptoError::InvalidKey)?;
        let share = Share::try_from(bytes).map_err(|_| CryptoError::InvalidKey)?;
        // Place 0 is the secret itself; and one place twice is one share.
        if place == 0 || by_place.insert(place, share).is_some() {
            return Err(CryptoError::InvalidKey);
        }
    }
    Sharks(needed.max(2)).recover(by_place.values()).map(Zeroizing::new).map_err(|_| CryptoError::InvalidKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The shares with these places, by the bits of a number.
    fn some(shares: &[Zeroizing<Vec<u8>>], which: u32) -> Vec<&[u8]> {
        let chosen = shares.iter().enumerate().filter(|(index, _)| (which >> index) & 1 == 1);
        chosen.map(|(_, share)| share.as_slice()).collect()
    }

    #[test]
    fn every_subset_of_small_numbers_of_shares_opens_or_does_not() {
        let secret: Vec<u8> = (0..=255).collect();
        for count in 2..=6_u8 {
            for needed in 2..=count {
                let shares = split(&secret, needed, count).unwrap();
                for which in 0..1_u32 << count {
                    let some = some(&shares, which);
                    let enough = some.len() >= usize::from(needed);
                    match combine(some.iter().copied(), needed) {
                        Ok(combined) => assert!(enough && combined.as_slice() == secret),
                        Err(_) => assert!(!enough, "{count} shares, {needed} needed, {which:b}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_set_of_shares_is_refused() {
        let secret = [7; 40];
        let shares = split(&secret, 3, 5).unwrap();
        let [one, two, three] = [&shares[0], &shares[1], &shares[2]].map(|share| share.as_slice());
        assert!(combine([one, one, two], 3).is_err(), "one twice is one");
        assert!(combine([one, two, &three[..20]], 3).is_err(), "of another length");
        assert!(combine([one, two, &[0; 41]], 3).is_err(), "place 0 is the secret itself");
        assert!(combine([one, two, &[]], 3).is_err());
        assert!(combine([], 0).is_err());
        for (needed, count) in [(0, 5), (1, 5), (6, 5)] {
            assert!(split(&secret, needed, count).is_err());
        }
        assert!(split(&[], 2, 3).is_err());
        assert_eq!(split(&secret, 255, 255).unwrap().len(), 255);
    }

    proptest! {
        /// One share too few leaves every secret possible: for any other secret of the length there is a last share that gives it. So
        /// nothing that can be computed from them tells a right guess from a wrong one.
        #[test]
        fn one_share_too_few_fits_every_secret(
            secret in prop::collection::vec(any::<u8>(), 1..48),
            other in any::<u8>(),
            needed in 2..6_u8,
        ) {
            let shares = split(&secret, needed, needed).unwrap();
            let (last, few) = shares.split_last().unwrap();
            // The last share moved by a constant moves the secret by another: over all constants, through all of them.
            let mut reached = std::collections::BTreeSet::new();
            for moved in 0..=255_u8 {
                let mut forged = last.to_vec();
                forged[1] ^= moved;
                let with = few.iter().map(|share| share.as_slice()).chain([forged.as_slice()]);
                let combined = combine(with, needed).unwrap();
                prop_assert_eq!(&combined[1..], &secret[1..]);
                reached.insert(combined[0]);
            }
            prop_assert!(reached.contains(&other) && reached.len() == 256);
            // Passed off as enough, they give the secret no more often than a guess.
            if needed > 2 && secret.len() > 16 {
                let passed_off = combine(few.iter().map(|share| share.as_slice()), needed - 1).unwrap();
                prop_assert_ne!(passed_off.as_slice(), secret.as_slice());
            }
        }
    }
}

//! Keys and the primitives that use them. The only module that touches primitive crates.

/// `N` random bytes from the operating system's generator.
///
/// # Panics
/// Never on Linux: `getrandom` cannot fail once the system is up.
#[expect(
    clippy::expect_used,
    reason = "without randomness no key can be made; there is nothing to fall back to"
)]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system's random generator answers");
    bytes
}

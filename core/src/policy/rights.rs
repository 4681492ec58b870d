//! The eight rights and sets of them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that a person may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Right {
    /// Read the contents in a view, or with `tobari cat`.
    View,
    /// Change the contents in a view.
    Edit,
    /// Reach the print socket from a session.
    Print,
    /// Copy contents to another sealed file of a label at least as high.
    Copy,
    /// Send the file to the outside as a password-ZIP.
    Send,
    /// Release the plaintext (`tobari unseal`).
    Decrypt,
    /// Give the file another label.
    Relabel,
    /// Take the file along under an offline lease.
    Offline,
}

impl Right {
    /// All rights, in the order of their bits.
    pub const ALL: [Self; 8] = [
        Self::View,
        Self::Edit,
        Self::Print,
        Self::Copy,
        Self::Send,
        Self::Decrypt,
        Self::Relabel,
        Self::Offline,
    ];

    /// The name used in the API, the command line and the audit log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Edit => "edit",
            Self::Print => "print",
            Self::Copy => "copy",
            Self::Send => "send",
            Self::Decrypt => "decrypt",
            Self::Relabel => "relabel",
            Self::Offline => "offline",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Right {
    type Err = UnknownRight;
    fn from_str(text: &str) -> Result<Self, UnknownRight> {
        Self::ALL.into_iter().find(|right| right.name() == text).ok_or_else(|| UnknownRight(text.to_owned()))
    }
}

/// A name that is none of the eight rights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown right '{0}' (known: view, edit, print, copy, send, decrypt, relabel, offline)")]
pub struct UnknownRight(pub String);

/// A set of rights. In JSON and TOML: an array of names in the order of [`Right::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Right>", into = "Vec<Right>")]
pub struct Rights(u8);

impl Rights {
    /// No right.
    pub const NONE: Self = Self(0);
    /// Every right.
    pub const ALL: Self = Self(0xff);

    /// The set with one right.
    pub const fn only(right: Right) -> Self {
        Self(right.bit())
    }

    /// The set with the given bits, bit 0 being [`Right::View`].
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// One bit per right, bit 0 being [`Right::View`].
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether `right` is in the set.
    pub const fn contains(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Rights in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Rights in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Rights in this set and not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The rights in the order of their bits.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.into_iter().filter(move |right| self.contains(*right))
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        rights.into_iter().fold(Self::NONE, |set, right| set.union(Self::only(right)))
    }
}

impl From<Vec<Right>> for Rights {
    fn from(rights: Vec<Right>) -> Self {
        rights.into_iter().collect()
    }
}

impl From<Rights> for Vec<Right> {
    fn from(rights: Rights) -> Self {
        rights.iter().collect()
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, right) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(right.name())?;
        }
        Ok(())
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Rights {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        <Vec<Right> as utoipa::PartialSchema>::schema()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Rights {}

//! What a terminal tells the key server of itself (`POST /v1/terminals/report`). It is the terminal's word: nothing in it is proved.

use crate::policy::Protection;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest version of a program, in bytes.
pub const MAX_VERSION: usize = 64;

/// `POST /v1/terminals/report`: what the calling terminal says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TerminalReport {
    /// Version of its program, 1 to 64 bytes.
    pub version: String,
    /// How its private keys are kept. Counts from the answer on.
    pub protection: Protection,
    /// How much of its designated folders is sealed; none where there are none, or not all have been looked through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
}

/// How much of a terminal's designated folders is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// Regular files that the last sweeps saw, sealed or not.
    pub files: u64,
    /// Files that are not known to be sealed now.
    pub plain: u64,
    /// Since when the oldest of them is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub plain_since: Option<Timestamp>,
}

impl Coverage {
    /// The sealed share in thousandths, rounded down, so that 1000 means that every file is sealed.
    pub fn permille(&self) -> u16 {
        if self.plain == 0 {
            return 1000;
        }
        let sealed = u128::from(self.files.saturating_sub(self.plain));
        let share = sealed * 1000 / u128::from(self.files.max(1));
        u16::try_from(share.min(999)).unwrap_or(999)
    }
}

/// The last report of a terminal, with what the key server knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reported {
    /// When it came.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// Version of the terminal's program.
    pub version: String,
    /// How much of its folders is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_whole_only_when_nothing_is_plain() {
        let share = |files, plain| Coverage { files, plain, plain_since: None }.permille();
        assert_eq!((share(0, 0), share(4, 1), share(1_000_000, 1)), (1000, 750, 999));
        // New files count before the sweep that sees them.
        assert_eq!((share(0, 3), share(2, 3), share(u64::MAX, 1)), (0, 0, 999));
    }
}

//! What the drill expects of each channel, from `expected.toml`; `docs/leak-matrix.md` is made of the same file.

use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Who tries a channel.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The same user, with programs that run in no session.
    Outside,
    /// A program in a session, which may read the file and wants its content out.
    Inside,
    /// Another user of the host.
    Other,
    /// A person who may view and no more, with the commands of this program.
    View,
}

impl Role {
    /// All, in the order in which they are tried.
    pub const ALL: [Self; 4] = [Self::Outside, Self::Inside, Self::Other, Self::View];

    /// As typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Inside => "inside",
            Self::Other => "other",
            Self::View => "view",
        }
    }
}

/// What may be got at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// Nothing.
    Refused,
    /// Ciphertext.
    Ciphertext,
    /// The plaintext: this cannot be stopped, or is not meant to be.
    Plaintext,
}

/// A text in both languages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// English.
    pub en: String,
    /// Japanese.
    pub ja: String,
}

/// One way by which content could leave.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Name, unique within a role.
    pub id: String,
    /// Who tries it, and what each may get at most.
    pub promise: Vec<RolePromise>,
    /// What is tried.
    pub what: Words,
    /// Why the plaintext is got, where it is; else what holds it up.
    pub why: Words,
}

/// What one role may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolePromise {
    /// Who.
    pub role: Role,
    /// What.
    pub at_most: Promise,
}

/// A way that the drill does not try, printed so that nobody takes silence for a promise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotTried {
    /// Name.
    pub id: String,
    /// What it is, and why it is not tried.
    pub what: Words,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// What is tried.
    pub channel: Vec<Channel>,
    /// What is not.
    pub not_tried: Vec<NotTried>,
}

static EXPECTED: LazyLock<Result<Expected, toml::de::Error>> =
    LazyLock::new(|| toml::from_str(include_str!("expected.toml")));

/// What is expected. Empty only if the file in this program were damaged, which a test excludes.
pub fn expected() -> &'static Expected {
    static NONE: Expected = Expected { channel: Vec::new(), not_tried: Vec::new() };
    EXPECTED.as_ref().unwrap_or(&NONE)
}

impl Expected {
    /// The channels of a role, each with its promise.
    pub fn of(&self, role: Role) -> impl Iterator<Item = (&Channel, Promise)> {
        self.channel.iter().filter_map(move |channel| {
            let promise = channel.promise.iter().find(|promise| promise.role == role)?;
            Some((channel, promise.at_most))
        })
    }
}

//! Identifiers: 16 random bytes each, one type per kind of thing, so that a label's id cannot be passed
//! where a group's is wanted. Text form is 32 lower-case hexadecimal digits.

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// A text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identifier is 32 hexadecimal digits")]
pub struct InvalidId;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A fresh random identifier from the operating system's generator.
            ///
            /// # Panics
            /// Never on Linux: `getrandom` cannot fail once the system is up.
            pub fn generate() -> Self {
                Self(crate::crypto::random_bytes())
            }

            /// The identifier with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| InvalidId)?;
                Ok(Self(bytes.try_into().map_err(|_| InvalidId)?))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some("^[0-9a-f]{32}$"))
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    )*};
}

id! {
    /// An organisation: one installation of the key server and everything sealed under it.
    OrganisationId,
    /// A label (classification), such as 社外秘.
    LabelId,
    /// A group (department) in the group tree.
    GroupId,
    /// A post (職位), such as 課長.
    PostId,
    /// A person.
    PersonId,
    /// A terminal: a host that was enrolled.
    TerminalId,
    /// A rule of the policy.
    RuleId,
    /// A designated folder on a terminal.
    FolderId,
    /// A sealed file, for as long as its DEK lives.
    FileId,
    /// A lease: files taken along by one person on one terminal.
    LeaseId,
    /// A login session of a person on a terminal.
    SessionId,
    /// An invariant of the policy.
    InvariantId,
    /// A change that waits for a second person.
    ChangeRequestId,
    /// One request to the key server; also in its log and audit records.
    RequestId,
}

//! Messages of the commands in Japanese and English: the texts lie in `locales/<language>/main.ftl`. Logs and the
//! API's details are English always, as are details that come from libraries.

use crate::Causes;
use crate::audit::chain::ChainError;
use crate::commands::CommandError;
use crate::config::ConfigError;
use crate::http::ServeError;
use crate::recovery::ShareFault;
use crate::root_key::RootKeyError;
use crate::service::ServiceError;
use crate::store::StoreError;
use crate::witness::WitnessError;
use crate::witness::receive::ReceiverError;
use fluent_templates::fluent_bundle::FluentValue;
use fluent_templates::{Loader as _, langid, static_loader};
use std::borrow::Cow;
use std::collections::HashMap;
use tobari_core::message::{Language, Message};

static_loader! {
    static TEXTS = {
        locales: "./locales",
        fallback_language: "en",
        customise: |bundle| bundle.set_use_isolating(false),
    };
}

fn find(language: Language, id: &str, message: &Message) -> Option<String> {
    let language = match language {
        Language::Ja => langid!("ja"),
        Language::En => langid!("en"),
    };
    let arguments: HashMap<Cow<'static, str>, FluentValue<'static>> =
        message.arguments.iter().map(|(name, value)| (Cow::from(*name), value.clone().into())).collect();
    TEXTS.try_lookup_with_args(&language, id, &arguments)
}

/// What happened.
pub fn problem(language: Language, message: &Message) -> String {
    find(language, &format!("error-{}", message.id), message).unwrap_or_else(|| message.id.to_owned())
}

/// What to do about it, where there is something to do.
pub fn hint(language: Language, message: &Message) -> Option<String> {
    find(language, &format!("hint-{}", message.id), message)
}

/// What a command says on standard output, or asks.
pub fn text(language: Language, message: &Message) -> String {
    find(language, message.id, message).unwrap_or_else(|| message.id.to_owned())
}

impl From<&CommandError> for Message {
    fn from(error: &CommandError) -> Self {
        use CommandError as E;
        match error {
            E::Config(error) => error.into(),
            E::PasswordFile { path, source } => Self::new("password-file").path(path).detail(Causes(source)),
            E::NoTerminal(source) => Self::new("no-terminal").detail(Causes(source)),
            E::PasswordsDiffer => Self::new("passwords-differ"),
            E::DatabaseExists(path) => Self::new("database-exists").path(path),
            E::Exists(path) => Self::new("exists").path(path),
            E::NoDatabase(path) => Self::new("no-database").path(path),
            E::InUse(path) => Self::new("in-use").path(path),
            E::RootKey(error) => error.into(),
            E::Service(error) => error.into(),
            E::Write { path, source } => Self::new("write").path(path).detail(Causes(source)),
            E::Database { path, source: source @ StoreError::TooNew { .. } } => {
                Self::new("database-new").path(path).detail(Causes(source))
            }
            E::Database { path, source } => Self::new("database").path(path).detail(Causes(source)),
            E::Store { location, source: source @ StoreError::TooNew { .. } } => {
                Self::new("database-new").with("path", location).detail(Causes(source))
            }
            E::Store { location, source } => {
                Self::new("store").with("location", location).detail(Causes(source))
            }
            E::NotEmpty(location) => Self::new("not-empty").with("location", location),
            E::MovedBadly { location, detail } => {
                Self::new("moved-badly").with("location", location).with("detail", detail)
            }
            E::DatabaseIncomplete(path) => Self::new("database-incomplete").path(path),
            E::Audit(error) => error.into(),
            E::Witness(WitnessError::Older { place, witnessed, size, .. }) => Self::new("witness-older")
                .with("place", place)
                .with("witnessed", witnessed)
                .with("size", size),
            E::Witness(WitnessError::Rewritten { place, size }) => {
                Self::new("witness-rewritten").with("place", place).with("size", size)
            }
            E::Witness(error @ (WitnessError::Away(_) | WitnessError::Store(_))) => {
                Self::new("witness").detail(Causes(error))
            }
            E::Receiver(ReceiverError::Folder { path, detail }) => {
                Self::new("witness-folder").path(path).with("detail", detail)
            }
            E::Recovery(error) => Self::new("recovery").detail(Causes(error)),
            E::Share { path, fault } => match fault {
                ShareFault::Malformed => Self::new("share-malformed").path(path),
                ShareFault::Version => Self::new("share-version").path(path),
                ShareFault::Damaged => Self::new("share-damaged").path(path),
                ShareFault::OtherKey => Self::new("share-other-key").path(path),
                ShareFault::OtherSet => Self::new("share-other-set").path(path),
                ShareFault::Twice(number) => Self::new("share-twice").path(path).with("number", number),
            },
            E::SharesTooFew { given, needed } => {
                Self::new("shares-too-few").with("given", given).with("needed", needed)
            }
            E::SharesNotTheKey => Self::new("shares-not-the-key"),
            E::ShareNumbers => Self::new("share-numbers"),
            E::NotRecovered { path, detail } => Self::new("not-recovered").path(path).with("detail", detail),
            E::Read { path, source } => Self::new("read").path(path).detail(Causes(source)),
            E::LogKey(key) => Self::new("log-key").with("key", key),
            E::Listen(ServeError::Listen { address, source }) => {
                Self::new("listen").with("address", address).detail(Causes(source))
            }
            E::Listen(error @ (ServeError::Tls(_) | ServeError::Certificate(_))) => {
                Self::new("certificate").detail(Causes(error))
            }
            E::System(source) => Self::new("system").detail(Causes(source)),
            E::SelfCheck(error) => Self::new("self-check").detail(Causes(error)),
        }
    }
}

impl From<&ConfigError> for Message {
    fn from(error: &ConfigError) -> Self {
        match error {
            ConfigError::Unreadable { path, source } => {
                Self::new("configuration-unreadable").path(path).detail(Causes(source))
            }
            ConfigError::Malformed { path, source } => {
                Self::new("configuration-malformed").path(path).with("detail", source.to_string().trim_end())
            }
            ConfigError::OutOfRange { field, value, least, most } => Self::new("configuration-range")
                .with("field", field)
                .with("value", value)
                .with("least", least)
                .with("most", most),
            ConfigError::Name { index, name } => {
                Self::new("configuration-name").with("field", format!("names[{index}]")).with("value", name)
            }
            ConfigError::Witness(index) => Self::new("configuration-witness").with("index", index),
            ConfigError::Store(_) => Self::new("configuration-store"),
            ConfigError::NoDataDir => Self::new("configuration-directory"),
        }
    }
}

impl From<&RootKeyError> for Message {
    fn from(error: &RootKeyError) -> Self {
        match error {
            RootKeyError::Unreadable { path, source } => {
                Self::new("root-key-unreadable").path(path).detail(Causes(source))
            }
            RootKeyError::OpenToOthers { path, mode } => {
                Self::new("root-key-open").path(path).with("mode", format!("{mode:o}"))
            }
            RootKeyError::Malformed(path) => Self::new("root-key-malformed").path(path),
        }
    }
}

impl From<&ServiceError> for Message {
    fn from(error: &ServiceError) -> Self {
        match error {
            ServiceError::Invalid { field, detail } | ServiceError::Conflict { field, detail } => {
                Self::new("refused").with("field", field).with("detail", detail)
            }
            ServiceError::WrongRootKey(name) => Self::new("root-key-wrong").with("detail", name),
            ServiceError::AuditNotIntact(error) => error.into(),
            ServiceError::AuditUnavailable => Self::new("audit-unavailable"),
            // The rest is about requests or damage; the text of either says which.
            error => Self::new("service").detail(Causes(error)),
        }
    }
}

impl From<&ChainError> for Message {
    fn from(error: &ChainError) -> Self {
        match error {
            ChainError::Gap { expected, found } => {
                Self::new("audit-gap").with("expected", expected).with("found", found)
            }
            ChainError::Broken { sequence } => Self::new("audit-broken").with("sequence", sequence),
            ChainError::Tree(records) => Self::new("audit-tree").with("records", records),
            ChainError::Store(error) => Self::new("audit-unreadable").detail(Causes(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::RecoveryError;
    use std::collections::{BTreeMap, BTreeSet};
    use std::io;
    use std::path::PathBuf;

    /// Id of each message and the names of its arguments.
    fn messages(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
        text.lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(id, text)| {
                (id, text.split("{ $").skip(1).filter_map(|rest| Some(rest.split_once(" }")?.0)).collect())
            })
            .collect()
    }

    #[test]
    fn both_languages_have_the_same_messages_with_the_same_arguments() {
        let english = messages(include_str!("../locales/en/main.ftl"));
        assert_eq!(english, messages(include_str!("../locales/ja/main.ftl")));
        assert!(english.len() > 60);
    }

    fn every_error() -> Vec<CommandError> {
        let path = PathBuf::from("/p");
        let system = || io::Error::from(io::ErrorKind::PermissionDenied);
        let (expected, found) = (3, 5);
        vec![
            ConfigError::Unreadable { path: path.clone(), source: system() }.into(),
            ConfigError::Malformed {
                path: path.clone(),
                source: Box::new(toml::from_str::<toml::Table>("x").unwrap_err()),
            }
            .into(),
            ConfigError::OutOfRange { field: "grant_minutes", value: 0, least: 1, most: 1440 }.into(),
            ConfigError::Name { index: 1, name: "a b".to_owned() }.into(),
            ConfigError::NoDataDir.into(),
            ConfigError::Witness(1).into(),
            ConfigError::Store(crate::store::postgres::LocationError).into(),
            CommandError::PasswordFile { path: path.clone(), source: system() },
            CommandError::NoTerminal(system()),
            CommandError::PasswordsDiffer,
            CommandError::DatabaseExists(path.clone()),
            CommandError::Exists(path.clone()),
            CommandError::NoDatabase(path.clone()),
            CommandError::InUse(path.clone()),
            RootKeyError::Unreadable { path: path.clone(), source: system() }.into(),
            RootKeyError::OpenToOthers { path: path.clone(), mode: 0o644 }.into(),
            RootKeyError::Malformed(path.clone()).into(),
            ServiceError::invalid("password", "short").into(),
            ServiceError::WrongRootKey("ca-key").into(),
            ServiceError::AuditNotIntact(ChainError::Broken { sequence: 7 }).into(),
            ServiceError::AuditUnavailable.into(),
            ServiceError::Internal("why".to_owned()).into(),
            CommandError::Write { path: path.clone(), source: system() },
            CommandError::Database { path: path.clone(), source: StoreError::TooNew { found: 9, known: 1 } },
            CommandError::Database {
                path: path.clone(),
                source: StoreError::Unavailable(Box::new(system())),
            },
            CommandError::DatabaseIncomplete(path),
            CommandError::Store {
                location: "db".to_owned(),
                source: StoreError::Unavailable(Box::new(system())),
            },
            CommandError::Store {
                location: "db".to_owned(),
                source: StoreError::TooNew { found: 9, known: 1 },
            },
            CommandError::NotEmpty("db".to_owned()),
            CommandError::MovedBadly { location: "db".to_owned(), detail: "why".to_owned() },
            ChainError::Gap { expected, found }.into(),
            ChainError::Tree(7).into(),
            WitnessError::Older { place: "w".to_owned(), epoch: 1, witnessed: 9, size: 7 }.into(),
            WitnessError::Rewritten { place: "w".to_owned(), size: 7 }.into(),
            WitnessError::Away("w".to_owned()).into(),
            ReceiverError::Folder { path: PathBuf::from("/w"), detail: "why".to_owned() }.into(),
            CommandError::LogKey("x".to_owned()),
            CommandError::Recovery(RecoveryError),
            CommandError::Share { path: PathBuf::from("/s"), fault: ShareFault::Malformed },
            CommandError::Share { path: PathBuf::from("/s"), fault: ShareFault::Version },
            CommandError::Share { path: PathBuf::from("/s"), fault: ShareFault::Damaged },
            CommandError::Share { path: PathBuf::from("/s"), fault: ShareFault::OtherKey },
            CommandError::Share { path: PathBuf::from("/s"), fault: ShareFault::OtherSet },
            CommandError::Share { path: PathBuf::from("/s"), fault: ShareFault::Twice(2) },
            CommandError::SharesTooFew { given: 1, needed: 3 },
            CommandError::SharesNotTheKey,
            CommandError::ShareNumbers,
            CommandError::NotRecovered { path: PathBuf::from("/f"), detail: "why".to_owned() },
            CommandError::Read { path: PathBuf::from("/f"), source: system() },
            ChainError::Store(StoreError::Stale).into(),
            ServeError::Listen { address: ([127, 0, 0, 1], 1).into(), source: system() }.into(),
            ServeError::Certificate("why".to_owned()).into(),
            system().into(),
            tobari_core::crypto::SelfCheckError::MissingInstructions("aes").into(),
        ]
    }

    #[test]
    fn every_error_is_told_in_both_languages_with_the_next_step() {
        let mut told = BTreeSet::new();
        for error in every_error() {
            let message = Message::from(&error);
            told.insert(message.id);
            for language in [Language::En, Language::Ja] {
                let (error, hint) = (problem(language, &message), hint(language, &message).unwrap());
                assert!(!error.contains("{$") && !hint.contains("{$"), "{message:?}");
                assert_ne!(error, message.id);
                assert_eq!(hint.is_ascii(), language == Language::En);
            }
        }
        let texts = messages(include_str!("../locales/en/main.ftl"));
        let all: BTreeSet<_> = texts.keys().filter_map(|id| id.strip_prefix("error-")).collect();
        assert_eq!(told, all);
    }

    #[test]
    fn an_error_names_the_file_and_the_cause() {
        let path = PathBuf::from("/srv/root.key");
        let message = Message::from(&CommandError::from(RootKeyError::OpenToOthers { path, mode: 0o644 }));
        assert_eq!(
            problem(Language::Ja, &message),
            "ルート鍵 /srv/root.key をほかの利用者も読めます (モード 644)"
        );
        assert_eq!(hint(Language::En, &message).as_deref(), Some("chmod 600 /srv/root.key"));
    }
}

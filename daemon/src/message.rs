//! Messages of the commands in Japanese and English: the texts lie in `locales/<language>/main.ftl`. Logs are English
//! always, as are details that come from libraries and from the key server.

use crate::config::ConfigError;
use crate::enrol::EnrolError;
use crate::run::RunError;
use crate::state::StateError;
use fluent_templates::fluent_bundle::FluentValue;
use fluent_templates::{LanguageIdentifier, Loader as _, langid, static_loader};
use std::borrow::Cow;
use std::collections::HashMap;
use tobari_core::proto::problem::ProblemCode;

static_loader! {
    static TEXTS = {
        locales: "./locales",
        fallback_language: "en",
        customise: |bundle| bundle.set_use_isolating(false),
    };
}

/// Environment variables that choose the language, the first that is set; the same as those of `tobari`.
pub const LANGUAGE_ENV: [&str; 4] = ["TOBARI_LANG", "LC_ALL", "LC_MESSAGES", "LANG"];

/// A language of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Japanese.
    Ja,
    /// English.
    En,
}

impl Language {
    /// What [`LANGUAGE_ENV`] says; English unless that is Japanese.
    pub fn choose(variable: impl Fn(&str) -> Option<String>) -> Self {
        let chosen = LANGUAGE_ENV.into_iter().filter_map(variable).find(|value| !value.is_empty());
        match chosen {
            Some(locale) if locale == "ja" || locale.starts_with("ja_") || locale.starts_with("ja.") => {
                Self::Ja
            }
            _ => Self::En,
        }
    }

    fn identifier(self) -> LanguageIdentifier {
        match self {
            Self::Ja => langid!("ja"),
            Self::En => langid!("en"),
        }
    }

    fn find(self, id: &str, arguments: &[(&'static str, String)]) -> Option<String> {
        let arguments: HashMap<Cow<'static, str>, FluentValue<'static>> =
            arguments.iter().map(|(name, value)| (Cow::from(*name), value.clone().into())).collect();
        TEXTS.try_lookup_with_args(&self.identifier(), id, &arguments)
    }

    /// What happened.
    pub fn error(self, message: &Message) -> String {
        self.find(&format!("error-{}", message.id), &message.arguments)
            .unwrap_or_else(|| message.id.to_owned())
    }

    /// What to do about it, where there is something to do.
    pub fn hint(self, message: &Message) -> Option<String> {
        self.find(&format!("hint-{}", message.id), &message.arguments)
    }

    /// `tobarid enrol` succeeded.
    pub fn enrolled(self, terminal: tobari_core::ids::TerminalId) -> String {
        self.find("enrolled", &[("terminal", terminal.to_string())]).unwrap_or_else(|| terminal.to_string())
    }
}

/// An error as a message in no language yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    id: &'static str,
    arguments: Vec<(&'static str, String)>,
}

impl Message {
    fn new(id: &'static str) -> Self {
        Self { id, arguments: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.arguments.push((name, value.to_string()));
        self
    }

    fn detail(self, detail: impl std::fmt::Display) -> Self {
        self.with("detail", detail)
    }
}

impl From<&anyhow::Error> for Message {
    fn from(error: &anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref::<EnrolError>() {
            return error.into();
        }
        if let Some(error) = error.downcast_ref::<RunError>() {
            return error.into();
        }
        if let Some(error) = error.downcast_ref::<ConfigError>() {
            return error.into();
        }
        Self::new("other").detail(format!("{error:#}"))
    }
}

impl From<&EnrolError> for Message {
    fn from(error: &EnrolError) -> Self {
        match error {
            EnrolError::Server(why) => Self::new("server-url").detail(why),
            EnrolError::Fingerprint(_) => Self::new("fingerprint"),
            EnrolError::TokenFile { path, source } => {
                Self::new("token-file").with("path", path.display()).detail(source)
            }
            EnrolError::EmptyToken => Self::new("token-empty"),
            EnrolError::State(error) => error.into(),
            EnrolError::Refused(problem) => match problem.code {
                ProblemCode::BadEnrolmentToken => Self::new("token-refused"),
                ProblemCode::KeyServerUnreachable => Self::new("unreachable").detail(&problem.detail),
                _ => Self::new("refused").detail(&problem.detail),
            },
            EnrolError::Answer(why) => Self::new("answer").detail(why),
            EnrolError::Keys(_) | EnrolError::Client(_) => Self::new("other").detail(error),
        }
    }
}

impl From<&RunError> for Message {
    fn from(error: &RunError) -> Self {
        match error {
            RunError::State(error) => error.into(),
            RunError::Server(why) => Self::new("server-url").detail(why),
            RunError::NoBulletin { cached, fetched } => {
                Self::new("bulletin").detail(format!("{cached}; {}", fetched.detail))
            }
            RunError::Bulletin(why) => Self::new("bulletin").detail(why),
            RunError::Socket { path, source } => {
                Self::new("socket").with("path", path.display()).detail(source)
            }
            RunError::SelfCheck(_) | RunError::Client(_) | RunError::System(_) => {
                Self::new("other").detail(error)
            }
        }
    }
}

impl From<&StateError> for Message {
    fn from(error: &StateError) -> Self {
        match error {
            StateError::NotEnrolled(path) => Self::new("not-enrolled").with("path", path.display()),
            StateError::AlreadyEnrolled(path) => Self::new("already-enrolled").with("path", path.display()),
            StateError::InUse(path) => Self::new("state-in-use").with("path", path.display()),
            StateError::Damaged { path, why } => {
                Self::new("state-damaged").with("path", path.display()).detail(why)
            }
            StateError::Io { path, source } => {
                Self::new("state-io").with("path", path.display()).detail(source)
            }
        }
    }
}

impl From<&ConfigError> for Message {
    fn from(error: &ConfigError) -> Self {
        match error {
            ConfigError::Unreadable { path, source } => {
                Self::new("configuration-unreadable").with("path", path.display()).detail(source)
            }
            ConfigError::Malformed { path, source } => {
                Self::new("configuration-malformed").with("path", path.display()).detail(source)
            }
            ConfigError::Invalid { field, why } => {
                Self::new("configuration-invalid").with("field", field).detail(why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn both_languages_have_the_same_messages() {
        let ids = |text: &str| -> Vec<String> {
            text.lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect()
        };
        let english = ids(include_str!("../locales/en/main.ftl"));
        assert_eq!(english, ids(include_str!("../locales/ja/main.ftl")));
        assert!(english.len() > 30);
    }

    #[test]
    fn errors_are_told_in_the_language_of_the_environment_with_the_next_step() {
        let error = anyhow::Error::new(RunError::State(StateError::NotEnrolled(PathBuf::from("/x"))));
        let message = Message::from(&error);
        assert_eq!(Language::En.error(&message), error.to_string());
        assert_eq!(Language::Ja.error(&message), "この端末は登録されていません: /x に登録がありません");
        assert_eq!(
            Language::Ja.hint(&message).as_deref(),
            Some("先に「tobarid enrol」でこの機械を登録してください")
        );
        let message = Message::from(&anyhow::anyhow!("why"));
        assert_eq!((Language::En.error(&message).as_str(), Language::En.hint(&message)), ("why", None));
    }

    #[test]
    fn the_first_variable_that_is_set_chooses() {
        let choose = |set: &[(&str, &str)]| {
            Language::choose(|name| {
                set.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(choose(&[]), Language::En);
        assert_eq!(choose(&[("LANG", "ja_JP.UTF-8")]), Language::Ja);
        assert_eq!(choose(&[("LANG", "ja_JP.UTF-8"), ("LC_ALL", "C")]), Language::En);
        assert_eq!(choose(&[("LANG", "C"), ("TOBARI_LANG", "ja")]), Language::Ja);
    }
}

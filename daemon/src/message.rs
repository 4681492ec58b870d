//! Messages of the commands in Japanese and English: the texts lie in `locales/<language>/main.ftl`. Logs are English
//! always, as are details that come from libraries and from the key server.

use crate::config::ConfigError;
use crate::enrol::EnrolError;
use crate::run::RunError;
use crate::state::StateError;
use fluent_templates::fluent_bundle::FluentValue;
use fluent_templates::{Loader as _, langid, static_loader};
use std::borrow::Cow;
use std::collections::HashMap;
use tobari_core::message::{Language, Message};
use tobari_core::proto::problem::ProblemCode;

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

/// The message of an error that ended a command.
pub fn of(error: &anyhow::Error) -> Message {
    if let Some(error) = error.downcast_ref::<EnrolError>() {
        return error.into();
    }
    if let Some(error) = error.downcast_ref::<RunError>() {
        return error.into();
    }
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return error.into();
    }
    Message::new("other").detail(format!("{error:#}"))
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
            RunError::Gateway(why) => Self::new("gateway").detail(why),
            RunError::SelfCheck(_) | RunError::Client(_) | RunError::Key(_) | RunError::System(_) => {
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
            StateError::OtherMachine { path, why } => {
                Self::new("other-machine").with("path", path.display()).detail(why)
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
        let message = of(&error);
        assert_eq!(problem(Language::En, &message), error.to_string());
        assert_eq!(problem(Language::Ja, &message), "この端末は登録されていません: /x に登録がありません");
        assert_eq!(
            hint(Language::Ja, &message).as_deref(),
            Some("先に「tobarid enrol」でこの機械を登録してください")
        );
        let message = of(&anyhow::anyhow!("why"));
        assert_eq!((problem(Language::En, &message).as_str(), hint(Language::En, &message)), ("why", None));
    }
}

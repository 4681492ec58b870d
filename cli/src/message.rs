//! Messages in Japanese and English: the texts lie in `locales/<language>/main.ftl`. A test checks that both have
//! the same messages and that every error has its text and its hint.

use crate::console::Console;
use crate::environment;
use clap::Command;
use fluent_templates::fluent_bundle::FluentValue;
use fluent_templates::{LanguageIdentifier, Loader as _, langid, static_loader};
use std::borrow::Cow;
use std::collections::HashMap;

static_loader! {
    static TEXTS = {
        locales: "./locales",
        fallback_language: "en",
        customise: |bundle| bundle.set_use_isolating(false),
    };
}

static ENGLISH: LanguageIdentifier = langid!("en");
static JAPANESE: LanguageIdentifier = langid!("ja");

/// Arguments of a message.
pub type Arguments = HashMap<Cow<'static, str>, FluentValue<'static>>;

/// A language of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// Japanese.
    Ja,
    /// English.
    En,
}

impl Language {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ja, Self::En];

    /// The typed language, else `TOBARI_LANG`, else the locale; English when none of them is known.
    pub fn choose(typed: Option<&str>, console: &Console) -> Self {
        let variable = |name: &str| console.variable(name).and_then(|value| value.to_str());
        let own = typed.or_else(|| variable(environment::LANGUAGE)).and_then(Self::of_locale);
        // As in setlocale(3): the first variable that is set decides, known or not.
        own.or_else(|| environment::LOCALE.into_iter().find_map(variable).and_then(Self::of_locale))
            .unwrap_or(Self::En)
    }

    fn of_locale(locale: &str) -> Option<Self> {
        let language: String = locale.chars().take_while(char::is_ascii_alphabetic).collect();
        match language.to_ascii_lowercase().as_str() {
            "ja" => Some(Self::Ja),
            "en" | "c" | "posix" => Some(Self::En),
            _ => None,
        }
    }

    fn identifier(self) -> &'static LanguageIdentifier {
        match self {
            Self::Ja => &JAPANESE,
            Self::En => &ENGLISH,
        }
    }

    /// The text of a message in this language alone, none when it is missing.
    pub fn find(self, id: &str, arguments: &Arguments) -> Option<String> {
        TEXTS.try_lookup_with_args(self.identifier(), id, arguments)
    }

    /// The text of a message; its id when it is missing (a test sees to it that none is).
    pub fn text(self, id: &str, arguments: &Arguments) -> String {
        self.find(id, arguments).unwrap_or_else(|| id.to_owned())
    }
}

/// Builds [`Arguments`]: `arguments! { name: value, … }`.
#[macro_export]
macro_rules! arguments {
    () => {
        $crate::message::Arguments::new()
    };
    ($($name:ident: $value:expr),+ $(,)?) => {{
        let mut arguments = $crate::message::Arguments::new();
        $(arguments.insert(stringify!($name).into(), $value.to_string().into());)*
        arguments
    }};
}

/// Text from elsewhere, such as a file name, for people: control characters, with which it could forge lines or drive
/// the terminal, are shown as `?`.
pub fn printable(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { '?' } else { one }).collect()
}

/// Puts the help of a command and of everything below it into `language`, where a text
/// `help-<path>` or `help-<path>--<argument>` exists; the English of the definition stays otherwise.
pub fn localise(command: Command, language: Language) -> Command {
    match language {
        Language::En => command,
        Language::Ja => localise_below(command, "help", language),
    }
}

fn localise_below(command: Command, path: &str, language: Language) -> Command {
    let none = Arguments::new();
    let about = language.find(path, &none);
    let command = match about {
        Some(about) => command.about(about),
        None => command,
    };
    let command = command.mut_args(|argument| {
        let id = argument.get_id().as_str().replace('_', "-");
        let own = language.find(&format!("{path}--{id}"), &none);
        match own.or_else(|| language.find(&format!("help--{id}"), &none)) {
            Some(help) => argument.help(help),
            None => argument,
        }
    });
    command.mut_subcommands(|below| {
        let path = format!("{path}-{}", below.get_name());
        localise_below(below, &path, language)
    })
}

//! What the programs say to people: a language, and a message that is in no language yet. The texts themselves lie in
//! `locales/<language>/main.ftl` of each program.

use std::fmt::Display;

/// Environment variables that choose the language, the first that is set and not empty.
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
}

/// A message in no language yet: the id of its text, and what the text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Id of the text.
    pub id: &'static str,
    /// Names and values of what the text names.
    pub arguments: Vec<(&'static str, String)>,
}

impl Message {
    /// A message that names nothing.
    pub const fn new(id: &'static str) -> Self {
        Self { id, arguments: Vec::new() }
    }

    /// Names `value`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Display) -> Self {
        self.arguments.push((name, value.to_string()));
        self
    }

    /// Names a path.
    #[must_use]
    pub fn path(self, path: &std::path::Path) -> Self {
        self.with("path", path.display())
    }

    /// Names what a library or the operating system said, in English.
    #[must_use]
    pub fn detail(self, detail: impl Display) -> Self {
        self.with("detail", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_chooses_the_language() {
        let choose = |set: &[(&str, &str)]| {
            Language::choose(|name| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(choose(&[]), Language::En);
        assert_eq!(choose(&[("LANG", "ja_JP.UTF-8")]), Language::Ja);
        assert_eq!(choose(&[("LANG", "ja_JP.UTF-8"), ("LC_ALL", "C")]), Language::En);
        assert_eq!(choose(&[("LANG", "ja_JP.UTF-8"), ("LC_ALL", "")]), Language::Ja);
        assert_eq!(choose(&[("TOBARI_LANG", "ja"), ("LC_ALL", "C")]), Language::Ja);
        assert_eq!(choose(&[("LANG", "jam")]), Language::En);
    }
}

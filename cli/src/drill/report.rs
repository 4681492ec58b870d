//! What the drill found, as a table or a JSON document.

use super::expected::{Channel, Promise, Role, Words, expected};
use super::helper::{Brought, Got};
use super::is_leak;
use crate::app::App;
use crate::arguments;
use crate::error::Error;
use crate::message::{Language, printable};
use serde::Serialize;

/// One channel and what it brought.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Found {
    /// Who tried.
    pub role: Role,
    /// Which channel.
    pub channel: String,
    /// What it may bring.
    pub at_most: Promise,
    /// What it brought.
    pub got: Got,
    /// Whether that is more than it may.
    pub leak: bool,
    /// Why not more.
    pub detail: String,
    #[serde(skip)]
    what: Words,
    #[serde(skip)]
    why: Words,
}

impl Found {
    /// What `channel` brought to `role`.
    pub(super) fn new(role: Role, channel: &Channel, at_most: Promise, brought: Brought) -> Self {
        Self {
            role,
            channel: channel.id.clone(),
            at_most,
            got: brought.got,
            leak: is_leak(brought.got, at_most),
            detail: brought.detail,
            what: channel.what.clone(),
            why: channel.why.clone(),
        }
    }
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    channels: &'a [Found],
    tried: usize,
    leaks: usize,
}

fn in_language(words: &Words, language: Language) -> &str {
    match language {
        Language::Ja => &words.ja,
        Language::En => &words.en,
    }
}

fn got_id(got: Got) -> &'static str {
    match got {
        Got::Plaintext => "drill-got-plaintext",
        Got::Ciphertext => "drill-got-ciphertext",
        Got::Nothing => "drill-got-nothing",
        Got::NotTried => "drill-got-not-tried",
    }
}

/// Shows it.
///
/// # Errors
/// [`Error::Leaked`] when something brought more than it may.
pub(super) fn show(app: &mut App, found: &[Found]) -> Result<(), Error> {
    let leaks = found.iter().filter(|found| found.leak).count();
    let tried = found.iter().filter(|found| found.got != Got::NotTried).count();
    if app.settings.json {
        app.json(&Document { channels: found, tried, leaks })?;
    } else {
        let language = app.settings.language;
        let mut role = None;
        for one in found {
            if role != Some(one.role) {
                role = Some(one.role);
                let heading = app.word(&format!("drill-role-{}", one.role.name()));
                app.line(&format!("\n{heading}"))?;
            }
            let verdict = app.word(match (one.leak, one.got) {
                (true, _) => "drill-leak",
                (false, Got::Plaintext) => "drill-not-stopped",
                (false, Got::NotTried) => "drill-open-question",
                (false, _) => "drill-held",
            });
            let got = app.word(got_id(one.got));
            let what = in_language(&one.what, language);
            app.line(&format!("  [{verdict}] {}: {what} -> {got}", one.channel))?;
            let reason = match one.got {
                Got::Plaintext if !one.leak => in_language(&one.why, language).to_owned(),
                _ => printable(&one.detail),
            };
            if !reason.is_empty() {
                app.line(&format!("      {reason}"))?;
            }
        }
        let heading = app.word("drill-not-tried");
        app.line(&format!("\n{heading}"))?;
        for one in &expected().not_tried {
            let line = format!("  {}: {}", one.id, in_language(&one.what, language));
            app.line(&line)?;
        }
        let sum = app.text("drill-sum", &arguments! { tried: tried, all: found.len(), leaks: leaks });
        app.line(&format!("\n{sum}"))?;
    }
    if leaks == 0 { Ok(()) } else { Err(Error::Leaked(leaks)) }
}

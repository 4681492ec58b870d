//! One run: its settings, its streams, and the one place where text leaves the program.

use crate::arguments;
use crate::client::Client;
use crate::console::Console;
use crate::error::{Action, Error};
use crate::exit::Exit;
use crate::message::{Arguments, printable};
use crate::progress::Progress;
use crate::settings::Settings;
use serde::Serialize;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use zeroize::Zeroizing;

/// Longest password or code that is read, in bytes.
const MAX_SECRET: u64 = 4096;

/// A run.
#[derive(Debug)]
pub struct App {
    /// What holds for the whole run.
    pub settings: Settings,
    /// Streams, environment and clock.
    pub console: Console,
    failure: Option<Exit>,
    program: Option<u8>,
}

impl App {
    /// A run that has not failed yet.
    pub fn new(settings: Settings, console: Console) -> Self {
        Self { settings, console, failure: None, program: None }
    }

    /// Reports the outcome and gives the exit code: that of the first failure.
    pub fn finish(mut self, outcome: Result<(), Error>) -> Exit {
        if let Err(error) = outcome {
            self.report(&error);
        }
        self.failure.or(self.program.map(Exit::Program)).unwrap_or(Exit::Ok)
    }

    /// A program ran in a session: the run ends as it ended.
    pub fn program_ended(&mut self, code: u8) {
        self.program = Some(code);
    }

    /// Connects to the daemon.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn client(&self) -> Result<Client, Error> {
        Client::connect(&self.settings.socket)
    }

    /// A message in the user's language.
    pub fn text(&self, id: &str, arguments: &Arguments) -> String {
        self.settings.language.text(id, arguments)
    }

    /// A message without arguments.
    pub fn word(&self, id: &str) -> String {
        self.text(id, &arguments! {})
    }

    /// Writes a line to standard output.
    ///
    /// # Errors
    /// [`Error::BrokenPipe`] or [`Error::Io`].
    pub fn line(&mut self, text: &str) -> Result<(), Error> {
        let mut line = text.to_owned();
        line.push('\n');
        self.write(line.as_bytes())
    }

    /// Writes the one JSON document of this run to standard output.
    ///
    /// # Errors
    /// As [`App::line`].
    pub fn json(&mut self, document: &impl Serialize) -> Result<(), Error> {
        let mut text = serde_json::to_vec_pretty(document)
            .map_err(|error| Action::Write.failed(Path::new("-"))(error.into()))?;
        text.push(b'\n');
        self.write(&text)
    }

    /// Writes bytes to standard output.
    ///
    /// # Errors
    /// As [`App::line`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.console.output.write_all(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Error::BrokenPipe,
            _ => Action::Write.failed(Path::new("-"))(error),
        })
    }

    /// Reports a failure; the run goes on and ends with the exit code of the first.
    pub fn report(&mut self, error: &Error) {
        self.failure.get_or_insert(error.exit());
        if matches!(error, Error::BrokenPipe) {
            return;
        }
        let language = self.settings.language;
        if self.settings.json {
            self.diagnose_json("error", &error.report(language));
            return;
        }
        let message = error.message(language);
        // Only a wrong command line is shown with its own line breaks.
        let message = if matches!(error, Error::Usage { .. }) { message } else { printable(&message) };
        let mut lines = vec![format!("tobari: error: {message}")];
        if let Error::Problem { reasons, .. } = error {
            lines.extend(
                reasons
                    .iter()
                    .map(|reason| self.reason(reason))
                    .map(|reason| format!("  {}", printable(&reason))),
            );
        }
        lines.push(format!("tobari: hint: {}", error.hint(language)));
        self.diagnose(&lines.join("\n"));
    }

    /// Says something that is no failure but that the user must know.
    pub fn warn(&mut self, id: &str, arguments: &Arguments) {
        let message = self.text(id, arguments);
        if self.settings.json {
            let code = id.strip_prefix("warning-").unwrap_or(id);
            self.diagnose_json("warning", &serde_json::json!({ "code": code, "message": message }));
        } else {
            self.diagnose(&format!("tobari: warning: {}", printable(&message)));
        }
    }

    /// Says what was done, where the command has no data of its own; nothing under `--json`.
    pub fn note(&mut self, id: &str, arguments: &Arguments) {
        if !self.settings.json {
            let message = self.text(id, arguments);
            self.diagnose(&format!("tobari: {}", printable(&message)));
        }
    }

    /// One rule that decided, in words.
    pub fn reason(&self, reason: &tobari_core::proto::api::Reason) -> String {
        let effect = match reason.effect {
            tobari_core::policy::Effect::Allow => "reason-allow",
            tobari_core::policy::Effect::Deny => "reason-deny",
        };
        let mut text = self.text(
            effect,
            &arguments! { rights: reason.rights, membership: reason.membership, rule: reason.rule },
        );
        if !reason.note.is_empty() {
            text.push_str(&format!(" ({})", reason.note));
        }
        text
    }

    /// A progress bar named `name`.
    pub fn progress(&self, name: &Path, total: Option<u64>) -> Progress {
        Progress::new(self.settings.progress, &name.to_string_lossy(), total)
    }

    /// Asks for a secret on the terminal.
    ///
    /// # Errors
    /// [`Error::NoTerminal`] where nobody can be asked.
    pub fn ask_secret(&mut self, prompt: &str) -> Result<Zeroizing<String>, Error> {
        if !self.console.can_ask() {
            return Err(Error::NoTerminal);
        }
        rpassword::prompt_password(self.word(prompt)).map(Zeroizing::new).map_err(|_| Error::NoTerminal)
    }

    /// Asks for a line on the terminal.
    ///
    /// # Errors
    /// [`Error::NoTerminal`] where nobody can be asked.
    pub fn ask_line(&mut self, prompt: &str) -> Result<String, Error> {
        if !self.console.can_ask() {
            return Err(Error::NoTerminal);
        }
        let prompt = self.word(prompt);
        let failed = Action::Read.failed(Path::new("-"));
        let asked = self.console.errors.write_all(prompt.as_bytes());
        let mut line = String::new();
        // One byte at a time: what follows the line belongs to the next question.
        let mut byte = [0];
        let read = asked.and_then(|()| {
            let mut bytes = Vec::new();
            while self.console.input.read(&mut byte)? == 1 && byte != *b"\n" {
                bytes.extend_from_slice(&byte);
            }
            line = String::from_utf8_lossy(&bytes).trim().to_owned();
            Ok(())
        });
        read.map_err(failed)?;
        Ok(line)
    }

    /// Reads a secret from standard input: its first line, without the line end.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is empty or not UTF-8, [`Error::Io`].
    pub fn secret_from_input(&mut self) -> Result<Zeroizing<String>, Error> {
        let mut text = Zeroizing::new(String::new());
        (&mut self.console.input)
            .take(MAX_SECRET)
            .read_to_string(&mut text)
            .map_err(Action::Read.failed(Path::new("-")))?;
        let first = text.split('\n').next().unwrap_or_default();
        let first = first.strip_suffix('\r').unwrap_or(first);
        match first {
            "" => Err(Error::Usage { what: "password-empty", detail: String::new() }),
            secret => Ok(Zeroizing::new(secret.to_owned())),
        }
    }

    /// Asks for a new secret twice.
    ///
    /// # Errors
    /// [`Error::NoTerminal`], [`Error::PasswordsDiffer`], [`Error::Usage`] when it is empty.
    pub fn ask_new_secret(&mut self) -> Result<Zeroizing<String>, Error> {
        let first = self.ask_secret("prompt-new-password")?;
        if first.is_empty() {
            return Err(Error::Usage { what: "password-empty", detail: String::new() });
        }
        let second = self.ask_secret("prompt-again")?;
        if *first == *second { Ok(first) } else { Err(Error::PasswordsDiffer) }
    }

    /// Text for people on standard error. A closed standard error must not hide the exit code.
    pub fn diagnose(&mut self, text: &str) {
        let _ = self.console.errors.write_all(format!("{text}\n").as_bytes());
    }

    fn diagnose_json(&mut self, kind: &str, value: &impl Serialize) {
        if let Ok(value) = serde_json::to_value(value) {
            self.diagnose(&serde_json::json!({ kind: value }).to_string());
        }
    }
}

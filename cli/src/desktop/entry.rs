//! One application's `.desktop` file, by the Desktop Entry Specification.

use crate::console::Console;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// An application.
#[derive(Debug)]
pub(super) struct Entry {
    path: PathBuf,
    keys: HashMap<String, String>,
}

/// The file of this name, which is also that of a file in a folder below: `a-b.desktop` may be `a/b.desktop`.
pub(super) fn find(data: &[PathBuf], id: &str) -> Option<Entry> {
    if !id.ends_with(".desktop") || id.contains('/') {
        return None;
    }
    let names = std::iter::once(id.to_owned())
        .chain(id.match_indices('-').map(|(at, _)| format!("{}/{}", &id[..at], &id[at + 1..])));
    let names: Vec<String> = names.collect();
    data.iter()
        .flat_map(|folder| names.iter().map(move |name| folder.join("applications").join(name)))
        .find_map(|path| Some(Entry { keys: keys(&std::fs::read_to_string(&path).ok()?), path }))
}

fn keys(text: &str) -> HashMap<String, String> {
    text.lines()
        .map(str::trim)
        .skip_while(|line| *line != "[Desktop Entry]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

impl Entry {
    /// The command that opens `file`; none when the application cannot, or is this program itself.
    pub(super) fn command(&self, console: &Console, file: &Path) -> Option<Vec<OsString>> {
        let value = |name: &str| self.keys.get(name).map(String::as_str);
        if value("Hidden") == Some("true") || value("Type").is_some_and(|kind| kind != "Application") {
            return None;
        }
        if value("TryExec").is_some_and(|program| !is_there(console, program)) {
            return None;
        }
        let words = words(&unescaped(value("Exec")?))?;
        let program = words.first()?;
        if Path::new(program).file_name() == Some(OsStr::new("tobari")) || !is_there(console, program) {
            return None;
        }
        let mut command = Vec::new();
        if value("Terminal") == Some("true") && !console.output.is_terminal() {
            command.extend(["x-terminal-emulator", "-e"].map(OsString::from));
        }
        let mut given = false;
        for word in &words {
            match word.as_str() {
                "%f" | "%F" => {
                    command.push(file.into());
                    given = true;
                }
                "%u" | "%U" => {
                    command.push(uri(file).into());
                    given = true;
                }
                // Icon and old codes.
                "%i" | "%d" | "%D" | "%n" | "%N" | "%v" | "%m" => {}
                "%c" => command.push(value("Name").unwrap_or_default().into()),
                "%k" => command.push(self.path.clone().into()),
                other => command.push(other.replace("%%", "%").into()),
            }
        }
        if !given {
            command.push(file.into());
        }
        Some(command)
    }
}

fn is_there(console: &Console, program: &str) -> bool {
    let executable =
        |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    if program.contains('/') {
        return executable(Path::new(program));
    }
    let path =
        console.variable("PATH").cloned().unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    std::env::split_paths(&path).any(|folder| executable(&folder.join(program)))
}

/// A value without the escapes that all values have.
fn unescaped(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value.chars();
    while let Some(letter) = rest.next() {
        match (letter, letter == '\\') {
            (_, true) => match rest.next() {
                Some('s') => text.push(' '),
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some('\\') => text.push('\\'),
                // For the quoting below.
                Some(other) => text.extend(['\\', other]),
                None => text.push('\\'),
            },
            (letter, false) => text.push(letter),
        }
    }
    text
}

/// The words of a command line: separated by spaces, in double quotes where they hold some. None when a quote is not closed.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().push(letters.next()?),
            ' ' | '\t' | '\n' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

/// The `file:` URI of an absolute path.
fn uri(file: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let mut uri = String::from("file://");
    for byte in file.as_os_str().as_bytes() {
        if plain(*byte) { uri.push(char::from(*byte)) } else { uri.push_str(&format!("%{byte:02X}")) }
    }
    uri
}

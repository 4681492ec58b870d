//! What was refused, as a notification of the user's desktop. By the desktop's own program and from this process, which is the user's:
//! the daemon speaks to nobody's bus. Without a desktop nothing happens, and nothing waits for one.

use crate::console::Console;
use crate::message::printable;
use std::path::Path;
use std::process::{Command, Stdio};

/// Notifications of one run: a file manager that looks at a whole folder is not to bury the desktop.
const MOST: usize = 20;

/// The notifications of one run.
#[derive(Debug, Default)]
pub struct Notifier {
    shown: Vec<String>,
}

impl Notifier {
    /// Shows `text`, unless it was shown already or there is no desktop.
    pub fn show(&mut self, console: &Console, text: &str) {
        if !is_there(console) || self.shown.len() >= MOST || self.shown.iter().any(|shown| shown == text) {
            return;
        }
        self.shown.push(text.to_owned());
        let started = Command::new("notify-send")
            .args(["--app-name=Tobari", "--icon=dialog-password", "--", "Tobari", &plain(&printable(text))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(mut child) = started {
            // A desktop that does not answer holds up nobody.
            let _unnoticed = std::thread::Builder::new()
                .name(String::from("notification"))
                .spawn(move || drop(child.wait()));
        }
    }
}

/// Whether the user has a display and a bus.
fn is_there(console: &Console) -> bool {
    let display = console.variable("WAYLAND_DISPLAY").or(console.variable("DISPLAY")).is_some();
    let bus = console.variable("DBUS_SESSION_BUS_ADDRESS").is_some()
        || console.variable("XDG_RUNTIME_DIR").is_some_and(|folder| Path::new(folder).join("bus").exists());
    display && bus
}

/// Names of files are not to be taken for markup.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

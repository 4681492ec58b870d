//! `status`.

use super::text;
use crate::app::App;
use crate::args;
use crate::arguments;
use crate::error::Error;
use crate::message::Arguments;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tobari_core::ids::FolderId;
use tobari_core::proto::control::{Answer, EventSource, FolderStatus, Request, Status, Unsealed};

/// How often `--watch` looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// `tobari status`.
pub(super) fn run(args: &args::Status, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    let mut shown = None;
    let mut paces = Paces::default();
    loop {
        let Answer::Status { status } = client.ask(&Request::Status { unsealed: args.unsealed }, &[])? else {
            return Err(Error::DaemonAnswer);
        };
        let document = serde_json::to_value(&status).map_err(|_| Error::DaemonAnswer)?;
        if shown.as_ref() != Some(&document) {
            if !app.settings.json {
                paces.look(&status);
                let text = describe(app, &status, args.unsealed, &paces);
                app.line(&text)?;
            } else if args.watch {
                app.line(&document.to_string())?;
            } else {
                app.json(&document)?;
            }
            shown = Some(document);
        }
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// How fast files are sealed while somebody watches: what a sweep found waits in queues when its walk is over.
#[derive(Default)]
struct Paces(HashMap<FolderId, Pace>);

struct Pace {
    since: Instant,
    sealed: u64,
    /// Files a second, and seconds left.
    known: Option<(u64, u64)>,
}

impl Paces {
    fn look(&mut self, status: &Status) {
        for folder in &status.folders {
            if folder.plain == 0 {
                self.0.remove(&folder.folder.id);
                continue;
            }
            let fresh = || Pace { since: Instant::now(), sealed: folder.sealed, known: None };
            let pace = self.0.entry(folder.folder.id).or_insert_with(fresh);
            let milliseconds = u64::try_from(pace.since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            // None are being sealed: all that is left waits for something.
            let sealed = folder.sealed.saturating_sub(pace.sealed);
            let left = folder.plain.saturating_mul(milliseconds).checked_div(sealed.saturating_mul(1000));
            pace.known = left.map(|left| (sealed.saturating_mul(1000) / milliseconds, left));
        }
    }

    fn of(&self, folder: FolderId) -> Option<(u64, u64)> {
        self.0.get(&folder).and_then(|pace| pace.known)
    }
}

fn describe(app: &App, status: &Status, with_unsealed: bool, paces: &Paces) -> String {
    let never = || app.word("never");
    let row = |name: &str, value: String| vec![app.word(name), value];
    let contact = match (&status.key_server_error, status.key_server_seen_at) {
        (Some(error), seen) => {
            let seen = seen.map_or_else(never, |seen| text::time(app, seen));
            app.text("status-contact-lost", &arguments! { seen: seen, error: text::printable(error) })
        }
        (None, Some(seen)) => text::time(app, seen),
        (None, None) => never(),
    };
    let bulletin = app.text(
        "status-bulletin-value",
        &arguments! { number: status.bulletin_number, issued: text::time(app, status.bulletin_issued_at) },
    );
    let rows = vec![
        row("status-program", format!("tobarid {}", status.program)),
        row("status-terminal", status.terminal.to_string()),
        row("status-organisation", status.organisation.to_string()),
        row("status-key-server", status.key_server.clone()),
        row("status-contact", contact),
        row("status-certificate", text::time(app, status.certificate_expires_at)),
        row("status-bulletin", bulletin),
    ];
    let mut parts = vec![text::table(None, rows, 0)];
    if status.folders.is_empty() {
        parts.push(app.word("status-no-folders"));
    }
    parts
        .extend(status.folders.iter().map(|folder| describe_folder(app, folder, paces.of(folder.folder.id))));
    if with_unsealed {
        parts.push(describe_unsealed(app, &status.unsealed));
    }
    parts.join("\n")
}

fn describe_folder(app: &App, status: &FolderStatus, pace: Option<(u64, u64)>) -> String {
    let watched = match &status.watched {
        Ok(()) => match status.events {
            Some(EventSource::Fanotify) => app.text("status-watched-by", &arguments! { source: "fanotify" }),
            Some(EventSource::Inotify) => app.text("status-watched-by", &arguments! { source: "inotify" }),
            None => app.word("status-watched"),
        },
        Err(error) => app.text("status-not-watched", &arguments! { error: text::printable(error) }),
    };
    let swept = status.swept_at.map_or_else(|| app.word("never"), |time| text::time(app, time));
    let arguments: Arguments = arguments! {
        path: text::printable(&status.folder.path),
        label: text::printable(&status.label_name),
        watched: watched,
        sealed: text::grouped(status.sealed),
        bytes: text::grouped(status.sealed_bytes),
        waiting: text::grouped(status.waiting),
        swept: swept,
    };
    let mut lines = app.text("status-folder", &arguments);
    if let Some(coverage) = status.coverage() {
        let oldest = status.plain_since.map_or_else(|| app.word("none"), |time| text::time(app, time));
        let arguments: Arguments = arguments! {
            // Never rounded up: 100 % means all.
            share: format!("{:.2}", (coverage * 10_000.0).floor() / 100.0),
            plain: text::grouped(status.plain),
            since: oldest,
        };
        lines.push_str("\n  ");
        lines.push_str(&app.text("status-coverage", &arguments));
    }
    if let Some(sweep) = &status.sweep {
        let left = match sweep.seconds_left {
            Some(seconds) => {
                app.text("status-sweep-left", &arguments! { left: text::duration(app, seconds) })
            }
            None => app.word("status-sweep-left-unknown"),
        };
        lines.push_str("\n  ");
        lines.push_str(&app.text(
            "status-sweep",
            &arguments! {
                files: text::grouped(sweep.files),
                rate: text::grouped(sweep.files_per_second),
                done: u64::from(sweep.done_permille / 10),
                left: left,
            },
        ));
    }
    if let (None, Some((rate, left))) = (&status.sweep, pace) {
        let left = app.text("status-sweep-left", &arguments! { left: text::duration(app, left) });
        lines.push_str("\n  ");
        lines.push_str(&app.text("status-sealing", &arguments! { rate: text::grouped(rate), left: left }));
    }
    lines
}

fn describe_unsealed(app: &App, unsealed: &[Unsealed]) -> String {
    if unsealed.is_empty() {
        return app.word("status-all-sealed");
    }
    let mut lines = vec![app.text("status-unsealed", &arguments! { count: unsealed.len() })];
    for file in unsealed {
        let code = serde_json::to_value(file.reason).unwrap_or_default();
        let code = code.as_str().unwrap_or_default();
        let next = match file.next_try {
            Some(time) => app.text("status-next-try", &arguments! { time: text::time(app, time) }),
            None => app.word("status-left-alone"),
        };
        let age = app.console.clock.now().duration_since(file.since).as_secs();
        let age = text::duration(app, u64::try_from(age).unwrap_or(0));
        let since = app.text(
            "status-since",
            &arguments! { time: text::time(app, file.since), age: age, tries: file.tries },
        );
        let reason = app.word(&format!("unsealed-{code}"));
        lines.push(format!(
            "  {}: {reason} [{code}; {}]; {since}; {next}",
            text::printable(&file.path),
            text::printable(&file.detail)
        ));
    }
    lines.join("\n")
}

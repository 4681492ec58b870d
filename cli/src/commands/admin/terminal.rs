//! `admin terminal`.

use super::server::{Server, show, show_list, something, yes_no};
use crate::app::App;
use crate::args::admin::Terminal;
use crate::arguments;
use crate::commands::text;
use crate::error::Error;
use tobari_core::proto::admin::TerminalRecord;
use tobari_core::proto::policy::Collection;
use tobari_core::proto::terminal::Reported;

const COLUMNS: [&str; 13] = [
    "name",
    "zone",
    "tags",
    "gateway",
    "frozen",
    "revoked",
    "protection",
    "leases",
    "coverage",
    "version",
    "certificate",
    "seen",
    "id",
];

pub(super) fn run(args: Terminal, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let record: TerminalRecord = match args {
        Terminal::List => {
            let mut terminals = server.terminals()?;
            terminals.sort_by(|a, b| a.terminal.name.cmp(&b.terminal.name));
            return show_list(app, "terminals", &terminals, &COLUMNS, row);
        }
        Terminal::Show(named) => {
            let id = server.terminal(&named.name)?;
            server.get(&format!("/v1/admin/terminals/{id}"))?
        }
        Terminal::Set(args) => {
            let of_tags = !args.tags.is_empty() || args.no_tags;
            let of_zone = args.zone.is_some() || args.no_zone;
            let of_gateway = args.gateway || args.no_gateway;
            something(of_tags || of_zone || of_gateway || args.name.is_some() || args.revoke)?;
            let id = server.terminal(&args.target)?;
            let old: TerminalRecord = server.get(&format!("/v1/admin/terminals/{id}"))?;
            let mut input = old.terminal;
            input.name = args.name.unwrap_or(input.name);
            if of_zone {
                input.zone = args.zone;
            }
            if of_tags {
                input.tags = args.tags;
            }
            input.gateway = args.gateway || (input.gateway && !args.no_gateway);
            input.revoked |= args.revoke;
            let record = server.put("terminals", id, &input)?;
            server.changed(app);
            record
        }
        Terminal::Freeze(named) => freeze(&named.name, true, server, app)?,
        Terminal::Unfreeze(named) => freeze(&named.name, false, server, app)?,
        Terminal::Remove(named) => {
            let id = server.terminal(&named.name)?;
            return server.remove(app, "terminals", id);
        }
    };
    show(app, &record, &COLUMNS, row)
}

fn freeze(name: &str, frozen: bool, server: &mut Server, app: &mut App) -> Result<TerminalRecord, Error> {
    let id = server.terminal(name)?;
    if !frozen && server.is_asked_first() {
        let made = server.make(Collection::Unfreezings, Some(id.to_string()), None)?;
        server.changed(app);
        return serde_json::from_value(made).map_err(|_| Error::DaemonAnswer);
    }
    let act = if frozen { "freeze" } else { "unfreeze" };
    let record = server.post(&format!("terminals/{id}/{act}"), &serde_json::Value::Null)?;
    server.changed(app);
    Ok(record)
}

fn row(app: &App, record: &TerminalRecord) -> Vec<String> {
    let terminal = &record.terminal;
    vec![
        terminal.name.clone(),
        terminal.zone.clone().unwrap_or_default(),
        terminal.tags.join(", "),
        yes_no(app, terminal.gateway),
        yes_no(app, record.frozen),
        yes_no(app, terminal.revoked),
        app.word(&format!("protection-{}", record.protection)),
        record.leases.to_string(),
        record.reported.as_ref().map_or_else(String::new, |reported| coverage(app, reported)),
        record.reported.as_ref().map_or_else(String::new, |reported| reported.version.clone()),
        text::time(app, record.certificate_expires_at),
        record.last_seen_at.map_or_else(|| app.word("never"), |time| text::time(app, time)),
        record.id.to_string(),
    ]
}

/// The sealed share, and for how long the oldest plain file was known when the terminal told it.
fn coverage(app: &App, reported: &Reported) -> String {
    let Some(coverage) = reported.coverage else { return String::new() };
    let permille = coverage.permille();
    let share = format!("{}.{}", permille / 10, permille % 10);
    let age = coverage.plain_since.filter(|_| coverage.plain > 0);
    match age.map(|since| reported.at.duration_since(since).as_secs().max(0).unsigned_abs()) {
        None => app.text("terminal-sealed", &arguments! { share: share }),
        Some(age) => {
            let (plain, age) = (text::grouped(coverage.plain), text::duration(app, age));
            app.text("terminal-sealed-but", &arguments! { share: share, plain: plain, age: age })
        }
    }
}

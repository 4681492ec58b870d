//! `admin lease`: deciding on leases, and the ledger of what was taken along.

use super::server::{Server, kebab, show, show_list};
use crate::app::App;
use crate::args::lease::{AdminLease, AdminLeaseEnd, AdminLeaseList};
use crate::arguments;
use crate::commands::lease::{opens, request, state};
use crate::commands::text;
use crate::error::Error;
use tobari_core::proto::lease::{
    LeaseEnding, LeaseIssue, LeaseRecord, LeaseState, LedgerEntry, OfflineAct, OfflineRecord,
};
use tobari_core::proto::problem::ProblemCode;

const COLUMNS: [&str; 10] =
    ["lease", "state", "login", "terminal", "from", "until", "opened", "rights", "files", "reason"];
const LEDGER_COLUMNS: [&str; 8] =
    ["login", "terminal", "lease", "state", "time", "act", "file-name", "reason"];

pub(super) fn run(args: AdminLease, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let record: LeaseRecord = match args {
        AdminLease::List(filter) => {
            let ids = server_ids(server, &filter)?;
            let leases: Vec<LeaseRecord> = server.get(&path("", &filter, ids))?;
            return show_list(app, "leases", &leases, &COLUMNS, row);
        }
        AdminLease::Ledger(filter) => {
            let ids = server_ids(server, &filter)?;
            let entries: Vec<LedgerEntry> = server.get(&path("/ledger", &filter, ids))?;
            return ledger(&entries, app);
        }
        AdminLease::Show(named) => {
            let id = server.lease(&named.lease, None)?;
            let record: LeaseRecord = server.get(&format!("/v1/admin/leases/{id}"))?;
            show(app, &record, &COLUMNS, row)?;
            if app.settings.json {
                return Ok(());
            }
            return show_list(app, "files", &record.files, &["file-name", "rights", "file"], |_, file| {
                vec![file.name.clone().unwrap_or_default(), file.rights.to_string(), file.file.to_string()]
            });
        }
        AdminLease::Approve(named) => {
            decide(server, &named.lease, LeaseState::Requested, "approve", &serde_json::json!({}))?
        }
        AdminLease::Refuse(args) => end(server, args, LeaseState::Requested, "refuse")?,
        AdminLease::Revoke(args) => {
            let record = end(server, args, LeaseState::Issued, "revoke")?;
            server.changed(app);
            record
        }
        AdminLease::Issue(args) => {
            let lease = request(&args.what, app)?;
            let terminal = match &args.terminal {
                Some(typed) => server.terminal(typed)?,
                None => server.this_terminal()?,
            };
            let issue = LeaseIssue { person: server.person(&args.person)?, terminal, lease };
            server.post("leases", &issue)?
        }
    };
    show(app, &record, &COLUMNS, row)
}

fn end(
    server: &mut Server,
    args: AdminLeaseEnd,
    before: LeaseState,
    verb: &str,
) -> Result<LeaseRecord, Error> {
    decide(server, &args.lease, before, verb, &LeaseEnding { reason: args.reason })
}

/// Moves a lease on from the state `before`. Where it is in another one, the error names that in its field.
fn decide(
    server: &mut Server,
    typed: &str,
    before: LeaseState,
    verb: &str,
    body: &impl serde::Serialize,
) -> Result<LeaseRecord, Error> {
    let id = server.lease(typed, Some(before))?;
    let mut decided = server.post(&format!("leases/{id}/{verb}"), body);
    if let Err(Error::Problem { problem, .. }) = &mut decided
        && problem.code == ProblemCode::Conflict
        && problem.field.as_deref() == Some("lease")
    {
        let record: LeaseRecord = server.get(&format!("/v1/admin/leases/{id}"))?;
        problem.field = Some(format!("lease-is-{}", kebab(&record.state)));
    }
    decided
}

fn server_ids(server: &mut Server, filter: &AdminLeaseList) -> Result<Vec<String>, Error> {
    let mut parts = Vec::new();
    if let Some(typed) = &filter.person {
        parts.push(format!("person={}", server.person(typed)?));
    }
    if let Some(typed) = &filter.terminal {
        parts.push(format!("terminal={}", server.terminal(typed)?));
    }
    Ok(parts)
}

fn path(below: &str, filter: &AdminLeaseList, mut parts: Vec<String>) -> String {
    if let Some(state) = filter.state {
        parts.push(format!("state={}", kebab(&LeaseState::from(state))));
    }
    let query = if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) };
    format!("/v1/admin/leases{below}{query}")
}

fn row(app: &App, record: &LeaseRecord) -> Vec<String> {
    vec![
        record.id.to_string(),
        state(app, record),
        record.login.clone(),
        record.terminal_name.clone(),
        text::time(app, record.term.starts_at),
        text::time(app, record.term.ends_at),
        format!("{} / {}", record.opened, opens(app, record.opens)),
        record.rights.to_string(),
        record.file_count.to_string(),
        record.reason.clone(),
    ]
}

/// One line for each lease and, below it, for each thing that was done with it.
fn ledger(entries: &[LedgerEntry], app: &mut App) -> Result<(), Error> {
    if app.settings.json {
        return app.json(&serde_json::json!({ "ledger": entries }));
    }
    let mut lines: Vec<(&LedgerEntry, Option<&OfflineRecord>)> = Vec::new();
    for entry in entries {
        lines.push((entry, None));
        lines.extend(entry.records.iter().map(|record| (entry, Some(record))));
    }
    let cells: Vec<Vec<String>> = lines.into_iter().map(|(entry, record)| line(app, entry, record)).collect();
    if cells.is_empty() {
        app.note("lease-ledger-empty", &arguments! {});
    }
    show_list(app, "ledger", &cells, &LEDGER_COLUMNS, |_, cells| cells.clone())
}

fn line(app: &App, entry: &LedgerEntry, record: Option<&OfflineRecord>) -> Vec<String> {
    let lease = &entry.lease;
    let (time, act, file) = match record {
        None => {
            let names: Vec<&str> = lease.files.iter().filter_map(|file| file.name.as_deref()).collect();
            let time = lease.decided_at.unwrap_or(lease.requested_at);
            (time, app.word("ledger-issued"), names.join(", "))
        }
        Some(record) => {
            let act = match record.act {
                OfflineAct::Open => app.text(
                    "ledger-opened",
                    &arguments! { right: record.right.map(|right| right.to_string()).unwrap_or_default() },
                ),
                OfflineAct::Return => app.word("ledger-returned"),
            };
            (record.time, act, record.file_name.clone().unwrap_or_default())
        }
    };
    let reason = if record.is_none() { lease.reason.clone() } else { String::new() };
    vec![
        lease.login.clone(),
        lease.terminal_name.clone(),
        lease.id.to_string(),
        state(app, lease),
        text::time(app, time),
        act,
        file,
        reason,
    ]
}

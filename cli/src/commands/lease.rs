//! `lease`: what a person takes along without the key server.

use super::admin::server::{show, show_list};
use super::text;
use crate::app::App;
use crate::args::lease::{Lease, LeaseNamed, LeaseRefill as RefillArgs, LeaseWhat};
use crate::arguments;
use crate::client::Client;
use crate::error::{Action, Error};
use crate::files;
use crate::files::walk::{Met, walk};
use jiff::{SignedDuration, Timestamp};
use std::fs::File;
use std::path::{Path, PathBuf};
use tobari_core::envelope::Header;
use tobari_core::ids::{LabelId, LeaseId};
use tobari_core::policy::fold_name;
use tobari_core::proto::base64::Base64;
use tobari_core::proto::control::{Answer, HeldLease, Request};
use tobari_core::proto::lease::{LeaseItem, LeaseRecord, LeaseRefill, LeaseRequest, Opens, Term};

const COLUMNS: [&str; 8] = ["lease", "state", "from", "until", "opened", "rights", "files", "reason"];
const HELD_COLUMNS: [&str; 5] = ["file-name", "rights", "until", "file", "usable"];

/// `tobari lease`.
pub(super) fn run(args: Lease, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    match args {
        Lease::Request(args) => {
            let request = request(&args.what, app)?;
            let body = serde_json::to_value(&request).map_err(|_| Error::DaemonAnswer)?;
            let record: LeaseRecord = understood(client.forward("POST", "/v1/leases", Some(body))?)?;
            show(app, &record, &COLUMNS, row)?;
            app.note("lease-requested", &arguments! { lease: record.id });
            Ok(())
        }
        Lease::List => list(&mut client, app),
        Lease::Show(named) => {
            let (held, ..) = held(client.ask(&Request::Leases, &[])?, app)?;
            let id = one_lease(&named.lease, held.iter().map(|lease| lease.id))?;
            let lease = held.into_iter().find(|lease| lease.id == id).ok_or(Error::DaemonAnswer)?;
            show_held(&lease, app)
        }
        Lease::Refill(args) => refill(&args, &mut client, app),
        Lease::Return(named) => give_back(&named, &mut client, app),
    }
}

/// What the key server knows of the person's leases, and what this terminal holds; without the key server the latter alone.
fn list(client: &mut Client, app: &mut App) -> Result<(), Error> {
    let (held, unreported, problem) = held(client.ask(&Request::Leases, &[])?, app)?;
    let known = match &problem {
        Some(_) => None,
        None => Some(understood::<Vec<LeaseRecord>>(client.forward("GET", "/v1/leases", None)?)?),
    };
    if app.settings.json {
        return app.json(&serde_json::json!({
            "leases": known.unwrap_or_default(), "held": held, "unreported": unreported, "problem": problem,
        }));
    }
    match known {
        Some(known) => show_list(app, "leases", &known, &COLUMNS, row)?,
        None => {
            for lease in &held {
                show_held(lease, app)?;
            }
        }
    }
    if unreported > 0 {
        app.note("lease-unreported", &arguments! { count: unreported });
    }
    Ok(())
}

fn give_back(named: &LeaseNamed, client: &mut Client, app: &mut App) -> Result<(), Error> {
    let (leases, ..) = held(client.ask(&Request::Leases, &[])?, app)?;
    let lease = one_lease(&named.lease, leases.iter().map(|lease| lease.id))?;
    let (_, unreported, problem) = held(client.ask(&Request::LeaseReturn { lease }, &[])?, app)?;
    if app.settings.json {
        return app
            .json(&serde_json::json!({ "returned": lease, "unreported": unreported, "problem": problem }));
    }
    let said = if unreported == 0 { "lease-returned" } else { "lease-returned-later" };
    app.note(said, &arguments! { lease: lease });
    Ok(())
}

/// Gives a lease the files of its label that there are now, and fetches it.
fn refill(args: &RefillArgs, client: &mut Client, app: &mut App) -> Result<(), Error> {
    let Answer::Leases { leases, problem, .. } = client.ask(&Request::Leases, &[])? else {
        return Err(Error::DaemonAnswer);
    };
    if let Some(problem) = problem {
        return Err(problem.into());
    }
    let (lease, label) = of_label(args.lease.as_deref(), &leases)?;
    let mut files = items(&args.paths, true, app)?;
    only_of(&label.to_string(), &mut files)?;
    if files.is_empty() {
        return Err(nothing_to_lend());
    }
    let body = serde_json::to_value(LeaseRefill { files }).map_err(|_| Error::DaemonAnswer)?;
    let path = format!("/v1/leases/{lease}/refill");
    let record: LeaseRecord = understood(client.forward("POST", &path, Some(body))?)?;
    let (leases, ..) = held(client.ask(&Request::Leases, &[])?, app)?;
    show(app, &record, &COLUMNS, row)?;
    let here = |held: &HeldLease| held.id == lease && Some(held.issued_at) >= record.refilled_at;
    let said = if leases.iter().any(here) { "lease-refilled" } else { "lease-refilled-later" };
    app.note(said, &arguments! { lease: lease, count: record.file_count });
    Ok(())
}

/// The lease of a label that is meant, and its label.
fn of_label(typed: Option<&str>, held: &[HeldLease]) -> Result<(LeaseId, LabelId), Error> {
    let usage = |what, detail: String| Err(Error::Usage { what, detail });
    if let Some(typed) = typed {
        let id = one_lease(typed, held.iter().map(|lease| lease.id))?;
        let label = held.iter().find(|lease| lease.id == id).and_then(|lease| lease.label);
        return label.map_or_else(|| usage("lease-of-files", id.to_string()), |label| Ok((id, label)));
    }
    let all: Vec<_> = held.iter().filter_map(|lease| Some((lease.id, lease.label?))).collect();
    match all.as_slice() {
        [one] => Ok(*one),
        [] => usage("no-lease-of-label", String::new()),
        several => {
            let ids: Vec<String> = several.iter().map(|(id, _)| id.to_string()).collect();
            usage("which-lease", ids.join(", "))
        }
    }
}

type HeldHere = (Vec<HeldLease>, u64, Option<tobari_core::proto::problem::Problem>);

fn held(answer: Answer, app: &mut App) -> Result<HeldHere, Error> {
    let Answer::Leases { leases, unreported, problem } = answer else { return Err(Error::DaemonAnswer) };
    if let Some(problem) = &problem {
        let why = Error::from(problem.clone()).message(app.settings.language);
        app.warn("warning-lease-exchange", &arguments! { why: why });
    }
    Ok((leases, unreported, problem))
}

fn show_held(lease: &HeldLease, app: &mut App) -> Result<(), Error> {
    if app.settings.json {
        return app.json(lease);
    }
    let until = text::time(app, lease.term.ends_at);
    let title = app.text(
        "lease-held",
        &arguments! { lease: lease.id, until: until, used: lease.used, opens: opens(app, lease.opens) },
    );
    app.line(&title)?;
    let usable = lease.why_not.clone().unwrap_or_else(|| app.word("yes"));
    show_list(app, "files", &lease.files, &HELD_COLUMNS, |app, file| {
        vec![
            file.name.clone().unwrap_or_default(),
            file.rights.to_string(),
            text::time(app, file.ends_at),
            file.file.to_string(),
            usable.clone(),
        ]
    })
}

fn row(app: &App, record: &LeaseRecord) -> Vec<String> {
    vec![
        record.id.to_string(),
        state(app, record),
        text::time(app, record.term.starts_at),
        text::time(app, record.term.ends_at),
        format!("{} / {}", record.opened, opens(app, record.opens)),
        record.rights.to_string(),
        record.file_count.to_string(),
        record.reason.clone(),
    ]
}

/// The state in words.
pub(super) fn state(app: &App, record: &LeaseRecord) -> String {
    app.word(&format!("lease-state-{}", super::admin::server::kebab(&record.state)))
}

/// How often, in words.
pub(super) fn opens(app: &App, opens: Opens) -> String {
    match opens {
        Opens::Unlimited => app.word("lease-unlimited"),
        Opens::AtMost { count } => count.to_string(),
    }
}

/// The one lease whose id is, or begins with, `typed`.
pub(super) fn one_lease(typed: &str, leases: impl Iterator<Item = LeaseId>) -> Result<LeaseId, Error> {
    let all: Vec<LeaseId> = leases.collect();
    let fitting: Vec<LeaseId> =
        all.iter().copied().filter(|id| !typed.is_empty() && id.to_string().starts_with(typed)).collect();
    let known = |ids: &[LeaseId]| ids.iter().map(ToString::to_string).collect();
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => Err(Error::UnknownName { kind: "lease", name: typed.to_owned(), known: known(&all) }),
        several => Err(Error::AmbiguousName { kind: "lease", name: typed.to_owned(), known: known(several) }),
    }
}

/// Reads the headers of what is to be lent.
pub(super) fn request(what: &LeaseWhat, app: &mut App) -> Result<LeaseRequest, Error> {
    let mut items = items(&what.paths, what.label.is_some(), app)?;
    let label = what.label.as_ref().map(|label| only_of(label, &mut items)).transpose()?.flatten();
    if items.is_empty() {
        return Err(nothing_to_lend());
    }
    let now = app.console.clock.now();
    let starts_at = what.from.unwrap_or(now);
    let ends_at = match (what.until, what.days) {
        (Some(until), _) => until,
        (None, days) => end_after(starts_at, days.unwrap_or(1))?,
    };
    let opens = what.opens.map_or(Opens::Unlimited, |count| Opens::AtMost { count });
    Ok(LeaseRequest {
        files: items,
        rights: what.rights,
        term: Term { starts_at, ends_at },
        opens,
        reason: what.reason.clone(),
        label,
    })
}

/// The headers of what is named; of a label, where nothing is named, of what is in the designated folders.
fn items(paths: &[PathBuf], of_label: bool, app: &mut App) -> Result<Vec<LeaseItem>, Error> {
    let mut items = Vec::new();
    let folders = if of_label && paths.is_empty() { designated(app)? } else { Vec::new() };
    for path in paths.iter().chain(&folders) {
        if path.is_dir() {
            below(path, &mut items, app)?;
        } else {
            items.push(item(&files::open_sealed(path)?, path)?);
        }
    }
    Ok(items)
}

fn nothing_to_lend() -> Error {
    Error::Usage { what: "nothing-to-lend", detail: String::new() }
}

/// The designated folders of this terminal.
fn designated(app: &mut App) -> Result<Vec<PathBuf>, Error> {
    let answer = app.client()?.ask(&Request::Status { unsealed: false }, &[])?;
    let Answer::Status { status } = answer else { return Err(Error::DaemonAnswer) };
    Ok(status.folders.into_iter().map(|folder| PathBuf::from(folder.folder.path)).collect())
}

/// Leaves the files of one label, by its name or id, and gives its id; none when no file has it.
fn only_of(label: &str, items: &mut Vec<LeaseItem>) -> Result<Option<LabelId>, Error> {
    let typed = fold_name(label);
    let mut ids: Vec<LabelId> = Vec::new();
    items.retain(|item| {
        let Ok(header) = Header::parse(item.header.as_ref()) else { return false };
        let policy = header.policy();
        let fits = fold_name(&policy.label_name) == typed || policy.label.to_string() == label;
        if fits && !ids.contains(&policy.label) {
            ids.push(policy.label);
        }
        fits
    });
    match ids.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => Err(Error::AmbiguousName {
            kind: "label",
            name: label.to_owned(),
            known: several.iter().map(ToString::to_string).collect(),
        }),
    }
}

fn end_after(start: Timestamp, days: u16) -> Result<Timestamp, Error> {
    start
        .checked_add(SignedDuration::from_hours(24 * i64::from(days)))
        .map_err(|error| Error::Usage { what: "command-line", detail: error.to_string() })
}

/// All sealed files below a folder.
fn below(folder: &Path, items: &mut Vec<LeaseItem>, app: &mut App) -> Result<(), Error> {
    let mut found = Vec::new();
    let mut left_out = Vec::new();
    walk(folder, &mut |met| match met {
        Met::File(path, _) => found.push(path),
        Met::Special(path) | Met::Unreadable(path, _) => left_out.push(path),
    });
    for path in found {
        let file = files::open_found(&path)?;
        if files::is_sealed(&file, &path)? {
            items.push(item(&file, &path)?);
        } else {
            left_out.push(path);
        }
    }
    for path in left_out {
        app.warn("warning-not-lent", &arguments! { path: text::path(&path) });
    }
    Ok(())
}

fn item(file: &File, path: &Path) -> Result<LeaseItem, Error> {
    let header = Header::read(file).map_err(|error| {
        Action::Read.failed(path)(std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()))
    })?;
    Ok(LeaseItem {
        header: Base64(header.wire_bytes().to_vec()),
        name: Some(path.to_string_lossy().into_owned()),
    })
}

fn understood<T: serde::de::DeserializeOwned>(body: serde_json::Value) -> Result<T, Error> {
    serde_json::from_value(body).map_err(|_| Error::DaemonAnswer)
}

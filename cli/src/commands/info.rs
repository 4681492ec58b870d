//! `info`: what a file is, and what the caller may do with it and why.

use super::text;
use crate::app::App;
use crate::args::Files;
use crate::arguments;
use crate::client::Client;
use crate::error::Error;
use crate::files;
use std::os::fd::AsFd as _;
use std::path::Path;
use tobari_core::policy::Rights;
use tobari_core::proto::api::{DecisionOutcome, Reason};
use tobari_core::proto::control::{Answer, FileInfo, RecipientInfo, Request, SealedInfo};
use tobari_core::proto::problem::Problem;

/// `tobari info`.
pub(super) fn run(args: &Files, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    let mut found = Vec::new();
    for path in &args.files {
        match ask(&mut client, path) {
            Ok(info) if app.settings.json => found.push(info),
            Ok(info) => {
                let text = describe(app, path, &info);
                app.line(&text)?;
            }
            Err(error) => app.report(&error),
        }
    }
    if found.is_empty() { Ok(()) } else { app.json(&serde_json::json!({ "files": found })) }
}

fn ask(client: &mut Client, path: &Path) -> Result<FileInfo, Error> {
    let file = files::open_regular(path)?;
    let request = Request::Info { name: path.to_string_lossy().into_owned() };
    match client.ask(&request, &[file.as_fd()]).map_err(|error| error.about(path))? {
        Answer::Info { info } => Ok(*info),
        _ => Err(Error::DaemonAnswer),
    }
}

fn describe(app: &App, path: &Path, info: &FileInfo) -> String {
    let name = text::path(path);
    let Some(sealed) = &info.sealed else {
        let size = text::grouped(info.stored_size);
        return app.text("info-not-sealed", &arguments! { path: name, size: size });
    };
    let row = |name: &str, value: String| vec![app.word(name), value];
    // What the decision says of names is current; what the header says is from the day of sealing.
    let (label, owner) = names(app, sealed);
    let size = app.text(
        "info-size-value",
        &arguments! { size: text::grouped(sealed.plaintext_size), stored: text::grouped(info.stored_size) },
    );
    let label = app
        .text("info-label-value", &arguments! { label: text::printable(&label), level: sealed.label_level });
    let sealed_at = app.text(
        "info-sealed-value",
        &arguments! { time: text::time(app, sealed.sealed_at), terminal: sealed.sealer },
    );
    let recipients: Vec<String> = sealed.recipients.iter().map(|one| recipient(app, one)).collect();
    let mut rows = vec![
        row("info-label", label),
        row("info-owner-group", owner.map_or_else(|| app.word("none"), |owner| text::printable(&owner))),
        row("info-size", size),
        row("info-sealed", sealed_at),
        row("info-recipients", recipients.join(", ")),
        row("info-file", sealed.file.to_string()),
    ];
    let (may, reasons) = decision(app, sealed);
    rows.push(row("info-may", may));
    let mut lines = vec![name, text::table(None, rows, 2)];
    lines.extend(reasons.iter().map(|reason| format!("    {}", text::printable(&app.reason(reason)))));
    lines.join("\n")
}

fn names(app: &App, sealed: &SealedInfo) -> (String, Option<String>) {
    let unknown = |id: &dyn std::fmt::Display| app.text("info-unknown-group", &arguments! { id: id });
    match &sealed.decision {
        Some(DecisionOutcome::Decided { label_name, owner_group, owner_group_name, .. }) => {
            let owner =
                owner_group.as_ref().map(|id| owner_group_name.clone().unwrap_or_else(|| unknown(id)));
            (label_name.clone(), owner)
        }
        _ => {
            let owner = sealed.owner_group.as_ref();
            let owner = owner.map(|(id, name)| name.clone().unwrap_or_else(|| unknown(id)));
            (sealed.label_name.clone(), owner)
        }
    }
}

fn recipient(app: &App, recipient: &RecipientInfo) -> String {
    let role = match recipient.role.as_deref() {
        Some("label") => "info-recipient-label",
        Some("recovery") => "info-recipient-recovery",
        _ => "info-recipient-unknown",
    };
    let id: String = recipient.key_id.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    app.text(role, &arguments! { kind: text::printable(&recipient.kind), id: id })
}

fn decision<'a>(app: &App, sealed: &'a SealedInfo) -> (String, &'a [Reason]) {
    let rights = |rights: &Rights| match rights.is_empty() {
        true => app.word("info-may-nothing"),
        false => rights.to_string(),
    };
    match (&sealed.decision, &sealed.decision_problem) {
        (Some(DecisionOutcome::Decided { rights: granted, reasons, .. }), _) => (rights(granted), reasons),
        (Some(DecisionOutcome::Refused(refusal)), _) => {
            let code = crate::error::problem_name(refusal.code);
            let problem = Problem::local(refusal.code, refusal.detail.clone());
            (unknown(app, problem, &code), &refusal.reasons)
        }
        (None, Some(problem)) => {
            let code = crate::error::problem_name(problem.code);
            (unknown(app, problem.clone(), &code), &[])
        }
        (None, None) => (app.word("info-may-unasked"), &[]),
    }
}

fn unknown(app: &App, problem: Problem, code: &str) -> String {
    let error = Error::from(problem);
    let (why, hint) = (error.message(app.settings.language), error.hint(app.settings.language));
    text::printable(&app.text("info-may-unknown", &arguments! { why: why, hint: hint, code: code }))
}

//! `admin explain`, `policy` and `step-up`, and how a comparison is shown.

use super::server::{Server, show, show_list, yes_no};
use crate::app::App;
use crate::args::policy::{Explain, History, Policy, StepUp};
use crate::arguments;
use crate::commands::text;
use crate::error::Error;
use crate::files;
use std::os::fd::AsFd as _;
use std::path::Path;
use tobari_core::ids::{GroupId, LabelId};
use tobari_core::policy::{Case, OwnerCase};
use tobari_core::proto::control::{Answer, Request};
use tobari_core::proto::policy::{
    ChangeInput, Collection, DiffRow, ExplainRequest, Explanation, LeaseLoss, LeaseLossPart, LeaseLosses,
    PolicyDiff, PolicyStatus, PolicyVersion, SecondPersonInput, StepUpRequest, SteppedUp, UnsealLimitInput,
    UnsealWindowInput, Widening,
};

/// `tobari admin explain`.
pub(super) fn explain(args: Explain, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let person = server.person(&args.person)?;
    let path = Path::new(&args.subject);
    let typed = args.subject.to_str();
    // What is a file is meant as one; a label of that name is named by its id.
    let (label, owner) = match typed {
        Some(typed) if !path.exists() => (server.label(typed)?, None),
        _ => of_file(path, app)?,
    };
    let owner_group = match args.group {
        Some(group) => Some(server.group(&group)?),
        None => owner,
    };
    let asked = ExplainRequest {
        person,
        label,
        owner_group,
        right: args.right,
        zone: args.zone,
        terminal_tags: args.tags,
        second_factor: args.second_factor,
        protection: args.protection,
        at: None,
    };
    let told: Explanation = server.ask("explain", &asked)?;
    if app.settings.json {
        return app.json(&told);
    }
    let arguments = arguments! {
        login: text::printable(&told.login), label: text::printable(&told.label_name), right: args.right,
    };
    let id = if told.allowed { "explain-allowed" } else { "explain-refused" };
    let mut lines = vec![app.text(id, &arguments)];
    if told.disabled {
        lines.push(format!("  {}", app.word("explain-disabled")));
    }
    if told.reasons.is_empty() {
        lines.push(format!("  {}", app.word("explain-no-rule")));
    }
    lines.extend(told.reasons.iter().map(|reason| format!("  {}", text::printable(&app.reason(reason)))));
    app.line(&lines.join("\n"))
}

/// Label and owner group, as the file's header says.
fn of_file(path: &Path, app: &App) -> Result<(LabelId, Option<GroupId>), Error> {
    let file = files::open_regular(path)?;
    let request = Request::Info { name: path.to_string_lossy().into_owned() };
    let answer = app.client()?.ask(&request, &[file.as_fd()]).map_err(|error| error.about(path))?;
    let Answer::Info { info } = answer else { return Err(Error::DaemonAnswer) };
    let sealed = info.sealed.ok_or_else(|| Error::NotSealed(path.to_owned()))?;
    Ok((sealed.label, sealed.owner_group.map(|(group, _)| group)))
}

/// `tobari admin policy`, but for `diff`, which is the command that it names.
pub(super) fn run(args: Policy, server: &mut Server, app: &mut App) -> Result<(), Error> {
    match args {
        Policy::Show | Policy::Diff(_) => {
            let status: PolicyStatus = server.get("/v1/admin/policy")?;
            let columns = ["version", "second-person", "approvers", "unseal-files", "unseal-windows"];
            show(app, &status, &columns, |app, status| {
                let needed = yes_no(app, status.second_person);
                let files =
                    status.unseal_files.map_or_else(|| app.word("unlimited"), |files| files.to_string());
                let windows: Vec<String> = status
                    .unseal_windows
                    .iter()
                    .map(|one| format!("{} {} {}", one.login, one.files, text::time(app, one.ends_at)))
                    .collect();
                let approvers = status.approvers.to_string();
                vec![status.version.to_string(), needed, approvers, files, windows.join("; ")]
            })
        }
        Policy::History(args) => history(&args, server, app),
        Policy::Restore(args) => {
            let version = args.number.to_string();
            server.make(Collection::Versions, Some(version.clone()), None)?;
            server.changed(app);
            app.note("policy-restored", &arguments! { version: version });
            Ok(())
        }
        Policy::SecondPerson(args) => {
            let input = serde_json::to_value(SecondPersonInput { needed: args.needed })
                .map_err(|_| Error::DaemonAnswer)?;
            server.make(Collection::SecondPerson, None, Some(input))?;
            app.note(if args.needed { "second-person-on" } else { "second-person-off" }, &arguments! {});
            Ok(())
        }
        Policy::UnsealLimit(args) => {
            let input = serde_json::to_value(UnsealLimitInput { files: args.files.0 })
                .map_err(|_| Error::DaemonAnswer)?;
            server.make(Collection::UnsealLimit, None, Some(input))?;
            let files = args.files.0.map_or_else(|| app.word("unlimited"), |files| files.to_string());
            app.note("unseal-limit-set", &arguments! { files: files });
            Ok(())
        }
        Policy::UnsealWindow(args) => {
            let person = server.person(&args.person)?;
            let input = UnsealWindowInput { files: args.files, minutes: args.minutes };
            let input = serde_json::to_value(input).map_err(|_| Error::DaemonAnswer)?;
            // Without --request the key server says that it takes one.
            server.make(Collection::UnsealWindows, Some(person.to_string()), Some(input)).map(|_| ())
        }
    }
}

fn history(args: &History, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let before = args.before.map(|before| format!("&before={before}")).unwrap_or_default();
    let path = format!("/v1/admin/policy/versions?limit={}{before}", args.limit);
    let versions: Vec<PolicyVersion> = server.get(&path)?;
    let columns = ["version", "time", "login", "act", "object", "reason", "detail"];
    show_list(app, "versions", &versions, &columns, |app, one| {
        vec![
            one.version.to_string(),
            text::time(app, one.at),
            one.login.clone(),
            one.act.clone(),
            one.object.clone(),
            one.reason.clone(),
            one.detail.clone(),
        ]
    })
}

/// `tobari admin step-up`.
pub(super) fn step_up(args: StepUp, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let totp = match args.totp {
        Some(totp) => totp,
        None => app.ask_secret("prompt-fresh-totp")?.to_string(),
    };
    let until: SteppedUp = server.ask("step-up", &StepUpRequest { totp })?;
    if app.settings.json {
        return app.json(&until);
    }
    let time = text::time(app, until.until);
    app.note("stepped-up", &arguments! { time: time });
    Ok(())
}

/// Shows a comparison.
pub(super) fn show_diff(app: &mut App, diff: &PolicyDiff) -> Result<(), Error> {
    if app.settings.json {
        return app.json(diff);
    }
    let text = diff_text(app, diff);
    app.line(&text)
}

/// A comparison in words.
pub(super) fn diff_text(app: &App, diff: &PolicyDiff) -> String {
    let mut lines = vec![app.text("diff-version", &arguments! { version: diff.policy_version })];
    let unknown = diff.widens.contains(&Widening::Unknown);
    if unknown {
        lines.push(app.word("diff-unknown"));
    } else if diff.gained.is_empty() && diff.lost.is_empty() && diff.leases.total == 0 {
        lines.push(app.word("diff-nothing"));
    } else if !diff.gained.is_empty() || !diff.lost.is_empty() {
        let mut rows: Vec<Vec<String>> = diff.gained.iter().map(|row| line(app, "+", row)).collect();
        rows.extend(diff.lost.iter().map(|row| line(app, "-", row)));
        let names = ["", "group", "post", "login", "label", "rights", "zone", "cases"];
        let header = names
            .iter()
            .map(|name| if name.is_empty() { String::new() } else { app.word(&format!("column-{name}")) });
        lines.push(text::table(Some(header.collect()), rows, 0));
        let listed = (diff.gained.len() + diff.lost.len()) as u64;
        let all = diff.gained_total + diff.lost_total;
        if all > listed {
            lines.push(app.text("diff-more", &arguments! { count: all - listed }));
        }
    }
    if diff.leases.total > 0 {
        lines.extend(lease_losses(app, &diff.leases));
    }
    for broken in &diff.breaks {
        let arguments = arguments! {
            name: broken.name, group: broken.group_name, post: broken.post_name, right: broken.right,
            label: broken.label_name,
        };
        lines.push(text::printable(&app.text("diff-breaks", &arguments)));
    }
    if diff.needs_second_person {
        let why: Vec<String> = diff
            .widens
            .iter()
            .map(|why| app.word(&format!("widens-{}", super::server::kebab(why))))
            .collect();
        lines.push(app.text("diff-second-person", &arguments! { why: why.join(", ") }));
    }
    lines.join("\n")
}

/// The leases that are out and that the change takes back or narrows, a line for each part.
fn lease_losses(app: &App, losses: &LeaseLosses) -> Vec<String> {
    let LeaseLosses { total, ended, first } = losses;
    let narrowed = total.saturating_sub(*ended);
    let mut lines = vec![app.text("diff-leases", &arguments! { ended: *ended, narrowed: narrowed })];
    let names = ["lease", "login", "terminal", "label", "group", "lost", "left", "until"];
    let header = names.iter().map(|name| app.word(&format!("column-{name}"))).collect();
    let mut rows = Vec::new();
    for loss in first {
        rows.extend(loss.parts.iter().map(|part| lease_part(app, loss, part)));
        let more = loss.parts_total.saturating_sub(loss.parts.len() as u64);
        if more > 0 {
            let words = app.text("diff-lease-parts", &arguments! { count: more });
            let (login, terminal) = (text::printable(&loss.login), text::printable(&loss.terminal_name));
            rows.push(vec![loss.lease.to_string(), login, terminal, words]);
        }
    }
    lines.push(text::table(Some(header), rows, 0));
    let more = total.saturating_sub(first.len() as u64);
    if more > 0 {
        lines.push(app.text("diff-leases-more", &arguments! { count: more }));
    }
    lines
}

fn lease_part(app: &App, loss: &LeaseLoss, part: &LeaseLossPart) -> Vec<String> {
    let nothing = part.left.is_empty();
    let left = if nothing { app.word("none") } else { part.left.to_string() };
    let until = if nothing { String::new() } else { text::time(app, part.until) };
    let cells = [
        loss.lease.to_string(),
        loss.login.clone(),
        loss.terminal_name.clone(),
        part.label_name.clone(),
        part.group_name.clone().unwrap_or_default(),
        part.lost.to_string(),
        left,
        until,
    ];
    cells.iter().map(|cell| text::printable(cell)).collect()
}

fn line(app: &App, sign: &str, row: &DiffRow) -> Vec<String> {
    let cases: Vec<String> = row.cases.iter().map(|case| case_text(app, case)).collect();
    let cells = [
        sign.to_owned(),
        row.group_name.clone(),
        row.post_name.clone(),
        row.login.clone().unwrap_or_default(),
        row.label_name.clone(),
        row.rights.to_string(),
        row.zone.clone().unwrap_or_else(|| app.word("diff-any-zone")),
        cases.join("; "),
    ];
    cells.iter().map(|cell| text::printable(cell)).collect()
}

fn case_text(app: &App, case: &Case) -> String {
    let mut parts = Vec::new();
    parts.extend(case.owner.map(|owner| match owner {
        OwnerCase::Own => app.word("case-own"),
        OwnerCase::Above => app.word("case-above"),
        OwnerCase::Group { group } => app.text("case-group", &arguments! { group: group }),
        OwnerCase::Other => app.word("case-other"),
    }));
    parts.extend(
        case.second_factor
            .map(|with| app.word(if with { "case-with-factor" } else { "case-without-factor" })),
    );
    parts.extend(case.protection.map(|protection| {
        let protection = app.word(&format!("protection-{protection}"));
        app.text("case-protection", &arguments! { protection: protection })
    }));
    parts.extend(case.terminal_tags.as_ref().map(|tags| {
        let tags = if tags.is_empty() { app.word("none") } else { tags.join(", ") };
        app.text("case-tags", &arguments! { tags: tags })
    }));
    parts.extend(case.from.map(|from| app.text("case-from", &arguments! { time: text::time(app, from) })));
    parts.join(", ")
}

/// The change that a request of the administration API stands for, if it can be asked beforehand.
pub(super) fn as_change(method: &str, path: &str) -> Option<ChangeInput> {
    let (collection, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let id = |id: &str| Some(id.to_owned());
    let (collection, id) = match (collection, rest, method) {
        ("labels", Some(rest), "POST") => match rest.strip_suffix("/retire") {
            Some(label) => (Collection::RetiredKeys, id(label)),
            None => (Collection::LabelKeys, id(rest.strip_suffix("/rotate")?)),
        },
        ("revocations", Some("lift"), "POST") => (Collection::RevocationLifts, None),
        ("leases", None, "POST") => (Collection::Leases, None),
        ("leases", Some(rest), "POST") => (Collection::Leases, id(rest.strip_suffix("/approve")?)),
        ("presets", Some(name), "POST") => (Collection::Presets, id(name)),
        ("labels", rest, _) => (Collection::Labels, rest.and_then(id)),
        ("groups", rest, _) => (Collection::Groups, rest.and_then(id)),
        ("posts", rest, _) => (Collection::Posts, rest.and_then(id)),
        ("people", rest, _) => (Collection::People, rest.and_then(id)),
        ("rules", rest, _) => (Collection::Rules, rest.and_then(id)),
        ("invariants", rest, _) => (Collection::Invariants, rest.and_then(id)),
        _ => return None,
    };
    Some(ChangeInput { collection, id, input: None, reason: String::new() })
}

//! `audit search`, `audit export` and `audit key`: the log over the key server. What is exported is what was hashed, byte for
//! byte; `commands/audit_verify.rs` checks it without anybody's help.

use super::server::Server;
use crate::app::App;
use crate::args::audit::{Export, Search};
use crate::arguments;
use crate::commands::text;
use crate::error::{Action, Error};
use crate::files;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use tobari_core::audit::{ExportEnd, ExportHead};
use tobari_core::envelope::Header;
use tobari_core::ids::{FileId, LabelId, PersonId};
use tobari_core::proto::admin::{AuditMatches, AuditPage, AuditProof, AuditRecord};

/// Records asked for at once.
const PAGE: u32 = 1000;

pub(super) fn key(server: &mut Server, app: &mut App) -> Result<(), Error> {
    let proof: AuditProof = server.get("/v1/admin/audit/checkpoint")?;
    if app.settings.json {
        return app.json(&json!({ "key": proof.key, "size": proof.size }));
    }
    app.line(&proof.key)
}

pub(super) fn search(args: &Search, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let query = query(args, server, app)?;
    let (mut records, mut after) = (Vec::new(), args.after);
    loop {
        let left = args.limit.saturating_sub(records.len() as u32).clamp(1, PAGE);
        let path = format!("/v1/admin/audit/search?after={after}&limit={left}{query}");
        let found: AuditMatches = server.get(&path)?;
        records.extend(found.records);
        // An answer that does not go on would be asked for again for ever.
        if found.end || found.searched_to <= after || records.len() as u32 >= args.limit {
            break;
        }
        after = found.searched_to;
    }
    if app.settings.json {
        let records: Vec<Value> = records.iter().map(super::audit::document).collect();
        return app.json(&json!({ "records": records }));
    }
    let names = Names::of(server, &records)?;
    let header = ["audit-number", "audit-time", "audit-act", "audit-person", "audit-object", "audit-more"]
        .map(|word| app.word(word));
    let rows = records.iter().map(|record| names.row(app, record)).collect();
    app.line(&text::table(Some(header.into()), rows, 0))
}

fn query(args: &Search, server: &mut Server, app: &App) -> Result<String, Error> {
    let mut query = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={value}"));
        }
    };
    add(
        "person",
        args.person.as_ref().map(|typed| server.person(typed)).transpose()?.map(|id| id.to_string()),
    );
    add("file", args.file.as_deref().map(file_id).transpose()?.map(|id| id.to_string()));
    add("label", args.label.as_ref().map(|typed| server.label(typed)).transpose()?.map(|id| id.to_string()));
    add(
        "terminal",
        args.terminal.as_ref().map(|typed| server.terminal(typed)).transpose()?.map(|id| id.to_string()),
    );
    add("since", args.since.as_ref().map(|typed| time(app, typed)).transpose()?);
    add("until", args.until.as_ref().map(|typed| time(app, typed)).transpose()?);
    if let Some(act) = &args.act {
        if !act.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
            return Err(Error::Usage { what: "audit-act", detail: act.clone() });
        }
        add("act", Some(act.clone()));
    }
    Ok(query)
}

/// A sealed file says its id itself.
fn file_id(typed: &Path) -> Result<FileId, Error> {
    if let Some(id) = typed.to_str().and_then(|text| text.parse().ok()) {
        return Ok(id);
    }
    let file = files::open_found(typed)?;
    Header::read(&file).map(|header| header.file_id()).map_err(|_| Error::NotSealed(typed.to_owned()))
}

/// A moment, or a day or time in the user's zone.
fn time(app: &App, typed: &str) -> Result<String, Error> {
    let unclear = || Error::Usage { what: "audit-time", detail: typed.to_owned() };
    if let Ok(time) = typed.parse::<Timestamp>() {
        return Ok(time.to_string());
    }
    let civil = typed.parse::<DateTime>().or_else(|_| typed.parse::<Date>().map(DateTime::from));
    let zoned = civil.map_err(|_| unclear())?.to_zoned(app.settings.time_zone()).map_err(|_| unclear())?;
    Ok(zoned.timestamp().to_string())
}

fn payload(record: &AuditRecord) -> Value {
    serde_json::from_slice(&record.payload.0).unwrap_or(Value::Null)
}

/// Names for the ids in records.
struct Names {
    people: HashMap<PersonId, String>,
    labels: HashMap<LabelId, String>,
}

impl Names {
    fn of(server: &mut Server, records: &[AuditRecord]) -> Result<Self, Error> {
        let person = |record: &AuditRecord| payload(record).get("person")?.as_str()?.parse().ok();
        Ok(Self {
            people: server.logins(records.iter().filter_map(person).collect())?,
            labels: server.labels()?.into_iter().map(|label| (label.id, label.label.name)).collect(),
        })
    }

    fn row(&self, app: &App, record: &AuditRecord) -> Vec<String> {
        let payload = payload(record);
        let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let time = text("time").parse().map(|time| text::time(app, time)).unwrap_or_default();
        let person = text("person");
        let person = person.parse().ok().and_then(|id| self.people.get(&id).cloned()).unwrap_or(person);
        let who = if person.is_empty() { text("login") } else { person };
        let label = text("label");
        let label = label.parse().ok().and_then(|id| self.labels.get(&id).cloned()).unwrap_or(label);
        let what = [text("file_name"), text("object"), label];
        let more = [text("right"), text("code"), text("detail")];
        let join = |parts: [String; 3]| {
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            text::printable(&parts.join(" "))
        };
        vec![
            record.sequence.to_string(),
            time,
            text::printable(&text("act")),
            text::printable(&who),
            join(what),
            join(more),
        ]
    }
}

pub(super) fn export(args: &Export, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let last = args.last.map(|last| format!("&last={last}")).unwrap_or_default();
    let path = format!("/v1/admin/audit/checkpoint?first={}{last}", args.first);
    let proof: AuditProof = server.get(&path)?;
    let last = args.last.unwrap_or(proof.size);
    let new = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&args.output);
    let file = new.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists(args.output.clone()),
        _ => Action::Create.failed(&args.output)(error),
    })?;
    let written = write(args, last, &proof, &file, server);
    if written.is_err() {
        // Half an export is none; it was made here and is nobody's.
        let _ = std::fs::remove_file(&args.output);
    }
    let count = written?;
    if app.settings.json {
        let (first, size, key) = (args.first, proof.size, proof.key);
        return app.json(&json!({ "first": first, "count": count, "size": size, "key": key }));
    }
    app.note("audit-exported", &arguments! { count: text::grouped(count), last: last });
    Ok(())
}

fn write(
    args: &Export,
    last: u64,
    proof: &AuditProof,
    file: &std::fs::File,
    server: &mut Server,
) -> Result<u64, Error> {
    let failed = || Action::Write.failed(&args.output);
    let mut output = std::io::BufWriter::new(file);
    let line = |value: serde_json::Result<String>| value.map_err(|error| failed()(error.into()));
    let head = line(serde_json::to_string(&ExportHead::new(args.first)))?;
    writeln!(output, "{head}").map_err(failed())?;
    let mut done = args.first.saturating_sub(1);
    while done < last {
        let limit = u32::try_from(last - done).unwrap_or(PAGE).min(PAGE);
        let page: AuditPage = server.get(&format!("/v1/admin/audit?after={done}&limit={limit}"))?;
        if page.records.is_empty() {
            return Err(Error::AuditBroken(done + 1));
        }
        for record in page.records {
            done += 1;
            if record.sequence != done {
                return Err(Error::AuditBroken(done));
            }
            output.write_all(&record.payload.0).and_then(|()| output.write_all(b"\n")).map_err(failed())?;
        }
    }
    let count = (last + 1).saturating_sub(args.first);
    let end = ExportEnd { checkpoint: proof.checkpoint.clone(), count, proof: proof.proof.clone() };
    let end = line(serde_json::to_string(&end))?;
    writeln!(output, "{end}").and_then(|()| output.flush()).map_err(failed())?;
    drop(output);
    file.sync_all().map_err(failed())?;
    Ok(count)
}

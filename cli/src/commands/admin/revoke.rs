//! `admin revoke`.

use super::server::{Server, kind_and_id, show, show_list};
use crate::app::App;
use crate::args::admin::{Lift, Revoke, RevokeOne};
use crate::commands::text;
use crate::error::{Action, Error};
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use tobari_core::envelope::Header;
use tobari_core::ids::{FileId, PersonId};
use tobari_core::proto::admin::{RevocationInput, RevocationRecord, Revoked};

const COLUMNS: [&str; 5] = ["kind", "subject", "reason", "by", "since"];

pub(super) fn run(args: Revoke, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let (path, subject, reason) = match args {
        Revoke::List => {
            let revocations: Vec<RevocationRecord> = server.list("revocations")?;
            let names = Names::new(server, &revocations)?;
            return show_list(app, "revocations", &revocations, &COLUMNS, |app, record| {
                row(app, record, &names)
            });
        }
        Revoke::Label(args) => ("revocations", label(server, &args)?, args.reason),
        Revoke::File(args) => ("revocations", file(&args)?, args.reason),
        Revoke::Lift(Lift::Label(args)) => ("revocations/lift", label(server, &args)?, args.reason),
        Revoke::Lift(Lift::File(args)) => ("revocations/lift", file(&args)?, args.reason),
    };
    let record: RevocationRecord = server.post(path, &RevocationInput { subject, reason })?;
    server.changed(app);
    let names = Names::new(server, std::slice::from_ref(&record))?;
    show(app, &record, &COLUMNS, |app, record| row(app, record, &names))
}

fn label(server: &mut Server, args: &RevokeOne) -> Result<Revoked, Error> {
    Ok(Revoked::Label { id: server.label(&args.what)? })
}

/// By its id, which is all that is left of a file that is gone, or by the header of a file that is there.
fn file(args: &RevokeOne) -> Result<Revoked, Error> {
    if let Ok(id) = args.what.parse::<FileId>() {
        return Ok(Revoked::File { id });
    }
    let path = PathBuf::from(&args.what);
    let opened = File::open(&path).map_err(Action::Open.failed(&path))?;
    let header = Header::read(&opened).map_err(|_| Error::NotSealed(path))?;
    Ok(Revoked::File { id: header.file_id() })
}

/// What ids are called.
struct Names {
    labels: Vec<(String, String)>,
    people: HashMap<PersonId, String>,
}

impl Names {
    fn new(server: &mut Server, revocations: &[RevocationRecord]) -> Result<Self, Error> {
        let labels = server.labels()?.into_iter().map(|one| (one.id.to_string(), one.label.name)).collect();
        let people = revocations.iter().map(|revocation| revocation.revoked_by).collect();
        Ok(Self { labels, people: server.logins(people)? })
    }
}

fn row(app: &App, record: &RevocationRecord, names: &Names) -> Vec<String> {
    let (kind, id) = kind_and_id(&record.subject);
    let subject = names.labels.iter().find(|(label, _)| *label == id).map_or(id, |(_, name)| name.clone());
    let by = names.people.get(&record.revoked_by);
    vec![
        kind,
        subject,
        record.reason.clone(),
        by.cloned().unwrap_or_else(|| record.revoked_by.to_string()),
        text::time(app, record.revoked_at),
    ]
}

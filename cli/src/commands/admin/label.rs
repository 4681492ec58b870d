//! `admin label`.

use super::server::{Server, kebab, show, show_list, something, yes_no};
use crate::app::App;
use crate::args::admin::Label;
use crate::error::Error;
use tobari_core::ids::LabelId;
use tobari_core::proto::admin::{LabelInput, LabelRecord};
use tobari_core::proto::policy::RetireInput;

const COLUMNS: [&str; 9] =
    ["name", "level", "key-kind", "generation", "retired", "legacy-zip", "bulletin-hours", "key", "id"];

pub(super) fn run(args: Label, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let record = match args {
        Label::List => {
            let mut labels = server.labels()?;
            labels.sort_by(|a, b| (b.label.level, &a.label.name).cmp(&(a.label.level, &b.label.name)));
            return show_list(app, "labels", &labels, &COLUMNS, row);
        }
        Label::Show(named) => {
            let id = server.label(&named.name)?;
            find(server, id)?
        }
        Label::Add(args) => {
            let input = LabelInput {
                name: args.name,
                level: args.level,
                key_kind: args.key_kind.into(),
                allow_legacy_zip: args.allow_legacy_zip,
                lease_by_label: args.lease_by_label,
                max_bulletin_age_hours: args.max_bulletin_age_hours,
            };
            let record = server.post("labels", &input)?;
            server.changed(app);
            record
        }
        Label::Set(args) => {
            let rules = args.allow_legacy_zip.is_some() || args.lease_by_label.is_some();
            let of_age = args.max_bulletin_age_hours.is_some();
            something(args.name.is_some() || args.level.is_some() || rules || of_age)?;
            let id = server.label(&args.target)?;
            let mut input = find(server, id)?.label;
            input.name = args.name.unwrap_or(input.name);
            input.level = args.level.unwrap_or(input.level);
            input.allow_legacy_zip = args.allow_legacy_zip.unwrap_or(input.allow_legacy_zip);
            input.lease_by_label = args.lease_by_label.unwrap_or(input.lease_by_label);
            if let Some(hours) = args.max_bulletin_age_hours {
                input.max_bulletin_age_hours = hours.0;
            }
            let record = server.put("labels", id, &input)?;
            server.changed(app);
            record
        }
        Label::Rotate(named) => {
            let id = server.label(&named.name)?;
            let record = server.post(&format!("labels/{id}/rotate"), &serde_json::Value::Null)?;
            server.changed(app);
            record
        }
        Label::Retire(args) => {
            let id = server.label(&args.target)?;
            let input = RetireInput { generation: args.generation, force: args.force };
            let record = server.post(&format!("labels/{id}/retire"), &input)?;
            server.changed(app);
            record
        }
        Label::Remove(named) => {
            let id = server.label(&named.name)?;
            return server.remove(app, "labels", id);
        }
    };
    show(app, &record, &COLUMNS, row)
}

fn find(server: &mut Server, id: LabelId) -> Result<LabelRecord, Error> {
    server.get(&format!("/v1/admin/labels/{id}"))
}

fn row(app: &App, record: &LabelRecord) -> Vec<String> {
    let retired: Vec<String> = record.retired.iter().map(u32::to_string).collect();
    vec![
        record.label.name.clone(),
        record.label.level.to_string(),
        kebab(&record.label.key_kind),
        record.generation.to_string(),
        retired.join(", "),
        yes_no(app, record.label.allow_legacy_zip),
        record.label.max_bulletin_age_hours.map_or_else(String::new, |hours| hours.to_string()),
        record.key_id.chars().take(16).collect(),
        record.id.to_string(),
    ]
}

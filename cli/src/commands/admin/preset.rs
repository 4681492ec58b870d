//! `admin preset`.

use super::server::{Server, show_list};
use crate::app::App;
use crate::args::admin::Preset;
use crate::arguments;
use crate::error::Error;
use serde::Serialize;
use tobari_core::policy::{preset, preset_names};
use tobari_core::proto::admin::PresetApplied;

#[derive(Debug, Serialize)]
struct Shipped {
    name: &'static str,
    title: String,
    labels: Vec<String>,
}

pub(super) fn run(args: Preset, server: &mut Server, app: &mut App) -> Result<(), Error> {
    match args {
        Preset::List => show_list(app, "presets", &shipped(), &["name", "title", "labels"], |_, one| {
            vec![one.name.to_owned(), one.title.clone(), one.labels.join(", ")]
        }),
        Preset::Apply(named) => {
            if preset(&named.name).is_none() {
                let known = preset_names().map(str::to_owned).collect();
                return Err(Error::UnknownName { kind: "preset", name: named.name, known });
            }
            let path = format!("presets/{}", named.name);
            let applied: PresetApplied = server.post(&path, &serde_json::json!({}))?;
            server.changed(app);
            if app.settings.json {
                return app.json(&applied);
            }
            let labels: Vec<&str> = applied.labels.iter().map(|label| label.label.name.as_str()).collect();
            let posts: Vec<&str> = applied.posts.iter().map(|post| post.name.as_str()).collect();
            let none = app.word("none");
            let or_none = |list: Vec<&str>| if list.is_empty() { none.clone() } else { list.join(", ") };
            let arguments = arguments! {
                preset: applied.preset,
                labels: or_none(labels),
                posts: or_none(posts),
                rules: applied.rules.len(),
            };
            app.note("preset-applied", &arguments);
            Ok(())
        }
    }
}

fn shipped() -> Vec<Shipped> {
    preset_names()
        .filter_map(|name| {
            let preset = preset(name)?;
            let labels = preset.labels.into_iter().map(|label| label.name).collect();
            Some(Shipped { name, title: preset.title, labels })
        })
        .collect()
}

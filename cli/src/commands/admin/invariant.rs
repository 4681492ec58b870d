//! `admin invariant`.

use super::server::{Server, show, show_list};
use crate::app::App;
use crate::args::policy::{Invariant, InvariantAdd};
use crate::error::Error;
use std::collections::HashMap;
use tobari_core::policy::{self, GroupScope, LabelScope, PostScope};
use tobari_core::proto::policy::InvariantInput;

const COLUMNS: [&str; 7] = ["name", "rights", "label", "posts", "groups", "conditions", "id"];

pub(super) fn run(args: Invariant, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let record: policy::Invariant = match args {
        Invariant::List => {
            let invariants: Vec<policy::Invariant> = server.list("invariants")?;
            let names = names(server, app)?;
            return show_list(app, "invariants", &invariants, &COLUMNS, |_, one| row(&names, one));
        }
        Invariant::Show(named) => {
            let id = find(server, &named.name)?;
            server.get(&format!("/v1/admin/invariants/{id}"))?
        }
        Invariant::Add(args) => {
            let input = input(args, server)?;
            server.post("invariants", &input)?
        }
        Invariant::Remove(named) => {
            let id = find(server, &named.name)?;
            return server.remove(app, "invariants", id);
        }
    };
    let names = names(server, app)?;
    show(app, &record, &COLUMNS, |_, one| row(&names, one))
}

fn find(server: &mut Server, typed: &str) -> Result<tobari_core::ids::InvariantId, Error> {
    let invariants: Vec<policy::Invariant> = server.list("invariants")?;
    super::names::one("invariant", typed, &invariants, |one| one.id, |one| one.name.clone())
}

fn input(args: InvariantAdd, server: &mut Server) -> Result<InvariantInput, Error> {
    let labels = match (args.label.as_str(), args.label.strip_prefix("level>=")) {
        ("any", _) => LabelScope::Any,
        (_, Some(level)) => match level.trim().parse() {
            Ok(level @ 0..=1000) => LabelScope::LevelAtLeast { level },
            _ => return Err(Error::Usage { what: "label-scope", detail: args.label }),
        },
        (typed, None) => LabelScope::This { label: server.label(typed)? },
    };
    let groups = match args.group.as_str() {
        "any" => GroupScope::Any,
        "outside-owner" => GroupScope::OutsideOwner,
        typed => GroupScope::Subtree { group: server.group(typed.strip_suffix("/...").unwrap_or(typed))? },
    };
    let posts = match (args.post.as_str(), args.post.strip_prefix("below:")) {
        ("any", _) => PostScope::Any,
        (_, Some(post)) => PostScope::Below { post: server.post_id(post)? },
        (typed, None) => PostScope::This { post: server.post_id(typed)? },
    };
    Ok(InvariantInput {
        name: args.name,
        labels,
        groups,
        posts,
        rights: args.never,
        zones: args.zones,
        without_second_factor: args.without_second_factor,
    })
}

/// Names by id.
type Names = HashMap<String, String>;

fn names(server: &mut Server, app: &App) -> Result<Names, Error> {
    let mut names = Names::new();
    if !app.settings.json {
        names.extend(server.labels()?.into_iter().map(|one| (one.id.to_string(), one.label.name)));
        names.extend(server.posts()?.into_iter().map(|one| (one.id.to_string(), one.name)));
        let groups = super::names::group_paths(&server.groups()?);
        names.extend(groups.into_iter().map(|(id, path)| (id.to_string(), path)));
    }
    Ok(names)
}

/// As it would be typed.
fn row(names: &Names, one: &policy::Invariant) -> Vec<String> {
    let name = |id: String| names.get(&id).cloned().unwrap_or(id);
    let labels = match one.labels {
        LabelScope::Any => String::from("any"),
        LabelScope::This { label } => name(label.to_string()),
        LabelScope::LevelAtLeast { level } => format!("level>={level}"),
    };
    let posts = match one.posts {
        PostScope::Any => String::from("any"),
        PostScope::This { post } => name(post.to_string()),
        PostScope::Below { post } => format!("below:{}", name(post.to_string())),
    };
    let groups = match one.groups {
        GroupScope::Any => String::from("any"),
        GroupScope::OutsideOwner => String::from("outside-owner"),
        GroupScope::Subtree { group } => format!("{}/...", name(group.to_string())),
    };
    let mut conditions: Vec<String> = one.zones.iter().map(|zone| format!("--zone {zone}")).collect();
    conditions.extend(one.without_second_factor.then(|| String::from("--without-second-factor")));
    vec![
        one.name.clone(),
        one.rights.to_string(),
        labels,
        posts,
        groups,
        conditions.join(" "),
        one.id.to_string(),
    ]
}

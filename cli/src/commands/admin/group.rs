//! `admin group`.

use super::names::group_paths;
use super::server::{Server, show, show_list, something};
use crate::app::App;
use crate::args::admin::Group;
use crate::error::Error;
use std::collections::HashMap;
use tobari_core::ids::GroupId;
use tobari_core::policy;
use tobari_core::proto::admin::GroupInput;

const COLUMNS: [&str; 2] = ["path", "id"];

pub(super) fn run(args: Group, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let record: policy::Group = match args {
        Group::List => {
            let mut groups = server.groups()?;
            let paths = group_paths(&groups);
            groups.sort_by(|a, b| paths.get(&a.id).cmp(&paths.get(&b.id)));
            return show_list(app, "groups", &groups, &COLUMNS, row(&paths));
        }
        Group::Show(named) => {
            let id = server.group(&named.name)?;
            server.get(&format!("/v1/admin/groups/{id}"))?
        }
        Group::Add(args) => {
            let (above, name) = match args.name.rsplit_once('/') {
                Some(_) if args.parent.is_some() => {
                    return Err(Error::Usage { what: "name-slash", detail: args.name });
                }
                Some((above, name)) => (Some(above.to_owned()), name.to_owned()),
                None => (args.parent, args.name),
            };
            let parent = above.map(|above| server.group(&above)).transpose()?;
            let record = server.post("groups", &GroupInput { name, parent })?;
            server.changed(app);
            record
        }
        Group::Set(args) => {
            something(args.name.is_some() || args.parent.is_some() || args.root)?;
            let id = server.group(&args.target)?;
            let old: policy::Group = server.get(&format!("/v1/admin/groups/{id}"))?;
            let parent = match args.parent {
                Some(parent) => Some(server.group(&parent)?),
                None if args.root => None,
                None => old.parent,
            };
            let input = GroupInput { name: args.name.unwrap_or(old.name), parent };
            let record = server.put("groups", id, &input)?;
            server.changed(app);
            record
        }
        Group::Remove(named) => {
            let id = server.group(&named.name)?;
            return server.remove(app, "groups", id);
        }
    };
    let paths = if app.settings.json { HashMap::new() } else { group_paths(&server.groups()?) };
    show(app, &record, &COLUMNS, row(&paths))
}

fn row(paths: &HashMap<GroupId, String>) -> impl Fn(&App, &policy::Group) -> Vec<String> {
    |_, group| vec![paths.get(&group.id).unwrap_or(&group.name).clone(), group.id.to_string()]
}

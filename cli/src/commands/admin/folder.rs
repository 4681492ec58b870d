//! `admin folder`.

use super::names::{self, group_paths};
use super::server::{Server, show, show_list, something};
use crate::app::App;
use crate::args::admin::{Folder, FolderAdd, FolderSet};
use crate::error::{Action, Error};
use std::collections::HashMap;
use std::path::Path;
use tobari_core::ids::{FolderId, GroupId, LabelId, TerminalId};
use tobari_core::proto::admin::FolderInput;
use tobari_core::proto::bulletin;

const COLUMNS: [&str; 6] = ["path", "label", "owner-group", "terminal", "exclude", "id"];

pub(super) fn run(args: Folder, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let record: bulletin::Folder = match args {
        Folder::List => {
            let mut folders: Vec<bulletin::Folder> = server.list("folders")?;
            folders.sort_by(|a, b| (a.terminal, &a.path).cmp(&(b.terminal, &b.path)));
            let names = Names::of(server)?;
            return show_list(app, "folders", &folders, &COLUMNS, |_, folder| names.row(folder));
        }
        Folder::Show(named) => {
            let id = find(server, &named.name)?;
            server.get(&format!("/v1/admin/folders/{id}"))?
        }
        Folder::Add(args) => add(args, server, app)?,
        Folder::Set(args) => set(args, server, app)?,
        Folder::Remove(named) => {
            let id = find(server, &named.name)?;
            return server.remove(app, "folders", id);
        }
    };
    let names = if app.settings.json { Names::default() } else { Names::of(server)? };
    show(app, &record, &COLUMNS, |_, folder| names.row(folder))
}

fn find(server: &mut Server, typed: &str) -> Result<FolderId, Error> {
    let folders: Vec<bulletin::Folder> = server.list("folders")?;
    names::one("folder", typed, &folders, |folder| folder.id, |folder| folder.path.clone())
}

fn add(args: FolderAdd, server: &mut Server, app: &mut App) -> Result<bulletin::Folder, Error> {
    let terminal = match &args.terminal {
        Some(typed) => server.terminal(typed)?,
        None => server.this_terminal()?,
    };
    let input = FolderInput {
        terminal,
        path: absolute(&args.path)?,
        label: server.label(&args.label)?,
        owner_group: args.owner_group.map(|typed| server.group(&typed)).transpose()?,
        exclude: args.exclude,
    };
    let record = server.post("folders", &input)?;
    server.changed(app);
    Ok(record)
}

fn set(args: FolderSet, server: &mut Server, app: &mut App) -> Result<bulletin::Folder, Error> {
    let of_owner = args.owner_group.is_some() || args.no_owner_group;
    let of_exclude = !args.exclude.is_empty() || args.no_exclude;
    something(of_owner || of_exclude || args.path.is_some() || args.label.is_some())?;
    let id = find(server, &args.target)?;
    let old: bulletin::Folder = server.get(&format!("/v1/admin/folders/{id}"))?;
    let owner_group = match args.owner_group {
        Some(typed) => Some(server.group(&typed)?),
        None if args.no_owner_group => None,
        None => old.owner_group,
    };
    let input = FolderInput {
        terminal: old.terminal,
        path: args.path.as_deref().map(absolute).transpose()?.unwrap_or(old.path),
        label: args.label.map(|typed| server.label(&typed)).transpose()?.unwrap_or(old.label),
        owner_group,
        exclude: if of_exclude { args.exclude } else { old.exclude },
    };
    let record = server.put("folders", id, &input)?;
    server.changed(app);
    Ok(record)
}

fn absolute(path: &Path) -> Result<String, Error> {
    let absolute = std::path::absolute(path).map_err(Action::Open.failed(path))?;
    absolute.into_os_string().into_string().map_err(|path| Error::NotUtf8(path.into()))
}

#[derive(Debug, Default)]
struct Names {
    labels: HashMap<LabelId, String>,
    groups: HashMap<GroupId, String>,
    terminals: HashMap<TerminalId, String>,
}

impl Names {
    fn of(server: &mut Server) -> Result<Self, Error> {
        Ok(Self {
            labels: server.labels()?.into_iter().map(|label| (label.id, label.label.name)).collect(),
            groups: group_paths(&server.groups()?),
            // Who may change folders may not be allowed to see terminals; their ids do then.
            terminals: server
                .terminals()
                .unwrap_or_default()
                .into_iter()
                .map(|one| (one.id, one.terminal.name))
                .collect(),
        })
    }

    fn row(&self, folder: &bulletin::Folder) -> Vec<String> {
        let owner =
            folder.owner_group.map(|id| self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string()));
        vec![
            folder.path.clone(),
            self.labels.get(&folder.label).cloned().unwrap_or_else(|| folder.label.to_string()),
            owner.unwrap_or_default(),
            self.terminals.get(&folder.terminal).cloned().unwrap_or_else(|| folder.terminal.to_string()),
            folder.exclude.join(", "),
            folder.id.to_string(),
        ]
    }
}

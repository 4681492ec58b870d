//! `admin person`.

use super::names::group_paths;
use super::server::{Server, kebab, show, show_list, something, yes_no};
use crate::app::App;
use crate::args::admin::{Person, PersonAdd, PersonSet};
use crate::arguments;
use crate::error::Error;
use std::collections::HashMap;
use tobari_core::ids::{GroupId, PostId};
use tobari_core::policy::Membership;
use tobari_core::proto::admin::{PersonInput, PersonRecord, Role};

const COLUMNS: [&str; 7] = ["login", "person-name", "memberships", "roles", "disabled", "totp", "id"];

pub(super) fn run(args: Person, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let record: PersonRecord = match args {
        Person::List => {
            let mut people = server.people()?;
            people.sort_by(|a, b| a.login.cmp(&b.login));
            let names = Names::of(server)?;
            return show_list(app, "people", &people, &COLUMNS, |app, person| names.row(app, person));
        }
        Person::Show(named) => {
            let id = server.person(&named.name)?;
            server.get(&format!("/v1/admin/people/{id}"))?
        }
        Person::Add(args) => add(args, server, app)?,
        Person::Set(args) => set(args, server, app)?,
        Person::Remove(named) => {
            let id = server.person(&named.name)?;
            return server.remove(app, "people", id);
        }
    };
    let names = if app.settings.json { Names::default() } else { Names::of(server)? };
    show(app, &record, &COLUMNS, |app, person| names.row(app, person))?;
    if let (false, Some(otpauth)) = (app.settings.json, &record.otpauth) {
        app.line(otpauth)?;
        app.note("otpauth-once", &arguments! {});
    }
    Ok(())
}

fn add(args: PersonAdd, server: &mut Server, app: &mut App) -> Result<PersonRecord, Error> {
    let memberships = memberships(server, &args.memberships)?;
    let password = if args.password_stdin { app.secret_from_input()? } else { app.ask_new_secret()? };
    let input = PersonInput {
        name: args.name.unwrap_or_else(|| args.login.clone()),
        login: args.login,
        password: Some(password.to_string()),
        new_totp: args.totp,
        memberships,
        roles: args.roles.into_iter().map(Role::from).collect(),
        disabled: false,
    };
    let record = server.post("people", &input)?;
    server.changed(app);
    Ok(record)
}

fn set(args: PersonSet, server: &mut Server, app: &mut App) -> Result<PersonRecord, Error> {
    let of_access =
        !args.memberships.is_empty() || args.no_memberships || !args.roles.is_empty() || args.no_roles;
    let of_secrets = args.totp || args.password || args.password_stdin;
    something(
        of_access || of_secrets || args.login.is_some() || args.name.is_some() || args.disabled.is_some(),
    )?;
    let id = server.person(&args.target)?;
    let old: PersonRecord = server.get(&format!("/v1/admin/people/{id}"))?;
    let memberships = match (args.no_memberships, args.memberships.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => old.memberships,
        (false, false) => memberships(server, &args.memberships)?,
    };
    let roles = match (args.no_roles, args.roles.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => old.roles,
        (false, false) => args.roles.into_iter().map(Role::from).collect(),
    };
    let password = match (args.password_stdin, args.password) {
        (true, _) => Some(app.secret_from_input()?),
        (false, true) => Some(app.ask_new_secret()?),
        (false, false) => None,
    };
    let input = PersonInput {
        login: args.login.unwrap_or(old.login),
        name: args.name.unwrap_or(old.name),
        password: password.map(|password| password.to_string()),
        new_totp: args.totp,
        memberships,
        roles,
        disabled: args.disabled.unwrap_or(old.disabled),
    };
    let record = server.put("people", id, &input)?;
    server.changed(app);
    Ok(record)
}

/// `総務部/人事課:課長`: group, colon, post.
fn memberships(server: &mut Server, typed: &[String]) -> Result<Vec<Membership>, Error> {
    typed
        .iter()
        .map(|typed| {
            let (group, post) = typed
                .rsplit_once(':')
                .ok_or_else(|| Error::Usage { what: "membership", detail: typed.clone() })?;
            Ok(Membership { group: server.group(group)?, post: server.post_id(post)? })
        })
        .collect()
}

#[derive(Debug, Default)]
struct Names {
    groups: HashMap<GroupId, String>,
    posts: HashMap<PostId, String>,
}

impl Names {
    fn of(server: &mut Server) -> Result<Self, Error> {
        let groups = group_paths(&server.groups()?);
        let posts = server.posts()?.into_iter().map(|post| (post.id, post.name)).collect();
        Ok(Self { groups, posts })
    }

    fn row(&self, app: &App, person: &PersonRecord) -> Vec<String> {
        let membership = |one: &Membership| {
            let group = self.groups.get(&one.group).cloned().unwrap_or_else(|| one.group.to_string());
            let post = self.posts.get(&one.post).cloned().unwrap_or_else(|| one.post.to_string());
            format!("{group}:{post}")
        };
        let memberships: Vec<String> = person.memberships.iter().map(membership).collect();
        let roles: Vec<String> = person.roles.iter().map(kebab).collect();
        vec![
            person.login.clone(),
            person.name.clone(),
            memberships.join(", "),
            roles.join(", "),
            yes_no(app, person.disabled),
            yes_no(app, person.has_totp),
            person.id.to_string(),
        ]
    }
}

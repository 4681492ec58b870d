//! `admin rule`.

use super::names::group_paths;
use super::server::{Server, kebab, show, show_list, something};
use crate::app::App;
use crate::args::admin::{Rule, RuleAdd, RuleConditions, RuleSet};
use crate::error::Error;
use std::collections::HashMap;
use tobari_core::ids::{GroupId, LabelId, PostId, RuleId};
use tobari_core::policy::{self, Conditions, Effect, GroupSelector, PostSelector};
use tobari_core::proto::admin::RuleInput;

const COLUMNS: [&str; 7] = ["label", "groups", "posts", "effect", "conditions", "note", "id"];

pub(super) fn run(args: Rule, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let record: policy::Rule = match args {
        Rule::List => {
            let rules: Vec<policy::Rule> = server.list("rules")?;
            let names = Names::of(server)?;
            return show_list(app, "rules", &rules, &COLUMNS, |_, rule| names.row(rule));
        }
        Rule::Show(named) => {
            let id = find(server, &named.name)?;
            server.get(&format!("/v1/admin/rules/{id}"))?
        }
        Rule::Add(args) => {
            let input = input(args, server)?;
            let record = server.post("rules", &input)?;
            server.changed(app);
            record
        }
        Rule::Set(args) => {
            let id = find(server, &args.target)?;
            let old: policy::Rule = server.get(&format!("/v1/admin/rules/{id}"))?;
            let input = changed(args, old, server)?;
            let record = server.put("rules", id, &input)?;
            server.changed(app);
            record
        }
        Rule::Remove(named) => {
            let id = find(server, &named.name)?;
            return server.remove(app, "rules", id);
        }
    };
    let names = if app.settings.json { Names::default() } else { Names::of(server)? };
    show(app, &record, &COLUMNS, |_, rule| names.row(rule))
}

fn find(server: &mut Server, typed: &str) -> Result<RuleId, Error> {
    let rules: Vec<policy::Rule> = server.list("rules")?;
    super::names::one("rule", typed, &rules, |rule| rule.id, |rule| rule.id.to_string())
}

fn input(args: RuleAdd, server: &mut Server) -> Result<RuleInput, Error> {
    let (effect, rights) = match (args.allow, args.deny) {
        (Some(rights), _) => (Effect::Allow, rights),
        (None, Some(rights)) => (Effect::Deny, rights),
        (None, None) => return Err(Error::Usage { what: "nothing-to-set", detail: String::new() }),
    };
    let mut conditions = Conditions::default();
    let note = apply(&mut conditions, args.conditions).unwrap_or_default();
    let label = server.label(&args.label)?;
    let groups = groups(server, &args.group)?;
    let posts = posts(server, &args.post)?;
    Ok(RuleInput { label, groups, posts, conditions, effect, rights, note })
}

fn changed(args: RuleSet, old: policy::Rule, server: &mut Server) -> Result<RuleInput, Error> {
    let given = &args.conditions;
    let of_conditions = args.no_conditions
        || !given.zones.is_empty()
        || !given.tags.is_empty()
        || given.second_factor
        || given.protection.is_some()
        || given.not_before.is_some()
        || given.not_after.is_some()
        || given.note.is_some();
    let of_subject = args.label.is_some() || args.group.is_some() || args.post.is_some();
    something(of_conditions || of_subject || args.allow.is_some() || args.deny.is_some())?;
    let (effect, rights) = match (args.allow, args.deny) {
        (Some(rights), _) => (Effect::Allow, rights),
        (None, Some(rights)) => (Effect::Deny, rights),
        (None, None) => (old.effect, old.rights),
    };
    let mut conditions = if args.no_conditions { Conditions::default() } else { old.conditions };
    let note = apply(&mut conditions, args.conditions).unwrap_or(old.note);
    Ok(RuleInput {
        label: args.label.map(|typed| server.label(&typed)).transpose()?.unwrap_or(old.label),
        groups: args.group.map(|typed| groups(server, &typed)).transpose()?.unwrap_or(old.groups),
        posts: args.post.map(|typed| posts(server, &typed)).transpose()?.unwrap_or(old.posts),
        conditions,
        effect,
        rights,
        note,
    })
}

/// Lays the typed conditions over `conditions`; gives the note.
fn apply(conditions: &mut Conditions, typed: RuleConditions) -> Option<String> {
    if !typed.zones.is_empty() {
        conditions.zones = typed.zones;
    }
    if !typed.tags.is_empty() {
        conditions.terminal_tags = typed.tags;
    }
    conditions.second_factor |= typed.second_factor;
    conditions.protection = typed.protection.unwrap_or(conditions.protection);
    conditions.not_before = typed.not_before.or(conditions.not_before);
    conditions.not_after = typed.not_after.or(conditions.not_after);
    typed.note
}

fn groups(server: &mut Server, typed: &str) -> Result<GroupSelector, Error> {
    Ok(match typed {
        "any" => GroupSelector::Any,
        "owner" => GroupSelector::Owner,
        "owner-subtree" => GroupSelector::OwnerSubtree,
        _ => match typed.strip_suffix("/...") {
            Some(root) => GroupSelector::Subtree { group: server.group(root)? },
            None => GroupSelector::This { group: server.group(typed)? },
        },
    })
}

fn posts(server: &mut Server, typed: &str) -> Result<PostSelector, Error> {
    if typed == "any" {
        return Ok(PostSelector::Any);
    }
    match typed.strip_prefix("rank>=") {
        Some(rank) => match rank.trim().parse() {
            Ok(rank @ 0..=1000) => Ok(PostSelector::RankAtLeast { rank }),
            _ => Err(Error::Usage { what: "post-selector", detail: typed.to_owned() }),
        },
        None => Ok(PostSelector::This { post: server.post_id(typed)? }),
    }
}

#[derive(Debug, Default)]
struct Names {
    labels: HashMap<LabelId, String>,
    groups: HashMap<GroupId, String>,
    posts: HashMap<PostId, String>,
}

impl Names {
    fn of(server: &mut Server) -> Result<Self, Error> {
        Ok(Self {
            labels: server.labels()?.into_iter().map(|label| (label.id, label.label.name)).collect(),
            groups: group_paths(&server.groups()?),
            posts: server.posts()?.into_iter().map(|post| (post.id, post.name)).collect(),
        })
    }

    /// As it would be typed.
    fn row(&self, rule: &policy::Rule) -> Vec<String> {
        let group = |id: &GroupId| self.groups.get(id).cloned().unwrap_or_else(|| id.to_string());
        let groups = match &rule.groups {
            GroupSelector::Any => "any".to_owned(),
            GroupSelector::Owner => "owner".to_owned(),
            GroupSelector::OwnerSubtree => "owner-subtree".to_owned(),
            GroupSelector::This { group: id } => group(id),
            GroupSelector::Subtree { group: id } => format!("{}/...", group(id)),
        };
        let posts = match &rule.posts {
            PostSelector::Any => "any".to_owned(),
            PostSelector::RankAtLeast { rank } => format!("rank>={rank}"),
            PostSelector::This { post } => self.posts.get(post).cloned().unwrap_or_else(|| post.to_string()),
        };
        vec![
            self.labels.get(&rule.label).cloned().unwrap_or_else(|| rule.label.to_string()),
            groups,
            posts,
            format!("{} {}", kebab(&rule.effect), rule.rights),
            conditions(&rule.conditions),
            rule.note.clone(),
            rule.id.to_string(),
        ]
    }
}

fn conditions(conditions: &Conditions) -> String {
    let mut parts = Vec::new();
    parts.extend(conditions.zones.iter().map(|zone| format!("--zone {zone}")));
    parts.extend(conditions.terminal_tags.iter().map(|tag| format!("--tag {tag}")));
    parts.extend(conditions.not_before.map(|time| format!("--not-before {time}")));
    parts.extend(conditions.not_after.map(|time| format!("--not-after {time}")));
    parts.extend(conditions.second_factor.then(|| "--second-factor".to_owned()));
    let protection = Some(conditions.protection).filter(|asked| !asked.is_none());
    parts.extend(protection.map(|asked| format!("--protection {asked}")));
    parts.join(" ")
}

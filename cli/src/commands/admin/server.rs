//! The key server's collections, as they are reached through the daemon.

use super::names;
use crate::app::App;
use crate::args::policy::How;
use crate::arguments;
use crate::client::Client;
use crate::commands::text;
use crate::error::Error;
use crate::progress::Waiting;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tobari_core::ids::{GroupId, LabelId, PostId, TerminalId};
use tobari_core::policy::{Group, Post};
use tobari_core::proto::admin::{LabelRecord, Revoked};
use tobari_core::proto::control::Request;
use tobari_core::proto::policy::{ChangeInput, ChangeRequest, Collection, PolicyDiff};

/// From when on somebody wants to know that it goes on.
const PATIENCE: Duration = Duration::from_secs(3);

/// The administration API.
#[derive(Debug)]
pub(super) struct Server {
    client: Client,
    how: How,
    instead: Option<Instead>,
}

/// What came of a change that was not to be made.
#[derive(Debug)]
pub(super) enum Instead {
    /// What it would give and take.
    Diff(PolicyDiff),
    /// It waits for a second person.
    Request(Box<ChangeRequest>),
}

impl Server {
    /// On a terminal it is said when an answer is long in coming.
    pub(super) fn new(mut client: Client, how: How, app: &App) -> Self {
        let (language, mut line) = (app.settings.language, Waiting::new(app.settings.progress));
        client.tell(Box::new(move |waited| match waited {
            None => line.over(),
            Some(waited) if waited < PATIENCE => {}
            Some(waited) => {
                line.say(language.text("waiting-for-key-server", &arguments! { seconds: waited.as_secs() }));
            }
        }));
        Self { client, how, instead: None }
    }

    /// What came of a change that was not to be made.
    pub(super) fn instead(&mut self) -> Option<Instead> {
        self.instead.take()
    }

    /// Whether a change is to be looked at, asked for or given a reason rather than just made.
    pub(super) fn is_asked_first(&self) -> bool {
        self.how.dry_run || self.how.request.is_some() || self.how.reason.is_some()
    }

    /// Changes something: through its own route, or as it was asked for.
    fn send(&mut self, method: &str, path: &str, input: Option<Value>) -> Result<Value, Error> {
        if !self.is_asked_first() {
            return self.client.forward(method, &format!("/v1/admin/{path}"), input);
        }
        let change = super::policy::as_change(method, path)
            .ok_or_else(|| Error::Usage { what: "no-policy-act", detail: String::new() })?;
        // Presets and rotations have an empty body.
        let bare = match change.collection {
            Collection::Presets | Collection::LabelKeys | Collection::Unfreezings => true,
            // An approval takes what was asked for as it is.
            Collection::Leases => change.id.is_some(),
            _ => false,
        };
        let input = input.filter(|_| !bare);
        self.make(change.collection, change.id, input)
    }

    /// The same for a change that has no route of its own. After a look or a request it ends with an error that is never
    /// shown: [`Server::instead`] has what there is to show.
    pub(super) fn make(
        &mut self,
        collection: Collection,
        id: Option<String>,
        input: Option<Value>,
    ) -> Result<Value, Error> {
        let reason = self.how.request.clone().or(self.how.reason.clone()).unwrap_or_default();
        let change = ChangeInput { collection, id, input, reason };
        if self.how.dry_run {
            self.instead = Some(Instead::Diff(self.ask("policy/diff", &change)?));
            return Err(Error::DaemonAnswer);
        }
        if self.how.request.is_some() {
            self.instead = Some(Instead::Request(Box::new(self.ask("requests", &change)?)));
            return Err(Error::DaemonAnswer);
        }
        self.ask("policy/changes", &change)
    }

    /// Asks something with a body.
    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        path: &str,
        input: &impl Serialize,
    ) -> Result<T, Error> {
        let body = self.client.forward("POST", &format!("/v1/admin/{path}"), Some(json(input)?))?;
        understood(body)
    }

    /// All objects of a collection.
    pub(super) fn list<T: DeserializeOwned>(&mut self, collection: &str) -> Result<Vec<T>, Error> {
        self.get(&format!("/v1/admin/{collection}"))
    }

    /// What is at a path.
    pub(super) fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Error> {
        let body = self.client.forward("GET", path, None)?;
        understood(body)
    }

    /// Creates an object, or whatever else `POST` does at that path.
    pub(super) fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        input: &impl Serialize,
    ) -> Result<T, Error> {
        let body = self.send("POST", path, Some(json(input)?))?;
        understood(body)
    }

    /// Replaces an object.
    pub(super) fn put<T: DeserializeOwned>(
        &mut self,
        collection: &str,
        id: impl std::fmt::Display,
        input: &impl Serialize,
    ) -> Result<T, Error> {
        let body = self.send("PUT", &format!("{collection}/{id}"), Some(json(input)?))?;
        understood(body)
    }

    /// Removes an object and says so.
    pub(super) fn remove(
        &mut self,
        app: &mut App,
        collection: &str,
        id: impl std::fmt::Display,
    ) -> Result<(), Error> {
        self.send("DELETE", &format!("{collection}/{id}"), None)?;
        self.changed(app);
        if app.settings.json {
            return app.json(&serde_json::json!({ "removed": id.to_string() }));
        }
        app.note("removed", &arguments! { id: id });
        Ok(())
    }

    /// Has the daemon fetch the bulletin, so that the change holds here at once.
    pub(super) fn changed(&mut self, app: &mut App) {
        if let Err(error) = self.client.ask(&Request::Refresh, &[]) {
            let why = error.message(app.settings.language);
            app.warn("warning-refresh", &arguments! { why: why });
        }
    }

    /// The terminal on which this program runs.
    pub(super) fn this_terminal(&mut self) -> Result<TerminalId, Error> {
        Ok(self.client.notice()?.terminal)
    }

    pub(super) fn labels(&mut self) -> Result<Vec<LabelRecord>, Error> {
        self.list("labels")
    }

    pub(super) fn groups(&mut self) -> Result<Vec<Group>, Error> {
        self.list("groups")
    }

    pub(super) fn posts(&mut self) -> Result<Vec<Post>, Error> {
        self.list("posts")
    }

    pub(super) fn label(&mut self, typed: &str) -> Result<LabelId, Error> {
        names::one("label", typed, &self.labels()?, |one| one.id, |one| one.label.name.clone())
    }

    pub(super) fn group(&mut self, typed: &str) -> Result<GroupId, Error> {
        names::group(&self.groups()?, typed)
    }

    pub(super) fn post_id(&mut self, typed: &str) -> Result<PostId, Error> {
        names::one("post", typed, &self.posts()?, |one| one.id, |one| one.name.clone())
    }
}

fn json(input: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(input).map_err(|_| Error::DaemonAnswer)
}

fn understood<T: DeserializeOwned>(body: Value) -> Result<T, Error> {
    serde_json::from_value(body).map_err(|_| Error::DaemonAnswer)
}

/// Shows a list: under `--json` as `{ "<name>": [records] }`, else as a table.
pub(in crate::commands) fn show_list<T: Serialize>(
    app: &mut App,
    name: &str,
    records: &[T],
    columns: &[&str],
    row: impl Fn(&App, &T) -> Vec<String>,
) -> Result<(), Error> {
    if app.settings.json {
        let mut document = serde_json::Map::new();
        document.insert(name.to_owned(), json(&records)?);
        return app.json(&document);
    }
    if records.is_empty() {
        return Ok(());
    }
    let header = columns.iter().map(|column| app.word(&format!("column-{column}"))).collect();
    let rows = records.iter().map(|record| printable(row(app, record))).collect();
    let table = text::table(Some(header), rows, 0);
    app.line(&table)
}

/// Shows one record: under `--json` as it is, else as one row of its table.
pub(in crate::commands) fn show<T: Serialize>(
    app: &mut App,
    record: &T,
    columns: &[&str],
    row: impl Fn(&App, &T) -> Vec<String>,
) -> Result<(), Error> {
    if app.settings.json {
        return app.json(record);
    }
    let cells = printable(row(app, record));
    let names = columns.iter().map(|column| app.word(&format!("column-{column}")));
    let rows = names.zip(cells).map(|(name, cell)| vec![name, cell]).collect();
    let table = text::table(None, rows, 0);
    app.line(&table)
}

fn printable(cells: Vec<String>) -> Vec<String> {
    cells.iter().map(|cell| text::printable(cell)).collect()
}

/// `yes` or `no` in the user's language.
pub(super) fn yes_no(app: &App, value: bool) -> String {
    app.word(if value { "yes" } else { "no" })
}

/// The name that serde gives a value.
pub(in crate::commands) fn kebab(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What a revocation is about, in two words.
pub(super) fn kind_and_id(subject: &Revoked) -> (String, String) {
    match subject {
        Revoked::Label { id } => (String::from("label"), id.to_string()),
        Revoked::File { id } => (String::from("file"), id.to_string()),
    }
}

/// At least one change must be asked for.
pub(super) fn something(given: bool) -> Result<(), Error> {
    if given { Ok(()) } else { Err(Error::Usage { what: "nothing-to-set", detail: String::new() }) }
}

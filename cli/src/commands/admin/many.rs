//! What a large organisation has tens of thousands of, people and terminals, or what is long by itself, requests with all that they
//! would give and take. One that is named is asked for by its name, so that a
//! look-up costs the same however many there are; a list comes in parts, because an answer as long as all of it does not fit
//! through the daemon's control socket.

use super::names;
use super::server::Server;
use crate::commands::text;
use crate::error::Error;
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::str::FromStr;
use tobari_core::ids::{ChangeRequestId, LeaseId, PersonId, TerminalId};
use tobari_core::policy::fold_name;
use tobari_core::proto::admin::{PersonRecord, TerminalRecord};
use tobari_core::proto::lease::{LeaseRecord, LeaseState};
use tobari_core::proto::policy::ChangeRequest;
use tobari_core::proto::problem::ProblemCode;

/// Objects asked for at once; fewer where so many do not fit into one answer.
const PART: usize = 1000;
/// Names that are told when the one that was typed is not among them; nobody reads more.
const FEW: usize = 20;
/// People who are asked for one by one where their names are wanted; of more, the whole list costs less.
const ONE_BY_ONE: usize = 200;

/// A collection that is not fetched as a whole.
trait Many: DeserializeOwned {
    type Id: Copy + Ord + Display + FromStr;
    const COLLECTION: &'static str;

    fn id(&self) -> Self::Id;
}

/// One whose objects are asked for by name.
trait Named: Many {
    /// What one of them is called in messages.
    const KIND: &'static str;
    /// The part of the query that names one.
    const BY: &'static str;

    fn known_as(&self) -> &str;
    /// The form in which names are compared.
    fn compared(name: &str) -> String;
}

impl Many for PersonRecord {
    type Id = PersonId;
    const COLLECTION: &'static str = "people";

    fn id(&self) -> PersonId {
        self.id
    }
}

impl Named for PersonRecord {
    const KIND: &'static str = "person";
    const BY: &'static str = "login";

    fn known_as(&self) -> &str {
        &self.login
    }

    fn compared(name: &str) -> String {
        fold_name(name)
    }
}

impl Many for TerminalRecord {
    type Id = TerminalId;
    const COLLECTION: &'static str = "terminals";

    fn id(&self) -> TerminalId {
        self.id
    }
}

impl Named for TerminalRecord {
    const KIND: &'static str = "terminal";
    const BY: &'static str = "name";

    fn known_as(&self) -> &str {
        &self.terminal.name
    }

    fn compared(name: &str) -> String {
        name.to_owned()
    }
}

impl Many for ChangeRequest {
    type Id = ChangeRequestId;
    const COLLECTION: &'static str = "requests";

    fn id(&self) -> ChangeRequestId {
        self.id
    }
}

impl Server {
    /// The person who is meant: an id, or a login name in whatever spelling logs in.
    pub(super) fn person(&mut self, typed: &str) -> Result<PersonId, Error> {
        self.named::<PersonRecord>(typed)
    }

    /// The terminal that is meant: an id, or a name.
    pub(super) fn terminal(&mut self, typed: &str) -> Result<TerminalId, Error> {
        self.named::<TerminalRecord>(typed)
    }

    /// Everybody.
    pub(super) fn people(&mut self) -> Result<Vec<PersonRecord>, Error> {
        self.all()
    }

    /// All terminals.
    pub(super) fn terminals(&mut self) -> Result<Vec<TerminalRecord>, Error> {
        self.all()
    }

    /// All requests, in the order of their times.
    pub(super) fn change_requests(&mut self) -> Result<Vec<ChangeRequest>, Error> {
        let mut requests: Vec<ChangeRequest> = self.all()?;
        requests.sort_by_key(|request| request.requested_at);
        Ok(requests)
    }

    /// The request with this id.
    pub(super) fn change_request(&mut self, typed: &str) -> Result<ChangeRequest, Error> {
        let found = typed.parse().ok().map(|id| self.by_id(id)).transpose()?.flatten();
        found.ok_or_else(|| Error::UnknownName { kind: "request", name: typed.to_owned(), known: Vec::new() })
    }

    /// The login names of these people, as far as there are such people.
    pub(super) fn logins(&mut self, people: BTreeSet<PersonId>) -> Result<HashMap<PersonId, String>, Error> {
        let found: Vec<PersonRecord> = if people.len() > ONE_BY_ONE {
            self.people()?
        } else {
            let one_by_one = people.iter().map(|id| self.by_id(*id));
            one_by_one.filter_map(Result::transpose).collect::<Result<_, _>>()?
        };
        Ok(found.into_iter().map(|person| (person.id, person.login)).collect())
    }

    /// The lease in this state whose id is, or begins with, `typed`. A whole id means itself in whatever state.
    pub(super) fn lease(&mut self, typed: &str, state: Option<LeaseState>) -> Result<LeaseId, Error> {
        if let Ok(id) = typed.parse() {
            return Ok(id);
        }
        let state =
            state.map_or_else(String::new, |state| format!("&state={}", super::server::kebab(&state)));
        let unknown = |known| Error::UnknownName { kind: "lease", name: typed.to_owned(), known };
        if typed.is_empty()
            || typed.len() > 32
            || !typed.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(unknown(Vec::new()));
        }
        let path = format!("/v1/admin/leases?limit={FEW}&id={typed}{state}");
        let found: Vec<LeaseId> = self.get::<Vec<LeaseRecord>>(&path)?.iter().map(|lease| lease.id).collect();
        let found: Vec<LeaseId> = found.into_iter().filter(|id| id.to_string().starts_with(typed)).collect();
        match names::at_most_one("lease", typed, &found)? {
            Some(id) => Ok(id),
            // In another state, which whoever refuses it then says.
            None if !state.is_empty() => self.lease(typed, None),
            None => Err(unknown(Vec::new())),
        }
    }

    fn by_id<T: Many>(&mut self, id: T::Id) -> Result<Option<T>, Error> {
        match self.get(&format!("/v1/admin/{}/{id}", T::COLLECTION)) {
            Ok(found) => Ok(Some(found)),
            Err(Error::Problem { problem, .. }) if problem.code == ProblemCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn named<T: Named>(&mut self, typed: &str) -> Result<T::Id, Error> {
        if let Ok(id) = typed.parse::<T::Id>()
            && self.by_id::<T>(id)?.is_some()
        {
            return Ok(id);
        }
        let path = format!("/v1/admin/{}?{}={}", T::COLLECTION, T::BY, text::in_query(typed));
        let wanted = T::compared(typed);
        // What does not fit was not asked for: nothing is done to it, whatever the answer says.
        let fits = |one: &T| T::compared(one.known_as()) == wanted;
        let found: Vec<T::Id> =
            self.get::<Vec<T>>(&path)?.iter().filter(|one| fits(one)).map(T::id).collect();
        if let Some(id) = names::at_most_one(T::KIND, typed, &found)? {
            return Ok(id);
        }
        let some: Vec<T> = self.get(&format!("/v1/admin/{}?limit={}", T::COLLECTION, FEW + 1))?;
        let mut known: Vec<String> = some.iter().map(|one| one.known_as().to_owned()).collect();
        known.sort();
        // Some out of many would only look as if they were all.
        known.truncate(if known.len() > FEW { 0 } else { FEW });
        Err(Error::UnknownName { kind: T::KIND, name: typed.to_owned(), known })
    }

    fn all<T: Many>(&mut self) -> Result<Vec<T>, Error> {
        let (mut all, mut limit, mut last): (Vec<T>, usize, Option<T::Id>) = (Vec::new(), PART, None);
        loop {
            let after = last.map_or_else(String::new, |last| format!("&after={last}"));
            let part: Result<Vec<T>, Error> =
                self.get(&format!("/v1/admin/{}?limit={limit}{after}", T::COLLECTION));
            let part = match part {
                Err(Error::Problem { problem, .. }) if problem.code == ProblemCode::TooLarge && limit > 1 => {
                    limit /= 2;
                    continue;
                }
                part => part?,
            };
            // An answer that does not go on would be asked for again for ever.
            if part.iter().any(|one| last.is_some_and(|last| one.id() <= last)) {
                return Err(Error::DaemonAnswer);
            }
            let is_last = part.len() < limit;
            last = part.iter().map(T::id).max().or(last);
            all.extend(part);
            if is_last {
                return Ok(all);
            }
        }
    }
}

//! How many files one person may unseal before a second person has to agree. Each unsealing is asked for by itself (terminals keep no
//! grant for it), counted in the transaction of its record, and refused above the bound, so that neither haste nor
//! several servers at once get more. The rule is that of the second person: while that is off, nothing is bounded.

use super::ServiceError;
use super::admin::{Acting, Plan};
use super::directory::Directory;
use super::judge;
use super::{Service, decide};
use crate::audit::Act;
use crate::store::{Change, Tables, UnsealWindowRow};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use tobari_core::ids::{FileId, PersonId};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::api::Refusal;
use tobari_core::proto::policy::{UnsealLimitInput, UnsealWindow, UnsealWindowInput};
use tobari_core::proto::problem::ProblemCode;

/// The time within which files are counted.
const WITHIN: SignedDuration = SignedDuration::from_hours(1);
/// Most files of a limit or window.
const MOST_FILES: u32 = 100_000;
/// Longest window, in minutes. What was unsealed is remembered for longer.
const LONGEST_WINDOW: u32 = 24 * 60;

/// What may be unsealed now: so many since when, any one of which is enough.
struct Bounds {
    bounds: Vec<(Timestamp, u64)>,
    /// What was unsealed since the earliest of them.
    known: BTreeMap<FileId, Timestamp>,
    now: Timestamp,
}

impl Bounds {
    /// Takes one more file in, if there is room for it.
    fn admit(&mut self, file: FileId) -> bool {
        let before = self.known.insert(file, self.now);
        let room = self
            .bounds
            .iter()
            .any(|(since, most)| self.known.values().filter(|at| *at >= since).count() as u64 <= *most);
        if !room {
            match before {
                Some(at) => self.known.insert(file, at),
                None => self.known.remove(&file),
            };
        }
        room
    }
}

/// Which of some files may not be unsealed, by their places, and what counts the others.
#[derive(Default)]
pub(super) struct Unsealing {
    pub(super) refused: Vec<usize>,
    pub(super) count: Option<Change>,
}

/// The refusal of a file above the bound.
pub(super) fn refusal(rights: Rights, files: Option<u32>) -> Refusal {
    let files = files.unwrap_or_default();
    Refusal {
        code: ProblemCode::SecondPersonNeeded,
        detail: format!(
            "one person may unseal {files} files within an hour: for more, an administrator has to ask and a second person to approve"
        ),
        right: Some(Right::Decrypt),
        label_name: None,
        rights,
        reasons: Vec::new(),
    }
}

impl Service {
    /// Which of the files that a person wants to unseal may be, in their order.
    pub(super) async fn bound_unsealing(
        &self,
        directory: &Directory,
        person: PersonId,
        files: &[(usize, FileId)],
        now: Timestamp,
    ) -> Result<Unsealing, ServiceError> {
        let tables = &directory.tables;
        let Some(most) = judge::unseal_limit(tables).filter(|_| judge::second_person(tables)) else {
            return Ok(Unsealing::default());
        };
        if files.is_empty() {
            return Ok(Unsealing::default());
        }
        let now = decide::whole(now)?;
        let hour = now.checked_sub(WITHIN).map_err(|error| ServiceError::Internal(error.to_string()))?;
        let mut bounds = vec![(hour, u64::from(most))];
        let window = tables.unseal_windows.get(&person).filter(|window| now < window.ends_at);
        bounds.extend(window.map(|window| (window.opened_at, u64::from(window.files))));
        let since = bounds.iter().map(|(since, _)| *since).min().unwrap_or(hour);
        let known = self.store.unseals(person, since).await?.into_iter().collect();
        let mut room = Bounds { bounds, known, now };
        let (admitted, refused): (Vec<_>, Vec<_>) = files.iter().partition(|(_, file)| room.admit(*file));
        let count = Change::CountUnseals {
            person,
            files: admitted.iter().map(|(_, file)| *file).collect(),
            at: now,
            bounds: room.bounds,
        };
        Ok(Unsealing {
            refused: refused.into_iter().map(|(place, _)| place).collect(),
            count: (!admitted.is_empty()).then_some(count),
        })
    }

    /// The setting of how many.
    pub(super) fn plan_unseal_limit(
        &self,
        acting: &Acting,
        input: UnsealLimitInput,
    ) -> Result<Plan<UnsealLimitInput>, ServiceError> {
        if input.files.is_some_and(|files| !(1..=MOST_FILES).contains(&files)) {
            return Err(ServiceError::invalid("files", format!("must be 1 to {MOST_FILES}")));
        }
        let value = input.files.map_or_else(|| String::from("none"), |files| files.to_string());
        let record =
            self.acted(Act::Update, acting, "setting", judge::UNSEAL_LIMIT).detail(format!("files {value}"));
        let change = Change::PutSetting(judge::UNSEAL_LIMIT.to_owned(), value.into_bytes());
        Ok(Plan::new(vec![change], record, input))
    }

    /// More for one person, from now on.
    pub(super) fn plan_unseal_window(
        &self,
        acting: &Acting,
        directory: &Directory,
        person: PersonId,
        input: UnsealWindowInput,
    ) -> Result<Plan<UnsealWindow>, ServiceError> {
        let row = directory.tables.people.get(&person).ok_or(ServiceError::NotFound("person"))?;
        if !(1..=MOST_FILES).contains(&input.files) {
            return Err(ServiceError::invalid("files", format!("must be 1 to {MOST_FILES}")));
        }
        if !(1..=LONGEST_WINDOW).contains(&input.minutes) {
            return Err(ServiceError::invalid("minutes", format!("must be 1 to {LONGEST_WINDOW}")));
        }
        let opened_at = decide::whole(self.clock.now())?;
        let ends_at = opened_at
            .checked_add(SignedDuration::from_mins(i64::from(input.minutes)))
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        let window = UnsealWindowRow { person, files: input.files, opened_at, ends_at };
        let record = self
            .acted(Act::Update, acting, "unseal-window", person)
            .detail(format!("login {}, {} files within {} minutes", row.login, input.files, input.minutes));
        let output = UnsealWindow { person, login: row.login.clone(), files: input.files, ends_at };
        let mut plan = Plan::new(vec![Change::PutUnsealWindow(window)], record, output);
        // A second window in place of one that runs is something else to agree to.
        let running = directory.tables.unseal_windows.get(&person).filter(|row| opened_at < row.ends_at);
        plan.seen = format!("{running:?}");
        plan.widens.push(tobari_core::proto::policy::Widening::Unsealing);
        plan.needs_approval = true;
        Ok(plan)
    }

    /// Who may unseal more at the moment.
    pub(super) fn unseal_windows(&self, tables: &Tables) -> Vec<UnsealWindow> {
        let now = self.clock.now();
        let running = tables.unseal_windows.values().filter(|row| now < row.ends_at);
        running
            .map(|row| UnsealWindow {
                person: row.person,
                login: tables.people.get(&row.person).map(|person| person.login.clone()).unwrap_or_default(),
                files: row.files,
                ends_at: row.ends_at,
            })
            .collect()
    }
}

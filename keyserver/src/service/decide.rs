//! The decision: header and caller in, [`Allowed`] or a refusal out. `POST /v1/decisions` shows the same
//! without any key.

use super::caller::Caller;
use super::directory::Directory;
use super::{Call, Service, ServiceError};
use crate::store::{PersonRow, SessionRow, TerminalRow};
use jiff::Timestamp;
use std::sync::Arc;
use tobari_core::envelope::Header;
use tobari_core::ids::{FileId, LabelId, OrganisationId, PersonId, RuleId};
use tobari_core::policy::{Context, Decision, Requester, Right, Rights, Subject};
use tobari_core::proto::admin::Revoked;
use tobari_core::proto::api::{
    DecisionOutcome, DecisionResponse, GrantItem, GrantRequest, MAX_BATCH, Reason, Refusal,
};
use tobari_core::proto::problem::ProblemCode;

/// Longest file name that is recorded, in bytes.
const MAX_FILE_NAME: usize = 4096;

/// Proof that the policy allows the right that was asked. Only [`decide`] makes it, and it is used up by the
/// release of one key.
pub(super) struct Allowed {
    pub(super) file: FileId,
    pub(super) person: PersonId,
    pub(super) rights: Rights,
    pub(super) expires_at: Timestamp,
    _only_here: (),
}

/// What is known of a file that was asked for, for the record.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) file: Option<FileId>,
    pub(super) label: Option<LabelId>,
    pub(super) rights: Option<Rights>,
    pub(super) rules: Vec<RuleId>,
}

/// A time in whole microseconds, as everywhere in the store.
pub(super) fn whole(time: Timestamp) -> Result<Timestamp, ServiceError> {
    Timestamp::from_microsecond(time.as_microsecond())
        .map_err(|error| ServiceError::Internal(error.to_string()))
}

/// The one refusal for every header that cannot be read, whatever its fault.
pub(super) fn unreadable() -> Refusal {
    Refusal {
        code: ProblemCode::UnreadableEnvelope,
        detail: String::from(
            "the envelope's header is damaged, of another organisation or under an unknown key",
        ),
        right: None,
        label_name: None,
        rights: Rights::NONE,
        reasons: Vec::new(),
    }
}

/// A header of this organisation under a label that is known.
pub(super) fn read(item: &GrantItem, organisation: OrganisationId, directory: &Directory) -> Option<Header> {
    read_header(&item.header.0, organisation, directory)
}

/// The same from its bytes.
pub(super) fn read_header(
    bytes: &[u8],
    organisation: OrganisationId,
    directory: &Directory,
) -> Option<Header> {
    let header = Header::parse(bytes).ok()?;
    let policy = header.policy();
    let ours = policy.organisation == organisation && directory.tables.labels.contains_key(&policy.label);
    ours.then_some(header)
}

/// Who asks and from where, made once for all items of a request.
pub(super) struct Question<'a> {
    pub(super) directory: &'a Directory,
    requester: Requester,
    context: Context,
    latest: Timestamp,
}

impl<'a> Question<'a> {
    pub(super) fn new(
        directory: &'a Directory,
        caller: &'a Caller,
        now: Timestamp,
        latest: Timestamp,
    ) -> Self {
        let session: &SessionRow = &caller.session.row;
        Self {
            directory,
            requester: Requester { person: caller.person.id, memberships: caller.person.memberships.clone() },
            context: Context {
                now,
                zone: caller.terminal.zone.clone(),
                terminal_tags: caller.terminal.tags.clone(),
                second_factor: session.second_factor,
                protection: caller.terminal.protection,
            },
            latest: latest.min(session.expires_at).min(caller.terminal.certificate_expires_at),
        }
    }

    /// The same question, about a person who need not be there: what would be allowed at the time `at`, for a key
    /// that lives until `latest` at most.
    pub(super) fn about(
        directory: &'a Directory,
        person: &PersonRow,
        terminal: &TerminalRow,
        second_factor: bool,
        at: Timestamp,
        latest: Timestamp,
    ) -> Self {
        Self {
            directory,
            requester: Requester { person: person.id, memberships: person.memberships.clone() },
            context: Context {
                now: at,
                zone: terminal.zone.clone(),
                terminal_tags: terminal.tags.clone(),
                second_factor,
                protection: terminal.protection,
            },
            latest: latest.min(terminal.certificate_expires_at),
        }
    }

    fn ask(&self, header: &Header) -> Decision {
        let policy = header.policy();
        let subject = Subject { label: policy.label, owner_group: policy.owner_group };
        self.directory.policy.decide(&self.requester, &subject, &self.context)
    }

    /// The refusal of a file that is revoked, itself or by its label, or whose key is no more: whatever the policy says of it.
    fn revoked(&self, header: &Header) -> Option<Refusal> {
        let revocations = &self.directory.tables.revocations;
        let label = header.policy().label;
        let mut code = ProblemCode::Revoked;
        let name = self.directory.tables.labels.get(&label).map(|row| row.label.name.clone());
        let detail = if revocations.contains_key(&Revoked::File { id: header.file_id() }) {
            String::from("the file is revoked until an administrator lifts it")
        } else if revocations.contains_key(&Revoked::Label { id: label }) {
            let name = name.as_deref().unwrap_or_default();
            format!("the label {name} is revoked until an administrator lifts it")
        } else if let Some(generation) = self.directory.retired_key(header) {
            code = ProblemCode::KeyRetired;
            let name = name.as_deref().unwrap_or_default();
            format!(
                "key {generation} of {name}, for which the file was sealed, was retired: the organisation's recovery key opens it"
            )
        } else {
            return None;
        };
        Some(Refusal {
            code,
            detail,
            right: None,
            label_name: name,
            rights: Rights::NONE,
            reasons: Vec::new(),
        })
    }

    fn reasons(&self, decision: &Decision) -> Vec<Reason> {
        decision
            .reasons
            .iter()
            .map(|reason| Reason {
                rule: reason.rule,
                effect: reason.effect,
                rights: reason.rights,
                membership: self.directory.membership_words(&reason.membership),
                note: self
                    .directory
                    .tables
                    .rules
                    .get(&reason.rule)
                    .map(|rule| rule.note.clone())
                    .unwrap_or_default(),
            })
            .collect()
    }

    /// The decision on one file.
    pub(super) fn decide(&self, header: &Header, right: Right) -> (Asked, Result<Allowed, Refusal>) {
        self.decide_all(header, &[right], None)
    }

    /// The decision on one file of a lease: `offline`, and each right that is to be lent. Never more than that is allowed, and never
    /// for longer than `until`.
    pub(super) fn lend(
        &self,
        header: &Header,
        rights: Rights,
        until: Timestamp,
    ) -> (Asked, Result<Allowed, Refusal>) {
        let needed: Vec<Right> = std::iter::once(Right::Offline).chain(rights.iter()).collect();
        let (asked, outcome) = self.decide_all(header, &needed, Some(rights));
        let shorter = |allowed: Allowed| Allowed { expires_at: allowed.expires_at.min(until), ..allowed };
        (asked, outcome.map(shorter))
    }

    fn decide_all(
        &self,
        header: &Header,
        needed: &[Right],
        only: Option<Rights>,
    ) -> (Asked, Result<Allowed, Refusal>) {
        let label = header.policy().label;
        if let Some(refusal) = self.revoked(header) {
            let (file, rights) = (Some(header.file_id()), Some(Rights::NONE));
            return (Asked { file, label: Some(label), rights, rules: Vec::new() }, Err(refusal));
        }
        let decision = self.ask(header);
        let asked = Asked {
            file: Some(header.file_id()),
            label: Some(label),
            rights: Some(decision.rights),
            rules: decision.reasons.iter().map(|reason| reason.rule).collect(),
        };
        if let Some(right) = needed.iter().copied().find(|right| !decision.allows(*right)) {
            let name = self.directory.tables.labels.get(&label).map_or("", |row| row.label.name.as_str());
            let refusal = Refusal {
                code: ProblemCode::RightRefused,
                detail: format!("the policy does not give the right {right} on {name} here and now"),
                right: Some(right),
                label_name: Some(name.to_owned()).filter(|name| !name.is_empty()),
                rights: decision.rights,
                reasons: self.reasons(&decision),
            };
            return (asked, Err(refusal));
        }
        let turn = self.directory.next_turn(label, self.context.now).unwrap_or(Timestamp::MAX);
        let allowed = Allowed {
            file: header.file_id(),
            person: self.requester.person,
            rights: only.map_or(decision.rights, |only| only.intersection(decision.rights)),
            expires_at: self.latest.min(turn),
            _only_here: (),
        };
        (asked, Ok(allowed))
    }
}

/// Refuses batches that are too large and names that are too long.
pub(super) fn check_batch(request: &GrantRequest) -> Result<(), ServiceError> {
    if request.items.len() > MAX_BATCH {
        return Err(ServiceError::TooLarge(format!(
            "a batch has at most {MAX_BATCH} items, not {}",
            request.items.len()
        )));
    }
    let long = |item: &GrantItem| item.name.as_ref().is_some_and(|name| name.len() > MAX_FILE_NAME);
    match request.items.iter().position(long) {
        None => Ok(()),
        Some(index) => {
            let field = format!("items[{index}].name");
            Err(ServiceError::invalid(field, format!("must be at most {MAX_FILE_NAME} bytes")))
        }
    }
}

impl Service {
    /// `POST /v1/decisions`.
    ///
    /// # Errors
    /// Nobody is logged in; the batch is too large.
    pub async fn decisions(
        self: &Arc<Self>,
        call: &Call,
        request: GrantRequest,
    ) -> Result<DecisionResponse, ServiceError> {
        let caller = self.caller(call).await?;
        check_batch(&request)?;
        let service = Arc::clone(self);
        let decide = move || {
            let directory = service.directory.load_full();
            let now = service.clock.now();
            let question = Question::new(&directory, &caller, now, Timestamp::MAX);
            let organisation = service.identity.organisation;
            let decisions = request
                .items
                .iter()
                .map(|item| match read(item, organisation, &directory) {
                    None => DecisionOutcome::Refused(unreadable()),
                    Some(header) => question.show(&header),
                })
                .collect();
            DecisionResponse { decisions }
        };
        super::grants::compute(decide).await
    }
}

impl Question<'_> {
    fn show(&self, header: &Header) -> DecisionOutcome {
        if let Some(refusal) = self.revoked(header) {
            return DecisionOutcome::Refused(refusal);
        }
        let policy = header.policy();
        let decision = self.ask(header);
        DecisionOutcome::Decided {
            label: policy.label,
            label_name: self
                .directory
                .tables
                .labels
                .get(&policy.label)
                .map_or_else(|| policy.label_name.clone(), |row| row.label.name.clone()),
            owner_group: policy.owner_group,
            owner_group_name: policy.owner_group.and_then(|group| self.directory.group_name(group)),
            rights: decision.rights,
            reasons: self.reasons(&decision),
        }
    }
}

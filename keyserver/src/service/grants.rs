//! `POST /v1/grants`: authenticate, decide, unwrap, audit durably, release. The steps of a batch run
//! together, each over all its files.

use super::caller::Caller;
use super::decide::{Allowed, Asked, Question, check_batch, read, unreadable};
use super::directory::Directory;
use super::follow::ATTEMPTS;
use super::release::{Occasion, release};
use super::unwrap::{SecretName, Unwrapped, secret_name, stanza, unwrap};
use super::{Call, Service, ServiceError, judge, unseal};
use crate::audit::{Act, AuditError, Audited, Record};
use crate::store::{Basis, Change, StoreError};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use tobari_core::crypto::{GrantSealer, SharedSecret};
use tobari_core::envelope::Header;
use tobari_core::ids::{FileId, LabelId};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::api::{
    AuditReceipt, GrantItem, GrantOutcome, GrantRequest, GrantResponse, Refusal, grant_info,
};
use tobari_core::proto::base64::Base64;

/// Batches up to this many files are computed where they are; larger ones on the blocking pool, so that they
/// do not hold up other requests.
const INLINE: usize = 8;

/// One file on its way.
struct Item {
    name: Option<String>,
    new_label: Option<LabelId>,
    right: Right,
    asked: Asked,
    state: State,
}

enum State {
    Allowed(Allowed, Box<Header>),
    Ready(Allowed, Unwrapped),
    Refused(Refusal),
}

/// Runs a computation off the threads that serve connections.
pub(super) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ServiceError::Internal(error.to_string()))
}

async fn compute_for<T: Send + 'static>(
    items: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    if items <= INLINE { Ok(work()) } else { compute(work).await }
}

impl Service {
    /// `POST /v1/grants`: one outcome for each file, in order.
    ///
    /// # Errors
    /// Nobody is logged in, the batch is too large, or the audit log cannot be written: then no key leaves.
    pub async fn grants(
        self: &Arc<Self>,
        call: &Call,
        request: GrantRequest,
    ) -> Result<GrantResponse, ServiceError> {
        check_batch(&request)?;
        self.check_witnesses()?;
        let items = Arc::new(request.items);
        for _ in 0..ATTEMPTS {
            let (caller, directory) = self.caller_at_hand(call).await?;
            match self.grant_on(Arc::new(caller), directory, Arc::clone(&items)).await {
                // What this was decided on has changed, here or on another server: once more, on what is so now.
                Err(ServiceError::Moved) => self.catch_up_for(call).await?,
                result => return result,
            }
        }
        Err(ServiceError::TimedOut)
    }

    /// After a commit that found its basis gone: the directory and the caller's session as they are now.
    async fn catch_up_for(&self, call: &Call) -> Result<(), ServiceError> {
        // Answers why, if the caller is no longer one.
        self.caller(call).await.map(|_| ())
    }

    /// One attempt: every key is released on the basis of this directory and the caller's session, or none.
    async fn grant_on(
        self: &Arc<Self>,
        caller: Arc<Caller>,
        directory: Arc<Directory>,
        items: Arc<Vec<GrantItem>>,
    ) -> Result<GrantResponse, ServiceError> {
        let count = items.len();
        let basis = Basis::new(directory.version, Some(caller.session.row.id));
        let now = self.clock.now();
        let latest = now
            .checked_add(self.limits.grant_life)
            .map_err(|error| ServiceError::Internal(error.to_string()))?;

        let (items, wanted) = {
            let (service, caller, directory) =
                (Arc::clone(self), Arc::clone(&caller), Arc::clone(&directory));
            compute_for(count, move || service.decide_all(&caller, &directory, &items, now, latest)).await?
        };
        let (items, unseals) = self.within_bounds(&caller, &directory, items, now).await?;
        let secrets = self.secrets(wanted).await?;
        let (items, records) = {
            let caller = Arc::clone(&caller);
            compute_for(count, move || {
                let items: Vec<Item> =
                    items.into_iter().map(|item| item.unwrapped(&directory, &secrets)).collect();
                let records: Vec<Record> = items.iter().map(|item| item.record(&caller, now)).collect();
                (items, records)
            })
            .await?
        };
        let recorded = self.audit.commit_with_receipt(basis, unseals, &records).await;
        let (audited, receipt) = recorded.map_err(|error| match error {
            // Another request of this person was counted between: once more, with that.
            AuditError::Refused(StoreError::Stale) => ServiceError::Moved,
            error => error.into(),
        })?;
        let service = Arc::clone(self);
        let response = compute_for(count, move || service.answer(&caller, items, audited, receipt)).await??;
        for outcome in &response.outcomes {
            match outcome {
                GrantOutcome::Granted(_) => metrics::counter!("tobari_grants_total").increment(1),
                GrantOutcome::Refused(refusal) => {
                    let code = crate::http::problem::code_name(refusal.code);
                    metrics::counter!("tobari_refusals_total", "code" => code).increment(1);
                }
            }
        }
        Ok(response)
    }

    /// Refuses what one person may not unseal without a second one. What is left is counted by the change, with its records.
    async fn within_bounds(
        &self,
        caller: &Caller,
        directory: &Directory,
        mut items: Vec<Item>,
        now: Timestamp,
    ) -> Result<(Vec<Item>, Vec<Change>), ServiceError> {
        let unseals: Vec<(usize, FileId)> = items
            .iter()
            .enumerate()
            .filter_map(|(place, item)| match &item.state {
                State::Allowed(allowed, _) if item.right == Right::Decrypt => Some((place, allowed.file)),
                _ => None,
            })
            .collect();
        let bound = self.bound_unsealing(directory, caller.person.id, &unseals, now).await?;
        let most = judge::unseal_limit(&directory.tables);
        for place in bound.refused {
            if let Some(item) = items.get_mut(place) {
                let rights = item.asked.rights.unwrap_or(Rights::NONE);
                item.state = State::Refused(unseal::refusal(rights, most));
            }
        }
        Ok((items, bound.count.into_iter().collect()))
    }

    fn decide_all(
        &self,
        caller: &Caller,
        directory: &Directory,
        items: &[GrantItem],
        now: Timestamp,
        latest: Timestamp,
    ) -> (Vec<Item>, HashMap<SecretName, Vec<u8>>) {
        let question = Question::new(directory, caller, now, latest);
        let mut wanted = HashMap::new();
        let items = items
            .iter()
            .map(|item| {
                let (asked, state) = match read(item, self.identity.organisation, directory) {
                    None => (Asked::default(), State::Refused(unreadable())),
                    Some(header) => match question.decide(&header, item.right) {
                        (asked, Err(refusal)) => (asked, State::Refused(refusal)),
                        (asked, Ok(allowed)) => {
                            if let Some(stanza) = stanza(&header, directory) {
                                self.key_uses.note(directory, &stanza.key_id, allowed.file, now);
                                wanted
                                    .entry(secret_name(stanza))
                                    .or_insert_with(|| stanza.encapsulation.clone());
                            }
                            (asked, State::Allowed(allowed, Box::new(header)))
                        }
                    },
                };
                let new_label = item.new_label.filter(|_| item.right == Right::Relabel);
                Item { name: item.name.clone(), new_label, right: item.right, asked, state }
            })
            .collect();
        (items, wanted)
    }

    fn answer(
        &self,
        caller: &Caller,
        items: Vec<Item>,
        audited: Vec<Audited>,
        receipt: Option<AuditReceipt>,
    ) -> Result<GrantResponse, ServiceError> {
        if audited.len() != items.len() {
            return Err(ServiceError::Internal(String::from("a record is missing")));
        }
        let mut context: Option<(Vec<u8>, GrantSealer)> = None;
        let mut outcomes = Vec::with_capacity(items.len());
        for (item, audited) in items.into_iter().zip(audited) {
            outcomes.push(match item.state {
                State::Ready(allowed, unwrapped) => {
                    let (_, sealer) = match &mut context {
                        Some(context) => context,
                        None => {
                            let info = grant_info(self.identity.organisation, caller.terminal.id);
                            context.insert(GrantSealer::new(&caller.terminal.grant_key, &info)?)
                        }
                    };
                    GrantOutcome::Granted(release(sealer, allowed, unwrapped, audited, Occasion::Grant)?)
                }
                State::Refused(refusal) => GrantOutcome::Refused(refusal),
                State::Allowed(..) => GrantOutcome::Refused(unreadable()),
            });
        }
        let encapsulated_key = Base64(context.map(|(key, _)| key).unwrap_or_default());
        Ok(GrantResponse { encapsulated_key, outcomes, receipt })
    }
}

impl Item {
    /// The next state: an allowed header with its DEK, or a refusal that says nothing of why.
    fn unwrapped(self, directory: &Directory, secrets: &HashMap<SecretName, Arc<SharedSecret>>) -> Self {
        let state = match self.state {
            State::Allowed(allowed, header) => {
                let opened = stanza(&header, directory).and_then(|stanza| {
                    let secret = secrets.get(&secret_name(stanza))?;
                    unwrap(&allowed, &header, stanza, secret)
                });
                match opened {
                    Some(unwrapped) => State::Ready(allowed, unwrapped),
                    None => State::Refused(unreadable()),
                }
            }
            state @ (State::Ready(..) | State::Refused(_)) => state,
        };
        Self { state, ..self }
    }

    fn record(&self, caller: &Caller, now: Timestamp) -> Record {
        let (act, code) = match &self.state {
            State::Ready(..) => (Act::Grant, None),
            State::Refused(refusal) => (Act::Refusal, Some(refusal.code)),
            State::Allowed(..) => (Act::Refusal, Some(unreadable().code)),
        };
        Record {
            code,
            file: self.asked.file,
            file_name: self.name.clone(),
            label: self.asked.label,
            new_label: self.new_label,
            right: Some(self.right),
            rights: self.asked.rights,
            rules: self.asked.rules.clone(),
            ..Record::new(act, now, caller.who())
        }
    }
}

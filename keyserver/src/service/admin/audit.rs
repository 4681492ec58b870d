//! Reading and checking the audit log. Both are recorded: who looks is known.

use crate::audit::{Act, chain};
use crate::audit::{Record, proof};
use crate::service::error::ServiceError;
use crate::service::{Call, Service};
use crate::store::{AuditHead, AuditRow};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::Serialize;
use tobari_core::audit::Checkpoint;
use tobari_core::ids::{FileId, LabelId, PersonId, TerminalId};
use tobari_core::proto::admin::{AuditMatches, AuditPage, AuditProof, AuditRecord, Role};
use tobari_core::proto::api::AuditReceipt;
use tobari_core::proto::base64::Base64;

const ROLES: &[Role] = &[Role::Auditor];
/// Most records in one page.
pub(crate) const MAX_PAGE: u32 = 1000;

/// Records that one search looks at before it answers; the next one goes on.
const MAX_SEARCH: u64 = 50_000;
/// Records read at once while searching.
const SEARCH_PAGE: u32 = 2000;

/// What records have to match; everything that is given.
#[derive(Debug, Default)]
pub struct AuditFilter {
    /// The kind of act.
    pub act: Option<Act>,
    /// Who acted, or was the object of an administrative act.
    pub person: Option<PersonId>,
    /// Which file.
    pub file: Option<FileId>,
    /// Which label.
    pub label: Option<LabelId>,
    /// Where.
    pub terminal: Option<TerminalId>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

impl AuditFilter {
    fn matches(&self, payload: &[u8]) -> bool {
        // What this program cannot read is shown: a search must not hide it.
        let Ok(record) = serde_json::from_slice::<Record>(payload) else { return true };
        let about = |kind: &str, id: String| record.object.as_deref() == Some(&format!("{kind}/{id}"));
        self.act.is_none_or(|act| record.act == act)
            && self.person.is_none_or(|id| record.person == Some(id) || about("person", id.to_string()))
            && self.file.is_none_or(|id| record.file == Some(id))
            && self.label.is_none_or(|id| {
                record.label == Some(id) || record.new_label == Some(id) || about("label", id.to_string())
            })
            && self.terminal.is_none_or(|id| record.terminal == Some(id) || about("terminal", id.to_string()))
            && self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time < until)
    }

    fn words(&self) -> String {
        let given = |name: &str, value: Option<String>| value.map(|value| format!("{name} {value}"));
        let act = self.act.and_then(|act| serde_json::to_value(act).ok()?.as_str().map(str::to_owned));
        let all = [
            given("act", act),
            given("person", self.person.map(|id| id.to_string())),
            given("file", self.file.map(|id| id.to_string())),
            given("label", self.label.map(|id| id.to_string())),
            given("terminal", self.terminal.map(|id| id.to_string())),
            given("since", self.since.map(|time| time.to_string())),
            given("until", self.until.map(|time| time.to_string())),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

fn shown(row: AuditRow) -> AuditRecord {
    AuditRecord { sequence: row.sequence, payload: Base64(row.payload), hash: HEXLOWER.encode(&row.hash) }
}

/// Outcome of checking the whole chain.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct AuditVerification {
    /// Whether every record continues the chain.
    pub intact: bool,
    /// Sequence number of the last record that does.
    pub last_sequence: u64,
    /// Its hash, hexadecimal; note it elsewhere to see later that nothing was cut.
    pub last_hash: String,
    /// What is wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Service {
    /// `GET /v1/admin/audit`.
    ///
    /// # Errors
    /// No auditor, a limit out of range.
    pub async fn audit_page(&self, call: &Call, after: u64, limit: u32) -> Result<AuditPage, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(ServiceError::invalid("limit", format!("must be 1 to {MAX_PAGE}")));
        }
        let record = self
            .admin_record(Act::AuditRead, &caller, "audit", after)
            .detail(format!("at most {limit} records"));
        self.audit.commit(Vec::new(), &[record]).await?;
        let previous = match after {
            0 => AuditHead::START.hash,
            after => {
                let row = self.store.audit_page(after - 1, 1).await?;
                row.first()
                    .filter(|row| row.sequence == after)
                    .ok_or(ServiceError::NotFound("audit record"))?
                    .hash
            }
        };
        let rows = self.store.audit_page(after, limit).await?;
        Ok(AuditPage {
            previous_hash: HEXLOWER.encode(&previous),
            records: rows.into_iter().map(shown).collect(),
        })
    }

    /// `GET /v1/admin/audit/search`.
    ///
    /// # Errors
    /// No auditor, a limit out of range.
    pub async fn audit_search(
        &self,
        call: &Call,
        filter: &AuditFilter,
        after: u64,
        limit: u32,
    ) -> Result<AuditMatches, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(ServiceError::invalid("limit", format!("must be 1 to {MAX_PAGE}")));
        }
        let record = self.admin_record(Act::AuditRead, &caller, "audit", "search").detail(filter.words());
        // What is read is the log as it was asked for: the record of the search itself would come again for ever.
        let head = self.store.audit_head().await?.sequence;
        self.audit.commit(Vec::new(), &[record]).await?;
        let mut records = Vec::new();
        let mut searched_to = after.min(head);
        let stop = head.min(after.saturating_add(MAX_SEARCH));
        while searched_to < stop {
            let rows = self.store.audit_page(searched_to, SEARCH_PAGE).await?;
            if rows.is_empty() {
                return Err(ServiceError::Internal(format!("record {} is missing", searched_to + 1)));
            }
            for row in rows.into_iter().take_while(|row| row.sequence <= stop) {
                searched_to = row.sequence;
                if filter.matches(&row.payload) {
                    records.push(shown(row));
                    if records.len() >= limit as usize {
                        return Ok(AuditMatches { records, searched_to, end: searched_to == head });
                    }
                }
            }
        }
        Ok(AuditMatches { records, searched_to, end: searched_to == head })
    }

    /// `GET /v1/admin/audit/checkpoint`: the log as it is now, signed, with the proof for the records `first` to `last`.
    ///
    /// # Errors
    /// No auditor, records that there are not.
    pub async fn audit_checkpoint(
        &self,
        call: &Call,
        first: u64,
        last: Option<u64>,
    ) -> Result<AuditProof, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        let record = self.admin_record(Act::AuditRead, &caller, "audit", "checkpoint");
        self.audit.commit(Vec::new(), &[record]).await?;
        let tree = self.store.audit_frontier().await?;
        let size = tree.size();
        let last = last.unwrap_or(size);
        if first == 0 || first > last || last > size {
            return Err(ServiceError::invalid(
                "first",
                format!("must be 1 to last, and last at most {size}"),
            ));
        }
        let proof = proof::inclusion(self.store.as_ref(), first - 1..last, size).await?;
        let log = &self.identity.log;
        Ok(AuditProof {
            checkpoint: Checkpoint::of(log.organisation, log.epoch, &tree).sign(&log.signer).note,
            size,
            key: log.signer.public().to_string(),
            proof: proof.into_iter().map(|hash| Base64(hash.to_vec())).collect(),
        })
    }

    /// The receipt of `count` records from the sequence number `first` on, from the log as it is now; none where they are not
    /// all there.
    pub(in crate::service) async fn receipt_from_log(
        &self,
        first: u64,
        count: u32,
    ) -> Result<Option<AuditReceipt>, ServiceError> {
        let Some(start) = first.checked_sub(1) else { return Ok(None) };
        let rows = self.store.audit_page(start, count).await?;
        let texts: Option<Vec<String>> =
            rows.into_iter().map(|row| String::from_utf8(row.payload).ok()).collect();
        let Some(records) = texts.filter(|texts| texts.len() == count as usize) else { return Ok(None) };
        let tree = self.store.audit_frontier().await?;
        let end = start + u64::from(count);
        let proof = proof::inclusion(self.store.as_ref(), start..end, tree.size()).await?;
        let log = &self.identity.log;
        Ok(Some(AuditReceipt {
            checkpoint: Checkpoint::of(log.organisation, log.epoch, &tree).sign(&log.signer).note,
            first,
            records,
            proof: proof.into_iter().map(|hash| Base64(hash.to_vec())).collect(),
        }))
    }

    /// `GET /v1/admin/audit/verify`.
    ///
    /// # Errors
    /// No auditor, or the log cannot be read. A broken chain is not an error but the answer.
    pub async fn audit_verify(&self, call: &Call) -> Result<AuditVerification, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        let record = self.admin_record(Act::AuditRead, &caller, "audit", "verify");
        self.audit.commit(Vec::new(), &[record]).await?;
        match chain::verify(self.store.as_ref()).await {
            Ok(head) => Ok(AuditVerification {
                intact: true,
                last_sequence: head.sequence,
                last_hash: HEXLOWER.encode(&head.hash),
                fault: None,
            }),
            Err(chain::ChainError::Store(error)) => Err(error.into()),
            Err(
                error @ (chain::ChainError::Gap { .. }
                | chain::ChainError::Broken { .. }
                | chain::ChainError::Tree(_)),
            ) => {
                let good = match error {
                    chain::ChainError::Gap { expected, .. } => expected - 1,
                    chain::ChainError::Broken { sequence } => sequence - 1,
                    chain::ChainError::Tree(_) | chain::ChainError::Store(_) => 0,
                };
                tracing::error!(%error, "the audit log is not intact");
                Ok(AuditVerification {
                    intact: false,
                    last_sequence: good,
                    last_hash: String::new(),
                    fault: Some(error.to_string()),
                })
            }
        }
    }
}

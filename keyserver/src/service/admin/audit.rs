//! Reading and checking the audit log. Both are recorded: who looks is known.

use crate::audit::{Act, chain};
use crate::service::error::ServiceError;
use crate::service::{Call, Service};
use crate::store::AuditHead;
use data_encoding::HEXLOWER;
use serde::Serialize;
use tobari_core::proto::admin::{AuditPage, AuditRecord, Role};
use tobari_core::proto::base64::Base64;

const ROLES: &[Role] = &[Role::Auditor];
/// Most records in one page.
pub(crate) const MAX_PAGE: u32 = 1000;

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
            records: rows
                .into_iter()
                .map(|row| AuditRecord {
                    sequence: row.sequence,
                    payload: Base64(row.payload),
                    hash: HEXLOWER.encode(&row.hash),
                })
                .collect(),
        })
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
            Err(error @ (chain::ChainError::Gap { .. } | chain::ChainError::Broken { .. })) => {
                let good = match error {
                    chain::ChainError::Gap { expected, .. } => expected - 1,
                    chain::ChainError::Broken { sequence } => sequence - 1,
                    chain::ChainError::Store(_) => 0,
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

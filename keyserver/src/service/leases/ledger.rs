//! The ledger of what was taken along (持ち出し台帳): each lease that was issued, with what its terminal reported.

use super::request::record;
use crate::audit::{Act, Record};
use crate::service::{Call, Service, ServiceError};
use crate::store::LeaseFilter;
use tobari_core::proto::lease::LedgerEntry;

/// Most leases in one answer.
const MAX_ENTRIES: u32 = 1000;

impl Service {
    /// `GET /v1/admin/leases/ledger`: newest first; at most the newest 1000 that fit. The reading is recorded.
    ///
    /// # Errors
    /// Neither an administrator of leases nor an auditor.
    pub async fn lease_ledger(
        &self,
        call: &Call,
        filter: LeaseFilter,
    ) -> Result<Vec<LedgerEntry>, ServiceError> {
        let caller = self.may_read_ledger(call).await?;
        let entry = Record::new(Act::LeaseLedgerRead, self.clock.now(), caller.who());
        self.audit.commit(Vec::new(), &[entry]).await?;
        let limit = filter.limit.map_or(MAX_ENTRIES, |limit| limit.min(MAX_ENTRIES));
        let filter = LeaseFilter { issued: true, limit: Some(limit), ..filter };
        let rows = self.store.leases(filter).await?;
        let directory = self.directory.load_full();
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(row) = self.store.lease(row.id).await? else { continue };
            let mut records = Vec::new();
            for stored in self.store.lease_records(row.id).await? {
                records.push(serde_json::from_slice(&stored.payload).map_err(|_| {
                    ServiceError::Internal(format!(
                        "record {} of {} is damaged",
                        stored.sequence, stored.terminal
                    ))
                })?);
            }
            entries.push(LedgerEntry { lease: record(&directory, row), records });
        }
        Ok(entries)
    }
}

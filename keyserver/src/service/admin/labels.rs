//! Labels and their keys. A label is never deleted: files that were sealed under it could not be opened again.

use super::plan::{Acting, Plan};
use crate::audit::Act;
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::Warrant;
use crate::service::{Call, Service};
use crate::store::{Change, LabelRow, Tables};
use tobari_core::ids::LabelId;
use tobari_core::policy::Label;
use tobari_core::proto::admin::{LabelInput, LabelRecord, Role};

pub(super) const ROLES: &[Role] = &[Role::KeyCustodian];

pub(super) fn record(tables: &Tables, row: &LabelRow) -> LabelRecord {
    let key = tables.label_keys.range((row.label.id, 0)..=(row.label.id, u32::MAX)).next_back();
    LabelRecord {
        id: row.label.id,
        label: LabelInput {
            name: row.label.name.clone(),
            level: row.label.level,
            key_kind: row.key_kind,
            allow_legacy_zip: row.allow_legacy_zip,
            lease_by_label: row.lease_by_label,
        },
        generation: key.map_or(0, |(_, key)| key.generation),
        key_id: key.map(|(_, key)| key.key_id.to_string()).unwrap_or_default(),
    }
}

/// Why there is no deleting.
pub(super) fn never_deleted() -> ServiceError {
    ServiceError::conflict(
        "label",
        "a label has a key that files may need, so it cannot be deleted; remove its rules and folders to retire it",
    )
}

impl Service {
    /// `GET /v1/admin/labels`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn labels(&self, call: &Call) -> Result<Vec<LabelRecord>, ServiceError> {
        let tables = self.read_tables(call).await?;
        Ok(tables.labels.values().map(|row| record(&tables, row)).collect())
    }

    /// `GET /v1/admin/labels/{id}`.
    ///
    /// # Errors
    /// No administrator, no such label.
    pub async fn label(&self, call: &Call, id: LabelId) -> Result<LabelRecord, ServiceError> {
        let tables = self.read_tables(call).await?;
        tables.labels.get(&id).map(|row| record(&tables, row)).ok_or(ServiceError::NotFound("label"))
    }

    /// `POST /v1/admin/labels`: makes the label and its first key.
    ///
    /// # Errors
    /// No key custodian, or fields that are not allowed.
    pub async fn create_label(&self, call: &Call, input: LabelInput) -> Result<LabelRecord, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_label(&Acting::from(&caller), &directory, LabelId::generate(), input).await?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    /// A new label with its first key, or other fields of one that there is; its key stays.
    pub(super) async fn plan_label(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: LabelId,
        input: LabelInput,
    ) -> Result<Plan<LabelRecord>, ServiceError> {
        let before = directory.tables.labels.get(&id);
        let row = LabelRow {
            label: Label { id, name: input.name.trim().to_owned(), level: input.level },
            key_kind: before.map_or(input.key_kind, |before| before.key_kind),
            allow_legacy_zip: input.allow_legacy_zip,
            lease_by_label: input.lease_by_label,
        };
        if before.is_some() {
            let record = self.acted(Act::Update, acting, "label", id).detail(format!(
                "name {}, level {}, allow_legacy_zip {}, lease_by_label {}",
                row.label.name, row.label.level, row.allow_legacy_zip, row.lease_by_label
            ));
            let output = self::record(&directory.tables, &row);
            return Ok(Plan::new(vec![Change::PutLabel(row)], record, output));
        }
        let (key_row, key) = self.make_label_key(id, 1, row.key_kind, self.clock.now()).await?;
        let record = self
            .acted(Act::Create, acting, "label", id)
            .detail(format!("name {}, level {}, key {}", row.label.name, row.label.level, key_row.key_id));
        let changes = vec![Change::PutLabel(row.clone()), Change::AddLabelKey(key_row)];
        let mut plan = Plan::new(changes, record, self::record(&directory.tables, &row));
        plan.output = self::record(&plan.after(&directory.tables), &row);
        plan.keys.push(key);
        Ok(plan)
    }

    /// `PUT /v1/admin/labels/{id}`: name, level and ZIP setting; the key stays.
    ///
    /// # Errors
    /// No key custodian, no such label, or fields that are not allowed.
    pub async fn replace_label(
        &self,
        call: &Call,
        id: LabelId,
        input: LabelInput,
    ) -> Result<LabelRecord, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        if !directory.tables.labels.contains_key(&id) {
            return Err(ServiceError::NotFound("label"));
        }
        let plan = self.plan_label(&Acting::from(&caller), &directory, id, input).await?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    /// `POST /v1/admin/labels/{id}/rotate`: makes the label's next key. Files that are sealed from the next bulletin on are for the new
    /// key; the old ones stay, since older files need them until they are rewrapped.
    ///
    /// # Errors
    /// No key custodian, no such label.
    pub async fn rotate_label(&self, call: &Call, id: LabelId) -> Result<LabelRecord, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_rotation(&Acting::from(&caller), &directory, id).await?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    /// Held while others may not rotate; while the key is made, nothing else changes.
    pub(super) async fn plan_rotation(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: LabelId,
    ) -> Result<Plan<LabelRecord>, ServiceError> {
        let row = directory.tables.labels.get(&id).ok_or(ServiceError::NotFound("label"))?;
        let generation = record(&directory.tables, row)
            .generation
            .checked_add(1)
            .ok_or_else(|| ServiceError::conflict("label", "the label has no more generations"))?;
        let (key_row, key) = self.make_label_key(id, generation, row.key_kind, self.clock.now()).await?;
        let record = self.acted(Act::Update, acting, "label", id).detail(format!(
            "name {}, rotated to generation {generation}, key {}",
            row.label.name, key_row.key_id
        ));
        let mut plan =
            Plan::new(vec![Change::AddLabelKey(key_row)], record, self::record(&directory.tables, row));
        plan.output = self::record(&plan.after(&directory.tables), row);
        plan.keys.push(key);
        Ok(plan)
    }

    /// `DELETE /v1/admin/labels/{id}`: always refused.
    ///
    /// # Errors
    /// Always.
    pub async fn delete_label(&self, call: &Call, id: LabelId) -> Result<(), ServiceError> {
        self.administrator(call, ROLES).await?;
        if !self.directory.load().tables.labels.contains_key(&id) {
            return Err(ServiceError::NotFound("label"));
        }
        Err(never_deleted())
    }
}

//! Labels and their keys. A label is never deleted: files that were sealed under it could not be opened again.

use super::plan::{Acting, Plan};
use crate::audit::Act;
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::Warrant;
use crate::service::{Call, Service, decide, retirement};
use crate::store::{Change, LabelRow, Tables};
use tobari_core::ids::LabelId;
use tobari_core::policy::Label;
use tobari_core::proto::admin::{LabelInput, LabelRecord, Role};
use tobari_core::proto::policy::RetireInput;

/// A year and a day.
const MOST_HOURS: u32 = 24 * 366;

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
            max_bulletin_age_hours: row.max_bulletin_age_hours,
        },
        generation: key.map_or(0, |(_, key)| key.generation),
        key_id: key.map(|(_, key)| key.key_id.to_string()).unwrap_or_default(),
        retired: tables
            .label_keys
            .range((row.label.id, 0)..=(row.label.id, u32::MAX))
            .filter(|(_, key)| key.retired_at.is_some())
            .map(|((_, generation), _)| *generation)
            .collect(),
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
        if input.max_bulletin_age_hours.is_some_and(|hours| !(1..=MOST_HOURS).contains(&hours)) {
            return Err(ServiceError::invalid(
                "max_bulletin_age_hours",
                format!("must be 1 to {MOST_HOURS}"),
            ));
        }
        let row = LabelRow {
            label: Label { id, name: input.name.trim().to_owned(), level: input.level },
            key_kind: before.map_or(input.key_kind, |before| before.key_kind),
            allow_legacy_zip: input.allow_legacy_zip,
            lease_by_label: input.lease_by_label,
            max_bulletin_age_hours: input.max_bulletin_age_hours,
        };
        if before.is_some() {
            let record = self.acted(Act::Update, acting, "label", id).detail(format!(
                "name {}, level {}, allow_legacy_zip {}, lease_by_label {}, max_bulletin_age_hours {}",
                row.label.name,
                row.label.level,
                row.allow_legacy_zip,
                row.lease_by_label,
                row.max_bulletin_age_hours.map_or_else(|| String::from("-"), |hours| hours.to_string())
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

    /// `POST /v1/admin/labels/{id}/retire`: takes the private half of an earlier generation away, for good.
    ///
    /// # Errors
    /// No key custodian, no such key, the current one, one that files are known to need, or a second person is needed.
    pub async fn retire_label_key(
        &self,
        call: &Call,
        id: LabelId,
        input: RetireInput,
    ) -> Result<LabelRecord, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_retirement(&Acting::from(&caller), &directory, id, input).await?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) async fn plan_retirement(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: LabelId,
        input: RetireInput,
    ) -> Result<Plan<LabelRecord>, ServiceError> {
        let row = directory.tables.labels.get(&id).ok_or(ServiceError::NotFound("label"))?;
        let RetireInput { generation, force } = input;
        let key = directory.tables.label_keys.get(&(id, generation)).ok_or(ServiceError::NotFound("key"))?;
        if generation == directory.current_generation(id) {
            return Err(ServiceError::conflict(
                "generation",
                "files are sealed for the current key: rotate it first",
            ));
        }
        if key.retired_at.is_some() {
            return Err(ServiceError::conflict("generation", "it was retired already"));
        }
        self.write_key_uses().await?;
        let files = self.store.files_under(id, generation).await?;
        if files > 0 && !force {
            return Err(ServiceError::conflict(
                "generation",
                format!(
                    "{files} files were sealed for it when they were last asked for: rewrap them, or have a second person agree to retire it by force"
                ),
            ));
        }
        let now = decide::whole(self.clock.now())?;
        let next = directory.tables.label_keys.get(&(id, generation.saturating_add(1)));
        let rested = next.is_some_and(|next| now.duration_since(next.created_at) >= self.limits.key_rest);
        if !rested && !force {
            return Err(ServiceError::conflict(
                "generation",
                format!(
                    "the next key is not in use for {} days yet, so files may be sealed for this one of which the key server does not know: rewrap them and wait, or have a second person agree to retire it by force",
                    self.limits.key_rest.as_hours() / 24
                ),
            ));
        }
        let words = retirement::in_words(&row.label.name, generation, &key.key_id, files);
        let record = self.acted(Act::Update, acting, "label", id).detail(words);
        let output = self::record(&directory.tables, row);
        let mut plan = Plan::new(vec![Change::RetireLabelKey(id, generation, now)], record, output);
        plan.output = self::record(&plan.after(&directory.tables), row);
        plan.forgets.push(key.key_id);
        plan.needs_approval = force;
        plan.seen = format!("label {id}, generation {generation}, force {force}");
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

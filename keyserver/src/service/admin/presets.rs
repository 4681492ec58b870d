//! Presets: labels with their keys, posts and rules in one act.

use super::labels;
use super::plan::{Acting, Plan};
use crate::audit::Act;
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::Warrant;
use crate::service::{Call, Service};
use crate::store::{Change, LabelRow};
use tobari_core::policy::{Label, Post, PresetError, preset, preset_names};
use tobari_core::proto::admin::{KeyKind, PresetApplied, Role};

/// It makes keys as well as rules.
const ROLES: &[Role] = &[Role::KeyCustodian, Role::Policy];

fn refused(error: PresetError) -> ServiceError {
    let detail = error.to_string();
    match error {
        PresetError::LabelExists(_) => ServiceError::conflict("label", detail),
        PresetError::PostOrder { .. } => ServiceError::conflict("post", detail),
        PresetError::Undefined(_) => ServiceError::Internal(detail),
    }
}

impl Service {
    /// `POST /v1/admin/presets/{name}`.
    ///
    /// # Errors
    /// Not both key custodian and policy administrator, no such preset, or what exists contradicts it.
    pub async fn apply_preset(&self, call: &Call, name: &str) -> Result<PresetApplied, ServiceError> {
        let caller = self.administrator(call, ROLES).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_preset(&Acting::from(&caller), &directory, name).await?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) async fn plan_preset(
        &self,
        acting: &Acting,
        directory: &Directory,
        name: &str,
    ) -> Result<Plan<PresetApplied>, ServiceError> {
        let Some(preset) = preset(name) else {
            let known: Vec<&str> = preset_names().collect();
            return Err(ServiceError::invalid(
                "name",
                format!("no such preset (known: {})", known.join(", ")),
            ));
        };
        let existing_labels: Vec<Label> =
            directory.tables.labels.values().map(|row| row.label.clone()).collect();
        let existing_posts: Vec<Post> =
            directory.tables.posts.values().map(|post| post.as_ref().clone()).collect();
        let instance = preset.instantiate(&existing_labels, &existing_posts).map_err(refused)?;

        let now = self.clock.now();
        let mut changes = Vec::new();
        let mut keys = Vec::new();
        let mut rows = Vec::new();
        for label in instance.labels {
            let (key_row, key) = self.make_label_key(label.id, 1, KeyKind::default(), now).await?;
            let row = LabelRow {
                label,
                key_kind: KeyKind::default(),
                allow_legacy_zip: false,
                lease_by_label: false,
                max_bulletin_age_hours: None,
            };
            changes.extend([Change::PutLabel(row.clone()), Change::AddLabelKey(key_row)]);
            rows.push(row);
            keys.push(key);
        }
        changes.extend(instance.posts.iter().cloned().map(Change::PutPost));
        changes.extend(instance.rules.iter().cloned().map(Change::PutRule));
        let record = self.acted(Act::Create, acting, "preset", name).detail(format!(
            "{} labels, {} posts, {} rules",
            rows.len(),
            instance.posts.len(),
            instance.rules.len()
        ));
        let mut output = PresetApplied {
            preset: name.to_owned(),
            labels: Vec::new(),
            posts: instance.posts,
            rules: instance.rules.iter().map(|rule| rule.id).collect(),
        };
        let after = Plan::new(changes.clone(), record.clone(), ()).after(&directory.tables);
        output.labels = rows.iter().map(|row| labels::record(&after, row)).collect();
        let plan = Plan::new(changes, record, output);
        Ok(Plan { keys, ..plan })
    }
}

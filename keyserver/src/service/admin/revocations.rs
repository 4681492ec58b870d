//! Revocation of labels and single files: nothing of them is granted until it is lifted. People and terminals are revoked in
//! their own objects.

use super::plan::{Acting, Plan};
use super::{POLICY, check_name};
use crate::audit::Act;
use crate::service::directory::Directory;
use crate::service::error::ServiceError;
use crate::service::judge::Warrant;
use crate::service::{Call, Service};
use crate::store::Change;
use tobari_core::proto::admin::{RevocationInput, RevocationRecord, Revoked};

/// Most files and labels that are revoked at one time: the bulletin names them all.
const MAX_REVOCATIONS: usize = 10_000;

impl Service {
    /// `GET /v1/admin/revocations`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn revocations(&self, call: &Call) -> Result<Vec<RevocationRecord>, ServiceError> {
        let tables = self.read_tables(call).await?;
        Ok(tables.revocations.values().map(|record| record.as_ref().clone()).collect())
    }

    /// `POST /v1/admin/revocations`. When it is answered, no grant that begins later succeeds.
    ///
    /// # Errors
    /// No policy administrator, no such label, or it is revoked already. A file need not be known here.
    pub async fn revoke(
        &self,
        call: &Call,
        input: RevocationInput,
    ) -> Result<RevocationRecord, ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        check_name("reason", &input.reason)?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        if let Revoked::Label { id } = input.subject
            && !directory.tables.labels.contains_key(&id)
        {
            return Err(ServiceError::NotFound("label"));
        }
        if directory.tables.revocations.contains_key(&input.subject) {
            return Err(ServiceError::conflict("id", "revoked already"));
        }
        if directory.tables.revocations.len() >= MAX_REVOCATIONS {
            let detail = format!("at most {MAX_REVOCATIONS} files and labels can be revoked at one time");
            return Err(ServiceError::conflict("revocations", detail));
        }
        let revocation = RevocationRecord {
            subject: input.subject,
            reason: input.reason.trim().to_owned(),
            revoked_by: caller.person.id,
            revoked_at: self.clock.now(),
        };
        let record = self
            .admin_record(Act::Create, &caller, "revocation", input.subject)
            .detail(revocation.reason.clone());
        self.change(&changing, vec![Change::PutRevocation(revocation.clone())], record).await?;
        Ok(revocation)
    }

    /// `POST /v1/admin/revocations/lift`: gives what was revoked, with a record of why it is so no more.
    ///
    /// # Errors
    /// No policy administrator, or it is not revoked.
    pub async fn lift_revocation(
        &self,
        call: &Call,
        input: RevocationInput,
    ) -> Result<RevocationRecord, ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_lift(&Acting::from(&caller), &directory, &input)?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    /// What was revoked before somebody lifts it: another revocation of the same subject is another thing to agree to.
    pub(super) fn plan_lift(
        &self,
        acting: &Acting,
        directory: &Directory,
        input: &RevocationInput,
    ) -> Result<Plan<RevocationRecord>, ServiceError> {
        check_name("reason", &input.reason)?;
        let revocation = directory
            .tables
            .revocations
            .get(&input.subject)
            .ok_or(ServiceError::NotFound("revocation"))?
            .as_ref()
            .clone();
        let record = self
            .acted(Act::Delete, acting, "revocation", input.subject)
            .detail(input.reason.trim().to_owned());
        let seen = format!(
            "revocation {} at {} by {}: {}",
            revocation.subject, revocation.revoked_at, revocation.revoked_by, revocation.reason
        );
        let plan = Plan::new(vec![Change::LiftRevocation(input.subject)], record, revocation);
        Ok(Plan { seen, ..plan })
    }
}

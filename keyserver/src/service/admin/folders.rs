//! Designated folders.

use super::{MAX_LIST, POLICY};
use crate::audit::Act;
use crate::service::error::ServiceError;
use crate::service::{Call, Service};
use crate::store::{Change, Tables};
use tobari_core::ids::FolderId;
use tobari_core::proto::admin::FolderInput;
use tobari_core::proto::bulletin::Folder;

/// Longest path, as Linux has it.
const MAX_PATH: usize = 4095;
/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 1024;

fn check(tables: &Tables, id: FolderId, input: &FolderInput) -> Result<(), ServiceError> {
    let path = input.path.as_str();
    let parts = path.strip_prefix('/');
    let plain = |parts: &str| {
        parts
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control()))
    };
    if path.len() > MAX_PATH || !parts.is_some_and(plain) {
        return Err(ServiceError::invalid(
            "path",
            "must be an absolute path below / without '.', '..', empty parts or control characters",
        ));
    }
    if tables.terminals.get(&input.terminal).is_none_or(|terminal| terminal.revoked) {
        return Err(ServiceError::invalid("terminal", "no such terminal, or it is revoked"));
    }
    if !tables.labels.contains_key(&input.label) {
        return Err(ServiceError::invalid("label", "no such label"));
    }
    if input.owner_group.is_some_and(|group| !tables.groups.contains_key(&group)) {
        return Err(ServiceError::invalid("owner_group", "no such group"));
    }
    if input.exclude.len() > MAX_LIST {
        return Err(ServiceError::invalid("exclude", format!("must have at most {MAX_LIST} entries")));
    }
    for (index, pattern) in input.exclude.iter().enumerate() {
        if pattern.is_empty() || pattern.len() > MAX_PATTERN || pattern.contains('\0') {
            let field = format!("exclude[{index}]");
            return Err(ServiceError::invalid(field, format!("must have 1 to {MAX_PATTERN} bytes")));
        }
    }
    let same = |other: &Folder| other.id != id && other.terminal == input.terminal && other.path == path;
    if tables.folders.values().any(|folder| same(folder)) {
        return Err(ServiceError::conflict("path", "this folder is already designated on this terminal"));
    }
    Ok(())
}

impl Service {
    /// `GET /v1/admin/folders`.
    ///
    /// # Errors
    /// No administrator.
    pub async fn folders(&self, call: &Call) -> Result<Vec<Folder>, ServiceError> {
        let tables = self.read_tables(call).await?;
        Ok(tables.folders.values().map(|folder| folder.as_ref().clone()).collect())
    }

    /// `GET /v1/admin/folders/{id}`.
    ///
    /// # Errors
    /// No administrator, no such folder.
    pub async fn folder(&self, call: &Call, id: FolderId) -> Result<Folder, ServiceError> {
        let tables = self.read_tables(call).await?;
        tables.folders.get(&id).map(|folder| folder.as_ref().clone()).ok_or(ServiceError::NotFound("folder"))
    }

    /// `POST /v1/admin/folders`.
    ///
    /// # Errors
    /// No policy administrator, or fields that are not allowed.
    pub async fn create_folder(&self, call: &Call, input: FolderInput) -> Result<Folder, ServiceError> {
        self.put_folder(call, None, input).await
    }

    /// `PUT /v1/admin/folders/{id}`.
    ///
    /// # Errors
    /// No policy administrator, no such folder, or fields that are not allowed.
    pub async fn replace_folder(
        &self,
        call: &Call,
        id: FolderId,
        input: FolderInput,
    ) -> Result<Folder, ServiceError> {
        self.put_folder(call, Some(id), input).await
    }

    async fn put_folder(
        &self,
        call: &Call,
        id: Option<FolderId>,
        input: FolderInput,
    ) -> Result<Folder, ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let act = match id {
            None => Act::Create,
            Some(id) if directory.tables.folders.contains_key(&id) => Act::Update,
            Some(_) => return Err(ServiceError::NotFound("folder")),
        };
        let id = id.unwrap_or_else(FolderId::generate);
        check(&directory.tables, id, &input)?;
        let FolderInput { terminal, path, label, owner_group, exclude } = input;
        let folder = Folder { id, terminal, path, label, owner_group, exclude };
        let record = self
            .admin_record(act, &caller, "folder", id)
            .detail(format!("{} on {terminal}, label {label}", folder.path));
        self.change(&changing, vec![Change::PutFolder(folder.clone())], record).await?;
        Ok(folder)
    }

    /// `DELETE /v1/admin/folders/{id}`: what is sealed stays sealed.
    ///
    /// # Errors
    /// No policy administrator, no such folder.
    pub async fn delete_folder(&self, call: &Call, id: FolderId) -> Result<(), ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let folder = directory.tables.folders.get(&id).ok_or(ServiceError::NotFound("folder"))?;
        let record = self
            .admin_record(Act::Delete, &caller, "folder", id)
            .detail(format!("{} on {}", folder.path, folder.terminal));
        self.change(&changing, vec![Change::DeleteFolder(id)], record).await
    }
}

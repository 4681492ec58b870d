//! What is sealed, for whom: a designated folder joined with its label's public keys, as the bulletin gives them.

use crate::failure::Failure;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::sync::Arc;
use tobari_core::ids::{LabelId, OrganisationId, TerminalId};
use tobari_core::policy::Label;
use tobari_core::proto::bulletin::{Bulletin, Folder, PublicKey};
use tobari_core::proto::problem::ProblemCode;

/// Who seals: written into the policy of each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealContext {
    /// The organisation under which files are sealed; envelopes of others are foreign.
    pub organisation: OrganisationId,
    /// This terminal.
    pub terminal: TerminalId,
}

/// Name and public keys of a folder's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelRecipients {
    /// The label.
    pub label: Label,
    /// Generation of the label's key, from 1.
    pub generation: u32,
    /// The label's key first, then the organisation's recovery key.
    pub recipients: Vec<PublicKey>,
}

impl LabelRecipients {
    /// The keys of a label as a bulletin has them.
    ///
    /// # Errors
    /// `NotFound` when it has no such label.
    pub fn of(bulletin: &Bulletin, label: LabelId) -> Result<Self, Failure> {
        let keys = bulletin.labels.iter().find(|keys| keys.label.id == label).ok_or_else(|| {
            Failure::new(ProblemCode::NotFound, format!("there is no label {label} in the bulletin"))
        })?;
        Ok(Self {
            label: keys.label.clone(),
            generation: keys.generation,
            recipients: vec![keys.key.clone(), bulletin.recovery.clone()],
        })
    }
}

/// A designated folder with all that sealing in it needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FolderRule {
    /// The folder as the bulletin has it.
    pub folder: Arc<Folder>,
    /// Keys of its label; none when the bulletin has no such label, and then nothing in it can be sealed.
    pub keys: Option<Arc<LabelRecipients>>,
    /// What is left alone: the folder's own patterns. A pattern that does not parse makes the rule unusable
    /// (`Err` with the parser's words), because leaving it out would seal what somebody wanted left alone.
    pub excluded: Result<GlobSet, String>,
}

impl FolderRule {
    /// Joins `folder` with what `bulletin` says about its label.
    pub fn resolve(folder: &Folder, bulletin: &Bulletin) -> Self {
        let keys = LabelRecipients::of(bulletin, folder.label).ok().map(Arc::new);
        Self { folder: Arc::new(folder.clone()), keys, excluded: compile(&folder.exclude) }
    }

    /// Rules for all folders that lie on `terminal`.
    pub fn of_terminal(bulletin: &Bulletin, terminal: TerminalId) -> Vec<Self> {
        bulletin
            .folders
            .iter()
            .filter(|folder| folder.terminal == terminal)
            .map(|folder| Self::resolve(folder, bulletin))
            .collect()
    }
}

impl PartialEq for FolderRule {
    fn eq(&self, other: &Self) -> bool {
        // The patterns are a function of the folder.
        self.folder == other.folder && self.keys == other.keys
    }
}

/// Compiles glob patterns, which are relative to the folder. A pattern without `/` is about the last
/// component of a path at any depth, as in `.gitignore`; `*` does not cross `/`.
pub(crate) fn compile(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let anchored = pattern.strip_prefix('/').unwrap_or(pattern);
        let text = if pattern.contains('/') { anchored.to_owned() } else { format!("**/{pattern}") };
        let glob = GlobBuilder::new(&text)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| format!("exclude pattern {pattern:?}: {}", error.kind()))?;
        set.add(glob);
    }
    set.build().map_err(|error| error.to_string())
}

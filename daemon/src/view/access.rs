//! On whose behalf a view opens files. The only thing in which a session's view and a gateway's differ.

use crate::failure::Failure;
use crate::seal::FolderRule;
use crate::sessions::Login;
use std::path::Path;
use std::sync::Arc;
use tobari_core::envelope::FilePolicy;
use tobari_core::ids::LabelId;
use tobari_core::policy::{Right, Rights};

/// Who may do what in one view. Called on the view's threads, several at a time; must not use the view itself.
pub trait Access: Send + Sync + 'static {
    /// The login whose grants a request of this user and process is served with.
    ///
    /// # Errors
    /// When there is nobody on whose behalf the user could be served; what is sealed is then closed to them.
    fn person(&self, uid: u32, pid: u32) -> Result<Arc<Login>, Failure>;

    /// How users are shown in the view.
    fn ids(&self) -> Ids {
        Ids::Same
    }

    /// Asked before a file of `policy` is opened for `right`, which the grant's `rights` include.
    ///
    /// # Errors
    /// When something beyond the grant is against it.
    fn may_open(&self, policy: &FilePolicy, rights: Rights, right: Right) -> Result<(), Failure> {
        let _ = (policy, rights, right);
        Ok(())
    }

    /// Told when the file was opened; before its first byte is read.
    fn opened(&self, policy: &FilePolicy, rights: Rights, right: Right) {
        let _ = (policy, rights, right);
    }

    /// Asked before each write to a file that is not sealed, before one is created that will not be sealed (`exclude` of the folder),
    /// and before a `user.` attribute is set, which is stored as it is.
    ///
    /// # Errors
    /// When nothing may be written that is not sealed.
    fn may_write_plain(&self, rule: &FolderRule) -> Result<(), Failure> {
        let _ = rule;
        Ok(())
    }

    /// The label of a file that is created in the folder of `rule`. Asked before it is created, empty; before something is written to
    /// it, [`Access::label_for_first_write`] is.
    ///
    /// # Errors
    /// When nothing may be created there.
    fn label_for_new(&self, rule: &FolderRule) -> Result<LabelId, Failure> {
        Ok(rule.folder.label)
    }

    /// The label that a sealed file has to have once it is written to. Asked when it is opened for writing and before each
    /// write; another one than it has is given to it first.
    fn label_for_change(&self, policy: &FilePolicy) -> LabelId {
        policy.label
    }

    /// The label that a file has to have which was created here and to which nothing has been written yet. Asked once, before its
    /// first byte is written: until then it holds nothing, whatever was read since it was created.
    ///
    /// # Errors
    /// When nothing may be written to it any more.
    fn label_for_first_write(&self, policy: &FilePolicy) -> Result<LabelId, Failure> {
        Ok(self.label_for_change(policy))
    }

    /// Told what was refused, for a notification. The log has it already.
    fn refused(&self, name: &Path, failure: &Failure) {
        let _ = (name, failure);
    }
}

/// How the users and groups of the file system beneath are shown in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ids {
    /// As they are. Everybody may ask.
    #[default]
    Same,
    /// One user and their group have other numbers within the session. Nobody else is served, not even root.
    Session {
        /// The user on the host, to whom belongs what the session creates.
        host_uid: u32,
        /// Their group on the host.
        host_gid: u32,
        /// The session's own user.
        uid: u32,
        /// The session's own group.
        gid: u32,
    },
}

impl Ids {
    /// Whether requests of this user are served at all.
    pub fn admits(self, caller: u32) -> bool {
        match self {
            Self::Same => true,
            Self::Session { uid, .. } => caller == uid,
        }
    }

    /// The user as shown.
    pub fn shown_user(self, real: u32) -> u32 {
        match self {
            Self::Session { host_uid, uid, .. } if real == host_uid => uid,
            _ => real,
        }
    }

    /// The group as shown.
    pub fn shown_group(self, real: u32) -> u32 {
        match self {
            Self::Session { host_gid, gid, .. } if real == host_gid => gid,
            _ => real,
        }
    }

    /// The user on the host who is shown as this one.
    pub fn real_user(self, shown: u32) -> u32 {
        match self {
            Self::Session { host_uid, uid, .. } if shown == uid => host_uid,
            _ => shown,
        }
    }

    /// The group on the host that is shown as this one.
    pub fn real_group(self, shown: u32) -> u32 {
        match self {
            Self::Session { host_gid, gid, .. } if shown == gid => host_gid,
            _ => shown,
        }
    }
}

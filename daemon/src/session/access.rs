//! What a session's views ask: on whose behalf, and what the high-water mark says.

use super::mark::{Against, Mark, Seen};
use super::user::LocalUser;
use crate::failure::Failure;
use crate::seal::FolderRule;
use crate::service::{Caller, Service};
use crate::sessions::Login;
use crate::view::{Access, Ids};
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tobari_core::envelope::FilePolicy;
use tobari_core::ids::{LabelId, SessionId};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::problem::ProblemCode;

/// One session's side of its views.
pub(super) struct SessionAccess {
    service: Weak<Service>,
    login: SessionId,
    user: u32,
    ids: Ids,
    mark: Mutex<Mark>,
    notices: SyncSender<(String, Failure)>,
}

impl SessionAccess {
    /// For the session with uid `session` of `user`, who is logged in as `login`. What is refused goes to `notices`.
    pub(super) fn new(
        service: &Arc<Service>,
        login: &Login,
        user: &LocalUser,
        session: u32,
        mark: Mark,
        notices: SyncSender<(String, Failure)>,
    ) -> Self {
        let ids = Ids::Session { host_uid: user.uid, host_gid: user.gid, uid: session, gid: user.gid };
        let (service, login) = (Arc::downgrade(service), login.session.id);
        Self { service, login, user: user.uid, ids, mark: Mutex::new(mark), notices }
    }

    fn mark(&self) -> MutexGuard<'_, Mark> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self, policy: &FilePolicy, rights: Rights) -> Seen {
        let bulletin = self.service.upgrade().map(|service| service.bulletin());
        let labels = bulletin.iter().flat_map(|bulletin| &bulletin.labels).map(|keys| &keys.label);
        Seen::of(policy, rights, labels)
    }
}

impl Access for SessionAccess {
    fn person(&self, _uid: u32, _pid: u32) -> Result<Arc<Login>, Failure> {
        let over = || Failure::new(ProblemCode::NotLoggedIn, "the login of this session has ended");
        let service = self.service.upgrade().ok_or_else(over)?;
        let login = service.login_of(Caller { uid: self.user })?;
        // Somebody else may have logged in under the same uid.
        if login.session.id == self.login { Ok(login) } else { Err(over()) }
    }

    fn ids(&self) -> Ids {
        self.ids
    }

    fn may_open(&self, policy: &FilePolicy, rights: Rights, right: Right) -> Result<(), Failure> {
        let seen = self.seen(policy, rights);
        let mut mark = self.mark();
        let result = match right {
            // What may be written can be read as well.
            Right::Edit => {
                let mut tried = mark.clone();
                tried.write(&seen).and_then(|()| tried.read(&seen)).map(|()| *mark = tried)
            }
            _ => mark.read(&seen),
        };
        result.map_err(refused)
    }

    fn may_write_plain(&self, _rule: &FolderRule) -> Result<(), Failure> {
        // It would lie there as it is, whatever the session reads.
        let why = "a session writes nothing that is not sealed, and this file is not or would not be";
        Err(in_session("session-plain", why))
    }

    fn label_for_new(&self, rule: &FolderRule) -> Result<LabelId, Failure> {
        let label = rule.folder.label;
        let level = rule.keys.as_ref().map_or(0, |keys| keys.label.level);
        let mark = self.mark();
        // Nothing is written yet; who creates an empty file may read on.
        mark.clone().create(level, label, rule.folder.owner_group).map_err(refused)?;
        Ok(mark.label_for(level, label))
    }

    fn label_for_first_write(&self, policy: &FilePolicy) -> Result<LabelId, Failure> {
        let seen = self.seen(policy, Rights::NONE);
        let mut mark = self.mark();
        mark.create(seen.level, seen.label, seen.group).map_err(refused)?;
        Ok(mark.label_for(seen.level, seen.label))
    }

    fn label_for_change(&self, policy: &FilePolicy) -> LabelId {
        let level = self.seen(policy, Rights::NONE).level;
        self.mark().label_for(level, policy.label)
    }

    fn refused(&self, name: &Path, failure: &Failure) {
        // When nobody listens, or too much is said at once, the log has it.
        let _logged_already = self.notices.try_send((name.to_string_lossy().into_owned(), failure.clone()));
    }
}

fn refused(against: Against) -> Failure {
    let field = match against {
        Against::WrittenBelow => "session-below",
        Against::WrittenWider | Against::Wider => "session-wider",
        Against::Print => "session-print",
        Against::Relabel => "session-relabel",
    };
    in_session(field, against.to_string())
}

/// A refusal that has its own text in the user's language.
fn in_session(field: &str, why: impl Into<String>) -> Failure {
    let mut failure = Failure::new(ProblemCode::RightRefused, why);
    failure.problem.field = Some(field.to_owned());
    failure
}

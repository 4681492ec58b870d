//! Changes: the only way in which anything in the store becomes different. A commit takes a list of them
//! and the audit records of the act, and does all or nothing.

use super::policy::{ChangeRequestRow, PolicyVersionRow};
use super::rows::{
    Digest, FileKeyRow, LabelKeyRow, LabelRow, LeaseCaseRow, LeaseRecordRow, LeaseRow, LeaseTerminalRow,
    LoginFailuresRow, PersonRow, SessionRow, Tables, TerminalRow, TokenRow, UnsealWindowRow,
};
use jiff::Timestamp;
use std::sync::Arc;
use tobari_core::ids::{
    ChangeRequestId, FileId, FolderId, GroupId, InvariantId, LabelId, LeaseId, PersonId, PostId, RuleId,
    SessionId, TerminalId,
};
use tobari_core::policy::{Group, Invariant, Post, Rule};
use tobari_core::proto::admin::{RevocationRecord, Revoked};
use tobari_core::proto::bulletin::Folder;
use tobari_core::proto::lease::LeaseState;
use tobari_core::proto::terminal::Reported;

/// One change. `Put` creates or replaces.
#[derive(Debug, Clone)]
pub enum Change {
    /// A named value.
    PutSetting(String, Vec<u8>),
    /// A label.
    PutLabel(LabelRow),
    /// A label's key; generations are never replaced.
    AddLabelKey(LabelKeyRow),
    /// Takes the private half of a label's key away, for good. Stale if that was done before.
    RetireLabelKey(LabelId, u32, Timestamp),
    /// For which keys files are sealed: those that need an earlier generation, and those that do not any more.
    SawFileKeys {
        /// Files that need an earlier generation.
        earlier: Vec<FileKeyRow>,
        /// Files that were seen under the current one.
        current: Vec<FileId>,
    },
    /// Somebody may unseal more files for a while.
    PutUnsealWindow(UnsealWindowRow),
    /// Somebody unseals files. Stale where they were more than every one of the bounds allows: another request came between.
    CountUnseals {
        /// Who.
        person: PersonId,
        /// Which.
        files: Vec<FileId>,
        /// When.
        at: Timestamp,
        /// From when on how many may be counted, each bound by itself.
        bounds: Vec<(Timestamp, u64)>,
    },
    /// A group.
    PutGroup(Group),
    /// Removes a group.
    DeleteGroup(GroupId),
    /// A post.
    PutPost(Post),
    /// Removes a post.
    DeletePost(PostId),
    /// A rule.
    PutRule(Rule),
    /// Removes a rule.
    DeleteRule(RuleId),
    /// A person. Two people with one `login_key` are a conflict.
    PutPerson(PersonRow),
    /// Removes a person and remembers the id as departed.
    DeletePerson(PersonId),
    /// Notes the time step of a code. Stale unless it is later than the one noted before.
    AdvanceTotpStep(PersonId, i64),
    /// Forgets the time step: a new secret begins anew.
    ForgetTotpStep(PersonId),
    /// A terminal.
    PutTerminal(TerminalRow),
    /// The last contacts of terminals.
    TouchTerminals(Vec<(TerminalId, Timestamp)>),
    /// What terminals told last of themselves.
    NoteReports(Vec<(TerminalId, Reported)>),
    /// A folder.
    PutFolder(Folder),
    /// Removes a folder.
    DeleteFolder(FolderId),
    /// Revokes a label or file.
    PutRevocation(RevocationRecord),
    /// Lifts a revocation. Stale if there is none.
    LiftRevocation(Revoked),
    /// A one-time token.
    PutToken(TokenRow),
    /// Uses a token up. Stale if it is not there any more.
    UseToken(Digest),
    /// A session.
    PutSession(SessionRow),
    /// Ends a session.
    DeleteSession(SessionId),
    /// Ends all sessions of a person.
    DeleteSessionsOfPerson(PersonId),
    /// Ends all sessions on a terminal.
    DeleteSessionsOnTerminal(TerminalId),
    /// Ends the sessions of people whom a terminal asserted.
    DeleteAssertedSessions(TerminalId),
    /// Ends all sessions.
    DeleteAllSessions,
    /// Removes all one-time tokens.
    DeleteAllTokens,
    /// The last uses of sessions.
    TouchSessions(Vec<(SessionId, Timestamp)>),
    /// Counts failed logins. Stale unless it is the first or one more than what is there: another server counted.
    PutLoginFailures(LoginFailuresRow),
    /// Forgets the failures of a login name.
    ClearLoginFailures(String),
    /// An invariant.
    PutInvariant(Invariant),
    /// Removes an invariant.
    DeleteInvariant(InvariantId),
    /// A change that waits for a second person.
    PutChangeRequest(ChangeRequestRow),
    /// Forgets one.
    DeleteChangeRequest(ChangeRequestId),
    /// The next version of the policy.
    AddPolicyVersion(PolicyVersionRow),
    /// A session showed a fresh second factor.
    StepUp(SessionId, Timestamp),
    /// A new lease.
    PutLease(Box<LeaseRow>),
    /// A lease that was in this state, and how it stands now. Stale when it was not.
    MoveLease(LeaseState, Box<LeaseRow>),
    /// An issued lease with this document, and how it stands with another one. Stale when it has another one, or has ended.
    RefillLease(Vec<u8>, Box<LeaseRow>),
    /// What a lease lends from now on, so that it is decided again when the policy changes; the lease counts as issued. What it lent
    /// before stays beside it, and what was narrowed stays as it is.
    PutLeaseCases(Vec<LeaseCaseRow>),
    /// What a stricter policy leaves.
    NarrowLeases(Vec<LeaseCaseRow>),
    /// An issued lease, and how it stands now; nothing where it has ended meanwhile.
    EndLease(Box<LeaseRow>),
    /// Nothing is changed. Moved on unless so many leases had been issued: the change that stands beside it has not seen them.
    LeasesIssued(u64),
    /// The bulletin names the lease as revoked until its end.
    RevokeLease(LeaseId, Timestamp),
    /// Forgets the revocations of leases that ended before this time.
    ForgetLeaseRevocations(Timestamp),
    /// When terminals fetched leases for the first time.
    FetchedLeases(Vec<(LeaseId, Timestamp)>),
    /// What a terminal reports of its leases. Stale when another report came between.
    AppendLeaseRecords {
        /// Its counter and last sequence number before.
        before: (u64, u64),
        /// How far it has reported now.
        after: LeaseTerminalRow,
        /// The records, each with whether it is an opening.
        rows: Vec<(bool, LeaseRecordRow)>,
    },
    /// Removes tokens and sessions that ended, and failures that were last seen, before this time.
    Prune(Timestamp),
}

impl Change {
    /// Whether it changes [`Tables`], and so what servers hold in memory. Exhaustive on purpose: a change that is
    /// forgotten here would not reach other servers.
    pub(crate) fn is_of_tables(&self) -> bool {
        match self {
            Self::PutSetting(..)
            | Self::PutLabel(_)
            | Self::AddLabelKey(_)
            | Self::RetireLabelKey(..)
            | Self::PutUnsealWindow(_)
            | Self::PutGroup(_)
            | Self::DeleteGroup(_)
            | Self::PutPost(_)
            | Self::DeletePost(_)
            | Self::PutRule(_)
            | Self::DeleteRule(_)
            | Self::PutPerson(_)
            | Self::DeletePerson(_)
            | Self::PutTerminal(_)
            | Self::PutFolder(_)
            | Self::DeleteFolder(_)
            | Self::PutRevocation(_)
            | Self::LiftRevocation(_)
            | Self::PutInvariant(_)
            | Self::DeleteInvariant(_)
            | Self::PutChangeRequest(_)
            | Self::DeleteChangeRequest(_)
            | Self::AddPolicyVersion(_)
            | Self::NarrowLeases(_)
            | Self::RevokeLease(..)
            | Self::ForgetLeaseRevocations(_) => true,
            Self::AdvanceTotpStep(..)
            | Self::SawFileKeys { .. }
            | Self::CountUnseals { .. }
            | Self::ForgetTotpStep(_)
            | Self::TouchTerminals(_)
            | Self::NoteReports(_)
            | Self::PutToken(_)
            | Self::UseToken(_)
            | Self::PutSession(_)
            | Self::DeleteSession(_)
            | Self::DeleteSessionsOfPerson(_)
            | Self::DeleteSessionsOnTerminal(_)
            | Self::DeleteAssertedSessions(_)
            | Self::DeleteAllSessions
            | Self::DeleteAllTokens
            | Self::TouchSessions(_)
            | Self::PutLoginFailures(_)
            | Self::ClearLoginFailures(_)
            | Self::StepUp(..)
            | Self::PutLease(_)
            | Self::MoveLease(..)
            | Self::RefillLease(..)
            | Self::PutLeaseCases(_)
            | Self::EndLease(_)
            | Self::LeasesIssued(_)
            | Self::FetchedLeases(_)
            | Self::AppendLeaseRecords { .. }
            | Self::Prune(_) => false,
        }
    }
}

impl Tables {
    /// Makes in memory the same change that the store makes; changes to what is not held in the tables
    /// (sessions, tokens, counters) leave them as they are.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PutSetting(name, value) => {
                self.settings.insert(name.clone(), Arc::new(value.clone()));
            }
            Change::PutLabel(row) => {
                self.labels.insert(row.label.id, Arc::new(row.clone()));
            }
            Change::AddLabelKey(row) => {
                self.label_keys.insert((row.label, row.generation), Arc::new(row.clone()));
            }
            Change::RetireLabelKey(label, generation, at) => {
                if let Some(row) = self.label_keys.get_mut(&(*label, *generation)) {
                    let retired = LabelKeyRow {
                        sealed_private: Vec::new(),
                        retired_at: Some(*at),
                        ..row.as_ref().clone()
                    };
                    *row = Arc::new(retired);
                }
            }
            Change::PutUnsealWindow(row) => {
                self.unseal_windows.insert(row.person, Arc::new(*row));
            }
            Change::PutGroup(group) => {
                self.groups.insert(group.id, Arc::new(group.clone()));
            }
            Change::DeleteGroup(id) => {
                self.groups.remove(id);
            }
            Change::PutPost(post) => {
                self.posts.insert(post.id, Arc::new(post.clone()));
            }
            Change::DeletePost(id) => {
                self.posts.remove(id);
            }
            Change::PutRule(rule) => {
                self.rules.insert(rule.id, Arc::new(rule.clone()));
            }
            Change::DeleteRule(id) => {
                self.rules.remove(id);
            }
            Change::PutPerson(row) => {
                self.people.insert(row.id, Arc::new(row.clone()));
            }
            Change::DeletePerson(id) => {
                if self.people.remove(id).is_some() {
                    self.departed.insert(*id);
                }
            }
            Change::PutTerminal(row) => {
                self.terminals.insert(row.id, Arc::new(row.clone()));
            }
            Change::PutFolder(folder) => {
                self.folders.insert(folder.id, Arc::new(folder.clone()));
            }
            Change::DeleteFolder(id) => {
                self.folders.remove(id);
            }
            Change::PutRevocation(record) => {
                self.revocations.insert(record.subject, Arc::new(record.clone()));
            }
            Change::LiftRevocation(subject) => {
                self.revocations.remove(subject);
            }
            Change::PutInvariant(invariant) => {
                self.invariants.insert(invariant.id, Arc::new(invariant.clone()));
            }
            Change::DeleteInvariant(id) => {
                self.invariants.remove(id);
            }
            Change::PutChangeRequest(row) => {
                self.change_requests.insert(row.id, Arc::new(row.clone()));
            }
            Change::DeleteChangeRequest(id) => {
                self.change_requests.remove(id);
            }
            Change::AddPolicyVersion(row) => self.policy_version = row.version,
            Change::RevokeLease(lease, ends_at) => {
                self.revoked_leases.insert(*lease, *ends_at);
            }
            Change::NarrowLeases(rows) => {
                for row in rows {
                    let left = row.left;
                    let place = (left.lease, left.label, left.owner_group);
                    self.narrowed_leases.insert(place, (left, row.lease_ends_at));
                }
            }
            Change::ForgetLeaseRevocations(before) => {
                self.revoked_leases.retain(|_, ends_at| *ends_at >= *before);
                self.narrowed_leases.retain(|_, (_, ends_at)| *ends_at >= *before);
            }
            Change::AdvanceTotpStep(..)
            | Change::SawFileKeys { .. }
            | Change::CountUnseals { .. }
            | Change::ForgetTotpStep(_)
            | Change::TouchTerminals(_)
            | Change::NoteReports(_)
            | Change::PutToken(_)
            | Change::UseToken(_)
            | Change::PutSession(_)
            | Change::DeleteSession(_)
            | Change::DeleteSessionsOfPerson(_)
            | Change::DeleteSessionsOnTerminal(_)
            | Change::DeleteAssertedSessions(_)
            | Change::DeleteAllSessions
            | Change::DeleteAllTokens
            | Change::TouchSessions(_)
            | Change::PutLoginFailures(_)
            | Change::ClearLoginFailures(_)
            | Change::StepUp(..)
            | Change::PutLease(_)
            | Change::MoveLease(..)
            | Change::RefillLease(..)
            | Change::PutLeaseCases(_)
            | Change::EndLease(_)
            | Change::LeasesIssued(_)
            | Change::FetchedLeases(_)
            | Change::AppendLeaseRecords { .. }
            | Change::Prune(_) => {}
        }
    }
}

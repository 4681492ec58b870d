//! The high-water mark: what a session has read decides what it may write.
//!
//! What has been read once can be anywhere in the memory of any of the session's processes, so all that is written later
//! counts as copied from it: it carries the highest label read so far, and nobody may do more with it than with what
//! was read. A file that was written to may still be open, so reading what it could not carry is refused from then on:
//! a session takes in more only before it writes below. Nothing is ever taken back; a new session begins anew.

use std::collections::BTreeSet;
use tobari_core::envelope::FilePolicy;
use tobari_core::ids::{GroupId, LabelId};
use tobari_core::policy::{Label, Right, Rights};

/// What makes no difference once contents are in a file that is being written.
const WITHIN: Rights = Rights::only(Right::View).union(Rights::only(Right::Edit));

/// Why something is refused that the grant alone would allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Against {
    /// A file that was written to earlier has a lower label.
    #[error(
        "this session has written to a file of a lower label and can read this one no more; \
         open it in a session of its own, or start one with '--label'"
    )]
    WrittenBelow,
    /// A file that was written to earlier gives more rights.
    #[error(
        "this session has written to a file that may be used more freely and can read this one no more; \
         open it in a session of its own"
    )]
    WrittenWider,
    /// The file to be written gives more rights than what was read.
    #[error(
        "this session has read a file with fewer rights, of another group or of another label of this level; \
         what it knows cannot be written here"
    )]
    Wider,
    /// The file to be written would get a higher label, and its writer may not give it one.
    #[error(
        "this session has read a file of a higher label; what it knows cannot be written here without the right 'relabel'"
    )]
    Relabel,
    /// A session that may print reads only what may be printed.
    #[error(
        "this session may print, and this file may not be printed; open it in a session without '--print'"
    )]
    Print,
}

/// A file as far as the mark is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Level of its label, as the organisation says today.
    pub(super) level: u16,
    /// Its label.
    pub(super) label: LabelId,
    /// The group that owns it.
    pub(super) group: Option<GroupId>,
    /// What its reader may do with it.
    pub(super) rights: Rights,
}

impl Seen {
    /// A sealed file. Its level is that of the label as `labels` has it, or as it was when the file was sealed, if the label is gone.
    pub(super) fn of<'a>(
        policy: &FilePolicy,
        rights: Rights,
        mut labels: impl Iterator<Item = &'a Label>,
    ) -> Self {
        let level =
            labels.find(|label| label.id == policy.label).map_or(policy.label_level, |label| label.level);
        Self { level, label: policy.label, group: policy.owner_group, rights }
    }
}

/// The mark of one session.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// The highest label so far, and its level.
    highest: Option<(u16, LabelId)>,
    /// What may be done with everything that was read.
    rights: Rights,
    /// Owner groups of what was read.
    groups: BTreeSet<Option<GroupId>>,
    /// Labels of what was read, with their levels: of two of one level neither stands for the other.
    labels: BTreeSet<(u16, LabelId)>,
    written: Vec<Written>,
    print: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    level: u16,
    label: LabelId,
    group: Option<GroupId>,
    /// Unknown for what the session created or relabelled: those of its label and group.
    rights: Option<Rights>,
}

impl Mark {
    /// A session that has read nothing. What it creates carries at least `label`.
    pub(super) fn new(label: Option<&Label>, print: bool) -> Self {
        Self {
            highest: label.map(|label| (label.level, label.id)),
            rights: Rights::ALL,
            groups: BTreeSet::new(),
            labels: BTreeSet::new(),
            written: Vec::new(),
            print,
        }
    }

    /// Reads a file, if nothing is against it.
    ///
    /// # Errors
    /// What is against it; the mark stays as it was.
    pub(super) fn read(&mut self, file: &Seen) -> Result<(), Against> {
        if self.print && !file.rights.contains(Right::Print) {
            return Err(Against::Print);
        }
        for written in &self.written {
            if written.level < file.level {
                return Err(Against::WrittenBelow);
            }
            let carries = match written.rights {
                Some(rights) => is_within(rights, file.rights),
                None => {
                    let stands_for = written.level > file.level || written.label == file.label;
                    (written.group == file.group && stands_for) || is_free(file.rights)
                }
            };
            if !carries {
                return Err(Against::WrittenWider);
            }
        }
        self.rights = self.rights.intersection(file.rights);
        self.groups.insert(file.group);
        self.labels.insert((file.level, file.label));
        if self.highest.is_none_or(|(level, _)| level < file.level) {
            self.highest = Some((file.level, file.label));
        }
        Ok(())
    }

    /// Writes to an existing file, if nothing is against it. It must have the label of [`Mark::label_for`] by then.
    ///
    /// # Errors
    /// What is against it.
    pub(super) fn write(&mut self, file: &Seen) -> Result<(), Against> {
        match self.raised(file.level) {
            None if self.groups.is_empty() || is_within(file.rights, self.rights) => {
                self.note(Written {
                    level: file.level,
                    label: file.label,
                    group: file.group,
                    rights: Some(file.rights),
                });
                Ok(())
            }
            None => Err(Against::Wider),
            Some(_) if !file.rights.contains(Right::Relabel) => {
                self.clone().create(file.level, file.label, file.group).and(Err(Against::Relabel))
            }
            Some(_) => self.create(file.level, file.label, file.group),
        }
    }

    /// Creates a file in a folder of this label and group, if nothing is against it.
    ///
    /// # Errors
    /// What is against it.
    pub(super) fn create(
        &mut self,
        level: u16,
        label: LabelId,
        group: Option<GroupId>,
    ) -> Result<(), Against> {
        let (level, label) = self.raised(level).unwrap_or((level, label));
        let other_group = self.groups.iter().any(|read| *read != group);
        let other_label = self.labels.iter().any(|(read, id)| *read == level && *id != label);
        if !is_free(self.rights) && (other_group || other_label) {
            return Err(Against::Wider);
        }
        self.note(Written { level, label, group, rights: None });
        Ok(())
    }

    /// The label for what has this label when it is written.
    pub(super) fn label_for(&self, level: u16, label: LabelId) -> LabelId {
        self.raised(level).map_or(label, |(_, label)| label)
    }

    /// The mark, where it is above `level`.
    fn raised(&self, level: u16) -> Option<(u16, LabelId)> {
        self.highest.filter(|(highest, _)| *highest > level)
    }

    fn note(&mut self, written: Written) {
        if !self.written.contains(&written) {
            self.written.push(written);
        }
    }
}

/// Whether contents with these rights may go anywhere.
fn is_free(rights: Rights) -> bool {
    rights.union(WITHIN) == Rights::ALL
}

/// Whether contents that may be used as `of` says lose nothing where `target` is what may be done.
fn is_within(target: Rights, of: Rights) -> bool {
    target.minus(WITHIN).minus(of).is_empty()
}

#[cfg(test)]
mod tests;

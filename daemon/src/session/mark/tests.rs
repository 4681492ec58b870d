//! What a session may read and write after what.

use super::*;
use proptest::prelude::*;

const READ_ONLY: Rights = Rights::only(Right::View);
const EDIT: Rights = WITHIN;

fn group(number: u8) -> Option<GroupId> {
    Some(GroupId::from_bytes([number; 16]))
}

fn label(level: u16) -> LabelId {
    LabelId::from_bytes([u8::try_from(level).unwrap(); 16])
}

fn file(level: u16, owner: u8, rights: Rights) -> Seen {
    Seen { level, label: label(level), group: group(owner), rights }
}

fn fresh() -> Mark {
    Mark::new(None, false)
}

#[test]
fn what_is_written_carries_the_highest_label_read() {
    let mut mark = fresh();
    assert_eq!(mark.label_for(20, label(20)), label(20));
    mark.read(&file(40, 1, Rights::ALL)).unwrap();
    mark.read(&file(30, 1, Rights::ALL)).unwrap();
    assert_eq!(mark.label_for(20, label(20)), label(40));
    assert_eq!(mark.label_for(40, label(40)), label(40));
    assert_eq!(mark.label_for(60, label(60)), label(60));
}

#[test]
fn a_session_can_start_at_a_label() {
    let above = Label { id: label(50), name: String::from("秘"), level: 50 };
    let mut mark = Mark::new(Some(&above), false);
    assert_eq!(mark.label_for(20, label(20)), label(50));
    // What it writes can carry what it reads later, up to there.
    mark.create(20, label(20), group(1)).unwrap();
    mark.read(&file(50, 1, EDIT)).unwrap();
    assert_eq!(mark.read(&file(60, 1, EDIT)), Err(Against::WrittenBelow));
}

#[test]
fn after_writing_below_nothing_higher_is_read() {
    let mut mark = fresh();
    mark.create(20, label(20), group(1)).unwrap();
    assert_eq!(mark.read(&file(40, 1, Rights::ALL)), Err(Against::WrittenBelow));
    // Refusing left the mark where it was.
    assert_eq!(mark.label_for(20, label(20)), label(20));
    mark.read(&file(20, 1, READ_ONLY)).unwrap();
    let mut mark = fresh();
    mark.write(&file(20, 1, EDIT)).unwrap();
    assert_eq!(mark.read(&file(40, 1, Rights::ALL)), Err(Against::WrittenBelow));
}

#[test]
fn a_label_is_raised_by_those_who_may() {
    let relabel = EDIT.union(Rights::only(Right::Relabel));
    let mut mark = fresh();
    mark.read(&file(40, 1, Rights::ALL)).unwrap();
    assert_eq!(mark.write(&file(20, 1, EDIT)), Err(Against::Relabel));
    mark.write(&file(20, 1, relabel)).unwrap();
    mark.write(&file(40, 1, EDIT)).unwrap();
    // What the session made itself is its own.
    mark.create(20, label(20), group(1)).unwrap();
}

#[test]
fn contents_do_not_gain_rights_by_being_copied() {
    let print = EDIT.union(Rights::only(Right::Print));
    let mut mark = fresh();
    mark.read(&file(40, 1, READ_ONLY)).unwrap();
    // Editing is what happens; printing would be more than was given.
    mark.write(&file(40, 2, EDIT)).unwrap();
    assert_eq!(mark.write(&file(40, 2, print)), Err(Against::Wider));
    // What a new file of another group allows is not known.
    assert_eq!(mark.create(40, label(40), group(2)), Err(Against::Wider));
    mark.create(40, label(40), group(1)).unwrap();
    // The same the other way round.
    let mut mark = fresh();
    mark.write(&file(40, 2, print)).unwrap();
    assert_eq!(mark.read(&file(40, 1, READ_ONLY)), Err(Against::WrittenWider));
    mark.read(&file(40, 1, print)).unwrap();
    let mut mark = fresh();
    mark.create(40, label(40), group(2)).unwrap();
    assert_eq!(mark.read(&file(40, 1, print)), Err(Against::WrittenWider));
    mark.read(&file(40, 1, Rights::ALL)).unwrap();
}

#[test]
fn of_two_labels_of_one_level_neither_stands_for_the_other() {
    let other = LabelId::from_bytes([0xee; 16]);
    let sibling = Seen { label: other, ..file(40, 1, READ_ONLY) };
    // What a new file under the other label allows is not known.
    let mut mark = fresh();
    mark.read(&file(40, 1, READ_ONLY)).unwrap();
    assert_eq!(mark.create(40, other, group(1)), Err(Against::Wider));
    mark.create(40, label(40), group(1)).unwrap();
    assert_eq!(mark.read(&sibling), Err(Against::WrittenWider));
    // Both were read: no one label is that of what is written now, in this folder or in a lower one.
    let mut mark = fresh();
    mark.read(&file(40, 1, READ_ONLY)).unwrap();
    mark.read(&sibling).unwrap();
    for level in [20, 40] {
        assert_eq!(mark.create(level, label(level), group(1)), Err(Against::Wider));
    }
    assert_eq!(mark.write(&file(20, 1, EDIT)), Err(Against::Wider));
    mark.create(60, label(60), group(1)).unwrap();
    // What may go anywhere may go there.
    let mut mark = fresh();
    mark.read(&file(40, 1, Rights::ALL)).unwrap();
    mark.create(40, other, group(1)).unwrap();
}

#[test]
fn rights_of_a_session_only_shrink() {
    let (print, send) = (Rights::only(Right::Print), Rights::only(Right::Send));
    let mut mark = fresh();
    mark.read(&file(40, 1, EDIT.union(print))).unwrap();
    mark.read(&file(40, 1, EDIT.union(send))).unwrap();
    assert_eq!(mark.write(&file(40, 1, EDIT.union(print))), Err(Against::Wider));
    assert_eq!(mark.write(&file(40, 1, EDIT.union(send))), Err(Against::Wider));
    mark.write(&file(40, 1, EDIT)).unwrap();
}

#[test]
fn a_session_that_may_print_reads_only_what_may_be_printed() {
    let mut mark = Mark::new(None, true);
    mark.read(&file(40, 1, EDIT.union(Rights::only(Right::Print)))).unwrap();
    assert_eq!(mark.read(&file(40, 1, EDIT)), Err(Against::Print));
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Read(Seen),
    Write(Seen),
    Create(u16, u8),
}

fn any_file() -> impl Strategy<Value = Seen> {
    (1..4_u16, 1..3_u8, any::<u8>())
        .prop_map(|(level, owner, bits)| file(level * 10, owner, Rights::from_bits(bits)))
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        any_file().prop_map(Act::Read),
        any_file().prop_map(Act::Write),
        (1..4_u16, 1..3_u8).prop_map(|(level, owner)| Act::Create(level * 10, owner)),
    ]
}

proptest! {
    /// In any order: everything written, whenever, is at least as high as everything read, and where its rights are known they are
    /// within those of everything read.
    #[test]
    fn nothing_flows_down_or_gains_rights(acts in proptest::collection::vec(any_act(), 1..12)) {
        let mut mark = fresh();
        let (mut read, mut written) = (Vec::new(), Vec::new());
        for act in acts {
            match act {
                Act::Read(file) => if mark.read(&file).is_ok() { read.push(file) },
                Act::Write(file) => {
                    let label = mark.label_for(file.level, file.label);
                    if mark.write(&file).is_ok() {
                        let kept = label == file.label;
                        written.push((label, file.group, kept.then_some(file.rights)));
                    }
                }
                Act::Create(level, owner) => {
                    let label = mark.label_for(level, label(level));
                    if mark.create(level, self::label(level), group(owner)).is_ok() {
                        written.push((label, group(owner), None));
                    }
                }
            }
        }
        for (carried, owner, rights) in &written {
            for file in &read {
                prop_assert!(carried.as_bytes()[0] >= file.label.as_bytes()[0]);
                match rights {
                    Some(rights) => prop_assert!(is_within(*rights, file.rights)),
                    None => prop_assert!(*owner == file.group || is_free(file.rights)),
                }
            }
        }
    }
}

//! From what a person types to the one object that is meant. An id always means itself; a name must be exact.

use crate::error::Error;
use std::collections::HashMap;
use std::fmt::Display;
use tobari_core::ids::GroupId;
use tobari_core::policy::Group;

/// The id of the one item that `typed` names.
///
/// # Errors
/// [`Error::UnknownName`] with the names that there are, [`Error::AmbiguousName`] with the ids that fit.
pub(crate) fn one<T, I: Copy + Display>(
    kind: &'static str,
    typed: &str,
    items: &[T],
    id: impl Fn(&T) -> I,
    name: impl Fn(&T) -> String,
) -> Result<I, Error> {
    if let Some(item) = items.iter().find(|item| id(item).to_string() == typed) {
        return Ok(id(item));
    }
    let found: Vec<I> = items.iter().filter(|item| name(item) == typed).map(&id).collect();
    at_most_one(kind, typed, &found)?.ok_or_else(|| {
        let known = items.iter().map(&name).collect();
        Error::UnknownName { kind, name: typed.to_owned(), known }
    })
}

/// The one id of what `typed` names, if anything has that name.
///
/// # Errors
/// [`Error::AmbiguousName`] with the ids that fit.
pub(crate) fn at_most_one<I: Copy + Display>(
    kind: &'static str,
    typed: &str,
    found: &[I],
) -> Result<Option<I>, Error> {
    match found {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => {
            let known = several.iter().map(ToString::to_string).collect();
            Err(Error::AmbiguousName { kind, name: typed.to_owned(), known })
        }
    }
}

/// The group that `typed` names: an id, a path as 総務部/人事課, or the end of one that fits a single group.
///
/// # Errors
/// As [`one`].
pub(crate) fn group(groups: &[Group], typed: &str) -> Result<GroupId, Error> {
    let paths = group_paths(groups);
    let path = |group: &Group| paths.get(&group.id).cloned().unwrap_or_default();
    let whole = one("group", typed, groups, |group| group.id, path);
    let Err(Error::UnknownName { .. }) = whole else { return whole };
    let end = format!("/{typed}");
    let fitting: Vec<&Group> = groups.iter().filter(|group| path(group).ends_with(&end)).collect();
    match fitting.as_slice() {
        [] => whole,
        [one] => Ok(one.id),
        several => {
            let known = several.iter().map(|group| path(group)).collect();
            Err(Error::AmbiguousName { kind: "group", name: typed.to_owned(), known })
        }
    }
}

/// The path of every group, from its root.
pub(crate) fn group_paths(groups: &[Group]) -> HashMap<GroupId, String> {
    let by_id: HashMap<GroupId, &Group> = groups.iter().map(|group| (group.id, group)).collect();
    groups
        .iter()
        .map(|group| {
            let mut path = group.name.clone();
            let mut above = group.parent.and_then(|parent| by_id.get(&parent));
            // No path is longer than there are groups, whatever the answer claims.
            for _ in 0..groups.len() {
                let Some(parent) = above else { break };
                path = format!("{}/{path}", parent.name);
                above = parent.parent.and_then(|parent| by_id.get(&parent));
            }
            (group.id, path)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of(number: u8, name: &str, parent: Option<u8>) -> Group {
        let id = |number: u8| GroupId::from_bytes([number; 16]);
        Group { id: id(number), name: name.to_owned(), parent: parent.map(id) }
    }

    fn tree() -> Vec<Group> {
        vec![
            group_of(1, "総務部", None),
            group_of(2, "人事課", Some(1)),
            group_of(3, "財政部", None),
            group_of(4, "庶務係", Some(2)),
            group_of(5, "庶務係", Some(3)),
        ]
    }

    fn is(found: Result<GroupId, Error>, number: u8) {
        assert_eq!(found.unwrap(), GroupId::from_bytes([number; 16]));
    }

    #[test]
    fn a_group_is_found_by_path_by_end_and_by_id() {
        let tree = tree();
        is(group(&tree, "総務部"), 1);
        is(group(&tree, "総務部/人事課"), 2);
        is(group(&tree, "人事課"), 2);
        is(group(&tree, "財政部/庶務係"), 5);
        is(group(&tree, "人事課/庶務係"), 4);
        is(group(&tree, &GroupId::from_bytes([3; 16]).to_string()), 3);
    }

    #[test]
    fn an_ambiguous_group_lists_its_paths_and_an_unknown_one_what_there_is() {
        let Err(Error::AmbiguousName { known, .. }) = group(&tree(), "庶務係") else {
            panic!("ambiguous")
        };
        assert_eq!(known, ["総務部/人事課/庶務係", "財政部/庶務係"]);
        let Err(Error::UnknownName { kind, known, .. }) = group(&tree(), "課") else { panic!("unknown") };
        assert_eq!(kind, "group");
        assert!(known.contains(&"総務部/人事課".to_owned()));
    }

    #[test]
    fn groups_that_are_their_own_parents_end() {
        let loops = vec![group_of(1, "甲", Some(2)), group_of(2, "乙", Some(1))];
        assert_eq!(group_paths(&loops).len(), 2);
    }

    #[test]
    fn two_objects_of_one_name_are_told_apart_by_id() {
        let items = [(GroupId::from_bytes([1; 16]), "x"), (GroupId::from_bytes([2; 16]), "x")];
        let find = |typed: &str| one("terminal", typed, &items, |item| item.0, |item| item.1.to_owned());
        assert!(matches!(find("x"), Err(Error::AmbiguousName { known, .. }) if known.len() == 2));
        assert_eq!(find(&items[1].0.to_string()).unwrap(), items[1].0);
    }
}

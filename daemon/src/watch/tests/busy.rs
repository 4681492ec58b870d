//! Files that a worker has in hand, and others that only look like them.

use super::super::busy::Busy;
use super::super::files::{Files, Lane};
use super::super::rules::Origin;
use super::*;
use crate::seal::Facts;
use tobari_core::ids::FolderId;

fn made(path: &Path) -> Facts {
    Facts::of(File::create(path).unwrap()).unwrap()
}

/// A plaintext that was sealed as one of a group is gone while the group is still in work, and its inode's number is given to
/// the next file. That is nobody's.
#[test]
fn a_new_file_with_the_number_of_a_removed_one_is_not_busy() {
    let directory = tempfile::tempdir().unwrap();
    let busy = Busy::default();
    let old = made(&directory.path().join("old"));
    let mark = busy.mark(&old).unwrap();
    assert!(busy.has(&old));
    assert!(busy.mark(&old).is_none());
    if old.born.is_none() {
        return crate::testing::skipped("the file system does not know when files were made");
    }
    fs::remove_file(directory.path().join("old")).unwrap();
    let begin = Instant::now();
    // ext4 gives the number to the next file, other file systems never do.
    let again = (0..200).map(|_| made(&directory.path().join("new"))).find(|new| {
        let same = new.same_file(&old);
        if !same {
            fs::remove_file(directory.path().join("new")).unwrap();
        }
        // Made in the same tick of the clock, it is looked at again in a moment.
        same && (new.born != old.born || begin.elapsed() > Duration::from_secs(1))
    });
    let new = again.unwrap_or_else(|| {
        eprintln!("no number is given again here: a made-up one");
        let mut new = old.clone();
        new.born = made(&directory.path().join("new")).born.filter(|born| Some(*born) != old.born);
        new
    });
    assert!(!busy.has(&new));
    let second = busy.mark(&new);
    assert!(second.is_some());
    drop(mark);
    assert!(busy.has(&new) && !busy.has(&old));
    drop(second);
    assert!(!busy.has(&new));
}

/// A file that was closed after writing and whose inode another worker has at that moment is looked at as a closed one again.
#[test]
fn a_closed_file_that_was_busy_is_still_a_closed_one() {
    for (before, meanwhile, expected) in [
        (Origin::Event, None, Origin::Event),
        (Origin::Found, None, Origin::Found),
        (Origin::Found, Some(Origin::Event), Origin::Event),
    ] {
        let mut files = Files::default();
        let key = (FolderId::from_bytes([1; 16]), PathBuf::from("a"));
        files.enqueue(key.clone(), before, Lane::Urgent);
        assert_eq!(files.next(Lane::Urgent, |_| 1, |_| true).unwrap().1[0].1, before);
        if let Some(origin) = meanwhile {
            files.enqueue(key.clone(), origin, Lane::Urgent);
        }
        assert!(files.busy(key, Duration::ZERO));
        files.ring(Instant::now() + Duration::from_secs(1));
        assert_eq!(files.next(Lane::Urgent, |_| 1, |_| true).unwrap().1[0].1, expected);
    }
}

//! Keys and files.

use super::{Checked, at, label};
use tobari_core::crypto::KeyId;
use tobari_core::ids::{FileId, PersonId};
use tobari_keyserver::store::{Change, FileKeyRow, LabelKeyRow, StoreError, UnsealWindowRow};

/// Keys that are taken away, for which keys files are sealed, and who unseals them.
pub(super) async fn files(checked: &mut Checked<'_>) {
    let store = checked.store;
    let (label, key) = label();
    let next = LabelKeyRow { generation: 2, key_id: KeyId::from_bytes([8; 32]), ..key.clone() };
    let (id, file, other) = (label.label.id, FileId::from_bytes([1; 16]), FileId::from_bytes([2; 16]));
    checked
        .commit(vec![
            Change::PutLabel(label),
            Change::AddLabelKey(key.clone()),
            Change::AddLabelKey(next.clone()),
        ])
        .await;
    checked.commit(vec![Change::RetireLabelKey(id, 1, at(7))]).await;
    let row = store.load().await.unwrap().tables.label_keys[&(id, 1)].clone();
    assert_eq!((row.sealed_private.as_slice(), row.retired_at), ([].as_slice(), Some(at(7))));
    // Once, and only what there is; and a retired generation does not come back.
    for change in [Change::RetireLabelKey(id, 1, at(8)), Change::RetireLabelKey(id, 3, at(8))] {
        checked.refuse(vec![change], |error| matches!(error, StoreError::Stale)).await;
    }
    checked.refuse(vec![Change::AddLabelKey(key)], |error| matches!(error, StoreError::Taken(_))).await;

    let seen = |file, generation, time| FileKeyRow { file, label: id, generation, seen_at: at(time) };
    let saw = |earlier, current| Change::SawFileKeys { earlier, current };
    checked.commit(vec![saw(vec![seen(file, 1, 10), seen(other, 1, 10)], vec![])]).await;
    // What is told late does not count.
    checked.commit(vec![saw(vec![seen(file, 2, 12), seen(file, 1, 11)], vec![])]).await;
    assert_eq!((store.files_under(id, 1).await.unwrap(), store.files_under(id, 2).await.unwrap()), (1, 1));
    checked.commit(vec![saw(vec![], vec![file, other])]).await;
    assert_eq!((store.files_under(id, 1).await.unwrap(), store.files_under(id, 2).await.unwrap()), (0, 0));

    let (one, two) = (PersonId::generate(), PersonId::generate());
    let count = |person, files: &[FileId], time, bounds: &[(i64, u64)]| Change::CountUnseals {
        person,
        files: files.to_vec(),
        at: at(time),
        bounds: bounds.iter().map(|(since, most)| (at(*since), *most)).collect(),
    };
    checked.commit(vec![count(one, &[file], 100, &[(50, 1)])]).await;
    let stale = |error: &StoreError| matches!(error, StoreError::Stale);
    checked.refuse(vec![count(one, &[other], 101, &[(50, 1)])], stale).await;
    checked.commit(vec![count(one, &[file], 102, &[(50, 1)])]).await;
    assert_eq!(store.unseals(one, at(102)).await.unwrap(), [(file, at(102))], "the same file counts once");
    // One of the bounds is enough, and others' files do not count.
    checked.commit(vec![count(one, &[other], 103, &[(50, 1), (103, 1)])]).await;
    checked.commit(vec![count(two, &[file, other], 103, &[(103, 2)])]).await;
    assert_eq!(store.unseals(one, at(50)).await.unwrap(), [(file, at(102)), (other, at(103))]);
    checked.commit(vec![Change::Prune(at(103))]).await;
    assert_eq!(store.unseals(one, at(50)).await.unwrap(), [(other, at(103))]);
    let window = |files| UnsealWindowRow { person: one, files, opened_at: at(1), ends_at: at(9) };
    checked.commit(vec![Change::PutUnsealWindow(window(3))]).await;
    checked.commit(vec![Change::PutUnsealWindow(window(4))]).await;
}

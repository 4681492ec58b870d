//! What a commit builds on, and the audit log that it continues.

use super::{Checked, at};
use tobari_core::audit::{Frontier, Growth, Hash, is_consistent, leaf_hash, root_of};
use tobari_core::ids::{PersonId, PostId, SessionId, TerminalId};
use tobari_core::policy::Post;
use tobari_keyserver::audit::chain;
use tobari_keyserver::audit::proof;
use tobari_keyserver::store::{Basis, Change, SessionRow, Store, StoreError};

/// What is built on what is no longer so leaves nothing behind.
pub(super) async fn basis(checked: &mut Checked<'_>) {
    let store = checked.store;
    let row = SessionRow {
        id: SessionId::generate(),
        token_hash: [8; 32],
        person: PersonId::generate(),
        terminal: TerminalId::generate(),
        second_factor: false,
        asserted: false,
        created_at: at(10),
        expires_at: at(1000),
        last_used_at: at(10),
    };
    checked.commit(vec![Change::PutSession(row.clone())]).await;
    assert_eq!(store.session([8; 32]).await.unwrap(), Some(row.clone()));
    assert_eq!(store.session([9; 32]).await.unwrap(), None);
    let version = store.version().await.unwrap();
    assert_eq!(store.load().await.unwrap().version, version, "a session is not part of the tables");
    let other = SessionId::generate();
    let on = |version: Option<u64>, sessions: &[SessionId]| Basis { version, sessions: sessions.to_vec() };

    // What is so is no hindrance, however often it is named.
    let good = on(Some(version), &[row.id, row.id, row.id]);
    store.commit(&good, &[], &[b"good".to_vec()]).await.unwrap();
    checked.records += 1;

    let head = store.audit_head().await.unwrap();
    for (basis, gone) in [
        (on(Some(version - 1), &[]), vec![]),
        (on(Some(version + 1), &[row.id]), vec![]),
        (on(Some(version), &[row.id, other]), vec![other]),
        (on(None, &[other]), vec![other]),
    ] {
        let change = [Change::PutPost(Post { id: PostId::generate(), name: String::from("x"), rank: 1 })];
        let error = store.commit(&basis, &change, &[b"x".to_vec()]).await.unwrap_err();
        let StoreError::Moved { version: now, ended } = error else { panic!("{error:?}") };
        assert_eq!((now, ended), (version, gone));
        assert_eq!(store.audit_head().await.unwrap(), head);
        assert_eq!(store.load().await.unwrap().tables, checked.model);
    }

    // Each commit that changes the tables is the next version, however much it changes.
    let post = |name: &str| Change::PutPost(Post { id: PostId::generate(), name: name.to_owned(), rank: 1 });
    checked.commit(vec![post("a"), post("b")]).await;
    assert_eq!(store.version().await.unwrap(), version + 1);
    checked.commit(vec![Change::DeleteSession(row.id)]).await;
    assert_eq!(store.version().await.unwrap(), version + 1);
    let late = on(Some(version + 1), &[row.id]);
    assert!(matches!(store.commit(&late, &[], &[]).await, Err(StoreError::Moved { .. })));
}

pub(super) async fn audit(store: &dyn Store, records: u64) {
    let before = chain::verify(store).await.unwrap();
    assert_eq!(before.sequence, records);
    // More rows than one statement takes, an empty payload, and bytes that are no text.
    let payloads: Vec<Vec<u8>> = (0..1203_u32)
        .map(|number| if number == 7 { Vec::new() } else { [&[0xff, 0][..], &number.to_le_bytes()].concat() })
        .collect();
    let appended = store.commit(&Basis::ANY, &[], &payloads).await.unwrap();
    let head = appended.head;
    assert_eq!(head.sequence, records + 1203);
    assert_eq!(store.audit_head().await.unwrap(), head);
    assert_eq!(chain::verify(store).await.unwrap(), head);
    assert_eq!(chain::verify_tail(store, 10).await.unwrap(), head);
    assert_eq!(chain::verify_tail(store, head.sequence + 5).await.unwrap(), head);
    let page = store.audit_page(records + 5, 3).await.unwrap();
    let sequences: Vec<u64> = page.iter().map(|row| row.sequence).collect();
    assert_eq!(sequences, [records + 6, records + 7, records + 8]);
    assert_eq!(page[2].payload, Vec::<u8>::new());
    assert!(store.audit_page(head.sequence, 10).await.unwrap().is_empty());
    assert_eq!(store.commit(&Basis::ANY, &[], &[]).await.unwrap().head, head);
    tree(store, &appended.growth).await;
}

/// What is stored of the tree proves what was appended, and every tree that the log ever was.
async fn tree(store: &dyn Store, growth: &Growth) {
    let size = growth.after().size();
    let mut leaves: Vec<Hash> = Vec::new();
    for row in store.audit_page(0, u32::MAX >> 1).await.unwrap() {
        leaves.push(leaf_hash(&row.payload));
    }
    assert_eq!((leaves.len() as u64, &store.audit_frontier().await.unwrap()), (size, growth.after()));
    let root = growth.after().root();
    for first in [0, 1, 255, 256, 511, 700, size - 300, size - 1] {
        let range = first..(first + 270).min(size);
        let proof = proof::inclusion(store, range.clone(), size).await.unwrap();
        let shown = &leaves[range.start as usize..range.end as usize];
        assert_eq!(root_of(first, shown, size, &proof), Some(root), "{range:?}");
        if let Some(same) = growth.prove(range) {
            assert_eq!(same, proof);
        }
    }
    for old in [1, 2, 255, 256, 257, 512, 1000, size - 1, size] {
        let before = proof::frontier_at(store, old).await.unwrap();
        let mut expected = Frontier::default();
        leaves[..old as usize].iter().for_each(|leaf| expected.push(*leaf));
        assert_eq!(before, expected);
        let proof = proof::consistency(store, old, size).await.unwrap();
        assert!(is_consistent((old, &before.root()), (size, &root), &proof), "{old}");
    }
}

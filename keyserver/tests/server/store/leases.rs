//! Leases, and what they lend.

use super::{Checked, at};
use tobari_core::ids::{FileId, GroupId, LabelId, LeaseId, PersonId, TerminalId};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::lease::{LeaseState, Narrowing, Opens, Term};
use tobari_keyserver::store::{
    Change, LeaseBody, LeaseCaseRow, LeaseCases, LeaseFileRow, LeaseFilter, LeaseRecordRow, LeaseRow,
    LeaseTerminalRow, Refilled, StoreError,
};

fn lease(person: PersonId, terminal: TerminalId, requested_at: i64) -> LeaseRow {
    let body = LeaseBody {
        term: Term { starts_at: at(10), ends_at: at(requested_at + 1000) },
        opens: Opens::Unlimited,
        rights: [Right::View, Right::Send].into_iter().collect(),
        reason: String::from("出張"),
        second_factor: true,
        requested_by: person,
        requested_at: at(requested_at),
        decided_by: None,
        decided_at: None,
        ended_at: None,
        label: None,
        refilled: None,
    };
    let file = LeaseFileRow {
        file: FileId::generate(),
        label: LabelId::generate(),
        name: Some(String::from("起案書.docx")),
        rights: Rights::NONE,
        header: Some(Base64(vec![7; 300])),
    };
    LeaseRow {
        id: LeaseId::generate(),
        state: LeaseState::Requested,
        person,
        terminal,
        body,
        file_count: 1,
        files: vec![file],
        document: None,
        fetched_at: None,
        opened: 0,
    }
}

/// What leases lend: found by what a change of the policy can concern, narrowed, and gone with the lease. `issued` is issued,
/// `asked` is not.
async fn lease_cases(checked: &mut Checked<'_>, issued: &LeaseRow, asked: &LeaseRow) {
    let store = checked.store;
    assert_eq!(store.leases_without_cases(at(0)).await.unwrap(), [issued.id]);
    assert!(store.leases_without_cases(at(2000)).await.unwrap().is_empty());
    let case = |row: &LeaseRow, label: LabelId, owner_group| LeaseCaseRow {
        left: Narrowing {
            lease: row.id,
            label,
            owner_group,
            rights: [Right::View, Right::Send].into_iter().collect(),
            ends_at: at(1010),
        },
        person: row.person,
        terminal: row.terminal,
        second_factor: true,
        by_label: false,
        starts_at: at(0),
        lease_ends_at: at(1020),
        narrowed: false,
    };
    let (label, other, group) = (LabelId::generate(), LabelId::generate(), GroupId::generate());
    let (none, owned) = (case(issued, label, None), case(issued, other, Some(group)));
    let (seen, kinds) = store.lease_kinds(LeaseCases::All, at(0)).await.unwrap();
    assert!(kinds.is_empty());
    checked.commit(vec![Change::LeasesIssued(seen), Change::PutLeaseCases(vec![none, owned])]).await;
    let moved = |error: &StoreError| matches!(error, StoreError::Moved { .. });
    checked.refuse(vec![Change::LeasesIssued(seen)], moved).await;
    checked.commit(vec![Change::PutLeaseCases(vec![case(asked, label, None)])]).await;
    assert!(store.leases_without_cases(at(0)).await.unwrap().is_empty());
    let kinds = async |which, now| store.lease_kinds(which, now).await.unwrap();
    let (seen, all) = kinds(LeaseCases::All, at(0)).await;
    assert_eq!((seen, all.len()), (2, 3));
    assert_eq!(kinds(LeaseCases::Label(label), at(0)).await.1.len(), 2);
    assert_eq!(kinds(LeaseCases::Person(asked.person), at(0)).await.1.len(), 1);
    assert_eq!(kinds(LeaseCases::Terminal(issued.terminal), at(0)).await.1.len(), 3);
    assert!(kinds(LeaseCases::All, at(1020)).await.1.is_empty(), "those that have ended");
    // By one kind the whole lease is found, and only one that is out.
    let (_, mine) = kinds(LeaseCases::Person(issued.person), at(0)).await;
    for kind in mine {
        let mut found = store.lease_cases(kind, at(0)).await.unwrap();
        found.sort_by_key(|case| case.left.owner_group);
        assert_eq!(found, [none, owned]);
        assert!(store.lease_cases(kind, at(1020)).await.unwrap().is_empty());
    }
    let (_, theirs) = kinds(LeaseCases::Person(asked.person), at(0)).await;
    assert!(store.lease_cases(theirs[0], at(0)).await.unwrap().is_empty());
    // Refilled: what was lent before and what is lent now, until the later end. Again as when a lease is issued, it counts.
    let print = Rights::only(Right::Print);
    for (rights, ends_at) in [(print, at(1015)), (Rights::only(Right::View), at(1000))] {
        let again = LeaseCaseRow { left: Narrowing { rights, ends_at, ..none.left }, ..none };
        checked.commit(vec![Change::PutLeaseCases(vec![again])]).await;
    }
    let left = Narrowing { rights: none.left.rights.union(print), ends_at: at(1015), ..none.left };
    let of_label = kinds(LeaseCases::Label(label), at(0)).await.1;
    let of_lease = *of_label.iter().find(|kind| kind.person == issued.person).unwrap();
    let found = store.lease_cases(of_lease, at(0)).await.unwrap();
    assert!(found.contains(&LeaseCaseRow { left, ..none }) && found.contains(&owned), "{found:?}");
    assert_eq!(kinds(LeaseCases::All, at(0)).await.0, seen + 2);
    // Narrowed: part of what every server holds.
    let version = store.version().await.unwrap();
    let left = Narrowing { rights: Rights::only(Right::View), ends_at: at(1005), ..owned.left };
    let narrowed = LeaseCaseRow { left, narrowed: true, ..owned };
    checked.commit(vec![Change::NarrowLeases(vec![narrowed])]).await;
    assert_eq!(store.version().await.unwrap(), version + 1);
    let held = async || store.load().await.unwrap().tables.narrowed_leases;
    assert_eq!(held().await.into_values().collect::<Vec<_>>(), [(left, at(1020))]);
    // Refilling widens none of it.
    checked.commit(vec![Change::PutLeaseCases(vec![owned])]).await;
    assert_eq!(held().await.into_values().collect::<Vec<_>>(), [(left, at(1020))]);
    checked.commit(vec![Change::Prune(at(1500))]).await;
    assert_eq!(held().await.len(), 1);
    assert!(kinds(LeaseCases::All, at(0)).await.1.iter().all(|kind| kind.label == other));
    checked.commit(vec![Change::ForgetLeaseRevocations(at(1021))]).await;
    assert!(held().await.is_empty() && kinds(LeaseCases::All, at(0)).await.1.is_empty());
    // What has ended meanwhile does not end again, and stops nothing.
    let over = LeaseRow { state: LeaseState::Revoked, document: None, ..asked.clone() };
    checked.commit(vec![Change::EndLease(Box::new(over.clone()))]).await;
    assert_eq!(store.lease(asked.id).await.unwrap().unwrap().state, asked.state);
}

/// Leases: found by what is asked for, changed only from the state that they were in, one history for each terminal.
pub(super) async fn leases(checked: &mut Checked<'_>) {
    let store = checked.store;
    let (person, terminal) = (PersonId::generate(), TerminalId::generate());
    let old = lease(person, terminal, 20);
    let new = lease(person, TerminalId::generate(), 30);
    let others = lease(PersonId::generate(), terminal, 40);
    let puts = [&old, &new, &others].map(|row| Change::PutLease(Box::new(row.clone())));
    checked.commit(puts.into()).await;
    assert_eq!(store.lease(old.id).await.unwrap(), Some(old.clone()));
    assert_eq!(store.lease(LeaseId::generate()).await.unwrap(), None);
    let found = async |filter: LeaseFilter| -> Vec<LeaseId> {
        store.leases(filter).await.unwrap().iter().map(|row| row.id).collect()
    };
    let all = LeaseFilter::default();
    assert_eq!(found(all).await, [others.id, new.id, old.id], "newest first");
    assert_eq!(found(LeaseFilter { limit: Some(2), ..all }).await, [others.id, new.id]);
    assert_eq!(found(LeaseFilter { person: Some(person), ..all }).await, [new.id, old.id]);
    assert_eq!(found(LeaseFilter { ids: Some((old.id, old.id)), ..all }).await, [old.id]);
    let between = Some((old.id.min(new.id), old.id.max(new.id)));
    assert_eq!(found(LeaseFilter { ids: between, person: Some(person), ..all }).await, [new.id, old.id]);
    assert_eq!(found(LeaseFilter { terminal: Some(terminal), ..all }).await, [others.id, old.id]);
    let both = LeaseFilter { person: Some(person), terminal: Some(terminal), ..all };
    assert_eq!(found(both).await, [old.id]);
    assert_eq!(found(LeaseFilter { ends_after: Some(at(1030)), ..all }).await, [others.id]);
    let listed = store.leases(both).await.unwrap();
    assert_eq!(listed, [LeaseRow { files: Vec::new(), document: None, ..old.clone() }]);

    let mut issued = LeaseRow { state: LeaseState::Issued, document: Some(vec![1, 2, 3]), ..old.clone() };
    issued.body.decided_by = Some(PersonId::generate());
    issued.body.decided_at = Some(at(50));
    let step = |before, row: &LeaseRow| Change::MoveLease(before, Box::new(row.clone()));
    checked.commit(vec![step(LeaseState::Requested, &issued)]).await;
    assert_eq!(store.lease(old.id).await.unwrap(), Some(issued.clone()));
    assert_eq!(found(LeaseFilter { issued: true, ..all }).await, [old.id]);
    assert_eq!(found(LeaseFilter { state: Some(LeaseState::Requested), ..all }).await, [others.id, new.id]);
    let twice = vec![step(LeaseState::Requested, &issued)];
    checked.refuse(twice, |error| matches!(error, StoreError::Stale)).await;

    // Refilled, from the document that was there and no other.
    let refill = |before: &[u8], row: &LeaseRow| Change::RefillLease(before.to_vec(), Box::new(row.clone()));
    let stale = |error: &StoreError| matches!(error, StoreError::Stale);
    issued.document = Some(vec![4, 5]);
    issued.body.refilled = Some(Refilled { at: at(55), lent: 2 });
    issued.files.push(LeaseFileRow { file: FileId::generate(), ..issued.files[0].clone() });
    issued.file_count = 2;
    checked.refuse(vec![refill(&[1, 2], &issued)], stale).await;
    checked.commit(vec![refill(&[1, 2, 3], &issued)]).await;
    assert_eq!(store.lease(old.id).await.unwrap(), Some(issued.clone()));
    checked.refuse(vec![refill(&[1, 2, 3], &issued)], stale).await;
    checked.refuse(vec![refill(&[], &new)], stale).await;

    // The first time counts.
    checked.commit(vec![Change::FetchedLeases(vec![(old.id, at(60))])]).await;
    checked.commit(vec![Change::FetchedLeases(vec![(old.id, at(70))])]).await;
    issued.fetched_at = Some(at(60));
    assert_eq!(store.lease(old.id).await.unwrap(), Some(issued.clone()));

    assert_eq!(store.lease_terminal(terminal).await.unwrap(), None);
    let record = |sequence: u64| LeaseRecordRow {
        terminal,
        sequence,
        lease: old.id,
        payload: format!("payload {sequence}").into_bytes(),
        hash: [u8::try_from(sequence).unwrap(); 32],
    };
    let reported = |counter, sequence: u64| LeaseTerminalRow {
        terminal,
        counter,
        sequence,
        hash: [u8::try_from(sequence).unwrap(); 32],
        blocked: false,
    };
    let first = Change::AppendLeaseRecords {
        before: (0, 0),
        after: reported(4, 2),
        rows: vec![(true, record(1)), (true, record(2))],
    };
    checked.commit(vec![first.clone()]).await;
    assert_eq!(store.lease_terminal(terminal).await.unwrap(), Some(reported(4, 2)));
    assert_eq!(store.lease_records(old.id).await.unwrap(), [record(1), record(2)]);
    assert_eq!(store.lease(old.id).await.unwrap().unwrap().opened, 2);
    // What another report came before leaves nothing behind.
    checked.refuse(vec![first], |error| matches!(error, StoreError::Stale)).await;
    let next = |after| Change::AppendLeaseRecords { before: (4, 2), after, rows: vec![(false, record(3))] };
    checked.commit(vec![next(reported(5, 3))]).await;
    checked.refuse(vec![next(reported(5, 3))], |error| matches!(error, StoreError::Stale)).await;
    assert_eq!(store.lease_records_of(terminal, 1, 1).await.unwrap(), [record(2)]);
    assert_eq!(store.lease_records_of(terminal, 2, 9).await.unwrap(), [record(3)]);
    assert_eq!(store.lease(old.id).await.unwrap().unwrap().opened, 2, "a return is no opening");
    let blocked = LeaseTerminalRow { blocked: true, ..reported(5, 3) };
    let block = Change::AppendLeaseRecords { before: (5, 3), after: blocked, rows: Vec::new() };
    checked.commit(vec![block]).await;
    assert_eq!(store.lease_terminal(terminal).await.unwrap(), Some(blocked));

    // Revocations are part of what every server holds.
    let version = store.version().await.unwrap();
    checked.commit(vec![Change::RevokeLease(old.id, at(1020)), Change::RevokeLease(new.id, at(1030))]).await;
    assert_eq!(store.version().await.unwrap(), version + 1);
    lease_cases(checked, &old, &others).await;
    checked.commit(vec![Change::ForgetLeaseRevocations(at(1030))]).await;
    assert_eq!(store.load().await.unwrap().tables.revoked_leases.into_keys().collect::<Vec<_>>(), [new.id]);
}

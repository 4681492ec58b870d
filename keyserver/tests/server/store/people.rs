//! People, their sessions, and what is counted beside the tables.

use super::{Checked, at, person, terminal};
use jiff::Timestamp;
use std::collections::HashMap;
use tobari_core::crypto::sha256;
use tobari_core::ids::{PersonId, SessionId, TerminalId};
use tobari_core::proto::terminal::{Coverage, Reported};
use tobari_keyserver::store::{Change, LoginFailuresRow, PersonRow, SessionRow, StoreError, TokenRow};

pub(super) async fn people(checked: &mut Checked<'_>) {
    let taro = person("taro");
    checked.commit(vec![Change::PutPerson(taro.clone())]).await;
    let other = person("TARO");
    checked
        .refuse(
            vec![Change::PutPerson(other)],
            |error| matches!(error, StoreError::Taken(column) if column == "login_key"),
        )
        .await;
    let changed = PersonRow { disabled: true, sealed_totp: None, roles: vec![], ..taro.clone() };
    checked.commit(vec![Change::PutPerson(changed)]).await;
    checked.commit(vec![Change::DeletePerson(taro.id)]).await;
    assert!(checked.model.departed.contains(&taro.id));
    // The name is free again.
    checked.commit(vec![Change::PutPerson(person("Taro"))]).await;
}

pub(super) async fn sessions(checked: &mut Checked<'_>) {
    let row = |person, terminal, expires| SessionRow {
        id: SessionId::generate(),
        token_hash: sha256(&[SessionId::generate().as_bytes()]),
        person,
        terminal,
        second_factor: true,
        asserted: false,
        created_at: at(10),
        expires_at: at(expires),
        last_used_at: at(10),
    };
    let (one, two) = (PersonId::generate(), PersonId::generate());
    let (here, there) = (TerminalId::generate(), TerminalId::generate());
    let rows = [
        row(one, here, 100),
        row(one, there, 100),
        row(two, here, 100),
        row(two, there, 50),
        row(two, there, 200),
    ];
    checked.commit(rows.iter().cloned().map(Change::PutSession).collect()).await;
    let store = checked.store;
    let alive = async |now: i64| {
        let mut ids: Vec<SessionId> =
            store.sessions(at(now)).await.unwrap().iter().map(|row| row.id).collect();
        ids.sort_unstable();
        ids
    };
    let ids = |indexes: &[usize]| {
        let mut ids: Vec<SessionId> = indexes.iter().map(|index| rows[*index].id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(alive(50).await, ids(&[0, 1, 2, 4]), "one that ends now has ended");
    assert!(store.sessions(at(10)).await.unwrap().contains(&rows[0]));
    checked.commit(vec![Change::TouchSessions(vec![(rows[0].id, at(30)), (rows[1].id, at(5))])]).await;
    let touched: HashMap<SessionId, Timestamp> =
        store.sessions(at(10)).await.unwrap().into_iter().map(|row| (row.id, row.last_used_at)).collect();
    assert_eq!((touched[&rows[0].id], touched[&rows[1].id]), (at(30), at(10)), "never backwards");
    checked.commit(vec![Change::DeleteSession(rows[0].id)]).await;
    checked.commit(vec![Change::DeleteSessionsOnTerminal(here)]).await;
    assert_eq!(alive(10).await, ids(&[1, 3, 4]));
    checked.commit(vec![Change::Prune(at(60))]).await;
    assert_eq!(alive(10).await, ids(&[1, 4]));
    checked.commit(vec![Change::DeleteSessionsOfPerson(two)]).await;
    assert_eq!(alive(10).await, ids(&[1]));
}

pub(super) async fn counters(checked: &mut Checked<'_>) {
    let store = checked.store;
    let token = TokenRow { hash: [3; 32], zone: None, tags: vec![String::from("a")], expires_at: at(500) };
    checked.commit(vec![Change::PutToken(token.clone())]).await;
    assert_eq!(store.token([3; 32]).await.unwrap(), Some(token));
    assert_eq!(store.token([4; 32]).await.unwrap(), None);
    let stale = |error: &StoreError| matches!(error, StoreError::Stale);
    checked.refuse(vec![Change::UseToken([4; 32])], stale).await;
    checked.commit(vec![Change::UseToken([3; 32])]).await;
    checked.refuse(vec![Change::PutPerson(person("hanako")), Change::UseToken([3; 32])], stale).await;

    let person = PersonId::generate();
    assert_eq!(store.totp_step(person).await.unwrap(), None);
    checked.commit(vec![Change::AdvanceTotpStep(person, 100)]).await;
    checked.refuse(vec![Change::AdvanceTotpStep(person, 100)], stale).await;
    checked.refuse(vec![Change::AdvanceTotpStep(person, 99)], stale).await;
    checked.commit(vec![Change::AdvanceTotpStep(person, 101)]).await;
    assert_eq!(store.totp_step(person).await.unwrap(), Some(101));
    checked.commit(vec![Change::ForgetTotpStep(person)]).await;
    assert_eq!(store.totp_step(person).await.unwrap(), None);

    let row = LoginFailuresRow {
        login_key: String::from("ippan"),
        failures: 3,
        last_failed_at: at(100),
        locked_until: at(160),
    };
    checked.commit(vec![Change::PutLoginFailures(row.clone())]).await;
    let more = LoginFailuresRow { failures: 4, ..row };
    checked.commit(vec![Change::PutLoginFailures(more.clone())]).await;
    // Another server counted the same failure: one of the two must count again.
    let stale = |error: &StoreError| matches!(error, StoreError::Stale);
    checked.refuse(vec![Change::PutLoginFailures(more.clone())], stale).await;
    checked.commit(vec![Change::Prune(at(130))]).await;
    assert_eq!(store.login_failures("ippan").await.unwrap(), Some(more), "locked until later");
    assert_eq!(store.login_failures("ippa").await.unwrap(), None);
    checked.commit(vec![Change::ClearLoginFailures(String::from("ippan"))]).await;
    assert_eq!(store.login_failures("ippan").await.unwrap(), None);

    let terminal = terminal();
    checked.commit(vec![Change::PutTerminal(terminal.clone())]).await;
    assert_eq!(store.last_contacts().await.unwrap(), HashMap::new());
    checked
        .commit(vec![Change::TouchTerminals(vec![(terminal.id, at(9)), (TerminalId::generate(), at(9))])])
        .await;
    checked.commit(vec![Change::TouchTerminals(vec![(terminal.id, at(8))])]).await;
    assert_eq!(store.last_contacts().await.unwrap(), HashMap::from([(terminal.id, at(9))]));

    assert_eq!(store.reports().await.unwrap(), HashMap::new());
    let coverage = Some(Coverage { files: 9, plain: 1, plain_since: Some(at(3)) });
    let reported = |second| Reported { at: at(second), version: String::from("0.1.0"), coverage };
    let reports = vec![(terminal.id, reported(7)), (TerminalId::generate(), reported(7))];
    checked.commit(vec![Change::NoteReports(reports)]).await;
    checked.commit(vec![Change::NoteReports(vec![(terminal.id, reported(8))])]).await;
    // What an administrator changes leaves it as it is.
    checked.commit(vec![Change::PutTerminal(terminal.clone())]).await;
    assert_eq!(store.reports().await.unwrap(), HashMap::from([(terminal.id, reported(8))]));
}

//! Push: who waits for changes hears of those that concern them, at whichever server they are made.

use crate::database::Database;
use crate::support::{Answer, Faulty, Site, Terminal, person_input};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tobari_core::proto::api::{Affected, Changes};
use tobari_core::proto::bulletin::{STAMP_CONTEXT, SignedStamp, Stamp};
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::store::postgres::PostgresStore;

/// How long an answer may take on a busy machine; longer than any request is held back.
const PATIENCE: Duration = Duration::from_secs(120);

impl Terminal {
    async fn changes(&self, known: &Changes, wait: u32) -> Answer {
        let Changes { version, bulletin, .. } = known;
        self.get(&format!("/v1/changes?after={version}&bulletin={bulletin}&wait={wait}"), None).await
    }

    /// What somebody who knows nothing is told.
    async fn all_changes(&self) -> Changes {
        self.get("/v1/changes", None).await.ok().to()
    }
}

#[tokio::test]
async fn a_terminal_hears_of_what_concerns_it_and_of_nothing_else() {
    let site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, case.admin.as_str());
    let known = terminal.all_changes().await;
    assert_eq!(known.decisions, Affected::Everybody);
    let told: Changes = terminal.changes(&known, 0).await.ok().to();
    assert_eq!(
        Changes { stamp: None, ..told },
        Changes { decisions: Affected::Nobody, stamp: None, ..known.clone() }
    );

    // Another terminal and a login change nothing here.
    let other = site.another(terminal, admin, None).await;
    other.login("kacho").await;
    let told: Changes = terminal.changes(&known, 0).await.ok().to();
    assert_eq!((told.bulletin, told.decisions), (known.bulletin, Affected::Nobody));

    // A person.
    let known = terminal.all_changes().await;
    let kacho = &case.people["kacho"];
    let path = format!("/v1/admin/people/{}", kacho.id);
    let input = json!({ "login": "kacho", "name": "kacho", "memberships": [] });
    terminal.put(&path, Some(admin), &input).await.ok();
    let told: Changes = terminal.changes(&known, 55).await.ok().to();
    assert_eq!(told.decisions, Affected::People { people: vec![kacho.id] });
    assert_eq!(told.bulletin, known.bulletin);

    // A rule concerns everybody, a folder nobody, but it is in the bulletin.
    let rule = case.preset.rules[0];
    terminal.delete(&format!("/v1/admin/rules/{rule}"), Some(admin)).await.ok();
    let known: Changes = terminal.changes(&told, 55).await.ok().to();
    assert_eq!(known.decisions, Affected::Everybody);
    let folder = json!({ "terminal": other.id, "path": "/srv/a", "label": case.label("社外秘").id });
    terminal.post("/v1/admin/folders", Some(admin), &folder).await.created();
    let told: Changes = terminal.changes(&known, 55).await.ok().to();
    assert_eq!((&told.decisions, told.bulletin), (&Affected::Nobody, known.bulletin + 1));

    // Tags of one terminal.
    let input = json!({ "name": "端末", "tags": ["持ち出し端末"] });
    terminal.put(&format!("/v1/admin/terminals/{}", other.id), Some(admin), &input).await.ok();
    let here: Changes = terminal.changes(&told, 0).await.ok().to();
    let there: Changes = other.changes(&told, 55).await.ok().to();
    assert_eq!((here.decisions, there.decisions), (Affected::Nobody, Affected::Everybody));

    let problem = terminal.changes(&told, 56).await.refused(ProblemCode::InvalidRequest);
    assert_eq!(problem.field.as_deref(), Some("wait"));
    site.stranger().get("/v1/changes", None).await.refused(ProblemCode::TerminalNotAccepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_answered_by_the_change_and_a_revoked_terminal_by_the_refusal() {
    let site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, case.admin.as_str());
    let other = Arc::new(site.another(terminal, admin, None).await);
    for round in 0..8 {
        let known = other.all_changes().await;
        let waiting = tokio::spawn({
            let (other, known) = (Arc::clone(&other), known.clone());
            async move { other.changes(&known, 55).await }
        });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let input = person_input(&format!("person{round}"), Vec::new(), &[]);
        terminal.post("/v1/admin/people", Some(admin), &input).await.created();
        let answer = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        let told: Changes = answer.ok().to();
        assert!(
            told.version > known.version && matches!(told.decisions, Affected::People { .. }),
            "{told:?}"
        );
    }
    let known = other.all_changes().await;
    let waiting = tokio::spawn({
        let (other, known) = (Arc::clone(&other), known.clone());
        async move { other.changes(&known, 55).await }
    });
    let input = json!({ "name": "紛失", "revoked": true });
    terminal.put(&format!("/v1/admin/terminals/{}", other.id), Some(admin), &input).await.ok();
    let answer = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    answer.refused(ProblemCode::TerminalNotAccepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_of_a_terminal_waits_at_a_time() {
    let site = Site::start().await;
    let (terminal, _) = site.first().await;
    let terminal = Arc::new(terminal);
    let known = terminal.all_changes().await;
    let waiting = tokio::spawn({
        let (terminal, known) = (Arc::clone(&terminal), known.clone());
        async move { terminal.changes(&known, 55).await }
    });
    let all = async {
        // Until the first is waiting, there is nobody to displace.
        while !waiting.is_finished() {
            // This one is displaced itself when the first comes after it.
            terminal.changes(&known, 0).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        waiting.await.unwrap()
    };
    let answer = tokio::time::timeout(PATIENCE, all).await.unwrap();
    answer.refused(ProblemCode::TooManyRequests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_at_one_server_hears_of_what_another_acknowledged() {
    let Some(database) = Database::start().await else { return };
    let location = database.create("keys").await;
    let open = async || Faulty::new(Arc::new(PostgresStore::open(&location).await.unwrap()));
    let one = Site::over(tempfile::tempdir().unwrap(), open().await).await;
    let two = one.beside(open().await).await;
    let case = one.reference().await;
    let (here, there) = (&case.terminal, Arc::new(case.terminal.at(two.address)));
    for round in 0..5 {
        let known = there.all_changes().await;
        let waiting = tokio::spawn({
            let there = Arc::clone(&there);
            async move { there.changes(&known, 55).await }
        });
        let input = person_input(&format!("person{round}"), Vec::new(), &[]);
        here.post("/v1/admin/people", Some(&case.admin), &input).await.created();
        let answer = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        let told: Changes = answer.ok().to();
        assert_ne!(told.decisions, Affected::Nobody);
    }
}

/// The bulletin's number at which time, as a terminal reads it.
fn confirmed(terminal: &Terminal, stamp: Option<&SignedStamp>) -> Stamp {
    let signed = stamp.unwrap();
    let key = &terminal.enrolment.as_ref().unwrap().signing_key.0;
    let key = tobari_core::crypto::VerifyingKey::from_bytes(key).unwrap();
    key.verify(STAMP_CONTEXT, &signed.payload.0, &signed.signature.0).unwrap();
    serde_json::from_slice(&signed.payload.0).unwrap()
}

#[tokio::test]
async fn what_is_in_force_is_confirmed_with_its_time() {
    let site = Site::start().await;
    let case = site.reference().await;
    let (terminal, admin) = (&case.terminal, case.admin.as_str());
    let known = terminal.all_changes().await;
    let first = confirmed(terminal, known.stamp.as_ref());
    assert_eq!((first.number, first.confirmed_at), (known.bulletin, site.clock_now()));
    assert_eq!(first.organisation, terminal.organisation);
    let (signed, bulletin) = terminal.bulletin().await;
    assert_eq!(confirmed(terminal, signed.stamp.as_ref()), first);

    // Time goes on and nothing changes: the bulletin's own time stays, the stamp's does not.
    site.advance(jiff::SignedDuration::from_hours(1));
    let told: Changes = terminal.changes(&known, 0).await.ok().to();
    let later = confirmed(terminal, told.stamp.as_ref());
    assert_eq!((later.number, later.confirmed_at), (first.number, site.clock_now()));
    assert_eq!(terminal.bulletin().await.1, bulletin);

    // A change that the bulletin tells of: the number that is confirmed goes with it.
    let label = case.label("社外秘");
    let input = json!({ "name": "社外秘", "level": label.label.level, "max_bulletin_age_hours": 24 });
    let path = format!("/v1/admin/labels/{}", label.id);
    let bad = json!({ "name": "社外秘", "level": label.label.level, "max_bulletin_age_hours": 0 });
    terminal.put(&path, Some(admin), &bad).await.refused(ProblemCode::InvalidRequest);
    terminal.put(&path, Some(admin), &input).await.ok();
    let (signed, bulletin) = terminal.bulletin().await;
    assert_eq!(confirmed(terminal, signed.stamp.as_ref()).number, bulletin.number);
    assert!(bulletin.number > first.number);
    let found = bulletin.labels.iter().find(|one| one.label.id == label.id).unwrap();
    assert_eq!(found.max_bulletin_age_hours, Some(24));
    // Where the store does not answer, nothing is confirmed.
    site.store.reads_fail.store(true, std::sync::atomic::Ordering::SeqCst);
    let silent = terminal.get("/v1/bulletin", None).await;
    assert!(silent.body.get("stamp").is_none(), "{silent:?}");
    site.store.reads_fail.store(false, std::sync::atomic::Ordering::SeqCst);
}

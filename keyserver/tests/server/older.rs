//! An older database that is taken up: which keys that had been retired it brings back, and what an export of the log that was
//! lost does about that.

use crate::support::{Faulty, Reference, Site, Terminal, item};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tobari_core::audit::{ExportEnd, ExportHead};
use tobari_core::envelope::Sealed;
use tobari_core::policy::Right;
use tobari_core::proto::admin::AuditProof;
use tobari_core::proto::api::{GrantOutcome, GrantRequest, GrantResponse};
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::audit::chain;
use tobari_keyserver::service::{NamedKey, ServiceError, TakenUp, accept_older};
use tobari_keyserver::store::Store as _;
use tobari_keyserver::store::sqlite::SqliteStore;

/// A site of which the first key of 社外秘 was retired, with copies of its database from before that.
struct Case {
    site: Site,
    reference: Reference,
    /// Sealed for the key that was retired.
    file: Sealed,
    /// From before the key was rotated, and from between that and its retirement.
    before_rotation: PathBuf,
    backup: PathBuf,
}

impl Case {
    async fn new() -> Self {
        let mut site = Site::start().await;
        site.limits.key_rest = SignedDuration::ZERO;
        site.restart().await;
        let reference = site.reference().await;
        let file = reference.sealed("社外秘").await;
        let before_rotation = copy(&site, "before-rotation.db").await;
        for label in ["社外秘", "秘"] {
            keys(&reference, label, "rotate", &Value::Null).await;
        }
        let backup = copy(&site, "backup.db").await;
        site.advance(SignedDuration::from_secs(1));
        keys(&reference, "社外秘", "retire", &json!({ "generation": 1 })).await;
        let case = Self { site, reference, file, before_rotation, backup };
        let refused = case.opens_at(&case.site).await;
        assert_eq!(refused, Err(ProblemCode::KeyRetired));
        case
    }

    async fn export(&self) -> Vec<u8> {
        export_of(&self.site, &self.reference.terminal, &self.reference.admin).await
    }

    /// Takes up a copy of a database, and what it is served from then.
    async fn take_up(
        &self,
        database: &Path,
        export: Option<&[u8]>,
    ) -> (Arc<SqliteStore>, Result<TakenUp, ServiceError>) {
        let directory = tempfile::tempdir_in(self.site.directory.path()).unwrap().keep();
        let path = directory.join("tobari.db");
        std::fs::copy(database, &path).unwrap();
        let store = Arc::new(SqliteStore::open(&path).await.unwrap());
        let mut export = export;
        let export = export.as_mut().map(|export| export as &mut (dyn std::io::BufRead + Send));
        let (root_key, now) = (self.site.root_key(), self.site.clock_now());
        let taken_up = accept_older(Arc::clone(&store) as _, root_key, "disk lost", export, now).await;
        (store, taken_up)
    }

    async fn serve(&self, store: Arc<SqliteStore>) -> Site {
        let mut site = self.site.beside(Faulty::new(store)).await;
        site.limits.key_rest = SignedDuration::ZERO;
        site.restart().await;
        site
    }

    /// Whether the file that was sealed for the first key opens at a server.
    async fn opens_at(&self, site: &Site) -> Result<(), ProblemCode> {
        let terminal: Terminal = self.reference.terminal.at(site.address);
        let bucho = terminal.login("bucho").await;
        let request = GrantRequest { items: vec![item(self.file.header.wire_bytes(), Right::View)] };
        let response: GrantResponse = terminal.post("/v1/grants", Some(&bucho), &request).await.ok().to();
        match response.outcomes.into_iter().next().unwrap() {
            GrantOutcome::Granted(_) => Ok(()),
            GrantOutcome::Refused(refusal) => Err(refusal.code),
        }
    }
}

/// As `tobari audit export` makes it.
async fn export_of(site: &Site, terminal: &Terminal, admin: &str) -> Vec<u8> {
    let proof: AuditProof = terminal.get("/v1/admin/audit/checkpoint", Some(admin)).await.ok().to();
    let rows = site.store.audit_page(0, u32::try_from(proof.size).unwrap()).await.unwrap();
    let end = ExportEnd { checkpoint: proof.checkpoint, count: proof.size, proof: Vec::new() };
    let mut lines = vec![serde_json::to_vec(&ExportHead::new(1)).unwrap()];
    lines.extend(rows.into_iter().map(|row| row.payload));
    lines.push(serde_json::to_vec(&end).unwrap());
    lines.into_iter().flat_map(|line| [line, b"\n".to_vec()].concat()).collect()
}

async fn copy(site: &Site, name: &str) -> PathBuf {
    let to = site.directory.path().join(name);
    std::fs::File::create_new(&to).unwrap();
    SqliteStore::copy(&site.directory.path().join("tobari.db"), &to).await.unwrap();
    to
}

async fn keys(reference: &Reference, label: &str, verb: &str, input: &Value) {
    let path = format!("/v1/admin/labels/{}/{verb}", reference.label(label).id);
    reference.terminal.post(&path, Some(&reference.admin), input).await.ok();
}

fn key(label: &str, generation: u32) -> NamedKey {
    NamedKey { label: label.to_owned(), generation }
}

#[tokio::test]
async fn without_an_export_a_retired_key_is_back_and_named_among_those_that_may_be() {
    let case = Case::new().await;
    let (store, taken_up) = case.take_up(&case.backup, None).await;
    let taken_up = taken_up.unwrap();
    let mut earlier = taken_up.earlier.clone();
    earlier.sort_by(|one, other| one.label.cmp(&other.label));
    assert_eq!(earlier, [key("社外秘", 1), key("秘", 1)]);
    assert_eq!((taken_up.epoch, taken_up.lost, taken_up.retired), (2, None, vec![]));
    let older = case.serve(store).await;
    assert_eq!(case.opens_at(&older).await, Ok(()), "the key is back");
    // By hand, as the documents say.
    let terminal = case.reference.terminal.at(older.address);
    let admin = terminal.login(crate::support::ADMIN).await;
    let path = format!("/v1/admin/labels/{}/retire", case.reference.label("社外秘").id);
    let input = json!({ "generation": 1 });
    // The file that was asked for just now needs it: it is known, so it takes force, and with it a second person.
    terminal.post(&path, Some(&admin), &input).await.refused(ProblemCode::Conflict);
    let path = format!("/v1/admin/labels/{}/retire", case.reference.label("秘").id);
    terminal.post(&path, Some(&admin), &input).await.ok();
}

#[tokio::test]
async fn an_export_of_the_lost_log_retires_the_key_again() {
    let case = Case::new().await;
    let export = case.export().await;
    let (store, taken_up) = case.take_up(&case.backup, Some(&export)).await;
    let taken_up = taken_up.unwrap();
    assert_eq!((taken_up.retired, taken_up.earlier), (vec![key("社外秘", 1)], vec![key("秘", 1)]));
    assert_eq!(taken_up.still_current, []);
    assert!(taken_up.lost.unwrap() > 0);
    let row = store.load().await.unwrap().tables.label_keys[&(case.reference.label("社外秘").id, 1)].clone();
    assert!(row.sealed_private.is_empty() && row.retired_at.is_some(), "the private half is gone");
    let older = case.serve(store).await;
    assert_eq!(case.opens_at(&older).await, Err(ProblemCode::KeyRetired));
    chain::verify(older.store.as_ref()).await.unwrap();
    // It is on record, so that the next export says it, too.
    let rows = older.store.audit_page(0, 10_000).await.unwrap();
    let said = |row: &[u8]| String::from_utf8_lossy(row).contains("generation 1 retired, key ");
    assert_eq!(rows.iter().filter(|row| said(&row.payload)).count(), 1);
}

#[tokio::test]
async fn a_key_that_is_the_current_one_here_is_not_retired_but_named() {
    let case = Case::new().await;
    let export = case.export().await;
    let (store, taken_up) = case.take_up(&case.before_rotation, Some(&export)).await;
    let taken_up = taken_up.unwrap();
    assert_eq!((taken_up.retired, taken_up.earlier), (vec![], vec![]));
    assert_eq!(taken_up.still_current, [key("社外秘", 1)]);
    let older = case.serve(store).await;
    assert_eq!(case.opens_at(&older).await, Ok(()), "what is sealed today must open tomorrow");
}

#[tokio::test]
async fn an_export_that_does_not_go_on_from_the_database_takes_nothing_up() {
    let case = Case::new().await;
    let export = case.export().await;
    let lines: Vec<&[u8]> = export.split_inclusive(|byte| *byte == b'\n').collect();
    let without = |index: usize| {
        let rest: Vec<&[u8]> =
            lines.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, line)| *line).collect();
        rest.concat()
    };
    let other = Case::new().await;
    // A backup that was taken up by itself has a log of its own from then on.
    let (store, taken_up) = case.take_up(&case.backup, None).await;
    taken_up.unwrap();
    let later = case.serve(store).await;
    let terminal = case.reference.terminal.at(later.address);
    let admin = terminal.login(crate::support::ADMIN).await;
    let exports = [
        ("a record is missing", without(lines.len() - 2)),
        ("its end is missing", without(lines.len() - 1)),
        ("its head is missing", without(0)),
        ("another organisation", other.export().await),
        ("another epoch", export_of(&later, &terminal, &admin).await),
        ("nothing", Vec::new()),
    ];
    for (what, export) in exports {
        let (store, taken_up) = case.take_up(&case.backup, Some(&export)).await;
        let error = taken_up.unwrap_err();
        assert!(
            matches!(&error, ServiceError::Invalid { field, .. } if field == "export"),
            "{what}: {error:?}"
        );
        let keys = store.load().await.unwrap().tables.label_keys;
        assert!(keys.values().all(|key| key.retired_at.is_none()), "{what}");
        // Nothing was done: it can be taken up still.
        let (_, again) = case.take_up(&case.backup, Some(&case.export().await)).await;
        assert_eq!(again.unwrap().epoch, 2);
    }
}

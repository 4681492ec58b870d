//! An organisation of 30,000 people: the whole list is longer than what goes through the daemon's control socket, and the
//! administrator notices nothing of that.

use anyhow::{Context as _, Result, ensure};
use tobari_core::ids::PersonId;
use tobari_core::proto::control::MAX_FRAME;
use tobari_keyserver::store::sqlite::SqliteStore;
use tobari_keyserver::store::{Basis, Change, PersonRow, Store as _};
use tobari_tests::{ADMIN, Site};

const PEOPLE: usize = 30_000;
/// Written in one transaction.
const AT_ONCE: usize = 5000;

fn login(number: usize) -> String {
    format!("shokuin{number:05}")
}

/// Puts the people into the database of a key server that does not run, as the key server does it. They have no password that opens
/// anything: 30,000 of them would take an hour to hash.
fn fill(site: &Site) -> Result<()> {
    let database = site.path("keyserver/tobari.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = SqliteStore::open(&database).await?;
        let row = |number| PersonRow {
            id: PersonId::generate(),
            login: login(number),
            login_key: login(number),
            name: format!("職員 {number} 係"),
            password_hash: String::from("!"),
            sealed_totp: None,
            memberships: Vec::new(),
            roles: Vec::new(),
            disabled: false,
        };
        let all: Vec<Change> = (0..PEOPLE).map(|number| Change::PutPerson(row(number))).collect();
        for changes in all.chunks(AT_ONCE) {
            store.commit(&Basis::ANY, changes, &[]).await?;
        }
        Ok(())
    })
}

#[test]
fn thirty_thousand_people_are_administered_like_three() -> Result<()> {
    let mut site = Site::start()?;
    site.daemon()?.terminate()?;
    site.key_server()?.terminate()?;
    fill(&site)?;
    site.start_key_server()?;
    site.start_daemon()?;
    site.login(ADMIN)?.ok()?;

    let listed = site.admin(&["person", "list", "--json"])?.ok()?.json()?;
    let people = listed["people"].as_array().context("a list")?;
    ensure!(people.len() == PEOPLE + 1, "{}", people.len());
    // The control: in one piece it could not have come.
    ensure!(serde_json::to_vec(people)?.len() > MAX_FRAME);

    let wanted = login(PEOPLE / 2);
    let shown = site.admin(&["person", "show", &wanted.to_uppercase(), "--json"])?.ok()?.json()?;
    ensure!(shown["login"] == wanted.as_str(), "{shown}");
    let id = shown["id"].as_str().context("an id")?;
    let shown = site.admin(&["person", "show", id, "--json"])?.ok()?.json()?;
    ensure!(shown["login"] == wanted.as_str(), "{shown}");
    let set = site.admin(&["person", "set", &wanted, "--name", "改名", "--json"])?.ok()?.json()?;
    ensure!(set["id"] == id && set["name"] == "改名", "{set}");
    site.admin(&["lease", "list", "--person", &wanted])?.ok()?;
    site.admin(&["lease", "ledger", "--person", &wanted])?.ok()?;
    site.tobari(ADMIN, &["audit", "search", "--person", &wanted])?.ok()?;
    site.tobari(ADMIN, &["audit", "search"])?.ok()?;
    let unknown = site.admin(&["person", "show", "nobody"])?.fails_with(12)?;
    ensure!(unknown.stderr.contains("person list"), "{unknown:?}");
    Ok(())
}

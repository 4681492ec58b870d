//! Several servers over one PostgreSQL database: what one acknowledges all obey, whatever fails in between. The promises
//! are checked on recorded histories, and the check is itself checked: servers that trust their memory break them.

use crate::database::Database;
use crate::support::{Faulty, Reference, Site, Terminal, item};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tobari_core::ids::FileId;
use tobari_core::policy::Right;
use tobari_core::proto::api::{
    Affected, Changes, DecisionOutcome, DecisionResponse, GrantOutcome, GrantRequest, GrantResponse,
};
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::audit::{Act, Record, chain};
use tobari_keyserver::store::postgres::{Location, PostgresStore};
use tobari_keyserver::store::{Basis, Store};

/// How long anything may take on a busy machine before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

async fn open(location: &Location) -> Arc<Faulty> {
    Faulty::new(Arc::new(PostgresStore::open(location).await.unwrap()))
}

/// Two servers that hear nothing of each other, so that only asking the database can tell them anything.
pub(crate) struct Pair {
    pub(crate) one: Site,
    pub(crate) two: Site,
    pub(crate) case: Reference,
    pub(crate) database: Database,
}

impl Pair {
    pub(crate) async fn start() -> Option<Self> {
        let database = Database::start().await?;
        let location = database.create("keys").await;
        Some(Self::over(database, &location, &location).await)
    }

    async fn over(database: Database, here: &Location, there: &Location) -> Self {
        let stores = [open(here).await, open(there).await];
        for store in &stores {
            store.deaf.store(true, Ordering::SeqCst);
        }
        let [first, second] = stores;
        let one = Site::over(tempfile::tempdir().unwrap(), first).await;
        let two = one.beside(second).await;
        let case = one.reference().await;
        Self { one, two, case, database }
    }

    pub(crate) fn at_one(&self) -> Terminal {
        self.case.terminal.at(self.one.address)
    }

    pub(crate) fn at_two(&self) -> Terminal {
        self.case.terminal.at(self.two.address)
    }

    fn kacho(&self, in_group: bool) -> (String, Value) {
        let kacho = &self.case.people["kacho"];
        let memberships = if in_group { json!(kacho.memberships) } else { json!([]) };
        let input = json!({ "login": "kacho", "name": "kacho", "memberships": memberships });
        (format!("/v1/admin/people/{}", kacho.id), input)
    }

    async fn set_kacho(&self, at: &Terminal, in_group: bool) {
        let (path, input) = self.kacho(in_group);
        at.put(&path, Some(&self.case.admin), &input).await.ok();
    }
}

#[tokio::test]
async fn what_one_server_acknowledges_the_other_obeys_at_once() {
    let Some(pair) = Pair::start().await else { return };
    let (here, there) = (pair.at_one(), pair.at_two());
    let admin = pair.case.admin.as_str();
    let file = pair.case.sealed("社外秘").await;
    let header = file.header.wire_bytes();

    // A session that began at one server is known at the other.
    let kacho = here.login("kacho").await;
    there.grant(&kacho, header, Right::View).await.unwrap();
    for _ in 0..3 {
        pair.set_kacho(&here, false).await;
        let refusal = there.grant(&kacho, header, Right::View).await.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::RightRefused);
        pair.set_kacho(&there, true).await;
        here.grant(&kacho, header, Right::View).await.unwrap();
    }
    // Logging out.
    here.delete("/v1/sessions/current", Some(&kacho)).await.ok();
    let items = || GrantRequest { items: vec![item(header, Right::View)] };
    there.post("/v1/grants", Some(&kacho), &items()).await.refused(ProblemCode::NotLoggedIn);
    there.get("/v1/sessions/current", Some(&kacho)).await.refused(ProblemCode::NotLoggedIn);

    // Shutting a person out, and letting in again: the sessions stay ended.
    let ippan = there.login("ippan").await;
    here.grant(&ippan, header, Right::View).await.unwrap();
    let person = &pair.case.people["ippan"];
    let path = format!("/v1/admin/people/{}", person.id);
    let mut input =
        json!({ "login": "ippan", "name": "ippan", "memberships": person.memberships, "disabled": true });
    here.put(&path, Some(admin), &input).await.ok();
    there.post("/v1/grants", Some(&ippan), &items()).await.refused(ProblemCode::NotLoggedIn);
    there
        .try_login("ippan", &crate::support::password("ippan"), None)
        .await
        .refused(ProblemCode::BadCredentials);
    input["disabled"] = json!(false);
    here.put(&path, Some(admin), &input).await.ok();
    there.post("/v1/grants", Some(&ippan), &items()).await.refused(ProblemCode::NotLoggedIn);

    // A terminal that one enrolled works at the other, until one revokes it.
    let another = pair.one.another(&here, admin, None).await;
    let elsewhere = another.at(pair.two.address);
    let session = elsewhere.login("bucho").await;
    elsewhere.grant(&session, header, Right::View).await.unwrap();
    let revoked = json!({ "name": "端末", "revoked": true });
    here.put(&format!("/v1/admin/terminals/{}", another.id), Some(admin), &revoked).await.ok();
    elsewhere.post("/v1/grants", Some(&session), &items()).await.refused(ProblemCode::TerminalNotAccepted);
    elsewhere.get("/v1/bulletin", None).await.refused(ProblemCode::TerminalNotAccepted);
    let (_, bulletin) = there.bulletin().await;
    assert!(bulletin.revocations.terminals.contains(&another.id));

    // Who is no longer an administrator at one is none at the other.
    let input = crate::support::person_input("fuku", Vec::new(), &["policy"]);
    let fuku = here.post("/v1/admin/people", Some(admin), &input).await.created();
    let session = there.login("fuku").await;
    there.post("/v1/admin/groups", Some(&session), &json!({ "name": "一" })).await.created();
    let path = format!("/v1/admin/people/{}", fuku.body["id"].as_str().unwrap());
    here.put(&path, Some(admin), &json!({ "login": "fuku", "name": "fuku" })).await.ok();
    there
        .post("/v1/admin/groups", Some(&session), &json!({ "name": "二" }))
        .await
        .refused(ProblemCode::NotAdministrator);

    // A label that one makes can be granted by the other: its key came along.
    let label = json!({ "name": "新", "level": 3 });
    let label = here.post("/v1/admin/labels", Some(admin), &label).await.created();
    let (_, bulletin) = there.bulletin().await;
    assert!(
        bulletin.labels.iter().any(|entry| entry.label.id.to_string() == label.body["id"].as_str().unwrap())
    );
    chain::verify(pair.two.store.as_ref()).await.unwrap();
}

#[tokio::test]
async fn failed_logins_at_two_servers_are_counted_together() {
    let Some(pair) = Pair::start().await else { return };
    let (here, there) = (pair.at_one(), pair.at_two());
    for _ in 0..3 {
        let wrong = [here.try_login("kacho", "wrong", None), there.try_login("kacho", "wrong", None)];
        let [one, two] = wrong;
        let (one, two) = tokio::join!(one, two);
        assert!(one.status.is_client_error() && two.status.is_client_error(), "{one:?} {two:?}");
    }
    here.try_login("kacho", &crate::support::password("kacho"), None).await.refused(ProblemCode::LockedOut);
    there.try_login("kacho", &crate::support::password("kacho"), None).await.refused(ProblemCode::LockedOut);
}

/// What happened, in the order of one counter.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// An administrator let the person in or out.
    Changed { allowed: bool, began: u64, acknowledged: u64 },
    /// The person asked for a key.
    Asked { granted: bool, began: u64, ended: u64 },
}

/// Requests that were answered otherwise than some order of what happened allows.
fn violations(events: &[Event]) -> Vec<Event> {
    let changes: Vec<(bool, u64, u64)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Changed { allowed, began, acknowledged } => Some((*allowed, *began, *acknowledged)),
            Event::Asked { .. } => None,
        })
        .collect();
    let wrong = |event: &Event| {
        let Event::Asked { granted, began: asked, ended } = *event else { return false };
        // The person is in the group at first; changes come one after the other.
        let before = changes.iter().filter(|change| change.2 < asked).max_by_key(|change| change.2);
        let meanwhile = changes.iter().filter(|change| change.1 < ended && change.2 > asked);
        let mut possible = meanwhile.map(|change| change.0).chain([before.is_none_or(|change| change.0)]);
        !possible.any(|allowed| allowed == granted)
    };
    events.iter().filter(|event| wrong(event)).copied().collect()
}

#[test]
fn the_check_of_histories_finds_what_it_is_for() {
    let changed = |allowed, began, acknowledged| Event::Changed { allowed, began, acknowledged };
    let asked = |granted, began, ended| Event::Asked { granted, began, ended };
    let out = changed(false, 10, 20);
    assert!(violations(&[out, asked(true, 1, 2), asked(true, 5, 12), asked(true, 15, 40)]).is_empty());
    assert_eq!(violations(&[out, asked(true, 21, 22)]).len(), 1, "granted after it was acknowledged");
    assert_eq!(violations(&[out, changed(true, 30, 40), asked(false, 41, 42)]).len(), 1);
    assert!(violations(&[out, changed(true, 30, 40), asked(false, 35, 42)]).is_empty());
}

/// What administrators take and give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Membership,
    Label,
    File,
    Terminal,
}

/// Takes something from the reader or gives it back.
async fn change(pair: &Pair, at: &Terminal, kind: Kind, file: FileId, reader: &Terminal, allowed: bool) {
    let admin = Some(pair.case.admin.as_str());
    let subject = match kind {
        Kind::Membership => return pair.set_kacho(at, allowed).await,
        Kind::Terminal => {
            let act = if allowed { "unfreeze" } else { "freeze" };
            at.post(&format!("/v1/admin/terminals/{}/{act}", reader.id), admin, &json!(null)).await.ok();
            return;
        }
        Kind::Label => json!({ "kind": "label", "id": pair.case.label("社外秘").id, "reason": "試験" }),
        Kind::File => json!({ "kind": "file", "id": file, "reason": "試験" }),
    };
    let path = if allowed { "/v1/admin/revocations/lift" } else { "/v1/admin/revocations" };
    at.post(path, admin, &subject).await.ok();
}

/// Whether a key is given now.
async fn is_granted(terminal: &Terminal, bearer: &str, header: &[u8]) -> bool {
    let items = GrantRequest { items: vec![item(header, Right::View)] };
    let answer = terminal.post("/v1/grants", Some(bearer), &items).await;
    if answer.status == StatusCode::FORBIDDEN {
        answer.refused(ProblemCode::TerminalFrozen);
        return false;
    }
    let answer: GrantResponse = answer.ok().to();
    matches!(answer.outcomes.as_slice(), [GrantOutcome::Granted(_)])
}

/// A terminal that asks for its decision only when it is told of a change; whether the file may be viewed.
async fn listen(
    terminal: Terminal,
    bearer: String,
    header: Vec<u8>,
    clock: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    latest: Arc<AtomicBool>,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut version = 0;
    while !ended.load(Ordering::SeqCst) {
        let told = terminal.get(&format!("/v1/changes?after={version}&bulletin=1000000&wait=1"), None).await;
        let frozen = told.status == StatusCode::FORBIDDEN;
        if !frozen {
            let told: Changes = told.ok().to();
            version = told.version;
            if told.decisions == Affected::Nobody {
                continue;
            }
        }
        let began = clock.fetch_add(1, Ordering::SeqCst);
        let items = GrantRequest { items: vec![item(&header, Right::View)] };
        let answer = terminal.post("/v1/decisions", Some(&bearer), &items).await;
        let granted = answer.status == StatusCode::OK
            && answer.to::<DecisionResponse>().decisions.iter().all(|decision| {
                matches!(decision, DecisionOutcome::Decided { rights, .. } if rights.contains(Right::View))
            });
        events.push(Event::Asked { granted, began, ended: clock.fetch_add(1, Ordering::SeqCst) });
        latest.store(granted, Ordering::SeqCst);
        if frozen {
            // What it knew before does not count: let in again, it asks for all.
            version = 0;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    events
}

/// Readers ask at both servers, and one listens, while administrators change at those that are named.
async fn record(pair: Arc<Pair>, kind: Kind, changes: usize, administrate: Vec<Terminal>) -> Vec<Event> {
    let clock = Arc::new(AtomicU64::new(0));
    let tick = |clock: &AtomicU64| clock.fetch_add(1, Ordering::SeqCst);
    let ended = Arc::new(AtomicBool::new(false));
    let file = pair.case.sealed("社外秘").await;
    let trusting = pair.two.store.trusting.load(Ordering::SeqCst);
    // A server that trusts its memory would not hear of a new terminal.
    let reader =
        if trusting { pair.at_one() } else { pair.one.another(&pair.at_one(), &pair.case.admin, None).await };
    let kacho = reader.login("kacho").await;
    let latest = Arc::new(AtomicBool::new(true));
    let mut running = tokio::task::JoinSet::new();
    if !trusting {
        let (clock, ended) = (Arc::clone(&clock), Arc::clone(&ended));
        let (terminal, header) = (reader.at(pair.two.address), file.header.wire_bytes().to_vec());
        running.spawn(listen(terminal, kacho.clone(), header, clock, ended, Arc::clone(&latest)));
    }
    // When each reader's last answered request began.
    let mut asked = Vec::new();
    for address in [pair.one.address, pair.two.address, pair.two.address] {
        let terminal = reader.at(address);
        let answered = Arc::new(AtomicU64::new(0));
        asked.push(Arc::clone(&answered));
        let (clock, ended, kacho) = (Arc::clone(&clock), Arc::clone(&ended), kacho.clone());
        let header = file.header.wire_bytes().to_vec();
        running.spawn(async move {
            let mut events = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                let began = clock.fetch_add(1, Ordering::SeqCst);
                let granted = is_granted(&terminal, &kacho, &header).await;
                events.push(Event::Asked { granted, began, ended: clock.fetch_add(1, Ordering::SeqCst) });
                answered.store(began, Ordering::SeqCst);
            }
            events
        });
    }
    let mut events = Vec::new();
    for round in 0..changes {
        let allowed = round % 2 == 1;
        let began = tick(&clock);
        let at = &administrate[round % administrate.len()];
        change(&pair, at, kind, file.file_id, &reader, allowed).await;
        events.push(Event::Changed { allowed, began, acknowledged: tick(&clock) });
        // Until all have asked since, and who listens has heard of it.
        let (deadline, since) = (Instant::now() + PATIENCE, clock.load(Ordering::SeqCst));
        let told = || trusting || latest.load(Ordering::SeqCst) == allowed;
        let all_asked = || asked.iter().all(|answered| answered.load(Ordering::SeqCst) >= since);
        while !all_asked() || !told() {
            assert!(Instant::now() < deadline, "who asks or listens was not answered in round {round}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    ended.store(true, Ordering::SeqCst);
    events.extend(running.join_all().await.into_iter().flatten());
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grant_that_begins_after_an_acknowledged_change_uses_the_old_policy() {
    no_grant_after(Kind::Membership, 24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grant_that_begins_after_an_acknowledged_revocation_succeeds() {
    for kind in [Kind::Label, Kind::File, Kind::Terminal] {
        no_grant_after(kind, 10).await;
    }
}

async fn no_grant_after(kind: Kind, changes: usize) {
    let Some(pair) = Pair::start().await else { return };
    let pair = Arc::new(pair);
    let administrate = vec![pair.at_one(), pair.at_two()];
    let events = record(Arc::clone(&pair), kind, changes, administrate).await;
    let asked = |wanted: bool| {
        events
            .iter()
            .filter(|event| matches!(event, Event::Asked { granted, .. } if *granted == wanted))
            .count()
    };
    assert!(asked(true) > 0 && asked(false) > 0, "{events:?}");
    assert_eq!(violations(&events).len(), 0, "{:?}", violations(&events));
    chain::verify(pair.one.store.as_ref()).await.unwrap();
}

/// The negative control: the same run, with servers that trust what they hold in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_trust_their_memory_are_found_out() {
    let Some(pair) = Pair::start().await else { return };
    let kacho = pair.at_two().login("kacho").await;
    let file = pair.case.sealed("社外秘").await;
    pair.at_two().grant(&kacho, file.header.wire_bytes(), Right::View).await.unwrap();
    pair.two.store.trusting.store(true, Ordering::SeqCst);
    let pair = Arc::new(pair);
    let administrate = vec![pair.at_one()];
    let events = record(Arc::clone(&pair), Kind::Membership, 10, administrate).await;
    assert!(!violations(&events).is_empty());
}

/// What was promised to clients under failures.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    groups: HashSet<String>,
    grants: Vec<(u64, FileId)>,
}

/// A client that goes on whatever is answered: each group that was acknowledged and each grant that was given is noted.
pub(crate) async fn load(
    terminal: Terminal,
    admin: String,
    kacho: String,
    header: Vec<u8>,
    ended: Arc<AtomicBool>,
) -> Promises {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut promises = Promises::default();
    let body = serde_json::to_vec(&GrantRequest { items: vec![item(&header, Right::View); 3] }).unwrap();
    while !ended.load(Ordering::SeqCst) {
        let name = format!("課{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let create =
            terminal.request(Method::POST, "/v1/admin/groups", Some(&admin)).json(&json!({ "name": name }));
        if create.send().await.is_ok_and(|answer| answer.status() == StatusCode::CREATED) {
            promises.groups.insert(name);
        }
        for _ in 0..4 {
            let ask = terminal
                .request(Method::POST, "/v1/grants", Some(&kacho))
                .header("content-type", "application/json")
                .body(body.clone());
            let Ok(answer) = ask.send().await else { continue };
            if answer.status() != StatusCode::OK {
                continue;
            }
            let Ok(text) = answer.text().await else { continue };
            let answer: GrantResponse = serde_json::from_str(&text).unwrap();
            for outcome in answer.outcomes {
                let GrantOutcome::Granted(grant) = outcome else { continue };
                promises.grants.push((grant.audit, grant.file));
            }
        }
    }
    promises
}

/// Every promise is kept in the store, and the audit chain is whole.
pub(crate) async fn kept(store: &dyn Store, promises: &[Promises]) {
    assert_eq!(broken(store, promises).await, None);
}

/// The first promise that is not kept in the store, or what the audit chain lacks.
async fn broken(store: &dyn Store, promises: &[Promises]) -> Option<String> {
    if let Err(error) = chain::verify(store).await {
        return Some(format!("{error:?}"));
    }
    // A database may be damaged where its log is not.
    let tables = match store.load().await {
        Ok(state) => state.tables,
        Err(error) => return Some(format!("{error:?}")),
    };
    let names: HashSet<&str> = tables.groups.values().map(|group| group.name.as_str()).collect();
    let mut recorded = HashSet::new();
    let mut after = 0;
    loop {
        let page = match store.audit_page(after, 1000).await {
            Ok(page) => page,
            Err(error) => return Some(format!("{error:?}")),
        };
        let Some(last) = page.last() else { break };
        after = last.sequence;
        for row in page {
            let record: Record = serde_json::from_slice(&row.payload).unwrap();
            if record.act == Act::Grant {
                recorded.insert((row.sequence, record.file.unwrap()));
            }
        }
    }
    let mut used = HashSet::new();
    for promises in promises {
        if let Some(name) = promises.groups.iter().find(|name| !names.contains(name.as_str())) {
            return Some(format!("{name} was acknowledged and is lost"));
        }
        for grant in &promises.grants {
            if !recorded.contains(grant) {
                return Some(format!("{grant:?} has no record"));
            }
            if !used.insert(*grant) {
                return Some(format!("{grant:?} was given twice on one record"));
            }
        }
    }
    None
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn grants(store: &dyn Store) -> u64 {
    store.audit_head().await.map_or(0, |head| head.sequence)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_loses_nothing_that_was_answered() {
    let Some(mut pair) = Pair::start().await else { return };
    let file = pair.case.sealed("社外秘").await;
    let kacho = pair.at_one().login("kacho").await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut running = tokio::task::JoinSet::new();
    for terminal in [pair.at_one(), pair.at_two(), pair.at_two()] {
        let (admin, header) = (pair.case.admin.clone(), file.header.wire_bytes().to_vec());
        running.spawn(load(terminal, admin, kacho.clone(), header, Arc::clone(&ended)));
    }
    for _ in 0..3 {
        let before = grants(pair.two.store.as_ref()).await;
        until("no grants", async || grants(pair.two.store.as_ref()).await > before + 40).await;
        pair.database.kill();
        // While it is away nothing is granted.
        let item = GrantRequest { items: vec![item(file.header.wire_bytes(), Right::View)] };
        let answer = pair.at_one().post("/v1/grants", Some(&kacho), &item).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        pair.database.run().await;
    }
    // Both servers serve again, by themselves.
    for terminal in [pair.at_one(), pair.at_two()] {
        let items = GrantRequest { items: vec![item(file.header.wire_bytes(), Right::View)] };
        until("no grant after the database came back", async || {
            terminal.post("/v1/grants", Some(&kacho), &items).await.status == StatusCode::OK
        })
        .await;
    }
    ended.store(true, Ordering::SeqCst);
    let promises = running.join_all().await;
    assert!(promises.iter().any(|promises| !promises.grants.is_empty()));
    assert!(promises.iter().any(|promises| !promises.groups.is_empty()));
    kept(pair.two.store.as_ref(), &promises).await;
}

/// Two servers whose database loses its power some times: what they promised, and what is there afterwards.
/// Or that the database does not start any more.
async fn after_power_cuts(
    database: Database,
    cuts: usize,
) -> Result<(PostgresStore, Database, Vec<Promises>), String> {
    let location = database.create("keys").await;
    let mut pair = Pair::over(database, &location, &location).await;
    let file = pair.case.sealed("社外秘").await;
    let kacho = pair.at_one().login("kacho").await;
    let items = GrantRequest { items: vec![item(file.header.wire_bytes(), Right::View)] };
    let ended = Arc::new(AtomicBool::new(false));
    let mut running = tokio::task::JoinSet::new();
    // Only what is written from here on is at risk.
    pair.database.settle().await;
    for terminal in [pair.at_one(), pair.at_two(), pair.at_two()] {
        let (admin, header) = (pair.case.admin.clone(), file.header.wire_bytes().to_vec());
        running.spawn(load(terminal, admin, kacho.clone(), header, Arc::clone(&ended)));
    }
    for cut in 1..=cuts {
        let before = grants(pair.two.store.as_ref()).await;
        until("no grants", async || grants(pair.two.store.as_ref()).await > before + 40).await;
        pair.database.cut_power();
        let answer = pair.at_one().post("/v1/grants", Some(&kacho), &items).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        if cut == cuts {
            ended.store(true, Ordering::SeqCst);
        }
        pair.database.try_run().await?;
    }
    let promises = running.join_all().await;
    assert!(promises.iter().any(|promises| !promises.grants.is_empty()));
    assert!(promises.iter().any(|promises| !promises.groups.is_empty()));
    let store = PostgresStore::open(&location).await.map_err(|error| error.to_string())?;
    Ok((store, pair.database, promises))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_power_is_cut_loses_nothing_that_was_answered() {
    let Some(database) = Database::start_on_disk(None).await else { return };
    let (store, _database, promises) = after_power_cuts(database, 4).await.unwrap();
    kept(&store, &promises).await;
}

/// The negative control: the same cut under a database whose `fsync` does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_sync_is_found_out() {
    let Some(database) = Database::start_on_disk(Some("libeatmydata.so")).await else { return };
    // It may not even start again.
    if let Ok((store, _database, promises)) = after_power_cuts(database, 1).await {
        assert_ne!(broken(&store, &promises).await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_cut_off_grants_nothing_and_holds_up_nobody() {
    let Some(database) = Database::start().await else { return };
    let here = database.create("keys").await;
    let wire = database.wire().await;
    let pair = Pair::over(database, &here, &wire.location("keys")).await;
    let file = pair.case.sealed("社外秘").await;
    let kacho = pair.at_one().login("kacho").await;
    let items = GrantRequest { items: vec![item(file.header.wire_bytes(), Right::View)] };
    let ended = Arc::new(AtomicBool::new(false));
    let mut running = tokio::task::JoinSet::new();
    for terminal in [pair.at_one(), pair.at_two(), pair.at_two()] {
        let (admin, header) = (pair.case.admin.clone(), file.header.wire_bytes().to_vec());
        running.spawn(load(terminal, admin, kacho.clone(), header, Arc::clone(&ended)));
    }
    let before = grants(pair.one.store.as_ref()).await;
    until("no grants", async || grants(pair.one.store.as_ref()).await > before + 40).await;
    // In the middle of whatever it is doing, a transaction that holds the lock of the audit log included; and while it is its turn.
    let _turn = pair.two.store.turn().await.unwrap().unwrap();
    wire.cut(true);
    let answer = pair.at_two().post("/v1/grants", Some(&kacho), &items).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    // The other one is held up for as long as the database needs to notice, no longer.
    let (path, input) = pair.kacho(false);
    until("the server that is not cut off cannot change anything", async || {
        pair.at_one().put(&path, Some(&pair.case.admin), &input).await.status.is_success()
    })
    .await;
    let answer = pair.at_two().post("/v1/grants", Some(&kacho), &items).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    ended.store(true, Ordering::SeqCst);
    wire.cut(false);
    // It comes back, and what was changed without it holds.
    let mut last = None;
    until("the server that was cut off does not come back", async || {
        let answer = pair.at_two().post("/v1/grants", Some(&kacho), &items).await;
        let back = answer.status == StatusCode::OK;
        last = Some(answer);
        back
    })
    .await;
    let answer: GrantResponse = last.unwrap().to();
    assert!(
        matches!(&answer.outcomes[..], [GrantOutcome::Refused(refusal)] if refusal.code == ProblemCode::RightRefused)
    );
    running.shutdown().await;
    chain::verify(pair.one.store.as_ref()).await.unwrap();
}

#[tokio::test]
async fn changes_of_several_servers_take_turns() {
    let Some(pair) = Pair::start().await else { return };
    let turn = pair.two.store.turn().await.unwrap().unwrap();
    let (path, input) = pair.kacho(false);
    let (here, admin) = (pair.at_one(), pair.case.admin.clone());
    let change = tokio::spawn(async move { here.put(&path, Some(&admin), &input).await });
    until("the change does not queue", async || pair.database.waiting().await == 1).await;
    // Who only logs in or opens a file waits for nobody.
    let file = pair.case.sealed("社外秘").await;
    let bucho = pair.at_one().login("bucho").await;
    pair.at_one().grant(&bucho, file.header.wire_bytes(), Right::View).await.unwrap();
    assert!(!change.is_finished());
    drop(turn);
    change.await.unwrap().ok();

    // Who waited and has gone away leaves nothing behind.
    let turn = pair.two.store.turn().await.unwrap().unwrap();
    let store = Arc::clone(&pair.one.store);
    let gone = tokio::spawn(async move { store.turn().await.map(|_| ()) });
    until("nobody queues", async || pair.database.waiting().await == 1).await;
    gone.abort();
    drop(turn);
    for server in [&pair.one, &pair.two, &pair.one] {
        drop(server.store.turn().await.unwrap().unwrap());
    }
    // Nor does a server whose connection the database has ended.
    let turn = pair.two.store.turn().await.unwrap().unwrap();
    pair.database
        .run_sql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted",
        )
        .await;
    drop(pair.one.store.turn().await.unwrap().unwrap());
    drop(turn);
    drop(pair.two.store.turn().await.unwrap().unwrap());
}

#[tokio::test]
async fn changes_are_told_without_being_asked_for() {
    let Some(database) = Database::start().await else { return };
    let location = database.create("hints").await;
    let (one, two) =
        (PostgresStore::open(&location).await.unwrap(), PostgresStore::open(&location).await.unwrap());
    let mut hints = two.hints().unwrap();
    // The first hint is that the store listens.
    tokio::time::timeout(PATIENCE, hints.changed()).await.unwrap().unwrap();
    hints.mark_unchanged();
    let change = [tobari_keyserver::store::Change::PutSetting(String::from("x"), vec![1])];
    one.commit(&Basis::ANY, &change, &[]).await.unwrap();
    tokio::time::timeout(PATIENCE, hints.changed()).await.unwrap().unwrap();
}

/// Two servers are asked at one time for two changes, each of which an invariant allows and which break it together.
#[tokio::test]
async fn an_invariant_holds_against_two_changes_on_two_servers() {
    let Some(pair) = Pair::start().await else { return };
    let (here, there) = (pair.at_one(), pair.at_two());
    let admin = pair.case.admin.as_str();
    let label = pair.case.label("社外秘").id;
    let invariant = json!({
        "name": "課長は送らない", "labels": { "kind": "this", "label": label }, "groups": { "kind": "any" },
        "posts": { "kind": "this", "post": pair.case.people["kacho"].memberships[0].post }, "rights": ["send"],
    });
    here.post("/v1/admin/invariants", Some(admin), &invariant).await.created();
    let rule = |effect: &str| {
        json!({
            "label": label, "groups": { "kind": "any" }, "posts": { "kind": "any" }, "effect": effect,
            "rights": ["send"],
        })
    };
    for _ in 0..4 {
        let made = here.post("/v1/admin/rules", Some(admin), &rule("deny")).await.created();
        let deny = format!("/v1/admin/rules/{}", made.body["id"].as_str().unwrap());
        // The other server knows of it, and both decide on the same version.
        there.get(&deny, Some(admin)).await.ok();
        let allow = rule("allow");
        let (one, two) =
            tokio::join!(here.post("/v1/admin/rules", Some(admin), &allow), there.delete(&deny, Some(admin)));
        match (one.status.is_success(), two.status.is_success()) {
            (true, false) => {
                // The deny stands: taking it away still breaks it.
                there.delete(&deny, Some(admin)).await.refused(ProblemCode::InvariantBroken);
                let allowed = format!("/v1/admin/rules/{}", one.body["id"].as_str().unwrap());
                here.delete(&allowed, Some(admin)).await.ok();
                here.delete(&deny, Some(admin)).await.ok();
            }
            (false, true) => {
                here.post("/v1/admin/rules", Some(admin), &allow).await.refused(ProblemCode::InvariantBroken);
            }
            both => panic!("{both:?}: {one:?} {two:?}"),
        }
    }
}

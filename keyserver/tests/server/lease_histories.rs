//! Leases on several terminals, from two servers over one PostgreSQL database that hear nothing of each other: while leases are issued, taken
//! back and the policy changes, no terminal is told, once something was acknowledged, that a lease holds which it took. Checked on
//! recorded histories, and the check is itself checked: servers that trust their memory break it.

use crate::servers::{PATIENCE, Pair};
use crate::support::{Terminal, person_input};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tobari_core::envelope::Sealed;
use tobari_core::ids::{LeaseId, TerminalId};
use tobari_core::lease::{chain, read_unchecked};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::lease::{LeaseRecord, LeaseSync, LeaseSyncAnswer};
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::audit;

/// What happened, in the order of one counter.
#[derive(Debug, Clone)]
enum Event {
    /// A lease was given.
    Issued { lease: LeaseId, began: u64, acknowledged: u64 },
    /// A lease was taken back by an administrator.
    Revoked { lease: LeaseId, began: u64, acknowledged: u64 },
    /// The person was given the post that the leases need, or another one; one change after the other.
    Changed { allowed: bool, began: u64, acknowledged: u64 },
    /// A terminal was told which leases are no more, and sent others.
    Told { terminal: TerminalId, gone: HashSet<LeaseId>, sent: HashSet<LeaseId>, began: u64, ended: u64 },
}

/// What no order of the acts allows.
fn violations(events: &[Event]) -> Vec<String> {
    let changes: Vec<(bool, u64, u64)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Changed { allowed, began, acknowledged } => Some((*allowed, *began, *acknowledged)),
            _ => None,
        })
        .collect();
    // The times at which the lease was surely over, and could first have been.
    let over = |lease: &LeaseId, issuing: u64, issued: u64| {
        let (mut surely, mut first) = (u64::MAX, u64::MAX);
        for event in events {
            if let Event::Revoked { lease: revoked, began, acknowledged } = event
                && revoked == lease
            {
                (surely, first) = (surely.min(*acknowledged), first.min(*began));
            }
        }
        for (number, (_, began, acknowledged)) in changes.iter().enumerate().filter(|(_, change)| !change.0) {
            // It can have been decided after this change only if the person was let in again before it was issued.
            let again = changes.get(number + 1).is_some_and(|next| next.0 && next.1 < issued);
            if !again {
                surely = surely.min((*acknowledged).max(issued));
            }
            // Or before it only if the change had not been acknowledged when it was asked for.
            if *acknowledged > issuing {
                first = first.min(*began);
            }
        }
        (surely, first)
    };
    let mut wrong = Vec::new();
    for event in events {
        let Event::Told { terminal, gone, sent, began: asked, ended } = event else { continue };
        for other in events {
            match other {
                Event::Issued { lease, began, acknowledged } => {
                    let (surely, first) = over(lease, *began, *acknowledged);
                    if surely < *asked && (!gone.contains(lease) || sent.contains(lease)) {
                        wrong.push(format!(
                            "{terminal} is told at {asked} that {lease} holds, over since {surely}"
                        ));
                    }
                    if gone.contains(lease) && first > *ended {
                        wrong.push(format!(
                            "{terminal} is told at {ended} that {lease} is over, which nobody took"
                        ));
                    }
                }
                Event::Told { gone: before, ended: earlier, .. } if earlier < asked => {
                    let back = before.difference(gone);
                    wrong.extend(
                        back.map(|lease| format!("{terminal} is told at {asked} that {lease} is back")),
                    );
                }
                _ => {}
            }
        }
    }
    wrong
}

#[test]
fn the_check_of_lease_histories_finds_what_it_is_for() {
    let (lease, terminal) = (LeaseId::generate(), TerminalId::generate());
    let issued = |began, acknowledged| Event::Issued { lease, began, acknowledged };
    let changed = |allowed, began, acknowledged| Event::Changed { allowed, began, acknowledged };
    let told = |over: bool, began, ended| {
        let (all, none) = (HashSet::from([lease]), HashSet::new());
        let (gone, sent) = if over { (all, none) } else { (none, all) };
        Event::Told { terminal, gone, sent, began, ended }
    };
    let revoked = Event::Revoked { lease, began: 10, acknowledged: 20 };
    let found = |events: &[Event]| violations(events).len();
    assert_eq!(
        found(&[issued(1, 2), revoked.clone(), told(false, 3, 9), told(true, 15, 16), told(true, 21, 22)]),
        0
    );
    assert_eq!(found(&[issued(1, 2), revoked.clone(), told(false, 15, 40)]), 0, "told while it was taken");
    assert_eq!(found(&[issued(1, 2), revoked.clone(), told(false, 21, 22)]), 1, "told afterwards");
    assert_eq!(
        found(&[issued(1, 2), revoked.clone(), told(true, 11, 12), told(false, 13, 14)]),
        1,
        "it came back"
    );
    assert_eq!(found(&[issued(1, 2), revoked, told(true, 3, 4)]), 1, "told before it was taken");

    let (out, again) = (changed(false, 10, 20), changed(true, 30, 40));
    assert_eq!(found(&[issued(1, 2), out.clone(), told(true, 21, 22)]), 0);
    assert_eq!(found(&[issued(1, 2), out.clone(), told(false, 21, 22)]), 1);
    assert_eq!(
        found(&[issued(1, 2), out.clone(), again.clone(), told(false, 41, 42)]),
        1,
        "nothing comes back"
    );
    assert_eq!(found(&[issued(12, 18), out.clone(), told(false, 21, 22)]), 1, "issued meanwhile, and missed");
    assert_eq!(
        found(&[issued(24, 25), out.clone(), told(false, 26, 27)]),
        1,
        "issued although it must not be"
    );
    assert_eq!(
        found(&[issued(24, 35), out.clone(), again.clone(), told(false, 36, 37)]),
        0,
        "issued while let in"
    );
    assert_eq!(found(&[issued(41, 42), out, again, told(false, 43, 44)]), 0);
}

/// What a round of changes waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Done {
    /// Who issues, by number, was answered, whatever the answer.
    Asked(usize),
    /// A lease was issued.
    Issued,
    /// A lease was taken back.
    Revoked,
    /// This terminal was told what there is.
    Told(TerminalId),
    /// A terminal was sent a lease.
    Sent,
}

/// Several terminals of one person, and what is lent to them.
struct Lending {
    pair: Pair,
    terminals: Vec<Terminal>,
    file: Sealed,
    clock: AtomicU64,
    ended: AtomicBool,
    /// Leases that are known to be issued, for who revokes.
    issued: Mutex<Vec<LeaseId>>,
    /// When the last of its kind began that is done.
    last: Mutex<HashMap<Done, u64>>,
}

impl Lending {
    async fn start() -> Option<Self> {
        let pair = Pair::start().await?;
        let mut terminals = vec![pair.at_one()];
        for _ in 0..2 {
            terminals.push(pair.one.another(&pair.at_one(), &pair.case.admin, None).await);
        }
        // So that the second server has heard of them.
        for terminal in &terminals {
            terminal.at(pair.two.address).bulletin().await;
        }
        let file = pair.case.sealed("社外秘").await;
        let (clock, ended) = (AtomicU64::new(1), AtomicBool::new(false));
        let (issued, last) = (Mutex::default(), Mutex::default());
        Some(Self { pair, terminals, file, clock, ended, issued, last })
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn is_over(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn done(&self, what: Done, began: u64) {
        self.last.lock().unwrap().insert(what, began);
    }

    fn last(&self, what: Done) -> u64 {
        self.last.lock().unwrap().get(&what).copied().unwrap_or_default()
    }

    /// Until each of these has begun and been done once more from now on.
    async fn all_again(&self, wanted: &[Done]) {
        let (deadline, since) = (Instant::now() + PATIENCE, self.tick());
        while let Some(missing) = wanted.iter().find(|what| self.last(**what) <= since) {
            assert!(Instant::now() < deadline, "{missing:?} is never done");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Issues one lease after the other, for each terminal in turn.
    async fn issue(&self, number: usize, at: Terminal) -> Vec<Event> {
        let mut events = Vec::new();
        for terminal in self.terminals.iter().cycle() {
            if self.is_over() {
                break;
            }
            let now = self.pair.one.clock_now();
            let body = json!({ "person": self.pair.case.people["bucho"].id, "terminal": terminal.id, "lease": {
                "files": [{ "header": Base64(self.file.header.wire_bytes().to_vec()) }],
                "rights": ["view"], "opens": { "kind": "unlimited" }, "reason": "出張",
                "term": { "starts_at": now, "ends_at": now + SignedDuration::from_hours(72) },
            } });
            let began = self.tick();
            let answer = at.post("/v1/admin/leases", Some(&self.pair.case.admin), &body).await;
            if answer.status.is_success() {
                let lease = answer.to::<LeaseRecord>().id;
                self.issued.lock().unwrap().push(lease);
                events.push(Event::Issued { lease, began, acknowledged: self.tick() });
                self.done(Done::Issued, began);
            } else {
                // The policy does not give it, or it changed too often meanwhile.
                assert!(answer.status.as_u16() < 500 || answer.status.as_u16() == 503, "{answer:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.done(Done::Asked(number), began);
        }
        events
    }

    /// What the terminal is told, now by one server and now by the other.
    async fn listen(&self, terminal: &Terminal) -> Vec<Event> {
        let mut events = Vec::new();
        for address in [self.pair.one.address, self.pair.two.address].into_iter().cycle() {
            if self.is_over() {
                break;
            }
            let at = terminal.at(address);
            let report = LeaseSync {
                counter: 1,
                after: 0,
                after_hash: Base64(chain::Head::START.hash.to_vec()),
                records: Vec::new(),
                held: Vec::new(),
            };
            let began = self.tick();
            let gone = at.bulletin().await.1.revocations.leases.into_iter().collect();
            let answer: LeaseSyncAnswer = at.post("/v1/terminals/leases", None, &report).await.ok().to();
            let sent: HashSet<_> =
                answer.leases.iter().map(|signed| read_unchecked(signed).unwrap().id).collect();
            if !sent.is_empty() {
                self.done(Done::Sent, began);
            }
            events.push(Event::Told { terminal: terminal.id, gone, sent, began, ended: self.tick() });
            self.done(Done::Told(terminal.id), began);
        }
        events
    }

    /// Takes back the lease that was issued last, again and again, once a terminal has had one.
    async fn revoke(&self, at: Terminal) -> Vec<Event> {
        let mut events = Vec::new();
        while !self.is_over() {
            let lease = if self.last(Done::Sent) > 0 { self.issued.lock().unwrap().pop() } else { None };
            let Some(lease) = lease else {
                tokio::time::sleep(Duration::from_millis(2)).await;
                continue;
            };
            let path = format!("/v1/admin/leases/{lease}/revoke");
            let began = self.tick();
            let answer = at.post(&path, Some(&self.pair.case.admin), &json!({ "reason": "紛失" })).await;
            if answer.status.is_success() {
                events.push(Event::Revoked { lease, began, acknowledged: self.tick() });
                self.done(Done::Revoked, began);
            }
        }
        events
    }

    /// Gives the person another post and the old one again, each time once `wanted` was done, which needs a lease that
    /// may be issued, or `always`, which does not.
    async fn change(&self, rounds: usize, at: &[Terminal], always: &[Done], wanted: &[Done]) -> Vec<Event> {
        let mut events = Vec::new();
        let all: Vec<Done> = [always, wanted].concat();
        let told: Vec<Done> = self.terminals.iter().map(|terminal| Done::Told(terminal.id)).collect();
        self.all_again(&[Done::Issued, Done::Sent]).await;
        self.all_again(&all).await;
        for round in 0..rounds {
            let (allowed, at) = (round % 2 == 1, &at[round / 2 % at.len()]);
            let people = &self.pair.case.people;
            let memberships = people[if allowed { "bucho" } else { "kacho" }].memberships.clone();
            let mut input: Value = person_input("bucho", memberships, &[]);
            input.as_object_mut().unwrap().remove("password");
            let path = format!("/v1/admin/people/{}", people["bucho"].id);
            let deadline = Instant::now() + PATIENCE;
            loop {
                let began = self.tick();
                let answer = at.put(&path, Some(&self.pair.case.admin), &input).await;
                if answer.status.is_success() {
                    events.push(Event::Changed { allowed, began, acknowledged: self.tick() });
                    break;
                }
                // The other server changed something meanwhile: nothing was done. That is rare, since they take turns.
                answer.refused(ProblemCode::Conflict);
                assert!(Instant::now() < deadline, "round {round} is never done");
            }
            // Until the others have done something since, and every terminal was told of that.
            self.all_again(if allowed { &all } else { always }).await;
            self.all_again(&told).await;
        }
        self.ended.store(true, Ordering::SeqCst);
        events
    }

    /// All of it at one time; who issues, who revokes and who changes the policy do it at the servers that are named.
    async fn record(
        self: &Arc<Self>,
        issue: Vec<Terminal>,
        revoke: Option<Terminal>,
        change: Vec<Terminal>,
    ) -> Vec<Event> {
        let mut running = tokio::task::JoinSet::new();
        let always: Vec<Done> = (0..issue.len()).map(Done::Asked).collect();
        let mut wanted = vec![Done::Issued];
        for (number, at) in issue.into_iter().enumerate() {
            let lending = Arc::clone(self);
            running.spawn(async move { lending.issue(number, at).await });
        }
        for number in 0..self.terminals.len() {
            let lending = Arc::clone(self);
            running.spawn(async move { lending.listen(&lending.terminals[number]).await });
        }
        if let Some(at) = revoke {
            wanted.push(Done::Revoked);
            let lending = Arc::clone(self);
            running.spawn(async move { lending.revoke(at).await });
        }
        let mut events = self.change(12, &change, &always, &wanted).await;
        events.extend(running.join_all().await.into_iter().flatten());
        events
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_terminal_is_told_that_a_lease_holds_which_an_acknowledged_act_took() {
    let Some(lending) = Lending::start().await else { return };
    let lending = Arc::new(lending);
    let (one, two) = (|| lending.pair.at_one(), || lending.pair.at_two());
    let events = lending.record(vec![one(), two()], Some(two()), vec![one(), two()]).await;
    let issued = events.iter().filter(|event| matches!(event, Event::Issued { .. })).count();
    let revoked = events.iter().filter(|event| matches!(event, Event::Revoked { .. })).count();
    let sent: HashSet<LeaseId> = events
        .iter()
        .filter_map(|event| match event {
            Event::Told { sent, .. } => Some(sent.iter().copied()),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(
        issued > 4 && revoked > 2 && !sent.is_empty(),
        "{issued} issued, {revoked} revoked, {} sent",
        sent.len()
    );
    assert_eq!(violations(&events), Vec::<String>::new());
    audit::chain::verify(lending.pair.one.store.as_ref()).await.unwrap();
}

/// A change looks at all leases; however many another server issues meanwhile, it is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_are_issued_all_the_time_hold_up_no_change() {
    let Some(lending) = Lending::start().await else { return };
    let lending = Arc::new(lending);
    let (one, two) = (lending.pair.at_one(), || lending.pair.at_two());
    let events = lending.record(vec![two(), two(), two()], None, vec![one]).await;
    assert_eq!(violations(&events), Vec::<String>::new());
}

/// The negative control: a server that trusts what it holds in memory issues leases on a policy that is no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_trusts_its_memory_is_found_out_by_its_leases() {
    let Some(lending) = Lending::start().await else { return };
    lending.pair.two.store.trusting.store(true, Ordering::SeqCst);
    let lending = Arc::new(lending);
    let (one, two) = (lending.pair.at_one(), lending.pair.at_two());
    let events = lending.record(vec![two], None, vec![one]).await;
    assert!(!violations(&events).is_empty());
}

//! A stricter policy reaches leases that are out, in the commit of the change; a wider one gives nothing back.

use crate::support::{Reference, Site, Terminal, in_hand, person_input};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tobari_core::audit::LogKey;
use tobari_core::crypto::VerifyingKey;
use tobari_core::envelope::Sealed;
use tobari_core::ids::LeaseId;
use tobari_core::lease::{ValidLease, Wish, chain};
use tobari_core::policy::{Right, Rights};
use tobari_core::proto::admin::PersonRecord;
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::Revocations;
use tobari_core::proto::lease::{LeaseRecord, LeaseState, LeaseSync, LeaseSyncAnswer, SignedLease};
use tobari_core::proto::policy::{ChangeRequest, LeaseLosses, MAX_LEASES, PolicyDiff};
use tobari_core::proto::problem::ProblemCode;
use tobari_keyserver::store::{Change, Store as _};

/// A person who holds a lease, the terminal, and who administers.
struct Case {
    site: Site,
    reference: Reference,
    file: Sealed,
    lease: LeaseRecord,
    document: ValidLease,
}

async fn issue(site: &Site, reference: &Reference, files: &[&Sealed], more: Value) -> LeaseRecord {
    let now = site.clock_now();
    let mut lease = json!({
        "files": files.iter().map(|file| json!({ "header": Base64(file.header.wire_bytes().to_vec()) }))
            .collect::<Vec<_>>(),
        "rights": ["view", "send"],
        "term": { "starts_at": now, "ends_at": now + SignedDuration::from_hours(72) },
        "opens": { "kind": "unlimited" },
        "reason": "出張",
    });
    lease.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = json!({
        "person": reference.people["bucho"].id, "terminal": reference.terminal.id, "lease": lease,
    });
    reference.terminal.post("/v1/admin/leases", Some(&reference.admin), &body).await.created().to()
}

fn report(held: &[LeaseId]) -> LeaseSync {
    LeaseSync {
        counter: 1,
        after: 0,
        after_hash: Base64(chain::Head::START.hash.to_vec()),
        records: Vec::new(),
        held: in_hand(held),
    }
}

async fn sync(terminal: &Terminal, held: &[LeaseId]) -> LeaseSyncAnswer {
    terminal.post("/v1/terminals/leases", None, &report(held)).await.ok().to()
}

impl Case {
    async fn new() -> Self {
        let site = Site::start().await;
        let reference = site.reference().await;
        let file = reference.sealed("社外秘").await;
        let lease = issue(&site, &reference, &[&file], json!({})).await;
        let answer = sync(&reference.terminal, &[]).await;
        let signed = &answer.leases[0];
        let key = &reference.terminal.enrolment.as_ref().unwrap().signing_key.0;
        let key = VerifyingKey::from_bytes(key).unwrap();
        let organisation = reference.terminal.organisation;
        let document = ValidLease::check(signed, &key, organisation, reference.terminal.id).unwrap();
        // As the terminal takes it: the release of each key is in the signed log.
        document.is_recorded(signed.receipt.as_ref(), &LogKey::of(organisation, key)).unwrap();
        Self { site, reference, file, lease, document }
    }

    async fn admin(&self, method: &str, path: &str, body: &Value) -> crate::support::Answer {
        let (terminal, admin) = (&self.reference.terminal, Some(self.reference.admin.as_str()));
        match method {
            "POST" => terminal.post(path, admin, body).await,
            "PUT" => terminal.put(path, admin, body).await,
            _ => terminal.delete(path, admin).await,
        }
    }

    async fn revocations(&self) -> Revocations {
        self.reference.terminal.bulletin().await.1.revocations
    }

    /// What a terminal that knows the bulletin lends of the file.
    fn lends(&self, revocations: &Revocations, now: Timestamp) -> Rights {
        if revocations.leases.contains(&self.lease.id)
            || revocations.people.contains(&self.lease.person)
            || revocations.terminals.contains(&self.lease.terminal)
        {
            return Rights::NONE;
        }
        let wish = |right| Wish {
            person: self.lease.person,
            file: self.file.file_id,
            label: self.reference.label("社外秘").id,
            owner_group: Some(self.reference.group),
            right,
        };
        Right::ALL
            .into_iter()
            .filter(|right| self.document.permits(&wish(*right), 0, now, &revocations.narrowed).is_ok())
            .collect()
    }

    async fn lent_now(&self) -> Rights {
        self.lends(&self.revocations().await, self.site.clock_now())
    }

    async fn state(&self) -> LeaseState {
        let path = format!("/v1/admin/leases/{}", self.lease.id);
        let record: LeaseRecord =
            self.reference.terminal.get(&path, Some(&self.reference.admin)).await.ok().to();
        record.state
    }

    /// The records of the audit log about this lease, by their acts.
    async fn acts(&self) -> Vec<String> {
        let object = json!(format!("lease/{}", self.lease.id));
        let rows = self.site.store.audit_page(0, 10_000).await.unwrap();
        rows.iter()
            .map(|row| serde_json::from_slice::<Value>(&row.payload).unwrap())
            .filter(|record| record["object"] == object)
            .map(|record| record["act"].as_str().unwrap().to_owned())
            .collect()
    }

    fn bucho(&self) -> Value {
        let person = &self.reference.people["bucho"];
        let mut input = person_input("bucho", person.memberships.clone(), &[]);
        input.as_object_mut().unwrap().remove("password");
        input
    }
}

fn rule(case: &Case, more: Value) -> Value {
    let mut rule = json!({
        "label": case.reference.label("社外秘").id, "groups": { "kind": "any" }, "posts": { "kind": "any" },
        "effect": "deny", "rights": ["offline"],
    });
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rule
}

fn both() -> Rights {
    [Right::View, Right::Send].into_iter().collect()
}

/// What is said beforehand that a change through its own route would take of leases; terminals are not compared.
async fn foreseen(case: &Case, (method, path, body): (&str, &str, &Value)) -> Option<LeaseLosses> {
    let below = path.strip_prefix("/v1/admin/").unwrap();
    let (collection, id) = below.split_once('/').map_or((below, None), |(one, id)| (one, Some(id)));
    if collection == "terminals" {
        return None;
    }
    let input = (method != "DELETE").then_some(body);
    let change = json!({ "collection": collection, "id": id, "input": input, "reason": "理由" });
    let diff: PolicyDiff = case.admin("POST", "/v1/admin/policy/diff", &change).await.ok().to();
    // Who asks a second person shows the same.
    let request: ChangeRequest = case.admin("POST", "/v1/admin/requests", &change).await.created().to();
    assert_eq!(request.diff.leases, diff.leases);
    Some(diff.leases)
}

/// The change and its reverse; the first takes the lease away, the second must not give it back.
async fn takes_for_good(case: &Case, change: (&str, &str, Value), back: Option<(&str, &str, Value)>) {
    let before = case.reference.terminal.bulletin().await.1.number;
    assert_eq!(case.lent_now().await, both());
    // What is not committed takes nothing.
    let (method, path, body) = &change;
    case.site.store.commits_fail.store(true, Ordering::SeqCst);
    case.admin(method, path, body).await.refused(ProblemCode::AuditUnavailable);
    case.site.store.commits_fail.store(false, Ordering::SeqCst);
    assert_eq!((case.lent_now().await, case.state().await), (both(), LeaseState::Issued));
    if let Some(losses) = foreseen(case, (method, path, body)).await {
        assert_eq!((losses.total, losses.ended), (1, 1), "{path}");
        let [loss] = losses.first.as_slice() else { panic!("{losses:?}") };
        assert_eq!((loss.lease, loss.ended, loss.login.as_str()), (case.lease.id, true, "bucho"));
        assert_eq!((loss.person, loss.terminal), (case.lease.person, case.lease.terminal));
        assert_eq!(loss.terminal_name, case.lease.terminal_name);
        let [part] = loss.parts.as_slice() else { panic!("{loss:?}") };
        assert_eq!((part.lost, part.left, part.label_name.as_str()), (both(), Rights::NONE, "社外秘"));
        assert_eq!(part.owner_group, Some(case.reference.group));
    }
    // What is only looked at takes nothing.
    assert_eq!((case.lent_now().await, case.state().await), (both(), LeaseState::Issued));

    case.admin(method, path, body).await.ok();
    let bulletin = case.reference.terminal.bulletin().await.1;
    assert!(bulletin.number > before, "terminals that wait are told");
    assert_eq!(bulletin.revocations.leases, [case.lease.id], "{path}");
    assert_eq!(case.state().await, LeaseState::Revoked);
    assert_eq!(case.acts().await, ["lease-key", "lease-issue", "lease-revoke"]);
    if let Some((method, path, body)) = back {
        case.admin(method, path, &body).await.ok();
    }
    assert_eq!((case.lent_now().await, case.state().await), (Rights::NONE, LeaseState::Revoked));
    let terminal = &case.reference.terminal;
    let answer: LeaseSyncAnswer =
        terminal.post("/v1/terminals/leases", None, &report(&[case.lease.id])).await.ok().to();
    assert_eq!((answer.ended, answer.leases.len()), (vec![case.lease.id], 0));
    assert!(sync(terminal, &[]).await.leases.is_empty(), "nor is it sent again");
}

#[tokio::test]
async fn a_person_who_is_shut_out_loses_leases_for_good() {
    let case = Case::new().await;
    let path = format!("/v1/admin/people/{}", case.lease.person);
    let mut out = case.bucho();
    out["disabled"] = json!(true);
    takes_for_good(&case, ("PUT", &path, out), Some(("PUT", &path, case.bucho()))).await;
}

#[tokio::test]
async fn another_post_or_group_takes_leases_away() {
    let case = Case::new().await;
    let path = format!("/v1/admin/people/{}", case.lease.person);
    let mut lower = case.bucho();
    lower["memberships"] = json!(case.reference.people["kacho"].memberships);
    takes_for_good(&case, ("PUT", &path, lower), Some(("PUT", &path, case.bucho()))).await;

    // The post itself falls below what the rule asks for.
    let case = Case::new().await;
    let post = case.reference.people["bucho"].memberships[0].post;
    let post = case.reference.preset.posts.iter().find(|one| one.id == post).unwrap();
    let path = format!("/v1/admin/posts/{}", post.id);
    let input = |rank: u16| json!({ "name": post.name, "rank": rank });
    let kacho = case.reference.people["kacho"].memberships[0].post;
    let kacho = case.reference.preset.posts.iter().find(|one| one.id == kacho).unwrap();
    // 部長 is what the rule names, so rank decides who else is at least that; the group decides here.
    assert!(post.rank > kacho.rank);
    let case_path = path.clone();
    case.admin("PUT", &case_path, &input(post.rank + 1)).await.ok();
    assert_eq!(case.lent_now().await, both(), "a change that takes nothing leaves the lease");
}

#[tokio::test]
async fn a_group_that_moves_takes_leases_away() {
    let site = Site::start().await;
    let reference = site.reference().await;
    let (terminal, admin) = (&reference.terminal, Some(reference.admin.as_str()));
    // 秘 is for the owner group and those above: the file's group hangs below the person's.
    let below: Value = terminal
        .post("/v1/admin/groups", admin, &json!({ "name": "庶務係", "parent": reference.group }))
        .await
        .created()
        .to();
    let allow = json!({
        "label": reference.label("秘").id, "groups": { "kind": "any" }, "posts": { "kind": "any" },
        "effect": "deny", "rights": ["print"],
    });
    terminal.post("/v1/admin/rules", admin, &allow).await.created();
    let offline = json!({
        "label": reference.label("秘").id, "groups": { "kind": "owner-subtree" }, "posts": { "kind": "any" },
        "effect": "allow", "rights": ["view", "send", "offline"],
    });
    terminal.post("/v1/admin/rules", admin, &offline).await.created();
    // The person belongs to the group below, the file to the one above: within its subtree.
    let bucho = &reference.people["bucho"];
    let post = bucho.memberships[0].post;
    let mut input = person_input("bucho", Vec::new(), &[]);
    input.as_object_mut().unwrap().remove("password");
    input["memberships"] = json!([{ "group": below["id"], "post": post }]);
    terminal.put(&format!("/v1/admin/people/{}", bucho.id), admin, &input).await.ok();
    let file = reference.sealed("秘").await;
    let lease = issue(&site, &reference, &[&file], json!({})).await;
    assert_eq!(sync(terminal, &[]).await.leases.len(), 1);
    // Out of the subtree, and back in.
    let path = format!("/v1/admin/groups/{}", below["id"].as_str().unwrap());
    terminal.put(&path, admin, &json!({ "name": "庶務係" })).await.ok();
    assert_eq!(terminal.bulletin().await.1.revocations.leases, [lease.id]);
    terminal.put(&path, admin, &json!({ "name": "庶務係", "parent": reference.group })).await.ok();
    assert_eq!(terminal.bulletin().await.1.revocations.leases, [lease.id]);
    assert!(sync(terminal, &[]).await.leases.is_empty());
}

#[tokio::test]
async fn a_rule_takes_leases_away() {
    let case = Case::new().await;
    let deny = rule(&case, json!({}));
    takes_for_good(&case, ("POST", "/v1/admin/rules", deny), None).await;
    // The rule goes again; what it took stays taken.
    let rules: Value =
        case.reference.terminal.get("/v1/admin/rules", Some(&case.reference.admin)).await.ok().to();
    let made = rules.as_array().unwrap().iter().find(|one| one["rights"] == json!(["offline"])).unwrap();
    case.admin("DELETE", &format!("/v1/admin/rules/{}", made["id"].as_str().unwrap()), &Value::Null)
        .await
        .ok();
    assert_eq!(case.lent_now().await, Rights::NONE);
    // What is lent from now on is a new lease.
    let again = issue(&case.site, &case.reference, &[&case.file], json!({})).await;
    assert_ne!(again.id, case.lease.id);
    assert_eq!(sync(&case.reference.terminal, &[]).await.leases.len(), 1);
}

#[tokio::test]
async fn a_zone_and_a_revoked_terminal_take_leases_away() {
    let case = Case::new().await;
    let path = format!("/v1/admin/terminals/{}", case.lease.terminal);
    let terminal = |zone: &str| json!({ "name": "端末", "zone": zone, "tags": [], "revoked": false });
    let outside = rule(&case, json!({ "conditions": { "zones": ["outside"] } }));
    case.admin("POST", "/v1/admin/rules", &outside).await.ok();
    assert_eq!(case.lent_now().await, both());
    takes_for_good(&case, ("PUT", &path, terminal("outside")), Some(("PUT", &path, terminal("inside"))))
        .await;

    let case = Case::new().await;
    let other = case.site.another(&case.reference.terminal, &case.reference.admin, None).await;
    let body = json!({ "person": case.lease.person, "terminal": other.id, "lease": {
        "files": [{ "header": Base64(case.file.header.wire_bytes().to_vec()) }], "rights": ["view"],
        "term": case.lease.term, "opens": { "kind": "unlimited" }, "reason": "出張",
    } });
    let lease: LeaseRecord = case.admin("POST", "/v1/admin/leases", &body).await.created().to();
    // Frozen for a while, it keeps its leases; revoked for good, it does not.
    let path = format!("/v1/admin/terminals/{}", other.id);
    for verb in ["freeze", "unfreeze"] {
        case.admin("POST", &format!("{path}/{verb}"), &json!(null)).await.ok();
    }
    assert!(case.revocations().await.leases.is_empty());
    assert_eq!(sync(&other, &[]).await.leases.len(), 1);
    let revoked = json!({ "name": "端末", "tags": [], "revoked": true });
    case.admin("PUT", &path, &revoked).await.ok();
    assert_eq!(case.revocations().await.leases, [lease.id]);
    assert_eq!(case.lent_now().await, both(), "the other terminal's lease is as it was");
}

/// The label's own rules go; what 部長 may do with its files follows from how the terminal keeps its keys.
async fn rules_by_protection(case: &Case, rights: &[(&str, Value)]) {
    let reference = &case.reference;
    let label = reference.label("社外秘").id;
    let rules: Value = reference.terminal.get("/v1/admin/rules", Some(&reference.admin)).await.ok().to();
    for made in rules.as_array().unwrap().iter().filter(|rule| rule["label"] == json!(label)) {
        let path = format!("/v1/admin/rules/{}", made["id"].as_str().unwrap());
        case.admin("DELETE", &path, &Value::Null).await.ok();
    }
    let posts = json!({ "kind": "this", "post": reference.people["bucho"].memberships[0].post });
    for (protection, rights) in rights {
        let conditions = json!({ "protection": protection });
        let allow = json!({ "effect": "allow", "posts": posts, "rights": rights, "conditions": conditions });
        case.admin("POST", "/v1/admin/rules", &rule(case, allow)).await.created();
    }
}

/// A terminal with a TPM, and a lease that lends sending because of it and viewing because the keys are sealed at all.
async fn lent_by_protection(case: &mut Case) {
    rules_by_protection(case, &[("tpm", json!(["send"])), ("machine", json!(["view", "offline"]))]).await;
    tell(case, "tpm").await;
    lend_anew(case).await;
}

/// Another lease takes the place of the case's own.
async fn lend_anew(case: &mut Case) {
    case.lease = issue(&case.site, &case.reference, &[&case.file], json!({})).await;
    let terminal = &case.reference.terminal;
    let leases = sync(terminal, &[]).await.leases;
    let key = VerifyingKey::from_bytes(&terminal.enrolment.as_ref().unwrap().signing_key.0).unwrap();
    let mut documents = leases
        .iter()
        .map(|signed| ValidLease::check(signed, &key, terminal.organisation, terminal.id).unwrap());
    case.document = documents.find(|document| document.lease().id == case.lease.id).unwrap();
}

/// What the terminal says of how it keeps its keys.
async fn tell(case: &Case, protection: &str) {
    let report = json!({ "version": "0.1.0", "protection": protection });
    case.reference.terminal.post("/v1/terminals/report", None, &report).await.ok();
}

#[tokio::test]
async fn a_lesser_protection_that_is_reported_narrows_and_takes_leases() {
    let mut case = Case::new().await;
    lent_by_protection(&mut case).await;
    let made = ["lease-key", "lease-issue"];
    // What was claimed all along changes nothing.
    let before = (case.revocations().await, case.site.store.version().await.unwrap());
    tell(&case, "tpm").await;
    assert_eq!((case.revocations().await, case.site.store.version().await.unwrap()), before);
    assert_eq!((case.lent_now().await, case.acts().await), (both(), made.map(String::from).to_vec()));
    // What is not committed narrows nothing, and the terminal is not believed to have said it.
    case.site.store.commits_fail.store(true, Ordering::SeqCst);
    let report = json!({ "version": "0.1.0", "protection": "machine" });
    let refused = case.reference.terminal.post("/v1/terminals/report", None, &report).await;
    refused.refused(ProblemCode::AuditUnavailable);
    case.site.store.commits_fail.store(false, Ordering::SeqCst);
    assert_eq!(case.lent_now().await, both());

    // A rule of the label asks for the TPM: what it gave goes, at once and for good.
    tell(&case, "machine").await;
    assert_eq!((case.lent_now().await, case.state().await), (Rights::only(Right::View), LeaseState::Issued));
    assert_eq!(case.acts().await, ["lease-key", "lease-issue", "lease-narrow"]);
    tell(&case, "tpm").await;
    assert_eq!(case.lent_now().await, Rights::only(Right::View), "nothing is given back");
    tell(&case, "machine").await;
    assert_eq!(case.acts().await.len(), 3, "and nothing is recorded twice");

    tell(&case, "none").await;
    assert_eq!((case.lent_now().await, case.state().await), (Rights::NONE, LeaseState::Revoked));
    assert!(case.revocations().await.leases.contains(&case.lease.id));
    tell(&case, "tpm").await;
    assert_eq!(case.lent_now().await, Rights::NONE);
    assert_eq!(case.acts().await, ["lease-key", "lease-issue", "lease-narrow", "lease-revoke"]);
    // The lease that comes after it is lent by what the terminal claims now.
    let again = issue(&case.site, &case.reference, &[&case.file], json!({})).await;
    assert_eq!(sync(&case.reference.terminal, &[]).await.leases.len(), 1, "{}", again.id);
}

#[tokio::test]
async fn a_lesser_protection_at_the_renewal_narrows_and_takes_leases() {
    let mut case = Case::new().await;
    lent_by_protection(&mut case).await;
    let renew = async |case: &Case, protection: &str| {
        let keys = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let request = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&keys).unwrap();
        let body = json!({ "csr_pem": request.pem().unwrap(), "protection": protection });
        case.reference.terminal.post("/v1/terminals/renew", None, &body).await.created();
    };
    // A lease of three days that is out when more than half of the certificate's life is over.
    case.site.advance(SignedDuration::from_hours(24 * 20));
    case.reference.admin = case.reference.terminal.login(crate::support::ADMIN).await;
    lend_anew(&mut case).await;
    let before = case.revocations().await;
    renew(&case, "tpm").await;
    assert_eq!((case.lent_now().await, case.revocations().await), (both(), before));
    assert_eq!(case.acts().await, ["lease-key", "lease-issue"]);
    renew(&case, "machine").await;
    assert_eq!((case.lent_now().await, case.state().await), (Rights::only(Right::View), LeaseState::Issued));
    renew(&case, "none").await;
    assert_eq!((case.lent_now().await, case.state().await), (Rights::NONE, LeaseState::Revoked));
    assert_eq!(case.acts().await, ["lease-key", "lease-issue", "lease-narrow", "lease-revoke"]);
}

#[tokio::test]
async fn a_part_that_is_taken_narrows_the_lease_for_good() {
    let mut case = Case::new().await;
    let deny = rule(&case, json!({ "rights": ["send", "print"] }));
    let losses = foreseen(&case, ("POST", "/v1/admin/rules", &deny)).await.unwrap();
    assert_eq!((losses.total, losses.ended, losses.first[0].parts_total), (1, 0, 1));
    let part = &losses.first[0].parts[0];
    assert_eq!((part.lost, part.left), (Rights::only(Right::Send), Rights::only(Right::View)));
    assert_eq!((part.until, part.was_until), (case.lease.term.ends_at, case.lease.term.ends_at));
    let made: Value = case.admin("POST", "/v1/admin/rules", &deny).await.created().to();
    assert_eq!((case.lent_now().await, case.state().await), (Rights::only(Right::View), LeaseState::Issued));
    // What is gone cannot be lost again.
    let again = foreseen(&case, ("POST", "/v1/admin/rules", &deny)).await.unwrap();
    assert_eq!(again, LeaseLosses::default());
    let acts = ["lease-key", "lease-issue", "lease-narrow"];
    assert_eq!(case.acts().await, acts);
    let path = format!("/v1/admin/rules/{}", made["id"].as_str().unwrap());
    case.admin("DELETE", &path, &Value::Null).await.ok();
    assert_eq!(case.lent_now().await, Rights::only(Right::View), "nothing is given back");
    assert_eq!(case.acts().await, acts, "and nothing is recorded twice");
    // The terminal hears it with the lease, too; and after a restart.
    let answer = sync(&case.reference.terminal, &[]).await;
    assert_eq!((answer.leases.len(), answer.narrowed.len()), (1, 1));
    let answer = sync(&case.reference.terminal, &[case.lease.id]).await;
    assert_eq!((answer.leases.len(), &answer.narrowed), (0, &case.revocations().await.narrowed));
    let before = case.revocations().await;
    case.site.restart().await;
    case.reference.terminal.move_to(case.site.address);
    assert_eq!(case.revocations().await, before);
    // A later end comes to nothing, an earlier one counts.
    let end = case.site.clock_now() + SignedDuration::from_hours(24);
    let until = rule(&case, json!({ "conditions": { "not_before": end } }));
    let losses = foreseen(&case, ("POST", "/v1/admin/rules", &until)).await.unwrap();
    let part = &losses.first[0].parts[0];
    assert_eq!((losses.ended, part.lost, part.left), (0, Rights::NONE, Rights::only(Right::View)));
    assert_eq!((part.until, part.was_until), (end, case.lease.term.ends_at));
    case.admin("POST", "/v1/admin/rules", &until).await.ok();
    let revocations = case.revocations().await;
    assert_eq!((revocations.narrowed.len(), revocations.narrowed[0].ends_at), (1, end));
    let just_before = end - SignedDuration::from_micros(1);
    assert_eq!(case.lends(&revocations, just_before), Rights::only(Right::View));
    assert_eq!(case.lends(&revocations, end), Rights::NONE);
    // What is left goes as a whole.
    case.admin("POST", "/v1/admin/rules", &rule(&case, json!({}))).await.ok();
    let revocations = case.revocations().await;
    assert_eq!((revocations.leases, revocations.narrowed.len()), (vec![case.lease.id], 0));
}

/// More leases lose something than are listed, and these are among those that are taken then.
#[tokio::test]
async fn of_many_leases_that_would_be_lost_the_first_are_listed_and_all_are_counted() {
    let case = Case::new().await;
    let mut ids = vec![case.lease.id];
    for _ in 0..MAX_LEASES {
        ids.push(issue(&case.site, &case.reference, &[&case.file], json!({})).await.id);
    }
    ids.sort();
    let path = format!("/v1/admin/people/{}", case.lease.person);
    let mut out = case.bucho();
    out["disabled"] = json!(true);
    let losses = foreseen(&case, ("PUT", &path, &out)).await.unwrap();
    assert_eq!((losses.total, losses.ended), (ids.len() as u64, ids.len() as u64));
    let listed: Vec<LeaseId> = losses.first.iter().map(|loss| loss.lease).collect();
    assert_eq!(listed, ids[..MAX_LEASES]);
    // A change that gives more, and one that is about somebody else, take nothing.
    let wide = rule(&case, json!({ "effect": "allow", "rights": ["print"] }));
    assert_eq!(foreseen(&case, ("POST", "/v1/admin/rules", &wide)).await, Some(LeaseLosses::default()));
    let post = json!({ "name": "係員", "rank": 1 });
    let other = foreseen(&case, ("POST", "/v1/admin/posts", &post)).await;
    assert_eq!(other, Some(LeaseLosses::default()));
    case.admin("PUT", &path, &out).await.ok();
    let mut taken = case.revocations().await.leases;
    taken.sort();
    assert_eq!(taken, ids);
}

#[tokio::test]
async fn a_lease_of_a_label_ends_when_the_label_allows_none_any_more() {
    let site = Site::start().await;
    let reference = site.reference().await;
    let (terminal, admin) = (&reference.terminal, Some(reference.admin.as_str()));
    let (file, other) = (reference.sealed("社外秘").await, reference.sealed("公開").await);
    let label = reference.label("社外秘");
    let now = site.clock_now();
    let wanted = |files: &[&Sealed]| {
        json!({
            "files": files.iter().map(|file| json!({ "header": Base64(file.header.wire_bytes().to_vec()) }))
                .collect::<Vec<_>>(),
            "rights": ["view"], "term": { "starts_at": now, "ends_at": now + SignedDuration::from_hours(9) },
            "opens": { "kind": "unlimited" }, "reason": "出張", "label": label.id,
        })
    };
    let bucho = terminal.login("bucho").await;
    let refused = terminal.post("/v1/leases", Some(&bucho), &wanted(&[&file])).await;
    let refused = refused.refused(ProblemCode::RightRefused);
    assert_eq!(refused.field.as_deref(), Some("label"));
    assert!(refused.detail.contains("does not allow"), "{}", refused.detail);
    let path = format!("/v1/admin/labels/{}", label.id);
    let fields =
        |allowed: bool| json!({ "name": "社外秘", "level": label.label.level, "lease_by_label": allowed });
    terminal.put(&path, admin, &fields(true)).await.ok();
    let mixed = terminal.post("/v1/leases", Some(&bucho), &wanted(&[&file, &other])).await;
    let mixed = mixed.refused(ProblemCode::InvalidRequest);
    assert_eq!(mixed.field.as_deref(), Some("files[1].header"));
    let asked: LeaseRecord =
        terminal.post("/v1/leases", Some(&bucho), &wanted(&[&file])).await.created().to();
    // What was asked for in good faith is decided again when it is approved.
    terminal.put(&path, admin, &fields(false)).await.ok();
    let approve = format!("/v1/admin/leases/{}/approve", asked.id);
    terminal.post(&approve, admin, &json!({})).await.refused(ProblemCode::RightRefused);
    terminal.put(&path, admin, &fields(true)).await.ok();
    terminal.post(&approve, admin, &json!({})).await.ok();
    let files = issue(&site, &reference, &[&file], json!({})).await;
    assert_eq!(sync(terminal, &[]).await.leases.len(), 2);
    terminal.put(&path, admin, &fields(false)).await.ok();
    terminal.put(&path, admin, &fields(true)).await.ok();
    assert_eq!(terminal.bulletin().await.1.revocations.leases, [asked.id]);
    let left = sync(terminal, &[]).await.leases;
    assert_eq!(left.len(), 1, "the lease of files {} is as it was", files.id);
}

/// A lease that another server issues between the look at all leases and the commit is not missed: the commit writes nothing.
#[tokio::test]
async fn a_lease_that_is_issued_meanwhile_is_not_missed() {
    let case = Case::new().await;
    let store = &case.site.store;
    let now = case.site.clock_now();
    let (issued, kinds) =
        store.lease_kinds(tobari_keyserver::store::LeaseCases::Person(case.lease.person), now).await.unwrap();
    assert_eq!((issued, kinds.len()), (1, 1));
    let version = store.version().await.unwrap();
    let change = || vec![Change::LeasesIssued(issued), Change::RevokeLease(case.lease.id, now)];
    let basis = tobari_keyserver::store::Basis::ANY;
    issue(&case.site, &case.reference, &[&case.file], json!({})).await;
    let late = store.commit(&basis, &change(), &[]).await;
    assert!(matches!(late, Err(tobari_keyserver::store::StoreError::Moved { .. })), "{late:?}");
    assert_eq!(store.version().await.unwrap(), version, "nothing was written");
    assert!(case.revocations().await.leases.is_empty());
}

/// Random changes of everything on which leases are decided. After each acknowledged one: no lease lends what the policy does
/// not give its person there now, and none lends more than before.
#[tokio::test]
async fn no_lease_lends_more_than_the_policy_gives_after_any_change() {
    let mut case = Case::new().await;
    // Each right of another protection, so that what the terminal claims of itself counts, too.
    let rights = [("none", json!(["view"])), ("machine", json!(["offline"])), ("tpm", json!(["send"]))];
    rules_by_protection(&case, &rights).await;
    let person = format!("/v1/admin/people/{}", case.lease.person);
    let place = format!("/v1/admin/terminals/{}", case.lease.terminal);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % limit as u64).unwrap()
    };
    let mut leases: Vec<(LeaseRecord, Rights)> = Vec::new();
    let mut rules: Vec<String> = Vec::new();
    let (mut taken, mut narrowed, mut too_wide) = (0, 0, 0);
    for step in 0..160 {
        let now = case.site.clock_now();
        match below(11) {
            0 | 1 => {
                let rights = [json!(["send"]), json!(["offline"]), json!(["view"]), json!(["send", "view"])];
                let (effect, rights) = (if below(3) == 0 { "allow" } else { "deny" }, &rights[below(4)]);
                let conditions = match below(if effect == "allow" { 5 } else { 4 }) {
                    4 => json!({ "protection": if below(2) == 0 { "machine" } else { "tpm" } }),
                    0 => json!({ "zones": ["outside"] }),
                    1 => json!({ "not_before": now + SignedDuration::from_hours(below(40) as i64 + 1) }),
                    2 => json!({ "not_after": now + SignedDuration::from_hours(below(40) as i64 + 1) }),
                    _ => json!({}),
                };
                let rule =
                    rule(&case, json!({ "effect": effect, "rights": rights, "conditions": conditions }));
                let made: Value = case.admin("POST", "/v1/admin/rules", &rule).await.created().to();
                rules.push(made["id"].as_str().unwrap().to_owned());
            }
            2 | 3 if !rules.is_empty() => {
                let gone = rules.swap_remove(below(rules.len()));
                case.admin("DELETE", &format!("/v1/admin/rules/{gone}"), &Value::Null).await.ok();
            }
            4 => {
                let mut input = case.bucho();
                input["disabled"] = json!(below(2) == 0);
                input["memberships"] =
                    json!(case.reference.people[["bucho", "bucho", "kacho"][below(3)]].memberships);
                case.admin("PUT", &person, &input).await.ok();
            }
            5 => {
                let zone = ["inside", "outside"][below(2)];
                let input = json!({ "name": "端末", "zone": zone, "tags": [], "revoked": false });
                case.admin("PUT", &place, &input).await.ok();
            }
            6 => {
                case.site.advance(SignedDuration::from_mins(below(90) as i64));
                case.reference.admin = case.reference.terminal.login(crate::support::ADMIN).await;
            }
            7 => tell(&case, ["none", "machine", "tpm"][below(3)]).await,
            // A new lease, where the policy gives one.
            _ => {
                let term = json!({ "starts_at": now, "ends_at": now + SignedDuration::from_hours(30) });
                let rights = [json!(["view", "send"]), json!(["view"])][below(2)].clone();
                let body = json!({ "person": case.lease.person, "terminal": case.lease.terminal, "lease": {
                    "files": [{ "header": Base64(case.file.header.wire_bytes().to_vec()) }],
                    "rights": rights, "term": term, "opens": { "kind": "unlimited" },
                    "reason": "出張",
                } });
                let answer = case.admin("POST", "/v1/admin/leases", &body).await;
                if answer.status.is_success() {
                    let record: LeaseRecord = answer.to();
                    let rights = record.rights;
                    leases.push((record, rights));
                } else {
                    // Everything as it was at first; what was taken must not come back by it.
                    for gone in rules.drain(..) {
                        case.admin("DELETE", &format!("/v1/admin/rules/{gone}"), &Value::Null).await.ok();
                    }
                    case.admin("PUT", &person, &case.bucho()).await.ok();
                    let input = json!({ "name": "端末", "zone": "inside", "tags": [], "revoked": false });
                    case.admin("PUT", &place, &input).await.ok();
                    tell(&case, "tpm").await;
                }
            }
        }
        let revocations = case.revocations().await;
        let now = case.site.clock_now();
        let gives = given(&case).await;
        for (lease, before) in &mut leases {
            if *before == Rights::NONE || now >= lease.term.ends_at {
                continue;
            }
            let path = format!("/v1/admin/leases/{}", lease.id);
            let shown: LeaseRecord =
                case.reference.terminal.get(&path, Some(&case.reference.admin)).await.ok().to();
            let mut lends = lease.rights;
            if revocations.leases.contains(&lease.id) {
                assert_eq!(shown.state, LeaseState::Revoked);
                lends = Rights::NONE;
                taken += 1;
            }
            for one in revocations.narrowed.iter().filter(|one| one.lease == lease.id) {
                lends = if now < one.ends_at { lends.intersection(one.rights) } else { Rights::NONE };
                narrowed += 1;
            }
            // Each key of the document ends with the first turn of the policy that was known when it was made.
            if let Some(end) = document_end(&case, lease.id).await
                && now >= end
            {
                lends = Rights::NONE;
            }
            let offline = gives.contains(Right::Offline);
            let allowed = if offline { gives } else { Rights::NONE };
            // What the document alone would lend; the key server's word is what makes the difference.
            if now < lease.term.ends_at && !lease.rights.minus(allowed).is_empty() {
                too_wide += 1;
            }
            assert!(lends.minus(allowed).is_empty(), "step {step}: {lends} lent, {gives} given");
            assert!(lends.minus(*before).is_empty(), "step {step}: it lends more than before");
            *before = lends;
        }
    }
    let found = (leases.len(), taken, narrowed, too_wide);
    assert!(leases.len() > 5 && taken > 5 && narrowed > 5 && too_wide > 5, "{found:?}");
}

/// What the policy gives the person there now.
async fn given(case: &Case) -> Rights {
    let (terminal, admin) = (&case.reference.terminal, Some(case.reference.admin.as_str()));
    let person: PersonRecord =
        terminal.get(&format!("/v1/admin/people/{}", case.lease.person), admin).await.ok().to();
    if person.disabled {
        return Rights::NONE;
    }
    let place: Value =
        terminal.get(&format!("/v1/admin/terminals/{}", case.lease.terminal), admin).await.ok().to();
    let ask = json!({
        "person": case.lease.person, "label": case.reference.label("社外秘").id,
        "owner_group": case.reference.group, "right": "offline", "zone": place["zone"],
        "protection": place["protection"],
    });
    let answer: Value = terminal.post("/v1/admin/explain", admin, &ask).await.ok().to();
    serde_json::from_value(answer["rights"].clone()).unwrap()
}

/// When the keys of a lease end by its own document; none when it is gone.
async fn document_end(case: &Case, lease: LeaseId) -> Option<Timestamp> {
    let row = case.site.store.lease(lease).await.unwrap()?;
    let signed = serde_json::from_slice(&row.document?).unwrap();
    tobari_core::lease::read_unchecked(&signed).unwrap().files.first().map(|file| file.ends_at)
}

/// Leases in a database of before what they lend was noted, and of before they had receipts.
#[tokio::test]
async fn older_leases_are_reached_too_and_get_their_receipt_when_they_are_sent() {
    let mut case = Case::new().await;
    let store = &case.site.store;
    let mut row = store.lease(case.lease.id).await.unwrap().unwrap();
    let mut signed: SignedLease = serde_json::from_slice(row.document.as_ref().unwrap()).unwrap();
    assert!(signed.receipt.take().is_some());
    row.document = Some(serde_json::to_vec(&signed).unwrap());
    let older = [
        Change::MoveLease(LeaseState::Issued, Box::new(row)),
        Change::Prune(case.lease.term.ends_at + SignedDuration::from_hours(1)),
    ];
    store.commit(&tobari_keyserver::store::Basis::ANY, &older, &[]).await.unwrap();
    let now = case.site.clock_now();
    assert_eq!(store.leases_without_cases(now).await.unwrap(), [case.lease.id]);
    case.site.restart().await;
    case.reference.terminal.move_to(case.site.address);
    case.reference.admin = case.reference.terminal.login(crate::support::ADMIN).await;
    assert!(case.site.store.leases_without_cases(now).await.unwrap().is_empty());
    let signed = sync(&case.reference.terminal, &[]).await.leases.remove(0);
    let key = &case.reference.terminal.enrolment.as_ref().unwrap().signing_key.0;
    let log = LogKey::of(case.reference.terminal.organisation, VerifyingKey::from_bytes(key).unwrap());
    case.document.is_recorded(signed.receipt.as_ref(), &log).unwrap();
    let path = format!("/v1/admin/people/{}", case.lease.person);
    let mut out = case.bucho();
    out["disabled"] = json!(true);
    case.admin("PUT", &path, &out).await.ok();
    assert_eq!((case.lent_now().await, case.state().await), (Rights::NONE, LeaseState::Revoked));
}

//! `admin explain`, `policy`, `invariant`, `request`, and changes that are looked at or requested instead of made.

use super::fake::{Fake, Ran, done};
use super::outputs::key_server;
use super::sample;
use crate::exit::Exit;
use serde_json::{Value, json};
use tobari_core::proto::control::{Answer, Request};
use tobari_core::proto::problem::{Problem, ProblemCode};

fn id(byte: u8) -> String {
    format!("{byte:02x}").repeat(16)
}

fn diff() -> Value {
    let row = |rights: &[&str], cases: Value| {
        json!({ "post": id(0x50), "post_name": "係長", "group": id(0x96), "group_name": "総務部", "label": id(0x1a),
            "label_name": "社外秘", "rights": rights, "zone": "LGWAN接続系", "cases": cases })
    };
    json!({ "policy_version": 12, "gained": [row(&["send"], json!([{ "owner": { "kind": "own" }, "second_factor": true }]))],
        "lost": [row(&["view", "print"], json!([]))], "gained_total": 1, "lost_total": 1, "widens": ["rights"],
        "breaks": [{ "name": "課長未満は復号しない", "post_name": "係長", "group_name": "総務部", "label_name": "社外秘",
            "right": "decrypt" }], "needs_second_person": true })
}

fn request(state: &str) -> Value {
    json!({ "id": id(0x77), "state": state, "summary": "rule/1: …", "requested_by": id(3), "requested_by_login": "bucho",
        "requested_at": "2026-11-21T00:00:00Z", "reason": "年度替わり", "expires_at": "2026-11-22T00:00:00Z",
        "diff": diff() })
}

fn answer(method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let invariant = json!({ "id": id(0x55), "name": "守り", "labels": { "kind": "this", "label": id(0x1a) },
        "groups": { "kind": "outside-owner" }, "posts": { "kind": "below", "post": id(0x50) }, "rights": ["decrypt"] });
    match (method, path.strip_prefix("/v1/admin/").unwrap()) {
        ("POST", "policy/diff") => (200, diff()),
        ("POST", "policy/changes") => (200, body.unwrap()["input"].clone()),
        ("POST", "requests") => (201, request("pending")),
        ("GET", path) if path.starts_with("requests?") => (200, json!([request("pending")])),
        ("GET", path) if path.starts_with("requests/") => (200, request("pending")),
        ("POST", path) if path.ends_with("/approve") => (200, request("approved")),
        ("POST", path) if path.ends_with("/apply") => (200, json!({})),
        ("POST", "explain") => (
            200,
            json!({ "allowed": false, "rights": ["view"], "reasons": [], "disabled": false,
            "login": "bucho", "label_name": "社外秘", "policy_version": 12 }),
        ),
        ("POST", "step-up") => (200, json!({ "until": "2026-11-21T00:05:00Z" })),
        ("GET", "policy") => {
            (200, json!({ "version": 12, "second_person": true, "set": true, "approvers": 2 }))
        }
        ("GET", path) if path.starts_with("policy/versions") => (
            200,
            json!([{ "version": 12,
            "at": "2026-11-21T00:00:00Z", "login": "bucho", "act": "create", "object": "rule/1", "detail": "d",
            "reason": "年度替わり" }]),
        ),
        ("GET", "invariants") => (200, json!([invariant])),
        ("GET", path) if path.starts_with("invariants/") => (200, invariant),
        ("POST", "invariants") => (201, invariant),
        _ => key_server(method, path, body),
    }
}

fn fake() -> Fake {
    Fake::saying(|request, _| {
        Some(done(match request {
            Request::Forward { method, path, body } => {
                let (status, body) = answer(&method, &path, body);
                Answer::Forwarded { status, body }
            }
            _ => sample::notice(sample::bulletin(Vec::new())),
        }))
    })
}

/// What was sent to change something, and what was shown.
fn run(fake: &Fake, language: &str, line: &str) -> (Ran, Vec<Value>) {
    fake.asked();
    let words: Vec<&str> = std::iter::once("admin").chain(line.split(' ')).collect();
    let ran = fake.run_in(language, &words, b"a new password\n");
    let sent = |asked: &Value| asked["request"] == "forward" && asked["method"] != "GET";
    (ran, fake.asked().into_iter().filter(sent).collect())
}

const RULE: &str = "rule add --label 社外秘 --post 部長 --allow send";

#[test]
fn a_change_is_looked_at_in_both_spellings_and_both_languages() {
    let fake = fake();
    for line in [format!("{RULE} --dry-run"), format!("--dry-run {RULE}"), format!("policy diff -- {RULE}")] {
        for (language, words) in [
            (
                "en",
                [
                    "gained",
                    "files of the own group, with second factor",
                    "needs a second person: gives rights",
                ],
            ),
            ("ja", ["得る権利", "自部署のファイル, 二要素あり", "もう一人の承認が要ります: 権利を与える"]),
        ] {
            let (ran, sent) = run(&fake, language, &line);
            assert_eq!(ran.exit, Exit::Ok, "{line}: {ran:?}");
            let [sent] = sent.as_slice() else { panic!("{line}: {sent:?}") };
            assert_eq!(sent["path"], "/v1/admin/policy/diff", "nothing else is sent");
            assert_eq!(sent["body"]["collection"], "rules");
            assert_eq!(sent["body"]["input"]["rights"], json!(["send"]));
            for words in words.into_iter().chain(["課長未満は復号しない", "LGWAN接続系", "view, print"])
            {
                assert!(ran.text().contains(words), "{words}: {}", ran.text());
            }
        }
    }
    let (ran, _) = run(&fake, "en", &format!("{RULE} --dry-run --json"));
    assert_eq!(ran.json()["gained_total"], 1);
}

#[test]
fn a_look_at_a_change_tells_the_leases_that_it_takes_and_narrows() {
    let part = |left: &[&str]| {
        json!({ "label": id(0x1a), "label_name": "社外秘", "owner_group": id(0x96), "group_name": "総務部",
            "lost": ["send"], "left": left, "until": "2026-11-23T00:00:00Z", "was_until": "2026-11-23T00:00:00Z" })
    };
    let loss = |lease: u8, left: &[&str], parts: u64| {
        json!({ "lease": id(lease), "person": id(3), "login": "bucho", "terminal": id(0x7e), "terminal_name": "持出01",
            "ended": left.is_empty(), "parts": [part(left)], "parts_total": parts })
    };
    let mut shown = diff();
    shown["gained"] = json!([]);
    shown["lost"] = json!([]);
    shown["leases"] =
        json!({ "total": 25, "ended": 21, "first": [loss(0x1e, &[], 1), loss(0x2e, &["view"], 4)] });
    let fake = Fake::saying(move |request, _| {
        Some(done(match request {
            Request::Forward { path, .. } if path.ends_with("/policy/diff") => {
                Answer::Forwarded { status: 200, body: shown.clone() }
            }
            Request::Forward { method, path, body } => {
                let (status, body) = answer(&method, &path, body);
                Answer::Forwarded { status, body }
            }
            _ => sample::notice(sample::bulletin(Vec::new())),
        }))
    });
    for (language, words) in [
        ("en", ["takes back 21 and narrows 4", "and 23 more leases", "and 3 more, see --json", "none"]),
        ("ja", ["21 件を取り消し、4 件を狭めます", "ほかに 23 件の持ち出し", "ほかに 3 件", "なし"]),
    ] {
        let (ran, _) = run(&fake, language, &format!("{RULE} --dry-run"));
        assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
        for words in
            words.into_iter().chain([&*id(0x1e), &*id(0x2e), "bucho", "持出01", "社外秘", "2026-11-23"])
        {
            assert!(ran.text().contains(words), "{words}: {}", ran.text());
        }
        assert!(!ran.text().contains("nobody gains"), "{}", ran.text());
    }
    let (ran, _) = run(&fake, "en", &format!("{RULE} --dry-run --json"));
    assert_eq!(ran.json()["leases"]["total"], 25);
}

#[test]
fn a_request_is_asked_for_alone_and_one_that_is_not_there_is_said_so() {
    let fake = Fake::saying(|request, _| {
        Some(done(match request {
            Request::Forward { path, .. } if path.ends_with(&id(0x77)) => {
                Answer::Forwarded { status: 200, body: self::request("pending") }
            }
            _ => {
                let problem = Problem::local(ProblemCode::NotFound, "no such request");
                Answer::Forwarded { status: 404, body: serde_json::to_value(problem).unwrap() }
            }
        }))
    });
    for (typed, exit, asked) in [
        (id(0x77), Exit::Ok, 1),
        (id(0x78), Exit::NotFound, 1),
        (id(0x77)[..8].to_owned(), Exit::NotFound, 0),
    ] {
        fake.asked();
        let ran = fake.run(&["admin", "request", "show", &typed]);
        assert_eq!(ran.exit, exit, "{typed}: {}", ran.err);
        assert_eq!(fake.asked().len(), asked, "{typed}");
        assert_eq!(ran.err.contains("'tobari admin request list'"), exit == Exit::NotFound, "{}", ran.err);
    }
}

#[test]
fn every_change_of_the_policy_can_be_asked_beforehand() {
    let fake = fake();
    for (line, collection, named) in [
        ("label add 秘 --level 60", "labels", false),
        ("label set 社外秘 --level 35", "labels", true),
        ("label rotate 社外秘", "label-keys", true),
        ("group add 財政部", "groups", false),
        ("group remove 人事課", "groups", true),
        ("post set 部長 --rank 85", "posts", true),
        ("person set bucho --disabled true", "people", true),
        ("person remove bucho", "people", true),
        ("rule remove b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1", "rules", true),
        ("preset apply kigyo", "presets", true),
        (
            "invariant add 守り --never decrypt --label 社外秘 --post below:部長 --group outside-owner",
            "invariants",
            false,
        ),
        ("invariant remove 守り", "invariants", true),
        ("policy restore 3", "versions", true),
        ("policy second-person false", "second-person", false),
        ("label retire 社外秘 1 --force", "retired-keys", true),
        ("terminal unfreeze fs01", "unfreezings", true),
        ("revoke lift label 社外秘 --reason 解除", "revocation-lifts", false),
        ("lease approve 11111111111111111111111111111111", "leases", true),
        ("policy unseal-limit 50", "unseal-limit", false),
        ("policy unseal-limit none", "unseal-limit", false),
        ("policy unseal-window bucho --files 300", "unseal-windows", true),
    ] {
        let (ran, sent) = run(&fake, "en", &format!("{line} --dry-run"));
        assert_eq!(ran.exit, Exit::Ok, "{line}: {ran:?}");
        let [sent] = sent.as_slice() else { panic!("{line}: {sent:?}") };
        assert_eq!(
            (&sent["path"], &sent["body"]["collection"]),
            (&json!("/v1/admin/policy/diff"), &json!(collection))
        );
        assert_eq!(sent["body"]["id"].is_string(), named, "{line}: {sent}");
        let empty = line.contains("remove")
            || matches!(collection, "presets" | "label-keys" | "versions" | "unfreezings" | "leases");
        assert_eq!(sent["body"]["input"].is_null(), empty, "{line}: {sent}");
    }
    for line in ["token --dry-run", "terminal set fs01 --zone x --request r"] {
        let (ran, sent) = run(&fake, "en", line);
        assert_eq!((ran.exit, sent.len()), (Exit::Usage, 0), "{line}: {ran:?}");
    }
}

#[test]
fn a_change_is_requested_with_its_reason_and_made_with_one() {
    let fake = fake();
    let (ran, sent) = run(&fake, "en", &format!("{RULE} --request 年度替わり"));
    assert_eq!(
        (&sent[0]["path"], &sent[0]["body"]["reason"]),
        (&json!("/v1/admin/requests"), &json!("年度替わり"))
    );
    assert!(ran.text().contains("waits for a second person"), "{ran:?}");
    let (ran, sent) = run(&fake, "en", "group remove 人事課 --reason 統合");
    assert_eq!(sent[0]["path"], "/v1/admin/policy/changes");
    assert_eq!((ran.exit, &sent[0]["body"]["reason"]), (Exit::Ok, &json!("統合")));
    let (ran, sent) = run(&fake, "ja", &format!("request approve {} --because 確認済み", id(0x77)));
    assert_eq!(sent[0]["body"], json!({ "reason": "確認済み" }));
    assert!(ran.text().contains("承認済み"), "{ran:?}");
    let (ran, sent) = run(&fake, "en", &format!("request apply {}", id(0x77)));
    assert_eq!((ran.exit, sent[0]["path"].as_str().unwrap().ends_with("/apply")), (Exit::Ok, true));
    let (ran, _) = run(&fake, "en", "request list");
    assert!(ran.text().contains("年度替わり") && ran.text().contains("bucho"), "{ran:?}");
}

#[test]
fn explaining_names_the_label_and_says_that_no_rule_gives_it() {
    let fake = fake();
    let (ran, sent) =
        run(&fake, "en", "explain bucho 社外秘 decrypt --group 人事課 --zone 庁内 --second-factor");
    assert_eq!(sent[0]["path"], "/v1/admin/explain");
    assert_eq!(
        sent[0]["body"],
        json!({ "person": id(3), "label": id(0x1a), "owner_group": id(0x97), "right": "decrypt", "zone": "庁内",
            "terminal_tags": [], "second_factor": true })
    );
    assert!(ran.text().contains("bucho may not decrypt") && ran.text().contains("no rule"), "{ran:?}");
    let (ran, _) = run(&fake, "ja", "explain bucho 社外秘 decrypt");
    assert!(ran.text().contains("できません"), "{ran:?}");
    let (ran, _) = run(&fake, "en", "explain bucho 無い decrypt");
    assert_eq!(ran.exit, Exit::NotFound, "{ran:?}");
}

#[test]
fn history_status_step_up_and_invariants_are_shown() {
    let fake = fake();
    for (line, words) in [
        ("policy history --limit 5", "年度替わり"),
        ("policy show", "12"),
        ("invariant list", "below:部長"),
        ("invariant show 守り", "outside-owner"),
    ] {
        let (ran, sent) = run(&fake, "en", line);
        assert!(ran.exit == Exit::Ok && sent.is_empty() && ran.text().contains(words), "{line}: {ran:?}");
    }
    let (ran, sent) = run(&fake, "en", "step-up --totp 123456");
    assert_eq!((ran.exit, &sent[0]["body"]), (Exit::Ok, &json!({ "totp": "123456" })));
}

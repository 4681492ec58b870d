//! What each command shows, in both languages and as JSON.

use super::fake::{Fake, Ran, done, failed, failed_with};
use super::messages::problem_codes;
use super::sample;
use crate::error::Error;
use crate::exit::Exit;
use crate::message::Language;
use serde_json::{Value, json};
use tobari_core::policy::{Effect, Right, Rights};
use tobari_core::proto::control::{Answer, Event, Particulars, Request};
use tobari_core::proto::problem::{Problem, ProblemCode};

/// Runs in English, in Japanese and with `--json`, for one snapshot.
fn three_ways(fake: &Fake, arguments: &[&str], input: &[u8]) -> String {
    let json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let parts = [
        ("en", fake.run_in("en", arguments, input)),
        ("ja", fake.run_in("ja", arguments, input)),
        ("json", fake.run_in("en", &json, input)),
    ];
    parts.map(|(name, ran)| format!("==== {name}: {}", ran.whole())).join("")
}

#[test]
fn login_logout_and_whoami() {
    let fake = Fake::saying(|request, _| {
        Some(done(match request {
            Request::Logout => Answer::Nothing,
            _ => sample::session(),
        }))
    });
    insta::assert_snapshot!(three_ways(&fake, &["login", "bucho", "--password-stdin"], b"secret pass\r\n"));
    for asked in fake.asked() {
        assert_eq!(
            asked,
            json!({ "request": "login", "login": "bucho", "password": "secret pass", "totp": null })
        );
    }
    fake.run_in("en", &["login", "bucho", "--password-stdin", "--totp", "123456"], "パス ワード".as_bytes());
    let asked = &fake.asked()[0];
    assert_eq!((&asked["password"], &asked["totp"]), (&json!("パス ワード"), &json!("123456")));
    insta::assert_snapshot!(three_ways(&fake, &["whoami"], b""));
    insta::assert_snapshot!(three_ways(&fake, &["logout"], b""));
}

#[test]
fn a_login_without_password_or_name_is_refused_before_anything_is_asked() {
    let fake = Fake::saying(|_, _| Some(done(sample::session())));
    for (arguments, code) in [
        (&["login", "bucho"][..], "no-terminal"),
        (&["login", "bucho", "--password-stdin"], "usage-password-empty"),
        (&["login", "--password-stdin"], "usage-login-missing"),
    ] {
        let json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let ran = fake.run(&json);
        let error: Value = serde_json::from_str(&ran.err).unwrap();
        assert_eq!(error["error"]["code"], code);
        assert_eq!(ran.exit, Exit::Usage);
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn status() {
    let fake = Fake::saying(|_, _| Some(done(sample::status())));
    insta::assert_snapshot!(three_ways(&fake, &["status", "--unsealed"], b""));
    assert_eq!(fake.asked()[0], json!({ "request": "status", "unsealed": true }));
    let ran = fake.run(&["status"]);
    assert!(!ran.text().contains("a.docx"));
}

#[test]
fn info_with_a_decision_without_a_login_and_of_a_plain_file() {
    let fake = Fake::saying(|request, descriptors| {
        assert_eq!(descriptors.len(), 1);
        let Request::Info { name } = request else { panic!("info") };
        let mut sealed = sample::sealed_info();
        let sealed = match name.as_str() {
            name if name.ends_with("decided") => {
                sealed.decision = Some(sample::decided());
                Some(sealed)
            }
            name if name.ends_with("anonymous") => {
                sealed.decision_problem = Some(Problem::local(ProblemCode::NotLoggedIn, "no session"));
                Some(sealed)
            }
            _ => None,
        };
        Some(done(sample::info("名簿.csv", sealed)))
    });
    let mut shown = Vec::new();
    for name in ["decided", "anonymous", "plain"] {
        let path = fake.path(name);
        std::fs::write(&path, b"x").unwrap();
        shown.push(three_ways(&fake, &["info", path.to_str().unwrap()], b""));
    }
    let root = fake.root.path().to_str().unwrap();
    insta::assert_snapshot!(shown.join("\n").replace(root, "ROOT"));
}

#[test]
fn info_of_several_files_goes_on_after_a_failure_and_ends_with_its_code() {
    let fake = Fake::saying(|_, _| Some(done(sample::info("a", None))));
    let there = fake.path("there");
    std::fs::write(&there, b"x").unwrap();
    let missing = fake.path("missing");
    let ran = fake.run(&["info", "--json", missing.to_str().unwrap(), there.to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::Io);
    assert_eq!(ran.json()["files"].as_array().unwrap().len(), 1);
    assert!(ran.err.contains("ROOT/missing"));
    let ran = fake.run(&["info", "--json", missing.to_str().unwrap()]);
    assert!(ran.out.is_empty());
}

#[test]
fn every_problem_is_shown_with_its_hint_and_its_exit_code() {
    let mut shown = Vec::new();
    for code in problem_codes() {
        let fake = Fake::saying(move |_, _| {
            let mut problem = Problem::local(code, "detail in English");
            problem.field = Some("name".to_owned());
            problem.retry_after_seconds = Some(90);
            Some(failed(problem))
        });
        for language in ["en", "ja"] {
            let ran = fake.run_in(language, &["whoami"], b"");
            assert_eq!(ran.exit, Exit::from(code));
            assert!(ran.out.is_empty());
            shown.push(format!("[{}] {}", ran.exit.code(), ran.err));
        }
    }
    insta::assert_snapshot!(shown.join(""));
}

#[test]
fn a_refusal_lists_what_may_be_done_and_the_rules_that_decided() {
    let fake = Fake::saying(|_, _| {
        Some(Event::Failed {
            problem: Problem::local(ProblemCode::RightRefused, "the right 'view' is not granted"),
            subject: None,
            rights: Some(Rights::only(Right::Print)),
            reasons: vec![sample::reason(Effect::Allow, &[Right::Print])],
            particulars: Particulars {
                right: Some(Right::View),
                label_name: Some("社外秘".to_owned()),
                authentic_bytes: None,
            },
        })
    });
    let path = fake.path("名簿.csv");
    std::fs::write(&path, tobari_core::envelope::MAGIC).unwrap();
    insta::assert_snapshot!(three_ways(&fake, &["cat", path.to_str().unwrap()], b""));
}

/// The daemon's detail is English; Japanese is told by the data beside it.
#[test]
fn what_the_data_of_a_failure_say_is_told_in_both_languages() {
    let told = |code, field: Option<&str>, particulars: Particulars| {
        let mut problem = Problem::local(code, "English");
        problem.field = field.map(str::to_owned);
        let error = Error::refused(problem, None, Some(Rights::NONE), Vec::new(), particulars);
        Language::ALL.map(|language| error.message(language))
    };
    let (none, corrupt, refused) =
        (Particulars::default(), ProblemCode::CorruptEnvelope, ProblemCode::RightRefused);
    let authentic = |bytes| Particulars { authentic_bytes: Some(bytes), ..Particulars::default() };
    let label = Particulars { label_name: Some("社外秘".to_owned()), ..Particulars::default() };
    let right = Particulars { right: Some(Right::Send), ..Particulars::default() };
    let shown = [
        told(corrupt, None, none.clone()),
        told(corrupt, None, authentic(0)),
        told(corrupt, None, authentic(16384)),
        told(refused, None, none),
        told(refused, None, right.clone()),
        told(refused, None, Particulars { right: right.right, ..label.clone() }),
        told(refused, Some("legacy"), label),
        told(ProblemCode::Conflict, Some("lease-state"), Particulars::default()),
        told(ProblemCode::Conflict, Some("refill-terminal"), Particulars::default()),
        told(ProblemCode::Conflict, Some("refill-label"), Particulars::default()),
        told(ProblemCode::Conflict, Some("refill-over"), Particulars::default()),
        told(ProblemCode::Conflict, Some("refill-second-person"), Particulars::default()),
    ]
    .concat();
    assert!(shown.iter().all(|text| !text.contains("English")));
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_full_disk_of_the_daemon_is_told_from_other_failures() {
    let fake = Fake::saying(|_, _| {
        let mut problem = Problem::local(ProblemCode::LocalIo, "write: no space");
        problem.field = Some("no-space".to_owned());
        Some(failed(problem))
    });
    let ran = fake.run(&["whoami", "--json"]);
    assert_eq!(ran.exit, Exit::NoSpace);
    assert!(ran.err.contains("\"code\":\"no-space\""), "{}", ran.err);
}

#[test]
fn without_a_daemon_the_socket_is_named() {
    insta::assert_snapshot!(
        three_ways(&Fake::nobody(), &["whoami"], b"")
            .replace(std::env::temp_dir().to_str().unwrap(), "TMP")
            .lines()
            .map(mask)
            .collect::<Vec<_>>()
            .join("\n")
    );
}

/// Temporary folders have random names.
fn mask(line: &str) -> String {
    match line.split_once("/.tmp") {
        Some((before, after)) => {
            let rest = after.find('/').map_or("", |at| &after[at..]);
            let before = before.rsplit_once(' ').map_or("", |(words, _)| words);
            format!("{before} ROOT{rest}")
        }
        None => line.to_owned(),
    }
}

#[test]
fn a_daemon_of_another_version_one_that_goes_away_and_one_that_talks_nonsense() {
    let fake = Fake::saying(|_, _| Some(done(Answer::Nothing)));
    let ran = fake.run(&["whoami"]);
    assert_eq!(ran.exit, Exit::Internal, "{ran:?}");

    use std::os::unix::net::UnixListener;
    use tobari_core::proto::frame::{receive_frame, send_frame};
    let fake = Fake::nobody();
    let listener = UnixListener::bind(fake.socket()).unwrap();
    let daemon = std::thread::spawn(move || {
        for version in [7, 1] {
            let (stream, _) = listener.accept().unwrap();
            receive_frame::<Request>(&stream, 0).unwrap();
            let hello = Answer::Hello { version, program: "9.9.9".to_owned() };
            send_frame(&stream, &done(hello), &[]).unwrap();
            if version == 1 {
                receive_frame::<Request>(&stream, 0).unwrap();
            }
        }
    });
    let ran = fake.run(&["whoami"]);
    assert!(ran.exit == Exit::Internal && ran.err.contains("9.9.9"), "{ran:?}");
    let ran = fake.run(&["whoami"]);
    assert_eq!(ran.exit, Exit::DaemonUnreachable, "{ran:?}");
    daemon.join().unwrap();
}

/// A key server with one of everything.
pub(super) fn key_server(method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let id = |byte: u8| format!("{byte:02x}").repeat(16);
    let label = json!({ "id": id(0x1a), "name": "社外秘", "level": 30, "key_kind": "rsa2048", "allow_legacy_zip": false,
        "generation": 1, "key_id": "ab".repeat(32) });
    let groups = json!([{ "id": id(0x96), "name": "総務部" }, { "id": id(0x97), "name": "人事課", "parent": id(0x96) }]);
    let post = json!({ "id": id(0x50), "name": "部長", "rank": 80 });
    let person = json!({ "id": id(3), "login": "bucho", "name": "部長 太郎",
        "memberships": [{ "group": id(0x97), "post": id(0x50) }], "roles": ["policy"], "disabled": false, "has_totp": true });
    let rule = json!({ "id": id(0xb1), "label": id(0x1a), "groups": { "kind": "subtree", "group": id(0x96) },
        "posts": { "kind": "rank-at-least", "rank": 60 }, "conditions": { "zones": ["LGWAN接続系"], "second_factor": true },
        "effect": "allow", "rights": ["view", "edit"], "note": "課長以上" });
    let folder = json!({ "id": id(4), "terminal": id(0x7e), "path": "/srv/共有", "label": id(0x1a), "owner_group": id(0x96),
        "exclude": ["*.tmp"] });
    let terminal = json!({ "id": id(0x7e), "name": "fs01", "zone": "庁内", "tags": ["据置"], "revoked": false,
        "frozen": true, "protection": "machine", "leases": 2,
        "certificate_expires_at": "2027-11-21T00:00:00Z", "last_seen_at": null,
        "reported": { "at": "2026-11-21T09:00:00Z", "version": "0.1.0",
            "coverage": { "files": 4000, "plain": 3, "plain_since": "2026-11-21T07:30:00Z" } } });
    let revocation = json!({ "kind": "label", "id": id(0x1a), "reason": "調査中", "revoked_by": id(3),
        "revoked_at": "2026-11-20T00:00:00Z" });
    let lease = json!({ "id": id(0x1e), "state": "revoked", "person": id(3), "login": "bucho", "terminal": id(0x7e),
        "terminal_name": "fs01", "term": { "starts_at": "2026-11-20T00:00:00Z", "ends_at": "2026-11-23T00:00:00Z" },
        "opens": { "kind": "at-most", "count": 3 }, "rights": ["view"], "reason": "出張", "file_count": 1,
        "files": [{ "file": id(5), "label": id(0x1a), "name": "名簿.csv", "rights": ["view"] }],
        "requested_at": "2026-11-20T00:00:00Z", "opened": 1 });
    let token =
        json!({ "token": "TOKEN", "expires_at": "2026-11-21T13:00:00Z", "ca_sha256": "cd".repeat(32) });
    let applied = json!({ "preset": "kigyo", "labels": [label], "posts": [post], "rules": [id(0xb1)] });
    let (collection, below) =
        path.strip_prefix("/v1/admin/").unwrap().split_once('/').unwrap_or((&path[10..], ""));
    let collection = collection.split('?').next().unwrap();
    let record = match collection {
        "labels" => label,
        "groups" => groups[0].clone(),
        "posts" => post,
        "people" => person,
        "rules" => rule,
        "folders" => folder,
        "terminals" => terminal,
        "enrolment-tokens" => token,
        "revocations" => revocation,
        "leases" => lease,
        "presets" => applied,
        other => panic!("{other}"),
    };
    match (method, below) {
        ("GET", "") if collection == "groups" => (200, groups),
        ("GET", "") => (200, json!([record])),
        ("GET", _) => (200, record),
        ("POST", _) if body.as_ref().is_some_and(|body| body["new_totp"] == true) => {
            let mut record = record;
            record["otpauth"] = json!("otpauth://totp/Tobari:bucho?secret=ABC");
            (201, record)
        }
        ("POST", _) => (201, record),
        ("PUT", _) => (200, record),
        ("DELETE", _) => (204, Value::Null),
        other => panic!("{other:?}"),
    }
}

fn with_key_server() -> Fake {
    Fake::saying(|request, _| {
        Some(done(match request {
            Request::Forward { method, path, body } => {
                let (status, body) = key_server(&method, &path, body);
                Answer::Forwarded { status, body }
            }
            _ => sample::notice(sample::bulletin(Vec::new())),
        }))
    })
}

#[test]
fn lists_of_the_administration() {
    let fake = with_key_server();
    let mut shown = Vec::new();
    for kind in ["label", "group", "post", "person", "rule", "folder", "terminal", "preset", "revoke"] {
        shown.push(format!("$ admin {kind} list\n{}", three_ways(&fake, &["admin", kind, "list"], b"")));
    }
    insta::assert_snapshot!(shown.join("\n"));
}

fn changes(fake: &Fake, arguments: &[&str], input: &[u8]) -> (Ran, Vec<Value>) {
    fake.asked();
    let ran = fake.run_in("en", arguments, input);
    let changing = |asked: &Value| {
        asked["request"] == "refresh" || asked["request"] == "forward" && asked["method"] != "GET"
    };
    (ran, fake.asked().into_iter().filter(changing).collect())
}

#[test]
fn changes_of_the_administration() {
    let fake = with_key_server();
    let mut shown = Vec::new();
    for line in [
        "label add 秘 --level 60 --key-kind rsa2048-mlkem768 --allow-legacy-zip",
        "label set 社外秘 --level 35",
        "label remove 社外秘",
        "group add 財政部",
        "group add 総務部/庶務係",
        "group set 人事課 --root --name 職員課",
        "post add 係長 --rank 40",
        "post set 部長 --rank 85",
        "person add suzuki --name 鈴木 --membership 総務部/人事課:部長 --role policy --role auditor --totp --password-stdin",
        "person set bucho --disabled true",
        "person set bucho --no-memberships --no-roles --password-stdin",
        "person remove bucho",
        "rule add --label 社外秘 --group owner-subtree --post 部長 --allow view,print --tag 持ち出し端末 --protection machine --note 備考",
        "rule add --label 社外秘 --group 総務部 --post rank>=60 --deny all",
        "folder add /srv/共有/人事 --label 社外秘 --owner-group 人事課 --exclude *.tmp",
        "folder set /srv/共有 --no-owner-group --no-exclude",
        "terminal set fs01 --no-zone --tag 新 --revoke",
        "terminal freeze fs01",
        "terminal unfreeze fs01",
        "revoke label 社外秘 --reason 調査中",
        "revoke lift file 05050505050505050505050505050505 --reason 誤り",
        "lease revoke 1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e --reason 紛失",
        "token --zone 庁内 --tag 据置 --valid-seconds 600",
        "preset apply kigyo",
    ] {
        let words: Vec<&str> = std::iter::once("admin").chain(line.split(' ')).collect();
        let (ran, asked) = changes(&fake, &words, b"a new password\n");
        assert_eq!(ran.exit, Exit::Ok, "{line}: {ran:?}");
        let refreshed = asked.iter().any(|asked| asked["request"] == "refresh");
        assert_eq!(refreshed, !line.starts_with("token"), "{line}");
        let sent: Vec<String> = asked
            .iter()
            .filter(|asked| asked["request"] == "forward")
            .map(|asked| format!("{} {} {}", asked["method"], asked["path"], asked["body"]))
            .collect();
        shown.push(format!("$ admin {line}\n{}\n{}", sent.join("\n"), ran.whole()));
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn unknown_and_ambiguous_names_change_nothing() {
    let fake = with_key_server();
    for (line, exit, words) in [
        ("label set 極々秘 --level 1", Exit::NotFound, "社外秘"),
        ("person add x --membership 総務部:社長 --password-stdin", Exit::NotFound, "部長"),
        ("person add x --membership 総務部 --password-stdin", Exit::Usage, "総務部"),
        ("folder add /srv/x --label 無い", Exit::NotFound, "無い"),
        ("rule add --label 社外秘 --post rank>=x --allow view", Exit::Usage, "rank>=x"),
        ("preset apply gakko", Exit::NotFound, "kigyo"),
        ("label set 社外秘", Exit::Usage, "--help"),
        ("group add 総務部/x --parent 総務部", Exit::Usage, "--parent"),
    ] {
        let arguments: Vec<&str> = std::iter::once("admin").chain(line.split(' ')).collect();
        let (ran, asked) = changes(&fake, &arguments, b"password");
        assert_eq!(ran.exit, exit, "{line}: {ran:?}");
        assert!(ran.err.contains(words) && ran.err.contains("hint: "), "{line}: {ran:?}");
        assert!(ran.out.is_empty() && asked.is_empty(), "{line}: {asked:?}");
    }
}

#[test]
fn the_key_servers_refusals_are_understood_and_foreign_answers_are_not() {
    for (body, exit) in [
        (
            serde_json::to_value(Problem {
                status: 403,
                ..Problem::local(ProblemCode::NotAdministrator, "")
            })
            .unwrap(),
            Exit::NotAdministrator,
        ),
        (json!("<html>"), Exit::Internal),
    ] {
        let fake =
            Fake::saying(move |_, _| Some(done(Answer::Forwarded { status: 403, body: body.clone() })));
        assert_eq!(fake.run(&["admin", "label", "list"]).exit, exit);
    }
    let fake =
        Fake::saying(|_, _| Some(done(Answer::Forwarded { status: 200, body: json!({ "labels": 3 }) })));
    assert_eq!(fake.run(&["admin", "label", "list"]).exit, Exit::Internal);
}

#[test]
fn a_change_that_this_terminal_does_not_hear_of_is_made_and_said() {
    let fake = Fake::saying(|request, _| {
        Some(match request {
            Request::Forward { method, path, body } => {
                let (status, body) = key_server(&method, &path, body);
                done(Answer::Forwarded { status, body })
            }
            _ => failed_with(ProblemCode::KeyServerUnreachable),
        })
    });
    let ran = fake.run(&["admin", "post", "add", "係長", "--rank", "40"]);
    assert_eq!(ran.exit, Exit::Ok);
    assert!(ran.err.contains("tobari: warning: "), "{ran:?}");
}

/// An audit log of several pages; `spoil` changes what is sent.
fn audit_log(spoil: impl Fn(&mut Vec<Value>) + Send + 'static) -> Fake {
    use tobari_core::crypto::sha256;
    use tobari_core::proto::base64::Base64;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut previous = [0; 32];
    let mut hashes = vec![hex(&previous)];
    let mut records = Vec::new();
    for sequence in 1..=1203 {
        let payload = format!("{{\"event\":\"login\",\"n\":{sequence}}}").into_bytes();
        previous = sha256(&[&previous, &payload]);
        hashes.push(hex(&previous));
        records.push(json!({ "sequence": sequence, "payload": Base64(payload), "hash": hex(&previous) }));
    }
    spoil(&mut records);
    Fake::saying(move |request, _| {
        let Request::Forward { path, .. } = request else { panic!("forward") };
        let after = path.split("after=").nth(1).unwrap().split('&').next().unwrap();
        let after: usize = after.parse().unwrap();
        let limit: usize = path.split("limit=").nth(1).unwrap().parse().unwrap();
        let page: Vec<Value> = records.iter().skip(after).take(limit).cloned().collect();
        let body = json!({ "previous_hash": hashes[after], "records": page });
        Some(done(Answer::Forwarded { status: 200, body }))
    })
}

#[test]
fn the_audit_log_is_shown_and_its_chain_is_recomputed_here() {
    let fake = audit_log(|_| {});
    insta::assert_snapshot!(three_ways(&fake, &["admin", "audit", "--after", "1", "--limit", "2"], b""));
    insta::assert_snapshot!(three_ways(&fake, &["admin", "audit", "--verify"], b""));
    type Spoil = fn(&mut Vec<Value>);
    let spoils: [(Spoil, u64); 3] = [
        (|records| records[3]["payload"] = json!("e30="), 4),
        (|records| drop(records.remove(1)), 3),
        (|records| records.swap(1003, 1004), 1005),
    ];
    for (spoil, at) in spoils {
        let ran = audit_log(spoil).run(&["admin", "audit", "--verify"]);
        assert_eq!(ran.exit, Exit::AuditBroken, "{ran:?}");
        assert!(ran.err.contains(&format!("record {at}")), "{ran:?}");
    }
}

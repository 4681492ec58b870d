//! Parts of the long lists: one of a name, so many after an id, leases by the beginning of their ids.

use crate::support::{Site, person_input};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::problem::ProblemCode;

fn of(records: &Value, field: &str) -> Vec<String> {
    records.as_array().unwrap().iter().map(|record| record[field].as_str().unwrap().to_owned()).collect()
}

/// As it stands in a query.
fn encoded(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn a_person_is_found_by_login_name_alone_in_the_form_in_which_names_are_compared() {
    let site = Site::start().await;
    let case = site.reference().await;
    let input = person_input("総務-課長", vec![], &[]);
    case.terminal.post("/v1/admin/people", Some(&case.admin), &input).await.created();
    let ask = async |login: &str| {
        let path = format!("/v1/admin/people?login={}", encoded(login));
        of(&case.terminal.get(&path, Some(&case.admin)).await.ok().body, "login")
    };
    for (typed, found) in [
        ("bucho", vec!["bucho"]),
        (" ＢＵＣＨＯ", vec!["bucho"]),
        ("総務-課長", vec!["総務-課長"]),
        ("総務-課", vec![]),
        ("buch", vec![]),
        ("bucho%", vec![]),
        ("bucho&limit=5", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(ask(typed).await, found, "{typed:?}");
    }
    let path = "/v1/admin/people?login=bucho";
    let bucho = case.terminal.login("bucho").await;
    case.terminal.get(path, Some(&bucho)).await.refused(ProblemCode::NotAdministrator);
    case.terminal.get(path, None).await.refused(ProblemCode::NotLoggedIn);
}

#[tokio::test]
async fn terminals_are_found_by_name_and_all_of_a_name() {
    let site = Site::start().await;
    let case = site.reference().await;
    let others = [
        site.another(&case.terminal, &case.admin, None).await,
        site.another(&case.terminal, &case.admin, None).await,
    ];
    for other in &others {
        let path = format!("/v1/admin/terminals/{}", other.id);
        case.terminal.put(&path, Some(&case.admin), &json!({ "name": "持出 01" })).await.ok();
    }
    let ask = async |name: &str| {
        let path = format!("/v1/admin/terminals?name={}", encoded(name));
        of(&case.terminal.get(&path, Some(&case.admin)).await.ok().body, "id")
    };
    let mut both: Vec<String> = others.iter().map(|other| other.id.to_string()).collect();
    both.sort();
    assert_eq!(ask("持出 01").await, both);
    assert_eq!(ask("持出 0").await, Vec::<String>::new());
}

#[tokio::test]
async fn parts_in_the_order_of_ids_make_up_the_whole_list() {
    let site = Site::start().await;
    let case = site.reference().await;
    for number in 0..4 {
        let input = person_input(&format!("p{number}"), vec![], &[]);
        case.terminal.post("/v1/admin/people", Some(&case.admin), &input).await.created();
    }
    site.another(&case.terminal, &case.admin, None).await;
    for number in 0..5 {
        let change = json!({ "collection": "posts", "input": { "name": format!("係{number}"), "rank": 1 }, "reason": "x" });
        case.terminal.post("/v1/admin/requests", Some(&case.admin), &change).await.created();
    }
    for collection in ["people", "terminals", "requests"] {
        let ask = async |query: &str| {
            let path = format!("/v1/admin/{collection}{query}");
            of(&case.terminal.get(&path, Some(&case.admin)).await.ok().body, "id")
        };
        let mut whole = ask("").await;
        if collection == "requests" {
            // As a whole in the order of their times.
            whole.sort();
        }
        assert!(whole.len() >= 2 && whole.is_sorted(), "{whole:?}");
        for size in [1, 2, 3, 1000] {
            let mut parts = ask(&format!("?limit={size}")).await;
            while let Some(last) = parts.last().cloned() {
                let part = ask(&format!("?limit={size}&after={last}")).await;
                assert!(part.len() <= size);
                parts.extend(part.iter().cloned());
                if part.is_empty() {
                    break;
                }
            }
            assert_eq!(parts, whole, "{collection}, {size} at once");
        }
        for query in ["limit=0", "limit=1001", "limit=-1", "after=x", "after=", "first=1"] {
            let path = format!("/v1/admin/{collection}?{query}");
            case.terminal.get(&path, Some(&case.admin)).await.refused(ProblemCode::InvalidRequest);
        }
    }
}

#[tokio::test]
async fn leases_are_found_by_the_beginning_of_their_ids() {
    let site = Site::start().await;
    let case = site.reference().await;
    let bucho = case.terminal.login("bucho").await;
    let file = case.sealed("社外秘").await;
    let request = json!({
        "files": [{ "header": Base64(file.header.wire_bytes().to_vec()), "name": "起案書.docx" }], "rights": ["view"],
        "term": { "starts_at": site.clock_now(), "ends_at": site.clock_now() + SignedDuration::from_hours(24) },
        "opens": { "kind": "unlimited" }, "reason": "出張",
    });
    let mut ids = Vec::new();
    for _ in 0..3 {
        let asked = case.terminal.post("/v1/leases", Some(&bucho), &request).await.created();
        ids.push(asked.body["id"].as_str().unwrap().to_owned());
    }
    let ask = async |query: &str| {
        let path = format!("/v1/admin/leases?{query}");
        let mut found = of(&case.terminal.get(&path, Some(&case.admin)).await.ok().body, "id");
        found.sort();
        found
    };
    for id in &ids {
        for digits in [1, 2, 31, 32] {
            let beginning = &id[..digits];
            let mut expected: Vec<String> =
                ids.iter().filter(|id| id.starts_with(beginning)).cloned().collect();
            expected.sort();
            assert_eq!(ask(&format!("id={beginning}")).await, expected);
            assert_eq!(ask(&format!("id={beginning}&state=requested")).await, expected);
            assert_eq!(ask(&format!("id={beginning}&state=issued")).await, Vec::<String>::new());
        }
    }
    assert_eq!(ask("id=").await.len(), 3, "every id begins so");
    assert_eq!(ask("limit=2").await.len(), 2);
    for query in
        ["id=x".to_owned(), format!("id={}0", ids[0]), String::from("limit=0"), String::from("limit=1001")]
    {
        let path = format!("/v1/admin/leases?{query}");
        case.terminal.get(&path, Some(&case.admin)).await.refused(ProblemCode::InvalidRequest);
    }
}

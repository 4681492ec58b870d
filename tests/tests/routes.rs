//! The table of routes in `docs/spec/api.md` and the OpenAPI document, which is made from the server's own router, name
//! the same methods and paths.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;

type Routes = BTreeSet<(String, String)>;

/// `/a/{x,y}/{id}` is `/a/x/{id}` and `/a/y/{id}`.
fn alternatives(path: &str) -> Vec<String> {
    let choice =
        path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).find(|one| one.contains(','));
    match choice {
        None => vec![path.to_owned()],
        Some(choice) => choice.split(',').map(|one| path.replace(&format!("{{{choice}}}"), one)).collect(),
    }
}

/// Rows of the table begin with code such as `GET`, `POST /path?query`: methods, and the path of those before it.
fn of_the_page() -> Routes {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/spec/api.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("3. Routes")).unwrap();
    let mut routes = Routes::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let mut methods = Vec::new();
        for code in row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
            let (method, path) = code.split_once(' ').unwrap_or((code, ""));
            methods.push(method.to_owned());
            if let Some(path) = path.split('?').next().filter(|path| !path.is_empty()) {
                for path in alternatives(path) {
                    routes.extend(methods.iter().map(|method| (method.clone(), path.clone())));
                }
                methods.clear();
            }
        }
        assert_eq!(methods, [""; 0], "a method without a path: {row}");
    }
    routes
}

fn of_the_server() -> Routes {
    let document: serde_json::Value = serde_json::from_str(&tobari_keyserver::http::openapi_json()).unwrap();
    let mut routes = Routes::new();
    for (path, methods) in document.get("paths").unwrap().as_object().unwrap() {
        routes
            .extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    routes
}

#[test]
fn the_page_and_the_server_have_the_same_routes() {
    let (page, server) = (of_the_page(), of_the_server());
    let beside = |one: &Routes, other: &Routes| one.difference(other).cloned().collect::<Vec<_>>();
    assert_eq!(beside(&page, &server), [], "only in docs/spec/api.md");
    assert_eq!(beside(&server, &page), [], "only in the server");
    assert!(server.len() > 40, "{}", server.len());
}

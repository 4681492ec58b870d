//! What the documents claim exists: every test that they name as `path/to/file.rs::name`, every file that they name
//! by its path, and every file that they link to.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Markdown of the repository's own documents.
fn documents() -> Vec<PathBuf> {
    let mut documents = Vec::new();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path);
            }
        }
    }
    for name in ["README.md", "README.ja.md", "SECURITY.md", "CHANGELOG.md"] {
        documents.push(root().join(name));
    }
    documents.sort();
    documents
}

/// What stands between back-quotes, outside fenced blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_test_that_is_named_exists() {
    let mut missing = Vec::new();
    let mut named = 0;
    for document in documents() {
        for quoted in quoted(&std::fs::read_to_string(&document).unwrap()) {
            let Some((file, name)) = quoted.split_once(".rs::") else { continue };
            named += 1;
            let source = std::fs::read_to_string(root().join(format!("{file}.rs"))).unwrap_or_default();
            if !source.contains(&format!("fn {name}(")) {
                missing.push(format!("{}: {quoted}", document.display()));
            }
        }
    }
    assert!(named > 0 && missing.is_empty(), "named, but there is no such test:\n{}", missing.join("\n"));
}

#[test]
fn every_file_that_is_named_or_linked_exists() {
    const FOLDERS: [&str; 9] =
        ["core/", "keyserver/", "daemon/", "cli/", "tests/", "deploy/", "docs/", "fuzz/", ".ci/"];
    let mut missing = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for quoted in quoted(&text) {
            let path = quoted.split("::").next().unwrap_or_default();
            let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder))
                && !path.contains(['*', '{', '<', ' ', '…'])
                && path.is_ascii();
            if is_path && !root().join(path).exists() {
                missing.push(format!("{}: `{quoted}`", document.display()));
            }
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let outside = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !outside && !document.parent().unwrap().join(path).exists() {
                missing.push(format!("{}: link to {link}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "named, but there is no such file:\n{}", missing.join("\n"));
}

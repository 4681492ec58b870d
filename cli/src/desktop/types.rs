//! The MIME types of a file by its name: `mime/globs2` and `mime/subclasses` of shared-mime-info.

use std::path::{Path, PathBuf};

/// The type of the file and the types above it, nearest first.
pub(super) fn of(data: &[PathBuf], file: &Path) -> Vec<String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(kind) = by_name(data, &name) else { return Vec::new() };
    let mut types = vec![kind];
    let parents: Vec<(String, String)> = lines(data, "subclasses")
        .filter_map(|line| line.split_once(' ').map(|(kind, parent)| (kind.to_owned(), parent.to_owned())))
        .collect();
    let mut next = 0;
    while let Some(kind) = types.get(next).cloned() {
        let above = parents.iter().filter(|(below, _)| *below == kind).map(|(_, parent)| parent.clone());
        let text = kind.starts_with("text/").then(|| String::from("text/plain"));
        for parent in above.chain(text) {
            if !types.contains(&parent) {
                types.push(parent);
            }
        }
        next += 1;
    }
    types
}

/// The match of the highest weight, and among them the longest pattern.
fn by_name(data: &[PathBuf], name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    lines(data, "globs2")
        .filter_map(|line| {
            let mut fields = line.split(':');
            let weight: u32 = fields.next()?.parse().ok()?;
            let (kind, pattern) = (fields.next()?.to_owned(), fields.next()?.to_owned());
            let exact = fields.next().is_some_and(|flags| flags.split(',').any(|flag| flag == "cs"));
            let fits = if exact { matches(&pattern, name) } else { matches(&pattern.to_lowercase(), &lower) };
            fits.then_some((weight, pattern.len(), kind))
        })
        // Of equals the first: the user's own folder comes before the system's.
        .rev()
        .max_by_key(|(weight, length, _)| (*weight, *length))
        .map(|(.., kind)| kind)
}

/// Patterns are names, or a star and a suffix; the few others are not for documents.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) if !suffix.contains(['*', '?', '[']) => {
            name.len() > suffix.len() && name.ends_with(suffix)
        }
        Some(_) => false,
        None => pattern == name,
    }
}

fn lines(data: &[PathBuf], file: &str) -> std::vec::IntoIter<String> {
    let texts = data.iter().filter_map(|folder| std::fs::read_to_string(folder.join("mime").join(file)).ok());
    let lines: Vec<String> = texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.starts_with('#'))
        .collect();
    lines.into_iter()
}

//! Coverage as a text for node-exporter's textfile collector: one gauge or counter for each folder.

use jiff::Timestamp;
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tobari_core::proto::control::FolderStatus;

/// Replaces the file at `path`. Its name should end in `.prom`; what the collector reads is never half a file.
///
/// # Errors
/// What the file system says.
pub fn write(path: &Path, folders: &[FolderStatus], now: Timestamp) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, text(folders, now))?;
    // The collector runs under an account of its own.
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&temporary, path)
}

fn text(folders: &[FolderStatus], now: Timestamp) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: &dyn Fn(&FolderStatus) -> Option<f64>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP tobari_{name} {help}\n# TYPE tobari_{name} {kind}");
        for folder in folders {
            if let Some(value) = value(folder) {
                let path = label(&folder.folder.path);
                let _ = writeln!(text, "tobari_{name}{{folder=\"{path}\"}} {value}");
            }
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "the format has nothing but floating-point numbers")]
    let number = |value: u64| Some(value as f64);
    metric("folder_watched", "gauge", "Whether events of the folder are heard of.", &|folder| {
        number(u64::from(folder.watched.is_ok()))
    });
    metric(
        "folder_coverage_ratio",
        "gauge",
        "Share of the folder's files that are sealed.",
        &FolderStatus::coverage,
    );
    metric("folder_plain_files", "gauge", "Files that are not known to be sealed.", &|folder| {
        number(folder.plain)
    });
    metric(
        "folder_oldest_plain_seconds",
        "gauge",
        "For how long the oldest of them is known; 0 when there is none.",
        &|folder| {
            Some(folder.plain_since.map_or(0.0, |since| now.duration_since(since).as_secs_f64().max(0.0)))
        },
    );
    metric("folder_sealed_files_total", "counter", "Files sealed since the start.", &|folder| {
        number(folder.sealed)
    });
    metric("folder_sealed_bytes_total", "counter", "Plaintext bytes sealed since the start.", &|folder| {
        number(folder.sealed_bytes)
    });
    text
}

/// A label's value with what the format escapes.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::fixture::rule;

    #[test]
    fn the_file_is_replaced_and_says_what_the_status_says() {
        let directory = tempfile::tempdir().unwrap();
        let folder = rule(Path::new("/srv/a\"b"), &[]).folder;
        let now: Timestamp = "2026-11-21T09:30:00Z".parse().unwrap();
        let status = FolderStatus {
            folder: (*folder).clone(),
            label_name: String::new(),
            watched: Ok(()),
            events: None,
            sealed: 7,
            sealed_bytes: 8,
            waiting: 1,
            swept_at: None,
            sweep: None,
            files: Some(4),
            plain: 1,
            plain_since: "2026-11-21T09:29:00Z".parse().ok(),
        };
        let path = directory.path().join("tobari.prom");
        std::fs::write(&path, "old").unwrap();
        write(&path, &[status], now).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("tobari_folder_coverage_ratio{folder=\"/srv/a\\\"b\"} 0.75\n"), "{text}");
        assert!(text.contains("tobari_folder_oldest_plain_seconds{folder=\"/srv/a\\\"b\"} 60\n"), "{text}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
